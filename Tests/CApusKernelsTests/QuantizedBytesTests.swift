// Kernels on bytes that stand for floats, against their definitions number by number.

import CApusKernels
import Testing

@Suite struct QuantizedBytesTests {
  private func decode(_ byte: UInt8, _ code: apus_byte_code) -> Float {
    let number = code.is_signed ? Int32(Int8(bitPattern: byte)) : Int32(byte)
    return Float(number - code.zero) * code.scale
  }

  private func encode(_ value: Float, _ code: apus_byte_code) -> UInt8 {
    let (low, high): (Float, Float) = code.is_signed ? (-128, 127) : (0, 255)
    let number = (value / code.scale).rounded(.toNearestOrEven) + Float(code.zero)
    let bounded = number > low ? (number < high ? number : high) : low
    return UInt8(truncatingIfNeeded: Int(bounded))
  }

  @Test(arguments: levels.indices) func sumsAndProducts(level: Int) {
    let kernels = levels[level]
    let operations: [(apus_binary_bytes_fn_pointer, apus_binary_bytes_fn_pointer, (Float, Float) -> Float)] = [
      (kernels.add_bytes, kernels.add_bytes_vs, { $0 + $1 }), (kernels.mul_bytes, kernels.mul_bytes_vs, { $0 * $1 }),
    ]
    var numbers = Numbers(5)
    for n in [0, 1, 3, 15, 16, 17, 33, 64, 100] {
      for signs in 0..<8 {
        let codes = (0..<3).map { operand in
          let isSigned = signs >> operand & 1 == 1
          let zero = Int32(numbers.below(256)) - (isSigned ? 128 : 0)
          return apus_byte_code(scale: [0.05, 0.03, 0.0][operand] + 0.01, zero: zero, is_signed: isSigned)
        }
        let a = Buffer<UInt8>(n) { _ in UInt8(numbers.below(256)) }
        let b = Buffer<UInt8>(max(n, 1)) { _ in UInt8(numbers.below(256)) }
        for (both, single, operation) in operations {
          let y = Buffer<UInt8>(n, repeating: 7)
          both(n, a.base, b.base, y.base, codes)
          let expected = (0..<n).map { encode(operation(decode(a[$0], codes[0]), decode(b[$0], codes[1])), codes[2]) }
          #expect(y.array == expected, "\(kernels.label) \(n) \(signs)")
          single(n, a.base, b.base, y.base, codes)
          let one = (0..<n).map { encode(operation(decode(a[$0], codes[0]), decode(b[0], codes[1])), codes[2]) }
          #expect(y.array == one, "\(kernels.label) \(n) \(signs), one byte")
          // In place of an operand.
          let copy = Buffer<UInt8>(n) { a[$0] }
          both(n, copy.base, b.base, copy.base, codes)
          #expect(copy.array == expected)
        }
      }
    }
  }

  /// Sums that often lie just between two codes, and scales for which there is no good reciprocal.
  @Test(arguments: levels.indices) func sumsBetweenCodes(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(8)
    let tiny = Float.leastNormalMagnitude / 128
    let scales: [[Float]] = [
      [0.5, 0.25, 1], [0.1, 0.05, 0.1], [0.013, 0.4, 0.0001], [tiny, tiny, tiny], [3, 2, tiny / 8], [1e38, 1e38, 1],
      [0.05, 0x1.fep119, 0x1.fep119],
      [.nan, 1, 1], [1, 1, .infinity], [-0.5, 0.5, -1], [0, 1, 2],
    ]
    for scale in scales {
      for isSigned in [false, true] {
        for n in [63, 64, 259] {
          let zero = isSigned ? -3 : Int32(numbers.below(200))
          let codes = scale.map { apus_byte_code(scale: $0, zero: zero, is_signed: isSigned) }
          let a = Buffer<UInt8>(n) { _ in UInt8(numbers.below(256)) }
          let b = Buffer<UInt8>(n) { _ in UInt8(numbers.below(256)) }
          let y = Buffer<UInt8>(n, repeating: 7)
          kernels.add_bytes(n, a.base, b.base, y.base, codes)
          let expected = (0..<n).map { encode(decode(a[$0], codes[0]) + decode(b[$0], codes[1]), codes[2]) }
          #expect(y.array == expected, "\(kernels.label) \(scale) \(n)")
          kernels.add_bytes_vs(n, a.base, b.base, y.base, codes)
          let one = (0..<n).map { encode(decode(a[$0], codes[0]) + decode(b[0], codes[1]), codes[2]) }
          #expect(y.array == one, "\(kernels.label) \(scale) \(n), one byte")
        }
      }
    }
  }

  private typealias apus_binary_bytes_fn_pointer =
    @convention(c) (
      Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer, UnsafePointer<apus_byte_code>
    ) -> Void

  @Test(arguments: levels.indices) func maps(level: Int) {
    var numbers = Numbers(6)
    let table = Buffer<UInt8>(256) { UInt8(truncatingIfNeeded: $0 &* 91 &+ 17) }
    for n in [0, 1, 7, 8, 9, 63, 64, 65, 300] {
      let x = Buffer<UInt8>(n) { _ in UInt8(numbers.below(256)) }
      let y = Buffer<UInt8>(n, repeating: 0)
      levels[level].map_bytes(n, x.base, y.base, table.base)
      #expect(y.array == x.array.map { table[Int($0)] })
    }
  }

