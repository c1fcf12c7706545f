// Elements collected from, or scattered to, places that data decides: runs over lists of byte offsets.

import ApusGraph
import ApusTensor
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Copies elements of one width from listed offsets to consecutive places.
struct GatherRun: Sendable {
  typealias Function =
    @Sendable (
      _ source: UnsafeRawPointer, _ offsets: UnsafePointer<Int>, _ count: Int, _ target: UnsafeMutableRawPointer
    ) -> Void

  private let function: Function

  init(width: Int) {
    func typed<Element: BitwiseCopyable>(_ type: Element.Type) -> Function {
      { source, offsets, count, target in
        for index in 0..<count {
          target.storeBytes(
            of: source.loadUnaligned(fromByteOffset: offsets[index], as: Element.self),
            toByteOffset: index &* MemoryLayout<Element>.size, as: Element.self)
        }
      }
    }
    switch width {
    case 1: function = typed(UInt8.self)
    case 2: function = typed(UInt16.self)
    case 4: function = typed(UInt32.self)
    case 8: function = typed(UInt64.self)
    case 16: function = typed(SIMD2<UInt64>.self)
    default:
      function = { source, offsets, count, target in
        for index in 0..<count { memcpy(target + index &* width, source + offsets[index], width) }
      }
    }
  }

  /// Writes `target[i] = source[offsets[i]]` with offsets in bytes.
  @inline(__always)
  func callAsFunction(
    _ source: UnsafeRawPointer, _ offsets: UnsafePointer<Int>, _ count: Int, _ target: UnsafeMutableRawPointer
  ) { function(source, offsets, count, target) }
}

/// How a scattered update joins what is there.
enum ScatterReduction: String, CaseIterable {
  case none, add, mul, max, min

  static func of(_ context: some OperatorContext) throws(OperatorError) -> ScatterReduction {
    ScatterReduction(rawValue: try context.string("reduction", oneOf: allCases.map(\.rawValue))) ?? .none
  }

  /// The same for elements of a type. Strings cannot be joined.
  static func of(_ context: some OperatorContext, _ type: DataType) throws(OperatorError) -> ScatterReduction {
    let reduction = try of(context)
    if type == .string, reduction != .none { throw .unsupported("strings have no reduction \(reduction.rawValue)") }
    return reduction
  }
}

/// Joins consecutive updates with elements at listed offsets, or with as many consecutive elements.
struct ScatterRun: Sendable {
  typealias Function =
    @Sendable (
      _ target: UnsafeMutableRawPointer, _ offsets: UnsafePointer<Int>?, _ updates: UnsafeRawPointer, _ count: Int
    ) -> Void

  private let function: Function
  /// Bytes of an element.
  let width: Int
  /// True if updates replace what is there, so that a run of them is a plain copy.
  let isCopy: Bool

  /// nil if the reduction is not defined for the type.
  init?(_ reduction: ScatterReduction, _ type: DataType) {
    isCopy = reduction == .none
    width = type.byteWidth
    let function: Function?
    switch type {
    case _ where reduction == .none: function = ScatterRun.replacing(width: type.byteWidth)
    case .float32: function = ScatterRun.joining(reduction, Float.self)
    case .float64: function = ScatterRun.joining(reduction, Double.self)
    case .float16: function = ScatterRun.joiningHalves(reduction, Float16Bits.self)
    case .bfloat16: function = ScatterRun.joiningHalves(reduction, BFloat16Bits.self)
    case .int8: function = ScatterRun.joining(reduction, Int8.self)
    case .int16: function = ScatterRun.joining(reduction, Int16.self)
    case .int32: function = ScatterRun.joining(reduction, Int32.self)
    case .int64: function = ScatterRun.joining(reduction, Int64.self)
    case .uint8: function = ScatterRun.joining(reduction, UInt8.self)
    case .uint16: function = ScatterRun.joining(reduction, UInt16.self)
    case .uint32: function = ScatterRun.joining(reduction, UInt32.self)
    case .uint64: function = ScatterRun.joining(reduction, UInt64.self)
    case .bool:
      let isOr = reduction == .add || reduction == .max
      function = isOr ? ScatterRun.run(UInt8.self) { $0 | $1 } : ScatterRun.run(UInt8.self) { $0 & $1 }
    case .complex64: function = ScatterRun.joiningComplex(reduction, SIMD2<Float>.self)
    case .complex128: function = ScatterRun.joiningComplex(reduction, SIMD2<Double>.self)
    default: function = nil
    }
    guard let function else { return nil }
    self.function = function
  }

