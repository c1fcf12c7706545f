// The normalizations: C kernels against plain forms, broadcast parameters, training, old versions, empty inputs.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct NormalizationTests {
  private static let shapes: [[Int]] = [[5], [3, 7], [2, 3, 5], [2, 130, 70], [1, 1000], [4, 0, 3], [2, 3, 1]]

  @Test(arguments: ["Softmax", "LogSoftmax", "LpNormalization"], shapes)
  func rowsAlongEveryAxis(_ name: String, _ shape: [Int]) throws {
    for axis in shape.indices {
      // float16 is rounded at every step of Softmax, so it is not that of float32.
      try FormComparison(name, [("axis", .int(axis))]).check(
        [sampleTensor(Shape(shape), seed: axis)], halves: name != "Softmax")
    }
  }

  @Test func softmaxOfHalvesRoundsOnce() throws {
    let x = narrowed(Tensor([1 as Float, 2, 3, 0.5, 0.25, 0.125], shape: [2, 3]), .float16)
    let halves = x.elements(as: Float16.self)!
    for axis in 0..<2 {
      let y = try OperatorRun("Softmax", attributes: [("axis", .int(axis))])(x)[0].elements(as: Float16.self)!
      for line in 0..<(axis == 0 ? 3 : 2) {
        let places = axis == 0 ? [line, line + 3] : [3 * line, 3 * line + 1, 3 * line + 2]
        let powers = places.map { exponential(Float(halves[$0])) }
        let sum = powers.reduce(Float(0), +)
        for (place, power) in zip(places, powers) { #expect(y[place] == Float16(power / sum)) }
      }
    }
  }

  @Test func oldSoftmaxTakesTheAxesFromOneOn() throws {
    let x = sampleTensor([2, 3, 4], seed: 1)
    for (name, version) in [("Softmax", 1), ("LogSoftmax", 11), ("Hardmax", 11)] {
      var old = OperatorRun(name, attributes: [("axis", .int(1))])
      old.version = version
      let flat = try OperatorRun(name)(x.reshaped(to: [2, 12]))[0]
      #expect(haveSameBits(try old(x)[0].reshaped(to: [2, 12]), flat))
    }
  }

  @Test func hardmaxTakesTheFirst() throws {
    let x = Tensor([1 as Float, 3, 3, .nan, 5, .nan], shape: [2, 3])
    #expect(try OperatorRun("Hardmax")(x)[0].elements(as: Float.self) == [0, 1, 0, 1, 0, 0])
    #expect(
      try OperatorRun("Hardmax", attributes: [("axis", .int(0))])(x)[0].elements(as: Float.self) == [0, 0, 0, 1, 1, 1])
  }

  @Test(arguments: [[7], [1, 7], [1], [5, 7], [5, 1], [3, 5, 7], [3, 1, 1]] as [[Int]])
  func layerParametersBroadcast(_ parameter: [Int]) throws {
    let x = sampleTensor([3, 5, 7], seed: 1)
    let (scale, bias) = (sampleTensor(Shape(parameter), seed: 2), sampleTensor([7], seed: 3))
    for axis in [1, 2, -1] {
      let attributes: [(String, AttributeValue)] = [("axis", .int(axis))]
      try FormComparison("LayerNormalization", attributes, outputs: 3).check(
        [x, scale, bias], constants: [1, 2], halves: false)
      try FormComparison("LayerNormalization", attributes).check([x, scale], constants: [1])
      try FormComparison("RMSNormalization", attributes).check([x, scale], constants: [1])
    }
  }

  @Test func layerStatisticsHaveTheStashType() throws {
    let x = Tensor((0..<12).map { Double($0 * $0) }, shape: [3, 4])
    let ones = Tensor([Double](repeating: 1, count: 4))
    let run = OperatorRun("LayerNormalization", attributes: [("stash_type", .int(16))])
    let results = try run(x, ones, outputs: 3)
    #expect(results.map(\.dataType) == [.float64, .bfloat16, .bfloat16])
    #expect(results[1].elements(as: BFloat16.self)![0].float == 3.5)
    #expect(results[1].shape == [3, 1])
  }

  @Test func groupsAndInstances() throws {
    let x = sampleTensor([2, 6, 5, 7], seed: 1)
    let (scale, bias) = (sampleTensor([6], seed: 2), sampleTensor([6], seed: 3))
    for groups in [1, 2, 3, 6] {
      try FormComparison("GroupNormalization", [("num_groups", .int(groups))]).check(
        [x, scale, bias], constants: [1, 2])
    }
    try FormComparison("InstanceNormalization").check([x, scale, bias], constants: [1, 2])
    // A group of one channel is an instance; scale by group before version 21.
    var old = OperatorRun("GroupNormalization", attributes: [("num_groups", .int(6))])
    old.version = 18
    #expect(haveSameBits(try old(x, scale, bias)[0], try OperatorRun("InstanceNormalization")(x, scale, bias)[0]))
  }

  @Test func batchStatistics() throws {
    let x = Tensor([1 as Float, 3, 10, 20, 5, 7, 30, 40], shape: [2, 2, 2])
    let (scale, bias) = (Tensor([1 as Float, 2]), Tensor([0 as Float, 1]))
    let (mean, variance) = (Tensor([0 as Float, 0]), Tensor([1 as Float, 1]))
    let attributes: [(String, AttributeValue)] = [
      ("training_mode", .int(1)), ("momentum", .float(0.5)), ("epsilon", .float(0)),
    ]
    let results = try OperatorRun("BatchNormalization", attributes: attributes)(
      x, scale, bias, mean, variance, outputs: 3)
    #expect(results[1].elements(as: Float.self) == [2, 12.5])
    #expect(results[2].elements(as: Float.self) == [3, 63])
    let deviation = Float(5).squareRoot()
    #expect(abs(results[0].elements(as: Float.self)![0] - -3 / deviation) < 1e-5)
    var old = OperatorRun("BatchNormalization", attributes: [("momentum", .float(0.5)), ("epsilon", .float(0))])
    old.version = 9
    let saved = try old(x, scale, bias, mean, variance, outputs: 5)
    #expect(saved[3].elements(as: Float.self) == [4, 25] && saved[4].elements(as: Float.self) == [5, 125])
    #expect(haveSameBits(saved[0], results[0]) && haveSameBits(saved[2], results[2]))
  }

  @Test func batchStatisticsByPosition() throws {
    let x = sampleTensor([3, 2, 4], seed: 1)
    let parameters = (2...5).map { seed in
      Tensor(sampleTensor([2, 4], seed: seed).elements(as: Float.self)!.map { abs($0) + 0.5 }, shape: [2, 4])
    }
    var old = OperatorRun("BatchNormalization", attributes: [("spatial", .int(0)), ("is_test", .int(1))])
    old.version = 6
    let flat = try OperatorRun("BatchNormalization")(
      x.reshaped(to: [3, 8]), parameters[0].reshaped(to: [8]), parameters[1].reshaped(to: [8]),
      parameters[2].reshaped(to: [8]), parameters[3].reshaped(to: [8]))[0]
    #expect(
      haveSameBits(
        try old(x, parameters[0], parameters[1], parameters[2], parameters[3])[0].reshaped(to: [3, 8]), flat))
  }

  @Test func neighbouringChannels() throws {
    for (size, shape) in [(1, [2, 5, 3, 3]), (3, [2, 5, 200]), (4, [1, 7, 2]), (99, [1, 3, 4])] as [(Int, [Int])] {
      try FormComparison("LRN", [("size", .int(size)), ("alpha", .float(0.5)), ("bias", .float(0.1))]).check(
        [sampleTensor(Shape(shape), seed: size)])
    }
    #expect(throws: (any Error).self) {
      try OperatorRun("LRN", attributes: [("size", .int(0))])(sampleTensor([1, 2], seed: 1))
    }
  }

  @Test func meanAndVarianceOverAnyAxes() throws {
    let x = sampleTensor([2, 3, 4, 5], seed: 1)
    let values = x.elements(as: Float.self)!
    for axes in [[0, 2, 3], [1], [0, 3], [-1], [0, 1, 2, 3]] {
      let y = try OperatorRun("MeanVarianceNormalization", attributes: [("axes", .ints(axes))])(x)[0].elements(
        as: Float.self)!
      let reduced = Set(axes.map { $0 < 0 ? $0 + 4 : $0 })
      var groups: [[Int]: [Int]] = [:]
      let strides = x.shape.strides
      for index in values.indices {
        groups[(0..<4).map { reduced.contains($0) ? 0 : index / strides[$0] % x.shape[$0] }, default: []].append(index)
      }
      for group in groups.values {
        let mean = group.reduce(0.0) { $0 + Double(values[$1]) } / Double(group.count)
        let squares = group.reduce(0.0) { $0 + (Double(values[$1]) - mean) * (Double(values[$1]) - mean) }
        let deviation = (squares / Double(group.count)).squareRoot() + 1e-9
        for index in group { #expect(abs(Double(y[index]) - (Double(values[index]) - mean) / deviation) < 1e-5) }
      }
    }
  }
}

private func exponential(_ x: Float) -> Float {
  var (term, sum) = (1.0, 1.0)
  for index in 1..<40 {
    term *= Double(x) / Double(index)
    sum += term
  }
  return Float(sum)
}
