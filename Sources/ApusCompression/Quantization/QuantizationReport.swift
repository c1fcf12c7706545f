// What a quantization did, node by node, and what it cost.

import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// How far numbers lie from those that they should be.
public struct SignalNoise: Sendable, Hashable {
  /// The sums of the squares of what should be, of the differences, of what is, and of the products of both.
  package private(set) var signal = 0.0
  package private(set) var noise = 0.0
  private var found = 0.0
  private var common = 0.0
  /// The largest difference.
  public private(set) var largestError: Float = 0
  public private(set) var count = 0

  package init() {}

  package init(_ wanted: [Float], _ found: [Float]) {
    wanted.withUnsafeBufferPointer { wanted in found.withUnsafeBufferPointer { add(wanted, $0) } }
  }

  /// Adds elements of both. Where one has more, as results whose number depends on what is computed, these have no
  /// partner: they count as wrong altogether.
  package mutating func add(_ wanted: UnsafeBufferPointer<Float>, _ other: UnsafeBufferPointer<Float>) {
    var (signal, noise, found, common, largest) = (0.0, 0.0, 0.0, 0.0, Float(0))
    let shared = min(wanted.count, other.count)
    for index in 0..<shared {
      let (x, y) = (Double(wanted[index]), Double(other[index]))
      signal += x * x
      found += y * y
      common += x * y
      noise += (x - y) * (x - y)
      largest = max(largest, abs(wanted[index] - other[index]))
    }
    for number in wanted.dropFirst(shared) {
      signal += Double(number) * Double(number)
      noise += Double(number) * Double(number)
      largest = max(largest, abs(number))
    }
    for number in other.dropFirst(shared) {
      found += Double(number) * Double(number)
      noise += Double(number) * Double(number)
      largest = max(largest, abs(number))
    }
    self.signal += signal
    self.noise += noise
    self.found += found
    self.common += common
    (largestError, count) = (max(largestError, largest), count + max(wanted.count, other.count))
  }

  /// Adds what was found elsewhere.
  package mutating func add(_ other: SignalNoise) {
    (signal, noise) = (signal + other.signal, noise + other.noise)
    (found, common) = (found + other.found, common + other.common)
    (largestError, count) = (max(largestError, other.largestError), count + other.count)
  }

  /// The ratio of signal to quantization noise in decibels; infinite without noise, nil if there is no signal, or one
  /// without bounds.
  public var decibels: Double? {
    guard signal.isFinite, noise.isFinite else { return nil }
    if noise == 0 { return .infinity }
    return signal > 0 ? 10 * log10(signal / noise) : nil
  }

  /// The cosine of the angle between both as vectors; nil if one is zero.
  public var cosine: Double? {
    guard signal > 0, found > 0, signal.isFinite, found.isFinite else { return nil }
    return common / (signal.squareRoot() * found.squareRoot())
  }
}

/// A node with weights that is computed on integers now.
public struct QuantizedNode: Sendable, Hashable {
  public let name: String
  public let op: String
  /// The value whose integers it reads, and the value that it computes, by name.
  public let input: String
  public let output: String
  /// nil: found in each run.
  package let inputCode: TensorCode?
  public let weightType: QuantizedType
  /// Of its weights.
  public let weightNoise: SignalNoise
  /// What adaptive rounding of the weights found; nil: it was not asked for, or the node is none that it is for.
  public let rounding: RoundingOutcome?
  /// Of what it computes, where that was measured.
  public var outputNoise: SignalNoise?
  /// The share of the elements that it reads that lie beyond what integers stand for, where that is known.
  public var saturation: Double?

  init(
    name: String, op: String, output: String, input: String, inputCode: TensorCode?, weightType: QuantizedType,
    weightNoise: SignalNoise, rounding: RoundingOutcome? = nil
  ) {
    self.rounding = rounding
    (self.name, self.op, self.output, self.input) = (name, op, output, input)
    (self.inputCode, self.weightType, self.weightNoise) = (inputCode, weightType, weightNoise)
  }
}

/// What became of a model, and what that cost.
public struct QuantizationReport: Sendable {
  /// A node with weights that stays in float.
  public struct Kept: Sendable, Hashable {
    public let name: String
    public let op: String
    public internal(set) var reason: String
  }

  /// A value that is integers now.
  public struct CodedTensor: Sendable, Hashable {
    public let name: String
    package let code: TensorCode
    /// What calibration saw of it; nil: its range follows from those of others.
    public let statistics: TensorStatistics?

    public var type: QuantizedType { code.type }
    public var scale: Float { code.scale }
    public var zeroPoint: Int { code.zeroPoint }
  }

  /// An output of the model beside that of the original.
  public struct Output: Sendable, Hashable {
    public let name: String
    public let noise: SignalNoise
  }

  public let method: QuantizationOptions.Method
  /// In the order of the graph.
  public internal(set) var nodes: [QuantizedNode] = []
  public internal(set) var kept: [Kept] = []
  public internal(set) var tensors: [CodedTensor] = []
  /// Empty where nothing was measured.
  public internal(set) var outputs: [Output] = []
  /// The samples that the noise was measured on.
  public internal(set) var measuredSamples = 0
  /// The samples of the calibration.
  public package(set) var calibrationSamples = 0
  /// The pairs of products whose channels were equalized, and the values that were smoothed.
  public package(set) var equalizedPairs = 0
  public package(set) var smoothedValues = 0
  /// Of each node alone, the worst first; empty where it was not asked for.
  public package(set) var sensitivities: [NodeSensitivity] = []
  /// What was tried on the way to a target.
  public package(set) var tradeOffs: [TradeOff] = []
  /// The bytes of the constants, before and after.
  public package(set) var bytesBefore = 0
  public package(set) var bytesAfter = 0

  init(method: QuantizationOptions.Method) { self.method = method }
}
