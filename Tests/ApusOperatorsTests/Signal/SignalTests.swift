// Fourier transforms of many lengths against the sum that defines them, inverses, frames, windows, limits.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

@Suite struct SignalTests {
  private func run(
    _ x: Tensor, length: Int? = nil, axis: Int = -2, inverse: Bool = false, onesided: Bool = false
  ) throws -> Tensor {
    let attributes: [(String, AttributeValue)] = [
      ("inverse", .int(inverse ? 1 : 0)), ("onesided", .int(onesided ? 1 : 0)),
    ]
    return try OperatorRun("DFT", attributes: attributes)(x, length.map { Tensor(scalar: $0) }, Tensor(scalar: axis))[0]
  }

  private func numbers(_ x: Tensor) -> [Double] { x.elements(as: Double.self)! }

  @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 25, 30, 31, 37, 49, 60, 64, 74, 101, 121, 128, 243, 1009])
  func theSumThatDefinesIt(_ length: Int) throws {
    let x = (0..<2 * length).map { Double(($0 * 7919) % 101) / 50 - 1 }
    let y = numbers(try run(Tensor(x, shape: [length, 2])))
    for k in stride(from: 0, to: length, by: max(1, length / 40)) {
      var (real, imaginary) = (0.0, 0.0)
      for n in 0..<length {
        let angle = -2 * Double.pi * Double(k * n % length) / Double(length)
        real += x[2 * n] * cos(angle) - x[2 * n + 1] * sin(angle)
        imaginary += x[2 * n] * sin(angle) + x[2 * n + 1] * cos(angle)
      }
      #expect(abs(y[2 * k] - real) < 1e-9 && abs(y[2 * k + 1] - imaginary) < 1e-9)
    }
    let back = numbers(try run(Tensor(y, shape: [length, 2]), inverse: true))
    for (a, b) in zip(back, x) { #expect(abs(a - b) < 1e-11) }
  }

  @Test(arguments: [1, 2, 5, 8, 37, 74])
  func realSignalsThereAndBack(_ length: Int) throws {
    let x = Tensor((0..<3 * length * 2).map { Double($0 * $0 % 17) }, shape: [3, length, 2, 1])
    let half = try run(x, axis: 1, onesided: true)
    #expect(half.shape == [3, length / 2 + 1, 2, 2])
    let back = try run(half, length: length, axis: 1, inverse: true, onesided: true)
    #expect(back.shape == x.shape)
    for (a, b) in zip(numbers(back), numbers(x)) { #expect(abs(a - b) < 1e-11) }
  }

  @Test func lengthsCutAndPad() throws {
    let x = Tensor([1.0, 2, 3, 4], shape: [1, 4, 1])
    #expect(numbers(try run(x, length: 2)) == [3, 0, -1, 0])
    let padded = numbers(try run(x, length: 8))
    #expect(padded[0] == 10 && padded.count == 16)
  }

  @Test func narrowTypesAndThreads() throws {
    let x = sampleTensor([4, 300, 2], seed: 1)
    let wide = try run(x)
    var threaded = OperatorRun("DFT")
    threaded.threads = 3
    #expect(haveSameBits(try threaded(x)[0], wide))
    // The transform of the rounded numbers, rounded once: sums of 300 terms are at most 300.
    let half = narrowed(x, .float16)
    #expect(distance(widened(try run(half)), try run(widened(half)), relative: true) < 2e-3)
  }

  @Test func impossibleTransformsAreRefused() {
    let x = sampleTensor([2, 4, 1], seed: 1)
    for length in [0, -1, 1 << 40, Int.max] { #expect(throws: (any Error).self) { try run(x, length: length) } }
    for axis in [2, -1, 3, -4] { #expect(throws: (any Error).self) { try run(x, axis: axis) } }
    #expect(throws: (any Error).self) { try run(sampleTensor([2, 4, 3], seed: 1)) }
  }

  @Test func framesAreTransformsOfWindows() throws {
    let (length, step, size) = (40, 7, 12)
    let (x, window) = (sampleTensor([2, length, 1], seed: 1), sampleTensor([size], seed: 2))
    let y = try OperatorRun("STFT")(x, Tensor(scalar: step), window, Tensor(scalar: size))[0]
    #expect(y.shape == [2, 5, 7, 2])
    let (samples, weights) = (x.elements(as: Float.self)!, window.elements(as: Float.self)!)
    let frame = (0..<size).map { samples[length + 3 * step + $0] * weights[$0] }
    let expected = try run(Tensor(frame, shape: [1, size, 1]), onesided: true).elements(as: Float.self)!
    #expect(Array(y.elements(as: Float.self)![(5 + 3) * 14..<(5 + 4) * 14]) == expected)
    for (bad, size) in [(0, 12), (-1, 12), (7, 0), (7, 41)] {
      #expect(throws: (any Error).self) { try OperatorRun("STFT")(x, Tensor(scalar: bad), nil, Tensor(scalar: size)) }
    }
  }

  @Test func windowsOfEveryType() throws {
    for name in ["HannWindow", "HammingWindow", "BlackmanWindow"] {
      let wide = try OperatorRun(name, attributes: [("output_datatype", .int(11))])(Tensor(scalar: 10))[0]
      #expect(numbers(wide)[5] == 1 || abs(numbers(wide)[5] - 1) < 1e-12)
      for type in TypeSet.numeric.tensors {
        let y = try OperatorRun(name, attributes: [("output_datatype", .int(Int(type.rawValue)))])(
          Tensor(scalar: 10 as Int32))[0]
        #expect(y.dataType == type && y.shape == [10])
      }
      #expect(try OperatorRun(name)(Tensor(scalar: 0))[0].shape == [0])
      #expect(throws: (any Error).self) { try OperatorRun(name)(Tensor(scalar: -1)) }
    }
  }

  @Test func melBandsBeyondTheSpectrumAreRefused() {
    func matrix(_ bands: Int, _ length: Int, _ rate: Int, _ high: Float) throws -> Tensor {
      try OperatorRun("MelWeightMatrix")(
        Tensor(scalar: bands), Tensor(scalar: length), Tensor(scalar: rate), Tensor(scalar: 0 as Float),
        Tensor(scalar: high))[0]
    }
    #expect(throws: Never.self) { try matrix(8, 16, 8192, 4096) }
    #expect(throws: (any Error).self) { try matrix(8, 16, 8192, 100_000) }
    #expect(throws: (any Error).self) { try matrix(8, 16, 0, 4096) }
    #expect(throws: (any Error).self) { try matrix(8, 16, 8192, .nan) }
  }
}
