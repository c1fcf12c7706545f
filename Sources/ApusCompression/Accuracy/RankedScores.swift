// The area under the receiver operating characteristic, and correlation of ranks: figures that need all scores at once.

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Ranks and what is made of them.
public enum RankStatistics {
  /// The area under the curve of true against false positives, which is the chance that a positive sample has a higher
  /// score than a negative one, ties counting half (J. A. Hanley, B. J. McNeil, Radiology 143, 1982). nil if there are
  /// not both positives and negatives, or a score is no number.
  public static func areaUnderCurve(scores: [Double], isPositive: [Bool]) -> Double? {
    precondition(scores.count == isPositive.count, "\(scores.count) scores for \(isPositive.count) samples")
    let positives = isPositive.count { $0 }
    let negatives = isPositive.count - positives
    guard positives > 0, negatives > 0, let ranks = averageRanks(scores) else { return nil }
    var sum = 0.0
    for (rank, positive) in zip(ranks, isPositive) where positive { sum += rank }
    let least = Double(positives) * Double(positives + 1) / 2
    return (sum - least) / (Double(positives) * Double(negatives))
  }

  /// The ranks from 1 on, of equal numbers their mean; nil if one is no number.
  public static func averageRanks(_ numbers: [Double]) -> [Double]? {
    if numbers.contains(where: \.isNaN) { return nil }
    let order = numbers.indices.sorted { numbers[$0] < numbers[$1] }
    var ranks = [Double](repeating: 0, count: numbers.count)
    var start = 0
    while start < order.count {
      var end = start + 1
      while end < order.count, numbers[order[end]] == numbers[order[start]] { end += 1 }
      for place in start..<end { ranks[order[place]] = Double(start + 1 + end) / 2 }
      start = end
    }
    return ranks
  }

  /// Pearson's coefficient of correlation; nil for fewer than two pairs, where one side does not vary, or with what is
  /// no finite number.
  public static func pearson(_ a: [Double], _ b: [Double]) -> Double? {
    precondition(a.count == b.count, "\(a.count) numbers against \(b.count)")
    guard a.count > 1, a.allSatisfy(\.isFinite), b.allSatisfy(\.isFinite) else { return nil }
    let (meanA, meanB) = (a.reduce(0, +) / Double(a.count), b.reduce(0, +) / Double(b.count))
    var (squareA, squareB, product) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      squareA += (x - meanA) * (x - meanA)
      squareB += (y - meanB) * (y - meanB)
      product += (x - meanA) * (y - meanB)
    }
    guard squareA > 0, squareB > 0 else { return nil }
    return min(1, max(-1, product / (squareA.squareRoot() * squareB.squareRoot())))
  }

  /// Spearman's coefficient: Pearson's of the ranks, of equal numbers their mean. nil as there.
  public static func spearman(_ a: [Double], _ b: [Double]) -> Double? {
    guard let ranksA = averageRanks(a), let ranksB = averageRanks(b) else { return nil }
    return pearson(ranksA, ranksB)
  }
}

/// The scores of samples with their classes, kept until the end.
struct RankedScores: Sendable {
  private var scores: [Double] = []
  private var labels: [Int] = []
  private var width = 0
  /// Why no area can be computed.
  private var refusal = ""

  /// Scores of more classes are not kept.
  static let mostClasses = 64
  /// Nor are more scores: half a gigabyte.
  static let mostScores = 1 << 26

  mutating func add(_ row: [Double], label: Int) {
    if !refusal.isEmpty { return }
    if width == 0 { width = row.count }
    if row.count > Self.mostClasses {
      refuse("the scores of \(row.count) classes are not kept; those of at most \(Self.mostClasses) are")
    } else if row.count != width {
      refuse("samples have \(width) and \(row.count) scores")
    } else if row.contains(where: \.isNaN) {
      refuse("a score is no number")
    } else if scores.count + row.count > Self.mostScores {
      refuse("more than \(Self.mostScores) scores would have to be kept")
    } else {
      scores += row
      labels.append(label)
    }
  }

  /// From now on there is no area, for `reason`.
  mutating func refuse(_ reason: String) {
    if refusal.isEmpty { (refusal, scores, labels) = (reason, [], []) }
  }

  /// What the samples come to.
  struct Areas {
    var overall: AccuracyMetric
    /// By class, one against the rest; empty for two classes and fewer.
    var classes: [AccuracyMetric] = []
    var usesSoftmax = false
  }

  /// Of one score it is that of class 1; of two the second; of more the mean over all classes, one against the rest.
  func areas() -> Areas {
    if !refusal.isEmpty { return Areas(overall: AccuracyMetric("auc", undefined: refusal)) }
    if labels.isEmpty { return Areas(overall: AccuracyMetric("auc", undefined: "there are no scores")) }
    let usesSoftmax = width > 1 && scores.contains { $0 < 0 || $0 > 1 }
    let scores = usesSoftmax ? softmax() : self.scores
    if width <= 2 {
      return Areas(overall: area(scores, column: width - 1, of: 1), usesSoftmax: usesSoftmax)
    }
    let classes = (0..<width).map { area(scores, column: $0, of: $0) }
    let missing = classes.indices.filter { classes[$0].value == nil }
    var areas = Areas(overall: AccuracyMetric("auc", 0), classes: classes, usesSoftmax: usesSoftmax)
    areas.overall =
      missing.isEmpty
      ? AccuracyMetric("auc", classes.compactMap(\.value).reduce(0, +) / Double(width))
      : AccuracyMetric(
        "auc", undefined: "the mean over classes needs each; for class \(missing[0]) \(classes[missing[0]].reason)")
    return areas
  }

  private func area(_ scores: [Double], column: Int, of positive: Int) -> AccuracyMetric {
    let isPositive = labels.map { $0 == positive }
    let count = isPositive.count { $0 }
    if count == 0 { return AccuracyMetric("auc", undefined: "there are no samples") }
    if count == labels.count { return AccuracyMetric("auc", undefined: "there are no samples of other classes") }
    let values = labels.indices.map { scores[$0 * width + column] }
    return RankStatistics.areaUnderCurve(scores: values, isPositive: isPositive).map { AccuracyMetric("auc", $0) }
      ?? AccuracyMetric("auc", undefined: "a score is no number")
  }

  /// The probabilities of logits, row by row.
  private func softmax() -> [Double] {
    var result = scores
    for start in stride(from: 0, to: scores.count, by: width) {
      let most = scores[start..<start + width].max() ?? 0
      // Of infinite logits the largest take all.
      let weights = scores[start..<start + width].map { $0 == most ? 1 : exp($0 - most) }
      let sum = weights.reduce(0, +)
      for (place, weight) in weights.enumerated() { result[start + place] = weight / sum }
    }
    return result
  }
}
