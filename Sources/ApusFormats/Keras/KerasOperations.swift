// Operations of keras.ops (Keras 3) and functions of TensorFlow (Keras 2) between the layers of a model.

import ApusGraph
import ApusTensor

enum KerasOperations {
  /// By the class of an operation of Keras 3.
  static let rules: [String: KerasRule] = {
    var rules: [String: KerasRule] = [:]
    for (name, op) in unary {
      rules[name] = .one { (call, value) throws(OperatorError) in
        try call.layers.emit(op, [value])
      }
    }
    for (name, op) in functionsOfFloats {
      rules[name] = .one { (call, value) throws(OperatorError) in
        try call.layers.emit(op, [KerasPromotion.floats(call, value)])
      }
    }
    for (name, op) in binary { rules[name] = KerasRule { (call) throws(OperatorError) in try pair(call, op) } }
    for (name, activation) in KerasActivations.operationNames {
      rules[name] = KerasRule { (call) throws(OperatorError) in try curve(call, activation) }
    }
    rules.merge(shapes) { first, _ in first }
    rules.merge(others) { first, _ in first }
    rules.merge(KerasReductions.rules) { first, _ in first }
    rules.merge(KerasPooling.operations) { first, _ in first }
    for family in [KerasNumbers.rules, KerasArrays.rules, KerasNeural.rules] {
      rules.merge(family) { first, _ in first }
    }
    return rules
  }()

  /// By the function that a layer of the class TFOpLambda holds.
  static let functions: [String: KerasRule] = {
    var functions: [String: KerasRule] = [:]
    for (function, operation) in functionNames { functions[function] = rules[operation] }
    return functions
  }()

  private static let unary: [String: String] = [
    "Absolute": "Abs", "Abs": "Abs", "Negative": "Neg", "Sign": "Sign", "Copy": "Identity", "StopGradient": "Identity",
  ]

  /// What gives floats for integers too.
  private static let functionsOfFloats: [String: String] = [
    "Exp": "Exp", "Log": "Log", "Sqrt": "Sqrt", "Floor": "Floor", "Ceil": "Ceil", "Sin": "Sin", "Cos": "Cos",
    "Tan": "Tan", "Arcsin": "Asin", "Arccos": "Acos", "Arctan": "Atan", "Sinh": "Sinh", "Cosh": "Cosh",
    "Tanh": "Tanh", "Arcsinh": "Asinh", "Arccosh": "Acosh", "Arctanh": "Atanh", "Reciprocal": "Reciprocal",
    "Erf": "Erf", "Isnan": "IsNaN", "Isinf": "IsInf",
  ]

  private static let binary: [String: String] = [
    "Add": "Add", "Subtract": "Sub", "Multiply": "Mul", "Power": "Pow",
    "Maximum": "Max", "Minimum": "Min", "Matmul": "MatMul", "Equal": "Equal", "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual", "Less": "Less", "LessEqual": "LessOrEqual", "LogicalAnd": "And",
    "LogicalOr": "Or", "LogicalXor": "Xor",
  ]

  private static let shapes: [String: KerasRule] = [
    "Reshape": .one(reshape), "Transpose": .one(transpose), "ExpandDims": .one(expandDims), "Squeeze": .one(squeeze),
    "Concatenate": KerasRule(concatenate), "Stack": KerasRule(stack), "Split": KerasRule(split),
    "GetItem": .one(getItem), "Pad": .one(pad), "Tile": .one(tile), "Repeat": .one(repeated), "Flip": .one(flip),
    "BroadcastTo": .one(broadcast), "Swapaxes": .one(swapAxes), "Moveaxis": .one(moveAxis), "Ravel": .one(ravel),
    "Unstack": KerasRule(unstack), "Take": KerasRule(take),
  ]

