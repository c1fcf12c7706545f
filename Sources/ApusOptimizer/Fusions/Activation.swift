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
  init?(_ node: Node, in graph: Graph) {
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
      let bounds = (1...2).map { position in position < node.inputs.count ? node.inputs[position] : nil }
      alpha = -Float.greatestFiniteMagnitude
      beta = Float.greatestFiniteMagnitude
      if bounds[0] == nil { alpha = -Float.infinity } else if let low = graph.scalar(bounds[0]) { alpha = low } else { return nil }
      if bounds[1] == nil { beta = Float.infinity } else if let high = graph.scalar(bounds[1]) { beta = high } else { return nil }
    default: return nil
    }
  }

  func write(to attributes: inout Attributes) {
    attributes["activation"] = .string(name)
    attributes["activation_alpha"] = .float(alpha)
    attributes["activation_beta"] = .float(beta)
  }
}
