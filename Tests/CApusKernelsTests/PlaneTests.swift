// Copies of planes in phases, sums and maxima of taps, and phases put together, against plain loops.

import CApusKernels
import Testing

private struct Plane {
  var extents: [Int]
  var starts: [Int]
  var strides: [Int]
  var copied: [Int]

  func arguments(_ x: UnsafePointer<Float>) -> apus_plane_split_args {
    apus_plane_split_args(
      x: x, extents: (extents[0], extents[1], extents[2]), starts: (starts[0], starts[1], starts[2]),
      strides: (strides[0], strides[1], strides[2]), copied: (copied[0], copied[1], copied[2]), fill: -3)
  }

  var count: Int { (strides + copied).reduce(1, *) }

  /// The copy, phase by phase.
  func copy(_ x: Buffer<Float>) -> [Float] {
    var result: [Float] = []
    for phase in 0..<strides.reduce(1, *) {
      let remainders = [phase / strides[2] / strides[1], phase / strides[2] % strides[1], phase % strides[2]]
      for index in 0..<copied.reduce(1, *) {
        let place = [index / copied[2] / copied[1], index / copied[2] % copied[1], index % copied[2]]
        let at = (0..<3).map { starts[$0] + remainders[$0] + place[$0] * strides[$0] }
        let isInside = (0..<3).allSatisfy { at[$0] >= 0 && at[$0] < extents[$0] }
        result.append(isInside ? x[(at[0] * extents[1] + at[1]) * extents[2] + at[2]] : -3)
      }
    }
    return result
  }
}

@Suite struct PlaneTests {
  private static let planes = [
    Plane(extents: [1, 1, 1], starts: [0, 0, 0], strides: [1, 1, 1], copied: [1, 1, 1]),
    Plane(extents: [1, 5, 7], starts: [0, -1, -1], strides: [1, 1, 1], copied: [1, 7, 9]),
    Plane(extents: [1, 6, 53], starts: [0, -2, -3], strides: [1, 2, 2], copied: [1, 5, 30]),
    Plane(extents: [3, 4, 33], starts: [-1, 1, 2], strides: [2, 1, 3], copied: [3, 5, 14]),
    Plane(extents: [2, 3, 4], starts: [0, -1, 50], strides: [1, 1, 2], copied: [2, 3, 40]),
    Plane(extents: [1, 2, 19], starts: [0, 0, -40], strides: [1, 1, 1], copied: [1, 2, 70]),
    Plane(extents: [1, 3, 64], starts: [0, 0, 0], strides: [1, 1, 2], copied: [1, 3, 32]),
  ]

  @Test(arguments: levels.indices) func split(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(41)
    for (index, plane) in Self.planes.enumerated() {
      let x = numbers.floats(plane.extents.reduce(1, *))
      let y = Buffer<Float>(plane.count + Int(APUS_PLANE_SLACK), repeating: 777)
      for hasNaN in [false, true] {
        if hasNaN { x[x.count - 1] = .nan }
        var arguments = plane.arguments(x.pointer)
        let found = kernels.plane_split_f32(&arguments, y.base)
        let expected = plane.copy(x)
        #expect(same(Array(y.array.prefix(plane.count)), expected), "\(kernels.label) plane \(index)")
        #expect(found == expected.contains { $0.isNaN }, "\(kernels.label) plane \(index)")
      }
    }
  }

