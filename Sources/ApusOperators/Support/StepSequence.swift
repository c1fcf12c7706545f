// One step made of several: each works on operands of the node or on ranges of the shared scratch memory.

import ApusGraph

/// Puts steps behind one another. The inner steps must not return views.
struct StepSequence {
  /// Where an operand of an inner step lies.
  enum Operand: Sendable {
    case input(Int)
    case output(Int)
    /// A byte offset in the scratch memory of the whole.
    case scratch(Int)
    case none
  }

  private struct Stage: Sendable {
    let step: Step
    /// Inputs, outputs, and the scratch memory of the stage itself.
    let operands: [Operand]
    let inputCount: Int
  }

  private var stages: [Stage] = []
  private var scratchBytes = 0

  /// A 64-byte aligned range of scratch memory that all stages share.
  mutating func reserve(bytes: Int) -> Operand {
    defer { scratchBytes += (bytes + 63) & ~63 }
    return .scratch(scratchBytes)
  }

  mutating func append(_ step: Step, inputs: [Operand], outputs: [Operand]) {
    precondition(step.views.isEmpty, "a step of a sequence cannot return views")
    let own: Operand = step.scratchBytes > 0 ? reserve(bytes: step.scratchBytes) : .none
    stages.append(Stage(step: step, operands: inputs + outputs + [own], inputCount: inputs.count))
  }

  /// All stages as one step.
  var step: Step {
    var phases: [Int] = []
    var places: [(stage: Int, phase: Int)] = []
    for (index, stage) in stages.enumerated() {
      phases += stage.step.phases
      places += stage.step.phases.indices.map { (index, $0) }
    }
    var result = Step(phases: phases, scratchBytes: scratchBytes) { [stages, places] run, phase, part in
      let place = places[phase]
      let stage = stages[place.stage]
      withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer.self, capacity: stage.operands.count) { operands in
        guard let base = operands.baseAddress else { return }
        for (index, operand) in stage.operands.enumerated() {
          let address =
            switch operand {
            case .input(let input): run.operands[input]
            case .output(let output): run.operands[run.inputCount + output]
            case .scratch(let offset): run.scratch + offset
            case .none: run.scratch
            }
          (base + index).initialize(to: address)
        }
        let inner = RunContext(
          operands: base, inputCount: stage.inputCount, outputCount: stage.operands.count - stage.inputCount - 1,
          failure: run.failure)
        stage.step.body(inner, place.phase, part)
      }
    }
    result.cost = Cost(operations: stages.reduce(Cost()) { $0 + $1.step.cost }.operations)
    return result
  }
}
