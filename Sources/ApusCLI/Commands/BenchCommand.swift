// apus bench: how long loading and running take.

import Apus
import ArgumentParser

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures loading, the first run, and many runs of a model.",
    discussion:
      "Inputs that are not given are random, of the declared types; symbolic extents are 1 unless --dim binds them.")

  @OptionGroup var model: ModelArguments
  @OptionGroup var inputs: InputArguments

  @Option(parsing: .unconditional, help: "Runs before the counted ones.")
  var warmup = 3

  @Option(parsing: .unconditional, help: "Measure for so many seconds.")
  var seconds = 3.0

  @Option(parsing: .unconditional, help: "Measure so many runs instead.")
  var runs: Int?

  @Option(parsing: .unconditional, help: "The first symbolic dimension of the inputs, usually the batch.")
  var batch: Int?

  @Flag(help: "Print JSON.")
  var json = false

  struct Report: Encodable {
    var model: String
    var threads, runs: Int
    var median_ms, mean_ms, min_ms, p90_ms, p99_ms, load_ms, first_run_ms, peak_rss_mb, throughput_per_s: Double
  }

  func validate() throws {
    try OptionValues.check(warmup, "--warmup", 0...Int.max)
    try OptionValues.check(runs, "--runs", 1...Int.max)
    try OptionValues.check(batch, "--batch", 1...Int.max)
    try OptionValues.check(seconds: seconds, "--seconds")
    if batch != nil, model.model == "-" {
      throw ValidationError("--batch looks into the model first, which standard input does not allow")
    }
  }

  func run() throws {
    let report = try measure()
    if json { try printJSON(report) } else { try Console.print(BenchCommand.text(report)) }
  }

  private func measure() throws -> Report {
    let clock = ContinuousClock()
    let bound = try batch.map { try batchDimension($0) } ?? [:]
    let loadStart = clock.now
    let loaded = try model.load { $0.dimensions.merge(bound) { given, _ in given } }
    let load = clock.now - loadStart
    var arguments = inputs
    arguments.random = true
    let values = try arguments.values(for: loaded)
    let firstStart = clock.now
    _ = try loaded.run(values: values)
    let first = clock.now - firstStart
    for _ in 0..<warmup { _ = try loaded.run(values: values) }
    var times: [Double] = []
    let start = clock.now
    let limit = Duration.seconds(seconds)
    while runs.map({ times.count < $0 }) ?? (clock.now - start < limit || times.isEmpty) {
      let runStart = clock.now
      _ = try loaded.run(values: values)
      times.append((clock.now - runStart) / .milliseconds(1))
    }
    times.sort()
    func percentile(_ share: Double) -> Double {
      times[min(times.count - 1, Int((share * Double(times.count)).rounded(.down)))]
    }
    let middle = times.count / 2
    let median = times.count % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2
    let mean = times.reduce(0, +) / Double(times.count)
    return Report(
      model: model.name, threads: loaded.threadCount, runs: times.count, median_ms: median, mean_ms: mean,
      min_ms: times[0], p90_ms: percentile(0.9), p99_ms: percentile(0.99), load_ms: load / .milliseconds(1),
      first_run_ms: first / .milliseconds(1), peak_rss_mb: MemoryRoom.peakMegabytes(),
      throughput_per_s: 1000 / mean * Double(batch ?? 1))
  }

  /// The name of the first symbolic extent that an input has as its first axis.
  private func batchDimension(_ size: Int) throws -> [String: Int] {
    let header = try Model.describeInputs(path: model.model)
    for input in header {
      if let name = input.dimensions?.first, Int(name) == nil, name != "?" { return [name: size] }
    }
    throw InputError("--batch: no input has a symbolic first axis")
  }

  private static func text(_ report: Report) -> String {
    func ms(_ value: Double) -> String {
      value < 1 ? "\(ValueText.format(value * 1000)) µs" : "\(ValueText.format(value)) ms"
    }
    return """
      \(report.model.printable()): median \(ms(report.median_ms)), mean \(ms(report.mean_ms)), \
      min \(ms(report.min_ms)), p90 \(ms(report.p90_ms)), p99 \(ms(report.p99_ms)) over \(report.runs) runs on \
      \(report.threads) threads
      load \(ms(report.load_ms)), first run \(ms(report.first_run_ms)), \
      peak memory \(ValueText.format(report.peak_rss_mb)) MB, \(ValueText.format(report.throughput_per_s)) per second
      """
  }
}
