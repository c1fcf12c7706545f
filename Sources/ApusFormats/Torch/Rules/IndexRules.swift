// Indexing of PyTorch: https://docs.pytorch.org/docs/stable/torch.html#indexing-slicing-joining-mutating-ops

import ApusGraph
import ApusTensor

extension TorchRules {
  static let indexTable: [String: TorchRule] = [
    "index": index, "_unsafe_index": index, "index_put": indexPut, "_unsafe_index_put": indexPut,
    "_index_put_impl": indexPut, "index_select": indexSelect, "gather": gather, "take_along_dim": gather,
    "take": take, "embedding": embedding, "embedding_bag": embeddingBag, "_embedding_bag": embeddingBag,
    "_embedding_bag_forward_only": embeddingBag, "scatter": scatter, "scatter_add": scatterAdd,
    "scatter_reduce": scatterReduce, "index_add": indexAdd, "index_copy": indexCopy, "index_fill": indexFill,
    "masked_select": maskedSelect, "masked_scatter": maskedScatter,
  ]

  private static func indexSelect(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let axis = try call.axis("dim", of: try call.layers.rank(value))
    var places = try call.tensor("index")
    if try call.layers.rank(places) == 0 { places = try call.layers.unsqueeze(places, [0]) }
    return [try call.layers.emit("Gather", [value, places], [("axis", .int(axis))])]
  }

