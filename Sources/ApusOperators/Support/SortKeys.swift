// Elements of any ordered type as unsigned integers in the same order: sorting, selecting and comparing need one code.

import ApusGraph
import ApusTensor

/// Turns elements into keys: for a, b of one type, key(a) < key(b) just if a < b, and equal keys just if a == b. NaN
/// comes last and equals itself; -0 equals 0; false comes before true.
struct SortKeys: Sendable {
  typealias Loader =
    @Sendable (
      _ source: UnsafeRawPointer, _ stride: Int, _ count: Int, _ keys: UnsafeMutablePointer<UInt64>
    ) -> Void

  let width: Int
  /// Writes the keys of `count` elements, `stride` bytes apart. The elements need no alignment.
  let load: Loader

  /// nil for types without an order of their own (complex numbers, strings) and those below a byte.
  init?(_ type: DataType) {
    width = type.byteWidth
    func loader<Element: BitwiseCopyable>(_ type: Element.Type, _ key: @escaping @Sendable (Element) -> UInt64)
      -> Loader
    {
      { source, stride, count, keys in
        for index in 0..<count {
          keys[index] = key(source.loadUnaligned(fromByteOffset: index &* stride, as: Element.self))
        }
      }
    }
    switch type {
    case .bool: load = loader(UInt8.self) { $0 == 0 ? 0 : 1 }
    case .uint8: load = loader(UInt8.self) { UInt64($0) }
    case .uint16: load = loader(UInt16.self) { UInt64($0) }
    case .uint32: load = loader(UInt32.self) { UInt64($0) }
    case .uint64: load = loader(UInt64.self) { $0 }
    case .int8: load = loader(Int8.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int16: load = loader(Int16.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int32: load = loader(Int32.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int64: load = loader(Int64.self) { UInt64(bitPattern: $0) ^ 1 << 63 }
    case .float16:
      load = loader(UInt16.self) { SortKeys.key(UInt64($0), sign: 0x8000, infinity: 0x7C00) }
    case .bfloat16:
      load = loader(UInt16.self) { SortKeys.key(UInt64($0), sign: 0x8000, infinity: 0x7F80) }
    case .float32:
      load = loader(UInt32.self) { SortKeys.key(UInt64($0), sign: 0x8000_0000, infinity: 0x7F80_0000) }
    case .float64:
      load = loader(UInt64.self) { SortKeys.key($0, sign: 1 << 63, infinity: 0x7FF0_0000_0000_0000) }
    default: return nil
    }
  }

  /// The key of a float by its bits: magnitudes count upwards from the sign bit for positive values, downwards for
  /// negative ones.
  @inline(__always)
  private static func key(_ bits: UInt64, sign: UInt64, infinity: UInt64) -> UInt64 {
    let magnitude = bits & (sign &- 1)
    if magnitude > infinity { return UInt64.max }
    return bits & sign == 0 ? sign &+ magnitude : sign &- magnitude
  }
}
