// Steps that nodes share when a plan is bound: which do, and that sharing changes no bit.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Synchronization
import Testing

/// Counts the plans of its kernels.
private final class Count: Sendable {
  private let plans = Atomic<Int>(0)
  func add() { plans.wrappingAdd(1, ordering: .relaxed) }
  func take() -> Int { plans.exchange(0, ordering: .relaxed) }
}

/// y = x + the first element of `by`, or of what the kernel has seen of it.
private struct Shift: OperatorDefinition {
  enum Reading: Sendable, CaseIterable {
    /// The kernel looks at `by` when it runs only.
    case none
    case whenPrepared
    case whenPlanned
    /// The kernel packs `by`, and its steps find that where the input would lie.
    case packed
  }

  let reading: Reading
  let count: Count
  let schema = OperatorSchema(
    "Shift", domain: "test", versions: [1], inputs: [.required("x", "T"), .required("by", "T")],
    outputs: [.required("y", "T")], attributes: [.float("factor", default: 1)], types: ["T": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let prepared = reading == .whenPrepared ? Shift.first(context.constant(1)) : nil
    let factor = try context.float("factor")
    if reading == .packed, let by = Shift.first(context.packable(1)) {
      return try packed(by, factor, context.allowance)
    }
    return .planned { [count, reading] plan in
      count.add()
      let seen = reading == .whenPlanned ? Shift.first(plan.tensor(1)) : prepared
      let elements = plan.outputs[0]?.count ?? 0
      return Step.serial { run in
        let by = seen ?? run.input(1, as: Float.self)[0]
        for index in 0..<elements { run.output(0, as: Float.self)[index] = (run.input(0)[index] + by) * factor }
      }.overwriting(0)
    }
  }

  /// The packed form is the number less one.
  private func packed(_ by: Float, _ factor: Float, _ allowance: Allowance) throws(OperatorError) -> PreparedKernel {
    let storage = try allowance.allocate(byteCount: 4)
    storage.base.storeBytes(of: by - 1, as: Float.self)
    return .planned(packing: [PackedOperand(input: 1, storage: storage)]) { [count] plan in
      count.add()
      let elements = plan.outputs[0]?.count ?? 0
      return Step.serial { run in
        let by = run.input(1, as: Float.self)[0] + 1
        for index in 0..<elements { run.output(0, as: Float.self)[index] = (run.input(0)[index] + by) * factor }
      }.overwriting(0).notReading(1)
    }
  }

  private static func first(_ tensor: Tensor?) -> Float? { tensor?.elements(as: Float.self)?.first }
}

@Suite struct SharedStepTests {
  /// Six nodes in a row, each with a constant of its own; every second one with another factor if `factors` is true.
  private func graph(_ registry: OperatorRegistry, factors: Bool = false) throws -> Graph {
    let builder = GraphBuilder(registry: registry)
    var last = builder.input("x", [.symbol("n")])
    for index in 0..<6 {
      let by = builder.constant([Float(index + 1)], [1])
      last = try builder.node(
        "Shift", [last, by], factors && index % 2 == 1 ? [("factor", .float(2))] : [], domain: "test")
    }
    builder.output(last)
    return builder.graph
  }

  @Test(arguments: [
    (Shift.Reading.none, false, 1), (.none, true, 2), (.whenPrepared, false, 6), (.whenPlanned, false, 6),
    (.packed, false, 1), (.packed, true, 2),
  ])
  fileprivate func kernelsThatLookAtNothingPlanOnce(_ reading: Shift.Reading, _ factors: Bool, _ plans: Int) throws {
    let count = Count()
    let registry = OperatorRegistry([[Shift(reading: reading, count: count)]])
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: graph(registry, factors: factors), registry: registry, pool: pool)
    for length in [2, 3, 4, 5, 9] {
      _ = count.take()
      let input = sampleTensor([length], seed: length)
      let found = try program.run([.tensor(input)], on: pool)[0].tensor?.elements(as: Float.self)
      var expected = try #require(input.elements(as: Float.self))
      for node in 1...6 {
        let factor: Float = factors && node % 2 == 0 ? 2 : 1
        expected = expected.map { ($0 + Float(node)) * factor }
      }
      #expect(found == expected)
      // The first two plans are made node by node.
      #expect(count.take() == (length < 4 ? 6 : plans))
    }
  }

  /// Layers of a transformer: equal nodes with weights of their own, on one thread and on several.
  @Test(arguments: [1, 4]) func layersKeepTheirWeights(_ threads: Int) throws {
    var builder = GraphBuilder()
    var x = builder.input("x", [.symbol("batch"), .symbol("length"), 16])
    for _ in 0..<4 {
      let normalized = try builder.node("LayerNormalization", [x, builder.weights([16]), builder.weights([16])])
      let inner = try builder.node("MatMul", [normalized, builder.weights([16, 32])])
      let active = try builder.node("Gelu", [try builder.node("Add", [inner, builder.weights([32])])])
      let gate = try builder.node("Sigmoid", [try builder.node("MatMul", [normalized, builder.weights([16, 32])])])
      let outer = try builder.node("MatMul", [try builder.node("Mul", [active, gate]), builder.weights([32, 16])])
      x = try builder.node("Add", [x, outer])
    }
    builder.output(x)
    let pool = WorkerPool(threads: threads)
    let shared = try Program(graph: builder.graph, registry: .standard, pool: pool)
    for (batch, length) in [(1, 3), (2, 5), (3, 4), (1, 1), (7, 40), (1, 200), (4, 1), (2, 65)] {
      let input = Value.tensor(sampleTensor([batch, length, 16], seed: length))
      let found = try #require(try shared.run([input], on: pool)[0].tensor)
      let alone = try Program(graph: builder.graph, registry: .standard, pool: pool)
      let expected = try #require(try alone.run([input], on: pool)[0].tensor)
      #expect(found.shape == expected.shape && found.elements(as: Float.self) == expected.elements(as: Float.self))
    }
    #expect(shared.planReports().filter(\.isBound).count == 6)
  }
}
