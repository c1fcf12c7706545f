// The steps of a float32 convolution on the kernels: packing, layout, the sums, and layout again.

import ApusGraph
import ApusTensor

/// A node whose convolution runs on the kernels. Inputs: X, W, and where present B and a residual.
final class ConvolutionStep: Sendable {
  private enum Stage: Sendable { case pack, pad, toChannelsLast, sum, toPlanar }

  private let core: ConvolutionCore
  private let isPlanar: Bool
  private let isPacked: Bool
  private let bias: Int?
  private let residual: Int?
  private let stages: [Stage]
  /// The parts of each stage.
  private let phases: [Int]
  /// How planar images change their order; nil where they need not.
  private let input: LayoutChange?
  private let output: LayoutChange?
  private let weightsOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// `isPlanar`: X and Y are in the specification's layout, not channels-last; then there is no residual. `isPacked`: W
  /// is read in the form of the core's weights.
  init(_ core: ConvolutionCore, isPlanar: Bool, isPacked: Bool, bias: Int?, residual: Int? = nil) {
    (self.core, self.isPlanar, self.isPacked) = (core, isPlanar, isPacked)
    (self.bias, self.residual) = (bias, residual)
    let convolution = core.convolution
    func change(_ channels: Int, _ pixels: Int) -> LayoutChange? {
      if !isPlanar { return nil }
      let change = LayoutChange(images: convolution.batch, channels: channels, pixels: pixels)
      return change.isNothing ? nil : change
    }
    input = core.padded == nil ? change(convolution.channels, convolution.geometry.inputCount) : nil
    output = change(convolution.outputChannels, convolution.geometry.outputCount)
    var end = aligned(core.scratchBytes)
    func reserve(_ count: Int) -> Int {
      defer { end += aligned(count &* 4) }
      return end
    }
    weightsOffset = isPacked ? 0 : reserve(core.weights.packedCount)
    inputOffset =
      input == nil ? 0 : reserve(convolution.batch &* convolution.channels &* convolution.geometry.inputCount)
    outputOffset = output == nil ? 0 : reserve(convolution.outputCount)
    scratchBytes = end
    // Most convolutions, of which plans have many, have nothing but sums.
    if isPacked, core.padded == nil, input == nil, output == nil {
      (stages, phases) = (ConvolutionStep.sums, Step.onePhase(core.parts))
      return
    }
    let all: [(Stage, Int?)] = [
      (.pack, isPacked ? nil : core.weights.packingParts), (.pad, core.padded?.partition.parts),
      (.toChannelsLast, input?.parts), (.sum, core.parts), (.toPlanar, output?.parts),
    ]
    let present = all.filter { $0.1 != nil }
    (stages, phases) = (present.map(\.0), present.compactMap(\.1))
  }

  private static let sums = [Stage.sum]

  var step: Step {
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in self.run(run, phase, part) }
    if isPacked { step.unreadInputs = [1] }
    // Every element of the residual is read before the same element of the output is written.
    if let residual { step.inPlace = [(input: residual, output: 0)] }
    (step.kernelName, step.cost) = (core.name, Cost(operations: core.convolution.operations))
    return step
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
    case .toChannelsLast: input?.toChannelsLast(part, run.inputBytes(0), block(inputOffset))
    case .sum:
      core.run(
        part,
        ConvolutionAddresses(
          x: input == nil ? run.input(0) : UnsafePointer(block(inputOffset)),
          weights: isPacked ? run.input(1) : UnsafePointer(block(weightsOffset)), bias: bias.map { run.input($0) },
          residual: residual.map { run.input($0) }, y: output == nil ? run.output(0) : block(outputOffset),
          scratch: run.scratch))
    case .toPlanar: output?.toPlanar(part, block(outputOffset), run.outputBytes(0))
    }
  }
}
