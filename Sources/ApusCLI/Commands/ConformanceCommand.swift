// apus conformance: runs folders of test cases in the ONNX layout.

import Apus
import ApusConformance
import ApusFormats
import ArgumentParser
import Foundation

struct ConformanceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conformance",
    abstract: "Runs test cases in the ONNX layout (model.onnx, test_data_set_N/input_K.pb and output_K.pb).",
    discussion:
      "Exit status 0 only if every case passes, or fails as --expected says. tools/onnx_backend_tests.py makes a suite."
  )

  @Argument(help: "Folders with cases, at any depth.", completion: .directory)
  var folders: [String]

  @Option(help: "Run only the cases whose name matches this regular expression.")
  var filter: String?

  @Flag(help: "Run the models as they are, without passes.")
  var unoptimized = false

  @Option(name: .shortAndLong, parsing: .unconditional, help: "Threads of each run.")
  var threads: Int?

  @Option(
    help: "A list of known failures, `kind/name reason` a line. One that passes counts as a failure.",
    completion: .file())
  var expected: String?

  @Option(
    help: "A list of cases drawn without a seed, `kind/name reason` a line: compared by type, shape, range and mean.",
    completion: .file())
  var unseeded: String?

  @Flag(
    help:
      "Check the contract of operators on the models and inputs of the cases, not the results: see docs/testing.md."
  )
  var contract = false

  @Option(
    help: "With --contract: check whole sessions and changing files, which takes most of the time, for one case in N.")
  var sessionsEvery = 1

  @Flag(help: "Print JSON: one object with the counts and every case.")
  var json = false

  @Option(help: "Write JUnit XML.", completion: .file(extensions: ["xml"]))
  var junit: String?

  @Option(help: "Write a page to look at.", completion: .file(extensions: ["html"]))
  var html: String?

  func validate() throws {
    try OptionValues.check(threads, "--threads", ModelArguments.threadRange)
    try OptionValues.check(sessionsEvery, "--sessions-every", 1...1_000_000)
    try OptionValues.check(ending: junit, "--junit", ["xml"])
    try OptionValues.check(ending: html, "--html", ["html", "htm"])
    if contract && (unoptimized || threads != nil) {
      throw ValidationError("--contract chooses passes and threads itself; leave --unoptimized and --threads out")
    }
  }

  func run() throws {
    var cases: [ConformanceCase] = []
    for folder in folders {
      guard PathKind(path: folder) == .folder else {
        throw InputError("there is no folder '\(folder)'; expected folders with cases in the layout of ONNX's tests")
      }
      cases += try ConformanceCase.find(in: URL(filePath: folder))
    }
    if let filter {
      guard let pattern = try? Regex(filter) else {
        throw ValidationError("--filter \(filter) is no regular expression")
      }
      cases = cases.filter { $0.name.contains(pattern) }
    }
    guard !cases.isEmpty else { throw InputError("there are no cases in \(folders.joined(separator: ", "))") }
    let known = try list(expected)
    var options = ModelOptions(threads: threads)
    if unoptimized { options.optimization = .none }
    let contracts = contract ? ContractRunner() : nil
    let runner = ConformanceRunner(options: options, unseeded: Set(try list(unseeded).keys))
    var results: [ConformanceResult] = []
    for (index, test) in cases.enumerated() {
      Console.progress("\(index + 1)/\(cases.count) \(test.kind)/\(test.name)")
      results.append(contracts?.run(test, sessions: index % sessionsEvery == 0) ?? runner.run(test))
    }
    Console.progress("")
    let report = ConformanceReport(results: results, expected: known)
    if let junit { try OutputFile.write(Array(report.junit().utf8), to: junit) }
    if let html { try OutputFile.write(Array(report.html().utf8), to: html) }
    if json {
      try printJSON(report.file)
    } else {
      for result in results where report.verdict(of: result) == .failed {
        try Console.print("FAILED \(result.kind)/\(result.name): \(report.message(of: result).printableMessage())")
      }
      try Console.print(report.text)
      if let contracts { try Console.print(contracts.summary) }
      try Console.print(
        "\(report.count(.passed)) passed, \(report.count(.failed)) failed, \(report.count(.skipped)) skipped")
    }
    if report.count(.failed) > 0 { throw ExitCode.failure }
  }

  private func list(_ path: String?) throws -> [String: String] {
    try path.map { ConformanceReport.expectations(in: try TextLines.lines(ofFile: $0).joined(separator: "\n")) } ?? [:]
  }
}
