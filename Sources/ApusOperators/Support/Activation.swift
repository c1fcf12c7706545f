// The one table of activations: their names and parameters, the operators that are nothing else, their definitions and
// C kernels, their forms in epilogues. Fusions, epilogues, recurrent layers, experts and derivatives all ask it.

import ApusGraph
import ApusTensor
import CApusKernels

/// A function of one number that models put behind other operators, with its parameters.
package struct Activation: Sendable {
  /// The functions, by the names that the attribute `activation` of fused operators has for them.
  package enum Kind: String, Sendable, CaseIterable {
    case none, relu, clip
    case leakyRelu = "leaky_relu"
    case sigmoid, tanh
    case hardSigmoid = "hard_sigmoid"
    case hardSwish = "hard_swish"
    case silu, gelu
    case geluTanh = "gelu_tanh"
    case thresholdedRelu = "thresholded_relu"
    case elu, selu, celu, softplus, softsign, mish, affine
    case scaledTanh = "scaled_tanh"
  }

  package let kind: Kind
  /// The values of the first and the second parameter of the function; 0 where it has fewer.
  package var alpha: Float
  package var beta: Float

  /// `alpha` and `beta` that are not given have their defaults.
  package init(_ kind: Kind, alpha: Float? = nil, beta: Float? = nil) {
    let defaults = kind.parameters.map(\.value)
    self.kind = kind
    self.alpha = alpha ?? defaults.first ?? 0
    self.beta = beta ?? (defaults.count > 1 ? defaults[1] : 0)
  }

  /// The activation that a node of an operator for it applies, with the parameters that its attributes say.
  init(_ kind: Kind, _ context: some OperatorContext) throws(OperatorError) {
    var values: [Float] = []
    for parameter in kind.parameters { values.append(try context.float(parameter.name)) }
    self.init(kind, alpha: values.first, beta: values.count > 1 ? values[1] : nil)
  }
}

// MARK: - The table

extension Activation.Kind {
  /// The operator of ONNX that applies the function and nothing else; nil if there is none. Gelu has two functions.
  package var `operator`: OperatorID? {
    switch self {
    case .none: OperatorID("Identity")
    case .relu: OperatorID("Relu")
    case .clip: OperatorID("Clip")
    case .leakyRelu: OperatorID("LeakyRelu")
    case .sigmoid: OperatorID("Sigmoid")
    case .tanh: OperatorID("Tanh")
    case .hardSigmoid: OperatorID("HardSigmoid")
    case .hardSwish: OperatorID("HardSwish")
    case .silu: OperatorID("Swish")
    case .gelu, .geluTanh: OperatorID("Gelu")
    case .thresholdedRelu: OperatorID("ThresholdedRelu")
    case .elu: OperatorID("Elu")
    case .selu: OperatorID("Selu")
    case .celu: OperatorID("Celu")
    case .softplus: OperatorID("Softplus")
    case .softsign: OperatorID("Softsign")
    case .mish: OperatorID("Mish")
    case .affine, .scaledTanh: nil
    }
  }

