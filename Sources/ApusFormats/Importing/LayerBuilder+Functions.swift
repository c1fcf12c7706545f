// Functions of the frameworks that take several nodes of ONNX, and that more than one importer needs.

import ApusGraph
import ApusTensor

extension LayerBuilder {
  // MARK: - Elements

  /// exp(x) - 1 without cancellation: (u - 1) x / log(u) with u = exp(x), x where u is 1. After Higham, Accuracy and
  /// Stability of Numerical Algorithms, 1.14.1.
  package func expm1(_ x: ValueID) throws(OperatorError) -> ValueID {
    let one = try scalar(1, like: x)
    let u = try emit("Exp", [x])
    let difference = try emit("Sub", [u, one])
    let exact = try emit("Div", [try emit("Mul", [difference, x]), try emit("Log", [u])])
    // Far from 0 the difference itself is exact, and log(u) may be infinite.
    let isFar = try emit("Greater", [try emit("Abs", [x]), one])
    let near = try emit("Where", [try emit("Equal", [u, one]), x, exact])
    return try emit("Where", [isFar, difference, near])
  }

  /// log(1 + x) without cancellation: log(u) x / (u - 1) with u = 1 + x, x where u is 1.
  package func log1p(_ x: ValueID) throws(OperatorError) -> ValueID {
    let one = try scalar(1, like: x)
    let u = try emit("Add", [x, one])
    let difference = try emit("Sub", [u, one])
    let log = try emit("Log", [u])
    let exact = try emit("Div", [try emit("Mul", [log, x]), difference])
    let isFar = try emit("Greater", [try emit("Abs", [x]), one])
    let near = try emit("Where", [try emit("Equal", [u, one]), x, exact])
    return try emit("Where", [isFar, log, near])
  }

