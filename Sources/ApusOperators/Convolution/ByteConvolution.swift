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
  /// Taps beside one another on the last axis that are read as one, of so few channels that each alone would fill a
  /// part of a group of the kernel only; 1: none.
  private(set) var joinedTaps = 1
  /// nil if the weights are not constant.
  private(set) var storage: TensorStorage?

  /// Channels beyond which taps are not joined.
  private static let fewChannels = 12

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
    let isDense = (context.optionalInts("dilations")?.last ?? 1) == 1
    if groups == 1, isDense, weights.channelsPerGroup <= ByteWeights.fewChannels, let width = tensor.shape.last {
      weights.joinedTaps = width
    }
    let form = "\(ByteKernels.current.format) \(groups)/\(weights.joinedTaps)"
    let format = "conv i8/\(form) \(tensor.shape) \(tensor.dataType)"
    let source = weights
    let byteCount = source.groupBytes &* groups
    weights.storage = try context.packedWeights.storage(for: tensor, format: format, byteCount: byteCount) {
      (bytes) throws(OperatorError) in
      let storage = try context.allowance.allocate(byteCount: byteCount, isFilled: true)
      try bytes.withBytes { (bytes) throws(OperatorError) in
        for part in 0..<groups { source.pack(bytes, storage.base, part: part) }
      }
      return storage
    }
    self = weights
  }

  /// Taps and bytes of a tap as the kernel sees them.
  var kernelTaps: Int { taps / joinedTaps }
  var tapBytes: Int { channelsPerGroup &* joinedTaps }

  var groupBytes: Int {
    aligned(apus_gemm_i8_packed_bytes(kernelTaps, tapBytes, outputsPerGroup, apus_kernels().pointee.gemm_i8_nr))
  }

  func parameters(_ codes: IntegerCodes) -> IntegerParameters {
    IntegerParameters(codes: codes, outputs: groups &* outputsPerGroup, padBytes: tapBytes, depthwiseTaps: 0)
  }

  /// Packs one group of `source`, the weights as they are: panel by panel, each from a copy in which the channels of a
  /// tap are neighbours.
  func pack(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, part: Int) {
    let depth = channelsPerGroup &* taps
    let first = source + part &* outputsPerGroup &* depth
    let group = target + part &* groupBytes
    if taps == 1 { return pack(first, columns: outputsPerGroup, group) }
    let width = apus_kernels().pointee.gemm_i8_nr
    let panelBytes = apus_gemm_i8_panel_bytes(kernelTaps, tapBytes, width)
    withUnsafeTemporaryAllocation(byteCount: max(1, width &* depth), alignment: 16) { copy in
      guard let turned = copy.baseAddress else { return }
      for column in stride(from: 0, to: outputsPerGroup, by: width) {
        let columns = min(width, outputsPerGroup &- column)
        for output in 0..<columns {
          // [channels][taps] to [taps][channels].
          apus_kernels().pointee.transpose_1(
            channelsPerGroup, taps, first + (column &+ output) &* depth, taps, turned + output &* depth,
            channelsPerGroup)
        }
        pack(turned, columns: columns, group + column / width &* panelBytes)
      }
    }
  }

  /// Packs columns that lie one after the other, each as the taps and their bytes that the kernel sees.
  private func pack(_ source: UnsafeRawPointer, columns: Int, _ target: UnsafeMutableRawPointer) {
    let width = apus_kernels().pointee.gemm_i8_nr
    var block = apus_gemm_source(
      b: source, stride_tap: tapBytes, stride_k: 1, stride_n: channelsPerGroup &* taps, taps: kernelTaps, kc: tapBytes,
      n: columns)
    apus_kernels().pointee.gemm_i8_pack(&block, isSigned, target, 0, apus_gemm_panels(columns, width))
  }
}

/// Images of bytes as the matrix kernel reads them where taps are joined: channels last, each line as long as its
/// windows reach, what lies outside filled with the zero point.
private struct PaddedLines: Sendable {
  /// The windows over such images, of one tap on the last axis.
  let geometry: WindowGeometry
  let byteCount: Int
  private let channels: Int
  private let width: Int
  private let pixels: Int
  private let lines: Partition
  private let images: Int
  private let padding: Int

  init(_ convolution: Convolution, joinedTaps: Int) {
    let original = convolution.geometry
    let last = original.rank - 1
    var input = Array(original.input)
    (channels, width, pixels) = (convolution.channels, input[last], original.inputCount)
    input[last] = (original.output[last] &- 1) &* original.strides[last] &+ joinedTaps
    padding = original.padBegin[last]
    var (kernel, begin, end) = (original.kernel, original.padBegin, original.padEnd)
    (kernel[last], begin[last], end[last]) = (1, 0, 0)
    geometry = WindowGeometry(
      input: SpatialExtents(input), output: original.output,
      WindowForm(
        kernel: kernel, strides: original.strides, dilations: original.dilations, padBegin: begin, padEnd: end))
    images = convolution.batch
    byteCount = images &* geometry.inputCount &* channels
    lines = Partition(
      images &* (width == 0 ? 0 : pixels / width), of: .copying(bytes: geometry.input[last] &* channels))
  }

