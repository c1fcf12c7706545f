// What the schemas of operators that move elements share: their type sets, and attributes that became inputs.

import ApusGraph
import ApusTensor

extension TypeSet {
  /// Every type up to IR 4, with bfloat16.
  static let basic = allBeforeBFloat16 + [.bfloat16]
  /// Every type but the 6-bit floats, which only casts, quantization and containers take.
  static let stored = basic + float8 + packedIntegers + [.float4e2m1, .float8e8m0]
}

extension Node {
  /// Turns an attribute of integers into a constant input at `position`; does nothing if the attribute is absent.
  mutating func makeInput(ofInts name: String, at position: Int, in builder: GraphBuilder) {
    guard case .ints(let values)? = attributes[name] else { return }
    _ = attributes.remove(name)
    setInput(position, builder.addConstant(Tensor(values)))
  }

  /// Puts a value at an input position, with absent inputs before it where there are none.
  mutating func setInput(_ position: Int, _ value: ValueID) {
    while inputs.count <= position { inputs.append(nil) }
    inputs[position] = value
  }
}

extension [Dim] {
  /// `[batch, 3, 2*seq]`, as in an error message.
  var text: String { "[" + map(\.description).joined(separator: ", ") + "]" }

  static func unknown(rank: Int?) -> [Dim]? {
    guard let rank, rank >= 0, rank <= TensorFact.maximumValues else { return nil }
    return [Dim](repeating: .unknown, count: rank)
  }

  /// The product of all extents; 1 for none.
  var product: Dim { reduce(Dim(1), *) }
}

extension InferenceContext {
  /// The number of elements of an input of rank 1.
  func length(_ input: Int) -> Int? {
    guard let shape = shape(input) else { return nil }
    return shape.isEmpty ? 1 : shape.count == 1 ? shape[0].known : nil
  }

  /// The integers of an optional input that is absent, known or unknown.
  func axes(_ input: Int) -> Axes {
    guard isPresent(input) else { return .absent }
    return integers(input).map { .known($0) } ?? .unknown(count: length(input))
  }
}

/// What inference knows of an optional input of axes.
enum Axes {
  case absent
  case known([Int])
  case unknown(count: Int?)
}
