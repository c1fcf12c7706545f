// Layers of Keras that make one tensor of several, and encodings of categories.

import ApusGraph
import ApusTensor

enum KerasMerging {
  static let rules: [String: KerasRule] = [
    "Add": merge("Add"), "Subtract": merge("Sub"), "Multiply": merge("Mul", takesMasks: false),
    "Maximum": merge("Max", takesMasks: false), "Minimum": merge("Min", takesMasks: false),
    "Average": KerasRule(average), "Concatenate": KerasRule(concatenate), "Dot": KerasRule(dot),
    "CategoryEncoding": .one(categories), "Discretization": .one(discretization),
    "CenterCrop": .one(centerCrop), "CustomScaleLayer": KerasRule(scaledSum),
  ]

  /// A tensor and a part of another: a layer that `keras.applications` keeps with InceptionResNetV2.
  private static func scaledSum(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let (first, second) = (try call.input(0).value, try call.input(1).value)
    guard call.node.tensors.count == 2, let scale = call.config["scale"]?.double else {
      throw .invalid("two tensors and a number 'scale' were expected, as in keras.applications.InceptionResNetV2")
    }
    let part = try call.layers.emit("Mul", [second, call.layers.scalar(scale, like: second)])
    return [KerasTensor(try call.layers.emit("Add", [first, part]))]
  }

  /// The tensors with as many axes as that which has most: new ones come behind the batch.
  private static func operands(_ call: KerasCall) throws(OperatorError) -> [ValueID] {
    var values: [ValueID] = []
    var rank = 0
    for tensor in call.node.tensors { rank = max(rank, try call.layers.rank(tensor.value)) }
    for tensor in call.node.tensors {
      let missing = rank - (try call.layers.rank(tensor.value))
      values.append(try call.layers.unsqueeze(tensor.value, Array(1..<1 + missing)))
    }
    if values.isEmpty { throw .invalid("it is called without a tensor") }
    return values
  }

  /// True where one of the masks is, with Keras 2 where all are; nil if a tensor has none.
  private static func mask(_ call: KerasCall) throws(OperatorError) -> ValueID? {
    var result: ValueID?
    let op = call.network.version >= 3 ? "Or" : "And"
    for tensor in call.node.tensors {
      guard let mask = tensor.mask else { return nil }
      result = try result.map { (other) throws(OperatorError) in try call.layers.emit(op, [other, mask]) } ?? mask
    }
    return result
  }