  var parts: Int { lines.parts }

  /// `zero` is the byte of the zero point.
  func fill(
    _ part: Int, _ x: UnsafeRawPointer, isPlanar: Bool, zero: UInt8, _ y: UnsafeMutableRawPointer
  ) {
    let length = geometry.input[geometry.rank - 1]
    let perImage = pixels / width
    // Pixels of a line that lie in windows, and where they go.
    let from = max(0, -padding)
    let to = max(0, padding)
    let count = max(0, min(width &- from, length &- to))
    for line in lines.range(part) {
      let (image, row) = line.quotientAndRemainder(dividingBy: perImage)
      let target = y + line &* length &* channels
      target.initializeMemory(as: UInt8.self, repeating: zero, count: min(to, length) &* channels)
      let end = min(to, length) &+ count
      (target + end &* channels).initializeMemory(
        as: UInt8.self, repeating: zero, count: (length &- end) &* channels)
      if count == 0 { continue }
      let inside = target + to &* channels
      if isPlanar {
        let source = x + (image &* channels &* pixels &+ row &* width &+ from)
        apus_kernels().pointee.transpose_1(channels, count, source, pixels, inside, channels)
      } else {
        inside.copyMemory(from: x + (line &* width &+ from) &* channels, byteCount: count &* channels)
      }
    }
  }
}

/// Phases: parameters and packing, layout, the sums, layout again.
struct ByteConvolution: Sendable {
  private enum Stage: Sendable { case parameters, toChannelsLast, toPaddedLines, sum, toPlanar }

