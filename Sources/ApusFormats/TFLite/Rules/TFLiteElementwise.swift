// Operators of TensorFlow Lite that work element by element.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let elementwise: [String: TFLiteRule] = [
    "ABS": unary("Abs"), "CEIL": unary("Ceil"), "COS": unary("Cos"), "EXP": unary("Exp"), "FLOOR": unary("Floor"),
    "LOG": unary("Log"), "LOGISTIC": unary("Sigmoid"), "NEG": unary("Neg"), "RELU": unary("Relu"),
    "ROUND": unary("Round"), "SIGN": unary("Sign"), "SIN": unary("Sin"), "SQRT": unary("Sqrt"), "TANH": unary("Tanh"),
    "ELU": unary("Elu"), "HARD_SWISH": unary("HardSwish"), "RELU6": clip(0, 6), "RELU_N1_TO_1": clip(-1, 1),
    "RELU_0_TO_1": clip(0, 1), "RSQRT": TFLiteRule(reciprocalRoot), "SQUARE": TFLiteRule(square),
    "LEAKY_RELU": TFLiteRule(leakyRelu), "PRELU": binary("PRelu"), "GELU": TFLiteRule(gelu),
    "ADD": fused("Add"), "SUB": fused("Sub"), "MUL": TFLiteRule(.stored, multiply), "DIV": TFLiteRule(.stored, divide),
    "MAXIMUM": binary("Max"), "MINIMUM": binary("Min"), "POW": binary("Pow"), "ADD_N": TFLiteRule(addAll),
    "SQUARED_DIFFERENCE": TFLiteRule(squaredDifference), "FLOOR_DIV": TFLiteRule(floorDivide),
    "FLOOR_MOD": TFLiteRule(floorModulo), "ATAN2": TFLiteRule(angle), "BITWISE_XOR": binary("BitwiseXor"),
    "RIGHT_SHIFT": TFLiteRule(shiftRight), "CAST": TFLiteRule(cast), "BITCAST": TFLiteRule(bitCast),
    "ZEROS_LIKE": TFLiteRule(zerosLike),
  ]

  /// An operator of one operand that ONNX has, too.
  static func unary(_ op: String, _ attributes: [(String, AttributeValue)] = []) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in [try layer.layers.emit(op, [layer.input(0)], attributes)] }
  }

  /// An operator of two operands that ONNX has, too, with the same broadcasting.
  static func binary(_ op: String) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in [try layer.layers.emit(op, [layer.input(0), layer.input(1)])] }
  }

  /// The same with an activation behind it, whose number is option 0.
  private static func fused(_ op: String) -> TFLiteRule {
    TFLiteRule(.stored) { (layer) throws(OperatorError) in
      let result = try layer.layers.emit(op, [layer.number(0), layer.number(1)])
      return [try layer.activated(result, layer.choice(0))]
    }
  }

  private static func multiply(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let types = [try layer.tensor(0).type, try layer.tensor(1).type, try layer.output(0).type]
    if types.contains(.complex64) { return [try complexProduct(layer)] }
    return [try layer.activated(layer.layers.emit("Mul", [layer.number(0), layer.number(1)]), layer.choice(0))]
  }

  private static func clip(_ low: Double, _ high: Double) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in [try layer.layers.clip(layer.input(0), low, high)] }
  }

  private static func reciprocalRoot(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let root = try layer.layers.emit("Sqrt", [layer.input(0)])
    return [try layer.layers.emit("Reciprocal", [root])]
  }

  private static func square(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let x = try layer.input(0)
    return [try layer.layers.emit("Mul", [x, x])]
  }

  private static func leakyRelu(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("LeakyRelu", [layer.input(0)], [("alpha", .float(layer.real(0)))])]
  }

  private static func gelu(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let form = try layer.flag(0) ? "tanh" : "none"
    return [try layer.layers.emit("Gelu", [layer.input(0)], [("approximate", .string(form))])]
  }

  /// Integers are divided toward zero, as in ONNX.
  private static func divide(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let result = try layer.layers.emit("Div", [layer.number(0), layer.number(1)])
    return [try layer.activated(result, layer.choice(0))]
  }

  private static func addAll(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    var sum = try layer.input(0)
    for index in 1..<max(layer.inputCount, 1) { sum = try layer.layers.emit("Add", [sum, layer.input(index)]) }
    return [sum]
  }

  private static func squaredDifference(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let difference = try layer.layers.emit("Sub", [layer.input(0), layer.input(1)])
    return [try layer.layers.emit("Mul", [difference, difference])]
  }

  /// The quotient rounded down.
  private static func floorDivide(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.floorQuotient(layer.input(0), layer.input(1))]
  }

  /// The remainder of the sign of the divisor.
  private static func floorModulo(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, y) = (layer.layers, try layer.input(0), try layer.input(1))
    guard layers.type(x)?.isFloat ?? true else { return [try layers.emit("Mod", [x, y])] }
    let rest = try layers.emit("Mod", [x, y], [("fmod", .int(1))])
    let zero = try layers.scalar(0, like: x)
    let differs = try layers.emit(
      "Xor", [try layers.emit("Less", [rest, zero]), try layers.emit("Less", [y, zero])])
    let isInexact = try layers.emit("Not", [try layers.emit("Equal", [rest, zero])])
    let moves = try layers.emit("And", [differs, isInexact])
    return [try layers.emit("Where", [moves, try layers.emit("Add", [rest, y]), rest])]
  }

  private static func angle(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.arcTangent(try layer.input(0), try layer.input(1))]
  }

  /// Signed integers keep their sign: division by a power of two, rounded down.
  private static func shiftRight(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, count) = (layer.layers, try layer.input(0), try layer.input(1))
    guard let type = layers.type(x) else { throw .unsupported("the type of the operand is not known") }
    if type.isUnsignedInteger {
      return [try layers.emit("BitShift", [x, count], [("direction", .string("RIGHT"))])]
    }
    let wide = try layers.cast(x, to: .int64)
    let two = layers.constant(Tensor(scalar: Int64(2)))
    let power = try layers.emit("Pow", [two, try layers.cast(count, to: .int64)])
    let rest = try layers.emit("Mod", [wide, power])
    return [try layers.cast(layers.emit("Div", [try layers.emit("Sub", [wide, rest]), power]), to: type)]
  }

  /// Of complex numbers the real part is taken.
  private static func cast(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    guard let type = try layer.output(0).type else { throw .unsupported("the result should be a tensor") }
    let isComplex = try layer.tensor(0).type == .complex64
    if type == .complex64 { return [try isComplex ? layer.stored(0) : complexNumbers(layer.input(0), layer)] }
    let numbers = try isComplex ? part(layer, 0) : layer.input(0)
    if isComplex { return [try layer.layers.cast(numbers, to: type)] }
    return [try layer.layers.emit("Cast", [numbers], [("to", .int(Int(type.rawValue)))])]
  }

  private static func bitCast(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    guard let type = try layer.output(0).type else { throw .unsupported("the result should be a tensor") }
    return [try layer.layers.emit("BitCast", [layer.stored(0)], [("to", .int(Int(type.rawValue)))])]
  }

  private static func zerosLike(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let shape = try layers.emit("Shape", [x])
    return [try layers.emit("Expand", [try layers.scalar(0, like: x), shape])]
  }

  // MARK: - Comparisons and choices

  static let comparisons: [String: TFLiteRule] = [
    "EQUAL": binary("Equal"), "NOT_EQUAL": TFLiteRule(notEqual), "LESS": binary("Less"),
    "LESS_EQUAL": binary("LessOrEqual"), "GREATER": binary("Greater"), "GREATER_EQUAL": binary("GreaterOrEqual"),
    "LOGICAL_AND": binary("And"), "LOGICAL_OR": binary("Or"), "LOGICAL_NOT": unary("Not"),
    "SELECT": TFLiteRule(.moved, select), "SELECT_V2": TFLiteRule(.moved, selectBroadcasting),
  ]

  private static func notEqual(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Not", [try layer.layers.emit("Equal", [layer.input(0), layer.input(1)])])]
  }

  /// A condition of one axis chooses among whole rows.
  private static func select(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, y) = (layer.layers, try layer.input(1), try layer.input(2))
    var condition = try layer.stored(0)
    let rank = try layers.rank(x)
    if try layers.rank(condition) == 1, rank > 1 {
      condition = try layers.unsqueeze(condition, Array(1..<rank))
    }
    return [try layers.emit("Where", [condition, x, y])]
  }

  private static func selectBroadcasting(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Where", [layer.stored(0), layer.input(1), layer.input(2)])]
  }
}
