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

  /// Rows of 16-bit floats are joined in blocks, single elements one by one: both round each sum.
  @Test(arguments: [DataType.float16, .bfloat16]) func halves(_ type: DataType) throws {
    func tensor(_ numbers: [Float], _ shape: Shape) throws -> Tensor {
      try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(Tensor(numbers, shape: shape))[0]
    }
    func floats(_ tensor: Tensor) throws -> [Float] {
      try OperatorRun("Cast", attributes: [("to", .int(1))])(tensor)[0].elements(as: Float.self) ?? []
    }
    let special: [Float] = [.nan, .infinity, -.infinity, -0.0, 0, 6e-8, -6e-8, 65_504, 1e-5, 1]
    let width = 517
    let data = try tensor((0..<3 * width).map { special[$0 % 10] }, [3, width])
    let updates = try tensor((0..<4 * width).map { special[($0 / 10 + $0) % 10] }, [4, width])
    let rows = [1, 0, 1, 2]
    for name in ["add", "mul", "max", "min"] {
      var expected = try floats(data)
      let given = try floats(updates)
      for index in given.indices {
        let place = rows[index / width] * width + index % width
        let (a, b) = (expected[place], given[index])
        let joined =
          switch name {
          case "add": a + b
          case "mul": a * b
          case "max": a.isNaN || b.isNaN ? .nan : a >= b ? a : b
          default: a.isNaN || b.isNaN ? .nan : a <= b ? a : b
          }
        expected[place] = type == .float16 ? Float(Float16(joined)) : BFloat16(joined).float
      }
      func check(_ result: Tensor) throws {
        let found = try floats(result)
        let wrong = found.indices.first {
          found[$0].bitPattern != expected[$0].bitPattern && !(found[$0].isNaN && expected[$0].isNaN)
        }
        #expect(wrong == nil, "\(name): \(wrong.map { "\(found[$0]) in place of \(expected[$0])" } ?? "")")
      }
      let attributes: [(String, AttributeValue)] = [("reduction", .string(name))]
      let indices = Tensor(rows.flatMap { [Int](repeating: $0, count: width) }, shape: [4, width])
      try check(runEveryWay(OperatorRun("ScatterElements", attributes: attributes), data, indices, updates)[0])
      try check(
        runEveryWay(OperatorRun("ScatterND", attributes: attributes), data, Tensor(rows, shape: [4, 1]), updates)[0])
    }
  }

  /// One bad index among those that several threads read.
  @Test func aBadIndexAmongManyIsAnError() throws {
    var indices = (0..<200_000).map { $0 % 7 }
    let (data, updates) = (anyTensor(.float32, [7, 2]), anyTensor(.float32, [200_000, 2]))
    let scatter = OperatorRun("ScatterND")
    _ = try scatter(data, Tensor(indices, shape: [200_000, 1]), updates)
    indices[123_456] = 7
    #expect(throws: (any Error).self) { try scatter(data, Tensor(indices, shape: [200_000, 1]), updates) }
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
