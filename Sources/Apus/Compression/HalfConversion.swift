// Models in 16 bits.

import ApusCompression
import ApusFormats
public import FoundationEssentials

@_exported public import struct ApusCompression.HalfConversionOptions
@_exported public import struct ApusCompression.HalfConversionReport

/// Makes models of float16 or bfloat16 of models of float32.
public enum HalfConversion {
  /// Converts the model at `url`. Its weights are read when the result is written, so nobody may change the file until
  /// then; the file may be written over by `save`.
  ///
  /// - Parameters:
  ///   - samples: nodes whose values pass the range of the type on them stay in float32.
  ///   - progress: is told what is being done.
  /// - Throws: `LoadError`, `PrepareError` or `CompressionError`, and what `samples` throw; nothing was written.
  public static func convert(
    contentsOf url: URL, _ options: HalfConversionOptions = HalfConversionOptions(),
    on samples: (any CalibrationData)? = nil, modelOptions: ModelOptions = ModelOptions(),
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: HalfConversionReport) {
    var modelOptions = modelOptions
    modelOptions.mapsFiles = true
    return try convert(try CompressionSource(url: url, options: modelOptions), options, on: samples, progress: progress)
  }

  package static func convert(
    _ source: CompressionSource, _ options: HalfConversionOptions, on samples: (any CalibrationData)?,
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: HalfConversionReport) {
    let converter = HalfConverter(options, in: source.surroundings, progress: progress)
    return try source.compressed { model in
      let (report, opset) = try converter.convert(&model.model.graph, samples: samples)
      if let former = model.model.opsets[""] { model.model.opsets[""] = max(former, opset) }
      return report
    }
  }
}
