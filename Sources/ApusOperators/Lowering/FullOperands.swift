// Operands with all their extents, where this engine broadcasts and other runtimes do not: masks of attention with one
// row for all queries, positions of one row for all of a batch.

import ApusGraph
import ApusTensor

/// Widens operands of a node that is written.
enum FullOperands {
  /// The node as others read it; the nodes that widen its operands are appended to `builder`.
  static func form(of node: Node, in builder: GraphBuilder) -> Node {
    switch node.op.name {
    case "Attention":
      // Queries are [batch, heads, length, size] or [batch, length, hidden].
      guard node.inputs.count > 3, let query = node.inputs.first ?? nil, let rank = builder.shape(query)?.count else {
        return node
      }
      return widened(node, input: 3, axis: -2, like: query, axis: rank == 4 ? 2 : 1, in: builder)
    case "RotaryEmbedding":
      guard node.inputs.count > 3, let x = node.inputs.first ?? nil else { return node }
      return widened(node, input: 3, axis: 0, like: x, axis: 0, in: builder)
    default: return node
    }
  }

  /// Gives an axis of an input, counted from the back if below 0, the extent of an axis of `source`; where the input
  /// has more than one index there already, or both have one, nothing is to be done.
  private static func widened(
    _ node: Node, input: Int, axis: Int, like source: ValueID, axis sourceAxis: Int, in builder: GraphBuilder
  ) -> Node {
    guard let value = node.inputs[input], let shape = builder.shape(value), let wanted = builder.shape(source),
      sourceAxis < wanted.count
    else { return node }
    let position = axis < 0 ? shape.count + axis : axis
    guard position >= 0, position < shape.count, shape[position].known == 1, wanted[sourceAxis].known != 1 else {
      return node
    }
    do throws(OperatorError) {
      let extents = try self.extents(rank: shape.count, position, source, sourceAxis, node.name, in: builder)
      var result = node
      result.inputs[input] = try builder.apply(
        OperatorID("Expand"), name: "\(node.name)/Expand", [value, extents])
      return result
    } catch {
      // It means the same as it is.
      return node
    }
  }

  /// Ones, but for one axis, which has the extent of an axis of `source`.
  private static func extents(
    rank: Int, _ position: Int, _ source: ValueID, _ axis: Int, _ name: String, in builder: GraphBuilder
  ) throws(OperatorError) -> ValueID {
    if let known = builder.shape(source)?[axis].known {
      return builder.addConstant(Tensor((0..<rank).map { $0 == position ? known : 1 }))
    }
    let extent = try builder.apply(
      OperatorID("Shape"), name: "\(name)/Shape", [source], [("start", .int(axis)), ("end", .int(axis + 1))])
    let ones = { (count: Int) in builder.addConstant(Tensor([Int](repeating: 1, count: count))) }
    var parts = [extent]
    if position > 0 { parts.insert(ones(position), at: 0) }
    if position + 1 < rank { parts.append(ones(rank - position - 1)) }
    return try builder.apply(OperatorID("Concat"), name: "\(name)/Concat", parts, [("axis", .int(0))])
  }
}
