// Depthwise convolution and pooling against loops in double precision, over odd geometries, and split against whole.

import CApusKernels
import Testing

private struct Geometry {
  var h, w, c, kernel: Int
  var kernelW: Int? = nil
  var stride = 1, dilation = 1, pad = 0, padEnd = 0, extra = 0

  var kw: Int { kernelW ?? kernel }
  func out(_ size: Int, _ k: Int) -> Int {
    let room = size + pad + padEnd - (k - 1) * dilation - 1
    return room < 0 ? 0 : room / stride + 1
  }
  var outH: Int { out(h, kernel) + extra }
  var outW: Int { out(w, kw) + extra }

  func window(_ input: Buffer<Float>, _ output: Buffer<Float>) -> apus_window_f32 {
    apus_window_f32(
      input: input.base, output: output.base, in_row: w * (c + 1), in_pixel: c + 1, out_row: outW * (c + 2),
      out_pixel: c + 2, in_h: h, in_w: w, out_w: outW, kernel_h: kernel, kernel_w: kw, stride_h: stride,
      stride_w: stride, dilation_h: dilation, dilation_w: dilation, pad_top: pad, pad_left: pad, pad_bottom: padEnd,
      pad_right: padEnd)
  }

  /// The taps of window (y, x): index, offset of the pixel or nil in the padding; none beyond the padding.
  func taps(_ y: Int, _ x: Int) -> [(index: Int, offset: Int?)] {
    var found: [(Int, Int?)] = []
    for i in 0..<kernel {
      for j in 0..<kw {
        let iy = y * stride - pad + i * dilation
        let ix = x * stride - pad + j * dilation
        if iy >= h + padEnd || ix >= w + padEnd { continue }
        let inside = iy >= 0 && iy < h && ix >= 0 && ix < w
        found.append((i * kw + j, inside ? (iy * w + ix) * (c + 1) : nil))
      }
    }
    return found
  }
}

private let geometries = [
  Geometry(h: 7, w: 9, c: 16, kernel: 3, pad: 1, padEnd: 1),
  Geometry(h: 14, w: 23, c: 33, kernel: 3, stride: 2, pad: 1, padEnd: 1),
  Geometry(h: 9, w: 17, c: 7, kernel: 5, pad: 2, padEnd: 2),
  Geometry(h: 12, w: 19, c: 40, kernel: 5, stride: 2, pad: 2, padEnd: 1),
  Geometry(h: 8, w: 12, c: 5, kernel: 7, pad: 3, padEnd: 3),
  Geometry(h: 10, w: 11, c: 20, kernel: 3, dilation: 2, pad: 2, padEnd: 2),
  Geometry(h: 3, w: 3, c: 17, kernel: 5, pad: 2, padEnd: 2), Geometry(h: 1, w: 1, c: 1, kernel: 1),
  Geometry(h: 6, w: 15, c: 9, kernel: 2, kernelW: 4, stride: 3),
  Geometry(h: 4, w: 4, c: 8, kernel: 3, pad: 3, padEnd: 3),
  Geometry(h: 5, w: 6, c: 12, kernel: 2, stride: 2, extra: 1),
  Geometry(h: 2, w: 30, c: 31, kernel: 1, kernelW: 3, padEnd: 1),
]

@Suite struct WindowTests {
  private func image(_ g: Geometry, _ numbers: inout Numbers) -> Buffer<Float> {
    numbers.floats(g.h * g.w * (g.c + 1) - 1)
  }
  private func output(_ g: Geometry) -> Buffer<Float> { Buffer(g.outH * g.outW * (g.c + 2), repeating: 777) }

  /// Calls with every cut of rows and channels in turn.
  private func cut(_ g: Geometry, _ body: (Int, Int, Int, Int) -> Void) {
    for y in 0..<g.outH {
      for (c0, c1) in [(0, g.c / 3), (g.c / 3, g.c)] { body(y, y + 1, c0, c1) }
    }
  }

