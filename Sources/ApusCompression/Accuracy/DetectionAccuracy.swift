// How right a model is that finds objects: average precision of each class.
// COCO: https://cocodataset.org/#detection-eval. VOC: M. Everingham et al., IJCV 88 (2010), and the development kit.

/// A rectangle, in any unit that truth and detections share.
public struct BoundingBox: Sendable, Hashable {
  public var left, top, right, bottom: Double

  public init(left: Double, top: Double, right: Double, bottom: Double) {
    (self.left, self.top, self.right, self.bottom) = (left, top, right, bottom)
  }

  public var area: Double { max(0, right - left) * max(0, bottom - top) }

  func intersection(_ other: BoundingBox) -> Double {
    max(0, min(right, other.right) - max(left, other.left)) * max(0, min(bottom, other.bottom) - max(top, other.top))
  }

  /// The area of both together that is of both; 0 for boxes without area.
  public func overlap(_ other: BoundingBox) -> Double {
    let common = intersection(other)
    let union = area + other.area - common
    return union > 0 ? common / union : 0
  }
}

/// What a model found.
public struct Detection: Sendable, Hashable {
  public var box: BoundingBox
  public var classIndex: Int
  public var score: Double

  public init(box: BoundingBox, classIndex: Int, score: Double) {
    (self.box, self.classIndex, self.score) = (box, classIndex, score)
  }

  /// Greedy suppression in each class: the highest scores first, without those that overlap a kept one by more than
  /// `threshold`.
  public static func suppressed(_ detections: [Detection], overlap threshold: Double) -> [Detection] {
    var kept: [Int: [Detection]] = [:]
    return sorted(detections).filter { detection in
      let others = kept[detection.classIndex, default: []]
      if others.contains(where: { $0.box.overlap(detection.box) > threshold }) { return false }
      kept[detection.classIndex] = others + [detection]
      return true
    }
  }

  /// The highest scores first, equal ones in their order.
  static func sorted(_ detections: [Detection]) -> [Detection] {
    detections.indices.sorted {
      detections[$0].score == detections[$1].score ? $0 < $1 : detections[$0].score > detections[$1].score
    }.map { detections[$0] }
  }
}

/// An object that is there.
public struct TrueObject: Sendable, Hashable {
  public var box: BoundingBox
  public var classIndex: Int
  /// A crowd (COCO) or a difficult object (VOC): to find it or not counts nothing.
  public var isIgnored: Bool

  public init(box: BoundingBox, classIndex: Int, isIgnored: Bool = false) {
    (self.box, self.classIndex, self.isIgnored) = (box, classIndex, isIgnored)
  }
}

/// Matches what a model finds with what is there, picture by picture.
public struct DetectionAccuracy: Sendable {
  /// How detections are matched and their precision averaged.
  public enum Style: String, Sendable, CaseIterable {
    /// A detection takes the free object that it overlaps most; precision at 101 values of recall; 100 detections of a
    /// class a picture.
    case coco
    /// A detection that overlaps most an object that is taken is wrong; the area below the curve of precision.
    case voc
  }

  public let style: Style
  public private(set) var samples = 0
  private var classes: [Int: Record] = [:]

  /// The overlaps from which a detection is right.
  private static let thresholds = (0..<10).map { 0.5 + Double($0) * 0.05 }
  private static let mostDetections = 100

  /// The detections of a class in all pictures.
  private struct Record: Sendable {
    var objects = 0
    var scores: [Double] = []
    /// A bit for each threshold.
    var right: [UInt16] = []
    var ignored: [UInt16] = []
  }

  public init(style: Style = .coco) { self.style = style }

  /// Adds a picture. Scores must be numbers.
  public mutating func add(_ detections: [Detection], truth: [TrueObject]) throws(CompressionError) {
    for detection in detections where detection.score.isNaN || detection.classIndex < 0 {
      throw CompressionError(
        .invalidSample, "a detection of class \(detection.classIndex) with the score \(detection.score)")
    }
    samples += 1
    for index in Set(detections.map(\.classIndex) + truth.map(\.classIndex)) {
      let objects = truth.filter { $0.classIndex == index }
      var found = Detection.sorted(detections.filter { $0.classIndex == index })
      if style == .coco { found = Array(found.prefix(Self.mostDetections)) }
      var record = classes[index] ?? Record()
      record.objects += objects.count { !$0.isIgnored }
      let first = record.scores.count
      record.scores += found.map(\.score)
      record.right += [UInt16](repeating: 0, count: found.count)
      record.ignored += [UInt16](repeating: 0, count: found.count)
      for (bit, threshold) in Self.thresholds.enumerated() {
        let matches =
          style == .coco ? Self.cocoMatches(found, objects, threshold) : Self.vocMatches(found, objects, threshold)
        for (place, match) in matches.enumerated() {
          if match == .right { record.right[first + place] |= 1 << UInt16(bit) }
          if match == .ignored { record.ignored[first + place] |= 1 << UInt16(bit) }
        }
      }
      classes[index] = record
    }
  }

