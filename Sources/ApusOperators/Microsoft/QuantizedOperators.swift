// Operators on 8-bit tensors as DequantizeLinear, an operator on floats, QuantizeLinear: QLinearAdd, QLinearMul,
// QLinearConcat, QLinearWhere, QLinearSigmoid, QLinearLeakyRelu, QLinearSoftmax, QLinearAveragePool,
// QLinearGlobalAveragePool, QLinearReduceMean; QuantizeLinear and DequantizeLinear themselves.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1. A result may lie a step beside that of onnxruntime where the sum falls between two steps.

import ApusGraph
import ApusTensor

private let quantizedTypes: [String: TypeSet] = ["T": .bytes, "tensor(float)": .float32]

private let binaryInputs: [Parameter] = [
  .required("A", "T"), .required("A_scale", "tensor(float)"), .optional("A_zero_point", "T"), .required("B", "T"),
  .required("B_scale", "tensor(float)"), .optional("B_zero_point", "T"), .required("C_scale", "tensor(float)"),
  .optional("C_zero_point", "T"),
]

private let unaryInputs: [Parameter] = [
  .required("X", "T"), .required("X_scale", "tensor(float)"), .optional("X_zero_point", "T"),
  .required("Y_scale", "tensor(float)"), .optional("Y_zero_point", "T"),
]

private func binary(_ name: String, _ op: String) -> MicrosoftRewrite {
  MicrosoftRewrite(name, inputs: binaryInputs, outputs: [.required("C", "T")], types: quantizedTypes) {
    r throws(OperatorError) in
    let value = try r.apply(op, [r.dequantized(0, 1, 2), r.dequantized(3, 4, 5)])
    try r.finishQuantized(value, scale: 6, zeroPoint: 7, as: try r.type(r.required(0)))
  }
}

private func unary(
  _ name: String, attributes: [AttributeSchema] = [],
  _ body: @escaping @Sendable (inout Rewriter, ValueID) throws(OperatorError) -> ValueID
) -> MicrosoftRewrite {
  MicrosoftRewrite(
    name, inputs: unaryInputs, outputs: [.required("Y", "T")], attributes: attributes, types: quantizedTypes
  ) { r throws(OperatorError) in
    let value = try body(&r, r.dequantized(0, 1, 2))
    try r.finishQuantized(value, scale: 3, zeroPoint: 4, as: try r.type(r.required(0)))
  }
}

let microsoftQuantizedOperators: [any ImportRule] = [
  binary("QLinearAdd", "Add"),
  binary("QLinearMul", "Mul"),
  unary("QLinearSigmoid") { r, x throws(OperatorError) in try r.apply("Sigmoid", [x]) },
  unary("QLinearLeakyRelu", attributes: [.float("alpha", default: 0.01)]) { r, x throws(OperatorError) in
    try r.apply("LeakyRelu", [x], [("alpha", .float(r.float("alpha")))])
  },
  unary("QLinearSoftmax", attributes: [.int("axis", default: -1), .required("opset", .int)]) {
    r, x throws(OperatorError) in
    let axis = try r.int("axis")
    if try r.int("opset") >= 13 { return try r.apply("Softmax", [x], [("axis", .int(axis))]) }
    // Before, the softmax ran over all axes from `axis` on.
    let flat = try r.apply("Flatten", [x], [("axis", .int(axis))])
    return try r.apply("Reshape", [r.apply("Softmax", [flat], [("axis", .int(1))]), r.apply("Shape", [x])])
  },
  unary(
    "QLinearAveragePool",
    attributes: [
      .string("auto_pad", default: "NOTSET"), .int("ceil_mode", default: 0), .int("channels_last", default: 0),
      .int("count_include_pad", default: 0), .required("kernel_shape", .ints), .optional("pads", .ints),
      .optional("strides", .ints),
    ]
  ) { r, x throws(OperatorError) in
    guard try r.bool("channels_last") else { return try r.averagePool(x) }
    let pooled = try r.averagePool(r.toChannelsFirst(x))
    return try r.transpose(pooled, Rewriter.channelsLast(rank: r.rank(x)))
  },
  unary("QLinearGlobalAveragePool", attributes: [.int("channels_last", default: 0)]) { r, x throws(OperatorError) in
    guard try r.bool("channels_last") else { return try r.apply("GlobalAveragePool", [x]) }
    let rank = try r.rank(x)
    guard rank > 2 else { throw .mismatch("X has \(rank) axes; expected 3 or more") }
    return try r.apply("ReduceMean", [x, r.ints(Array(1..<rank - 1))])
  },

  MicrosoftRewrite(
    "QLinearReduceMean",
    inputs: [
      .required("data", "T"), .required("data_scale", "tensor(float)"), .optional("data_zero_point", "T"),
      .required("reduced_scale", "tensor(float)"), .optional("reduced_zero_point", "T"),
    ],
    outputs: [.required("reduced", "T")], attributes: [.required("axes", .ints), .required("keepdims", .int)],
    types: quantizedTypes
  ) { r throws(OperatorError) in
    let mean = try r.apply(
      "ReduceMean", [r.dequantized(0, 1, 2), r.ints(r.ints("axes"))], [("keepdims", .int(r.int("keepdims")))])
    try r.finishQuantized(mean, scale: 3, zeroPoint: 4, as: try r.type(r.required(0)))
  },

  MicrosoftRewrite(
    "QLinearConcat",
    inputs: [.required("Y_scale", "TF"), .required("Y_zero_point", "T8"), .variadic("inputs", "TV")],
    outputs: [.required("Y", "T8")], attributes: [.required("axis", .int)],
    types: ["T8": .bytes, "TF": .float32, "TV": .bytes + .float32]
  ) { r throws(OperatorError) in
    guard r.node.inputs.count >= 5, r.node.inputs.count % 3 == 2 else {
      throw .invalid("\(r.node.inputs.count) inputs; expected two and then three for each tensor")
    }
    // Each part is brought to the result's bytes alone, so that no float of the whole is needed.
    let (scale, zeroPoint) = (try r.scalarInput(0), try r.scalarInput(1))
    var parts: [ValueID] = []
    for index in stride(from: 2, to: r.node.inputs.count, by: 3) {
      parts.append(
        try r.apply("QuantizeLinear", [r.dequantized(index, index + 1, index + 2), scale, zeroPoint]))
    }
    try r.finish("Concat", parts, [("axis", .int(try r.int("axis")))])
  },

  MicrosoftRewrite(
    "QLinearWhere",
    inputs: [
      .required("condition", "B"), .required("X", "T"), .required("x_scale", "TF"), .required("x_zero_point", "T"),
      .required("Y", "T"), .required("y_scale", "TF"), .required("y_zero_point", "T"), .required("z_scale", "TF"),
      .required("z_zero_point", "T"),
    ],
    outputs: [.required("Z", "T")], types: ["B": .bool, "TF": .float32, "T": .bytes]
  ) { r throws(OperatorError) in
    let value = try r.apply("Where", [r.required(0), r.dequantized(1, 2, 3), r.dequantized(4, 5, 6)])
    try r.finishQuantized(value, scale: 7, zeroPoint: 8, as: try r.type(r.required(1)))
  },

  MicrosoftRewrite(
    "QuantizeLinear",
    inputs: [.required("x", "T1"), .required("y_scale", "T1"), .optional("y_zero_point", "T2")],
    outputs: [.required("y", "T2")], attributes: [.optional("axis", .int)],
    types: ["T1": [.float16, .float32], "T2": [.int8, .uint8, .int16, .uint16, .int4, .uint4]]
  ) { r throws(OperatorError) in try r.finish("QuantizeLinear", r.node.inputs, r.kept(["axis"])) },

  MicrosoftRewrite(
    "DequantizeLinear",
    inputs: [.required("x", "T1"), .required("x_scale", "T2"), .optional("x_zero_point", "T1")],
    outputs: [.required("y", "T2")], attributes: [.optional("axis", .int)],
    types: ["T1": [.int8, .uint8, .int16, .uint16, .int32, .int4, .uint4], "T2": [.float16, .float32]]
  ) { r throws(OperatorError) in try r.finish("DequantizeLinear", r.node.inputs, r.kept(["axis"])) },
]

