// The discrete Fourier transform of any length in O(n log n): mixed radices in Stockham's order, and Bluestein's
// algorithm, in float64, for lengths with a large prime factor.

import ApusGraph

/// A complex number.
struct ComplexNumber<Element: Real>: BitwiseCopyable, Sendable {
  var x: Element
  var y: Element

  @inline(__always) init(_ x: Element, _ y: Element) { (self.x, self.y) = (x, y) }
  @inline(__always) static var zero: Self { Self(0, 0) }
  @inline(__always) static func + (a: Self, b: Self) -> Self { Self(a.x + b.x, a.y + b.y) }
  @inline(__always) static func - (a: Self, b: Self) -> Self { Self(a.x - b.x, a.y - b.y) }
  @inline(__always) static func * (a: Element, b: Self) -> Self { Self(a * b.x, a * b.y) }
  @inline(__always) static func * (a: Self, b: Self) -> Self { Self(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x) }
  /// i times the number.
  @inline(__always) var turned: Self { Self(-y, x) }
  @inline(__always) var conjugate: Self { Self(x, -y) }

  /// exp(-2 pi i * numerator / denominator), with the angle brought into one turn first.
  static func root(_ numerator: Int, of denominator: Int) -> Self {
    let angle = -2 * Double.pi * Double(numerator % denominator) / Double(denominator)
    return Self(Element(Double.cos(angle)), Element(Double.sin(angle)))
  }
}

/// The tables of transforms of one length. Immutable; shared by all parts.
struct FourierTransform<Element: Real>: Sendable {
  typealias Complex = ComplexNumber<Element>

  let length: Int
  /// Bytes of work memory for one transform, a multiple of 16; at least `length` complex numbers.
  let workBytes: Int
  private let stages: [Stage]
  private let twiddles: [Complex]
  private let chirp: Chirp?

  /// One pass: `blocks` butterflies of `radix` inputs, each for `stride` interleaved transforms.
  private struct Stage: Sendable {
    let radix: Int
    let blocks: Int
    let stride: Int
    /// The first of its twiddles: (radix - 1) for each block, then for radices above 5 the roots of unity.
    let twiddle: Int
  }

  /// Longer transforms are refused: their tables alone would take gigabytes.
  static var maximumLength: Int { 1 << 26 }
  /// Prime factors above this one go by way of Bluestein.
  private static var largestRadix: Int { 31 }

  init(length: Int) throws(OperatorError) {
    guard length > 0 else { throw .mismatch("the length of the transform is \(length); expected at least 1") }
    guard length <= FourierTransform.maximumLength else {
      throw OperatorError(
        .limit, "a transform of length \(length) is beyond the limit of \(FourierTransform.maximumLength)")
    }
    self.length = length
    let radices = FourierTransform.radices(of: length)
    guard radices.last ?? 1 <= FourierTransform.largestRadix else {
      let chirp = try Chirp(length: length)
      (self.chirp, stages, twiddles) = (chirp, [], [])
      workBytes = chirp.workBytes
      return
    }
    chirp = nil
    workBytes = (length * MemoryLayout<Complex>.stride + 15) & ~15
    var stages: [Stage] = []
    var twiddles: [Complex] = []
    var (rest, stride) = (length, 1)
    for radix in radices {
      let blocks = rest / radix
      stages.append(Stage(radix: radix, blocks: blocks, stride: stride, twiddle: twiddles.count))
      for block in 0..<blocks {
        for power in 1..<radix { twiddles.append(Complex.root(block * power, of: rest)) }
      }
      if radix > 5 { twiddles += (0..<radix).map { Complex.root($0, of: radix) } }
      (rest, stride) = (blocks, stride * radix)
    }
    (self.stages, self.twiddles) = (stages, twiddles)
  }

  /// Factors in the order of the passes, the largest prime last; 4 before 2.
  private static func radices(of length: Int) -> [Int] {
    var (rest, factors) = (length, [Int]())
    for radix in [4, 2] {
      while rest % radix == 0 {
        factors.append(radix)
        rest /= radix
      }
    }
    var divisor = 3
    while divisor * divisor <= rest {
      while rest % divisor == 0 {
        factors.append(divisor)
        rest /= divisor
      }
      divisor += 2
    }
    if rest > 1 { factors.append(rest) }
    return factors
  }

