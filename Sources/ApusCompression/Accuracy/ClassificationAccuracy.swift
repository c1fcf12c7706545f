// How right a classifier is: top-k, precision, recall and F1 of each class, area under the curve.

import ApusFormats
import ApusTensor

/// Counts how often a classifier is right, sample by sample.
///
///     var accuracy = ClassificationAccuracy()
///     for (image, label) in samples {
///       try accuracy.add(scores: try model.run(["input": image])["logits"]!, labels: [label])
///     }
///     print(accuracy.report["top1"]!.value!)
public struct ClassificationAccuracy: Sendable {
  /// For a model with one score a sample: the least with which it says class 1.
  public var threshold: Double
  public private(set) var samples = 0
  public private(set) var confusion: ConfusionMatrix
  private var ranked = RankedScores()
  /// Samples whose label is among the k highest scores.
  private var hits: [Int: Int] = [:]
  private let ranks: [Int]
  /// Scores a sample; 0 where only classes came.
  private var width = 0

  /// - Parameters:
  ///   - classCount: 0: as many as there are scores, or as the highest class says.
  ///   - ranks: the k of each top-k.
  ///   - threshold: for logits of one score 0 would be right.
  public init(classCount: Int = 0, ranks: [Int] = [1, 5], threshold: Double = 0.5) {
    confusion = ConfusionMatrix(classCount: classCount)
    (self.ranks, self.threshold) = (ranks, threshold)
  }

  /// Adds the scores of a batch: float[B, classes] with B labels, or float[classes] with one. A single score is that of
  /// class 1.
  public mutating func add(scores: Tensor, labels: [Int]) throws(CompressionError) {
    guard scores.dataType.isFloat, !labels.isEmpty, scores.count > 0, scores.count % labels.count == 0,
      labels.count == 1 || scores.shape.first == labels.count
    else {
      throw CompressionError(
        .invalidSample,
        "\(scores.dataType)\(scores.shape) for \(labels.count) labels; expected floats, one row a label")
    }
    let numbers = scores.doubles
    let width = numbers.count / labels.count
    for (row, label) in labels.enumerated() {
      try add(scores: Array(numbers[row * width..<(row + 1) * width]), label: label)
    }
  }

  /// Adds the scores of one sample, one a class or that of class 1, with its label.
  public mutating func add(scores: [Double], label: Int) throws(CompressionError) {
    let classes = max(scores.count, 2)
    guard !scores.isEmpty, (0..<classes).contains(label) else {
      throw CompressionError(
        .invalidSample, "the label is class \(label); the scores are those of \(classes) classes, from 0 on")
    }
    if width != 0, width != scores.count {
      throw CompressionError(.invalidSample, "\(scores.count) scores; earlier samples have \(width)")
    }
    width = scores.count
    ranked.add(scores, label: label)
    if scores.count == 1 {
      count(predicted: scores[0] >= threshold ? 1 : 0, label: label)
      return
    }
    let rank = Self.rank(of: label, in: scores)
    for k in ranks where rank < k { hits[k, default: 0] += 1 }
    count(predicted: Self.largest(scores), label: label)
  }

  /// Adds a sample of a model that gives the class itself.
  public mutating func add(predicted: Int, label: Int) throws(CompressionError) {
    guard predicted >= 0, label >= 0 else {
      throw CompressionError(.invalidSample, "class \(min(predicted, label)); classes are numbered from 0 on")
    }
    ranked.refuse("the model gives classes without scores")
    count(predicted: predicted, label: label)
  }

  private mutating func count(predicted: Int, label: Int) {
    samples += 1
    confusion.add(truth: label, predicted: predicted)
  }

  /// How many classes stand before `label`: those with a higher score, and of equal ones those with a lower number.
  /// What is no number comes last.
  static func rank(of label: Int, in scores: [Double]) -> Int {
    let own = scores[label]
    if own.isNaN { return scores.count }
    return scores.indices.count { scores[$0] > own || scores[$0] == own && $0 < label }
  }

  /// The class with the highest score, of equal ones the first.
  public static func largest(_ scores: [Double]) -> Int {
    var best = 0
    for index in scores.indices where scores[index] > scores[best] || scores[best].isNaN && !scores[index].isNaN {
      best = index
    }
    return best
  }

  private func top(_ k: Int) -> AccuracyMetric {
    let name = "top\(k)"
    if k == 1 { return AccuracyMetric(name, share: confusion.rightCount, of: samples) }
    if samples > 0, width == 0 { return AccuracyMetric(name, undefined: "the model gives classes without scores") }
    if samples > 0, width <= k {
      let classes = max(width, 2)
      return AccuracyMetric(name, undefined: "there are \(classes) classes, which are all among the first \(k)")
    }
    return AccuracyMetric(name, share: hits[k] ?? 0, of: samples)
  }

  /// What the samples so far come to. Macro figures are means over the classes that have samples or were predicted, as
  /// in scikit-learn.
  public var report: AccuracyReport {
    let areas = ranked.areas()
    let balanced = confusion.mean("balanced_accuracy") { confusion.recall(of: $0) }
    let classes = (0..<confusion.classCount).map { index in
      ClassFigures(
        index: index, count: confusion.count(of: index),
        metrics: [confusion.precision(of: index), confusion.recall(of: index), confusion.f1(of: index)]
          + (index < areas.classes.count ? [areas.classes[index]] : []))
    }
    return AccuracyReport(
      samples: samples,
      metrics: ranks.map(top) + [confusion.mean("macro_f1") { confusion.f1(of: $0) }, balanced, areas.overall],
      classes: classes, confusion: confusion.rows,
      notes: areas.usesSoftmax
        ? [.init("auc ranks the softmax of the scores, which are no probabilities", of: "auc")] : [])
  }
}