  private static let others: [String: KerasRule] = [
    "Square": .one { (call, value) throws(OperatorError) in
      let number = call.layers.type(value) == .bool ? try call.layers.cast(value, to: .int32) : value
      return try call.layers.emit("Mul", [number, number])
    },
    "Round": .one { (call, value) throws(OperatorError) in
      try call.layers.emit(call.layers.type(value)?.isFloat ?? true ? "Round" : "Identity", [value])
    },
    "LogicalNot": .one { (call, value) throws(OperatorError) in
      try call.layers.emit("Not", [call.layers.cast(value, to: .bool)])
    },
    "Rsqrt": .one { (call, value) throws(OperatorError) in
      try call.layers.emit("Reciprocal", [call.layers.emit("Sqrt", [KerasPromotion.floats(call, value)])])
    },
    "Erfc": .one { (call, value) throws(OperatorError) in
      let value = try KerasPromotion.floats(call, value)
      return try call.layers.emit("Sub", [call.layers.scalar(1, like: value), call.layers.emit("Erf", [value])])
    },
    "Divide": KerasRule(divide), "TrueDivide": KerasRule(divide),
    "NotEqual": KerasRule { (call) throws(OperatorError) in
      [KerasTensor(try call.layers.emit("Not", [pair(call, "Equal")[0].value]))]
    },
    "SquaredDifference": KerasRule { (call) throws(OperatorError) in
      let difference = try pair(call, "Sub")[0].value
      return [KerasTensor(try call.layers.emit("Mul", [difference, difference]))]
    },
    "FloorDivide": KerasRule { (call) throws(OperatorError) in
      let operands = try operands(call)
      return [KerasTensor(try KerasPromotion.floorDivided(operands[0], operands[1], call.layers))]
    },
    "Clip": .one(clip), "Cast": .one(cast), "Where": KerasRule(choose), "OneHot": .one(oneHot),
    "Einsum": KerasRule(einsum), "Normalize": .one(normalize), "TopK": KerasRule(topK), "Resize": .one(resize),
    "OnesLike": .one { (call, value) throws(OperatorError) in try filled(call, value, 1) },
    "ZerosLike": .one { (call, value) throws(OperatorError) in try filled(call, value, 0) },
  ]

  // MARK: - Elements

  /// Two operands, one of which may be a number.
  private static func pair(_ call: KerasCall, _ op: String) throws(OperatorError) -> [KerasTensor] {
    if op == "MatMul" {
      for case .constant(let flag)? in [call.node.keywords["transpose_a"], call.node.keywords["transpose_b"]]
      where flag.flag == true {
        throw .unsupported("a product of transposed matrices", remedy: "Transpose them before")
      }
    }
    let isLogical = op == "And" || op == "Or" || op == "Xor"
    return [KerasTensor(try call.layers.emit(op, operands(call, to: isLogical ? .bool : nil)))]
  }

  /// Two operands in the type in which they meet, or in `type`.
  static func operands(
    _ call: KerasCall, with other: KerasOperandType? = nil, to type: DataType? = nil
  ) throws(OperatorError) -> [ValueID] {
    try call.promoted([call.argument(0, "x1", "x", "a"), call.argument(1, "x2", "y", "b")], with: other, to: type)
  }

  /// Quotients are floats. TensorFlow takes float64 for integers of 32 bits and more.
  private static func divide(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    if call.network.version >= 3 {
      return [KerasTensor(try call.layers.emit("Div", operands(call, with: .float)))]
    }
    var values = try operands(call)
    if let type = call.layers.type(values[0]), !type.isFloat {
      let isSmall = [DataType.int8, .int16, .uint8, .uint16].contains(type)
      for index in values.indices {
        values[index] = try call.layers.cast(values[index], to: isSmall ? .float32 : .float64)
      }
    }
    return [KerasTensor(try call.layers.emit("Div", values))]
  }

  private static func curve(_ call: KerasCall, _ name: String) throws(OperatorError) -> [KerasTensor] {
    guard let make = KerasActivations.table[name] else { throw KerasActivations.unknown(name) }
    // What the operation was made with, and what it is called with.
    var members: [(String, JSONValue)] = []
    for key in ["axis", "alpha", "negative_slope", "approximate", "threshold", "default_value", "b", "features"] {
      if case .constant(let value)? = call.node.keywords[key] { members.append((key, value)) }
      if let value = call.config[key] { members.append((key, value)) }
      if call.config.isNull(key) { members.append((key, .null)) }
    }
    if name == "gelu", !members.contains(where: { $0.0 == "approximate" }) {
      members.append(("approximate", .bool(call.network.version >= 3)))
    }
    return [KerasTensor(try make(call, call.input().value, KerasConfig(.object(members))))]
  }

