// The words in which derivative rules are written: arithmetic, constants, shapes, sums over what was broadcast.

import ApusGraph
import ApusTensor

extension DerivativeWriter {
  // MARK: - Arithmetic

  mutating func add(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID { try apply("Add", [a, b]) }
  mutating func subtract(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID { try apply("Sub", [a, b]) }
  mutating func multiply(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID { try apply("Mul", [a, b]) }
  mutating func divide(_ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID { try apply("Div", [a, b]) }
  mutating func negate(_ a: ValueID) throws(OperatorError) -> ValueID { try apply("Neg", [a]) }
  mutating func square(_ a: ValueID) throws(OperatorError) -> ValueID { try multiply(a, a) }

  /// `a` plus, and times, a number.
  mutating func add(_ a: ValueID, _ number: Double) throws(OperatorError) -> ValueID {
    try add(a, scalar(number, like: a))
  }
  mutating func scale(_ a: ValueID, _ number: Double) throws(OperatorError) -> ValueID {
    number == 1 ? a : try multiply(a, scalar(number, like: a))
  }

  /// A comparison with a number.
  mutating func test(_ op: String, _ a: ValueID, _ number: Double) throws(OperatorError) -> ValueID {
    try apply(op, [a, scalar(number, like: a)])
  }

  mutating func choose(_ condition: ValueID, _ a: ValueID, _ b: ValueID) throws(OperatorError) -> ValueID {
    try apply("Where", [condition, a, b])
  }

  /// `a` where the condition holds, else 0.
  mutating func keep(_ a: ValueID, where condition: ValueID) throws(OperatorError) -> ValueID {
    try choose(condition, a, scalar(0, like: a))
  }
  /// 0 where the condition holds, else `a`.
  mutating func clear(_ a: ValueID, where condition: ValueID) throws(OperatorError) -> ValueID {
    try choose(condition, scalar(0, like: a), a)
  }

  mutating func cast(_ value: ValueID, to type: DataType) throws(OperatorError) -> ValueID {
    try self.type(value) == type ? value : apply("Cast", [value], [("to", .int(Int(type.rawValue)))])
  }

  /// The value in the type in which sums and quotients are computed: float32 for narrower types.
  mutating func widened(_ value: ValueID) throws(OperatorError) -> ValueID {
    let type = try type(value)
    return type == .float16 || type == .bfloat16 ? try cast(value, to: .float32) : value
  }

  // MARK: - Constants

  /// A scalar of the element type of a value.
  mutating func scalar(_ number: Double, like value: ValueID) throws(OperatorError) -> ValueID {
    constant(try DerivativeWriter.tensor(number, type(value), []))
  }

  /// int64, rank 1.
  mutating func ints(_ values: [Int]) -> ValueID { constant(Tensor(values)) }

  /// A number in an element type of floats.
  private static func tensor(_ number: Double, _ type: DataType, _ shape: Shape) throws(OperatorError) -> Tensor {
    if type == .float64 { return Tensor([number], shape: shape) }
    let single = Tensor([Float(number)], shape: shape)
    if type == .float32 { return single }
    guard differentiableTypes.contains(type), let convert = elementConverter(from: .float32, to: type) else {
      throw .unsupported("there are no gradients of \(type)")
    }
    return try single.converted(to: type, convert, .unlimited)
  }

  /// A tensor of one number in a shape given by an int64 vector.
  mutating func filled(_ number: Double, _ shape: ValueID, _ type: DataType) throws(OperatorError) -> ValueID {
    try apply("ConstantOfShape", [shape], [("value", .tensor(DerivativeWriter.tensor(number, type, [1])))])
  }
  mutating func zeros(like value: ValueID) throws(OperatorError) -> ValueID {
    try filled(0, shapeOf(value), type(value))
  }
  mutating func ones(like value: ValueID) throws(OperatorError) -> ValueID {
    try filled(1, shapeOf(value), type(value))
  }

  // MARK: - Shapes

  /// The extents from `start` up to `end` as an int64 vector. Negative numbers count from the end.
  mutating func shapeOf(_ value: ValueID, from start: Int = 0, to end: Int? = nil) throws(OperatorError) -> ValueID {
    var attributes: [(String, AttributeValue)] = start == 0 ? [] : [("start", .int(start))]
    if let end { attributes.append(("end", .int(end))) }
    return try apply("Shape", [value], attributes)
  }

  /// Integer vectors one behind the other.
  mutating func join(_ parts: [ValueID]) throws(OperatorError) -> ValueID {
    parts.count == 1 ? parts[0] : try apply("Concat", parts, [("axis", .int(0))])
  }

  /// The same elements in a shape given by an int64 vector, in which 0 is 0.
  mutating func reshape(_ value: ValueID, _ shape: ValueID) throws(OperatorError) -> ValueID {
    try apply("Reshape", [value, shape], [("allowzero", .int(1))])
  }
  mutating func reshape(_ value: ValueID, like other: ValueID) throws(OperatorError) -> ValueID {
    try reshape(value, shapeOf(other))
  }
  mutating func flat(_ value: ValueID) throws(OperatorError) -> ValueID { try apply("Reshape", [value, ints([-1])]) }
  mutating func transpose(_ value: ValueID, _ permutation: [Int]) throws(OperatorError) -> ValueID {
    try apply("Transpose", [value], [("perm", .ints(permutation))])
  }
  mutating func unsqueeze(_ value: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    axes.isEmpty ? value : try apply("Unsqueeze", [value, ints(axes)])
  }
  mutating func expand(_ value: ValueID, like other: ValueID) throws(OperatorError) -> ValueID {
    try apply("Expand", [value, shapeOf(other)])
  }

  /// A reduction over known axes.
  mutating func reduce(
    _ op: String, _ value: ValueID, _ axes: [Int], keepsAxes: Bool = true
  ) throws(OperatorError) -> ValueID {
    axes.isEmpty ? value : try apply(op, [value, ints(axes)], [("keepdims", .int(keepsAxes ? 1 : 0))])
  }

  /// The sum of all elements.
  mutating func total(_ value: ValueID) throws(OperatorError) -> ValueID {
    try apply("ReduceSum", [value], [("keepdims", .int(0))])
  }

  /// The number of elements of `value` for each of `part`, as a scalar of the element type of `part`.
  mutating func ratio(_ value: ValueID, _ part: ValueID) throws(OperatorError) -> ValueID {
    try cast(divide(apply("Size", [value]), apply("Size", [part])), to: type(part))
  }

  /// The gradient of a value that was broadcast: sums over the axes along which it was repeated. Where symbols leave
  /// open whether it was, the axis of extent G is read as two of extents X and G / X, of which the second is summed.
  mutating func unbroadcast(_ gradient: ValueID, to value: ValueID) throws(OperatorError) -> ValueID {
    if let a = shape(gradient), let b = shape(value), a.count == b.count, zip(a, b).allSatisfy({ $0.isSame(as: $1) }) {
      return gradient
    }
    guard shape(gradient) != nil, shape(value) != nil else { return try unbroadcastAnyRank(gradient, to: value) }
    let leading = try rank(gradient) - rank(value)
    guard leading >= 0 else { throw .invalid("the gradient of \(describe(value)) has fewer axes than it") }
    var result = try reduce("ReduceSum", gradient, Array(0..<leading), keepsAxes: false)
    guard let given = shape(result), let wanted = shape(value) else { return result }
    var summed: [Int] = []
    var open: [Int] = []
    for axis in wanted.indices where !given[axis].isSame(as: wanted[axis]) {
      if wanted[axis].known == 1 { summed.append(axis) } else if wanted[axis].known == nil { open.append(axis) }
    }
    result = try reduce("ReduceSum", result, summed)
    if open.isEmpty { return result }
    var extents: [ValueID] = []
    var seconds: [Int] = []
    for axis in wanted.indices {
      let extent = try shapeOf(open.contains(axis) ? value : result, from: axis, to: axis + 1)
      extents.append(extent)
      if open.contains(axis) {
        seconds.append(extents.count)
        extents.append(try divide(shapeOf(result, from: axis, to: axis + 1), extent))
      }
    }
    let split = try reshape(result, join(extents))
    return try reduce("ReduceSum", split, seconds, keepsAxes: false)
  }

  /// The same where not even ranks are known: a sum over the axes that the value has not, or has with the extent 1.
  private mutating func unbroadcastAnyRank(
    _ gradient: ValueID, to value: ValueID
  ) throws(OperatorError) -> ValueID {
    let (given, wanted) = (try shapeOf(gradient), try shapeOf(value))
    let missing = try subtract(shapeOf(given), shapeOf(wanted))
    let ones = try apply("ConstantOfShape", [missing], [("value", .tensor(Tensor([1])))])
    let isOne = try apply("Equal", [join([ones, wanted]), ints([1])])
    let axes = try flat(apply("NonZero", [isOne]))
    let sums = try apply("ReduceSum", [gradient, axes], [("noop_with_empty_axes", .int(1))])
    return try reshape(sums, wanted)
  }

  /// The gradients of all inputs that broadcast, from one function of each.
  mutating func broadcasting(
    _ application: Application,
    _ gradient: (inout DerivativeWriter, Int) throws(OperatorError) -> ValueID?
  ) throws(OperatorError) -> [ValueID?] {
    var gradients: [ValueID?] = []
    for index in application.node.inputs.indices {
      guard application.isWanted(index), let input = application.input(index), let full = try gradient(&self, index)
      else {
        gradients.append(nil)
        continue
      }
      gradients.append(try unbroadcast(full, to: input))
    }
    return gradients
  }

  /// The gradient of a tensor of which elements were picked: `positions` says where in it, counted in row-major order,
  /// each element of `gradient` comes from. Elements that were picked several times get the sum.
  mutating func scatter(
    _ gradient: ValueID, to positions: ValueID, of value: ValueID
  ) throws(OperatorError) -> ValueID {
    let size = try apply("Reshape", [apply("Size", [value]), ints([1])])
    let zeros = try filled(0, size, type(gradient))
    let sums = try apply(
      "ScatterElements", [zeros, flat(positions), flat(gradient)], [("axis", .int(0)), ("reduction", .string("add"))])
    return try reshape(sums, like: value)
  }

  /// The position of every element of a tensor in row-major order, in its shape.
  mutating func positions(of value: ValueID) throws(OperatorError) -> ValueID {
    let zero = constant(Tensor(scalar: 0))
    let one = constant(Tensor(scalar: 1))
    return try reshape(apply("Range", [zero, apply("Size", [value]), one]), like: value)
  }
}
