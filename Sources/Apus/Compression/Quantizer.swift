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
  private let read: OptimizedModel
  private let check: InputChecks
  private let surroundings: RunSurroundings

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

  package init(path: String, options: QuantizationOptions, loading: ModelOptions) throws {
    self.options = options
    read = try ModelReader.readForCompression(path: path, options: loading)
    let engine = loading.engine ?? Engine.common(threads: loading.threads)
    var surroundings = RunSurroundings(pool: engine.share(threads: loading.threads))
    surroundings.maximumRunMemory = loading.limits.maximumRunMemory
    self.surroundings = surroundings
    check = InputChecks(read.model.graph)
    _ = try quantizer()
  }

  /// The model as it was read, for those who read samples for it.
  package var source: ModelGraph { read.model }

  /// The inputs of the model, which samples give.
  public var inputs: [ValueDescription] { check.inputs }

  private func quantizer() throws -> GraphQuantizer {
    try GraphQuantizer(read.model.graph, options, in: surroundings)
  }

  private var fingerprint: String { CalibrationCache.fingerprint(of: read.model.graph) }

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
    return try finish(quantizer, seen.cache(fingerprint), data, goal, measured, ranks, progress)
  }

  /// The same for what an earlier calibration has seen. `data` serves for measuring.
  public func quantize(
    with cache: CalibrationCache, on data: some CalibrationData, goal: Goal? = nil, measured: Int = 8,
    ranks: Bool = false, progress: Progress = { _, _, _ in }
  ) throws -> Result {
    try finish(try quantizer(), try checked(cache), data, goal, measured, ranks, progress)
  }

  private func observe(
    _ data: some CalibrationData, with calibration: Calibration, _ stage: String, _ progress: Progress
  ) throws -> Calibration {
    try data.forEachSample { sample in
      progress(stage, calibration.samples, data.sampleCount)
      let values = sample.mapValues { Value.tensor($0) }
      _ = try check.ordered(values)
      try calibration.add(values)
    }
    if calibration.samples == 0 {
      throw CompressionError(.invalidSample, "there are no samples to calibrate with", remedy: "Give at least one")
    }
    return calibration
  }

  private func finish(
    _ quantizer: GraphQuantizer, _ cache: CalibrationCache, _ data: some CalibrationData, _ goal: Goal?,
    _ measured: Int, _ ranks: Bool, _ progress: Progress
  ) throws -> Result {
    var ranking: [NodeSensitivity] = []
    var curve: [TradeOff] = []
    var quantized: QuantizedGraph?
    if goal != nil || ranks {
      let reference = try ReferenceOutputs(of: quantizer.original, on: data, count: max(measured, 1), in: surroundings)
      ranking = try quantizer.sensitivities(cache.statistics, channels: cache.channels, reference) {
        progress("ranking nodes", $0, $1)
      }
      if let goal {
        let found = try quantizer.search(
          cache.statistics, channels: cache.channels, ranking: ranking, target: goal.value
        ) { candidate in
          progress("search", 0, nil)
          switch goal {
          case .decibels: return try reference.decibels(of: candidate.graph)
          case .quality(_, let measure): return try measure(try self.result(candidate).model.model())
          }
        }
        (quantized, curve) = (found.graph, found.curve)
      }
    }
    var result = try quantized ?? quantizer.quantized(cache.statistics, channels: cache.channels)
    if measured > 0 {
      progress("measuring", 0, nil)
      try quantizer.measure(&result, on: data, samples: measured)
    }
    (result.report.sensitivities, result.report.tradeOffs) = (ranking, curve)
    result.report.calibrationSamples = cache.samples
    return self.result(result)
  }

  // MARK: - Step by step

  /// Watches the values that will be integers, on samples that it is shown one by one.
  ///
  /// - Throws: `CompressionError` if nothing in the model can be computed on integers, or if the options need samples
  ///   to be seen twice.
  public func calibrator() throws -> Calibrator {
    if options.smoothing != nil {
      throw CompressionError(
        .invalidOption, "smoothing looks at all samples twice",
        remedy: "Use quantize(on:) with data that can be read again")
    }
    return Calibrator(try quantizer().calibration(), check, fingerprint: fingerprint)
  }

  /// The model on integers, for what a calibration has seen.
  public func quantize(with cache: CalibrationCache) throws -> Result {
    var quantized = try quantizer().quantized(try checked(cache).statistics, channels: cache.channels)
    quantized.report.calibrationSamples = cache.samples
    return result(quantized)
  }

  private func checked(_ cache: CalibrationCache) throws -> CalibrationCache {
    if cache.fingerprint == fingerprint { return cache }
    throw CompressionError(
      .invalidFile, "the calibration is of another model, or of this one before other passes", remedy: "Calibrate again"
    )
  }

  /// The model with products of matrices that find their integers in each run.
  public func quantizeDynamically() throws -> Result {
    if options.smoothing != nil {
      throw CompressionError(
        .invalidOption, "smoothing needs samples", remedy: "Use quantizeDynamically(on:), or no smoothing")
    }
    return result(try quantizer().dynamic())
  }

  /// The same, smoothed as the options say for what the samples are like.
  public func quantizeDynamically(
    on data: some CalibrationData, measured: Int = 8, progress: Progress = { _, _, _ in }
  ) throws -> Result {
    var quantizer = try quantizer()
    if options.smoothing != nil {
      let seen = try observe(data, with: try quantizer.smoothingCalibration(), "magnitudes of channels", progress)
      try quantizer.smooth(seen.channels)
    }
    var quantized = try quantizer.dynamic()
    if measured > 0 { try quantizer.measure(&quantized, on: data, samples: measured) }
    return result(quantized)
  }

  /// A result with what its nodes and outputs lose, on the first samples of `data`.
  public func measure(_ result: Result, on data: some CalibrationData, samples: Int = 8) throws -> Result {
    var quantized = QuantizedGraph(graph: result.model.optimized.model.graph, report: result.report)
    try quantizer().measure(&quantized, on: data, samples: samples)
    return self.result(quantized)
  }

  private func result(_ quantized: QuantizedGraph) -> Result {
    var optimized = read
    optimized.model.graph = quantized.graph
    if let opset = optimized.model.opsets[""] { optimized.model.opsets[""] = max(opset, quantized.graph.leastOpset) }
    return Result(model: CompressedModel(optimized), report: quantized.report)
  }
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
  private let fingerprint: String

  init(_ calibration: Calibration, _ check: InputChecks, fingerprint: String) {
    (self.calibration, self.check, self.fingerprint) = (calibration, check, fingerprint)
  }

  /// The samples so far.
  public var samples: Int { calibration.samples }

  /// Runs the model on one sample, a tensor for each input by name.
  ///
  /// - Throws: `RunError` if it does not fit the inputs, `CompressionError` if a value is no finite number or the run
  ///   fails.
  public func observe(_ sample: [String: Tensor]) throws {
    let values = sample.mapValues { Value.tensor($0) }
    _ = try check.ordered(values)
    try calibration.add(values)
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
