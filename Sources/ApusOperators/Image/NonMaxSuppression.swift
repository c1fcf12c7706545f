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
          selected.append(unit / classes)
          selected.append(unit % classes)
          selected.append(box)
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
    result.withUnsafeMutableBufferPointer { result in
      for box in stride(from: 0, to: result.count, by: 4) {
        for axis in box...box + 1 {
          let (first, second) = (result[axis], result[axis + 2])
          result[axis] = first > second ? second : first
          result[axis + 2] = first > second ? first : second
        }
      }
    }
    return result
  }

  /// Boxes as [x, y, width, height] around their centres.
  static func corners(ofCentered boxes: [Float]) -> [Float] {
    var result = boxes
    result.withUnsafeMutableBufferPointer { result in
      for box in stride(from: 0, to: result.count, by: 4) {
        for axis in box...box + 1 {
          let (center, half) = (result[axis], result[axis + 2] / 2)
          result[axis] = center - half
          result[axis + 2] = center + half
        }
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
    var fours = KeptBoxes(overlap: overlap)
    boxes.withUnsafeBufferPointer { boxes in
      while kept.count < limit, let key = heap.next() {
        let number = Int(key & 0xffff_ffff)
        let box = SIMD4(
          boxes[number &* 4], boxes[number &* 4 &+ 1], boxes[number &* 4 &+ 2], boxes[number &* 4 &+ 3])
        if fours.contains(overlapping: box) { continue }
        fours.append(box)
        kept.append(number)
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

}

/// Boxes [y1, x1, y2, x2], four at a time, axis by axis.
private struct KeptBoxes {
  /// Places that hold no box have no height, and overlap nothing.
  private struct Four {
    var top = SIMD4<Float>(repeating: .infinity)
    var left = SIMD4<Float>()
    var bottom = SIMD4<Float>(repeating: -.infinity)
    var right = SIMD4<Float>()
    var area = SIMD4<Float>()
  }

  let overlap: Float
  private var count = 0
  private var fours: [Four] = []

  init(overlap: Float) { self.overlap = overlap }

  mutating func append(_ box: SIMD4<Float>) {
    let (index, lane) = (count / 4, count % 4)
    if lane == 0 { fours.append(Four()) }
    var four = fours[index]
    (four.top[lane], four.left[lane], four.bottom[lane], four.right[lane]) = (box[0], box[1], box[2], box[3])
    four.area[lane] = KeptBoxes.area(box)
    fours[index] = four
    count += 1
  }

  private static func area(_ box: SIMD4<Float>) -> Float { (box[2] - box[0]) * (box[3] - box[1]) }

  /// True if intersection over union of a box and one of these is above the threshold. Boxes without area overlap
  /// nothing.
  func contains(overlapping box: SIMD4<Float>) -> Bool {
    let (top, left) = (SIMD4(repeating: box[0]), SIMD4(repeating: box[1]))
    let (bottom, right) = (SIMD4(repeating: box[2]), SIMD4(repeating: box[3]))
    let area = SIMD4(repeating: KeptBoxes.area(box))
    return fours.withUnsafeBufferPointer { fours in
      for four in fours {
        let height = KeptBoxes.smaller(bottom, four.bottom) - KeptBoxes.larger(top, four.top)
        let width = KeptBoxes.smaller(right, four.right) - KeptBoxes.larger(left, four.left)
        let meets = (height .> 0) .& (width .> 0)
        if meets == SIMDMask(repeating: false) { continue }
        let intersection = height * width
        let union = area + four.area - intersection
        let isReal = (area .> 0) .& (four.area .> 0) .& (union .> 0) .& (intersection .> 0)
        if (meets .& isReal .& (intersection / union .> overlap)) != SIMDMask(repeating: false) { return true }
      }
      return false
    }
  }

  /// Of numbers that are none, that of the first.
  @inline(__always) private static func smaller(_ a: SIMD4<Float>, _ b: SIMD4<Float>) -> SIMD4<Float> {
    a.replacing(with: b, where: b .< a)
  }

  @inline(__always) private static func larger(_ a: SIMD4<Float>, _ b: SIMD4<Float>) -> SIMD4<Float> {
    a.replacing(with: b, where: b .> a)
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