extension Rewriter {
  /// (x - zero point) * scale for an input with one scale.
  fileprivate mutating func dequantized(_ x: Int, _ scale: Int, _ zeroPoint: Int) throws(OperatorError) -> ValueID {
    try apply(
      "DequantizeLinear", [required(x), scalarInput(scale), input(zeroPoint) == nil ? nil : scalarInput(zeroPoint)])
  }

  /// AveragePool of images with their channels first. Where pads count, onnxruntime divides by the whole window, even
  /// where an extent that was rounded up lets it reach beyond the pads: those are made wider then, and the windows that
  /// this adds are cut off.
  fileprivate mutating func averagePool(_ x: ValueID) throws(OperatorError) -> ValueID {
    let kernel = try ints("kernel_shape")
    let strides = node.attributes.ints("strides") ?? [Int](repeating: 1, count: kernel.count)
    let pads = node.attributes.ints("pads") ?? [Int](repeating: 0, count: 2 * kernel.count)
    let isUsual = (kernel + strides + pads).allSatisfy { (0...Int(Int32.max)).contains($0) } && !strides.contains(0)
    guard try bool("ceil_mode"), try bool("count_include_pad"), try string("auto_pad") == "NOTSET", isUsual,
      strides.count == kernel.count, pads.count == 2 * kernel.count
    else {
      return try apply(
        "AveragePool", [x],
        kept(["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"]))
    }
    let axes = kernel.indices
    let (begin, end) = (Array(pads[axes]), Array(pads[kernel.count...]))
    // As many windows as cover the padded extent, without those that begin behind the image.
    let extents = try apply("Shape", [x], [("start", .int(2))])
    let divisors = ints(strides)
    let covering = ints(axes.map { begin[$0] + end[$0] - kernel[$0] + 2 * strides[$0] - 1 })
    let beginning = ints(axes.map { begin[$0] + strides[$0] - 1 })
    let counts = try apply(
      "Min",
      [
        apply("Div", [apply("Add", [extents, covering]), divisors]),
        apply("Div", [apply("Add", [extents, beginning]), divisors]),
      ])
    let wide = try apply(
      "AveragePool", [x],
      [
        ("kernel_shape", .ints(kernel)), ("strides", .ints(strides)), ("count_include_pad", .int(1)),
        ("pads", .ints(begin + axes.map { max(end[$0], kernel[$0] - 1) })),
      ])
    return try apply("Slice", [wide, ints(axes.map { _ in 0 }), counts, ints(axes.map { $0 + 2 })])
  }

  fileprivate mutating func finishQuantized(
    _ value: ValueID, scale: Int, zeroPoint: Int, as type: DataType
  ) throws(OperatorError) {
    let zero: ValueID
    if input(zeroPoint) == nil {
      zero = constant(Tensor(zeros: type, shape: []))
    } else {
      zero = try scalarInput(zeroPoint)
    }
    try finish("QuantizeLinear", [value, try scalarInput(scale), zero])
  }
}
