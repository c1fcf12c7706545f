// Einsum as products of matrices: operands two by two, with the axes that both keep before, and those that they share
// between.

import ApusGraph
import ApusTensor

extension Decomposition {
  /// Terms with one label twice are left to Einsum.
  static let einsum: Rule = { (work) throws(OperatorError) in
    guard let text = work.node.attributes.string("equation") else { throw .invalid("the equation is missing") }
    var operands: [EinsumOperand] = []
    let values = try work.node.inputs.indices.map { (input) throws(OperatorError) in try work.input(input) }
    let ranks = try values.map { (value) throws(OperatorError) -> Int? in try work.rank(value) }
    let equation = try EinsumEquation(text, ranks: ranks)
    for (value, labels) in zip(values, equation.terms) {
      guard Set(labels).count == labels.count else { throw .unsupported("a label occurs twice in a term") }
      guard work.builder.shape(value)?.allSatisfy({ $0.known != 0 }) ?? false else {
        throw .unsupported("an operand may have no elements")
      }
      operands.append(EinsumOperand(value: value, labels: labels))
    }
    guard var result = operands.first else { throw .invalid("there are no operands") }
    for index in operands.indices {
      let rest = Set(operands[(index + 1)...].flatMap(\.labels) + equation.output)
      if index == 0 {
        result = try work.sum(result, keeping: rest)
      } else {
        let other = try work.sum(operands[index], keeping: rest.union(result.labels))
        result = try work.product(result, other, keeping: rest)
      }
    }
    return [try work.ordered(result, equation.output).value]
  }

  private struct EinsumOperand {
    var value: ValueID
    var labels: [EinsumEquation.Label]
  }

  /// The operand without the axes that nothing else has.
  private mutating func sum(
    _ operand: EinsumOperand, keeping labels: Set<Int>
  ) throws(OperatorError) -> EinsumOperand {
    let axes = operand.labels.indices.filter { !labels.contains(operand.labels[$0]) }
    if axes.isEmpty { return operand }
    let value = try add("ReduceSum", operand.value, integers(axes), attributes: [("keepdims", .int(0))])
    return EinsumOperand(value: value, labels: operand.labels.filter { labels.contains($0) })
  }

  private mutating func ordered(_ operand: EinsumOperand, _ labels: [Int]) throws(OperatorError) -> EinsumOperand {
    let order = labels.compactMap { operand.labels.firstIndex(of: $0) }
    guard order.count == operand.labels.count, order.count == labels.count else {
      throw .unsupported("an axis of the result is in no operand")
    }
    if order == Array(order.indices) { return operand }
    let value = try add("Transpose", operand.value, attributes: [("perm", .ints(order))])
    return EinsumOperand(value: value, labels: labels)
  }

  private mutating func product(
    _ a: EinsumOperand, _ b: EinsumOperand, keeping kept: Set<Int>
  ) throws(OperatorError) -> EinsumOperand {
    let (left, right) = (Set(a.labels), Set(b.labels))
    let shared = a.labels.filter { right.contains($0) }
    let (batch, inner) = (shared.filter { kept.contains($0) }, shared.filter { !kept.contains($0) })
    let (rows, columns) = (a.labels.filter { !right.contains($0) }, b.labels.filter { !left.contains($0) })
    if inner.isEmpty { return try outer(a, b, batch, rows, columns) }
    for label in inner {
      let (first, second) = (extent(a, label), extent(b, label))
      guard let first, let second, first.isSame(as: second) else {
        throw .unsupported("axes that are summed should have one extent")
      }
    }
    let first = try ordered(a, batch + rows + inner)
    let second = try ordered(b, batch + inner + columns)
    let (height, width) = (try joined(a, rows), try joined(b, columns))
    let depth = try joined(a, inner)
    let product = try add(
      "MatMul", matrix(first.value, batch, [height, depth], isPlain: rows.count == 1 && inner.count == 1),
      matrix(second.value, batch, [depth, width], isPlain: columns.count == 1 && inner.count == 1))
    let labels = batch + rows + columns
    if rows.count == 1, columns.count == 1 { return EinsumOperand(value: product, labels: labels) }
    var shape = [Int](repeating: 0, count: batch.count)
    for label in rows { shape.append(extent(a, label)?.known ?? -1) }
    for label in columns { shape.append(extent(b, label)?.known ?? -1) }
    guard shape.count(where: { $0 < 0 }) <= 1 else { throw .unsupported("extents are not known") }
    return EinsumOperand(value: try add("Reshape", product, integers(shape)), labels: labels)
  }

  /// Each element of one with each of the other.
  private mutating func outer(
    _ a: EinsumOperand, _ b: EinsumOperand, _ batch: [Int], _ rows: [Int], _ columns: [Int]
  ) throws(OperatorError) -> EinsumOperand {
    var first = try ordered(a, batch + rows).value
    var second = try ordered(b, batch + columns).value
    if !columns.isEmpty {
      let behind = (0..<columns.count).map { batch.count + rows.count + $0 }
      first = try add("Unsqueeze", first, integers(behind))
    }
    if !rows.isEmpty {
      second = try add("Unsqueeze", second, integers((0..<rows.count).map { batch.count + $0 }))
    }
    return EinsumOperand(value: try add("Mul", first, second), labels: batch + rows + columns)
  }

  private func extent(_ operand: EinsumOperand, _ label: Int) -> Dim? {
    guard let axis = operand.labels.firstIndex(of: label), let shape = builder.shape(operand.value),
      axis < shape.count
    else { return nil }
    return shape[axis]
  }

  /// The product of extents; -1 if it is not known.
  private func joined(_ operand: EinsumOperand, _ labels: [Int]) throws(OperatorError) -> Int {
    var product = 1
    for label in labels {
      guard let known = extent(operand, label)?.known else { return -1 }
      let (next, overflows) = product.multipliedReportingOverflow(by: known)
      if overflows { throw .unsupported("the extents are too large") }
      product = next
    }
    return product
  }

  /// The operand, whose axes are in order, as matrices behind the axes of the batch.
  private mutating func matrix(
    _ value: ValueID, _ batch: [Int], _ sides: [Int], isPlain: Bool
  ) throws(OperatorError) -> ValueID {
    if isPlain { return value }
    guard sides.count(where: { $0 < 0 }) <= 1 else { throw .unsupported("extents are not known") }
    return try add("Reshape", value, integers([Int](repeating: 0, count: batch.count) + sides))
  }
}
