// Parts of tensors of TensorFlow Lite, what is put around them, and what is joined.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let slices: [String: TFLiteRule] = [
    "SLICE": TFLiteRule(.moved, slice), "STRIDED_SLICE": TFLiteRule(.moved, stridedSlice),
    "PAD": TFLiteRule(.moved, pad), "PADV2": TFLiteRule(.moved, pad), "MIRROR_PAD": TFLiteRule(.moved, mirrorPad),
    "REVERSE_V2": TFLiteRule(.moved, reverse), "REVERSE_SEQUENCE": TFLiteRule(.moved, reverseSequence),
    "DYNAMIC_UPDATE_SLICE": TFLiteRule(.moved, updateSlice),
  ]

  private static func slice(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let begins = layers.integers(try layer.stored(1))
    if let begins, let sizes = layers.integers(try layer.stored(2)) {
      guard begins.count == sizes.count, begins.count == (try layers.rank(x)) else {
        throw .invalid("a slice should have one begin and size for each axis")
      }
      let ends = zip(begins, sizes).map { $1 == -1 ? Int.max : $0.addingReportingOverflow($1).partialValue }
      return [try layers.slice(x, from: begins, to: ends, axes: Array(begins.indices))]
    }
    let (first, size) = (try layer.longs(1), try layer.longs(2))
    let isRest = try layers.emit("Equal", [size, layers.integers([-1])])
    let last = try layers.emit(
      "Where", [isRest, layers.integers([Int(Int64.max)]), try layers.emit("Add", [first, size])])
    return [try layers.emit("Slice", [x, first, last, layers.integers(Array(0..<layers.rank(x)))])]
  }

  // MARK: - Strided slices

  /// One entry of the specification of a slice.
  private struct Entry {
    var index: Int
    var axis: Int
    var takesOne: Bool
    var hasBegin: Bool
    var hasEnd: Bool
  }

  /// What the masks make of the entries: those that slice, by axes, and where new axes go in the result.
  private static func entries(
    _ layer: TFLiteLayer, _ count: Int, rank: Int
  ) throws(OperatorError) -> (entries: [Entry], new: [Int], dropped: [Int]) {
    let masks = try (0..<5).map { (field) throws(OperatorError) in try layer.option(field) }
    func isSet(_ mask: Int, _ index: Int) -> Bool { index < 32 && masks[mask] & (1 << index) != 0 }
    let ellipsis = (0..<count).filter { isSet(2, $0) }
    guard ellipsis.count <= 1, count <= 32 else { throw .invalid("a slice has at most one ellipsis") }
    let used = (0..<count).count { !isSet(2, $0) && !isSet(3, $0) }
    guard used <= rank else { throw .invalid("a slice of \(rank) axes has \(used) entries") }
    var (entries, new, dropped): ([Entry], [Int], [Int]) = ([], [], [])
    var (axis, place) = (0, 0)
    for index in 0..<count {
      if isSet(2, index) {
        axis += rank - used
        place += rank - used
      } else if isSet(3, index) {
        new.append(place)
        place += 1
      } else {
        entries.append(
          Entry(
            index: index, axis: axis, takesOne: isSet(4, index), hasBegin: !isSet(0, index) || isSet(4, index),
            hasEnd: !isSet(1, index)))
        if isSet(4, index) { dropped.append(axis) } else { place += 1 }
        axis += 1
      }
    }
    return (entries, new, dropped)
  }

  private static func stridedSlice(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let steps = try layer.integers(3, "the strides")
    if try layer.flag(5) { throw .unsupported("ends that count from the begins are not supported") }
    let (entries, new, dropped) = try entries(layer, steps.count, rank: layers.rank(x))
    guard entries.allSatisfy({ steps[$0.index] != 0 && steps[$0.index] > Int(Int32.min) }) else {
      throw .invalid("a stride is 0")
    }
    var result = x
    if !entries.isEmpty {
      let (begins, ends) = try bounds(layer, entries, steps)
      result = try layers.emit(
        "Slice",
        [
          x, begins, ends, layers.integers(entries.map(\.axis)),
          layers.integers(entries.map { $0.takesOne ? 1 : steps[$0.index] }),
        ])
    }
    return [try layers.unsqueeze(layers.squeeze(result, dropped), new)]
  }

  /// Where the parts begin and end, as int64.
  private static func bounds(
    _ layer: TFLiteLayer, _ entries: [Entry], _ steps: [Int]
  ) throws(OperatorError) -> (ValueID, ValueID) {
    let layers = layer.layers
    let (begin, end) = (try layer.stored(1), try layer.stored(2))
    let counts = [try layers.extent(begin, 0), try layers.extent(end, 0)]
    guard counts.allSatisfy({ $0 == steps.count }) else {
      throw .invalid("begins, ends and strides should be as many; they are \(counts[0]), \(counts[1]), \(steps.count)")
    }
    let firsts = entries.map { steps[$0.index] > 0 ? 0 : Int.max }
    let lasts = entries.map { steps[$0.index] > 0 ? Int.max : Int.min }
    // Numbers where they are known or not needed.
    let begins = zip(entries, firsts).map { entry, first in entry.hasBegin ? known(layers, begin, entry.index) : first }
    let ends = zip(entries, lasts).enumerated().map { position, pair in
      if pair.0.takesOne { return begins[position].map { $0 == -1 ? Int.max : min($0, Int.max - 1) + 1 } }
      return pair.0.hasEnd ? known(layers, end, pair.0.index) : pair.1
    }
    if !begins.contains(nil), !ends.contains(nil) {
      return (layers.integers(begins.compactMap(\.self)), layers.integers(ends.compactMap(\.self)))
    }
    let places = layers.integers(entries.map(\.index))
    let first = try layers.emit(
      "Where",
      [
        flags(layers, entries.map(\.hasBegin)), try layers.emit("Gather", [layer.longs(1), places]),
        layers.integers(firsts),
      ])
    let next = try layers.emit("Add", [first, layers.integers([1])])
    let isLast = try layers.emit("Equal", [first, layers.integers([-1])])
    let afterOne = try layers.emit("Where", [isLast, layers.integers([Int.max]), next])
    let given = try layers.emit(
      "Where",
      [
        flags(layers, entries.map(\.hasEnd)), try layers.emit("Gather", [layer.longs(2), places]),
        layers.integers(lasts),
      ])
    return (first, try layers.emit("Where", [flags(layers, entries.map(\.takesOne)), afterOne, given]))
  }

  private static func known(_ layers: LayerBuilder, _ value: ValueID, _ index: Int) -> Int? {
    if let numbers = layers.constant(value)?.integers { return numbers.indices.contains(index) ? numbers[index] : nil }
    let values = layers.fact(value).tensor?.values
    return values.flatMap { $0.indices.contains(index) ? $0[index].known : nil }
  }

  private static func flags(_ layers: LayerBuilder, _ flags: [Bool]) -> ValueID {
    layers.constant(Tensor(flags))
  }

  // MARK: - Padding

  /// What stands for nothing in an operand of the rule's form: nil for zero, or its code. A zero that is named is taken
  /// by onnxruntime (1.31) for padding of the MaxPool behind it, where it would not be a largest element.
  static func paddingValue(_ layer: TFLiteLayer, _ value: ValueID) throws(OperatorError) -> ValueID? {
    let tensor = try layer.tensor(0)
    guard layer.form == .stored, let quantization = tensor.quantization else { return nil }
    guard quantization.isWhole else { throw .unsupported("codes with several scales cannot be padded") }
    return try layer.layers.scalar(Double(quantization.zeroPoints[0]), like: value)
  }

  /// `value` with so many zeros before and behind each axis.
  static func pad(
    _ layer: TFLiteLayer, _ value: ValueID, _ begins: [Int], _ ends: [Int]
  ) throws(OperatorError) -> ValueID {
    if (begins + ends).allSatisfy({ $0 == 0 }) { return value }
    return try layer.layers.emit(
      "Pad", [value, layer.layers.integers(begins + ends), paddingValue(layer, value)])
  }

  /// Operands: values, begins and ends by axis, and for PADV2 what is put around.
  private static func pad(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let filling = layer.has(2) ? try scalar(layer, layer.input(2)) : try paddingValue(layer, x)
    let pads: ValueID
    if let known = layers.integers(try layer.stored(1)) {
      let axes = known.count / 2
      guard known.count == 2 * (try layers.rank(x)) else { throw .invalid("two numbers an axis were expected") }
      pads = layers.integers((0..<axes).map { known[2 * $0] } + (0..<axes).map { known[2 * $0 + 1] })
    } else {
      pads = try layers.reshape(layers.emit("Transpose", [layer.longs(1)], [("perm", .ints([1, 0]))]), [-1])
    }
    return [try layers.emit("Pad", [x, pads, filling])]
  }

  /// What lies inside of the edge again, without the edge (mode 0) or with it (mode 1).
  private static func mirrorPad(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, mode) = (layer.layers, try layer.choice(0))
    var x = try layer.input(0)
    let known = try layer.integers(1, "the paddings")
    let rank = try layers.rank(x)
    guard known.count == 2 * rank, known.allSatisfy({ $0 >= 0 && $0 < 1 << 32 }), mode == 0 || mode == 1 else {
      throw .invalid("two numbers an axis were expected, and mode 0 or 1; the mode is \(mode)")
    }
    for axis in 0..<rank {
      let (before, behind) = (known[2 * axis], known[2 * axis + 1])
      if before + behind == 0 { continue }
      let skipped = 1 - mode
      var parts = [x]
      if before > 0 {
        // From the farthest one back to the edge.
        parts.insert(
          try layers.slice(
            x, from: [before - 1 + skipped], to: [skipped == 0 ? Int.min : 0], axes: [axis], steps: [-1]), at: 0)
      }
      if behind > 0 {
        parts.append(
          try layers.slice(
            x, from: [-1 - skipped], to: [-1 - skipped - behind], axes: [axis], steps: [-1]))
      }
      x = try layers.concatenate(parts, axis: axis)
    }
    return [x]
  }

  // MARK: - Order

  private static func reverse(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let rank = try layers.rank(x)
    let given = try layer.integers(1, "the axes")
    let axes = try given.map { (axis) throws(OperatorError) in try layer.axis(axis, rank: rank) }
    if axes.isEmpty { return [x] }
    let ones = axes.map { _ in -1 }
    return [try layers.slice(x, from: ones, to: axes.map { _ in Int.min }, axes: axes, steps: ones)]
  }

  /// ONNX has the sequence on one of the first two axes and the batch on the other.
  private static func reverseSequence(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let rank = try layers.rank(x)
    let time = try layer.axis(layer.option(0), rank: rank)
    let batch = try layer.axis(layer.option(1), rank: rank)
    guard time != batch else { throw .invalid("time and batch should be two axes; both are axis \(time)") }
    let order = [batch, time] + (0..<rank).filter { $0 != batch && $0 != time }
    let reversed = try layers.emit(
      "ReverseSequence", [layers.transpose(x, order), layer.longs(1)],
      [("batch_axis", .int(0)), ("time_axis", .int(1))])
    return [try layers.transpose(reversed, (0..<rank).map { axis in order.firstIndex(of: axis) ?? axis })]
  }

  /// Operands: values, the part that takes the place of one of them, and where that begins, which is moved so that it
  /// lies inside.
  private static func updateSlice(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, part) = (layer.layers, try layer.input(0), try layer.input(1))
    let sizes = try layers.emit("Shape", [x])
    let room = try layers.emit("Sub", [sizes, try layers.emit("Shape", [part])])
    let low = try layers.emit("Max", [layer.longs(2), layers.integers([0])])
    let begin = try layers.emit("Min", [low, room])
    let pads = try layers.concatenate([begin, layers.emit("Sub", [room, begin])], axis: 0)
    let filled = try layers.emit("Pad", [part, pads])
    let ones = try layers.emit("Expand", [layers.constant(Tensor([UInt8(1)])), try layers.emit("Shape", [part])])
    let mask = try layers.cast(layers.emit("Pad", [ones, pads]), to: .bool)
    return [try layers.emit("Where", [mask, filled, x])]
  }

  // MARK: - Joining and splitting

  static let joining: [String: TFLiteRule] = [
    "CONCATENATION": TFLiteRule(.moved, concatenation), "PACK": TFLiteRule(.moved, pack),
    "UNPACK": TFLiteRule(.moved, unpack), "SPLIT": TFLiteRule(.moved, split), "SPLIT_V": TFLiteRule(.moved, splitSizes),
  ]

  private static func inputs(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID] {
    let inputs = try (0..<layer.inputCount).map { (index) throws(OperatorError) in try layer.input(index) }
    if inputs.isEmpty { throw .invalid("at least one operand was expected; there is none") }
    return inputs
  }

  private static func concatenation(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (inputs, layers) = (try inputs(layer), layer.layers)
    let axis = try layer.axis(layer.option(0), rank: layers.rank(inputs[0]))
    let result = try layers.concatenate(inputs, axis: axis)
    let code = try layer.choice(1)
    if code != 0, layer.form == .stored, try layer.output(0).quantization != nil {
      throw .unsupported("an activation behind a concatenation of codes is not supported")
    }
    return [try layer.activation(result, code)]
  }

  private static func pack(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (inputs, layers) = (try inputs(layer), layer.layers)
    let axis = try layer.axis(layer.option(1), rank: layers.rank(inputs[0]) + 1)
    let parts = try inputs.map { (value) throws(OperatorError) in try layers.unsqueeze(value, [axis]) }
    return [try layers.concatenate(parts, axis: axis)]
  }

  private static func unpack(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let axis = try layer.axis(layer.option(1), rank: layers.rank(x))
    let parts = try split(layer, x, axis, [Int](repeating: 1, count: layer.outputCount))
    return try parts.map { (part) throws(OperatorError) in try layers.squeeze(part, [axis]) }
  }

  private static func split(
    _ layer: TFLiteLayer, _ value: ValueID, _ axis: Int, _ sizes: [Int]
  ) throws(OperatorError) -> [ValueID] {
    if sizes.isEmpty { throw .invalid("at least one part was expected") }
    if sizes.count == 1 { return [value] }
    let layers = layer.layers
    return try layers.emit("Split", [value, layers.integers(sizes)], [("axis", .int(axis))], outputs: sizes.count)
  }

  /// Operands: axis, values.
  private static func split(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, count) = (layer.layers, try layer.input(1), layer.outputCount)
    let axis = try layer.axis(layer.integer(0, "the axis"), rank: layers.rank(x))
    let extent = try layers.extent(x, axis)
    guard count > 0, extent % count == 0 else {
      throw .mismatch("an extent of \(extent) cannot be split into \(count) equal parts")
    }
    return try split(layer, x, axis, [Int](repeating: extent / count, count: count))
  }

  /// Operands: values, sizes, of which one may be -1, axis.
  private static func splitSizes(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let axis = try layer.axis(layer.integer(2, "the axis"), rank: layers.rank(x))
    var sizes = try layer.integers(1, "the sizes")
    guard sizes.count == layer.outputCount, sizes.allSatisfy({ $0 >= -1 && $0 < 1 << 32 }) else {
      throw .invalid("a size for each of \(layer.outputCount) results was expected; they are \(sizes)")
    }
    if let rest = sizes.firstIndex(of: -1) {
      sizes[rest] = 0
      sizes[rest] = try layers.extent(x, axis) - sizes.reduce(0, +)
    }
    return try split(layer, x, axis, sizes)
  }
}
