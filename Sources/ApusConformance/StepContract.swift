// What must hold for the step of a planned kernel, whatever memory it is given and in whatever order its parts run.

import ApusGraph
import ApusRuntime
import ApusTensor

/// Runs one step under conditions that must not matter and names those that do.
///
/// Every run gets fresh memory with guards around it. The result must be the same bits when outputs and scratch start
/// with other contents, when the parts of each phase run last to first or on several threads, when inputs lie at the
/// alignment of their element type only, when an output overwrites an input that the step says it may, and when inputs
/// that the step says it does not read are filled with something else.
package struct StepContract {
  let step: Step
  /// The operands that the kernel has packed.
  let packed: [PackedOperand]
  let inputs: [Tensor?]
  let outputTypes: [TensorType?]
  let pool: WorkerPool

  package init(
    step: Step, packed: [PackedOperand] = [], inputs: [Tensor?], outputTypes: [TensorType?], pool: WorkerPool
  ) {
    (self.step, self.packed, self.inputs, self.outputTypes, self.pool) = (step, packed, inputs, outputTypes, pool)
  }

  private struct Conditions {
    var fill: UInt8 = 0
    var order = Step.PartOrder.forwards
    var shiftsInputs = false
    var scramblesUnread = false
    var inPlace: [(input: Int, output: Int)] = []
  }

  /// The conditions under which the outputs are not those of the first run.
  package func violations() -> [String] {
    do throws(TensorError) {
      return try differences()
    } catch {
      return [error.message]
    }
  }

  private func differences() throws(TensorError) -> [String] {
    guard let expected = try run(Conditions()) else { return ["the step fails when it runs by itself"] }
    if let message = expected.damage { return [message] }
    var tests: [(String, Conditions)] = [
      ("other contents of outputs and scratch before the run", Conditions(fill: 0xA5)),
      ("parts from last to first", Conditions(order: .backwards)),
      ("parts on threads", Conditions(order: .parallel(pool))),
      ("inputs at the alignment of their elements", Conditions(shiftsInputs: true)),
    ]
    if !step.unreadInputs.isEmpty { tests.append(("inputs that are not read", Conditions(scramblesUnread: true))) }
    let pairs = step.inPlace.filter { pair in
      inputs[pair.input].map { $0.byteCount == outputTypes[pair.output]?.byteCount } ?? false
    }
    for pair in pairs {
      tests.append(("output \(pair.output) in place of input \(pair.input)", Conditions(fill: 0x5A, inPlace: [pair])))
    }
    var found: [String] = []
    for (name, conditions) in tests {
      guard let result = try run(conditions) else {
        found.append("\(name): the step fails")
        continue
      }
      if let damage = result.damage { found.append("\(name): \(damage)") }
      for (index, pair) in zip(result.outputs, expected.outputs).enumerated() where pair.0 != pair.1 {
        found.append("\(name): output \(index) has other bits")
      }
    }
    return found
  }

  private typealias Result = (outputs: [[UInt8]?], damage: String?)

  /// The bytes of the outputs, and what was written where nothing may be written; nil if the step reports a failure.
  private func run(_ conditions: Conditions) throws(TensorError) -> Result? {
    var blocks: [GuardedBlock] = []
    for (index, tensor) in inputs.enumerated() {
      let shift = conditions.shiftsInputs ? max(tensor?.dataType.byteWidth ?? 0, 1) : 0
      let block = try GuardedBlock(byteCount: tensor?.byteCount ?? 0, shift: shift)
      if conditions.scramblesUnread, step.unreadInputs.contains(index) {
        block.fill(0xC3)
      } else {
        block.write(tensor)
      }
      blocks.append(block)
    }
    let inputBytes = blocks.map(\.bytes)
    for (index, type) in outputTypes.enumerated() {
      if let pair = conditions.inPlace.first(where: { $0.output == index }) {
        blocks.append(blocks[pair.input])
      } else {
        let block = try GuardedBlock(byteCount: type?.byteCount ?? 0)
        block.fill(conditions.fill)
        blocks.append(block)
      }
    }
    let scratch = try GuardedBlock(byteCount: step.scratchBytes)
    scratch.fill(conditions.fill)
    let (given, made) = (blocks[..<inputs.count], blocks[inputs.count...])
    if !step.run(packed: packed, inputs: given, outputs: made, scratch: scratch, conditions.order) { return nil }
    var damage: String?
    for (index, block) in (blocks + [scratch]).enumerated() where !block.isIntact {
      damage =
        index < inputs.count
        ? "writes around input \(index)"
        : index < blocks.count ? "writes outside output \(index - inputs.count)" : "writes outside its scratch memory"
    }
    for index in inputs.indices where blocks[index].bytes != inputBytes[index] {
      if !conditions.inPlace.contains(where: { $0.input == index }) { damage = "changes input \(index)" }
    }
    return (outputs(blocks), damage)
  }

  /// The bytes of each output; views are the bytes of their input.
  private func outputs(_ blocks: [GuardedBlock]) -> [[UInt8]?] {
    outputTypes.enumerated().map { index, type in
      guard let type else { return nil }
      if let view = step.views.first(where: { $0.output == index }) {
        return Array(blocks[view.input].bytes.dropFirst(view.byteOffset).prefix(type.byteCount))
      }
      return blocks[inputs.count + index].bytes
    }
  }
}
