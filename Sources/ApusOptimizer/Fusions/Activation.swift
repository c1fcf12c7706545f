// Activations that an epilogue can apply, read from the operators that compute them.

import ApusGraph

/// An activation of an epilogue with its two parameters.
struct Activation {
  let name: String
  var alpha: Float = 0
  var beta: Float = 0

  /// The standard operators that may become an epilogue.
  static let operators = [
    "Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Swish", "Gelu",
  ]

  /// The activation that a node applies to its first input; nil if its parameters are not constant or not expressible.
  init?(_ node: Node, in graph: borrowing GraphEditor) {
    guard node.op.domain.isEmpty else { return nil }
    switch node.op.name {
    case "Relu": name = "relu"
    case "Sigmoid": name = "sigmoid"
    case "Tanh": name = "tanh"
    case "HardSwish": name = "hard_swish"
    case "LeakyRelu":
      name = "leaky_relu"
      alpha = node.attributes.float("alpha") ?? 0.01
    case "HardSigmoid":
      name = "hard_sigmoid"
      alpha = node.attributes.float("alpha") ?? 0.2
      beta = node.attributes.float("beta") ?? 0.5
    case "Swish":
      guard node.attributes.float("alpha") ?? 1 == 1 else { return nil }
      name = "silu"
    case "Gelu": name = node.attributes.string("approximate") == "tanh" ? "gelu_tanh" : "gelu"
    case "Clip":
      name = "clip"
      guard let low = Activation.bound(node, 1, default: -.infinity, in: graph),
        let high = Activation.bound(node, 2, default: .infinity, in: graph)
      else { return nil }
      (alpha, beta) = (low, high)
    default: return nil
    }
  }

  /// A bound of Clip; nil if it is no constant number of float32.
  private static func bound(_ node: Node, _ position: Int, default none: Float, in graph: borrowing GraphEditor)
    -> Float?
  {
    guard position < node.inputs.count, let value = node.inputs[position] else { return none }
    guard let bound = graph.constant(value), bound.count == 1, let number = bound.elements(as: Float.self)?.first,
      !number.isNaN
    else { return nil }
    return number
  }

  func write(to attributes: inout Attributes) {
    attributes["activation"] = .string(name)
    attributes["activation_alpha"] = .float(alpha)
    attributes["activation_beta"] = .float(beta)
  }
}
