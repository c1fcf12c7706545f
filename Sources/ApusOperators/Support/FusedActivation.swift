// The activations that fused operators apply to their result, by the names of their attribute.

import ApusGraph
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The activation that the attributes `activation`, `activation_alpha` and `activation_beta` of a fused operator mean.
struct FusedActivation: Sendable {
  let kind: apus_activation
  let alpha: Float
  let beta: Float

  /// The attributes, for the schemas of fused operators.
  static let attributes: [AttributeSchema] = [
    .string("activation", default: "none"), .float("activation_alpha", default: 0),
    .float("activation_beta", default: 0),
  ]

  private static let kinds: [(name: String, kind: apus_activation)] = [
    ("none", APUS_ACTIVATION_NONE), ("relu", APUS_ACTIVATION_RELU), ("clip", APUS_ACTIVATION_CLIP),
    ("leaky_relu", APUS_ACTIVATION_LEAKY_RELU), ("sigmoid", APUS_ACTIVATION_SIGMOID), ("tanh", APUS_ACTIVATION_TANH),
    ("hard_sigmoid", APUS_ACTIVATION_HARD_SIGMOID), ("hard_swish", APUS_ACTIVATION_HARD_SWISH),
    ("silu", APUS_ACTIVATION_SILU), ("gelu", APUS_ACTIVATION_GELU), ("gelu_tanh", APUS_ACTIVATION_GELU_TANH),
  ]

  init(_ context: some OperatorContext) throws(OperatorError) {
    let name = try context.string("activation")
    guard let known = FusedActivation.kinds.first(where: { $0.name == name }) else {
      throw .invalid(
        "attribute activation is '\(name)'",
        remedy: "Expected one of " + FusedActivation.kinds.map(\.name).joined(separator: ", "))
    }
    kind = known.kind
    alpha = try context.float("activation_alpha")
    beta = try context.float("activation_beta")
  }

  var epilogue: GemmEpilogue { GemmEpilogue(activation: kind, alpha: alpha, beta: beta) }

  /// The activation of one element, in float64: for general paths and tests.
  func callAsFunction(_ x: Double) -> Double {
    let (alpha, beta) = (Double(alpha), Double(beta))
    return switch kind {
    case APUS_ACTIVATION_RELU: x.isNaN ? x : Swift.max(x, 0)
    case APUS_ACTIVATION_CLIP: x.isNaN ? x : Swift.min(Swift.max(x, alpha), beta)
    case APUS_ACTIVATION_LEAKY_RELU: x < 0 ? alpha * x : x
    case APUS_ACTIVATION_SIGMOID: 1 / (1 + exp(-x))
    case APUS_ACTIVATION_TANH: tanh(x)
    case APUS_ACTIVATION_HARD_SIGMOID: Swift.min(Swift.max(alpha * x + beta, 0), 1)
    case APUS_ACTIVATION_HARD_SWISH: x * Swift.min(Swift.max(x / 6 + 0.5, 0), 1)
    case APUS_ACTIVATION_SILU: x / (1 + exp(-x))
    case APUS_ACTIVATION_GELU: x * (1 + erf(x / 2.0.squareRoot())) / 2
    case APUS_ACTIVATION_GELU_TANH: x * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x))) / 2
    default: x
    }
  }
}
