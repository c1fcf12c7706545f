// What calibration sees is what is there: extremes, counts, bins; in any order of samples, merged or at once.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct CalibrationTests {
  private let surroundings = RunSurroundings(pool: WorkerPool(threads: 2))

  /// A graph whose only node hands on what it is given.
  private func calibration(_ shape: [Dim], bins: Int) throws -> Calibration {
    let builder = GraphBuilder()
    let x = builder.input("x", shape)
    builder.output(try builder.node("Neg", [x]))
    return try Calibration(builder.graph, values: ["x"], bins: bins, in: surroundings)
  }

  @Test func extremesAndBinsAreThoseOfTheElements() throws {
    for (seed, shape) in ([[7], [3, 5, 11], [200_000], [1], [4, 33_000]] as [Shape]).enumerated() {
      let calibration = try calibration([Dim](shape).map { _ in .unknown }, bins: 64)
      let numbers = (sampleTensor(shape, seed: seed + 3).elements(as: Float.self) ?? []).map { $0 * 13 }
      try calibration.add(["x": Tensor(numbers, shape: shape)])
      let seen = try #require(calibration.statistics["x"])
      #expect(seen.minimum == numbers.min() && seen.maximum == numbers.max() && seen.elements == numbers.count)
      let histogram = try #require(seen.histogram)
      let span = Float(sign: .plus, exponent: histogram.exponent, significand: 1)
      #expect(numbers.allSatisfy { abs($0) <= span } && numbers.contains { abs($0) > span / 2 })
      var counts = [Int](repeating: 0, count: 64)
      for number in numbers { counts[min(Int((Double(number) / Double(span) + 1) * 32), 63)] += 1 }
      // Numbers that lie nearer to the edge of a bin than 2^-8 of it may be counted in either.
      let moved = zip(counts, histogram.counts).reduce(0) { $0 + abs($1.0 - $1.1) }
      #expect(histogram.total == numbers.count && moved <= 2 + numbers.count / 100, "\(shape): \(moved)")
    }
  }

  @Test func samplesAddUpInAnyOrder() throws {
    let samples = (0..<6).map { index -> Tensor in
      let scale = Float(sign: .plus, exponent: index * 3 - 9, significand: 1)
      return Tensor((sampleTensor([40 + index], seed: index + 1).elements(as: Float.self) ?? []).map { $0 * scale })
    }
    let (forward, backward) = (try calibration([.unknown], bins: 128), try calibration([.unknown], bins: 128))
    for sample in samples { try forward.add(["x": sample]) }
    for sample in samples.reversed() { try backward.add(["x": sample]) }
    let (a, b) = (try #require(forward.statistics["x"]), try #require(backward.statistics["x"]))
    #expect(a.histogram == b.histogram && a.minimum == b.minimum && a.maximum == b.maximum)
    #expect(a.histogram?.total == samples.reduce(0) { $0 + $1.count } && a.samples == 6)
    #expect(abs(a.averageMaximum - b.averageMaximum) <= 1e-6 * abs(a.averageMaximum))
  }

  @Test func numbersThatAreNoneAreRefused() throws {
    for strange in [Float.nan, .infinity, -.infinity] {
      let calibration = try calibration([.unknown], bins: 16)
      var numbers = [Float](repeating: 1, count: 100)
      numbers[61] = strange
      let error = #expect(throws: CompressionError.self) { try calibration.add(["x": Tensor(numbers)]) }
      #expect(error?.code == .invalidSample && error?.message.contains("'x'") ?? false)
    }
    let calibration = try calibration([.unknown], bins: 16)
    let huge = [Float](repeating: Float.greatestFiniteMagnitude, count: 40)
    try calibration.add(["x": Tensor(huge)])
    #expect(calibration.statistics["x"]?.maximum == .greatestFiniteMagnitude)
    #expect(throws: CompressionError.self) { try calibration.add(["y": Tensor(huge)]) }
  }

  @Test func zerosAndNothingAreNoFault() throws {
    let calibration = try calibration([.unknown], bins: 32)
    try calibration.add(["x": Tensor([Float](), shape: [0])])
    #expect(calibration.statistics["x"] == nil)
    try calibration.add(["x": Tensor([0, 0, 0] as [Float])])
    let seen = try #require(calibration.statistics["x"])
    #expect(seen.minimum == 0 && seen.maximum == 0 && seen.histogram?.total == 3)
  }

  @Test func channelsAreSeenOneByOne() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 3, .symbol("w")])
    builder.output(try builder.node("Neg", [x]))
    let calibration = try Calibration(builder.graph, values: [], bins: 0, channels: ["x": 1], in: surroundings)
    try calibration.add(["x": Tensor([1, 3, -5, 5, 0, 2] as [Float], shape: [1, 3, 2])])
    try calibration.add(["x": Tensor([7, 3, 1, 1, -4, -4] as [Float], shape: [1, 3, 2])])
    let seen = try #require(calibration.channels["x"])
    #expect(seen.magnitudes == [7, 5, 4] && seen.means == [3.5, 0.5, -1.5])
  }
}

