// Figures of accuracy against their definitions, written out pair by pair, and where they are not defined.

import ApusCompression
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ClassificationAccuracyTests {
  /// Scores with many ties.
  private func scores(_ count: Int, _ classes: Int, seed: UInt64) -> (scores: [[Double]], labels: [Int]) {
    var random = TestRandom(seed: seed)
    let rows = (0..<count).map { _ in (0..<classes).map { _ in Double(random.below(6)) / 8 } }
    return (rows, (0..<count).map { _ in random.below(classes) })
  }

  @Test(arguments: [3, 6, 9]) func ranksAreThoseOfASortedList(_ classes: Int) throws {
    let (rows, labels) = scores(200, classes, seed: UInt64(classes))
    var accuracy = ClassificationAccuracy(ranks: [1, 2, 5])
    for (row, label) in zip(rows, labels) { try accuracy.add(scores: row, label: label) }
    for k in [1, 2, 5] {
      // A stable sort leaves equal scores in the order of their classes.
      let hits = zip(rows, labels).count { row, label in
        let order = row.indices.sorted { row[$0] == row[$1] ? $0 < $1 : row[$0] > row[$1] }
        return order.prefix(k).contains(label)
      }
      let expected = k < classes ? Double(hits) / 200 : nil
      #expect(accuracy.report["top\(k)"]?.value == expected, "top\(k) of \(classes)")
    }
  }

  @Test func areasCountPairs() throws {
    var random = TestRandom(seed: 3)
    for count in [2, 10, 75] {
      let scores = (0..<count).map { _ in Double(random.below(9)) }
      let positive = (0..<count).map { $0 == 0 || ($0 > 1 && random.below(3) == 0) }
      var wins = 0.0
      var pairs = 0.0
      for i in 0..<count where positive[i] {
        for j in 0..<count where !positive[j] {
          pairs += 1
          wins += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0
        }
      }
      let area = try #require(RankStatistics.areaUnderCurve(scores: scores, isPositive: positive))
      #expect(abs(area - wins / pairs) < 1e-14)
    }
    #expect(RankStatistics.areaUnderCurve(scores: [1, 2], isPositive: [true, true]) == nil)
    #expect(RankStatistics.areaUnderCurve(scores: [1, .nan], isPositive: [true, false]) == nil)
  }

  @Test func whatIsNotDefinedSaysWhy() throws {
    let none = ClassificationAccuracy().report
    for metric in none.metrics { #expect(metric.value == nil && !metric.reason.isEmpty, "\(metric.name)") }
    var accuracy = ClassificationAccuracy()
    try accuracy.add(scores: [0.1, 0.7, 0.2], label: 1)
    #expect(accuracy.report["top1"]?.value == 1)
    #expect(accuracy.report["auc"]?.value == nil)
    #expect(accuracy.report["top5"]?.reason.contains("3 classes") == true)
    #expect(accuracy.report.classes[0].metrics.allSatisfy { $0.value == nil })
  }

  @Test func whatIsNoNumberComesLast() throws {
    var accuracy = ClassificationAccuracy(ranks: [1, 2])
    try accuracy.add(scores: [.nan, 0.1, 0.3], label: 2)
    try accuracy.add(scores: [.nan, 0.1, 0.3], label: 0)
    #expect(accuracy.report["top1"]?.value == 0.5 && accuracy.report["top2"]?.value == 0.5)
    #expect(accuracy.report["auc"]?.reason == "a score is no number")
  }

  @Test func batchesAreRows() throws {
    let (rows, labels) = scores(12, 4, seed: 8)
    var one = ClassificationAccuracy()
    for (row, label) in zip(rows, labels) { try one.add(scores: row, label: label) }
    var all = ClassificationAccuracy()
    try all.add(scores: Tensor(rows.flatMap { $0.map(Float.init) }, shape: [12, 4]), labels: labels)
    #expect(one.report == all.report)
    #expect(throws: CompressionError.self) { try all.add(scores: Tensor([Float(1), 2]), labels: [0, 1, 0]) }
    #expect(throws: CompressionError.self) { try all.add(scores: [0.1, 0.2, 0.3, 0.4], label: 4) }
    #expect(throws: CompressionError.self) { try all.add(scores: [0.1, 0.2], label: 0) }
  }

  @Test func matricesGrow() {
    var small = ConfusionMatrix()
    var large = ConfusionMatrix(classCount: 300)
    var random = TestRandom(seed: 1)
    for _ in 0..<500 {
      let (truth, predicted) = (random.below(40), random.below(40))
      small.add(truth: truth, predicted: predicted)
      large.add(truth: truth, predicted: predicted)
    }
    #expect(large.rows == nil && small.rows?.joined().reduce(0, +) == 500)
    for index in 0..<small.classCount {
      #expect(small.f1(of: index) == large.f1(of: index) && small.iou(of: index) == large.iou(of: index))
      #expect(small.rows?[index].reduce(0, +) == small.count(of: index))
    }
  }

  @Test func logitsRankByTheirSoftmax() throws {
    // By the second logit alone the first sample would stand before the second.
    var accuracy = ClassificationAccuracy()
    try accuracy.add(scores: [9, 8], label: 0)
    try accuracy.add(scores: [1, 7], label: 1)
    #expect(accuracy.report["auc"]?.value == 1 && accuracy.report.notes.count == 1)
  }
}

@Suite struct SegmentationAccuracyTests {
  @Test func scoresAndClassesAgree() throws {
    var random = TestRandom(seed: 4)
    let (classes, height, width) = (4, 5, 6)
    let truth = (0..<height * width).map { _ in random.below(9) == 0 ? UInt8(255) : UInt8(random.below(classes)) }
    let scores = (0..<classes * height * width).map { _ in Float(random.below(50)) }
    let best = (0..<height * width).map { pixel in
      ClassificationAccuracy.largest((0..<classes).map { Double(scores[$0 * height * width + pixel]) })
    }
    let truthMap = Tensor(truth, shape: [height, width])
    var first = SegmentationAccuracy()
    try first.add(output: Tensor(scores, shape: [classes, height, width]), truth: truthMap)
    var second = SegmentationAccuracy(classCount: classes)
    try second.add(output: Tensor(best, shape: [height, width]), truth: truthMap)
    #expect(first.report == second.report)
    let ious = (0..<classes).compactMap { index -> Double? in
      let pixels = truth.indices.filter { truth[$0] != 255 }
      let both = pixels.count { Int(truth[$0]) == index && best[$0] == index }
      let either = pixels.count { Int(truth[$0]) == index || best[$0] == index }
      return either == 0 ? nil : Double(both) / Double(either)
    }
    let miou = try #require(first.report["miou"]?.value)
    #expect(abs(miou - ious.reduce(0, +) / Double(ious.count)) < 1e-14)
    #expect(throws: CompressionError.self) {
      try first.add(output: Tensor(scores, shape: [classes, width, height]), truth: truthMap)
    }
  }
}

