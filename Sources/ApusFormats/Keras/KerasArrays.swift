// Operations of keras.ops on whole arrays: order, places, diagonals, parts, products.

import ApusGraph
import ApusTensor

enum KerasArrays {
  static let rules: [String: KerasRule] = [
    "Sort": .one { (call, value) throws(OperatorError) in try order(call, value)[0] },
    "Argsort": .one { (call, value) throws(OperatorError) in try call.layers.cast(order(call, value)[1], to: .int32) },
    "Median": .one(median), "SearchSorted": KerasRule(searchSorted), "Digitize": KerasRule(digitize),
    "IsIn": KerasRule(isIn), "Roll": .one(roll), "TakeAlongAxis": KerasRule(takeAlongAxis),
    "CountNonzero": .one(countNonZero), "Nonzero": KerasRule(nonZero), "Ptp": .one(spread), "Average": .one(average),
    "Diff": .one(difference), "Cross": KerasRule(cross), "Norm": .one(norm),
    "Det": .one { (call, value) throws(OperatorError) in
      try call.layers.emit("Det", [value])
    },
    "Diagonal": .one(diagonal), "Diag": .one(diag), "Trace": .one(trace), "Tril": triangle(upper: false),
    "Triu": triangle(upper: true), "Fliplr": flip(1), "Flipud": flip(0), "Rot90": .one(rotate),
    "Hstack": joined(1), "Vstack": joined(0), "Dstack": joined(2), "Append": KerasRule(append),
    "ArraySplit": parts(nil), "Hsplit": parts(1), "Vsplit": parts(0), "Dsplit": parts(2),
    "Outer": KerasRule(outer), "Inner": KerasRule(inner), "Dot": KerasRule(dot), "Tensordot": KerasRule(tensorDot),
    "Vdot": KerasRule(vectorDot), "FullLike": KerasRule(filled), "Slice": .one(slice),
    "Nansum": withoutNaN("ReduceSum", 0), "Nanprod": withoutNaN("ReduceProd", 1),
    "Nanmax": withoutNaN("ReduceMax", -.infinity), "Nanmin": withoutNaN("ReduceMin", .infinity),
    "Nanmean": withoutNaN("ReduceMean", 0), "CDist": KerasRule(distances),
  ]

  /// The axis of an operation, of a value that is flattened if it has none.
  private static func axis(
    _ call: KerasCall, _ value: ValueID, default preset: Int? = nil
  ) throws(OperatorError) -> (value: ValueID, axis: Int) {
    if call.config.isNull("axis") || (preset == nil && call.argument(Int.max, "axis") == nil) {
      return (try call.layers.reshape(value, [-1]), 0)
    }
    let axis = try call.integer(call.argument(Int.max, "axis")) ?? preset ?? 0
    return (value, try call.axis(axis, rank: call.layers.rank(value)))
  }

  // MARK: - Order

