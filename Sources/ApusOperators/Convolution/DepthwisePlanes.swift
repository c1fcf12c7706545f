// Depthwise convolutions of planar images at stride 1 by common windows, plane by plane.

import ApusGraph
import ApusTensor
import CApusKernels

/// X and Y are planar, and W has the form `planes`, which is that of the specification here.
struct DepthwisePlanes: Sendable {
  private let convolution: Convolution
  /// Extents of images, one row high where there is one axis.
  private let input: (height: Int, width: Int)
  private let output: (height: Int, width: Int)
  private let kernel: (height: Int, width: Int)
  private let pads: (top: Int, left: Int)
  /// Rows of a plane that are computed at a time, and how often.
  private let bandRows: Int
  private let bands: Int
  private let partition: Partition
  private let partFloats: Int

  /// Bytes of the padded copy of a band, which the caches hold beside what is made of it.
  private static let bandBytes = 1 << 16
  /// The kernels turn vectors of 16 elements.
  private static let widestKernel = 16

  /// nil where the kernels do not have it.
  init?(_ convolution: Convolution) {
    let geometry = convolution.geometry
    guard convolution.groups > 1, convolution.channelsPerGroup == 1, convolution.outputChannelsPerGroup == 1,
      convolution.outputCount > 0, geometry.inputCount > 0, geometry.rank == 2,
      geometry.strides.allSatisfy({ $0 == 1 }), geometry.dilations.allSatisfy({ $0 == 1 }),
      [3, 5, 7].contains(geometry.kernel[0]), geometry.kernel[1] <= DepthwisePlanes.widestKernel
    else { return nil }
    self.convolution = convolution
    input = (geometry.input[0], geometry.input[1])
    output = (geometry.output[0], geometry.output[1])
    kernel = (geometry.kernel[0], geometry.kernel[1])
    pads = (geometry.padBegin[0], geometry.padBegin[1])
    let rowBytes = (geometry.output[1] + geometry.kernel[1] + 32) * 4
    let most = max(4, DepthwisePlanes.bandBytes / rowBytes - geometry.kernel[0])
    bands = (geometry.output[0] + most - 1) / most
    bandRows = (geometry.output[0] + bands - 1) / bands
    // A call needs memory for some planes at least.
    guard rowBytes <= 1 << 20 else { return nil }
    let floats = apus_plane_depthwise_scratch(output.width, kernel.height, kernel.width, bandRows)
    partFloats = aligned(floats &* 4) / 4
    partition = PhasePlanes.partition(
      convolution.batch * convolution.channels * bands,
      of: (.light + Cost(operations: 2) * geometry.tapCount) * bandRows * output.width, floats: partFloats)
  }

  /// Inputs X, packed weights and, at the position `bias`, B.
  func step(bias: Int?) -> Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts &* partFloats &* 4) { run, part in
      let scratch = run.scratch.assumingMemoryBound(to: Float.self) + part &* partFloats
      let (range, all) = (partition.range(part), convolution.batch &* convolution.channels)
      // Planes of a band of one image at a time.
      var unit = range.lowerBound
      while unit < range.upperBound {
        let (band, plane) = unit.quotientAndRemainder(dividingBy: all)
        let channel = plane % convolution.channels
        let count = min(range.upperBound &- unit, convolution.channels &- channel)
        self.run(
          band, plane, count, run.input(0), run.input(1, as: Float.self) + channel &* kernel.height &* kernel.width,
          bias.map { run.input($0, as: Float.self) + channel }, run.output(0), scratch)
        unit &+= count
      }
    }.named(
      "depthwise planes \(String(cString: apus_kernels().pointee.name))",
      cost: Cost(operations: convolution.operations))
  }

  private func run(
    _ band: Int, _ plane: Int, _ count: Int, _ x: UnsafePointer<Float>, _ weights: UnsafePointer<Float>,
    _ bias: UnsafePointer<Float>?, _ y: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutablePointer<Float>
  ) {
    var arguments = apus_plane_depthwise_args(
      x: x + plane &* input.height &* input.width, in_h: input.height, in_w: input.width, pad_top: pads.top,
      pad_left: pads.left, kernel_h: kernel.height, kernel_w: kernel.width, weights: weights, bias: bias,
      y: y + plane &* output.height &* output.width, out_h: output.height, out_w: output.width)
    let first = band &* bandRows
    apus_kernels().pointee.plane_depthwise_f32(
      &arguments, count, first, min(first &+ bandRows, output.height), scratch)
  }
}
