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
    name: .long, parsing: .upToNextOption,
    help: """
      The samples: folders, .npz, .npy, .csv, .wav, pictures, .pb, .json or .txt; INPUT=PATH where the models have \
      several inputs.
      """, completion: .file())
  var inputs: [String]

  @OptionGroup(title: "How samples are read") var samples: SampleArguments

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

  @Option(
    parsing: .unconditional,
    help: "The memory that both models and their runs may hold at a time, in bytes or with K, M, G (of 1024).")
  var memory: String?

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
    var notes: [String]
    var comparison: ModelComparison?
  }

  func validate() throws {
    if inputs.isEmpty { throw ValidationError("--inputs is missing: where the samples are") }
    if student == nil, output == nil { throw ValidationError("expected --output, --student, or both") }
    try OptionValues.check(threads, "--threads", ModelArguments.threadRange)
    _ = try OptionValues.bytes(memory, "--memory")
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
    let options = try modelOptions()
    let loaded = try load(teacher, options, extra: pairs.map(\.teacher))
    let other = try student.map { try load($0, options, extra: pairs.map(\.student)) }
    var samples = try Samples(inputs, option: "--inputs", arguments: self.samples, for: InputTargets(loaded))
    var state = try StateFeed(self.samples.feed, samples, for: loaded)
    var otherState = try other.map { try StateFeed(self.samples.feed, samples, for: $0) }
    var losses = try other.map { try TeacherLosses(loaded, $0, pairs, temperature: temperature ?? 1) }
    var store: TeacherStore?
    var number = 0
    while let sample = try samples.next() {
      number += sample.count
      Console.progress("sample \(number) of \(samples.count)")
      let values = try state.run(loaded, on: sample)
      if let output {
        if store == nil {
          store = try TeacherStore(
            loaded.outputs.map(\.name), hidden: pairs.map(\.teacher), values, of: sample.count,
            count: samples.count, temperature: temperature, path: output)
        }
        try store?.append(values, of: sample.count, sample: sample.name)
      }
      if let other, let found = try otherState?.run(other, on: sample) { try losses?.add(values, found) }
    }
    Console.progress("")
    try store?.commit()
    try show(
      Report(
        teacher: teacher, student: student, file: output, samples: number, temperature: temperature ?? 1,
        arrays: store?.arrays.map { .init(name: $0.name, type: "\($0.dataType)", shape: $0.shape.dims) },
        losses: losses?.reports, notes: store?.notes ?? [], comparison: try compared(loaded, other, options)))
  }

  private func modelOptions() throws -> ModelOptions {
    var options = ModelOptions(threads: threads)
    if let budget = try OptionValues.bytes(memory, "--memory") {
      options.engine = Engine(threads: threads, memoryBudget: budget, named: "--memory")
    }
    options.overridableInitializers = samples.inputs.givenNames
    return options
  }

  private func load(_ path: String, _ options: ModelOptions, extra: [String]) throws -> Model {
    var options = options
    options.extraOutputs = extra
    return try Model(path: path, options: options)
  }

  /// Size, work and speed of both.
  private func compared(_ teacher: Model, _ student: Model?, _ options: ModelOptions) throws -> ModelComparison? {
    guard let student, let path = self.student else { return nil }
    // A prepared model has let its constants go.
    func graph(_ path: String) throws -> Graph? {
      do {
        return try ModelReader.readForCompression(path: path, options: options).model.graph
      } catch let error as LoadError where error.code == .unsupported {
        return nil
      }
    }
    let graphs = (try graph(self.teacher), try graph(path))
    guard let before = graphs.0, let after = graphs.1 else {
      Console.note("a compiled model has no weights to count: sizes and multiply-adds are not compared")
      return nil
    }
    var comparison = ModelComparison(before: before, after: after)
    (comparison.before.fileBytes, comparison.after.fileBytes) = (FileSizes.bytes(self.teacher), FileSizes.bytes(path))
    var samples = try Samples(inputs, option: "--inputs", arguments: self.samples, for: InputTargets(teacher))
    var state = try StateFeed(self.samples.feed, samples, for: teacher)
    if let sample = try samples.next() {
      try comparison.measure(teacher, student, on: state.inputs(for: sample), seconds: 1)
    }
    return comparison
  }

  private func show(_ report: Report) throws {
    if json { return try printJSON(report) }
    if let arrays = report.arrays {
      try Console.print(
        table([["array", "type", "shape"]] + arrays.map { [$0.name.printable(), $0.type, "\(Shape($0.shape))"] }))
      try Console.print("\n\(report.samples) samples, \((report.file ?? "").printable()) written")
    }
    for note in report.notes { Console.note(note) }
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
