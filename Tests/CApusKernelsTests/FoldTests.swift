// Folds, scans, places and keys of every element type against loops over single elements.

import CApusKernels
import Testing

private typealias Fold = @convention(c) (apus_fold, Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer) -> Void
private typealias Find =
  @convention(c) (Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Bool, UnsafeMutablePointer<Int64>) -> Void
private typealias Scan =
  @convention(c) (Bool, Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Bool, Bool) -> Void

private let sums = [APUS_FOLD_SUM, APUS_FOLD_SUM_SQUARES, APUS_FOLD_SUM_ABS, APUS_FOLD_PRODUCT]
private let extremes = [APUS_FOLD_MAX, APUS_FOLD_MIN]

@Suite struct FoldTests {
  private static let lengths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100, 128, 129, 257, 300]
  private static let counts = [1, 2, 3, 4, 5, 8, 17, 70, 131]

  // MARK: - Places

  @Test(arguments: levels.indices) func indexOffsets(level: Int) {
    let k = levels[level]
    var numbers = Numbers(44)
    for n in [0, 1, 7, 8, 9, 16, 33, 100] {
      for (extent, stride, first, step) in [(1, 4, 0, 0), (5, 12, 40, 4), (300, 8, -16, 8), (Int.max, 1, 0, 0)] {
        let indices = Buffer<Int>(n) { _ in numbers.below(min(extent, 1 << 30)) - (numbers.below(2) == 0 ? extent : 0) }
        let expected = (0..<n).map { i in
          (indices[i] < 0 ? indices[i] + extent : indices[i]) * stride + first + i * step
        }
        let offsets = Buffer<Int>(n, repeating: 77)
        #expect(k.index_offsets(n, indices.base, extent, stride, first, step, offsets.base))
        #expect(offsets.array == expected, "\(k.label) \(n) \(extent)")
        if n == 0 { continue }
        for wrong in [extent, extent == .max ? -.max - 1 : -extent - 1, .min, .max] where extent < .max || wrong < 0 {
          let place = numbers.below(n)
          let right = indices[place]
          indices[place] = wrong
          #expect(!k.index_offsets(n, indices.base, extent, stride, first, step, offsets.base), "\(k.label) \(wrong)")
          indices[place] = right
        }
        // In place.
        #expect(k.index_offsets(n, indices.base, extent, stride, first, step, indices.base))
        #expect(indices.array == expected)
      }
    }
  }

  // MARK: - Folds

  /// `expected` folds a list; rows stand two elements further apart than they are long.
  private func check<T: BitwiseCopyable>(
    _ label: String, _ rows: Fold, _ columns: Fold, _ folds: [apus_fold], _ element: (inout Numbers) -> T,
    _ agrees: (T, [T], apus_fold) -> Bool
  ) {
    var numbers = Numbers(41)
    for fold in folds {
      for length in Self.lengths {
        for count in Self.counts {
          let ld = length + 2
          let x = Buffer<T>(count * ld) { _ in element(&numbers) }
          let y = Buffer<T>(count) { _ in element(&numbers) }
          rows(fold, count, length, x.pointer, ld, y.base)
          for row in 0..<count {
            let line = (0..<length).map { x[row * ld + $0] }
            #expect(agrees(y[row], line, fold), "\(label) \(fold) row of \(length): \(y[row])")
          }
          let width = count + 1
          let z = Buffer<T>(max(length, 1) * width) { _ in element(&numbers) }
          columns(fold, length, count, z.pointer, width, y.base)
          for column in 0..<count {
            let line = (0..<length).map { z[$0 * width + column] }
            #expect(agrees(y[column], line, fold), "\(label) \(fold) column of \(length): \(y[column])")
          }
        }
      }
    }
  }

  private func floats<T: BinaryFloatingPoint & BitwiseCopyable>(
    _ label: String, _ rows: Fold, _ columns: Fold, _ type: T.Type, tolerance: Double
  ) {
    check(label, rows, columns, sums + extremes, { T($0.float()) }) { got, line, fold in
      let exact = line.map { Double($0) }
      let expected: Double =
        switch fold {
        case APUS_FOLD_SUM: exact.reduce(0, +)
        case APUS_FOLD_SUM_SQUARES: exact.reduce(0) { $0 + $1 * $1 }
        case APUS_FOLD_SUM_ABS: exact.reduce(0) { $0 + $1.magnitude }
        case APUS_FOLD_PRODUCT: exact.reduce(1, *)
        case APUS_FOLD_MAX: exact.max() ?? -.infinity
        default: exact.min() ?? .infinity
        }
      return Double(got) == expected || (Double(got) - expected).magnitude <= tolerance * max(1, expected.magnitude)
    }
    // NaN wins wherever it stands, of either sign, and infinities are numbers.
    for length in [1, 5, 8, 9, 17, 40, 130] {
      for place in 0..<length {
        for special in [T.nan, -T.nan, .infinity, -.infinity] {
          let x = Buffer<T>(3 * length) { $0 % length == place && $0 / length == 1 ? special : T($0 % 7) - 3 }
          let transposed = Buffer<T>(3 * length) { x[$0 % 3 * length + $0 / 3] }
          let y = Buffer<T>(3, repeating: 0)
          for fold in extremes {
            for (result, plain) in [(1, x.array[length..<2 * length]), (0, x.array[..<length])] {
              let sorted = plain.sorted()
              let expected = fold == APUS_FOLD_MAX ? sorted.last! : sorted.first!
              let isNaN = plain.contains(where: \.isNaN)
              rows(fold, 3, length, x.pointer, length, y.base)
              #expect(isNaN ? y[result].isNaN : y[result] == expected, "\(label) \(fold) \(special) at \(place)")
              columns(fold, length, 3, transposed.pointer, 3, y.base)
              #expect(isNaN ? y[result].isNaN : y[result] == expected, "\(label) \(fold) \(special) at \(place)")
            }
          }
        }
      }
    }
  }

  private func integers<T: FixedWidthInteger & BitwiseCopyable>(
    _ label: String, _ rows: Fold, _ columns: Fold, _ type: T.Type, _ folds: [apus_fold] = sums + extremes
  ) {
    check(label, rows, columns, folds, { T(truncatingIfNeeded: $0.next() >> 5) }) { got, line, fold in
      switch fold {
      case APUS_FOLD_SUM: got == line.reduce(0, &+)
      case APUS_FOLD_SUM_SQUARES: got == line.reduce(0) { $0 &+ $1 &* $1 }
      case APUS_FOLD_SUM_ABS: got == line.reduce(0) { $0 &+ ($1 < 0 ? 0 &- $1 : $1) }
      case APUS_FOLD_PRODUCT: got == line.reduce(1, &*)
      case APUS_FOLD_MAX: got == line.max() ?? .min
      default: got == line.min() ?? .max
      }
    }
  }

  @Test(arguments: levels.indices) func foldsOfFloats(level: Int) {
    let k = levels[level]
    floats("\(k.label) f32", k.fold_rows_f32, k.fold_columns_f32, Float.self, tolerance: 1e-5)
    floats("\(k.label) f64", k.fold_rows_f64, k.fold_columns_f64, Double.self, tolerance: 1e-13)
  }

  @Test(arguments: levels.indices) func foldsOfIntegers(level: Int) {
    let k = levels[level]
    integers("\(k.label) i32", k.fold_rows_i32, k.fold_columns_i32, Int32.self)
    integers("\(k.label) u32", k.fold_rows_u32, k.fold_columns_u32, UInt32.self)
    integers("\(k.label) i64", k.fold_rows_i64, k.fold_columns_i64, Int64.self)
    integers("\(k.label) u64", k.fold_rows_u64, k.fold_columns_u64, UInt64.self)
    integers("\(k.label) s8", k.fold_rows_s8, k.fold_columns_s8, Int8.self, extremes)
    integers("\(k.label) u8", k.fold_rows_u8, k.fold_columns_u8, UInt8.self, extremes)
  }

  /// A line has the same bits whatever others are folded beside it.
  @Test(arguments: levels.indices) func neighboursDoNotMatter(level: Int) {
    let k = levels[level]
    var numbers = Numbers(42)
    for length in Self.lengths where length > 0 {
      let count = 131
      let x = numbers.floats(count * length)
      let (all, one) = (Buffer<Float>(count, repeating: 0), Buffer<Float>(1, repeating: 0))
      for fold in sums {
        k.fold_rows_f32(fold, count, length, x.pointer, length, all.base)
        for row in 0..<count {
          k.fold_rows_f32(fold, 1, length, x.pointer + row * length, length, one.base)
          #expect(same(one[0], all[row]), "\(k.label) \(fold) row \(row) of \(length)")
        }
        k.fold_columns_f32(fold, length, count, x.pointer, count, all.base)
        for column in 0..<count {
          k.fold_columns_f32(fold, length, 1, x.pointer + column, count, one.base)
          #expect(same(one[0], all[column]), "\(k.label) \(fold) column \(column) of \(length)")
        }
      }
    }
  }

  // MARK: - Scans

  private func scans<T: BitwiseCopyable & Equatable>(
    _ label: String, _ rows: Scan, _ columns: Scan, _ element: (inout Numbers) -> T, sum: (T, T) -> T,
    product: (T, T) -> T, zero: T, one: T
  ) {
    var numbers = Numbers(43)
    for (count, length) in [(1, 1), (3, 17), (8, 5), (9, 40), (70, 3), (17, 130)] {
      for mode in 0..<8 {
        let (isProduct, exclusive, reverse) = (mode & 1 != 0, mode & 2 != 0, mode & 4 != 0)
        let x = Buffer<T>(count * length) { _ in element(&numbers) }
        let y = Buffer<T>(count * length) { _ in zero }
        func expect(_ place: (Int, Int) -> Int, _ got: Buffer<T>) {
          for line in 0..<count {
            var total = isProduct ? one : zero
            for k in 0..<length {
              let at = place(line, reverse ? length - 1 - k : k)
              let before = total
              total = k == 0 ? x[at] : isProduct ? product(total, x[at]) : sum(total, x[at])
              #expect(got[at] == (exclusive ? before : total), "\(label) \(mode) \(count) x \(length)")
            }
          }
        }
        rows(isProduct, count, length, x.pointer, length, y.base, exclusive, reverse)
        expect({ $0 * length + $1 }, y)
        columns(isProduct, length, count, x.pointer, count, y.base, exclusive, reverse)
        expect({ $1 * count + $0 }, y)
        if exclusive { continue }
        let z = Buffer<T>(count * length) { x[$0] }
        columns(isProduct, length, count, z.pointer, count, z.base, exclusive, reverse)
        #expect(z.array == y.array, "\(label): in place")
      }
    }
  }

  @Test(arguments: levels.indices) func scans(level: Int) {
    let k = levels[level]
    scans(
      "\(k.label) f32", k.scan_rows_f32, k.scan_columns_f32, { $0.float() }, sum: +, product: *, zero: 0, one: 1)
    scans(
      "\(k.label) f64", k.scan_rows_f64, k.scan_columns_f64, { Double($0.float()) }, sum: +, product: *, zero: 0, one: 1
    )
    scans(
      "\(k.label) i32", k.scan_rows_i32, k.scan_columns_i32, { Int32(truncatingIfNeeded: $0.next()) }, sum: &+,
      product: &*, zero: 0, one: 1)
    scans(
      "\(k.label) i64", k.scan_rows_i64, k.scan_columns_i64, { Int64(truncatingIfNeeded: $0.next()) }, sum: &+,
      product: &*, zero: 0, one: 1)
  }

  // MARK: - Places

  private func places<T: BitwiseCopyable & Equatable>(
    _ label: String, _ rows: Find, _ columns: Find, _ element: (Int) -> T
  ) {
    var numbers = Numbers(44)
    for length in Self.lengths where length > 0 {
      for last in [false, true] {
        let count = 5
        let x = Buffer<T>(count * length) { _ in element(numbers.below(4)) }
        let values = Buffer<T>(count) { $0 == 4 ? element(9) : x[$0 * length + numbers.below(length)] }
        let got = Buffer<Int64>(count, repeating: 7)
        rows(count, length, x.pointer, length, values.pointer, last, got.base)
        for row in 0..<count {
          let hits = (0..<length).filter { x[row * length + $0] == values[row] }
          #expect(got[row] == Int64((last ? hits.last : hits.first) ?? -1), "\(label) row of \(length)")
        }
        let transposed = Buffer<T>(count * length) { x[$0 % count * length + $0 / count] }
        let other = Buffer<Int64>(count, repeating: 7)
        columns(length, count, transposed.pointer, count, values.pointer, last, other.base)
        #expect(other.array == got.array, "\(label) columns of \(length)")
      }
    }
  }

  @Test(arguments: levels.indices) func places(level: Int) {
    let k = levels[level]
    places("\(k.label) f32", k.find_rows_f32, k.find_columns_f32) { Float($0) }
    places("\(k.label) f64", k.find_rows_f64, k.find_columns_f64) { Double($0) }
    places("\(k.label) i8", k.find_rows_i8, k.find_columns_i8) { UInt8($0) }
    places("\(k.label) i32", k.find_rows_i32, k.find_columns_i32) { Int32($0) - 2 }
    places("\(k.label) i64", k.find_rows_i64, k.find_columns_i64) { Int64($0) - 2 }
    // NaN stands for every value.
    let x = Buffer<Float>(40) { $0 == 23 ? .nan : Float($0) }
    let (values, got) = (Buffer<Float>(1, repeating: .nan), Buffer<Int64>(1, repeating: 0))
    k.find_rows_f32(1, 40, x.pointer, 40, values.pointer, false, got.base)
    #expect(got[0] == 23)
    k.find_columns_f32(40, 1, x.pointer, 1, values.pointer, true, got.base)
    #expect(got[0] == 23)
  }

  // MARK: - Keys

  private func keys<T: BitwiseCopyable>(
    _ label: String, _ function: @convention(c) (Int, UnsafeRawPointer, UnsafeMutablePointer<UInt64>) -> Void,
    _ ascending: [T]
  ) {
    for n in 0...40 {
      let x = Buffer<T>(n) { ascending[$0 % ascending.count] }
      let got = Buffer<UInt64>(n, repeating: 0)
      function(n, x.pointer, got.base)
      for i in 1..<max(n, 1) where i % ascending.count > 0 { #expect(got[i] > got[i - 1], "\(label) \(i)") }
      for i in ascending.count..<max(n, ascending.count) {
        #expect(got[i] == got[i - ascending.count], "\(label) \(i)")
      }
    }
  }

  @Test(arguments: levels.indices) func keys(level: Int) {
    let k = levels[level]
    keys("u8", k.sort_keys_u8, [0, 1, 127, 128, 255] as [UInt8])
    keys("u16", k.sort_keys_u16, [0, 1, 0x7fff, 0x8000, 0xffff] as [UInt16])
    keys("u32", k.sort_keys_u32, [0, 1, .max / 2, .max] as [UInt32])
    keys("u64", k.sort_keys_u64, [0, 1, .max / 2, .max] as [UInt64])
    keys("s8", k.sort_keys_s8, [.min, -1, 0, 1, .max] as [Int8])
    keys("i16", k.sort_keys_i16, [.min, -1, 0, 1, .max] as [Int16])
    keys("i32", k.sort_keys_i32, [.min, -1, 0, 1, .max] as [Int32])
    keys("i64", k.sort_keys_i64, [.min, -1, 0, 1, .max] as [Int64])
    keys("bool", k.sort_keys_bool, [0, 1] as [UInt8])
    keys("f16", k.sort_keys_f16, [0xfc00, 0xbc00, 0x8001, 0, 1, 0x3c00, 0x7c00, 0x7e00] as [UInt16])
    keys("bf16", k.sort_keys_bf16, [0xff80, 0xbf80, 0x8001, 0, 1, 0x3f80, 0x7f80, 0x7fc0] as [UInt16])
    keys(
      "f32", k.sort_keys_f32,
      [-.infinity, -1, -.leastNonzeroMagnitude, 0, .leastNonzeroMagnitude, 1, .infinity, .nan] as [Float])
    keys("f64", k.sort_keys_f64, [-.infinity, -1, -.leastNonzeroMagnitude, 0, 1e-310, 1, .infinity, .nan] as [Double])
    let x = Buffer<Float>(18) { [0, -0.0, .nan, -Float.nan][$0 % 4] }
    let got = Buffer<UInt64>(18, repeating: 0)
    k.sort_keys_f32(18, x.pointer, got.base)
    for i in 0..<18 { #expect(got[i] == (i % 4 < 2 ? 1 << 31 : .max), "\(k.label) \(i)") }
    let flags = Buffer<UInt8>(20) { UInt8($0) }
    let truths = Buffer<UInt64>(20, repeating: 9)
    k.sort_keys_bool(20, flags.pointer, truths.base)
    #expect(truths.array == [0] + Array(repeating: 1, count: 19))
  }

  @Test(arguments: levels.indices) func keysBelow(level: Int) {
    let k = levels[level]
    var numbers = Numbers(45)
    for n in 0...70 {
      let x = Buffer<UInt64>(n) { _ in (numbers.next() % 8) << 61 }
      let places = Buffer<UInt32>(n, repeating: 0)
      for bound in [0, 3 << 61, 1 << 63, UInt64.max] {
        let found = k.keys_below(n, x.pointer, bound, places.base)
        #expect(places.array[..<found].map(Int.init) == (0..<n).filter { x[$0] < bound }, "\(k.label) \(n) \(bound)")
      }
    }
  }
}
