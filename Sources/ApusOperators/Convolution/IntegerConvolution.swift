// Convolution of 8-bit tensors with zero points, into sums of 32 bits or 8 bits again: what ConvInteger and QLinearConv
// have in common, and its plain form.

import ApusGraph
import ApusTensor

/// Which inputs of a node hold the operands of an integer convolution.
struct IntegerOperands: Sendable {
  /// Where the sums become 8 bits again.
  struct Requantization: Sendable {
    var xScale: Int
    var wScale: Int
    var yScale: Int
    var yZero: Int
  }

  var operands: ConvolutionOperands
  /// nil: 0.
  var xZero: Int?
  var wZero: Int?
  var requantization: Requantization?

  /// Throws where a zero point or scale has another shape than a scalar or, for the weights, one number a channel.
  func inferParameters(_ context: InferenceContext) throws(OperatorError) {
    for input in [xZero, requantization?.xScale, requantization?.yScale, requantization?.yZero] {
      guard let input, let shape = context.shape(input) else { continue }
      if shape.count > 1 || (shape.first?.known ?? 1) != 1 {
        throw .mismatch("\(context.schema.inputs[input].name) has the shape \(shape); expected a scalar")
      }
    }
    let channels = context.shape(operands.w)?.first ?? .unknown
    for input in [wZero, requantization?.wScale] {
      guard let input, let shape = context.shape(input) else { continue }
      guard shape.count <= 1, shape.isEmpty || shape[0].known == 1 || !shape[0].isSurelyDifferent(from: channels) else {
        throw .mismatch(
          "\(context.schema.inputs[input].name) has the shape \(shape); expected a scalar or [\(channels)]")
      }
    }
  }
}

/// The plan of an integer convolution.
struct IntegerConvolution: Kernel {
  private let inputs: IntegerOperands
  private let attributes: NodeAttributes
  private let weights: ByteWeights?
  private let constants: IntegerConstants

  init(_ context: PrepareContext, _ inputs: IntegerOperands) throws(OperatorError) {
    var inputs = inputs
    if let zero = inputs.xZero, !context.isPresent(zero) { inputs.xZero = nil }
    // Weights that are centred spare the kernels a sum over each row.
    if let zero = inputs.wZero, !context.isPresent(zero) || context.isZero(zero) { inputs.wZero = nil }
    self.inputs = inputs
    attributes = NodeAttributes(context)
    let isPlain = KernelSelection.current.isPlain
    // Weights that are rows of the product stay as they are.
    let areRows = try IntegerConvolution.hasPixelColumns(context, inputs)
    // So do those of single channels: their panels would be empty but for a column.
    let areSingle = try DepthwiseBytes.takes(context, inputs)
    weights = isPlain || areRows || areSingle ? nil : try ByteWeights(context, input: inputs.operands.w)
    constants = isPlain ? IntegerConstants() : try IntegerConstants(context, inputs, weights)
  }

  /// True of sums of planar images over single pixels.
  private static func hasPixelColumns(
    _ context: PrepareContext, _ inputs: IntegerOperands
  ) throws(OperatorError) -> Bool {
    guard inputs.requantization == nil, !inputs.operands.channelsLast,
      let kernel = context.shape(inputs.operands.w)?.dropFirst(2), kernel.allSatisfy({ $0.known == 1 })
    else { return false }
    let window = try WindowAttributes(context, rank: kernel.count)
    return window.strides.allSatisfy { $0 == 1 } && (window.padBegin + window.padEnd).allSatisfy { $0 == 0 }
  }

  /// The depthwise form, of more than one group, reads the weights as they are.
  var packedInputs: [Int] { weights?.groups == 1 ? [inputs.operands.w] : [] }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let convolution = try inputs.operands.resolve(attributes, context)
    guard let xType = context.inputs[inputs.operands.x]?.dataType,
      let wType = context.inputs[inputs.operands.w]?.dataType,
      let yType = context.outputs.first??.dataType
    else { throw .mismatch("an operand is missing") }
    let codes = IntegerCodes(
      inputs: inputs, bias: inputs.operands.bias.flatMap { context.isPresent($0) ? $0 : nil },
      xIsSigned: xType == .int8, wIsSigned: wType == .int8, yIsSigned: yType == .int8,
      wZeroCount: inputs.wZero.map { context.shape($0).elementCount } ?? 0,
      wScaleCount: inputs.requantization.map { context.shape($0.wScale).elementCount } ?? 0)
    let form =
      weights
      ?? ByteWeights(
        shape: context.shape(inputs.operands.w).dims, groups: convolution.groups, isSigned: wType == .int8)
    let facts = IntegerConvolutionFacts(
      elementType: xType, node: IntegerNode(convolution: convolution, codes: codes), weights: form,
      constants: constants)
    return try IntegerConvolutionFacts.Candidate.choose(
      .integerConvolution, for: facts, IntegerConvolutionFacts.candidates)
  }
}

