// Operators that move, pick and index: Trilu, GridSample, Pad, Unique, Range, ExpandDims, UnfoldTensor, CDist,
// RelativePositionBias, GatedRelativePositionBias.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1.

import ApusGraph
import ApusTensor

let microsoftMovements: [any ImportRule] = [
  MicrosoftRewrite(
    "Trilu", inputs: [.required("X", "T"), .optional("k", "tensor(int64)")], outputs: [.required("Y", "T")],
    attributes: [.int("upper", default: 1)], types: ["T": .numeric + .bool, "tensor(int64)": .int64]
  ) { r throws(OperatorError) in
    let k = try r.input(1).map { (_) throws(OperatorError) in try r.scalarInput(1) }
    try r.finish("Trilu", [try r.required(0), k], r.kept(["upper"]))
  },

  MicrosoftRewrite(
    "GridSample", inputs: [.required("X", "T1"), .required("Grid", "T1")], outputs: [.required("Y", "T2")],
    attributes: [
      .int("align_corners", default: 0), .string("mode", default: "bilinear"),
      .string("padding_mode", default: "zeros"),
    ], types: ["T1": .ieeeFloats, "T2": .ieeeFloats]
  ) { r throws(OperatorError) in
    let modes = ["bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"]
    let mode = try r.string("mode", oneOf: modes.keys.sorted())
    try r.finish(
      "GridSample", [try r.required(0), try r.required(1)],
      r.kept(["align_corners", "padding_mode"]) + [("mode", .string(modes[mode] ?? mode))])
  },

  MicrosoftRewrite(
    "Pad", inputs: [.required("data", "T"), .required("pads", "tensor(int64)"), .optional("value", "T")],
    outputs: [.required("output", "T")], attributes: [.string("mode", default: "constant")],
    types: ["T": .ieeeFloats, "tensor(int64)": .int64]
  ) { r throws(OperatorError) in
    let value = try r.input(2).map { (_) throws(OperatorError) in try r.scalarInput(2) }
    // [2 * rank] or [1, 2 * rank].
    try r.finish("Pad", [try r.required(0), try r.reshape(try r.required(1), [-1]), value], r.kept(["mode"]))
  },

  MicrosoftRewrite(
    "Unique", inputs: [.required("x", "T")],
    outputs: [.required("y", "T"), .required("idx", "tensor(int64)"), .required("counts", "tensor(int64)")],
    types: ["T": .allBeforeBFloat16, "tensor(int64)": .int64]
  ) { r throws(OperatorError) in
    let outputs = r.node.outputs
    try r.finish(
      "Unique", [try r.required(0)], [("sorted", .int(0))], outputs: [outputs[0], nil] + outputs.dropFirst())
  },

  MicrosoftRewrite(
    "Range", inputs: [.required("start", "T"), .required("limit", "T"), .optional("delta", "T")],
    outputs: [.required("Y", "T")], types: ["T": [.float32, .float64, .int16, .int32, .int64]]
  ) { r throws(OperatorError) in
    let (start, limit) = (try r.scalarInput(0), try r.scalarInput(1))
    let delta: ValueID
    if r.input(2) == nil { delta = try r.scalar(1, r.type(start)) } else { delta = try r.scalarInput(2) }
    try r.finish("Range", [start, limit, delta])
  },

  MicrosoftRewrite(
    "ExpandDims", inputs: [.required("X", "T"), .required("axis", "tensor(int32)")], outputs: [.required("Y", "T")],
    types: ["T": .allBeforeBFloat16, "tensor(int32)": .int32]
  ) { r throws(OperatorError) in
    try r.finish("Unsqueeze", [try r.required(0), try r.cast(r.reshape(r.required(1), [1]), .int64)])
  },

  MicrosoftRewrite(
    "GatherND", inputs: [.required("data", "T"), .required("indices", "Tind")], outputs: [.required("output", "T")],
    types: ["T": .allBeforeBFloat16 + [.bfloat16], "Tind": .indices]
  ) { r throws(OperatorError) in
    try r.finish("GatherND", [try r.required(0), try r.cast(r.required(1), .int64)])
  },

  MicrosoftRewrite(
    "TorchEmbedding",
    inputs: [
      .required("weight", "T"), .required("indices", "tensor(int64)"), .optional("padding_idx", "tensor(int64)"),
      .optional("scale_grad_by_freq", "tensor(bool)"),
    ],
    outputs: [.required("Y", "T")], types: ["T": .numeric, "tensor(int64)": .int64, "tensor(bool)": .bool]
  ) { r throws(OperatorError) in try r.finish("Gather", [try r.required(0), try r.required(1)]) },

  MicrosoftRewrite(
    "UnfoldTensor", inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.int("dim", default: -1), .required("size", .int), .int("step", default: 1)],
    types: ["T": .allBeforeBFloat16 + [.bfloat16]]
  ) { r throws(OperatorError) in
    let x = try r.required(0)
    let rank = try r.rank(x)
    let axis = try resolveAxis(try r.int("dim"), rank: rank, name: "dim")
    let (size, step) = (try r.int("size"), try r.int("step"))
    guard size > 0, step > 0 else { throw .invalid("size is \(size) and step \(step); expected positive numbers") }
    guard size <= WindowAttributes.limit, r.shape(x)?[axis].known.map({ size <= $0 }) ?? true else {
      throw .invalid(
        "windows of \(size) elements do not fit into axis \(axis) of the input, \(r.shape(x)?[axis] ?? .unknown)")
    }
    // One row of indices for each window, then the axis of a window to the end.
    let end = try r.apply("Sub", [r.squeeze(r.extent(x, axis), [0]), r.int(size - 1)])
    let starts = try r.unsqueeze(r.apply("Range", [r.int(0), end, r.int(step)]), [1])
    let steps = try r.apply("Range", [r.int(0), r.int(size), r.int(1)])
    let windows = try r.apply("Gather", [x, r.apply("Add", [starts, steps])], [("axis", .int(axis))])
    let perm = Array(0...axis) + Array(axis + 2..<rank + 1) + [axis + 1]
    try r.finish("Transpose", [windows], [("perm", .ints(perm))])
  },

  MicrosoftRewrite(
    "CDist", inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T")],
    attributes: [.string("metric", default: "sqeuclidean")], types: ["T": [.float32, .float64]]
  ) { r throws(OperatorError) in
    let metric = try r.string("metric", oneOf: ["euclidean", "sqeuclidean"])
    let (a, b) = (try r.required(0), try r.required(1))
    // |a|² - 2 a·b + |b|², which rounding may bring below 0.
    let squares = try r.apply(
      "Add",
      [
        r.apply("ReduceSumSquare", [a, r.ints([1])]),
        r.transpose(r.apply("ReduceSumSquare", [b, r.ints([1])]), [1, 0]),
      ])
    let product = try r.apply("Gemm", [a, b, squares], [("alpha", .float(-2)), ("transB", .int(1))])
    if metric == "sqeuclidean" { return try r.finish("Max", [product, try r.scalar(0, r.type(a))]) }
    try r.finish("Sqrt", [try r.apply("Max", [product, r.scalar(0, r.type(a))])])
  },

  MicrosoftRewrite(
    "RelativePositionBias",
    inputs: [.required("bias_table", "T"), .required("query_length", "U"), .required("key_length", "U")],
    outputs: [.required("output", "T")],
    attributes: [.int("is_bidirectional", default: 0), .required("max_distance", .int)],
    types: ["T": [.float32, .float16], "U": .int64]
  ) { r throws(OperatorError) in try r.finishRelativePositionBias() },

  MicrosoftRewrite(
    "GatedRelativePositionBias",
    inputs: [
      .required("query_layer", "T"), .required("query_bias", "T"), .required("rel_pos", "T"), .required("weight", "T"),
      .required("bias", "T"), .required("eco_a", "T"), .optional("token_offset", "M"),
    ],
    outputs: [.required("output", "T")], attributes: [.required("num_heads", .int)],
    types: ["T": [.float32, .float16], "M": .int32], widening: .always
  ) { r throws(OperatorError) in
    if r.input(6) != nil { throw .unsupported("token_offset (padding removed) is not supported") }
    let query = try r.apply("Add", [r.required(0), r.required(1)])
    let type = try r.type(query)
    let heads = try r.transpose(r.reshape(query, [0, 0, r.int("num_heads"), -1]), [0, 2, 1, 3])
    // Two sums of half the columns each, [batch, heads, length, 2].
    let product = try r.apply("Add", [r.apply("MatMul", [heads, r.required(3)]), r.required(4)])
    let halves = try r.reshape(product, [0, 0, 0, 2, -1])
    let gates = try r.apply("Sigmoid", [r.apply("ReduceSum", [halves, r.ints([-1])], [("keepdims", .int(0))])])
    let parts = try r.split(gates, 3, sizes: [1, 1])
    let inner = try r.apply("Sub", [r.apply("Mul", [parts[1], r.required(5)]), r.scalar(1, type)])
    let gate = try r.apply("Add", [r.apply("Mul", [parts[0], inner]), r.scalar(2, type)])
    try r.finish("Mul", [gate, try r.required(2)])
  },
]

