// The functions of two elements of one type: their definition for floats and integers, and the C kernels that are
// faster.

import ApusGraph
import ApusTensor
import CApusKernels

/// A function of two numbers of the same type. Integers wrap; a division by zero gives 0.
package enum BinaryFunction: Sendable, CaseIterable {
  case add, sub, mul, div, min, max
  /// a - floor(a / b) * b: the sign of b.
  case modulo
  /// a - trunc(a / b) * b: the sign of a.
  case remainder
  case pow
  /// a < 0 ? b * a : a
  case prelu
  case bitwiseAnd, bitwiseOr, bitwiseXor, shiftLeft, shiftRight

  /// The loops for an element type; nil if there are none.
  package func loops(_ type: DataType) throws(OperatorError) -> BinaryLoops? {
    if type == .float16 || type == .bfloat16 {
      guard let codec = FloatCodec(type), let single = try loops(.float32) else { return nil }
      return Elementwise.narrow(codec, single)
    }
    guard let plain = definition(type) else { return nil }
    return try KernelCandidate<ElementFacts, BinaryLoops>.choose(
      .elementwise, type: type,
      [
        .plain { plain },
        .vectors("vectors", types: []) { fastLoops(type) },
      ])
  }

  /// The loops of the definition, without C kernels; nil for the narrow floats.
  package func definition(_ type: DataType) -> BinaryLoops? {
    let loop: BinaryLoop? =
      switch type {
      case .float32: realLoop(Float.self)
      case .float64: realLoop(Double.self)
      case .int8: integerLoop(Int8.self)
      case .int16: integerLoop(Int16.self)
      case .int32: integerLoop(Int32.self)
      case .int64: integerLoop(Int64.self)
      case .uint8: integerLoop(UInt8.self)
      case .uint16: integerLoop(UInt16.self)
      case .uint32: integerLoop(UInt32.self)
      case .uint64: integerLoop(UInt64.self)
      default: nil
      }
    let width = type.byteWidth
    guard var loops = loop.map({ Elementwise.spreadingScalars($0, widths: (width, width, width)) }) else { return nil }
    if self == .pow, type == .float32 { loops.scalarB = powerLoop(Float.self, otherwise: loops.scalarB) }
    if self == .pow, type == .float64 { loops.scalarB = powerLoop(Double.self, otherwise: loops.scalarB) }
    return loops
  }

  var cost: Cost {
    switch self {
    case .pow: .heavy
    case .modulo, .remainder: .medium
    default: .light
    }
  }
}

// MARK: - Definitions

extension BinaryFunction {
  private func realLoop<T: Real>(_ type: T.Type) -> BinaryLoop? {
    switch self {
    case .add: return Elementwise.zip { (a: T, b: T) in a + b }
    case .sub: return Elementwise.zip { (a: T, b: T) in a - b }
    case .mul: return Elementwise.zip { (a: T, b: T) in a * b }
    case .div: return Elementwise.zip { (a: T, b: T) in a / b }
    case .min: return Elementwise.zip { (a: T, b: T) in a <= b || a != a ? a : b }
    case .max: return Elementwise.zip { (a: T, b: T) in a >= b || a != a ? a : b }
    case .modulo: return Elementwise.zip { (a: T, b: T) in floorModulo(a, b) }
    case .remainder: return Elementwise.zip { (a: T, b: T) in T.fmod(a, b) }
    case .pow: return Elementwise.zip { (a: T, b: T) in T.pow(a, b) }
    case .prelu: return Elementwise.zip { (a: T, b: T) in a < 0 ? b * a : a }
    default: return nil
    }
  }

  private func integerLoop<T: FixedWidthInteger & BitwiseCopyable & Sendable>(_ type: T.Type) -> BinaryLoop? {
    switch self {
    case .add: return Elementwise.zip { (a: T, b: T) in a &+ b }
    case .sub: return Elementwise.zip { (a: T, b: T) in a &- b }
    case .mul: return Elementwise.zip { (a: T, b: T) in a &* b }
    case .div: return Elementwise.zip { (a: T, b: T) in b == 0 ? 0 : a.dividedReportingOverflow(by: b).partialValue }
    case .min: return Elementwise.zip { (a: T, b: T) in a <= b ? a : b }
    case .max: return Elementwise.zip { (a: T, b: T) in a >= b ? a : b }
    case .modulo: return Elementwise.zip { (a: T, b: T) in floorModulo(a, b) }
    case .remainder: return Elementwise.zip { (a: T, b: T) in truncatedRemainder(a, b) }
    case .pow: return Elementwise.zip { (a: T, b: T) in integerPower(a, Int64(clamping: b)) }
    case .prelu: return Elementwise.zip { (a: T, b: T) in a < 0 ? b &* a : a }
    case .bitwiseAnd: return Elementwise.zip { (a: T, b: T) in a & b }
    case .bitwiseOr: return Elementwise.zip { (a: T, b: T) in a | b }
    case .bitwiseXor: return Elementwise.zip { (a: T, b: T) in a ^ b }
    // The smart shifts of Swift give 0, or the sign for a right shift, for amounts from the width on.
    case .shiftLeft: return Elementwise.zip { (a: T, b: T) in b < 0 ? 0 : a << b }
    case .shiftRight: return Elementwise.zip { (a: T, b: T) in b < 0 ? (a < 0 ? 0 &- 1 : 0) : a >> b }
    }
  }

