// Extents as symbols through the operators that exporters build shapes with.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ShapeChainTests {
  private let batch = Dim.symbol("batch")
  private let seq = Dim.symbol("seq")

  private func values(_ builder: GraphBuilder, _ id: ValueID) -> [Dim]? { builder.graph.fact(id).tensor?.values }
  private func shape(_ builder: GraphBuilder, _ id: ValueID) -> [Dim]? { builder.graph.fact(id).tensor?.shape }

  @Test func splitsHeads() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [batch, seq, 768])
    let extents = try builder.node("Shape", [x])
    let index = builder.constant([0], [])
    let first = try builder.node(
      "Unsqueeze", [try builder.node("Gather", [extents, index]), builder.constant([0], [1])])
    let second = try builder.node(
      "Slice", [extents, builder.constant([1], [1]), builder.constant([2], [1]), builder.constant([0], [1])])
    let target = try builder.node("Concat", [first, second, builder.constant([12, 64], [2])], [("axis", .int(0))])
    #expect(values(builder, target) == [batch, seq, 12, 64])
    let heads = try builder.node("Reshape", [x, target])
    let turned = try builder.node("Transpose", [heads], [("perm", .ints([0, 2, 1, 3]))])
    #expect(shape(builder, turned) == [batch, 12, seq, 64])
    let product = try builder.node("ReduceProd", [extents], [("keepdims", .int(0))])
    #expect(values(builder, product) == [Dim(768) * batch * seq])
    let size = try builder.node("Size", [x])
    #expect(values(builder, size) == values(builder, product))
  }

  @Test func slicesOfSymbols() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [batch, seq])
    func slice(_ start: Int, _ end: Int, _ step: Int = 1) throws -> Dim? {
      let sliced = try builder.node(
        "Slice",
        [
          x, builder.constant([start], [1]), builder.constant([end], [1]), builder.constant([1], [1]),
          builder.constant([step], [1]),
        ])
      return shape(builder, sliced)?[1]
    }
    #expect(try slice(0, Int.max) == seq)
    #expect(try slice(Int.min, Int.max) == seq)
    #expect(try slice(-1, Int.min, -1) == seq)
    #expect(try slice(0, 5) == .min(5, seq))
    // Whatever the symbol stands for, the number is the one that the concrete slice has.
    for (start, end, step) in [
      (1, Int.max, 1), (-1, Int.max, 1), (0, -1, 1), (2, 5, 2), (-3, -1, 1), (0, Int.max, 3), (1, -2, 1),
    ] {
      let extent = try #require(try slice(start, end, step))
      for length in [0, 1, 2, 3, 4, 9] {
        let bound = extent.substituting(["seq": Dim(length)])
        let sliced = try OperatorRun("Slice")(
          Tensor([Float](repeating: 0, count: length)), Tensor([start]), Tensor([end]), Tensor([0]), Tensor([step]))[0]
        #expect(bound.known == nil || bound.known == sliced.count, "\(start):\(end):\(step) of \(length)")
        #expect(!extent.isUnknown)
      }
    }
  }

  @Test func rangesAndExpansion() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [batch, seq])
    let extents = try builder.node("Shape", [x])
    let length = try builder.node("Gather", [extents, builder.constant([1], [])])
    let positions = try builder.node("Range", [builder.constant([0], []), length, builder.constant([1], [])])
    #expect(shape(builder, positions) == [seq])
    let expanded = try builder.node("Expand", [positions, extents])
    #expect(shape(builder, expanded) == [batch, seq])
    let zeros = try builder.node("ConstantOfShape", [extents])
    #expect(shape(builder, zeros) == [batch, seq])
    let tiled = try builder.node("Tile", [x, builder.constant([2, 3], [2])])
    #expect(shape(builder, tiled) == [batch * 2, seq * 3])
    let padded = try builder.node("Pad", [x, builder.constant([0, 1, 0, 2], [4])])
    #expect(shape(builder, padded) == [batch, seq + 3])
  }

  @Test func unknownRanksStayUnknown() throws {
    for (name, count) in [
      ("Transpose", 1), ("Slice", 3), ("Squeeze", 1), ("Gather", 2), ("ReduceSum", 1), ("Pad", 2), ("Tile", 2),
    ] {
      let builder = GraphBuilder()
      let inputs = (0..<count).map { index in
        builder.addInput("", fact: .tensor(index == 0 ? .float32 : .int64, index == 0 ? nil : [.unknown]))
      }
      let output = try builder.node(name, inputs)
      #expect(builder.type(output) == .float32, "\(name)")
      #expect(builder.shape(output) == nil, "\(name)")
    }
  }
}
