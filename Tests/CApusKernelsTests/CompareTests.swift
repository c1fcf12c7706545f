// Comparisons, tests of bits, selection and the layout of broadcast operands against plain Swift.

import CApusKernels
import Testing

@Suite struct CompareTests {
  private typealias Compare =
    @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutablePointer<UInt8>, apus_operands) -> Void
  private static let lengths = [0, 1, 2, 7, 8, 15, 16, 17, 33, 63, 64, 65, 130, 259]

  private func check<T: BitwiseCopyable>(
    _ label: String, _ kernel: Compare, _ make: () -> T, _ expected: (T, T) -> Bool
  ) {
    for n in Self.lengths {
      for operands in [APUS_BOTH_MOVE, APUS_ONE_A, APUS_ONE_B] {
        let a = Buffer<T>(operands == APUS_ONE_A ? min(n, 1) : n) { _ in make() }
        let b = Buffer<T>(operands == APUS_ONE_B ? min(n, 1) : n) { $0 % 3 == 0 ? a[$0 % a.count] : make() }
        let y = Buffer<UInt8>(n, repeating: 9)
        kernel(n, a.base, b.base, y.base, operands)
        let right = (0..<n).allSatisfy { y[$0] == (expected(a[$0 % a.count], b[$0 % b.count]) ? 1 : 0) }
        #expect(right, "\(label) \(n) \(operands)")
      }
    }
  }

  private func order<T: BitwiseCopyable & Comparable>(
    _ label: String, _ less: Compare, _ lessOrEqual: Compare, _ equal: Compare?, _ make: () -> T
  ) {
    check("\(label) lt", less, make, <)
    check("\(label) le", lessOrEqual, make, <=)
    if let equal { check("\(label) eq", equal, make, ==) }
  }

  @Test(arguments: levels.indices) func floats(level: Int) {
    let k = levels[level]
    var numbers = Numbers(41)
    let special: [Float] = [.nan, .infinity, -.infinity, 0, -0.0, .leastNonzeroMagnitude]
    let single = { numbers.below(3) == 0 ? special[numbers.below(6)] : (numbers.float() * 4).rounded() }
    order("\(k.label) f32", k.lt_f32, k.le_f32, k.eq_f32, single)
    order("\(k.label) f64", k.lt_f64, k.le_f64, k.eq_f64) { Double(single()) }
    order("\(k.label) f16", k.lt_f16, k.le_f16, k.eq_f16) { Float16(single()) }
    // bfloat16 compares as the float32 of which it is the upper half.
    let wide = { (x: UInt16) in Float(bitPattern: UInt32(x) << 16) }
    let brain = { () -> UInt16 in
      numbers.below(4) == 0 ? UInt16(truncatingIfNeeded: numbers.next()) : UInt16(single().bitPattern >> 16)
    }
    check("\(k.label) bf16 lt", k.lt_bf16, brain) { wide($0) < wide($1) }
    check("\(k.label) bf16 le", k.le_bf16, brain) { wide($0) <= wide($1) }
    check("\(k.label) bf16 eq", k.eq_bf16, brain) { wide($0) == wide($1) }
  }

  @Test(arguments: levels.indices) func integers(level: Int) {
    let k = levels[level]
    var numbers = Numbers(42)
    func draw<T: FixedWidthInteger>() -> T { T(truncatingIfNeeded: numbers.next()) }
    order("\(k.label) i8", k.lt_i8, k.le_i8, k.eq_i8) { draw() as Int8 }
    order("\(k.label) i16", k.lt_i16, k.le_i16, k.eq_i16) { draw() as Int16 }
    order("\(k.label) i32", k.lt_i32, k.le_i32, k.eq_i32) { draw() as Int32 }
    order("\(k.label) i64", k.lt_i64, k.le_i64, k.eq_i64) { draw() as Int64 }
    order("\(k.label) u8", k.lt_u8, k.le_u8, nil) { draw() as UInt8 }
    order("\(k.label) u16", k.lt_u16, k.le_u16, nil) { draw() as UInt16 }
    order("\(k.label) u32", k.lt_u32, k.le_u32, nil) { draw() as UInt32 }
    order("\(k.label) u64", k.lt_u64, k.le_u64, nil) { draw() as UInt64 }
    let truth = { UInt8(numbers.below(3)) }
    check("\(k.label) and", k.and_bool, truth) { $0 != 0 && $1 != 0 }
    check("\(k.label) or", k.or_bool, truth) { $0 != 0 || $1 != 0 }
    check("\(k.label) xor", k.xor_bool, truth) { ($0 != 0) != ($1 != 0) }
    check("\(k.label) eq", k.eq_bool, truth) { ($0 != 0) == ($1 != 0) }
  }

  private typealias InRange =
    @convention(c) (
      Int, UnsafeRawPointer, UnsafeMutablePointer<UInt8>, UInt64, UInt64, UInt64
    ) -> Void
  private typealias Select =
    @convention(c) (
      Int, UnsafePointer<UInt8>, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer
    ) -> Void
  private typealias Expand = @convention(c) (Int, Int, UnsafeRawPointer, Int, Int32, UnsafeMutableRawPointer) -> Void

  private func width<T: FixedWidthInteger & UnsignedInteger & BitwiseCopyable>(
    _ label: String, _ inRange: InRange, _ select: Select, _ expand: Expand, _: T.Type
  ) {
    var numbers = Numbers(43)
    for n in Self.lengths {
      let a = Buffer<T>(n) { _ in T(truncatingIfNeeded: numbers.next()) }
      let b = Buffer<T>(n) { _ in T(truncatingIfNeeded: numbers.next()) }
      let (mask, low, span) = (T.max >> 1, T.max / 3, T.max / 4)
      let found = Buffer<UInt8>(n, repeating: 9)
      inRange(n, a.base, found.base, UInt64(mask), UInt64(low), UInt64(span))
      #expect((0..<n).allSatisfy { found[$0] == ((a[$0] & mask) &- low <= span ? 1 : 0) }, "\(label) range \(n)")
      let condition = Buffer<UInt8>(n) { UInt8($0 % 3) }
      let y = Buffer<T>(n, repeating: 0)
      select(n, condition.pointer, a.base, b.base, y.base)
      let expected = (0..<n).map { $0 % 3 != 0 ? a[$0] : b[$0] }
      #expect(y.array == expected, "\(label) select \(n)")
      select(n, condition.pointer, a.base, b.base, a.base)
      #expect(a.array == expected, "\(label) select \(n) in place")
    }
    for (rows, length) in [(0, 5), (1, 1), (3, 1), (5, 2), (2, 17), (4, 70), (3, 130)] {
      for stride in [0, 1, length + 3] {
        for moves in [0, 1] {
          let x = Buffer<T>(max(rows - 1, 0) * stride + (moves == 1 ? length : 1)) { T(truncatingIfNeeded: $0 * 7 + 1) }
          let slack = 64 / (T.bitWidth / 8)
          let y = Buffer<T>(rows * length + slack, repeating: 0)
          expand(rows, length, x.base, stride, Int32(moves), y.base)
          let right = (0..<rows * length).allSatisfy { y[$0] == x[$0 / length * stride + $0 % length * moves] }
          #expect(right, "\(label) \(rows) rows of \(length), \(stride) apart, \(moves)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func widths(level: Int) {
    let k = levels[level]
    width("\(k.label) 1", k.in_range_1, k.select_1, k.expand_1, UInt8.self)
    width("\(k.label) 2", k.in_range_2, k.select_2, k.expand_2, UInt16.self)
    width("\(k.label) 4", k.in_range_4, k.select_4, k.expand_4, UInt32.self)
    width("\(k.label) 8", k.in_range_8, k.select_8, k.expand_8, UInt64.self)
  }
}
