// Cast: every pair of numeric types on numbers that both hold, strings, rounding, packed types of odd lengths.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct CastTests {
  private func cast(_ x: Tensor, to type: DataType, _ attributes: [(String, AttributeValue)] = []) throws -> Tensor {
    try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))] + attributes)(x)[0]
  }

  /// 0 and 1 survive the way through every type (float8e8m0 has no zero), in an odd number of elements.
  @Test func everyPair() throws {
    let types = DataType.allCases.filter { !$0.isComplex && $0 != .string && $0 != .float8e8m0 }
    let numbers = (0..<1031).map { Float($0 % 3 == 0 ? 1 : 0) }
    for from in types {
      let source = try cast(Tensor(numbers), to: from)
      for to in types {
        let back = try cast(try cast(source, to: to), to: .float32)
        #expect(back.elements(as: Float.self) == numbers, "\(from) to \(to)")
      }
    }
  }

  @Test func integersWrap() throws {
    #expect(try cast(Tensor([Int16(200), -1]), to: .int8).elements(as: Int8.self) == [-56, -1])
    #expect(try cast(Tensor([Int32(-1)]), to: .uint64).elements(as: UInt64.self) == [.max])
    #expect(try cast(try cast(Tensor([Int32(9), -9, 7]), to: .int4), to: .int8).elements(as: Int8.self) == [-7, 7, 7])
    #expect(
      try cast(try cast(Tensor([Float(-1.5), 3.9, 4]), to: .uint2), to: .uint8).elements(as: UInt8.self) == [3, 3, 0])
  }

  @Test func rounding() throws {
    #expect(
      try cast(Tensor([Double(1) + 0x1p-11 + 0x1p-40]), to: .float16).elements(as: Float16.self) == [1.0009765625])
    #expect(try cast(Tensor([UInt64.max]), to: .float32).elements(as: Float.self) == [0x1p64])
    #expect(try cast(Tensor([Float.nan, 0, 0.3]), to: .bool).elements(as: Bool.self) == [true, false, true])
    let e8m0 = try cast(Tensor([Float(1.1), 0.3]), to: .float8e8m0, [("round_mode", .string("down"))])
    #expect(try cast(e8m0, to: .float32).elements(as: Float.self) == [1, 0.25])
    let infinite = try cast(Tensor([Float(1e6)]), to: .float8e5m2, [("saturate", .int(0))])
    #expect(try cast(infinite, to: .float32).elements(as: Float.self) == [.infinity])
  }

  @Test func strings() throws {
    let numbers = Tensor(strings: ["3.14", " -1e-5 ", "+INF", "nan"], shape: [2, 2])
    let floats = try cast(numbers, to: .float32)
    #expect(floats.shape == [2, 2] && floats.elements(as: Float.self)?.dropLast() == [3.14, -1e-5, .infinity])
    #expect(try cast(Tensor(strings: ["100.5", "-7"], shape: [2]), to: .int32).elements(as: Int32.self) == [100, -7])
    #expect(
      try cast(Tensor(strings: ["18446744073709551615"], shape: [1]), to: .uint64).elements(as: UInt64.self) == [.max])
    for (text, type) in [("abc", DataType.float32), ("", .float64), ("300", .uint8), ("0x10", .int32), ("-1", .uint16)]
    {
      #expect(throws: (any Error).self) { try cast(Tensor(strings: [text], shape: [1]), to: type) }
    }
    // Plain decimals, whatever the magnitude.
    #expect(
      try cast(Tensor([Float(1), 1e-5, 123456.789, 1e6, 12_345_678, -0.0, .nan, -.nan, -.infinity]), to: .string)
        .strings
        == ["1.0", "0.00001", "123456.79", "1000000.0", "12345678.0", "-0.0", "nan", "nan", "-inf"])
    #expect(
      try cast(Tensor([1e15, 1e16, -1234.5, 1.5e-10, 1e22]), to: .string).strings
        == ["1000000000000000.0", "10000000000000000.0", "-1234.5", "0.00000000015", "10000000000000000000000.0"])
    #expect(
      try cast(Tensor([Float16(1000), 65504, 6e-8]), to: .string).strings == ["1000.0", "65504.0", "0.00000006"])
    for number in [Float.greatestFiniteMagnitude, .leastNonzeroMagnitude, 0.1, 16_777_216, 1.1754944e-38] {
      let text = try #require(cast(Tensor([number]), to: .string).strings?.first)
      #expect(!text.contains("e") && Float(text) == number)
    }
    #expect(try cast(Tensor([true, false]), to: .string).strings == ["True", "False"])
    #expect(try cast(Tensor([Int64.min]), to: .string).strings == ["-9223372036854775808"])
  }

  @Test func likeAndBits() throws {
    #expect(try OperatorRun("CastLike")(Tensor([Float(2.7)]), Tensor([Int8(0)]))[0].elements(as: Int8.self) == [2])
    let bits = OperatorRun("BitCast", attributes: [("to", .int(Int(DataType.int32.rawValue)))])
    #expect(try bits(Tensor([Float(1)]))[0].elements(as: Int32.self) == [0x3F80_0000])
    #expect(throws: (any Error).self) { try bits(Tensor([Double(1)])) }
    var first = OperatorRun("Cast", attributes: [("to", .string("DOUBLE"))])
    first.version = 1
    #expect(try first(Tensor([Int32(3)]))[0].elements(as: Double.self) == [3])
    #expect(throws: (any Error).self) { try cast(Tensor([Float(1)]), to: .complex64) }
  }
}
