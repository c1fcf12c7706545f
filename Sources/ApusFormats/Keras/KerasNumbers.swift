// Operations of keras.ops that compute each element from one or two.

import ApusGraph
import ApusTensor

enum KerasNumbers {
  static let rules: [String: KerasRule] = [
    "Log2": float { (layers, value) throws(OperatorError) in
      try layers.emit("Div", [layers.emit("Log", [value]), layers.scalar(0.693147180559945309417, like: value)])
    },
    "Log10": float { (layers, value) throws(OperatorError) in
      try layers.emit("Div", [layers.emit("Log", [value]), layers.scalar(2.302585092994045684018, like: value)])
    },
    "Log1p": float { (layers, value) throws(OperatorError) in try layers.log1p(value) },
    "Expm1": float { (layers, value) throws(OperatorError) in try layers.expm1(value) },
    "Exp2": float { (layers, value) throws(OperatorError) in
      try layers.emit("Pow", [layers.scalar(2, like: value), value])
    },
    "Sinc": float { (layers, value) throws(OperatorError) in try layers.sinc(value) },
    "Fabs": float { (layers, value) throws(OperatorError) in try layers.emit("Abs", [value]) },
    "Cbrt": float { (layers, value) throws(OperatorError) in
      let root = try layers.emit("Pow", [layers.emit("Abs", [value]), layers.scalar(1.0 / 3, like: value)])
      return try layers.emit("Mul", [layers.emit("Sign", [value]), root])
    },
    "Deg2rad": float { (layers, value) throws(OperatorError) in
      try layers.emit("Mul", [value, layers.scalar(0.017453292519943295769, like: value)])
    },
    "Rad2deg": float { (layers, value) throws(OperatorError) in
      try layers.emit("Mul", [value, layers.scalar(57.29577951308232087680, like: value)])
    },
    "Trunc": .one { (call, value) throws(OperatorError) in try call.layers.truncated(value) },
    "Isfinite": float { (layers, value) throws(OperatorError) in
      try layers.emit("Not", [layers.emit("Or", [layers.emit("IsNaN", [value]), layers.emit("IsInf", [value])])])
    },
    "Isposinf": float { (layers, value) throws(OperatorError) in
      try layers.emit("IsInf", [value], [("detect_negative", .int(0))])
    },
    "Isneginf": float { (layers, value) throws(OperatorError) in
      try layers.emit("IsInf", [value], [("detect_positive", .int(0))])
    },
    "Signbit": .one(signBit), "NanToNum": .one(nanToNumber), "Real": .one { (_, value) in value },
    "Conjugate": .one { (_, value) in value }, "Conj": .one { (_, value) in value },
    "BitwiseInvert": .one(inverted), "BitwiseNot": .one(inverted), "SaturateCast": .one(saturated),
    "Mod": number { (layers, a, b) throws(OperatorError) in try layers.remainder(a, b) },
    "Fmod": number { (layers, a, b) throws(OperatorError) in try layers.emit("Mod", [a, b], [("fmod", .int(1))]) },
    "Arctan2": float { (layers, y, x) throws(OperatorError) in try layers.arcTangent(y, x) },
    "Logaddexp": float { (layers, a, b) throws(OperatorError) in try layers.logAddExp(a, b) },
    "Logaddexp2": float { (layers, a, b) throws(OperatorError) in
      let log2 = try layers.scalar(0.693147180559945309417, like: a)
      return try layers.emit(
        "Div", [layers.logAddExp(layers.emit("Mul", [a, log2]), layers.emit("Mul", [b, log2])), log2])
    },
    "Hypot": float { (layers, a, b) throws(OperatorError) in
      try layers.emit("Sqrt", [layers.emit("Add", [layers.emit("Mul", [a, a]), layers.emit("Mul", [b, b])])])
    },
    "Ldexp": float { (layers, a, b) throws(OperatorError) in
      try layers.emit("Mul", [a, layers.emit("Pow", [layers.scalar(2, like: b), b])])
    },
    "DivideNoNan": float { (layers, a, b) throws(OperatorError) in
      let zero = try layers.scalar(0, like: b)
      return try layers.emit("Where", [layers.emit("Equal", [b, zero]), zero, layers.emit("Div", [a, b])])
    },
    "Heaviside": float { (layers, value, atZero) throws(OperatorError) in
      let zero = try layers.scalar(0, like: value)
      let step = try layers.emit("Where", [layers.emit("Less", [value, zero]), zero, layers.scalar(1, like: value)])
      return try layers.emit("Where", [layers.emit("Equal", [value, zero]), atZero, step])
    },
    "Fmax": number { (layers, a, b) throws(OperatorError) in try layers.knownExtreme("Max", a, b) },
    "Fmin": number { (layers, a, b) throws(OperatorError) in try layers.knownExtreme("Min", a, b) },
    "BitwiseAnd": bits("And"), "BitwiseOr": bits("Or"), "BitwiseXor": bits("Xor"),
    "LeftShift": shift(left: true), "BitwiseLeftShift": shift(left: true), "RightShift": shift(left: false),
    "BitwiseRightShift": shift(left: false), "Isclose": KerasRule(isClose),
  ]

  /// A function of floats of one operand.
  private static func float(
    _ make: @escaping @Sendable (LayerBuilder, ValueID) throws(OperatorError) -> ValueID
  ) -> KerasRule {
    .one { (call, value) throws(OperatorError) in try make(call.layers, KerasPromotion.floats(call, value)) }
  }