  private static func order(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> [ValueID] {
    let (value, axis) = try axis(call, value, default: -1)
    let layers = call.layers
    if layers.type(value) == .bool {
      let ordered = try layers.ordered(layers.cast(value, to: .uint8), axis: axis)
      return [try layers.cast(ordered[0], to: .bool), ordered[1]]
    }
    return try layers.ordered(value, axis: axis)
  }

  /// The value in the middle, or the mean of the two.
  private static func median(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let given = try call.integers(call.argument(Int.max, "axis"))
    guard given == nil || given?.count == 1 else { throw .unsupported("a median along several axes") }
    let (value, axis) = try axis(call, KerasPromotion.floats(call, value))
    let keeps = call.truth(call.argument(Int.max, "keepdims"))
    let count = try layers.extent(value, axis)
    let ordered = try layers.ordered(value, axis: axis)[0]
    let middle = try layers.slice(ordered, from: [(count - 1) / 2], to: [count / 2 + 1], axes: [axis])
    let result = try layers.reduce("ReduceMean", middle, axes: [axis], keepsAxes: keeps && given != nil)
    return keeps && given == nil ? try layers.reshape(result, [Int](repeating: 1, count: rank)) : result
  }

  private static func searchSorted(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let side = call.text(call.argument(2, "side")) ?? "left"
    let operands = try call.promoted([call.argument(0, "sorted_sequence"), call.argument(1, "values")])
    return [
      KerasTensor(
        try call.layers.insertionPlaces(operands[1], in: operands[0], isRight: side == "right", type: .int32))
    ]
  }

  private static func digitize(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let value = try KerasPromotion.floats(call, call.input().value)
    let bins = try call.operand(call.argument(1, "bins"), like: value)
    return [KerasTensor(try call.layers.insertionPlaces(value, in: bins, isRight: true, type: .int32))]
  }

  private static func isIn(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    _ = call.argument(Int.max, "assume_unique")
    let operands = try KerasOperations.operands(call)
    let rank = try layers.rank(operands[0])
    let isEqual = try layers.emit(
      "Equal", [layers.unsqueeze(operands[0], [rank]), layers.reshape(operands[1], [-1])])
    let any = try KerasPromotion.extreme("ReduceMax", isEqual, axes: [rank], keepsAxes: false, layers)
    return [KerasTensor(call.truth(call.argument(Int.max, "invert")) ? try layers.emit("Not", [any]) : any)]
  }

  private static func roll(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    guard let shifts = try call.integers(call.argument(1, "shift")) else { throw .invalid("'shift' is missing") }
    guard let given = try call.integers(call.argument(2, "axis")) else {
      guard shifts.count == 1 else { throw .unsupported("several shifts of a flattened tensor") }
      let flat = try layers.rolled(layers.reshape(value, [-1]), axis: 0, by: shifts[0])
      return try layers.emit("Reshape", [flat, layers.emit("Shape", [value])])
    }
    let axes = try call.axes(given, rank: layers.rank(value))
    guard shifts.count == axes.count || shifts.count == 1 else {
      throw .invalid("as many shifts as axes were expected")
    }
    var result = value
    for (index, axis) in axes.enumerated() {
      result = try layers.rolled(result, axis: axis, by: shifts[shifts.count == 1 ? 0 : index])
    }
    return result
  }

  private static func takeAlongAxis(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let places = try layers.cast(call.operand(call.argument(1, "indices")), to: .int64)
    let (whole, axis) = try axis(call, value)
    let indices = whole == value ? places : try layers.reshape(places, [-1])
    let (own, asked) = (try layers.shape(whole), try layers.shape(indices))
    let fits =
      own.count == asked.count
      && own.indices.allSatisfy { place in
        place == axis || own[place].known == nil || asked[place].known == nil || own[place].isSame(as: asked[place])
      }
    guard fits else { throw .unsupported("places in the shape \(asked) for elements in \(own)") }
    return [KerasTensor(try layers.emit("GatherElements", [whole, indices], [("axis", .int(axis))]))]
  }

  // MARK: - Along axes

  private static func countNonZero(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let ones = try call.layers.cast(call.layers.cast(value, to: .bool), to: .int32)
    let axes = try KerasReductions.axes(call, call.layers.rank(value))
    return try call.layers.reduce("ReduceSum", ones, axes: axes, keepsAxes: false)
  }

  /// For each axis the places of elements that are not 0.
  private static func nonZero(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let (layers, value) = (call.layers, try call.input().value)
    let places = try layers.cast(layers.emit("NonZero", [value]), to: .int32)
    var parts: [KerasTensor] = []
    for axis in 0..<(try layers.rank(value)) {
      parts.append(KerasTensor(try layers.emit("Gather", [places, layers.constant(Tensor(scalar: Int64(axis)))])))
    }
    return parts
  }

  private static func spread(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let axes = try KerasReductions.axes(call, layers.rank(value))
    let keeps = call.truth(call.argument(Int.max, "keepdims"))
    return try layers.emit(
      "Sub",
      [
        layers.reduce("ReduceMax", value, axes: axes, keepsAxes: keeps),
        layers.reduce("ReduceMin", value, axes: axes, keepsAxes: keeps),
      ])
  }

  private static func average(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let given = try call.integers(call.argument(Int.max, "axis"))
    let axes = try given.map { (axes) throws(OperatorError) in try call.axes(axes, rank: rank) } ?? Array(0..<rank)
    let value = try KerasPromotion.floats(call, value)
    guard let argument = call.argument(1, "weights") else {
      return try layers.reduce("ReduceMean", value, axes: axes, keepsAxes: false)
    }
    var weights = try layers.cast(call.operand(argument, like: value), to: layers.type(value) ?? .float32)
    let weightRank = try layers.rank(weights)
    var total: ValueID
    if weightRank == rank {
      total = try layers.reduce("ReduceSum", weights, axes: axes, keepsAxes: false)
    } else {
      guard weightRank == 1, axes.count == 1 else { throw .unsupported("weights of \(weightRank) axes of \(rank)") }
      total = try layers.reduce("ReduceSum", weights, axes: [0], keepsAxes: false)
      var shape = [Int](repeating: 1, count: rank)
      shape[axes[0]] = -1
      weights = try layers.reshape(weights, shape)
    }
    let sum = try layers.reduce("ReduceSum", layers.emit("Mul", [value, weights]), axes: axes, keepsAxes: false)
    return try layers.emit("Div", [sum, total])
  }

  private static func difference(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let times = try call.integer(call.argument(1, "n")) ?? 1
    let axis = try call.axis(call.integer(call.argument(2, "axis")) ?? -1, rank: layers.rank(value))
    guard (0...16).contains(times) else { throw .unsupported("differences of order \(times)") }
    var result = value
    for _ in 0..<times {
      let later = try layers.slice(result, from: [1], to: [Int(Int32.max)], axes: [axis])
      let earlier = try layers.slice(result, from: [0], to: [-1], axes: [axis])
      result = try layers.emit(layers.type(result) == .bool ? "Xor" : "Sub", [later, earlier])
    }
    return result
  }

  private static func cross(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let operands = try KerasOperations.operands(call)
    let rank = try layers.rank(operands[0])
    let all = try call.integer(call.argument(Int.max, "axis"))
    var axes: [Int] = []
    for axis in try [
      call.integer(call.argument(Int.max, "axisa")), call.integer(call.argument(Int.max, "axisb")),
      call.integer(call.argument(Int.max, "axisc")),
    ] { axes.append(try call.axis(all ?? axis ?? -1, rank: rank)) }
    guard Set(axes).count == 1, try layers.rank(operands[1]) == rank,
      try layers.extent(operands[0], axes[0]) == 3, try layers.extent(operands[1], axes[0]) == 3
    else { throw .unsupported("a cross product other than of three elements along one axis") }
    var terms: [ValueID] = []
    for (a, b) in [(-1, -2), (-2, -1)] {
      terms.append(
        try layers.emit(
          "Mul",
          [layers.rolled(operands[0], axis: axes[0], by: a), layers.rolled(operands[1], axis: axes[0], by: b)]))
    }
    return [KerasTensor(try layers.emit("Sub", terms))]
  }

  /// Norms of vectors, and that of Frobenius of matrices.
  private static func norm(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let value = try KerasPromotion.floats(call, value)
    let axes = try KerasReductions.axes(call, rank)
    let keeps = call.truth(call.argument(Int.max, "keepdims"))
    let order = call.argument(Int.max, "ord")
    if order == nil || (call.text(order) == "fro" && axes.count == 2) {
      return try layers.reduce("ReduceL2", value, axes: axes, keepsAxes: keeps)
    }
    guard axes.count == 1, let number = try call.number(order) else { throw .unsupported("this norm of a matrix") }
    switch number {
    case 1: return try layers.reduce("ReduceL1", value, axes: axes, keepsAxes: keeps)
    case 2: return try layers.reduce("ReduceL2", value, axes: axes, keepsAxes: keeps)
    case .infinity, -.infinity:
      return try layers.reduce(
        number > 0 ? "ReduceMax" : "ReduceMin", layers.emit("Abs", [value]), axes: axes, keepsAxes: keeps)
    case 0:
      let isZero = try layers.emit("Equal", [value, layers.scalar(0, like: value)])
      let ones = try layers.cast(layers.emit("Not", [isZero]), to: layers.type(value) ?? .float32)
      return try layers.reduce("ReduceSum", ones, axes: axes, keepsAxes: keeps)
    default:
      let power = try layers.emit("Pow", [layers.emit("Abs", [value]), layers.scalar(number, like: value)])
      let sum = try layers.reduce("ReduceSum", power, axes: axes, keepsAxes: keeps)
      return try layers.emit("Pow", [sum, layers.scalar(1 / number, like: value)])
    }
  }

  /// A reduction of what is a number; of extremes and means that of nothing is none.
  private static func withoutNaN(_ op: String, _ neutral: Double) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let layers = call.layers
      let axes = try KerasReductions.axes(call, layers.rank(value))
      let keeps = call.truth(call.argument(Int.max, "keepdims"))
      let value = try KerasPromotion.floats(call, value)
      let isNone = try layers.emit("IsNaN", [value])
      let known = try layers.emit("Where", [isNone, layers.scalar(neutral, like: value), value])
      let result = try layers.reduce(op == "ReduceMean" ? "ReduceSum" : op, known, axes: axes, keepsAxes: keeps)
      if op == "ReduceSum" || op == "ReduceProd" { return result }
      let ones = try layers.cast(layers.emit("Not", [isNone]), to: layers.type(value) ?? .float32)
      let count = try layers.reduce("ReduceSum", ones, axes: axes, keepsAxes: keeps)
      if op == "ReduceMean" { return try layers.emit("Div", [result, count]) }
      let isEmpty = try layers.emit("Equal", [count, layers.scalar(0, like: count)])
      return try layers.emit("Where", [isEmpty, layers.scalar(.nan, like: result), result])
    }
  }

  // MARK: - Diagonals and order of axes

  private static func axisPair(_ call: KerasCall, _ rank: Int) throws(OperatorError) -> (Int, Int) {
    (
      try call.axis(call.integer(call.argument(2, "axis1")) ?? 0, rank: rank),
      try call.axis(call.integer(call.argument(3, "axis2")) ?? 1, rank: rank)
    )
  }

  private static func diagonal(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let (first, second) = try axisPair(call, call.layers.rank(value))
    let offset = try call.integer(call.argument(1, "offset")) ?? 0
    return try call.layers.diagonal(value, offset: offset, first: first, second: second)
  }

  private static func diag(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let offset = try call.integer(call.argument(1, "k")) ?? 0
    if try call.layers.rank(value) == 1 { return try call.layers.matrix(ofDiagonal: value, offset: offset) }
    guard try call.layers.rank(value) == 2 else { throw .invalid("a vector or a matrix was expected") }
    return try call.layers.diagonal(value, offset: offset, first: 0, second: 1)
  }

  private static func trace(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let part = try diagonal(call, value)
    let own = layers.type(part) ?? .float32
    let axis = try layers.rank(part) - 1
    return try layers.reduce(
      "ReduceSum", layers.cast(part, to: KerasPromotion.sum(own)), axes: [axis], keepsAxes: false)
  }

  private static func triangle(upper: Bool) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let offset = try call.integer(call.argument(1, "k")) ?? 0
      return try call.layers.emit(
        "Trilu", [value, call.layers.constant(Tensor(scalar: Int64(offset)))], [("upper", .int(upper ? 1 : 0))])
    }
  }

  private static func flipped(
    _ value: ValueID, _ axes: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let back = axes.map { _ in -1 }
    return try layers.slice(value, from: back, to: axes.map { _ in -Int(Int32.max) }, axes: axes, steps: back)
  }

  private static func flip(_ axis: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      try flipped(value, [call.axis(axis, rank: call.layers.rank(value))], call.layers)
    }
  }

  private static func rotate(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let axes = try call.axes(call.integers(call.argument(2, "axes")) ?? [0, 1], rank: rank)
    guard axes.count == 2 else { throw .invalid("two axes were expected") }
    var order = Array(0..<rank)
    order.swapAt(axes[0], axes[1])
    switch try ((call.integer(call.argument(1, "k")) ?? 1) % 4 + 4) % 4 {
    case 0: return value
    case 1: return try layers.transpose(flipped(value, [axes[1]], layers), order)
    case 2: return try flipped(value, axes, layers)
    default: return try flipped(layers.transpose(value, order), [axes[1]], layers)
    }
  }

  // MARK: - Together and apart

  private static func joined(_ axis: Int) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let layers = call.layers
      let values = try KerasOperations.parts(call)
      guard let first = values.first else { throw .invalid("it is called without a tensor") }
      let rank = try layers.rank(first)
      guard rank > axis || (axis == 1 && rank == 1) else { throw .unsupported("tensors of \(rank) axes") }
      return [KerasTensor(try layers.concatenate(values, axis: min(axis, rank - 1)))]
    }
  }

  private static func append(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    var values = try KerasOperations.operands(call)
    guard let given = try call.integer(call.argument(2, "axis")) else {
      for index in values.indices { values[index] = try layers.reshape(values[index], [-1]) }
      return [KerasTensor(try layers.concatenate(values, axis: 0))]
    }
    return [KerasTensor(try layers.concatenate(values, axis: call.axis(given, rank: layers.rank(values[0]))))]
  }

  /// Parts of nearly the same extent, or between places.
  private static func parts(_ axis: Int?) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let (layers, value) = (call.layers, try call.input().value)
      let asked = try call.integer(call.argument(2, "axis"))
      let rank = try layers.rank(value)
      let given = axis ?? asked ?? 0
      let place = try call.axis(given == 1 && rank == 1 ? 0 : given, rank: rank)
      let extent = try layers.extent(value, place)
      guard let numbers = try call.integers(call.argument(1, "indices_or_sections")) else {
        throw .invalid("no count of parts")
      }
      var bounds: [Int]
      if call.config["indices_or_sections"]?.elements == nil, numbers.count == 1 {
        guard (1...1 << 12).contains(numbers[0]) else { throw .invalid("\(numbers[0]) parts") }
        let (size, rest) = (extent / numbers[0], extent % numbers[0])
        bounds = (0...numbers[0]).map { $0 * size + min($0, rest) }
      } else {
        bounds = [0] + numbers.map { min(max($0 < 0 ? $0 + extent : $0, 0), extent) } + [extent]
      }
      var parts: [KerasTensor] = []
      for (start, end) in zip(bounds, bounds.dropFirst()) {
        parts.append(KerasTensor(try layers.slice(value, from: [start], to: [max(start, end)], axes: [place])))
      }
      return parts
    }
  }

  private static func filled(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let (layers, value) = (call.layers, try call.input().value)
    var element = try call.operand(call.argument(1, "fill_value"), like: value)
    if let name = call.text(call.argument(2, "dtype")) {
      guard let type = KerasTypes.table[name] else { throw .unsupported("the type '\(name)'") }
      element = try layers.cast(element, to: type)
    }
    return [KerasTensor(try layers.emit("Expand", [element, layers.emit("Shape", [value])]))]
  }

  private static func slice(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let starts = try call.integers(call.argument(1, "start_indices")),
      let sizes = try call.integers(call.argument(2, "shape")), starts.count == sizes.count
    else { throw .unsupported("a part at places that are computed") }
    let ends = zip(starts, sizes).map { $1 == -1 ? Int(Int32.max) : $0 + $1 }
    return try call.layers.slice(value, from: starts, to: ends, axes: Array(starts.indices))
  }

  // MARK: - Products

  private static func outer(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let operands = try KerasOperations.operands(call)
    return [
      KerasTensor(
        try call.layers.emit(
          "Mul", [call.layers.reshape(operands[0], [-1, 1]), call.layers.reshape(operands[1], [1, -1])]))
    ]
  }

  /// Sums of products along pairs of axes; the others of the first operand come before those of the second.
  private static func contracted(
    _ operands: [ValueID], _ first: [Int], _ second: [Int], _ call: KerasCall
  ) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let ranks = [try layers.rank(operands[0]), try layers.rank(operands[1])]
    let (a, b) = (try call.axes(first, rank: ranks[0]), try call.axes(second, rank: ranks[1]))
    let letters = Array("abcdefghijklmnopqrstuvwxyz")
    guard a.count == b.count, ranks[0] + ranks[1] <= letters.count else { throw .invalid("as many axes were expected") }
    let left = Array(letters[..<ranks[0]])
    var right = Array(letters[ranks[0]..<(ranks[0] + ranks[1])])
    for (own, other) in zip(a, b) { right[other] = left[own] }
    let kept = left.indices.filter { !a.contains($0) }.map { left[$0] }
    let rest = right.indices.filter { !b.contains($0) }.map { right[$0] }
    let equation = "\(String(left)),\(String(right))->\(String(kept + rest))"
    return [KerasTensor(try layers.emit("Einsum", operands, [("equation", .string(equation))]))]
  }

  private static func inner(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    try contracted(KerasOperations.operands(call), [-1], [-1], call)
  }

  private static func dot(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let operands = try KerasOperations.operands(call)
    let ranks = [try call.layers.rank(operands[0]), try call.layers.rank(operands[1])]
    if ranks.contains(0) { return [KerasTensor(try call.layers.emit("Mul", operands))] }
    return try contracted(operands, [-1], [ranks[1] == 1 ? -1 : -2], call)
  }

  private static func vectorDot(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    var operands = try KerasOperations.operands(call)
    for index in operands.indices { operands[index] = try call.layers.reshape(operands[index], [-1]) }
    return try contracted(operands, [0], [0], call)
  }

  private static func tensorDot(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let operands = try KerasOperations.operands(call)
    let rank = try call.layers.rank(operands[0])
    guard case .constant(let axes)? = call.argument(2, "axes") else { throw .unsupported("axes that are computed") }
    if let count = axes.smallInteger {
      guard (0...rank).contains(count) else { throw .invalid("\(count) axes of \(rank)") }
      return try contracted(operands, Array((rank - count)..<rank), Array(0..<count), call)
    }
    guard let lists = axes.elements, lists.count == 2, let first = lists[0].integers, let second = lists[1].integers
    else { throw .invalid("two lists of axes were expected") }
    return try contracted(operands, first, second, call)
  }

  /// Distances of all rows of two tensors.
  private static func distances(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let operands = try KerasOperations.operands(call, with: .float)
    let rank = try layers.rank(operands[0])
    guard rank >= 2, try layers.rank(operands[1]) == rank else { throw .invalid("rows of vectors were expected") }
    let difference = try layers.emit(
      "Sub", [layers.unsqueeze(operands[0], [rank - 1]), layers.unsqueeze(operands[1], [rank - 2])])
    return [KerasTensor(try layers.reduce("ReduceL2", difference, axes: [rank], keepsAxes: false))]
  }
}
