// The convolution of 8-bit tensors on the integer matrix kernel.

import ApusGraph
import ApusTensor
import CApusKernels

/// The weights of an integer convolution in panels.
struct ByteWeights: Sendable {
  let groups: Int
  let channelsPerGroup: Int
  let outputsPerGroup: Int
  let taps: Int
  let isSigned: Bool
  /// nil if the weights are not constant.
  private(set) var storage: TensorStorage?

  /// nil for weights without elements, and for groups so small that panels would be empty for the most part.
  init?(shape: [Int], groups: Int, isSigned: Bool) {
    guard shape.count >= 3, shape.allSatisfy({ $0 > 0 }), shape[0] % groups == 0 else { return nil }
    (self.groups, self.isSigned) = (groups, isSigned)
    channelsPerGroup = shape[1]
    outputsPerGroup = shape[0] / groups
    taps = shape[2...].reduce(1, &*)
    if groups > 1 && channelsPerGroup &* taps < 16 { return nil }
  }

  /// The constant weights at an input, packed; nil if they are not constant.
  init?(_ context: PrepareContext, input: Int) throws(OperatorError) {
    let groups = try context.int("group")
    guard let tensor = context.constant(input), groups >= 1,
      var weights = ByteWeights(shape: tensor.shape.dims, groups: groups, isSigned: tensor.dataType == .int8)
    else { return nil }
    let format = "conv i8/\(apus_kernels().pointee.gemm_i8_nr) \(groups) \(tensor.shape) \(tensor.dataType)"
    let source = weights
    let byteCount = source.groupBytes &* groups
    weights.storage = try context.packedWeights.storage(for: tensor, format: format, byteCount: byteCount) {
      (bytes) throws(OperatorError) in
      let storage = try context.allowance.allocate(byteCount: byteCount)
      try bytes.withBytes { (bytes) throws(OperatorError) in
        for part in 0..<groups { source.pack(bytes, storage.base, part: part) }
      }
      return storage
    }
    self = weights
  }

  var groupBytes: Int {
    aligned(apus_gemm_i8_packed_bytes(taps, channelsPerGroup, outputsPerGroup, apus_kernels().pointee.gemm_i8_nr))
  }

  /// Packs one group of `source`, the weights as they are.
  func pack(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, part: Int) {
    let depth = channelsPerGroup &* taps
    var block = apus_gemm_source(
      b: source + part &* outputsPerGroup &* depth, stride_tap: 1, stride_k: taps, stride_n: depth, taps: taps,
      kc: channelsPerGroup, n: outputsPerGroup)
    apus_kernels().pointee.gemm_i8_pack(
      &block, isSigned, target + part &* groupBytes, 0,
      apus_gemm_panels(outputsPerGroup, apus_kernels().pointee.gemm_i8_nr))
  }
}

/// Phases: parameters and packing, layout, the sums, layout again.
struct ByteConvolution: Sendable {
  private enum Stage: Sendable { case parameters, toChannelsLast, sum, toPlanar }

