// The float32 transposed convolution as sums over planes.

import ApusGraph
import ApusTensor
import CApusKernels

/// X and Y are planar.
struct TransposedPlanes: Sendable {
  private let shape: TransposedConvolution
  private let weights: TransposedPhases
  private let planes: PhasePlanes
  private let extents: [TransposedExtent]
  /// By phase, where its taps lie.
  private let offsets: [[Int]]
  private let partition: Partition
  private let partFloats: Int
  /// Floats of a part for the bias of all columns.
  private let biasCount: Int

  /// nil where the kernels do not have it.
  init?(_ shape: TransposedConvolution, _ weights: TransposedPhases) {
    (self.shape, self.weights) = (shape, weights)
    let geometry = shape.geometry
    guard shape.batch > 0, geometry.outputCount > 0, geometry.inputCount > 0,
      let extents = TransposedExtent.all(geometry)
    else { return nil }
    self.extents = extents
    let first = 3 - geometry.rank
    let reach = weights.axes.map { $0.lags.last ?? 0 }
    let axes = (0..<geometry.rank).map { axis in
      let elements = extents[first + axis].elements
      return PhasePlanes.Axis(
        input: geometry.output[axis], output: elements.count, start: elements.lowerBound - reach[first + axis],
        stride: 1, reach: reach[first + axis])
    }
    guard let planes = PhasePlanes(axes, planes: weights.channels + weights.columns, fill: 0) else { return nil }
    self.planes = planes
    offsets = weights.phases.map { phase in
      phase.taps.flatMap { tap in
        weights.last.lags.flatMap { lag in
          (0..<weights.channels).map { channel in
            let distances = [reach[0] - tap.lags.0, reach[1] - tap.lags.1, reach[2] - lag]
            return channel * planes.planeStride + planes.offset(Array(distances[first...]))
          }
        }
      }
    }
    biasCount = (weights.columns + 15) & ~15
    partFloats = weights.channels * planes.planeStride + weights.columns * planes.flatStride + biasCount
    let products: Int = planes.flatStride * offsets.reduce(0) { $0 + $1.count } * weights.columns
    let copied: Int = weights.channels * planes.planeStride + weights.phases.count * weights.columns * planes.flatStride
    let band = Cost(operations: 2) * products + .light * copied
    partition = PhasePlanes.partition(shape.batch * weights.groups * planes.bands, of: band, floats: partFloats)
  }

