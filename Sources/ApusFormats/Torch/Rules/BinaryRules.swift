// Arithmetic, comparisons and choices of PyTorch, with its promotion of types.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let binaryTable: [String: TorchRule] = [
    "add": sum("Add"), "sub": sum("Sub"), "subtract": sum("Sub"), "rsub": reversedDifference,
    "mul": arithmetic("Mul", and: "And"), "multiply": arithmetic("Mul", and: "And"), "div": quotient,
    "divide": quotient, "true_divide": quotient, "floor_divide": floorDivide, "remainder": remainder, "fmod": fmod,
    "pow": power, "float_power": power, "maximum": arithmetic("Max", and: "Or"),
    "minimum": arithmetic("Min", and: "And"), "max.other": arithmetic("Max", and: "Or"),
    "min.other": arithmetic("Min", and: "And"), "fmax": knownExtreme("Max", and: "Or"),
    "fmin": knownExtreme("Min", and: "And"), "atan2": atan2, "arctan2": atan2, "hypot": hypotenuse,
    "addcmul": addProduct,
    "addcdiv": addQuotient, "lerp": interpolate, "clamp": clamp, "clip": clamp, "clamp_min": clamp, "clamp_max": clamp,
    "bitwise_and": bitwise("And"), "bitwise_or": bitwise("Or"), "bitwise_xor": bitwise("Xor"),
    "__and__": bitwise("And"), "__or__": bitwise("Or"), "__xor__": bitwise("Xor"),
    "bitwise_left_shift": shift("LEFT"), "__lshift__": shift("LEFT"), "bitwise_right_shift": shift("RIGHT"),
    "__rshift__": shift("RIGHT"), "xlogy": productWithLog, "special_xlogy": productWithLog,
    "logaddexp": logAddExp, "logaddexp2": logAddExp2, "special_xlog1py": productWithLog1p, "ldexp": scaledByPower,
    "copysign": copySign, "heaviside": heaviside, "_to_copy": identity,
  ]

  static let comparisonTable: [String: TorchRule] = [
    "eq": comparison("Equal"), "ne": comparison("Equal", negated: true), "lt": comparison("Less"),
    "gt": comparison("Greater"), "le": comparison("LessOrEqual"), "ge": comparison("GreaterOrEqual"),
    "not_equal": comparison("Equal", negated: true), "less": comparison("Less"), "greater": comparison("Greater"),
    "less_equal": comparison("LessOrEqual"), "greater_equal": comparison("GreaterOrEqual"),
    "logical_and": logical("And"), "logical_or": logical("Or"), "logical_xor": logical("Xor"), "where": choice,
    "masked_fill": maskedFill, "isclose": isClose, "equal": allEqual,
  ]

  // MARK: - Arithmetic

  /// Both operands in the type that torch promotes them to.
  private static func operands(_ call: TorchCall) throws(OperatorError) -> (DataType, ValueID, ValueID) {
    let type = try call.common(["self", "other"])
    return (type, try call.operand("self", as: type), try call.operand("other", as: type))
  }

  private static func isScalar(_ name: String, _ call: TorchCall) -> Bool {
    if case .tensor? = call.argument(name) { false } else { true }
  }

  /// `self + alpha * other`.
  private static func sum(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      var (type, first, second) = try operands(call)
      if type == .bool {
        if op == "Add" { return [try call.layers.emit("Or", [first, second])] }
        throw .unsupported("a difference of truths")
      }
      if let alpha = try call.number("alpha"), alpha.real != 1 {
        second = try call.layers.emit("Mul", [second, try call.constant(alpha, type)])
      }
      return [try call.layers.emit(op, [first, second])]
    }
  }

  private static func reversedDifference(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var (type, first, second) = try operands(call)
    if let alpha = try call.number("alpha"), alpha.real != 1 {
      first = try call.layers.emit("Mul", [first, try call.constant(alpha, type)])
    }
    swap(&first, &second)
    return [try call.layers.emit("Sub", [first, second])]
  }

  private static func arithmetic(_ op: String, and truths: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (type, first, second) = try operands(call)
      return [try call.layers.emit(type == .bool ? truths : op, [first, second])]
    }
  }

  private static func knownExtreme(_ op: String, and truths: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (type, first, second) = try operands(call)
      if type == .bool { return [try call.layers.emit(truths, [first, second])] }
      return [try call.layers.knownExtreme(op, first, second)]
    }
  }

  private static func quotient(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var type = try call.common(["self", "other"])
    let mode = try call.string("rounding_mode", "")
    if mode.isEmpty, !type.isFloat { type = try call.resultType() }
    if !mode.isEmpty { return [try rounded(mode, type, call)] }
    return [try call.layers.emit("Div", [try call.operand("self", as: type), try call.operand("other", as: type)])]
  }

  private static func floorDivide(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try rounded("floor", try call.common(["self", "other"]), call)]
  }

  /// A quotient rounded to a whole number; that of floats of 16 bits is one of float32, as are numbers of the program.
  private static func rounded(_ mode: String, _ type: DataType, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let inner = type.isFloat && type.bits < 32 ? DataType.float32 : type
    let (first, second) = (try call.operand("self", as: inner), try call.operand("other", as: inner))
    let result =
      switch mode {
      case "floor": try layers.floorQuotient(first, second)
      case "trunc": try layers.truncated(layers.emit("Div", [first, second]))
      default: throw .invalid("'rounding_mode' should be floor or trunc; it is '\(mode)'")
      }
    return try layers.cast(result, to: type)
  }

  /// The sign of the result is that of the divisor.
  private static func remainder(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (_, a, b) = try operands(call)
    return [try call.layers.remainder(a, b)]
  }

  private static func fmod(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (_, a, b) = try operands(call)
    return [try call.layers.emit("Mod", [a, b], [("fmod", .int(1))])]
  }

  private static func power(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.common(["self", "exponent"])
    let resultType = try call.resultType()
    let used = resultType.isFloat ? resultType : type
    let base = try call.operand("self", as: used)
    if case .tensor? = call.argument("exponent") {
      return [try call.layers.emit("Pow", [base, try call.operand("exponent", as: used)])]
    }
    // What torch computes without a power.
    switch try call.number("exponent")?.real {
    case 1: return [base]
    case 2: return [try call.layers.emit("Mul", [base, base])]
    case 3: return [try call.layers.emit("Mul", [try call.layers.emit("Mul", [base, base]), base])]
    case 0.5 where used.isFloat: return [try call.layers.emit("Sqrt", [base])]
    case -0.5 where used.isFloat:
      return [try call.layers.emit("Reciprocal", [try call.layers.emit("Sqrt", [base])])]
    case -1 where used.isFloat: return [try call.layers.emit("Reciprocal", [base])]
    default: return [try call.layers.emit("Pow", [base, try call.operand("exponent", as: used)])]
    }
  }

  private static func atan2(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    return [try call.layers.arcTangent(try call.operand("self", as: type), try call.operand("other", as: type))]
  }

  private static func hypotenuse(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (_, a, b) = try operands(call)
    let layers = call.layers
    let sum = try layers.emit("Add", [try layers.emit("Mul", [a, a]), try layers.emit("Mul", [b, b])])
    return [try layers.emit("Sqrt", [sum])]
  }

  /// `self + value * tensor1 * tensor2`.
  private static func addProduct(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    try addScaled("Mul", call)
  }

  private static func addQuotient(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    try addScaled("Div", call)
  }

  private static func addScaled(_ op: String, _ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    var part = try layers.emit(op, [try call.operand("tensor1", as: type), try call.operand("tensor2", as: type)])
    if let value = try call.number("value"), value.real != 1 {
      part = try layers.emit("Mul", [part, try call.constant(value, type)])
    }
    return [try layers.emit("Add", [try call.operand("self", as: type), part])]
  }

  /// `start + weight * (end - start)`, from the end for weights of one half and more.
  private static func interpolate(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    let (start, end) = (try call.operand("self", as: type), try call.operand("end", as: type))
    let weight = try call.operand("weight", as: type)
    let difference = try layers.emit("Sub", [end, start])
    let one = try layers.scalar(1, like: start)
    let low = try layers.emit("Add", [start, try layers.emit("Mul", [weight, difference])])
    let high = try layers.emit(
      "Sub", [end, try layers.emit("Mul", [difference, try layers.emit("Sub", [one, weight])])])
    let isLow = try layers.emit("Less", [try layers.emit("Abs", [weight]), try layers.scalar(0.5, like: start)])
    return [try layers.emit("Where", [isLow, low, high])]
  }

  private static func clamp(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    var value = try call.operand("self", as: type)
    let isPlain = ["min", "max"].allSatisfy { name in
      if case .tensor? = call.argument(name) { false } else { true }
    }
    if isPlain, type.isFloat || type.isInteger {
      let low = try call.has("min") ? call.operand("min", as: type) : nil
      let high = try call.has("max") ? call.operand("max", as: type) : nil
      if high == nil, let low, layers.constant(low)?.elements(as: Float.self) == [0] {
        return [try layers.emit("Relu", [value])]
      }
      return [try layers.emit("Clip", [value, low, high])]
    }
    if call.has("min") { value = try layers.emit("Max", [value, try call.operand("min", as: type)]) }
    if call.has("max") { value = try layers.emit("Min", [value, try call.operand("max", as: type)]) }
    return [value]
  }

  private static func bitwise(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (type, first, second) = try operands(call)
      return [try call.layers.emit(type == .bool ? op : "Bitwise" + op, [first, second])]
    }
  }

  private static func shift(_ direction: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (type, first, second) = try operands(call)
      if type.isUnsignedInteger {
        return [try call.layers.emit("BitShift", [first, second], [("direction", .string(direction))])]
      }
      let two = try call.constant(.integer(2), .int64)
      let factor = try call.layers.emit("Pow", [two, try call.layers.cast(second, to: .int64)])
      let wide = try call.layers.cast(first, to: .int64)
      if direction == "LEFT" { return [try call.layers.emit("Mul", [wide, factor])] }
      return [try call.layers.floorQuotient(wide, factor)]
    }
  }

  private static func productWithLog(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    let (x, y) = (try call.operand("self", as: type), try call.operand("other", as: type))
    let product = try layers.emit("Mul", [x, try layers.emit("Log", [y])])
    let zero = try layers.scalar(0, like: product)
    let isZero = try layers.emit(
      "And",
      [
        try layers.emit("Equal", [x, zero]), try layers.emit("Not", [try layers.emit("IsNaN", [y])]),
      ])
    return [try layers.emit("Where", [isZero, zero, product])]
  }

  private static func logAddExp(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (_, a, b) = try operands(call)
    return [try call.layers.logAddExp(a, b)]
  }

  /// log2(2^a + 2^b).
  private static func logAddExp2(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, (_, a, b)) = (call.layers, try operands(call))
    let log2 = try layers.scalar(0.693147180559945309417, like: a)
    let sum = try layers.logAddExp(try layers.emit("Mul", [a, log2]), try layers.emit("Mul", [b, log2]))
    return [try layers.emit("Div", [sum, log2])]
  }

  /// x log(1 + y), 0 where x is.
  private static func productWithLog1p(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, type) = (call.layers, try call.resultType())
    let (x, y) = (try call.operand("self", as: type), try call.operand("other", as: type))
    let product = try layers.emit("Mul", [x, try layers.log1p(y)])
    let zero = try layers.scalar(0, like: product)
    let isZero = try layers.emit(
      "And", [try layers.emit("Equal", [x, zero]), try layers.emit("Not", [try layers.emit("IsNaN", [y])])])
    return [try layers.emit("Where", [isZero, zero, product])]
  }

  private static func scaledByPower(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, type) = (call.layers, try call.resultType())
    let exponent = try call.operand("other", as: type)
    let power = try layers.emit("Pow", [try layers.scalar(2, like: exponent), exponent])
    return [try layers.emit("Mul", [try call.operand("self", as: type), power])]
  }

  private static func copySign(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    let size = try layers.emit("Abs", [try call.operand("self", as: type)])
    let sign = try call.operand("other", as: type)
    let zero = try layers.scalar(0, like: size)
    let negative = try layers.emit(
      "Or",
      [
        try layers.emit("Less", [sign, zero]), try layers.emit("Less", [try layers.emit("Reciprocal", [sign]), zero]),
      ])
    return [try layers.emit("Where", [negative, try layers.emit("Neg", [size]), size])]
  }

  private static func heaviside(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let value = try call.tensor("self")
    let zero = try layers.scalar(0, like: value)
    let step = try layers.emit(
      "Where", [try layers.emit("Greater", [value, zero]), try layers.scalar(1, like: value), zero])
    let isZero = try layers.emit("Equal", [value, zero])
    return [try layers.emit("Where", [isZero, try call.tensor("values"), step])]
  }

  // MARK: - Comparisons

  private static func comparison(_ op: String, negated: Bool = false) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      var (type, first, second) = try operands(call)
      if type == .bool, op != "Equal" {
        type = .uint8
        (first, second) = (try layers.cast(first, to: type), try layers.cast(second, to: type))
      }
      let truth = try layers.emit(op, [first, second])
      return [negated ? try layers.emit("Not", [truth]) : truth]
    }
  }

  private static func logical(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      [try call.layers.emit(op, [try call.operand("self", as: .bool), try call.operand("other", as: .bool)])]
    }
  }

  private static func choice(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let condition = try call.layers.cast(try call.tensor("condition"), to: .bool)
    if call.argument("self") == nil { return try nonZeroParts(condition, call) }
    let type = try call.resultType()
    return [
      try call.layers.emit(
        "Where", [condition, try call.operand("self", as: type), try call.operand("other", as: type)])
    ]
  }

  private static func maskedFill(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    guard let type = call.layers.type(value) else { throw .unsupported("the type of the operand is not known") }
    return [try call.layers.emit("Where", [try call.tensor("mask"), try call.operand("value", as: type), value])]
  }

  private static func isClose(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (type, a, b) = try operands(call)
    guard type.isFloat, try !call.bool("equal_nan", false) else { throw .unsupported("isclose of integers or NaN") }
    let relative = try call.constant(try call.real("rtol", 1e-5), type)
    let absolute = try call.constant(try call.real("atol", 1e-8), type)
    let bound = try layers.emit(
      "Add", [absolute, try layers.emit("Mul", [relative, try layers.emit("Abs", [b])])])
    let distance = try layers.emit("Abs", [try layers.emit("Sub", [a, b])])
    let isFinite = try layers.emit("Not", [try layers.emit("IsInf", [distance])])
    let isNear = try layers.emit("And", [isFinite, try layers.emit("LessOrEqual", [distance, bound])])
    return [try layers.emit("Or", [try layers.emit("Equal", [a, b]), isNear])]
  }

  private static func allEqual(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (_, a, b) = try operands(call)
    let same = try call.layers.cast(try call.layers.emit("Equal", [a, b]), to: .uint8)
    let all = try call.layers.emit("ReduceMin", [same], [("keepdims", .int(0))])
    return [try call.layers.unsqueeze(try call.layers.cast(all, to: .bool), [0])]
  }
}
