// Sequences and optionals: positions, all element types, pieces of packed and string tensors.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SequenceTests {
  @Test(arguments: DataType.allCases) func splitAndConcatenate(type: DataType) throws {
    let shape: Shape = [2, 5, 3]
    let tensor: Tensor
    if type == .string {
      tensor = Tensor(strings: (0..<30).map { "s\($0)" }, shape: shape)
    } else {
      tensor = Tensor(zeros: type, shape: shape)
      for byte in 0..<tensor.byteCount {
        let unused =
          byte == tensor.byteCount - 1 && type.isPacked ? UInt8(truncatingIfNeeded: 0xFF << (30 * type.bits % 8)) : 0
        tensor.storage.base.storeBytes(
          of: UInt8(truncatingIfNeeded: byte * 37) & ~unused, toByteOffset: byte, as: UInt8.self)
      }
    }
    for axis in 0..<3 {
      let split = OperatorRun("SplitToSequence", attributes: [("axis", .int(axis))])
      let pieces = try split([.tensor(tensor), .tensor(Tensor(scalar: Int64(2)))])[0]
      #expect(pieces.sequence?.count == (shape[axis] + 1) / 2)
      let concatenate = OperatorRun("ConcatFromSequence", attributes: [("axis", .int(axis))])
      let whole = try #require(try concatenate([pieces])[0].tensor)
      #expect(whole.shape == shape && whole.strings == tensor.strings)
      if type != .string, type.bits != 6 {
        #expect(
          whole.elements(as: UInt8.self, reinterpreting: true) == tensor.elements(as: UInt8.self, reinterpreting: true))
      }
    }
  }

  @Test func positions() throws {
    let one = Value.tensor(Tensor([Float(1)]))
    let sequence = try OperatorRun("SequenceConstruct")([one, .tensor(Tensor([Float(2), 3]))])[0]
    func at(_ position: Int32) throws -> [Float]? {
      try OperatorRun("SequenceAt")([sequence, .tensor(Tensor(scalar: position))])[0].tensor?.elements(as: Float.self)
    }
    #expect(try at(-1) == [2, 3])
    #expect(try at(-2) == [1])
    #expect(throws: OperatorError.self) { try at(2) }
    #expect(throws: OperatorError.self) { try at(-3) }
    let inserted = try OperatorRun("SequenceInsert")([sequence, one, .tensor(Tensor(scalar: -1))])[0]
    #expect(inserted.sequence?.map { $0.tensor?.count } == [1, 1, 2])
    let erased = try OperatorRun("SequenceErase")([inserted, nil])[0]
    #expect(try OperatorRun("SequenceLength")([erased])[0].tensor?.elements(as: Int.self) == [2])
    let empty = Value.sequence([], elementType: .tensor(.float32, nil))
    #expect(throws: OperatorError.self) { try OperatorRun("SequenceErase")([empty]) }
    #expect(throws: OperatorError.self) { try OperatorRun("SequenceInsert")([empty, .tensor(Tensor([1]))]) }
  }

  @Test func optionals() throws {
    let type = ("type", AttributeValue.type(.tensor(.int64, nil)))
    let empty = try OperatorRun("Optional", attributes: [type])([])[0]
    #expect(try OperatorRun("OptionalHasElement")([empty])[0].tensor?.elements(as: Bool.self) == [false])
    #expect(try OperatorRun("OptionalHasElement")([])[0].tensor?.elements(as: Bool.self) == [false])
    #expect(throws: OperatorError.self) { try OperatorRun("OptionalGetElement")([empty]) }
    let full = try OperatorRun("Optional")([.tensor(Tensor([5]))])[0]
    #expect(try OperatorRun("OptionalGetElement")([full])[0].tensor?.elements(as: Int.self) == [5])
  }
}
