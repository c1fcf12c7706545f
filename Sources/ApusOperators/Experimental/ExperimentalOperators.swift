// The experimental operators of the first operator sets of ONNX, which files of 2017 and 2018 still have: Affine,
// ConstantFill, Crop, DynamicSlice, GivenTensorFill, ImageScaler, ParametricSoftplus, Scale, ScaledTanh. They were
// never versioned and left with operator set 10; https://github.com/onnx/onnx/blob/v1.4.1/onnx/defs/experiments/defs.cc
// Versions: 1.

import ApusGraph
import ApusTensor

let experimentalImportRules: [any ImportRule] = [
  experimental("Affine", attributes: [.float("alpha", default: 1), .float("beta", default: 0)]) {
    r throws(OperatorError) in
    let x = try r.required(0)
    let product = try r.apply("Mul", [x, r.scalar(r.float("alpha"), r.type(x))])
    try r.finish("Add", [product, try r.scalar(r.float("beta"), r.type(x))])
  },

  experimental("Scale", attributes: [.float("scale", default: 1)]) { r throws(OperatorError) in
    let x = try r.required(0)
    try r.finish("Mul", [x, try r.scalar(r.float("scale"), r.type(x))])
  },

  experimental("ScaledTanh", attributes: [.required("alpha", .float), .required("beta", .float)]) {
    r throws(OperatorError) in
    let x = try r.required(0)
    let inner = try r.apply("Mul", [x, r.scalar(r.float("beta"), r.type(x))])
    try r.finish("Mul", [try r.apply("Tanh", [inner]), try r.scalar(r.float("alpha"), r.type(x))])
  },

  experimental(
    "ParametricSoftplus", attributes: [.required("alpha", .float), .required("beta", .float)]
  ) { r throws(OperatorError) in
    let x = try r.required(0)
    let inner = try r.apply("Mul", [x, r.scalar(r.float("beta"), r.type(x))])
    try r.finish("Mul", [try r.apply("Softplus", [inner]), try r.scalar(r.float("alpha"), r.type(x))])
  },

  experimental(
    "ImageScaler", input: "input", output: "output",
    attributes: [.required("bias", .floats), .float("scale", default: 1)]
  ) { r throws(OperatorError) in
    let x = try r.required(0)
    let type = try r.type(x)
    try r.checkImage(x)
    let bias = r.optionalFloats("bias") ?? []
    if let channels = r.shape(x)?[1].known, channels != bias.count {
      throw .mismatch("bias has \(bias.count) elements for \(channels) channels")
    }
    // Fails for other than one element a channel, where one alone would be repeated.
    let channels = try r.apply("Concat", [r.extent(x, 1), r.ints([1, 1])], [("axis", .int(0))])
    var shifts = try r.apply("Reshape", [r.constant(Tensor(bias)), channels])
    if type != .float32 { shifts = try r.cast(shifts, type) }
    let scaled = try r.apply("Mul", [x, r.scalar(r.float("scale"), type)])
    try r.finish("Add", [scaled, shifts])
  },

  experimental(
    "Crop", input: "input", output: "output", attributes: [.required("border", .ints), .optional("scale", .ints)],
    widening: .none
  ) { r throws(OperatorError) in try r.finishCrop() },

  MicrosoftRewrite(
    "DynamicSlice", domain: "",
    inputs: [
      .required("data", "T"), .required("starts", "Tind"), .required("ends", "Tind"), .optional("axes", "Tind"),
    ],
    outputs: [.required("output", "T")], types: ["T": .allBeforeBFloat16, "Tind": .indices]
  ) { r throws(OperatorError) in
    try r.finish("Slice", [try r.required(0), try r.required(1), try r.required(2), r.input(3)])
  },

  MicrosoftRewrite(
    "GivenTensorFill", domain: "", inputs: [.optional("shape", "T1")], outputs: [.required("X", "T2")],
    attributes: fillAttributes + [.required("values", .floats)], types: ["T1": .numeric, "T2": .ieeeFloats]
  ) { r throws(OperatorError) in
    var values = r.constant(Tensor(r.optionalFloats("values") ?? []))
    // The type of the shape is that of the result, if it can be.
    if let given = r.input(0), case let type = try r.type(given), type == .float16 || type == .float64 {
      values = try r.cast(values, type)
    }
    try r.finish("Reshape", [values, try r.filledShape()], [("allowzero", .int(1))])
  },

  MicrosoftRewrite(
    "ConstantFill", domain: "", inputs: [.optional("input", "T1")], outputs: [.required("output", "T2")],
    attributes: fillAttributes + [.int("dtype", default: 1), .float("value", default: 0)],
    types: ["T1": .numeric + .bool, "T2": [.float32, .int32, .int64, .bool]]
  ) { r throws(OperatorError) in
    let type = try elementType(try r.int("dtype"), name: "dtype", allowed: r.schema.types["T2"] ?? [])
    let value = try r.cast(r.scalar(r.float("value"), .float32), type)
    try r.finish("Expand", [value, try r.filledShape()])
  },
]

