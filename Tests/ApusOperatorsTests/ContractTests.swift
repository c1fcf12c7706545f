// The contract of operators on the test models, and that its checks find kernels and inference that break it.

import Apus
import ApusConformance
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Foundation
import Testing

@Suite struct ContractTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  // Lower instruction sets are left to `apus conformance --contract`: forcing one would change what other tests run.
  @Test func testModels() throws {
    let runner = ContractRunner(levels: false)
    for test in try ConformanceCase.find(in: Self.folder) {
      let result = runner.run(test)
      #expect(result.message.isEmpty, "\(test.name): \(result.message)")
    }
    #expect(runner.coverage.count > 60)
  }

  /// An operator that copies eight numbers as `body` does, and claims what `change` says.
  private struct Copying: OperatorDefinition {
    let schema = OperatorSchema(
      "Copying", domain: "test", versions: [1], inputs: [.required("X", "T"), .optional("Z", "T")],
      outputs: [.required("Y", "T")], types: ["T": [.float32]])
    /// What inference says where the extent of the input is a symbol; nil for the symbol.
    var symbolicExtent: Dim?
    var parts = 4
    var change: @Sendable (inout Step) -> Void = { _ in }
    var body: @Sendable (RunContext, Int) -> Void = { run, part in
      for i in 2 * part..<2 * part + 2 { run.output(0, as: Float.self)[i] = run.input(0)[i] }
    }

    func infer(_ context: inout InferenceContext) throws(OperatorError) {
      let shape = context.shape(0)
      context.set(0, .float32, shape?.concrete == nil && shape != nil ? symbolicExtent.map { [$0] } ?? shape : shape)
    }
    func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
      .planned { _ throws(OperatorError) in
        var step = Step.parallel(parts: parts, scratchBytes: 64, body)
        change(&step)
        return step
      }
    }
  }

  /// What the contract says of the operator, on eight numbers twice.
  private func violations(_ definition: Copying) throws -> [String] {
    let registry = OperatorRegistry([[definition]])
    let builder = GraphBuilder(inference: InferenceDriver(registry: registry))
    let inputs = ["x", "z"].map { builder.input($0, [8]) }
    let output = try builder.apply(definition.schema.id, name: "copy", inputs)
    builder.output(output)
    var graph = builder.graph
    graph[output].fact = .tensor(.float32, [8])
    let values: [Value?] = [.tensor(sampleTensor([8], seed: 1)), .tensor(sampleTensor([8], seed: 2)), nil]
    var contract = NodeContract(
      node: graph.nodes[0], graph: graph, values: values, settings: ContractSettings(levels: false),
      registry: registry)
    _ = try contract.check()
    return contract.violations
  }

  @Test func soundKernel() throws {
    #expect(try violations(Copying()).isEmpty)
    var inPlace = Copying()
    inPlace.change = { $0.inPlace = [(input: 0, output: 0)] }
    #expect(try violations(inPlace).isEmpty)
  }

  @Test func memory() throws {
    var partly = Copying()
    partly.parts = 3
    #expect(try violations(partly).contains { $0.contains("other contents") })
    var beyond = Copying()
    beyond.body = { run, part in
      for i in 2 * part..<2 * part + 3 { run.output(0, as: Float.self)[i] = run.input(0)[min(i, 7)] }
    }
    #expect(try violations(beyond).contains { $0.contains("writes outside output 0") })
    var scratch = Copying()
    scratch.body = { run, part in
      let numbers = run.scratch.assumingMemoryBound(to: Float.self)
      for i in 2 * part..<2 * part + 2 { run.output(0, as: Float.self)[i] = numbers[i] }
    }
    #expect(try violations(scratch).contains { $0.contains("other contents") })
    var writesInput = Copying()
    writesInput.body = { run, part in
      let x = UnsafeMutablePointer(mutating: run.input(0, as: Float.self))
      for i in 2 * part..<2 * part + 2 {
        run.output(0, as: Float.self)[i] = x[i]
        x[i] += 1
      }
    }
    #expect(try violations(writesInput).contains { $0.contains("changes input 0") })
  }

  /// A kernel whose scratch memory, or whose operands, no machine holds.
  private struct Vast: Kernel {
    var takesRows: Bool { true }

    func plan(_ context: PlanContext) throws(OperatorError) -> Step {
      var step = Step.parallel(parts: 1, scratchBytes: 1 << 60) { _, _ in }
      step.spread = context.spread
      return step
    }
  }

  /// What there is no memory for is told like any other fault.
  @Test func memoryThatIsNotThere() throws {
    let pool = WorkerPool(threads: 1)
    let type = TensorType(.float32, [2, 3])
    let step = try Vast().plan(PlanContext(inputs: [type], outputs: [type], known: [nil]))
    let small = sampleTensor([2, 3], seed: 1)
    let contract = StepContract(step: step, inputs: [small], outputTypes: [type], pool: pool)
    #expect(contract.violations().count == 1 && contract.violations()[0].contains("memory for"))

    // Claims to have more bytes than there are; nothing reads them.
    let claim = TensorStorage(base: small.storage.base, byteCount: 1 << 50, release: nil)
    let vast = Tensor(dataType: .float32, shape: [2, 1 << 47], storage: claim)
    let rows = RowsContract(kernel: Vast(), inputs: [vast], outputs: [small], known: [nil], pool: pool)
    let found = rows.violations()
    #expect(!found.isEmpty && found.allSatisfy { $0.contains("memory for an operand of \(1 << 50) bytes") }, "\(found)")
    withExtendedLifetime(small) {}
  }

  @Test func order() throws {
    var dependent = Copying()
    dependent.body = { run, part in
      let y = run.output(0, as: Float.self)
      for i in 2 * part..<2 * part + 2 { y[i] = run.input(0)[i] + (part > 0 ? y[2 * part - 1] : 0) }
    }
    #expect(try violations(dependent).contains { $0.contains("from last to first") })
  }

  @Test func claims() throws {
    var inPlace = Copying()
    inPlace.parts = 1
    inPlace.change = { $0.inPlace = [(input: 0, output: 0)] }
    inPlace.body = { run, _ in for i in 0..<8 { run.output(0, as: Float.self)[i] = run.input(0)[7 - i] } }
    #expect(try violations(inPlace).contains { $0.contains("in place of input 0") })
    var unread = Copying()
    unread.change = { $0.unreadInputs = [1] }
    unread.body = { run, part in
      for i in 2 * part..<2 * part + 2 { run.output(0, as: Float.self)[i] = run.input(1)[i] }
    }
    #expect(try violations(unread).contains { $0.contains("not read") })
  }

  /// Each row has its own bound, and NaN and infinity must be where they are expected.
  @Test func rows() {
    func isNear(_ found: [Float], _ expected: [Float]) -> Bool {
      let shape = Shape([2, found.count / 2])
      return RowComparison.difference(
        found: .tensor(Tensor(found, shape: shape)), expected: .tensor(Tensor(expected, shape: shape))) == nil
    }
    #expect(isNear([1, 1000.001, 1, 2], [1, 1000, 1, 2]))
    #expect(!isNear([1, 1000, 1.001, 2], [1, 1000, 1, 2]))
    #expect(isNear([.nan, .infinity, 1, 2], [.nan, .infinity, 1, 2]))
    #expect(!isNear([.nan, .infinity, 1, 2], [.infinity, .infinity, 1, 2]))
    #expect(!isNear([1, -.infinity, 1, 2], [1, .infinity, 1, 2]))
    let bytes = Tensor([UInt8(0x38), 0x39], shape: [1, 2]).reinterpreted(as: .float8e4m3fn)
    let step = Tensor([UInt8(0x39), 0x39], shape: [1, 2]).reinterpreted(as: .float8e4m3fn)
    let jump = Tensor([UInt8(0x3A), 0x39], shape: [1, 2]).reinterpreted(as: .float8e4m3fn)
    #expect(RowComparison.difference(found: .tensor(step), expected: .tensor(bytes)) == nil)
    #expect(RowComparison.difference(found: .tensor(jump), expected: .tensor(bytes)) != nil)
  }

  @Test func inference() throws {
    var wrong = Copying()
    wrong.symbolicExtent = .symbol("s1_0") + 1
    #expect(try violations(wrong).contains { $0.contains("symbolic shapes") })
  }
}
