// What weights in few bits cost, weight by weight.

/// What became of the weights of a model.
public struct WeightQuantizationReport: Sendable, Encodable {
  /// A weight in few bits.
  public struct Weight: Sendable, Encodable {
    /// The name of the constant.
    public var weight: String
    /// The nodes that use it.
    public var nodes: [String]
    public var shape: [Int]
    /// The type of its codes.
    public var type: String
    /// Elements that share a scale.
    public var block: Int
    public var hasZeroPoints: Bool
    /// rtn, hqq, gptq or awq; not that which was asked for where `note` says why.
    public var method: String
    /// The signal-to-noise ratio of the weights, in decibels.
    public var signalToNoise: Double
    /// That of what the product gives on the samples; nil without samples.
    public var outputSignalToNoise: Double?
    public var bytesBefore: Int
    public var bytesAfter: Int
    public var note: String?
  }

  /// A weight that stays float.
  public struct Kept: Sendable, Encodable {
    public var weight: String
    public var node: String
    public var `operator`: String
    public var shape: [Int]
    public var bytes: Int
    /// Kept in float because …
    public var reason: String
  }

  public var weights: [Weight] = []
  public var kept: [Kept] = []

  /// Bytes of all weights that were quantized, before and after.
  public var bytesBefore: Int { weights.reduce(0) { $0 + $1.bytesBefore } }
  public var bytesAfter: Int { weights.reduce(0) { $0 + $1.bytesAfter } }
}