  @Test(arguments: levels.indices) func depthwise(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(11)
    for (index, g) in geometries.enumerated() where g.extra == 0 {
      let input = image(g, &numbers)
      let result = output(g)
      let parts = output(g)
      let fused = output(g)
      let weights = numbers.floats(g.kernel * g.kw * g.c)
      let bias = numbers.floats(g.c)
      let add = numbers.floats(g.outH * g.outW * g.c)
      var arguments = apus_depthwise_f32_args(
        window: g.window(input, result), weights: weights.pointer, weights_ld: g.c,
        epilogue: apus_epilogue_f32(
          bias: bias.pointer, add: add.pointer, add_ld: g.c, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
      kernels.depthwise_f32(&arguments, 0, g.outH, 0, g.c)
      var worst = 0.0
      var stray = 0
      for y in 0..<g.outH {
        for x in 0..<g.outW {
          let pixel = y * g.outW + x
          for c in 0..<g.c {
            var sum = Double(bias[c]) + Double(add[pixel * g.c + c])
            for case (let tap, let offset?) in g.taps(y, x) {
              sum += Double(input[offset + c]) * Double(weights[tap * g.c + c])
            }
            worst = max(worst, (sum - Double(result[pixel * (g.c + 2) + c])).magnitude)
          }
          for c in g.c..<g.c + 2 { stray += result[pixel * (g.c + 2) + c] == 777 ? 0 : 1 }
        }
      }
      #expect(worst < 1e-5 && stray == 0, "\(kernels.label) geometry \(index): error \(worst), stray \(stray)")

      arguments.window = g.window(input, parts)
      cut(g) { kernels.depthwise_f32(&arguments, $0, $1, $2, $3) }
      #expect(same(parts.array, result.array), "\(kernels.label) geometry \(index): parts")
      for (activation, name) in [(APUS_ACTIVATION_CLIP, "clip"), (APUS_ACTIVATION_HARD_SWISH, "hard_swish")] {
        arguments.window = g.window(input, fused)
        (arguments.epilogue.activation, arguments.epilogue.alpha, arguments.epilogue.beta) = (activation, -0.1, 0.4)
        kernels.depthwise_f32(&arguments, 0, g.outH, 0, g.c)
        var equal = true
        for pixel in 0..<g.outH * g.outW {
          let row = Buffer<Float>(g.c) { result[pixel * (g.c + 2) + $0] }
          unary(kernels, name)?(g.c, row.pointer, row.base, [-0.1, 0.4])
          for c in 0..<g.c { equal = equal && same(row[c], fused[pixel * (g.c + 2) + c]) }
        }
        #expect(equal, "\(kernels.label) geometry \(index): fused \(name)")
      }
    }
  }

  @Test(arguments: levels.indices) func pooling(level: Int) {
    let kernels = levels[level]
    var numbers = Numbers(12)
    for (index, g) in geometries.enumerated() {
      let input = image(g, &numbers)
      if input.count > 5 { input[4] = .nan }
      for kind in 0..<3 {
        let result = output(g)
        let parts = output(g)
        func run(_ target: Buffer<Float>, _ y0: Int, _ y1: Int, _ c0: Int, _ c1: Int) {
          var window = g.window(input, target)
          if kind == 0 {
            kernels.max_pool_f32(&window, y0, y1, c0, c1)
          } else {
            kernels.average_pool_f32(&window, kind == 2, y0, y1, c0, c1)
          }
        }
        run(result, 0, g.outH, 0, g.c)
        cut(g) { run(parts, $0, $1, $2, $3) }
        #expect(same(parts.array, result.array), "\(kernels.label) geometry \(index) kind \(kind): parts")
        var wrong = 0
        for y in 0..<g.outH {
          for x in 0..<g.outW {
            let taps = g.taps(y, x)
            let seen = taps.compactMap(\.offset)
            for c in 0..<g.c {
              let values = seen.map { input[$0 + c] }
              let got = result[(y * g.outW + x) * (g.c + 2) + c]
              var expected: Float
              if kind == 0 {
                expected = values.contains(where: \.isNaN) ? .nan : values.max() ?? -.infinity
              } else {
                expected = values.reduce(0, +) / Float(kind == 2 ? taps.count : seen.count)
              }
              if !same(expected, got) && (kind == 0 || (expected - got).magnitude > 1e-5) { wrong += 1 }
            }
          }
        }
        #expect(wrong == 0, "\(kernels.label) geometry \(index) kind \(kind)")
      }
    }
  }
}