extension Rewriter {
  /// The buckets of T5: near distances one by one, far ones by their logarithm.
  fileprivate mutating func finishRelativePositionBias() throws(OperatorError) {
    let table = try required(0)
    let isBidirectional = try bool("is_bidirectional")
    let count = try squeeze(extent(table, 0), [0])
    let buckets = isBidirectional ? try apply("Div", [count, int(2)]) : count
    let exact = try apply("Div", [buckets, int(2)])
    let (queries, keys) = (try scalarInput(1), try scalarInput(2))
    let rows = try unsqueeze(apply("Range", [int(0), queries, int(1)]), [1])
    let relative = try apply("Sub", [apply("Range", [int(0), keys, int(1)]), rows])
    // Distances to keys behind the query; keys ahead have a half of their own, or count as 0.
    var distance: ValueID
    if isBidirectional {
      distance = try apply("Abs", [relative])
    } else {
      distance = try apply("Max", [apply("Neg", [relative]), int(0)])
    }
    let isNear = try apply("Less", [distance, exact])
    let exactNumber = try cast(exact, .float32)
    let number = try cast(apply("Max", [distance, int(1)]), .float32)
    let ratio = try apply("Log", [apply("Div", [number, exactNumber])])
    let span = try apply("Log", [apply("Div", [scalar(Float(int("max_distance")), .float32), exactNumber])])
    let steps = try apply("Mul", [apply("Div", [ratio, span]), cast(apply("Sub", [buckets, exact]), .float32)])
    let far = try apply("Min", [apply("Add", [cast(steps, .int64), exact]), apply("Sub", [buckets, int(1)])])
    distance = try apply("Where", [isNear, distance, far])
    if isBidirectional {
      let isAhead = try apply("Greater", [relative, int(0)])
      distance = try apply("Add", [distance, apply("Where", [isAhead, buckets, int(0)])])
    }
    // [queries, keys, heads] to [1, heads, queries, keys].
    let bias = try transpose(apply("Gather", [table, distance]), [2, 0, 1])
    try finish("Unsqueeze", [bias, ints([0])])
  }
}
