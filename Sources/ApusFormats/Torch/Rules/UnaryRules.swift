// Operators that compute each element from one: https://docs.pytorch.org/docs/stable/torch.html#pointwise-ops

import ApusGraph
import ApusTensor

extension TorchRules {
  static let unaryTable: [String: TorchRule] = [
    "abs": unary("Abs"), "absolute": unary("Abs"), "neg": unary("Neg"), "negative": unary("Neg"),
    "sign": sign, "sgn": sign, "ceil": rounding("Ceil"), "floor": rounding("Floor"),
    "round": round, "trunc": truncate, "fix": truncate, "frac": fraction, "exp": unary("Exp"), "exp2": exp2,
    "expm1": expm1, "log": unary("Log"), "log2": logarithm(0.693147180559945309417),
    "log10": logarithm(2.302585092994045684018), "log1p": log1p, "sqrt": unary("Sqrt"), "rsqrt": rsqrt,
    "reciprocal": unary("Reciprocal"), "square": square, "sin": unary("Sin"), "cos": unary("Cos"), "tan": unary("Tan"),
    "asin": unary("Asin"), "acos": unary("Acos"), "atan": unary("Atan"), "sinh": unary("Sinh"), "cosh": unary("Cosh"),
    "tanh": unary("Tanh"), "asinh": unary("Asinh"), "acosh": unary("Acosh"), "atanh": unary("Atanh"),
    "arcsinh": unary("Asinh"), "arccosh": unary("Acosh"), "arctanh": unary("Atanh"), "arcsin": unary("Asin"),
    "arccos": unary("Acos"), "arctan": unary("Atan"), "erf": unary("Erf"),
    "special_erf": unary("Erf"), "erfc": erfc, "special_erfc": erfc, "deg2rad": scaled(0.017453292519943295769),
    "rad2deg": scaled(57.29577951308232087680), "isnan": isNaN, "isinf": isInfinite, "isfinite": isFinite,
    "isposinf": isInfinity(positive: true), "isneginf": isInfinity(positive: false), "signbit": signBit,
    "logical_not": logicalNot, "bitwise_not": bitwiseNot, "logit": logit, "special_logit": logit, "positive": identity,
    "nan_to_num": nanToNumber, "sinc": sinc, "special_sinc": sinc, "special_expm1": expm1, "special_log1p": log1p,
    "special_ndtr": normalDistribution, "special_entr": entropy, "conj_physical": identity, "real": identity,
  ]