  /// The parameters: attributes of the operator, with the defaults that they have there and in recurrent layers. Those
  /// of Clip are inputs.
  package var parameters: [(name: String, value: Float)] {
    switch self {
    case .leakyRelu: [("alpha", 0.01)]
    case .hardSigmoid: [("alpha", 0.2), ("beta", 0.5)]
    case .selu: [("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875)]
    case .silu, .thresholdedRelu, .elu, .celu: [("alpha", 1)]
    case .affine: [("alpha", 1), ("beta", 0)]
    case .scaledTanh: [("alpha", 1), ("beta", 1)]
    default: []
    }
  }

  /// The name in the attribute `activations` of RNN, GRU and LSTM, in lower case; nil where they do not have it.
  var recurrentName: String? {
    switch self {
    case .relu, .leakyRelu, .sigmoid, .tanh, .hardSigmoid, .thresholdedRelu, .elu, .softplus, .softsign, .affine,
      .scaledTanh:
      rawValue.replacing("_", with: "")
    default: nil
    }
  }

  /// What the epilogue of a matrix product or convolution knows it as; nil where it cannot apply it.
  var epilogue: apus_activation? {
    switch self {
    case .none: APUS_ACTIVATION_NONE
    case .relu: APUS_ACTIVATION_RELU
    case .clip: APUS_ACTIVATION_CLIP
    case .leakyRelu: APUS_ACTIVATION_LEAKY_RELU
    case .sigmoid: APUS_ACTIVATION_SIGMOID
    case .tanh: APUS_ACTIVATION_TANH
    case .hardSigmoid: APUS_ACTIVATION_HARD_SIGMOID
    case .hardSwish: APUS_ACTIVATION_HARD_SWISH
    case .silu: APUS_ACTIVATION_SILU
    case .gelu: APUS_ACTIVATION_GELU
    case .geluTanh: APUS_ACTIVATION_GELU_TANH
    default: nil
    }
  }
}

extension Activation {
  /// The function, with its definition for every type and its C kernel.
  package var function: UnaryFunction {
    switch kind {
    case .none: .identity
    case .relu: .relu
    case .clip: .clip(low: alpha, high: beta)
    case .leakyRelu: .leakyRelu(alpha: alpha)
    case .sigmoid: .sigmoid
    case .tanh: .tanh
    case .hardSigmoid: .hardSigmoid(alpha: alpha, beta: beta)
    case .hardSwish: .hardSwish
    case .silu: .swish(alpha: alpha)
    case .gelu: .gelu
    case .geluTanh: .geluTanh
    case .thresholdedRelu: .thresholdedRelu(alpha: alpha)
    case .elu: .elu(alpha: alpha)
    case .selu: .selu(alpha: alpha, gamma: beta)
    case .celu: .celu(alpha: alpha)
    case .softplus: .softplus
    case .softsign: .softsign
    case .mish: .mish
    case .affine: .affine(alpha: alpha, beta: beta)
    case .scaledTanh: .scaledTanh(alpha: alpha, beta: beta)
    }
  }

  /// The function of one number as its formula says it, without the care of the definition for large numbers: for code
  /// that computes number by number, as recurrent layers and experts do. NaN stays NaN.
  @inline(__always)
  package func direct<T: Real>(_ x: T) -> T {
    let (alpha, beta) = (T(alpha), T(beta))
    switch kind {
    case .none: return x
    case .relu: return x < 0 ? 0 : x
    case .clip: return clamp(x, alpha, beta)
    case .leakyRelu: return x < 0 ? alpha * x : x
    case .sigmoid: return 1 / (1 + T.exp(-x))
    case .tanh: return T.tanh(x)
    case .hardSigmoid: return clamp(alpha * x + beta, 0, 1)
    case .hardSwish: return x * clamp(x / 6 + 0.5, 0, 1)
    case .silu: return x / (1 + T.exp(-alpha * x))
    case .gelu: return x * (1 + T.erf(x * T(0.5).squareRoot())) / 2
    // By tanh, as for other runtimes: (1 + tanh(u)) / 2 is the logistic function of 2u. The factor has the digits that
    // they have.
    case .geluTanh: return x / (1 + T.exp(-1.5957691 * (x + 0.044715 * x * x * x)))
    case .thresholdedRelu: return x > alpha ? x : x.isNaN ? x : 0
    case .elu: return x < 0 ? alpha * T.expm1(x) : x
    case .selu: return beta * (x < 0 ? alpha * T.expm1(x) : x)
    case .celu: return x < 0 ? alpha * T.expm1(x / alpha) : x
    case .softplus: return (x > 0 ? x : 0) + T.log1p(T.exp(-x.magnitude))
    case .softsign: return x / (1 + x.magnitude)
    case .mish: return x * T.tanh((x > 0 ? x : 0) + T.log1p(T.exp(-x.magnitude)))
    case .affine: return alpha * x + beta
    case .scaledTanh: return alpha * T.tanh(beta * x)
    }
  }
}

// MARK: - Fused operators

extension Activation {
  /// The attributes of an operator with an epilogue, for its schema.
  static let attributes: [AttributeSchema] = [
    .string("activation", default: "none"), .float("activation_alpha", default: 0),
    .float("activation_beta", default: 0),
  ]

  /// The activation that the attributes of a fused operator mean.
  init(epilogueOf context: some OperatorContext) throws(OperatorError) {
    let name = try context.string("activation")
    guard let kind = Kind(rawValue: name), kind.epilogue != nil else {
      let known = Kind.allCases.filter { $0.epilogue != nil }.map(\.rawValue)
      throw .invalid("attribute activation is '\(name)'", remedy: "Expected one of " + known.joined(separator: ", "))
    }
    let (alpha, beta) = (try context.float("activation_alpha"), try context.float("activation_beta"))
    // The slope of silu is 1 in an epilogue, whatever the attribute says.
    self.init(kind, alpha: kind == .silu ? nil : alpha, beta: beta)
  }

  /// The attributes of a fused operator that mean this activation.
  package func write(to attributes: inout Attributes) {
    attributes["activation"] = .string(kind.rawValue)
    attributes["activation_alpha"] = .float(alpha)
    attributes["activation_beta"] = .float(beta)
  }

  var epilogue: GemmEpilogue {
    GemmEpilogue(activation: kind.epilogue ?? APUS_ACTIVATION_NONE, alpha: alpha, beta: beta)
  }

  /// The operators that may become an epilogue.
  package static let epilogueOperators = Set(
    Kind.allCases.filter { $0 != .none && $0.epilogue != nil }.compactMap(\.operator))

  /// The activation of an epilogue that does what a node does to its first input; nil if none does, or if its
  /// parameters are not constant.
  package init?(epilogueFor node: NodeFacts) {
    let id = node.schema.id
    let kinds = Kind.allCases.filter { $0 != .none && $0.epilogue != nil && $0.operator == id }
    guard let first = kinds.first else { return nil }
    switch first {
    case .gelu: self.init(node.optionalString("approximate") == "tanh" ? .geluTanh : .gelu)
    case .clip:
      guard let low = Activation.bound(node, 1, default: -.infinity),
        let high = Activation.bound(node, 2, default: .infinity)
      else { return nil }
      self.init(.clip, alpha: low, beta: high)
    default:
      let values = first.parameters.map { node.optionalFloat($0.name) ?? $0.value }
      // An epilogue has no slope.
      if first == .silu, values != [1] { return nil }
      self.init(first, alpha: values.first, beta: values.count > 1 ? values[1] : nil)
    }
  }

  /// A bound of Clip; nil if it is no constant number of float32.
  private static func bound(_ node: NodeFacts, _ position: Int, default none: Float) -> Float? {
    guard node.isPresent(position) else { return none }
    guard let bound = node.constant(position), bound.count == 1, let number = bound.elements(as: Float.self)?.first,
      !number.isNaN
    else { return nil }
    return number
  }
}

/// An activation of single numbers in float64, by its definition: for general paths.
struct ExactActivation: Sendable {
  private let loop: UnaryLoop

  init(_ activation: Activation) { loop = activation.function.realLoop(Double.self) }

  func callAsFunction(_ x: Double) -> Double {
    var (x, y) = (x, 0.0)
    loop(&x, &y, 1)
    return y
  }
}
