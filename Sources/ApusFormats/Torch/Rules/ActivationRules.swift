// Activations of torch.nn.functional.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let activationTable: [String: TorchRule] = [
    "relu": unary("Relu"), "relu6": relu6, "sigmoid": unary("Sigmoid"), "special_expit": unary("Sigmoid"),
    "silu": silu, "mish": unary("Mish"), "gelu": gelu, "hardswish": hardSwish, "hardsigmoid": hardSigmoid,
    "hardtanh": hardTanh, "elu": elu, "selu": selu, "celu": celu, "leaky_relu": leakyRelu, "prelu": prelu,
    "_prelu_kernel": prelu, "rrelu": rrelu, "rrelu_with_noise": rrelu, "rrelu_with_noise_functional": rrelu,
    "softplus": softplus,
    "softsign": unary("Softsign"), "log_sigmoid": logSigmoid, "log_sigmoid_forward": logSigmoid,
    "softshrink": softShrink, "hardshrink": hardShrink, "threshold": threshold, "glu": glu,
    "softmax": softmax("Softmax"), "_softmax": softmax("Softmax"), "special_softmax": softmax("Softmax"),
    "_safe_softmax": softmax("Softmax"), "log_softmax": softmax("LogSoftmax"), "_log_softmax": softmax("LogSoftmax"),
    "special_log_softmax": softmax("LogSoftmax"), "dropout": dropout, "feature_dropout": dropout,
    "alpha_dropout": dropout, "feature_alpha_dropout": dropout, "native_dropout": dropout,
    "tanhshrink": tanhShrink,
  ]

  private static func float(_ call: TorchCall) throws(OperatorError) -> ValueID {
    try call.layers.cast(try call.tensor(at: 0), to: try call.resultType())
  }

  private static func silu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try float(call)
    return [try call.layers.emit("Mul", [value, try call.layers.emit("Sigmoid", [value])])]
  }

  private static func relu6(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.clip(try call.tensor(at: 0), 0, 6)]
  }

  private static func gelu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let form = try call.string("approximate", "none")
    guard ["none", "tanh"].contains(form) else { throw .invalid("the approximation '\(form)' is unknown") }
    return [try call.layers.emit("Gelu", [try float(call)], [("approximate", .string(form))])]
  }

  private static func hardSwish(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("HardSwish", [try float(call)])]
  }

  private static func hardSigmoid(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("HardSigmoid", [try float(call)], [("alpha", .float(1 / 6)), ("beta", .float(0.5))])]
  }

  private static func hardTanh(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.clip(try call.tensor(at: 0), try call.real("min_val", -1), try call.real("max_val", 1))]
  }

  /// `scale * (x > 0 ? x : alpha * (exp(input_scale * x) - 1))`.
  private static func elu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try float(call))
    let (alpha, scale) = (try call.real("alpha", 1), try call.real("scale", 1))
    let inner = try call.real("input_scale", 1)
    var result: ValueID
    if inner == 1 {
      result = try layers.emit("Elu", [value], [("alpha", .float(Float(alpha)))])
    } else {
      let scaled = try layers.emit("Mul", [value, try layers.scalar(inner, like: value)])
      let curve = try layers.emit("Elu", [scaled], [("alpha", .float(Float(alpha)))])
      let isPositive = try layers.emit("Greater", [value, try layers.scalar(0, like: value)])
      result = try layers.emit("Where", [isPositive, value, curve])
    }
    if scale != 1 { result = try layers.emit("Mul", [result, try layers.scalar(scale, like: result)]) }
    return [result]
  }

  private static func selu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("Selu", [try float(call)])]
  }

  private static func celu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("Celu", [try float(call)], [("alpha", .float(Float(try call.real("alpha", 1))))])]
  }

  private static func leakyRelu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let slope = Float(try call.real("negative_slope", 0.01))
    return [try call.layers.emit("LeakyRelu", [try float(call)], [("alpha", .float(slope))])]
  }

  private static func prelu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    var slope = try call.tensor("weight")
    let rank = try layers.rank(value)
    if try layers.rank(slope) == 1, rank > 2 {
      slope = try layers.reshape(slope, [-1] + Array(repeating: 1, count: rank - 2))
    }
    return [try layers.emit("PRelu", [value, slope])]
  }

  private static func rrelu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if try call.bool("training", false) { throw .unsupported("slopes at random, of a model in training") }
    let slope = (try call.real("lower", 0.125) + (try call.real("upper", 1.0 / 3))) / 2
    return [try call.layers.emit("LeakyRelu", [try float(call)], [("alpha", .float(Float(slope)))])]
  }

  /// `log(1 + exp(beta * x)) / beta`, and x itself where `beta * x > threshold`.
  private static func softplus(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try float(call))
    let (beta, threshold) = (try call.real("beta", 1), try call.real("threshold", 20))
    if beta == 1, threshold == 20 { return [try layers.emit("Softplus", [value])] }
    let factor = try layers.scalar(beta, like: value)
    let scaled = try layers.emit("Mul", [value, factor])
    let curve = try layers.emit("Div", [try layers.emit("Softplus", [scaled]), factor])
    let isLinear = try layers.emit("Greater", [scaled, try layers.scalar(threshold, like: value)])
    return [try layers.emit("Where", [isLinear, value, curve])]
  }

  private static func logSigmoid(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let negated = try layers.emit("Neg", [try float(call)])
    return [try layers.emit("Neg", [try layers.emit("Softplus", [negated])])]
  }

  private static func softShrink(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let bound = Float(try call.real("lambd", 0.5))
    let value = try float(call)
    let result = try call.layers.emit("Shrink", [value], [("lambd", .float(bound)), ("bias", .float(bound))])
    return [try call.layers.keepingNaN(of: value, result)]
  }

  private static func hardShrink(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let bound = Float(try call.real("lambd", 0.5))
    let value = try float(call)
    let result = try call.layers.emit("Shrink", [value], [("lambd", .float(bound)), ("bias", .float(0))])
    return [try call.layers.keepingNaN(of: value, result)]
  }

  private static func tanhShrink(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try float(call)
    return [try call.layers.emit("Sub", [value, try call.layers.emit("Tanh", [value])])]
  }

  private static func threshold(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor(at: 0))
    guard let type = layers.type(value) else { throw .unsupported("the type of the operand is not known") }
    let isBelow = try layers.emit("LessOrEqual", [value, try call.operand("threshold", as: type)])
    return [try layers.emit("Where", [isBelow, try call.operand("value", as: type), value])]
  }

  private static func glu(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try call.tensor("self"))
    let axis = try call.axis("dim", of: try layers.rank(value), -1)
    let halves = try layers.emit("Split", [value], [("axis", .int(axis)), ("num_outputs", .int(2))], outputs: 2)
    return [try layers.emit("Mul", [halves[0], try layers.emit("Sigmoid", [halves[1]])])]
  }

  private static func softmax(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try float(call)
      let rank = try call.layers.rank(value)
      if rank == 0 { return [try call.constant(op == "Softmax" ? 1 : 0, try call.resultType())] }
      let result = try call.layers.emit(op, [value], [("axis", .int(try call.axis("dim", of: rank)))])
      if call.op.rule != "_safe_softmax" { return [result] }
      // Rows of -inf only are zeros.
      let isNaN = try call.layers.emit("IsNaN", [result])
      return [try call.layers.emit("Where", [isNaN, try call.layers.scalar(0, like: result), result])]
    }
  }

  private static func dropout(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if try call.bool("train", false), try call.real("p", 0.5) > 0 {
      throw .unsupported(
        "dropout of a model in training", remedy: "Call model.eval() before the model is exported")
    }
    return [try call.tensor(at: 0)]
  }
}