  private static func clip(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let low = try call.number(call.argument(1, "x_min", "clip_value_min"))
    let high = try call.number(call.argument(2, "x_max", "clip_value_max"))
    guard low != nil || high != nil else { throw .unsupported("bounds that are computed") }
    return try call.layers.clip(value, low, high)
  }

  private static func cast(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let name = call.text(call.argument(1, "dtype")), let type = KerasTypes.table[name] else {
      throw .unsupported("a cast to a type that is not known")
    }
    return try call.layers.cast(value, to: type)
  }

  private static func choose(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let condition = try call.operand(call.argument(0, "condition"))
    let (first, second) = (call.argument(1, "x1", "x"), call.argument(2, "x2", "y"))
    guard first != nil, second != nil else { throw .unsupported("the places where a condition holds") }
    let values = try call.promoted([first, second])
    return [KerasTensor(try call.layers.emit("Where", [call.layers.cast(condition, to: .bool)] + values))]
  }

  private static func oneHot(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let count = try call.integer(call.argument(1, "num_classes", "depth")) else { throw .invalid("no 'depth'") }
    let axis = try call.integer(call.argument(Int.max, "axis")) ?? -1
    let name = call.text(call.argument(Int.max, "dtype")) ?? "float32"
    guard let type = KerasTypes.table[name] else { throw .unsupported("the type '\(name)'") }
    return try KerasPromotion.hot(value, count: count, axis: axis, type: type, call.layers)
  }

  private static func filled(_ call: KerasCall, _ value: ValueID, _ number: Double) throws(OperatorError) -> ValueID {
    let shape = try call.layers.emit("Shape", [value])
    var element = try call.layers.scalar(number, like: value)
    if let name = call.text(call.argument(1, "dtype")) {
      guard let type = KerasTypes.table[name] else { throw .unsupported("the type '\(name)'") }
      element = try call.layers.cast(element, to: type)
    }
    return try call.layers.emit("Expand", [element, shape])
  }

  private static func normalize(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    if let order = try call.integer(call.argument(2, "order")), order != 2 { throw .unsupported("the norm \(order)") }
    let rank = try call.layers.rank(value)
    let axes = try call.axes(call.integers(call.argument(1, "axis")) ?? [-1], rank: rank)
    return try KerasNormalization.unitLength(value, axes, call.layers)
  }

  private static func einsum(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let equation = call.config["subscripts"]?.text ?? call.text(call.argument(0, "equation"))
    guard let equation else { throw .unsupported("an equation that is not written out") }
    return [
      KerasTensor(
        try call.layers.emit(
          "Einsum", call.node.tensors.map(\.value), [("equation", .string(equation.filter { $0 != " " }))]))
    ]
  }

  private static func topK(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    guard let count = try call.integer(call.argument(1, "k")) else { throw .invalid("'k' is missing") }
    let outputs = try call.layers.emit(
      "TopK", [call.input().value, call.layers.integers([count])], [("axis", .int(-1))], outputs: 2)
    return [KerasTensor(outputs[0]), KerasTensor(try call.layers.cast(outputs[1], to: .int32))]
  }

  private static func resize(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let size = try call.integers(call.argument(1, "size")), size.count == 2 else {
      throw .unsupported("a size that is computed")
    }
    for name in ["antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "preserve_aspect_ratio"]
    where call.truth(call.argument(Int.max, name)) {
      throw .unsupported("resizing with '\(name)'")
    }
    let interpolation = call.text(call.argument(Int.max, "interpolation", "method")) ?? "bilinear"
    return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
      try KerasPooling.resized(value, to: size, interpolation, call.layers)
    }
  }

  // MARK: - Shapes

