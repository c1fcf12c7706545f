// Transpose: every type and permutation, odd sizes, empty tensors.

import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TransposeTests {
  @Test(arguments: movedTypes) func everyType(_ type: DataType) throws {
    for (shape, perm) in [
      ([3, 5], [1, 0]), ([2, 3, 4], [2, 0, 1]), ([2, 3, 4], [0, 2, 1]), ([2, 1, 3, 1, 2], [3, 0, 4, 1, 2]), ([7], [0]),
      ([2, 3, 2, 2], [2, 1, 0, 3]), ([0, 3], [1, 0]), ([], []),
    ] as [(Shape, [Int])] {
      let input = anyTensor(type, shape)
      let run = OperatorRun("Transpose", attributes: [("perm", .ints(perm))])
      let result = try runEveryWay(run, input)[0]
      expectMoved(result, input, shape: Shape(perm.map { shape[$0] })) { output in
        var source = [Int](repeating: 0, count: perm.count)
        for (axis, from) in perm.enumerated() { source[from] = output[axis] }
        return source
      }
    }
  }

  @Test(arguments: [DataType.uint8, .float16, .float32, .float64, .complex128, .int4])
  func largeOddPlanes(_ type: DataType) throws {
    for (shape, perm) in [([131, 259], [1, 0]), ([3, 67, 129], [0, 2, 1]), ([37, 5, 41, 3], [2, 1, 0, 3])]
      as [(Shape, [Int])]
    {
      let input = anyTensor(type, shape)
      let result = try runEveryWay(OperatorRun("Transpose", attributes: [("perm", .ints(perm))]), input)[0]
      var inverse = perm
      for (axis, from) in perm.enumerated() { inverse[from] = axis }
      let back = try OperatorRun("Transpose", attributes: [("perm", .ints(inverse))])(result)[0]
      #expect(atoms(back) == atoms(input))
      expectMoved(result, input, shape: Shape(perm.map { shape[$0] })) { output in inverse.map { output[$0] } }
    }
  }

  @Test func reversesWithoutPermutation() throws {
    let input = anyTensor(.int32, [2, 3, 4])
    expectMoved(try OperatorRun("Transpose")(input)[0], input, shape: [4, 3, 2]) { $0.reversed() }
  }

  @Test func rejectsWhatIsNoPermutation() {
    for perm in [[0, 0], [0, 2], [0]] {
      #expect(throws: (any Error).self) {
        try OperatorRun("Transpose", attributes: [("perm", .ints(perm))])(anyTensor(.float32, [2, 3]))
      }
    }
  }
}
