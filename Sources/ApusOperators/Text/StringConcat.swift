// StringConcat: strings joined in pairs, with broadcasting. https://onnx.ai/onnx/operators/onnx__StringConcat.html
// Versions: 20.

import ApusGraph
import ApusTensor

struct StringConcat: OperatorDefinition {
  let schema = OperatorSchema(
    "StringConcat", versions: [20],
    inputs: [.required("X", "T"), .required("Y", "T")],
    outputs: [.required("Z", "T")],
    types: ["T": .string])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .string, try context.broadcastShape([0, 1]))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      let (x, y) = (try inputs.tensor(0), try inputs.tensor(1))
      guard let shape = try broadcast([[Dim](x.shape), [Dim](y.shape)]).concrete else { return [nil] }
      guard let count = shape.checkedElementCount else { throw .mismatch("the shape \(shape) is not possible") }
      try context.check(allocating: count, of: MemoryLayout<String>.stride)
      guard let a = x.strings, let b = y.strings else { throw .mismatch("the inputs are no strings") }
      let (xs, ys) = (StringConcat.strides(x.shape, in: shape), StringConcat.strides(y.shape, in: shape))
      var strings: [String] = []
      strings.reserveCapacity(count)
      var index = [Int](repeating: 0, count: shape.rank)
      var (i, j) = (0, 0)
      var bytes = count * MemoryLayout<String>.stride
      for element in 0..<count {
        bytes += a[i].utf8.count + b[j].utf8.count
        if element & 0xFF == 0 || bytes > StringConcat.checkedBytes { try context.check(allocating: bytes) }
        strings.append(a[i] + b[j])
        var axis = shape.rank - 1
        while axis >= 0 {
          index[axis] += 1
          i += xs[axis]
          j += ys[axis]
          if index[axis] < shape[axis] { break }
          i -= xs[axis] * shape[axis]
          j -= ys[axis] * shape[axis]
          index[axis] = 0
          axis -= 1
        }
      }
      return [.tensor(try context.tensor(strings: strings, shape: shape))]
    }
  }

  /// Results beyond this are held against the limit string by string.
  private static let checkedBytes = 1 << 20

  /// Strides over the elements of `shape` as it is broadcast to `target`.
  private static func strides(_ shape: Shape, in target: Shape) -> [Int] {
    let strides = shape.strides
    let missing = target.rank - shape.rank
    return target.indices.map { $0 < missing || shape[$0 - missing] == 1 ? 0 : strides[$0 - missing] }
  }
}
