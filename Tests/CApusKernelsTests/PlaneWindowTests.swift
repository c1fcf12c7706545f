// Windows over planes as columns of a matrix, depthwise sums and pools of whole windows, against plain loops.

import CApusKernels
import Testing

private struct Windows {
  var extents: [Int]
  var outputs: [Int]
  var kernel: [Int]
  var strides = [1, 1, 1]
  var dilations = [1, 1, 1]
  var pads = [0, 0, 0]

  func triple(_ numbers: [Int]) -> (Int, Int, Int) { (numbers[0], numbers[1], numbers[2]) }

  func arguments(_ x: UnsafePointer<Float>, channels: Int) -> apus_plane_columns_args {
    apus_plane_columns_args(
      x: x, x_plane: extents.reduce(1, *), channels: channels, extents: triple(extents), outputs: triple(outputs),
      kernel: triple(kernel), strides: triple(strides), dilations: triple(dilations), pads: triple(pads))
  }

  /// Where tap `tap` of output `output` lies in a plane; nil outside.
  func place(_ output: Int, _ tap: Int) -> Int? {
    let (o, t) = (split(output, outputs), split(tap, kernel))
    let at = (0..<3).map { o[$0] * strides[$0] + t[$0] * dilations[$0] - pads[$0] }
    guard (0..<3).allSatisfy({ at[$0] >= 0 && at[$0] < extents[$0] }) else { return nil }
    return (at[0] * extents[1] + at[1]) * extents[2] + at[2]
  }

  private func split(_ index: Int, _ extents: [Int]) -> [Int] {
    [index / extents[2] / extents[1], index / extents[2] % extents[1], index % extents[2]]
  }
}

@Suite struct PlaneWindowTests {
  private static let windows = [
    Windows(extents: [1, 1, 100], outputs: [1, 1, 100], kernel: [1, 1, 1]),
    Windows(extents: [1, 5, 7], outputs: [1, 5, 7], kernel: [1, 3, 3], pads: [0, 1, 1]),
    Windows(extents: [1, 9, 40], outputs: [1, 9, 40], kernel: [1, 3, 5], dilations: [1, 2, 2], pads: [0, 2, 4]),
    Windows(extents: [1, 11, 70], outputs: [1, 6, 35], kernel: [1, 3, 3], strides: [1, 2, 2], pads: [0, 1, 1]),
    Windows(extents: [1, 9, 70], outputs: [1, 3, 17], kernel: [1, 3, 4], strides: [1, 3, 4]),
    Windows(extents: [4, 3, 5], outputs: [3, 4, 6], kernel: [2, 2, 2], pads: [0, 1, 1]),
    Windows(extents: [1, 3, 2], outputs: [1, 40, 1], kernel: [1, 2, 2], pads: [0, 20, 0]),
    Windows(extents: [1, 2, 3], outputs: [1, 4, 50], kernel: [1, 1, 1], pads: [0, 1, 30]),
    Windows(extents: [1, 2, 60], outputs: [1, 2, 20], kernel: [1, 1, 1], pads: [0, 0, -30]),
  ]

