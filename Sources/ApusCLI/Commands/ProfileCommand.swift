// apus profile: where the time of a run goes.

import Apus
import ApusFormats
import ApusRuntime
import ArgumentParser
import Foundation

struct ProfileCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "profile", abstract: "Measures each node of a model: time, share, GFLOP/s, GB/s, kernel.")

  @OptionGroup var model: ModelArguments
  @OptionGroup var inputs: InputArguments

  @Option(parsing: .unconditional, help: "Runs to average over, after two that do not count.")
  var runs = 10

  @Option(parsing: .unconditional, help: "Nodes to list.")
  var limit = 30

  @Option(
    help: "Write the last run as a Chrome trace (chrome://tracing, Perfetto).", completion: .file(extensions: ["json"]))
  var trace: String?

  @Flag(help: "Print JSON.")
  var json = false

  struct Row: Encodable {
    var name, op, kernel: String
    var calls: Int
    var microseconds, share, gflops, gigabytesPerSecond: Double
    var bytes: Int
  }

  struct Report: Encodable {
    var model: String
    var runs: Int
    var milliseconds, nodeMilliseconds: Double
    var operators, nodes: [Row]
  }

  func validate() throws {
    try OptionValues.check(runs, "--runs", 1...Int.max)
    try OptionValues.check(limit, "--limit", 0...Int.max)
    try OptionValues.check(ending: trace, "--trace", ["json"])
  }

  func run() throws {
    let loaded = try model.load()
    var arguments = inputs
    arguments.random = true
    let values = try arguments.values(for: loaded)
    for _ in 0..<2 { _ = try loaded.run(values: values) }
    let profiler = Profiler()
    let last = Profiler()
    let start = ContinuousClock.now
    for index in 0..<runs {
      _ = try loaded.run(values: values, settings: loaded.settings(profiler: index == runs - 1 ? last : profiler))
    }
    let total = (ContinuousClock.now - start) / .milliseconds(1) / Double(runs)
    let events = profiler.events + last.events
    let nodes = ProfileCommand.rows(events, runs: runs) { $0.node.isEmpty ? "\($0.op)" : $0.node }
    let operators = ProfileCommand.rows(events, runs: runs) { "\($0.op)" }
    if let trace { try ChromeTrace.write(last.events, to: trace) }
    let report = Report(
      model: model.name, runs: runs, milliseconds: total,
      nodeMilliseconds: operators.reduce(0) { $0 + $1.microseconds } / 1000, operators: operators, nodes: nodes)
    if json { return try printJSON(report) }
    try Console.print(
      "\(model.name.printable()): \(ValueText.format(total)) ms a run, "
        + "\(ValueText.format(report.nodeMilliseconds)) ms in nodes\n"
    )
    try Console.print(ProfileCommand.text(operators, first: "operator"))
    try Console.print("\n" + ProfileCommand.text(Array(nodes.prefix(limit)), first: "node"))
    if nodes.count > limit { try Console.print("… \(nodes.count - limit) more; --limit shows them") }
  }

  /// Events by key, averaged over the runs, the most expensive first.
  private static func rows(_ events: [ProfileEvent], runs: Int, key: (ProfileEvent) -> String) -> [Row] {
    let total = Double(max(1, events.reduce(0) { $0 + $1.duration }))
    return Dictionary(grouping: events, by: key).map { name, group in
      let nanoseconds = Double(group.reduce(0) { $0 + $1.duration })
      let kernels = Set(group.map(\.kernel)).sorted().joined(separator: ", ")
      let operations = Double(group.reduce(0) { $0 + $1.cost.operations })
      let bytes = group.reduce(0) { $0 + $1.cost.bytes }
      return Row(
        name: name, op: "\(group[0].op)", kernel: kernels, calls: group.count / runs,
        microseconds: nanoseconds / 1000 / Double(runs), share: nanoseconds / total,
        gflops: nanoseconds > 0 ? operations / nanoseconds : 0,
        gigabytesPerSecond: nanoseconds > 0 ? Double(bytes) / nanoseconds : 0, bytes: bytes / runs)
    }.sorted { ($0.microseconds, $1.name) > ($1.microseconds, $0.name) }
  }

  private static func text(_ rows: [Row], first: String) -> String {
    let header = [first, "calls", "µs", "share", "GFLOP/s", "GB/s", "kernel"]
    return table(
      [header]
        + rows.map {
          [
            String($0.name.printable().suffix(60)), "\($0.calls)",
            ValueText.format(($0.microseconds * 10).rounded() / 10),
            "\(ValueText.format(($0.share * 1000).rounded() / 10)) %",
            $0.gflops > 0 ? ValueText.format(($0.gflops * 10).rounded() / 10) : "–",
            $0.bytes > 0 ? ValueText.format(($0.gigabytesPerSecond * 10).rounded() / 10) : "–",
            String($0.kernel.prefix(40)),
          ]
        })
  }
}
