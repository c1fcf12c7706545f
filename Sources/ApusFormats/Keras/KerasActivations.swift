// Activations of Keras: as the member `activation` of a layer, as layers and as operations.

import ApusGraph
import ApusTensor

enum KerasActivations {
  typealias Make = @Sendable (KerasCall, ValueID, KerasConfig) throws(OperatorError) -> ValueID

  /// The value after what a member of the layer's configuration says: a name, a function or a layer.
  static func apply(
    _ key: String = "activation", of call: KerasCall, to value: ValueID
  ) throws(OperatorError) -> ValueID {
    guard let member = call.config[key] else { return value }
    let (name, parameters) = try read(member, key)
    guard let make = table[name] else { throw unknown(name) }
    return try make(call, value, parameters)
  }

  /// The name of an activation and what it is called with.
  static func read(_ value: JSONValue, _ key: String) throws(OperatorError) -> (name: String, KerasConfig) {
    if let name = value.text { return (name, KerasConfig()) }
    let entry = KerasConfig(value)
    guard let className = entry["class_name"]?.text else { throw value.unexpected("an activation", as: key) }
    // A function with its name, or a layer.
    if className == "function", let name = entry["config"]?.text { return (name, KerasConfig()) }
    return (layerNames[className] ?? className, entry.object("config"))
  }

  static func unknown(_ name: String) -> OperatorError {
    .unsupported("the activation '\(name)' is none of Keras", remedy: "Put a layer of Keras in its place")
  }

  /// Layers that are activations, by class.
  static let layerNames: [String: String] = [
    "ReLU": "relu", "LeakyReLU": "leaky_relu", "ELU": "elu_layer", "Softmax": "softmax_layer",
    "ThresholdedReLU": "thresholded_relu",
  ]

  /// Operations that are activations, by class.
  static let operationNames: [String: String] = [
    "Relu": "relu", "Relu6": "relu6", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign",
    "Silu": "silu", "LogSigmoid": "log_sigmoid", "LeakyRelu": "leaky_relu", "HardSigmoid": "hard_sigmoid",
    "HardSilu": "hard_silu", "Elu": "elu", "Selu": "selu", "Gelu": "gelu", "Celu": "celu", "Glu": "glu",
    "TanhShrink": "tanh_shrink", "HardTanh": "hard_tanh", "HardShrink": "hard_shrink", "SoftShrink": "soft_shrink",
    "Threshold": "threshold", "Softmax": "softmax", "LogSoftmax": "log_softmax", "Sparsemax": "sparsemax",
    "SparsePlus": "sparse_plus", "SparseSigmoid": "sparse_sigmoid", "Squareplus": "squareplus",
  ]

  private static func op(_ name: String) -> Make {
    { (call, value, _) throws(OperatorError) in try call.layers.emit(name, [value]) }
  }

  static let table: [String: Make] = [
    "linear": { (_, value, _) throws(OperatorError) in value },
    "relu": relu, "relu6": { (call, value, _) throws(OperatorError) in try call.layers.clip(value, 0, 6) },
    "leaky_relu": leakyRelu, "thresholded_relu": thresholdedRelu,
    "elu": elu, "elu_layer": elu, "selu": op("Selu"), "celu": celu,
    "gelu": gelu, "mish": op("Mish"), "silu": silu, "swish": silu,
    "sigmoid": op("Sigmoid"), "hard_sigmoid": hardSigmoid, "hard_silu": hardSilu, "hard_swish": hardSilu,
    "log_sigmoid": { (call, value, _) throws(OperatorError) in
      let positive = try call.layers.emit("Softplus", [call.layers.emit("Neg", [value])])
      return try call.layers.emit("Neg", [positive])
    },
    "tanh": op("Tanh"), "softplus": op("Softplus"), "softsign": op("Softsign"), "exponential": op("Exp"),
    "softmax": softmax, "softmax_layer": softmax, "log_softmax": logSoftmax, "sparsemax": sparsemax, "glu": glu,
    "tanh_shrink": { (call, value, _) throws(OperatorError) in
      try call.layers.emit("Sub", [value, call.layers.emit("Tanh", [value])])
    },
    "hard_tanh": { (call, value, _) throws(OperatorError) in try call.layers.clip(value, -1, 1) },
    "hard_shrink": { (call, value, config) throws(OperatorError) in
      try call.layers.emit("Shrink", [value], [("lambd", .float(Float(config.double("threshold", default: 0.5))))])
    },
    "soft_shrink": { (call, value, config) throws(OperatorError) in
      let threshold = Float(try config.double("threshold", default: 0.5))
      return try call.layers.emit("Shrink", [value], [("lambd", .float(threshold)), ("bias", .float(threshold))])
    },
    "threshold": threshold, "sparse_plus": sparsePlus,
    "sparse_sigmoid": { (call, value, _) throws(OperatorError) in
      try call.layers.emit("HardSigmoid", [value], [("alpha", .float(0.5)), ("beta", .float(0.5))])
    },
    "squareplus": squareplus,
  ]

