// Conversions between number types against the conversions of Swift.

import CApusKernels
import Testing

@Suite struct CastKernelTests {
  private typealias Convert = @convention(c) (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

  private func check<From: BitwiseCopyable, To: BitwiseCopyable>(
    _ label: String, _ kernel: Convert, _ make: (Int) -> From, _ equal: (To, To) -> Bool, _ expected: (From) -> To,
    to: To.Type = To.self
  ) {
    for n in [0, 1, 3, 8, 15, 16, 17, 31, 64, 67, 1003] {
      let x = Buffer<From>(n, make)
      let y = Buffer<To>(n) { _ in expected(x[0]) }
      kernel(n, x.base, y.base)
      let wrong = (0..<n).first { !equal(y[$0], expected(x[$0])) }
      #expect(wrong == nil, "\(label) \(n): \(wrong.map { "\(x[$0]) gives \(y[$0])" } ?? "")")
    }
  }

  private func truncated32(_ x: Double) -> Int32 { x > -2_147_483_649 && x < 0x1p31 ? Int32(x) : .min }
  private func truncated64(_ x: Double) -> Int64 { x >= -0x1p63 && x < 0x1p63 ? Int64(x) : .min }
  private func unsigned64(_ x: Double) -> UInt64 {
    x >= 0x1p63 && x < 0x1p64 ? UInt64(x) : UInt64(bitPattern: truncated64(x))
  }

  private static let edges: [Double] = [
    .nan, .infinity, -.infinity, 0, -0.0, 0.5, -0.5, 0.999, -1, 127.9, 128, 255, 256, -129, 65_535.5, 0x1p31, -0x1p31,
    -2_147_483_648.5, -2_147_483_649, 2_147_483_647.5, 0x1p32, 4_294_967_295, 0x1p63, -0x1p63, 0x1p64, 0x1p64 - 4096,
    1e30, -1e30, 1e-40, 65_519.999, 65_520, 0x1p-25, 0x1.8p-25, 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11,
    1 + 0x1p-11 - 0x1p-50, 1e300,
  ]

  @Test(arguments: levels.indices) func fromFloats(level: Int) {
    let k = levels[level]
    var numbers = Numbers(51)
    let double = { (i: Int) -> Double in
      i < Self.edges.count
        ? Self.edges[i] : Double(numbers.float()) * [1, 300, 1e5, 3e9, 2e19][numbers.below(5)]
    }
    let single = { (i: Int) in Float(double(i)) }
    check("\(k.label) f32 i8", k.f32_to_i8, single, ==) { Int8(truncatingIfNeeded: truncated32(Double($0))) }
    check("\(k.label) f32 i16", k.f32_to_i16, single, ==) { Int16(truncatingIfNeeded: truncated32(Double($0))) }
    check("\(k.label) f32 i32", k.f32_to_i32, single, ==) { truncated32(Double($0)) }
    check("\(k.label) f32 u32", k.f32_to_u32, single, ==) { UInt32(truncatingIfNeeded: truncated64(Double($0))) }
    check("\(k.label) f32 i64", k.f32_to_i64, single, ==) { truncated64(Double($0)) }
    check("\(k.label) f32 u64", k.f32_to_u64, single, ==) { unsigned64(Double($0)) }
    check("\(k.label) f64 i8", k.f64_to_i8, double, ==) { Int8(truncatingIfNeeded: truncated32($0)) }
    check("\(k.label) f64 i16", k.f64_to_i16, double, ==) { Int16(truncatingIfNeeded: truncated32($0)) }
    check("\(k.label) f64 i32", k.f64_to_i32, double, ==) { truncated32($0) }
    check("\(k.label) f64 u32", k.f64_to_u32, double, ==) { UInt32(truncatingIfNeeded: truncated64($0)) }
    check("\(k.label) f64 i64", k.f64_to_i64, double, ==) { truncated64($0) }
    check("\(k.label) f64 u64", k.f64_to_u64, double, ==) { unsigned64($0) }
    let equal = { (a: Double, b: Double) in a.bitPattern == b.bitPattern || (a.isNaN && b.isNaN) }
    check("\(k.label) f32 f64", k.f32_to_f64, single, equal) { Double($0) }
    check("\(k.label) f64 f32", k.f64_to_f32, double, same) { Float($0) }
    // Rounded to odd, then to fewer bits, a number is rounded once.
    let half = { (x: Float) in Float(Float16(x)) }
    check("\(k.label) f64 f32 odd", k.f64_to_f32_odd, double, { same(half($0), half($1)) }) { (x: Double) in
      Float(Float16(x))
    }
  }

  private func fromInteger<T: FixedWidthInteger & BitwiseCopyable>(
    _ label: String, _ single: Convert, _ double: Convert, _: T.Type
  ) {
    var numbers = Numbers(52)
    let make = { (i: Int) -> T in
      i == 0 ? .max : i == 1 ? .min : T(truncatingIfNeeded: numbers.next() >> UInt64(numbers.below(60)))
    }
    check("\(label) f32", single, make, same) { Float($0) }
    check("\(label) f64", double, make, { (a: Double, b: Double) in a == b }) { Double($0) }
  }

  private func wrapping<From: FixedWidthInteger & BitwiseCopyable, To: FixedWidthInteger & BitwiseCopyable>(
    _ label: String, _ kernel: Convert, _: From.Type, _: To.Type
  ) {
    var numbers = Numbers(53)
    check(label, kernel, { _ in From(truncatingIfNeeded: numbers.next()) }, ==) { To(truncatingIfNeeded: $0) }
  }

  @Test(arguments: levels.indices) func fromIntegers(level: Int) {
    let k = levels[level]
    fromInteger("\(k.label) u8", k.u8_to_f32, k.u8_to_f64, UInt8.self)
    fromInteger("\(k.label) i8", k.i8_to_f32, k.i8_to_f64, Int8.self)
    fromInteger("\(k.label) u16", k.u16_to_f32, k.u16_to_f64, UInt16.self)
    fromInteger("\(k.label) i16", k.i16_to_f32, k.i16_to_f64, Int16.self)
    fromInteger("\(k.label) u32", k.u32_to_f32, k.u32_to_f64, UInt32.self)
    fromInteger("\(k.label) i32", k.i32_to_f32, k.i32_to_f64, Int32.self)
    fromInteger("\(k.label) u64", k.u64_to_f32, k.u64_to_f64, UInt64.self)
    fromInteger("\(k.label) i64", k.i64_to_f32, k.i64_to_f64, Int64.self)
    wrapping("\(k.label) u8 i16", k.u8_to_i16, UInt8.self, Int16.self)
    wrapping("\(k.label) u8 i32", k.u8_to_i32, UInt8.self, Int32.self)
    wrapping("\(k.label) u8 i64", k.u8_to_i64, UInt8.self, Int64.self)
    wrapping("\(k.label) i8 i16", k.i8_to_i16, Int8.self, Int16.self)
    wrapping("\(k.label) i8 i32", k.i8_to_i32, Int8.self, Int32.self)
    wrapping("\(k.label) i8 i64", k.i8_to_i64, Int8.self, Int64.self)
    wrapping("\(k.label) u16 i32", k.u16_to_i32, UInt16.self, Int32.self)
    wrapping("\(k.label) u16 i64", k.u16_to_i64, UInt16.self, Int64.self)
    wrapping("\(k.label) i16 i32", k.i16_to_i32, Int16.self, Int32.self)
    wrapping("\(k.label) i16 i64", k.i16_to_i64, Int16.self, Int64.self)
    wrapping("\(k.label) u32 i64", k.u32_to_i64, UInt32.self, Int64.self)
    wrapping("\(k.label) i32 i64", k.i32_to_i64, Int32.self, Int64.self)
    wrapping("\(k.label) i16 i8", k.i16_to_i8, Int16.self, Int8.self)
    wrapping("\(k.label) i32 i8", k.i32_to_i8, Int32.self, Int8.self)
    wrapping("\(k.label) i64 i8", k.i64_to_i8, Int64.self, Int8.self)
    wrapping("\(k.label) i32 i16", k.i32_to_i16, Int32.self, Int16.self)
    wrapping("\(k.label) i64 i16", k.i64_to_i16, Int64.self, Int16.self)
    wrapping("\(k.label) i64 i32", k.i64_to_i32, Int64.self, Int32.self)
  }
}
