// Operators that make tensors from few numbers: Range, EyeLike, OneHot, ConstantOfShape, Constant, Shape, Size.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct MakerTests {
  @Test func ranges() throws {
    func range<T: TensorElement>(_ start: T, _ limit: T, _ delta: T) throws -> [T]? {
      try OperatorRun("Range")(Tensor(scalar: start), Tensor(scalar: limit), Tensor(scalar: delta))[0].elements()
    }
    #expect(try range(3, 9, 3) == [3, 6])
    #expect(try range(Int16(10), 4, -2) == [10, 8, 6])
    #expect(try range(Int32(0), 0, 1) == [])
    #expect(try range(Float(0), 1, 0.25) == [0, 0.25, 0.5, 0.75])
    #expect(try range(Double(1), -1, -0.75) == [1, 0.25, -0.5])
    #expect(try range(Float16(0), 2, 0.5) == [0, 0.5, 1, 1.5])
    #expect(try range(BFloat16(1), BFloat16(4), BFloat16(1)) == [BFloat16(1), BFloat16(2), BFloat16(3)])
    #expect(try range(Int.max - 1, Int.max, 1) == [Int.max - 1])
    #expect(try range(Int.min, Int.max, Int.max) == [Int.min, -1, Int.max - 1])
    for (start, limit, delta) in [(0, 1, 0), (Int.min, Int.max, 1)] {
      #expect(throws: (any Error).self) { try range(start, limit, delta) }
    }
    #expect(throws: (any Error).self) { try range(Float(0), .infinity, 1) }
    #expect(throws: (any Error).self) { try range(Float(0), 1, 0) }
  }

  @Test(arguments: TypeSet.numeric.tensors + [.bool]) func eye(_ type: DataType) throws {
    let run = OperatorRun("EyeLike", attributes: [("dtype", .int(Int(type.rawValue))), ("k", .int(-1))])
    let result = try run(anyTensor(.float32, [3, 4]))[0]
    #expect(result.dataType == type)
    let zero = zeroAtom(type)
    #expect(atoms(result).enumerated().allSatisfy { ($0.element == zero) == ![4, 9].contains($0.offset) })
    #expect(
      try OperatorRun("EyeLike", attributes: [("k", .int(Int.max))])(anyTensor(.int8, [2, 0]))[0].shape == [2, 0])
  }

  @Test(arguments: basicTypes) func oneHot(_ type: DataType) throws {
    let values = anyTensor(type, [2], seed: 3)
    let (off, on) = (atoms(values)[0], atoms(values)[1])
    let indices = Tensor([Int32](arrayLiteral: 1, -1, 5, -4, 0), shape: [5])
    let run = OperatorRun("OneHot", attributes: [("axis", .int(0))])
    let result = try runEveryWay(run, indices, Tensor(scalar: Float(3)), values)[0]
    #expect(result.shape == [3, 5])
    let chosen = [1, 2, -1, -1, 0]
    #expect(atoms(result) == (0..<15).map { chosen[$0 % 5] == $0 / 5 ? on : off })
  }

  @Test(arguments: [DataType.float32, .bool, .int64, .uint4, .int2, .float8e8m0, .bfloat16, .float4e2m1])
  func constantOfShape(_ type: DataType) throws {
    let value = anyTensor(type, [1], seed: 5)
    let run = OperatorRun("ConstantOfShape", attributes: [("value", .tensor(value))])
    for shape in [[3, 5], [], [0, 2]] as [Shape] {
      let result = try run(Tensor(shape.dims))[0]
      #expect(result.shape == shape)
      #expect(atoms(result) == [String](repeating: atoms(value)[0], count: shape.elementCount))
    }
    #expect(throws: (any Error).self) { try run(Tensor([-1])) }
  }

  @Test func constants() throws {
    func constant(_ name: String, _ value: AttributeValue) throws -> Tensor? {
      var run = OperatorRun("Constant", attributes: [(name, value)])
      run.version = 13
      return try run([])[0].tensor
    }
    #expect(try constant("value_int", .int(7))?.elements(as: Int.self) == [7])
    #expect(try constant("value_floats", .floats([1, 2]))?.elements(as: Float.self) == [1, 2])
    #expect(try constant("value_strings", .strings(["a", "b"]))?.strings == ["a", "b"])
    #expect(try constant("value_string", .string("a"))?.shape == [])
    #expect(throws: (any Error).self) { try OperatorRun("Constant")([]) }
  }

  @Test(arguments: movedTypes) func shapes(_ type: DataType) throws {
    let input = anyTensor(type, [2, 0, 5])
    #expect(try OperatorRun("Shape")(input)[0].elements(as: Int.self) == [2, 0, 5])
    let some = OperatorRun("Shape", attributes: [("start", .int(-9)), ("end", .int(-1))])
    #expect(try some(input)[0].elements(as: Int.self) == [2, 0])
    #expect(try OperatorRun("Size")(input)[0].elements(as: Int.self) == [0])
  }
}
