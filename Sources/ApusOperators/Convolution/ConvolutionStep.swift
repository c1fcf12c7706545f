// The steps of a float32 convolution on the kernels: packing, layout, the sums, and layout again.

import ApusGraph
import ApusTensor

/// A node whose convolution runs on the kernels. Inputs: X, W, and where present B and a residual.
final class ConvolutionStep: Sendable {
  private enum Stage: Sendable { case pack, pad, toChannelsLast, sum, toPlanar }

  private let core: ConvolutionCore
  private let isPlanar: Bool
  private let bias: Int?
  private let residual: Int?
  private let stages: [Stage]
  private let changesInput: Bool
  private let changesOutput: Bool
  private let input: LayoutChange
  private let output: LayoutChange
  private let weightsOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// `isPlanar`: X and Y are in the specification's layout, not channels-last; then there is no residual.
  init(_ core: ConvolutionCore, isPlanar: Bool, bias: Int?, residual: Int? = nil) {
    (self.core, self.isPlanar, self.bias, self.residual) = (core, isPlanar, bias, residual)
    let convolution = core.convolution
    input = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.inputCount)
    output = LayoutChange(
      images: convolution.batch, channels: convolution.outputChannels, pixels: convolution.geometry.outputCount)
    var stages: [Stage] = []
    var end = aligned(core.scratchBytes)
    func reserve(_ count: Int) -> Int {
      defer { end += aligned(count &* 4) }
      return end
    }
    let isPacked = core.weights.storage != nil
    weightsOffset = isPacked ? 0 : reserve(core.weights.packedCount)
    if !isPacked { stages.append(.pack) }
    changesInput = isPlanar && core.padded == nil && !input.isNothing
    changesOutput = isPlanar && !output.isNothing
    inputOffset =
      changesInput ? reserve(convolution.batch &* convolution.channels &* convolution.geometry.inputCount) : 0
    outputOffset = changesOutput ? reserve(convolution.outputCount) : 0
    if core.padded != nil { stages.append(.pad) }
    if changesInput { stages.append(.toChannelsLast) }
    stages.append(.sum)
    if changesOutput { stages.append(.toPlanar) }
    self.stages = stages
    scratchBytes = end
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .pack: core.weights.packingParts
      case .pad: core.padded?.partition.parts ?? 0
      case .toChannelsLast: input.parts
      case .sum: core.parts
      case .toPlanar: output.parts
      }
    }
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in self.run(run, phase, part) }
    if core.weights.storage != nil { step.unreadInputs = [1] }
    // Every element of the residual is read before the same element of the output is written.
    if let residual { step.inPlace = [(input: residual, output: 0)] }
    return step.named(core.name, cost: Cost(operations: core.convolution.operations))
  }

  private func run(_ run: RunContext, _ phase: Int, _ part: Int) {
    func block(_ offset: Int) -> UnsafeMutablePointer<Float> {
      (run.scratch + offset).assumingMemoryBound(to: Float.self)
    }
    switch stages[phase] {
    case .pack:
      let source = run.inputBytes(1) + core.weights.sourceBytes(part: part).lowerBound
      core.weights.pack(source, block(weightsOffset), part: part)
    case .pad: core.padded?.copy(part, run.input(0), isPlanar: isPlanar, scratch: run.scratch)
    case .toChannelsLast: input.toChannelsLast(part, run.inputBytes(0), block(inputOffset))
    case .sum:
      let packed = core.weights.storage.map { UnsafePointer($0.base.assumingMemoryBound(to: Float.self)) }
      core.run(
        part,
        ConvolutionAddresses(
          x: changesInput ? UnsafePointer(block(inputOffset)) : run.input(0),
          weights: packed ?? UnsafePointer(block(weightsOffset)), bias: bias.map { run.input($0) },
          residual: residual.map { run.input($0) }, y: changesOutput ? block(outputOffset) : run.output(0),
          scratch: run.scratch))
    case .toPlanar: output.toPlanar(part, block(outputOffset), run.outputBytes(0))
    }
  }
}
