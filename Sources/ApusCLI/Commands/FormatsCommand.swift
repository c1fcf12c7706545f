// apus formats: which formats of models there are, and what of each is mapped.

import Apus
import ArgumentParser

struct FormatsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "formats",
    abstract: "Lists the formats that models are read from and written to, with the operators that are mapped.",
    discussion: """
      Every command reads all of them, told from the bytes of a file. docs/conversion.md says more of each.

      apus formats
      apus formats tflite
      """)

  @Argument(help: "Only these formats, with all operators or layers that are mapped.")
  var names: [String] = []

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(help: "Print the lists of docs/conversion.md.")
  var markdown = false

  private struct Report: Encodable {
    var formats: [FormatTable.Row]
  }

  func validate() throws {
    if json && markdown { throw ValidationError("--json and --markdown exclude each other") }
    let known = FormatTable().rows.map(\.name)
    for name in names where !known.contains(name) {
      throw ValidationError(
        "there is no format '\(name)'; "
          + NearMiss.choices(name, among: known, "formats are \(known.joined(separator: ", "))"))
    }
  }

  func run() throws {
    let formats = FormatTable()
    let rows = formats.rows.filter { names.isEmpty || names.contains($0.name) }
    if json { return try printJSON(Report(formats: rows)) }
    if markdown { return try Console.print(formats.markdown, terminator: "") }
    let lines = rows.map { row in
      [
        row.name, row.title, row.endings.map { "." + $0 }.joined(separator: " "),
        row.isWritten ? "read, written" : "read", row.operators.isEmpty ? "" : "\(row.operators.count)",
      ]
    }
    try Console.print(table([["name", "format", "endings", "", "operators"]] + lines))
    for row in rows where !names.isEmpty && !row.operators.isEmpty {
      try Console.print("\n\(row.title)\n" + row.operators.joined(separator: "\n"))
    }
  }
}
