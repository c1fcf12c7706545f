// RNN, GRU and LSTM: packed against plain over directions, layouts, lengths; large states split over units.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RecurrentTests {
  private func inputs(
    _ name: String, steps: Int, batch: Int, input: Int, hidden: Int, directions: Int, batchFirst: Bool = false
  ) -> [Tensor?] {
    let gates = name == "LSTM" ? 4 : name == "GRU" ? 3 : 1
    func scaled(_ shape: Shape, _ seed: Int) -> Tensor {
      Tensor(sampleTensor(shape, seed: seed).elements(as: Float.self)!.map { $0 * 0.5 }, shape: shape)
    }
    let state: Shape = batchFirst ? [batch, directions, hidden] : [directions, batch, hidden]
    var result: [Tensor?] = [
      sampleTensor(batchFirst ? [batch, steps, input] : [steps, batch, input], seed: 1),
      scaled([directions, gates * hidden, input], 2), scaled([directions, gates * hidden, hidden], 3),
      sampleTensor([directions, 2 * gates * hidden], seed: 4), nil, sampleTensor(state, seed: 5),
    ]
    if name == "LSTM" { result += [sampleTensor(state, seed: 6), scaled([directions, 3 * hidden], 7)] }
    return result
  }

  @Test(arguments: ["RNN", "GRU", "LSTM"], ["forward", "reverse", "bidirectional"])
  func packedIsPlain(_ name: String, _ direction: String) throws {
    let directions = direction == "bidirectional" ? 2 : 1
    for (hidden, batch) in [(3, 2), (33, 1), (40, 9)] {
      for isBatchFirst in [false, true] {
        var given = inputs(
          name, steps: 5, batch: batch, input: 7, hidden: hidden, directions: directions, batchFirst: isBatchFirst)
        var attributes: [(String, AttributeValue)] = [
          ("direction", .string(direction)), ("hidden_size", .int(hidden)), ("layout", .int(isBatchFirst ? 1 : 0)),
        ]
        let outputs = name == "LSTM" ? 3 : 2
        try FormComparison(name, attributes, outputs: outputs).check(given, constants: [1, 2, 3], halves: hidden == 3)
        given[4] = Tensor((0..<batch).map { Int32($0 % 6) })
        if name == "GRU" { attributes.append(("linear_before_reset", .int(1))) }
        if name == "LSTM" { attributes += [("input_forget", .int(1)), ("clip", .float(0.7))] }
        try FormComparison(name, attributes, outputs: outputs).check(given, constants: [2], halves: false)
      }
    }
  }

  /// States large enough that the parts meet after every step.
  @Test(arguments: ["RNN", "GRU", "LSTM"])
  func unitsInParts(_ name: String) throws {
    let hidden = name == "RNN" ? 800 : 420
    for late in name == "GRU" ? [0, 1] : [0] {
      var attributes: [(String, AttributeValue)] = [("direction", .string("bidirectional"))]
      if name == "GRU" { attributes.append(("linear_before_reset", .int(late))) }
      let given = inputs(name, steps: 3, batch: 1, input: 5, hidden: hidden, directions: 2)
      try FormComparison(name, attributes, outputs: 2, tolerance: 1e-4).check(given, constants: [1, 2], halves: false)
    }
  }

  /// What has ended keeps its state and gives zeros, also when it runs backwards.
  @Test(arguments: ["RNN", "GRU", "LSTM"])
  func shortSequences(_ name: String) throws {
    let attributes: [(String, AttributeValue)] = [("direction", .string("reverse"))]
    let comparison = FormComparison(name, attributes, outputs: 2)
    var long = inputs(name, steps: 4, batch: 2, input: 3, hidden: 5, directions: 1)
    long[4] = Tensor([2 as Int32, 4])
    let results = try comparison.run(long)
    var short = inputs(name, steps: 4, batch: 2, input: 3, hidden: 5, directions: 1)
    short[0] = Tensor(Array(short[0]!.elements(as: Float.self)![0..<12]), shape: [2, 2, 3])
    let cut = try comparison.run(short)
    let (y, last) = (results[0].elements(as: Float.self)!, results[1].elements(as: Float.self)!)
    #expect(Array(last[0..<5]) == Array(cut[1].elements(as: Float.self)![0..<5]))
    #expect(y[2 * 10..<2 * 10 + 5].allSatisfy { $0 == 0 } && y[3 * 10..<3 * 10 + 5].allSatisfy { $0 == 0 })
    long[4] = Tensor([5 as Int32, 4])
    #expect(throws: (any Error).self) { try comparison.run(long) }
  }

  /// Without an initial state the first product is left out where R is known, with the same bits; not where R holds
  /// what makes more than zeros of zeros.
  @Test(arguments: ["RNN", "GRU", "LSTM"])
  func firstStepFromZeros(_ name: String) throws {
    for late in name == "GRU" ? [0, 1] : [0] {
      let attributes: [(String, AttributeValue)] =
        [("direction", .string("bidirectional"))] + (name == "GRU" ? [("linear_before_reset", .int(late))] : [])
      let comparison = FormComparison(name, attributes, outputs: 2)
      for steps in [1, 3] {
        var given = inputs(name, steps: steps, batch: 2, input: 3, hidden: 37, directions: 2)
        given[5] = nil
        if name == "LSTM" { given[6] = nil }
        for value in [Float(0.5), .infinity, .nan] {
          var weights = given[2]!.elements(as: Float.self)!
          weights[weights.count - 1] = value
          given[2] = Tensor(weights, shape: given[2]!.shape)
          let (known, unknown) = (try comparison.run(given, constants: [2]), try comparison.run(given))
          #expect(zip(known, unknown).allSatisfy { haveSameBits($0, $1) }, "\(late) \(steps) \(value)")
          #expect(known[0].elements(as: Float.self)!.contains(where: \.isNaN) == !value.isFinite)
        }
      }
    }
  }

  @Test func noStepsKeepTheState() throws {
    let given = inputs("LSTM", steps: 0, batch: 2, input: 3, hidden: 5, directions: 1)
    let results = try FormComparison("LSTM", outputs: 3).run(given)
    #expect(
      results[0].shape == [0, 1, 2, 5] && haveSameBits(results[1], given[5]!) && haveSameBits(results[2], given[6]!))
  }

  @Test(arguments: [
    "Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign",
    "Softplus",
  ])
  func activations(_ activation: String) throws {
    let given = inputs("RNN", steps: 3, batch: 2, input: 3, hidden: 5, directions: 1)
    let attributes: [(String, AttributeValue)] = [
      ("activations", .strings([activation])), ("activation_alpha", .floats([0.4])),
      ("activation_beta", .floats([0.3])),
    ]
    try FormComparison("RNN", attributes, outputs: 2).check(given)
  }

  @Test func unknownActivationsAreRefused() {
    let given = inputs("RNN", steps: 1, batch: 1, input: 1, hidden: 1, directions: 1)
    #expect(throws: (any Error).self) { try FormComparison("RNN", [("activations", .strings(["Sine"]))]).run(given) }
  }
}
