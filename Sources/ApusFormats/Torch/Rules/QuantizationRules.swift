// The quantized values of PyTorch's PT2E export: https://docs.pytorch.org/ao/stable/pt2e_quantization/index.html

import ApusGraph
import ApusTensor

extension TorchRules {
  static let quantizationTable: [String: TorchRule] = [
    "quantized_decomposed.quantize_per_tensor": quantize, "quantized_decomposed.dequantize_per_tensor": dequantize,
    "quantized_decomposed.quantize_per_channel": quantize,
    "quantized_decomposed.dequantize_per_channel": dequantize,
    "fake_quantize_per_tensor_affine": fakeQuantize, "fake_quantize_per_channel_affine": fakeQuantize,
    "quantized_decomposed.choose_qparams": chooseParameters,
  ]

  private static func isByChannel(_ call: TorchCall) -> Bool { call.op.rule.contains("per_channel") }

  /// Scale and zero point, of the type of the codes.
  private static func parameters(
    _ call: TorchCall, _ type: DataType
  ) throws(OperatorError) -> (scale: ValueID, zero: ValueID, attributes: [(String, AttributeValue)]) {
    let layers = call.layers
    let names = call.has("scales") ? ("scales", "zero_points") : ("scale", "zero_point")
    var scale = try call.operand(names.0, as: .float32)
    var zero = call.has(names.1) ? try call.operand(names.1, as: type) : try call.constant(.integer(0), type)
    if isByChannel(call) { return (scale, zero, [("axis", .int(try call.int("axis", 0)))]) }
    (scale, zero) = (try layers.reshape(scale, []), try layers.reshape(zero, []))
    return (scale, zero, [])
  }

  private static func codeType(_ call: TorchCall) throws(OperatorError) -> DataType {
    guard case .dataType(let number)? = call.argument("dtype"), let type = TorchDataType.type(number),
      [.int8, .uint8, .int16, .uint16].contains(type)
    else { throw .unsupported("codes of other than 8 or 16 bits") }
    return type
  }

  private static func quantize(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try codeType(call)
    let (scale, zero, attributes) = try parameters(call, type)
    let codes = try layers.emit("QuantizeLinear", [try call.tensor("input"), scale, zero], attributes)
    return [try narrowed(codes, type, call)]
  }

  /// Codes within quant_min and quant_max, where those are less than all of the type.
  private static func narrowed(_ codes: ValueID, _ type: DataType, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let (low, high) =
      type.isSignedInteger
      ? (-(1 << (type.bits - 1)), (1 << (type.bits - 1)) - 1) : (0, (1 << type.bits) - 1)
    let (from, to) = (try call.int("quant_min", low), try call.int("quant_max", high))
    if from <= low, to >= high { return codes }
    return try call.layers.emit(
      "Clip", [codes, try call.constant(.integer(from), type), try call.constant(.integer(to), type)])
  }

  private static func dequantize(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("input")
    guard let type = call.layers.type(value) else { throw .unsupported("codes of unknown type") }
    let (scale, zero, attributes) = try parameters(call, type)
    return [try call.layers.emit("DequantizeLinear", [value, scale, zero], attributes)]
  }

  private static func fakeQuantize(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (low, high) = (try call.int("quant_min"), try call.int("quant_max"))
    let type: DataType = low >= 0 && high < 256 ? .uint8 : low >= -128 && high < 128 ? .int8 : .int16
    guard low >= -32768, high < 32768 else { throw .unsupported("codes of more than 16 bits") }
    let (scale, zero, attributes) = try parameters(call, type)
    let codes = try layers.emit("QuantizeLinear", [try call.tensor("self"), scale, zero], attributes)
    return [try layers.emit("DequantizeLinear", [try narrowed(codes, type, call), scale, zero], attributes)]
  }

  /// Scale and zero point from the least and the largest element, with 0 between them.
  private static func chooseParameters(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    guard !call.op.overload.contains("symmetric") else { throw .unsupported("symmetric parameters chosen in the run") }
    let value = try call.tensor("input")
    let (from, to) = (Double(try call.int("quant_min")), Double(try call.int("quant_max")))
    let zero = try layers.scalar(0, like: value)
    let low = try layers.emit("Min", [try layers.emit("ReduceMin", [value], [("keepdims", .int(0))]), zero])
    let high = try layers.emit("Max", [try layers.emit("ReduceMax", [value], [("keepdims", .int(0))]), zero])
    let range = try layers.emit("Sub", [high, low])
    var scale = try layers.emit("Div", [range, try layers.scalar(to - from, like: value)])
    scale = try layers.emit("Max", [scale, try layers.scalar(try call.real("eps", 1.1920929e-07), like: value)])
    let start = try layers.emit("Round", [try layers.emit("Div", [low, scale])])
    let point = try layers.emit("Sub", [try layers.scalar(from, like: value), start])
    let bounded = try layers.emit(
      "Clip",
      [
        point, try layers.scalar(from, like: value), try layers.scalar(to, like: value),
      ])
    let scaleType = try call.resultType(0)
    return [
      try layers.cast(try layers.unsqueeze(scale, [0]), to: scaleType),
      try layers.cast(try layers.unsqueeze(bounded, [0]), to: .int64),
    ]
  }
}
