// Small graphs for tests, written node by node.

import ApusGraph
import ApusOperators
import ApusTensor

extension GraphBuilder {
  package convenience init(registry: OperatorRegistry = .standard) {
    self.init(name: "test", inference: InferenceDriver(registry: registry))
  }

  /// An input, of float32 if nothing else is said, with extents as numbers or symbols.
  package func input(_ name: String, _ shape: [Dim], _ type: DataType = .float32) -> ValueID {
    addInput(name, fact: .tensor(type, shape))
  }

  package func constant<Element: TensorElement>(_ elements: [Element], _ shape: Shape) -> ValueID {
    addConstant(Tensor(elements, shape: shape))
  }

  /// Constant float32 numbers that look random and are the same every time.
  package func weights(_ shape: Shape) -> ValueID { addConstant(sampleTensor(shape, seed: graph.values.count)) }

  package func node(
    _ name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [], domain: String = ""
  ) throws -> ValueID {
    try apply(OperatorID(name, domain: domain), name: "n\(graph.nodes.count)", inputs, attributes)
  }

  package func output(_ ids: ValueID...) { graph.outputs += ids }
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
