// Operators that move elements, on every element type, against their definitions written out by coordinates.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

private func integers(_ values: Int...) -> Tensor { Tensor(values) }

@Suite struct MovementTests {
  @Test(arguments: movedTypes) func reshapes(_ type: DataType) throws {
    let input = anyTensor(type, [3, 1, 5])
    for (name, parameter, shape) in [
      ("Reshape", integers(5, -1), [5, 3]), ("Squeeze", integers(-2), [3, 5]),
      ("Unsqueeze", integers(0, -1), [1, 3, 1, 5, 1]),
      ("Flatten", nil, [3, 5]), ("Identity", nil, [3, 1, 5]), ("Squeeze", nil, [3, 5]),
    ] as [(String, Tensor?, Shape)] {
      let inputs: [Value?] = [.tensor(input)] + (parameter.map { [.tensor($0)] } ?? [])
      let result = try OperatorRun(name)(inputs)[0].tensor
      #expect(result?.shape == shape, "\(name)")
      #expect(result.map(atoms) == atoms(input), "\(name)")
    }
  }

  @Test(arguments: basicTypes) func concatAndSplit(_ type: DataType) throws {
    for axis in 0..<3 {
      let parts = [2, 0, 1, 3].enumerated().map { index, extent in
        var shape: Shape = [2, 3, 2]
        shape[axis] = extent
        return anyTensor(type, shape, seed: index)
      }
      let joined = try OperatorRun("Concat", attributes: [("axis", .int(axis - 3))])(parts.map { .tensor($0) })[0]
        .tensor!
      #expect(joined.shape[axis] == 6)
      let split = OperatorRun("Split", attributes: [("axis", .int(axis))])
      let pieces = try runEveryWay(split, joined, integers(2, 0, 1, 3), outputs: 4)
      for (piece, part) in zip(pieces, parts) {
        #expect(piece.shape == part.shape)
        #expect(atoms(piece) == atoms(part))
      }
    }
  }

  @Test func splitInEqualParts() throws {
    let input = anyTensor(.float32, [7, 2])
    let pieces = try OperatorRun("Split", attributes: [("num_outputs", .int(4))])([.tensor(input)], outputs: 4)
    #expect(pieces.map { $0.tensor!.shape } == [[2, 2], [2, 2], [2, 2], [1, 2]])
    #expect(pieces.flatMap { atoms($0.tensor!) } == atoms(input))
  }

  @Test(arguments: basicTypes) func slices(_ type: DataType) throws {
    let input = anyTensor(type, [5, 4, 6])
    let result = try runEveryWay(
      OperatorRun("Slice"), input, integers(-1, 1), integers(Int.min, 100), integers(0, 2), integers(-2, 3))[0]
    expectMoved(result, input, shape: [3, 4, 2]) { [4 - 2 * $0[0], $0[1], 1 + 3 * $0[2]] }
    // A contiguous range of the outermost axis.
    let rows = try runEveryWay(OperatorRun("Slice"), input, integers(1), integers(-1), nil, nil)[0]
    expectMoved(rows, input, shape: [3, 4, 6]) { [$0[0] + 1, $0[1], $0[2]] }
  }

