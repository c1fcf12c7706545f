// A quantization to integers from the samples to the report: what the command, C and Python have in common.

import ApusCompression
import FoundationEssentials

/// What is done beside rewriting the model: where statistics come from and go, what is searched for and measured.
package struct QuantizationSteps {
  /// Files: what an earlier calibration has seen, in the place of samples; where to store what this one sees; where to
  /// store the ranges for TensorRT.
  package var calibration, saveCalibration, tensorRTCache: String?
  package var goal: Quantizer.Goal?
  /// The samples at the beginning that the loss is measured on.
  package var measured = 8
  /// Whether the report says what each node costs alone.
  package var ranks = false

  package init() {}

  /// Quantizes as the options of `quantizer` say, with scales that `data` shows or that each run finds.
  ///
  /// - Parameter data: nil: there are no samples.
  /// - Throws: `CompressionError`, `RunError` for samples that do not fit the model, what `data` throws.
  package func quantize(
    _ quantizer: Quantizer, on data: (some CalibrationData)?, progress: Quantizer.Progress
  ) throws -> Quantizer.Result {
    guard quantizer.options.method == .static else {
      guard let data else {
        try checkNothingNeedsSamples()
        return try quantizer.quantizeDynamically()
      }
      return try quantizer.quantizeDynamically(
        on: data, goal: goal, measured: measured, ranks: ranks, progress: progress)
    }
    let result = try statically(quantizer, on: data, progress)
    if let tensorRTCache { try TensorRTCache.write(result.report, to: tensorRTCache) }
    return result
  }

  private func statically(
    _ quantizer: Quantizer, on data: (some CalibrationData)?, _ progress: Quantizer.Progress
  ) throws -> Quantizer.Result {
    var cache = try calibration.map { try CalibrationCache(contentsOf: URL(filePath: $0)) }
    if cache == nil, quantizer.options.smoothing == nil, let data {
      let calibrator = try quantizer.calibrator(isComplete: saveCalibration != nil)
      try data.forEachSample { sample in
        progress("calibration", calibrator.samples, data.sampleCount)
        try calibrator.observe(sample)
      }
      if calibrator.samples == 0 { throw Quantizer.noSamples }
      cache = calibrator.cache
    }
    guard let cache else {
      guard let data else {
        throw CompressionError(
          .invalidSample, "static quantization finds scales from samples and there are none",
          remedy: "Give samples, or what an earlier calibration has stored")
      }
      return try quantizer.quantize(on: data, goal: goal, measured: measured, ranks: ranks, progress: progress)
    }
    if let saveCalibration { try cache.save(to: URL(filePath: saveCalibration)) }
    guard let data else {
      try checkNothingNeedsSamples()
      return try quantizer.quantize(with: cache)
    }
    return try quantizer.quantize(
      with: cache, on: data, goal: goal, measured: measured, ranks: ranks, progress: progress)
  }

  private func checkNothingNeedsSamples() throws(CompressionError) {
    if goal == nil, !ranks { return }
    throw CompressionError(.invalidSample, "a target or a ranking of nodes needs samples", remedy: "Give samples")
  }
}
