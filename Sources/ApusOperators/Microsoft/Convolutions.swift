// Convolutions and pools with something more, or with channels at the end: FusedConv, NhwcConv, NhwcMaxPool,
// QLinearConv, ConvTransposeWithDynamicPads, CausalConvWithState.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md Versions: 1.

import ApusGraph
import ApusTensor

private let windowAttributes: [AttributeSchema] = [
  .string("auto_pad", default: "NOTSET"), .optional("dilations", .ints), .optional("kernel_shape", .ints),
  .optional("pads", .ints), .optional("strides", .ints),
]

let microsoftConvolutions: [any ImportRule] = [
  MicrosoftRewrite(
    "FusedConv", inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T"), .optional("Z", "T")],
    outputs: [.required("Y", "T")],
    attributes: windowAttributes + [
      .optional("activation", .string), .optional("activation_params", .floats), .int("group", default: 1),
    ], types: ["T": .ieeeFloats], widening: .always
  ) { r throws(OperatorError) in
    let inputs = [try r.required(0), try r.required(1), r.input(2)]
    let attributes = r.kept(["auto_pad", "dilations", "kernel_shape", "pads", "strides", "group"])
    let activation = r.optionalString("activation") ?? ""
    if activation.isEmpty && r.input(3) == nil { return try r.finish("Conv", inputs, attributes) }
    let product = try r.apply("Conv", inputs, attributes)
    guard !activation.isEmpty else { return try r.finish("Add", [product, r.input(3)]) }
    let sum = try r.input(3).map { (z) throws(OperatorError) in try r.apply("Add", [product, z]) } ?? product
    let parameters = r.optionalFloats("activation_params") ?? []
    try r.finishActivation(
      activation, zip(["alpha", "beta"], parameters).map { ($0, .some($1)) }, of: sum)
  },

  MicrosoftRewrite(
    "NhwcConv", inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T")], outputs: [.required("Y", "T")],
    attributes: windowAttributes + [.int("group", default: 1)], types: ["T": .ieeeFloats]
  ) { r throws(OperatorError) in
    let x = try r.toChannelsFirst(r.required(0))
    let w = try r.toChannelsFirst(r.required(1))
    let y = try r.apply(
      "Conv", [x, w, r.input(2)], r.kept(["auto_pad", "dilations", "kernel_shape", "pads", "strides", "group"]))
    try r.finish("Transpose", [y], [("perm", .ints(Rewriter.channelsLast(rank: try r.rank(x))))])
  },

  MicrosoftRewrite(
    "NhwcFusedConv", inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T"), .optional("Z", "T")],
    outputs: [.required("Y", "T")],
    attributes: windowAttributes + [
      .optional("activation", .string), .optional("activation_params", .floats), .int("group", default: 1),
    ], types: ["T": [.float16, .float32]], widening: .always
  ) { r throws(OperatorError) in
    // The weights have their channels behind the filters, as those of Conv.
    let x = try r.toChannelsFirst(r.required(0))
    let attributes = r.kept(["auto_pad", "dilations", "kernel_shape", "pads", "strides", "group"])
    let product = try r.apply("Conv", [x, r.required(1), r.input(2)], attributes)
    let perm: [(String, AttributeValue)] = [("perm", .ints(Rewriter.channelsLast(rank: try r.rank(x))))]
    let activation = r.optionalString("activation") ?? ""
    if activation.isEmpty && r.input(3) == nil { return try r.finish("Transpose", [product], perm) }
    var sum = try r.apply("Transpose", [product], perm)
    guard !activation.isEmpty else { return try r.finish("Add", [sum, r.input(3)]) }
    if let z = r.input(3) { sum = try r.apply("Add", [sum, z]) }
    let parameters = r.optionalFloats("activation_params") ?? []
    try r.finishActivation(activation, zip(["alpha", "beta"], parameters).map { ($0, .some($1)) }, of: sum)
  },

  MicrosoftRewrite(
    "NhwcMaxPool", inputs: [.required("x", "T")], outputs: [.required("y", "T")],
    attributes: [
      .string("auto_pad", default: "NOTSET"), .int("ceil_mode", default: 0), .optional("dilations", .ints),
      .required("kernel_shape", .ints), .optional("pads", .ints), .optional("strides", .ints),
    ], types: ["T": .bytes]
  ) { r throws(OperatorError) in
    let x = try r.toChannelsFirst(r.required(0))
    let y = try r.apply(
      "MaxPool", [x], r.kept(["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"]))
    try r.finish("Transpose", [y], [("perm", .ints(Rewriter.channelsLast(rank: try r.rank(x))))])
  },

  MicrosoftRewrite(
    "QLinearConv",
    inputs: [
      .required("x", "T1"), .required("x_scale", "tensor(float)"), .required("x_zero_point", "T1"),
      .required("w", "T2"),
      .required("w_scale", "tensor(float)"), .required("w_zero_point", "T2"), .required("y_scale", "tensor(float)"),
      .required("y_zero_point", "T3"), .optional("B", "T4"),
    ],
    outputs: [.required("y", "T3")],
    attributes: windowAttributes + [.int("group", default: 1), .int("channels_last", default: 0)],
    types: ["T1": .bytes, "T2": .bytes, "T3": .bytes, "T4": .int32, "tensor(float)": .float32]
  ) { r throws(OperatorError) in
    let attributes = r.kept(["auto_pad", "dilations", "kernel_shape", "pads", "strides", "group"])
    let parameters = r.node.inputs.dropFirst()
    guard try r.bool("channels_last") else {
      return try r.finish("QLinearConv", [try r.required(0)] + parameters, attributes)
    }
    let x = try r.toChannelsFirst(r.required(0))
    let y = try r.apply("QLinearConv", [x] + parameters, attributes)
    try r.finish("Transpose", [y], [("perm", .ints(Rewriter.channelsLast(rank: try r.rank(x))))])
  },

  MicrosoftRewrite(
    "ConvTransposeWithDynamicPads",
    inputs: [.required("X", "T"), .required("W", "T"), .optional("Pads", "tensor(int64)"), .optional("B", "T")],
    outputs: [.required("Y", "T")],
    attributes: [
      .string("auto_pad", default: "NOTSET"), .optional("dilations", .ints), .int("group", default: 1),
      .optional("kernel_shape", .ints), .optional("output_padding", .ints), .optional("strides", .ints),
    ], types: ["T": .ieeeFloats, "tensor(int64)": .int64]
  ) { r throws(OperatorError) in
    let inputs = [try r.required(0), try r.required(1), r.input(3)]
    let attributes = r.kept(["auto_pad", "dilations", "kernel_shape", "output_padding", "strides", "group"])
    guard let pads = r.input(2) else { return try r.finish("ConvTranspose", inputs, attributes) }
    if let known = r.constant(pads)?.integers, known.allSatisfy({ $0 >= 0 }) {
      return try r.finish("ConvTranspose", inputs, attributes + [("pads", .ints(known))])
    }
    // The whole result without its margins.
    let whole = try r.apply("ConvTranspose", inputs, attributes)
    let axes = try r.rank(r.required(0)) - 2
    let begin = try r.slice(pads, 0, from: 0, to: axes)
    let end = try r.slice(pads, 0, from: axes, to: 2 * axes)
    let extents = try r.apply("Shape", [whole], [("start", .int(2))])
    try r.finish("Slice", [whole, begin, try r.apply("Sub", [extents, end]), r.ints(Array(2..<axes + 2))])
  },

  MicrosoftRewrite(
    "CausalConvWithState",
    inputs: [.required("input", "T"), .required("weight", "T"), .optional("bias", "T"), .optional("past_state", "T")],
    outputs: [.required("output", "T"), .required("present_state", "T")],
    attributes: [
      .string("activation", default: "none"), .int("channels_last", default: 0), .int("dilation", default: 1),
      .int("ndim", default: 1), .int("state_window", default: 0),
    ], types: ["T": .microsoftFloats]
  ) { r throws(OperatorError) in
    for (name, expected) in [("dilation", 1), ("ndim", 1), ("state_window", 0)] {
      let value = try r.int(name)
      guard value == expected else { throw .unsupported("\(name) is \(value); only \(expected) is supported") }
    }
    let attributes = r.kept(["activation"])
    guard try r.bool("channels_last") else {
      return try r.finish("CausalConvWithState", r.node.inputs, attributes, outputs: r.node.outputs)
    }
    // Input, output and states have the channels at the end.
    let x = try r.transpose(r.required(0), [0, 2, 1])
    let past = try r.input(3).map { (past) throws(OperatorError) in try r.transpose(past, [0, 2, 1]) }
    let results = [r.newValue(), r.newValue()]
    try r.apply("CausalConvWithState", [x, r.input(1), r.input(2), past], attributes, outputs: results)
    if r.isWanted(1) { try r.apply("Transpose", [results[1]], [("perm", .ints([0, 2, 1]))], outputs: [r.output(1)]) }
    try r.finish("Transpose", [results[0]], [("perm", .ints([0, 2, 1]))])
  },
]

extension Rewriter {
  /// The attributes of the node with these names, as they are.
  func kept(_ names: [String]) -> [(String, AttributeValue)] {
    names.compactMap { name in node.attributes[name].map { (name, $0) } }
  }
}
