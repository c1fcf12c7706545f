// Models with weights in few bits.

import ApusCompression
import ApusFormats
public import FoundationEssentials

@_exported public import struct ApusCompression.WeightQuantizationOptions
@_exported public import struct ApusCompression.WeightQuantizationReport

/// Keeps the weights of a model in few bits, while all that it computes stays float.
public enum WeightQuantization {
  /// Quantizes the model at `url`.
  ///
  /// - Parameters:
  ///   - samples: for methods that go by activations, and for a report on the results of products. They are gone
  ///     through more than once where the memory for what is summed of them takes that; none is kept.
  ///   - progress: is told what is being done.
  /// - Throws: `LoadError`, `PrepareError` or `CompressionError`, and what `samples` throw; nothing was written.
  public static func quantize(
    contentsOf url: URL, _ options: WeightQuantizationOptions = WeightQuantizationOptions(),
    on samples: (any CalibrationData)? = nil, modelOptions: ModelOptions = ModelOptions(),
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: WeightQuantizationReport) {
    try quantize(try CompressionSource(url: url, options: modelOptions), options, on: samples, progress: progress)
  }

  package static func quantize(
    _ source: CompressionSource, _ options: WeightQuantizationOptions, on samples: (any CalibrationData)?,
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: WeightQuantizationReport) {
    let quantizer = try WeightQuantizer(options, in: source.surroundings, progress: progress)
    return try source.compressed { model in
      let report = try quantizer.quantize(&model.model.graph, samples: samples)
      if let opset = model.model.opsets[""] {
        model.model.opsets[""] = max(opset, WeightQuantizer.leastOpset(options))
      }
      return report
    }
  }
}
