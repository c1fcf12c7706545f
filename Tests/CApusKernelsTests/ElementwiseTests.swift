// Binary kernels, conversions, quantization and transposes against plain Swift.

import CApusKernels
import Testing

@Suite struct ElementwiseTests {
  private typealias Binary = @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void
  private static let lengths = [0, 1, 2, 3, 5, 8, 15, 16, 17, 33, 67]

  /// The three forms of one operation, and each in place, against `operation`.
  private func forms<T: BitwiseCopyable>(
    _ label: String, _ kernels: (Binary, Binary, Binary), _ make: () -> T, _ equal: (T, T) -> Bool,
    _ operation: (T, T) -> T
  ) {
    for n in Self.lengths {
      let a = Buffer<T>(max(n, 1)) { _ in make() }
      let b = Buffer<T>(max(n, 1)) { _ in make() }
      let expected = [
        (0..<n).map { operation(a[$0], b[$0]) }, (0..<n).map { operation(a[$0], b[0]) },
        (0..<n).map { operation(a[0], b[$0]) },
      ]
      for (form, kernel) in [kernels.0, kernels.1, kernels.2].enumerated() {
        let y = Buffer<T>(n) { _ in make() }
        kernel(n, a.base, b.base, y.base)
        #expect((0..<n).allSatisfy { equal(y[$0], expected[form][$0]) }, "\(label) form \(form) n \(n)")
        let left = Buffer<T>(max(n, 1)) { a[$0] }
        let right = Buffer<T>(max(n, 1)) { b[$0] }
        if form != 2 {
          kernel(n, left.base, b.base, left.base)
          #expect((0..<n).allSatisfy { equal(left[$0], expected[form][$0]) }, "\(label) form \(form) n \(n) in place")
        }
        if form != 1 {
          kernel(n, a.base, right.base, right.base)
          #expect((0..<n).allSatisfy { equal(right[$0], expected[form][$0]) }, "\(label) form \(form) n \(n) in place")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func floats(level: Int) {
    let k = levels[level]
    let name = k.label
    var numbers = Numbers(31)
    let f32 = { () -> Float in numbers.below(9) == 0 ? .nan : numbers.float() * 10 }
    forms("\(name) add", (k.add_f32_vv, k.add_f32_vs, k.add_f32_sv), f32, same) { $0 + $1 }
    forms("\(name) sub", (k.sub_f32_vv, k.sub_f32_vs, k.sub_f32_sv), f32, same) { $0 - $1 }
    forms("\(name) mul", (k.mul_f32_vv, k.mul_f32_vs, k.mul_f32_sv), f32, same) { $0 * $1 }
    forms("\(name) div", (k.div_f32_vv, k.div_f32_vs, k.div_f32_sv), f32, same) { $0 / $1 }
    forms("\(name) min", (k.min_f32_vv, k.min_f32_vs, k.min_f32_sv), f32, same) {
      $0.isNaN || $1.isNaN ? .nan : Swift.min($0, $1)
    }
    forms("\(name) max", (k.max_f32_vv, k.max_f32_vs, k.max_f32_sv), f32, same) {
      $0.isNaN || $1.isNaN ? .nan : Swift.max($0, $1)
    }
    let f64 = { () -> Double in numbers.below(9) == 0 ? .nan : Double(numbers.float()) * 10 }
    let equal = { (a: Double, b: Double) in a == b || (a.isNaN && b.isNaN) }
    forms("\(name) add", (k.add_f64_vv, k.add_f64_vs, k.add_f64_sv), f64, equal) { $0 + $1 }
    forms("\(name) sub", (k.sub_f64_vv, k.sub_f64_vs, k.sub_f64_sv), f64, equal) { $0 - $1 }
    forms("\(name) mul", (k.mul_f64_vv, k.mul_f64_vs, k.mul_f64_sv), f64, equal) { $0 * $1 }
    forms("\(name) div", (k.div_f64_vv, k.div_f64_vs, k.div_f64_sv), f64, equal) { $0 / $1 }
    forms("\(name) min", (k.min_f64_vv, k.min_f64_vs, k.min_f64_sv), f64, equal) {
      $0.isNaN || $1.isNaN ? .nan : Swift.min($0, $1)
    }
    forms("\(name) max", (k.max_f64_vv, k.max_f64_vs, k.max_f64_sv), f64, equal) {
      $0.isNaN || $1.isNaN ? .nan : Swift.max($0, $1)
    }
  }

  @Test(arguments: levels.indices) func integers(level: Int) {
    let k = levels[level]
    let name = k.label
    var numbers = Numbers(32)
    let i32 = { Int32(truncatingIfNeeded: numbers.next()) }
    forms("\(name) add", (k.add_i32_vv, k.add_i32_vs, k.add_i32_sv), i32, ==) { $0 &+ $1 }
    forms("\(name) sub", (k.sub_i32_vv, k.sub_i32_vs, k.sub_i32_sv), i32, ==) { $0 &- $1 }
    forms("\(name) mul", (k.mul_i32_vv, k.mul_i32_vs, k.mul_i32_sv), i32, ==) { $0 &* $1 }
    forms("\(name) min", (k.min_i32_vv, k.min_i32_vs, k.min_i32_sv), i32, ==) { min($0, $1) }
    forms("\(name) max", (k.max_i32_vv, k.max_i32_vs, k.max_i32_sv), i32, ==) { max($0, $1) }
    let i16 = { Int16(truncatingIfNeeded: numbers.next()) }
    forms("\(name) add", (k.add_i16_vv, k.add_i16_vs, k.add_i16_sv), i16, ==) { $0 &+ $1 }
    forms("\(name) sub", (k.sub_i16_vv, k.sub_i16_vs, k.sub_i16_sv), i16, ==) { $0 &- $1 }
    forms("\(name) mul", (k.mul_i16_vv, k.mul_i16_vs, k.mul_i16_sv), i16, ==) { $0 &* $1 }
    let i8 = { Int8(truncatingIfNeeded: numbers.next()) }
    forms("\(name) add", (k.add_i8_vv, k.add_i8_vs, k.add_i8_sv), i8, ==) { $0 &+ $1 }
    forms("\(name) sub", (k.sub_i8_vv, k.sub_i8_vs, k.sub_i8_sv), i8, ==) { $0 &- $1 }
    forms("\(name) mul", (k.mul_i8_vv, k.mul_i8_vs, k.mul_i8_sv), i8, ==) { $0 &* $1 }
    let i64 = { Int64(truncatingIfNeeded: numbers.next()) }
    forms("\(name) add", (k.add_i64_vv, k.add_i64_vs, k.add_i64_sv), i64, ==) { $0 &+ $1 }
    forms("\(name) sub", (k.sub_i64_vv, k.sub_i64_vs, k.sub_i64_sv), i64, ==) { $0 &- $1 }
    forms("\(name) mul", (k.mul_i64_vv, k.mul_i64_vs, k.mul_i64_sv), i64, ==) { $0 &* $1 }
    forms("\(name) min", (k.min_i64_vv, k.min_i64_vs, k.min_i64_sv), i64, ==) { min($0, $1) }
    forms("\(name) max", (k.max_i64_vv, k.max_i64_vs, k.max_i64_sv), i64, ==) { max($0, $1) }
  }

  @Test(arguments: levels.indices) func maximaOfBytes(level: Int) {
    let k = levels[level]
    var numbers = Numbers(33)
    for n in 0...200 {
      let a = Buffer<UInt8>(n) { _ in UInt8(truncatingIfNeeded: numbers.next()) }
      let b = Buffer<UInt8>(n) { _ in UInt8(truncatingIfNeeded: numbers.next()) }
      let y = Buffer<UInt8>(n, repeating: 0)
      k.max_u8_vv(n, a.base, b.base, y.base)
      #expect((0..<n).allSatisfy { y[$0] == max(a[$0], b[$0]) }, "\(k.label) \(n)")
      let signed = (0..<n).map { max(Int8(bitPattern: a[$0]), Int8(bitPattern: b[$0])) }
      k.max_s8_vv(n, a.base, b.base, y.base)
      #expect(y.array.map { Int8(bitPattern: $0) } == signed, "\(k.label) \(n)")
      // y may be a.
      k.max_s8_vv(n, a.base, b.base, a.base)
      #expect(a.array == y.array, "\(k.label) \(n)")
    }
  }

  /// bfloat16 by its definition: the nearest of the two neighbours that share the upper half.
  private func bfloat16(_ x: Float) -> UInt16 {
    let bits = UInt64(x.bitPattern)
    let low = bits & 0xffff
    let high = bits >> 16
    let up = low > 0x8000 || (low == 0x8000 && high & 1 == 1)
    return UInt16(truncatingIfNeeded: high + (up ? 1 : 0))
  }

  @Test(arguments: levels.indices) func halfPrecision(level: Int) {
    let k = levels[level]
    let all = Buffer<UInt16>(65536) { UInt16($0) }
    let wide = Buffer<Float>(65536, repeating: 0)
    let back = Buffer<UInt16>(65536, repeating: 0)
    k.f16_to_f32(65536, all.base, wide.base)
    #expect((0..<65536).allSatisfy { same(wide[$0], Float(Float16(bitPattern: UInt16($0)))) }, "\(k.label)")
    k.f32_to_f16(65536, wide.base, back.base)
    #expect(
      (0..<65536).allSatisfy { wide[$0].isNaN ? Float16(bitPattern: back[$0]).isNaN : back[$0] == all[$0] },
      "\(k.label)")
    k.bf16_to_f32(65536, all.base, wide.base)
    #expect((0..<65536).allSatisfy { wide[$0].bitPattern == UInt32($0) << 16 }, "\(k.label)")

    let count = 120_001
    let x = Buffer<Float>(count) { Float(bitPattern: UInt32(truncatingIfNeeded: $0 &* 35_791 &+ 0x3300_0000)) }
    let y = Buffer<UInt16>(count, repeating: 0)
    k.f32_to_f16(count, x.base, y.base)
    var wrong = (0..<count).count {
      x[$0].isNaN ? !Float16(bitPattern: y[$0]).isNaN : y[$0] != Float16(x[$0]).bitPattern
    }
    #expect(wrong == 0, "\(k.label) to float16")
    k.f32_to_bf16(count, x.base, y.base)
    wrong = (0..<count).count { i in
      x[i].isNaN ? !Float(bitPattern: UInt32(y[i]) << 16).isNaN : y[i] != bfloat16(x[i])
    }
    #expect(wrong == 0, "\(k.label) to bfloat16")
    for n in 0...20 {
      let part = Buffer<UInt16>(n + 1, repeating: 0x5a5a)
      k.f32_to_f16(n, x.base, part.base)
      #expect(part[n] == 0x5a5a, "\(k.label) wrote past \(n)")
    }
  }

  @Test(arguments: levels.indices) func quantization(level: Int) {
    let k = levels[level]
    var numbers = Numbers(33)
    for n in Self.lengths + [64, 131] {
      for (scale, zero) in [(Float(0.1), Int32(7)), (0.037, 0), (1, 100), (.leastNormalMagnitude / 16, 3), (1e30, 0)] {
        let x = Buffer<Float>(n) { $0 == 2 ? .infinity : $0 == 4 ? 2.5 * scale : numbers.float() * 20 }
        let q = Buffer<UInt8>(n, repeating: 0)
        let back = Buffer<Float>(n, repeating: 0)
        k.quantize_u8(n, x.pointer, q.base, scale, zero)
        let level = (0..<n).map { (x[$0] / scale).rounded(.toNearestOrEven) + Float(zero) }
        #expect((0..<n).allSatisfy { Float(q[$0]) == min(max(level[$0], 0), 255) }, "\(k.label) u8 n \(n)")
        k.dequantize_u8(n, q.base, back.base, scale, zero)
        #expect((0..<n).allSatisfy { back[$0] == Float(Int32(q[$0]) - zero) * scale }, "\(k.label) u8 n \(n)")
        k.quantize_s8(n, x.pointer, q.base, scale, zero)
        #expect(
          (0..<n).allSatisfy { Float(Int8(bitPattern: q[$0])) == min(max(level[$0], -128), 127) },
          "\(k.label) s8 n \(n)")
        k.dequantize_s8(n, q.base, back.base, scale, zero)
        #expect(
          (0..<n).allSatisfy { back[$0] == Float(Int32(Int8(bitPattern: q[$0])) - zero) * scale },
          "\(k.label) s8 n \(n)")
        let i = Buffer<Int32>(n) { _ in Int32(numbers.below(100_000)) - 50_000 }
        k.dequantize_i32(n, i.base, back.base, scale, zero)
        #expect((0..<n).allSatisfy { back[$0] == Float(i[$0] - zero) * scale }, "\(k.label) i32 n \(n)")
      }
    }
  }

