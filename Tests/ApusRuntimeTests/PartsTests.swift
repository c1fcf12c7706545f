// Into how many parts the nodes of usual models divide: enough for the threads where there is work, one where there is
// none.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

/// A node of a usual model.
struct UsualNode: Sendable, CustomTestStringConvertible {
  let op: String
  let inputs: [Shape]
  var attributes: [(String, AttributeValue)] = []
  var constants: [Tensor] = []
  /// Inputs that are weights.
  var weights: Set<Int> = []

  var testDescription: String { "\(op) \(inputs.map(\.description).joined(separator: " "))" }
}

@Suite struct PartsTests {
  /// What takes more than 50 µs on one core.
  static let large = [
    UsualNode(op: "MatMul", inputs: [[128, 768], [768, 768]], weights: [1]),
    UsualNode(op: "MatMul", inputs: [[1, 768], [768, 3072]], weights: [1]),
    UsualNode(op: "MatMul", inputs: [[12, 128, 64], [12, 64, 128]]),
    UsualNode(op: "Add", inputs: [[1, 64, 112, 112], [1, 64, 112, 112]]),
    UsualNode(op: "Relu", inputs: [[1, 64, 112, 112]]),
    UsualNode(op: "Gelu", inputs: [[128, 3072]]),
    UsualNode(op: "Softmax", inputs: [[12, 128, 128]]),
    UsualNode(op: "LayerNormalization", inputs: [[128, 768], [768]], attributes: [("axis", .int(-1))]),
    UsualNode(op: "ReduceMean", inputs: [[512, 768]], constants: [Tensor([1 as Int64], shape: [1])]),
    UsualNode(op: "Transpose", inputs: [[128, 12, 64, 4]], attributes: [("perm", .ints([1, 0, 2, 3]))]),
    UsualNode(op: "Concat", inputs: [[1, 256, 28, 28], [1, 256, 28, 28]], attributes: [("axis", .int(1))]),
    UsualNode(
      op: "Conv", inputs: [[1, 64, 56, 56], [64, 64, 3, 3]], attributes: [("pads", .ints([1, 1, 1, 1]))], weights: [1]),
    UsualNode(
      op: "Conv", inputs: [[1, 96, 56, 56], [96, 1, 3, 3]],
      attributes: [("pads", .ints([1, 1, 1, 1])), ("group", .int(96))], weights: [1]),
    UsualNode(
      op: "MaxPool", inputs: [[1, 64, 112, 112]],
      attributes: [("kernel_shape", .ints([3, 3])), ("strides", .ints([2, 2]))]),
  ]

  /// What takes less than 5 µs.
  static let small = [
    UsualNode(op: "MatMul", inputs: [[1, 32], [32, 32]], weights: [1]),
    UsualNode(op: "MatMul", inputs: [[16, 64], [64, 64]], weights: [1]),
    UsualNode(op: "Add", inputs: [[1, 768], [768]]),
    UsualNode(op: "Relu", inputs: [[1, 16, 28, 28]]),
    UsualNode(op: "Gelu", inputs: [[1, 3072]]),
    UsualNode(op: "Softmax", inputs: [[1, 1000]]),
    UsualNode(op: "LayerNormalization", inputs: [[1, 768], [768]], attributes: [("axis", .int(-1))]),
    UsualNode(op: "ReduceMean", inputs: [[8, 768]], constants: [Tensor([1 as Int64], shape: [1])]),
    UsualNode(op: "Transpose", inputs: [[1, 12, 64]], attributes: [("perm", .ints([0, 2, 1]))]),
    UsualNode(op: "Concat", inputs: [[1, 768], [1, 768]], attributes: [("axis", .int(1))]),
    UsualNode(op: "Conv", inputs: [[1, 3, 8, 8], [4, 3, 3, 3]], weights: [1]),
    UsualNode(
      op: "LSTM", inputs: [[4, 8, 16], [1, 64, 16], [1, 64, 16]], attributes: [("hidden_size", .int(16))],
      weights: [1, 2]),
  ]

  /// The parts of the phases of a node.
  private func phases(_ node: UsualNode) throws -> [Int] {
    let builder = GraphBuilder()
    var ids: [ValueID?] = []
    var given: [Value] = []
    for (index, shape) in node.inputs.enumerated() {
      if node.weights.contains(index) {
        ids.append(builder.weights(shape))
      } else {
        ids.append(builder.input("x\(index)", shape.dims.map { Dim($0) }))
        given.append(.tensor(sampleTensor(shape, seed: index)))
      }
    }
    ids += node.constants.map { builder.addConstant($0) }
    builder.output(try builder.node(node.op, ids, node.attributes))
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    _ = try program.run(given, on: pool)
    return try #require(program.planReports().first?.steps.last).phases
  }

  @Test(arguments: large) func largeNodesHavePartsForThreads(_ node: UsualNode) throws {
    let found = try #require(phases(node).max())
    #expect(found >= 2)
    #expect(found <= 64)
  }

  @Test(arguments: small) func smallNodesAreOnePart(_ node: UsualNode) throws {
    #expect(try phases(node).allSatisfy { $0 <= 1 })
  }

  /// A profile counts what a kernel moves, not the table that it picks rows from.
  @Test func gatheringMovesWhatItPicks() throws {
    let builder = GraphBuilder()
    let indices = builder.input("i", [3], .int64)
    builder.output(try builder.node("Gather", [builder.weights([1000, 16]), indices]))
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    _ = try program.run([.tensor(Tensor([4 as Int64, 0, 999], shape: [3]))], on: pool)
    let step = try #require(program.planReports().first?.steps.first)
    #expect(step.cost == Cost(bytes: 2 * 3 * 16 * 4))
  }

  /// Where a kernel says nothing of bytes, its operands count.
  @Test func operandsAreBytes() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [10, 100])
    builder.output(try builder.node("MatMul", [x, builder.weights([100, 7])]))
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    _ = try program.run([.tensor(sampleTensor([10, 100], seed: 1))], on: pool)
    let step = try #require(program.planReports().first?.steps.first)
    #expect(step.cost == Cost(operations: 2 * 10 * 100 * 7, bytes: 4 * (1000 + 700 + 70)))
  }
}
