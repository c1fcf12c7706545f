// DeformConv and CausalConvWithState: what the backend suite leaves out.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct DeformConvTests {
  /// Without offsets it is a convolution, in any number of dimensions and groups.
  @Test(arguments: 1...3) func withoutOffsets(_ rank: Int) throws {
    let kernel = Array([3, 2, 2].prefix(rank))
    let extents = Array([7, 6, 5].prefix(rank))
    let attributes: [(String, AttributeValue)] = [
      ("group", .int(2)), ("strides", .ints([Int](repeating: 2, count: rank))),
      ("pads", .ints([Int](repeating: 1, count: 2 * rank))),
    ]
    let x = sampleTensor(Shape([2, 4] + extents), seed: 1)
    let w = sampleTensor(Shape([6, 2] + kernel), seed: 2)
    let plain = try OperatorRun("Conv", attributes: attributes)(x, w)[0]
    let taps = kernel.reduce(1, *)
    let offsets = Tensor(zeros: .float32, shape: Shape([2, 2 * taps * rank] + plain.shape[2...]))
    let run = OperatorRun("DeformConv", attributes: attributes + [("offset_group", .int(2))])
    expectClose(try run(x, w, offsets)[0], plain, "rank \(rank)")
    // Zero offsets weigh one element by one and its neighbours by zero.
    let check = RoundingCheck(run, terms: 2 * taps << rank)
    for type in [DataType.float64, .float32, .float16, .bfloat16] {
      #expect(try check.worst([x, w, offsets], as: type) <= 1, "\(type)")
    }
  }

  /// Offsets far outside, infinite or no numbers read zeros.
  @Test func wildOffsets() throws {
    let (x, w) = (sampleTensor([1, 1, 3, 3], seed: 1), sampleTensor([1, 1, 1, 1], seed: 2))
    for wild in [Float.nan, .infinity, -1e30, 1e9] {
      let offsets = Tensor([Float](repeating: wild, count: 18), shape: [1, 2, 3, 3])
      let result = try OperatorRun("DeformConv")(x, w, offsets)[0]
      #expect(result.elements(as: Float.self) == [Float](repeating: 0, count: 9))
    }
  }

  /// A sequence in pieces, each with the state of the one before, is the sequence at once.
  @Test(arguments: [DataType.float32, .float16, .bfloat16]) func causalInPieces(_ type: DataType) throws {
    let x = try cast(sampleTensor([2, 3, 11], seed: 1), to: type)
    let (w, bias) = (
      try cast(sampleTensor([3, 1, 4], seed: 2), to: type), try cast(sampleTensor([3], seed: 3), to: type)
    )
    let run = OperatorRun("CausalConvWithState", attributes: [("activation", .string("silu"))])
    let whole = try run(x, w, bias, outputs: 2)
    var state: Tensor?
    var pieces: [Tensor] = []
    for (start, end) in [(0, 1), (1, 3), (3, 9), (9, 11)] {
      let piece = try OperatorRun("Slice")(x, Tensor([start]), Tensor([end]), Tensor([2]))[0]
      let results = try run(piece, w, bias, state, outputs: 2)
      pieces.append(results[0])
      state = results[1]
    }
    let joined = try OperatorRun("Concat", attributes: [("axis", .int(2))])(pieces.map { .tensor($0) })[0].tensor
    expectClose(
      try cast(try #require(joined), to: .float32), try cast(whole[0], to: .float32),
      tolerance: type == .float32 ? 1e-6 : 0,
      "\(type)")
    #expect(bytes(try #require(state)) == bytes(whole[1]))
  }
}
