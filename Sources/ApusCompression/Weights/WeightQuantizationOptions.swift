// What a user says of weights in few bits.

/// How constant matrices and tables are kept in few bits, while all that is computed stays float.
public struct WeightQuantizationOptions: Sendable {
  /// The element type of the codes. It says how DequantizeLinear has them; MatMulNBits has unsigned ones always.
  public enum ElementType: String, Sendable, CaseIterable {
    case int8, uint8, int4, uint4, int2, uint2

    /// Bits of one code.
    public var bits: Int {
      switch self {
      case .int8, .uint8: 8
      case .int4, .uint4: 4
      case .int2, .uint2: 2
      }
    }

    public var isSigned: Bool { self == .int8 || self == .int4 || self == .int2 }
  }

  /// How codes, scales and zero points are found.
  public enum Method: String, Sendable, CaseIterable {
    /// The nearest code, with the scale and zero point of each block that leave the least squared error.
    case roundToNearest = "rtn"
    /// Half-quadratic quantization (Badri and Shaji 2023): an error that outliers count little in. No data.
    case halfQuadratic = "hqq"
    /// Column by column, each making up for the errors of those before (Frantar et al. 2022). Wants data.
    case compensated = "gptq"
    /// Channels with large activations are scaled up before they are rounded (Lin et al. 2023). Wants data.
    case activationAware = "awq"

    /// Whether the method goes by what flows through the model.
    public var wantsSamples: Bool { self == .compensated || self == .activationAware }
  }

  /// The operators that few bits are written as.
  public enum Format: String, Sendable, CaseIterable {
    /// MatMulNBits and GatherBlockQuantized of com.microsoft.
    case microsoft = "nbits"
    /// DequantizeLinear of operator set 21, or of 25 for 2 bits.
    case standard = "qdq"
  }

  public var type = ElementType.int4
  /// Elements along the depth of a product, or along the rows of a table, that share a scale: a power of two from 16
  /// on. nil: all of an output channel, or of a row.
  public var blockSize: Int? = 32
  /// Whether blocks have zero points; nil: those of less than 8 bits, where they are worth more than their room, and
  /// those of unsigned types.
  public var usesZeroPoints: Bool?
  public var method = Method.roundToNearest
  public var format = Format.microsoft
  /// Whether tables that rows are gathered from (embeddings) are quantized, too.
  public var includesTables = true
  /// Smaller weights stay float.
  public var minimumElements = 1024
  /// The level `accuracy_level` of MatMulNBits: 4 allows runtimes to round activations to 8 bits.
  public var accuracyLevel = 0

  /// GPTQ: what is added to the diagonal of X·Xᵀ, as a part of its mean.
  public var damping = 0.01
  /// GPTQ: columns with large activations first; scales are then those of the original weights.
  public var ordersByActivation = false
  /// GPTQ: sweeps after it, each of which moves every code and scale to where the error of the result is least.
  public var descentSweeps = 2
  /// The bytes that statistics of activations may take at a time. More takes more passes over the samples.
  public var statisticsMemory = 2 << 30

  /// Patterns (`*`, `?`) of names of nodes, operators or weights: only these; all where there are none.
  public var include: [String] = []
  /// The same: never these.
  public var exclude: [String] = []
  /// Other types for some weights, by patterns of the same names: the first that fits counts.
  public var types: [(pattern: String, type: ElementType)] = []

  public init() {}

  /// Throws if a pattern fits none of the weights, each with its names: most likely it is misspelled.
  package func checkPatterns(_ weights: [[String]]) throws(CompressionError) {
    for pattern in include + exclude + types.map(\.pattern) {
      let patterns = NamePatterns([pattern])
      if weights.contains(where: { patterns.fit($0) }) { continue }
      let some = weights.prefix(5).map { "'\($0[0])' (\($0[1]))" }.joined(separator: ", ")
      throw CompressionError(
        .invalidOption, "the pattern '\(pattern)' fits no node, operator or weight of the model",
        remedy: weights.isEmpty ? "The model has no weights of products" : "The first weights are those of \(some)")
    }
  }

  /// Throws if the options mean nothing.
  package func check() throws(CompressionError) {
    if let blockSize, blockSize < 16 || blockSize & (blockSize - 1) != 0 || blockSize > 1 << 20 {
      throw CompressionError(.invalidOption, "a block of \(blockSize) elements; expected a power of two from 16 on")
    }
    guard damping.isFinite, damping >= 0, damping <= 10 else {
      throw CompressionError(.invalidOption, "a damping of \(damping); expected a number from 0 to 10")
    }
    guard minimumElements >= 0, descentSweeps >= 0, statisticsMemory > 0, (0...4).contains(accuracyLevel) else {
      throw CompressionError(
        .invalidOption, "a negative number of elements, sweeps or bytes, or an accuracy level that is not 0 to 4")
    }
  }
}