  /// Joins `count` updates with the elements at `offsets` (in bytes), in order; with consecutive ones if nil.
  @inline(__always)
  func callAsFunction(
    _ target: UnsafeMutableRawPointer, _ offsets: UnsafePointer<Int>?, _ updates: UnsafeRawPointer, _ count: Int
  ) { function(target, offsets, updates, count) }

  @inline(__always)
  private static func run<Element: BitwiseCopyable>(
    _ type: Element.Type, _ join: @escaping @Sendable (Element, Element) -> Element
  ) -> Function {
    { target, offsets, updates, count in
      let size = MemoryLayout<Element>.size
      @inline(__always) func place(_ offset: Int, _ index: Int) {
        let joined = join(
          target.loadUnaligned(fromByteOffset: offset, as: Element.self),
          updates.loadUnaligned(fromByteOffset: index &* size, as: Element.self))
        target.storeBytes(of: joined, toByteOffset: offset, as: Element.self)
      }
      if let offsets {
        for index in 0..<count { place(offsets[index], index) }
      } else {
        for index in 0..<count { place(index &* size, index) }
      }
    }
  }

  private static func replacing(width: Int) -> Function? {
    switch width {
    case 1: run(UInt8.self) { $1 }
    case 2: run(UInt16.self) { $1 }
    case 4: run(UInt32.self) { $1 }
    case 8: run(UInt64.self) { $1 }
    case 16: run(SIMD2<UInt64>.self) { $1 }
    default: nil
    }
  }

  /// Integers wrap.
  @inline(__always)
  private static func joining<Element: FixedWidthInteger & BitwiseCopyable & Sendable>(
    _ reduction: ScatterReduction, _ type: Element.Type
  ) -> Function {
    switch reduction {
    case .none, .add: run(type) { $0 &+ $1 }
    case .mul: run(type) { $0 &* $1 }
    case .max: run(type) { $0 > $1 ? $0 : $1 }
    case .min: run(type) { $0 < $1 ? $0 : $1 }
    }
  }

  /// NaN on either side gives NaN.
  @inline(__always)
  private static func joining<Element: BinaryFloatingPoint & BitwiseCopyable & Sendable>(
    _ reduction: ScatterReduction, _ type: Element.Type
  ) -> Function {
    switch reduction {
    case .none, .add: run(type) { $0 + $1 }
    case .mul: run(type) { $0 * $1 }
    case .max: run(type) { larger($0, $1) }
    case .min: run(type) { smaller($0, $1) }
    }
  }

  /// a if it is as large as b or NaN, else b, NaN too; choices that need no branches.
  @inline(__always)
  private static func larger<Element: BinaryFloatingPoint>(_ a: Element, _ b: Element) -> Element {
    let number = a < b ? b : a
    let second = b != b ? b : number
    return a != a ? a : second
  }

  /// a if it is as small as b or NaN, else b, NaN too.
  @inline(__always)
  private static func smaller<Element: BinaryFloatingPoint>(_ a: Element, _ b: Element) -> Element {
    let number = b < a ? b : a
    let second = b != b ? b : number
    return a != a ? a : second
  }

  /// By way of float32: number by number at listed places, which may repeat, in blocks where they are neighbours.
  @inline(__always)
  private static func joiningHalves<Bits: HalfBits>(_ reduction: ScatterReduction, _ type: Bits.Type) -> Function {
    let k = apus_kernels().pointee
    return switch reduction {
    case .none, .add:
      joiningHalves(type, k.add_f32_vv, run(UInt16.self) { Bits.narrowed(Bits.widened($0) + Bits.widened($1)) })
    case .mul:
      joiningHalves(type, k.mul_f32_vv, run(UInt16.self) { Bits.narrowed(Bits.widened($0) * Bits.widened($1)) })
    case .max:
      joiningHalves(type, k.max_f32_vv, run(UInt16.self) { Bits.narrowed(larger(Bits.widened($0), Bits.widened($1))) })
    case .min:
      joiningHalves(type, k.min_f32_vv, run(UInt16.self) { Bits.narrowed(smaller(Bits.widened($0), Bits.widened($1))) })
    }
  }