  private typealias DequantizeEach =
    @convention(c) (Int, UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, UnsafeRawPointer?) -> Void
  private typealias QuantizeEach =
    @convention(c) (Int, UnsafePointer<Float>, UnsafeMutableRawPointer, UnsafePointer<Float>, UnsafeRawPointer?) -> Void

  private func eachElement<T: FixedWidthInteger & BitwiseCopyable>(
    _ label: String, _ quantize: QuantizeEach, _ dequantize: DequantizeEach, _: T.Type
  ) {
    var numbers = Numbers(34)
    for n in Self.lengths {
      let scales = Buffer<Float>(n) { _ in numbers.float() * 0.01 + 0.02 }
      let x = Buffer<Float>(n) { i in
        i == 3 ? .nan : i == 5 ? -.infinity : i == 6 ? 2.5 * scales[i] : numbers.float() * (i % 2 == 0 ? 4 : 900)
      }
      let zeros = Buffer<T>(n) { _ in T(truncatingIfNeeded: numbers.next()) }
      let y = Buffer<T>(n, repeating: 1)
      let back = Buffer<Float>(n, repeating: 0)
      for hasZeros in [false, true] {
        quantize(n, x.pointer, y.base, scales.pointer, hasZeros ? UnsafeRawPointer(zeros.base) : nil)
        let expected = (0..<n).map { i -> T in
          let level = (x[i] / scales[i]).rounded(.toNearestOrEven) + (hasZeros ? Float(zeros[i]) : 0)
          return level.isNaN ? .min : T(min(max(level, Float(T.min)), Float(T.max)))
        }
        #expect(y.array == expected, "\(label) \(n)")
        dequantize(n, y.base, back.base, scales.pointer, hasZeros ? UnsafeRawPointer(zeros.base) : nil)
        let right = (0..<n).allSatisfy { back[$0] == Float(Int(y[$0]) - (hasZeros ? Int(zeros[$0]) : 0)) * scales[$0] }
        #expect(right, "\(label) \(n)")
      }
    }
  }

