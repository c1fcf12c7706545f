// Normalizations of PyTorch, in evaluation.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let normalizationTable: [String: TorchRule] = [
    "batch_norm": batchNorm, "native_batch_norm": batchNorm, "_native_batch_norm_legit": batchNorm,
    "_native_batch_norm_legit_no_training": batchNorm, "_native_batch_norm_legit_functional": batchNorm,
    "_batch_norm_no_update": batchNorm, "cudnn_batch_norm": batchNorm, "miopen_batch_norm": batchNorm,
    "layer_norm": layerNorm, "native_layer_norm": layerNorm, "group_norm": groupNorm,
    "native_group_norm": groupNorm, "instance_norm": instanceNorm, "rms_norm": rmsNorm, "_fused_rms_norm": rmsNorm,
    "local_response_norm": refusedNorm,
  ]

  private static func refusedNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    throw .unsupported("this normalization", remedy: "Call run_decompositions() before the model is saved")
  }

  /// The weight or bias of a layer; as many ones or zeros if it has none.
  private static func parameter(
    _ name: String, _ count: Int, _ number: Double, like value: ValueID, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    if let given = try call.optional(name) { return given }
    guard count <= 1 << 24 else { throw .unsupported("\(count) channels") }
    let numbers = Tensor([Float](repeating: Float(number), count: count))
    return try call.layers.cast(call.layers.constant(numbers), to: call.layers.type(value) ?? .float32)
  }

  /// The extent of the axis of channels; where the operand does not say it, that of a parameter.
  private static func channels(of value: ValueID, _ call: TorchCall) throws(OperatorError) -> Int {
    let shape = try call.layers.shape(value)
    guard shape.count > 1, shape[1].known == nil else { return try call.layers.extent(value, 1) }
    for name in ["running_mean", "weight", "bias"] {
      if let given = try call.optional(name), let count = call.layers.builder.shape(given)?.first?.known {
        return count
      }
    }
    return try call.layers.extent(value, 1)
  }

  private static func batchNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("input"), call.layers)
    let channels = try channels(of: value, call)
    let training = call.has("training") ? "training" : "train"
    if try call.bool(training, false) || !call.has("running_mean") {
      if call.has("running_mean") {
        layers.ledger.note(
          "'\(call.node.name)' normalizes by the statistics of its batch, as in training: what a row becomes depends "
            + "on the others, and the running statistics stay as they are")
      }
      return [try batchStatistics(value, channels, call)] + [nil, nil, nil, nil]
    }
    let result = try layers.emit(
      "BatchNormalization",
      [
        value, try parameter("weight", channels, 1, like: value, call),
        try parameter("bias", channels, 0, like: value, call), try call.tensor("running_mean"),
        try call.tensor("running_var"),
      ], [("epsilon", .float(Float(try call.real(call.has("epsilon") ? "epsilon" : "eps", 1e-5))))])
    return [result, nil, nil, nil, nil]
  }

  private static func batchStatistics(
    _ value: ValueID, _ channels: Int, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let (variance, mean) = try moments(value, (0..<rank).filter { $0 != 1 }, correction: 0, call)
    let epsilon = try layers.scalar(try call.real("eps", 1e-5), like: value)
    let deviation = try layers.emit("Sqrt", [try layers.emit("Add", [variance, epsilon])])
    let normal = try layers.emit("Div", [try layers.emit("Sub", [value, mean]), deviation])
    let shape = [channels] + [Int](repeating: 1, count: max(rank - 2, 0))
    let weight = try layers.reshape(try parameter("weight", channels, 1, like: value, call), shape)
    let bias = try layers.reshape(try parameter("bias", channels, 0, like: value, call), shape)
    return try layers.emit("Add", [try layers.emit("Mul", [normal, weight]), bias])
  }

  private static func layerNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("input"), call.layers)
    let shape = try call.ints("normalized_shape")
    guard let count = Shape(shape).checkedElementCount, !shape.isEmpty else { throw .invalid("a shape was expected") }
    var weight = try parameter("weight", count, 1, like: value, call)
    if !call.has("weight") { weight = try layers.reshape(weight, shape) }
    let outputs = call.op.rule == "native_layer_norm" && (call.isUsed(1) || call.isUsed(2)) ? 3 : 1
    let results = try layers.emit(
      "LayerNormalization", [value, weight, try call.optional("bias")],
      [("axis", .int(-shape.count)), ("epsilon", .float(Float(try call.real("eps", 1e-5))))], outputs: outputs)
    return results.map { $0 } + [ValueID?](repeating: nil, count: 3 - outputs)
  }

  private static func groupNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("input"), call.layers)
    if call.isUsed(1) || call.isUsed(2) { throw .unsupported("the statistics of native_group_norm") }
    let channels = try channels(of: value, call)
    let groups = try call.int(call.has("num_groups") ? "num_groups" : "group")
    let result = try layers.emit(
      "GroupNormalization",
      [
        value, try parameter("weight", channels, 1, like: value, call),
        try parameter("bias", channels, 0, like: value, call),
      ], [("num_groups", .int(groups)), ("epsilon", .float(Float(try call.real("eps", 1e-5))))])
    return [result, nil, nil]
  }

  private static func instanceNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if try !call.bool("use_input_stats", true) { return [try batchNorm(call)[0]] }
    let (value, layers) = (try call.tensor("input"), call.layers)
    let channels = try channels(of: value, call)
    return [
      try layers.emit(
        "InstanceNormalization",
        [
          value, try parameter("weight", channels, 1, like: value, call),
          try parameter("bias", channels, 0, like: value, call),
        ], [("epsilon", .float(Float(try call.real("eps", 1e-5))))])
    ]
  }

  private static func rmsNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("input"), call.layers)
    let shape = try call.ints("normalized_shape")
    guard let count = Shape(shape).checkedElementCount, !shape.isEmpty else { throw .invalid("a shape was expected") }
    var weight = try parameter("weight", count, 1, like: value, call)
    if !call.has("weight") { weight = try layers.reshape(weight, shape) }
    if call.isUsed(1) { throw .unsupported("the statistics of _fused_rms_norm") }
    let standard: Double =
      switch layers.type(value) {
      case .float64: Double.ulpOfOne
      case .float16: 0.0009765625
      case .bfloat16: 0.0078125
      default: Double(Float.ulpOfOne)
      }
    let result = try layers.emit(
      "RMSNormalization", [value, weight],
      [("axis", .int(-shape.count)), ("epsilon", .float(Float(try call.real("eps", standard))))])
    return call.op.rule == "rms_norm" ? [result] : [result, nil]
  }
}