@Suite struct DetectionAccuracyTests {
  private func box(_ left: Double, _ top: Double) -> BoundingBox {
    BoundingBox(left: left, top: top, right: left + 10, bottom: top + 10)
  }

  @Test func stylesDifferWhereAnObjectIsTaken() throws {
    // The second detection overlaps the first object most, and the other one enough.
    let objects = [box(0, 0), box(4, 0)].map { TrueObject(box: $0, classIndex: 0) }
    let found = [
      Detection(box: box(0, 0), classIndex: 0, score: 0.9), Detection(box: box(1.9, 0), classIndex: 0, score: 0.8),
    ]
    var coco = DetectionAccuracy(style: .coco)
    try coco.add(found, truth: objects)
    #expect(coco.report["map50"]?.value == 1)
    var voc = DetectionAccuracy(style: .voc)
    try voc.add(found, truth: objects)
    #expect(voc.report["map50"]?.value == 0.5)
  }

  @Test func precisionOfAKnownOrder() throws {
    // Right, wrong, right: precision 1 up to half of the recall, then 2/3.
    var accuracy = DetectionAccuracy(style: .coco)
    let objects = [box(0, 0), box(50, 0)].map { TrueObject(box: $0, classIndex: 2) }
    let places = [(0.0, 0.9), (100.0, 0.8), (50.0, 0.7)]
    try accuracy.add(places.map { Detection(box: box($0, 0), classIndex: 2, score: $1) }, truth: objects)
    let value = try #require(accuracy.report["map50"]?.value)
    #expect(abs(value - (51.0 + 50 * 2 / 3) / 101) < 1e-14)
    #expect(accuracy.report.classes.map(\.index) == [2])
  }

