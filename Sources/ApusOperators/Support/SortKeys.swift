// Elements of any ordered type as unsigned integers in the same order: sorting, selecting and comparing need one code.

import ApusGraph
import ApusTensor
import CApusKernels

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
    let table = apus_kernels().pointee
    switch type {
    case .bool: load = SortKeys.loader(table.sort_keys_bool, UInt8.self) { $0 == 0 ? 0 : 1 }
    case .uint8: load = SortKeys.loader(table.sort_keys_u8, UInt8.self) { UInt64($0) }
    case .uint16: load = SortKeys.loader(table.sort_keys_u16, UInt16.self) { UInt64($0) }
    case .uint32: load = SortKeys.loader(table.sort_keys_u32, UInt32.self) { UInt64($0) }
    case .uint64: load = SortKeys.loader(table.sort_keys_u64, UInt64.self) { $0 }
    case .int8: load = SortKeys.loader(table.sort_keys_s8, Int8.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int16: load = SortKeys.loader(table.sort_keys_i16, Int16.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int32: load = SortKeys.loader(table.sort_keys_i32, Int32.self) { UInt64(bitPattern: Int64($0)) ^ 1 << 63 }
    case .int64: load = SortKeys.loader(table.sort_keys_i64, Int64.self) { UInt64(bitPattern: $0) ^ 1 << 63 }
    case .float16:
      load = SortKeys.loader(table.sort_keys_f16, UInt16.self) {
        SortKeys.key(UInt64($0), sign: 0x8000, infinity: 0x7C00)
      }
    case .bfloat16:
      load = SortKeys.loader(table.sort_keys_bf16, UInt16.self) {
        SortKeys.key(UInt64($0), sign: 0x8000, infinity: 0x7F80)
      }
    case .float32:
      load = SortKeys.loader(table.sort_keys_f32, UInt32.self) {
        SortKeys.key(UInt64($0), sign: 0x8000_0000, infinity: 0x7F80_0000)
      }
    case .float64:
      load = SortKeys.loader(table.sort_keys_f64, UInt64.self) {
        SortKeys.key($0, sign: 1 << 63, infinity: 0x7FF0_0000_0000_0000)
      }
    default: return nil
    }
  }

  /// `neighbours` for elements that lie side by side, `key` for others.
  @inline(__always)
  private static func loader<Element: BitwiseCopyable & SendableMetatype>(
    _ neighbours: @escaping @convention(c) (Int, UnsafeRawPointer, UnsafeMutablePointer<UInt64>) -> Void,
    _ type: Element.Type, _ key: @escaping @Sendable (Element) -> UInt64
  ) -> Loader {
    let width = MemoryLayout<Element>.size
    return { source, stride, count, keys in
      if stride == width, UInt(bitPattern: source) % UInt(width) == 0 { return neighbours(count, source, keys) }
      for index in 0..<count {
        keys[index] = key(source.loadUnaligned(fromByteOffset: index &* stride, as: Element.self))
      }
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

// MARK: - Sorting

extension SortKeys {
  /// Fewer keys are sorted by comparing.
  private static let fewest = 64

  /// The positions of all keys in ascending order, equal ones as they lie: byte by byte from the last, over as many
  /// bytes as the largest key has beyond the smallest.
  static func order(of keys: [UInt64]) -> [Int] {
    guard keys.count >= fewest, let least = keys.min(), let largest = keys.max() else {
      return keys.indices.sorted { keys[$0] < keys[$1] || (keys[$0] == keys[$1] && $0 < $1) }
    }
    var items = keys.enumerated().map { (key: $0.element &- least, position: $0.offset) }
    var sorted = items
    var shift = 0
    while shift < UInt64.bitWidth, (largest &- least) >> UInt64(shift) != 0 {
      var starts = [Int](repeating: 0, count: 257)
      for item in items { starts[Int(item.key >> UInt64(shift) & 255) &+ 1] &+= 1 }
      for byte in 0..<256 { starts[byte &+ 1] &+= starts[byte] }
      for item in items {
        let byte = Int(item.key >> UInt64(shift) & 255)
        sorted[starts[byte]] = item
        starts[byte] &+= 1
      }
      swap(&items, &sorted)
      shift += 8
    }
    return items.map(\.position)
  }
}
