// Nodes that compute the same are one afterwards; those that differ in anything are not.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct CommonSubexpressionTests {
  private func nodes(_ make: (GraphBuilder, ValueID) throws -> (ValueID, ValueID)) throws -> Int {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3, 4])
    let (a, b) = try make(builder, x)
    // Outputs of the graph stay; what computes them may be shared.
    builder.output(try builder.node("Neg", [a]), try builder.node("Abs", [b]))
    let check = try PassCheck(
      builder.graph, [sampleTensor([2, 3, 4], seed: 3)],
      passes: Optimizer.allPasses.filter { $0.name == "eliminate-common-subexpressions" })
    #expect(check.difference == 0)
    return check.ops.count
  }

  private func transpose(_ builder: GraphBuilder, _ x: ValueID, _ axes: [Int]) throws -> ValueID {
    try builder.node("Transpose", [x], [("perm", .ints(axes))])
  }

  @Test func sameIsShared() throws {
    #expect(try nodes { (try $0.node("Exp", [$1]), try $0.node("Exp", [$1])) } == 3)
    #expect(try nodes { (try transpose($0, $1, [0, 2, 1]), try transpose($0, $1, [0, 2, 1])) } == 3)
    #expect(
      try nodes {
        let alpha: [(String, AttributeValue)] = [("alpha", .float(0.25))]
        return (try $0.node("LeakyRelu", [$1], alpha), try $0.node("LeakyRelu", [$1], alpha))
      } == 3)
  }

  @Test func whatDiffersIsNot() throws {
    #expect(try nodes { (try $0.node("Exp", [$1]), try $0.node("Sin", [$1])) } == 4)
    #expect(try nodes { (try transpose($0, $1, [0, 2, 1]), try transpose($0, $1, [2, 0, 1])) } == 4)
    #expect(
      try nodes {
        (
          try $0.node("LeakyRelu", [$1], [("alpha", .float(0))]),
          try $0.node("LeakyRelu", [$1], [("alpha", .float(-0.0))])
        )
      } == 4)
    #expect(
      try nodes { (try $0.node("Sub", [$1, try $0.node("Exp", [$1])]), try $0.node("Sub", [$1, $1])) } == 5)
  }
}
