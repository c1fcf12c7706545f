// Models with weights in few bits.

import ApusCompression
import ApusFormats
import ApusGraph
import ApusRuntime
public import FoundationEssentials

@_exported public import struct ApusCompression.WeightQuantizationOptions
@_exported public import struct ApusCompression.WeightQuantizationReport

/// Keeps the weights of a model in few bits, while all that it computes stays float.
public enum WeightQuantization {
  /// Quantizes the model at `url`.
  ///
  /// - Parameters:
  ///   - samples: inputs by name, for methods that go by activations and for a report on the results of products.
  ///   - progress: is told what is being done.
  /// - Throws: `LoadError`, `PrepareError` or `CompressionError`; nothing was written.
  public static func quantize(
    contentsOf url: URL, _ options: WeightQuantizationOptions = WeightQuantizationOptions(),
    samples: [[String: Value]] = [], modelOptions: ModelOptions = ModelOptions(),
    progress: @escaping (String) -> Void = { _ in }
  ) throws -> (model: CompressedModel, report: WeightQuantizationReport) {
    var model = try ModelReader.readForCompression(path: url.path(percentEncoded: false), options: modelOptions)
    let report = try quantize(
      &model, options, samples: samples.isEmpty ? nil : try CompressionSamples(samples, for: model.model.graph),
      threads: modelOptions.threads, progress: progress)
    return (CompressedModel(model), report)
  }

  package static func quantize(
    _ model: inout OptimizedModel, _ options: WeightQuantizationOptions, samples: CompressionSamples?, threads: Int?,
    cancellation: CancellationFlag? = nil, progress: @escaping (String) -> Void = { _ in }
  ) throws -> WeightQuantizationReport {
    var surroundings = RunSurroundings(pool: WorkerPool(threads: threads))
    surroundings.cancellation = cancellation
    let report = try WeightQuantizer(options, in: surroundings, progress: progress)
      .quantize(&model.model.graph, samples: samples)
    if let opset = model.model.opsets[""] {
      model.model.opsets[""] = max(opset, WeightQuantizer.leastOpset(options))
    }
    return report
  }
}

extension CompressionSamples {
  /// Samples by the names of the inputs of a graph.
  init(_ samples: [[String: Value]], for graph: Graph) throws(CompressionError) {
    let names = graph.inputs.map { graph[$0].name }
    var ordered: [[Value]] = []
    for (index, sample) in samples.enumerated() {
      var values: [Value] = []
      for name in names {
        guard let value = sample[name] else {
          throw CompressionError(
            .invalidSample, "sample \(index) has no input '\(name)'; expected \(names.joined(separator: ", "))")
        }
        values.append(value)
      }
      ordered.append(values)
    }
    let fixed = ordered
    self.init(count: fixed.count) { (sample) throws(CompressionError) in fixed[sample] }
  }
}
