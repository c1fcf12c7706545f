// How right a model is that says of each pixel what it shows.

import ApusFormats
import ApusTensor

/// Counts pixels by true and predicted class.
public struct SegmentationAccuracy: Sendable {
  public private(set) var samples = 0
  public private(set) var confusion: ConfusionMatrix
  /// Pixels of this class are left out, as 255 in many data sets; nil: none.
  public let ignoredClass: Int?

  /// More classes than this are no classes, but numbers of objects.
  private static let mostClasses = 1 << 16

  public init(classCount: Int = 0, ignoredClass: Int? = 255) {
    confusion = ConfusionMatrix(classCount: classCount)
    self.ignoredClass = ignoredClass
  }

  /// Adds a sample.
  ///
  /// - Parameters:
  ///   - output: scores [C, H, W] of floats, of which the highest says the class (of equal ones the first), or classes
  ///     [H, W] or [1, H, W] of integers; one score [1, H, W] says class 1 from `threshold` on.
  ///   - truth: the classes, integers [H, W] or [1, H, W].
  public mutating func add(output: Tensor, truth: Tensor, threshold: Double = 0.5) throws(CompressionError) {
    guard let labels = truth.integers, let size = Self.size(truth.shape) else {
      throw CompressionError(
        .invalidSample, "the truth is \(truth.dataType)\(truth.shape); expected integers of the shape [height, width]")
    }
    let isScores = output.dataType.isFloat
    guard let found = Self.size(output.shape), (2...3).contains(output.rank),
      isScores || output.count == found[0] * found[1], found == size
    else {
      throw CompressionError(
        .invalidSample,
        "the output is \(output.dataType)\(output.shape); expected scores [classes, \(size[0]), \(size[1])] or classes "
          + "[\(size[0]), \(size[1])], as the truth has them")
    }
    let predicted = isScores ? Self.classes(output, area: labels.count, threshold) : output.integers ?? []
    var part = ConfusionMatrix(classCount: isScores ? max(2, output.count / max(labels.count, 1)) : 0)
    for (label, prediction) in zip(labels, predicted) where label != ignoredClass {
      guard label >= 0, prediction >= 0, max(label, prediction) < Self.mostClasses else {
        throw CompressionError(
          .invalidSample, "a pixel of class \(label) is predicted as \(prediction); classes are 0 to 65535")
      }
      part.add(truth: label, predicted: prediction)
    }
    confusion.add(part)
    samples += 1
  }

  /// Height and width, behind axes of which only that of channels may be more than 1.
  private static func size(_ shape: Shape) -> [Int]? {
    shape.rank >= 2 && shape.rank <= 4 && (shape.rank < 4 || shape[0] == 1) ? Array(shape.suffix(2)) : nil
  }

  private static func classes(_ scores: Tensor, area: Int, _ threshold: Double) -> [Int] {
    let numbers = scores.doubles
    let channels = area == 0 ? 0 : numbers.count / area
    if channels == 1 { return numbers.map { $0 >= threshold ? 1 : 0 } }
    var best = [Double](numbers.prefix(area))
    var classes = [Int](repeating: 0, count: area)
    for channel in 1..<max(channels, 1) {
      for pixel in 0..<area {
        let score = numbers[channel * area + pixel]
        if score > best[pixel] || best[pixel].isNaN && !score.isNaN { (best[pixel], classes[pixel]) = (score, channel) }
      }
    }
    return classes
  }

  /// The mean over the classes that have pixels or were predicted.
  public var report: AccuracyReport {
    let classes = (0..<confusion.classCount).map { index in
      ClassFigures(
        index: index, count: confusion.count(of: index),
        metrics: [confusion.iou(of: index), confusion.precision(of: index), confusion.recall(of: index)])
    }
    return AccuracyReport(
      samples: samples,
      metrics: [
        confusion.mean("miou") { confusion.iou(of: $0) },
        AccuracyMetric(
          "pixel_accuracy", Double(confusion.rightCount), of: Double(confusion.total), otherwise: "there are no pixels"
        ),
      ],
      classes: classes, confusion: confusion.rows,
      notes: ignoredClass.map { [.init("pixels of class \($0) are left out")] } ?? [])
  }
}
