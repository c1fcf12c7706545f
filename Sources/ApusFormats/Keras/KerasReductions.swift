// Operations of keras.ops along axes: sums, means, extremes, places.

import ApusGraph
import ApusTensor

enum KerasReductions {
  static let rules: [String: KerasRule] = [
    "Mean": .one { (call, value) throws(OperatorError) in
      try reduced("ReduceMean", KerasPromotion.means(call, value), call)
    },
    "Sum": .one { (call, value) throws(OperatorError) in try total("ReduceSum", value, call) },
    "Prod": .one { (call, value) throws(OperatorError) in try total("ReduceProd", value, call) },
    "Logsumexp": .one { (call, value) throws(OperatorError) in
      try reduced("ReduceLogSumExp", KerasPromotion.floats(call, value), call)
    },
    "Max": bound("ReduceMax", "Max"), "Amax": bound("ReduceMax", "Max"),
    "Min": bound("ReduceMin", "Min"), "Amin": bound("ReduceMin", "Min"),
    "Var": .one(variance),
    "Std": .one { (call, value) throws(OperatorError) in try call.layers.emit("Sqrt", [variance(call, value)]) },
    "Any": .one { (call, value) throws(OperatorError) in try truth(call, value, "ReduceMax") },
    "All": .one { (call, value) throws(OperatorError) in try truth(call, value, "ReduceMin") },
    "Argmax": .one { (call, value) throws(OperatorError) in try place(call, value, "ArgMax") },
    "Argmin": .one { (call, value) throws(OperatorError) in try place(call, value, "ArgMin") },
    "Cumsum": .one { (call, value) throws(OperatorError) in try cumulative("CumSum", value, call) },
    "Cumprod": .one { (call, value) throws(OperatorError) in try cumulative("CumProd", value, call) },
  ]

  /// The axes of an operation; all if it has none.
  static func axes(_ call: KerasCall, _ rank: Int) throws(OperatorError) -> [Int] {
    let given = try call.integers(call.argument(1, "axis", "axes", "dim"))
    return try given.map { (axes) throws(OperatorError) in try call.axes(axes, rank: rank) } ?? Array(0..<rank)
  }

  private static func keepsAxes(_ call: KerasCall) -> Bool { call.truth(call.argument(2, "keepdims", "keep_dims")) }

  private static func reduced(_ op: String, _ value: ValueID, _ call: KerasCall) throws(OperatorError) -> ValueID {
    let axes = try axes(call, call.layers.rank(value))
    return try call.layers.reduce(op, value, axes: axes, keepsAxes: keepsAxes(call))
  }

  /// The type that the argument `dtype` names; nil if there is none.
  private static func type(_ call: KerasCall) throws(OperatorError) -> DataType? {
    guard let name = call.text(call.argument(Int.max, "dtype")) else { return nil }
    guard let type = KerasTypes.table[name] else { throw .unsupported("the type '\(name)'") }
    return type
  }

  /// A sum or product, of small integers as large ones.
  private static func total(_ op: String, _ value: ValueID, _ call: KerasCall) throws(OperatorError) -> ValueID {
    guard let own = call.layers.type(value) else { throw .unsupported("the type of an operand is not known") }
    guard let given = try type(call) else {
      let wide = call.network.version >= 3 ? KerasPromotion.sum(own) : own
      return try reduced(op, call.layers.cast(value, to: wide), call)
    }
    return try call.layers.cast(
      reduced(op, call.layers.cast(value, to: KerasPromotion.sum(given)), call), to: given)
  }

  /// An extreme, perhaps with a number that takes part in it.
  private static func bound(_ op: String, _ pair: String) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let layers = call.layers
      let axes = try axes(call, layers.rank(value))
      let result = try KerasPromotion.extreme(op, value, axes: axes, keepsAxes: keepsAxes(call), layers)
      guard let initial = call.argument(Int.max, "initial") else { return result }
      guard let number = try call.number(initial), let type = layers.type(result), type != .bool else {
        throw .unsupported("the argument 'initial', as it is here", remedy: "Use maximum or minimum behind it")
      }
      guard type.isFloat || number == number.rounded() else {
        throw .invalid("'initial' should be an integer like the elements; it is \(number)")
      }
      return try layers.emit(pair, [result, layers.scalar(number, like: result)])
    }
  }

  private static func truth(_ call: KerasCall, _ value: ValueID, _ op: String) throws(OperatorError) -> ValueID {
    let axes = try axes(call, call.layers.rank(value))
    return try KerasPromotion.extreme(
      op, call.layers.cast(value, to: .bool), axes: axes, keepsAxes: keepsAxes(call), call.layers)
  }

  private static func variance(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let axes = try axes(call, layers.rank(value))
    let value = try KerasPromotion.floats(call, value)
    let mean = try layers.reduce("ReduceMean", value, axes: axes, keepsAxes: true)
    let centred = try layers.emit("Sub", [value, mean])
    return try layers.reduce(
      "ReduceMean", layers.emit("Mul", [centred, centred]), axes: axes, keepsAxes: keepsAxes(call))
  }

  /// The place of an extreme along an axis, or in all elements in a row; TensorFlow takes the first axis then.
  private static func place(_ call: KerasCall, _ value: ValueID, _ op: String) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let isModern = call.network.version >= 3
    var value = layers.type(value) == .bool ? try layers.cast(value, to: .int32) : value
    let given = try call.integer(call.argument(1, "axis"))
    let keepsAxes = isModern && keepsAxes(call)
    let rank = try layers.rank(value)
    if given == nil, isModern { value = try layers.reshape(value, [-1]) }
    var place = try layers.emit(
      op, [value], [("axis", .int(given ?? 0)), ("keepdims", .int(keepsAxes && given != nil ? 1 : 0))])
    if keepsAxes, given == nil { place = try layers.reshape(place, [Int](repeating: 1, count: rank)) }
    let type =
      call.text(call.argument(isModern ? Int.max : 2, "output_type", "dtype")) ?? (isModern ? "int32" : "int64")
    return try layers.cast(place, to: KerasTypes.table[type] ?? .int64)
  }

  /// Sums or products up to each element along an axis, or of all elements in a row; TensorFlow takes the first axis
  /// then.
  private static func cumulative(
    _ op: String, _ value: ValueID, _ call: KerasCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let isModern = call.network.version >= 3
    var value = value
    if isModern {
      if let type = try type(call) { value = try layers.cast(value, to: type) }
      if layers.type(value) == .bool { value = try layers.cast(value, to: .int32) }
    }
    let axis = try call.integer(call.argument(1, "axis"))
    if axis == nil, isModern { value = try layers.reshape(value, [-1]) }
    guard let type = layers.type(value) else { throw .unsupported("the type of an operand is not known") }
    var attributes: [(String, AttributeValue)] = []
    for (position, name) in ["exclusive", "reverse"].enumerated()
    where call.truth(call.argument(isModern ? Int.max : 2 + position, name)) {
      attributes.append((name, .int(1)))
    }
    // Small integers go around as they do in a type of their own.
    let wide = try layers.cast(value, to: KerasPromotion.sum(type))
    let place = layers.constant(Tensor(scalar: Int64(axis ?? 0)))
    return try layers.cast(layers.emit(op, [wide, place], attributes), to: type)
  }
}
