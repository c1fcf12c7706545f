// The derivative of Attention, from its probabilities: what masks, windows and padding hide has the probability 0.

import ApusGraph
import ApusTensor

let attentionDerivatives: DerivativeTable = ["Attention": .gradients(attentionGradients)]

/// The operands of one attention, as [batch, key heads, query heads of each, length, size].
private struct Heads {
  let query: ValueID
  let key: ValueID
  let value: ValueID
  /// The extents of batch, key heads and query heads of each.
  let groups: [ValueID]

  init(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) {
    let query = try Heads.byHead(&w, node.required(0), node, "q_num_heads")
    var key = try Heads.byHead(&w, node.required(1), node, "kv_num_heads")
    var value = try Heads.byHead(&w, node.required(2), node, "kv_num_heads")
    if let pastKey = node.input(4), let pastValue = node.input(5) {
      key = try w.apply("Concat", [w.widened(pastKey), key], [("axis", .int(2))])
      value = try w.apply("Concat", [w.widened(pastValue), value], [("axis", .int(2))])
    }
    let keyHeads = try w.extent(key, 1)
    groups = [try w.extent(query, 0), keyHeads, try w.divide(w.extent(query, 1), keyHeads)]
    self.query = try w.reshape(query, w.join(groups + [w.shapeOf(query, from: 2)]))
    self.key = try w.unsqueeze(key, [2])
    self.value = try w.unsqueeze(value, [2])
  }

  /// [batch, heads, length, size], from that or from [batch, length, heads · size].
  static func byHead(
    _ w: inout DerivativeWriter, _ given: ValueID, _ node: Application, _ count: String
  ) throws(OperatorError) -> ValueID {
    let value = try w.widened(given)
    guard try w.rank(value) == 3 else { return value }
    let heads = w.ints([try node.int(count)])
    let extents = [try w.extent(value, 0), try w.extent(value, 1), heads, try w.divide(w.extent(value, 2), heads)]
    return try w.transpose(w.reshape(value, w.join(extents)), [0, 2, 1, 3])
  }

  /// The way back, to the layout and type of an input, from [batch, heads, length, size].
  static func laidOut(
    _ w: inout DerivativeWriter, _ value: ValueID, like input: ValueID
  ) throws(OperatorError) -> ValueID {
    let isByPosition = try w.rank(input) == 3
    let moved = isByPosition ? try w.reshape(w.transpose(value, [0, 2, 1, 3]), like: input) : value
    return try w.cast(moved, to: w.type(input))
  }
}

