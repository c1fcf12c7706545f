// The arguments that every command with a model shares.

import Apus
import ApusOptimizer
import ArgumentParser
import Foundation

/// The model and how to load it.
struct ModelArguments: ParsableArguments {
  @Argument(
    help: """
      The model: an ONNX file, binary or as text (textproto, JSON, onnxtxt), or (but for compile and optimize) a \
      compiled one, or - for standard input.
      """,
    completion: .file(extensions: ["onnx", "apus", "textproto", "pbtxt", "prototxt", "json", "onnxtxt"]))
  var model: String

  @Option(help: "A value for a symbolic dimension, as in batch=4. May be repeated.")
  var dim: [String] = []

  @Option(help: "The shape of an input, as in x=1x3x224x224. May be repeated.")
  var shape: [String] = []

  @Option(
    name: .shortAndLong, parsing: .unconditional,
    help: "Threads of one run. [default: the processors this process may use]")
  var threads: Int?

  @Option(
    parsing: .unconditional,
    help: """
      The memory that the model and its runs may hold at a time, in bytes or with K, M, G (of 1024). [default: most of \
      what the machine or control group has, for loading and for each run]
      """)
  var memory: String?

  @Flag(help: "Run the graph as the file has it, without passes.")
  var noOptimize = false

  @Option(
    help: "Leave out the pass of this name, as `apus optimize` lists them. May be repeated.",
    completion: .list(passNames))
  var disablePass: [String] = []

  @Flag(
    name: .customLong("map"),
    help: """
      Map the model's files instead of reading them into memory. Nobody may write to them or make them shorter \
      meanwhile.
      """)
  var mapsFiles = false

  @Option(
    help: """
      How exactly matrix products are computed: in f32, or with weights in bf16 (bfloat16), in half the memory; on \
      machines with products of bfloat16 both operands are rounded to it, which is faster.
      """)
  var precision = ModelOptions.Precision.float32

  /// Threads beyond this do not help any machine that we know of.
  static let threadRange = 1...1024

  private static let passNames = Set(Optimizer.allPasses.map(\.name)).sorted()

  func validate() throws {
    if model.isEmpty { throw ValidationError("the name of the model's file is empty") }
    try OptionValues.check(threads, "--threads", Self.threadRange)
    _ = try OptionValues.bytes(memory, "--memory")
    for name in disablePass where !Self.passNames.contains(name) {
      let all = "passes are \(Self.passNames.joined(separator: ", "))"
      throw ValidationError(
        "--disable-pass: there is no pass '\(name)'; " + NearMiss.choices(name, among: Self.passNames, all))
    }
    for text in dim { _ = try Extents.dimension(text) }
    for text in shape { _ = try Extents.shape(text) }
  }

  func options() throws -> ModelOptions {
    var options = ModelOptions(threads: threads)
    options.mapsFiles = mapsFiles
    options.precision = precision
    if let budget = try OptionValues.bytes(memory, "--memory") {
      options.engine = Engine(threads: threads, memoryBudget: budget, named: "--memory")
    }
    options.optimization.isEnabled = !noOptimize
    options.optimization.disabledPasses = Set(disablePass)
    for text in dim {
      let (name, size) = try Extents.dimension(text)
      if let other = options.dimensions[name], other != size {
        throw ValidationError("--dim \(name) is given as \(other) and as \(size)")
      }
      options.dimensions[name] = size
    }
    for text in shape {
      let (name, shape) = try Extents.shape(text)
      if let other = options.shapes[name], other != shape {
        throw ValidationError("--shape \(name) is given as \(other) and as \(shape)")
      }
      options.shapes[name] = shape
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
      Console.note("\(name) cannot run: \(count) problem\(count == 1 ? "" : "s"); `apus check` lists them")
    }
    return inspection
  }

  /// The name without folder and ending.
  var name: String { model == "-" ? "stdin" : URL(filePath: model).deletingPathExtension().lastPathComponent }
}

extension ModelOptions.Precision: ExpressibleByArgument {}

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

/// Extents as options spell them.
enum Extents {
  static func dimension(_ text: String) throws(ValidationError) -> (name: String, size: Int) {
    let (name, value) = try Pair.split(text, option: "--dim")
    guard let size = Int(value), size >= 0 else {
      throw ValidationError("--dim \(text): '\(value)' is no extent; expected a whole number of 0 or more")
    }
    return (name, size)
  }

  static func shape(_ text: String) throws(ValidationError) -> (name: String, shape: Shape) {
    let (name, value) = try Pair.split(text, option: "--shape")
    let parts = value.split(omittingEmptySubsequences: false, whereSeparator: { $0 == "x" || $0 == "," }).map {
      Int($0)
    }
    let extents = value.isEmpty ? [] : parts
    let shape = Shape(extents.map { $0 ?? -1 })
    guard shape.checkedElementCount != nil else {
      throw ValidationError("--shape \(text): expected NAME=1x3x224x224, extents of 0 or more that make a size")
    }
    return (name, shape)
  }
}