extension PrepareContext {
  /// True for an input that is constant and 0 throughout.
  func isZero(_ input: Int) -> Bool {
    guard let tensor = constant(input), tensor.count <= 1 << 16 else { return false }
    return tensor.integers?.allSatisfy { $0 == 0 } ?? false
  }
}

/// The parameters of a node that are known when it is prepared, in the blocks of the kernels.
struct IntegerConstants: Sendable {
  private(set) var panels: TensorStorage?
  private(set) var depthwise: TensorStorage?

  init() {}

  init(_ context: PrepareContext, _ inputs: IntegerOperands, _ weights: ByteWeights?) throws(OperatorError) {
    guard let w = context.constant(inputs.operands.w), w.rank >= 3, let xType = context.optionalType(inputs.operands.x)
    else { return }
    let yType = context.outputType(0)
    let bias = inputs.operands.bias.flatMap { context.isPresent($0) ? $0 : nil }
    let codes = IntegerCodes(
      inputs: inputs, bias: bias, xIsSigned: xType == .int8, wIsSigned: w.dataType == .int8,
      yIsSigned: yType == .int8, wZeroCount: inputs.wZero.flatMap { context.constant($0)?.count } ?? 0,
      wScaleCount: inputs.requantization.flatMap { context.constant($0.wScale)?.count } ?? 0)
    if let weights { panels = try weights.parameters(codes).constantBlock(context) }
    let taps = w.shape.dims[2...].reduce(1, &*)
    if try DepthwiseBytes.takes(context, inputs) {
      depthwise = try DepthwiseBytes.parameters(codes, channels: w.shape[0], taps: taps).constantBlock(context)
    }
  }
}

/// An integer convolution that is being planned.
private struct IntegerConvolutionFacts: KernelFacts {
  typealias Candidate = KernelCandidate<IntegerConvolutionFacts, Step>

  let elementType: DataType?
  let node: IntegerNode
  /// nil: there are no panels for them.
  let weights: ByteWeights?
  let constants: IntegerConstants

  var layout: ImageLayout { node.codes.inputs.operands.channelsLast ? .channelsLast : .planar }
  private var products: Double { Double(node.convolution.operations) / 2 }

  static let candidates = [
    Candidate("plain") {
      .cost(.loops(operations: 4 * $0.products))
    } make: { facts in
      let step = DirectIntegerConvolution(facts.node).step
      return facts.layout == .channelsLast ? betweenLayouts(step, facts.node) : step
    },
    Candidate("panels") { facts in
      guard facts.weights != nil else { return .refused("groups so small that panels would be empty") }
      return .cost(
        .vectors(operations: 2 * facts.products * panelWaste(facts.node.convolution.outputChannelsPerGroup)))
    } make: { facts in
      facts.weights.flatMap { ByteConvolution(facts.node, $0, facts.constants.panels)?.step }
    },
    Candidate("columns", layouts: [.planar]) { facts in
      if let refusal = IntegerColumns.refusal(facts.node) { return .refused(refusal) }
      return .cost(.vectors(operations: 2 * facts.products))
    } make: {
      IntegerColumns($0.node).step
    },
    Candidate("depthwise") { facts in
      let convolution = facts.node.convolution
      guard convolution.groups > 1, convolution.channelsPerGroup == 1, convolution.outputChannelsPerGroup == 1 else {
        return .refused("not depthwise")
      }
      // Out of bytes and into float32.
      return .cost(.vectors(operations: 4 * facts.products))
    } make: { facts in
      DepthwiseBytes(facts.node, facts.constants.depthwise)?.step
    },
  ]

  /// The plain form of a convolution into 8 bits between two changes of layout.
  private static func betweenLayouts(_ step: Step, _ node: IntegerNode) -> Step {
    let convolution = node.convolution
    let input = LayoutChange(
      images: convolution.batch, channels: convolution.channels, pixels: convolution.geometry.inputCount, width: 1)
    let output = LayoutChange(
      images: convolution.batch, channels: convolution.outputChannels, pixels: convolution.geometry.outputCount,
      width: 1)
    var sequence = StepSequence()
    let (x, y) = (sequence.reserve(bytes: input.byteCount), sequence.reserve(bytes: output.byteCount))
    sequence.append(
      .parallel(parts: input.parts) { run, part in input.toPlanar(part, run.inputBytes(0), run.outputBytes(0)) },
      inputs: [.input(0)], outputs: [x])
    let others = (1...8).map { $0 < 8 || node.codes.bias != nil ? StepSequence.Operand.input($0) : .none }
    sequence.append(step, inputs: [x] + others, outputs: [y])
    sequence.append(
      .parallel(parts: output.parts) { run, part in output.toChannelsLast(part, run.inputBytes(0), run.outputBytes(0))
      },
      inputs: [y], outputs: [.output(0)])
    var result = sequence.step
    result.unreadInputs = step.unreadInputs
    return result.named("direct", cost: step.cost)
  }
}

