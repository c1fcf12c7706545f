// Convolutions of few channels and outputs for each group on the kernels for planes: depthwise ones with any number of
// outputs for a channel, and other groups.

import ApusGraph
import ApusTensor
import CApusKernels

/// X and Y are planar, and W has the form `planes`: [groups][channels and taps][outputs].
struct PlanarConvolution: Sendable {
  private let convolution: Convolution
  private let planes: PhasePlanes
  /// Where the taps of all channels of a group lie.
  private let offsets: [Int]
  private let partition: Partition
  /// Floats of scratch memory of a part.
  private let partFloats: Int

  /// Outputs of a group that are computed together.
  private static let outputBlock = 8

  /// nil where the kernels do not have it.
  init?(_ convolution: Convolution) {
    let channels = convolution.channelsPerGroup
    guard convolution.outputCount > 0, convolution.channels > 0, convolution.geometry.inputCount > 0,
      let planes = PhasePlanes(convolution.geometry, planes: channels, fill: 0)
    else { return nil }
    (self.convolution, self.planes) = (convolution, planes)
    let taps = planes.taps(convolution.geometry)
    offsets = (0..<channels).flatMap { channel in taps.map { channel * planes.planeStride + $0 } }
    partFloats =
      channels * planes.planeStride
      + min(PlanarConvolution.outputBlock, convolution.outputChannelsPerGroup) * planes.flatStride
    let band =
      Cost(operations: 2) * planes.flatStride * offsets.count * convolution.outputChannelsPerGroup
      + .light * channels * planes.planeStride
    partition = PhasePlanes.partition(
      convolution.batch * convolution.groups * planes.bands, of: band, floats: partFloats)
  }

  /// Inputs X, packed weights and, at the position `bias`, B.
  func step(bias: Int?) -> Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts * partFloats * 4) { run, part in
      self.run(
        part, run.input(0), run.input(1), bias.map { run.input($0) }, run.output(0),
        run.scratch.assumingMemoryBound(to: Float.self) + part &* partFloats)
    }.named("planes \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: convolution.operations))
  }

  private func run(
    _ part: Int, _ x: UnsafePointer<Float>, _ weights: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?,
    _ y: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>
  ) {
    let (channels, outputs) = (convolution.channelsPerGroup, convolution.outputChannelsPerGroup)
    let (area, outputArea) = (convolution.geometry.inputCount, convolution.geometry.outputCount)
    let flat = scratch + channels &* planes.planeStride
    offsets.withUnsafeBufferPointer { offsets in
      guard let taps = offsets.baseAddress else { return }
      for unit in partition.range(part) {
        // Groups of all images in turn.
        let (group, band) = unit.quotientAndRemainder(dividingBy: planes.bands)
        for channel in 0..<channels {
          planes.split(band, x + (group &* channels &+ channel) &* area, scratch + channel &* planes.planeStride)
        }
        let ofImage = group % convolution.groups
        let count = planes.flatCount(planes.outputs(band).count)
        for first in stride(from: 0, to: outputs, by: PlanarConvolution.outputBlock) {
          let block = min(PlanarConvolution.outputBlock, outputs &- first)
          var arguments = apus_plane_sums_args(
            x: scratch, offsets: taps, taps: offsets.count,
            weights: weights + (ofImage &* offsets.count &* outputs &+ first), weights_ld: outputs, outputs: block,
            bias: bias.map { $0 + (ofImage &* outputs &+ first) }, y: flat, y_ld: planes.flatStride)
          apus_kernels().pointee.plane_sums_f32(&arguments, count)
          for output in 0..<block {
            planes.join(
              band, flat + output &* planes.flatStride,
              y + (group &* outputs &+ first &+ output) &* outputArea)
          }
        }
      }
    }
  }
}
