// What If, Loop, Scan and SequenceMap share: types of values, accumulated outputs, conditions.

import ApusGraph
import ApusTensor

extension TypeSet {
  /// Tensors, sequences of tensors and optionals of both, of every element type: the V of If and Loop.
  static let anyValue = TypeSet.all + TypeSet.all.inSequences + TypeSet.all.inOptionals
}

extension OperatorContext {
  /// The graph that an attribute holds.
  func subgraph(_ name: String) throws(OperatorError) -> Graph {
    guard case .graph(let subgraph)? = node.attributes[name] else {
      throw .invalid("attribute \(name) (graph) is missing")
    }
    return subgraph.graph
  }
}

extension Tensor {
  /// The only element of a bool or integer tensor.
  func singleInteger(_ what: String) throws(OperatorError) -> Int {
    if count == 1, dataType == .bool {
      return withUnsafeBytes { $0.first ?? 0 } == 0 ? 0 : 1
    }
    guard count == 1, let value = integers?.first else {
      throw .mismatch("\(what) is \(dataType)\(shape); expected one element")
    }
    return value
  }
}

/// Collects the tensors that a body returns, one an iteration, and puts them together along a new axis.
struct AccumulatedOutput {
  private var tensors: [Tensor] = []
  private var bytes = 0
  /// The tensors in place of single ones, runs of them one after the other along a new first axis.
  var pieces: [Tensor] = []

  /// What is known about the output, for the case of no iteration.
  let fact: ValueFact

  init(fact: ValueFact) { self.fact = fact }

  mutating func append(_ value: Value, _ context: any EagerContext) throws(OperatorError) {
    guard let tensor = value.tensor else {
      throw .mismatch("a scan output of the body is \(value.type); expected a tensor")
    }
    bytes += tensor.byteCount + tensor.storage.strings.count * MemoryLayout<String>.stride
    // The elements and, at the end, the result.
    try context.check(allocating: bytes + tensors.count * MemoryLayout<Tensor>.stride)
    tensors.append(tensor)
  }

  /// The stacked tensors. Without any: an empty tensor of the inferred type, in which extents that are not known are 0.
  func stacked(axis: Int, isReversed: Bool, symbols: [String: Dim], _ context: any EagerContext) throws(OperatorError)
    -> Value
  {
    if let first = pieces.first {
      let position = try position(axis, rank: first.rank - 1)
      if position == 0, !isReversed { return .tensor(try TensorPieces.concatenate(pieces, axis: 0, context)) }
      var elements: [Tensor] = []
      for piece in pieces {
        for index in 0..<piece.shape[0] {
          elements.append(try TensorPieces.element(piece, axis: 0, index: index, context))
        }
      }
      return .tensor(try TensorPieces.stack(isReversed ? elements.reversed() : elements, axis: position, context))
    }
    guard let first = tensors.first else {
      guard let fact = fact.tensor else {
        throw .unsupported("there is no iteration, and the type of a scan output is not known")
      }
      var dims = (fact.shape ?? [0]).map { $0.substituting(symbols).known ?? 0 }
      let position = axis < 0 ? axis + dims.count : axis
      if position >= 0, position < dims.count { dims[position] = 0 }
      do throws(TensorError) {
        return .tensor(try Tensor(zeros: fact.dataType, validating: Shape(dims)))
      } catch {
        throw OperatorError(error)
      }
    }
    let position = try position(axis, rank: first.rank)
    return .tensor(try TensorPieces.stack(isReversed ? tensors.reversed() : tensors, axis: position, context))
  }

  /// The place of a new axis of elements of a rank.
  private func position(_ axis: Int, rank: Int) throws(OperatorError) -> Int {
    let position = axis < 0 ? axis + rank + 1 : axis
    guard position >= 0, position <= rank else {
      throw .mismatch("scan output axis \(axis) is out of range for elements of rank \(rank)")
    }
    return position
  }
}

/// The values of the symbols that are extents of inputs on their own.
func boundSymbols(_ facts: [ValueFact?], _ values: [Value?]) -> [String: Dim] {
  var symbols: [String: Dim] = [:]
  for (fact, value) in zip(facts, values) {
    guard let dims = fact?.tensor?.shape, let shape = value?.tensor?.shape, dims.count == shape.rank else { continue }
    for (dim, extent) in zip(dims, shape) where dim.known == nil {
      if let name = dim.symbols.first, dim.isSame(as: .symbol(name)) { symbols[name] = Dim(extent) }
    }
  }
  return symbols
}