  private static func reshape(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    if case .list(let parts)? = call.argument(1, "newshape", "shape"), parts.contains(where: { !$0.tensors.isEmpty }) {
      // Extents, some of which are computed.
      var extents: [ValueID] = []
      for part in parts {
        if case .tensor(let tensor) = part {
          extents.append(try call.layers.reshape(call.layers.cast(tensor.value, to: .int64), [1]))
        } else {
          extents.append(call.layers.integers(try call.integers(part) ?? []))
        }
      }
      return try call.layers.emit("Reshape", [value, call.layers.concatenate(extents, axis: 0)])
    }
    // A batch that is not known is null.
    if let elements = call.config["newshape"]?.elements {
      return try call.layers.reshape(value, elements.map { $0.isNull ? -1 : $0.smallInteger ?? -1 })
    }
    guard let shape = try call.integers(call.argument(1, "newshape", "shape")) else { throw .invalid("no new shape") }
    return try call.layers.reshape(value, shape)
  }

  private static func transpose(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try call.layers.rank(value)
    let order = try call.integers(call.argument(1, "axes", "perm")) ?? Array((0..<rank).reversed())
    guard order.count == rank else { throw .invalid("an order of \(rank) axes was expected; found \(order)") }
    return try call.layers.transpose(value, call.axes(order, rank: rank))
  }

  private static func expandDims(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let axes = try call.integers(call.argument(1, "axis")) else { throw .invalid("'axis' is missing") }
    return try call.layers.unsqueeze(value, axes)
  }

  private static func squeeze(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let axes = try call.integers(call.argument(1, "axis")) else {
      return try call.layers.emit("Squeeze", [value])
    }
    return try call.layers.squeeze(value, axes)
  }

  /// The tensors of a list, in the type in which they meet.
  static func parts(_ call: KerasCall) throws(OperatorError) -> [ValueID] {
    guard case .list(let elements)? = call.argument(0, "xs", "values", "x", "arrays") else {
      return call.node.tensors.map(\.value)
    }
    return try call.promoted(elements)
  }

  private static func concatenate(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let values = try parts(call)
    guard let first = values.first else { throw .invalid("it is called without a tensor") }
    let axis = try call.axis(call.integer(call.argument(1, "axis")) ?? -1, rank: call.layers.rank(first))
    return [KerasTensor(try call.layers.concatenate(values, axis: axis))]
  }

  private static func stack(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let axis = try call.integer(call.argument(1, "axis")) ?? 0
    var values: [ValueID] = []
    for value in try parts(call) { values.append(try call.layers.unsqueeze(value, [axis])) }
    return [KerasTensor(try call.layers.concatenate(values, axis: axis))]
  }

  private static func split(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let axis = try call.axis(call.integer(call.argument(2, "axis")) ?? 0, rank: layers.rank(value))
    guard let numbers = try call.integers(call.argument(1, "indices_or_sections", "num_or_size_splits")) else {
      throw .invalid("no sizes of the parts")
    }
    let isList = call.config["indices_or_sections"]?.elements != nil || numbers.count > 1
    var sizes = numbers
    if !isList {
      guard numbers.count == 1, (1...1 << 16).contains(numbers[0]) else { throw .invalid("a count of parts") }
      let outputs = try layers.emit(
        "Split", [value], [("axis", .int(axis)), ("num_outputs", .int(numbers[0]))], outputs: numbers[0])
      return outputs.map { KerasTensor($0) }
    }
    if call.network.version >= 3 {
      // Places where parts begin.
      let ends = numbers.dropFirst() + [try layers.extent(value, axis)]
      sizes = [numbers[0]] + zip(numbers, ends).map { $1 - $0 }
    }
    guard sizes.allSatisfy({ $0 >= 0 }) else { throw .unsupported("parts of the sizes \(sizes)") }
    let outputs = try layers.emit(
      "Split", [value, layers.integers(sizes)], [("axis", .int(axis))], outputs: sizes.count)
    return outputs.map { KerasTensor($0) }
  }

  private static func unstack(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let axis = try call.axis(call.integer(call.argument(2, "axis")) ?? 0, rank: layers.rank(value))
    let count = try layers.extent(value, axis)
    guard (1...1 << 16).contains(count) else { throw .unsupported("\(count) parts") }
    var parts: [KerasTensor] = []
    for index in 0..<count {
      let place = layers.constant(Tensor(scalar: Int64(index)))
      parts.append(KerasTensor(try layers.emit("Gather", [value, place], [("axis", .int(axis))])))
    }
    return parts
  }

