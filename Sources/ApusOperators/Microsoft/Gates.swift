// Small operators of newer language models: GatedRMSNorm, GatedAdd, LinearAttentionGate, ScaledSiLU, BranchwiseRMSNorm,
// MRotaryEmbedding. https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1. Computed in float32 but for GatedAdd and ScaledSiLU, which round every result to the type of the input.

import ApusGraph
import ApusTensor

let microsoftGates: [any ImportRule] = [
  MicrosoftRewrite(
    "GatedRMSNorm", inputs: [.required("X", "T"), .required("scale", "T"), .required("gate", "T")],
    outputs: [.required("Y", "T")],
    attributes: [.string("activation", default: "silu"), .float("epsilon", default: 1e-5)],
    types: ["T": .microsoftFloats]
  ) { r throws(OperatorError) in
    let activation = try r.string("activation", oneOf: ["silu", "swish", "sigmoid"]) == "sigmoid" ? "Sigmoid" : "Swish"
    let x = try r.required(0)
    // Groups of as many columns as the scale has.
    let shape = try r.apply("Shape", [x])
    let wide = try r.cast(x, .float32)
    let rows = try r.apply("Shape", [x], [("end", .int(-1))])
    let groups = try r.apply(
      "Reshape", [wide, r.apply("Concat", [rows, r.ints([-1]), r.extent(r.required(1), 0)], [("axis", .int(0))])])
    let normalized = try r.apply(
      "RMSNormalization", [groups, r.cast(r.required(1), .float32)], [("epsilon", .float(try r.float("epsilon")))])
    let gate = try r.apply(activation, [r.cast(r.required(2), .float32)])
    let product = try r.apply("Mul", [r.apply("Reshape", [normalized, shape]), gate])
    try r.finish("Cast", [product], [("to", .int(Int(try r.type(x).rawValue)))])
  },

  MicrosoftRewrite(
    "GatedAdd", inputs: [.required("X", "T"), .required("Y", "T"), .required("gate", "T")],
    outputs: [.required("output", "T")], types: ["T": .microsoftFloats], widening: .always
  ) { r throws(OperatorError) in
    try r.finish("Add", [try r.required(0), try r.apply("Mul", [r.required(1), r.required(2)])])
  },

  MicrosoftRewrite(
    "LinearAttentionGate",
    inputs: [.required("a", "T"), .required("dt_bias", "TF"), .required("decay_scale", "TF"), .optional("b", "T")],
    outputs: [.required("decay", "T"), .optional("beta", "T")], types: ["T": .microsoftFloats, "TF": .float32]
  ) { r throws(OperatorError) in
    let a = try r.required(0)
    let to: [(String, AttributeValue)] = [("to", .int(Int(try r.type(a).rawValue)))]
    if r.isWanted(1) {
      let beta = try r.apply("Sigmoid", [r.cast(r.required(3), .float32)])
      try r.apply("Cast", [beta], to, outputs: [r.output(1)])
    }
    let sum = try r.apply("Add", [r.cast(a, .float32), r.required(1)])
    try r.finish("Cast", [try r.apply("Mul", [r.apply("Softplus", [sum]), r.required(2)])], to)
  },

  MicrosoftRewrite(
    "ScaledSiLU", inputs: [.required("X", "T"), .optional("scale", "M")], outputs: [.required("Y", "T")],
    attributes: [.float("alpha", default: 1)], types: ["T": .microsoftFloats, "M": .microsoftFloats], widening: .always
  ) { r throws(OperatorError) in
    let factor = r.input(1) == nil ? try r.scalar(r.float("alpha"), .float32) : try r.scalarInput(1)
    let scaled = try r.apply("Mul", [r.required(0), factor])
    try r.finish("Mul", [scaled, try r.apply("Sigmoid", [scaled])])
  },

  MicrosoftRewrite(
    "BranchwiseRMSNorm", inputs: [.required("X", "T"), .optional("scale", "M")], outputs: [.required("Y", "T")],
    attributes: [.float("epsilon", default: 1e-5), .int("num_branches", default: 0)],
    types: ["T": .microsoftFloats, "M": .microsoftFloats]
  ) { r throws(OperatorError) in
    let x = try r.required(0)
    let (shape, branches) = (try r.apply("Shape", [x]), try r.int("num_branches"))
    var wide = try r.cast(x, .float32)
    guard branches >= 0 else { throw .invalid("num_branches is \(branches); expected 0 or more") }
    if branches > 0 {
      let outer = try r.apply("Shape", [x], [("end", .int(-1))])
      wide = try r.apply("Reshape", [wide, r.apply("Concat", [outer, r.ints([branches, -1])], [("axis", .int(0))])])
    }
    let squares = try r.apply("ReduceMean", [r.apply("Mul", [wide, wide]), r.ints([-1])])
    let deviation = try r.apply("Sqrt", [r.apply("Add", [squares, r.scalar(r.float("epsilon"), .float32)])])
    var y = try r.apply("Div", [wide, deviation])
    if let scale = r.input(1) {
      // [branches * columns], [branches, columns] or [columns].
      let rows = try r.apply("Concat", [r.ints([-1]), r.extent(wide, -1)], [("axis", .int(0))])
      y = try r.apply("Mul", [y, r.apply("Reshape", [r.cast(scale, .float32), rows])])
    }
    try r.finish("Cast", [try r.apply("Reshape", [y, shape])], [("to", .int(Int(try r.type(x).rawValue)))])
  },

  MicrosoftRewrite(
    "MRotaryEmbedding",
    inputs: [
      .required("input", "T"), .required("position_ids", "M"), .required("cos_cache", "T"), .required("sin_cache", "T"),
    ],
    outputs: [.required("output", "T")],
    attributes: [
      .int("interleaved", default: 0), .int("is_packed_batching", default: 0), .int("mrope_layout", default: 0),
      .required("mrope_section", .ints), .int("num_heads", default: 0), .int("rotary_embedding_dim", default: 0),
      .float("scale", default: 1),
    ], types: ["T": .microsoftFloats, "M": .int64]
  ) { r throws(OperatorError) in try r.finishSectionedRotation() },
]

