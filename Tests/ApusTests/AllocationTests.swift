// What a run takes from the heap, counted block by block.

import Apus
import ApusAllocations
import ApusGraph
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite(.enabled(if: apus_counts_allocations(), "the heap of this C library is not watched"))
struct AllocationTests {
  /// Blocks of one output: the tensor's storage and its bytes.
  private static let blocksOfOutput = 2
  /// The array of the outputs, and the account that they are charged to.
  private static let blocksOfRun = 2

  /// The blocks that a run by positions takes, when a few have been before.
  private func blocks(_ model: Model, _ inputs: [Value]) throws -> Int {
    for _ in 0..<4 { _ = try model.run(inOrder: inputs, settings: RunSettings()) }
    let before = apus_allocations()
    let outputs = try model.run(inOrder: inputs, settings: RunSettings())
    let after = apus_allocations()
    withExtendedLifetime(outputs) {}
    return Int(after - before)
  }

  /// On the thread of the caller, which is the one that counts.
  private func model(_ builder: GraphBuilder) throws -> Model {
    var options = ModelOptions()
    options.threads = 1
    return try Model(ModelGraph(graph: builder.graph), options: options)
  }

  @Test func aRunByPositionsTakesItsOutputs() throws {
    var builder = GraphBuilder()
    let x = builder.input("x", [.symbol("batch"), 16])
    let hidden = try builder.node("Relu", [builder.node("MatMul", [x, builder.weights([16, 32])])])
    let normalized = try builder.node("LayerNormalization", [hidden, builder.weights([32])])
    builder.output(
      try builder.node("Softmax", [builder.node("MatMul", [normalized, builder.weights([32, 8])])]),
      try builder.node("ReduceMax", [normalized]))
    let model = try model(builder)
    for batch in [1, 3, 64] {
      let found = try blocks(model, [.tensor(sampleTensor([batch, 16], seed: batch))])
      #expect(found == Self.blocksOfRun + 2 * Self.blocksOfOutput)
    }
  }

  @Test func aViewTakesNoMoreThanOtherOutputs() throws {
    var builder = GraphBuilder()
    let x = builder.input("x", [4, 6])
    let y = builder.input("y", [4, 6])
    let sum = try builder.node("Add", [x, y])
    builder.output(sum, try builder.node("Reshape", [sum, builder.constant([24], [1])]))
    let inputs: [Value] = [.tensor(sampleTensor([4, 6], seed: 1)), .tensor(sampleTensor([4, 6], seed: 2))]
    // Both outputs are one block.
    #expect(try blocks(try model(builder), inputs) == Self.blocksOfRun + Self.blocksOfOutput)
  }
}
