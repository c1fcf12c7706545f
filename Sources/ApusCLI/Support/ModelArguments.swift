// The arguments that every command with a model shares.

import Apus
import ArgumentParser
import Foundation

/// The model and how to load it.
struct ModelArguments: ParsableArguments {
  @Argument(help: "The model: an .onnx file, or - for standard input.")
  var model: String

  @Option(help: "A value for a symbolic dimension, as in batch=4. May be repeated.")
  var dim: [String] = []

  @Option(help: "The shape of an input, as in x=1x3x224x224. May be repeated.")
  var shape: [String] = []

  @Option(help: "Threads of one run. [default: the processors this process may use]")
  var threads: Int?

  @Flag(help: "Run the graph as the file has it, without passes.")
  var noOptimize = false

  @Option(help: "Leave out the pass of this name. May be repeated.")
  var disablePass: [String] = []

  func validate() throws {
    if let threads, threads < 1 { throw ValidationError("--threads is \(threads); expected 1 or more") }
  }

  func options() throws -> ModelOptions {
    var options = ModelOptions(threads: threads)
    options.optimization.isEnabled = !noOptimize
    options.optimization.disabledPasses = Set(disablePass)
    for text in dim {
      let (name, value) = try Pair.split(text, option: "--dim")
      guard let size = Int(value), size >= 0 else { throw ValidationError("--dim \(text): '\(value)' is no extent") }
      options.dimensions[name] = size
    }
    for text in shape {
      let (name, value) = try Pair.split(text, option: "--shape")
      let parts = value.split(whereSeparator: { $0 == "x" || $0 == "," }).map { Int($0) }
      guard !parts.contains(nil) else { throw ValidationError("--shape \(text): expected NAME=1x3x224x224") }
      options.shapes[name] = Shape(parts.compactMap { $0 })
    }
    return options
  }

  /// Loads the model, or says every problem and ends.
  func load(_ change: (inout ModelOptions) -> Void = { _ in }) throws -> Model {
    var options = try options()
    change(&options)
    return try Model(path: model, options: options)
  }

  /// Reads the model to look at it; what keeps it from running goes to standard error.
  func inspect() throws -> ModelReader.Inspection {
    let inspection = try ModelReader.inspect(path: model, options: options())
    if !inspection.problems.isEmpty {
      let count = inspection.problems.count
      let note = "note: \(name) cannot run: \(count) problem\(count == 1 ? "" : "s"); `apus check` lists them\n"
      FileHandle.standardError.write(Data(note.utf8))
    }
    return inspection
  }

  /// The name without folder and ending.
  var name: String { model == "-" ? "stdin" : URL(filePath: model).deletingPathExtension().lastPathComponent }
}

/// `NAME=VALUE`.
enum Pair {
  static func split(_ text: String, option: String) throws -> (name: String, value: String) {
    guard let position = text.lastIndex(of: "="), position != text.startIndex else {
      throw ValidationError("\(option) \(text): expected NAME=VALUE")
    }
    return (String(text[..<position]), String(text[text.index(after: position)...]))
  }
}

/// Prints a value as JSON with sorted keys.
func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  encoder.nonConformingFloatEncodingStrategy = .convertToString(
    positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

/// Ends the program with one message on standard error.
func fail(_ error: any Error) -> ExitCode {
  FileHandle.standardError.write(Data("error: \(error)\n".utf8))
  return ExitCode.failure
}

/// Columns of text, the first to the left and the others to the right.
func table(_ rows: [[String]]) -> String {
  let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
  return rows.map { row in
    row.enumerated().map { column, cell in
      let padding = String(repeating: " ", count: widths[column] - cell.count)
      return column == 0 ? cell + padding : padding + cell
    }.joined(separator: "  ")
  }.joined(separator: "\n")
}