extension Rewriter {
  /// A rotation whose angles come from three positions, each for some of the columns.
  fileprivate mutating func finishSectionedRotation() throws(OperatorError) {
    guard try float("scale") == 1 else { throw .unsupported("scale is not 1") }
    if try bool("is_packed_batching") { throw .unsupported("is_packed_batching is not supported") }
    let (x, sections, layout) = (try required(0), try ints("mrope_section"), try int("mrope_layout"))
    guard sections.count == 3, sections.allSatisfy({ $0 >= 0 && $0 < 1 << 20 }), layout == 0 || layout == 1 else {
      throw .invalid("mrope_section is \(sections) and mrope_layout \(layout); expected three counts, and 0 or 1")
    }
    let half = sections.reduce(0, +)
    for (index, name) in [(2, "cos_cache"), (3, "sin_cache")] {
      if let width = shape(input(index))?.last, width.isSurelyDifferent(from: Dim(half)) {
        throw .mismatch("mrope_section adds up to \(half); \(name) has \(width) columns")
      }
    }
    // The position that each column follows.
    let owners: [Int] =
      layout == 0
      ? (0..<3).flatMap { [Int](repeating: $0, count: sections[$0]) }
      : (0..<half).map { $0 % 3 > 0 && $0 < 3 * sections[$0 % 3] ? $0 % 3 : 0 }
    var tables: [ValueID] = []
    for index in 2...3 {
      // [3, batch, length, half], of which each column is one position's.
      let rows = try apply("Gather", [required(index), required(1)])
      let parts = try split(rows, 0, sizes: [1, 1, 1])
      var mixed = parts[0]
      for owner in 1...2 {
        let mine = constant(Tensor(owners.map { $0 == owner }))
        mixed = try apply("Where", [mine, parts[owner], mixed])
      }
      tables.append(try squeeze(mixed, [0]))
    }
    var attributes: [(String, AttributeValue)] = kept(["interleaved", "rotary_embedding_dim"])
    var heads = try int("num_heads")
    if try rank(x) == 3 {
      if heads == 0 {
        guard let hidden = shape(x)?[2].known, half > 0 else {
          throw .unsupported("num_heads is missing, and the size of a head is not known before running")
        }
        heads = hidden / (2 * half)
      }
      attributes.append(("num_heads", .int(heads)))
    }
    try finish("RotaryEmbedding", [x] + tables, attributes)
  }
}