private let fillAttributes: [AttributeSchema] = [
  .optional("extra_shape", .ints), .int("input_as_shape", default: 0), .optional("shape", .ints),
]

/// An operator of one float tensor.
private func experimental(
  _ name: String, input: String = "X", output: String = "Y", attributes: [AttributeSchema],
  widening: Widening = .always,
  _ body: @escaping @Sendable (inout Rewriter) throws(OperatorError) -> Void
) -> MicrosoftRewrite {
  MicrosoftRewrite(
    name, domain: "", inputs: [.required(input, "T")], outputs: [.required(output, "T")], attributes: attributes,
    types: ["T": .ieeeFloats], widening: widening, body)
}

extension Rewriter {
  /// Throws if a value cannot be [batch, channels, height, width].
  fileprivate func checkImage(_ value: ValueID) throws(OperatorError) {
    let rank = try rank(value)
    guard rank == 4 else { throw .mismatch("the input has \(rank) axes; expected [batch, channels, height, width]") }
  }

  /// Cuts off the four borders; with `scale`, what of that size lies behind the left and the upper one.
  fileprivate mutating func finishCrop() throws(OperatorError) {
    let x = try required(0)
    try checkImage(x)
    let border = try ints("border")
    guard border.count == 4, border.allSatisfy({ $0 >= 0 && $0 <= WindowAttributes.limit }) else {
      throw .invalid("border is \(border); expected left, top, right and bottom, none of them negative")
    }
    guard let size = optionalInts("scale"), !size.isEmpty else {
      // Negative pads cut off; more than there is is an error, which it would not be for Slice.
      let pads = [0, 0, -border[1], -border[0], 0, 0, -border[3], -border[2]]
      return try finish("Pad", [x, ints(pads)])
    }
    guard size.count == 2, size.allSatisfy({ $0 >= 0 && $0 <= WindowAttributes.limit }) else {
      throw .invalid("scale is \(size); expected a height and a width")
    }
    let (top, left) = (border[1], border[0])
    let part = try apply("Slice", [x, ints([top, left]), ints([top + size[0], left + size[1]]), ints([2, 3])])
    // Fails where the image ends before the part does.
    try finish("Reshape", [part, try apply("Concat", [extents(of: x), ints(size)], [("axis", .int(0))])])
  }

  /// Batch and channels of an image.
  private mutating func extents(of image: ValueID) throws(OperatorError) -> ValueID {
    try apply("Shape", [image], [("end", .int(2))])
  }

  /// The shape of a filled tensor: the attribute, or that of the input or its elements, with `extra_shape` at the end.
  fileprivate mutating func filledShape() throws(OperatorError) -> ValueID {
    if let shape = optionalInts("shape"), input(0) == nil {
      guard shape.allSatisfy({ $0 >= 0 }) else { throw .invalid("shape is \(shape); expected extents of 0 or more") }
      return ints(shape)
    }
    guard let given = input(0) else { throw .invalid("there is neither an input nor the attribute shape") }
    let first = try bool("input_as_shape") ? cast(given, .int64) : apply("Shape", [given])
    guard let extra = optionalInts("extra_shape"), !extra.isEmpty else { return first }
    guard extra.allSatisfy({ $0 >= 0 }) else {
      throw .invalid("extra_shape is \(extra); expected extents of 0 or more")
    }
    return try apply("Concat", [first, ints(extra)], [("axis", .int(0))])
  }
}