  private static func take(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let value = try call.operand(call.argument(0, "x", "params"))
    let places: ValueID
    if case .tensor(let tensor)? = call.argument(1, "indices") {
      places = tensor.value
    } else {
      guard let numbers = try call.integers(call.argument(1, "indices")) else { throw .invalid("no 'indices'") }
      let isOne = call.config["indices"]?.smallInteger != nil
      places = isOne ? call.layers.constant(Tensor(scalar: Int64(numbers[0]))) : call.layers.integers(numbers)
    }
    guard let axis = try call.integer(call.argument(2, "axis")) ?? (call.network.version >= 3 ? nil : 0) else {
      throw .unsupported("elements of a flattened tensor")
    }
    return [
      KerasTensor(
        try call.layers.emit("Gather", [value, call.layers.cast(places, to: .int64)], [("axis", .int(axis))]))
    ]
  }

  private static func pad(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard case .constant(let member)? = call.argument(1, "pad_width", "paddings").map(\.plain),
      let elements = member.elements
    else { throw .unsupported("a padding that is computed") }
    let pairs = elements.map { $0.integers ?? [] }
    guard pairs.allSatisfy({ $0.count == 2 }) else { throw .invalid("pairs of integers were expected") }
    let mode = (call.text(call.argument(2, "mode")) ?? "constant").lowercased()
    guard let name = ["constant": "constant", "reflect": "reflect", "edge": "edge"][mode] else {
      throw .unsupported("the padding '\(mode)'")
    }
    let number = try call.number(call.argument(3, "constant_values")) ?? 0
    return try call.layers.emit(
      "Pad",
      [
        value, call.layers.integers(pairs.map { $0[0] } + pairs.map { $0[1] }), call.layers.scalar(number, like: value),
      ],
      [("mode", .string(name))])
  }

  private static func tile(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let repeats = try call.integers(call.argument(1, "repeats", "multiples")) else {
      throw .invalid("no repeats")
    }
    let rank = try call.layers.rank(value)
    guard repeats.count <= rank else { throw .unsupported("more repeats than axes") }
    let all = [Int](repeating: 1, count: rank - repeats.count) + repeats
    return try call.layers.emit("Tile", [value, call.layers.integers(all)])
  }

  private static func repeated(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    guard let count = try call.integer(call.argument(1, "repeats")),
      let given = try call.integer(call.argument(2, "axis"))
    else { throw .unsupported("repeats of a flattened tensor") }
    let rank = try layers.rank(value)
    let axis = try call.axis(given, rank: rank)
    let extent = try layers.extent(value, axis)
    guard (1...1 << 16).contains(count), extent <= (1 << 24) / count else {
      throw .unsupported("\(count) repeats of \(extent) elements")
    }
    let places = layers.integers((0..<extent).flatMap { [Int](repeating: $0, count: count) })
    return try layers.emit("Gather", [value, places], [("axis", .int(axis))])
  }

  private static func flip(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try call.layers.rank(value)
    let axes = try KerasReductions.axes(call, rank)
    return try call.layers.slice(
      value, from: axes.map { _ in -1 }, to: axes.map { _ in -Int(Int32.max) }, axes: axes, steps: axes.map { _ in -1 })
  }

  private static func broadcast(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let shape = try call.integers(call.argument(1, "shape")) else { throw .invalid("'shape' is missing") }
    return try call.layers.emit("Expand", [value, call.layers.integers(shape)])
  }

  private static func swapAxes(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try call.layers.rank(value)
    guard let first = try call.integer(call.argument(1, "axis1")),
      let second = try call.integer(call.argument(2, "axis2"))
    else { throw .invalid("two axes were expected") }
    var order = Array(0..<rank)
    order.swapAt(try call.axis(first, rank: rank), try call.axis(second, rank: rank))
    return try call.layers.transpose(value, order)
  }