  /// One of two.
  private static func float(
    _ make: @escaping @Sendable (LayerBuilder, ValueID, ValueID) throws(OperatorError) -> ValueID
  ) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let operands = try KerasOperations.operands(call, with: .float)
      return [KerasTensor(try make(call.layers, operands[0], operands[1]))]
    }
  }

  /// A function of numbers of any type; truths are integers to it.
  private static func number(
    _ make: @escaping @Sendable (LayerBuilder, ValueID, ValueID) throws(OperatorError) -> ValueID
  ) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      var operands = try KerasOperations.operands(call)
      if call.layers.type(operands[0]) == .bool {
        operands = try KerasOperations.operands(call, to: .int32)
      }
      return [KerasTensor(try make(call.layers, operands[0], operands[1]))]
    }
  }

  private static func bits(_ op: String) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let operands = try KerasOperations.operands(call)
      let isTruth = call.layers.type(operands[0]) == .bool
      return [KerasTensor(try call.layers.emit(isTruth ? op : "Bitwise" + op, operands))]
    }
  }

  /// A product with, or a quotient rounded down by, a power of two.
  private static func shift(left: Bool) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let layers = call.layers
      let operands = try KerasOperations.operands(call)
      guard let type = layers.type(operands[0]), type.isInteger else { throw .invalid("integers were expected") }
      let (value, count) = (try layers.cast(operands[0], to: .int64), try layers.cast(operands[1], to: .int64))
      let power = try layers.emit("Pow", [layers.constant(Tensor(scalar: Int64(2))), count])
      let result = try left ? layers.emit("Mul", [value, power]) : KerasPromotion.floorDivided(value, power, layers)
      return [KerasTensor(try layers.cast(result, to: type))]
    }
  }

  private static func inverted(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    try call.layers.emit(call.layers.type(value) == .bool ? "Not" : "BitwiseNot", [value])
  }

  private static func signBit(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let zero = try layers.scalar(0, like: value)
    let isNegative = try layers.emit("Less", [value, zero])
    guard layers.type(value)?.isFloat ?? false else { return isNegative }
    // -0 is told from 0 by what 1 over it is.
    let reciprocal = try layers.emit("Less", [layers.emit("Reciprocal", [value]), zero])
    return try layers.emit("Or", [isNegative, reciprocal])
  }

  private static func nanToNumber(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    guard let type = layers.type(value), type.isFloat else { return value }
    let largest =
      type == .float64
      ? Double.greatestFiniteMagnitude : type == .float16 ? 65504 : Double(Float.greatestFiniteMagnitude)
    let number = try call.number(call.argument(1, "nan")) ?? 0
    let most = try call.number(call.argument(2, "posinf")) ?? largest
    let least = try call.number(call.argument(3, "neginf")) ?? -largest
    let known = try layers.emit("Where", [layers.emit("IsNaN", [value]), layers.scalar(number, like: value), value])
    let isMost = try layers.emit("IsInf", [value], [("detect_negative", .int(0))])
    let isLeast = try layers.emit("IsInf", [value], [("detect_positive", .int(0))])
    let bounded = try layers.emit("Where", [isMost, layers.scalar(most, like: value), known])
    return try layers.emit("Where", [isLeast, layers.scalar(least, like: value), bounded])
  }

  /// A cast of what the type can hold; the rest are its bounds.
  private static func saturated(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let name = call.text(call.argument(1, "dtype")), let type = KerasTypes.table[name] else {
      throw .unsupported("a cast to a type that is not known")
    }
    let bounds: [DataType: (Double, Double)] = [
      .int8: (-128, 127), .uint8: (0, 255), .int16: (-32768, 32767), .uint16: (0, 65535),
    ]
    guard let own = call.layers.type(value), own != .bool, let (low, high) = bounds[type] else {
      if type.isFloat { return try call.layers.cast(value, to: type) }
      throw .unsupported("a cast to \(name) that saturates")
    }
    if own.isFloat { return try call.layers.cast(call.layers.clip(value, low, high), to: type) }
    let wide = try call.layers.cast(value, to: .int64)
    return try call.layers.cast(call.layers.clip(wide, low, high), to: type)
  }

  private static func isClose(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let operands = try KerasOperations.operands(call, with: .float)
    let (a, b) = (operands[0], operands[1])
    let relative = try call.number(call.argument(2, "rtol")) ?? 1e-5
    let absolute = try call.number(call.argument(3, "atol")) ?? 1e-8
    let reach = try layers.emit("Mul", [layers.emit("Abs", [b]), layers.scalar(relative, like: b)])
    let bound = try layers.emit("Add", [layers.scalar(absolute, like: b), reach])
    let distance = try layers.emit("Abs", [layers.emit("Sub", [a, b])])
    let isFinite = try layers.emit("Not", [layers.emit("IsInf", [distance])])
    let isNear = try layers.emit("And", [isFinite, layers.emit("LessOrEqual", [distance, bound])])
    var result = try layers.emit("Or", [layers.emit("Equal", [a, b]), isNear])
    if call.truth(call.argument(Int.max, "equal_nan")) {
      let both = try layers.emit("And", [layers.emit("IsNaN", [a]), layers.emit("IsNaN", [b])])
      result = try layers.emit("Or", [result, both])
    }
    return [KerasTensor(result)]
  }
}
