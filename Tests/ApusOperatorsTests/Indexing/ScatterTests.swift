// ScatterElements and ScatterND: every type and reduction, duplicates, bad indices.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ScatterTests {
  @Test(arguments: basicTypes) func replaces(_ type: DataType) throws {
    let data = anyTensor(type, [3, 4])
    let updates = anyTensor(type, [2, 3], seed: 8)
    let rows = [2, 0, -1, 0, 1, -3]
    let result = try runEveryWay(OperatorRun("ScatterElements"), data, Tensor(rows, shape: [2, 3]), updates)[0]
    var expected = atoms(data)
    for index in 0..<6 { expected[(rows[index] + 3) % 3 * 4 + index % 3] = atoms(updates)[index] }
    #expect(atoms(result) == expected)
    let slices = anyTensor(type, [2, 4], seed: 6)
    let tuples = try runEveryWay(OperatorRun("ScatterND"), data, Tensor([-1, 0], shape: [2, 1]), slices)[0]
    #expect(atoms(tuples) == Array(atoms(slices)[4...]) + atoms(data)[4..<8] + atoms(slices)[..<4])
  }

  @Test(arguments: TypeSet.numeric.tensors) func reduces(_ type: DataType) throws {
    func tensor(_ numbers: [Int], _ shape: Shape) throws -> Tensor {
      try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(Tensor(numbers, shape: shape))[0]
    }
    let data = try tensor([5, 2, 3, 1], [4])
    let updates = try tensor([2, 3, 4], [3])
    let indices = Tensor([1, 0, -3])
    for (name, expected) in [
      ("add", [8, 8, 3, 1]), ("mul", [15, 16, 3, 1]), ("max", [5, 4, 3, 1]), ("min", [3, 2, 3, 1]),
    ] {
      let attributes: [(String, AttributeValue)] = [("reduction", .string(name))]
      let result = try runEveryWay(OperatorRun("ScatterElements", attributes: attributes), data, indices, updates)[0]
      #expect(atoms(result) == atoms(try tensor(expected, [4])), "\(name)")
      let tuples = try runEveryWay(
        OperatorRun("ScatterND", attributes: attributes), data, indices.reshaped(to: [3, 1]), updates)[0]
      #expect(atoms(tuples) == atoms(try tensor(expected, [4])), "\(name)")
    }
  }

  @Test func integersWrapAndNaNWins() throws {
    let add = OperatorRun("ScatterElements", attributes: [("reduction", .string("add"))])
    #expect(try add(Tensor([Int8(127)]), Tensor([0]), Tensor([Int8(1)]))[0].elements(as: Int8.self) == [-128])
    for name in ["max", "min"] {
      let run = OperatorRun("ScatterND", attributes: [("reduction", .string(name))])
      let results = try run(Tensor([Float.nan, 1]), Tensor([0, 1], shape: [2, 1]), Tensor([Float(1), .nan]))
      #expect(results[0].elements(as: Float.self)?.allSatisfy(\.isNaN) == true)
    }
  }

  @Test func badIndicesAreErrors() {
    let data = anyTensor(.float32, [2, 3])
    for index in [2, -3, Int.min] {
      #expect(throws: (any Error).self) {
        try OperatorRun("ScatterElements")(data, Tensor([index], shape: [1, 1]), anyTensor(.float32, [1, 1]))
      }
      #expect(throws: (any Error).self) {
        try OperatorRun("ScatterND")(data, Tensor([index], shape: [1, 1]), anyTensor(.float32, [1, 3]))
      }
    }
    #expect(throws: (any Error).self) {
      let run = OperatorRun("ScatterND", attributes: [("reduction", .string("add"))])
      return try run(anyTensor(.string, [2]), Tensor([0], shape: [1, 1]), anyTensor(.string, [1]))
    }
  }

  @Test func largeAndParallel() throws {
    let data = anyTensor(.int32, [50, 700])
    let updates = anyTensor(.int32, [90, 700], seed: 3)
    let rows = (0..<90 * 700).map { $0 * 13 % 50 }
    let add: [(String, AttributeValue)] = [("reduction", .string("add"))]
    let elements = try runEveryWay(
      OperatorRun("ScatterElements", attributes: add), data, Tensor(rows, shape: [90, 700]), updates)[0]
    var expected = data.elements(as: Int32.self)!
    let given = updates.elements(as: Int32.self)!
    for index in rows.indices { expected[rows[index] * 700 + index % 700] &+= given[index] }
    #expect(elements.elements(as: Int32.self) == expected)
    let tuples = (0..<90).map { $0 * 7 % 50 }
    let slices = try runEveryWay(
      OperatorRun("ScatterND", attributes: add), data, Tensor(tuples, shape: [90, 1]), updates)[0]
    expected = data.elements(as: Int32.self)!
    for index in given.indices { expected[tuples[index / 700] * 700 + index % 700] &+= given[index] }
    #expect(slices.elements(as: Int32.self) == expected)
  }
}
