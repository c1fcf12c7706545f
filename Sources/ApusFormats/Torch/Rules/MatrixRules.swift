// Products of matrices, and attention.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let matrixTable: [String: TorchRule] = [
    "linear": linear, "mm": product, "bmm": product, "matmul": product, "dot": product, "mv": product, "vdot": product,
    "inner": innerProduct, "linalg_matmul": product, "addmm": addProduct, "addmv": addBatchedProduct,
    "addbmm": refusedProduct, "baddbmm": addBatchedProduct, "einsum": einsum, "outer": outer, "ger": outer,
    "bilinear": bilinear, "_weight_norm": weightNorm, "_weight_norm_interface": weightNorm, "cdist": distances,
    "_cdist_forward": distances, "cosine_similarity": cosineSimilarity, "pairwise_distance": pairwiseDistance,
    "trace": trace, "_trilinear": trilinear, "linalg_multi_dot": chainProduct, "chain_matmul": chainProduct,
    "_addmm_activation": addProduct,
  ]

  static let attentionTable: [String: TorchRule] = [
    "scaled_dot_product_attention": attention, "_scaled_dot_product_flash_attention_for_cpu": attention,
    "_scaled_dot_product_flash_attention": attention, "_scaled_dot_product_efficient_attention": attention,
    "_scaled_dot_product_attention_math": attention,
    "_scaled_dot_product_fused_attention_overrideable": attention,
    "_native_multi_head_attention": multiHeadAttention, "_transformer_encoder_layer_fwd": encoderLayer,
  ]

  private static func refusedProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    throw .unsupported("this product", remedy: "Call run_decompositions() before the model is saved")
  }

  private static func product(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    return [
      try call.layers.emit(
        "MatMul",
        [
          try call.layers.cast(try call.tensor(at: 0), to: type),
          try call.layers.cast(try call.tensor(at: 1), to: type),
        ])
    ]
  }

  private static func innerProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (a, b) = (try call.tensor("self"), try call.tensor("other"))
    guard try call.layers.rank(b) <= 2, try call.layers.rank(a) > 0, try call.layers.rank(b) > 0 else {
      throw .unsupported("inner of more than matrices")
    }
    let right = try call.layers.rank(b) == 2 ? call.lowering.swapped(b) : b
    return [try call.layers.emit("MatMul", [a, right])]
  }

  private static func chainProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let values = try call.tensors(call.has("tensors") ? "tensors" : "matrices")
    guard var result = values.first else { throw .invalid("there are no tensors") }
    for value in values.dropFirst() { result = try call.layers.emit("MatMul", [result, value]) }
    return [result]
  }

  /// `input · weightᵀ + bias`.
  private static func linear(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try linear(try call.tensor("input"), try call.tensor("weight"), try call.optional("bias"), call)]
  }

  static func linear(
    _ value: ValueID, _ weight: ValueID, _ bias: ValueID?, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    if try layers.rank(value) == 2, try layers.rank(weight) == 2 {
      return try layers.emit("Gemm", [value, weight, bias], [("transB", .int(1))])
    }
    let right = try layers.rank(weight) == 2 ? call.lowering.swapped(weight) : weight
    let result = try layers.emit("MatMul", [value, right])
    return try bias.map { (bias) throws(OperatorError) in try layers.emit("Add", [result, bias]) } ?? result
  }

  private static func scale(_ name: String, _ call: TorchCall) throws(OperatorError) -> Double {
    try call.real(name, 1)
  }

  /// `beta * self + alpha * mat1 · mat2`.
  private static func addProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (alpha, beta) = (try scale("alpha", call), try scale("beta", call))
    let addend = beta == 0 ? nil : try call.tensor("self")
    let result = try call.layers.emit(
      "Gemm", [try call.tensor("mat1"), try call.tensor("mat2"), addend],
      [("alpha", .float(Float(alpha))), ("beta", .float(Float(beta)))])
    if call.op.rule != "_addmm_activation" { return [result] }
    return [
      try call.bool("use_gelu", false)
        ? call.layers.emit("Gelu", [result], [("approximate", .string("tanh"))]) : call.layers.emit("Relu", [result])
    ]
  }

  private static func addBatchedProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (alpha, beta) = (try scale("alpha", call), try scale("beta", call))
    var product = try layers.emit("MatMul", [try call.tensor(at: 1), try call.tensor(at: 2)])
    if alpha != 1 { product = try layers.emit("Mul", [product, try layers.scalar(alpha, like: product)]) }
    if beta == 0 { return [product] }
    var addend = try call.tensor("self")
    if beta != 1 { addend = try layers.emit("Mul", [addend, try layers.scalar(beta, like: addend)]) }
    return [try layers.emit("Add", [addend, product])]
  }

  private static func einsum(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let operands = try call.tensors("tensors")
    var ranks: [Int] = []
    for operand in operands { ranks.append(try call.layers.rank(operand)) }
    let text = try call.string("equation", "")
    let equation = EllipsisEquation.expanded(text, ranks: ranks) ?? text
    return [try call.layers.emit("Einsum", operands, [("equation", .string(equation))])]
  }

  private static func outer(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let column = try call.layers.unsqueeze(try call.layers.cast(try call.tensor(at: 0), to: type), [1])
    return [try call.layers.emit("Mul", [column, try call.layers.cast(try call.tensor(at: 1), to: type)])]
  }

  private static func trace(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let count = min(try layers.extent(value, 0), try layers.extent(value, 1))
    let square = try layers.slice(value, from: [0, 0], to: [count, count], axes: [0, 1])
    return [try layers.emit("Einsum", [square], [("equation", .string("ii->"))])]
  }

  /// The sum of a product of three tensors over some axes, each with axes of 1 put in.
  private static func trilinear(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var product: ValueID?
    for number in 1...3 {
      let value = try layers.unsqueeze(try call.tensor("i\(number)"), try call.ints("expand\(number)"))
      product =
        try product.map { (product) throws(OperatorError) in try layers.emit("Mul", [product, value]) } ?? value
    }
    guard let product else { return [nil] }
    return [try layers.reduce("ReduceSum", product, axes: try call.ints("sumdim"), keepsAxes: false)]
  }

  /// `input1 · weight[k] · input2 + bias[k]`.
  private static func bilinear(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let result = try call.layers.emit(
      "Einsum", [try call.tensor("input1"), try call.tensor("weight"), try call.tensor("input2")],
      [("equation", .string("...i,kij,...j->...k"))])
    guard let bias = try call.optional("bias") else { return [result] }
    return [try call.layers.emit("Add", [result, bias])]
  }

  /// `v * g / |v|`, where the norm goes over all axes but one.
  private static func weightNorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (v, g) = (try call.tensor("v"), try call.tensor("g"))
    let layers = call.layers
    let rank = try layers.rank(v)
    let dim = try call.int("dim", 0)
    let kept = dim == -1 && call.op.rule == "_weight_norm" ? nil : try TorchCall.axis(dim, of: rank)
    let axes = (0..<rank).filter { $0 != kept }
    let norm = try layers.reduce("ReduceL2", v, axes: axes, keepsAxes: true)
    return [try layers.emit("Mul", [v, try layers.emit("Div", [g, norm])]), kept == nil ? nil : norm]
  }

  // MARK: - Distances

  private static func distances(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (a, b) = (try call.tensor("x1"), try call.tensor("x2"))
    let rank = try layers.rank(a)
    let difference = try layers.emit(
      "Sub", [try layers.unsqueeze(a, [rank - 1]), try layers.unsqueeze(b, [try layers.rank(b) - 2])])
    return [try norm(difference, order: try call.real("p", 2), keepsAxes: false, call)]
  }

  /// Over the last axis.
  private static func norm(
    _ value: ValueID, order: Double, keepsAxes: Bool, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let last = try layers.rank(value) - 1
    switch order {
    case 2: return try layers.reduce("ReduceL2", value, axes: [last], keepsAxes: keepsAxes)
    case 1: return try layers.reduce("ReduceL1", value, axes: [last], keepsAxes: keepsAxes)
    case 0:
      let isZero = try layers.emit("Equal", [value, try layers.scalar(0, like: value)])
      let others = try layers.cast(try layers.emit("Not", [isZero]), to: layers.type(value) ?? .float32)
      return try layers.reduce("ReduceSum", others, axes: [last], keepsAxes: keepsAxes)
    case .infinity, -.infinity:
      let op = order > 0 ? "ReduceMax" : "ReduceMin"
      return try layers.reduce(op, try layers.emit("Abs", [value]), axes: [last], keepsAxes: keepsAxes)
    default:
      let power = try layers.emit("Pow", [try layers.emit("Abs", [value]), try layers.scalar(order, like: value)])
      let sum = try layers.reduce("ReduceSum", power, axes: [last], keepsAxes: keepsAxes)
      return try layers.emit("Pow", [sum, try layers.scalar(1 / order, like: value)])
    }
  }

  private static func pairwiseDistance(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let difference = try layers.emit("Sub", [try call.tensor("x1"), try call.tensor("x2")])
    let shifted = try layers.emit("Add", [difference, try layers.scalar(try call.real("eps", 1e-6), like: difference)])
    return [
      try norm(shifted, order: try call.real("p", 2), keepsAxes: try call.bool("keepdim", false), call)
    ]
  }

  /// Of the vectors after each was divided by its norm, or by eps if that is larger.
  private static func cosineSimilarity(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (a, b) = (try call.tensor("x1"), try call.tensor("x2"))
    let rank = max(try layers.rank(a), try layers.rank(b))
    let axis = try call.axis("dim", of: rank, 1) - rank
    let epsilon = try call.real("eps", 1e-8)
    var units: [ValueID] = []
    for value in [a, b] {
      let norm = try layers.reduce("ReduceL2", value, axes: [axis], keepsAxes: true)
      units.append(
        try layers.emit("Div", [value, try layers.emit("Max", [norm, try layers.scalar(epsilon, like: norm)])]))
    }
    return [try layers.reduce("ReduceSum", try layers.emit("Mul", units), axes: [axis], keepsAxes: false)]
  }

  // MARK: - Attention

  /// softmax(scale * query · keyᵀ + mask) · value.
  private static func attention(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if try call.real("dropout_p", 0) > 0 { throw .unsupported("dropout of a model in training") }
    let layers = call.layers
    let query = try call.tensor("query")
    let rank = try layers.rank(query)
    var operands: [ValueID] = []
    for name in ["query", "key", "value"] { operands.append(try fourAxes(try call.tensor(name), call)) }
    var mask = try call.optional(call.has("attn_mask") ? "attn_mask" : "attn_bias")
    if let given = mask, try layers.rank(given) > 4 {
      guard try layers.shape(given).dropLast(3).allSatisfy({ $0.known == 1 }) else {
        throw .unsupported("attention of more than 4 axes with a mask of its own")
      }
      mask = try layers.reshape(given, Array(try layers.shape(given).suffix(3)).map { $0.known ?? -1 })
    } else if rank == 3, let given = mask, try layers.rank(given) == 3 {
      mask = try layers.unsqueeze(given, [1])
    }
    if let given = mask, layers.type(given) != .bool {
      mask = try layers.cast(given, to: layers.type(query) ?? .float32)
    }
    var attributes: [(String, AttributeValue)] = []
    if try call.bool("is_causal", false) { attributes.append(("is_causal", .int(1))) }
    if let scale = try call.number("scale") { attributes.append(("scale", .float(Float(scale.real)))) }
    let result = try layers.emit("Attention", operands + [mask].compactMap { $0 }, attributes)
    return [try back(result, to: query, call)]
  }

  /// [batch, heads, length, size] of a tensor with fewer or more leading axes.
  private static func fourAxes(_ value: ValueID, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let shape = try layers.shape(value)
    switch shape.count {
    case 4: return value
    case 3: return try layers.unsqueeze(value, [1])
    case 2: return try layers.unsqueeze(value, [0, 1])
    default:
      guard shape.count > 4 else { throw .invalid("attention of a tensor with \(shape.count) axes") }
      let last = shape.suffix(3).map { $0.known ?? 0 }
      if last.contains(0) { throw .unsupported("attention of more than 4 axes whose extents are not known") }
      return try layers.reshape(value, [-1] + last)
    }
  }

  /// The result in as many axes as the query has.
  private static func back(_ result: ValueID, to query: ValueID, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(query)
    switch rank {
    case 4: return result
    case 3: return try layers.squeeze(result, [1])
    case 2: return try layers.squeeze(result, [0, 1])
    default:
      let shape = Array(try layers.shape(query).dropLast()) + [try layers.shape(result)[3]]
      return try layers.reshape(result, to: shape, symbolsOf: [query, result])
    }
  }

  /// A whole layer of attention from packed projections, without weights of attention as result.
  private static func multiHeadAttention(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if call.isUsed(1), try call.bool("need_weights", true) {
      throw .unsupported("the weights of attention as a result")
    }
    let query = try call.tensor("query")
    return [
      try packedAttention(
        query, projection: (try call.tensor("qkv_weight"), try call.tensor("qkv_bias")),
        output: (try call.tensor("proj_weight"), try call.tensor("proj_bias")), heads: try call.int("num_head"), call),
      nil,
    ]
  }

  private static func packedAttention(
    _ value: ValueID, projection: (ValueID, ValueID), output: (ValueID, ValueID), heads: Int, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    if call.has("mask") { throw .unsupported("packed attention with a mask") }
    let layers = call.layers
    let packed = try linear(value, projection.0, projection.1, call)
    let parts = try layers.emit("Split", [packed], [("axis", .int(-1)), ("num_outputs", .int(3))], outputs: 3)
    let count: [(String, AttributeValue)] = [("q_num_heads", .int(heads)), ("kv_num_heads", .int(heads))]
    let result = try layers.emit("Attention", parts, count)
    return try linear(result, output.0, output.1, call)
  }

  /// What nn.TransformerEncoderLayer computes at once in evaluation.
  private static func encoderLayer(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let value = try call.tensor("src")
    let epsilon = Float(try call.real("eps"))
    let isFirst = try call.bool("norm_first", false)
    func normalized(_ value: ValueID, _ number: Int) throws(OperatorError) -> ValueID {
      try layers.emit(
        "LayerNormalization",
        [value, try call.tensor("norm_weight_\(number)"), try call.tensor("norm_bias_\(number)")],
        [("axis", .int(-1)), ("epsilon", .float(epsilon))])
    }
    let attended = try packedAttention(
      isFirst ? try normalized(value, 1) : value,
      projection: (try call.tensor("qkv_weight"), try call.tensor("qkv_bias")),
      output: (try call.tensor("proj_weight"), try call.tensor("proj_bias")), heads: try call.int("num_heads"), call)
    var sum = try layers.emit("Add", [value, attended])
    if !isFirst { sum = try normalized(sum, 1) }
    let inner = try linear(
      isFirst ? try normalized(sum, 2) : sum, try call.tensor("ffn_weight_1"), try call.tensor("ffn_bias_1"), call)
    let active = try layers.emit(try call.bool("use_gelu", false) ? "Gelu" : "Relu", [inner])
    let outer = try linear(active, try call.tensor("ffn_weight_2"), try call.tensor("ffn_bias_2"), call)
    let result = try layers.emit("Add", [sum, outer])
    return [isFirst ? result : try normalized(result, 2)]
  }
}
