// The depthwise convolution of 8-bit tensors on its kernel, whose sums are exact.

import ApusGraph
import ApusTensor
import CApusKernels

/// Phases: parameters, layout, the sums, layout again.
struct DepthwiseBytes: Sendable {
  private enum Stage: Sendable { case parameters, toChannelsLast, sum, toPlanar }

  /// Taps of a window whose products float32 adds exactly.
  static let largestWindow = 256

  private let node: IntegerNode
  private let offsets: WindowOffsets
  private let parameters: IntegerParameters
  private let constants: TensorStorage?
  private let input: LayoutChange
  private let output: LayoutChange
  /// Of the output, along the last axis.
  private let lines: Partition
  private let linesPerImage: Int
  /// Lines of the input that a window sees.
  private let windowLines: Int
  private let stages: [Stage]
  private let tableBytes: Int
  private let parametersOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// Whether the kernel has the convolution of a node with constant weights, whatever the images are, unless they are
  /// too large for its offsets.
  static func takes(_ context: PrepareContext, _ inputs: IntegerOperands) throws(OperatorError) -> Bool {
    guard let shape = context.constant(inputs.operands.w)?.shape.dims, shape.count >= 3 else { return false }
    let groups = try context.int("group")
    return groups > 1 && groups == shape[0] && shape[1] == 1 && shape[2...].reduce(1, &*) <= largestWindow
  }

  static func parameters(_ codes: IntegerCodes, channels: Int, taps: Int) -> IntegerParameters {
    IntegerParameters(codes: codes, outputs: channels, padBytes: channels, depthwiseTaps: taps)
  }

  /// `constants`: the block of the parameters, if they are known. nil if this is no depthwise convolution of the
  /// kernel, or one of images so large that offsets do not fit into 32 bits.
  init?(_ node: IntegerNode, _ constants: TensorStorage?) {
    let convolution = node.convolution
    let (channels, geometry) = (convolution.channels, convolution.geometry)
    guard convolution.channelsPerGroup == 1, convolution.outputChannelsPerGroup == 1, convolution.outputCount > 0,
      geometry.inputCount > 0, geometry.tapCount > 0, geometry.tapCount <= DepthwiseBytes.largestWindow,
      let offsets = WindowOffsets(geometry, pixelStride: channels)
    else { return nil }
    (self.node, self.offsets, self.constants) = (node, offsets, constants)
    parameters = DepthwiseBytes.parameters(node.codes, channels: channels, taps: geometry.tapCount)
    let width = node.codes.inputs.requantization == nil ? 4 : 1
    input = LayoutChange(
      images: convolution.batch, channels: channels, pixels: geometry.inputCount, width: 1)
    output = LayoutChange(images: convolution.batch, channels: channels, pixels: geometry.outputCount, width: width)
    linesPerImage = geometry.outputCount / (geometry.output.last ?? 1)
    windowLines = geometry.tapCount / (geometry.kernel.last ?? 1)
    lines = Partition(
      convolution.batch &* linesPerImage, of: .light * (channels * geometry.tapCount / 2) * (geometry.output.last ?? 1))
    tableBytes = aligned(windowLines &* MemoryLayout<UnsafeRawPointer?>.stride)
    var end = lines.parts &* tableBytes
    func reserve(_ bytes: Int) -> Int {
      defer { end += aligned(bytes) }
      return end
    }
    parametersOffset = constants == nil ? reserve(parameters.byteCount) : 0
    let isPlanar = !node.codes.inputs.operands.channelsLast
    let changesInput = isPlanar && !input.isNothing
    let changesOutput = isPlanar && !output.isNothing
    inputOffset = changesInput ? reserve(input.byteCount) : 0
    outputOffset = changesOutput ? reserve(output.byteCount) : 0
    stages =
      (constants == nil ? [.parameters] : []) + (changesInput ? [.toChannelsLast] : []) + [.sum]
      + (changesOutput ? [.toPlanar] : [])
    scratchBytes = end
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .parameters: 1
      case .toChannelsLast: input.parts
      case .sum: lines.parts
      case .toPlanar: output.parts
      }
    }
    let x = node.codes.inputs.operands.x
    return Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      switch stages[phase] {
      case .parameters: parameters.fill(run.scratch + parametersOffset) { run.inputBytes($0) }
      case .toChannelsLast: input.toChannelsLast(part, run.inputBytes(x), run.scratch + inputOffset)
      case .sum: sum(run, part)
      case .toPlanar: output.toPlanar(part, run.scratch + outputOffset, run.outputBytes(0))
      }
    }.named("depthwise_i8", cost: Cost(operations: node.convolution.operations))
  }

  private func sum(_ run: RunContext, _ part: Int) {
    let (codes, geometry, channels) = (node.codes, node.convolution.geometry, node.convolution.channels)
    let block = constants.map { UnsafeRawPointer($0.base) } ?? UnsafeRawPointer(run.scratch + parametersOffset)
    let x = inputOffset > 0 ? UnsafeRawPointer(run.scratch + inputOffset) : run.inputBytes(codes.inputs.operands.x)
    let y = outputOffset > 0 ? run.scratch + outputOffset : run.outputBytes(0)
    let table = (run.scratch + part &* tableBytes).assumingMemoryBound(to: UnsafeRawPointer?.self)
    let isRequantized = codes.inputs.requantization != nil
    let last = geometry.rank - 1
    let (width, outputs) = (geometry.input[last], geometry.output[last])
    let bytes = isRequantized ? 1 : 4
    var arguments = apus_depthwise_i8_args(
      lines: table, line_count: windowLines, pad: parameters.pad(block), width: width, kernel: geometry.kernel[last],
      stride: geometry.strides[last], dilation: geometry.dilations[last], pad_left: geometry.padBegin[last],
      channels: channels, x_signed: codes.xIsSigned, y_signed: codes.yIsSigned, weights: parameters.weights(block),
      start: parameters.zeros(block), scales: isRequantized ? parameters.scales(block) : nil,
      zero: codes.yZero { run.inputBytes($0) }, y: y)
    for index in lines.range(part) {
      let (image, line) = index.quotientAndRemainder(dividingBy: linesPerImage)
      let pixels = x + image &* geometry.inputCount &* channels
      for tap in 0..<windowLines {
        let row = offsets.inputRow(line: line, tap: tap)
        table[tap] = row < 0 ? nil : pixels + row &* width &* channels
      }
      arguments.y = y + index &* outputs &* channels &* bytes
      apus_kernels().pointee.depthwise_i8(&arguments, 0, outputs)
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