  /// Operators that leave integers as they are.
  private static func rounding(_ name: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try call.tensor(at: 0)
      return [call.layers.type(value)?.isFloat ?? true ? try call.layers.emit(name, [value]) : value]
    }
  }

  /// 0 for what is no number.
  private static func sign(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    let sign = try layers.emit("Sign", [value])
    guard layers.type(value)?.isFloat ?? true else { return [sign] }
    return [try layers.emit("Where", [try layers.emit("IsNaN", [value]), try layers.scalar(0, like: value), sign])]
  }

  private static func round(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    guard layers.type(value)?.isFloat ?? true else { return [value] }
    let decimals = try call.int("decimals", 0)
    if decimals == 0 { return [try layers.emit("Round", [value])] }
    guard (-30...30).contains(decimals) else { throw .unsupported("\(decimals) decimals are too many") }
    let factor = try layers.scalar((0..<abs(decimals)).reduce(1.0) { product, _ in product * 10 }, like: value)
    let (there, back) = decimals > 0 ? ("Mul", "Div") : ("Div", "Mul")
    let rounded = try layers.emit("Round", [try layers.emit(there, [value, factor])])
    return [try layers.emit(back, [rounded, factor])]
  }

  private static func truncate(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.truncated(try call.tensor(at: 0))]
  }

  private static func fraction(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor(at: 0)
    return [try call.layers.emit("Sub", [value, try call.layers.truncated(value)])]
  }

  private static func floatOperand(_ call: TorchCall) throws(OperatorError) -> ValueID {
    try call.layers.cast(try call.tensor(at: 0), to: try call.resultType())
  }

  private static func exp2(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try floatOperand(call)
    return [try call.layers.emit("Pow", [try call.layers.scalar(2, like: value), value])]
  }

  private static func expm1(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.expm1(try floatOperand(call))]
  }

  private static func log1p(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.log1p(try floatOperand(call))]
  }

  private static func logarithm(_ base: Double) -> TorchRule {
    { (call) throws(OperatorError) in
      let log = try call.layers.emit("Log", [try floatOperand(call)])
      return [try call.layers.emit("Div", [log, try call.layers.scalar(base, like: log)])]
    }
  }

  private static func scaled(_ factor: Double) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try floatOperand(call)
      return [try call.layers.emit("Mul", [value, try call.layers.scalar(factor, like: value)])]
    }
  }

  private static func rsqrt(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("Reciprocal", [try call.layers.emit("Sqrt", [try floatOperand(call)])])]
  }

  private static func square(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try floatOperand(call)
    return [try call.layers.emit("Mul", [value, value])]
  }

  private static func erfc(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try floatOperand(call)
    return [
      try call.layers.emit("Sub", [try call.layers.scalar(1, like: value), try call.layers.emit("Erf", [value])])
    ]
  }

  /// (1 + erf(x / √2)) / 2.
  private static func normalDistribution(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try floatOperand(call))
    let half = try layers.scalar(0.5, like: value)
    let scaled = try layers.emit("Mul", [value, try layers.scalar(0.707106781186547524401, like: value)])
    return [try layers.emit("Add", [half, try layers.emit("Mul", [half, try layers.emit("Erf", [scaled])])])]
  }

  /// -x log(x), 0 at 0 and -inf below.
  private static func entropy(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, value) = (call.layers, try floatOperand(call))
    let zero = try layers.scalar(0, like: value)
    let product = try layers.emit("Neg", [try layers.emit("Mul", [value, try layers.emit("Log", [value])])])
    let isZero = try layers.emit("Equal", [value, zero])
    let isBelow = try layers.emit("Less", [value, zero])
    let known = try layers.emit("Where", [isZero, zero, product])
    return [try layers.emit("Where", [isBelow, try layers.scalar(-Double.infinity, like: value), known])]
  }

  private static func sinc(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.sinc(try floatOperand(call))]
  }

  private static func logit(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try floatOperand(call)
    if let epsilon = try call.number("eps")?.real { value = try layers.clip(value, epsilon, 1 - epsilon) }
    let rest = try layers.emit("Sub", [try layers.scalar(1, like: value), value])
    return [try layers.emit("Log", [try layers.emit("Div", [value, rest])])]
  }

  // MARK: - Truths

  private static func isNaN(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor(at: 0)
    guard call.layers.type(value)?.isFloat ?? true else { return [try filled(value, false, call)] }
    return [try call.layers.emit("IsNaN", [value])]
  }

  /// A truth for each element.
  private static func filled(_ value: ValueID, _ truth: Bool, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let scalar = try call.constant(.truth(truth), .bool)
    return try call.layers.emit("Expand", [scalar, try call.shapeTensor(value)])
  }

  private static func isInfinite(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor(at: 0)
    guard call.layers.type(value)?.isFloat ?? true else { return [try filled(value, false, call)] }
    return [try call.layers.emit("IsInf", [value])]
  }

  private static func isInfinity(positive: Bool) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try call.tensor(at: 0)
      guard call.layers.type(value)?.isFloat ?? true else { return [try filled(value, false, call)] }
      return [
        try call.layers.emit(
          "IsInf", [value], [("detect_negative", .int(positive ? 0 : 1)), ("detect_positive", .int(positive ? 1 : 0))])
      ]
    }
  }

  private static func isFinite(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    guard layers.type(value)?.isFloat ?? true else { return [try filled(value, true, call)] }
    let either = try layers.emit("Or", [try layers.emit("IsNaN", [value]), try layers.emit("IsInf", [value])])
    return [try layers.emit("Not", [either])]
  }

  private static func signBit(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    let zero = try layers.scalar(0, like: value)
    guard layers.type(value)?.isFloat ?? false else { return [try layers.emit("Less", [value, zero])] }
    // -0 is told from 0 by what 1 over it is.
    let reciprocal = try layers.emit("Less", [try layers.emit("Reciprocal", [value]), zero])
    return [try layers.emit("Or", [try layers.emit("Less", [value, zero]), reciprocal])]
  }

  private static func logicalNot(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.emit("Not", [try call.layers.cast(try call.tensor(at: 0), to: .bool)])]
  }

  private static func bitwiseNot(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor(at: 0)
    return [try call.layers.emit(call.layers.type(value) == .bool ? "Not" : "BitwiseNot", [value])]
  }

  private static func nanToNumber(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor(at: 0), call.layers)
    guard let type = layers.type(value), type.isFloat else { return [value] }
    let largest: Double =
      switch type {
      case .float64: Double.greatestFiniteMagnitude
      case .float16: 65504
      case .bfloat16: Double(Float(bitPattern: 0x7F7F_0000))
      default: Double(Float.greatestFiniteMagnitude)
      }
    var result = try layers.emit(
      "Where", [try layers.emit("IsNaN", [value]), try layers.scalar(try call.real("nan", 0), like: value), value])
    for (name, isNegative, standard) in [("posinf", false, largest), ("neginf", true, -largest)] {
      let isInfinite = try layers.emit(
        "IsInf", [value],
        [("detect_negative", .int(isNegative ? 1 : 0)), ("detect_positive", .int(isNegative ? 0 : 1))])
      result = try layers.emit(
        "Where", [isInfinite, try layers.scalar(try call.real(name, standard), like: value), result])
    }
    return [result]
  }
}
