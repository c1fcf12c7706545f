// Convolution by minimal filtering against sums in double precision, over odd extents and pads, with what is not
// finite, and split against whole.

import CApusKernels
import Testing

private struct Problem {
  let m: Int
  var images = 1, h = 9, w = 11, channels = 20, outputs = 40, top = 1, left = 1, bottom = 1, right = 1

  var outH: Int { h + top + bottom - 2 }
  var outW: Int { w + left + right - 2 }
  var inPixel: Int { channels + 1 }
  var outPixel: Int { outputs + 2 }
  var pixels: Int { images * outH * outW }
}

/// A problem with all its operands in memory of exact size.
private final class Operands {
  let problem: Problem
  let kernels: Kernels
  let x, weights, bias, add, packed: Buffer<Float>
  private let nr: Int

  init(_ problem: Problem, _ kernels: Kernels, seed: Int) {
    (self.problem, self.kernels, nr) = (problem, kernels, kernels.gemm_f32_nr)
    var numbers = Numbers(seed)
    x = numbers.floats(problem.images * problem.h * problem.w * problem.inPixel - 1)
    weights = numbers.floats(problem.outputs * problem.channels * 9)
    bias = numbers.floats(problem.outputs)
    add = numbers.floats(problem.pixels * problem.outputs)
    packed = Buffer(apus_winograd_packed(problem.m, problem.channels, problem.outputs, nr), repeating: .nan)
    pack()
  }

  func pack() {
    for panel in 0..<panels {
      let source = weights.base + panel * nr * problem.channels * 9
      (problem.m == 2 ? kernels.winograd2_pack_f32 : kernels.winograd4_pack_f32)(
        source, problem.channels, problem.outputs, packed.base, panel)
    }
  }

  var panels: Int { apus_gemm_panels(problem.outputs, nr) }
  var tiles: Int { apus_winograd_tiles(problem.m, problem.images, problem.outH, problem.outW) }

  /// The outputs; in parts of so many tiles and one panel each, or whole.
  func run(_ activation: apus_activation = APUS_ACTIVATION_NONE, tilesPerPart: Int? = nil) -> Buffer<Float> {
    let p = problem
    let y = Buffer<Float>(p.pixels * p.outPixel, repeating: 777)
    var arguments = apus_winograd_f32_args(
      input: x.base, output: y.base, in_image: p.h * p.w * p.inPixel, in_row: p.w * p.inPixel, in_pixel: p.inPixel,
      out_image: p.outH * p.outW * p.outPixel, out_row: p.outW * p.outPixel, out_pixel: p.outPixel, in_h: p.h,
      in_w: p.w, out_h: p.outH, out_w: p.outW, pad_top: p.top, pad_left: p.left, channels: p.channels,
      outputs: p.outputs, weights: packed.base,
      epilogue: apus_epilogue_f32(
        bias: bias.pointer, add: add.pointer, add_ld: p.outputs, activation: activation, alpha: -0.1, beta: 0.4))
    let convolve = p.m == 2 ? kernels.winograd2_f32 : kernels.winograd4_f32
    let (step, columns) = tilesPerPart.map { ($0, 1) } ?? (max(tiles, 1), panels)
    let scratch = Buffer<Float>(apus_winograd_scratch(p.m, step, p.channels, columns, nr), repeating: .nan)
    for first in stride(from: 0, to: tiles, by: step) {
      for panel in stride(from: 0, to: panels, by: columns) {
        convolve(&arguments, first, min(first + step, tiles), panel, panel + columns, scratch.base)
      }
    }
    return y
  }

  /// Calls with every output's place in the memory of the outputs, what it must be, and the sum of magnitudes.
  func forEachOutput(_ body: (_ index: Int, _ sum: Double, _ size: Double) -> Void) {
    let p = problem
    for pixel in 0..<p.pixels {
      let (image, y, x) = (pixel / p.outW / p.outH, pixel / p.outW % p.outH - p.top, pixel % p.outW - p.left)
      for output in 0..<p.outputs {
        var sum = Double(bias[output]) + Double(add[pixel * p.outputs + output])
        var size = sum.magnitude
        for tap in 0..<9 {
          let (row, column) = (y + tap / 3, x + tap % 3)
          guard row >= 0, row < p.h, column >= 0, column < p.w else { continue }
          let source = ((image * p.h + row) * p.w + column) * p.inPixel
          for c in 0..<p.channels {
            let product = Double(self.x[source + c]) * Double(weights[(output * p.channels + c) * 9 + tap])
            sum += product
            size += product.magnitude
          }
        }
        body(pixel * p.outPixel + output, sum, size)
      }
    }
  }
}

@Suite struct WinogradTests {
  private static let problems = [2, 4].flatMap { m in
    [
      Problem(m: m),
      Problem(m: m, images: 2, h: 8, w: 8, channels: 16, outputs: 33, top: 0, left: 0, bottom: 0, right: 0),
      Problem(m: m, images: 3, h: 1, w: 5, channels: 7, outputs: 5), Problem(m: m, h: 3, w: 3, channels: 1, outputs: 1),
      Problem(m: m, h: 5, w: 13, channels: 34, outputs: 65, top: 2, left: 3, bottom: 0, right: 2),
      Problem(m: m, h: 4, w: 2, channels: 130, outputs: 16, top: 7, left: 0, bottom: 6, right: 5),
    ]
  }

