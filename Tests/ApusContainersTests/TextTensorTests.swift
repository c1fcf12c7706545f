// Values from JSON and plain text.

import ApusContainers
import ApusTensor
import Testing

@Suite struct TextTensorTests {
  private func json(_ text: String, _ type: ValueType? = nil) throws -> Value {
    try TextTensors.json(FileBytes(copying: Array(text.utf8)), as: type)
  }

  private func text(_ text: String, _ type: DataType? = nil, _ shape: [Int?]? = nil) throws -> Tensor {
    try TextTensors.text(FileBytes(copying: Array(text.utf8)), as: type, shape: shape)
  }

  @Test func infersTypes() throws {
    #expect(try json("[[1, 2], [3, 4]]").tensor?.elements(as: Int.self) == [1, 2, 3, 4])
    #expect(try json("[[1, 2.5]]").tensor?.elements(as: Float.self) == [1, 2.5])
    #expect(try json("[true, false]").tensor?.elements(as: Bool.self) == [true, false])
    #expect(try json(#"["a\n\u00e9\ud83d\ude00", ""]"#).tensor?.strings == ["a\né😀", ""])
    #expect(try json(" 3 ").tensor?.shape == [])
    #expect(try json("[[], []]").tensor?.shape == [2, 0])
    #expect(try json("[NaN, -Infinity]").tensor?.elements(as: Float.self)?[1] == -.infinity)
  }

  /// A number ends where its word does, and not at a NUL in it.
  @Test(arguments: [DataType.float32, .float64, .float16, .bfloat16, .float8e4m3fn, .int64, .uint8, .int4])
  func bytesInsideNumbers(_ type: DataType) throws {
    #expect(message { _ = try text("1\u{0}2", type) }.contains("is no \(type)"))
  }

  @Test func passesOverTheMark() throws {
    #expect(try json("\u{FEFF}[1, 2]").tensor?.elements(as: Int.self) == [1, 2])
    #expect(message { _ = try json("[\u{FEFF}1]") } != "no error")
  }

  @Test func keepsEveryDigit() throws {
    let type = ValueType.tensor(.int64, nil)
    #expect(try json("[9223372036854775807, 1e3]", type).tensor?.elements(as: Int.self) == [.max, 1000])
    #expect(try json("[18446744073709551615]", .tensor(.uint64, nil)).tensor?.elements(as: UInt64.self) == [.max])
    #expect(try json("[0.1]", .tensor(.float64, nil)).tensor?.elements(as: Double.self) == [0.1])
  }

  @Test func readsContainers() throws {
    let floats = ValueType.tensor(.float32, nil)
    #expect(try json("[[1, 2], [3]]", .sequence(floats)).sequence?.map { $0.tensor?.shape } == [[2], [1]])
    guard case .optional(nil, _) = try json("null", .optional(floats)) else {
      Issue.record("not empty")
      return
    }
    guard case .map(let map) = try json(#"{"7": 1, "-2": [1]}"#, .map(key: .int64, value: floats)) else {
      Issue.record("no map")
      return
    }
    #expect(map.keys.elements(as: Int.self) == [7, -2])
  }

  @Test(arguments: [
    ("[1, 2", "',' or ']'"), ("[[1], [2, 3]]", "rows of an array differ"), ("[1] 2", "more after the end"),
    ("[null]", "null is no float32"), ("[1, \"a\"]", "number 1 is no string"), ("nope", "is no value"),
    ("", "a value was expected"),
    ("[\"\\ud800\"]", "surrogate"), ("[\"\\u+123\"]", "hexadecimal"),
  ])
  func refusesBadJSON(_ text: String, _ expected: String) {
    let message = message { _ = try json(text) }
    #expect(message.contains(expected), "\(message)")
  }

  @Test func boundsNesting() {
    let deep = String(repeating: "[", count: 100_000)
    #expect(message { _ = try json(deep) }.contains("maximumNesting"))
  }

  @Test func checksRanges() {
    #expect(message { _ = try json("[300]", .tensor(.uint8, nil)) }.contains("the number 300 is no uint8"))
    #expect(message { _ = try json("[-9]", .tensor(.int4, nil)) }.contains("is no int4"))
    #expect(message { _ = try json("[1.5]", .tensor(.int32, nil)) }.contains("is no int32"))
  }

  @Test func readsPlainText() throws {
    #expect(try text("1 2\n3,4 # rest\n").elements(as: Int.self) == [1, 2, 3, 4])
    #expect(try text("1 2 3 4 5 6", .float32, [nil, 3]).shape == [2, 3])
    #expect(try text("a b\nc\n", .string).strings == ["a b", "c"])
    #expect(try text("true false", .bool).elements(as: Bool.self) == [true, false])
    #expect(message { _ = try text("1 2 3", .float32, [2, 2]) }.contains("takes 4 elements; found 3"))
    #expect(message { _ = try text("1 2 3 4", .float32, [nil, nil]) }.contains("do not say"))
    #expect(message { _ = try text("1 x", .float32) }.contains("the number x is no float32"))
  }
}
