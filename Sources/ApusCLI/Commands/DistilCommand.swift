// apus distil: what a teacher says of many samples, and how far a student is from it.

import Apus
import ApusCompression
import ApusFormats
import ApusGraph
import ArgumentParser

struct DistilCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "distil",
    abstract: "Stores the outputs of a teacher for the training of a student, or the loss of a student.",
    discussion: """
      With -o, an .npz file with an array for each output and each --hidden value, the samples along the first axis. \
      With --student, the loss of each output and hidden value: the mean squared error, the cosine, the \
      Kullback-Leibler divergence at the temperature, and how often the largest elements are at the same place.
      """)

  @Option(help: "The model to learn from.", completion: .file(extensions: ["onnx", "apus"]))
  var teacher: String

  @Option(help: "The model that learns.", completion: .file(extensions: ["onnx", "apus"]))
  var student: String?

  @Option(
    help: "An .npz file with an array for each input, samples stacked along the first axis.",
    completion: .file(extensions: ["npz"]))
  var inputs: String

  @Option(name: .shortAndLong, help: "The .npz file to write.", completion: .file(extensions: ["npz"]))
  var output: String?

  @Option(
    help: "A value inside the teacher to store or compare too, TEACHER=STUDENT where its names differ. May be repeated."
  )
  var hidden: [String] = []

  @Option(
    parsing: .unconditional,
    help: """
      What outputs are divided by before the softmax of the divergence. With -o, softmax(output / temperature) is \
      stored, too, as NAME.soft. [default: 1, and nothing is stored]
      """)
  var temperature: Double?

  @Option(name: .shortAndLong, parsing: .unconditional, help: "Threads of one run.")
  var threads: Int?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    struct Array: Encodable {
      var name, type: String
      var shape: [Int]
    }
    var teacher: String
    var student, file: String?
    var samples: Int
    var temperature: Double
    var arrays: [Array]?
    var losses: [OutputLoss.Report]?
    var comparison: ModelComparison?
  }

  func validate() throws {
    if student == nil, output == nil { throw ValidationError("expected --output, --student, or both") }
    try OptionValues.check(threads, "--threads", ModelArguments.threadRange)
    try OptionValues.check(ending: output, "--output", ["npz"])
    if let temperature, !(temperature > 0 && temperature.isFinite) {
      throw ValidationError("--temperature is \(temperature); expected a number above 0")
    }
    if student == nil, let pair = hidden.first(where: { $0.contains("=") }) {
      throw ValidationError("--hidden \(pair): without --student there is one name")
    }
  }

  func run() throws {
    let pairs = hidden.map { text -> (teacher: String, student: String) in
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      return parts.count == 2 && student != nil ? (parts[0], parts[1]) : (text, text)
    }
    let loaded = try load(teacher, extra: pairs.map(\.teacher))
    let other = try student.map { try load($0, extra: pairs.map(\.student)) }
    var samples = try StackedSamples(file: inputs, option: "--inputs", for: loaded)
    var losses = try other.map { try TeacherLosses(loaded, $0, pairs, temperature: temperature ?? 1) }
    var store: TeacherStore?
    var number = 0
    while let sample = try samples.nextInputs() {
      number += 1
      Console.progress("sample \(number) of \(samples.count)")
      let values = try loaded.run(values: sample)
      if let output {
        if store == nil {
          store = try TeacherStore(
            loaded.outputs.map(\.name), hidden: pairs.map(\.teacher), values, count: samples.count,
            temperature: temperature, path: output)
        }
        try store?.append(values, sample: number)
      }
      if let other { try losses?.add(values, try other.run(values: sample)) }
    }
    Console.progress("")
    try store?.commit()
    try show(
      Report(
        teacher: teacher, student: student, file: output, samples: number, temperature: temperature ?? 1,
        arrays: store?.arrays.map { .init(name: $0.name, type: "\($0.dataType)", shape: $0.shape.dims) },
        losses: losses?.reports, comparison: try compared(loaded, other)))
  }

  private func load(_ path: String, extra: [String]) throws -> Model {
    var options = ModelOptions(threads: threads)
    options.extraOutputs = extra
    return try Model(path: path, options: options)
  }

  /// Size, work and speed of both.
  private func compared(_ teacher: Model, _ student: Model?) throws -> ModelComparison? {
    guard let student, let path = self.student else { return nil }
    // A prepared model has let its constants go, and a compiled one has none to read.
    guard let before = try? ModelReader.readForCompression(path: self.teacher, options: ModelOptions()),
      let after = try? ModelReader.readForCompression(path: path, options: ModelOptions())
    else { return nil }
    var comparison = ModelComparison(before: before.model.graph, after: after.model.graph)
    (comparison.before.fileBytes, comparison.after.fileBytes) = (FileSizes.bytes(self.teacher), FileSizes.bytes(path))
    var samples = try StackedSamples(file: inputs, option: "--inputs", for: teacher)
    if let sample = try samples.nextInputs() { try comparison.measure(teacher, student, on: sample, seconds: 1) }
    return comparison
  }

  private func show(_ report: Report) throws {
    if json { return try printJSON(report) }
    if let arrays = report.arrays {
      try Console.print(
        table([["array", "type", "shape"]] + arrays.map { [$0.name.printable(), $0.type, "\(Shape($0.shape))"] }))
      try Console.print("\n\(report.samples) samples, \((report.file ?? "").printable()) written")
    }
    guard let losses = report.losses else { return }
    let rows = losses.map { loss in
      [
        loss.output.printable(), ValueText.format(loss.meanSquaredError), ValueText.format(loss.maximumError),
        ValueText.format(loss.cosine), loss.divergence.map { ValueText.format($0) } ?? "–",
        loss.argmaxAgreement.map { percent($0) } ?? "–",
      ]
    }
    let header = ["value", "mean squared error", "largest", "cosine", "KL at \(report.temperature)", "same largest"]
    try Console.print(table([header] + rows))
    if let comparison = report.comparison { try Console.print("\n\(comparison.text)") }
  }
}
