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
struct StepContract {
  let step: Step
  /// The operands that the kernel has packed.
  let packed: [PackedOperand]
  let inputs: [Tensor?]
  let outputTypes: [TensorType?]
  let pool: WorkerPool

  private struct Conditions {
    var fill: UInt8 = 0
    var isReversed = false
    var isParallel = false
    var shiftsInputs = false
    var scramblesUnread = false
    var inPlace: [(input: Int, output: Int)] = []
  }

  /// The conditions under which the outputs are not those of the first run.
  func violations() -> [String] {
    guard let expected = run(Conditions()) else { return ["the step fails when it runs by itself"] }
    if let message = expected.damage { return [message] }
    var tests: [(String, Conditions)] = [
      ("other contents of outputs and scratch before the run", Conditions(fill: 0xA5)),
      ("parts from last to first", Conditions(isReversed: true)),
      ("parts on threads", Conditions(isParallel: true)),
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
      guard let result = run(conditions) else {
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
  private func run(_ conditions: Conditions) -> Result? {
    var blocks: [Guarded] = inputs.enumerated().map { index, tensor in
      guard let tensor else { return Guarded(byteCount: 0) }
      let shift = conditions.shiftsInputs ? max(tensor.dataType.byteWidth, 1) : 0
      let block = Guarded(byteCount: tensor.byteCount, shift: shift)
      if conditions.scramblesUnread, step.unreadInputs.contains(index) {
        block.fill(0xC3)
      } else {
        tensor.withUnsafeBytes { block.write($0) }
      }
      return block
    }
    let inputBytes = blocks.map(\.bytes)
    for (index, type) in outputTypes.enumerated() {
      if let pair = conditions.inPlace.first(where: { $0.output == index }) {
        blocks.append(blocks[pair.input])
      } else {
        let block = Guarded(byteCount: type?.byteCount ?? 0)
        block.fill(conditions.fill)
        blocks.append(block)
      }
    }
    let scratch = Guarded(byteCount: step.scratchBytes)
    scratch.fill(conditions.fill)
    let failure = RunFailure()
    var operands = blocks.map(\.base) + [scratch.base]
    for operand in packed where step.unreadInputs.contains(operand.input) {
      operands[operand.input] = operand.storage.base
    }
    operands.withUnsafeBufferPointer { pointers in
      guard let base = pointers.baseAddress else { return }
      let context = RunContext(
        operands: base, inputCount: inputs.count, outputCount: outputTypes.count, failure: failure)
      for (phase, parts) in step.phases.enumerated() {
        if conditions.isParallel {
          pool.run(parts: parts, cancellation: nil) { step.body(context, phase, $0) }
        } else {
          for part in 0..<parts { step.body(context, phase, conditions.isReversed ? parts - 1 - part : part) }
        }
      }
    }
    if failure.take() != nil { return nil }
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
  private func outputs(_ blocks: [Guarded]) -> [[UInt8]?] {
    outputTypes.enumerated().map { index, type in
      guard let type else { return nil }
      if let view = step.views.first(where: { $0.output == index }) {
        return Array(blocks[view.input].bytes.dropFirst(view.byteOffset).prefix(type.byteCount))
      }
      return blocks[inputs.count + index].bytes
    }
  }
}

/// A block of memory between two stretches of known bytes.
private final class Guarded {
  private let storage: TensorStorage
  private let start: Int
  private let byteCount: Int
  private static let margin = 128
  private static let mark: UInt8 = 0x77

  /// `shift` bytes from a multiple of 64.
  init(byteCount: Int, shift: Int = 0) {
    self.byteCount = byteCount
    start = Self.margin + shift
    guard let storage = try? TensorStorage(byteCount: start + byteCount + Self.margin) else {
      preconditionFailure("no memory for a test of \(byteCount) bytes")
    }
    self.storage = storage
    storage.base.initializeMemory(as: UInt8.self, repeating: Self.mark, count: storage.byteCount)
  }

  var base: UnsafeMutableRawPointer { storage.base + start }

  var bytes: [UInt8] { Array(UnsafeRawBufferPointer(start: base, count: byteCount)) }

  func fill(_ byte: UInt8) { base.initializeMemory(as: UInt8.self, repeating: byte, count: byteCount) }

  func write(_ bytes: UnsafeRawBufferPointer) {
    if let source = bytes.baseAddress { base.copyMemory(from: source, byteCount: byteCount) }
  }

  /// True if the bytes around the block are as they were.
  var isIntact: Bool {
    let all = UnsafeRawBufferPointer(start: storage.base, count: storage.byteCount)
    return all[..<start].allSatisfy { $0 == Self.mark } && all[(start + byteCount)...].allSatisfy { $0 == Self.mark }
  }
}