  private let node: IntegerNode
  private let weights: ByteWeights
  private let tiles: ConvolutionTiles
  private let input: LayoutChange
  private let output: LayoutChange
  private let stages: [Stage]
  private let scalesOffset: Int
  private let padOffset: Int
  private let weightsOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// nil if the kernel does not have the convolution.
  init?(_ node: IntegerNode, _ weights: ByteWeights) {
    let convolution = node.convolution
    guard convolution.outputCount > 0, convolution.geometry.inputCount > 0,
      let tiles = ConvolutionTiles(
        convolution.geometry, images: convolution.batch, groups: convolution.groups,
        depth: convolution.channelsPerGroup,
        outputs: convolution.outputChannelsPerGroup, pixelStride: convolution.channels,
        tileRows: apus_kernels().pointee.gemm_i8_mr, panelColumns: apus_kernels().pointee.gemm_i8_nr)
    else { return nil }
    (self.node, self.weights, self.tiles) = (node, weights, tiles)
    input = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.inputCount, width: 1)
    output = LayoutChange(
      images: convolution.batch, channels: convolution.outputChannels, pixels: convolution.geometry.outputCount,
      width: node.inputs.requantization == nil ? 4 : 1)
    var end = aligned(tiles.scratchBytes)
    func reserve(_ bytes: Int) -> Int {
      defer { end += aligned(bytes) }
      return end
    }
    // Scales and zero points of the output channels, and the padding.
    scalesOffset = reserve(convolution.outputChannels &* 8)
    padOffset = reserve(convolution.channelsPerGroup)
    weightsOffset = weights.storage == nil ? reserve(weights.groupBytes &* weights.groups) : 0
    let isPlanar = !node.inputs.operands.channelsLast
    let changesInput = isPlanar && !input.isNothing
    let changesOutput = isPlanar && !output.isNothing
    inputOffset = changesInput ? reserve(input.byteCount) : 0
    outputOffset = changesOutput ? reserve(output.byteCount) : 0
    stages = [.parameters] + (changesInput ? [.toChannelsLast] : []) + [.sum] + (changesOutput ? [.toPlanar] : [])
    scratchBytes = end
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .parameters: weights.storage == nil ? 1 + weights.groups : 1
      case .toChannelsLast: input.parts
      case .sum: tiles.parts
      case .toPlanar: output.parts
      }
    }
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      switch self.stages[phase] {
      case .parameters: self.prepare(run, part)
      case .toChannelsLast:
        input.toChannelsLast(part, run.inputBytes(node.inputs.operands.x), run.scratch + inputOffset)
      case .sum: self.sum(run, part)
      case .toPlanar: output.toPlanar(part, run.scratch + outputOffset, run.outputBytes(0))
      }
    }
    if weights.storage != nil { step.unreadInputs = [node.inputs.operands.w] }
    return step.named(
      "gemm_i8 \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: node.convolution.operations))
  }

  private func prepare(_ run: RunContext, _ part: Int) {
    if part > 0 {
      return weights.pack(run.inputBytes(node.inputs.operands.w), run.scratch + weightsOffset, part: part - 1)
    }
    let outputs = node.convolution.outputChannels
    let scales = (run.scratch + scalesOffset).assumingMemoryBound(to: Float.self)
    let zeros = UnsafeMutableRawPointer(scales + outputs).assumingMemoryBound(to: Int32.self)
    for channel in 0..<outputs {
      scales[channel] = node.scale(run, output: channel)
      zeros[channel] = node.wZero(run, output: channel)
    }
    (run.scratch + padOffset).initializeMemory(
      as: UInt8.self, repeating: UInt8(truncatingIfNeeded: node.xZero(run)), count: node.convolution.channelsPerGroup)
  }

  private func sum(_ run: RunContext, _ part: Int) {
    let convolution = node.convolution
    let outputs = convolution.outputChannels
    let width = node.inputs.requantization == nil ? 4 : 1
    let x = inputOffset > 0 ? UnsafeRawPointer(run.scratch + inputOffset) : run.inputBytes(node.inputs.operands.x)
    let y = outputOffset > 0 ? run.scratch + outputOffset : run.outputBytes(0)
    let packed = weights.storage.map { UnsafeRawPointer($0.base) } ?? UnsafeRawPointer(run.scratch + weightsOffset)
    let scales = UnsafePointer((run.scratch + scalesOffset).assumingMemoryBound(to: Float.self))
    let zeros = UnsafeRawPointer(scales + outputs).assumingMemoryBound(to: Int32.self)
    let bias: UnsafePointer<Int32>? = node.bias.map { run.input($0) }
    let isRequantized = node.inputs.requantization != nil
    var arguments = apus_gemm_i8_args(
      a: x, lda: convolution.channels, offsets: nil, pad: UnsafeRawPointer(run.scratch + padOffset), taps: weights.taps,
      kc: weights.channelsPerGroup, n: weights.outputsPerGroup, a_signed: node.xIsSigned, b_signed: node.wIsSigned,
      a_zero: node.xZero(run), b_zero: node.wZero(run, output: 0), a_zeros: nil, b_zeros: nil, b: packed, c: y,
      ldc: outputs,
      output: isRequantized ? (node.yIsSigned ? APUS_GEMM_I8_TO_S8 : APUS_GEMM_I8_TO_U8) : APUS_GEMM_I8_TO_I32,
      bias: nil,
      scale: 1, scales: nil, zero: node.yZero(run), low: node.yIsSigned ? -128 : 0, high: node.yIsSigned ? 127 : 255,
      epilogue: apus_epilogue_f32())
    tiles.forEach(part, scratch: run.scratch) { call in
      let image = call.image &* convolution.geometry.inputCount &* convolution.channels
      let firstOutput = call.group &* weights.outputsPerGroup
      let firstRow = call.table == nil ? call.rows.lowerBound &* convolution.channels : 0
      arguments.a = x + (image &+ call.group &* weights.channelsPerGroup &+ firstRow)
      arguments.offsets = call.table
      arguments.b = packed + call.group &* weights.groupBytes
      arguments.b_zeros = node.wZeroCount > 1 ? zeros + firstOutput : nil
      arguments.scales = isRequantized ? scales + firstOutput : nil
      arguments.bias = bias.map { $0 + firstOutput }
      let target = (call.image &* convolution.geometry.outputCount &+ call.rows.lowerBound) &* outputs &+ firstOutput
      arguments.c = y + target &* width
      apus_kernels().pointee.gemm_i8(&arguments, 0, call.rows.count, call.panels.lowerBound, call.panels.upperBound)
    }
  }
}
