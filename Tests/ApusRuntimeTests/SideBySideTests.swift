// Branches that run side by side: they meet, keep their bits, name the right node, and overwrite nothing that is
// needed.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Synchronization
import Testing

/// The largest number of `Meet` nodes that were inside at once.
private final class Meeting: Sendable {
  private let inside = Atomic<Int>(0)
  private let most = Atomic<Int>(0)
  private let patience: Duration
  init(patience: Duration) { self.patience = patience }
  var largest: Int { most.load(ordering: .acquiring) }

  /// Waits a while for somebody else.
  func attend() {
    let now = inside.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue
    most.max(now, ordering: .acquiringAndReleasing)
    let end = ContinuousClock.now + patience
    while largest < 2, ContinuousClock.now < end {}
    inside.wrappingSubtract(1, ordering: .acquiringAndReleasing)
  }
}

/// Copies its input in one part that waits for another one; says that it is much work.
private struct Meet: OperatorDefinition {
  let meeting: Meeting
  let schema = OperatorSchema(
    "Meet", domain: "test", versions: [1], inputs: [.required("x", "T")], outputs: [.required("y", "T")],
    types: ["T": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { [meeting] plan in
      let bytes = plan.inputs[0]?.byteCount ?? 0
      return Step.serial { run in
        meeting.attend()
        run.outputBytes().copyMemory(from: run.inputBytes(0), byteCount: bytes)
      }.named("Meet", cost: Cost(operations: 1 << 20)).overwriting(0)
    }
  }
}

@Suite struct SideBySideTests {
  private func run(_ graph: Graph, _ registry: OperatorRegistry, _ input: Tensor, threads: Int) throws -> [Tensor] {
    let pool = WorkerPool(threads: threads)
    return try Program(graph: graph, registry: registry, pool: pool).run([.tensor(input)], on: pool).compactMap(
      \.tensor)
  }

  /// Two nodes of one part each that wait for each other: with two threads both are inside at the same time.
  @Test(arguments: [(1, 1), (2, 2)]) func branchesMeet(_ threads: Int, _ expected: Int) throws {
    let meeting = Meeting(patience: threads > 1 ? .seconds(20) : .milliseconds(1))
    let meet = Meet(meeting: meeting)
    let registry = OperatorRegistry([OperatorRegistry.standard.all, [meet]])
    let builder = GraphBuilder(inference: InferenceDriver(registry: registry))
    let x = builder.input("x", [100])
    for branch in 0..<2 {
      builder.output(try builder.apply(OperatorID("Meet", domain: "test"), name: "m\(branch)", [x]))
    }
    let input = sampleTensor([100], seed: 1)
    let outputs = try run(builder.graph, registry, input, threads: threads)
    #expect(meeting.largest == expected)
    for output in outputs { #expect(output.elements(as: Float.self) == input.elements(as: Float.self)) }
  }

  /// Towers of narrow steps over one input, in-place where it dies, joined at the end.
  @Test(arguments: [1, 5, 23]) func towersKeepTheirBits(_ towers: Int) throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 150])
    let shared = try builder.node("Neg", [x])
    var sum = shared
    for tower in 0..<towers {
      let square = try builder.node("Mul", [shared, tower % 2 == 0 ? shared : x])
      let root = try builder.node(["Tanh", "Exp", "Relu"][tower % 3], [square])
      let shape = builder.constant([-1, 150] as [Int], [2])
      let view = try builder.node("Reshape", [root, shape])
      let product = try builder.node("MatMul", [view, builder.weights([150, 150])])
      sum = try builder.node("Add", [sum, try builder.node("Sub", [product, root])])
    }
    builder.output(sum, shared)
    for rows in [1, 40, 120] {
      let input = sampleTensor([rows, 150], seed: rows)
      let one = try run(builder.graph, .standard, input, threads: 1)
      for threads in [2, 4] {
        let many = try run(builder.graph, .standard, input, threads: threads)
        for (a, b) in zip(one, many) { #expect(a.elements(as: Float.self) == b.elements(as: Float.self)) }
      }
    }
  }

  @Test func failuresNameTheirNode() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [300, 300])
    let data = builder.weights([300, 300])
    let wrong = builder.constant([Int](repeating: 7, count: 299) + [300], [300])
    let right = builder.constant([Int](repeating: 7, count: 300), [300])
    let index = builder.input("index", [300], .int64)
    for branch in 0..<4 {
      let scaled = try builder.node("Mul", [x, data])
      let positions = try builder.node("Add", [index, branch == 2 ? wrong : right])
      builder.output(try builder.node("Gather", [scaled, positions]))
    }
    let pool = WorkerPool(threads: 2)
    let program = try Program(graph: builder.graph, registry: .standard, pool: pool)
    let zero = Tensor([Int](repeating: 0, count: 300))
    for _ in 0..<3 {
      let error = #expect(throws: OperatorError.self) {
        try program.run([.tensor(sampleTensor([300, 300], seed: 1)), .tensor(zero)], on: pool)
      }
      #expect(error.map { "\($0)".contains("n8") } == true)
    }
    let fine = Tensor([Int](repeating: 0, count: 299) + [-1])
    #expect(try program.run([.tensor(sampleTensor([300, 300], seed: 1)), .tensor(fine)], on: pool).count == 4)
  }
}