  @Test(arguments: levels.indices) func sums(level: Int) {
    for (index, problem) in Self.problems.enumerated() {
      let operands = Operands(problem, levels[level], seed: index)
      let label = "\(levels[level].label), F(\(problem.m)), problem \(index)"
      let y = operands.run()
      // Errors are those of a tile: of the largest sum that one of its outputs may have.
      var (worst, largest) = (0.0, 1.0)
      operands.forEachOutput {
        worst = max(worst, (Double(y[$0]) - $1).magnitude); largest = max(largest, $2)
      }
      #expect(worst < 2e-6 * largest, "\(label)")
      var stray = 0
      for pixel in 0..<problem.pixels {
        for c in problem.outputs..<problem.outPixel { stray += y[pixel * problem.outPixel + c] == 777 ? 0 : 1 }
      }
      #expect(stray == 0, "\(label): \(stray) elements beside the outputs")
      for tiles in [1, 5] { #expect(same(operands.run(tilesPerPart: tiles).array, y.array), "\(label): parts") }
    }
  }

  @Test(arguments: levels.indices) func epilogues(level: Int) {
    for (activation, name) in [(APUS_ACTIVATION_CLIP, "clip"), (APUS_ACTIVATION_HARD_SWISH, "hard_swish")] {
      for (index, problem) in Self.problems.enumerated() {
        let operands = Operands(problem, levels[level], seed: index)
        let (plain, fused) = (operands.run(), operands.run(activation))
        var equal = true
        for pixel in 0..<problem.pixels {
          let row = Buffer<Float>(problem.outputs) { plain[pixel * problem.outPixel + $0] }
          unary(levels[level], name)?(problem.outputs, row.pointer, row.base, [-0.1, 0.4])
          for c in 0..<problem.outputs { equal = equal && same(row[c], fused[pixel * problem.outPixel + c]) }
        }
        #expect(equal, "\(levels[level].label), \(name), problem \(index)")
      }
    }
  }

  /// What is not finite, and what only transforms make so, reaches the outputs that see it and no others.
  @Test(arguments: levels.indices) func whatIsNotFinite(level: Int) {
    for m in [2, 4] {
      for value in [Float.infinity, -.infinity, .nan, 3e38] {
        for place in [0, 1, 38, 60, 98] {
          var problem = Problem(m: m)
          problem.channels = 5
          let operands = Operands(problem, levels[level], seed: place)
          operands.x[place * problem.inPixel + 3] = value
          // Weights of zero: their product with an infinity is no number.
          for output in 0..<3 { operands.weights[(output * 5 + 3) * 9 + 4] = 0 }
          operands.pack()
          let y = operands.run()
          var wrong = 0
          operands.forEachOutput { index, sum, _ in
            let (got, expected) = (y[index], Float(sum))
            // Errors of a tile are those of its largest element, in 45 products that are less than 1.
            let largest = value.isFinite ? Double(value) : 45
            let isRight = expected.isFinite ? (Double(got) - sum).magnitude <= 2e-6 * largest : same(got, expected)
            wrong += isRight ? 0 : 1
          }
          #expect(wrong == 0, "\(levels[level].label), F(\(m)), \(value) at \(place): \(wrong) outputs")
        }
      }
    }
  }

  /// The error of a layer's usual numbers, beside that of the sum of all taps one after the other.
  @Test(arguments: levels.indices) func errorBesideTheDirectForm(level: Int) {
    for (m, bound) in [(2, 1.5), (4, 4.0)] {
      var problem = Problem(m: m)
      (problem.h, problem.w, problem.channels, problem.outputs) = (12, 12, 256, 16)
      let operands = Operands(problem, levels[level], seed: 5)
      for i in 0..<operands.x.count { operands.x[i] = max(operands.x[i], 0) }
      for i in 0..<operands.add.count { operands.add[i] = 0 }
      let y = operands.run()
      var (error, direct) = (0.0, 0.0)
      operands.forEachOutput { index, sum, _ in
        error += (Double(y[index]) - sum) * (Double(y[index]) - sum)
        let plain = Double(Self.directSum(operands, index))
        direct += (plain - sum) * (plain - sum)
      }
      #expect(error.squareRoot() <= bound * direct.squareRoot(), "\(levels[level].label), F(\(m))")
    }
  }

  /// The sum in float32, fused, in the order of taps and channels.
  private static func directSum(_ operands: Operands, _ index: Int) -> Float {
    let p = operands.problem
    let (pixel, output) = index.quotientAndRemainder(dividingBy: p.outPixel)
    let (y, x) = (pixel / p.outW - p.top, pixel % p.outW - p.left)
    var sum: Float = 0
    for tap in 0..<9 {
      let (row, column) = (y + tap / 3, x + tap % 3)
      guard row >= 0, row < p.h, column >= 0, column < p.w else { continue }
      for c in 0..<p.channels {
        sum.addProduct(
          operands.x[(row * p.w + column) * p.inPixel + c], operands.weights[(output * p.channels + c) * 9 + tap])
      }
    }
    return sum + operands.bias[output]
  }
}
