// What a user says of a conversion to 16 bits, and what came of it.

/// How a model of float32 becomes one of 16 bits.
public struct HalfConversionOptions: Sendable {
  public enum ElementType: String, Sendable, CaseIterable { case float16, bfloat16 }

  public var type = ElementType.float16
  /// Whether inputs and outputs of the model stay float32, with Casts behind and before them.
  public var keepsInterface = true
  /// Whether operators that add up many elements, or raise to powers, stay in float32.
  public var keepsSensitive = true
  /// Patterns (`*`, `?`) of names of nodes or operators: only these are converted; empty: all.
  public var include: [String] = []
  /// Patterns of those that stay in float32.
  public var keep: [String] = []

  public init() {}
}

/// What became of a model in 16 bits.
public struct HalfConversionReport: Sendable, Encodable {
  /// A weight some of whose numbers have no close one in 16 bits.
  public struct Weight: Sendable, Encodable {
    public var weight: String
    public var elements: Int
    /// Finite numbers that would become infinite,
    public var overflows: Int
    /// numbers that lose digits because they are so small, and those that become 0.
    public var subnormals: Int
    public var zeros: Int
    public var largest: Float
  }

  /// A node that stays in float32.
  public struct Kept: Sendable, Encodable {
    public var node: String
    public var `operator`: String
    /// Kept in float32 because …
    public var reason: String
  }

  /// A value that was not within the range of the type on some sample.
  public struct Activation: Sendable, Encodable {
    public var value: String
    /// The largest magnitude.
    public var largest: Float
    /// The part of its elements that were not 0 and would be less exact for being so small.
    public var smallPart: Double
  }

  /// Weights that are not the same but for rounding.
  public var weights: [Weight] = []
  public var activations: [Activation] = []
  public var kept: [Kept] = []
  /// Nodes that compute in 16 bits.
  public var converted = 0
  /// Casts that were put in.
  public var casts = 0
  public var bytesBefore = 0
  public var bytesAfter = 0
}
