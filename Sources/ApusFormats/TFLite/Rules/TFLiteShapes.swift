// Operators of TensorFlow Lite that shape and move: elements stay what they are, codes stay codes.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let shapes: [String: TFLiteRule] = [
    "RESHAPE": TFLiteRule(.moved, reshape), "TRANSPOSE": TFLiteRule(.moved, transpose),
    "EXPAND_DIMS": TFLiteRule(.moved, expandDims), "SQUEEZE": TFLiteRule(.moved, squeeze),
    "SHAPE": TFLiteRule(.stored, shape), "RANK": TFLiteRule(.stored, rank), "TILE": TFLiteRule(.moved, tile),
    "BROADCAST_TO": TFLiteRule(.moved, broadcast), "BROADCAST_ARGS": TFLiteRule(.stored, broadcastShapes),
    "FILL": TFLiteRule(.moved, fill), "RANGE": TFLiteRule(.stored, range),
    "SPACE_TO_DEPTH": blocks("SpaceToDepth", []), "DEPTH_TO_SPACE": blocks("DepthToSpace", [("mode", .string("DCR"))]),
    "SPACE_TO_BATCH_ND": TFLiteRule(.moved, spaceToBatch), "BATCH_TO_SPACE_ND": TFLiteRule(.moved, batchToSpace),
    "MATRIX_DIAG": TFLiteRule(.moved, matrixDiagonal), "MATRIX_SET_DIAG": TFLiteRule(.moved, setDiagonal),
    "RESIZE_BILINEAR": TFLiteRule(.stored, resizeBilinear),
    "RESIZE_NEAREST_NEIGHBOR": TFLiteRule(.moved, resizeNearest),
  ]

  private static func reshape(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    guard layer.has(1) else {
      let numbers = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.int32s(0) }
      return [try layers.reshape(x, (numbers ?? []).map { Int($0) } + complexAxis(layer))]
    }
    let target = try layer.stored(1)
    if let known = layers.integers(target) { return [try layers.reshape(x, known + complexAxis(layer))] }
    // A shape that is put together of extents of the operand.
    if let dims = layers.fact(target).tensor?.values, dims.count(where: { $0.known == nil }) == 1,
      dims.allSatisfy({ $0.known.map { $0 > 0 } ?? true })
    {
      return [try layers.reshape(x, to: dims + complexAxis(layer).map { Dim($0) })]
    }
    let pair = try complexAxis(layer)
    let extents =
      try pair.isEmpty ? layer.longs(1) : layers.concatenate([layer.longs(1), layers.integers(pair)], axis: 0)
    return [try layers.emit("Reshape", [x, extents])]
  }

  private static func transpose(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (x, order) = (try layer.input(0), try layer.integers(1, "the order of the axes"))
    let pair = try complexAxis(layer).count
    let rank = try layer.layers.rank(x) - pair
    let axes = try order.map { (axis) throws(OperatorError) in try layer.axis(axis, rank: rank) }
    guard axes.sorted() == Array(0..<rank) else {
      throw .invalid("an order of \(rank) axes was expected; it is \(order)")
    }
    return [try layer.layers.transpose(x, axes + Array(rank..<rank + pair))]
  }

  private static func expandDims(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let x = try layer.input(0)
    let rank = try layer.layers.rank(x) - complexAxis(layer).count
    return [try layer.layers.unsqueeze(x, [layer.axis(layer.integer(1, "the axis"), rank: rank + 1)])]
  }

  private static func squeeze(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let given = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.int32s(0) } ?? []
    let shape = try layers.shape(x).dropLast(complexAxis(layer).count)
    if given.isEmpty { return [try layers.squeeze(x, shape.indices.filter { shape[$0].known == 1 })] }
    let axes = try given.map { (axis) throws(OperatorError) in try layer.axis(Int(axis), rank: shape.count) }
    return [try layers.squeeze(x, Array(Set(axes)).sorted())]
  }

  private static func shape(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let x = try layer.stored(0)
    let type = try layer.output(0).type ?? .int32
    let pair = try complexAxis(layer).count
    if let known = layer.layers.builder.shape(x)?.concrete {
      return [try layer.layers.cast(layer.layers.integers(Array(known.dims.dropLast(pair))), to: type)]
    }
    let end: [(String, AttributeValue)] = pair == 0 ? [] : [("end", .int(-pair))]
    return [try layer.layers.cast(layer.layers.emit("Shape", [x], end), to: type)]
  }

  private static func rank(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let rank = try layer.layers.rank(layer.stored(0)) - complexAxis(layer).count
    return [layer.layers.constant(Tensor(scalar: Int32(rank)))]
  }

  private static func tile(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Tile", [layer.input(0), layer.longs(1)])]
  }

  private static func broadcast(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Expand", [layer.input(0), layer.longs(1)])]
  }

  /// The shape that two shapes broadcast to.
  private static func broadcastShapes(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let type = try layer.output(0).type ?? .int32
    var shapes = [try layer.longs(0), try layer.longs(1)]
    let counts = try shapes.map { (value) throws(OperatorError) in try layers.extent(value, 0) }
    let axes = counts.max() ?? 0
    guard axes <= 1 << 10 else { throw .unsupported("a shape of \(axes) axes") }
    for (index, count) in counts.enumerated() where count < axes {
      shapes[index] = try layers.concatenate(
        [layers.integers([Int](repeating: 1, count: axes - count)), shapes[index]], axis: 0)
    }
    // An extent of 1 gives way, to one of 0 as well.
    let isOne = try layers.emit("Equal", [shapes[0], layers.integers([1])])
    return [try layers.cast(layers.emit("Where", [isOne, shapes[1], shapes[0]]), to: type)]
  }

  private static func fill(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Expand", [layer.input(1), layer.longs(0)])]
  }

  private static func range(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    var bounds: [ValueID?] = []
    for index in 0..<3 { bounds.append(try scalar(layer, layer.stored(index))) }
    return [try layer.layers.emit("Range", bounds)]
  }

  /// A value of one element, as a scalar.
  static func scalar(_ layer: TFLiteLayer, _ value: ValueID) throws(OperatorError) -> ValueID {
    try layer.layers.rank(value) == 0 ? value : try layer.layers.reshape(value, [])
  }

  // MARK: - Blocks

  private static func blocks(_ op: String, _ attributes: [(String, AttributeValue)]) -> TFLiteRule {
    TFLiteRule(.moved) { (layer) throws(OperatorError) in
      let size = try layer.option(0)
      guard size > 0, size < 1 << 16 else { throw .invalid("the block size should be positive; it is \(size)") }
      let result = try layer.layers.emit(op, [layer.storedImage()], [("blocksize", .int(size))] + attributes)
      return [try layer.layers.channelsLast(result)]
    }
  }

  /// Block sizes and the two numbers at each of their axes.
  private static func blockOperands(
    _ layer: TFLiteLayer
  ) throws(OperatorError) -> (sizes: [Int], begins: [Int], ends: [Int]) {
    let sizes = try layer.integers(1, "the block sizes")
    let bounds = try layer.integers(2, "the bounds")
    let rank = try layer.layers.rank(layer.stored(0))
    // Of at most three axes, so that the product of the blocks is no more than 2^60.
    guard sizes.count < rank, sizes.count <= 3, bounds.count == 2 * sizes.count,
      sizes.allSatisfy({ $0 > 0 && $0 < 1 << 20 }), bounds.allSatisfy({ $0 >= 0 && $0 < 1 << 30 })
    else { throw .invalid("block sizes \(sizes) and bounds \(bounds) do not fit \(rank) axes") }
    return (
      sizes, sizes.indices.map { bounds[2 * $0] }, sizes.indices.map { bounds[2 * $0 + 1] }
    )
  }

  private static func spaceToBatch(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let (sizes, begins, ends) = try blockOperands(layer)
    var x = try layer.input(0)
    let rest = try layers.rank(x) - 1 - sizes.count
    let none = [Int](repeating: 0, count: rest)
    x = try pad(layer, x, [0] + begins + none, [0] + ends + none)
    let shape = try layers.shape(x)
    var split = [shape[0]]
    var order: [Int] = []
    for (axis, size) in sizes.enumerated() {
      guard let part = shape[axis + 1].dividedExactly(by: Dim(size)) else {
        throw .mismatch("axis \(axis + 1) of \(shape) should be a multiple of \(size)")
      }
      split += [part, Dim(size)]
      order.append(2 * axis + 2)
    }
    let tail = Array(shape.dropFirst(1 + sizes.count))
    order += [0] + sizes.indices.map { 2 * $0 + 1 } + tail.indices.map { 1 + 2 * sizes.count + $0 }
    let moved = try layers.transpose(layers.reshape(x, to: split + tail), order)
    let folded = [shape[0] * Dim(sizes.reduce(1, *))] + sizes.indices.map { split[2 * $0 + 1] } + tail
    return [try layers.reshape(moved, to: folded)]
  }

  private static func batchToSpace(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let (sizes, begins, ends) = try blockOperands(layer)
    let x = try layer.input(0)
    let shape = try layers.shape(x)
    guard let batch = shape[0].dividedExactly(by: Dim(sizes.reduce(1, *))) else {
      throw .mismatch("the batch of \(shape) should be a multiple of the blocks \(sizes)")
    }
    let tail = Array(shape.dropFirst(1))
    let split = try layers.reshape(x, to: sizes.map { Dim($0) } + [batch] + tail)
    var order = [sizes.count]
    for axis in sizes.indices { order += [sizes.count + 1 + axis, axis] }
    order += tail.indices.dropFirst(sizes.count).map { sizes.count + 1 + $0 }
    let joined = tail.enumerated().map { axis, extent in axis < sizes.count ? extent * Dim(sizes[axis]) : extent }
    let whole = try layers.reshape(layers.transpose(split, order), to: [batch] + joined)
    if (begins + ends).allSatisfy({ $0 == 0 }) { return [whole] }
    return [
      try layers.slice(
        whole, from: begins, to: ends.map { $0 == 0 ? Int.max : -$0 }, axes: Array(1...sizes.count))
    ]
  }

  // MARK: - Diagonals

  /// True on the diagonal of the last two axes.
  private static func diagonal(_ layer: TFLiteLayer, _ rows: Int, _ columns: Int) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    guard max(rows, columns) <= 1 << 20 else {
      throw .unsupported("a diagonal of \(rows) × \(columns) is too large")
    }
    let lines = try layers.unsqueeze(layers.integers(Array(0..<rows)), [1])
    return try layers.emit("Equal", [lines, layers.integers(Array(0..<columns))])
  }

  private static func matrixDiagonal(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let count = try layers.extent(x, -1)
    let mask = try diagonal(layer, count, count)
    let code = try paddingValue(layer, x)
    let zero = try layers.scalar(0, like: x)
    return [try layers.emit("Where", [mask, try layers.unsqueeze(x, [layers.rank(x)]), code ?? zero])]
  }

  private static func setDiagonal(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, diagonal) = (layer.layers, try layer.input(0), try layer.input(1))
    let (rows, columns) = (try layers.extent(x, -2), try layers.extent(x, -1))
    let mask = try self.diagonal(layer, rows, columns)
    let rank = try layers.rank(x)
    // Row i of the column of the diagonal is element i; rows below the last one of it are not on the diagonal.
    var column = try layers.unsqueeze(diagonal, [rank - 1])
    if rows > columns {
      column = try pad(
        layer, column, [Int](repeating: 0, count: rank),
        [Int](repeating: 0, count: rank - 2) + [rows - columns, 0])
    }
    return [try layers.emit("Where", [mask, column, x])]
  }

  // MARK: - Resizing

  private static func resizeBilinear(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (corners, halves) = (try layer.flag(2), try layer.flag(3))
    let form = corners ? "align_corners" : halves ? "half_pixel" : "asymmetric"
    let image = try layer.image()
    let attributes = [("mode", AttributeValue.string("linear")), ("coordinate_transformation_mode", .string(form))]
    let result = try resize(layer, image, attributes)
    return [try layer.layers.channelsLast(layer.codes(result))]
  }

  /// The nearest element of the file's formulas, which do not take the half of a pixel away again.
  private static func resizeNearest(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (corners, halves) = (try layer.flag(0), try layer.flag(1))
    if corners, halves { throw .unsupported("corners and centers of pixels cannot both be aligned") }
    let form = corners ? "align_corners" : halves ? "half_pixel" : "asymmetric"
    let attributes: [(String, AttributeValue)] = [
      ("mode", .string("nearest")), ("coordinate_transformation_mode", .string(form)),
      ("nearest_mode", .string(corners || halves ? "round_prefer_ceil" : "floor")),
    ]
    let image = try layer.storedImage()
    let nearest = corners ? [] : try nearestElements(layer, image, isCentred: halves)
    let result = try layer.layers.resizedToNearest(image, nearest, from: 2) { () throws(OperatorError) in
      try resize(layer, image, attributes)
    }
    return [try layer.layers.channelsLast(result)]
  }

  /// None where an extent is not known.
  private static func nearestElements(
    _ layer: TFLiteLayer, _ image: ValueID, isCentred: Bool
  ) throws(OperatorError) -> [NearestElements] {
    let extents = try layer.layers.shape(image).suffix(2).map { $0.known ?? 0 }
    guard let sizes = try layer.layers.constant(layer.longs(1))?.integers, extents.count == 2, sizes.count == 2,
      (extents + sizes).allSatisfy({ $0 > 0 })
    else { return [] }
    return zip(extents, sizes).map { NearestElements(extent: $0, count: $1, isCentred: isCentred) }
  }

  private static func resize(
    _ layer: TFLiteLayer, _ image: ValueID, _ attributes: [(String, AttributeValue)]
  ) throws(OperatorError) -> ValueID {
    try layer.layers.emit(
      "Resize", [image, nil, nil, layer.longs(1)], attributes + [("axes", .ints([2, 3]))])
  }
}
