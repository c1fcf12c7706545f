// RotaryEmbedding, LinearAttention, FlexAttention: halves, data out of range, subgraphs.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RotaryAndLinearTests {
  @Test func rotationsOfHalves() throws {
    let x = sampleTensor([2, 3, 5, 8], seed: 1)
    let (cosines, sines) = (sampleTensor([2, 5, 4], seed: 2), sampleTensor([2, 5, 4], seed: 3))
    for interleaved in 0...1 {
      let run = OperatorRun("RotaryEmbedding", attributes: [("interleaved", .int(interleaved))])
      let wide = try run(x, cosines, sines)[0]
      let narrow = try run(narrowed(x, .float16), narrowed(cosines, .float16), narrowed(sines, .float16))[0]
      #expect(distance(widened(narrow), wide) < 4e-3)
      // By position and by head are the same turn.
      let places = Tensor((0..<10).map { Int64($0 % 5) }, shape: [2, 5])
      let shared = Tensor(Array(cosines.elements(as: Float.self)![0..<20]), shape: [1, 5, 4])
      let sharedSines = Tensor(Array(sines.elements(as: Float.self)![0..<20]), shape: [1, 5, 4])
      let byCache = try run(x, shared, sharedSines)[0]
      #expect(
        haveSameBits(try run(x, shared.reshaped(to: [5, 4]), sharedSines.reshaped(to: [5, 4]), places)[0], byCache))
    }
  }

  @Test func positionsBeyondTheCacheAreRefused() {
    let cache = sampleTensor([3, 2], seed: 1)
    for position in [Int64(3), -1] {
      #expect(throws: (any Error).self) {
        try OperatorRun("RotaryEmbedding")(
          sampleTensor([1, 1, 1, 4], seed: 1), cache, cache, Tensor([position], shape: [1, 1]))
      }
    }
  }

  @Test func statesGoOnWhereTheyEnded() throws {
    let heads: [(String, AttributeValue)] = [("q_num_heads", .int(4)), ("kv_num_heads", .int(2))]
    let (q, k) = (sampleTensor([2, 6, 4 * 3], seed: 1), sampleTensor([2, 6, 2 * 3], seed: 2))
    let (v, decay) = (sampleTensor([2, 6, 2 * 70], seed: 3), sampleTensor([2, 6, 2], seed: 4))
    let beta = sampleTensor([2, 6, 1], seed: 5)
    func part(_ x: Tensor, _ tokens: Range<Int>) -> Tensor {
      let (length, width, values) = (x.shape[1], x.shape[2], x.elements(as: Float.self)!)
      var lines: [Float] = []
      for batch in 0..<x.shape[0] {
        let first = batch * length + tokens.lowerBound
        lines += values[first * width..<(first + tokens.count) * width]
      }
      return Tensor(lines, shape: [x.shape[0], tokens.count, width])
    }
    let run = OperatorRun("LinearAttention", attributes: heads)
    let whole = try run(q, k, v, nil, decay, beta, outputs: 2)
    func pass(_ tokens: Range<Int>, _ state: Tensor?) throws -> [Tensor] {
      try run(
        part(q, tokens), part(k, tokens), part(v, tokens), state, part(decay, tokens), part(beta, tokens), outputs: 2)
    }
    let first = try pass(0..<4, nil)
    let second = try pass(4..<6, first[1])
    #expect(haveSameBits(second[1], whole[1]))
    #expect(haveSameBits(second[0], part(whole[0], 4..<6)))
    #expect(throws: (any Error).self) { try run(q, k, v, outputs: 2) }
  }

  @Test func subgraphsChangeScoresAndProbabilities() throws {
    func subgraph(_ op: String, _ number: Float) throws -> AttributeValue {
      let builder = GraphBuilder()
      let input = builder.input("x", [Dim](repeating: .unknown, count: 4))
      builder.output(try builder.node(op, [input, builder.addConstant(Tensor(scalar: number))]))
      return .graph(builder.subgraph)
    }
    let (q, k) = (sampleTensor([2, 4, 3, 8], seed: 1), sampleTensor([2, 2, 5, 8], seed: 2))
    let v = sampleTensor([2, 2, 5, 6], seed: 3)
    let flex = OperatorRun(
      "FlexAttention", domain: "ai.onnx.preview",
      attributes: [("score_mod", try subgraph("Mul", 3)), ("prob_mod", try subgraph("Mul", 2))])
    let scale = 3 / Float(8).squareRoot()
    let plain = try OperatorRun("Attention", attributes: [("scale", .float(scale))])(q, k, v)[0]
    let doubled = Tensor(plain.elements(as: Float.self)!.map { 2 * $0 }, shape: plain.shape)
    #expect(distance(try flex(q, k, v)[0], doubled) < 1e-5)
    let without = try OperatorRun("FlexAttention", domain: "ai.onnx.preview", attributes: [("scale", .float(scale))])(
      q, k, v)[0]
    #expect(distance(without, plain) < 1e-5)
  }
}
