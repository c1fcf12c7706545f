// What a plan is, for people and programs to read.

import ApusGraph
import ApusTensor

/// A plan of consecutive nodes for one set of input shapes.
package struct PlanReport: Sendable {
  /// One node of the plan.
  package struct Step: Sendable {
    package let node: String
    package let op: OperatorID
    /// The algorithm or micro-kernel.
    package let kernel: String
    /// Steps of one wave run side by side.
    package let wave: Int
    /// The parts of each phase.
    package let phases: [Int]
    /// Operations as far as they are counted, a multiply-add as two, and the bytes that it reads and writes.
    package let cost: Cost
    /// Where each operand lies: inputs, outputs, and scratch memory.
    package let inputs: [String]
    package let outputs: [String]
    package let scratch: String
    /// What its kernel was chosen among, when it was prepared and when it was planned; see `KernelChoices`.
    package let choices: [KernelChoice]
  }

  /// The names of the nodes with subgraphs around this plan, and of the subgraph: empty for the graph itself.
  package let path: [String]
  /// The values that enter, by name and type.
  package let inputs: [String]
  /// True if it was bound from the formulas of its region; false if it was made node by node.
  package let isBound: Bool
  package let steps: [Step]
  /// What lies in the arena, and the waves that need it.
  package let blocks: [ArenaBlock]
  package let arenaBytes: Int
  /// The most bytes that are alive at once: no arena can be smaller.
  package let arenaLowerBound: Int
  /// Bytes of the values that outlive the plan.
  package let outputBytes: Int
}

extension Program {
  /// The plans that runs have made so far, subgraphs included. `explaining`: with the choices of kernels; those that
  /// are made when a node is prepared are known if they were noted then.
  package func planReports(path: [String] = [], explaining: Bool = false) -> [PlanReport] {
    var reports = plans.all.map { PlanReport($0, in: self, path: path, explaining: explaining) }
    for prepared in nodes {
      for subprogram in prepared.subprograms {
        let node = prepared.node
        let name = node.name.isEmpty ? node.op.description : node.name
        reports += subprogram.program.planReports(path: path + [name, subprogram.name], explaining: explaining)
      }
    }
    return reports
  }
}

extension PlanReport {
  fileprivate init(_ plan: RegionPlan, in program: Program, path: [String], explaining: Bool) {
    self.path = path
    inputs = plan.inputs.map { "\(program.graph[$0.value].name): \($0.type.dataType)\($0.type.shape)" }
    isBound = plan.isBound
    (blocks, arenaBytes, arenaLowerBound) = (plan.arenaBlocks, plan.arenaBytes, plan.arenaLowerBound)
    outputBytes =
      plan.outputBlocks.reduce(0, &+)
      &+ plan.caches.reduce(0) { $0 &+ ($1.pitch == nil ? 0 : $1.type.byteCount) }
    var waves = [Int](repeating: 0, count: plan.steps.count)
    for (wave, range) in plan.waves.enumerated() {
      for step in range { waves[step] = wave }
    }
    steps = plan.steps.enumerated().map { index, step in
      let node = program.nodes[step.node].node
      var operands = plan.operands[step.operands..<step.operands + step.inputCount + step.outputCount + 1]
        .map(\.description)
      for (operand, rows) in step.draft.placement?.rows ?? [] {
        operands[operand] += "/\(rows.length):\(rows.distance)"
      }
      return Step(
        node: node.name, op: node.op, kernel: step.draft.step.kernelName, wave: waves[index],
        phases: Array(plan.phases[step.phases]), cost: step.draft.cost,
        inputs: Array(operands[..<step.inputCount]),
        outputs: Array(operands[step.inputCount..<step.inputCount + step.outputCount]), scratch: operands.last ?? "-",
        choices: explaining ? program.nodes[step.node].choices + program.choices(of: step) : [])
    }
  }
}

extension Program {
  /// The choices that planning a step makes: it is planned once more. Empty if it cannot be, without what was known
  /// when it was.
  fileprivate func choices(of step: PlannedStep) -> [KernelChoice] {
    let prepared = nodes[step.node]
    guard case .planned(let kernel) = prepared.kernel else { return [] }
    let choices = KernelChoices()
    let context = PlanContext(
      inputs: step.draft.inputTypes, outputs: step.draft.outputTypes,
      known: prepared.inputs.map { $0.flatMap { constants[$0.index] } })
    // A step that was planned with more knowledge has nothing to say without it.
    let step = try? choices.noting { () throws(OperatorError) in try kernel.step(for: context) }
    return step == nil ? [] : choices.all
  }
}

extension OperandSource: CustomStringConvertible {
  /// `@64` is a byte of the arena, `constant`, `input 0+16`, `output 1`, `cache 2`; `-` is nothing. In a report
  /// `/32:96` behind it says that rows of 32 elements lie there, 96 elements apart.
  var description: String {
    func place(_ name: String, _ index: Int, _ offset: Int) -> String {
      "\(name) \(index)" + (offset > 0 ? "+\(offset)" : "")
    }
    return switch self {
    case .arena(let offset): "@\(offset)"
    case .constant: "constant"
    case .input(let slot, let offset): place("input", slot, offset)
    case .output(let block, let offset): place("output", block, offset)
    case .cache(let index): "cache \(index)"
    case .none: "-"
    }
  }
}
