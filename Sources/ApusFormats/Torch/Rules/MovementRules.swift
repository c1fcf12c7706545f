// Operators of PyTorch that move elements without computing any, and give tensors of their own.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let movementTable: [String: TorchRule] = [
    "clone": identity, "to": identity, "type_as": identity, "lift": identity, "lift_fresh_copy": identity,
    "copy": copied, "fill": filled, "zero": filled, "expand": expand, "expand_as": expandAs,
    "broadcast_to": expand, "cat": concatenate, "concat": concatenate, "concatenate": concatenate, "stack": stack,
    "hstack": horizontalStack, "vstack": verticalStack, "split": split, "split_with_sizes": split, "chunk": split,
    "unsafe_split": split, "unsafe_chunk": split, "unsafe_split_with_sizes": split, "tensor_split": split,
    "unbind": unbind, "flip": flip,
    "fliplr": flip, "flipud": flip, "roll": roll, "repeat": repeated, "tile": repeated,
    "repeat_interleave": repeatInterleave, "tril": triangle(upper: false), "triu": triangle(upper: true),
    "slice_scatter": sliceScatter, "select_scatter": selectScatter, "broadcast_tensors": broadcastTensors,
    "unfold": unfold, "im2col": imageToColumns, "col2im": columnsToImage, "rot90": rotate, "meshgrid": meshgrid,
    "diag_embed": diagonalMatrix, "constant_pad_nd": pad, "pad": pad, "reflection_pad1d": pad,
    "reflection_pad2d": pad, "reflection_pad3d": pad, "replication_pad1d": pad, "replication_pad2d": pad,
    "replication_pad3d": pad, "_pad_circular": pad, "_pad_enum": pad, "pixel_shuffle": pixelShuffle,
    "pixel_unshuffle": pixelUnshuffle, "channel_shuffle": channelShuffle, "native_channel_shuffle": channelShuffle,
    "convert_element_type": identity, "as_strided": asStrided,
  ]

  /// A strided window on a tensor that lies in order: only that which is a reshape.
  private static func asStrided(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard let meta = call.result(), meta.isContiguous, call.meta("self")?.isContiguous ?? false,
      meta.offset.known == 0
    else { throw .unsupported("as_strided of other than a whole tensor in order") }
    return [try call.reshapeToResult(try call.tensor("self"))]
  }

  private static func copied(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.layers.cast(try call.tensor("src"), to: try call.resultType())
    let target = try call.tensor(at: 0)
    if try call.layers.shape(value) == call.layers.shape(target) { return [value] }
    return [try call.layers.emit("Expand", [value, try call.shapeTensor(target)])]
  }

  private static func filled(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let value = call.op.rule == "zero" ? try call.constant(.integer(0), type) : try call.operand("value", as: type)
    return [try call.layers.emit("Expand", [value, try call.shapeTensor(try call.tensor(at: 0))])]
  }

  // MARK: - Expansion

  private static func expand(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    var sizes = try call.sizes("size") ?? []
    let shape = try call.layers.shape(value)
    // An extent of 1 leaves that of the operand.
    for index in sizes.indices where try call.lowering.known(sizes[index]) == -1 { sizes[index] = .number(1) }
    let isSame =
      shape.count == sizes.count
      && zip(shape, sizes).allSatisfy { (dim, size) in
        size == .number(1) || (dim.known != nil && .number(dim.known!) == size)
      }
    return [isSame ? value : try call.layers.emit("Expand", [value, try call.shapeTensor(sizes)])]
  }

  private static func expandAs(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, other) = (try call.tensor("self"), try call.tensor("other"))
    return [try call.layers.emit("Expand", [value, try call.shapeTensor(other)])]
  }

  private static func broadcastTensors(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let values = try call.tensors("tensors")
    var results: [ValueID?] = []
    for (index, value) in values.enumerated() {
      guard let sizes = call.result(index)?.sizes else { throw .unsupported("the shape of a result is not known") }
      results.append(try call.layers.emit("Expand", [value, try call.layers.extents(sizes, of: values)]))
    }
    return results
  }

  private static func repeated(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var value = try call.tensor("self")
    var sizes = try call.sizes(call.op.rule == "tile" ? "dims" : "repeats") ?? []
    let rank = try call.layers.rank(value)
    while sizes.count < rank { sizes.insert(.number(1), at: 0) }
    value = try call.padded(value, toRank: sizes.count)
    return [try call.layers.emit("Tile", [value, try call.shapeTensor(sizes)])]
  }

  private static func repeatInterleave(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    if call.op.overload.hasSuffix("Tensor") { throw .unsupported("repeats that differ from element to element") }
    var value = try call.tensor("self")
    let count = try call.int("repeats")
    if !call.has("dim") { value = try layers.reshape(value, [-1]) }
    let rank = try layers.rank(value)
    let axis = try call.axis("dim", of: rank, 0)
    var tiles = [Int](repeating: 1, count: rank + 1)
    tiles[axis + 1] = count
    let wide = try layers.emit("Tile", [try layers.unsqueeze(value, [axis + 1]), layers.integers(tiles)])
    var shape = try layers.shape(value)
    shape[axis] = shape[axis] * Dim(count)
    if shape.count(where: { $0.known == nil }) <= 1 { return [try layers.reshape(wide, shape.map { $0.known ?? -1 })] }
    return [try layers.emit("Reshape", [wide, try mergedShape(value, axis, Dim(count), call)])]
  }

  /// The shape of `value` with the extent of an axis left to be found.
  private static func mergedShape(
    _ value: ValueID, _ axis: Int, _ factor: Dim, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    var parts: [ValueID] = []
    if axis > 0 { parts.append(try layers.emit("Shape", [value], [("start", .int(0)), ("end", .int(axis))])) }
    parts.append(layers.integers([-1]))
    if axis + 1 < rank { parts.append(try layers.emit("Shape", [value], [("start", .int(axis + 1))])) }
    return try layers.concatenate(parts, axis: 0)
  }

  // MARK: - Together and apart

  private static func concatenate(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let all = try call.tensors("tensors")
    guard let rank = call.result()?.sizes.count else { throw .unsupported("the rank of the result is not known") }
    var values: [ValueID] = []
    for value in all {
      // torch passes over empty tensors of one axis.
      if rank > 1, try call.layers.shape(value).map(\.known) == [0] { continue }
      values.append(try call.layers.cast(value, to: type))
    }
    guard let first = values.first else { throw .invalid("there are no tensors") }
    let axis = try call.axis("dim", of: try call.layers.rank(first), 0)
    return [try call.layers.concatenate(values, axis: axis)]
  }

  private static func stack(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let all = try call.tensors("tensors")
    guard let first = all.first else { throw .invalid("there are no tensors") }
    let axis = try call.axis("dim", of: try call.layers.rank(first) + 1, 0)
    var values: [ValueID] = []
    for value in all { values.append(try call.layers.unsqueeze(try call.layers.cast(value, to: type), [axis])) }
    return [try call.layers.concatenate(values, axis: axis)]
  }

  private static func horizontalStack(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var values: [ValueID] = []
    for value in try call.tensors("tensors") { values.append(try call.padded(value, toRank: 1)) }
    guard let first = values.first else { throw .invalid("there are no tensors") }
    return [try call.layers.concatenate(values, axis: try call.layers.rank(first) == 1 ? 0 : 1)]
  }

  private static func verticalStack(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var values: [ValueID] = []
    for value in try call.tensors("tensors") { values.append(try call.padded(value, toRank: 2)) }
    return [try call.layers.concatenate(values, axis: 0)]
  }

  /// Into parts whose extents the program says.
  private static func split(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let axis = try call.axis("dim", of: try call.layers.rank(value), 0)
    let count = call.node.outputs.reduce(0) { total, output in
      if case .tensors(let names) = output { return total + names.count }
      return total + 1
    }
    if count == 1 { return [value] }
    var extents: [Int] = []
    for index in 0..<count {
      guard let sizes = call.result(index)?.sizes, sizes.indices.contains(axis), let extent = sizes[axis].known else {
        // Parts of the extent divided and rounded up, of which the last may be smaller.
        if call.op.rule.hasSuffix("chunk"), try call.int("chunks") == count {
          return try call.layers.emit(
            "Split", [value], [("axis", .int(axis)), ("num_outputs", .int(count))], outputs: count
          ).map { $0 }
        }
        throw .unsupported("parts of which the extents are not known")
      }
      extents.append(extent)
    }
    return try call.layers.emit(
      "Split", [value, call.layers.integers(extents)], [("axis", .int(axis))], outputs: count
    ).map { $0 }
  }

  private static func unbind(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let axis = try call.axis("dim", of: try layers.rank(value), 0)
    let count = try layers.extent(value, axis)
    if count == 1 { return [try layers.squeeze(value, [axis])] }
    guard count <= 1 << 16 else { throw .unsupported("\(count) parts") }
    let ones = layers.integers([Int](repeating: 1, count: count))
    var parts: [ValueID?] = []
    for part in try layers.emit("Split", [value, ones], [("axis", .int(axis))], outputs: count) {
      parts.append(try layers.squeeze(part, [axis]))
    }
    return parts
  }

  // MARK: - Order

  private static func flip(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let rank = try call.layers.rank(value)
    let axes =
      switch call.op.rule {
      case "fliplr": [1]
      case "flipud": [0]
      default: try call.ints("dims").isEmpty ? [] : try call.axes("dims", of: rank)
      }
    if axes.isEmpty { return [value] }
    return [try flipped(value, axes, call)]
  }

  private static func flipped(_ value: ValueID, _ axes: [Int], _ call: TorchCall) throws(OperatorError) -> ValueID {
    let ones = [Int](repeating: -1, count: axes.count)
    return try call.layers.slice(value, from: ones, to: axes.map { _ in Int.min + 1 }, axes: axes, steps: ones)
  }

  private static func roll(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try call.tensor("self")
    let shifts = try call.ints("shifts")
    guard call.has("dims"), try !call.ints("dims").isEmpty else {
      let flat = try layers.rolled(try layers.reshape(value, [-1]), axis: 0, by: shifts.first ?? 0)
      return [try layers.emit("Reshape", [flat, try call.shapeTensor(value)])]
    }
    let axes = try call.axes("dims", of: try layers.rank(value))
    guard axes.count == shifts.count else { throw .invalid("as many shifts as dims were expected") }
    for (axis, shift) in zip(axes, shifts) { value = try layers.rolled(value, axis: axis, by: shift) }
    return [value]
  }

  private static func rotate(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let rank = try call.layers.rank(value)
    let axes = call.has("dims") ? try call.axes("dims", of: rank) : [0, 1]
    guard axes.count == 2, axes[0] != axes[1] else { throw .invalid("two axes were expected") }
    var order = Array(0..<rank)
    order.swapAt(axes[0], axes[1])
    switch (try call.int("k", 1) % 4 + 4) % 4 {
    case 0: return [value]
    case 1: return [try call.layers.transpose(try flipped(value, [axes[1]], call), order)]
    case 2: return [try flipped(value, axes, call)]
    default: return [try flipped(try call.layers.transpose(value, order), [axes[1]], call)]
    }
  }

  private static func triangle(upper: Bool) -> TorchRule {
    { (call) throws(OperatorError) in
      let diagonal = call.layers.constant(Tensor(scalar: Int64(try call.int("diagonal", 0))))
      return [try call.layers.emit("Trilu", [try call.tensor("self"), diagonal], [("upper", .int(upper ? 1 : 0))])]
    }
  }

  private static func sliceScatter(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard let view = try viewTable["slice"]?(call), let write = view.write else { return [nil] }
    let base = try call.tensor("self")
    let part = try view.read(base)
    var source = try call.layers.cast(try call.tensor("src"), to: try call.resultType())
    if try call.layers.shape(part) != call.layers.shape(source) {
      source = try call.layers.emit("Expand", [source, try call.shapeTensor(part)])
    }
    return [try write(base, source)]
  }

  private static func selectScatter(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard let view = try viewTable["select"]?(call), let write = view.write else { return [nil] }
    return [try write(try call.tensor("self"), try call.layers.cast(try call.tensor("src"), to: try call.resultType()))]
  }

  private static func meshgrid(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (values, layers) = (try call.tensors("tensors"), call.layers)
    let isXY = try call.string("indexing", "ij") == "xy" && values.count >= 2
    var axes = Array(values.indices)
    if isXY { axes.swapAt(0, 1) }
    var extents = [ValueID?](repeating: nil, count: values.count)
    for (value, axis) in zip(values, axes) {
      extents[axis] = try call.shapeTensor(try layers.reshape(value, [-1]))
    }
    let shape = try layers.concatenate(extents.compactMap { $0 }, axis: 0)
    var results: [ValueID?] = []
    for (value, axis) in zip(values, axes) {
      var target = [Int](repeating: 1, count: values.count)
      target[axis] = -1
      results.append(try layers.emit("Expand", [try layers.reshape(value, target), shape]))
    }
    return results
  }

  private static func diagonalMatrix(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    guard try call.int("offset", 0) == 0, try call.axis("dim1", of: rank + 1, -2) == rank - 1,
      try call.axis("dim2", of: rank + 1, -1) == rank
    else { throw .unsupported("matrices of which another than the main diagonal is filled") }
    let extent = try layers.extent(value, rank - 1)
    guard extent <= 4096 else { throw .unsupported("a matrix of \(extent) rows") }
    var eye = [UInt8](repeating: 0, count: extent * extent)
    for place in 0..<extent { eye[place * extent + place] = 1 }
    let mask = try layers.cast(layers.constant(Tensor(eye, shape: [extent, extent])), to: .bool)
    let wide = try layers.unsqueeze(value, [rank - 1])
    return [try layers.emit("Where", [mask, wide, try layers.scalar(0, like: value)])]
  }

  // MARK: - Windows

  /// All windows of an axis, their elements on a new last axis.
  private static func unfold(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    let axis = try call.axis("dimension", of: rank)
    let (size, step) = (try call.int("size"), try call.int("step"))
    let extent = try layers.extent(value, axis)
    guard (0...extent).contains(size) else { throw .invalid("a window of \(size) elements of \(extent)") }
    let count = (extent - size) / max(step, 1) + 1
    guard count > 0, step > 0, count <= (1 << 24) / max(size, 1) else { throw .invalid("no window fits") }
    let places = (0..<count).flatMap { window in (0..<size).map { Int64(window * step + $0) } }
    let indices = layers.constant(Tensor(places, shape: [count, size]))
    let gathered = try layers.emit("Gather", [value, indices], [("axis", .int(axis))])
    var order = Array(0...rank)
    order.remove(at: axis + 1)
    order.append(axis + 1)
    return [try layers.transpose(gathered, order)]
  }

  /// Windows of images as columns: rows and columns of each are gathered one after the other.
  private static func imageToColumns(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try call.tensor("self")
    let isSingle = try layers.rank(value) == 3
    if isSingle { value = try layers.unsqueeze(value, [0]) }
    let (kernel, dilation) = (try call.ints("kernel_size"), try call.ints("dilation"))
    let (padding, stride) = (try call.ints("padding"), try call.ints("stride"))
    let sizes = [kernel, dilation, padding, stride]
    guard sizes.allSatisfy({ $0.count == 2 && $0.allSatisfy { (0...1 << 24).contains($0) } }),
      stride.allSatisfy({ $0 > 0 })
    else { throw .invalid("two numbers of at most \(1 << 24) were expected for each size; they are \(sizes)") }
    let pads = [0, 0, padding[0], padding[1], 0, 0, padding[0], padding[1]]
    if padding != [0, 0] { value = try layers.emit("Pad", [value, layers.integers(pads)]) }
    let channels = try layers.extent(value, 1)
    var counts: [Int] = []
    for (index, axis) in [2, 4].enumerated() {
      let extent = try layers.extent(value, axis)
      let count = (extent - dilation[index] * (kernel[index] - 1) - 1) / stride[index] + 1
      guard count > 0, count * kernel[index] <= 1 << 24 else { throw .invalid("no window fits") }
      counts.append(count)
      let places = (0..<kernel[index]).flatMap { tap in
        (0..<count).map { Int64(tap * dilation[index] + $0 * stride[index]) }
      }
      let indices = layers.constant(Tensor(places, shape: [kernel[index], count]))
      value = try layers.emit("Gather", [value, indices], [("axis", .int(axis))])
    }
    // [batch, channels, kernel rows, rows, kernel columns, columns]
    value = try layers.transpose(value, [0, 1, 2, 4, 3, 5])
    value = try layers.reshape(value, [-1, channels * kernel[0] * kernel[1], counts[0] * counts[1]])
    return [isSingle ? try layers.squeeze(value, [0]) : value]
  }

  private static func columnsToImage(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let padding = try call.ints("padding")
    return [
      try layers.emit(
        "Col2Im",
        [
          try call.tensor("self"), layers.integers(try call.ints("output_size")),
          layers.integers(try call.ints("kernel_size")),
        ],
        [
          ("dilations", .ints(try call.ints("dilation"))), ("strides", .ints(try call.ints("stride"))),
          ("pads", .ints(padding + padding)),
        ])
    ]
  }

  /// torch lists the padding from the last axis to the first, before and behind each.
  private static func pad(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    guard let sizes = try call.sizes(call.has("pad") ? "pad" : "padding"), sizes.count % 2 == 0,
      sizes.count <= 2 * rank
    else { throw .invalid("two numbers for each padded axis were expected") }
    var mode = try call.string("mode", "constant")
    if call.op.rule == "_pad_enum" {
      let modes = ["constant", "reflect", "replicate", "circular"]
      let number = try call.int("mode")
      guard modes.indices.contains(number) else { throw .invalid("the mode \(number) is unknown") }
      mode = modes[number]
    }
    if call.op.rule.hasPrefix("reflection") { mode = "reflect" }
    if call.op.rule.hasPrefix("replication") { mode = "replicate" }
    if call.op.rule == "_pad_circular" { mode = "circular" }
    let modes = ["constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"]
    guard let name = modes[mode] else { throw .invalid("the mode '\(mode)' is unknown") }
    let axes = (0..<(sizes.count / 2)).map { rank - 1 - $0 }
    let ordered = axes.indices.map { sizes[2 * $0] } + axes.indices.map { sizes[2 * $0 + 1] }
    var fill: ValueID?
    if mode == "constant", let number = try call.number("value"), number.real != 0, let type = layers.type(value) {
      fill = try call.constant(number, type)
    }
    return [
      try layers.emit(
        "Pad", [value, try call.shapeTensor(ordered), fill, layers.integers(axes)], [("mode", .string(name))])
    ]
  }

  private static func pixelShuffle(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let factor = try call.int("upscale_factor")
    let attributes: [(String, AttributeValue)] = [("blocksize", .int(factor)), ("mode", .string("CRD"))]
    switch try layers.rank(value) {
    case 3:
      let wide = try layers.emit("DepthToSpace", [try layers.unsqueeze(value, [0])], attributes)
      return [try layers.squeeze(wide, [0])]
    case 4: return [try layers.emit("DepthToSpace", [value], attributes)]
    default: throw .unsupported("pixel_shuffle of other than images or batches of images")
    }
  }

  private static func pixelUnshuffle(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let factor = try call.int("downscale_factor")
    guard try layers.rank(value) == 4, factor > 0 else { throw .unsupported("pixel_unshuffle of other than batches") }
    let (channels, height) = (try layers.extent(value, 1), try layers.extent(value, 2))
    let width = try layers.extent(value, 3)
    let blocks = try layers.reshape(value, [-1, channels, height / factor, factor, width / factor, factor])
    let ordered = try layers.transpose(blocks, [0, 1, 3, 5, 2, 4])
    return [try layers.reshape(ordered, [-1, channels * factor * factor, height / factor, width / factor])]
  }

  private static func channelShuffle(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let groups = try call.int("groups")
    let channels = try layers.extent(value, 1)
    guard groups > 0, channels % groups == 0 else { throw .invalid("\(channels) channels are no \(groups) groups") }
    let flat = try layers.emit("Reshape", [value, layers.integers([0, groups, channels / groups, -1])])
    let ordered = try layers.transpose(flat, [0, 2, 1, 3])
    return [try layers.emit("Reshape", [ordered, try call.shapeTensor(value)])]
  }
}