private func attentionGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let options = try AttentionOptions(node)
  let heads = try Heads(&w, node)
  func upstream(_ output: Int) -> ValueID? { output < node.upstream.count ? node.upstream[output] : nil }
  let again = node.writtenAttributes.filter { $0.0 != "qk_matmul_output_mode" } + [("qk_matmul_output_mode", .int(3))]
  let kept = try w.apply("Attention", node.node.inputs, again, outputCount: 4)[3]
  let probabilities = try heads.grouped(&w, w.widened(kept))
  // The gradients of probabilities and values.
  var dProbabilities: ValueID?
  var dValue: ValueID?
  if let g = upstream(0) {
    let given = try heads.grouped(&w, heads.resultByHead(&w, w.widened(g), node))
    dProbabilities = try w.apply("MatMul", [given, w.transpose(heads.value, [0, 1, 2, 4, 3])])
    dValue = try w.apply("MatMul", [w.transpose(probabilities, [0, 1, 2, 4, 3]), given])
  }
  if let g = upstream(3) {
    guard options.scoreMode == 3 else {
      throw .unsupported("there is no derivative rule for qk_matmul_output with the mode \(options.scoreMode)")
    }
    let own = try heads.grouped(&w, w.widened(g))
    if let other = dProbabilities { dProbabilities = try w.add(other, own) } else { dProbabilities = own }
  }
  var gradients = [ValueID?](repeating: nil, count: 7)
  var dKey: ValueID?
  if let dProbabilities {
    let share = try w.multiply(dProbabilities, probabilities)
    let dScores = try w.subtract(share, w.multiply(probabilities, w.reduce("ReduceSum", share, [-1])))
    if node.isWanted(3), let mask = node.input(3) { gradients[3] = try heads.maskGradient(&w, dScores, mask, kept) }
    let scale = try heads.scale(&w, options)
    var dProducts = try w.multiply(dScores, scale)
    if options.softcap > 0 {
      let products = try w.multiply(w.apply("MatMul", [heads.query, w.transpose(heads.key, [0, 1, 2, 4, 3])]), scale)
      let bend = try w.apply("Tanh", [w.scale(products, 1 / options.softcap)])
      dProducts = try w.multiply(dProducts, w.add(w.negate(w.square(bend)), 1))
    }
    let dQuery = try w.apply("MatMul", [dProducts, heads.key])
    let queryHeads = try w.multiply(heads.groups[1], heads.groups[2])
    let flat = try w.reshape(dQuery, w.join([heads.groups[0], queryHeads, w.shapeOf(dQuery, from: 3)]))
    gradients[0] = try Heads.laidOut(&w, flat, like: node.required(0))
    dKey = try w.apply("MatMul", [w.transpose(dProducts, [0, 1, 2, 4, 3]), heads.query])
  }
  for (input, past, full, present) in [(1, 4, dKey, upstream(1)), (2, 5, dValue, upstream(2))] {
    var total: ValueID?
    if let full { total = try w.apply("ReduceSum", [full, w.ints([2])], [("keepdims", .int(0))]) }
    if let present {
      let own = try w.widened(present)
      if let known = total { total = try w.add(known, own) } else { total = own }
    }
    guard let total else { continue }
    let target = try node.required(input)
    guard let cache = node.input(past) else {
      gradients[input] = try Heads.laidOut(&w, total, like: target)
      continue
    }
    let pastLength = try w.extent(cache, 2)
    let lengths = try w.join([pastLength, w.subtract(w.extent(total, 2), pastLength)])
    let parts = try w.apply("Split", [total, lengths], [("axis", .int(2))], outputCount: 2)
    gradients[past] = try w.cast(parts[0], to: w.type(cache))
    gradients[input] = try Heads.laidOut(&w, parts[1], like: target)
  }
  return gradients
}

extension Heads {
  /// [batch, heads, …] as [batch, key heads, query heads of each, …].
  func grouped(_ w: inout DerivativeWriter, _ value: ValueID) throws(OperatorError) -> ValueID {
    try w.reshape(value, w.join(groups + [w.shapeOf(value, from: 2)]))
  }

  /// The gradient of the result, by head.
  func resultByHead(_ w: inout DerivativeWriter, _ g: ValueID, _ node: Application) throws(OperatorError) -> ValueID {
    try Heads.byHead(&w, g, node, "q_num_heads")
  }

  /// The factor of the scores as a scalar: 1 / √size if none is given.
  func scale(_ w: inout DerivativeWriter, _ options: AttentionOptions) throws(OperatorError) -> ValueID {
    if let scale = options.scale { return try w.scalar(scale, like: query) }
    let size = try w.reshape(w.extent(query, -1), w.ints([]))
    return try w.apply("Reciprocal", [w.apply("Sqrt", [w.cast(size, to: w.type(query))])])
  }

  /// The gradient of an additive mask, which may have fewer columns than there are keys.
  func maskGradient(
    _ w: inout DerivativeWriter, _ dScores: ValueID, _ mask: ValueID, _ kept: ValueID
  ) throws(OperatorError) -> ValueID {
    let flat = try w.reshape(dScores, like: kept)
    let seen = try w.apply("Slice", [flat, w.ints([0]), w.extent(mask, -1), w.ints([-1])])
    return try w.cast(w.unbroadcast(seen, to: mask), to: w.type(mask))
  }
}