  /// The loop for one exponent, with those that need no logarithm as products of at most one more rounding.
  private func powerLoop<T: Real>(_ type: T.Type, otherwise general: @escaping BinaryLoop) -> BinaryLoop {
    let square = Elementwise.map { (x: T) in x * x }
    let cube = Elementwise.map { (x: T) in T.cube(x) }
    // Unlike the square root, the power 1/2 is +0 for -0 and infinite for -infinity.
    let root = Elementwise.map { (x: T) in x == -T.infinity ? T.infinity : (x + 0).squareRoot() }
    let inverse = Elementwise.map { (x: T) in 1 / x }
    return { a, b, y, count in
      switch b.assumingMemoryBound(to: T.self).pointee {
      case 2: square(a, y, count)
      case 3: cube(a, y, count)
      case 0.5: root(a, y, count)
      case -1: inverse(a, y, count)
      default: general(a, b, y, count)
      }
    }
  }
}

/// a - floor(a / b) * b, exactly rounded; the sign of b, also of a zero.
@inline(__always) func floorModulo<T: Real>(_ a: T, _ b: T) -> T {
  let r = T.fmod(a, b)
  if r == 0 { return T(signOf: b, magnitudeOf: 0) }
  return (r < 0) != (b < 0) ? r + b : r
}

/// a - floor(a / b) * b; 0 for b = 0.
@inline(__always) func floorModulo<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
  let r = truncatedRemainder(a, b)
  return r != 0 && (r < 0) != (b < 0) ? r &+ b : r
}

/// a - trunc(a / b) * b; 0 for b = 0.
@inline(__always) func truncatedRemainder<T: FixedWidthInteger>(_ a: T, _ b: T) -> T {
  b == 0 ? 0 : a.remainderReportingOverflow(dividingBy: b).partialValue
}

/// base ^ exponent, wrapping. A negative exponent gives the truncated inverse, and 0 for a base of 0.
@inline(__always) func integerPower<T: FixedWidthInteger>(_ base: T, _ exponent: Int64) -> T {
  if exponent < 0 {
    if base == 1 { return 1 }
    return T.isSigned && base == 0 &- 1 ? (exponent & 1 == 0 ? 1 : base) : 0
  }
  var result: T = 1
  var factor = base
  var rest = exponent
  while rest > 0 {
    if rest & 1 == 1 { result = result &* factor }
    factor = factor &* factor
    rest >>= 1
  }
  return result
}

// MARK: - C kernels

/// A kernel of two operands, as `kernels.inc` lists them.
typealias BinaryKernel = @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

extension BinaryFunction {
  /// The loops of the C kernels; nil if there are none.
  package func fastLoops(_ type: DataType) -> BinaryLoops? {
    switch type {
    case .float32: float32Kernels
    case _ where self == .div && type.isInteger: quotients(type)
    case .float64: float64Kernels
    case .int32, .uint32: integer32Kernels(isSigned: type == .int32)
    case .int64, .uint64: integer64Kernels(isSigned: type == .int64)
    case .int8, .uint8, .int16, .uint16: narrowIntegerKernels(isByte: type.bits == 8)
    default: nil
    }
  }

  /// Quotients of integers.
  private func quotients(_ type: DataType) -> BinaryLoops? {
    let k = apus_kernels().pointee
    let kernel: BinaryKernel? =
      switch type {
      case .int8: k.div_i8_vv
      case .uint8: k.div_u8_vv
      case .int16: k.div_i16_vv
      case .uint16: k.div_u16_vv
      case .int32: k.div_i32_vv
      case .uint32: k.div_u32_vv
      case .int64: k.div_i64_vv
      case .uint64: k.div_u64_vv
      default: nil
      }
    guard let kernel else { return nil }
    let width = type.byteWidth
    return Elementwise.spreadingScalars(
      { a, b, y, count in kernel(count, a, b, y) }, widths: (width, width, width))
  }

