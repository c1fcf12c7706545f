// A model that was read to be made smaller, and what is made of it: the library as C and Python see it.

import ApusCompression
import ApusGraph
import ApusRuntime
import ApusTensor

/// A model, read and typed, with what the passes on standard operators make of it. Any number of smaller ones can be
/// made of it, each from the options of a command of `apus` as JSON.
package struct CompressionSession: Sendable {
  private let source: CompressionSource
  /// What reports call the model.
  private let name: String
  private let check: InputChecks

  /// What the caller hears and says during the work.
  package struct Calls {
    /// Is told what is being done, and how much of it.
    package var progress: Quantizer.Progress = { _, _, _ in }
    /// Measures a model for `target_accuracy`; more is better.
    package var measure: ((Model) throws -> Double)?
    /// Ends the work when it is set.
    package var cancellation: CancellationFlag?

    package init() {}
  }

  /// A smaller model, and what that cost.
  package struct Result: Sendable {
    package let model: CompressedModel
    /// A JSON object, as the command prints it.
    package let report: String
    /// The report as a page of HTML; nil for what has none.
    package var page: String?
  }

  package init(path: String, options: ModelOptions) throws {
    self.init(
      try CompressionSource(path: path, options: options),
      name: path.split(separator: "/").last.map(String.init) ?? path)
  }

  /// - Parameter folder: where external data is looked for; nil forbids it.
  package init(bytes: [UInt8], folder: String?, options: ModelOptions) throws {
    self.init(try CompressionSource(bytes: bytes, folder: folder, options: options), name: "model")
  }

  private init(_ source: CompressionSource, name: String) {
    (self.source, self.name) = (source, name)
    check = InputChecks(source.read.model.graph)
  }

  /// The inputs of the model, which samples give.
  package var inputs: [ValueDescription] { check.inputs }

  // MARK: - What is made of it

  /// - Parameters:
  ///   - options: a JSON object with the options of `apus quantize`.
  ///   - data: nil: there are no samples.
  /// - Throws: `CompressionError`, or what `data` and `calls` throw.
  package func quantize(
    _ options: String, on data: (some CalibrationData)?, _ calls: Calls
  ) throws -> Result {
    let source = source.cancelled(by: calls.cancellation)
    func progress(_ stage: String) { calls.progress(stage, 0, nil) }
    switch try RequestMembers.options(QuantizationRequest.self, in: options, hasSamples: data != nil) {
    case .integers(let options, var steps, let target):
      steps.goal = try target.map { try goal($0, calls) }
      let quantizer = try Quantizer(source, options: options)
      let made = try steps.quantize(quantizer, on: data, progress: calls.progress)
      let summary = QuantizationSummary(model: name, file: nil, report: made.report)
      return try result(made.model, summary, page: summary.page)
    case .weights(let options):
      let made = try WeightQuantization.quantize(source, options, on: checked(data), progress: progress)
      return try result(made.model, made.report)
    case .halves(let options):
      let made = try HalfConversion.convert(source, options, on: checked(data), progress: progress)
      return try result(made.model, made.report)
    }
  }

  private struct PruningSummary: Encodable {
    var model: String
    var pruning: PruningReport
    var comparison: ModelComparison
  }

  /// - Parameter options: a JSON object with the options of `apus prune`.
  package func prune(_ options: String) throws -> Result {
    let options = try RequestMembers.options(PruningRequest.self, in: options).options
    let (made, report) = try Pruner(options).prune(source) { _ in }
    let comparison = ModelComparison(before: source.read.model.graph, after: made.optimized.model.graph)
    return try result(made, PruningSummary(model: name, pruning: report, comparison: comparison))
  }

  private struct ClusteringSummary: Encodable {
    var model: String
    var clustering: ClusteringReport
    /// Sums over all weights.
    var bytes, huffmanBytes, indexBytes: Int
    var comparison: ModelComparison
  }

  /// - Parameter options: a JSON object with the options of `apus cluster`.
  package func cluster(_ options: String) throws -> Result {
    let options = try RequestMembers.options(ClusteringRequest.self, in: options).options
    let (made, report) = try WeightClusterer(options).cluster(source) { _ in }
    let summary = ClusteringSummary(
      model: name, clustering: report, bytes: report.bytes, huffmanBytes: report.huffmanBytes,
      indexBytes: report.indexBytes,
      comparison: ModelComparison(before: source.read.model.graph, after: made.optimized.model.graph))
    return try result(made, summary)
  }

  private struct SparsitySummary: Encodable {
    var model: String
    var sparsity: SparsityReport
  }

  /// What `apus sparsity` prints as JSON.
  package func sparsity() throws -> String {
    try JSONReport.text(SparsitySummary(model: name, sparsity: SparsityReport(source.read.model.graph)))
  }

  // MARK: - In common

  private func result(_ model: CompressedModel, _ report: some Encodable, page: String? = nil) throws -> Result {
    Result(model: model, report: try JSONReport.text(report), page: page)
  }

  private func goal(_ target: QuantizationRequest.Target, _ calls: Calls) throws -> Quantizer.Goal {
    switch target {
    case .decibels(let target): return .decibels(target)
    case .accuracy(let target):
      guard let measure = calls.measure else {
        throw CompressionError(
          .invalidOption, "target_accuracy is \(target) and nothing measures it", remedy: "Give a function that does")
      }
      return .quality(target, measure: measure)
    }
  }

  private func checked(_ data: (some CalibrationData)?) -> (any CalibrationData)? {
    data.map { CheckedSamples(data: $0, check: check) }
  }
}

/// Samples that fit the inputs of a model, or an error that says where they do not.
private struct CheckedSamples<Data: CalibrationData>: CalibrationData {
  let data: Data
  let check: InputChecks

  var sampleCount: Int? { data.sampleCount }

  func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws {
    var count = 0
    try data.forEachSample { sample in
      _ = try check.ordered(sample.mapValues { .tensor($0) })
      count += 1
      try body(sample)
    }
    if count == 0 { throw CompressionError(.invalidSample, "there are no samples", remedy: "Give at least one") }
  }
}
