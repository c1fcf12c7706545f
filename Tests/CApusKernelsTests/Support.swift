// What the kernel tests share: the levels of this machine, memory of exact size, and a reproducible source of numbers.

import CApusKernels

typealias Kernels = apus_kernel_table

/// The kernels of every machine that this one can stand for, the portable ones first.
let levels: [Kernels] = (0..<apus_machine_count()).map { apus_machine_at($0).pointee }

extension apus_kernel_table {
  var label: String { String(cString: name) }
}

/// Memory of exactly `count` elements at a fixed address, so that an address sanitizer sees the first byte too many.
final class Buffer<Element: BitwiseCopyable> {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  init(_ count: Int, _ element: (Int) -> Element) {
    base = .allocate(capacity: max(count, 0))
    self.count = count
    for i in 0..<count { (base + i).initialize(to: element(i)) }
  }
  convenience init(_ count: Int, repeating element: Element) { self.init(count) { _ in element } }
  deinit { base.deallocate() }

  var pointer: UnsafePointer<Element> { UnsafePointer(base) }
  var array: [Element] { Array(UnsafeBufferPointer(start: base, count: count)) }
  subscript(i: Int) -> Element {
    get { base[i] }
    set { base[i] = newValue }
  }
}

/// Numbers that are the same in every run.
struct Numbers {
  private var state: UInt64
  init(_ seed: Int = 1) { state = UInt64(truncatingIfNeeded: seed) &* 0x9e37_79b9_7f4a_7c15 &+ 1 }

  // A multiplicative congruential step and a mix of its bits; wrapping is the arithmetic meant.
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    let x = state ^ (state >> 29)
    return (x &* 0xbf58_476d_1ce4_e5b9) ^ (x >> 31)
  }
  /// Between -1 and 1.
  mutating func float() -> Float { Float(Int32(truncatingIfNeeded: next() >> 16)) * 0x1p-31 }
  mutating func below(_ bound: Int) -> Int { Int(next() >> 33) % bound }
  mutating func floats(_ count: Int, scale: Float = 1) -> Buffer<Float> { Buffer(count) { _ in float() * scale } }
}

/// Equal bits, with every NaN equal to every other.
func same(_ a: Float, _ b: Float) -> Bool { a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN) }
func same(_ a: [Float], _ b: [Float]) -> Bool { a.count == b.count && zip(a, b).allSatisfy { same($0, $1) } }