  // MARK: - Rectifiers

  /// x above `threshold`, `negative_slope` · (x − threshold) below it, at most `max_value`.
  private static let relu: Make = { (call, value, config) throws(OperatorError) in
    let layers = call.layers
    let slope = try config.double("negative_slope", "alpha", default: 0)
    let threshold = try config.double("threshold", default: 0)
    let maximum = try config.optionalDouble("max_value")
    if threshold == 0 {
      if slope == 0 { return try layers.clip(value, 0, maximum) }
      let leaky = try layers.emit("LeakyRelu", [value], [("alpha", .float(Float(slope)))])
      return try maximum.map { (bound) throws(OperatorError) in try layers.clip(leaky, nil, bound) } ?? leaky
    }
    let limit = try layers.scalar(threshold, like: value)
    let isAbove = try layers.emit(slope == 0 ? "Greater" : "GreaterOrEqual", [value, limit])
    let upper = try maximum.map { (bound) throws(OperatorError) in try layers.clip(value, nil, bound) } ?? value
    let below = try layers.emit(
      "Mul", [layers.emit("Sub", [value, limit]), layers.scalar(slope, like: value)])
    return try layers.emit("Where", [isAbove, upper, below])
  }

  private static let leakyRelu: Make = { (call, value, config) throws(OperatorError) in
    let preset = call.layer.className == "LeakyReLU" ? 0.3 : 0.2
    let slope = try config.double("negative_slope", "alpha", default: preset)
    return try call.layers.emit("LeakyRelu", [value], [("alpha", .float(Float(slope)))])
  }

  private static let thresholdedRelu: Make = { (call, value, config) throws(OperatorError) in
    try call.layers.emit("ThresholdedRelu", [value], [("alpha", .float(Float(config.double("theta", default: 1))))])
  }

  private static let threshold: Make = { (call, value, config) throws(OperatorError) in
    let layers = call.layers
    let limit = try layers.scalar(config.double("threshold", default: 0), like: value)
    let other = try layers.scalar(config.double("default_value", "value", default: 0), like: value)
    return try layers.emit("Where", [layers.emit("Greater", [value, limit]), value, other])
  }

  private static let elu: Make = { (call, value, config) throws(OperatorError) in
    try call.layers.emit("Elu", [value], [("alpha", .float(Float(config.double("alpha", default: 1))))])
  }

  private static let celu: Make = { (call, value, config) throws(OperatorError) in
    try call.layers.emit("Celu", [value], [("alpha", .float(Float(config.double("alpha", default: 1))))])
  }

  // MARK: - Gates

  private static let gelu: Make = { (call, value, config) throws(OperatorError) in
    // The function of the name is exact; the operation approximates unless it is told otherwise.
    let isApproximate = try config.bool("approximate", default: false)
    return try call.layers.emit("Gelu", [value], isApproximate ? [("approximate", .string("tanh"))] : [])
  }

  private static let silu: Make = { (call, value, _) throws(OperatorError) in
    try call.layers.emit("Mul", [value, call.layers.emit("Sigmoid", [value])])
  }

  /// Keras 2: 0.2 x + 0.5; Keras 3: x / 6 + 0.5; both between 0 and 1.
  private static let hardSigmoid: Make = { (call, value, _) throws(OperatorError) in
    let alpha: Float = call.network.version >= 3 ? 1 / 6 : 0.2
    return try call.layers.emit("HardSigmoid", [value], [("alpha", .float(alpha)), ("beta", .float(0.5))])
  }

  private static let hardSilu: Make = { (call, value, config) throws(OperatorError) in
    if call.network.version >= 3 { return try call.layers.emit("HardSwish", [value]) }
    return try call.layers.emit("Mul", [value, hardSigmoid(call, value, config)])
  }

