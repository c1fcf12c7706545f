// apus check: every problem of a model at once.

import Apus
import ArgumentParser

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Lists every problem of a model, each with node, reason and remedy. Exit status 1 if there is one.")

  @OptionGroup var model: ModelArguments

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Problem: Encodable {
      var node, reason, remedy: String
    }
    var model: String
    var valid: Bool
    var problems: [Problem]
    /// Oddities that do not keep the model from running.
    var notes: [String]
  }

  func run() throws {
    var problems: [Report.Problem] = []
    var notes: [String] = []
    do {
      notes = try model.load { $0.checksCompiledWeights = true }.notes
    } catch let error as ValidationError {
      throw error
    } catch let error as LoadError where error.code == .invalidEnvironment {
      // Nothing that the model could do about.
      throw error
    } catch let error as LoadError {
      problems = error.problems.map { Report.Problem(node: $0.nodePath, reason: $0.reason, remedy: $0.remedy) }
      if problems.isEmpty {
        var bare = error
        (bare.path, bare.remedy) = (nil, "")
        problems = [.init(node: error.path ?? "", reason: "\(bare)", remedy: error.remedy)]
      }
    } catch let error as PrepareError {
      problems = error.problems.map { Report.Problem(node: $0.nodePath, reason: $0.reason, remedy: $0.remedy) }
    } catch {
      problems = [.init(node: "", reason: "\(error)", remedy: "")]
    }
    if json {
      try printJSON(Report(model: model.name, valid: problems.isEmpty, problems: problems, notes: notes))
    } else {
      let count = problems.isEmpty ? "no problems" : "\(problems.count) problem\(problems.count == 1 ? "" : "s")"
      try Console.print("\(model.name.printable()): \(count)")
      for problem in problems {
        let node = problem.node.isEmpty ? "" : problem.node.printable(limit: 400) + ": "
        try Console.print("  " + node + problem.reason.printableMessage())
        if !problem.remedy.isEmpty { try Console.print("    \(problem.remedy.printableMessage())") }
      }
      for note in notes { try Console.print("  note: \(note.printableMessage())") }
    }
    if !problems.isEmpty { throw ExitCode.failure }
  }
}
