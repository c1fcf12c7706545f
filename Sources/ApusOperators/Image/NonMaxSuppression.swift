// NonMaxSuppression: the best boxes of every class that do not overlap a better one too much.
// https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html
// Versions: 10, 11 (defaults stated).

import ApusGraph
import ApusTensor

struct NonMaxSuppression: OperatorDefinition {
  let schema = OperatorSchema(
    "NonMaxSuppression", versions: [10, 11],
    inputs: [
      .required("boxes", "tensor(float)"), .required("scores", "tensor(float)"),
      .optional("max_output_boxes_per_class", "tensor(int64)"), .optional("iou_threshold", "tensor(float)"),
      .optional("score_threshold", "tensor(float)"),
    ],
    outputs: [.required("selected_indices", "tensor(int64)")],
    attributes: [.int("center_point_box", default: 0)],
    types: ["tensor(float)": [.float32], "tensor(int64)": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let format = try context.int("center_point_box")
    guard format == 0 || format == 1 else { throw .invalid("attribute center_point_box is \(format); expected 0 or 1") }
    let (boxes, scores) = (context.shape(0), context.shape(1))
    if let boxes, boxes.count != 3 || (boxes[2].known ?? 4) != 4 {
      throw .mismatch("boxes has the shape \(boxes); expected [batches, boxes, 4]")
    }
    if let scores, scores.count != 3 {
      throw .mismatch("scores has the shape \(scores); expected [batches, classes, boxes]")
    }
    if let boxes, let scores, scores[0].isSurelyDifferent(from: boxes[0]) || scores[2].isSurelyDifferent(from: boxes[1])
    {
      throw .mismatch("scores has the shape \(scores) and boxes has \(boxes): batches or boxes differ")
    }
    context.set(0, .int64, [.unknown, 3])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isCentered = try context.bool("center_point_box")
    return .eager { (inputs, eager) throws(OperatorError) in
      let (boxes, scores) = (try inputs.tensor(0), try inputs.tensor(1))
      guard boxes.rank == 3, scores.rank == 3, boxes.shape[2] == 4, boxes.shape[0] == scores.shape[0],
        boxes.shape[1] == scores.shape[2], let coordinates = boxes.elements(as: Float.self),
        let values = scores.elements(as: Float.self)
      else {
        throw .mismatch(
          "boxes has the shape \(boxes.shape) and scores \(scores.shape); expected [b, n, 4] and [b, c, n]")
      }
      let limit = inputs.optionalTensor(2)?.integers?.first ?? 0
      let search = Suppression(
        count: boxes.shape[1], limit: max(limit, 0),
        overlap: inputs.optionalTensor(3)?.elements(as: Float.self)?.first ?? 0,
        threshold: inputs.optionalTensor(4)?.elements(as: Float.self)?.first)
      let corners = isCentered ? Suppression.corners(ofCentered: coordinates) : Suppression.corners(coordinates)
      let classes = scores.shape[1]
      var selected: [Int] = []
      // Without boxes there may be any number of classes.
      for unit in 0..<(search.limit == 0 || search.count == 0 ? 0 : scores.shape[0] * classes) {
        try eager.check(allocating: 0)
        for box in search.select(
          corners[(unit / classes * search.count * 4)...].prefix(search.count * 4),
          values[(unit * search.count)...].prefix(search.count))
        {
          selected += [unit / classes, unit % classes, box]
        }
      }
      return [.tensor(Tensor(selected, shape: [selected.count / 3, 3]))]
    }
  }
}

/// The search in one class.
private struct Suppression {
  let count: Int
  let limit: Int
  let overlap: Float
  /// nil: every score will do.
  let threshold: Float?

  /// Boxes as [y1, x1, y2, x2] of any two opposite corners, ordered.
  static func corners(_ boxes: [Float]) -> [Float] {
    var result = boxes
    for box in stride(from: 0, to: boxes.count, by: 4) {
      for axis in box...box + 1 where boxes[axis] > boxes[axis + 2] {
        (result[axis], result[axis + 2]) = (boxes[axis + 2], boxes[axis])
      }
    }
    return result
  }

