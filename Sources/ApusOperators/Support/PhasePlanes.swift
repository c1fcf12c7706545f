// Planar float32 images for kernels on whole vectors of neighbours: planes are copied with their padding and cut into
// phases by the strides of their windows, so that a tap of all windows is one run of elements.

import ApusGraph
import ApusTensor
import CApusKernels

/// The windows of planes of up to three axes, band by band of the first axis, and where their taps lie in the copy of
/// what a band needs.
///
/// Results are computed in the pitch of a phase, so between rows of them there are elements that mean nothing:
/// `flatCount` of them for a band, which `join` takes the rows from.
struct PhasePlanes: Sendable {
  /// What windows are along one axis, in coordinates of the input.
  struct Axis: Sendable {
    var input: Int
    var output: Int
    /// The coordinate of the first tap of window 0.
    var start: Int
    var stride: Int
    /// From the first tap to the last.
    var reach: Int
  }

  private let axes: [Axis]
  /// The axis that is cut into bands.
  private let bandAxis: Int
  let bandLength: Int
  let bands: Int
  /// Extents of a phase, and its elements.
  private let copied: [Int]
  private let phaseCount: Int
  /// Elements from one copied plane to the next, with the slack that kernels want behind each.
  let planeStride: Int
  private let fill: Float

  /// Bytes of a plane, and of all planes of a part, that caches hold beside what is made of them.
  private static let planeBytes = 1 << 15
  private static let partBytes = 1 << 18
  /// No part of the work has more memory than this.
  private static let limit = 1 << 26

  /// `planes` copies are in memory together. nil for more than three axes, for windows over nothing, and where a band
  /// of one row takes too much memory.
  init?(_ given: [Axis], planes: Int, fill: Float) {
    guard (1...3).contains(given.count), given.allSatisfy({ $0.output > 0 && $0.input > 0 }),
      given.allSatisfy({ $0.reach < PhasePlanes.limit && $0.stride < PhasePlanes.limit })
    else { return nil }
    let missing = 3 - given.count
    let axes = [Axis](repeating: Axis(input: 1, output: 1, start: 0, stride: 1, reach: 0), count: missing) + given
    (self.axes, bandAxis) = (axes, missing)
    let first = given[0]
    var length = first.output
    func bytes(_ length: Int) -> Int? { PhasePlanes.extents(axes, missing, length)?.planeBytes }
    func isTooLarge(_ length: Int) -> Bool {
      bytes(length).map { $0 > PhasePlanes.planeBytes || $0 > PhasePlanes.partBytes / max(planes, 1) } ?? true
    }
    // Shorter bands than windows copy more than they use.
    while length > 1, isTooLarge(length), length &* first.stride > 2 &* first.reach { length = (length + 1) / 2 }
    while length > 1, (bytes(length) ?? Int.max) > PhasePlanes.limit / max(planes, 1) { length = (length + 1) / 2 }
    bands = (first.output + length - 1) / length
    bandLength = (first.output + bands - 1) / bands
    guard let shape = PhasePlanes.extents(axes, bandAxis, bandLength), planes > 0,
      shape.planeBytes <= PhasePlanes.limit / planes
    else { return nil }
    copied = shape.copied
    phaseCount = copied[0] * copied[1] * copied[2]
    planeStride = aligned(shape.planeBytes) / 4
    self.fill = fill
  }

  /// The extents of a phase for a band of `length` outputs; nil if no memory holds it.
  private static func extents(_ axes: [Axis], _ bandAxis: Int, _ length: Int) -> (copied: [Int], planeBytes: Int)? {
    var copied: [Int] = []
    var bytes = 4
    for (index, axis) in axes.enumerated() {
      let outputs = index == bandAxis ? length : axis.output
      let needed = (outputs &- 1).multipliedReportingOverflow(by: axis.stride)
      if needed.overflow || needed.partialValue > limit { return nil }
      let extent = (needed.partialValue &+ axis.reach) / axis.stride &+ 1
      copied.append(extent)
      for factor in [extent, axis.stride] {
        let product = bytes.multipliedReportingOverflow(by: factor)
        if product.overflow || product.partialValue > limit { return nil }
        bytes = product.partialValue
      }
    }
    return (copied, bytes &+ Int(APUS_PLANE_SLACK) &* 4)
  }

  /// Where the tap with these distances from the first one of its window lies, one for each given axis.
  func offset(_ distances: [Int]) -> Int {
    var (phase, position) = (0, 0)
    for axis in 0..<3 {
      let distance = axis < bandAxis ? 0 : distances[axis - bandAxis]
      phase = phase * axes[axis].stride + distance % axes[axis].stride
      position = position * copied[axis] + distance / axes[axis].stride
    }
    return phase * phaseCount + position
  }

