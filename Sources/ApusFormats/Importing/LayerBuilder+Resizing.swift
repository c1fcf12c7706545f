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

  /// Of an axis whose extent is not known: what is said of it holds for all extents up to some thousands.
  package init(factor: Double, isCentred: Bool) {
    let extent = factor < 1 ? Self.mostElements : Int(Double(Self.mostElements) / factor)
    self.init(extent: extent, count: Int(Double(extent) * factor), factor: factor, isCentred: isCentred)
    self.factor = factor
  }

  /// Axes with more elements are left to ONNX's formula.
  fileprivate static let mostElements = 1 << 14
  /// The factor of an axis whose extent is not known.
  private var factor: Double?

  /// The elements, computed in the run if the extent is not known before.
  fileprivate func elements(
    along axis: Int, of value: ValueID, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    guard let factor else { return layers.integers(elements) }
    let extent = try layers.squeeze(
      layers.emit("Shape", [value], [("start", .int(axis)), ("end", .int(axis + 1))]), [0])
    let exact = try layers.cast(extent, to: .float64)
    let count = try layers.emit("Floor", [layers.emit("Mul", [exact, layers.scalar(factor, like: exact)])])
    let (none, one) = (layers.constant(Tensor(scalar: Int64(0))), layers.constant(Tensor(scalar: Int64(1))))
    var place = try layers.cast(layers.emit("Range", [none, layers.cast(count, to: .int64), one]), to: .float32)
    if isCentred { place = try layers.emit("Add", [place, layers.scalar(Float(0.5))]) }
    let coordinate = try layers.emit("Floor", [layers.emit("Mul", [place, layers.scalar(step)])])
    return try layers.emit("Min", [layers.cast(coordinate, to: .int64), layers.emit("Sub", [extent, one])])
  }

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
      let elements = try axis.elements(along: first + offset, of: value, self)
      result = try emit("Gather", [result, elements], [("axis", .int(first + offset))])
    }
    return result
  }
}
