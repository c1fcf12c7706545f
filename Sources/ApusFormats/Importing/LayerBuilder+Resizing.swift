// Resizing to nearest elements as the frameworks count them.

import ApusGraph
import ApusTensor

/// How a framework finds the nearest element along an axis: the place, or its centre, times `step`, rounded down; all
/// of it in float32.
package struct NearestElements {
  /// What an axis has, and what it shall have.
  private let extent, count: Int
  private let step: Float
  /// What ONNX divides by.
  private let scale: Float
  private let isCentred: Bool

  /// - Parameter factor: what the framework was given, for which the step is one over it; nil: the quotient of extents.
  package init(extent: Int, count: Int, factor: Double? = nil, isCentred: Bool) {
    (self.extent, self.count, self.isCentred) = (extent, count, isCentred)
    step = factor.map { Float(1 / $0) } ?? Float(extent) / Float(count)
    scale = factor.map { Float($0) } ?? Float(count) / Float(extent)
  }

  /// Axes with more elements are left to ONNX's formula.
  fileprivate static let mostElements = 1 << 14

  fileprivate var elements: [Int] {
    (0..<count).map { bounded((Float($0) + (isCentred ? 0.5 : 0)) * step) }
  }

  /// Whether ONNX's operator takes the same elements, computed in float32 as onnxruntime does and in double.
  fileprivate var areThoseOfONNX: Bool {
    if count > Self.mostElements { return true }
    return elements.enumerated().allSatisfy { place, element in
      if !isCentred {
        return bounded(Float(place) / scale) == element && bounded(Float(Double(place) / Double(scale))) == element
      }
      let inFloat = (Float(place) + 0.5) / scale - 0.5
      let inDouble = Float((Double(place) + 0.5) / Double(scale) - 0.5)
      return bounded(inFloat + 0.5) == element && bounded(inDouble + 0.5) == element
    }
  }

  private func bounded(_ coordinate: Float) -> Int {
    guard coordinate > 0 else { return 0 }
    return min(Int(min(coordinate, Float(Int32.max)).rounded(.down)), extent - 1)
  }
}

extension LayerBuilder {
  /// The nearest elements along the axes from `first` on: what `resize` makes where ONNX's formula gives the same ones,
  /// else these elements themselves. At some pairs of extents (14 and 46) the formulas are rounded to different ones.
  package func resizedToNearest(
    _ value: ValueID, _ nearest: [NearestElements], from first: Int, resize: () throws(OperatorError) -> ValueID
  ) throws(OperatorError) -> ValueID {
    if nearest.allSatisfy(\.areThoseOfONNX) { return try resize() }
    var result = value
    for (offset, axis) in nearest.enumerated() {
      result = try emit("Gather", [result, integers(axis.elements)], [("axis", .int(first + offset))])
    }
    return result
  }
}