  /// log(exp(a) + exp(b)), where neither may be larger than a float holds.
  package func logAddExp(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID {
    let largest = try emit("Max", [a, b])
    let distance = try emit("Neg", [try emit("Abs", [try emit("Sub", [a, b])])])
    let rest = try log1p(try emit("Exp", [distance]))
    let isSame = try emit("Equal", [a, b])  // infinities differ by NaN
    let log2 = try scalar(0.693147180559945309417, like: a)
    return try emit("Add", [largest, try emit("Where", [isSame, log2, rest])])
  }

  /// The angle of a point, from the arc tangent of the quotient and the quarter that it lies in. Zeros have a side,
  /// too, and infinities count as ones.
  package func arcTangent(_ y: ValueID, _ x: ValueID) throws(OperatorError) -> ValueID {
    let zero = try scalar(0, like: y)
    let (pi, half) = (try scalar(3.14159265358979323846, like: y), try scalar(1.57079632679489661923, like: y))
    let (isLeft, isBelow) = (try hasMinus(x), try hasMinus(y))
    let turn = try emit("Where", [isBelow, try emit("Neg", [pi]), pi])
    let areInfinite = try emit("And", [try emit("IsInf", [x]), try emit("IsInf", [y])])
    let height = try emit("Where", [areInfinite, try emit("Sign", [y]), y])
    let width = try emit("Where", [areInfinite, try emit("Sign", [x]), x])
    let quotient = try emit("Atan", [try emit("Div", [height, width])])
    let slanted = try emit("Where", [isLeft, try emit("Add", [quotient, turn]), quotient])
    let upright = try emit("Mul", [try emit("Sign", [y]), half])
    let origin = try emit("Where", [isLeft, turn, y])
    let vertical = try emit("Where", [try emit("Equal", [y, zero]), origin, upright])
    return try emit("Where", [try emit("Equal", [x, zero]), vertical, slanted])
  }

  /// Where a float has the sign of negative numbers, as the negative zero has.
  private func hasMinus(_ value: ValueID) throws(OperatorError) -> ValueID {
    let zero = try scalar(0, like: value)
    let isReciprocalNegative = try emit("Less", [try emit("Reciprocal", [value]), zero])
    return try emit("Or", [try emit("Less", [value, zero]), isReciprocalNegative])
  }

  /// An extreme of two values, the other one where one is no number.
  package func knownExtreme(_ op: String, _ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID {
    let extreme = try emit(op, [a, b])
    guard type(a)?.isFloat ?? false else { return extreme }
    let other = try emit("Where", [emit("IsNaN", [b]), a, extreme])
    return try emit("Where", [emit("IsNaN", [a]), b, other])
  }

  /// Towards zero; integers as they are.
  package func truncated(_ value: ValueID) throws(OperatorError) -> ValueID {
    guard type(value)?.isFloat ?? true else { return value }
    let isNegative = try emit("Less", [value, try scalar(0, like: value)])
    return try emit("Where", [isNegative, try emit("Ceil", [value]), try emit("Floor", [value])])
  }

  /// The rest of a division of two values of one type, with the sign of the divisor.
  package func remainder(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID {
    guard type(a)?.isFloat ?? true else { return try emit("Mod", [a, b]) }
    let rest = try emit("Mod", [a, b], [("fmod", .int(1))])
    let zero = try scalar(0, like: rest)
    let signsDiffer = try emit("Xor", [try emit("Less", [rest, zero]), try emit("Less", [b, zero])])
    let isWhole = try emit("Equal", [rest, zero])
    let shifted = try emit("Add", [rest, b])
    let kept = try emit("Or", [try emit("Not", [signsDiffer]), isWhole])
    return try emit("Where", [kept, rest, shifted])
  }

  /// The quotient of two values of one type, rounded down.
  ///
  /// What a division leaves, which has the sign of `a`, tells where it rounded up: quotients of integers are rounded to
  /// 0, and those of floats to a whole number at times (1 / 0.1 is 10 in float32, where 0.1 is more than a tenth).
  package func floorQuotient(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID {
    guard let type = type(a) else { throw .unsupported("the type of an operand is not known") }
    let quotient = try emit("Div", [a, b])
    if !type.isFloat, areSurelyNonNegative([a, b]) { return quotient }
    let divisors = constant(b)?.elements(as: Float.self) ?? []
    // Divided by powers of two nothing is rounded.
    if divisors.count == 1, divisors[0].significand == 1 { return try emit("Floor", [quotient]) }
    let zero = try scalar(0, like: a)
    // onnxruntime takes the rest of int64 in float64.
    let rest =
      type.isFloat ? try emit("Mod", [a, b], [("fmod", .int(1))]) : try emit("Sub", [a, emit("Mul", [quotient, b])])
    let whole = type.isFloat ? try emit("Round", [emit("Div", [emit("Sub", [a, rest]), b])]) : quotient
    let isBelow = try emit("Less", [emit("Mul", [rest, emit("Sign", [b])]), zero])
    let result = try emit("Sub", [whole, cast(isBelow, to: type)])
    if !type.isFloat || !divisors.isEmpty && !divisors.contains(0) { return result }
    return try emit("Where", [emit("Equal", [b, zero]), quotient, result])
  }

  package func areSurelyNonNegative(_ values: [ValueID]) -> Bool {
    values.allSatisfy { value in
      type(value)?.isUnsignedInteger ?? false
        || fact(value).tensor?.values?.allSatisfy(\.isSurelyNonNegative) ?? false
    }
  }

  /// The value where it is no number, `result` elsewhere: for operators of ONNX that take NaN for a number.
  package func keepingNaN(of value: ValueID, _ result: ValueID) throws(OperatorError) -> ValueID {
    try emit("Where", [try emit("IsNaN", [value]), value, result])
  }

  /// sin(πx) / (πx), 1 at 0.
  package func sinc(_ value: ValueID) throws(OperatorError) -> ValueID {
    let angle = try emit("Mul", [value, try scalar(3.14159265358979323846, like: value)])
    let quotient = try emit("Div", [try emit("Sin", [angle]), angle])
    let isZero = try emit("Equal", [value, try scalar(0, like: value)])
    return try emit("Where", [isZero, try scalar(1, like: value), quotient])
  }

  // MARK: - Order

  /// All values along an axis in order, and their places: the TopK of all. Equal values stay in the order they have.
  package func ordered(_ value: ValueID, axis: Int, descending: Bool = false) throws(OperatorError) -> [ValueID] {
    let count = try emit("Shape", [value], [("start", .int(axis)), ("end", .int(axis + 1))])
    return try emit(
      "TopK", [value, count], [("axis", .int(axis)), ("largest", .int(descending ? 1 : 0)), ("sorted", .int(1))],
      outputs: 2)
  }

  /// The value along an axis, without it, that has `place` smaller ones, and where it is.
  package func ranked(
    _ value: ValueID, place: Int, axis: Int, keepsAxis: Bool
  ) throws(OperatorError) -> [ValueID] {
    let extent = try shape(value)[axis].known ?? Int.max
    guard (0..<extent).contains(place), place < Int(Int32.max) else {
      throw .invalid("there is no place \(place) among \(extent) values")
    }
    let smallest = try emit(
      "TopK", [value, integers([place + 1])], [("axis", .int(axis)), ("largest", .int(0)), ("sorted", .int(1))],
      outputs: 2)
    var results: [ValueID] = []
    for part in smallest {
      let last = try slice(part, from: [place], to: [place + 1], axes: [axis])
      results.append(keepsAxis ? last : try squeeze(last, [axis]))
    }
    return results
  }

  /// How many elements of the last axis of `sequence`, which are in order, each of `values` goes behind: of equal ones
  /// too if `isRight`. The sequence has one axis, or its other axes are those of `values`.
  package func insertionPlaces(
    _ values: ValueID, in sequence: ValueID, isRight: Bool, type: DataType
  ) throws(OperatorError) -> ValueID {
    let rank = try rank(sequence)
    guard rank >= 1 else { throw .invalid("a sequence in order was expected; it has no axis") }
    let steps = rank == 1 ? sequence : try unsqueeze(sequence, [rank - 1])
    let wide = try unsqueeze(values, [try self.rank(values)])
    var isBehind = try emit(isRight ? "Greater" : "GreaterOrEqual", [steps, wide])
    // What is no number goes to the end, and stands at the end.
    if self.type(steps)?.isFloat ?? true {
      let isNumber = try emit("Not", [emit("IsNaN", [wide])])
      isBehind = try emit("Or", [isBehind, emit("And", [emit("IsNaN", [steps]), isNumber])])
    }
    let counts = try cast(try emit("Not", [isBehind]), to: type)
    return try reduce("ReduceSum", counts, axes: [try self.rank(wide) - 1], keepsAxes: false)
  }

  /// The elements along an axis moved towards its end, those that leave it at its start.
  package func rolled(_ value: ValueID, axis: Int, by shift: Int) throws(OperatorError) -> ValueID {
    var shift = shift
    if let extent = try shape(value)[axis].known {
      if extent == 0 { return value }
      shift = (shift % extent + extent) % extent
    }
    if shift == 0 { return value }
    guard shift.magnitude < UInt(Int32.max) else { throw .invalid("a shift by \(shift) is too far") }
    let last = try slice(value, from: [-shift], to: [Int.max], axes: [axis])
    let first = try slice(value, from: [0], to: [-shift], axes: [axis])
    return try concatenate([last, first], axis: axis)
  }

  /// What `join` makes of all elements up to each along an axis whose extent is known, in steps that double. `join`
  /// gets the values themselves and those before them.
  package func cumulative(
    _ values: [ValueID], axis: Int, _ join: (_ own: [ValueID], _ before: [ValueID]) throws(OperatorError) -> [ValueID]
  ) throws(OperatorError) -> [ValueID] {
    guard let first = values.first else { return [] }
    let extent = try extent(first, axis)
    var values = values
    var step = 1
    while step < extent {
      var (heads, own, before): ([ValueID], [ValueID], [ValueID]) = ([], [], [])
      for value in values {
        heads.append(try slice(value, from: [0], to: [step], axes: [axis]))
        own.append(try slice(value, from: [step], to: [Int.max], axes: [axis]))
        before.append(try slice(value, from: [0], to: [extent - step], axes: [axis]))
      }
      let joined = try join(own, before)
      for index in values.indices where joined.indices.contains(index) {
        values[index] = try concatenate([heads[index], joined[index]], axis: axis)
      }
      if step > extent / 2 { break }
      step *= 2
    }
    return values
  }

  // MARK: - Parts

  /// The diagonals of the matrices of two axes, on a new last axis.
  package func diagonal(
    _ value: ValueID, offset: Int, first: Int, second: Int
  ) throws(OperatorError) -> ValueID {
    let rank = try rank(value)
    guard first != second, (0..<rank).contains(first), (0..<rank).contains(second) else {
      throw .invalid("two axes were expected; they are \(first) and \(second) of \(rank)")
    }
    let (rows, columns) = (try extent(value, first), try extent(value, second))
    guard abs(rows) < 1 << 24, abs(columns) < 1 << 24, offset.magnitude < 1 << 24 else {
      throw .unsupported("a diagonal of matrices of \(rows) × \(columns)")
    }
    let count = max(0, min(offset < 0 ? rows + offset : rows, offset < 0 ? columns : columns - offset))
    // The matrices as rows, of which every (columns + 1)-th element is one of the diagonal.
    let matrices = try transpose(value, (0..<rank).filter { $0 != first && $0 != second } + [first, second])
    let flat = try reshape(
      matrices, to: Array(try shape(matrices).dropLast(2)) + [Dim(rows * columns)], symbolsOf: [matrices])
    let start = offset < 0 ? -offset * columns : offset
    let places = (0..<count).map { start + $0 * (columns + 1) }
    return try emit("Gather", [flat, integers(places)], [("axis", .int(rank - 2))])
  }

  /// A matrix of zeros but for a diagonal, which is a vector of a known extent.
  package func matrix(ofDiagonal value: ValueID, offset: Int) throws(OperatorError) -> ValueID {
    guard try rank(value) == 1 else { throw .unsupported("a diagonal that is no vector") }
    let extent = try extent(value, 0)
    guard extent <= 4096, offset.magnitude <= 4096 else { throw .unsupported("a matrix of \(extent) rows") }
    let size = extent + abs(offset)
    var mask = [UInt8](repeating: 0, count: size * size)
    for place in 0..<extent { mask[(place + max(-offset, 0)) * size + place + max(offset, 0)] = 1 }
    let isDiagonal = try cast(constant(Tensor(mask, shape: [size, size])), to: .bool)
    // Of the columns each has its element where the diagonal is.
    let before = max(offset, 0)
    let row = try emit("Pad", [value, integers([before, size - extent - before]), scalar(0, like: value)])
    return try emit("Where", [isDiagonal, unsqueeze(row, [0]), scalar(0, like: value)])
  }

  /// Windows of an axis whose extent is known, each `step` elements behind the one before: [windows, size] in its
  /// place.
  package func windows(_ value: ValueID, axis: Int, size: Int, step: Int) throws(OperatorError) -> ValueID {
    let extent = try extent(value, axis)
    guard step > 0, size > 0, size <= extent else {
      throw .invalid("no window of \(size) elements in steps of \(step) fits into \(extent)")
    }
    let count = (extent - size) / step + 1
    let (total, overflow) = count.multipliedReportingOverflow(by: size)
    guard !overflow, total <= 1 << 24 else { throw .unsupported("\(count) windows of \(size) elements") }
    let places = (0..<count).flatMap { window in (0..<size).map { Int64(window * step + $0) } }
    return try emit("Gather", [value, constant(Tensor(places, shape: [count, size]))], [("axis", .int(axis))])
  }
}
