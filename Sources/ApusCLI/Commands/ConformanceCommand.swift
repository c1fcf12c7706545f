// apus conformance: runs folders of test cases in the ONNX layout.

import Apus
import ApusConformance
import ArgumentParser
import Foundation

struct ConformanceCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "conformance",
    abstract: "Runs test cases in the ONNX layout (model.onnx, test_data_set_N/input_K.pb and output_K.pb).")

  @Argument(help: "Folders with cases, at any depth.")
  var folders: [String]

  @Option(help: "Run only the cases whose name matches this regular expression.")
  var filter: String?

  @Flag(help: "Run the models as they are, without passes.")
  var unoptimized = false

  @Option(help: "Threads of each run.")
  var threads: Int?

  @Flag(help: "Print JSON: one object with the counts and every case.")
  var json = false

  private struct Report: Encodable {
    struct Case: Encodable {
      var name, kind, outcome, message: String
      var operators: [String]
      var seconds: Double
    }
    var passed, failed: Int
    var cases: [Case]
  }

  func run() throws {
    var cases: [ConformanceCase] = []
    for folder in folders { cases += try ConformanceCase.find(in: URL(filePath: folder)) }
    if let filter {
      let pattern = try Regex(filter)
      cases = cases.filter { $0.name.contains(pattern) }
    }
    var options = ModelOptions(threads: threads)
    if unoptimized { options.optimization = .none }
    let runner = ConformanceRunner(options: options)
    var results: [ConformanceResult] = []
    for test in cases {
      let result = runner.run(test)
      if !json, result.outcome == .failed { print("FAILED \(result.kind)/\(result.name): \(result.message)") }
      results.append(result)
    }
    let failed = results.count { $0.outcome == .failed }
    if json {
      let report = Report(
        passed: results.count - failed, failed: failed,
        cases: results.map {
          .init(
            name: $0.name, kind: $0.kind, outcome: $0.outcome.rawValue, message: $0.message, operators: $0.operators,
            seconds: $0.seconds)
        })
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
      print(String(decoding: try encoder.encode(report), as: UTF8.self))
    } else {
      print("\(results.count - failed) passed, \(failed) failed, 0 skipped")
    }
    if failed > 0 || results.isEmpty { throw ExitCode.failure }
  }
}
