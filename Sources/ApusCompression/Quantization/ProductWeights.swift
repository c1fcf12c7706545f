// What a product multiplies with: a constant, or one that lies transposed, as the table of an embedding whose transpose
// gives the scores of words.

import ApusGraph
import ApusTensor

/// Where the elements of a constant lie: those of several may lie in one block of memory.
struct ConstantPlace: Hashable {
  private let storage: ObjectIdentifier
  private let offset, count: Int

  init(_ tensor: Tensor) {
    (storage, offset, count) = (ObjectIdentifier(tensor.storage), tensor.byteOffset, tensor.byteCount)
  }
}

/// The constant behind an operand of a product.
struct ProductWeights {
  /// The constant as the graph has it.
  let value: ValueID
  /// It is a matrix that a Transpose turns before the product reads it.
  let isTurned: Bool

  init?(_ operand: ValueID, in graph: borrowing GraphEditor) {
    if graph.constant(operand) != nil {
      (value, isTurned) = (operand, false)
      return
    }
    guard let producer = graph.producer(of: operand), graph.op(of: producer) == OperatorID("Transpose"),
      let source = graph[producer].inputs.first ?? nil, let tensor = graph.constant(source), tensor.rank == 2,
      graph[producer].attributes.ints("perm") ?? [1, 0] == [1, 0]
    else { return nil }
    (value, isTurned) = (source, true)
  }

  /// Why an operand is no weight.
  static func reason(_ operand: ValueID, in graph: borrowing GraphEditor) -> String {
    graph.standsForCodes(operand) ? "its weights are integers already" : "its second operand is computed, not learnt"
  }

  /// The elements as the product reads them; nil if they are not of float32.
  func tensor(in graph: borrowing GraphEditor) -> Tensor? {
    guard let tensor = graph.constant(value), tensor.dataType == .float32 else { return nil }
    guard isTurned, let numbers = tensor.elements(as: Float.self) else { return tensor }
    let (rows, columns) = (tensor.shape[0], tensor.shape[1])
    var turned = [Float](repeating: 0, count: numbers.count)
    for row in 0..<rows {
      for column in 0..<columns { turned[column * rows + row] = numbers[row * columns + column] }
    }
    return Tensor(turned, shape: [columns, rows])
  }
}

extension GraphEditor {
  /// Whether a value is made of integers with scales of their own: other integers for it would be rounded twice.
  func standsForCodes(_ value: ValueID) -> Bool {
    producer(of: value).map { op(of: $0) == OperatorID("DequantizeLinear") } ?? false
  }

  /// Removes the node that computes a value which nobody reads any more.
  mutating func removeUnused(_ value: ValueID) {
    if isUnused(value), let producer = producer(of: value), self[producer].outputs.count == 1 { remove(producer) }
  }
}
