// SparseAttention: grouped-query attention in which a query sees some blocks of keys only.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.SparseAttention
// Versions: 1. Read as GroupQueryAttention with the blocks as a mask.

import ApusGraph
import ApusTensor

let microsoftSparseAttention = MicrosoftRewrite(
  "SparseAttention",
  inputs: [
    .required("query", "T"), .optional("key", "T"), .optional("value", "T"), .required("past_key", "T"),
    .required("past_value", "T"), .required("block_row_indices", "M"), .required("block_col_indices", "M"),
    .required("total_sequence_length", "M", readWhenPlanning: true), .required("key_total_sequence_lengths", "M"),
    .optional("cos_cache", "T"), .optional("sin_cache", "T"),
  ],
  outputs: [.required("output", "T"), .required("present_key", "T"), .required("present_value", "T")],
  attributes: [
    .int("do_rotary", default: 0), .required("kv_num_heads", .int), .required("num_heads", .int),
    .int("rotary_interleaved", default: 0), .optional("scale", .float), .required("sparse_block_size", .int),
  ], types: ["T": .microsoftFloats, "M": .int32]
) { r throws(OperatorError) in
  let ends = try r.required(8)
  let mask = try r.blockMask(ends: ends)
  let lengths = try r.apply("Sub", [ends, r.constant(Tensor(scalar: Int32(1)))])
  try r.finish(
    "GroupQueryAttention", domain: "com.microsoft",
    [
      try r.required(0), r.input(1), r.input(2), try r.required(3), try r.required(4), lengths, try r.required(7),
      r.input(9), r.input(10), nil, mask,
    ],
    r.kept(["do_rotary", "kv_num_heads", "num_heads", "rotary_interleaved", "scale"]), outputs: r.node.outputs)
}

extension Rewriter {
  /// [batch, heads, queries, keys] of 0 for keys in a block that the query sees, and -infinity. `ends`: keys by batch.
  fileprivate mutating func blockMask(ends: ValueID) throws(OperatorError) -> ValueID {
    let (query, heads) = (try required(0), try int("num_heads"))
    let blockSize = try int("sparse_block_size")
    guard blockSize > 0, blockSize <= 1 << 20 else {
      throw .invalid("sparse_block_size is \(blockSize); expected a positive number")
    }
    guard let layouts = shape(input(5))?.first?.known, layouts > 0, heads > 0, heads % layouts == 0 else {
      throw .mismatch(
        "block_row_indices is \(shape(input(5))?.text ?? "unknown"); expected [layouts, blocks + 1], and \(heads) "
          + "heads to be a multiple of the layouts")
    }
    // By layout, row and column of blocks.
    let rowIndices = try cast(required(5), .int64)
    let columns = try cast(required(6), .int64)
    let entries = try apply("Range", [int(0), squeeze(extent(columns, 1), [0]), int(1)])
    let blocks = try apply("Sub", [squeeze(extent(rowIndices, 1), [0]), int(1)])
    let first = try unsqueeze(apply("Slice", [rowIndices, ints([0]), ints([-1]), ints([1])]), [2])
    let end = try unsqueeze(apply("Slice", [rowIndices, ints([1]), ints([Int(Int32.max)]), ints([1])]), [2])
    let isEntry = try apply("And", [apply("GreaterOrEqual", [entries, first]), apply("Less", [entries, end])])
    let isColumn = try apply("Equal", [unsqueeze(columns, [2]), apply("Range", [int(0), blocks, int(1)])])
    let counts = try apply("MatMul", [cast(isEntry, .float32), cast(isColumn, .float32)])
    // By layout, image, query and key.
    let total = try cast(scalarInput(7), .int64)
    let length = try squeeze(extent(query, 1), [0])
    // A prompt begins at 0, whatever padding it has; other queries are the last of their image.
    let isPrompt = try apply("Equal", [total, length])
    let starts = try apply("Where", [isPrompt, int(0), apply("Sub", [cast(ends, .int64), length])])
    let positions = try apply(
      "Add", [unsqueeze(starts, [1]), unsqueeze(apply("Range", [int(0), length, int(1)]), [0])])
    let queryBlocks = try apply("Div", [apply("Max", [positions, int(0)]), int(blockSize)])
    let ofQueries = try apply("Gather", [counts, queryBlocks], [("axis", .int(1))])
    let keys = try apply("Div", [apply("Range", [int(0), total, int(1)]), int(blockSize)])
    let seen = try apply("Greater", [apply("Gather", [ofQueries, keys], [("axis", .int(3))]), scalar(0, .float32)])
    let type = try type(query)
    let mask = try apply("Where", [seen, scalar(0, type), scalar(-.infinity, type)])
    let byImage = try transpose(mask, [1, 0, 2, 3])
    return layouts == 1 ? byImage : try apply("Tile", [byImage, ints([1, heads / layouts, 1, 1])])
  }
}