  private static let glu: Make = { (call, value, config) throws(OperatorError) in
    let layers = call.layers
    let axis = try call.axis(config.int("axis", default: -1), rank: layers.rank(value))
    let halves = try layers.emit("Split", [value], [("axis", .int(axis)), ("num_outputs", .int(2))], outputs: 2)
    return try layers.emit("Mul", [halves[0], layers.emit("Sigmoid", [halves[1]])])
  }

  /// 0 up to −1, (x + 1)² / 4 up to 1, then x.
  private static let sparsePlus: Make = { (call, value, _) throws(OperatorError) in
    let layers = call.layers
    let one = try layers.scalar(1, like: value)
    let middle = try layers.clip(value, -1, 1)
    let sum = try layers.emit("Add", [middle, one])
    let bent = try layers.emit("Mul", [layers.emit("Mul", [sum, sum]), layers.scalar(0.25, like: value)])
    return try layers.emit("Where", [layers.emit("Greater", [value, one]), value, bent])
  }

  /// (x + √(x² + b)) / 2.
  private static let squareplus: Make = { (call, value, config) throws(OperatorError) in
    let layers = call.layers
    let square = try layers.emit("Mul", [value, value])
    let root = try layers.emit(
      "Sqrt", [layers.emit("Add", [square, layers.scalar(config.double("b", default: 4), like: value)])])
    return try layers.emit("Mul", [layers.emit("Add", [value, root]), layers.scalar(0.5, like: value)])
  }

  // MARK: - Distributions

  private static let softmax: Make = { (call, value, config) throws(OperatorError) in
    try over(value, config, "Softmax", call)
  }

  private static let logSoftmax: Make = { (call, value, config) throws(OperatorError) in
    try over(value, config, "LogSoftmax", call)
  }

  /// Softmax or LogSoftmax over one axis, or over several at once.
  private static func over(
    _ value: ValueID, _ config: KerasConfig, _ op: String, _ call: KerasCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    // Keras 3 takes null for all axes.
    let isWhole = call.network.version >= 3 && config.isNull("axis")
    let axes = isWhole ? Array(0..<rank) : try call.axes(config.ints("axis") ?? [-1], rank: rank).sorted()
    if axes.count == 1 { return try layers.emit(op, [value], [("axis", .int(axes[0]))]) }
    let largest = try layers.reduce("ReduceMax", value, axes: axes, keepsAxes: true)
    let shifted = try layers.emit("Sub", [value, largest])
    if op == "LogSoftmax" {
      return try layers.emit("Sub", [shifted, layers.reduce("ReduceLogSumExp", shifted, axes: axes, keepsAxes: true)])
    }
    let powers = try layers.emit("Exp", [shifted])
    return try layers.emit("Div", [powers, layers.reduce("ReduceSum", powers, axes: axes, keepsAxes: true)])
  }

  /// Martins and Astudillo, From Softmax to Sparsemax, 2016, algorithm 1: max(z − τ, 0). There τ is the sum of the k
  /// largest without 1, over k; all backends of Keras 3 take the sum of the sums of the first, the first two, …, the
  /// first k, and models were trained with that.
  private static let sparsemax: Make = { (call, value, config) throws(OperatorError) in
    let layers = call.layers
    let rank = try layers.rank(value)
    let axis = try call.axis(config.int("axis", default: -1), rank: rank)
    let count = try layers.extent(value, axis)
    guard count <= 1 << 24 else { throw .unsupported("\(count) elements along an axis") }
    let sorted = try layers.emit("TopK", [value, layers.integers([count])], [("axis", .int(axis))], outputs: 2)[0]
    let sums = try layers.emit("CumSum", [sorted, layers.constant(Tensor(scalar: Int64(axis)))])
    var shape = [Int](repeating: 1, count: rank)
    shape[axis] = count
    let places = layers.constant(Tensor((0..<count).map { Float($0 + 1) }, shape: Shape(shape)))
    // z(k) is in the support if 1 + k z(k) > the sum of the first k.
    let one = try layers.scalar(1, like: value)
    let reach = try layers.emit("Add", [layers.emit("Mul", [sorted, places]), one])
    let isIn = try layers.cast(layers.emit("Greater", [reach, sums]), to: .float32)
    let size = try layers.reduce("ReduceSum", isIn, axes: [axis], keepsAxes: true)
    let total = try layers.reduce("ReduceSum", layers.emit("Mul", [sums, isIn]), axes: [axis], keepsAxes: true)
    let threshold = try layers.emit("Div", [layers.emit("Sub", [total, one]), size])
    return try layers.emit("Relu", [layers.emit("Sub", [value, threshold])])
  }
}
