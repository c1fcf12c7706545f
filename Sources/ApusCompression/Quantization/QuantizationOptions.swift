// What users choose when a model is quantized.

/// How activations and weights become integers.
public struct QuantizationOptions: Sendable, Hashable {
  /// When the scales of activations are found.
  public enum Method: String, Sendable, Hashable, CaseIterable {
    /// Before, from samples: the model runs on integers from end to end.
    case `static`
    /// In each run, from the numbers at hand: needs no samples.
    case dynamic
  }

  /// The machine or runtime that the model is for.
  public enum Target: String, Sendable, Hashable, CaseIterable {
    /// Whatever runs ONNX.
    case any
    /// x86 without dot products of bytes: weights of 7 bits, whose pairs of products fit 16 bits in every runtime.
    case avx2
    /// x86 with them: unsigned activations, signed weights.
    case vnni
    /// ARM: signed activations and weights.
    case neon
    /// TensorRT: signed and symmetric throughout, biases in float.
    case tensorrt

    /// Why activations of a type do not fit it; nil if they do.
    package func refusal(ofActivations type: QuantizedType) -> String? {
      let wanted: QuantizedType
      switch self {
      case .any, .avx2: return nil
      case .vnni: wanted = .uint8
      case .neon, .tensorrt: wanted = .int8
      }
      if type == wanted || type.bits == 16 && self != .tensorrt { return nil }
      return "activations of \(type.rawValue) do not fit the target \(rawValue), which multiplies \(wanted.rawValue)"
    }
  }

  /// How a model says that it computes on integers.
  public enum Format: String, Sendable, Hashable, CaseIterable {
    /// Operators on floats between DequantizeLinear and QuantizeLinear.
    case qdq
    /// Operators on integers: QLinearConv, QLinearMatMul.
    case qoperator
  }

  public var method = Method.static
  public var format = Format.qdq
  public var target = Target.any
  public var activations = QuantizedType.uint8
  public var weights = QuantizedType.int8
  /// Whether the integers of activations lie evenly around zero.
  public var hasSymmetricActivations = false
  public var hasSymmetricWeights = true
  /// Whether each output channel of weights has a scale of its own.
  public var isPerChannel = true
  /// How the range of an activation follows from the samples.
  public var range = RangeMethod.minMax
  /// The nodes that are quantized.
  public var selection = NodeSelection()
  /// Scales and types for values and weights by name, in the place of what calibration finds.
  public var overrides: [String: TensorOverride] = [:]
  /// Whether neighbouring convolutions share out the magnitudes of their channels before they are quantized.
  public var equalizesLayers = false
  /// Whether the mean error of each output channel is taken out of its bias.
  public var correctsBiases = false
  /// Whether weights get those of the two integers beside them that lessen the error of their products on samples,
  /// where that helps on other samples, too. For weights of 8 bits or less.
  public var roundsAdaptively = false
  /// How much of the magnitudes of activations goes into the weights that follow, from 0 to 1; nil: nothing is moved.
  public var smoothing: Float?

  public init() {}

  /// The options, with those that the target decides as it needs them.
  package var settled: QuantizationOptions {
    var options = self
    switch target {
    case .any, .avx2: break
    case .vnni:
      options.activations = options.activations == .int8 ? .uint8 : options.activations
      options.hasSymmetricWeights = true
    case .neon:
      options.activations = options.activations == .uint8 ? .int8 : options.activations
      options.hasSymmetricWeights = true
    case .tensorrt:
      options.activations = .int8
      options.weights = .int8
      (options.hasSymmetricActivations, options.hasSymmetricWeights) = (true, true)
    }
    return options
  }

  package var weightOptions: WeightCodes.Options {
    WeightCodes.Options(
      type: weights, isSymmetric: hasSymmetricWeights,
      greatest: target == .avx2 && weights.bits == 8 && hasSymmetricWeights ? QuantizationOptions.halfRange : nil)
  }

  /// Two products of a byte and such a weight add up to less than 2^15.
  private static let halfRange = 64
}