  @Test(arguments: levels.indices) func quantizationOfEachElement(level: Int) {
    let k = levels[level]
    eachElement("\(k.label) u8", k.quantize_each_u8, k.dequantize_each_u8, UInt8.self)
    eachElement("\(k.label) s8", k.quantize_each_s8, k.dequantize_each_s8, Int8.self)
    eachElement("\(k.label) u16", k.quantize_each_u16, k.dequantize_each_u16, UInt16.self)
    eachElement("\(k.label) s16", k.quantize_each_s16, k.dequantize_each_s16, Int16.self)
    var numbers = Numbers(35)
    for n in Self.lengths {
      let x = Buffer<Float>(n) { _ in numbers.float() * 3000 }
      let (wide, signed) = (Buffer<UInt16>(n, repeating: 0), Buffer<Int16>(n, repeating: 0))
      let back = Buffer<Float>(n, repeating: 0)
      k.quantize_u16(n, x.pointer, wide.base, 0.05, 300)
      k.quantize_s16(n, x.pointer, signed.base, 0.05, -20)
      let levels = (0..<n).map { (x[$0] / 0.05).rounded(.toNearestOrEven) }
      #expect((0..<n).allSatisfy { Float(wide[$0]) == min(max(levels[$0] + 300, 0), 65535) }, "\(k.label) u16 \(n)")
      #expect(
        (0..<n).allSatisfy { Float(signed[$0]) == min(max(levels[$0] - 20, -32768), 32767) }, "\(k.label) s16 \(n)")
      k.dequantize_u16(n, wide.base, back.base, 0.05, 300)
      #expect((0..<n).allSatisfy { back[$0] == Float(Int(wide[$0]) - 300) * 0.05 }, "\(k.label) u16 \(n)")
      k.dequantize_s16(n, signed.base, back.base, 0.05, -20)
      #expect((0..<n).allSatisfy { back[$0] == Float(Int(signed[$0]) + 20) * 0.05 }, "\(k.label) s16 \(n)")
    }
  }

  private func quotients<T: FixedWidthInteger & BitwiseCopyable>(_ label: String, _ kernel: Binary, _: T.Type) {
    var numbers = Numbers(36)
    for n in Self.lengths {
      let a = Buffer<T>(n) { $0 % 5 == 0 ? .min : $0 % 7 == 0 ? .max : T(truncatingIfNeeded: numbers.next()) }
      let b = Buffer<T>(n) { i in
        i % 10 == 0 ? 0 &- 1 : i % 4 == 0 ? 0 : T(truncatingIfNeeded: numbers.next()) >> T(numbers.below(6))
      }
      let expected = (0..<n).map { b[$0] == 0 ? 0 : a[$0].dividedReportingOverflow(by: b[$0]).partialValue }
      let y = Buffer<T>(n, repeating: 0)
      kernel(n, a.base, b.base, y.base)
      #expect(y.array == expected, "\(label) \(n)")
      kernel(n, a.base, b.base, a.base)
      #expect(a.array == expected, "\(label) \(n) in place")
    }
  }

  @Test(arguments: levels.indices) func quotientsOfIntegers(level: Int) {
    let k = levels[level]
    quotients("\(k.label) u8", k.div_u8_vv, UInt8.self)
    quotients("\(k.label) i8", k.div_i8_vv, Int8.self)
    quotients("\(k.label) u16", k.div_u16_vv, UInt16.self)
    quotients("\(k.label) i16", k.div_i16_vv, Int16.self)
    quotients("\(k.label) u32", k.div_u32_vv, UInt32.self)
    quotients("\(k.label) i32", k.div_i32_vv, Int32.self)
    quotients("\(k.label) u64", k.div_u64_vv, UInt64.self)
    quotients("\(k.label) i64", k.div_i64_vv, Int64.self)
  }

  /// Numbers on both sides of what float64 holds, whose quotients come as near to whole numbers as they can.
  @Test(arguments: levels.indices) func quotientsNearWholeNumbers(level: Int) {
    var numbers = Numbers(37)
    for bits in [20, 51, 52, 53, 62] {
      let n = 200
      let b = Buffer<Int64>(n) { _ in
        let size = Int64(numbers.next() >> 2) >> Int64(62 - numbers.below(bits) - 1)
        return (size | 1) * (numbers.below(2) == 0 ? 1 : -1)
      }
      let a = Buffer<Int64>(n) { i in
        let whole = (Int64(numbers.next() >> 2) >> Int64(62 - bits)) / b[i]
        return whole * b[i] + Int64(numbers.below(3)) - 1
      }
      let y = Buffer<Int64>(n, repeating: 0)
      levels[level].div_i64_vv(n, a.base, b.base, y.base)
      #expect((0..<n).allSatisfy { y[$0] == a[$0] / b[$0] }, "\(levels[level].label) \(bits) bits")
    }
  }

  private typealias Transpose = @convention(c) (Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int) -> Void

  private func transposes<T: FixedWidthInteger & BitwiseCopyable>(_ label: String, _ kernel: Transpose, _: T.Type) {
    let sides = [0, 1, 2, 3, 7, 8, 9, 16, 17, 33, 70]
    for rows in sides {
      for columns in sides {
        // Rows apart from each other, dense, and all the same one.
        for (sourceLd, targetLd) in [(columns + 1, rows + 3), (columns, rows), (0, rows)] {
          let count = sourceLd == 0 ? columns : (rows - 1) * sourceLd + columns
          let source = Buffer<T>(max(0, count)) { T(truncatingIfNeeded: $0 &* 7 &+ 1) }
          let target = Buffer<T>(max(0, columns * targetLd), repeating: 99)
          kernel(rows, columns, source.base, sourceLd, target.base, targetLd)
          var wrong = 0
          for c in 0..<columns {
            for r in 0..<targetLd where target[c * targetLd + r] != (r < rows ? source[r * sourceLd + c] : 99) {
              wrong += 1
            }
          }
          #expect(wrong == 0, "\(label) \(rows)x\(columns) \(sourceLd) \(targetLd)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func transposes(level: Int) {
    let k = levels[level]
    transposes("\(k.label) 1", k.transpose_1, UInt8.self)
    transposes("\(k.label) 2", k.transpose_2, UInt16.self)
    transposes("\(k.label) 4", k.transpose_4, UInt32.self)
    transposes("\(k.label) 8", k.transpose_8, UInt64.self)
  }
}