  private static func moveAxis(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try call.layers.rank(value)
    guard let from = try call.integers(call.argument(1, "source")),
      let to = try call.integers(call.argument(2, "destination")),
      from.count == to.count
    else { throw .invalid("as many sources as destinations were expected") }
    let (sources, places) = (try call.axes(from, rank: rank), try call.axes(to, rank: rank))
    var order = (0..<rank).filter { !sources.contains($0) }
    for (place, source) in zip(places, sources).sorted(by: { $0.0 < $1.0 }) {
      order.insert(source, at: min(place, order.count))
    }
    return try call.layers.transpose(value, order)
  }

  private static func ravel(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    try call.layers.reshape(value, [-1])
  }

  // MARK: - Parts

  /// A part of a tensor in Python's words: integers, slices, new axes and an ellipsis.
  private static func getItem(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let key = call.argument(1, "key", "slice_spec")?.plain, case .constant(let spec) = key else {
      throw .unsupported("a part at places that are computed")
    }
    let items = spec.elements ?? [spec]
    let layers = call.layers
    let rank = try layers.rank(value)
    let taken = items.count { !$0.isNewAxis && !$0.isEllipsis }
    guard taken <= rank else { throw .invalid("a part along \(taken) axes of \(rank)") }
    var (starts, ends, axes, steps): ([Int], [Int], [Int], [Int]) = ([], [], [], [])
    var (gone, added): ([Int], [Int]) = ([], [])
    var (axis, kept) = (0, 0)
    for item in items {
      if item.isEllipsis {
        kept += rank - taken
        axis += rank - taken
        continue
      }
      if item.isNewAxis {
        added.append(kept)
        kept += 1
        continue
      }
      if let place = item.smallInteger {
        starts.append(place)
        ends.append(place == -1 ? Int(Int32.max) : place + 1)
        axes.append(axis)
        steps.append(1)
        gone.append(axis)
        axis += 1
        continue
      }
      let bounds = try item.sliceBounds()
      if bounds.start != nil || bounds.stop != nil || bounds.step != 1 {
        let isBackward = bounds.step < 0
        starts.append(bounds.start ?? (isBackward ? Int(Int32.max) : 0))
        ends.append(bounds.stop ?? (isBackward ? -Int(Int32.max) : Int(Int32.max)))
        axes.append(axis)
        steps.append(bounds.step)
      }
      axis += 1
      kept += 1
    }
    var result = value
    if !axes.isEmpty {
      result = try layers.slice(
        value, from: starts, to: ends, axes: axes, steps: steps.contains { $0 != 1 } ? steps : nil)
    }
    result = try layers.squeeze(result, gone)
    return try layers.unsqueeze(result, added)
  }
}

extension KerasArgument {
  /// The same with lists of constants as one constant.
  fileprivate var plain: KerasArgument {
    guard case .list(let elements) = self else { return self }
    var values: [JSONValue] = []
    for element in elements {
      guard case .constant(let value) = element.plain else { return self }
      values.append(value)
    }
    return .constant(.array(values))
  }
}

extension JSONValue {
  fileprivate var isNewAxis: Bool { isNull }
  fileprivate var isEllipsis: Bool {
    KerasConfig(self)["class_name"]?.text == "__ellipsis__" || text == "Ellipsis" || text == "..."
  }

  /// The bounds of `{"class_name": "__slice__", "config": {…}}` of Keras 3, or `{"start": …}` of Keras 2.
  fileprivate func sliceBounds() throws(OperatorError) -> (start: Int?, stop: Int?, step: Int) {
    guard case .object = self else { throw .unsupported("a part at places of another kind") }
    let entry = KerasConfig(self)
    let config = entry["class_name"] == nil ? entry : entry.object("config")
    let step = try config.int("step") ?? 1
    if step == 0 { throw .invalid("a step of 0") }
    return (try config.int("start"), try config.int("stop"), step)
  }
}

/// The names that Keras has for types.
enum KerasTypes {
  static let table: [String: DataType] = [
    "float32": .float32, "float64": .float64, "float16": .float16, "bfloat16": .bfloat16, "int8": .int8,
    "int16": .int16,
    "int32": .int32, "int64": .int64, "uint8": .uint8, "uint16": .uint16, "uint32": .uint32, "uint64": .uint64,
    "bool": .bool,
  ]
}
