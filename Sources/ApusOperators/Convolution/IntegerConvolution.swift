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

  init(_ context: PrepareContext, _ inputs: IntegerOperands) throws(OperatorError) {
    var inputs = inputs
    if let zero = inputs.xZero, !context.isPresent(zero) { inputs.xZero = nil }
    if let zero = inputs.wZero, !context.isPresent(zero) { inputs.wZero = nil }
    self.inputs = inputs
    attributes = NodeAttributes(context)
    weights = KernelSelection.current.isPlain ? nil : try ByteWeights(context, input: inputs.operands.w)
  }

  /// The depthwise form, of more than one group, reads the weights as they are.
  var packedInputs: [Int] { weights?.groups == 1 ? [inputs.operands.w] : [] }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let convolution = try inputs.operands.resolve(attributes, context)
    guard let xType = context.inputs[inputs.operands.x]?.dataType,
      let wType = context.inputs[inputs.operands.w]?.dataType,
      let yType = context.outputs.first??.dataType
    else { throw .mismatch("an operand is missing") }
    let node = IntegerNode(
      convolution: convolution, inputs: inputs, bias: inputs.operands.bias.flatMap { context.isPresent($0) ? $0 : nil },
      xIsSigned: xType == .int8, wIsSigned: wType == .int8, yIsSigned: yType == .int8,
      wZeroCount: inputs.wZero.map { context.shape($0).elementCount } ?? 0,
      wScaleCount: inputs.requantization.map { context.shape($0.wScale).elementCount } ?? 0)
    let form =
      weights
      ?? ByteWeights(
        shape: context.shape(inputs.operands.w).dims, groups: convolution.groups, isSigned: wType == .int8)
    let facts = IntegerConvolutionFacts(elementType: xType, node: node, weights: form)
    return try IntegerConvolutionFacts.Candidate.choose(
      .integerConvolution, for: facts, IntegerConvolutionFacts.candidates)
  }
}

/// An integer convolution that is being planned.
private struct IntegerConvolutionFacts: KernelFacts {
  typealias Candidate = KernelCandidate<IntegerConvolutionFacts, Step>

  let elementType: DataType?
  let node: IntegerNode
  /// nil: there are no panels for them.
  let weights: ByteWeights?

  var layout: ImageLayout { node.inputs.operands.channelsLast ? .channelsLast : .planar }
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
      facts.weights.flatMap { ByteConvolution(facts.node, $0)?.step }
    },
    Candidate("depthwise") { facts in
      let convolution = facts.node.convolution
      guard convolution.groups > 1, convolution.channelsPerGroup == 1, convolution.outputChannelsPerGroup == 1 else {
        return .refused("not depthwise")
      }
      // In and out of float32.
      return .cost(.vectors(operations: 4 * facts.products))
    } make: { facts in
      DepthwiseBytes(facts.node)?.step
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
    let others = (1...8).map { $0 < 8 || node.bias != nil ? StepSequence.Operand.input($0) : .none }
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
  let inputs: IntegerOperands
  let bias: Int?
  let xIsSigned: Bool
  let wIsSigned: Bool
  let yIsSigned: Bool
  let wZeroCount: Int
  let wScaleCount: Int

  func xZero(_ run: RunContext) -> Int32 { inputs.xZero.map { byte(run.inputBytes($0), 0, isSigned: xIsSigned) } ?? 0 }

  func wZero(_ run: RunContext, output: Int) -> Int32 {
    inputs.wZero.map { byte(run.inputBytes($0), wZeroCount > 1 ? output : 0, isSigned: wIsSigned) } ?? 0
  }

  func yZero(_ run: RunContext) -> Int32 {
    inputs.requantization.map { byte(run.inputBytes($0.yZero), 0, isSigned: yIsSigned) } ?? 0
  }

  /// What a sum of an output channel is multiplied by.
  func scale(_ run: RunContext, output: Int) -> Float {
    guard let requantization = inputs.requantization else { return 1 }
    let w = run.input(requantization.wScale, as: Float.self)[wScaleCount > 1 ? output : 0]
    return run.input(requantization.xScale, as: Float.self)[0] * w / run.input(requantization.yScale, as: Float.self)[0]
  }

  @inline(__always)
  func byte(_ bytes: UnsafeRawPointer, _ index: Int, isSigned: Bool) -> Int32 {
    let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
    return isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)
  }
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
    let requantizes = node.inputs.requantization != nil
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
          bias: node.bias.map { run.input($0) },
          y: requantizes ? (run.scratch + sumsOffset).assumingMemoryBound(to: Int32.self) : run.output(),
          scratch: run.scratch + windowsOffset)
      default: self.requantize(run, part)
      }
    }
    if !readsWeights { step.unreadInputs = [node.inputs.operands.w] }
    return step.named("direct", cost: Cost(operations: node.convolution.operations))
  }

  private func widen(_ run: RunContext, _ part: Int) {
    let operands = node.inputs.operands
    if part < xPartition.parts {
      let x = run.scratch.assumingMemoryBound(to: Int32.self)
      let (bytes, zero) = (run.inputBytes(operands.x), node.xZero(run))
      for index in xPartition.range(part) { x[index] = node.byte(bytes, index, isSigned: node.xIsSigned) &- zero }
      return
    }
    let w = (run.scratch + wOffset).assumingMemoryBound(to: Int32.self)
    let bytes = run.inputBytes(operands.w)
    let count = node.convolution.channelsPerGroup &* node.convolution.geometry.tapCount
    for output in wPartition.range(part - xPartition.parts) {
      let zero = node.wZero(run, output: output)
      for index in output &* count..<(output &+ 1) &* count {
        w[index] = node.byte(bytes, index, isSigned: node.wIsSigned) &- zero
      }
    }
  }

  private func requantize(_ run: RunContext, _ part: Int) {
    let area = node.convolution.geometry.outputCount
    let rounding = ByteRounding(zero: node.yZero(run), isSigned: node.yIsSigned)
    for plane in planes.range(part) {
      let sums = (run.scratch + sumsOffset).assumingMemoryBound(to: Int32.self) + plane &* area
      let y: UnsafeMutablePointer<UInt8> = run.output(0) + plane &* area
      let scale = node.scale(run, output: plane % node.convolution.outputChannels)
      for index in 0..<area { y[index] = rounding(Float(sums[index]) * scale) }
    }
  }
}
