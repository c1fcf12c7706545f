// Quantization as a library: a model, samples, and a smaller model with a report of what that cost.

import ApusCompression
import ApusFormats
import ApusGraph
import ApusRuntime
public import FoundationEssentials

/// Makes integers of the weights and activations of a model.
///
///     let quantizer = try Quantizer(contentsOf: URL(filePath: "resnet50.onnx"))
///     let calibrator = try quantizer.calibrator()
///     for sample in samples { try calibrator.observe(["input": sample]) }
///     let quantized = try quantizer.quantize(with: calibrator.cache)
///     try quantized.model.save(to: URL(filePath: "resnet50-int8.onnx"))
public final class Quantizer {
  public let options: QuantizationOptions
  private let origin: CompressionSource
  private let check: InputChecks
  private var surroundings: RunSurroundings { origin.surroundings }

  /// A quantized model, and what became of its nodes.
  public struct Result: Sendable {
    public let model: CompressedModel
    public let report: QuantizationReport
  }

  /// What a quantization shall reach, with nodes that stay in float where that must be.
  public enum Goal {
    /// A ratio of signal to noise of every output, in decibels.
    case decibels(Double)
    /// What the caller measures of a model, as its accuracy on labelled data; more is better.
    case quality(Double, measure: (Model) throws -> Double)
  }

  /// How the work goes on: what is done, and how much of it.
  public typealias Progress = (_ stage: String, _ done: Int, _ all: Int?) -> Void

  /// Reads the model at `url`, as `loading` says.
  ///
  /// - Throws: `LoadError` or `PrepareError` if the model cannot be read, `CompressionError` if the options do not fit
  ///   it.
  public convenience init(
    contentsOf url: URL, options: QuantizationOptions = QuantizationOptions(), loading: ModelOptions = ModelOptions()
  ) throws {
    try self.init(path: url.path(percentEncoded: false), options: options, loading: loading)
  }

  package convenience init(path: String, options: QuantizationOptions, loading: ModelOptions) throws {
    try self.init(try CompressionSource(path: path, options: loading), options: options)
  }

  package init(_ source: CompressionSource, options: QuantizationOptions) throws {
    (self.options, origin) = (options, source)
    check = InputChecks(source.read.model.graph)
    _ = try quantizer()
  }

  /// The inputs of the model, which samples give.
  public var inputs: [ValueDescription] { check.inputs }

  private func quantizer() throws -> GraphQuantizer {
    try GraphQuantizer(origin.read.model.graph, options, in: surroundings)
  }

  // MARK: - In one call

  /// The model on integers, calibrated with `data`.
  ///
  /// - Parameters:
  ///   - goal: what shall be reached; nil: all that can be computed on integers is.
  ///   - measured: the samples at the beginning that the loss is measured on; 0: it is not.
  ///   - ranks: whether the report says what each node costs alone.
  public func quantize(
    on data: some CalibrationData, goal: Goal? = nil, measured: Int = 8, ranks: Bool = false,
    progress: Progress = { _, _, _ in }
  ) throws -> Result {
    var quantizer = try quantizer()
    if options.smoothing != nil {
      let seen = try observe(data, with: try quantizer.smoothingCalibration(), "magnitudes of channels", progress)
      try quantizer.smooth(seen.channels)
    }
    let seen = try observe(data, with: try quantizer.calibration(), "calibration", progress)
    try quantizer.round(on: data) { progress($0, 0, nil) }
    return try finish(quantizer, seen.ranges, seen.samples, data, goal, measured, ranks, progress)
  }

  /// The same for what an earlier calibration has seen. `data` serves for adaptive rounding and for measuring.
  public func quantize(
    with cache: CalibrationCache, on data: some CalibrationData, goal: Goal? = nil, measured: Int = 8,
    ranks: Bool = false, progress: Progress = { _, _, _ in }
  ) throws -> Result {
    var quantizer = try quantizer()
    try check(cache, for: quantizer)
    try quantizer.round(on: data) { progress($0, 0, nil) }
    return try finish(quantizer, cache.ranges, cache.samples, data, goal, measured, ranks, progress)
  }

