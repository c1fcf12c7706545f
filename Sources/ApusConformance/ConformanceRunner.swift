// Runs cases of the ONNX test layout and says of each whether it passed.

import Apus
import ApusGraph
import Foundation

/// How one case ended.
public struct ConformanceResult: Sendable {
  public enum Outcome: String, Sendable { case passed, failed }

  public let name: String
  public let kind: String
  public let outcome: Outcome
  /// What differed or went wrong; empty for a passed case.
  public let message: String
  /// The operators of the model's main graph.
  public let operators: [String]
  public let seconds: Double
}

/// Runs cases with given options.
public struct ConformanceRunner: Sendable {
  public var options: ModelOptions
  /// Cases, as `kind/name`, whose expectation was drawn without a seed: compared by type, shape, range and mean.
  public var unseeded: Set<String>

  public init(options: ModelOptions, unseeded: Set<String> = []) {
    self.options = options
    self.unseeded = unseeded
  }

  public func run(_ test: ConformanceCase) -> ConformanceResult {
    let start = ContinuousClock.now
    var operators: [String] = []
    var message = ""
    do {
      message = try failure(of: test, operators: &operators) ?? ""
    } catch {
      message = "\(error)"
    }
    let elapsed = (ContinuousClock.now - start) / .seconds(1)
    return ConformanceResult(
      name: test.name, kind: test.kind, outcome: message.isEmpty ? .passed : .failed, message: message,
      operators: operators, seconds: elapsed)
  }

  /// What is wrong with the results; nil if nothing is.
  private func failure(of test: ConformanceCase, operators: inout [String]) throws -> String? {
    let path = test.modelURL.path(percentEncoded: false)
    let source = try ModelReader.read(path: path, options: options)
    operators = Set(source.graph.nodes.map(\.op.description)).sorted()
    let inputFacts = source.graph.inputs.map { source.graph.fact($0) }
    let outputFacts = source.graph.outputs.map { source.graph.fact($0) }
    let model = try Model(source, options: options)
    let sets = test.dataSets
    if sets.isEmpty { return "no test_data_set_0 beside the model" }
    for set in sets {
      let inputs = try test.values("input", in: set, facts: inputFacts)
      let expected = try test.values("output", in: set, facts: outputFacts)
      guard inputs.count == model.inputs.count else {
        return "\(inputs.count) input files for \(model.inputs.count) inputs"
      }
      if expected.isEmpty && test.comparesElements { return "no output files in \(set.lastPathComponent)" }
      let named = Dictionary(zip(model.inputs.map(\.name), inputs)) { first, _ in first }
      let found = try model.run(values: named)
      for (output, fact) in zip(model.outputs, outputFacts) {
        guard let result = found[output.name] else { return "output '\(output.name)' is missing" }
        if !ValueFact(result.type).hasSameType(as: fact) {
          return "\(set.lastPathComponent), output '\(output.name)' is \(result.type); declared as \(fact)"
        }
      }
      for (index, (output, value)) in zip(model.outputs, expected).enumerated() {
        guard let result = found[output.name] else { return "output '\(output.name)' is missing" }
        let difference =
          if unseeded.contains(test.kind + "/" + test.name) {
            Comparison.difference(found: result, sampleLike: value)
          } else {
            Comparison.difference(
              found: result, expected: value, tolerance: test.comparesElements ? test.tolerance(ofOutput: index) : nil)
          }
        if let difference {
          return "\(set.lastPathComponent), output '\(output.name)': \(difference)"
        }
      }
    }
    return nil
  }
}