  @Test(arguments: levels.indices) func columns(level: Int) {
    let kernels = levels[level]
    let nr = kernels.gemm_f32_nr
    var numbers = Numbers(61)
    for (index, windows) in Self.windows.enumerated() {
      let (area, total) = (windows.extents.reduce(1, *), windows.outputs.reduce(1, *))
      for channels in [1, 3] {
        let x = numbers.floats(area * channels)
        let rows = windows.kernel.reduce(1, *) * channels
        for range in [0..<total, 0..<1, total / 3..<total, total / 2..<min(total, total / 2 + nr + 1)] {
          let panels = (range.count + nr - 1) / nr
          let y = Buffer<Float>(panels * rows * nr + Int(APUS_PLANE_SLACK), repeating: 777)
          var arguments = windows.arguments(x.pointer, channels: channels)
          kernels.plane_columns_f32(&arguments, range.lowerBound, range.count, nr, y.base)
          let expected = (0..<panels * rows * nr).map { position -> Float in
            let (panel, row, column) = (position / (rows * nr), position / nr % rows, position % nr)
            let output = range.lowerBound + panel * nr + column
            guard output < range.upperBound, let place = windows.place(output, row / channels) else { return 0 }
            return x[row % channels * area + place]
          }
          #expect(Array(y.array.prefix(expected.count)) == expected, "\(kernels.label) \(index) \(channels) \(range)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func depthwise(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(62)
    for (height, width, kernel, pads) in [
      (7, 7, (3, 3), (1, 1)), (5, 40, (5, 5), (2, 2)), (9, 56, (7, 7), (3, 3)), (3, 70, (3, 16), (1, 7)),
      (2, 3, (7, 1), (3, 0)), (12, 17, (3, 4), (0, 0)), (6, 90, (5, 3), (4, -2)), (7, 7, (5, 5), (2, 2)),
      (5, 5, (3, 3), (1, 1)), (8, 9, (3, 3), (1, -3)), (2, 30, (3, 3), (1, -13)), (40, 1, (3, 1), (1, 0)),
    ] {
      for (planes, outside) in [(1, 0), (5, 1), (20, 0)] {
        let (outHeight, outWidth) = (height + 2 * pads.0 - kernel.0 + 1, width + 2 * pads.1 - kernel.1 + 1 + outside)
        let taps = kernel.0 * kernel.1
        let x = numbers.floats(planes * height * width)
        let (weights, bias) = (numbers.floats(planes * taps), numbers.floats(planes))
        for (rows, bias) in [(0..<outHeight, bias), (outHeight / 2..<outHeight, nil), (0..<1, bias)] {
          let y = Buffer<Float>(planes * outHeight * outWidth, repeating: 777)
          let scratch = Buffer<Float>(
            apus_plane_depthwise_scratch(outWidth, kernel.0, kernel.1, rows.count), repeating: .nan)
          var arguments = apus_plane_depthwise_args(
            x: x.pointer, in_h: height, in_w: width, pad_top: pads.0, pad_left: pads.1, kernel_h: kernel.0,
            kernel_w: kernel.1, weights: weights.pointer, bias: bias?.pointer, y: y.base, out_h: outHeight,
            out_w: outWidth)
          kernels.plane_depthwise_f32(&arguments, planes, rows.lowerBound, rows.upperBound, scratch.base)
          var worst = 0.0
          for position in 0..<y.count {
            let (plane, i, j) = (position / outWidth / outHeight, position / outWidth % outHeight, position % outWidth)
            var sum = bias.map { Double($0[plane]) } ?? 0
            for tap in 0..<taps {
              let (row, column) = (i - pads.0 + tap / kernel.1, j - pads.1 + tap % kernel.1)
              guard (0..<height).contains(row), (0..<width).contains(column) else { continue }
              sum += Double(x[(plane * height + row) * width + column]) * Double(weights[plane * taps + tap])
            }
            worst = max(worst, ((rows.contains(i) ? sum : 777) - Double(y[position])).magnitude)
          }
          #expect(worst < 1e-5, "\(kernels.label) \(height)x\(width) \(kernel) \(planes)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func pools(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(63)
    for windows in [
      Windows(extents: [1, 14, 14], outputs: [1, 7, 7], kernel: [1, 2, 2], strides: [1, 2, 2]),
      Windows(extents: [1, 5, 67], outputs: [1, 2, 33], kernel: [1, 3, 2], strides: [1, 2, 2]),
      Windows(extents: [4, 4, 9], outputs: [2, 2, 8], kernel: [2, 2, 2], strides: [2, 2, 1]),
      Windows(extents: [1, 1, 50], outputs: [1, 1, 48], kernel: [1, 1, 3]),
      Windows(extents: [1, 3, 1], outputs: [1, 3, 1], kernel: [1, 1, 1], strides: [1, 1, 2]),
    ] {
      let (area, count) = (windows.extents.reduce(1, *), windows.outputs.reduce(1, *))
      for planes in [1, 2, 9] {
        let x = numbers.floats(area * planes)
        for (hasNaN, average) in [(false, false), (true, false), (false, true)] {
          if hasNaN { x[area / 2] = .nan }
          let y = Buffer<Float>(count * planes, repeating: 777)
          var arguments = apus_plane_pool_args(
            x: x.pointer, y: y.base, extents: windows.triple(windows.extents), outputs: windows.triple(windows.outputs),
            kernel: windows.triple(windows.kernel), strides: windows.triple(windows.strides))
          kernels.plane_pool_f32(&arguments, average, planes)
          let expected = (0..<count * planes).map { position -> Float in
            let seen = (0..<windows.kernel.reduce(1, *)).map { tap in
              x[position / count * area + (windows.place(position % count, tap) ?? 0)]
            }
            if average { return seen.reduce(0, +) / Float(seen.count) }
            return seen.reduce(-.infinity) { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }
          }
          #expect(same(y.array, expected), "\(kernels.label) \(windows.extents) \(planes) \(average)")
          x[area / 2] = 1
        }
      }
    }
  }
}
