// Searching and counting of PyTorch: places in sequences that are in order, ranks, extremes up to each element.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let searchTable: [String: TorchRule] = [
    "searchsorted": searchSorted, "bucketize": bucketize, "kthvalue": ranked, "median": median,
    "cummax": cumulativeExtreme("GreaterOrEqual"), "cummin": cumulativeExtreme("LessOrEqual"),
    "logcumsumexp": cumulativeLogSum, "isin": isIn, "_unique2": unique, "_unique": unique, "unique_dim": unique,
    "histc": histogram, "bincount": counts,
  ]

  // MARK: - Places

  private static func placeType(_ call: TorchCall) throws(OperatorError) -> DataType {
    try call.bool("out_int32", false) ? .int32 : .int64
  }

  private static func searchSorted(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var sequence = try call.tensor("sorted_sequence")
    if let sorter = try call.optional("sorter") {
      sequence = try layers.emit(
        "GatherElements", [sequence, sorter], [("axis", .int(try layers.rank(sequence) - 1))])
    }
    let side = try call.string("side", try call.bool("right", false) ? "right" : "left")
    let type = try call.common(["self", "sorted_sequence"])
    let values = try call.operand("self", as: type)
    return [
      try layers.insertionPlaces(
        values, in: try layers.cast(sequence, to: type), isRight: side == "right", type: try placeType(call))
    ]
  }

  private static func bucketize(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.common(["self", "boundaries"])
    return [
      try call.layers.insertionPlaces(
        try call.operand("self", as: type), in: try call.operand("boundaries", as: type),
        isRight: try call.bool("right", false), type: try placeType(call))
    ]
  }

  private static func ranked(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    if rank == 0 { return [value, try call.constant(.integer(0), .int64)] }
    let place = try call.int("k")
    guard place > 0 else { throw .invalid("the argument 'k' should be from 1 on; it is \(place)") }
    return try layers.ranked(
      value, place: place - 1, axis: try call.axis("dim", of: rank, -1), keepsAxis: try call.bool("keepdim", false)
    ).map { $0 }
  }

  /// The lower one of the two values in the middle of all.
  private static func median(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let flat = try layers.reshape(try call.tensor("self"), [-1])
    let count = try layers.emit("Squeeze", [try layers.emit("Shape", [flat])])
    let rest = try layers.emit("Sub", [count, try call.constant(.integer(1), .int64)])
    let middle = try layers.emit("Div", [rest, try call.constant(.integer(2), .int64)])
    let found = try layers.emit("Gather", [try layers.ordered(flat, axis: 0)[0], middle])
    return [try unknownFirst(flat, 0, found, nil, keepsAxis: false, call)[0]]
  }

  /// A value that was found along an axis, and its place; where one of all is no number, the first such.
  static func unknownFirst(
    _ all: ValueID, _ axis: Int, _ found: ValueID, _ place: ValueID?, keepsAxis: Bool, _ call: TorchCall
  ) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    guard let type = layers.type(all), type.isFloat else { return [found, place] }
    let unknown = try layers.cast(try layers.emit("IsNaN", [all]), to: .uint8)
    let any = try layers.cast(
      try layers.reduce("ReduceMax", unknown, axes: [axis], keepsAxes: keepsAxis), to: .bool)
    let value = try layers.emit("Where", [any, try layers.scalar(.nan, like: all), found])
    let first = try place.map { (place) throws(OperatorError) in
      let keeps = AttributeValue.int(keepsAxis ? 1 : 0)
      let first = try layers.emit("ArgMax", [unknown], [("axis", .int(axis)), ("keepdims", keeps)])
      return try layers.emit("Where", [any, first, place])
    }
    return [value, first]
  }

  private static func isIn(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let other = call.has("test_elements") ? "test_elements" : "test_element"
    let own = call.has("elements") ? "elements" : "element"
    let type = try call.common([own, other])
    let values = try call.operand(own, as: type)
    let tests = try layers.reshape(try call.operand(other, as: type), [-1])
    let rank = try layers.rank(values)
    let isEqual = try layers.emit("Equal", [try layers.unsqueeze(values, [rank]), tests])
    let any = try layers.reduce("ReduceMax", layers.cast(isEqual, to: .uint8), axes: [rank], keepsAxes: false)
    let truth = try layers.cast(any, to: .bool)
    return [try call.bool("invert", false) ? try layers.emit("Not", [truth]) : truth]
  }

  // MARK: - Up to each element

  /// Extremes up to each element, and the last place where each is.
  private static func cumulativeExtreme(_ comparison: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (value, layers) = (try call.tensor("self"), call.layers)
      let rank = try layers.rank(value)
      if rank == 0 { return [value, try call.constant(.integer(0), .int64)] }
      let axis = try call.axis("dim", of: rank)
      if !call.isUsed(1), layers.type(value) != .bool {
        let op = comparison == "GreaterOrEqual" ? "Max" : "Min"
        let extremes = try layers.cumulative([value], axis: axis) { (own, before) throws(OperatorError) in
          [try layers.emit(op, [own[0], before[0]])]
        }
        return [extremes[0], nil]
      }
      var shape = [Int](repeating: 1, count: rank)
      shape[axis] = try layers.extent(value, axis)
      guard shape[axis] <= 1 << 24 else { throw .unsupported("\(shape[axis]) elements along an axis") }
      let places = layers.constant(Tensor((0..<shape[axis]).map { Int64($0) }, shape: Shape(shape)))
      let all = try layers.emit("Expand", [places, try call.shapeTensor(value)])
      let isTruth = layers.type(value) == .bool
      let numbers = isTruth ? try layers.cast(value, to: .uint8) : value
      let results = try layers.cumulative([numbers, all], axis: axis) { (own, before) throws(OperatorError) in
        var isOwn = try layers.emit(comparison, [own[0], before[0]])
        // What is no number stays.
        if layers.type(own[0])?.isFloat ?? false {
          let isKnown = try layers.emit("Not", [layers.emit("IsNaN", [before[0]])])
          isOwn = try layers.emit("Or", [layers.emit("IsNaN", [own[0]]), layers.emit("And", [isOwn, isKnown])])
        }
        return [
          try layers.emit("Where", [isOwn, own[0], before[0]]), try layers.emit("Where", [isOwn, own[1], before[1]]),
        ]
      }
      return [isTruth ? try layers.cast(results[0], to: .bool) : results[0], results[1]]
    }
  }

  private static func cumulativeLogSum(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let value = try layers.cast(try call.tensor("self"), to: try call.resultType())
    let rank = try layers.rank(value)
    if rank == 0 { return [value] }
    return try layers.cumulative([value], axis: try call.axis("dim", of: rank)) { (own, before) throws(OperatorError) in
      [try layers.logAddExp(own[0], before[0])]
    }.map { $0 }
  }

  // MARK: - Counting

  /// What occurs, in order, and with `unique_dim` along an axis.
  private static func unique(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    var attributes: [(String, AttributeValue)] = [("sorted", .int(1))]
    let isAlongAxis = call.op.rule == "unique_dim"
    if isAlongAxis { attributes.append(("axis", .int(try call.axis("dim", of: try layers.rank(value))))) }
    let parts = try layers.emit("Unique", [value], attributes, outputs: 4)
    var places = parts[2]
    if !isAlongAxis, call.isUsed(1) { places = try layers.emit("Reshape", [places, try call.shapeTensor(value)]) }
    return call.op.rule == "_unique" ? [parts[0], places] : [parts[0], places, parts[3]]
  }

  /// How many of the flattened integers are each of the places from 0 on: a row of truths for each.
  private static func counted(
    _ places: ValueID, _ count: ValueID, _ type: DataType, weights: ValueID? = nil, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let (zero, one) = (try call.constant(.integer(0), .int64), try call.constant(.integer(1), .int64))
    let numbers = try layers.emit("Range", [zero, count, one])
    var hits = try layers.cast(
      try layers.emit("Equal", [try layers.unsqueeze(places, [1]), numbers]), to: type)
    if let weights {
      hits = try layers.emit("Mul", [hits, try layers.unsqueeze(try layers.cast(weights, to: type), [1])])
    }
    return try layers.reduce("ReduceSum", hits, axes: [0], keepsAxes: false)
  }

  private static func counts(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let places = try layers.cast(try call.tensor("self"), to: .int64)
    let least = try call.int("minlength", 0)
    guard (0...1 << 24).contains(least) else { throw .invalid("the argument 'minlength' is \(least)") }
    let all = try layers.concatenate([places, layers.integers([least - 1])], axis: 0)
    let largest = try layers.emit("ReduceMax", [all], [("keepdims", .int(0))])
    let count = try layers.emit("Add", [largest, try call.constant(.integer(1), .int64)])
    return [try counted(places, count, try call.resultType(), weights: try call.optional("weights"), call)]
  }

  /// How many elements lie in each of `bins` equal parts between two bounds.
  private static func histogram(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (bins, low, high) = (try call.int("bins", 100), try call.real("min", 0), try call.real("max", 0))
    guard (1...1 << 20).contains(bins), low < high, high.isFinite, low.isFinite else {
      throw .unsupported("a histogram between bounds that are those of its elements", remedy: "Give it min and max")
    }
    let value = try layers.reshape(try layers.cast(try call.tensor("self"), to: try call.resultType()), [-1])
    let (least, most) = (try layers.scalar(low, like: value), try layers.scalar(high, like: value))
    let share = try layers.emit(
      "Div", [try layers.emit("Sub", [value, least]), try layers.emit("Sub", [most, least])])
    let place = try layers.emit(
      "Floor", [try layers.emit("Mul", [share, try layers.scalar(Double(bins), like: share)])])
    let last = try layers.emit("Min", [place, try layers.scalar(Double(bins - 1), like: share)])
    let isInside = try layers.emit(
      "And", [try layers.emit("GreaterOrEqual", [value, least]), try layers.emit("LessOrEqual", [value, most])])
    let known = try layers.emit("Where", [isInside, last, try layers.scalar(-1, like: share)])
    let count = try call.constant(.integer(bins), .int64)
    return [try counted(try layers.cast(known, to: .int64), count, try call.resultType(), call)]
  }
}
