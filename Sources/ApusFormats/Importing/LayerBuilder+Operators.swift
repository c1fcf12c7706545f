// Operators that every importer needs, in the form that the frameworks think of them.

import ApusGraph
import ApusTensor

extension LayerBuilder {
  // MARK: - Order and shape

  /// The value with its axes in another order; itself if the order is the same. Two changes in a row are one.
  package func transpose(_ value: ValueID, _ permutation: [Int]) throws(OperatorError) -> ValueID {
    if permutation == Array(permutation.indices) { return value }
    if let producer = builder.graph.nodes.last, producer.op == OperatorID("Transpose"),
      producer.outputs.first == value, let first = producer.attributes.ints("perm"),
      first.count == permutation.count, let source = producer.inputs[0]
    {
      return try transpose(source, permutation.map { first[$0] })
    }
    return try emit("Transpose", [value], [("perm", .ints(permutation))])
  }

  /// Images with the channels last, as [batch, spatial axes, channels], with the channels behind the batch.
  package func channelsFirst(_ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rankOfImages(value)
    return try transpose(value, [0, rank - 1] + Array(1..<(rank - 1)))
  }

  /// Images with the channels behind the batch, with the channels last.
  package func channelsLast(_ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rankOfImages(value)
    return try transpose(value, [0] + Array(2..<rank) + [1])
  }

  private func rankOfImages(_ value: ValueID) throws(OperatorError) -> Int {
    let rank = try rank(value)
    if rank < 2 { throw .mismatch("a batch with channels was expected; the value has \(rank) axes") }
    return rank
  }

  /// The same elements in the shape of numbers, one of which may be -1.
  package func reshape(_ value: ValueID, _ shape: [Int]) throws(OperatorError) -> ValueID {
    if let known = builder.shape(value)?.concrete, known.dims == shape { return value }
    return try emit("Reshape", [value, integers(shape)], shape.contains(0) ? [("allowzero", .int(1))] : [])
  }

  /// The same elements in a shape of extents of which several may be symbols, each an extent of an axis of `value` or
  /// of one of `others`; one may be what is left of the elements.
  package func reshape(
    _ value: ValueID, to shape: [Dim], symbolsOf others: [ValueID] = []
  ) throws(OperatorError) -> ValueID {
    if shape.count(where: { $0.known == nil }) <= 1 { return try reshape(value, shape.map { $0.known ?? -1 }) }
    let found = ([value] + others).flatMap { builder.shape($0) ?? [] }
    let open = shape.indices.filter { axis in
      shape[axis].known == nil && !found.contains { $0.isSame(as: shape[axis]) }
    }
    if open.count == 1, !shape.contains(where: { $0.known == 0 }) {
      let parts = [Dim](shape[..<open[0]]) + [Dim(-1)] + shape[(open[0] + 1)...]
      return try emit("Reshape", [value, try extents(parts, of: [value] + others)])
    }
    return try emit("Reshape", [value, try extents(shape, of: [value] + others)])
  }

  /// A tensor of extents: numbers, and extents that axes of `values` have.
  package func extents(_ shape: [Dim], of values: [ValueID]) throws(OperatorError) -> ValueID {
    if let known = shape.concrete { return integers(known.dims) }
    var parts: [ValueID] = []
    for dim in shape { parts.append(try extent(dim, of: values)) }
    return parts.count == 1 ? parts[0] : try concatenate(parts, axis: 0)
  }

  private func extent(_ dim: Dim, of values: [ValueID]) throws(OperatorError) -> ValueID {
    if let number = dim.known { return integers([number]) }
    for value in values {
      guard let axis = builder.shape(value)?.firstIndex(where: { $0.isSame(as: dim) }) else { continue }
      return try emit("Shape", [value], [("start", .int(axis)), ("end", .int(axis + 1))])
    }
    throw .unsupported("the extent \(dim) is none of an operand's", remedy: "Export the model with a fixed shape")
  }

  package func squeeze(_ value: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    axes.isEmpty ? value : try emit("Squeeze", [value, integers(axes)])
  }

  package func unsqueeze(_ value: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    axes.isEmpty ? value : try emit("Unsqueeze", [value, integers(axes)])
  }

  package func concatenate(_ values: [ValueID], axis: Int) throws(OperatorError) -> ValueID {
    values.count == 1 ? values[0] : try emit("Concat", values, [("axis", .int(axis))])
  }

  /// The part of a value between bounds along axes.
  package func slice(
    _ value: ValueID, from starts: [Int], to ends: [Int], axes: [Int], steps: [Int]? = nil
  ) throws(OperatorError) -> ValueID {
    try emit("Slice", [value, integers(starts), integers(ends), integers(axes), steps.map { integers($0) }])
  }

  // MARK: - Elements

  package func cast(_ value: ValueID, to type: DataType) throws(OperatorError) -> ValueID {
    self.type(value) == type ? value : try emit("Cast", [value], [("to", .int(Int(type.rawValue)))])
  }

  /// The larger of a value and `low`, the smaller of that and `high`; nil: no bound.
  package func clip(_ value: ValueID, _ low: Double?, _ high: Double?) throws(OperatorError) -> ValueID {
    if low == 0, high == nil, type(value)?.isFloat ?? false { return try emit("Relu", [value]) }
    var bounds: [ValueID?] = []
    for bound in [low, high] {
      bounds.append(try bound.map { (number) throws(OperatorError) in try scalar(number, like: value) })
    }
    return try emit("Clip", [value] + bounds)
  }

  /// An operator that takes its axes as its second input: ReduceMean and its kin.
  package func reduce(
    _ op: String, _ value: ValueID, axes: [Int], keepsAxes: Bool
  ) throws(OperatorError) -> ValueID {
    try emit(op, [value, integers(axes)], [("keepdims", .int(keepsAxes ? 1 : 0))])
  }
}
