// Comparisons, truth values, bits, classes of floats, and Where.

import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct LogicTests {
  private func bools(_ tensor: Tensor) -> [Bool]? { tensor.elements(as: Bool.self) }

  @Test func comparisons() throws {
    let (a, b) = (Tensor([1, 2, Double.nan, 4], shape: [4]), Tensor(scalar: Double(2)))
    #expect(bools(try OperatorRun("Less")(a, b)[0]) == [true, false, false, false])
    #expect(bools(try OperatorRun("GreaterOrEqual")(a, b)[0]) == [false, true, false, true])
    #expect(bools(try OperatorRun("Greater")(b, a)[0]) == [true, false, false, false])
    let half = Tensor((0..<600).map { Float16($0 % 3) })
    let equal = try #require(bools(try OperatorRun("Equal")(half, Tensor(scalar: Float16(1)))[0]))
    for i in equal.indices { #expect(equal[i] == (i % 3 == 1)) }
    #expect(bools(try OperatorRun("Equal")(Tensor([true, false]), Tensor([true, true]))[0]) == [true, false])
    #expect(bools(try OperatorRun("LessOrEqual")(Tensor([UInt64.max]), Tensor([UInt64(1)]))[0]) == [false])
  }

  @Test func equalStrings() throws {
    let a = Tensor(strings: ["a", "b", "é"], shape: [3])
    let y = try OperatorRun("Equal")(a, Tensor(strings: ["b", "é"], shape: [2, 1]))[0]
    #expect(y.shape == [2, 3] && bools(y) == [false, true, false, false, false, true])
    // The same letter composed in another way is another string.
    #expect(
      bools(
        try OperatorRun("Equal")(Tensor(strings: ["e\u{301}"], shape: [1]), Tensor(strings: ["\u{E9}"], shape: [1]))[0])
        == [false])
  }

  @Test func truthValues() throws {
    let (a, b) = (Tensor([true, true, false, false]), Tensor([true, false, true, false]))
    #expect(bools(try OperatorRun("And")(a, b)[0]) == [true, false, false, false])
    #expect(bools(try OperatorRun("Or")(a, b)[0]) == [true, true, true, false])
    #expect(bools(try OperatorRun("Xor")(a, b)[0]) == [false, true, true, false])
    #expect(bools(try OperatorRun("Not")(a)[0]) == [false, false, true, true])
  }

  @Test func shifts() throws {
    let right = OperatorRun("BitShift", attributes: [("direction", .string("RIGHT"))])
    #expect(
      try right(Tensor([Int8(-8), -8, 8, -8]), Tensor([Int8(1), 8, 9, -1]))[0].elements(as: Int8.self) == [
        -4, -1, 0, -1,
      ])
    let left = OperatorRun("BitShift", attributes: [("direction", .string("LEFT"))])
    #expect(try left(Tensor([UInt8(3), 3]), Tensor([UInt8(7), 200]))[0].elements(as: UInt8.self) == [0x80, 0])
    #expect(try left(Tensor([Int16(1), 1]), Tensor([Int16(15), -1]))[0].elements(as: Int16.self) == [Int16.min, 0])
  }

  @Test func floatClasses() throws {
    let x = Tensor([1, Float.nan, Float.infinity, -Float.infinity])
    #expect(bools(try OperatorRun("IsNaN")(x)[0]) == [false, true, false, false])
    #expect(
      bools(try OperatorRun("IsInf", attributes: [("detect_positive", .int(0))])(x)[0]) == [false, false, false, true])
    for (type, nan, infinity) in [
      (DataType.float8e4m3fn, 0xFF as UInt8, nil as UInt8?), (.float8e4m3fnuz, 0x80, nil), (.float8e5m2, 0x7D, 0xFC),
      (.float8e5m2fnuz, 0x80, nil),
    ] {
      let codes = try Tensor(uninitialized: type, shape: [3])
      for (index, code) in [nan, infinity ?? 0, 0x12].enumerated() {
        codes.storage.base.storeBytes(of: code, toByteOffset: index, as: UInt8.self)
      }
      #expect(bools(try OperatorRun("IsNaN")(codes)[0]) == [true, false, false])
      #expect(bools(try OperatorRun("IsInf")(codes)[0]) == [false, infinity != nil, false])
    }
  }

  /// Every element width, and every way of repeating the three inputs.
  @Test func selection() throws {
    for pattern in 0..<8 {
      let shapes = (0..<3).map { pattern >> $0 & 1 == 0 ? Shape([2, 3]) : Shape([2, 1]) }
      let condition = Tensor((0..<shapes[0].elementCount).map { $0 % 2 == 0 }, shape: shapes[0])
      let x = Tensor((0..<shapes[1].elementCount).map { Complex128(Double($0), 1) }, shape: shapes[1])
      let y = Tensor((0..<shapes[2].elementCount).map { Complex128(Double($0), -1) }, shape: shapes[2])
      let result = try OperatorRun("Where")(condition, x, y)[0]
      #expect(result.shape == (pattern == 7 ? [2, 1] : [2, 3]))
      func at(_ index: Int, _ shape: Shape) -> Int { result.shape == shape ? index : index / 3 }
      for (index, element) in (result.elements(as: Complex128.self) ?? []).enumerated() {
        let isFirst = at(index, shapes[0]) % 2 == 0
        #expect(element == Complex128(Double(at(index, isFirst ? shapes[1] : shapes[2])), isFirst ? 1 : -1))
      }
    }
    let strings = try OperatorRun("Where")(
      Tensor([true, false]), Tensor(strings: ["a"], shape: [1]), Tensor(strings: ["b", "c"], shape: [2]))
    #expect(strings[0].strings == ["a", "c"])
    let bytes = try OperatorRun("Where")(Tensor(scalar: false), Tensor([UInt8(1), 2]), Tensor([UInt8(3), 4]))
    #expect(bytes[0].elements(as: UInt8.self) == [3, 4])
  }
}
