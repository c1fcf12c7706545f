// What a user says of pruning, and what pruning tells.

/// How a model is pruned.
public struct PruningOptions: Sendable {
  public enum Method: Sendable, Hashable {
    /// The smallest elements of weights become 0.
    case magnitude
    /// Of every `group` elements that a channel sums in a row along the input channels, the `kept` largest stay and the
    /// others become 0: 2:4 is what sparse tensor cores take (arXiv 2104.08378).
    case pattern(kept: Int, group: Int)
    /// Whole output channels go, with everything that depends on them.
    case structured
  }

  /// How large a channel is: the sum of the magnitudes of its weights, or the root of that of their squares.
  public enum Norm: String, Sendable, CaseIterable { case l1, l2 }

  public var method: Method
  /// The share of the elements, or channels, that goes: 0 or more, below 1.
  public var fraction = 0.0
  /// True: the smallest of all layers go, not of each.
  public var isGlobal = false
  public var norm = Norm.l2
  /// By the name of a weight or node: a number for each output channel in place of the norm; the smallest go first.
  public var importance: [String: [Double]] = [:]
  public var selection = WeightSelection()
  /// Other fractions for the layers that a pattern fits.
  public var fractions: [String: Double] = [:]
  /// The share of the parameters (those that are not 0) that may stay: chooses the global fraction.
  public var parameterTarget: Double?
  /// The share of the multiply-adds that may stay: chooses the global fraction of structured pruning.
  public var multiplyAddTarget: Double?
  /// The channels that stay are a multiple of this, where there are as many.
  public var channelMultiple = 1

  public init(_ method: Method, fraction: Double = 0) { (self.method, self.fraction) = (method, fraction) }

  package func check() throws(CompressionError) {
    for value in [fraction] + fractions.values.sorted() where !(value >= 0 && value < 1) {
      throw CompressionError(
        .invalidOption, "the fraction \(value) was given; expected a number from 0 to below 1",
        remedy: "Something of every layer must stay")
    }
    for target in [parameterTarget, multiplyAddTarget] {
      guard let target, !(target > 0 && target <= 1) else { continue }
      throw CompressionError(
        .invalidOption, "the target \(target) was given; expected a share of the model above 0, at most 1")
    }
    if case .pattern(let kept, let group) = method, !(kept > 0 && kept < group) {
      throw CompressionError(
        .invalidOption, "the pattern \(kept):\(group) was given; expected N:M with 0 < N < M, as in 2:4")
    }
    if multiplyAddTarget != nil, method != .structured {
      throw CompressionError(
        .invalidOption, "a target of multiply-adds needs structured pruning: zeros are multiplied like other numbers")
    }
    if parameterTarget != nil, multiplyAddTarget != nil {
      throw CompressionError(.invalidOption, "targets of parameters and of multiply-adds are given; expected one")
    }
    if channelMultiple < 1 {
      throw CompressionError(.invalidOption, "channels in multiples of \(channelMultiple); expected 1 or more")
    }
  }
}

/// What pruning took away.
public struct PruningReport: Sendable, Encodable {
  /// A weight of which elements became 0.
  public struct Weight: Sendable, Encodable {
    public let weight, node, `operator`: String
    public let shape: [Int]
    public let elements, zerosBefore, zerosAfter: Int
    /// The share of the sum of magnitudes that is gone.
    public let lostMagnitude: Double
    /// The sum of squares over that of what is gone, in decibels; infinite if nothing is gone.
    public let sqnr: Double
  }

  /// Channels that depend on each other.
  public struct Group: Sendable, Encodable {
    /// The nodes whose weights compute the channels, and those whose weights read them.
    public let producers, consumers: [String]
    public let channelsBefore, channelsAfter: Int
    /// The share of the sum of the channels' norms that is gone.
    public let lostNorm: Double
  }

  /// Channels that stay, and why.
  public struct Kept: Sendable, Encodable {
    public let weight, node: String
    public let channels: Int
    public let reason: String
  }

  public internal(set) var weights: [Weight] = []
  public internal(set) var groups: [Group] = []
  public internal(set) var kept: [Kept] = []
  /// What a reader of the report would not expect.
  public internal(set) var notes: [String] = []
  /// The fraction that a target asked for.
  public internal(set) var chosenFraction: Double?
  public internal(set) var parametersBefore = 0
  public internal(set) var parametersAfter = 0
}