  /// Boxes as [x, y, width, height] around their centres.
  static func corners(ofCentered boxes: [Float]) -> [Float] {
    var result = boxes
    for box in stride(from: 0, to: boxes.count, by: 4) {
      for axis in 0...1 {
        let half = boxes[box + axis + 2] / 2
        result[box + axis] = boxes[box + axis] - half
        result[box + axis + 2] = boxes[box + axis] + half
      }
    }
    return result
  }

  /// The boxes to keep, best first; of equal scores the earlier box.
  func select(_ boxes: ArraySlice<Float>, _ scores: ArraySlice<Float>) -> [Int] {
    var heap = scores.withUnsafeBufferPointer { scores in
      var keys: [UInt64] = []
      keys.reserveCapacity(count)
      for box in 0..<count {
        if let threshold, !(scores[box] > threshold) { continue }
        keys.append(Suppression.key(scores[box], box))
      }
      return SmallestFirst(keys)
    }
    var kept: [Int] = []
    boxes.withUnsafeBufferPointer { boxes in
      while kept.count < limit, let key = heap.next() {
        let box = Int(key & 0xffff_ffff)
        if !kept.contains(where: { overlaps(boxes, box, $0) }) { kept.append(box) }
      }
    }
    return kept
  }

  /// Orders boxes: larger scores first, then smaller numbers. A score that is no number comes last.
  private static func key(_ score: Float, _ box: Int) -> UInt64 {
    // The order of the bits is that of magnitudes; both zeros are one.
    let bits = (score.isNaN ? -Float.infinity : score + 0).bitPattern
    let ascending = bits >> 31 == 0 ? bits | 1 << 31 : ~bits
    return UInt64(~ascending) << 32 | UInt64(UInt32(truncatingIfNeeded: box))
  }

  /// True if intersection over union of two boxes is above the threshold. Boxes without area overlap nothing.
  private func overlaps(_ boxes: UnsafeBufferPointer<Float>, _ a: Int, _ b: Int) -> Bool {
    let (p, q) = (a * 4, b * 4)
    let height = min(boxes[p + 2], boxes[q + 2]) - max(boxes[p], boxes[q])
    let width = min(boxes[p + 3], boxes[q + 3]) - max(boxes[p + 1], boxes[q + 1])
    guard height > 0, width > 0 else { return false }
    let intersection = height * width
    let first = (boxes[p + 2] - boxes[p]) * (boxes[p + 3] - boxes[p + 1])
    let second = (boxes[q + 2] - boxes[q]) * (boxes[q + 3] - boxes[q + 1])
    let union = first + second - intersection
    guard first > 0, second > 0, union > 0, intersection > 0 else { return false }
    return intersection / union > overlap
  }
}

/// Numbers in ascending order, of which the first ones only are asked for: a heap.
private struct SmallestFirst {
  private var heap: [UInt64]

  init(_ numbers: [UInt64]) {
    heap = numbers
    heap.withUnsafeMutableBufferPointer { heap in
      for place in stride(from: heap.count / 2 - 1, through: 0, by: -1) { SmallestFirst.sink(heap, place, heap.count) }
    }
  }

  /// The smallest of those that are left.
  mutating func next() -> UInt64? {
    guard let last = heap.popLast() else { return nil }
    if heap.isEmpty { return last }
    let first = heap[0]
    heap[0] = last
    heap.withUnsafeMutableBufferPointer { SmallestFirst.sink($0, 0, $0.count) }
    return first
  }

  /// Moves a number behind those below it that are smaller.
  private static func sink(_ heap: UnsafeMutableBufferPointer<UInt64>, _ start: Int, _ count: Int) {
    var place = start
    let number = heap[place]
    while true {
      var child = 2 &* place &+ 1
      if child >= count { break }
      if child &+ 1 < count, heap[child &+ 1] < heap[child] { child &+= 1 }
      if heap[child] >= number { break }
      heap[place] = heap[child]
      place = child
    }
    heap[place] = number
  }
}
