// Small graphs for tests, written node by node.

import ApusGraph
import ApusOperators
import ApusTensor

/// Builds a graph; every node's facts are inferred as it is added.
package struct GraphBuilder {
  package private(set) var graph = Graph(name: "test")
  private let registry: OperatorRegistry

  package init(registry: OperatorRegistry = .standard) { self.registry = registry }

  /// A float32 input with extents as numbers or symbols.
  package mutating func input(_ name: String, _ shape: [Dim], _ type: DataType = .float32) -> ValueID {
    let id = graph.addValue(name: name, fact: .tensor(type, shape))
    graph.inputs.append(id)
    return id
  }

  package mutating func constant<Element: TensorElement>(_ elements: [Element], _ shape: Shape) -> ValueID {
    graph.addConstant(Tensor(elements, shape: shape))
  }

  /// Constant float32 numbers that look random and are the same every time.
  package mutating func weights(_ shape: Shape) -> ValueID {
    graph.addConstant(sampleTensor(shape, seed: graph.values.count))
  }

  package mutating func node(
    _ name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [], domain: String = ""
  ) throws -> ValueID {
    let outputs = graph.addNode(
      OperatorID(name, domain: domain), name: "n\(graph.nodes.count)", inputs: inputs,
      attributes: Attributes(attributes))
    try InferenceDriver(registry: registry).infer(nodeAt: graph.nodes.count - 1, in: &graph)
    return outputs[0]
  }

  package mutating func output(_ ids: ValueID...) { graph.outputs += ids }
}

/// Numbers in (-1, 1) that depend on the seed only.
package func sampleTensor(_ shape: Shape, seed: Int) -> Tensor {
  var state = UInt64(truncatingIfNeeded: seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
  return Tensor(
    (0..<shape.elementCount).map { _ -> Float in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Float(Int64(bitPattern: state) >> 40) * 0x1p-23
    }, shape: shape)
}

/// The largest absolute difference of two float32 tensors of equal shape; infinity if they cannot be compared.
package func largestDifference(_ a: Tensor, _ b: Tensor) -> Float {
  guard a.shape == b.shape, let x = a.elements(as: Float.self), let y = b.elements(as: Float.self) else {
    return .infinity
  }
  return zip(x, y).reduce(0) { largest, pair in
    let difference = pair.0 == pair.1 || (pair.0.isNaN && pair.1.isNaN) ? 0 : abs(pair.0 - pair.1)
    return difference.isNaN ? .infinity : max(largest, difference)
  }
}
