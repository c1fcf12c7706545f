// Models in 16 bits.

import ApusCompression
import ApusGraph
import ApusRuntime
public import FoundationEssentials

@_exported public import struct ApusCompression.HalfConversionOptions
@_exported public import struct ApusCompression.HalfConversionReport

/// Makes models of float16 or bfloat16 of models of float32.
public enum HalfConversion {
  /// Converts the model at `url`. Its weights are read when the result is written, so nobody may change the file until
  /// then; the file may be written over by `save`.
  ///
  /// - Parameters:
  ///   - samples: inputs by name: nodes whose values pass the range of the type on them stay in float32.
  ///   - progress: is told what is being done.
  /// - Throws: `LoadError`, `PrepareError` or `CompressionError`; nothing was written.
  public static func convert(
    contentsOf url: URL, _ options: HalfConversionOptions = HalfConversionOptions(),
    samples: [[String: Value]] = [], modelOptions: ModelOptions = ModelOptions(),
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: HalfConversionReport) {
    var modelOptions = modelOptions
    modelOptions.mapsFiles = true
    var model = try ModelReader.readForCompression(path: url.path(percentEncoded: false), options: modelOptions)
    let report = try convert(
      &model, options, samples: samples.isEmpty ? nil : try CompressionSamples(samples, for: model.model.graph),
      threads: modelOptions.threads, progress: progress)
    return (CompressedModel(model), report)
  }

  package static func convert(
    _ model: inout OptimizedModel, _ options: HalfConversionOptions, samples: CompressionSamples?, threads: Int?,
    cancellation: CancellationFlag? = nil, progress: @escaping (String) -> Void = { _ in }
  ) throws -> HalfConversionReport {
    var surroundings = RunSurroundings(pool: WorkerPool(threads: threads))
    surroundings.cancellation = cancellation
    let (report, opset) = try HalfConverter(options, in: surroundings, progress: progress)
      .convert(&model.model.graph, samples: samples)
    if let former = model.model.opsets[""] { model.model.opsets[""] = max(former, opset) }
    return report
  }
}
