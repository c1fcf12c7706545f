// The rules of `TFLiteSimplification`: normalizations, shapes, integers that stand for floats.

import ApusGraph
import ApusTensor

extension TFLiteSimplification {
  // MARK: - Normalizations

  static let normalizationRules: [String: Rule] = [
    "BatchNormalization": batchNormalization, "InstanceNormalization": instanceNormalization,
    "LpNormalization": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let axis = try resolveAxis(facts.int("axis"), rank: layers.rank(x))
      let op = try facts.int("p") == 1 ? "ReduceL1" : "ReduceL2"
      // Nothing over nothing is nothing.
      let length = try layers.reduce(op, x, axes: [axis], keepsAxes: true)
      return [try layers.emit("Div", [x, layers.emit("Max", length, Double(Float.leastNormalMagnitude))])]
    },
    "GlobalAveragePool": { (node, layers) throws(OperatorError) in try global(node, layers, "ReduceMean") },
    "GlobalMaxPool": { (node, layers) throws(OperatorError) in try global(node, layers, "ReduceMax") },
    "ReduceL1": { (node, layers) throws(OperatorError) in
      [try reduced(node, layers, "ReduceSum", layers.emit("Abs", [layers.operand(node)]))]
    },
    "ReduceSumSquare": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try reduced(node, layers, "ReduceSum", layers.emit("Mul", [x, x]))]
    },
    "ReduceL2": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      return [try layers.emit("Sqrt", [reduced(node, layers, "ReduceSum", layers.emit("Mul", [x, x]))])]
    },
    "ReduceLogSumExp": { (node, layers) throws(OperatorError) in
      // Nothing overflows that is compared with the largest.
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let rank = try layers.rank(x)
      var axes = facts.integers(1) ?? []
      if axes.isEmpty, facts.optionalInt("noop_with_empty_axes") ?? 0 != 0 { return [x] }
      if facts.isPresent(1), facts.integers(1) == nil { throw .unsupported("the axes should be constants") }
      if axes.isEmpty { axes = Array(0..<rank) }
      let most = try layers.reduce("ReduceMax", x, axes: axes, keepsAxes: true)
      let powers = try layers.emit("Exp", [layers.emit("Sub", [x, most])])
      let sum = try layers.emit("Log", [layers.reduce("ReduceSum", powers, axes: axes, keepsAxes: true)])
      let result = try layers.emit("Add", [sum, most])
      return [try facts.int("keepdims") != 0 ? result : layers.squeeze(result, axes)]
    },
    "Gemm": gemm,
    "ReduceLogSum": { (node, layers) throws(OperatorError) in
      [try layers.emit("Log", [reduced(node, layers, "ReduceSum", layers.operand(node))])]
    },
  ]

  /// Factors go to the operands, and what is added and is no bias to an Add.
  private static let gemm: Rule = { (node, layers) throws(OperatorError) in
    let facts = try layers.facts(node)
    var (a, b) = (try layers.operand(node), try layers.operand(node, 1))
    let (alpha, beta) = (Double(try facts.float("alpha")), Double(try facts.float("beta")))
    var c = node.inputs.count > 2 ? node.inputs[2] : nil
    let transposesA = facts.optionalInt("transA") ?? 0 != 0
    let transposesB = facts.optionalInt("transB") ?? 0 != 0
    let shape = try layers.shape(b)
    let count = shape.count == 2 ? shape[transposesB ? 0 : 1] : .unknown
    func isBias(_ value: ValueID) -> Bool {
      guard let dims = layers.builder.shape(value), let last = dims.last else { return false }
      return last.isSame(as: count) && dims.dropLast().allSatisfy { $0.known == 1 }
    }
    let isPlain = alpha == 1 && (beta == 1 || c == nil) && !transposesA && c.map(isBias) ?? true
    if isPlain, layers.type(a) == .float32 { return nil }
    if transposesA { a = try layers.transpose(a, [1, 0]) }
    if alpha != 1 {
      if layers.constant(b) != nil {
        b = try layers.emit("Mul", b, alpha)
      } else {
        a = try layers.emit("Mul", a, alpha)
      }
    }
    if let given = c, beta != 1 { c = try layers.emit("Mul", given, beta) }
    let joins = layers.type(a) == .float32 && c.map(isBias) ?? false
    let transposed: [(String, AttributeValue)] = [("transB", .int(transposesB ? 1 : 0))]
    let product = try layers.emit("Gemm", [a, b, joins ? c : nil], transposed)
    if joins { return [product] }
    return [try c.map { (value) throws(OperatorError) in try layers.emit("Add", [product, value]) } ?? product]
  }

  private static func global(
    _ node: Node, _ layers: LayerBuilder, _ op: String
  ) throws(OperatorError) -> [ValueID?] {
    let x = try layers.operand(node)
    let rank = try layers.rank(x)
    if rank <= 2 { return [x] }
    return [try layers.reduce(op, x, axes: Array(2..<rank), keepsAxes: true)]
  }

  /// A reduction like `node` of another value.
  private static func reduced(
    _ node: Node, _ layers: LayerBuilder, _ op: String, _ value: ValueID
  ) throws(OperatorError) -> ValueID {
    try layers.emit(
      op, [value] + node.inputs.dropFirst(), node.attributes.entries.map { ($0.name, $0.value) })
  }

  /// One factor and one summand for each channel.
  private static let batchNormalization: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    if facts.optionalInt("training_mode") ?? 0 != 0 || node.outputs.count(where: { $0 != nil }) > 1 {
      throw .unsupported("a BatchNormalization that trains is not written")
    }
    let rank = try layers.rank(x)
    if rank < 2 { throw .unsupported("images with channels were expected; the operand has \(rank) axes") }
    let (scale, bias) = (try layers.operand(node, 1), try layers.operand(node, 2))
    let (mean, variance) = (try layers.operand(node, 3), try layers.operand(node, 4))
    let root = try layers.emit("Sqrt", [layers.emit("Add", variance, Double(facts.float("epsilon")))])
    let factor = try layers.emit("Div", [scale, root])
    let summand = try layers.emit("Sub", [bias, layers.emit("Mul", [mean, factor])])
    let column = [-1] + [Int](repeating: 1, count: rank - 2)
    let scaled = try layers.emit("Mul", [x, layers.reshape(factor, column)])
    return [try layers.emit("Add", [scaled, layers.reshape(summand, column)])]
  }

  private static let instanceNormalization: Rule = { (node, layers) throws(OperatorError) in
    let (facts, x) = (try layers.facts(node), try layers.operand(node))
    let rank = try layers.rank(x)
    if rank < 3 { throw .unsupported("images were expected; the operand has \(rank) axes") }
    let axes = Array(2..<rank)
    let centered = try layers.emit("Sub", [x, layers.reduce("ReduceMean", x, axes: axes, keepsAxes: true)])
    let variance = try layers.reduce(
      "ReduceMean", layers.emit("Mul", [centered, centered]), axes: axes, keepsAxes: true)
    let root = try layers.emit("Sqrt", [layers.emit("Add", variance, Double(facts.float("epsilon")))])
    let normal = try layers.emit("Div", [centered, root])
    let column = [-1] + [Int](repeating: 1, count: rank - 2)
    let scaled = try layers.emit("Mul", [normal, layers.reshape(layers.operand(node, 1), column)])
    return [try layers.emit("Add", [scaled, layers.reshape(layers.operand(node, 2), column)])]
  }

  // MARK: - Shapes

  static let shapeRules: [String: Rule] = [
    "Flatten": reshaped, "Squeeze": reshaped, "Unsqueeze": reshaped, "Reshape": reshaped,
    "Shape": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let shape = try layers.shape(x)
      let start = clamped(facts.optionalInt("start") ?? 0, shape.count)
      let end = clamped(facts.optionalInt("end") ?? shape.count, shape.count)
      let part = start < end ? Array(shape[start..<end]) : []
      if let known = part.concrete { return [layers.integers(known.dims)] }
      if start == 0, end == shape.count { return nil }
      let all = try layers.emit("Shape", [x])
      return [try layers.slice(all, from: [start], to: [end], axes: [0])]
    },
    "Size": { (node, layers) throws(OperatorError) in
      guard let known = try layers.shape(layers.operand(node)).concrete, let count = known.checkedElementCount else {
        return nil
      }
      return [layers.constant(Tensor(scalar: Int64(count)))]
    },
    "Identity": { (node, layers) throws(OperatorError) in [try layers.operand(node)] },
    "CastLike": { (node, layers) throws(OperatorError) in
      guard let type = layers.type(try layers.operand(node, 1)) else { return nil }
      return [try layers.cast(layers.operand(node), to: type)]
    },
    "ConstantOfShape": { (node, layers) throws(OperatorError) in
      let value = node.attributes.tensor("value") ?? Tensor([Float(0)])
      let scalar = layers.constant(value.reshaped(to: []))
      return [try layers.emit("Expand", [scalar, layers.operand(node)])]
    },
  ]

  private static func clamped(_ axis: Int, _ rank: Int) -> Int { min(max(axis < 0 ? axis + rank : axis, 0), rank) }

  /// A change of shape to numbers, of which one may be -1; nil where that does not say it.
  private static let reshaped: Rule = { (node, layers) throws(OperatorError) in
    guard let output = node.outputs.first ?? nil, let shape = layers.builder.shape(output) else { return nil }
    if node.op.name == "Reshape", let given = layers.constant(node.inputs[1])?.integers, !given.contains(0) {
      return nil
    }
    let x = try layers.operand(node)
    if shape.count(where: { $0.known == nil }) > 1 {
      // Several extents are those of the operand.
      let own = try layers.shape(x)
      if shape.allSatisfy({ dim in dim.known != nil || own.contains { $0.isSame(as: dim) } }) {
        return [try layers.reshape(x, to: shape)]
      }
      return try copying(node, x, layers).map { [$0] }
    }
    let target = layers.integers(shape.map { $0.known ?? -1 })
    if node.op.name == "Reshape", layers.constant(node.inputs[1])?.integers == shape.map({ $0.known ?? -1 }) {
      return nil
    }
    return [try layers.emit("Reshape", [x, target], shape.contains { $0.known == 0 } ? [("allowzero", .int(1))] : [])]
  }

  /// A change to numbers of which some copy an extent, which TensorFlow Lite's operator does not.
  private static func copying(
    _ node: Node, _ x: ValueID, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID? {
    guard node.op.name == "Reshape", try layers.facts(node).optionalInt("allowzero") ?? 0 == 0,
      let numbers = layers.constant(node.inputs[1])?.integers
    else { return nil }
    let all = try layers.emit("Shape", [x])
    var parts: [ValueID] = []
    for (axis, number) in numbers.enumerated() {
      let isCopied = number == 0
      parts.append(
        try isCopied ? layers.slice(all, from: [axis], to: [axis + 1], axes: [0]) : layers.integers([number]))
    }
    return try layers.emit("Reshape", [x, layers.concatenate(parts, axis: 0)])
  }

  // MARK: - Integers that stand for floats

  static let integerRules: [String: Rule] = [
    "DequantizeLinear": { (node, layers) throws(OperatorError) in
      if layers.builder.graph.quantization(of: node) != nil { return nil }
      let (x, scale) = (try layers.operand(node), try layers.operand(node, 1))
      guard let type = layers.type(scale), node.attributes.int("block_size") ?? 0 == 0 else {
        throw .unsupported("scales of blocks are not written")
      }
      var codes = try layers.cast(x, to: type)
      if node.inputs.count > 2, let zero = node.inputs[2] {
        codes = try layers.emit("Sub", [codes, column(node, x, layers.cast(zero, to: type), layers)])
      }
      return [try layers.emit("Mul", [codes, column(node, x, scale, layers)])]
    },
    "QuantizeLinear": { (node, layers) throws(OperatorError) in
      if layers.builder.graph.quantization(of: node) != nil { return nil }
      let (x, scale) = (try layers.operand(node), try layers.operand(node, 1))
      guard let output = node.outputs.first ?? nil, let type = layers.type(output), type.isInteger, type.bits <= 16,
        type.bits >= 8, node.attributes.int("block_size") ?? 0 == 0
      else { throw .unsupported("codes of this kind are not written") }
      var codes = try layers.emit("Round", [layers.emit("Div", [x, column(node, x, scale, layers)])])
      if node.inputs.count > 2, let zero = node.inputs[2] {
        codes = try layers.emit("Add", [codes, column(node, x, layers.cast(zero, to: .float32), layers)])
      }
      let range = try TFLiteLayer.codeRange(of: type)
      return [try layers.cast(layers.clip(codes, Double(range.lowerBound), Double(range.upperBound)), to: type)]
    },
    "QLinearConv": { (node, layers) throws(OperatorError) in
      func decoded(_ first: Int, _ axis: Int?) throws(OperatorError) -> ValueID {
        try layers.emit(
          "DequantizeLinear", (first..<(first + 3)).map { node.inputs[$0] }, axis.map { [("axis", .int($0))] } ?? [])
      }
      var bias: ValueID?
      if node.inputs.count > 8, let integers = node.inputs[8] {
        let scale = try layers.emit("Mul", [layers.operand(node, 1), layers.operand(node, 4)])
        bias = try layers.emit("DequantizeLinear", [integers, scale], [("axis", .int(0))])
      }
      let result = try layers.emit(
        "Conv", [decoded(0, nil), decoded(3, 0), bias], node.attributes.entries.map { ($0.name, $0.value) })
      return [try layers.emit("QuantizeLinear", [result] + node.inputs[6..<8])]
    },
    "QLinearMatMul": { (node, layers) throws(OperatorError) in
      let a = try layers.emit("DequantizeLinear", Array(node.inputs[0..<3]))
      let b = try layers.emit("DequantizeLinear", Array(node.inputs[3..<6]), [("axis", .int(1))])
      return [try layers.emit("QuantizeLinear", [layers.emit("MatMul", [a, b])] + node.inputs[6..<8])]
    },
  ]

  /// Scales or zero points so that they meet the axis that they belong to.
  private static func column(
    _ node: Node, _ x: ValueID, _ values: ValueID, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let shape = try layers.shape(values)
    guard shape.count == 1, shape[0].known != 1 else { return shape.isEmpty ? values : try layers.reshape(values, []) }
    let rank = try layers.rank(x)
    let axis = try resolveAxis(node.attributes.int("axis") ?? 1, rank: rank)
    return try layers.reshape(values, [-1] + [Int](repeating: 1, count: rank - 1 - axis))
  }
}