  /// Transforms `length` numbers; returns where the result lies: `data` or `work`, which both are overwritten.
  func callAsFunction(
    _ data: UnsafeMutablePointer<Complex>, _ work: UnsafeMutableRawPointer
  ) -> UnsafeMutablePointer<Complex> {
    if let chirp {
      chirp.transform(data, work)
      return data
    }
    return twiddles.withUnsafeBufferPointer { twiddles in
      var (source, target) = (data, work.assumingMemoryBound(to: Complex.self))
      for stage in stages {
        guard let factors = twiddles.baseAddress.map({ $0 + stage.twiddle }) else { break }
        switch stage.radix {
        case 2: FourierTransform.pass2(stage, source, target, factors)
        case 3: FourierTransform.pass3(stage, source, target, factors)
        case 4: FourierTransform.pass4(stage, source, target, factors)
        case 5: FourierTransform.pass5(stage, source, target, factors)
        default: FourierTransform.pass(stage, source, target, factors)
        }
        swap(&source, &target)
      }
      return source
    }
  }

  // MARK: - Passes. Input k of a butterfly lies `blocks * stride` behind input k - 1, output r `stride` behind r - 1.

  private static func pass2(
    _ stage: Stage, _ x: UnsafeMutablePointer<Complex>, _ y: UnsafeMutablePointer<Complex>,
    _ twiddles: UnsafePointer<Complex>
  ) {
    let (stride, far) = (stage.stride, stage.blocks &* stage.stride)
    for block in 0..<stage.blocks {
      let w1 = twiddles[block]
      let (from, to) = (x + block &* stride, y + 2 &* block &* stride)
      for q in 0..<stride {
        let (a, b) = (from[q], from[q &+ far])
        to[q] = a + b
        to[q &+ stride] = (a - b) * w1
      }
    }
  }

  private static func pass3(
    _ stage: Stage, _ x: UnsafeMutablePointer<Complex>, _ y: UnsafeMutablePointer<Complex>,
    _ twiddles: UnsafePointer<Complex>
  ) {
    let (stride, far) = (stage.stride, stage.blocks &* stage.stride)
    let half = Element(0.75.squareRoot())
    for block in 0..<stage.blocks {
      let (w1, w2) = (twiddles[2 &* block], twiddles[2 &* block &+ 1])
      let (from, to) = (x + block &* stride, y + 3 &* block &* stride)
      for q in 0..<stride {
        let (a, b, c) = (from[q], from[q &+ far], from[q &+ 2 &* far])
        let sum = b + c
        let middle = a - Element(0.5) * sum
        let side = (half * (b - c)).turned
        to[q] = a + sum
        to[q &+ stride] = (middle - side) * w1
        to[q &+ 2 &* stride] = (middle + side) * w2
      }
    }
  }

  private static func pass4(
    _ stage: Stage, _ x: UnsafeMutablePointer<Complex>, _ y: UnsafeMutablePointer<Complex>,
    _ twiddles: UnsafePointer<Complex>
  ) {
    let (stride, far) = (stage.stride, stage.blocks &* stage.stride)
    for block in 0..<stage.blocks {
      let factors = twiddles + 3 &* block
      let (w1, w2, w3) = (factors[0], factors[1], factors[2])
      let (from, to) = (x + block &* stride, y + 4 &* block &* stride)
      for q in 0..<stride {
        let (a, b) = (from[q], from[q &+ far])
        let (c, d) = (from[q &+ 2 &* far], from[q &+ 3 &* far])
        let (even, odd) = (a + c, b + d)
        let (left, right) = (a - c, (b - d).turned)
        to[q] = even + odd
        to[q &+ stride] = (left - right) * w1
        to[q &+ 2 &* stride] = (even - odd) * w2
        to[q &+ 3 &* stride] = (left + right) * w3
      }
    }
  }

