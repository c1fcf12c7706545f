// Products of quantized factors: MulInteger, MatMulIntegerToFloat, DynamicQuantizeMatMul, QGemm.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1.

import ApusGraph
import ApusTensor

let microsoftQuantizedProducts: [any ImportRule] = [
  MicrosoftRewrite(
    "MulInteger",
    inputs: [
      .required("A", "T"), .optional("A_zero_point", "T"), .required("B", "T"), .optional("B_zero_point", "T"),
    ],
    outputs: [.required("C", "T1")], types: ["T": .bytes, "T1": .int32]
  ) { r throws(OperatorError) in
    try r.finish("Mul", [r.difference(0, zeroPoint: 1), r.difference(2, zeroPoint: 3)])
  },

  MicrosoftRewrite(
    "MatMulIntegerToFloat",
    inputs: [
      .required("A", "T1"), .required("B", "T2"), .required("a_scale", "T3"), .required("b_scale", "T3"),
      .optional("a_zero_point", "T1"), .optional("b_zero_point", "T2"), .optional("bias", "T3"),
    ],
    outputs: [.required("Y", "T3")], types: ["T1": .bytes, "T2": .bytes, "T3": [.float32, .float16]], widening: .always
  ) { r throws(OperatorError) in
    try r.finishSum(try r.scaledProduct(a: 0, b: 1, scales: (2, 3), zeroPoints: (4, 5)), r.input(6))
  },

  MicrosoftRewrite(
    "DynamicQuantizeMatMul",
    inputs: [
      .required("A", "T1"), .required("B", "T2"), .required("b_scale", "T1"), .optional("b_zero_point", "T2"),
      .optional("bias", "T1"),
    ],
    outputs: [.required("Y", "T1")], types: ["T1": .float32, "T2": .bytes]
  ) { r throws(OperatorError) in
    let quantized = [r.newValue(), r.newValue(), r.newValue()]
    try r.apply("DynamicQuantizeLinear", [r.required(0)], outputs: quantized)
    let product = try r.apply("MatMulInteger", [quantized[0], r.required(1), quantized[2], r.columnParameter(3)])
    let scale = try r.apply("Mul", [quantized[1], r.columnParameter(2)])
    try r.finishSum(try r.apply("Mul", [r.cast(product, .float32), scale]), r.input(4))
  },

  MicrosoftRewrite(
    "QGemm",
    inputs: [
      .required("A", "TA"), .required("a_scale", "T"), .required("a_zero_point", "TA"), .required("B", "TB"),
      .required("b_scale", "T"), .required("b_zero_point", "TB"), .optional("C", "TC"), .optional("y_scale", "T"),
      .optional("y_zero_point", "TYZ"),
    ],
    outputs: [.required("Y", "TY")],
    attributes: [.float("alpha", default: 1), .int("transA", default: 0), .int("transB", default: 0)],
    types: ["T": .float32, "TA": .bytes, "TB": .bytes, "TC": .int32, "TYZ": .bytes, "TY": .bytes + .float32]
  ) { r throws(OperatorError) in
    var (a, b) = (try r.required(0), try r.required(3))
    if try r.bool("transA") { a = try r.transpose(a, [1, 0]) }
    if try r.bool("transB") { b = try r.transpose(b, [1, 0]) }
    var sum = try r.apply("MatMulInteger", [a, b, r.scalarInput(2), r.columnParameter(5)])
    if let c = r.input(6) { sum = try r.apply("Add", [sum, c]) }
    // In the order of the reference: (alpha · a) · b, over y where there is one.
    let alpha = try r.scalar(try r.float("alpha"), .float32)
    var scale = try r.apply("Mul", [r.apply("Mul", [alpha, r.scalarInput(1)]), r.columnParameter(4)])
    let number = try r.cast(sum, .float32)
    guard r.input(7) != nil else { return try r.finish("Mul", [number, scale]) }
    scale = try r.apply("Div", [scale, r.scalarInput(7)])
    let zero = r.input(8) == nil ? nil : try r.scalarInput(8)
    try r.finish("QuantizeLinear", [try r.apply("Mul", [number, scale]), try r.scalar(1, .float32), zero])
  },
]

extension Rewriter {
  /// Bytes less their zero point, in int32.
  fileprivate mutating func difference(_ index: Int, zeroPoint: Int) throws(OperatorError) -> ValueID {
    let value = try cast(required(index), .int32)
    guard let zero = input(zeroPoint) else { return value }
    return try apply("Sub", [value, cast(zero, .int32)])
  }

  /// (A - zero point) · (B - zero point) times both scales, in float.
  mutating func scaledProduct(
    a: Int, b: Int, scales: (Int, Int), zeroPoints: (Int, Int)
  ) throws(OperatorError) -> ValueID {
    let aZero = input(zeroPoints.0) == nil ? nil : try scalarInput(zeroPoints.0)
    let product = try apply("MatMulInteger", [required(a), required(b), aZero, columnParameter(zeroPoints.1)])
    let scale = try apply("Mul", [scalarInput(scales.0), columnParameter(scales.1)])
    return try apply("Mul", [cast(product, type(scale)), scale])
  }

  /// A parameter of the columns of a matrix: of one element as rank 0, else as it is.
  mutating func columnParameter(_ index: Int) throws(OperatorError) -> ValueID? {
    guard let value = input(index) else { return nil }
    return shape(value).map { $0.allSatisfy { $0.known == 1 } } ?? false ? try scalarInput(index) : value
  }

  fileprivate mutating func finishSum(_ value: ValueID, _ bias: ValueID?) throws(OperatorError) {
    if let bias { try finish("Add", [value, bias]) } else { try finish("Identity", [value]) }
  }
}
