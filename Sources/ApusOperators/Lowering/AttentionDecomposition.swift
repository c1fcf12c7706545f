// Attention and RotaryEmbedding as products, sums and a Softmax.

import ApusGraph
import ApusTensor

extension Decomposition {
  // MARK: - Attention

  /// softmax(Q K' * scale, capped, + mask) V, as `Attention` of version 25 has it.
  static let attention: Rule = { (work) throws(OperatorError) in
    let attributes = work.node.attributes
    guard !work.isPresent(6), attributes.int("left_window_size") ?? -1 < 0,
      attributes.int("right_window_size") ?? -1 < 0, !work.isWanted(3)
    else { throw .unsupported("it has a window, lengths of the cache, or gives its scores") }
    let q = try work.heads(0, "q_num_heads")
    var k = try work.heads(1, "kv_num_heads")
    var v = try work.heads(2, "kv_num_heads")
    if work.isPresent(4) {
      k = try work.add("Concat", work.input(4), k, attributes: [("axis", .int(2))])
      v = try work.add("Concat", work.input(5), v, attributes: [("axis", .int(2))])
    }
    let present = (k, v)
    let (headCount, keyHeads) = (try work.extent(q, 1), try work.extent(k, 1))
    if headCount != keyHeads {
      guard keyHeads > 0, headCount % keyHeads == 0 else { throw .unsupported("heads do not divide") }
      k = try work.repeated(k, headCount, keyHeads)
      v = try work.repeated(v, headCount, keyHeads)
    }
    let scores = try work.scores(q, k)
    let weights = try work.weights(scores)
    var result = try work.add("MatMul", work.cast(weights, to: work.type(v)), v)
    if try work.rank(work.input(0)) == 3 {
      let turned = try work.add("Transpose", result, attributes: [("perm", .ints([0, 2, 1, 3]))])
      result = try work.add("Reshape", turned, work.integers([0, 0, -1]))
    }
    return [result, work.isWanted(1) ? present.0 : nil, work.isWanted(2) ? present.1 : nil]
  }

  /// An operand as [batch, heads, length, size].
  private mutating func heads(_ position: Int, _ attribute: String) throws(OperatorError) -> ValueID {
    let value = try input(position)
    if try rank(value) == 4 { return value }
    guard let count = node.attributes.int(attribute), count > 0 else { throw .unsupported("\(attribute) is missing") }
    let split = try add("Reshape", value, integers([0, 0, count, -1]))
    return try add("Transpose", split, attributes: [("perm", .ints([0, 2, 1, 3]))])
  }

  /// Each head of keys as often as queries share it.
  private mutating func repeated(_ value: ValueID, _ heads: Int, _ keyHeads: Int) throws(OperatorError) -> ValueID {
    let group = heads / keyHeads
    let size = try extent(value, 3)
    let column = try add("Unsqueeze", value, integers([2]))
    let ones = integers([1, 1, group, 1, 1])
    let wide = try add("Expand", column, ones)
    let batch = try extents(value, 0..<1)
    let length = try extents(value, 2..<3)
    let shape = try add("Concat", batch, integers([heads]), length, integers([size]), attributes: [("axis", .int(0))])
    return try add("Reshape", wide, shape)
  }

  private mutating func scores(_ q: ValueID, _ k: ValueID) throws(OperatorError) -> ValueID {
    let size = try extent(q, 3)
    let scale = node.attributes.float("scale").map { Double($0) } ?? 1 / Double(max(size, 1)).squareRoot()
    let turned = try add("Transpose", k, attributes: [("perm", .ints([0, 1, 3, 2]))])
    // Both factors take a part of the scale, so that halves do not overflow.
    let root = try scalar(abs(scale).squareRoot(), like: q)
    let left = scale < 0 ? try add("Neg", add("Mul", q, root)) : try add("Mul", q, root)
    var scores = try add("MatMul", left, add("Mul", turned, root))
    let cap = Double(node.attributes.float("softcap") ?? 0)
    if cap > 0 {
      let bent = try add("Tanh", add("Div", scores, scalar(cap, like: scores)))
      scores = try add("Mul", bent, scalar(cap, like: scores))
    }
    return scores
  }

