// Fusions beside each other: none reads, or takes, what another one has taken. Passes that leave a bad graph are named,
// and changes can be counted off.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct FusionPassTests {
  /// Heads of attention that are convolutions with a factor, or Gelus: `conv-affine` and `attention` look at the same
  /// nodes.
  @Test(arguments: ["Conv", "Gelu", "Swish"]) func attentionBehindOtherPatterns(_ kind: String) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 3, 4])
    func head(_ builder: GraphBuilder) throws -> ValueID {
      switch kind {
      case "Conv":
        let y = try builder.node("Conv", [x, builder.weights([2, 2, 1, 1])])
        return try builder.node("Mul", [y, builder.constant([0.5 as Float], [])])
      case "Swish":
        let y = try builder.node("Mul", [x, builder.weights([4])])
        return try builder.node("Mul", [y, try builder.node("Sigmoid", [y])])
      default:
        let y = try builder.node("Mul", [x, builder.weights([4])])
        let erf = try builder.node(
          "Erf", [try builder.node("Div", [y, builder.constant([Float(2).squareRoot()], [])])])
        let sum = try builder.node("Add", [erf, builder.constant([1 as Float], [])])
        return try builder.node("Mul", [try builder.node("Mul", [y, sum]), builder.constant([0.5 as Float], [])])
      }
    }
    let (q, k, v) = (try head(builder), try head(builder), try head(builder))
    let keys = try builder.node("Transpose", [k], [("perm", .ints([0, 1, 3, 2]))])
    let weights = try builder.node("Softmax", [try builder.node("MatMul", [q, keys])], [("axis", .int(-1))])
    builder.output(try builder.node("MatMul", [weights, v]))
    let result = try PassCheck(builder.graph, [sampleTensor([1, 2, 3, 4], seed: 2)])
    #expect(result.ops.contains("Attention"))
    #expect(result.difference < 1e-5)
  }

  /// A scale between a convolution and attention belongs to both patterns.
  @Test func aScaleGoesIntoOnePatternOnly() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 2, 3, 4])
    let half = builder.constant([0.5 as Float], [])
    let q = try builder.node("Mul", [try builder.node("Conv", [x, builder.weights([2, 2, 1, 1])]), half])
    let keys = try builder.node("Transpose", [x], [("perm", .ints([0, 1, 3, 2]))])
    let weights = try builder.node("Softmax", [try builder.node("MatMul", [q, keys])], [("axis", .int(-1))])
    builder.output(try builder.node("MatMul", [weights, x]))
    let result = try PassCheck(builder.graph, [sampleTensor([1, 2, 3, 4], seed: 2)])
    #expect(result.difference < 1e-5)
  }

  private struct Breaker: GraphPass {
    let name = "break-things"
    let change: @Sendable (inout GraphEditor) -> Void
    func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
      change(&graph)
      return 1
    }
  }

  @Test(arguments: 0..<4) func passesThatBreakAGraphAreNamed(_ way: Int) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let y = try builder.node("Abs", [try builder.node("Relu", [x])])
    builder.output(y)
    let breaker = Breaker { graph in
      guard let first = graph.firstNode, let last = graph.lastNode else { return }
      switch way {
      case 0: graph.remove(first)
      case 1: graph.update(first) { $0.inputs = [y] }
      case 2: graph.update(first) { $0.inputs.append(x) }
      // Another shape than the value had.
      default: graph.update(last) { $0 = Node(OperatorID("ReduceMax"), inputs: [x], outputs: [y]) }
      }
    }
    var graph = builder.graph
    let error = #expect(throws: OperatorError.self) {
      try Optimizer(registry: .standard, passes: [breaker]).optimize(&graph)
    }
    #expect(error?.message.contains("break-things") == true)
  }

  /// Any number of changes from the first on leaves a graph that computes the same.
  @Test func changesAreCounted() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1, 3, 8, 8])
    var y = x
    for _ in 0..<3 {
      y = try builder.node("Relu", [try builder.node("Conv", [y, builder.weights([3, 3, 1, 1])])])
      y = try builder.node("Identity", [try builder.node("Mul", [y, try builder.node("Sigmoid", [y])])])
    }
    builder.output(y)
    let input = sampleTensor([1, 3, 8, 8], seed: 4)
    var ops: Set<[String]> = []
    for count in 0..<40 {
      let result = try PassCheck(builder.graph, [input], stopAfter: count)
      #expect(result.difference < 1e-5, "after \(count) changes")
      ops.insert(result.ops)
    }
    #expect(ops.count > 10)
    #expect(try PassCheck(builder.graph, [input], stopAfter: 0).ops == builder.graph.nodes.map(\.op.description))
  }
}