  @Test(arguments: levels.indices) func sums(level: Int) {
    var numbers = Numbers(9)
    let sizes = [(0, 5), (3, 0), (1, 1), (2, 3), (3, 15), (5, 16), (4, 17), (7, 64), (2, 65), (3, 200), (150, 37)]
    for (rows, n) in sizes {
      for isSigned in [false, true] {
        let ld = n + rows % 3
        let x = Buffer<UInt8>(max(0, (rows - 1) * ld + n)) { _ in
          numbers.below(3) == 0 ? 255 : UInt8(numbers.below(256))
        }
        func number(_ row: Int, _ column: Int) -> Int32 {
          isSigned ? Int32(Int8(bitPattern: x[row * ld + column])) : Int32(x[row * ld + column])
        }
        let byRow = Buffer<Int32>(rows, repeating: 7)
        levels[level].sum_byte_rows(rows, n, x.base, ld, isSigned, byRow.base)
        #expect(byRow.array == (0..<rows).map { r in (0..<n).reduce(0) { $0 + number(r, $1) } }, "\(rows)x\(n)")
        let byColumn = Buffer<Int32>(n, repeating: 7)
        levels[level].sum_byte_columns(rows, n, x.base, ld, isSigned, byColumn.base)
        #expect(byColumn.array == (0..<n).map { j in (0..<rows).reduce(0) { $0 + number($1, j) } }, "\(rows)x\(n)")
      }
    }
  }

  @Test(arguments: levels.indices) func depthwise(level: Int) {
    var numbers = Numbers(7)
    let lines = [
      Line(pixels: 13, lines: 3, kernel: 3, stride: 1, dilation: 1, pad: 1),
      Line(pixels: 12, lines: 5, kernel: 5, stride: 1, dilation: 1, pad: 2),
      Line(pixels: 6, lines: 5, kernel: 5, stride: 2, dilation: 1, pad: 2),
      Line(pixels: 7, lines: 3, kernel: 3, stride: 2, dilation: 1, pad: 1),
      Line(pixels: 12, lines: 3, kernel: 3, stride: 2, dilation: 1, pad: 6),
      Line(pixels: 9, lines: 1, kernel: 1, stride: 1, dilation: 1, pad: 0),
      Line(pixels: 11, lines: 2, kernel: 4, stride: 3, dilation: 2, pad: -1),
      Line(pixels: 3, lines: 16, kernel: 16, stride: 1, dilation: 3, pad: 20),
    ]
    for channels in [1, 3, 15, 16, 17, 40] {
      for line in lines {
        for form in 0..<6 { depthwise(levels[level], line, channels: channels, form: form, &numbers) }
      }
    }
  }

  private struct Line { let pixels, lines, kernel, stride, dilation, pad: Int }

  private func depthwise(_ kernels: Kernels, _ s: Line, channels: Int, form: Int, _ numbers: inout Numbers) {
    let (isSigned, isRequantized, yIsSigned) = (form % 2 == 1, form / 2 > 0, form / 2 == 2)
    let (width, taps) = (12, s.lines * s.kernel)
    let x = Buffer<UInt8>(s.lines * width * channels) { _ in
      numbers.below(3) == 0 ? 255 : UInt8(numbers.below(256))
    }
    let pad = Buffer<UInt8>(channels, repeating: 77)
    let absent = numbers.below(s.lines + 1)
    let lines = Buffer<UnsafeRawPointer?>(s.lines) {
      $0 == absent ? nil : UnsafeRawPointer(x.base + $0 * width * channels)
    }
    let weights = Buffer<Float>(taps * channels) { _ in Float(numbers.below(511) - 255) }
    let start = Buffer<Int32>(channels) { _ in Int32(truncatingIfNeeded: numbers.next() >> 20) }
    let scales = Buffer<Float>(channels) { _ in 1e-6 + numbers.float().magnitude * 1e-6 }
    let y = Buffer<UInt8>((s.pixels + 1) * channels * (isRequantized ? 1 : 4), repeating: 0x5a)
    var arguments = apus_depthwise_i8_args(
      lines: lines.base, line_count: s.lines, pad: pad.base, width: width, kernel: s.kernel, stride: s.stride,
      dilation: s.dilation, pad_left: s.pad, channels: channels, x_signed: isSigned, y_signed: yIsSigned,
      weights: weights.pointer, start: start.pointer, scales: isRequantized ? scales.pointer : nil, zero: 3, y: y.base)
    let half = numbers.below(s.pixels)
    kernels.depthwise_i8(&arguments, 0, half)
    kernels.depthwise_i8(&arguments, half, s.pixels)
    var wrong = 0
    for pixel in 0..<s.pixels {
      for channel in 0..<channels {
        var sum = start[channel]
        for tap in 0..<taps {
          let (line, column) = (tap / s.kernel, pixel * s.stride - s.pad + tap % s.kernel * s.dilation)
          let isOutside = line == absent || column < 0 || column >= width
          let byte = isOutside ? pad[channel] : x[(line * width + column) * channels + channel]
          sum &+= (isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)) &* Int32(weights[tap * channels + channel])
        }
        let at = pixel * channels + channel
        if isRequantized {
          let (low, high): (Float, Float) = yIsSigned ? (-128, 127) : (0, 255)
          let value = (Float(sum) * scales[channel]).rounded(.toNearestOrEven) + 3
          wrong += y[at] == UInt8(truncatingIfNeeded: Int(min(max(value, low), high))) ? 0 : 1
        } else {
          wrong += UnsafeRawPointer(y.base).load(fromByteOffset: 4 * at, as: Int32.self) == sum ? 0 : 1
        }
      }
    }
    let end = s.pixels * channels * (isRequantized ? 1 : 4)
    for index in end..<y.count { wrong += y[index] == 0x5a ? 0 : 1 }
    #expect(wrong == 0, "\(kernels.label) \(s), \(channels) channels, form \(form)")
  }
}
