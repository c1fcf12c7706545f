// Products with something more: FusedMatMul, TransposeMatMul, FusedGemm, GemmFastGelu.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
// Versions: 1.

import ApusGraph
import ApusTensor

let microsoftProducts: [any ImportRule] = [
  MicrosoftRewrite(
    "FusedMatMul", inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("Y", "T")],
    attributes: [
      .float("alpha", default: 1), .int("transA", default: 0), .int("transB", default: 0),
      .int("transBatchA", default: 0),
      .int("transBatchB", default: 0),
    ], types: ["T": .floats], widening: .always
  ) { r throws(OperatorError) in
    try r.finishProduct(
      try r.factor(0, transposes: r.bool("transA"), batch: r.bool("transBatchA")),
      try r.factor(1, transposes: r.bool("transB"), batch: r.bool("transBatchB")))
  },

  MicrosoftRewrite(
    "FusedMatMulActivation", inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("Y", "T")],
    attributes: [
      .required("activation", .string), .optional("activation_alpha", .float), .optional("activation_axis", .int),
      .optional("activation_beta", .float), .optional("activation_gamma", .float), .float("alpha", default: 1),
      .int("transA", default: 0), .int("transB", default: 0), .int("transBatchA", default: 0),
      .int("transBatchB", default: 0),
    ], types: ["T": .floats], widening: .always
  ) { r throws(OperatorError) in
    let a = try r.factor(0, transposes: r.bool("transA"), batch: r.bool("transBatchA"))
    let b = try r.factor(1, transposes: r.bool("transB"), batch: r.bool("transBatchB"))
    var product = try r.apply("MatMul", [a, b])
    let alpha = try r.float("alpha")
    if alpha != 1 { product = try r.apply("Mul", [product, r.scalar(alpha, r.type(product))]) }
    let activation = try r.string("activation")
    if activation == "Softmax" || activation == "LogSoftmax" {
      return try r.finish(activation, [product], [("axis", .int(r.optionalInt("activation_axis") ?? -1))])
    }
    let parameters = ["alpha", "beta", "gamma"].map { ($0, r.optionalFloat("activation_" + $0)) }
    try r.finishActivation(activation, parameters, of: product)
  },

  MicrosoftRewrite(
    "MatMulInteger16", inputs: [.required("A", "T1"), .required("B", "T2")], outputs: [.required("Y", "T3")],
    types: ["T1": [.int16, .uint16], "T2": [.int16, .uint16], "T3": [.int32, .uint32]]
  ) { r throws(OperatorError) in
    let types = [try r.type(r.input(0)), try r.type(r.input(1))]
    let type: DataType = types == [.uint16, .uint16] ? .uint32 : .int32
    try r.finish("MatMul", [try r.cast(r.required(0), type), try r.cast(r.required(1), type)])
  },

  MicrosoftRewrite(
    "TransposeMatMul", inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("Y", "T")],
    attributes: [.float("alpha", default: 1), .int("transA", default: 0), .int("transB", default: 0)],
    types: ["T": .floats], widening: .always
  ) { r throws(OperatorError) in
    try r.finishProduct(
      try r.factor(0, transposes: r.bool("transA"), batch: false),
      try r.factor(1, transposes: r.bool("transB"), batch: false))
  },

  MicrosoftRewrite(
    "FusedGemm", inputs: [.required("A", "T"), .required("B", "T"), .optional("C", "T")],
    outputs: [.required("Y", "T")],
    attributes: [
      .optional("activation", .string), .optional("activation_alpha", .float), .optional("activation_beta", .float),
      .optional("activation_gamma", .float), .float("alpha", default: 1), .float("beta", default: 1),
      .int("transA", default: 0), .int("transB", default: 0),
    ], types: ["T": .floats + [.uint32, .uint64, .int32, .int64]], widening: .always
  ) { r throws(OperatorError) in
    let attributes: [(String, AttributeValue)] = [
      ("transA", .int(try r.int("transA"))), ("transB", .int(try r.int("transB"))),
      ("alpha", .float(try r.float("alpha"))), ("beta", .float(try r.float("beta"))),
    ]
    let inputs = [try r.required(0), try r.required(1), r.input(2)]
    let activation = r.optionalString("activation") ?? ""
    if activation.isEmpty { return try r.finish("Gemm", inputs, attributes) }
    let parameters = ["alpha", "beta", "gamma"].map { ($0, r.optionalFloat("activation_" + $0)) }
    try r.finishActivation(activation, parameters, of: try r.apply("Gemm", inputs, attributes))
  },

  MicrosoftRewrite(
    "GemmFastGelu", inputs: [.required("X", "T"), .required("W", "T"), .optional("bias", "T")],
    outputs: [.required("Y", "T")], types: ["T": .microsoftFloats], widening: .always
  ) { r throws(OperatorError) in
    var product = try r.apply("MatMul", [r.required(0), r.required(1)])
    if let bias = r.input(2) { product = try r.apply("Add", [product, bias]) }
    try r.finish("Gelu", [product], [("approximate", .string("tanh"))])
  },
]

extension Rewriter {
  /// A factor of a product. `batch`: its first axis is that of the rows, and the axes of the batch follow.
  fileprivate mutating func factor(_ index: Int, transposes: Bool, batch: Bool) throws(OperatorError) -> ValueID {
    let value = try required(index)
    guard transposes || batch else { return value }
    guard let rank = shape(value)?.count else {
      let from = batch ? "i...j" : "...ij"
      return try apply("Einsum", [value], [("equation", .string("\(from)->...\(transposes ? "ji" : "ij")"))])
    }
    guard rank > 1 else { return value }
    var axes = Array(0..<rank)
    if batch { axes = Array(1..<rank - 1) + [0, rank - 1] }
    if transposes { axes.swapAt(rank - 2, rank - 1) }
    return axes == Array(0..<rank) ? value : try transpose(value, axes)
  }

  fileprivate mutating func finishProduct(_ a: ValueID, _ b: ValueID) throws(OperatorError) {
    let alpha = try float("alpha")
    if alpha == 1 { return try finish("MatMul", [a, b]) }
    let product = try apply("MatMul", [a, b])
    try finish("Mul", [product, try scalar(alpha, type(a))])
  }

  /// An activation by its name in fused operators takes the place of the node.
  mutating func finishActivation(
    _ name: String, _ parameters: [(name: String, value: Float?)], of value: ValueID
  ) throws(OperatorError) {
    if name == "Clip" {
      let type = try type(value)
      var limits: [ValueID?] = []
      for parameter in parameters.prefix(2) {
        limits.append(try parameter.value.map { (limit) throws(OperatorError) in try scalar(limit, type) })
      }
      return try finish("Clip", [value] + limits)
    }
    guard let kind = Activation.Kind.allCases.first(where: { $0 != .none && $0.operator == OperatorID(name) }) else {
      let known = Set(Activation.Kind.allCases.filter { $0 != .none }.compactMap { $0.operator?.name })
      throw .unsupported(
        "the activation '\(name)' is not known", remedy: "Known are " + known.sorted().joined(separator: ", "))
    }
    let known = kind.parameters.map(\.name)
    try finish(
      name, [value],
      parameters.compactMap { entry in
        known.contains(entry.name) ? entry.value.map { (entry.name, .float($0)) } : nil
      })
  }
}
