// The depthwise convolution of 8-bit tensors by way of float32, in which its sums are exact.

import ApusGraph
import ApusTensor
import CApusKernels

/// Phases: parameters, layout, operands as float32, the sums, and those as integers again, layout.
struct DepthwiseBytes: Sendable {
  private enum Stage: Sendable { case parameters, toChannelsLast, widen, sum, narrow, toPlanar }

  private let node: IntegerNode
  private let core: ConvolutionCore
  private let input: LayoutChange
  private let output: LayoutChange
  private let widening: Partition
  private let rows: Partition
  private let stages: [Stage]
  private let width: Int
  private let parametersOffset: Int
  private let floatInputOffset: Int
  private let floatOutputOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// nil if this is no depthwise convolution of the kernels, or so large that sums might not be exact.
  init?(_ node: IntegerNode) {
    let convolution = node.convolution
    let shape = [convolution.outputChannels, convolution.channelsPerGroup] + convolution.geometry.kernel
    let facts = ConvolutionFacts(shape: shape, groups: convolution.groups, dilations: convolution.geometry.dilations)
    guard facts.isDepthwise, shape.count <= 4, shape.allSatisfy({ $0 > 0 }), convolution.geometry.tapCount <= 256,
      let weights = ConvolutionWeights(facts, form: .depthwise),
      let core = ConvolutionCore(convolution, weights, GemmEpilogue())
    else { return nil }
    (self.node, self.core) = (node, core)
    width = node.inputs.requantization == nil ? 4 : 1
    input = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.inputCount, width: 1)
    output = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.outputCount, width: width)
    widening = Partition(input.byteCount, of: .light * 2)
    rows = Partition(convolution.batch &* convolution.geometry.outputCount, of: .medium * convolution.channels)
    var end = 0
    func reserve(_ bytes: Int) -> Int {
      defer { end += aligned(bytes) }
      return end
    }
    // The weights less their zero points, then scales and biases of the channels.
    parametersOffset = reserve((core.weights.taps &+ 2) &* convolution.channels &* 4)
    floatInputOffset = reserve(input.byteCount &* 4)
    floatOutputOffset = reserve(convolution.outputCount &* 4)
    let isPlanar = !node.inputs.operands.channelsLast
    let changesInput = isPlanar && !input.isNothing
    let changesOutput = isPlanar && !output.isNothing
    inputOffset = changesInput ? reserve(input.byteCount) : 0
    outputOffset = changesOutput ? reserve(output.byteCount) : 0
    stages =
      [.parameters] + (changesInput ? [.toChannelsLast] : []) + [.widen, .sum, .narrow]
      + (changesOutput ? [.toPlanar] : [])
    scratchBytes = end
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .parameters: 1
      case .toChannelsLast: input.parts
      case .widen: widening.parts
      case .sum: core.parts
      case .narrow: rows.parts
      case .toPlanar: output.parts
      }
    }
    return Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      let parameters = (run.scratch + parametersOffset).assumingMemoryBound(to: Float.self)
      let x = (run.scratch + floatInputOffset).assumingMemoryBound(to: Float.self)
      let y = (run.scratch + floatOutputOffset).assumingMemoryBound(to: Float.self)
      switch stages[phase] {
      case .parameters: prepare(run, parameters)
      case .toChannelsLast:
        input.toChannelsLast(part, run.inputBytes(node.inputs.operands.x), run.scratch + inputOffset)
      case .widen: widen(run, part, x)
      case .sum:
        core.run(
          part,
          ConvolutionAddresses(
            x: UnsafePointer(x), weights: UnsafePointer(parameters), bias: nil, residual: nil, y: y,
            scratch: run.scratch))
      case .narrow: narrow(run, part, y, UnsafePointer(parameters))
      case .toPlanar: output.toPlanar(part, run.scratch + outputOffset, run.outputBytes(0))
      }
    }.named(core.name, cost: Cost(operations: node.convolution.operations))
  }

  private func prepare(_ run: RunContext, _ parameters: UnsafeMutablePointer<Float>) {
    let (channels, taps) = (node.convolution.channels, core.weights.taps)
    let bytes = run.inputBytes(node.inputs.operands.w)
    for channel in 0..<channels {
      let zero = node.wZero(run, output: channel)
      for tap in 0..<taps {
        parameters[tap &* channels &+ channel] = Float(
          node.byte(bytes, channel &* taps &+ tap, isSigned: node.wIsSigned) &- zero)
      }
      parameters[taps &* channels &+ channel] = node.scale(run, output: channel)
      parameters[(taps &+ 1) &* channels &+ channel] =
        node.bias.map { Float(run.input($0, as: Int32.self)[channel]) } ?? 0
    }
  }

  private func widen(_ run: RunContext, _ part: Int, _ x: UnsafeMutablePointer<Float>) {
    let range = widening.range(part)
    let bytes =
      (inputOffset > 0 ? UnsafeRawPointer(run.scratch + inputOffset) : run.inputBytes(node.inputs.operands.x))
      + range.lowerBound
    if node.xIsSigned {
      apus_kernels().pointee.dequantize_s8(range.count, bytes, x + range.lowerBound, 1, node.xZero(run))
    } else {
      apus_kernels().pointee.dequantize_u8(range.count, bytes, x + range.lowerBound, 1, node.xZero(run))
    }
  }

  private func narrow(
    _ run: RunContext, _ part: Int, _ sums: UnsafeMutablePointer<Float>, _ parameters: UnsafePointer<Float>
  ) {
    let (channels, taps) = (node.convolution.channels, core.weights.taps)
    let target = outputOffset > 0 ? run.scratch + outputOffset : run.outputBytes(0)
    let (scales, biases) = (parameters + taps &* channels, parameters + (taps &+ 1) &* channels)
    let rounding = ByteRounding(zero: node.yZero(run), isSigned: node.yIsSigned)
    for row in rows.range(part) {
      let values = sums + row &* channels
      if width == 4 {
        let y = target.assumingMemoryBound(to: Int32.self) + row &* channels
        // Exact integers of less than 2^24.
        for channel in 0..<channels { y[channel] = Int32(truncatingIfNeeded: Int(values[channel])) }
      } else {
        let y = target.assumingMemoryBound(to: UInt8.self) + row &* channels
        for channel in 0..<channels { y[channel] = rounding((values[channel] + biases[channel]) * scales[channel]) }
      }
    }
  }
}

/// Rounds half to even, adds the zero point and saturates to 8 bits. NaN, from a scale of 0, gives the lower bound.
struct ByteRounding: Sendable {
  private let zero: Float
  private let low: Float
  private let high: Float

  init(zero: Int32, isSigned: Bool) {
    self.zero = Float(zero)
    (low, high) = isSigned ? (-128, 127) : (0, 255)
  }

  @inline(__always) func callAsFunction(_ value: Float) -> UInt8 {
    // Adding 1.5 · 2^23 leaves the integer part, rounded as the machine rounds, in the lowest bits.
    let anchor: Float = 12_582_912
    let bounded = value > -1024 ? (value < 1024 ? value : 1024) : -1024
    let rounded = (bounded + anchor) - anchor + zero
    let saturated = rounded > low ? (rounded < high ? rounded : high) : low
    return UInt8(truncatingIfNeeded: (saturated + anchor).bitPattern)
  }
}
