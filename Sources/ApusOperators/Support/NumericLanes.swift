// Runs of elements of any numeric type to one of four wide types and back: the way of Cast and of mixed-type operators.

import ApusTensor
import CApusKernels

/// The type that numbers are held in on their way between two element types.
enum Lane: Sendable {
  case float32, float64, int64, uint64

  /// The lane that holds every value of `type` exactly; nil for strings and complex numbers.
  init?(_ type: DataType) {
    switch type {
    case .float64: self = .float64
    case .uint64: self = .uint64
    case .string, .complex64, .complex128: return nil
    default: self = type.isFloat ? .float32 : .int64
    }
  }

  /// The element type with the memory layout of the lane.
  var dataType: DataType {
    switch self {
    case .float32: .float32
    case .float64: .float64
    case .int64: .int64
    case .uint64: .uint64
    }
  }

  /// Elements of a block on the stack.
  static let blockLength = 128
}

/// Reads the elements `start ..< start + count` of a tensor into lanes.
typealias LaneLoad =
  @Sendable (
    _ base: UnsafeRawPointer, _ start: Int, _ lanes: UnsafeMutableRawPointer, _ count: Int
  ) -> Void

/// Writes lanes to the elements `start ..< start + count`. Packed types: `start` must begin a byte; see
/// `FloatCodec.Store`.
typealias LaneStore =
  @Sendable (
    _ lanes: UnsafeRawPointer, _ base: UnsafeMutableRawPointer, _ start: Int, _ count: Int
  ) -> Void

/// How float types of 8 bits are rounded, as the attributes of Cast say.
struct CastRounding: Sendable {
  var saturate = true
  var powersOfTwo = PowerOfTwoFloat.Rounding.up
}

extension Lane {
  /// Reads `type` into its own lane. nil where there is none.
  static func load(_ type: DataType) -> LaneLoad? {
    switch type {
    case .bool: return loadBool
    case .int8: return widen(Int8.self)
    case .int16: return widen(Int16.self)
    case .int32: return widen(Int32.self)
    case .uint8: return widen(UInt8.self)
    case .uint16: return widen(UInt16.self)
    case .uint32: return widen(UInt32.self)
    case .int64, .uint64, .float64: return copy
    case .float16: return widen(apus_kernels().pointee.f16_to_f32)
    case .bfloat16: return widen(apus_kernels().pointee.bf16_to_f32)
    case .int4, .uint4, .int2, .uint2: return loadPacked(bits: type.bits, isSigned: type.isSignedInteger)
    default:
      guard let load = FloatCodec(type)?.load else { return nil }
      return { base, start, lanes, count in load(base, start, lanes.assumingMemoryBound(to: Float.self), count) }
    }
  }

  /// Reads `type` into this lane, whatever its own is, as Cast would convert it.
  func load(_ type: DataType) -> LaneLoad? {
    guard let own = Lane(type), let load = Lane.load(type) else { return nil }
    if own == self { return load }
    guard let convert = own.store(dataType) else { return nil }
    let width = dataType.byteWidth
    return { base, start, lanes, count in
      withUnsafeTemporaryAllocation(of: Int64.self, capacity: Lane.blockLength) { block in
        guard let source = block.baseAddress else { return }
        var done = 0
        while done < count {
          let n = min(Lane.blockLength, count &- done)
          load(base, start &+ done, source, n)
          convert(source, lanes + done &* width, 0, n)
          done &+= n
        }
      }
    }
  }

  /// Writes this lane to `type`, with the meaning of Cast: floats round to nearest even, floats to integers truncate,
  /// integers wrap, bool is "not zero". A float outside an integer's range gives what x86 instructions give. Numbers go
  /// to the floats of 16 bits and less through float32, but from float64 to float16 directly.
  func store(_ type: DataType, _ rounding: CastRounding = CastRounding()) -> LaneStore? {
    switch self {
    case .float32: Lane.storeFloats(Float.self, type, rounding)
    case .float64: Lane.storeFloats(Double.self, type, rounding)
    case .int64: Lane.storeIntegers(Int64.self, type, rounding)
    case .uint64: Lane.storeIntegers(UInt64.self, type, rounding)
    }
  }