  /// Where the phase with this remainder along the last axis starts, and 0 along the others.
  func phaseOffset(last remainder: Int) -> Int { remainder * phaseCount }

  /// The outputs of a band along the first axis.
  func outputs(_ band: Int) -> Range<Int> {
    let first = band &* bandLength
    return first..<min(first &+ bandLength, axes[bandAxis].output)
  }

  private func extent(_ axis: Int, _ count: Int) -> Int { axis == bandAxis ? count : axes[axis].output }

  /// The elements that are computed for a band of `count` outputs.
  func flatCount(_ count: Int) -> Int {
    ((extent(0, count) &- 1) &* copied[1] &+ extent(1, count) &- 1) &* copied[2] &+ extent(2, count)
  }

  /// Floats that the results of a band take, with slack.
  var flatStride: Int { (flatCount(bandLength) &+ Int(APUS_PLANE_SLACK) &+ 15) & ~15 }

  /// Elements of the output for each output of the first axis.
  var rowOutputs: Int { (bandAxis &+ 1..<3).reduce(1) { $0 &* axes[$1].output } }

  /// Copies what a band needs of the plane at `x`. True if that has a NaN.
  @inline(__always) @discardableResult
  func split(_ band: Int, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) -> Bool {
    let shift = band &* bandLength &* axes[bandAxis].stride
    var arguments = apus_plane_split_args(
      x: x, extents: (axes[0].input, axes[1].input, axes[2].input),
      starts: (axes[0].start, axes[1].start, axes[2].start),
      strides: (axes[0].stride, axes[1].stride, axes[2].stride), copied: (copied[0], copied[1], copied[2]), fill: fill)
    switch bandAxis {
    case 0: arguments.starts.0 &+= shift
    case 1: arguments.starts.1 &+= shift
    default: arguments.starts.2 &+= shift
    }
    return apus_kernels().pointee.plane_split_f32(&arguments, y)
  }

  /// Takes the rows of a band out of `flat`, to the dense plane at `y`.
  @inline(__always)
  func join(_ band: Int, _ flat: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    let outputs = outputs(band)
    let width = extent(2, outputs.count)
    var arguments = apus_plane_join_args(
      x: flat, ld: 0, phases: 1, first: 0, rows: (extent(0, outputs.count), extent(1, outputs.count)),
      x_rows: (copied[1] &* copied[2], copied[2]), y_rows: (axes[1].output &* width, width), width: width)
    apus_kernels().pointee.plane_join_f32(&arguments, y + outputs.lowerBound &* rowOutputs)
  }

  /// Elements from one slice of `flat` to the next, and from one row to the next.
  var pitches: (slice: Int, row: Int) { (copied[1] &* copied[2], copied[2]) }
}

extension PhasePlanes {
  /// The windows of a convolution or a pool over planes of an input.
  init?(_ geometry: WindowGeometry, planes: Int, fill: Float) {
    self.init(PhasePlanes.axes(geometry), planes: planes, fill: fill)
  }

  static func axes(_ geometry: WindowGeometry) -> [Axis] {
    (0..<geometry.rank).map { axis in
      let reach = (geometry.kernel[axis] &- 1).multipliedReportingOverflow(by: geometry.dilations[axis])
      return Axis(
        input: geometry.input[axis], output: geometry.output[axis], start: -geometry.padBegin[axis],
        stride: geometry.strides[axis], reach: reach.overflow ? Int.max : reach.partialValue)
    }
  }

  /// Where the taps of a window lie, the last axis fastest. `count`: axes of these planes; those of the windows are the
  /// last ones.
  func taps(_ geometry: WindowGeometry, in count: Int? = nil) -> [Int] {
    let added = (count ?? geometry.rank) - geometry.rank
    return (0..<geometry.tapCount).map { tap in
      var rest = tap
      var distances = [Int](repeating: 0, count: added + geometry.rank)
      for axis in stride(from: geometry.rank - 1, through: 0, by: -1) {
        distances[added + axis] = rest % geometry.kernel[axis] * geometry.dilations[axis]
        rest /= geometry.kernel[axis]
      }
      return offset(distances)
    }
  }

  /// Parts of items that take `floats` of scratch memory each.
  static func partition(_ count: Int, of cost: Cost, floats: Int) -> Partition {
    Partition(
      count, of: cost, maximumParts: max(1, min(Partition.maximumParts, (16 << 20) / max(floats &* 4, 1))))
  }
}