  private func loops(_ both: BinaryKernel, _ scalarB: BinaryKernel, _ scalarA: BinaryKernel) -> BinaryLoops {
    BinaryLoops(
      both: { a, b, y, count in both(count, a, b, y) }, scalarB: { a, b, y, count in scalarB(count, a, b, y) },
      scalarA: { a, b, y, count in scalarA(count, a, b, y) })
  }

  private var float32Kernels: BinaryLoops? {
    let k = apus_kernels().pointee
    return switch self {
    case .add: loops(k.add_f32_vv, k.add_f32_vs, k.add_f32_sv)
    case .sub: loops(k.sub_f32_vv, k.sub_f32_vs, k.sub_f32_sv)
    case .mul: loops(k.mul_f32_vv, k.mul_f32_vs, k.mul_f32_sv)
    case .div: loops(k.div_f32_vv, k.div_f32_vs, k.div_f32_sv)
    case .min: loops(k.min_f32_vv, k.min_f32_vs, k.min_f32_sv)
    case .max: loops(k.max_f32_vv, k.max_f32_vs, k.max_f32_sv)
    case .prelu: slopeKernels(k.leaky_relu_f32)
    default: nil
    }
  }

  /// Along a row with one slope PRelu is LeakyRelu.
  private func slopeKernels(_ kernel: @escaping FloatKernel) -> BinaryLoops? {
    var loops = definition(.float32)
    loops?.scalarB = { x, slope, y, count in
      kernel(
        count, x.assumingMemoryBound(to: Float.self), y.assumingMemoryBound(to: Float.self),
        slope.assumingMemoryBound(to: Float.self))
    }
    return loops
  }

  private var float64Kernels: BinaryLoops? {
    let k = apus_kernels().pointee
    return switch self {
    case .add: loops(k.add_f64_vv, k.add_f64_vs, k.add_f64_sv)
    case .sub: loops(k.sub_f64_vv, k.sub_f64_vs, k.sub_f64_sv)
    case .mul: loops(k.mul_f64_vv, k.mul_f64_vs, k.mul_f64_sv)
    case .div: loops(k.div_f64_vv, k.div_f64_vs, k.div_f64_sv)
    case .min: loops(k.min_f64_vv, k.min_f64_vs, k.min_f64_sv)
    case .max: loops(k.max_f64_vv, k.max_f64_vs, k.max_f64_sv)
    default: nil
    }
  }

  private func narrowIntegerKernels(isByte: Bool) -> BinaryLoops? {
    let k = apus_kernels().pointee
    return switch self {
    case .add where isByte: loops(k.add_i8_vv, k.add_i8_vs, k.add_i8_sv)
    case .sub where isByte: loops(k.sub_i8_vv, k.sub_i8_vs, k.sub_i8_sv)
    case .mul where isByte: loops(k.mul_i8_vv, k.mul_i8_vs, k.mul_i8_sv)
    case .add: loops(k.add_i16_vv, k.add_i16_vs, k.add_i16_sv)
    case .sub: loops(k.sub_i16_vv, k.sub_i16_vs, k.sub_i16_sv)
    case .mul: loops(k.mul_i16_vv, k.mul_i16_vs, k.mul_i16_sv)
    default: nil
    }
  }

  private func integer32Kernels(isSigned: Bool) -> BinaryLoops? {
    let k = apus_kernels().pointee
    return switch self {
    case .add: loops(k.add_i32_vv, k.add_i32_vs, k.add_i32_sv)
    case .sub: loops(k.sub_i32_vv, k.sub_i32_vs, k.sub_i32_sv)
    case .mul: loops(k.mul_i32_vv, k.mul_i32_vs, k.mul_i32_sv)
    case .min where isSigned: loops(k.min_i32_vv, k.min_i32_vs, k.min_i32_sv)
    case .max where isSigned: loops(k.max_i32_vv, k.max_i32_vs, k.max_i32_sv)
    default: nil
    }
  }

  private func integer64Kernels(isSigned: Bool) -> BinaryLoops? {
    let k = apus_kernels().pointee
    return switch self {
    case .add: loops(k.add_i64_vv, k.add_i64_vs, k.add_i64_sv)
    case .sub: loops(k.sub_i64_vv, k.sub_i64_vs, k.sub_i64_sv)
    case .mul: loops(k.mul_i64_vv, k.mul_i64_vs, k.mul_i64_sv)
    case .min where isSigned: loops(k.min_i64_vv, k.min_i64_vs, k.min_i64_sv)
    case .max where isSigned: loops(k.max_i64_vv, k.max_i64_vs, k.max_i64_sv)
    default: nil
    }
  }
}