  private func observe(
    _ data: some CalibrationData, with calibration: Calibration, _ stage: String, _ progress: Progress
  ) throws -> Calibration {
    try data.forEachSample { sample in
      progress(stage, calibration.samples, data.sampleCount)
      _ = try check.ordered(sample.mapValues { .tensor($0) })
      try calibration.add(sample)
    }
    if calibration.samples == 0 { throw Quantizer.noSamples }
    return calibration
  }

  static var noSamples: CompressionError {
    CompressionError(.invalidSample, "there are no samples to calibrate with", remedy: "Give at least one")
  }

  private func finish(
    _ quantizer: GraphQuantizer, _ ranges: GraphQuantizer.Ranges, _ samples: Int, _ data: some CalibrationData,
    _ goal: Goal?, _ measured: Int, _ ranks: Bool, _ progress: Progress
  ) throws -> Result {
    var ranking: [NodeSensitivity] = []
    var curve: [TradeOff] = []
    var quantized: QuantizedGraph?
    if goal != nil || ranks {
      let reference = try ReferenceOutputs(of: quantizer.original, on: data, count: max(measured, 1), in: surroundings)
      ranking = try quantizer.sensitivities(ranges, reference) { progress("ranking nodes", $0, $1) }
      if let goal {
        let found = try quantizer.search(ranges, ranking: ranking, target: goal.value) { candidate in
          progress("search", 0, nil)
          switch goal {
          case .decibels: return try reference.decibels(of: candidate.graph)
          case .quality(_, let measure): return try measure(try self.result(candidate).model.model())
          }
        }
        (quantized, curve) = (found.graph, found.curve)
      }
    }
    var result = try quantized ?? quantizer.quantized(ranges)
    if measured > 0 {
      progress("measuring", 0, nil)
      try quantizer.measure(&result, on: data, samples: measured)
    }
    (result.report.sensitivities, result.report.tradeOffs) = (ranking, curve)
    result.report.calibrationSamples = samples
    return self.result(result)
  }

  // MARK: - Step by step

  /// Watches the values that will be integers, on samples that it is shown one by one.
  ///
  /// - Throws: `CompressionError` if nothing in the model can be computed on integers, or if the options need samples
  ///   to be seen twice.
  /// - Parameter isComplete: whether all is seen that other options want to know of the same model, for a cache that is
  ///   stored.
  public func calibrator(isComplete: Bool = false) throws -> Calibrator {
    if options.smoothing != nil {
      throw CompressionError(
        .invalidOption, "smoothing looks at all samples twice",
        remedy: "Use quantize(on:) with data that can be read again")
    }
    let quantizer = try quantizer()
    return Calibrator(try quantizer.calibration(isComplete: isComplete), check, of: quantizer.graph)
  }

  /// The model on integers, for what a calibration has seen.
  public func quantize(with cache: CalibrationCache) throws -> Result {
    if options.roundsAdaptively {
      throw CompressionError(
        .invalidOption, "adaptive rounding looks at samples", remedy: "Use quantize(with:on:)")
    }
    let quantizer = try quantizer()
    try check(cache, for: quantizer)
    var quantized = try quantizer.quantized(cache.ranges)
    quantized.report.calibrationSamples = cache.samples
    return result(quantized)
  }

  /// Throws if a calibration is of another model, or has not seen what the options want to know.
  private func check(_ cache: CalibrationCache, for quantizer: GraphQuantizer) throws(CompressionError) {
    func refuse(_ text: String) -> CompressionError {
      CompressionError(.invalidFile, text, remedy: "Calibrate again, with these options")
    }
    guard cache.fingerprint == CalibrationCache.fingerprint(of: quantizer.graph) else {
      throw refuse("the calibration is of another model, or of this one after other passes or equalization")
    }
    if options.range.needsHistogram, cache.statistics.values.contains(where: { $0.histogram == nil }) {
      throw refuse("the calibration has no histograms, by which this method finds ranges")
    }
    if options.correctsBiases, cache.channels.isEmpty {
      throw refuse("the calibration has no means of channels, by which biases are corrected")
    }
    if options.smoothing != nil { throw refuse("smoothing looks at samples, which a calibration does not keep") }
  }