  /// `join` works on neighbours, `single` at listed places.
  private static func joiningHalves<Bits: HalfBits>(
    _ type: Bits.Type, _ join: @escaping BinaryKernel, _ single: @escaping Function
  ) -> Function {
    let (widen, narrow) = (Bits.widen, Bits.narrow)
    return { target, offsets, updates, count in
      if offsets != nil { return single(target, offsets, updates, count) }
      withUnsafeTemporaryAllocation(byteCount: 2048, alignment: 64) { memory in
        guard let base = memory.baseAddress else { return }
        var done = 0
        while done < count {
          let n = min(blockLength, count &- done)
          widen(n, target + done &* 2, base)
          widen(n, updates + done &* 2, base + 1024)
          // Of two equal numbers the kernels give the second one, which is to be that of the target.
          join(n, base + 1024, base, base)
          narrow(n, base, target + done &* 2)
          done &+= n
        }
      }
    }
  }

  /// Complex numbers as pairs. The order is by the real, then the imaginary part.
  @inline(__always)
  private static func joiningComplex<Pair: SIMD & BitwiseCopyable & Sendable>(
    _ reduction: ScatterReduction, _ type: Pair.Type
  ) -> Function where Pair.Scalar: BinaryFloatingPoint {
    switch reduction {
    case .none, .add: run(type) { $0 + $1 }
    case .mul:
      run(type) { a, b in
        var product = a
        product[0] = a[0] * b[0] - a[1] * b[1]
        product[1] = a[0] * b[1] + a[1] * b[0]
        return product
      }
    case .max: run(type) { $0[0] > $1[0] || ($0[0] == $1[0] && $0[1] >= $1[1]) || $0[0].isNaN || $0[1].isNaN ? $0 : $1 }
    case .min: run(type) { $0[0] < $1[0] || ($0[0] == $1[0] && $0[1] <= $1[1]) || $0[0].isNaN || $0[1].isNaN ? $0 : $1 }
    }
  }
}

/// A float type of 16 bits as its bits, converted without a call where that takes some integer operations only.
private protocol HalfBits: Sendable, SendableMetatype {
  static func widened(_ bits: UInt16) -> Float
  /// Rounds to nearest, ties to even.
  static func narrowed(_ value: Float) -> UInt16
  /// The same for runs of elements.
  static var widen: CastFunction { get }
  static var narrow: CastFunction { get }
}

/// A C kernel of a conversion.
private typealias CastFunction = @convention(c) (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

private enum BFloat16Bits: HalfBits {
  @inline(__always) static func widened(_ bits: UInt16) -> Float { BFloat16(bitPattern: bits).float }
  @inline(__always) static func narrowed(_ value: Float) -> UInt16 { BFloat16(value).bitPattern }
  static var widen: CastFunction { apus_kernels().pointee.bf16_to_f32 }
  static var narrow: CastFunction { apus_kernels().pointee.f32_to_bf16 }
}

/// Without the conversions of the standard library, which are calls on machines that the library knows nothing of.
private enum Float16Bits: HalfBits {
  @inline(__always) static func widened(_ bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let rest = UInt32(bits & 0x7fff) << 13
    let isFinite = rest < 0x7c00 << 13
    // Subnormal numbers by an exact product with a power of two.
    let finite = (Float(bitPattern: rest) * 0x1p112).bitPattern
    let special = rest &+ (255 &- 31) << 23 | (rest > 0x7c00 << 13 ? 0x40_0000 : 0)
    return Float(bitPattern: sign | (isFinite ? finite : special))
  }

  @inline(__always) static func narrowed(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let (sign, magnitude) = (UInt16(truncatingIfNeeded: bits >> 16) & 0x8000, bits & 0x7fff_ffff)
    if magnitude > 0x7f80_0000 { return sign | 0x7e00 | UInt16(truncatingIfNeeded: magnitude >> 13 & 0x1ff) }
    // 65520 and above.
    if magnitude >= 0x477f_f000 { return sign | 0x7c00 }
    if magnitude < 0x3880_0000 {
      // Below 2^-14 the unit is 2^-24, and adding 1/2 makes it the last place.
      let sum = (Float(bitPattern: magnitude) + 0.5).bitPattern
      return sign | UInt16(truncatingIfNeeded: sum &- 0x3f00_0000)
    }
    let rounded = magnitude &+ 0xfff &+ (magnitude >> 13 & 1)
    return sign | UInt16(truncatingIfNeeded: (rounded &- 112 << 23) >> 13)
  }

  static var widen: CastFunction { apus_kernels().pointee.f16_to_f32 }
  static var narrow: CastFunction { apus_kernels().pointee.f32_to_f16 }
}