  private enum Match { case right, wrong, ignored }

  /// As COCO's evaluation does it: objects that count come before those that do not, and a crowd may be found again and
  /// again, its overlap being the part of the detection that lies in it.
  private static func cocoMatches(_ found: [Detection], _ objects: [TrueObject], _ threshold: Double) -> [Match] {
    var taken = [Bool](repeating: false, count: objects.count)
    let order = objects.indices.filter { !objects[$0].isIgnored } + objects.indices.filter { objects[$0].isIgnored }
    return found.map { detection in
      var (best, match) = (min(threshold, 1 - 1e-10), Int?.none)
      for index in order where !taken[index] || objects[index].isIgnored {
        if let match, !objects[match].isIgnored, objects[index].isIgnored { break }
        let overlap =
          objects[index].isIgnored
          ? (detection.box.area > 0 ? detection.box.intersection(objects[index].box) / detection.box.area : 0)
          : detection.box.overlap(objects[index].box)
        if overlap >= best { (best, match) = (overlap, index) }
      }
      guard let match else { return .wrong }
      taken[match] = true
      return objects[match].isIgnored ? .ignored : .right
    }
  }

  private static func vocMatches(_ found: [Detection], _ objects: [TrueObject], _ threshold: Double) -> [Match] {
    var taken = [Bool](repeating: false, count: objects.count)
    return found.map { detection in
      var (most, place) = (-1.0, 0)
      for (index, object) in objects.enumerated() {
        let overlap = detection.box.overlap(object.box)
        if overlap > most { (most, place) = (overlap, index) }
      }
      guard most >= threshold else { return .wrong }
      if objects[place].isIgnored { return .ignored }
      if taken[place] { return .wrong }
      taken[place] = true
      return .right
    }
  }

  /// The average precision of a class at a threshold; nil without objects.
  private func precision(_ record: Record, bit: Int) -> Double? {
    if record.objects == 0 { return nil }
    let order = record.scores.indices.sorted {
      record.scores[$0] == record.scores[$1] ? $0 < $1 : record.scores[$0] > record.scores[$1]
    }
    var (right, wrong) = (0, 0)
    var curve: [(recall: Double, precision: Double)] = []
    for index in order where record.ignored[index] >> UInt16(bit) & 1 == 0 {
      if record.right[index] >> UInt16(bit) & 1 == 1 { right += 1 } else { wrong += 1 }
      curve.append((Double(right) / Double(record.objects), Double(right) / Double(right + wrong)))
    }
    // The highest precision at this recall or a higher one.
    for index in curve.indices.dropLast().reversed() {
      curve[index].precision = max(curve[index].precision, curve[index + 1].precision)
    }
    switch style {
    case .coco:
      var (sum, place) = (0.0, 0)
      for step in 0...100 {
        // Rounded as in COCO's own evaluation, which takes multiples of 0.01, not quotients by 100.
        while place < curve.count, curve[place].recall < Double(step) * 0.01 { place += 1 }
        if place < curve.count { sum += curve[place].precision }
      }
      return sum / 101
    case .voc:
      var (area, last) = (0.0, 0.0)
      for point in curve {
        area += (point.recall - last) * point.precision
        last = point.recall
      }
      return area
    }
  }

  /// Means over the classes that have objects.
  public var report: AccuracyReport {
    var figures: [ClassFigures] = []
    var (at50, overall): ([Double], [Double]) = ([], [])
    for (index, record) in classes.sorted(by: { $0.key < $1.key }) {
      let values = Self.thresholds.indices.compactMap { precision(record, bit: $0) }
      let none = "there are no objects of the class"
      let mean = values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
      if let first = values.first {
        at50.append(first)
        overall.append(mean)
      }
      figures.append(
        ClassFigures(
          index: index, count: record.objects,
          metrics: [
            values.first.map { AccuracyMetric("ap50", $0) } ?? AccuracyMetric("ap50", undefined: none),
            values.isEmpty ? AccuracyMetric("ap50_95", undefined: none) : AccuracyMetric("ap50_95", mean),
          ]))
    }
    func mean(_ name: String, _ values: [Double]) -> AccuracyMetric {
      AccuracyMetric(name, values.reduce(0, +), of: Double(values.count), otherwise: "there are no true objects")
    }
    return AccuracyReport(
      samples: samples, metrics: [mean("map50", at50), mean("map50_95", overall)], classes: figures,
      notes: [.init("average precision as in \(style == .coco ? "COCO, at 101 values of recall" : "VOC, all points")")])
  }
}
