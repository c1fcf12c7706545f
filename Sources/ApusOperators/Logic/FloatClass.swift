// IsNaN (9, 13, 20: float8) and IsInf (10, 20: float16, float64, bfloat16, float8): the class of floats, from their
// bits. https://onnx.ai/onnx/operators/onnx__IsNaN.html, …/onnx__IsInf.html

import ApusGraph
import ApusTensor

struct IsNaN: OperatorDefinition {
  let schema = OperatorSchema(
    "IsNaN", versions: [9, 13, 20], inputs: [.required("X", "T1")], outputs: [.required("Y", "T2")],
    types: ["T1": .floats + .float8, "T2": .bool], layout: .elementwise)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .bool, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let plain = IsNaN.loop(type) else { throw context.unsupportedType(type) }
    return Elementwise.unary(
      try Elementwise.choose(type, plain: plain, IsNaN.kernel(type)), cost: .light, name: "IsNaN")
  }

  private static func loop(_ type: DataType) -> UnaryLoop? {
    switch type {
    case .float64: above(UInt64(0x7FF0_0000_0000_0000))
    case .float32: above(UInt32(0x7F80_0000))
    case .float16: above(UInt16(0x7C00))
    case .bfloat16: above(UInt16(0x7F80))
    case .float8e4m3fn: above(UInt8(0x7E))
    case .float8e5m2: above(UInt8(0x7C))
    case .float8e4m3fnuz, .float8e5m2fnuz: Elementwise.test { (x: UInt8) in x == 0x80 }
    default: nil
    }
  }

  /// The same with the C kernel. NaN of the types without infinity and -0 has one code, 0x80.
  private static func kernel(_ type: DataType) -> UnaryLoop? {
    let width = type.byteWidth
    let most = UInt64.max >> UInt64(65 - 8 * width)
    let first: UInt64? =
      switch type {
      case .float64: 0x7FF0_0000_0000_0001
      case .float32: 0x7F80_0001
      case .float16: 0x7C01
      case .bfloat16: 0x7F81
      case .float8e4m3fn: 0x7F
      case .float8e5m2: 0x7D
      default: nil
      }
    guard let first else { return Elementwise.inRange(width: 1, mask: 0xFF, low: 0x80, span: 0) }
    return Elementwise.inRange(width: width, mask: most, low: first, span: most - first)
  }

  /// True where the bits without the sign are above `last`.
  @inline(__always)
  private static func above<T: FixedWidthInteger & BitwiseCopyable & Sendable>(_ last: T) -> UnaryLoop {
    let mask = T.max >> 1
    return Elementwise.test { (x: T) in x & mask > last }
  }
}

struct IsInf: OperatorDefinition {
  let schema = OperatorSchema(
    "IsInf", versions: [10, 20], inputs: [.required("X", "T1")], outputs: [.required("Y", "T2")],
    attributes: [.int("detect_negative", default: 1), .int("detect_positive", default: 1)],
    types: ["T1": .floats + .float8, "T2": .bool], layout: .elementwise)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .bool, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let (negative, positive) = (try context.bool("detect_negative"), try context.bool("detect_positive"))
    guard let plain = IsInf.loop(type, negative: negative, positive: positive) else {
      throw context.unsupportedType(type)
    }
    let kernel = IsInf.kernel(type, negative: negative, positive: positive)
    return Elementwise.unary(try Elementwise.choose(type, plain: plain, kernel), cost: .light, name: "IsInf")
  }

  private static func loop(_ type: DataType, negative: Bool, positive: Bool) -> UnaryLoop? {
    switch type {
    case .float64: equal(UInt64(0x7FF0_0000_0000_0000), negative, positive)
    case .float32: equal(UInt32(0x7F80_0000), negative, positive)
    case .float16: equal(UInt16(0x7C00), negative, positive)
    case .bfloat16: equal(UInt16(0x7F80), negative, positive)
    case .float8e5m2: equal(UInt8(0x7C), negative, positive)
    // These have no infinity.
    case .float8e4m3fn, .float8e4m3fnuz, .float8e5m2fnuz: Elementwise.test { (_: UInt8) in false }
    default: nil
    }
  }

  /// The same with the C kernel: the bits of infinity with any sign, or with one.
  private static func kernel(_ type: DataType, negative: Bool, positive: Bool) -> UnaryLoop? {
    let infinity: UInt64? =
      switch type {
      case .float64: 0x7FF0_0000_0000_0000
      case .float32: 0x7F80_0000
      case .float16: 0x7C00
      case .bfloat16: 0x7F80
      case .float8e5m2: 0x7C
      default: nil
      }
    guard let infinity, negative || positive else { return nil }
    let width = type.byteWidth
    let every = UInt64.max >> UInt64(64 - 8 * width)
    let sign = every ^ (every >> 1)
    return Elementwise.inRange(
      width: width, mask: negative && positive ? every ^ sign : every, low: positive ? infinity : infinity | sign,
      span: 0)
  }

  @inline(__always)
  private static func equal<T: FixedWidthInteger & BitwiseCopyable & Sendable>(
    _ infinity: T, _ negative: Bool, _ positive: Bool
  ) -> UnaryLoop {
    let sign = ~(T.max >> 1)
    return Elementwise.test { (x: T) in (positive && x == infinity) || (negative && x == infinity | sign) }
  }
}
