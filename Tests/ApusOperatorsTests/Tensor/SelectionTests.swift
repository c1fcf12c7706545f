// Operators that choose elements by their values: TopK, Unique, NonZero, Compress.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SelectionTests {
  @Test func topKOrder() throws {
    let input = Tensor([Float](arrayLiteral: 3, .nan, -0.0, 0, 3, -.infinity, 7), shape: [7])
    func positions(_ k: Int, largest: Int) throws -> [Int]? {
      let run = OperatorRun("TopK", attributes: [("largest", .int(largest))])
      return try run(input, Tensor([k]), outputs: 2)[1].elements(as: Int.self)
    }
    #expect(try positions(7, largest: 1) == [1, 6, 0, 4, 2, 3, 5])
    #expect(try positions(4, largest: 0) == [5, 2, 3, 0])
    #expect(try positions(0, largest: 0) == [])
    #expect(throws: (any Error).self) { try positions(8, largest: 1) }
  }

  /// Rows longer than a block of candidates, with few and many winners and equal ones among them.
  @Test(arguments: [1, 2, 15, 16, 17, 128, 300, 1000]) func topKOfLongRows(_ length: Int) throws {
    for k in [1, 2, 7, 40, 300] where k <= length {
      for isLargest in [true, false] {
        let numbers = (0..<3 * length).map { Float($0 * 7919 % 331) - 100 }
        let run = OperatorRun("TopK", attributes: [("largest", .int(isLargest ? 1 : 0))])
        let results = try run(Tensor(numbers, shape: [3, length]), Tensor([k]), outputs: 2)
        let places = results[1].elements(as: Int.self)!
        for row in 0..<3 {
          let line = Array(numbers[row * length..<(row + 1) * length])
          let sorted = line.indices.sorted {
            line[$0] == line[$1] ? $0 < $1 : isLargest ? line[$0] > line[$1] : line[$0] < line[$1]
          }
          #expect(Array(places[row * k..<(row + 1) * k]) == Array(sorted.prefix(k)), "\(length) \(k) \(isLargest)")
        }
        #expect(
          results[0].elements(as: Float.self)!
            == places.enumerated().map { numbers[$0.offset / k * length + $0.element] })
      }
    }
  }

  @Test(arguments: TypeSet.numeric.tensors) func topKOfEveryType(_ type: DataType) throws {
    // All bytes are small numbers, so that every type orders them as it should.
    let small = Tensor(
      dataType: .uint8, shape: [6 * 41], storage: anyTensor(.uint8, [6 * 41]).storage)
    let numbers = try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(
      Tensor((0..<6 * 41).map { UInt8(atoms(small)[$0], radix: 16)! % 100 }, shape: [2, 41, 3]))[0]
    let run = OperatorRun("TopK", attributes: [("axis", .int(1))])
    let results = try runEveryWay(run, numbers, Tensor([5]), outputs: 2)
    #expect(results[0].shape == [2, 5, 3] && results[0].dataType == type)
    let plain = (0..<6 * 41).map { Int(UInt8(atoms(small)[$0], radix: 16)! % 100) }
    let positions = results[1].elements(as: Int.self)!
    for batch in 0..<2 {
      for column in 0..<3 {
        let line = (0..<41).map { plain[(batch * 41 + $0) * 3 + column] }
        let expected = line.indices.sorted { (line[$1], $0) < (line[$0], $1) }.prefix(5)
        #expect((0..<5).map { positions[(batch * 5 + $0) * 3 + column] } == Array(expected))
      }
    }
  }

  @Test func uniqueValues() throws {
    func unique(_ input: Tensor, sorted: Int, axis: Int? = nil) throws -> [Tensor] {
      let axes: [(String, AttributeValue)] = axis.map { [("axis", .int($0))] } ?? []
      return try OperatorRun("Unique", attributes: [("sorted", .int(sorted))] + axes)(input, outputs: 4)
    }
    let numbers = Tensor([Float](arrayLiteral: 2, .nan, -0.0, 2, 0, .nan), shape: [2, 3])
    let sorted = try unique(numbers, sorted: 1)
    #expect(sorted[0].elements(as: Float.self)?.prefix(2) == [0, 2])
    #expect(sorted[1].elements(as: Int.self) == [2, 0, 1])
    #expect(sorted[2].elements(as: Int.self) == [1, 2, 0, 1, 0, 2])
    #expect(sorted[3].elements(as: Int.self) == [2, 2, 2])
    #expect(try unique(numbers, sorted: 0)[1].elements(as: Int.self) == [0, 1, 2])
    let text = Tensor(strings: ["é", "b", "e\u{301}", "b"], shape: [4])
    #expect(try unique(text, sorted: 1)[0].strings == ["b", "e\u{301}", "é"])
    let rows = Tensor([1, 0, 0, 1, 0, 0, 2, 3, 4], shape: [3, 3])
    #expect(try unique(rows, sorted: 1, axis: 0)[0].elements(as: Int.self) == [1, 0, 0, 2, 3, 4])
    #expect(try unique(rows, sorted: 1, axis: 1)[0].elements(as: Int.self) == [0, 0, 1, 0, 0, 1, 3, 4, 2])
    #expect(try unique(Tensor([Int](), shape: [0]), sorted: 1).map(\.shape) == [[0], [0], [0], [0]])
    let complex = Tensor([Complex64(1, 2), Complex64(1, -1), Complex64(1, 2)])
    #expect(try unique(complex, sorted: 1)[1].elements(as: Int.self) == [1, 0])
  }

  /// Enough items to be sorted byte by byte: close together, and at both ends of the type.
  @Test(arguments: [64, 300]) func uniqueOfManyNumbers(_ count: Int) throws {
    let small: [Int] = (0..<count).map { $0 * 7919 % 41 - 20 }
    let large: [Int] = (0..<count).map { index -> Int in
      if index % 3 == 0 { return Int.min + index % 5 }
      return index % 3 == 1 ? Int.max - index % 7 : index &* 0x9E37_79B9
    }
    let all: [[Int]] = [small, large, [Int](repeating: 5, count: count)]
    for numbers in all {
      let tensors = try OperatorRun("Unique")(Tensor(numbers), outputs: 4)
      let results: [[Int]] = tensors.map { $0.elements(as: Int.self)! }
      let distinct = Set(numbers).sorted()
      #expect(results[0] == distinct)
      #expect(results[1] == distinct.map { numbers.firstIndex(of: $0)! })
      #expect(results[2] == numbers.map { distinct.firstIndex(of: $0)! })
      let counts: [Int] = distinct.map { number in numbers.filter { $0 == number }.count }
      #expect(results[3] == counts)
    }
  }

  @Test func nonZeroOnManyAxes() throws {
    let shape: Shape = [3, 4, 5, 7]
    var numbers = [Int32](repeating: 0, count: shape.elementCount)
    for index in numbers.indices where index % 5 != 3 { numbers[index] = Int32(index * 31 % 3) }
    let found: [Int] = numbers.indices.filter { numbers[$0] != 0 }
    let result = try OperatorRun("NonZero")(Tensor(numbers, shape: shape))[0]
    let strides = shape.strides
    var expected: [Int] = []
    for axis in 0..<4 { expected += found.map { $0 / strides[axis] % shape[axis] } }
    #expect(result.elements(as: Int.self) == expected)
  }

  @Test(arguments: basicTypes) func nonZero(_ type: DataType) throws {
    let input = anyTensor(type, [3, 4])
    let zero = zeroAtom(type)
    let found = atoms(input).enumerated().filter { $0.element != zero }.map(\.offset)
    // Negative zeros are rare enough in these bytes not to appear.
    let result = try OperatorRun("NonZero")(input)[0]
    #expect(result.elements(as: Int.self) == found.map { $0 / 4 } + found.map { $0 % 4 })
    #expect(try OperatorRun("NonZero")(Tensor(scalar: Float(-0.0)))[0].shape == [0, 0])
    #expect(try OperatorRun("NonZero")(Tensor(scalar: Float(2)))[0].shape == [0, 1])
  }

  @Test(arguments: basicTypes) func compress(_ type: DataType) throws {
    let input = anyTensor(type, [2, 3, 2])
    let condition = Tensor([true, false, true])
    let result = try OperatorRun("Compress", attributes: [("axis", .int(-2))])(input, condition)[0]
    expectMoved(result, input, shape: [2, 2, 2]) { [$0[0], $0[1] * 2, $0[2]] }
    let flat = try OperatorRun("Compress")(input, condition)[0]
    #expect(atoms(flat) == [atoms(input)[0], atoms(input)[2]])
    #expect(throws: (any Error).self) {
      try OperatorRun("Compress", attributes: [("axis", .int(0))])(input, condition)
    }
  }
}
