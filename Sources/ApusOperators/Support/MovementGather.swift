// Elements collected from, or scattered to, places that data decides: runs over lists of byte offsets.

import ApusGraph
import ApusTensor

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
  /// True if updates replace what is there, so that a run of them is a plain copy.
  let isCopy: Bool

  /// nil if the reduction is not defined for the type.
  init?(_ reduction: ScatterReduction, _ type: DataType) {
    isCopy = reduction == .none
    let function: Function?
    switch type {
    case _ where reduction == .none: function = ScatterRun.replacing(width: type.byteWidth)
    case .float32: function = ScatterRun.joining(reduction, Float.self)
    case .float64: function = ScatterRun.joining(reduction, Double.self)
    case .float16:
      function = ScatterRun.joiningHalves(reduction, { Float(Float16(bitPattern: $0)) }, { Float16($0).bitPattern })
    case .bfloat16:
      function = ScatterRun.joiningHalves(reduction, { BFloat16(bitPattern: $0).float }, { BFloat16($0).bitPattern })
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
    case .max: run(type) { $0 >= $1 || $0.isNaN ? $0 : $1 }
    case .min: run(type) { $0 <= $1 || $0.isNaN ? $0 : $1 }
    }
  }

  @inline(__always)
  private static func joiningHalves(
    _ reduction: ScatterReduction, _ widen: @escaping @Sendable (UInt16) -> Float,
    _ narrow: @escaping @Sendable (Float) -> UInt16
  ) -> Function {
    switch reduction {
    case .none, .add: run(UInt16.self) { narrow(widen($0) + widen($1)) }
    case .mul: run(UInt16.self) { narrow(widen($0) * widen($1)) }
    case .max: run(UInt16.self) { widen($0) >= widen($1) || widen($0).isNaN ? $0 : $1 }
    case .min: run(UInt16.self) { widen($0) <= widen($1) || widen($0).isNaN ? $0 : $1 }
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