  private static let copy: LaneLoad = { base, start, lanes, count in
    lanes.copyMemory(from: base + start &* 8, byteCount: count &* 8)
  }

  private static let loadBool: LaneLoad = { base, start, lanes, count in
    let source = (base + start).assumingMemoryBound(to: UInt8.self)
    let target = lanes.assumingMemoryBound(to: Int64.self)
    for i in 0..<count { target[i] = source[i] == 0 ? 0 : 1 }
  }

  @inline(__always)
  private static func widen<T: FixedWidthInteger & BitwiseCopyable & Sendable>(_ type: T.Type) -> LaneLoad {
    { base, start, lanes, count in
      let source = base.assumingMemoryBound(to: T.self) + start
      let target = lanes.assumingMemoryBound(to: Int64.self)
      for i in 0..<count { target[i] = Int64(truncatingIfNeeded: source[i]) }
    }
  }

  /// Floats of 16 bits by a kernel, with nothing between: loads are called for few elements at a time.
  private static func widen(
    _ kernel: @escaping @convention(c) (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void
  ) -> LaneLoad {
    { base, start, lanes, count in kernel(count, base + start &* 2, lanes) }
  }

  private static func loadPacked(bits: Int, isSigned: Bool) -> LaneLoad {
    { base, start, lanes, count in
      let target = lanes.assumingMemoryBound(to: Int64.self)
      PackedElements.forEachBlock(base, bits: bits, from: start, count) { codes, done, n in
        for i in 0..<n { target[done &+ i] = Int64(PackedElements.integer(codes[i], bits: bits, isSigned: isSigned)) }
      }
    }
  }
}

extension PackedElements {
  /// Calls `body` with the codes of runs of elements, one byte each, in a block on the stack.
  @inline(__always)
  static func forEachBlock(
    _ base: UnsafeRawPointer, bits: Int, from start: Int, _ count: Int,
    _ body: (_ codes: UnsafePointer<UInt8>, _ done: Int, _ count: Int) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: blockLength) { block in
      guard let codes = block.baseAddress else { return }
      var done = 0
      while done < count {
        let n = min(blockLength, count &- done)
        unpack(base, bits: bits, from: start &+ done, codes, n)
        body(codes, done, n)
        done &+= n
      }
    }
  }
}

// MARK: - Writing

extension Lane {
  /// Writes `convert(lane)` to elements of type `T`.
  @inline(__always)
  private static func each<L: BitwiseCopyable & Sendable, T: BitwiseCopyable & Sendable>(
    _ convert: @escaping @Sendable (L) -> T
  ) -> LaneStore {
    { lanes, base, start, count in
      let source = lanes.assumingMemoryBound(to: L.self)
      let target = base.assumingMemoryBound(to: T.self) + start
      for i in 0..<count { target[i] = convert(source[i]) }
    }
  }

  /// Writes the low bits of `convert(lane)` to packed elements.
  @inline(__always)
  private static func eachPacked<L: BitwiseCopyable & Sendable>(
    bits: Int, _ convert: @escaping @Sendable (L) -> UInt8
  ) -> LaneStore {
    { lanes, base, start, count in
      withUnsafeTemporaryAllocation(of: UInt8.self, capacity: blockLength) { codes in
        guard let codes = codes.baseAddress else { return }
        let source = lanes.assumingMemoryBound(to: L.self)
        var done = 0
        while done < count {
          let n = min(blockLength, count &- done)
          for i in 0..<n { codes[i] = convert(source[done &+ i]) }
          PackedElements.pack(codes, n, bits: bits, base, at: start &+ done)
          done &+= n
        }
      }
    }
  }

