// apus operators: which operators there are, in which versions, on which types, by which kernels.

import Apus
import ArgumentParser

struct OperatorsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "operators",
    abstract: "Lists every operator: domain, name, versions, types, kind of kernel.",
    discussion: """
      The types are those that some version of the operator allows. Kinds of kernels: planned (shapes first, then \
      parts in one arena), eager (values in, values out), read as (written as other operators while a file is read).
      """)

  @Argument(help: "Only operators whose name contains one of these, in any case.")
  var names: [String] = []

  @Option(help: "Only this domain: ai.onnx, ai.onnx.ml, com.microsoft, …")
  var domain: String?

  @Flag(help: "Print JSON: the operators with all types spelled out.")
  var json = false

  @Flag(help: "Print the page docs/operators.md.")
  var markdown = false

  private struct Report: Encodable {
    var operators: [OperatorTable.Row]
  }

  func validate() throws {
    if json && markdown { throw ValidationError("--json and --markdown exclude each other") }
  }

  func run() throws {
    let table = OperatorTable(domain: domain, names: names)
    if table.rows.isEmpty {
      let what = names.isEmpty ? "no operator" : "no operator with \(names.joined(separator: " or ")) in its name"
      throw InputError(
        what + (domain.map { " in the domain \($0)" } ?? "") + "; `apus operators` without arguments lists all")
    }
    if json {
      try printJSON(Report(operators: table.rows))
    } else {
      try Console.print(markdown ? table.markdown : table.text, terminator: markdown ? "" : "\n")
    }
  }
}