/// One integer convolution with all that is known when it is planned.
struct IntegerNode: Sendable {
  let convolution: Convolution
  let codes: IntegerCodes
}

/// The plain form: operands less their zero points as 32 bits, their sums, and those as 8 bits again.
struct DirectIntegerConvolution: Sendable {
  private let node: IntegerNode
  private let direct: DirectConvolution<Int32>
  private let xPartition: Partition
  private let wPartition: Partition
  private let planes: Partition
  private let wOffset: Int
  private let windowsOffset: Int
  private let sumsOffset: Int
  /// False for empty images, of which only the padding is seen.
  private let readsWeights: Bool

  init(_ node: IntegerNode) {
    self.node = node
    let convolution = node.convolution
    readsWeights = convolution.geometry.inputCount > 0
    let x = convolution.batch &* convolution.channels &* convolution.geometry.inputCount
    let w = convolution.outputChannels &* convolution.channelsPerGroup &* convolution.geometry.tapCount
    direct = DirectConvolution(convolution)
    xPartition = Partition(x, of: .light)
    wPartition = Partition(convolution.outputChannels, of: .light * (w / max(1, convolution.outputChannels)))
    planes = Partition(
      convolution.batch &* convolution.outputChannels, of: .light * 2 * convolution.geometry.outputCount)
    wOffset = aligned(x &* 4)
    windowsOffset = aligned(wOffset + w &* 4)
    sumsOffset = aligned(windowsOffset + direct.windows.scratchBytes)
  }

  var step: Step {
    let requantizes = node.codes.inputs.requantization != nil
    let sums = requantizes ? aligned(node.convolution.outputCount &* 4) : 0
    let phases =
      [xPartition.parts + (readsWeights ? wPartition.parts : 0), direct.windows.partition.parts]
      + (requantizes ? [planes.parts] : [])
    var step = Step(phases: phases, scratchBytes: sumsOffset + sums) { run, phase, part in
      switch phase {
      case 0: self.widen(run, part)
      case 1:
        direct.run(
          part: part, x: run.scratch.assumingMemoryBound(to: Int32.self),
          w: (run.scratch + wOffset).assumingMemoryBound(to: Int32.self),
          bias: node.codes.bias.map { run.input($0) },
          y: requantizes ? (run.scratch + sumsOffset).assumingMemoryBound(to: Int32.self) : run.output(),
          scratch: run.scratch + windowsOffset)
      default: self.requantize(run, part)
      }
    }
    if !readsWeights { step.unreadInputs = [node.codes.inputs.operands.w] }
    return step.named("direct", cost: Cost(operations: node.convolution.operations))
  }

  private func widen(_ run: RunContext, _ part: Int) {
    let operands = node.codes.inputs.operands
    if part < xPartition.parts {
      let x = run.scratch.assumingMemoryBound(to: Int32.self)
      let (bytes, zero) = (run.inputBytes(operands.x), node.codes.xZero { run.inputBytes($0) })
      for index in xPartition.range(part) {
        x[index] = IntegerCodes.byte(bytes, index, isSigned: node.codes.xIsSigned) &- zero
      }
      return
    }
    let w = (run.scratch + wOffset).assumingMemoryBound(to: Int32.self)
    let bytes = run.inputBytes(operands.w)
    let count = node.convolution.channelsPerGroup &* node.convolution.geometry.tapCount
    for output in wPartition.range(part - xPartition.parts) {
      let zero = node.codes.wZero({ run.inputBytes($0) }, output: output)
      for index in output &* count..<(output &+ 1) &* count {
        w[index] = IntegerCodes.byte(bytes, index, isSigned: node.codes.wIsSigned) &- zero
      }
    }
  }

  private func requantize(_ run: RunContext, _ part: Int) {
    let area = node.convolution.geometry.outputCount
    let rounding = ByteRounding(zero: node.codes.yZero { run.inputBytes($0) }, isSigned: node.codes.yIsSigned)
    for plane in planes.range(part) {
      let sums = (run.scratch + sumsOffset).assumingMemoryBound(to: Int32.self) + plane &* area
      let y: UnsafeMutablePointer<UInt8> = run.output(0) + plane &* area
      let scale = node.codes.scale({ run.inputBytes($0) }, output: plane % node.convolution.outputChannels)
      for index in 0..<area { y[index] = rounding(Float(sums[index]) * scale) }
    }
  }
}