  /// Inputs X, packed weights and, with `hasBias`, B.
  func step(hasBias: Bool) -> Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts &* partFloats &* 4) { run, part in
      let scratch = run.scratch.assumingMemoryBound(to: Float.self) + part &* partFloats
      for unit in partition.range(part) {
        let (group, band) = unit.quotientAndRemainder(dividingBy: planes.bands)
        self.run(
          group, band, run.input(0), run.input(1), hasBias ? run.input(2) : nil, run.output(0), scratch)
      }
    }.named("planes \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: shape.operations))
  }

  /// One band of a group; `group` counts through all images.
  private func run(
    _ group: Int, _ band: Int, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?,
    _ y: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>
  ) {
    let (channels, outputs) = (weights.channels, weights.outputs)
    let (area, outputArea) = (shape.geometry.outputCount, shape.geometry.inputCount)
    let ofImage = group % weights.groups
    let flat = scratch + channels &* planes.planeStride
    for channel in 0..<channels {
      planes.split(band, x + (group &* channels &+ channel) &* area, scratch + channel &* planes.planeStride)
    }
    let columnBias = scratch + (partFloats &- biasCount)
    if let bias {
      for column in 0..<weights.columns { columnBias[column] = bias[ofImage &* outputs &+ column % outputs] }
    }
    let count = planes.flatCount(planes.outputs(band).count)
    for index in weights.phases.indices {
      let phase = weights.phases[index]
      offsets[index].withUnsafeBufferPointer { taps in
        var arguments = apus_plane_sums_args(
          x: scratch, offsets: taps.baseAddress, taps: taps.count,
          weights: w + (phase.blocks[0].start &+ ofImage &* phase.blocks[0].groupCount), weights_ld: weights.columns,
          outputs: weights.columns, bias: bias == nil ? nil : UnsafePointer(columnBias), y: flat,
          y_ld: planes.flatStride)
        apus_kernels().pointee.plane_sums_f32(&arguments, count)
      }
      for output in 0..<outputs {
        let plane = group &* outputs &+ output
        join(phase, band, flat + output &* planes.flatStride, y + plane &* outputArea)
      }
    }
  }

  /// The outputs along the first axis that a band has elements of, in all phases.
  private func firstOutputs(_ band: Int) -> Range<Int> {
    let axis = 3 - shape.geometry.rank
    let (extent, stride) = (extents[axis], weights.axes[axis].stride)
    let elements = planes.outputs(band)
    let first = (elements.lowerBound &+ extent.elements.lowerBound) &* stride &+ extent.origin
    let end = (elements.upperBound &+ extent.elements.lowerBound) &* stride &+ extent.origin
    return max(first, 0)..<min(end, shape.geometry.input[0])
  }

  /// Puts the elements of a band of one output into the rows of a phase.
  private func join(
    _ phase: TransposedPhases.Phase, _ band: Int, _ flat: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>
  ) {
    let rank = shape.geometry.rank
    let bandFirst = planes.outputs(band).lowerBound
    /// The first output along an axis that this band has, the rows of them, and the row of `flat` that it is.
    func rows(_ axis: Int) -> (first: Int, count: Int, from: Int) {
      guard axis >= 3 - rank else { return (0, 1, 0) }
      let (extent, stride) = (extents[axis], weights.axes[axis].stride)
      let base = extent.elements.lowerBound
      var (first, count) = extent.outputs(phase.remainders[axis])
      if axis == 3 - rank {
        let range = firstOutputs(band)
        let skipped = first >= range.lowerBound ? 0 : (range.lowerBound &- first &+ stride &- 1) / stride
        first &+= skipped &* stride
        count = first >= range.upperBound ? 0 : (range.upperBound &- 1 &- first) / stride &+ 1
        return (first, count, extent.element(first) &- base &- bandFirst)
      }
      return (first, count, extent.element(first) &- base)
    }
    let (a, b) = (rows(0), rows(1))
    if a.count <= 0 || b.count <= 0 { return }
    let height = rank >= 2 ? shape.geometry.input[rank - 2] : 1
    let width = shape.geometry.input[rank - 1]
    let columns = rank == 1 ? firstOutputs(band) : 0..<width
    // Element j of a row is output columns.lowerBound + j.
    let element = extents[2].elements.lowerBound &+ (rank == 1 ? bandFirst : 0)
    let first = columns.lowerBound &- extents[2].origin &- element &* weights.last.stride
    var arguments = apus_plane_join_args(
      x: flat + (a.from &* planes.pitches.slice &+ b.from &* planes.pitches.row),
      ld: weights.outputs &* planes.flatStride, phases: weights.last.stride, first: first, rows: (a.count, b.count),
      x_rows: (planes.pitches.slice, planes.pitches.row),
      y_rows: (weights.axes[0].stride &* height &* width, weights.axes[1].stride &* width), width: columns.count)
    let start = (a.first &* height &+ b.first) &* width &+ columns.lowerBound
    apus_kernels().pointee.plane_join_f32(&arguments, y + start)
  }
}

extension TransposedExtent {
  /// Of three axes; nil where there are no outputs.
  static func all(_ geometry: WindowGeometry) -> [TransposedExtent]? {
    var extents: [TransposedExtent] = []
    for axis in (geometry.rank - 3)..<geometry.rank {
      let extent =
        axis < 0
        ? TransposedExtent(stride: 1, pad: 0, output: 1)
        : TransposedExtent(
          stride: geometry.strides[axis], pad: geometry.padBegin[axis], output: geometry.input[axis])
      guard let extent else { return nil }
      extents.append(extent)
    }
    return extents
  }
}
