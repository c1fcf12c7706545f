// Nodes of old operator sets: attributes that became inputs, operators that were renamed.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct OldVersionTests {
  private func run(
    _ name: String, version: Int, _ attributes: [(String, AttributeValue)], _ inputs: Tensor..., outputs: Int = 1
  ) throws -> [Tensor] {
    var run = OperatorRun(name, attributes: attributes)
    run.version = version
    return try run(inputs.map { .tensor($0) }, outputs: outputs).compactMap(\.tensor)
  }

  private let row = Tensor((0..<6).map { Float($0) }, shape: [1, 6])

  @Test func attributesBecomeInputs() throws {
    #expect(try run("Squeeze", version: 1, [("axes", .ints([0]))], row)[0].shape == [6])
    #expect(try run("Unsqueeze", version: 11, [("axes", .ints([-1]))], row)[0].shape == [1, 6, 1])
    let slice = try run(
      "Slice", version: 1, [("starts", .ints([1])), ("ends", .ints([-1])), ("axes", .ints([1]))], row)
    #expect(slice[0].elements(as: Float.self) == [1, 2, 3, 4])
    let split = try run("Split", version: 2, [("axis", .int(1)), ("split", .ints([1, 5]))], row, outputs: 2)
    #expect(split.map(\.shape) == [[1, 1], [1, 5]])
    #expect(
      try run("Split", version: 11, [("axis", .int(1))], row, outputs: 3).map(\.shape) == [[1, 2], [1, 2], [1, 2]])
    let sum = try run("ReduceSum", version: 11, [("axes", .ints([1])), ("keepdims", .int(0))], row)
    #expect(sum[0].elements(as: Float.self) == [15])
    #expect(try run("ReduceMax", version: 1, [], row)[0].elements(as: Float.self) == [5])
    let top = try run("TopK", version: 1, [("k", .int(2))], row, outputs: 2)
    #expect(top[0].elements(as: Float.self) == [5, 4])
    #expect(try run("Concat", version: 1, [], row, row)[0].shape == [1, 12])
    let shape: [(String, AttributeValue)] = [("shape", .ints([3, -1])), ("consumed_inputs", .ints([0]))]
    #expect(try run("Reshape", version: 1, shape, row)[0].shape == [3, 2])
  }

  @Test func normsOfAnyOrder() throws {
    let x = Tensor([Float(3), -4], shape: [1, 1, 2])
    let kernel: [(String, AttributeValue)] = [("kernel_shape", .ints([2]))]
    for (p, norm) in [(Float(1), Float(7)), (2, 5), (0.5, 13.928203)] {
      for (name, attributes) in [("LpPool", kernel), ("GlobalLpPool", [])] {
        let found = try run(name, version: 1, attributes + [("p", .float(p))], x)[0].elements(as: Float.self)
        #expect(abs((found?.first ?? 0) - norm) < 1e-4, "\(name) of order \(p)")
      }
    }
    #expect(throws: (any Error).self) { try run("GlobalLpPool", version: 1, [("p", .float(0))], x) }
  }

  @Test func nearestElementOfResizeTen() throws {
    let scales = Tensor([Float(1), 0.6])
    let shrunk = try run("Resize", version: 10, [], Tensor([Float(1), 2, 3, 4], shape: [1, 4]), scales)
    #expect(shrunk[0].elements(as: Float.self) == [1, 3])
    let grown = try run("Resize", version: 10, [], Tensor([Float(1), 2], shape: [1, 2]), Tensor([Float(1), 2.5]))
    #expect(grown[0].elements(as: Float.self) == [1, 1, 1, 2, 2])
  }

  @Test func padsOfOldVersions() throws {
    for (version, name) in [(1, "paddings"), (2, "pads")] {
      let attributes: [(String, AttributeValue)] = [(name, .ints([0, 1, 0, 0])), ("value", .float(1.5))]
      #expect(try run("Pad", version: version, attributes, row)[0].elements(as: Float.self) == [1.5, 0, 1, 2, 3, 4, 5])
      let halves = Tensor([Float16(2)], shape: [1, 1])
      #expect(try run("Pad", version: version, attributes, halves)[0].elements(as: Float16.self) == [1.5, 2])
    }
  }

  @Test func tilesOfVersionOne() throws {
    let tiled = try run("Tile", version: 1, [], row, Tensor(scalar: Float(2)), Tensor(scalar: Float(1)))
    #expect(tiled[0].shape == [1, 12])
  }

  @Test func scatterIsScatterElements() throws {
    let result = try run(
      "Scatter", version: 9, [("axis", .int(1))], row, Tensor([4], shape: [1, 1]), Tensor([Float(9)], shape: [1, 1]))
    #expect(result[0].elements(as: Float.self) == [0, 1, 2, 3, 9, 5])
  }
}
