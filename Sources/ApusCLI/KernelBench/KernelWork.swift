// What there is to measure of a kernel: calls at some sizes, with the operations and bytes of each.

import CApusKernels

/// A call to time. What it computes with lives as long as the body.
struct KernelWork {
  enum Limit: String, Encodable {
    case float32, float64, int8, memory
  }

  var size: String
  var limit: Limit
  /// Operations of the arithmetic that `limit` names, or bytes that are read and written.
  var amount: Double
  var body: () -> Void

  static func moving(_ bytes: Int, _ size: String, _ body: @escaping () -> Void) -> KernelWork {
    KernelWork(size: size, limit: .memory, amount: Double(bytes), body: body)
  }

  /// All that is measured of a kernel; nil if its type is not known here.
  static func of(_ line: KernelLine, _ table: KernelTable) -> [KernelWork]? {
    vectors(line, table) ?? rows(line, table) ?? matrices(line, table) ?? windows(line, table)
  }
}

/// Memory with some content that no kernel is slow at: no zeros, subnormal numbers or NaN.
final class KernelMemory {
  let start: UnsafeMutableRawPointer
  let count: Int

  /// `count` elements of a type as kernels.inc names it.
  init(_ count: Int, _ element: String) {
    self.count = count
    let width = KernelMemory.width(element)
    let bytes = max(1, count) * width
    start = .allocate(byteCount: bytes, alignment: 64)
    for i in 0..<min(count, KernelMemory.period) { fill(i, element, width) }
    var done = min(count, KernelMemory.period) * width
    while done < bytes, done > 0 {
      let more = min(done, bytes - done)
      (start + done).copyMemory(from: start, byteCount: more)
      done += more
    }
  }

  /// Elements after which the content comes again.
  private static let period = 4096

  /// Bytes of an element; those of fewer bits count as bytes.
  static func width(_ element: String) -> Int {
    element == "bool" ? 1 : max(1, (Int(element.drop { !$0.isNumber }) ?? 8) / 8)
  }

  private func fill(_ i: Int, _ element: String, _ width: Int) {
    let step = i % 61
    switch (element, width) {
    case ("f32", _): start.storeBytes(of: 0.25 + Float(step) / 64, toByteOffset: 4 * i, as: Float.self)
    case ("f64", _): start.storeBytes(of: 0.25 + Double(step) / 64, toByteOffset: 8 * i, as: Double.self)
    case ("f16", _): start.storeBytes(of: UInt16(0x3400 + step), toByteOffset: 2 * i, as: UInt16.self)
    case ("bf16", _): start.storeBytes(of: UInt16(0x3e80 + step), toByteOffset: 2 * i, as: UInt16.self)
    case ("bool", _): start.storeBytes(of: UInt8(step % 2), toByteOffset: i, as: UInt8.self)
    case (_, 2): start.storeBytes(of: UInt16(1 + step), toByteOffset: 2 * i, as: UInt16.self)
    case (_, 4): start.storeBytes(of: UInt32(1 + step), toByteOffset: 4 * i, as: UInt32.self)
    case (_, 8): start.storeBytes(of: UInt64(1 + step), toByteOffset: 8 * i, as: UInt64.self)
    default: start.storeBytes(of: UInt8(1 + step), toByteOffset: i, as: UInt8.self)
    }
  }
  deinit { start.deallocate() }

  var floats: UnsafeMutablePointer<Float> { start.assumingMemoryBound(to: Float.self) }
  var doubles: UnsafeMutablePointer<Double> { start.assumingMemoryBound(to: Double.self) }
  var words: UnsafeMutablePointer<UInt16> { start.assumingMemoryBound(to: UInt16.self) }
  var offsets: UnsafeMutablePointer<Int32> { start.assumingMemoryBound(to: Int32.self) }
}

/// Working sets that lie in the first cache, in the second, perhaps in the third, and in memory.
enum KernelPlaces {
  static let all = [("16 KB", 16 << 10), ("256 KB", 256 << 10), ("2 MB", 2 << 20), ("48 MB", 48 << 20)]
  /// Those at which copying is measured: the sizes of matrices lie between.
  static let limits = [all[0], all[1], all[2], ("8 MB", 8 << 20), all[3]]

  /// How many elements fill each, if one takes so many bytes.
  static func counts(bytes: Int) -> [(place: String, count: Int)] { all.map { ($0.0, $0.1 / bytes) } }
}
