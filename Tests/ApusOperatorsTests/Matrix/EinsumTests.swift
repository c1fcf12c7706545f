// Einsum: equations against sums written out, packed against plain, errors.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct EinsumTests {
  private func einsum(_ equation: String, _ inputs: [Tensor]) throws -> Tensor {
    try OperatorRun("Einsum", attributes: [("equation", .string(equation))])(inputs.map { .tensor($0) })[0].tensor!
  }

  @Test(
    arguments: [
      ("ij,jk->ik", [[4, 50], [50, 6]]), ("bhid,bhjd->bhij", [[2, 3, 4, 5], [2, 3, 7, 5]]), ("i,j->ij", [[3], [4]]),
      ("ij,kj,lk->il", [[2, 3], [4, 3], [5, 4]]), ("...ij,...jk->...ik", [[2, 1, 3, 4], [5, 4, 2]]),
      ("ii->i", [[4, 4]]),
      ("iij->j", [[3, 3, 2]]), ("ij,ij->", [[3, 4], [3, 4]]), ("abcde->edcba", [[2, 3, 1, 4, 2]]), ("ij", [[2, 3]]),
      ("ij,jk", [[2, 0], [0, 3]]), ("bij,bkj->bik", [[1, 2, 3], [1, 4, 3]]),
      ("ab,ab,ab->a", [[2, 3], [2, 3], [2, 3]]),
      ("a,->a", [[3], []]), ("ij,jk->ik", [[3, 1], [4, 5]]),
    ] as [(String, [[Int]])])
  func packedIsPlain(_ equation: String, _ shapes: [[Int]]) throws {
    let inputs = shapes.enumerated().map { sampleTensor(Shape($0.element), seed: $0.offset + 1) }
    try FormComparison("Einsum", [("equation", .string(equation))], tolerance: 1e-4).check(inputs)
  }

  @Test func sumsAreWhatTheEquationSays() throws {
    let x = Tensor((1...6).map { Float($0) }, shape: [2, 3])
    #expect(try einsum("ij->j", [x]).elements(as: Float.self) == [5, 7, 9])
    #expect(try einsum("ij->", [x]).elements(as: Float.self) == [21])
    #expect(try einsum("ba", [x]).elements(as: Float.self) == [1, 4, 2, 5, 3, 6])
    #expect(try einsum("i j -> j i", [x]).elements(as: Float.self) == [1, 4, 2, 5, 3, 6])
    let bytes: [Int8] = [30, 60, 90, 120]
    let square = Tensor(bytes, shape: [2, 2])
    let trace: [Int8] = [-106]
    #expect(try einsum("ii", [square]).elements(as: Int8.self) == trace)
    // 900 + 5400, 1800 + 7200, 2700 + 10800 and 5400 + 14400, modulo 256.
    let product: [Int8] = [-100, 40, -68, 88]
    #expect(try einsum("ij,jk->ik", [square, square]).elements(as: Int8.self) == product)
  }

  /// An extent of 1 that is left after other axes were summed meets larger ones.
  @Test func extentsOfOneAreRepeated() throws {
    let x = Tensor((1...6).map { Float($0) }, shape: [2, 3])
    let y = Tensor([Float(1), 2, 3, 4], shape: [2, 1, 2])
    let ones = Tensor([Float](repeating: 1, count: 6), shape: [1, 3, 2])
    #expect(try einsum("...j,...jk->...j", [x, ones]).elements(as: Float.self) == [2, 4, 6, 8, 10, 12])
    #expect(try einsum("ij,ijk->ij", [x, y]).elements(as: Float.self) == [3, 6, 9, 28, 35, 42])
  }

  @Test(arguments: ["ij,jk->il", "ij->ii", "i.j->ij", "ij,jk", "ijk->i", "i-j", "...i->i", "i$->i"])
  func badEquationsAreRefused(_ equation: String) {
    #expect(throws: (any Error).self) { try einsum(equation, [sampleTensor([2, 3], seed: 1)]) }
  }

  @Test func extentsMustAgree() {
    #expect(throws: (any Error).self) {
      try einsum("ij,jk->ik", [sampleTensor([2, 3], seed: 1), sampleTensor([4, 2], seed: 1)])
    }
  }
}
