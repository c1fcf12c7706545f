// Reductions, cumulative operators, sorting and searching of PyTorch.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let reductionTable: [String: TorchRule] = [
    "sum": reduction("ReduceSum"), "mean": reduction("ReduceMean"), "prod": reduction("ReduceProd"),
    "amax": reduction("ReduceMax"), "amin": reduction("ReduceMin"), "max": extreme("Max"), "min": extreme("Min"),
    "any": truthReduction("ReduceMax"), "all": truthReduction("ReduceMin"), "logsumexp": reduction("ReduceLogSumExp"),
    "special_logsumexp": reduction("ReduceLogSumExp"), "argmax": argument("ArgMax"), "argmin": argument("ArgMin"),
    "var": variance, "std": variance, "var_mean": variance, "std_mean": variance, "norm": norm,
    "linalg_vector_norm": norm, "linalg_norm": norm, "frobenius_norm": norm, "cumsum": cumulative("CumSum"),
    "cumprod": cumulative("CumProd"), "count_nonzero": countNonZero, "aminmax": bothExtremes, "nansum": nanSum,
    "diff": difference,
  ]

  static let sortTable: [String: TorchRule] = [
    "topk": topK, "sort": sorted, "argsort": argumentSort, "nonzero": nonZero, "nonzero_numpy": nonZeroList,
    "median.dim": medianAlongAxis,
  ]

  /// The axes of the argument `dim`; all if it is absent.
  private static func axes(_ call: TorchCall, _ rank: Int) throws(OperatorError) -> [Int] {
    try call.axes("dim", of: rank)
  }

  static func reduce(
    _ op: String, _ value: ValueID, _ axes: [Int], keepsAxes: Bool, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    if axes.isEmpty, op != "ReduceLogSumExp" { return value }
    return try call.layers.reduce(op, value, axes: axes, keepsAxes: keepsAxes)
  }

  private static func reduction(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try call.layers.cast(try call.tensor(at: 0), to: try call.resultType())
      let rank = try call.layers.rank(value)
      return [try reduce(op, value, try axes(call, rank), keepsAxes: try call.bool("keepdim", false), call)]
    }
  }

  /// `max()`, `max(dim)`, which gives values and places.
  private static func extreme(_ name: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (value, layers) = (try call.tensor(at: 0), call.layers)
      let rank = try layers.rank(value)
      if !call.has("dim") { return [try reduce("Reduce" + name, value, Array(0..<rank), keepsAxes: false, call)] }
      if rank == 0 { return [value, try call.constant(.integer(0), .int64)] }
      let (axis, keeps) = (try call.axis("dim", of: rank), try call.bool("keepdim", false))
      let largest = try reduce("Reduce" + name, value, [axis], keepsAxes: keeps, call)
      if !call.isUsed(1) { return [largest, nil] }
      let place = try layers.emit("Arg" + name, [value], [("axis", .int(axis)), ("keepdims", .int(keeps ? 1 : 0))])
      return [largest, place]
    }
  }

  private static func bothExtremes(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let rank = try call.layers.rank(value)
    let axes = call.has("dim") ? [try call.axis("dim", of: rank)] : Array(0..<rank)
    let keeps = try call.bool("keepdim", false)
    return [
      try reduce("ReduceMin", value, axes, keepsAxes: keeps, call),
      try reduce("ReduceMax", value, axes, keepsAxes: keeps, call),
    ]
  }

  private static func truthReduction(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (value, layers) = (try call.tensor(at: 0), call.layers)
      let truths = try layers.cast(try layers.cast(value, to: .bool), to: .uint8)
      let rank = try layers.rank(value)
      let result = try reduce(op, truths, try axes(call, rank), keepsAxes: try call.bool("keepdim", false), call)
      return [try layers.cast(result, to: try call.resultType())]
    }
  }

  private static func argument(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      var (value, layers) = (try call.tensor(at: 0), call.layers)
      let rank = try layers.rank(value)
      if layers.type(value) == .bool { value = try layers.cast(value, to: .uint8) }
      let keeps = try call.bool("keepdim", false)
      if rank == 0 { return [try call.constant(.integer(0), .int64)] }
      if call.has("dim") {
        let axis = try call.axis("dim", of: rank)
        return [try layers.emit(op, [value], [("axis", .int(axis)), ("keepdims", .int(keeps ? 1 : 0))])]
      }
      let flat = try layers.reshape(value, [-1])
      let place = try layers.emit(op, [flat], [("axis", .int(0)), ("keepdims", .int(0))])
      return [keeps ? try layers.unsqueeze(place, Array(0..<rank)) : place]
    }
  }

  // MARK: - Moments and norms

  /// The number of elements along axes, in a float type.
  private static func count(_ value: ValueID, _ axes: [Int], _ call: TorchCall) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let shape = try layers.shape(value)
    let known = axes.compactMap { shape[$0].known }
    if known.count == axes.count { return try layers.scalar(known.reduce(1) { $0 * Double($1) }, like: value) }
    let extents = try layers.emit("Gather", [try layers.emit("Shape", [value]), layers.integers(axes)])
    let product = try layers.emit("ReduceProd", [extents], [("keepdims", .int(0))])
    return try layers.cast(product, to: layers.type(value) ?? .float32)
  }

  /// The variance along axes, with them kept, and the mean.
  static func moments(
    _ value: ValueID, _ axes: [Int], correction: Double, _ call: TorchCall
  ) throws(OperatorError) -> (variance: ValueID, mean: ValueID) {
    let layers = call.layers
    let mean = try layers.reduce("ReduceMean", value, axes: axes, keepsAxes: true)
    let distance = try layers.emit("Sub", [value, mean])
    let squares = try layers.emit("Mul", [distance, distance])
    if correction == 0 { return (try layers.reduce("ReduceMean", squares, axes: axes, keepsAxes: true), mean) }
    let sum = try layers.reduce("ReduceSum", squares, axes: axes, keepsAxes: true)
    let count = try layers.emit(
      "Sub", [try self.count(value, axes, call), try layers.scalar(correction, like: value)])
    let divisor = try layers.emit("Max", [count, try layers.scalar(0, like: value)])
    return (try layers.emit("Div", [sum, divisor]), mean)
  }

  private static func variance(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    let rank = try layers.rank(value)
    let axes = try axes(call, rank)
    var correction = try call.bool("unbiased", true) ? 1.0 : 0
    if let number = try call.number("correction") { correction = number.real }
    let keeps = try call.bool("keepdim", false)
    let (variance, mean) = try moments(value, axes, correction: correction, call)
    let spread = call.op.rule.hasPrefix("std") ? try layers.emit("Sqrt", [variance]) : variance
    let results = keeps ? [spread, mean] : [try layers.squeeze(spread, axes), try layers.squeeze(mean, axes)]
    return call.op.rule.hasSuffix("mean") ? results : [results[0]]
  }

  private static func norm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let value = try layers.cast(try call.tensor("self"), to: try call.resultType())
    let rank = try layers.rank(value)
    let axes = try axes(call, rank)
    let keeps = try call.bool("keepdim", false)
    if case .string? = call.argument("ord") { throw .unsupported("norms of matrices by name") }
    let order = try call.number(call.has("ord") ? "ord" : "p")?.real ?? 2
    if call.op.rule == "linalg_norm", call.has("ord"), axes.count == 2 { throw .unsupported("norms of matrices") }
    switch order {
    case 2: return [try reduce("ReduceL2", value, axes, keepsAxes: keeps, call)]
    case 1: return [try reduce("ReduceL1", value, axes, keepsAxes: keeps, call)]
    case .infinity, -.infinity:
      let op = order > 0 ? "ReduceMax" : "ReduceMin"
      return [try reduce(op, try layers.emit("Abs", [value]), axes, keepsAxes: keeps, call)]
    case 0:
      let isZero = try layers.emit("Equal", [value, try layers.scalar(0, like: value)])
      let ones = try layers.cast(try layers.emit("Not", [isZero]), to: layers.type(value) ?? .float32)
      return [try reduce("ReduceSum", ones, axes, keepsAxes: keeps, call)]
    default:
      let power = try layers.emit("Pow", [try layers.emit("Abs", [value]), try layers.scalar(order, like: value)])
      let sum = try reduce("ReduceSum", power, axes, keepsAxes: keeps, call)
      return [try layers.emit("Pow", [sum, try layers.scalar(1 / order, like: value)])]
    }
  }

  private static func countNonZero(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let ones = try call.layers.cast(try call.layers.cast(value, to: .bool), to: .int64)
    return [try reduce("ReduceSum", ones, try axes(call, try call.layers.rank(value)), keepsAxes: false, call)]
  }

  private static func nanSum(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let value = try layers.cast(try call.tensor("self"), to: try call.resultType())
    let numbers = try layers.emit(
      "Where", [try layers.emit("IsNaN", [value]), try layers.scalar(0, like: value), value])
    let axes = try axes(call, try layers.rank(value))
    return [try reduce("ReduceSum", numbers, axes, keepsAxes: try call.bool("keepdim", false), call)]
  }

  private static func cumulative(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try call.layers.cast(try call.tensor("self"), to: try call.resultType())
      let rank = try call.layers.rank(value)
      if rank == 0 { return [value] }
      let axis = call.layers.constant(Tensor(scalar: Int64(try call.axis("dim", of: rank))))
      return [try call.layers.emit(op, [value, axis])]
    }
  }

  /// Differences of neighbours, `n` times.
  private static func difference(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try call.tensor("self")
    let axis = try call.axis("dim", of: try layers.rank(value), -1)
    let ends = [try call.optional("prepend"), value, try call.optional("append")].compactMap { $0 }
    value = try layers.concatenate(ends, axis: axis)
    let times = try call.int("n", 1)
    guard (0...16).contains(times) else { throw .unsupported("differences of order \(times)") }
    for _ in 0..<times {
      let later = try layers.slice(value, from: [1], to: [Int.max], axes: [axis])
      let earlier = try layers.slice(value, from: [0], to: [-1], axes: [axis])
      if layers.type(value) == .bool {
        value = try layers.emit("Xor", [later, earlier])
      } else {
        value = try layers.emit("Sub", [later, earlier])
      }
    }
    return [value]
  }

  // MARK: - Order

  private static func topK(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let axis = try call.axis("dim", of: try layers.rank(value), -1)
    guard let count = try call.sizes("k")?.first else { throw .invalid("the argument 'k' should be a number") }
    return try layers.emit(
      "TopK", [value, try call.lowering.size(count)],
      [
        ("axis", .int(axis)), ("largest", .int(try call.bool("largest", true) ? 1 : 0)),
        ("sorted", .int(try call.bool("sorted", true) ? 1 : 0)),
      ], outputs: 2
    ).map { $0 }
  }

  /// Values and places in order: the TopK of all.
  private static func order(_ call: TorchCall) throws(OperatorError) -> [ValueID] {
    var (value, layers) = (try call.tensor("self"), call.layers)
    let (rank, type) = (try layers.rank(value), layers.type(value))
    if rank == 0 { return [value, try call.constant(.integer(0), .int64)] }
    let axis = try call.axis("dim", of: rank, -1)
    if type == .bool { value = try layers.cast(value, to: .uint8) }
    return try layers.ordered(value, axis: axis, descending: try call.bool("descending", false))
  }

  private static func sorted(_ call: TorchCall) throws(OperatorError) -> [ValueID?] { try order(call).map { $0 } }

  private static func argumentSort(_ call: TorchCall) throws(OperatorError) -> [ValueID?] { [try order(call)[1]] }

  /// The lower one of the two values in the middle.
  private static func medianAlongAxis(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let axis = try call.axis("dim", of: try layers.rank(value))
    let middle = (try layers.extent(value, axis) - 1) / 2
    let keeps = try call.bool("keepdim", false)
    let found = try layers.ranked(value, place: middle, axis: axis, keepsAxis: keeps)
    return try unknownFirst(value, axis, found[0], found[1], keepsAxis: keeps, call)
  }

  private static func nonZero(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [
      try call.layers.emit(
        "Transpose", [try call.layers.emit("NonZero", [try call.tensor("self")])],
        [
          ("perm", .ints([1, 0]))
        ])
    ]
  }

  private static func nonZeroList(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    try nonZeroParts(try call.tensor("self"), call)
  }

  /// For each axis the places of the elements that are not 0.
  static func nonZeroParts(_ value: ValueID, _ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let rank = try call.layers.rank(value)
    let places = try call.layers.emit("NonZero", [value])
    var parts: [ValueID?] = []
    for axis in 0..<rank {
      parts.append(try call.layers.emit("Gather", [places, call.layers.constant(Tensor(scalar: Int64(axis)))]))
    }
    return parts
  }
}
