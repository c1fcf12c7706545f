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

  /// The step of a node with these operands. `isPacked`: W is read in the form of `weights`.
  func step(
    _ weights: ConvolutionWeights, _ operands: ConvolutionOperands, isPacked: Bool, bias: Int?, residual: Int?,
    activation: Activation?
  ) -> Step {
    var sequence = StepSequence()
    var (x, w) = (StepSequence.Operand.input(operands.x), StepSequence.Operand.input(operands.w))
    if !isPacked {
      w = sequence.reserve(bytes: weights.packedCount &* 4)
      sequence.append(
        .parallel(parts: weights.packingParts) { run, part in
          weights.pack(run.inputBytes(0) + weights.sourceBytes(part: part).lowerBound, run.output(0), part: part)
        },
        inputs: [.input(operands.w)], outputs: [w])
    }
    var sums = step(bias: bias.map { _ in 2 })
    let inputs = { [x, w, bias.map { .input($0) } ?? .none] as [StepSequence.Operand] }
    if !operands.channelsLast {
      if isPacked, bias ?? 2 == 2, operands.x == 0, operands.w == 1 {
        sums.unreadInputs = [1]
        return sums
      }
      sequence.append(sums, inputs: inputs(), outputs: [.output(0)])
    } else {
      let area = (convolution.geometry.inputCount, convolution.geometry.outputCount)
      let input = LayoutChange(images: convolution.batch, channels: convolution.channels, pixels: area.0)
      let output = LayoutChange(images: convolution.batch, channels: convolution.outputChannels, pixels: area.1)
      x = sequence.reserve(bytes: input.byteCount)
      let y = sequence.reserve(bytes: output.byteCount)
      sequence.append(
        .parallel(parts: input.parts) { run, part in input.toPlanar(part, run.inputBytes(0), run.outputBytes(0)) },
        inputs: [.input(operands.x)], outputs: [x])
      sequence.append(sums, inputs: inputs(), outputs: [y])
      sequence.append(
        .parallel(parts: output.parts) { run, part in
          output.toChannelsLast(part, run.inputBytes(0), run.outputBytes(0))
        },
        inputs: [y], outputs: [.output(0)])
      finish(&sequence, residual: residual, activation: activation)
    }
    var step = sequence.step.named(sums.kernelName, cost: sums.cost)
    if isPacked { step.unreadInputs = [operands.w] }
    return step
  }

  /// Adds the residual and applies the activation, to Y as it lies.
  private func finish(_ sequence: inout StepSequence, residual: Int?, activation: Activation?) {
    guard residual != nil || activation.map({ $0.kind != .none }) ?? false else { return }
    let elements = Partition(convolution.outputCount, of: .medium)
    let function = activation.map { $0.function.fastLoop ?? $0.function.realLoop(Float.self) }
    sequence.append(
      .parallel(parts: elements.parts) { run, part in
        let range = elements.range(part)
        let y: UnsafeMutablePointer<Float> = run.output(0) + range.lowerBound
        if residual != nil {
          apus_kernels().pointee.add_f32_vv(range.count, y, run.input(0, as: Float.self) + range.lowerBound, y)
        }
        function?(y, y, range.count)
      },
      inputs: [residual.map { .input($0) } ?? .none], outputs: [.output(0)])
  }
}
