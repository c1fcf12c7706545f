// Gelu and its kin with a bias, and the other element-wise operators: BiasGelu, FastGelu, QuickGelu, Gelu,
// BiasSplitGelu, BiasAdd, BiasSoftmax, SampleOp.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md Versions: 1.

import ApusGraph
import ApusTensor

let microsoftActivations: [any ImportRule] = [
  MicrosoftRewrite(
    "Gelu", inputs: [.required("X", "T")], outputs: [.required("Y", "T")], types: ["T": .floats]
  ) { r throws(OperatorError) in try r.finish("Gelu", [try r.required(0)]) },

  MicrosoftRewrite(
    "BiasGelu", inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T")],
    types: ["T": .floats], widening: .always
  ) { r throws(OperatorError) in try r.finish("Gelu", [try r.apply("Add", [r.required(0), r.required(1)])]) },

  MicrosoftRewrite(
    "FastGelu", inputs: [.required("X", "T"), .optional("bias", "T")], outputs: [.required("Y", "T")],
    types: ["T": .floats], widening: .with(input: 1)
  ) { r throws(OperatorError) in
    var x = try r.required(0)
    if let bias = r.input(1) { x = try r.apply("Add", [x, bias]) }
    try r.finish("Gelu", [x], [("approximate", .string("tanh"))])
  },

  MicrosoftRewrite(
    "QuickGelu", inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    attributes: [.float("alpha", default: 1.702)], types: ["T": .floats]
  ) { r throws(OperatorError) in try r.finish("Swish", [try r.required(0)], [("alpha", .float(try r.float("alpha")))])
  },

  MicrosoftRewrite(
    "BiasSplitGelu", inputs: [.required("X", "T"), .required("bias", "T")], outputs: [.required("Y", "T")],
    types: ["T": [.float16, .float32]], widening: .always
  ) { r throws(OperatorError) in
    let sum = try r.apply("Add", [r.required(0), r.required(1)])
    let halves = [r.newValue(), r.newValue()]
    try r.apply("Split", [sum], [("axis", .int(-1)), ("num_outputs", .int(2))], outputs: halves)
    try r.finish("Mul", [halves[0], try r.apply("Gelu", [halves[1]])])
  },

  MicrosoftRewrite(
    "BiasAdd", inputs: [.required("X", "T"), .required("bias", "T"), .required("skip", "T")],
    outputs: [.required("Y", "T")], types: ["T": [.float16, .float32]], widening: .always
  ) { r throws(OperatorError) in
    try r.finish("Add", [try r.apply("Add", [r.required(0), r.required(1)]), try r.required(2)])
  },

  MicrosoftRewrite(
    "BiasSoftmax", inputs: [.required("data", "T"), .required("bias", "T")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: 1), .required("is_inner_broadcast", .int)], types: ["T": .ieeeFloats],
    widening: .always
  ) { r throws(OperatorError) in
    // The bias broadcasts as that of Add, which the operator is made of; is_inner_broadcast says over which axes.
    let rank = try r.rank(r.required(0))
    let position = try resolveAxis(try r.int("axis"), rank: rank)
    let sum = try r.apply("Add", [r.required(0), r.required(1)])
    // The softmax runs over all axes from `axis` on.
    guard position < rank - 1 else { return try r.finish("Softmax", [sum], [("axis", .int(-1))]) }
    let flat = try r.reshape(sum, [Int](repeating: 0, count: position) + [-1])
    let result = try r.apply("Softmax", [flat], [("axis", .int(-1))])
    try r.finish("Reshape", [result, try r.apply("Shape", [sum])])
  },

  MicrosoftRewrite(
    "SampleOp", inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    types: ["T": [.uint32, .uint64, .int32, .int64, .float16, .float32, .float64]]
  ) { r throws(OperatorError) in try r.finish("Identity", [try r.required(0)]) },
]