  /// The model with products of matrices that find their integers in each run.
  public func quantizeDynamically() throws -> Result {
    if options.smoothing != nil {
      throw CompressionError(
        .invalidOption, "smoothing needs samples", remedy: "Use quantizeDynamically(on:), or no smoothing")
    }
    return result(try quantizer().quantized(.found))
  }

  /// The same for a model that samples are known of: they serve for smoothing, if the options ask for it, for
  /// measuring, and for a goal.
  public func quantizeDynamically(
    on data: some CalibrationData, goal: Goal? = nil, measured: Int = 8, ranks: Bool = false,
    progress: Progress = { _, _, _ in }
  ) throws -> Result {
    var quantizer = try quantizer()
    var samples = 0
    if options.smoothing != nil {
      let seen = try observe(data, with: try quantizer.smoothingCalibration(), "magnitudes of channels", progress)
      try quantizer.smooth(seen.channels)
      samples = seen.samples
    }
    return try finish(quantizer, .found, samples, data, goal, measured, ranks, progress)
  }

  /// A result with what its nodes and outputs lose, on the first samples of `data`.
  public func measure(_ result: Result, on data: some CalibrationData, samples: Int = 8) throws -> Result {
    var quantized = QuantizedGraph(graph: result.model.optimized.model.graph, report: result.report)
    try quantizer().measure(&quantized, on: data, samples: samples)
    return self.result(quantized)
  }

  private func result(_ quantized: QuantizedGraph) -> Result {
    var optimized = origin.read
    optimized.model.graph = quantized.graph
    return Result(model: CompressedModel(optimized, options: origin.options), report: quantized.report)
  }
}

extension Calibration {
  fileprivate var ranges: GraphQuantizer.Ranges { .seen(statistics, channels: channels) }
}

extension CalibrationCache {
  fileprivate var ranges: GraphQuantizer.Ranges { .seen(statistics, channels: channels) }
}

extension Quantizer.Goal {
  fileprivate var value: Double {
    switch self {
    case .decibels(let value), .quality(let value, _): value
    }
  }
}

/// Watches the values of a model on samples: what they are is kept as ranges and histograms, the samples are not.
public final class Calibrator {
  private let calibration: Calibration
  private let check: InputChecks
  private let graph: Graph
  private lazy var fingerprint = CalibrationCache.fingerprint(of: graph)

  init(_ calibration: Calibration, _ check: InputChecks, of graph: Graph) {
    (self.calibration, self.check, self.graph) = (calibration, check, graph)
  }

  /// The samples so far.
  public var samples: Int { calibration.samples }

  /// Runs the model on one sample, a tensor for each input by name.
  ///
  /// - Throws: `RunError` if it does not fit the inputs, `CompressionError` if a value is no finite number or the run
  ///   fails.
  public func observe(_ sample: [String: Tensor]) throws {
    _ = try check.ordered(sample.mapValues { .tensor($0) })
    try calibration.add(sample)
  }

  /// What was seen so far.
  public var cache: CalibrationCache { calibration.cache(fingerprint) }
}

extension CalibrationCache {
  /// Reads what `save` wrote.
  public init(contentsOf url: URL) throws {
    let path = url.path(percentEncoded: false)
    let bytes = try FileBytes.open(path: path).withBytes { bytes in bytes.indices.map { bytes[$0] } }
    do {
      self = try JSONDecoder().decode(CalibrationCache.self, from: Data(bytes))
    } catch let error as CompressionError {
      throw CompressionError(error.code, "\(path): \(error.message)", remedy: error.remedy)
    } catch {
      throw CompressionError(
        .invalidFile, "\(path) is no calibration", remedy: "Calibrate again and store it with --save-calibration")
    }
  }

  /// Writes the statistics as JSON, to be read again.
  public func save(to url: URL) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    try OutputFile.write([UInt8](encoder.encode(self)), to: url.path(percentEncoded: false))
  }
}
