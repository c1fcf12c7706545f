// Counts of true and predicted classes, and what follows from them.

/// How often each class was predicted as which.
public struct ConfusionMatrix: Sendable, Hashable {
  /// Classes with a number of their own so far.
  public private(set) var classCount: Int
  public private(set) var total = 0
  private var right: [Int]
  private var truths: [Int]
  private var predictions: [Int]
  /// Row-major, the true class outermost; empty beyond `largestMatrix` classes.
  private var cells: [Int]

  /// The most classes of which all pairs are counted.
  static let largestMatrix = 256

  /// - Parameter classCount: grows where a class with a higher number comes.
  public init(classCount: Int = 0) {
    self.classCount = 0
    (right, truths, predictions, cells) = ([], [], [], [])
    grow(to: classCount)
  }

  /// All pairs: rows by true class, columns by predicted; nil if there are more than 256 classes.
  public var rows: [[Int]]? {
    if classCount > Self.largestMatrix { return nil }
    return (0..<classCount).map { row in Array(cells[row * classCount..<(row + 1) * classCount]) }
  }

  private mutating func grow(to count: Int) {
    if count <= classCount { return }
    let zeros = [Int](repeating: 0, count: count - classCount)
    (right, truths, predictions) = (right + zeros, truths + zeros, predictions + zeros)
    let old = rows ?? []
    classCount = count
    cells = []
    if count <= Self.largestMatrix {
      cells = [Int](repeating: 0, count: count * count)
      for (row, counts) in old.enumerated() {
        cells.replaceSubrange(row * count..<row * count + counts.count, with: counts)
      }
    }
  }

  /// Counts a sample. Both numbers are 0 or more.
  public mutating func add(truth: Int, predicted: Int) {
    precondition(truth >= 0 && predicted >= 0, "a class has a number below 0")
    if max(truth, predicted) >= classCount { grow(to: max(truth, predicted) + 1) }
    total += 1
    truths[truth] += 1
    predictions[predicted] += 1
    if truth == predicted { right[truth] += 1 }
    if !cells.isEmpty { cells[truth * classCount + predicted] += 1 }
  }

  /// Counts the samples of `other` too.
  public mutating func add(_ other: ConfusionMatrix) {
    grow(to: other.classCount)
    total += other.total
    for index in 0..<other.classCount {
      right[index] += other.right[index]
      truths[index] += other.truths[index]
      predictions[index] += other.predictions[index]
    }
    if cells.isEmpty { return }
    for (truth, counts) in (other.rows ?? []).enumerated() {
      for (predicted, count) in counts.enumerated() { cells[truth * classCount + predicted] += count }
    }
  }

  /// Samples of a class.
  public func count(of index: Int) -> Int { truths[index] }
  /// Samples that were predicted rightly.
  public var rightCount: Int { right.reduce(0, +) }

  /// Of the samples predicted as the class, the share that is of it.
  public func precision(of index: Int) -> AccuracyMetric {
    AccuracyMetric(
      "precision", Double(right[index]), of: Double(predictions[index]), otherwise: "the class was never predicted")
  }

  /// Of the samples of the class, the share predicted as it.
  public func recall(of index: Int) -> AccuracyMetric {
    AccuracyMetric(
      "recall", Double(right[index]), of: Double(truths[index]), otherwise: "there are no samples of the class")
  }

  /// 2 · right / (samples + predictions): the harmonic mean of precision and recall where both are defined.
  public func f1(of index: Int) -> AccuracyMetric {
    AccuracyMetric(
      "f1", Double(2 * right[index]), of: Double(truths[index] + predictions[index]),
      otherwise: "there are no samples of the class, and none was predicted")
  }

  /// right / (samples + predictions − right): intersection over union of what is and what was said to be of the class.
  public func iou(of index: Int) -> AccuracyMetric {
    AccuracyMetric(
      "iou", Double(right[index]), of: Double(truths[index] + predictions[index] - right[index]),
      otherwise: "there are no samples of the class, and none was predicted")
  }

  /// The mean over the classes for which the figure is defined.
  func mean(_ name: String, _ figure: (Int) -> AccuracyMetric) -> AccuracyMetric {
    let values = (0..<classCount).compactMap { figure($0).value }
    return AccuracyMetric(
      name, values.reduce(0, +), of: Double(values.count), otherwise: "there are no samples")
  }
}
