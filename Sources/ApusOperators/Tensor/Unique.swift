// Unique: the distinct elements, or slices along an axis. https://onnx.ai/onnx/operators/onnx__Unique.html
// Versions: 11, 28 (bfloat16).

import ApusGraph
import ApusTensor

/// All NaN are one element, larger than everything; -0 equals 0; complex numbers order by real, then imaginary part;
/// strings by code points; slices by their elements in turn. Of equal elements the first stands in the output.
struct Unique: OperatorDefinition {
  let schema = OperatorSchema(
    "Unique", versions: [11, 28],
    inputs: [.required("X", "T")],
    outputs: [
      .required("Y", "T"), .optional("indices", "tensor(int64)"), .optional("inverse_indices", "tensor(int64)"),
      .optional("counts", "tensor(int64)"),
    ],
    attributes: [.optional("axis", .int), .int("sorted", default: 1)],
    types: ["T": .basic, "tensor(int64)": .int64], portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    for output in 1..<4 { context.set(output, .int64, [.unknown]) }
    guard let given = context.optionalInt("axis") else {
      context.set(2, .int64, [context.shape(0)?.product ?? .unknown])
      return context.set(0, context.type(0), [.unknown])
    }
    guard var shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let axis = try resolveAxis(given, rank: shape.count)
    context.set(2, .int64, [shape[axis]])
    shape[axis] = .unknown
    context.set(0, context.type(0), shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = context.optionalInt("axis")
    let isSorted = try context.bool("sorted")
    return .eager { inputs, context throws(OperatorError) in
      let given = try inputs.tensor(0)
      let input = givenAxis == nil ? given.reshaped(to: [given.count]) : given
      let axis = try resolveAxis(givenAxis ?? 0, rank: input.rank)
      // Order, inverse and keys of the items.
      try context.check(allocating: input.shape[axis], of: 48)
      let keys = try Unique.keys(of: input, axis: axis)
      let groups = Unique.groups(items: input.shape[axis], keys: keys, isSorted: isSorted)
      let distinct = Shape([groups.first.count])
      return [
        .tensor(try input.selecting(groups.first, axis: axis, context)),
        .tensor(Tensor(groups.first, shape: distinct)),
        .tensor(Tensor(groups.inverse, shape: [groups.inverse.count])),
        .tensor(Tensor(groups.counts, shape: distinct)),
      ].enumerated().map { context.isWanted($0.offset) ? $0.element : nil }
        .prefix(context.wantedOutputs.count).map { $0 }
    }
  }

  /// The keys of all items along the axis, one item after the other.
  private static func keys(of tensor: Tensor, axis: Int) throws(OperatorError) -> [UInt64] {
    let inner = tensor.shape.count(of: axis + 1..<tensor.rank)
    let outer = tensor.shape.count(of: 0..<axis)
    let extent = tensor.shape[axis]
    let elements = try elementKeys(of: tensor)
    let words = tensor.count == 0 ? 1 : elements.count / tensor.count
    if outer == 1 { return elements }
    var keys: [UInt64] = []
    keys.reserveCapacity(elements.count)
    for item in 0..<extent {
      for block in 0..<outer {
        let first = (block * extent + item) * inner * words
        keys += elements[first..<first + inner * words]
      }
    }
    return keys
  }

  /// One key for each element, two for complex numbers.
  private static func elementKeys(of tensor: Tensor) throws(OperatorError) -> [UInt64] {
    if let strings = tensor.strings {
      // The keys of strings are their ranks. Comparing UTF-8 compares code points.
      let bytes = strings.map { Array($0.utf8) }
      let order = bytes.indices.sorted { bytes[$0].lexicographicallyPrecedes(bytes[$1]) }
      var keys = [UInt64](repeating: 0, count: bytes.count)
      for (rank, index) in order.enumerated() where rank > 0 {
        let previous = order[rank - 1]
        keys[index] = keys[previous] + (bytes[index] == bytes[previous] ? 0 : 1)
      }
      return keys
    }
    let parts: (type: DataType, count: Int)
    switch tensor.dataType {
    case .complex64: parts = (.float32, 2)
    case .complex128: parts = (.float64, 2)
    default: parts = (tensor.dataType, 1)
    }
    guard let loader = SortKeys(parts.type) else { throw .unsupported("Unique has no kernel for \(tensor.dataType)") }
    let count = tensor.count * parts.count
    return tensor.withUnsafeBytes { bytes in
      [UInt64](unsafeUninitializedCapacity: count) { buffer, initialized in
        initialized = count
        if let source = bytes.baseAddress, let target = buffer.baseAddress {
          loader.load(source, loader.width, count, target)
        }
      }
    }
  }

  /// The distinct items: where each first stands, how often it stands; and for each item which distinct one it is.
  private static func groups(
    items: Int, keys: [UInt64], isSorted: Bool
  ) -> (first: [Int], inverse: [Int], counts: [Int]) {
    let length = items == 0 ? 0 : keys.count / items
    func compare(_ a: Int, _ b: Int) -> Int {
      for offset in 0..<length {
        let (x, y) = (keys[a * length + offset], keys[b * length + offset])
        if x != y { return x < y ? -1 : 1 }
      }
      return 0
    }
    let order =
      length == 1
      ? SortKeys.order(of: keys)
      : (0..<items).sorted { a, b in
        let result = compare(a, b)
        return result < 0 || (result == 0 && a < b)
      }
    var first: [Int] = []
    var counts: [Int] = []
    var inverse = [Int](repeating: 0, count: items)
    for (position, item) in order.enumerated() {
      if position == 0 || compare(order[position - 1], item) != 0 {
        first.append(item)
        counts.append(0)
      }
      counts[counts.count - 1] += 1
      inverse[item] = first.count - 1
    }
    if isSorted { return (first, inverse, counts) }
    // In the order of first occurrence.
    let byPlace = first.indices.sorted { first[$0] < first[$1] }
    var place = [Int](repeating: 0, count: first.count)
    for (new, old) in byPlace.enumerated() { place[old] = new }
    return (byPlace.map { first[$0] }, inverse.map { place[$0] }, byPlace.map { counts[$0] })
  }
}
