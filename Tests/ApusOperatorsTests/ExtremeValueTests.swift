// Attributes and inputs at the ends of their types: an operator refuses them, or computes, and does not end the
// process.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ExtremeValueTests {
  @Test func rangesWithoutLength() throws {
    func range<T: TensorElement>(_ start: T, _ limit: T, _ delta: T) throws -> Tensor {
      try OperatorRun("Range")(Tensor(scalar: start), Tensor(scalar: limit), Tensor(scalar: delta))[0]
    }
    #expect(try range(Float(0), -1e30, 1).count == 0)
    #expect(try range(Float(0), -Float.infinity, 1).count == 0)
    #expect(try range(Double(0), 1e300, -1).count == 0)
    for (start, limit, delta) in [
      (Float(0), Float.infinity, Float(1)), (0, .nan, 1), (0, 10, .nan), (0, 1e30, 1), (0, 1, 0),
    ] {
      #expect(throws: (any Error).self) { try range(start, limit, delta) }
    }
  }

  @Test func skipsOfAnySize() throws {
    func count(skips: Int, indexes: [Int] = [0]) throws -> [Float]? {
      try OperatorRun(
        "TfIdfVectorizer",
        attributes: [
          ("max_gram_length", .int(2)), ("max_skip_count", .int(skips)), ("min_gram_length", .int(2)),
          ("mode", .string("TF")),
          ("ngram_counts", .ints([0, 0])), ("ngram_indexes", .ints(indexes)), ("pool_int64s", .ints([1, 2])),
        ])(Tensor([1, 2, 1, 2]))[0].elements(as: Float.self)
    }
    #expect(try count(skips: 0) == [2])
    #expect(try count(skips: .max) == count(skips: 10))
    #expect(throws: (any Error).self) { try count(skips: 0, indexes: [.max]) }
    #expect(throws: (any Error).self) { try count(skips: -1) }
  }

  @Test func mapsOfAnySize() throws {
    let map = Value.map(
      MapValue(keys: Tensor([0]), values: [.tensor(Tensor(scalar: Float(1)))], valueType: .tensor(.float32, [])))
    for length in [Int.max, 1 << 60] {
      let run = OperatorRun(
        "CastMap", domain: "ai.onnx.ml", attributes: [("map_form", .string("SPARSE")), ("max_map", .int(length))])
      #expect(throws: (any Error).self) { try run([map]) }
    }
  }
}
