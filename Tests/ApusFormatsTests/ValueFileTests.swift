// Sequences, optionals and maps in files of their own.

import ApusFormats
import ApusTensor
import Testing

@Suite struct ValueFileTests {
  private let floats = ValueType.tensor(.float32, nil)

  private func elements(_ value: Value?) -> [[Float]] {
    value?.sequence?.compactMap { $0.tensor?.elements(as: Float.self) } ?? []
  }

  @Test func readsSequences() throws {
    let value = try ValueFile.decode(Samples.file("sequence.pb"), as: .sequence(floats))
    #expect(elements(value) == [[0, 1, 2], [1, 1, 1, 1]])
    #expect(value.type == .sequence(floats))
  }

  @Test func readsOptionals() throws {
    guard case .optional(let some?, let type) = try ValueFile.decode(Samples.file("optional.pb"), as: .optional(floats))
    else {
      Issue.record("no optional")
      return
    }
    #expect(some.tensor?.shape == [2, 2])
    #expect(type == floats)
    guard case .optional(nil, _) = try ValueFile.decode(Samples.file("optional-none.pb"), as: .optional(floats)) else {
      Issue.record("not empty")
      return
    }
    let many = try ValueFile.decode(Samples.file("optional-sequence.pb"), as: .optional(.sequence(floats)))
    guard case .optional(let inner?, .sequence) = many else {
      Issue.record("no optional sequence")
      return
    }
    #expect(elements(inner).count == 2)
  }

  @Test func readsMaps() throws {
    guard case .map(let map) = try ValueFile.decode(Samples.file("map.pb"), as: .map(key: .int64, value: floats)) else {
      Issue.record("no map")
      return
    }
    #expect(map.keys.elements(as: Int64.self) == [1, -2])
    #expect(map.values.map { $0.tensor?.shape } == [[3], [2, 2]])
  }

  @Test func writesWhatItReads() throws {
    let tensor = Value.tensor(Tensor([Float(1), 2], shape: [1, 2]))
    let map = MapValue(keys: Tensor(strings: ["a"], shape: [1]), values: [tensor], valueType: floats)
    let values: [Value] = [
      tensor, .sequence([tensor, tensor], elementType: floats), .sequence([], elementType: floats),
      .optional(tensor, elementType: floats), .optional(nil, elementType: floats), .map(map),
      .sequence([.map(map)], elementType: .map(key: .string, value: floats)),
      .optional(.sequence([tensor], elementType: floats), elementType: .sequence(floats)),
    ]
    for value in values {
      let again = try ValueFile.decode(FileBytes(copying: ValueFile.encode(value)), as: value.type)
      #expect("\(again)" == "\(value)" || again.type == value.type)
      #expect(ValueFile.encode(again) == ValueFile.encode(value))
    }
  }

  @Test func checksTheDeclaredType() {
    #expect(throws: LoadError.self) {
      try ValueFile.decode(FileBytes(copying: ValueFile.encode(.tensor(Tensor([Float(1)])))), as: .tensor(.int64, nil))
    }
  }
}