  @Test func crowdsAndClassesWithoutObjects() throws {
    var accuracy = DetectionAccuracy()
    #expect(accuracy.report["map50"]?.value == nil)
    let crowd = TrueObject(
      box: BoundingBox(left: 0, top: 0, right: 100, bottom: 100), classIndex: 0, isIgnored: true)
    try accuracy.add(
      [Detection(box: box(5, 5), classIndex: 0, score: 1), Detection(box: box(50, 50), classIndex: 0, score: 0.9)],
      truth: [crowd, TrueObject(box: box(200, 0), classIndex: 0)])
    #expect(accuracy.report["map50"]?.value == 0)
    try accuracy.add([Detection(box: box(200, 0), classIndex: 0, score: 0.5)], truth: [])
    try accuracy.add(
      [Detection(box: box(0, 0), classIndex: 1, score: 0.5)], truth: [TrueObject(box: box(0, 0), classIndex: 0)])
    #expect(accuracy.report.classes[1].metrics[0].value == nil)
    #expect(throws: CompressionError.self) {
      try accuracy.add([Detection(box: box(0, 0), classIndex: 0, score: .nan)], truth: [])
    }
  }

  @Test func suppressionKeepsTheBest() {
    let found = [(0.0, 0.5, 0), (1.0, 0.9, 0), (0.5, 0.8, 1), (30.0, 0.1, 0)].map {
      Detection(box: box($0, 0), classIndex: $2, score: $1)
    }
    #expect(Detection.suppressed(found, overlap: 0.5).map(\.score) == [0.9, 0.8, 0.1])
  }
}

@Suite struct OtherAccuracyTests {
  @Test func distances() {
    #expect(EditDistance.of(Array("kitten"), Array("sitting")) == 3)
    #expect(EditDistance.of([Int](), [1, 2]) == 2 && EditDistance.of([1, 2], []) == 2)
    var accuracy = TranscriptAccuracy()
    #expect(accuracy.report["wer"]?.value == nil)
    accuracy.add(output: "the  cat sat", truth: "the cat sat down")
    accuracy.add(output: "a", truth: "")
    #expect(accuracy.report["wer"]?.value == 0.5)
    #expect(accuracy.report["cer"]?.value == 6.0 / 16)
    #expect(accuracy.report["exact"]?.value == 0)
  }

  @Test func bestPaths() throws {
    let steps = [1, 1, 0, 1, 2, 2, 0, 0, 2]
    let scores = steps.flatMap { step in (0..<3).map { Float($0 == step ? 1 : 0) } }
    #expect(try CTCDecoder.bestPath(Tensor(scores, shape: [9, 3]), blank: 0) == [1, 1, 2, 2])
    #expect(throws: CompressionError.self) { try CTCDecoder.bestPath(Tensor(scores, shape: [9, 3]), blank: 3) }
  }

  @Test func regression() throws {
    var accuracy = RegressionAccuracy()
    #expect(accuracy.report["mae"]?.value == nil)
    try accuracy.add(output: [1], truth: [3])
    #expect(accuracy.report["r2"]?.reason == "there is one sample only")
    try accuracy.add(output: [2], truth: [1])
    #expect(accuracy.report["mae"]?.value == 1.5 && accuracy.report["r2"]?.value == 1 - 5.0 / 2)
    #expect(throws: CompressionError.self) { try accuracy.add(output: [2, 1], truth: [1, 1]) }
    try accuracy.add(output: [.infinity], truth: [1])
    #expect(accuracy.report["rmse"]?.value == nil)
  }

  @Test func correlations() throws {
    #expect(RankStatistics.averageRanks([3, 1, 3, 2]) == [3.5, 1, 3.5, 2])
    let straight = try #require(RankStatistics.spearman([1, 2, 3, 4], [10, 20, 25, 90]))
    #expect(abs(straight - 1) < 1e-15)
    #expect(RankStatistics.spearman([1, 1, 1], [1, 2, 3]) == nil)
    #expect(RankStatistics.pearson([1], [1]) == nil)
    var pairs = PairAccuracy()
    for vector in [[1, 0], [1, 0], [1, 0], [0, 1], [1, 0], [1, 1]] as [[Float]] {
      try pairs.add(output: Tensor(vector), truth: nil)
    }
    #expect(pairs.cosines.map { ($0 * 100).rounded() } == [100, 0, 71])
    #expect(pairs.report["spearman"]?.value == nil)
    #expect(Cosine.of([0, 0], [1, 2]) == nil)
  }
}