  private static func merge(_ op: String, takesMasks: Bool = true) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let values = try operands(call)
      let isMasked = call.node.tensors.contains { $0.mask != nil }
      if isMasked, !takesMasks, call.network.version >= 3 {
        return [try joined(values, op, call)]
      }
      var result = values[0]
      for value in values.dropFirst() { result = try call.layers.emit(op, [result, value]) }
      return [KerasTensor(result, mask: try mask(call))]
    }
  }

  /// A product or an extreme of tensors of which some have masks, which Keras 3 takes from what is not hidden alone.
  private static func joined(
    _ values: [ValueID], _ op: String, _ call: KerasCall
  ) throws(OperatorError) -> KerasTensor {
    let layers = call.layers
    let tensors = call.node.tensors
    var masks: [ValueID?] = []
    for (tensor, value) in zip(tensors, values) {
      guard let mask = tensor.mask else {
        masks.append(nil)
        continue
      }
      guard try layers.rank(value) == layers.rank(mask) + 1, value == tensor.value else {
        throw .unsupported("\(call.layer.className) of tensors of several ranks with masks")
      }
      masks.append(try layers.unsqueeze(mask, [-1]))
    }
    var result: ValueID?
    /// Where the result so far holds something; nil: everywhere.
    var shown: ValueID?
    for (value, mask) in zip(values, masks) {
      var value = value
      guard let before = result else {
        if op == "Mul", let mask { value = try layers.emit("Where", [mask, value, layers.scalar(1, like: value)]) }
        (result, shown) = (value, mask)
        continue
      }
      if op == "Mul" {
        if let mask { value = try layers.emit("Where", [mask, value, layers.scalar(1, like: value)]) }
        result = try layers.emit(op, [before, value])
      } else {
        if let mask { value = try layers.emit("Where", [mask, value, before]) }
        let known = try shown.map { (shown) throws(OperatorError) in
          try layers.emit("Where", [shown, before, value])
        }
        result = try layers.emit(op, [known ?? before, value])
      }
      if let mask, let other = shown { shown = try layers.emit("Or", [other, mask]) } else { shown = nil }
    }
    guard var result else { throw .invalid("it is called without a tensor") }
    if op == "Mul", let shown {
      result = try layers.emit("Where", [shown, result, layers.scalar(0, like: result)])
    }
    return KerasTensor(result, mask: try mask(call))
  }

  private static func average(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let values = try operands(call)
    var sum = values[0]
    for value in values.dropFirst() { sum = try call.layers.emit("Add", [sum, value]) }
    let result = try call.layers.emit("Mul", [sum, call.layers.scalar(1 / Double(values.count), like: sum)])
    return [KerasTensor(result, mask: try mask(call))]
  }

  private static func concatenate(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let tensors = call.node.tensors
    guard let first = tensors.first else { throw .invalid("it is called without a tensor") }
    let rank = try call.layers.rank(first.value)
    let axis = try call.axis(call.config.int("axis", default: -1), rank: rank)
    let result = try call.layers.concatenate(tensors.map(\.value), axis: axis)
    var masks: ValueID?
    if tensors.contains(where: { $0.mask != nil }) {
      guard rank == 3 else { throw .unsupported("a concatenation of masked tensors of \(rank) axes") }
      var steps: [ValueID] = []
      for tensor in tensors {
        if let mask = tensor.mask {
          steps.append(mask)
        } else {
          let zero = try call.layers.emit(
            "ReduceMin", [tensor.value, call.layers.integers([2])], [("keepdims", .int(0))])
          steps.append(try call.layers.emit("Equal", [zero, zero]))
        }
      }
      if axis == 1 {
        masks = try call.layers.concatenate(steps, axis: 1)
      } else if axis == 2 {
        // A step is there if it is in one of them.
        for step in steps {
          masks = try masks.map { (other) throws(OperatorError) in try call.layers.emit("Or", [other, step]) } ?? step
        }
      }
    }
    return [KerasTensor(result, mask: masks)]
  }

  private static func dot(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    var (x, y) = (try call.input(0).value, try call.input(1).value)
    guard var axes = try call.config.ints("axes") else { throw .invalid("'axes' is missing") }
    if axes.count == 1 { axes.append(axes[0]) }
    guard axes.count == 2 else { throw .invalid("'axes' should be one or two axes") }
    let (xRank, yRank) = (try layers.rank(x), try layers.rank(y))
    axes = [try call.axis(axes[0], rank: xRank), try call.axis(axes[1], rank: yRank)]
    guard !axes.contains(0), xRank <= 3, yRank <= 3 else {
      throw .unsupported("a Dot along the batch, or of tensors of more than three axes")
    }
    if try call.config.bool("normalize", default: false) {
      x = try KerasNormalization.unitLength(x, [axes[0]], layers)
      y = try KerasNormalization.unitLength(y, [axes[1]], layers)
    }
    // [batch, rows, shared] × [batch, shared, columns].
    if xRank == 2 {
      x = try layers.unsqueeze(x, [1])
    } else if axes[0] == 1 {
      x = try layers.transpose(x, [0, 2, 1])
    }
    if yRank == 2 {
      y = try layers.unsqueeze(y, [2])
    } else if axes[1] == 2 {
      y = try layers.transpose(y, [0, 2, 1])
    }
    let product = try layers.emit("MatMul", [x, y])
    if xRank == 2 { return [KerasTensor(try layers.squeeze(product, [1]))] }
    return [KerasTensor(yRank == 2 ? try layers.squeeze(product, [2]) : product)]
  }

  // MARK: - Data

  private static func categories(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let count = try call.config.requiredInt("num_tokens")
    let mode = try call.config.string("output_mode") ?? "multi_hot"
    if call.node.tensors.count > 1 || call.keyword("count_weights") != nil {
      throw .unsupported("an encoding with 'count_weights'")
    }
    return try encoded(layers.cast(value, to: .int64), mode, count, layers)
  }

  /// The number of the bin of each value, or what its places are encoded as.
  private static func discretization(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    guard let bins = call.config["bin_boundaries"] else {
      throw .unsupported("bins that are not known", remedy: "Call adapt before the model is saved")
    }
    let number = try KerasPromotion.floats(call, value)
    let bounds = try call.constant(bins, like: number)
    let type = call.network.version >= 3 ? DataType.int32 : .int64
    let places = try layers.insertionPlaces(number, in: bounds, isRight: true, type: type)
    let count = bins.elements?.count ?? 0
    return try encoded(places, call.config.string("output_mode") ?? "int", count + 1, layers)
  }

  private static func encoded(
    _ places: ValueID, _ mode: String, _ count: Int, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    var places = places
    if mode == "int" { return places }
    let rank = try layers.rank(places)
    let last = try layers.shape(places).last?.known
    let isOne = mode == "one_hot" && last == 1
    if isOne { places = try layers.squeeze(places, [-1]) }
    let hot = try KerasPromotion.hot(places, count: count, axis: -1, type: .float32, layers)
    switch mode {
    case "one_hot": return hot
    case "multi_hot", "count":
      if rank < 2 { throw .unsupported("the encoding \(mode) of a value of \(rank) axes") }
      let isCount = mode == "count"
      return try layers.reduce(isCount ? "ReduceSum" : "ReduceMax", hot, axes: [isCount ? -2 : 1], keepsAxes: false)
    default: throw .invalid("'output_mode' should be int, one_hot, multi_hot or count; it is '\(mode)'")
    }
  }

  private static func centerCrop(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = [try call.config.requiredInt("height"), try call.config.requiredInt("width")]
    let rank = try call.layers.rank(value)
    let first = rank - (try call.isChannelsFirst() ? 2 : 3)
    guard first >= 0 else { throw .mismatch("a picture was expected; the value has \(rank) axes") }
    let extents = [try call.layers.extent(value, first), try call.layers.extent(value, first + 1)]
    guard zip(extents, size).allSatisfy({ $0 >= $1 }) else {
      throw .unsupported("a CenterCrop of pictures that are smaller than \(size[0])×\(size[1])")
    }
    let start = zip(extents, size).map { ($0 - $1) / 2 }
    return try call.layers.slice(
      value, from: start, to: [start[0] + size[0], start[1] + size[1]], axes: [first, first + 1])
  }
}
