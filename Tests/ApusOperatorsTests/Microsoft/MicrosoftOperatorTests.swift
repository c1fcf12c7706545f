// Operators of com.microsoft on what random cases leave out: hostile inputs, empty ones, several threads.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct MicrosoftOperatorTests {
  private static func run(_ name: String, _ attributes: [(String, AttributeValue)] = []) -> OperatorRun {
    OperatorRun(name, domain: "com.microsoft", attributes: attributes)
  }

  private static func bytes(_ shape: Shape) -> Tensor {
    Tensor((0..<shape.elementCount).map { UInt8(truncatingIfNeeded: $0 &* 89) }, shape: shape)
  }

  // MARK: - Products

  @Test func productsOfBytes() throws {
    var multiply = Self.run("MulInteger")
    multiply.version = 1
    let (a, b) = (Tensor([255, 0, 7] as [UInt8], shape: [3, 1]), Tensor([255, 1] as [UInt8]))
    let points = [Tensor(scalar: UInt8(10)), Tensor(scalar: UInt8(3))]
    #expect(try multiply(a, nil, b)[0].elements(as: Int32.self) == [65025, 255, 0, 0, 1785, 7])
    #expect(
      try multiply(a, points[0], b, points[1])[0].elements(as: Int32.self) == [61740, -490, -2520, 20, -756, 6])
    #expect(throws: (any Error).self) { try multiply(a, nil, Tensor([1] as [Int8])) }
  }

  /// Where pads count, all of a window counts, also what an extent that is rounded up lets reach beyond them; windows
  /// that begin behind the image are left out.
  @Test func averagesOfWindowsBeyondThePads() throws {
    func averages(_ kernel: Int, _ stride: Int, _ pads: [Int], channelsLast: Bool) throws -> [UInt8]? {
      var run = Self.run(
        "QLinearAveragePool",
        [
          ("kernel_shape", .ints([kernel])), ("strides", .ints([stride])), ("pads", .ints(pads)),
          ("ceil_mode", .int(1)), ("count_include_pad", .int(1)), ("channels_last", .int(channelsLast ? 1 : 0)),
        ])
      run.version = 1
      let x = Tensor([UInt8](repeating: 240, count: 7), shape: channelsLast ? [1, 7, 1] : [1, 1, 7])
      let (scale, zero) = (Tensor(scalar: 1 as Float), Tensor(scalar: UInt8(0)))
      return try run(x, scale, zero, scale, zero)[0].elements(as: UInt8.self)
    }
    for last in [false, true] {
      #expect(try averages(3, 2, [0, 0], channelsLast: last) == [240, 240, 240])
      #expect(try averages(3, 2, [0, 1], channelsLast: last) == [240, 240, 240, 80])
      #expect(try averages(3, 2, [1, 2], channelsLast: last) == [160, 240, 240, 160])
      #expect(try averages(4, 3, [1, 1], channelsLast: last) == [180, 240, 120])
      #expect(try averages(5, 3, [2, 2], channelsLast: last) == [144, 240, 144])
    }
  }

  // MARK: - Hashes of tokens

  /// Runs of up to three tokens, with two hashes each; -7 and 11 make products of both signs.
  private static func hash(
    _ ids: [Int], past: [Int]? = nil, sizes: [Int] = [5, 7, 9, 11], end: Int? = nil
  ) throws -> (hashes: [Int], present: [Int]) {
    let outputs = try run(
      "NGramHashMapping",
      [
        ("max_ngram_size", .int(3)), ("n_head_per_ngram", .int(2)), ("pad_id", .int(1)),
        ("reset_on_eos", .int(end == nil ? 0 : 1)),
      ])(
        Tensor(ids, shape: [1, ids.count]), Tensor([3, -7, 11]), Tensor(sizes),
        past.map { Tensor($0, shape: [1, 2]) }, nil, end.map { Tensor(scalar: Int64($0)) }, outputs: 2)
    return (outputs[0].integers ?? [], outputs[1].integers ?? [])
  }

  @Test func hashesOfRunsOfTokens() throws {
    // 4·3 ^ 1·(-7) = -11, and that ^ 1·11 = -2: the rest of a division is never negative.
    let first = try Self.hash([4])
    #expect(first.hashes == [4, 3, 7, 9] && first.present == [1, 4])
    // A sequence in pieces gives what it gives as a whole.
    let ids = [4, 2, 2, 9, 0, 5, 2]
    let whole = try Self.hash(ids)
    var (pieces, past): ([Int], [Int]?) = ([], nil)
    for piece in [ids[..<3], ids[3..<4], ids[4...]] {
      let part = try Self.hash(Array(piece), past: past)
      pieces += part.hashes
      past = part.present
    }
    #expect(pieces == whole.hashes && past == whole.present)
    // What stands before an end is not seen behind it.
    let ended = try Self.hash([4, 2, 8, 6], end: 2)
    let other = try Self.hash([7, 2, 8, 6], end: 2)
    #expect(ended.hashes[8...] == other.hashes[8...] && ended.hashes[..<4] != other.hashes[..<4])
    #expect(throws: (any Error).self) { try Self.hash([4], sizes: [5, 0, 9, 11]) }
    #expect(throws: (any Error).self) { try Self.hash([4], sizes: [5, 7, 9]) }
  }

  // MARK: - Text

  private static func tokens(
    _ strings: [String], _ attributes: [(String, AttributeValue)], mark: Int = 0
  ) throws -> Tensor {
    try run(
      "Tokenizer", attributes + [("mark", .int(mark)), ("pad_value", .string("#")), ("mincharnum", .int(1))]
    )(Tensor(strings: strings, shape: [strings.count]))[0]
  }

  @Test func tokenizer() throws {
    let spaces = try Self.tokens(["Hello World", "I love  it !"], [("separators", .strings([" "]))])
    #expect(spaces.shape == [2, 4])
    #expect(spaces.strings == ["Hello", "World", "#", "#", "I", "love", "it", "!"])
    let marked = try Self.tokens(["é1", ""], [("tokenexp", .string("."))], mark: 1)
    #expect(marked.strings == ["\u{2}", "é", "1", "\u{3}", "\u{2}", "\u{3}", "#", "#"])
    // Of the matches at a place the longest counts, whatever stands first in the expression.
    #expect(try Self.tokens(["abc"], [("tokenexp", .string("a|ab"))]).strings == ["ab"])
    #expect(try Self.tokens(["", ""], [("separators", .strings([" "]))]).shape == [2, 0])
    #expect(try Self.tokens([], [("separators", .strings([" "]))]).shape == [0])
  }

  @Test func tokenizerRefuses() {
    let refused: [[(String, AttributeValue)]] = [
      [], [("separators", .strings(["("]))], [("separators", .strings([]))], [("tokenexp", .string("["))],
      [("separators", .strings([" "])), ("tokenexp", .string("a"))],
    ]
    for attributes in refused {
      #expect(throws: (any Error).self) { try Self.tokens(["a"], attributes) }
    }
  }

  @Test func wordsOutOfRange() throws {
    let embedding = Self.run("WordConvEmbedding")
    let weights = [sampleTensor([2, 1, 2, 3], seed: 1), sampleTensor([2], seed: 2), sampleTensor([4, 3], seed: 3)]
    let words = Tensor([1, 3, 0, 0, 2, 2] as [Int32], shape: [2, 3])
    // The second word is empty.
    #expect(try embedding(words, weights[0], weights[1], weights[2])[0].elements(as: Float.self)?.suffix(2) == [0, 0])
    for character: Int32 in [4, -1] {
      let words = Tensor([1, character, 0], shape: [1, 3])
      #expect(throws: (any Error).self) { try embedding(words, weights[0], weights[1], weights[2]) }
    }
    let short = Tensor([1] as [Int32], shape: [1, 1])
    #expect(throws: (any Error).self) { try embedding(short, weights[0], weights[1], weights[2]) }
  }

  @Test func bifurcationOutOfRange() {
    let detector = Self.run("BifurcationDetector")
    for (position, count) in [(-1, 5), (4, 1), (0, 3), (Int.max, 1)] {
      let predicted = Tensor([Int](repeating: 1, count: count))
      #expect(throws: OperatorError.self) {
        try detector(Tensor([1, 2, 3]), Tensor([1]), Tensor([position]), predicted, outputs: 2)
      }
    }
  }

  @Test func pathThroughNothing() throws {
    #expect(try Self.run("DynamicTimeWarping")(Tensor([] as [Float], shape: [0, 3]))[0].shape == [2, 0])
    #expect(throws: (any Error).self) { try Self.run("DynamicTimeWarping")(Tensor([] as [Float], shape: [2, 0, 3])) }
  }

  // MARK: - Experts

  private static func experts(
    _ tokens: Int, _ attributes: [(String, AttributeValue)], threads: Int = 1, scales: Int = 2
  ) throws -> Tensor {
    var mixture = run("QMoE", attributes + [("k", .int(2)), ("activation_type", .string("silu"))])
    mixture.threads = threads
    let first = sampleTensor([3, 48, scales], seed: 3)
    return try mixture(
      sampleTensor([tokens, 32], seed: 1), sampleTensor([tokens, 3], seed: 2), bytes([3, 48, 16]), first, nil,
      bytes([3, 32, 24]), sampleTensor([3, 32, 3], seed: 4))[0]
  }

  @Test func quantizedExperts() throws {
    let blocks: [(String, AttributeValue)] = [("block_size", .int(16))]
    let one = try Self.experts(40, blocks)
    #expect(try Self.experts(40, blocks, threads: 4).elements(as: Float.self) == one.elements(as: Float.self))
    // A token has the same bits alone.
    #expect(one.elements(as: Float.self)?.prefix(32) == (try Self.experts(1, blocks)).elements(as: Float.self)?[...])
    #expect(try Self.experts(0, blocks).shape == [0, 32])
    #expect(throws: (any Error).self) { try Self.experts(4, blocks, scales: 3) }
    let refused: [[(String, AttributeValue)]] = [
      [("block_size", .int(5))], blocks + [("expert_weight_bits", .int(3))], blocks + [("quant_type", .string("fp8"))],
      blocks + [("weights_prepacked", .int(1))],
    ]
    for attributes in refused { #expect(throws: (any Error).self) { try Self.experts(4, attributes) } }
  }

  // MARK: - Recurrence

  private static func recurrent(lengths: [Int32], threads: Int = 1) throws -> [Tensor] {
    var lstm = run("DynamicQuantizeLSTM", [("direction", .string("bidirectional"))])
    lstm.threads = threads
    let (scales, zeros) = (Tensor([0.01, 0.02] as [Float]), Tensor([120, 130] as [UInt8]))
    return try lstm(
      sampleTensor([4, 3, 5], seed: 1), bytes([2, 5, 24]), bytes([2, 6, 24]), nil, Tensor(lengths), nil, nil, nil,
      scales, zeros, scales, zeros, outputs: 3)
  }

  @Test func quantizedLSTM() throws {
    let one = try Self.recurrent(lengths: [4, 0, 2])
    let two = try Self.recurrent(lengths: [4, 0, 2], threads: 2)
    for (a, b) in zip(one, two) { #expect(a.elements(as: Float.self) == b.elements(as: Float.self)) }
    // Nothing comes of an empty sequence.
    #expect(one[1].elements(as: Float.self)?[6..<12].allSatisfy { $0 == 0 } == true)
    for length: Int32 in [5, -1] { #expect(throws: (any Error).self) { try Self.recurrent(lengths: [4, length, 1]) } }
  }

  /// With the byte kernel, packed before or in the run, and without.
  @Test(arguments: [false, true]) func quantizedLSTMProducts(isSigned: Bool) throws {
    var dice = Dice(21)
    func codes(_ shape: [Int]) -> Tensor {
      let codes = (0..<shape.reduce(1, *)).map { _ in UInt8(dice.roll(0...255)) }
      return isSigned
        ? Tensor(codes.map { Int8(bitPattern: $0) }, shape: Shape(shape)) : Tensor(codes, shape: Shape(shape))
    }
    for (batch, width, hidden, byColumn) in [(1, 7, 5, true), (3, 33, 20, false), (30, 1, 9, true)] {
      let (weights, states) = (codes([2, width, 4 * hidden]), codes([2, hidden, 4 * hidden]))
      let shape = byColumn ? [2, 4 * hidden] : [2]
      let scales = Tensor((0..<shape.reduce(1, *)).map { 0.001 + 0.0001 * Float($0 % 7) }, shape: Shape(shape))
      let inputs = [
        sampleTensor([3, batch, width], seed: 1), weights, states, nil, nil, nil, nil, nil, scales, codes(shape),
        scales,
        codes(shape),
      ]
      var lstm = Self.run("DynamicQuantizeLSTM", [("direction", .string("bidirectional"))])
      for constants: Set<Int> in [[], [1], [1, 2]] {
        lstm.constantInputs = constants
        let (fast, general) = try fastAndGeneral(lstm, inputs, outputs: 3)
        for (a, b) in zip(fast, general) { #expect(haveSameBits(a, b), "\(batch) \(width) \(hidden)") }
      }
    }
  }

  // MARK: - Attention

  private static func grouped(_ last: Int32, total: Int32 = 5, positions: [Int]? = nil) throws -> [Tensor] {
    let cache = sampleTensor([1, 1, 6, 4], seed: 4)
    let angles = positions == nil ? nil : sampleTensor([8, 2], seed: 5)
    return try run(
      "GroupQueryAttention",
      [("num_heads", .int(2)), ("kv_num_heads", .int(1)), ("do_rotary", .int(positions == nil ? 0 : 1))]
    )(
      sampleTensor([1, 1, 8], seed: 1), sampleTensor([1, 1, 4], seed: 2), sampleTensor([1, 1, 4], seed: 3), cache,
      cache,
      Tensor([last]), Tensor([total]), angles, angles, positions.map { Tensor($0, shape: [1, 1]) }, outputs: 3)
  }

  @Test func groupedQueries() throws {
    #expect(try Self.grouped(4)[1].shape == [1, 1, 6, 4])
    for last: Int32 in [-1, 6, .max, .min] { #expect(throws: (any Error).self) { try Self.grouped(last) } }
    #expect(throws: (any Error).self) { try Self.grouped(4, total: 0) }
    #expect(throws: (any Error).self) { try Self.grouped(4, positions: [8]) }
    #expect(throws: (any Error).self) { try Self.grouped(4, positions: [-1]) }
  }
}
