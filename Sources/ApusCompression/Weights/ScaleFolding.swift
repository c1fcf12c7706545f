// Where factors of the columns of a value can go: into the constants of what computes it, with the same result.

import ApusGraph
import ApusTensor

/// Changes of constants by which a value becomes itself divided by factors along its last axis.
///
/// The rules are those of linear algebra, so they name the operators that they hold for.
struct ScaleFolding {
  /// A new constant for an input of a node.
  private struct Change {
    var node: NodeID
    var input: Int
    var tensor: Tensor
  }

  private var changes: [Change] = []
  private let factors: [Float]
  /// Nodes that are looked at behind one value.
  private static let maximumDepth = 6

  /// nil if there is no place for the factors. `value` may have other uses than one only in what reads all of them
  /// scaled: the caller sees to that.
  init?(_ value: ValueID, dividedBy factors: [Float], in graph: borrowing GraphEditor) {
    self.factors = factors
    guard fold(value, depth: 0, in: graph) else { return nil }
  }

  /// Puts the constants in place.
  func apply(to graph: inout GraphEditor) throws(CompressionError) {
    for change in changes {
      let constant = graph.addConstant(change.tensor)
      graph.update(change.node) { $0.inputs[change.input] = constant }
    }
    do throws(OperatorError) { try graph.settle() } catch { throw CompressionError(error) }
  }

  private mutating func fold(_ value: ValueID, depth: Int, in graph: borrowing GraphEditor) -> Bool {
    guard depth < Self.maximumDepth, let id = graph.producer(of: value), !graph.isOutput(value) else { return false }
    let node = graph[id]
    if depth > 0, graph.useCount(of: value) != 1 { return false }
    if node.op.domain != "" || node.outputs.dropFirst().contains(where: { $0 != nil }) { return false }
    switch node.op.name {
    case "LayerNormalization", "RMSNormalization":
      guard isAlongLastAxis(node, value, in: graph) else { return false }
      return divide(id, 1, in: graph) && (node.inputs.count < 3 || node.inputs[2] == nil || divide(id, 2, in: graph))
    case "Mul": return divideOne(of: node, id, depth: depth, in: graph)
    case "Add", "Sub":
      // Both terms: one of them is mostly a bias.
      for position in 0..<2 where isVector(node.inputs[position], in: graph) {
        guard let other = node.inputs[1 - position], fold(other, depth: depth + 1, in: graph) else { return false }
        return divide(id, position, in: graph)
      }
      return false
    case "Relu", "LeakyRelu", "Abs":
      // Positive factors go through.
      return node.inputs[0].map { fold($0, depth: depth + 1, in: graph) } ?? false
    case "MatMul": return divideColumns(id, 1, in: graph)
    case "Gemm":
      let isBiasFree = node.inputs.count < 3 || node.inputs[2] == nil
      if !isBiasFree, !isVector(node.inputs[2], in: graph) { return false }
      return divideColumns(id, 1, isTurned: node.attributes.int("transB") ?? 0 != 0, in: graph)
        && (isBiasFree || divide(id, 2, in: graph))
    default: return false
    }
  }

  private func isAlongLastAxis(_ node: Node, _ value: ValueID, in graph: borrowing GraphEditor) -> Bool {
    let axis = node.attributes.int("axis") ?? -1
    return axis == -1 || axis == (graph.fact(value).tensor?.shape?.count ?? 0) - 1
  }

  /// One factor of a product: a constant vector, or what is computed before.
  private mutating func divideOne(
    of node: Node, _ id: NodeID, depth: Int, in graph: borrowing GraphEditor
  ) -> Bool {
    for position in 0..<2 where isVector(node.inputs[position], in: graph) { return divide(id, position, in: graph) }
    for position in [1, 0] {
      guard let factor = node.inputs[position], node.inputs[0] != node.inputs[1],
        graph.fact(factor).tensor?.shape?.last?.known == factors.count
      else { continue }
      let before = changes
      if fold(factor, depth: depth + 1, in: graph) { return true }
      changes = before
    }
    return false
  }

  /// A constant with one element for each factor, along the last axis.
  private func isVector(_ value: ValueID?, in graph: borrowing GraphEditor) -> Bool {
    guard let tensor = graph.constant(value) else { return false }
    return tensor.dataType == .float32 && tensor.count == factors.count && tensor.shape.last == factors.count
  }

  private mutating func divide(_ id: NodeID, _ input: Int, in graph: borrowing GraphEditor) -> Bool {
    let value = graph[id].inputs[input]
    guard isVector(value, in: graph), let tensor = graph.constant(value), let numbers = tensor.elements(as: Float.self)
    else { return false }
    changes.append(
      Change(node: id, input: input, tensor: Tensor(zip(numbers, factors).map { $0 / $1 }, shape: tensor.shape)))
    return true
  }

  /// The columns of a constant matrix: what computes the elements of the last axis.
  private mutating func divideColumns(
    _ id: NodeID, _ input: Int, isTurned: Bool = false, in graph: borrowing GraphEditor
  ) -> Bool {
    guard let tensor = graph.constant(graph[id].inputs[input]), tensor.dataType == .float32, tensor.rank == 2,
      tensor.shape[isTurned ? 0 : 1] == factors.count, var numbers = tensor.elements(as: Float.self)
    else { return false }
    let columns = tensor.shape[1]
    for index in numbers.indices { numbers[index] /= factors[isTurned ? index / columns : index % columns] }
    changes.append(Change(node: id, input: input, tensor: Tensor(numbers, shape: tensor.shape)))
    return true
  }
}
