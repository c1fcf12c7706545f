// CumSum and CumProd: axes, directions, types, widths of columns.

import ApusTensor
import ApusTestSupport
import Testing

@Suite struct CumulativeTests {
  @Test(arguments: 0..<4) func everyAxis(_ flags: Int) throws {
    let shape: Shape = [3, 4, 5]
    let numbers = (0..<60).map { Int64($0 * 7 % 11) - 3 }
    for axis in -3..<3 {
      let run = OperatorRun("CumSum", attributes: [("exclusive", .int(flags & 1)), ("reverse", .int(flags >> 1))])
      let y = try run(Tensor(numbers, shape: shape), Tensor(scalar: Int32(axis)))[0].elements(as: Int64.self)
      let own = axis < 0 ? axis + 3 : axis
      let (length, stride) = (shape[own], shape.strides[own])
      let expected = numbers.indices.map { index -> Int64 in
        let position = index / stride % length
        return (0..<length).filter { other in
          let isBefore = flags >> 1 == 1 ? other > position : other < position
          return isBefore || (flags & 1 == 0 && other == position)
        }.reduce(0) { $0 + numbers[index + ($1 - position) * stride] }
      }
      #expect(y == expected, "axis \(axis)")
    }
  }

  /// Long rows and wide columns of every float, in both directions.
  @Test(arguments: [DataType.float16, .bfloat16, .float32, .float64]) func longLines(_ type: DataType) throws {
    func cast(_ tensor: Tensor, _ type: DataType) throws -> Tensor {
      try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(tensor)[0]
    }
    for (shape, axis) in [([3, 700] as Shape, 1), ([40, 300], 0), ([11, 5, 2], 1)] {
      let numbers = (0..<shape.elementCount).map { Float($0 * 7 % 3) - 1 }
      let (length, stride) = (shape[axis], shape.strides[axis])
      for flags in 0..<4 {
        let (exclusive, reverse) = (flags & 1, flags >> 1)
        let run = OperatorRun("CumSum", attributes: [("exclusive", .int(exclusive)), ("reverse", .int(reverse))])
        let y = try cast(run(cast(Tensor(numbers, shape: shape), type), Tensor(scalar: Int32(axis)))[0], .float32)
        for (index, value) in y.elements(as: Float.self)!.enumerated() {
          let position = index / stride % length
          let range =
            reverse == 1 ? position + exclusive..<max(length, position + exclusive) : 0..<position + 1 - exclusive
          let expected = range.reduce(Float(0)) { $0 + numbers[index + ($1 - position) * stride] }
          #expect(value == expected, "\(type) \(shape) \(flags) \(index)")
        }
      }
    }
  }

  @Test func typesAndEdges() throws {
    let axis = Tensor(scalar: Int64(0))
    #expect(try OperatorRun("CumProd")(Tensor([Float16(1), 2, 3]), axis)[0].elements(as: Float16.self) == [1, 2, 6])
    let exclusive = OperatorRun("CumProd", attributes: [("exclusive", .int(1))])
    #expect(
      try exclusive(Tensor([BFloat16(2), BFloat16(3)]), axis)[0].elements(as: BFloat16.self)?.map(\.float) == [1, 2])
    #expect(try OperatorRun("CumSum")(Tensor([UInt32.max, 2]), axis)[0].elements(as: UInt32.self) == [.max, 1])
    #expect(try OperatorRun("CumSum")(Tensor(zeros: .float64, shape: [0, 2]), axis)[0].shape == [0, 2])
    #expect(throws: (any Error).self) { try OperatorRun("CumSum")(Tensor([Float(1)]), Tensor(scalar: Int64(1))) }
    #expect(throws: (any Error).self) { try OperatorRun("CumSum")(Tensor(scalar: Float(1)), axis) }
  }
}