  private static func pass5(
    _ stage: Stage, _ x: UnsafeMutablePointer<Complex>, _ y: UnsafeMutablePointer<Complex>,
    _ twiddles: UnsafePointer<Complex>
  ) {
    let (stride, far) = (stage.stride, stage.blocks &* stage.stride)
    let (u, v) = (Complex.root(1, of: 5), Complex.root(2, of: 5))
    for block in 0..<stage.blocks {
      let factors = twiddles + 4 &* block
      let (from, to) = (x + block &* stride, y + 5 &* block &* stride)
      for q in 0..<stride {
        let a = from[q]
        let (b, e) = (from[q &+ far], from[q &+ 4 &* far])
        let (c, d) = (from[q &+ 2 &* far], from[q &+ 3 &* far])
        let (sum1, sum2) = (b + e, c + d)
        let (difference1, difference2) = (b - e, c - d)
        let middle1 = a + u.x * sum1 + v.x * sum2
        let middle2 = a + v.x * sum1 + u.x * sum2
        let side1 = (u.y * difference1 + v.y * difference2).turned
        let side2 = (v.y * difference1 - u.y * difference2).turned
        to[q] = a + sum1 + sum2
        to[q &+ stride] = (middle1 + side1) * factors[0]
        to[q &+ 2 &* stride] = (middle2 + side2) * factors[1]
        to[q &+ 3 &* stride] = (middle2 - side2) * factors[2]
        to[q &+ 4 &* stride] = (middle1 - side1) * factors[3]
      }
    }
  }

  private static func pass(
    _ stage: Stage, _ x: UnsafeMutablePointer<Complex>, _ y: UnsafeMutablePointer<Complex>,
    _ twiddles: UnsafePointer<Complex>
  ) {
    let (stride, far, radix) = (stage.stride, stage.blocks &* stage.stride, stage.radix)
    let roots = twiddles + stage.blocks &* (radix &- 1)
    for block in 0..<stage.blocks {
      let (from, to) = (x + block &* stride, y + radix &* block &* stride)
      for r in 0..<radix {
        let factor = r == 0 ? Complex(1, 0) : twiddles[block &* (radix &- 1) &+ r &- 1]
        for q in 0..<stride {
          var sum = from[q]
          var power = r
          for k in 1..<radix {
            sum = sum + from[q &+ k &* far] * roots[power]
            power &+= r
            if power >= radix { power &-= radix }
          }
          to[q &+ r &* stride] = sum * factor
        }
      }
    }
  }
}

/// Bluestein's algorithm: the transform as a convolution with a chirp, by transforms of a power of two, in float64.
private struct Chirp: Sendable {
  private typealias Complex = ComplexNumber<Double>

  let length: Int
  let workBytes: Int
  /// exp(-pi i k^2 / n).
  private let factors: [Complex]
  /// The transform of the conjugate chirp, over the padded length.
  private let spectrum: [Complex]
  /// One element; an array since the types would hold each other.
  private let inner: [FourierTransform<Double>]

  init(length: Int) throws(OperatorError) {
    self.length = length
    var padded = 1
    while padded < 2 * length - 1 { padded *= 2 }
    let transform = try FourierTransform<Double>(length: padded)
    // k^2 modulo 2n, step by step, so that large squares keep their precision.
    var (square, factors) = (0, [Complex]())
    for k in 0..<length {
      factors.append(Complex.root(square, of: 2 * length))
      square = (square + 2 * k + 1) % (2 * length)
    }
    var chirp = [Complex](repeating: .zero, count: padded)
    for k in 0..<length {
      chirp[k] = factors[k].conjugate
      if k > 0 { chirp[padded - k] = factors[k].conjugate }
    }
    var work = [Complex](repeating: .zero, count: padded)
    spectrum = chirp.withUnsafeMutableBufferPointer { data in
      work.withUnsafeMutableBytes { work in
        guard let data = data.baseAddress, let work = work.baseAddress else { return [] }
        return Array(UnsafeBufferPointer(start: transform(data, work), count: padded))
      }
    }
    self.factors = factors
    inner = [transform]
    workBytes = padded * 16 + transform.workBytes
  }

  func transform<Element: Real>(_ data: UnsafeMutablePointer<ComplexNumber<Element>>, _ memory: UnsafeMutableRawPointer)
  {
    let padded = spectrum.count
    let work = memory.assumingMemoryBound(to: Complex.self)
    for k in 0..<length { work[k] = Complex(Double(data[k].x), Double(data[k].y)) * factors[k] }
    (work + length).update(repeating: .zero, count: padded - length)
    let first = inner[0](work, work + padded)
    let other = first == work ? work + padded : work
    // The inverse transform is that of the conjugate, conjugated.
    for k in 0..<padded { first[k] = (first[k] * spectrum[k]).conjugate }
    let result = inner[0](first, other)
    let scale = 1 / Double(padded)
    for k in 0..<length {
      let value = scale * result[k].conjugate * factors[k]
      data[k] = ComplexNumber<Element>(Element(value.x), Element(value.y))
    }
  }
}