  /// Writes through float32 with the codec of `type`.
  @inline(__always)
  private static func throughFloat<L: BitwiseCopyable & Sendable>(
    _ type: DataType, _ rounding: CastRounding, _ convert: @escaping @Sendable (L) -> Float
  ) -> LaneStore? {
    let codec = FloatCodec(type, saturate: rounding.saturate, powerOfTwoRounding: rounding.powersOfTwo)
    guard let store = codec?.store else { return nil }
    return { lanes, base, start, count in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: blockLength) { floats in
        guard let floats = floats.baseAddress else { return }
        let source = lanes.assumingMemoryBound(to: L.self)
        var done = 0
        while done < count {
          let n = min(blockLength, count &- done)
          for i in 0..<n { floats[i] = convert(source[done &+ i]) }
          store(floats, base, start &+ done, n)
          done &+= n
        }
      }
    }
  }

  private static func storeIntegers<L: FixedWidthInteger & BitwiseCopyable & Sendable>(
    _ lane: L.Type, _ type: DataType, _ rounding: CastRounding
  ) -> LaneStore? {
    switch type {
    case .bool: each { (x: L) in UInt8(x == 0 ? 0 : 1) }
    case .int8, .uint8: each { (x: L) in UInt8(truncatingIfNeeded: x) }
    case .int16, .uint16: each { (x: L) in UInt16(truncatingIfNeeded: x) }
    case .int32, .uint32: each { (x: L) in UInt32(truncatingIfNeeded: x) }
    case .int64, .uint64: each { (x: L) in UInt64(truncatingIfNeeded: x) }
    case .int4, .uint4, .int2, .uint2: eachPacked(bits: type.bits) { (x: L) in UInt8(truncatingIfNeeded: x) }
    case .float32: each { (x: L) in Float(x) }
    case .float64: each { (x: L) in Double(x) }
    default: throughFloat(type, rounding) { (x: L) in Float(x) }
    }
  }

  private static func storeFloats<L: Real>(
    _ lane: L.Type, _ type: DataType, _ rounding: CastRounding
  ) -> LaneStore? {
    switch type {
    case .bool: each { (x: L) in UInt8(x == 0 ? 0 : 1) }
    case .int8, .uint8: each { (x: L) in UInt8(truncatingIfNeeded: truncated32(x)) }
    case .int16, .uint16: each { (x: L) in UInt16(truncatingIfNeeded: truncated32(x)) }
    case .int32: each { (x: L) in truncated32(x) }
    case .uint32: each { (x: L) in UInt32(truncatingIfNeeded: truncated64(x)) }
    case .int64: each { (x: L) in truncated64(x) }
    case .uint64: each { (x: L) in truncatedUnsigned64(x) }
    case .int4, .uint4, .int2, .uint2:
      eachPacked(bits: type.bits) { (x: L) in UInt8(truncatingIfNeeded: truncated32(x)) }
    case .float32: each { (x: L) in L.float(x) }
    case .float64: each { (x: L) in L.double(x) }
    case .float16 where L.self == Double.self: each { (x: L) in Float16(L.double(x)) }
    default: throughFloat(type, rounding) { (x: L) in L.float(x) }
    }
  }
}

/// The integer part, or the smallest integer if it does not fit (NaN included).
@inline(__always) func truncated32<L: Real>(_ x: L) -> Int32 {
  x > -2_147_483_649 && x < 0x1p31 ? L.int32(x) : Int32.min
}

/// The integer part, or the smallest integer if it does not fit (NaN included).
@inline(__always) func truncated64<L: Real>(_ x: L) -> Int64 {
  x >= -0x1p63 && x < 0x1p63 ? L.int64(x) : Int64.min
}

/// The integer part; negative numbers wrap; 2^63 for NaN and what does not fit.
@inline(__always) func truncatedUnsigned64<L: Real>(_ x: L) -> UInt64 {
  x >= 0x1p63 && x < 0x1p64 ? L.uint64(x) : UInt64(bitPattern: truncated64(x))
}
