// Linear interpolation of an image at any point, in any number of dimensions; outside the image everything is 0.

/// The types that coordinates and samples are computed in.
protocol SampledElement: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  /// The integer that a value within ±2^30 has.
  var integer: Int { get }
}

extension Float: SampledElement {
  @inline(__always) var integer: Int { Int(self) }
}
extension Double: SampledElement {
  @inline(__always) var integer: Int { Int(self) }
}

/// Working memory of one sample: the point, and the elements it is made of.
struct SampleCorners<Element> {
  /// One coordinate an axis, in elements.
  let coordinates: UnsafeMutablePointer<Element>
  let weights: UnsafeMutablePointer<Element>
  /// Positions in the image.
  let offsets: UnsafeMutablePointer<Int>
}

struct LinearSampler<Element: SampledElement>: Sendable {
  static var maximumRank: Int { 8 }

  let extents: [Int]

  private var capacity: Int { 1 << extents.count }
  var scratchBytes: Int { capacity * (8 + MemoryLayout<Element>.stride) + extents.count * MemoryLayout<Element>.stride }

  /// `scratch` has `scratchBytes` and is 8-byte aligned.
  func corners(in scratch: UnsafeMutableRawPointer) -> SampleCorners<Element> {
    let weights = (scratch + capacity * 8).assumingMemoryBound(to: Element.self)
    return SampleCorners(
      coordinates: weights + capacity, weights: weights, offsets: scratch.assumingMemoryBound(to: Int.self))
  }

  /// Turns the point into corners inside the image with their weights, and returns how many there are. Corners outside
  /// are left out: they are 0. A coordinate that is not a number lies outside.
  func place(_ corners: SampleCorners<Element>) -> Int {
    corners.offsets[0] = 0
    corners.weights[0] = 1
    var count = 1
    for axis in 0..<extents.count {
      let extent = extents[axis]
      let coordinate = corners.coordinates[axis]
      guard coordinate > -1, coordinate < Element(extent) else { return 0 }
      let floor = coordinate.rounded(.down)
      let (low, fraction) = (floor.integer, coordinate - floor)
      let takesLow = low >= 0
      let takesHigh = low &+ 1 < extent && fraction > 0
      for corner in 0..<count {
        let (offset, weight) = (corners.offsets[corner] &* extent, corners.weights[corner])
        corners.offsets[corner] = offset &+ (takesLow ? low : low &+ 1)
        corners.weights[corner] = weight * (takesLow ? 1 - fraction : fraction)
        if takesLow && takesHigh {
          corners.offsets[count &+ corner] = offset &+ low &+ 1
          corners.weights[count &+ corner] = weight * fraction
        }
      }
      if takesLow && takesHigh { count &*= 2 }
      if !takesLow && !takesHigh { return 0 }
    }
    return count
  }
}
