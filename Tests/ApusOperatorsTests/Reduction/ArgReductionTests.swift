// ArgMax and ArgMin: every type, ties, NaN.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ArgReductionTests {
  @Test(arguments: TypeSet.numeric.tensors) func everyType(_ type: DataType) throws {
    let numbers = (0..<3 * 301 * 2).map { $0 * 7919 % 101 }
    let input = try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(
      Tensor(numbers, shape: [3, 301, 2]))[0]
    for (name, sign) in [("ArgMax", 1), ("ArgMin", -1)] {
      for last in [0, 1] {
        let run = OperatorRun(
          name, attributes: [("axis", .int(-2)), ("keepdims", .int(0)), ("select_last_index", .int(last))])
        let result = try runEveryWay(run, input)[0]
        #expect(result.shape == [3, 2])
        for (index, place) in result.elements(as: Int.self)!.enumerated() {
          let line = (0..<301).map { sign * numbers[(index / 2 * 301 + $0) * 2 + index % 2] }
          let best = line.max()
          #expect(place == (last == 1 ? line.lastIndex(of: best!) : line.firstIndex(of: best!)))
        }
      }
    }
  }

  /// Elements of 16 bits are searched in pieces: ties and NaN in several of them.
  @Test(arguments: [DataType.float16, .bfloat16, .int16, .uint16]) func longLines(_ type: DataType) throws {
    let length = 20_011
    let places = [7, 8191, 8192, 16_500, length - 1]
    let values = type.isFloat ? [Double.nan, 1] : [1]
    for (value, axis) in values.flatMap({ value in [(value, 0), (value, 1)] }) {
      let numbers = (0..<length).map { places.contains($0) ? value : 0 }
      // As one long line, and as columns with a second line of zeros beside it.
      let both = axis == 1 ? numbers : numbers.flatMap { [$0, 0] }
      let input = try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(
        Tensor(both, shape: axis == 1 ? [1, length] : [length, 2]))[0]
      for last in [0, 1] {
        let run = OperatorRun("ArgMax", attributes: [("axis", .int(axis)), ("select_last_index", .int(last))])
        let found = try run(input)[0].elements(as: Int.self)
        let zero = last == 1 ? length - 1 : 0
        let place = last == 1 ? places[4] : places[0]
        #expect(found == (axis == 1 ? [place] : [place, zero]), "\(type) \(value) \(axis)")
      }
    }
  }

  @Test func specialValues() throws {
    let input = Tensor([Float](arrayLiteral: 1, .nan, -.infinity, .nan, .infinity))
    #expect(try OperatorRun("ArgMax")(input)[0].elements(as: Int.self) == [1])
    #expect(try OperatorRun("ArgMin")(input)[0].elements(as: Int.self) == [1])
    #expect(try OperatorRun("ArgMin")(Tensor([Float(0), -0.0]))[0].elements(as: Int.self) == [0])
    #expect(try OperatorRun("ArgMax")(Tensor(scalar: Float(4)))[0].shape == [])
    #expect(try OperatorRun("ArgMax")(Tensor([Int8(-128), -1]))[0].elements(as: Int.self) == [1])
    #expect(
      try OperatorRun("ArgMax", attributes: [("axis", .int(1))])(Tensor([Float](), shape: [0, 2]))[0].shape == [0, 1])
    #expect(throws: (any Error).self) { try OperatorRun("ArgMax")(Tensor([Float](), shape: [0])) }
  }
}
