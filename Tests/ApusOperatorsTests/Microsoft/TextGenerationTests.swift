// BeamSearch and its kin: ends, padding, limits, hostile inputs, threads.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TextGenerationTests {
  /// A decoder in the form of GPT-2 whose logits depend on the last token alone: a row of `table`.
  private static func decoder(_ table: [[Float]]) throws -> (String, AttributeValue) {
    let builder = GraphBuilder()
    let ids = builder.input("input_ids", [.symbol("b"), .symbol("s")], .int32)
    _ = builder.input("position_ids", [.symbol("b"), .symbol("s")], .int32)
    _ = builder.input("attention_mask", [.symbol("b"), .symbol("t")], .int32)
    let past = builder.input("past_0", [2, .symbol("b"), 1, .symbol("p"), 1])
    let weights = builder.constant(Array(table.joined()), [table.count, table.count])
    let logits = try builder.node("Gather", [weights, ids])
    let numbers = try builder.node("Cast", [ids], [("to", .int(1))])
    let state = try builder.node("Unsqueeze", [numbers, builder.constant([0, 2, 4], [3])])
    let both = try builder.node("Concat", [state, state], [("axis", .int(0))])
    builder.output(logits, try builder.node("Concat", [past, both], [("axis", .int(3))]))
    return ("decoder", .graph(Subgraph(graph: builder.graph, captured: [])))
  }

  private static func run(
    _ name: String, _ table: [[Float]], _ attributes: [(String, AttributeValue)] = []
  ) throws -> OperatorRun {
    OperatorRun(
      name, domain: "com.microsoft",
      attributes: [try decoder(table), ("eos_token_id", .int(3)), ("pad_token_id", .int(0))] + attributes)
  }

  private static func number(_ value: Int32) -> Tensor { Tensor([value]) }

  /// From 1 to 2, from 2 to 3, which is the end.
  private static let chain: [[Float]] = [[0, 1, 0, 0], [0, 0, 5, 1], [0, 0, 0, 5], [5, 0, 0, 0]]

  @Test func greedyEnds() throws {
    let search = try Self.run("GreedySearch", Self.chain)
    let prompts = Tensor([1, 2] as [Int32], shape: [2, 1])
    let sequences = try search(prompts, Self.number(5))[0]
    #expect(sequences.shape == [2, 5])
    #expect(sequences.elements(as: Int32.self) == [1, 2, 0, 0, 0, 2, 0, 0, 0, 0])
    let longer = try search(prompts, Self.number(5), Self.number(3))[0]
    #expect(longer.elements(as: Int32.self)?.prefix(3) == [1, 2, 0])
  }

  /// The greedy path 0 → 1 leads to even odds; 0 → 2 is less likely at first and certain then.
  @Test func beamsLookFurther() throws {
    let table: [[Float]] = [[-9, 1.1, 1, -9], [0, 0, 0, 0], [-9, 9, -9, -9], [0, 0, 0, 0]]
    func best(_ beams: Int32) throws -> [Int32]? {
      try Self.run("BeamSearch", table)(
        Tensor([0] as [Int32], shape: [1, 1]), Self.number(3), nil, Self.number(beams), Self.number(1), outputs: 2)[0]
        .elements(as: Int32.self)
    }
    #expect(try best(2) == [0, 2, 1])
    #expect(try best(1)?.prefix(2) == [0, 1])
  }

  @Test func threadsDoNotMatter() throws {
    let table = (0..<8).map { row in sampleTensor([8], seed: row).elements(as: Float.self) ?? [] }
    var search = try Self.run("BeamSearch", table)
    func scores() throws -> [[UInt8]] {
      try search(
        Tensor([1, 2, 4, 5] as [Int32], shape: [2, 2]), Self.number(9), nil, Self.number(4), Self.number(2), outputs: 3
      ).map { $0.elements(as: UInt8.self, reinterpreting: true) }
    }
    let one = try scores()
    search.threads = 4
    #expect(try scores() == one)
  }

  @Test func samplingNeedsOneToken() throws {
    // top_p leaves one token, so that nothing is drawn.
    let sample = try Self.run("Sampling", Self.chain, [("top_p", .float(1e-4)), ("temperature", .float(0.1))])
    let results = try sample(Tensor([1] as [Int32], shape: [1, 1]), Self.number(4), outputs: 2)
    #expect(results[0].elements(as: Int32.self) == [1, 2, 0, 0])
    #expect(results[1].shape == [1, 4])
  }

  @Test func emptyBatch() throws {
    let sequences = try Self.run("GreedySearch", Self.chain)(Tensor([] as [Int32], shape: [0, 2]), Self.number(5))[0]
    #expect(sequences.shape == [0, 5])
  }

  @Test func hostileInputs() throws {
    let (greedy, beam) = (try Self.run("GreedySearch", Self.chain), try Self.run("BeamSearch", Self.chain))
    let prompt = Tensor([1, 2] as [Int32], shape: [1, 2])
    let beams = [Self.number(2), Self.number(1)]
    #expect(throws: OperatorError.self) { try greedy(prompt, Self.number(2)) }
    #expect(throws: OperatorError.self) { try greedy(prompt, Self.number(-5)) }
    #expect(throws: OperatorError.self) { try greedy(Tensor([1, 77] as [Int32], shape: [1, 2]), Self.number(4)) }
    #expect(throws: OperatorError.self) { try greedy(Tensor([1, 2] as [Int32]), Self.number(4)) }
    #expect(throws: OperatorError.self) { try greedy(prompt, Self.number(4), nil, Tensor([Float(0)])) }
    #expect(throws: OperatorError.self) { try greedy(prompt, Self.number(4), nil, nil, Tensor([1] as [Int32])) }
    #expect(throws: OperatorError.self) { try beam(prompt, Self.number(4), nil, Self.number(0), beams[1]) }
    #expect(throws: OperatorError.self) { try beam(prompt, Self.number(4), nil, Self.number(1 << 30), beams[1]) }
    #expect(throws: OperatorError.self) { try beam(prompt, Self.number(4), nil, beams[0], Self.number(3)) }
    let paired = try Self.run("BeamSearch", Self.chain, [("model_type", .int(1))])
    #expect(throws: (any Error).self) { try paired(prompt, Self.number(4), nil, beams[0], beams[1]) }
  }
}