@Suite struct RangeMethodTests {
  /// Statistics of elements as one sample.
  private func statistics(_ numbers: [Float]) throws -> TensorStatistics {
    let builder = GraphBuilder()
    let x = builder.input("x", [.unknown])
    builder.output(try builder.node("Neg", [x]))
    let calibration = try Calibration(
      builder.graph, values: ["x"], bins: Histogram.usualBins, in: RunSurroundings(pool: WorkerPool(threads: 1)))
    try calibration.add(["x": Tensor(numbers)])
    return try #require(calibration.statistics["x"])
  }

  private func bell(_ count: Int) -> [Float] {
    var random = TestRandom(seed: 5)
    return (0..<count).map { _ in
      (0..<12).reduce(Float(-6)) { sum, _ in sum + Float(random.below(1 << 20)) / Float(1 << 20) }
    }
  }

  @Test func rangesAreWhatTheirMethodSays() throws {
    let numbers = bell(20_000) + [40]
    let seen = try statistics(numbers)
    let all = RangeMethod.minMax.range(of: seen, steps: 255, isSymmetric: false)
    #expect(all.low == numbers.min() && all.high == 40)
    let percentile = RangeMethod.percentile(99).range(of: seen, steps: 255, isSymmetric: false)
    let sorted = numbers.sorted()
    let bin = Float(seen.histogram?.binWidth ?? 0)
    #expect(abs(percentile.low - sorted[numbers.count / 200]) <= bin)
    #expect(abs(percentile.high - sorted[numbers.count - numbers.count / 200]) <= bin)
    let entropy = RangeMethod.entropy.range(of: seen, steps: 255, isSymmetric: false)
    #expect(entropy.high < 20 && entropy.high > 2.5, "\(entropy)")
  }

  /// Of few, or of few different elements, none is cut off that counts: the energy that is lost is at most that which
  /// the whole range loses, unless what is left out is rare.
  @Test func entropyKeepsWhatCounts() throws {
    var random = TestRandom(seed: 8)
    let peaks: [[Float]] = [
      [Float](repeating: 0.3, count: 100),
      [Float](repeating: 0.01, count: 1000) + [0.011] + [Float](repeating: 1, count: 10),
      [Float](repeating: -1, count: 10) + [Float](repeating: 0, count: 500) + [0.9, 1],
      bell(9800).map { $0 / 100 } + (0..<100).map { Float($0) / 50 - 1 },
      // Rows of a softmax; fewer elements than one of 10,000 could be left out of.
      (0..<100).flatMap { _ in
        let row = bell(99).map {
          Float(sign: .plus, exponent: Int($0 * 4) + random.below(8), significand: 1 + $0.magnitude / 8)
        }
        let sum = row.reduce(0, +)
        return row.map { $0 / sum }
      },
    ]
    for (index, numbers) in peaks.enumerated() {
      let seen = try statistics(numbers)
      for (type, isSymmetric) in [(QuantizedType.uint8, false), (.int8, true), (.int4, true)] {
        let steps = type.greatest - type.least
        let errors = [RangeMethod.minMax, .entropy].map { method in
          let range = method.range(of: seen, steps: steps, isSymmetric: isSymmetric)
          return Self.error(of: numbers, range, type, isSymmetric)
        }
        #expect(errors[1] <= errors[0] * 1.02 + 1e-12, "case \(index), \(type)")
      }
    }
  }

  private static func error(
    of numbers: [Float], _ range: (low: Float, high: Float), _ type: QuantizedType, _ isSymmetric: Bool
  ) -> Float {
    let code = TensorCode(type: type, low: range.low, high: range.high, isSymmetric: isSymmetric)
    return numbers.reduce(0) { sum, number in
      let distance = code.number(code.integer(number)) - number
      return sum + distance * distance
    }
  }

  /// The range of least squared error has less of it than its neighbours, computed from the elements themselves.
  @Test func squaredErrorIsLeast() throws {
    let numbers = bell(5000) + (0..<5).map { 9 + Float($0) }
    let seen = try statistics(numbers)
    func error(_ range: (low: Float, high: Float), _ type: QuantizedType, _ isSymmetric: Bool) -> Float {
      Self.error(of: numbers, range, type, isSymmetric)
    }
    for (type, isSymmetric) in [(QuantizedType.uint8, false), (.int8, true), (.uint4, false)] {
      let steps = type.greatest - type.least
      let best = RangeMethod.meanSquaredError.range(of: seen, steps: steps, isSymmetric: isSymmetric)
      let least = error(best, type, isSymmetric)
      for share: Float in [0.3, 0.6, 0.8, 1.25, 1.6] {
        let other = error((best.low * share, best.high * share), type, isSymmetric)
        #expect(least <= other * 1.02, "\(type) \(share): \(least) \(other)")
      }
    }
  }
}
