// Graphs of 16-bit floats: what works on float32 between Casts, what stays, and that results move by no more than the
// roundings that fall away.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct WidenHalvesTests {
  private typealias Body = (GraphBuilder, ValueID) throws -> ValueID

  private func cast(_ value: ValueID, _ type: DataType, _ builder: GraphBuilder) throws -> ValueID {
    try builder.node("Cast", [value], [("to", .int(Int(type.rawValue)))])
  }

  /// A constant of 16 bits, a fraction of what looks random.
  private func weights(_ shape: Shape, _ type: DataType, _ builder: GraphBuilder) -> ValueID {
    let floats = (sampleTensor(shape, seed: builder.graph.values.count).elements(as: Float.self) ?? []).map { $0 / 8 }
    return builder.addConstant(
      type == .float16
        ? Tensor(floats.map { Float16($0) }, shape: shape) : Tensor(floats.map { BFloat16($0) }, shape: shape))
  }

  /// The graph after the passes, of `body` between Casts from and to float32.
  private func check(_ type: DataType, _ shape: [Int], _ body: Body) throws -> PassCheck {
    let builder = GraphBuilder()
    let x = builder.input("x", shape.map { Dim($0) })
    builder.output(try cast(try body(builder, try cast(x, type, builder)), .float32, builder))
    return try PassCheck(builder.graph, [sampleTensor(Shape(shape), seed: 5)])
  }

  @Test(arguments: [DataType.float16, .bfloat16]) func layersWorkOnFloat32(_ type: DataType) throws {
    let tolerance: Float = type == .float16 ? 0x1p-8 : 0x1p-5
    for isTransposed in [false, true] {
      let found = try check(type, [7, 96]) { builder, x in
        var first = weights(isTransposed ? [64, 96] : [96, 64], type, builder)
        if isTransposed { first = try builder.node("Transpose", [first], [("perm", .ints([1, 0]))]) }
        let sum = try builder.node("Add", [try builder.node("MatMul", [x, first]), weights([64], type, builder)])
        let inner = try builder.node("Relu", [sum])
        let last = try builder.node("Gemm", [inner, weights([64, 80], type, builder), weights([80], type, builder)])
        return try builder.node("Softmax", [last])
      }
      // The kernel rounds the first operand itself where it can.
      let rounding = type == .bfloat16 && FusedGemm.canRoundRows ? [] : ["Cast", "Cast"]
      #expect(found.ops == rounding + ["apus.Gemm", "apus.Gemm", "Softmax", "Cast", "Cast"])
      #expect(found.difference < tolerance)
    }
  }

  /// What a product of bfloat16 rounds first may be rounded by its kernel.
  @Test func productsMayRoundTheirRows() throws {
    for (type, narrow) in [(DataType.float16, 0), (.bfloat16, FusedGemm.canRoundRows ? 1 : 0)] {
      let builder = GraphBuilder()
      let x = builder.input("x", [7, 96], type)
      let inner = try builder.node("Tanh", [try builder.node("MatMul", [x, weights([96, 64], type, builder)])])
      builder.output(try builder.node("MatMul", [inner, weights([64, 33], type, builder)]))
      var graph = builder.graph
      _ = try Optimizer(registry: .standard).optimize(&graph)
      let products = graph.nodes.filter { $0.op.description == "apus.Gemm" }
      #expect(products.count == 2 && products.allSatisfy { $0.attributes.int("narrow") ?? 0 == narrow })
      #expect(graph.nodes.filter { $0.op.name == "Cast" }.count == 2)
    }
  }

  @Test func convolutionsWorkOnFloat32() throws {
    let found = try check(.float16, [1, 3, 12, 12]) { builder, x in
      let inner = try builder.node("Relu", [try builder.node("Conv", [x, weights([8, 3, 3, 3], .float16, builder)])])
      return try builder.node("MaxPool", [inner], [("kernel_shape", .ints([2, 2]))])
    }
    #expect(found.ops.contains("Conv") && found.difference < 0x1p-8)
  }

  /// Nothing is gained without a product; what jumps sees numbers of 16 bits.
  @Test func otherNodesStay() throws {
    let alone = try check(.float16, [4, 8]) { builder, x in
      try builder.node("Tanh", [try builder.node("Exp", [x])])
    }
    #expect(alone.ops == ["Cast", "Exp", "Tanh", "Cast"] && alone.difference == 0)
    let jumping = try check(.float16, [4, 8]) { builder, x in
      try builder.node("Floor", [try builder.node("MatMul", [x, weights([8, 5], .float16, builder)])])
    }
    #expect(jumping.ops.firstIndex(of: "Floor") == jumping.ops.count - 2)
    #expect(jumping.ops[jumping.ops.count - 3] == "Cast")
  }

  /// A cache that is given and returned is not cast as a whole but where a product reads it.
  @Test func cachesStay() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 8], .float16)
    let past = builder.input("past", [6, 5], .float16)
    let new = try builder.node("MatMul", [x, weights([8, 5], .float16, builder)])
    let present = try builder.node("Concat", [past, new], [("axis", .int(0))])
    builder.output(present)
    var graph = builder.graph
    _ = try Optimizer(registry: .standard).optimize(&graph)
    let concat = try #require(graph.nodes.first { $0.op.name == "Concat" })
    #expect(concat.inputs.first == past)
    #expect(graph.fact(try #require(concat.outputs[0])).tensor?.dataType == .float16)
  }

  @Test func halfWeightsAreSavedAsCasts() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 96], .float16)
    builder.output(try builder.node("Relu", [try builder.node("MatMul", [x, weights([96, 64], .float16, builder)])]))
    var graph = builder.graph
    _ = try Optimizer(registry: .standard).optimize(&graph)
    let gemm = try #require(graph.nodes.first { $0.op.description == "apus.Gemm" })
    #expect(graph.constant(gemm.inputs[1])?.dataType == .float16)
    #expect(graph.fact(try #require(gemm.outputs[0])).tensor?.dataType == .float32)
  }
}
