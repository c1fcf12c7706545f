// Operators that rearrange elements between DequantizeLinear and QuantizeLinear rearrange the integers: where scale and
// zero point are the same on all sides, and not otherwise.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct QuantizedMovementTests {
  /// A change of type to integers and back.
  private struct Code {
    var scale: Float = 0.037
    var zeroPoint: Int8 = 3

    func quantize(_ x: ValueID, _ builder: GraphBuilder) throws -> ValueID {
      try builder.node("QuantizeLinear", [x, builder.constant([scale], []), builder.constant([zeroPoint], [])])
    }

    func dequantize(_ x: ValueID, _ builder: GraphBuilder) throws -> ValueID {
      try builder.node("DequantizeLinear", [x, builder.constant([scale], []), builder.constant([zeroPoint], [])])
    }
  }

  private typealias Body = (GraphBuilder, ValueID) throws -> ValueID

  /// The operators that are left of a quantized input, `body`, and a result that is quantized again.
  private func ops(
    _ body: Body, before: Code = Code(), after: Code = Code(), isSeen: Bool = false
  ) throws -> [String] {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 4, 6, 6])
    let inner = try before.dequantize(try before.quantize(x, builder), builder)
    let moved = try body(builder, inner)
    if isSeen { builder.output(moved) }
    builder.output(try after.dequantize(try after.quantize(moved, builder), builder))
    let check = try PassCheck(builder.graph, [sampleTensor([2, 4, 6, 6], seed: 9)])
    #expect(check.difference == 0)
    return check.ops
  }

  private func expectMoved(_ op: String, _ body: Body) throws {
    #expect(try ops(body) == ["QuantizeLinear", op, "DequantizeLinear"])
  }

  @Test func whatRearrangesMovesIntegers() throws {
    try expectMoved("Transpose") { b, x in try b.node("Transpose", [x], [("perm", .ints([2, 0, 3, 1]))]) }
    try expectMoved("Reshape") { b, x in try b.node("Reshape", [x, b.constant([8, 36] as [Int64], [2])]) }
    try expectMoved("Slice") { b, x in
      try b.node("Slice", [x, b.constant([1] as [Int64], [1]), b.constant([3] as [Int64], [1])])
    }
    try expectMoved("Gather") { b, x in try b.node("Gather", [x, b.constant([1, 0, 1] as [Int64], [3])]) }
    try expectMoved("DepthToSpace") { b, x in try b.node("DepthToSpace", [x], [("blocksize", .int(2))]) }
  }

  @Test func concatOfOneCode() throws {
    for second in [Code(), Code(scale: 0.038), Code(zeroPoint: 4)] {
      let builder = GraphBuilder()
      let (x, y) = (builder.input("x", [2, 3]), builder.input("y", [2, 5]))
      let first = try Code().dequantize(try Code().quantize(x, builder), builder)
      let other = try second.dequantize(try second.quantize(y, builder), builder)
      let joined = try builder.node("Concat", [first, other], [("axis", .int(1))])
      builder.output(try Code().quantize(joined, builder))
      let check = try PassCheck(builder.graph, [sampleTensor([2, 3], seed: 1), sampleTensor([2, 5], seed: 2)])
      #expect(check.difference == 0)
      let isSame = second.scale == Code().scale && second.zeroPoint == Code().zeroPoint
      #expect(check.ops.contains("DequantizeLinear") == !isSame)
    }
  }

  @Test func everyPartOfASplit() throws {
    for isSeen in [false, true] {
      let builder = GraphBuilder()
      let x = builder.input("x", [6, 4])
      let inner = try Code().dequantize(try Code().quantize(x, builder), builder)
      let parts = (0..<3).map { builder.addValue("part\($0)") }
      let attributes = Attributes([("num_outputs", .int(3))])
      try builder.append(
        Node(OperatorID("Split"), name: "split", inputs: [inner, nil], outputs: parts, attributes: attributes))
      for part in parts.dropLast() { builder.output(try Code().quantize(part, builder)) }
      builder.output(isSeen ? parts[2] : try Code().quantize(parts[2], builder))
      let check = try PassCheck(builder.graph, [sampleTensor([6, 4], seed: 3)])
      #expect(check.difference == 0)
      #expect(check.ops.contains("DequantizeLinear") == isSeen)
    }
  }

  @Test func twoResultsOfOneMovement() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [6, 4])
    let inner = try Code().dequantize(try Code().quantize(x, builder), builder)
    let turned = try builder.node("Transpose", [inner])
    for _ in 0..<2 {
      builder.output(try Code().dequantize(try Code().quantize(turned, builder), builder))
    }
    let check = try PassCheck(builder.graph, [sampleTensor([6, 4], seed: 3)])
    #expect(check.difference == 0)
    #expect(check.ops.first == "QuantizeLinear" && check.ops.filter { $0 == "QuantizeLinear" }.count == 1)
  }

  @Test func nearMisses() throws {
    let transpose: Body = { b, x in try b.node("Transpose", [x]) }
    #expect(try ops(transpose, after: Code(scale: 0.0371)).filter { $0 == "DequantizeLinear" }.count == 2)
    #expect(try ops(transpose, after: Code(zeroPoint: 2)).filter { $0 == "DequantizeLinear" }.count == 2)
    #expect(try ops(transpose, isSeen: true).filter { $0 == "DequantizeLinear" }.count == 2)
    // Products that lose places: an integer is not always nearest to itself.
    let tiny = Code(scale: 0x1p-140)
    #expect(try ops(transpose, before: tiny, after: tiny).filter { $0 == "DequantizeLinear" }.count == 2)
    // What computes elements, or adds others, is none of these.
    let pad: Body = { b, x in try b.node("Pad", [x, b.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8])]) }
    #expect(try ops(pad).filter { $0 == "DequantizeLinear" }.count == 2)
  }
}
