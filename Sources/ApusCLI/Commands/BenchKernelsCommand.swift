// apus bench-kernels: the rate of every micro-kernel, and its share of what the machine can do.

import ArgumentParser
import CApusKernels

struct BenchKernelsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench-kernels",
    abstract: "Measures every micro-kernel against the limits of the machine.",
    discussion: """
      One thread. Arithmetic counts in billions of operations a second, and is held against multiply-adds in \
      registers; movement in billions of bytes read and written a second, against copying at the same place of \
      memory. The limits are those of the level that APUS_ISA names, or of the machine. An integer kernel of other \
      instructions than the limit may have a share above 1.
      """)

  @Option(help: "Only kernels whose name or function type contains this.")
  var only: [String] = []

  @Flag(help: "Measure the variants of lesser machines too.")
  var variants = false

  @Flag(
    name: .customLong("assert"),
    help: "Measure all variants; status 1 if one is faster than that in use, or a kernel has nothing to measure.")
  var asserts = false

  @Option(parsing: .unconditional, help: "Milliseconds of each figure.")
  var milliseconds = 2

  @Flag(help: "Print JSON.")
  var json = false

  struct Row: Encodable {
    var kernel, variant, size, unit: String
    var isChosen: Bool
    var microseconds, rate, share: Double
  }

  struct Report: Encodable {
    var machine: String
    var peaks: MachinePeaks
    var kernels: [Row]
    /// Kernels of a type that the command does not know.
    var unmeasured: [String]
    /// What `--assert` found.
    var slower: [String]
  }

  /// A variant may be so much faster than the chosen one before that counts: figures differ from run to run.
  private static let tolerance = 1.15
  private static let attempts = 4

  func validate() throws { try OptionValues.check(milliseconds, "--milliseconds", 1...10_000) }

  func run() throws {
    let lines = KernelLine.all.filter { line in
      only.isEmpty || only.contains { line.name.contains($0) || line.type.contains($0) }
    }
    if lines.isEmpty { throw InputError("no kernel is called \(only.joined(separator: " or "))") }
    let timer = KernelTimer(block: .microseconds(milliseconds * 1000 / 8), blocks: 7)
    var report = Report(
      machine: String(cString: apus_kernels().pointee.name), peaks: MachinePeaks(timer), kernels: [], unmeasured: [],
      slower: [])
    for (index, line) in lines.enumerated() {
      Console.progress("\(index + 1)/\(lines.count) \(line.name)")
      measure(line, timer, &report)
    }
    Console.progress("")
    if json { try printJSON(report) } else { try Console.print(BenchKernelsCommand.text(report)) }
    if asserts, !(report.slower.isEmpty && report.unmeasured.isEmpty) { throw ExitCode(1) }
  }

  private func measure(_ line: KernelLine, _ timer: KernelTimer, _ report: inout Report) {
    let tables = KernelMachines.tables(for: line, all: variants || asserts)
    let works = tables.compactMap { KernelWork.of(line, $0) }
    guard works.count == tables.count, let chosen = works.first else { return report.unmeasured.append(line.name) }
    // What lies in memory tells of the memory.
    for index in chosen.indices where !asserts || chosen[index].size != KernelPlaces.all.last?.0 {
      let variants = works.map { $0[index] }
      let times = variants.map { timer.seconds($0.body) }
      for (place, (work, seconds)) in zip(variants, times).enumerated() {
        let rate = work.amount / seconds / 1e9
        report.kernels.append(
          Row(
            kernel: line.name, variant: line.variant(in: tables[place]), size: work.size,
            unit: BenchKernelsCommand.unit(work.limit), isChosen: place == 0,
            microseconds: seconds * 1e6, rate: rate, share: rate / report.peaks.limit(work)))
      }
      if asserts, let better = faster(variants, times, timer) {
        report.slower.append("\(line.name) \(chosen[index].size): \(line.variant(in: tables[better])) is faster")
      }
    }
  }

  /// The number of a variant that is faster than the first one whenever both are measured, if there is one.
  private func faster(_ works: [KernelWork], _ times: [Double], _ timer: KernelTimer) -> Int? {
    let best = times.indices.min { times[$0] < times[$1] } ?? 0
    guard times[0] > BenchKernelsCommand.tolerance * times[best] else { return nil }
    for _ in 1..<BenchKernelsCommand.attempts {
      let (chosen, other) = (timer.seconds(works[0].body), timer.seconds(works[best].body))
      if chosen <= BenchKernelsCommand.tolerance * other { return nil }
    }
    return best
  }

  private static func unit(_ limit: KernelWork.Limit) -> String {
    switch limit {
    case .float32, .float64: "GFLOP/s"
    case .int8: "GOP/s"
    case .memory: "GB/s"
    }
  }

  private static func text(_ report: Report) -> String {
    func padded(_ text: String, _ width: Int, right: Bool = false) -> String {
      let room = String(repeating: " ", count: max(0, width - text.count))
      return right ? room + text : text + room
    }
    let copying = KernelPlaces.limits.map { "\($0.0) \(ValueText.format(report.peaks.copyGbPerS[$0.0] ?? .nan))" }
    var lines = [
      "\(report.machine): float32 \(ValueText.format(report.peaks.float32Gflops)) GFLOP/s, "
        + "int8 \(ValueText.format(report.peaks.int8Gops)) GOP/s, copying \(copying.joined(separator: ", ")) GB/s", "",
    ]
    for row in report.kernels {
      lines.append(
        padded(row.kernel, 22) + padded(row.variant + (row.isChosen ? "" : " (not in use)"), 24) + padded(row.size, 24)
          + padded(ValueText.format(row.microseconds) + " µs", 14, right: true)
          + padded(ValueText.format(row.rate) + " \(row.unit)", 18, right: true)
          + padded("\(Int((100 * row.share).rounded())) %", 7, right: true))
    }
    if !report.unmeasured.isEmpty { lines.append("not measured: \(report.unmeasured.joined(separator: ", "))") }
    lines += report.slower.map { "slower than another variant: \($0)" }
    return lines.joined(separator: "\n")
  }
}