  /// The probabilities of the keys that a query may see; 0 where it may see none.
  private mutating func weights(_ scores: ValueID) throws(OperatorError) -> ValueID {
    var bias = isPresent(3) ? try mask(like: scores) : nil
    if node.attributes.int("is_causal") ?? 0 != 0 {
      let frontier = try frontier(scores)
      bias = try bias.map { (bias) throws(OperatorError) in try add("Add", bias, frontier) } ?? frontier
    }
    guard let bias else { return try add("Softmax", scores, attributes: [("axis", .int(-1))]) }
    let weights = try add("Softmax", add("Add", scores, bias), attributes: [("axis", .int(-1))])
    let highest = try add("ReduceMax", bias, integers([-1]), attributes: [("keepdims", .int(1))])
    let isBlind = try add("Equal", highest, scalar(-.infinity, like: bias))
    return try add("Where", isBlind, scalar(0, like: weights), weights)
  }

  /// The mask as numbers to add.
  private mutating func mask(like scores: ValueID) throws(OperatorError) -> ValueID {
    let mask = try input(3)
    guard try type(mask) == .bool else { return try cast(mask, to: type(scores)) }
    return try add("Where", mask, scalar(0, like: scores), scalar(-.infinity, like: scores))
  }

  /// What keeps queries from keys behind them, of which those of the cache come first.
  private mutating func frontier(_ scores: ValueID) throws(OperatorError) -> ValueID {
    let zero = builder.addConstant(Tensor(scalar: Int64(0)))
    let one = builder.addConstant(Tensor(scalar: Int64(1)))
    let queries = try add("Squeeze", extents(scores, 2..<3), integers([0]))
    let keys = try add("Squeeze", extents(scores, 3..<4), integers([0]))
    var rows = try add("Range", zero, queries, one)
    if isPresent(4) { rows = try add("Add", rows, add("Squeeze", extents(input(4), 2..<3), integers([0]))) }
    let columns = try add("Range", zero, keys, one)
    let isHidden = try add("Less", add("Unsqueeze", rows, integers([1])), add("Unsqueeze", columns, integers([0])))
    return try add("Where", isHidden, scalar(-.infinity, like: scores), scalar(0, like: scores))
  }

  // MARK: - RotaryEmbedding

  static let rotaryEmbedding: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let rank = try work.rank(x)
    // As [batch, length, heads, size].
    var rows: ValueID
    if rank == 4 {
      rows = try work.add("Transpose", x, attributes: [("perm", .ints([0, 2, 1, 3]))])
    } else {
      guard let heads = work.node.attributes.int("num_heads"), heads > 0 else { throw .unsupported("num_heads") }
      rows = try work.add("Reshape", x, work.integers([0, 0, heads, -1]))
    }
    let size = try work.extent(rows, 3)
    let given = work.node.attributes.int("rotary_embedding_dim") ?? 0
    let rotated = given == 0 ? size : given
    let kept = rotated < size ? try work.columns(rows, rotated, size, 1) : nil
    if rotated < size { rows = try work.columns(rows, 0, rotated, 1) }
    let (cosine, sine) = (try work.angles(1), try work.angles(2))
    let isInterleaved = work.node.attributes.int("interleaved") ?? 0 != 0
    let (a, b) =
      isInterleaved
      ? (try work.columns(rows, 0, rotated, 2), try work.columns(rows, 1, rotated, 2))
      : (try work.columns(rows, 0, rotated / 2, 1), try work.columns(rows, rotated / 2, rotated, 1))
    let real = try work.add("Sub", work.add("Mul", cosine, a), work.add("Mul", sine, b))
    let imaginary = try work.add("Add", work.add("Mul", sine, a), work.add("Mul", cosine, b))
    var turned: ValueID
    if isInterleaved {
      let axis = work.integers([4])
      turned = try work.add(
        "Concat", work.add("Unsqueeze", real, axis), work.add("Unsqueeze", imaginary, axis),
        attributes: [("axis", .int(4))])
      turned = try work.add("Reshape", turned, work.extents(rows, 0..<4))
    } else {
      turned = try work.add("Concat", real, imaginary, attributes: [("axis", .int(3))])
    }
    if let kept { turned = try work.add("Concat", turned, kept, attributes: [("axis", .int(3))]) }
    if rank == 4 { return [try work.add("Transpose", turned, attributes: [("perm", .ints([0, 2, 1, 3]))])] }
    return [try work.add("Reshape", turned, work.extents(x, 0..<3))]
  }

  private mutating func columns(
    _ value: ValueID, _ first: Int, _ end: Int, _ step: Int
  ) throws(OperatorError) -> ValueID {
    try add("Slice", value, integers([first]), integers([end]), integers([3]), integers([step]))
  }

  /// A cache as [batch, length, 1, pairs].
  private mutating func angles(_ position: Int) throws(OperatorError) -> ValueID {
    var cache = try input(position)
    if isPresent(3) { cache = try add("Gather", cache, input(3), attributes: [("axis", .int(0))]) }
    return try add("Unsqueeze", cache, integers([2]))
  }
}
