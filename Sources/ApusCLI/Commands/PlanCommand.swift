// apus plan: what a run of a model will do, step by step, and where everything lies.

import Apus
import ApusGraph
import ApusRuntime
import ArgumentParser

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Shows the plan of a model for given inputs: steps, kernels, memory, its peak and lower bound.",
    discussion: """
      The plan holds for the shapes of the inputs; those that are not given are drawn, and their symbolic extents are \
      1 unless --dim binds them. Steps of one wave run side by side. Operands are bytes of the arena (@64), constants, \
      inputs or outputs of the plan, and /32:96 says that rows of 32 elements lie there, 96 elements apart. Views, \
      values that were made where they would have been copied to, and values that were known while planning have no \
      step. With --explain, costs are in operations of vector kernels, for one element or multiply-add where a kernel \
      is chosen before sizes are known.
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var inputs: InputArguments

  @Flag(help: "Also list the blocks of the arena, with the first and the last wave that needs each.")
  var blocks = false

  @Flag(help: "Also list what each kernel was chosen among, with costs, and why others do not apply.")
  var explain = false

  @Flag(help: "Print JSON, with what each kernel was chosen among.")
  var json = false

  private struct Report: Encodable {
    struct Step: Encodable {
      var node, op, kernel: String
      var wave, operations, bytes: Int
      var phases: [Int]
      var inputs, outputs: [String]
      var scratch: String
      var choices: [Choice]
    }
    struct Choice: Encodable {
      struct Candidate: Encodable {
        var name: String
        var operations, bytes: Int?
        var refusal: String?
      }
      var point, taken: String
      var candidates: [Candidate]
    }
    struct Block: Encodable {
      var offset, bytes, firstWave, lastWave: Int
    }
    struct Plan: Encodable {
      var path, inputs: [String]
      var arenaBytes, arenaLowerBound, outputBytes: Int
      var steps: [Step]
      var blocks: [Block]
    }
    var model: String
    var plans: [Plan]
  }

  func run() throws {
    let explains = explain || json
    let loaded = explains ? try KernelChoices().noting { () throws in try model.load() } : try model.load()
    var arguments = inputs
    arguments.random = true
    _ = try loaded.run(values: try arguments.values(for: loaded))
    let report = Report(
      model: model.name, plans: loaded.program.planReports(explaining: explains).map(Self.plan))
    if json { return try printJSON(report) }
    for plan in report.plans { try show(plan) }
  }

  private static func plan(_ plan: PlanReport) -> Report.Plan {
    Report.Plan(
      path: plan.path, inputs: plan.inputs, arenaBytes: plan.arenaBytes, arenaLowerBound: plan.arenaLowerBound,
      outputBytes: plan.outputBytes,
      steps: plan.steps.map {
        .init(
          node: $0.node, op: "\($0.op)", kernel: $0.kernel, wave: $0.wave, operations: $0.cost.operations,
          bytes: $0.cost.bytes, phases: $0.phases, inputs: $0.inputs, outputs: $0.outputs, scratch: $0.scratch,
          choices: $0.choices.map(Self.choice))
      },
      blocks: plan.blocks.map {
        .init(offset: $0.offset, bytes: $0.bytes, firstWave: $0.firstWave, lastWave: $0.lastWave)
      })
  }

  private static func choice(_ choice: KernelChoice) -> Report.Choice {
    Report.Choice(
      point: choice.point, taken: choice.taken,
      candidates: choice.opinions.map { opinion in
        switch opinion.appraisal {
        case .cost(let cost): .init(name: opinion.candidate, operations: cost.operations, bytes: cost.bytes)
        case .refused(let reason): .init(name: opinion.candidate, refusal: reason)
        }
      })
  }

  /// `taken of point: plain 16, rows 1; other: why not`.
  private static func text(_ choice: Report.Choice) -> String {
    let candidates = choice.candidates.map { candidate in
      if let refusal = candidate.refusal { return "\(candidate.name): \(refusal)" }
      let bytes = candidate.bytes ?? 0
      return "\(candidate.name) \(candidate.operations ?? 0)" + (bytes > 0 ? " + \(bytes) bytes" : "")
    }
    return "\(choice.point): \(choice.taken), of \(candidates.joined(separator: "; "))"
  }

  private func show(_ plan: Report.Plan) throws {
    let place = plan.path.isEmpty ? "plan" : "plan inside of \(plan.path.joined(separator: "/").printable())"
    let above = Double(plan.arenaBytes) / Double(max(plan.arenaLowerBound, 1))
    try Console.print(
      "\(place) for \(plan.inputs.joined(separator: ", ").printable())\n"
        + "\(plan.steps.count) steps, arena \(plan.arenaBytes) bytes"
        + (plan.arenaBytes > 0 ? " (\(ValueText.format((above * 1000).rounded() / 1000)) of the lower bound)" : "")
        + ", outputs \(plan.outputBytes) bytes\n")
    let header = ["node", "wave", "parts", "inputs", "outputs", "scratch", "kernel"]
    let rows = plan.steps.map { step -> [String] in
      [
        String((step.node.isEmpty ? step.op : step.node).printable().suffix(40)), "\(step.wave)",
        step.phases.map { "\($0)" }.joined(separator: ","), step.inputs.joined(separator: " "),
        step.outputs.joined(separator: " "), step.scratch, step.kernel,
      ]
    }
    try Console.print(table([header] + rows) + "\n")
    if explain {
      for step in plan.steps where !step.choices.isEmpty {
        try Console.print((step.node.isEmpty ? step.op : step.node).printable())
        for choice in step.choices { try Console.print("  " + Self.text(choice)) }
      }
      try Console.print("")
    }
    if blocks {
      let rows = plan.blocks.sorted { ($0.firstWave, $0.offset) < ($1.firstWave, $1.offset) }.map {
        ["@\($0.offset)", "\($0.bytes)", "\($0.firstWave)", "\($0.lastWave)"]
      }
      try Console.print(table([["block", "bytes", "first wave", "last wave"]] + rows) + "\n")
    }
  }
}