  private let node: IntegerNode
  private let weights: ByteWeights
  private let parameters: IntegerParameters
  private let constants: TensorStorage?
  /// The windows as the kernel sees them.
  private let geometry: WindowGeometry
  private let tiles: ConvolutionTiles
  private let input: LayoutChange
  private let paddedLines: PaddedLines?
  private let output: LayoutChange
  private let stages: [Stage]
  private let parametersOffset: Int
  private let weightsOffset: Int
  private let inputOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// `constants`: the block of the parameters, if they are known. nil if the kernel does not have the convolution.
  init?(_ node: IntegerNode, _ weights: ByteWeights, _ constants: TensorStorage?) {
    let convolution = node.convolution
    guard convolution.outputCount > 0, convolution.geometry.inputCount > 0 else { return nil }
    paddedLines =
      weights.joinedTaps > 1 ? PaddedLines(convolution, joinedTaps: weights.joinedTaps) : nil
    geometry = paddedLines?.geometry ?? convolution.geometry
    let kernels = ByteKernels.current
    guard
      let tiles = ConvolutionTiles(
        geometry, images: convolution.batch, groups: convolution.groups, depth: weights.tapBytes,
        outputs: convolution.outputChannelsPerGroup, pixelStride: convolution.channels,
        tileRows: kernels.tileRows, panelColumns: kernels.panelColumns, pace: kernels.pace)
    else { return nil }
    (self.node, self.weights, self.constants, self.tiles) = (node, weights, constants, tiles)
    parameters = weights.parameters(node.codes)
    input = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.inputCount, width: 1)
    output = LayoutChange(
      images: convolution.batch, channels: convolution.outputChannels, pixels: convolution.geometry.outputCount,
      width: node.codes.inputs.requantization == nil ? 4 : 1)
    var end = aligned(tiles.scratchBytes)
    func reserve(_ bytes: Int) -> Int {
      defer { end += aligned(bytes) }
      return end
    }
    parametersOffset = constants == nil ? reserve(parameters.byteCount) : 0
    weightsOffset = weights.storage == nil ? reserve(weights.groupBytes &* weights.groups) : 0
    let isPlanar = !node.codes.inputs.operands.channelsLast
    let changesInput = isPlanar && !input.isNothing && paddedLines == nil
    let changesOutput = isPlanar && !output.isNothing
    inputOffset = reserve(paddedLines?.byteCount ?? (changesInput ? input.byteCount : 0))
    outputOffset = changesOutput ? reserve(output.byteCount) : 0
    let readiness: [Stage] = constants == nil || weights.storage == nil ? [.parameters] : []
    let order: [Stage] = paddedLines != nil ? [.toPaddedLines] : changesInput ? [.toChannelsLast] : []
    stages = readiness + order + [.sum] + (changesOutput ? [.toPlanar] : [])
    scratchBytes = end
  }

  private var copiesInput: Bool { stages.contains(.toPaddedLines) || stages.contains(.toChannelsLast) }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .parameters: weights.storage == nil ? 1 + weights.groups : 1
      case .toChannelsLast: input.parts
      case .toPaddedLines: paddedLines?.parts ?? 0
      case .sum: tiles.parts
      case .toPlanar: output.parts
      }
    }
    let operands = node.codes.inputs.operands
    let copiesInput = copiesInput
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      switch self.stages[phase] {
      case .parameters: self.prepare(run, part)
      case .toChannelsLast:
        input.toChannelsLast(part, run.inputBytes(operands.x), run.scratch + inputOffset)
      case .toPaddedLines:
        let zero = node.codes.xZero { run.inputBytes($0) }
        paddedLines?.fill(
          part, run.inputBytes(operands.x), isPlanar: !operands.channelsLast, zero: UInt8(truncatingIfNeeded: zero),
          run.scratch + inputOffset)
      case .sum: self.sum(run, part, copiesInput: copiesInput)
      case .toPlanar: output.toPlanar(part, run.scratch + outputOffset, run.outputBytes(0))
      }
    }
    if weights.storage != nil { step.unreadInputs = [operands.w] }
    return step.named(
      "gemm_i8 \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: node.convolution.operations))
  }

  private func prepare(_ run: RunContext, _ part: Int) {
    if part > 0 {
      weights.pack(run.inputBytes(node.codes.inputs.operands.w), run.scratch + weightsOffset, part: part - 1)
    } else if constants == nil {
      parameters.fill(run.scratch + parametersOffset) { run.inputBytes($0) }
    }
  }

  private func sum(_ run: RunContext, _ part: Int, copiesInput: Bool) {
    let (convolution, codes) = (node.convolution, node.codes)
    let outputs = convolution.outputChannels
    let isRequantized = codes.inputs.requantization != nil
    let width = isRequantized ? 1 : 4
    let x = copiesInput ? UnsafeRawPointer(run.scratch + inputOffset) : run.inputBytes(codes.inputs.operands.x)
    let y = outputOffset > 0 ? run.scratch + outputOffset : run.outputBytes(0)
    let packed = weights.storage.map { UnsafeRawPointer($0.base) } ?? UnsafeRawPointer(run.scratch + weightsOffset)
    let block = constants.map { UnsafeRawPointer($0.base) } ?? UnsafeRawPointer(run.scratch + parametersOffset)
    let (scales, zeros) = (parameters.scales(block), parameters.zeros(block))
    let bias: UnsafePointer<Int32>? = codes.bias.map { run.input($0) }
    var arguments = apus_gemm_i8_args(
      a: x, lda: convolution.channels, offsets: nil, pad: parameters.pad(block), taps: weights.kernelTaps,
      kc: weights.tapBytes, n: weights.outputsPerGroup, a_signed: codes.xIsSigned, b_signed: codes.wIsSigned,
      a_zero: codes.xZero { run.inputBytes($0) }, b_zero: zeros[0], a_zeros: nil, b_zeros: nil, b: packed, c: y,
      ldc: outputs,
      output: isRequantized ? (codes.yIsSigned ? APUS_GEMM_I8_TO_S8 : APUS_GEMM_I8_TO_U8) : APUS_GEMM_I8_TO_I32,
      wide: false, bias: nil, scale: 1, scales: nil, zero: codes.yZero { run.inputBytes($0) },
      low: codes.yIsSigned ? -128 : 0, high: codes.yIsSigned ? 127 : 255, epilogue: apus_epilogue_f32())
    tiles.forEach(part, scratch: run.scratch) { call in
      let image = call.image &* geometry.inputCount &* convolution.channels
      let firstOutput = call.group &* weights.outputsPerGroup
      let firstRow = call.table == nil ? call.rows.lowerBound &* convolution.channels : 0
      arguments.a = x + (image &+ call.group &* weights.channelsPerGroup &+ firstRow)
      arguments.offsets = call.table
      arguments.b = packed + call.group &* weights.groupBytes
      arguments.b_zeros = codes.wZeroCount > 1 ? zeros + firstOutput : nil
      arguments.scales = isRequantized ? scales + firstOutput : nil
      arguments.bias = bias.map { $0 + firstOutput }
      let target = (call.image &* geometry.outputCount &+ call.rows.lowerBound) &* outputs &+ firstOutput
      arguments.c = y + target &* width
      apus_kernels().pointee.gemm_i8(&arguments, 0, call.rows.count, call.panels.lowerBound, call.panels.upperBound)
    }
  }
}