  @Test(arguments: levels.indices) func sums(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(42)
    for n in [1, 2, 15, 16, 17, 48, 100, 129, 260] {
      for outputs in [1, 2, 3, 4, 5, 6, 7, 8, 11, 13] {
        let offsets = Array([0, 3, 1, 40, 7].prefix(1 + n % 5))
        let x = numbers.floats(n + (offsets.max() ?? 0))
        let weights = numbers.floats(offsets.count * (outputs + 1))
        let bias = numbers.floats(outputs)
        let y = Buffer<Float>(outputs * (n + 2), repeating: 777)
        for bias in [nil, bias] {
          var arguments = apus_plane_sums_args(
            x: x.pointer, offsets: nil, taps: offsets.count, weights: weights.pointer, weights_ld: outputs + 1,
            outputs: outputs, bias: bias?.pointer, y: y.base, y_ld: n + 2)
          offsets.withUnsafeBufferPointer {
            arguments.offsets = $0.baseAddress
            kernels.plane_sums_f32(&arguments, n)
          }
          var worst = 0.0
          for o in 0..<outputs {
            for i in 0..<n {
              var sum = bias.map { Double($0[o]) } ?? 0
              for (t, offset) in offsets.enumerated() {
                sum += Double(x[offset + i]) * Double(weights[t * (outputs + 1) + o])
              }
              worst = max(worst, (sum - Double(y[o * (n + 2) + i])).magnitude)
            }
          }
          #expect(worst < 1e-5, "\(kernels.label) \(n) \(outputs)")
          let stray = (0..<outputs).filter { y[$0 * (n + 2) + n] != 777 || y[$0 * (n + 2) + n + 1] != 777 }
          #expect(stray.isEmpty, "\(kernels.label) \(n) \(outputs)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func maxima(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(43)
    for n in [1, 7, 16, 31, 64, 200, 300] {
      let offsets = Array([2, 0, 31, 5].prefix(1 + n % 4))
      let x = numbers.floats(n + (offsets.max() ?? 0))
      for hasNaN in [false, true] {
        if hasNaN { x[x.count / 2] = .nan }
        let y = Buffer<Float>(n, repeating: 777)
        kernels.plane_max_f32(x.pointer, offsets, offsets.count, hasNaN, n, y.base)
        let expected = (0..<n).map { i in
          offsets.map { x[$0 + i] }.reduce(-.infinity) { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }
        }
        #expect(same(y.array, expected), "\(kernels.label) \(n) \(hasNaN)")
      }
    }
  }

  @Test(arguments: levels.indices) func resample(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(45)
    for n in [1, 7, 16, 31, 64, 100] {
      for taps in 1...6 {
        for length in [1, 9, 33, 200] {
          let rows = 1 + n % 7
          let x = numbers.floats(rows * length)
          let weights = numbers.floats(n * taps)
          // Far apart, near each other, and nowhere.
          let positions = (0..<n * taps).map { index -> Int32 in
            let dice = Int(truncatingIfNeeded: numbers.next() % 1000)
            if dice % 9 == 0 { return -1 }
            return Int32(taps % 2 == 0 ? index % n * length / n : dice % length)
          }
          if length > 9 { x[4] = .infinity }
          let y = Buffer<Float>(rows * (n + 3) - 3, repeating: 777)
          positions.withUnsafeBufferPointer {
            guard let base = $0.baseAddress else { return }
            var arguments = apus_resample_args(
              x: x.pointer, x_ld: length, rows: rows, positions: base, weights: weights.pointer, taps: taps, n: n,
              y: y.base, y_ld: n + 3)
            kernels.resample_f32(&arguments)
          }
          var wrong = 0
          for row in 0..<rows {
            for i in 0..<n {
              var sum = 0.0
              for tap in 0..<taps where positions[tap * n + i] >= 0 {
                sum += Double(x[row * length + Int(positions[tap * n + i])]) * Double(weights[tap * n + i])
              }
              let got = Double(y[row * (n + 3) + i])
              wrong += sum.isFinite ? ((sum - got).magnitude < 1e-5 ? 0 : 1) : (got.isFinite ? 1 : 0)
            }
            if row + 1 < rows { wrong += (n..<n + 3).filter { y[row * (n + 3) + $0] != 777 }.count }
          }
          #expect(wrong == 0, "\(kernels.label) \(n) \(taps) \(length)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func join(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(44)
    for width in [1, 5, 16, 17, 40, 77] {
      for (phases, first) in [(1, 0), (1, 3), (2, 0), (2, 1), (3, 2), (5, 0)] {
        let pitch = (width + first) / phases + 2
        let x = numbers.floats(phases * 3 * 2 * pitch + Int(APUS_PLANE_SLACK))
        for gap in [0, 3] {
          let (row, slice) = (width + gap, 4 * (width + gap))
          let y = Buffer<Float>(slice + 3 * row - gap, repeating: 777)
          var expected = y.array
          for a in 0..<2 {
            for b in 0..<3 {
              for j in 0..<width {
                let from = (j + first) % phases * 6 * pitch + (a * 3 + b) * pitch + (j + first) / phases
                expected[a * slice + b * row + j] = x[from]
              }
            }
          }
          var arguments = apus_plane_join_args(
            x: x.pointer, ld: 6 * pitch, phases: phases, first: first, rows: (2, 3), x_rows: (3 * pitch, pitch),
            y_rows: (slice, row), width: width)
          kernels.plane_join_f32(&arguments, y.base)
          #expect(same(y.array, expected), "\(kernels.label) \(width) \(phases) \(first) \(gap)")
        }
      }
    }
  }
}