  @Test func sliceBounds() throws {
    let input = Tensor([Float](arrayLiteral: 0, 1, 2))
    for (start, end, step, expected) in [
      (-10, Int.min, -1, [0]), (10, Int.min, -2, [2, 0]), (1, 1, 1, []), (-2, 99, 1, [1, 2]),
      (0, Int.max, Int.max, [0]),
      (2, Int.min, Int.min, [2]), (2, 0, -1, [2, 1]), (5, 9, 1, []),
    ] as [(Int, Int, Int, [Float])] {
      let result = try OperatorRun("Slice")(input, integers(start), integers(end), integers(0), integers(step))[0]
      #expect(result.elements(as: Float.self) == expected, "\(start):\(end):\(step)")
    }
    #expect(throws: (any Error).self) {
      try OperatorRun("Slice")(input, integers(0), integers(3), integers(0), integers(0))
    }
  }

  @Test(arguments: basicTypes) func expandAndTile(_ type: DataType) throws {
    let input = anyTensor(type, [3, 1, 2])
    let expanded = try runEveryWay(OperatorRun("Expand"), input, integers(2, 1, 4, 1))[0]
    expectMoved(expanded, input, shape: [2, 3, 4, 2]) { [$0[1], 0, $0[3]] }
    let tiled = try runEveryWay(OperatorRun("Tile"), input, integers(2, 3, 2))[0]
    expectMoved(tiled, input, shape: [6, 3, 4]) { [$0[0] % 3, 0, $0[2] % 2] }
    #expect(try OperatorRun("Tile")(input, integers(1, 0, 1))[0].shape == [3, 0, 2])
  }

  @Test(arguments: movedTypes) func pads(_ type: DataType) throws {
    let input = anyTensor(type, [3, 4])
    func padded(_ mode: String, _ pads: [Int], value: Tensor? = nil) throws -> Tensor {
      try runEveryWay(OperatorRun("Pad", attributes: [("mode", .string(mode))]), input, Tensor(pads), value)[0]
    }
    expectMoved(try padded("constant", [1, -1, 2, 3]), input, shape: [6, 6]) {
      (1...3).contains($0[0]) && $0[1] < 3 ? [$0[0] - 1, $0[1] + 1] : nil
    }
    expectMoved(try padded("edge", [1, 2, 2, 0]), input, shape: [6, 6]) {
      [min(max($0[0] - 1, 0), 2), min(max($0[1] - 2, 0), 3)]
    }
    expectMoved(try padded("wrap", [4, 5, 4, 0]), input, shape: [11, 9]) { [($0[0] + 2) % 3, ($0[1] + 3) % 4] }
    let mirror = [0, 1, 2, 1]
    expectMoved(try padded("reflect", [5, 0, 4, 0]), input, shape: [12, 4]) { [mirror[($0[0] + 3) % 4], $0[1]] }
    let value = anyTensor(type, [], seed: 9)
    let filled = try padded("constant", [0, 1, 0, 0], value: value)
    #expect(atoms(filled).enumerated().allSatisfy { $0.offset % 5 != 0 || $0.element == atoms(value)[0] })
  }

  @Test func padsOfEmptyAxes() throws {
    let empty = Tensor([Float](), shape: [0, 2])
    #expect(try OperatorRun("Pad")(empty, integers(1, 0, 1, 0))[0].elements(as: Float.self) == [0, 0, 0, 0])
    for mode in ["edge", "reflect", "wrap"] {
      #expect(throws: (any Error).self) {
        try OperatorRun("Pad", attributes: [("mode", .string(mode))])(empty, integers(1, 0, 1, 0))
      }
    }
    #expect(throws: (any Error).self) { try OperatorRun("Pad")(empty, integers(-1, 0, 0, 0)) }
    for (pads, count) in [([-2, 3], 2), ([3, -2], 2), ([-1, 0], 0), ([Int.min, Int.max], nil), ([-3, 1], nil)]
      as [([Int], Int?)]
    {
      let result = try? OperatorRun("Pad")(Tensor([Float(7)]), Tensor(pads))[0].elements(as: Float.self)
      #expect(result == count.map { [Float](repeating: 0, count: $0) })
    }
  }

  @Test(arguments: basicTypes) func depthAndSpace(_ type: DataType) throws {
    let input = anyTensor(type, [2, 12, 3, 5])
    for mode in ["DCR", "CRD"] {
      let attributes: [(String, AttributeValue)] = [("blocksize", .int(2)), ("mode", .string(mode))]
      let space = try runEveryWay(OperatorRun("DepthToSpace", attributes: attributes), input)[0]
      expectMoved(space, input, shape: [2, 3, 6, 10]) { at in
        let block = at[2] % 2 * 2 + at[3] % 2
        return [at[0], mode == "DCR" ? block * 3 + at[1] : at[1] * 4 + block, at[2] / 2, at[3] / 2]
      }
      let back = try runEveryWay(OperatorRun("SpaceToDepth", attributes: attributes), space)[0]
      #expect(atoms(back) == atoms(input))
    }
  }

  @Test(arguments: basicTypes) func triangles(_ type: DataType) throws {
    let input = anyTensor(type, [2, 3, 5])
    for k in [0, 1, -1, 9, -9, Int.max, Int.min] {
      for upper in [0, 1] {
        let run = OperatorRun("Trilu", attributes: [("upper", .int(upper))])
        let result = try runEveryWay(run, input, Tensor(scalar: k))[0]
        expectMoved(result, input, shape: [2, 3, 5]) { at in
          (upper == 1 ? at[2] - at[1] >= k : at[2] - at[1] <= k) ? at : nil
        }
      }
    }
  }

  @Test(arguments: basicTypes) func reversedSequences(_ type: DataType) throws {
    let input = anyTensor(type, [4, 3, 2])
    let run = OperatorRun("ReverseSequence")
    let result = try runEveryWay(run, input, integers(4, 1, 3))[0]
    let lengths = [4, 1, 3]
    expectMoved(result, input, shape: [4, 3, 2]) { at in
      [at[0] < lengths[at[1]] ? lengths[at[1]] - 1 - at[0] : at[0], at[1], at[2]]
    }
    #expect(throws: (any Error).self) { try run(input, integers(5, 1, 1)) }
  }

  @Test(arguments: [DataType.float32, .uint4, .int4, .float8e5m2, .string, .bfloat16])
  func tensorScatter(_ type: DataType) throws {
    let (cache, update) = (anyTensor(type, [2, 5, 3]), anyTensor(type, [2, 2, 3], seed: 4))
    for mode in ["linear", "circular"] {
      let starts = mode == "linear" ? [3, 0] : [4, -1]
      let run = OperatorRun("TensorScatter", attributes: [("mode", .string(mode))])
      let result = try runEveryWay(run, cache, update, Tensor(starts))[0]
      var expected = atoms(cache)
      for batch in 0..<2 {
        for line in 0..<2 {
          for column in 0..<3 {
            let target = (starts[batch] + line + 5) % 5
            expected[(batch * 5 + target) * 3 + column] = atoms(update)[(batch * 2 + line) * 3 + column]
          }
        }
      }
      #expect(atoms(result) == expected)
    }
    #expect(throws: (any Error).self) { try OperatorRun("TensorScatter")(cache, update, integers(4, 0)) }
  }
}
