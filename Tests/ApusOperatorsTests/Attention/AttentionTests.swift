// Attention: the packed form against the plain one over masks, caches, windows and heads; rows without keys.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct AttentionTests {
  private struct Case: CustomTestStringConvertible {
    var testDescription: String
    var attributes: [(String, AttributeValue)] = []
    var queries = 40
    var past = 0
    var mask: Shape?
    var isBoolMask = false
    var validKeys: [Int]?
    var outputs = 1
  }

  private static let cases: [Case] =
    [
      Case(testDescription: "plain"),
      Case(testDescription: "causal", attributes: [("is_causal", .int(1))]),
      Case(testDescription: "window", attributes: [("left_window_size", .int(5)), ("right_window_size", .int(2))]),
      Case(
        testDescription: "huge window",
        attributes: [("left_window_size", .int(.max)), ("right_window_size", .int(.max))]),
      Case(testDescription: "softcap", attributes: [("softcap", .float(1.5)), ("scale", .float(2))]),
      Case(testDescription: "past", attributes: [("is_causal", .int(1))], queries: 3, past: 70, outputs: 3),
      Case(testDescription: "one query", queries: 1, past: 100),
      Case(testDescription: "mask", mask: [2, 1, 40, 40]),
      Case(testDescription: "short mask", mask: [40, 33]),
      Case(testDescription: "bool mask", attributes: [("is_causal", .int(1))], mask: [6, 40, 40], isBoolMask: true),
      Case(testDescription: "padding", attributes: [("is_causal", .int(1))], validKeys: [40, 7]),
      Case(testDescription: "more queries than keys", attributes: [("is_causal", .int(1))], validKeys: [0, 3]),
    ]
    + (0...3).map {
      Case(
        testDescription: "scores \($0)",
        attributes: [("qk_matmul_output_mode", .int($0)), ("softcap", .float(3)), ("is_causal", .int(1))], past: 9,
        mask: [40, 49], outputs: 4)
    }

  @Test(arguments: cases)
  private func packedIsPlain(_ test: Case) throws {
    let (batch, keyHeads, size, valueSize) = (2, 2, 24, 40)
    for (group, hasFourAxes) in [(1, true), (3, true), (3, false)] {
      let heads = keyHeads * group
      func matrix(_ heads: Int, _ length: Int, _ size: Int, _ seed: Int) -> Tensor {
        sampleTensor(hasFourAxes ? [batch, heads, length, size] : [batch, length, heads * size], seed: seed)
      }
      var inputs: [Tensor?] = [
        matrix(heads, test.queries, size, 1), matrix(keyHeads, 40, size, 2), matrix(keyHeads, 40, valueSize, 3), nil,
      ]
      if let shape = test.mask {
        let shape = shape.rank == 3 ? Shape([heads] + shape.dims[1...]) : shape
        let numbers = sampleTensor(shape, seed: 4).elements(as: Float.self)!
        inputs[3] = test.isBoolMask ? Tensor(numbers.map { $0 > -0.5 }, shape: shape) : Tensor(numbers, shape: shape)
      }
      if test.past > 0 {
        inputs.append(sampleTensor([batch, keyHeads, test.past, size], seed: 5))
        inputs.append(sampleTensor([batch, keyHeads, test.past, valueSize], seed: 6))
      } else if let valid = test.validKeys {
        inputs += [nil, nil, Tensor(valid)]
      }
      var attributes = test.attributes
      if !hasFourAxes { attributes += [("q_num_heads", .int(heads)), ("kv_num_heads", .int(keyHeads))] }
      try FormComparison("Attention", attributes, outputs: test.outputs).check(
        inputs, halves: group == 1 && test.outputs < 4)
    }
  }

  @Test func rowsWithoutKeysAreZero() throws {
    let (q, k) = (sampleTensor([1, 1, 3, 4], seed: 1), sampleTensor([1, 1, 5, 4], seed: 2))
    let mask = Tensor((0..<15).map { $0 >= 5 && $0 < 10 ? false : true }, shape: [3, 5])
    for plain in [false, true] {
      let y = try FormComparison("Attention", [("qk_matmul_output_mode", .int(3))], outputs: 4).run(
        [q, k, k, mask], plain: plain)
      #expect(y[0].elements(as: Float.self)![4..<8].allSatisfy { $0 == 0 })
      #expect(y[3].elements(as: Float.self)![5..<10].allSatisfy { $0 == 0 })
      #expect(y[0].elements(as: Float.self)![0..<4].contains { $0 != 0 })
    }
  }

  @Test func manyKeysInSeveralBlocks() throws {
    // More keys than packed panels or rows of values hold at once, and more rows than a block has.
    let (q, k) = (sampleTensor([1, 1, 300, 64], seed: 1), sampleTensor([1, 1, 1100, 64], seed: 2))
    let v = sampleTensor([1, 1, 1100, 48], seed: 3)
    try FormComparison("Attention").check([q, k, v], halves: false)
  }

  /// Few queries read keys and values as they lie; they have the bits of the same queries among many.
  @Test func aQueryAloneHasTheBitsOfManyQueries() throws {
    let q = sampleTensor([1, 2, 90, 24], seed: 1)
    let (k, v) = (sampleTensor([1, 2, 1137, 24], seed: 2), sampleTensor([1, 2, 1137, 40], seed: 3))
    let comparison = FormComparison("Attention")
    let many = try comparison.run([q, k, v])[0]
    func part(_ whole: Tensor, width: Int, _ queries: Range<Int>) throws -> Tensor {
      let numbers = try #require(whole.elements(as: Float.self))
      var rows: [Float] = []
      for head in 0..<2 {
        let first = (head * 90 + queries.lowerBound) * width
        rows += Array(numbers[first..<first + queries.count * width])
      }
      return Tensor(rows, shape: [1, 2, queries.count, width])
    }
    for queries in [0..<1, 41..<42, 86..<90] {
      let few = try comparison.run([try part(q, width: 24, queries), k, v])[0]
      #expect(haveSameBits(few, try part(many, width: 40, queries)), "\(queries)")
    }
  }

  @Test func impossibleInputsAreRefused() {
    let q = sampleTensor([1, 3, 2, 4], seed: 1)
    #expect(throws: (any Error).self) {
      try OperatorRun("Attention")(q, sampleTensor([1, 2, 2, 4], seed: 1), sampleTensor([1, 2, 2, 4], seed: 1))
    }
    #expect(throws: (any Error).self) { try OperatorRun("Attention")(q, sampleTensor([1, 3, 2, 5], seed: 1), q) }
    #expect(throws: (any Error).self) { try OperatorRun("Attention")(q, q, q, nil, q) }
    let three = sampleTensor([1, 2, 8], seed: 1)
    #expect(throws: (any Error).self) { try OperatorRun("Attention")(three, three, three) }
  }
}
