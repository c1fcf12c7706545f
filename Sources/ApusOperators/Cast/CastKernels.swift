// The C kernels of Cast: a table by pairs of types, and pairs that are two steps with a block between them.

import ApusTensor
import CApusKernels

/// Converts elements; the addresses are those of the first ones.
package typealias CastKernel = @Sendable (_ count: Int, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer) -> Void

package enum CastKernels {
  /// The conversion from one type to another; nil if there is none of whole vectors.
  package static func kernel(from: DataType, to: DataType) -> CastKernel? {
    kernel(from: from, to: to, CastRounding())
  }

  /// The same with the rounding that the attributes of Cast ask for.
  static func kernel(from: DataType, to: DataType, _ rounding: CastRounding) -> CastKernel? {
    if let direct = direct(from: from, to: to, rounding) { return direct }
    return switch (from, to) {
    case (.bool, _): chain(from, .uint8, to, rounding)
    case _ where from.isPacked && from.isInteger: chain(from, from.isSignedInteger ? .int8 : .uint8, to, rounding)
    case _ where to.isPacked && to.isInteger: chain(from, .int8, to, rounding)
    case (.float64, .float16): rounded64To16
    case _ where from != .float32 && (isNarrow(from) || isNarrow(to)): chain(from, .float32, to, rounding)
    default: nil
    }
  }

  /// Floats that are converted by way of float32.
  private static func isNarrow(_ type: DataType) -> Bool { type.isFloat && type != .float32 && type != .float64 }

  /// From a type to another by way of a third.
  private static func chain(
    _ from: DataType, _ middle: DataType, _ to: DataType, _ rounding: CastRounding
  ) -> CastKernel? {
    let toMiddle = from == .bool ? truth(of: .bool) : direct(from: from, to: middle, rounding)
    if middle == to { return toMiddle }
    let first = toMiddle ?? (from == to || from == middle ? nil : kernel(from: from, to: middle, rounding))
    guard let first, let second = kernel(from: middle, to: to, rounding) else { return nil }
    return chain(first, second, bits: (from.bits, middle.bits, to.bits))
  }

  /// One conversion after the other, by blocks on the stack. `bits` are those of an element before, between and behind.
  static func chain(
    _ first: @escaping CastKernel, _ second: @escaping CastKernel, bits: (from: Int, middle: Int, to: Int)
  ) -> CastKernel {
    // Whole bytes of packed elements.
    let length = 1024 * 8 / bits.middle
    return { count, x, y in
      withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 64) { block in
        guard let block = block.baseAddress else { return }
        var done = 0
        while done < count {
          let n = min(length, count &- done)
          first(n, x + (done &* bits.from) >> 3, block)
          second(n, UnsafeRawPointer(block), y + (done &* bits.to) >> 3)
          done &+= n
        }
      }
    }
  }

  /// By way of a float32 whose last bit says whether anything was lost, so that it is rounded once.
  private static var rounded64To16: CastKernel {
    let (toOdd, narrow) = (apus_kernels().pointee.f64_to_f32_odd, apus_kernels().pointee.f32_to_f16)
    return chain({ toOdd($0, $1, $2) }, { narrow($0, $1, $2) }, bits: (64, 32, 16))
  }

  /// To bool: everything but zero is true. For floats the sign does not count.
  private static func truth(of type: DataType) -> CastKernel {
    let every = UInt64.max >> UInt64(64 - 8 * type.byteWidth)
    let magnitude = type.isFloat ? every >> 1 : every
    let loop = Elementwise.inRange(width: type.byteWidth, mask: magnitude, low: 1, span: magnitude - 1)
    return { count, x, y in loop(x, y, count) }
  }

  private typealias Kernel = @convention(c) (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

  private static func direct(from: DataType, to: DataType, _ rounding: CastRounding) -> CastKernel? {
    if to == .bool { return hasTruth(from) ? truth(of: from) : nil }
    if let codes = codes(from: from, to: to, rounding) { return codes }
    let kernel: Kernel? =
      switch to {
      case .float32: toFloat32(from)
      case .float64: toFloat64(from)
      case .float16: from == .float32 ? apus_kernels().pointee.f32_to_f16 : nil
      case .bfloat16: from == .float32 ? apus_kernels().pointee.f32_to_bf16 : nil
      case .int8, .uint8: to8(from)
      case .int16, .uint16: to16(from)
      case .int32: to32(from)
      case .uint32: from == .float32 || from == .float64 ? unsigned(from, is64: false) : to32(from)
      case .int64: to64(from)
      case .uint64: from == .float32 || from == .float64 ? unsigned(from, is64: true) : to64(from)
      default: nil
      }
    guard let kernel else { return nil }
    return { count, x, y in kernel(count, x, y) }
  }

  /// Between packed integers and bytes, and between small floats and float32.
  private static func codes(from: DataType, to: DataType, _ rounding: CastRounding) -> CastKernel? {
    let isByte = (from: from == .int8 || from == .uint8, to: to == .int8 || to == .uint8)
    if from.isPacked && from.isInteger && isByte.to { return CodeKernels.unpacking(from) }
    if to.isPacked && to.isInteger && isByte.from { return CodeKernels.packing(to, APUS_CODE_LOW_BITS) }
    if to == .float32 { return CodeKernels.widening(from) }
    return from == .float32 ? CodeKernels.narrowing(to, saturate: rounding.saturate) : nil
  }

  /// Types whose zero is that of their bits, without the sign of a float.
  private static func hasTruth(_ type: DataType) -> Bool {
    switch type {
    case .float64, .float32, .float16, .bfloat16, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64: true
    default: false
    }
  }

  private static func toFloat32(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float16: k.f16_to_f32
    case .bfloat16: k.bf16_to_f32
    case .float64: k.f64_to_f32
    case .int8: k.i8_to_f32
    case .uint8: k.u8_to_f32
    case .int16: k.i16_to_f32
    case .uint16: k.u16_to_f32
    case .int32: k.i32_to_f32
    case .uint32: k.u32_to_f32
    case .int64: k.i64_to_f32
    case .uint64: k.u64_to_f32
    default: nil
    }
  }

  private static func toFloat64(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float32: k.f32_to_f64
    case .int8: k.i8_to_f64
    case .uint8: k.u8_to_f64
    case .int16: k.i16_to_f64
    case .uint16: k.u16_to_f64
    case .int32: k.i32_to_f64
    case .uint32: k.u32_to_f64
    case .int64: k.i64_to_f64
    case .uint64: k.u64_to_f64
    default: nil
    }
  }

  private static func to8(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float32: k.f32_to_i8
    case .float64: k.f64_to_i8
    case .int16, .uint16: k.i16_to_i8
    case .int32, .uint32: k.i32_to_i8
    case .int64, .uint64: k.i64_to_i8
    default: nil
    }
  }

  private static func to16(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float32: k.f32_to_i16
    case .float64: k.f64_to_i16
    case .int8: k.i8_to_i16
    case .uint8: k.u8_to_i16
    case .int32, .uint32: k.i32_to_i16
    case .int64, .uint64: k.i64_to_i16
    default: nil
    }
  }

  private static func to32(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float32: k.f32_to_i32
    case .float64: k.f64_to_i32
    case .int8: k.i8_to_i32
    case .uint8: k.u8_to_i32
    case .int16: k.i16_to_i32
    case .uint16: k.u16_to_i32
    case .int64, .uint64: k.i64_to_i32
    default: nil
    }
  }

  private static func to64(_ from: DataType) -> Kernel? {
    let k = apus_kernels().pointee
    return switch from {
    case .float32: k.f32_to_i64
    case .float64: k.f64_to_i64
    case .int8: k.i8_to_i64
    case .uint8: k.u8_to_i64
    case .int16: k.i16_to_i64
    case .uint16: k.u16_to_i64
    case .int32: k.i32_to_i64
    case .uint32: k.u32_to_i64
    default: nil
    }
  }

  /// Floats to unsigned integers of 32 and 64 bits have conversions of their own.
  private static func unsigned(_ from: DataType, is64: Bool) -> Kernel {
    let k = apus_kernels().pointee
    if from == .float32 { return is64 ? k.f32_to_u64 : k.f32_to_u32 }
    return is64 ? k.f64_to_u64 : k.f64_to_u32
  }
}
