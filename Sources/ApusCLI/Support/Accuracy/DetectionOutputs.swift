// From the outputs of a detector to boxes with classes and scores.

import Apus
import ApusFormats

/// Reads boxes as the options say that they lie.
struct DetectionOutputs {
  let arguments: AccuracyArguments
  /// The model's input in pixels; 1 where boxes are parts of it.
  let width: Double
  let height: Double

  /// - Parameter input: that which takes the picture; its size is asked for where boxes are in pixels.
  init(_ arguments: AccuracyArguments, input: ValueDescription?) throws {
    self.arguments = arguments
    guard arguments.boxUnits == .pixel else {
      (width, height) = (1, 1)
      return
    }
    let dims = (input?.dimensions ?? []).map { Int($0) }
    let isChannelsLast = dims.count == 4 && [1, 3, 4].contains(dims[3]) && ![1, 3, 4].contains(dims[1])
    let size = isChannelsLast ? dims[1...2] : dims.suffix(2)
    guard size.count == 2, let height = size.first ?? nil, let width = size.last ?? nil, height > 0, width > 0 else {
      throw InputError(
        "--box-units pixel: the input '\(input?.name ?? "")' (\(input?.type ?? "none")) has no known height and width; "
          + "give them by --shape or --dim")
    }
    (self.width, self.height) = (Double(width), Double(height))
  }

  /// What a sample's outputs say; each without an axis for the batch.
  func detections(scores: Tensor, boxes: Tensor, classes: Tensor?, sample: String) throws -> [Detection] {
    let isOne = arguments.boxes == arguments.scores
    func fail() -> InputError {
      InputError(
        "sample '\(sample.printable())': scores \(scores.dataType)\(scores.shape) and boxes \(boxes.dataType)"
          + "\(boxes.shape)" + (classes.map { ", classes \($0.dataType)\($0.shape)" } ?? "")
          + "; expected boxes [count, 4] and scores [count, classes], or both in one [count, 4 + classes]")
    }
    if isOne {
      guard boxes.rank == 2 else { throw fail() }
      // The longer axis is that of boxes.
      let (rows, columns) = (boxes.shape[0], boxes.shape[1])
      let isTurned = rows < columns
      let (count, features) = isTurned ? (columns, rows) : (rows, columns)
      guard features > 4 else { throw fail() }
      let numbers = boxes.doubles
      return self.detections(
        count: count, classes: features - 4, { numbers[isTurned ? $1 * columns + $0 : $0 * columns + $1] },
        { numbers[isTurned ? ($1 + 4) * columns + $0 : $0 * columns + $1 + 4] })
    }
    guard boxes.count % 4 == 0, boxes.count == 0 || boxes.shape.last == 4 else { throw fail() }
    let (count, corners, numbers) = (boxes.count / 4, boxes.doubles, scores.doubles)
    if let classes {
      guard let indices = classes.integers ?? Self.whole(classes.doubles), indices.count == count,
        numbers.count == count
      else { throw fail() }
      let found = (0..<count).map { row in
        Detection(box: box { corners[row * 4 + $0] }, classIndex: indices[row], score: numbers[row])
      }
      return finished(found.filter { $0.score >= arguments.leastScore && $0.classIndex >= 0 })
    }
    guard count == 0 || numbers.count % count == 0, numbers.count >= count else { throw fail() }
    let width = count == 0 ? 1 : numbers.count / count
    return detections(count: count, classes: width, { corners[$0 * 4 + $1] }, { numbers[$0 * width + $1] })
  }

  private static func whole(_ numbers: [Double]) -> [Int]? {
    numbers.allSatisfy { $0 == $0.rounded() && abs($0) < 1e9 } ? numbers.map { Int($0) } : nil
  }

  private func detections(
    count: Int, classes: Int, _ corner: (_ box: Int, _ number: Int) -> Double,
    _ score: (_ box: Int, _ index: Int) -> Double
  ) -> [Detection] {
    var found: [Detection] = []
    for row in 0..<count {
      for index in 0..<classes where index != arguments.background {
        let value = score(row, index)
        // What is no number is no detection.
        guard value >= arguments.leastScore else { continue }
        let isBehind = arguments.background.map { index > $0 } ?? false
        found.append(
          Detection(box: box { corner(row, $0) }, classIndex: isBehind ? index - 1 : index, score: value))
      }
    }
    return finished(found)
  }

  private func finished(_ found: [Detection]) -> [Detection] {
    arguments.nms.map { Detection.suppressed(found, overlap: $0) } ?? found
  }

  /// Four numbers as parts of the picture.
  private func box(_ number: (Int) -> Double) -> BoundingBox {
    let (a, b, c, d) = (number(0), number(1), number(2), number(3))
    return switch arguments.boxFormat {
    case .xyxy: BoundingBox(left: a / width, top: b / height, right: c / width, bottom: d / height)
    case .yxyx: BoundingBox(left: b / width, top: a / height, right: d / width, bottom: c / height)
    case .xywh: BoundingBox(left: a / width, top: b / height, right: (a + c) / width, bottom: (b + d) / height)
    case .cxcywh:
      BoundingBox(
        left: (a - c / 2) / width, top: (b - d / 2) / height, right: (a + c / 2) / width, bottom: (b + d / 2) / height)
    }
  }

  /// The objects of a label: boxes of a file of COCO, or rows [class, 4 numbers as --box-format says].
  func objects(_ label: SampleLabel, sample: String) throws -> [TrueObject] {
    switch label {
    case .objects(let objects): return objects
    case .tensor(let rows) where rows.count % 5 == 0 && rows.dataType != .string:
      let numbers = rows.doubles
      return try stride(from: 0, to: numbers.count, by: 5).compactMap { start in
        // Rows that fill up an array of pictures with other numbers of objects.
        if numbers[start] < 0 { return nil }
        guard let index = Int(exactly: numbers[start]) else {
          throw InputError("sample '\(sample.printable())': an object of class \(numbers[start]); expected 0, 1, …")
        }
        return TrueObject(box: box { numbers[start + 1 + $0] }, classIndex: index)
      }
    default:
      throw InputError(
        "sample '\(sample.printable())': expected boxes as labels: --labels FILE.json as COCO has it, or rows of a "
          + "class and 4 numbers")
    }
  }
}