  private static func embedding(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("Gather", [try call.tensor("weight"), try call.tensor("indices")])]
  }

  private static func gather(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let places = try call.tensor(call.op.rule == "gather" ? "index" : "indices")
    let rank = try layers.rank(value)
    if rank == 0 { return [value] }
    if call.op.rule == "take_along_dim" {
      guard call.has("dim") else {
        let flat = try layers.reshape(value, [-1])
        return [try layers.emit("GatherElements", [flat, try layers.reshape(places, [-1])], [("axis", .int(0))])]
      }
      guard try zip(layers.shape(value), layers.shape(places)).allSatisfy({ $0.isSame(as: $1) || $1.known != 1 }) else {
        throw .unsupported("take_along_dim with indices that are broadcast")
      }
    }
    return [try layers.emit("GatherElements", [value, places], [("axis", .int(try call.axis("dim", of: rank)))])]
  }

  private static func take(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let flat = try call.layers.reshape(try call.tensor("self"), [-1])
    return [try call.layers.emit("Gather", [flat, try call.tensor("index")])]
  }

  private static func maskedSelect(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var (value, mask) = (try call.tensor("self"), try call.tensor("mask"))
    let rank = max(try layers.rank(value), try layers.rank(mask))
    if try layers.shape(value) != layers.shape(mask) {
      let shape = try layers.emit(
        "Shape",
        [
          try layers.emit("Or", [try layers.cast(try call.padded(value, toRank: rank), to: .bool), mask])
        ])
      (value, mask) = (try layers.emit("Expand", [value, shape]), try layers.emit("Expand", [mask, shape]))
    }
    return [
      try layers.emit(
        "Compress", [try layers.reshape(value, [-1]), try layers.reshape(mask, [-1])], [("axis", .int(0))])
    ]
  }

  /// The n-th element under the mask gets the n-th of the source.
  private static func maskedScatter(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let source = try layers.reshape(try call.tensor("source"), [-1])
    let (own, narrow) = (try call.tensor("self"), try call.tensor("mask"))
    // Each has the axes of the other.
    let value = try layers.emit("Where", [narrow, own, own])
    let shape = try call.shapeTensor(value)
    let mask = try layers.emit("Expand", [narrow, shape])
    let flat = try layers.cast(try layers.reshape(mask, [-1]), to: .int64)
    let count = try layers.emit("CumSum", [flat, layers.constant(Tensor(scalar: Int64(0)))])
    let place = try layers.emit(
      "Max",
      [
        try layers.emit("Sub", [count, layers.constant(Tensor(scalar: Int64(1)))]),
        layers.constant(Tensor(scalar: Int64(0))),
      ])
    let gathered = try layers.emit("Reshape", [try layers.emit("Gather", [source, place]), shape])
    return [try layers.emit("Where", [mask, gathered, value])]
  }

  // MARK: - Several indices

  /// What indices stand for: axes of the operand in order, tensors that are broadcast to each other, and where their
  /// axes are in the result.
  private struct Places {
    var axes: [Int]
    /// [broadcast…, axes.count]
    var tensor: ValueID
    var rank: Int
    /// Where the axes of the indices stand in the result.
    var position: Int
  }

  /// Indices with masks replaced by the places of what is true.
  private static func expandedIndices(
    _ value: ValueID, _ call: TorchCall
  ) throws(OperatorError) -> [(axis: Int, index: ValueID)] {
    guard case .tensors(let names)? = call.argument("indices") else { throw .invalid("indices were expected") }
    var found: [(axis: Int, index: ValueID)] = []
    var axis = 0
    for name in names {
      guard let name else {
        axis += 1
        continue
      }
      let index = try call.lowering.tensor(name)
      switch call.layers.type(index) {
      case .bool, .uint8:
        for part in try nonZeroParts(index, call) {
          if let part { found.append((axis, part)) }
          axis += 1
        }
      default:
        found.append((axis, try call.layers.cast(index, to: .int64)))
        axis += 1
      }
    }
    guard axis <= (try call.layers.rank(value)) else { throw .invalid("there are more indices than axes") }
    return found
  }

  private static func places(
    _ indices: [(axis: Int, index: ValueID)], _ call: TorchCall
  ) throws(OperatorError) -> Places {
    let layers = call.layers
    var ranks: [Int] = []
    var shapes: Set<[Dim]> = []
    for (_, index) in indices {
      let shape = try layers.shape(index)
      ranks.append(shape.count)
      shapes.insert(shape)
    }
    let rank = ranks.max() ?? 0
    var values = indices.map(\.index)
    if shapes.count > 1 || shapes.first?.contains(where: \.isUnknown) ?? false {
      var zeros: ValueID?
      let zero = layers.constant(Tensor(scalar: Int64(0)))
      for value in values {
        let none = try layers.emit("Mul", [value, zero])
        zeros = try zeros.map { (sum) throws(OperatorError) in try layers.emit("Add", [sum, none]) } ?? none
      }
      if let zeros { for place in values.indices { values[place] = try layers.emit("Add", [values[place], zeros]) } }
    }
    for place in values.indices { values[place] = try layers.unsqueeze(values[place], [rank]) }
    let axes = indices.map(\.axis)
    let isTogether = axes.last.map { $0 - axes[0] == axes.count - 1 } ?? true
    return Places(
      axes: axes, tensor: try layers.concatenate(values, axis: rank), rank: rank, position: isTogether ? axes[0] : 0)
  }

  /// The indexed axes before the others.
  private static func order(_ axes: [Int], _ rank: Int) -> [Int] { axes + (0..<rank).filter { !axes.contains($0) } }

  private static func index(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let indices = try expandedIndices(value, call)
    if indices.isEmpty { return [value] }
    if indices.count == 1 {
      return [try layers.emit("Gather", [value, indices[0].index], [("axis", .int(indices[0].axis))])]
    }
    let places = try places(indices, call)
    let rank = try layers.rank(value)
    let source = try layers.transpose(value, order(places.axes, rank))
    let gathered = try layers.emit("GatherND", [source, places.tensor])
    if places.position == 0 { return [gathered] }
    // The axes of the indices go where the first of the indexed axes was.
    let total = places.rank + rank - places.axes.count
    let front = Array(places.rank..<(places.rank + places.position))
    let order = front + Array(0..<places.rank) + Array((places.rank + places.position)..<total)
    return [try layers.transpose(gathered, order)]
  }

  private static func indexPut(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let type = try call.resultType()
    let values = try layers.cast(try call.tensor("values"), to: type)
    let accumulates = try call.bool("accumulate", false)
    if let result = try maskedPut(value, values, accumulates, call) { return [result] }
    let indices = try expandedIndices(value, call)
    if indices.isEmpty { return [value] }
    let places = try places(indices, call)
    let rank = try layers.rank(value)
    let order = order(places.axes, rank)
    let source = try layers.transpose(value, order)
    let rest = rank - places.axes.count
    // The values have the shape of the result of indexing, or are broadcast to it.
    var updates = try call.padded(values, toRank: places.rank + rest)
    if places.position > 0 {
      let moved = Array(places.position..<(places.position + places.rank)) + Array(0..<places.position)
      updates = try layers.transpose(updates, moved + Array((places.position + places.rank)..<(places.rank + rest)))
    }
    var shape = try layers.emit("Shape", [places.tensor], [("start", .int(0)), ("end", .int(places.rank))])
    if rest > 0 {
      let tail = try layers.emit("Shape", [source], [("start", .int(places.axes.count))])
      shape = places.rank == 0 ? tail : try layers.concatenate([shape, tail], axis: 0)
    }
    if places.rank + rest > 0 { updates = try layers.emit("Expand", [updates, shape]) }
    let result = try layers.emit(
      "ScatterND", [source, places.tensor, updates], accumulates ? [("reduction", .string("add"))] : [])
    var inverse = order
    for (place, axis) in order.enumerated() { inverse[axis] = place }
    return [try layers.transpose(result, inverse)]
  }

  /// One mask and one value for all that it covers: a choice.
  private static func maskedPut(
    _ value: ValueID, _ values: ValueID, _ accumulates: Bool, _ call: TorchCall
  ) throws(OperatorError) -> ValueID? {
    let layers = call.layers
    guard case .tensors(let names)? = call.argument("indices"), names.count == 1, let name = names[0], !accumulates
    else { return nil }
    let mask = try call.lowering.tensor(name)
    guard layers.type(mask) == .bool, try layers.shape(values).allSatisfy({ $0.known == 1 }) else { return nil }
    let (rank, covered) = (try layers.rank(value), try layers.rank(mask))
    let wide = try layers.unsqueeze(mask, Array(covered..<max(rank, covered)))
    return try layers.emit("Where", [wide, try layers.reshape(values, []), value])
  }

  // MARK: - Scattering

  private static func scatter(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let (value, places) = (try call.tensor("self"), try call.tensor("index"))
    let source: ValueID
    if call.has("src") {
      source = try part(of: try call.layers.cast(try call.tensor("src"), to: type), like: places, call)
    } else {
      source = try call.layers.emit(
        "Expand", [try call.operand("value", as: type), try call.shapeTensor(places)])
    }
    let reductions = ["": "none", "add": "add", "multiply": "mul"]
    guard let reduction = reductions[try call.string("reduce", "")] else { throw .unsupported("this reduction") }
    return try scattered(value, places, source, reduction, call)
  }

  /// torch reads as much of the source as there are indices.
  private static func part(of source: ValueID, like places: ValueID, _ call: TorchCall) throws(OperatorError) -> ValueID
  {
    let (shape, wanted) = (try call.layers.shape(source), try call.layers.shape(places))
    if shape == wanted { return source }
    return try call.layers.emit(
      "Slice",
      [
        source, call.layers.integers(shape.map { _ in 0 }), try call.shapeTensor(places),
        call.layers.integers(Array(shape.indices)),
      ])
  }

  private static func scattered(
    _ value: ValueID, _ places: ValueID, _ source: ValueID, _ reduction: String, _ call: TorchCall
  ) throws(OperatorError) -> [ValueID?] {
    let rank = try call.layers.rank(value)
    if rank == 0 { return [try call.layers.reshape(source, [])] }
    return [
      try call.layers.emit(
        "ScatterElements", [value, places, source],
        [("axis", .int(try call.axis("dim", of: rank))), ("reduction", .string(reduction))])
    ]
  }

  private static func scatterAdd(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let places = try call.tensor("index")
    let source = try part(of: try call.tensor("src"), like: places, call)
    return try scattered(try call.tensor("self"), places, source, "add", call)
  }

  private static func scatterReduce(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let reductions = ["sum": "add", "prod": "mul", "amax": "max", "amin": "min"]
    guard let reduction = reductions[try call.string("reduce", "")], try call.bool("include_self", true) else {
      throw .unsupported("scatter_reduce by the mean, or without the operand itself")
    }
    let places = try call.tensor("index")
    let source = try part(of: try call.tensor("src"), like: places, call)
    return try scattered(try call.tensor("self"), places, source, reduction, call)
  }

  /// Rows of an axis by their places: scattered along the first axis.
  private static func rows(
    _ call: TorchCall, _ source: ValueID, reduction: String
  ) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    let axis = try call.axis("dim", of: rank)
    var order = Array(0..<rank)
    order.remove(at: axis)
    order.insert(axis, at: 0)
    let places = try layers.unsqueeze(
      try layers.reshape(try layers.cast(try call.tensor("index"), to: .int64), [-1]), [1])
    let result = try layers.emit(
      "ScatterND", [try layers.transpose(value, order), places, try layers.transpose(source, order)],
      [("reduction", .string(reduction))])
    var inverse = order
    for (place, axis) in order.enumerated() { inverse[axis] = place }
    return [try layers.transpose(result, inverse)]
  }

  private static func indexAdd(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var source = try call.tensor("source")
    if let alpha = try call.number("alpha"), alpha.real != 1 {
      source = try call.layers.emit("Mul", [source, try call.layers.scalar(alpha.real, like: source)])
    }
    return try rows(call, source, reduction: "add")
  }

  private static func indexCopy(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    try rows(call, try call.tensor("source"), reduction: "none")
  }

  private static func indexFill(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let axis = try call.axis("dim", of: try layers.rank(value))
    let places = try layers.reshape(try call.tensor("index"), [-1])
    let shape = try call.shapeTensor(try layers.emit("Gather", [value, places], [("axis", .int(axis))]))
    let fill = try layers.emit("Expand", [try call.operand("value", as: try call.resultType()), shape])
    return try rows(call, fill, reduction: "none")
  }

  // MARK: - Bags

  /// Sums or means of rows of the weight: a matrix that says which row is in which bag, times the rows.
  private static func embeddingBag(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (weight, indices) = (try call.tensor("weight"), try layers.cast(try call.tensor("indices"), to: .int64))
    let mode = try call.int("mode", 0)
    guard mode == 0 || mode == 1, try layers.rank(indices) == 1 else { throw .unsupported("embedding_bag of maxima") }
    guard try call.int("padding_idx", -1) < 0 else { throw .unsupported("embedding_bag with padding_idx") }
    let offsets = try layers.cast(try call.tensor("offsets"), to: .int64)
    let count = try layers.emit("Shape", [indices])
    let starts =
      try call.bool("include_last_offset", false) ? layers.slice(offsets, from: [0], to: [-1], axes: [0]) : offsets
    let rest = try layers.slice(offsets, from: [1], to: [Int.max], axes: [0])
    let ends = try call.bool("include_last_offset", false) ? rest : layers.concatenate([rest, count], axis: 0)
    let (zero, one) = (layers.constant(Tensor(scalar: Int64(0))), layers.constant(Tensor(scalar: Int64(1))))
    let places = try layers.emit("Range", [zero, try layers.squeeze(count, [0]), one])
    let inBag = try layers.emit(
      "And",
      [
        try layers.emit("GreaterOrEqual", [places, try layers.unsqueeze(starts, [1])]),
        try layers.emit("Less", [places, try layers.unsqueeze(ends, [1])]),
      ])
    let type = layers.type(weight) ?? .float32
    var members = try layers.cast(inBag, to: type)
    let sizes = try layers.reduce("ReduceSum", members, axes: [1], keepsAxes: true)
    if call.has("per_sample_weights") {
      members = try layers.emit("Mul", [members, try call.tensor("per_sample_weights")])
    }
    var bags = try layers.emit("MatMul", [members, try layers.emit("Gather", [weight, indices])])
    if mode == 1 {
      bags = try layers.emit("Div", [bags, try layers.emit("Max", [sizes, try layers.scalar(1, like: sizes)])])
    }
    return [bags, nil, nil, nil]
  }
}
