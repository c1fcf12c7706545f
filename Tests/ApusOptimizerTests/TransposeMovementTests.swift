// Changes of the order of axes sink until they meet one that undoes them, and results stay what they were.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TransposeMovementTests {
  private let toFirst: [(String, AttributeValue)] = [("perm", .ints([0, 3, 1, 2]))]
  private let toLast: [(String, AttributeValue)] = [("perm", .ints([0, 2, 3, 1]))]

  /// The operators behind the passes of imports, whose results on random images are those of before.
  private func moved(batch: Int = 2, _ build: (GraphBuilder, ValueID) throws -> ValueID) throws -> [String] {
    let builder = GraphBuilder()
    let x = builder.input("x", [Dim(batch), 4, 5, 3])
    builder.output(try build(builder, x))
    let result = try PassCheck(
      builder.graph, [sampleTensor([batch, 4, 5, 3], seed: 7)], passes: Optimizer.importPasses)
    // A mean over the same numbers may add them in another order.
    #expect(result.difference < 1e-6)
    return result.ops
  }

  @Test func elementwiseAndConstantsLetThemPass() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Relu", [try builder.node("Transpose", [x], toFirst)])
      let sum = try builder.node("Add", [first, builder.weights([3, 1, 1])])
      return try builder.node("Transpose", [sum], toLast)
    }
    // The output keeps its name.
    #expect(ops == ["Relu", "Add", "Identity"])
  }

  @Test func axesFollow() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Transpose", [x], toFirst)
      let pads = builder.constant([1, 0, 0, 2] as [Int64], [4])
      let padded = try builder.node("Pad", [first, pads, nil, builder.constant([2, -1] as [Int64], [2])])
      // Without a list, all axes in their order.
      let around = builder.constant([0, 1, 0, 0, 0, 0, 2, 0] as [Int64], [8])
      let wide = try builder.node("Pad", [padded, around])
      let joined = try builder.node("Concat", [wide, wide], [("axis", .int(1))])
      let mean = try builder.node(
        "ReduceMean", [joined, builder.constant([1] as [Int64], [1])], [("keepdims", .int(1))])
      return try builder.node("Transpose", [mean], toLast)
    }
    #expect(!ops.contains("Transpose"))
  }

  @Test func whatIsLeftOfAReductionKeepsItsOrder() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Transpose", [x], [("perm", .ints([3, 0, 2, 1]))])
      return try builder.node(
        "ReduceSum", [first, builder.constant([1] as [Int64], [1])], [("keepdims", .int(0))])
    }
    #expect(ops.contains("ReduceSum"))
  }

  @Test func whatNeedsItsOrderGetsIt() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Transpose", [x], toFirst)
      let axis = builder.constant([1] as [Int64], [])
      let sum = try builder.node("CumSum", [try builder.node("Sigmoid", [first]), axis])
      return try builder.node("Transpose", [sum], toLast)
    }
    #expect(ops == ["Sigmoid", "Transpose", "CumSum", "Transpose"])
  }

  @Test func alongAnAxisOfAllOutputs() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Transpose", [x], toFirst)
      let soft = try builder.node("Softmax", [first], [("axis", .int(1))])
      let parts = try builder.apply(
        OperatorID("Split"), name: "parts", [soft, builder.constant([1, 2] as [Int64], [2])], [("axis", .int(1))],
        outputCount: 2)
      let joined = try builder.node("Concat", [parts[1], parts[0]], [("axis", .int(-3))])
      return try builder.node("Transpose", [joined], toLast)
    }
    #expect(ops == ["Softmax", "Split", "Concat", "Identity"])
  }

  /// A batch of one is an axis like any other.
  @Test(arguments: [1, 2]) func shapesThatSplitAndJoinAxes(_ batch: Int) throws {
    func sizes(_ others: Int...) -> [Int64] { ([batch] + others).map { Int64($0) } }
    // The channels of groups in turn: one change of the order is left of three.
    let ops = try moved(batch: batch) { builder, x in
      let first = try builder.node("Transpose", [try builder.node("Concat", [x, x], [("axis", .int(3))])], toFirst)
      let pairs = try builder.node("Reshape", [first, builder.constant([-1, 2, 3, 4, 5] as [Int64], [5])])
      let turned = try builder.node("Transpose", [pairs], [("perm", .ints([0, 2, 1, 3, 4]))])
      let whole = try builder.node("Reshape", [turned, builder.constant(sizes(6, 4, 5), [4])])
      return try builder.node("Transpose", [whole], toLast)
    }
    #expect(ops.count(where: { $0 == "Transpose" }) == 1)
    // Pixels as rows, as vision transformers have them, and rows as pixels.
    let rows = try moved(batch: batch) { builder, x in
      let first = try builder.node("Transpose", [x], toFirst)
      let pixels = try builder.node("Reshape", [first, builder.constant(sizes(3, 20), [3])])
      return try builder.node("Transpose", [pixels], [("perm", .ints([0, 2, 1]))])
    }
    #expect(!rows.contains("Transpose"))
    let image = try moved(batch: batch) { builder, x in
      let rows = try builder.node("Reshape", [x, builder.constant(sizes(20, 3), [3])])
      let turned = try builder.node("Transpose", [rows], [("perm", .ints([0, 2, 1]))])
      let image = try builder.node("Reshape", [turned, builder.constant(sizes(3, 4, 5), [4])])
      return try builder.node("Transpose", [image], toLast)
    }
    #expect(!image.contains("Transpose"))
  }

  @Test func factorsOfChannelsFollow() throws {
    let ops = try moved { builder, x in
      let first = try builder.node("Transpose", [x], toFirst)
      let axes = builder.constant([2, 3] as [Int64], [2])
      let mean = try builder.node("ReduceMean", [first, axes], [("keepdims", .int(0))])
      let gate = try builder.node("Reshape", [mean, builder.constant([2, 3, 1, 1] as [Int64], [4])])
      let product = try builder.node("Mul", [first, try builder.node("Sigmoid", [gate])])
      return try builder.node("Transpose", [product], toLast)
    }
    // That of the factors moves nothing.
    #expect(ops.count(where: { $0 == "Transpose" }) <= 1)
  }
}
