// The steps of a convolution whose sums are over planar images: packing, layout, the sums, layout again, and what comes
// behind them.

import ApusGraph
import ApusTensor
import CApusKernels

struct PlanarStep: Sendable {
  let convolution: Convolution

  /// The step of a node with these operands, around the `sums` of planar images, whose inputs are X, packed weights
  /// and, with a bias, B. `isPacked`: W is read in the form of `weights`.
  func step(
    around sums: Step, _ weights: ConvolutionWeights, _ operands: ConvolutionOperands, isPacked: Bool, bias: Int?,
    residual: Int?, activation: Activation?
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
    let inputs = { [x, w, bias.map { .input($0) } ?? .none] as [StepSequence.Operand] }
    if !operands.channelsLast {
      if isPacked, bias ?? 2 == 2, operands.x == 0, operands.w == 1 {
        var step = sums
        step.unreadInputs = [1]
        return step
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
