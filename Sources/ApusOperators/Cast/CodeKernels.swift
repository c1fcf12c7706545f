// Numbers of 8 bits and less on C kernels: packed codes to bytes and back, floats of 8, 6 and 4 bits to float32 and
// back.

import ApusTensor
import CApusKernels

enum CodeKernels {
  /// The elements of a packed type as bytes, signed integers with their sign.
  static func unpacking(_ type: DataType) -> CastKernel {
    let unpack = apus_kernels().pointee.unpack_codes
    let (bits, isSigned) = (Int32(type.bits), type.isSignedInteger)
    return { count, x, y in
      unpack(count, x.assumingMemoryBound(to: UInt8.self), bits, isSigned, y.assumingMemoryBound(to: UInt8.self))
    }
  }

  /// Bytes as the elements of a packed type.
  static func packing(_ type: DataType, _ form: apus_code_form) -> CastKernel {
    let pack = apus_kernels().pointee.pack_codes
    let bits = Int32(type.bits)
    return { count, x, y in
      pack(count, x.assumingMemoryBound(to: UInt8.self), bits, form, y.assumingMemoryBound(to: UInt8.self))
    }
  }

  /// Floats of 8 bits and less as float32; nil for other types.
  static func widening(_ type: DataType) -> CastKernel? {
    guard let table = SmallFloatTable.table(of: type) else { return nil }
    let lookUp = apus_kernels().pointee.codes_to_f32
    let whole: CastKernel = { count, x, y in
      lookUp(count, x.assumingMemoryBound(to: UInt8.self), table.values, y.assumingMemoryBound(to: Float.self))
    }
    return type.isPacked ? CastKernels.chain(unpacking(type), whole, bits: (type.bits, 8, 32)) : whole
  }

  /// The same from float32; nil for float8e8m0 too.
  static func narrowing(_ type: DataType, saturate: Bool) -> CastKernel? {
    guard let format = SmallFloat(type) else { return nil }
    let encode = apus_kernels().pointee.f32_to_codes
    let own = format.kernelFormat(saturate: saturate)
    let whole: CastKernel = { count, x, y in
      withUnsafePointer(to: own) {
        encode(count, x.assumingMemoryBound(to: Float.self), y.assumingMemoryBound(to: UInt8.self), $0)
      }
    }
    return type.isPacked
      ? CastKernels.chain(whole, packing(type, APUS_CODE_LOW_BITS), bits: (32, 8, type.bits)) : whole
  }
}

extension SmallFloat {
  /// The format for the kernels, with what `encode` makes of numbers that are too large.
  func kernelFormat(saturate: Bool) -> apus_small_float {
    let (sign, largest) = (UInt32(signCode), UInt32(largestCode))
    let staysFinite = saturate || special == .none
    // What a code keeps of the sign, and what it is without one.
    let beyond: (keeps: UInt32, code: UInt32) =
      staysFinite ? (sign, largest) : special == .negativeZeroIsNaN ? (0, sign) : (sign, largest + 1)
    let nan: (keeps: UInt32, code: UInt32) =
      switch special {
      case .infinityAndNaN: (sign, largest + 3)
      case .lastCodeIsNaN: (sign, largest + 1)
      case .negativeZeroIsNaN: (0, sign)
      case .none: (sign, sign)
      }
    return apus_small_float(
      dropped: UInt32(23 - fractionBits), offset: UInt32(127 - bias) << UInt32(fractionBits),
      least_normal: UInt32(128 - bias) << 23,
      subnormals: Float(sign: .plus, exponent: bias - 1 + fractionBits, significand: 1), largest: largest, sign: sign,
      beyond_keeps: beyond.keeps, beyond: beyond.code, nan_keeps: nan.keeps, nan: nan.code,
      zero_keeps: special == .negativeZeroIsNaN ? 0 : sign)
  }
}
