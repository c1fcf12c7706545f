// ConvTranspose: the transpose of a convolution. https://onnx.ai/onnx/operators/onnx__ConvTranspose.html
// Versions: 1, 11 (defaults of strides and dilations stated), 22 (bfloat16).

import ApusGraph
import ApusTensor

/// With `channelsLast` the operator of the engine's own domain, made by passes only: X and Y are [batch, spatial axes…,
/// channels], of float32; W is in the specification's layout.
package struct ConvTranspose: EngineOperator {
  package let schema: OperatorSchema
  private let channelsLast: Bool

  package init(channelsLast: Bool = false) {
    self.channelsLast = channelsLast
    schema = OperatorSchema(
      "ConvTranspose", domain: channelsLast ? "apus" : "", versions: channelsLast ? [1] : [1, 11, 22],
      inputs: [.required("X", "T"), .required("W", "T"), .optional("B", "T")],
      outputs: [.required("Y", "T")],
      attributes: convolutionAttributes + [.optional("output_padding", .ints), .optional("output_shape", .ints)],
      types: ["T": channelsLast ? [.float32] : .floats],
      layout: channelsLast
        ? .fixed
        : .images(twin: OperatorID("ConvTranspose", domain: "apus"), isFaster: { _ in false }) {
          $0.type(0) == .float32 && $0.constant(1) != nil
        },
      portable: .moreTypes,
      multiplyAdds: { facts in
        guard let x = facts.shape(0), let weights = facts.shape(1) else { return .unknown }
        return x.product * Array(weights.dropFirst()).product
      }, axes: channelsLast ? nil : AxisRules.transposedConvolution,
      weights: WeightTrait(bias: 2) { facts in
        WeightTrait.Axes(outputs: 1, inputs: 0, data: 1, result: 1, groups: facts.optionalInt("group") ?? 1)
      })
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (input, weights) = (context.shape(0), context.shape(1))
    let group = try context.int("group")
    guard group >= 1, group <= WindowAttributes.limit else {
      throw .invalid("attribute group is \(group); expected a positive number")
    }
    guard let rank = input?.count ?? weights?.count else { return context.set(0, context.type(0), nil) }
    let attributes = try TransposeAttributes(context, rank: rank - 2)
    var kernel = attributes.window.kernel?.map { Dim($0) } ?? [Dim](repeating: .unknown, count: rank - 2)
    if let weights {
      guard weights.count == rank else {
        throw .mismatch("the input has rank \(rank) and the weights have rank \(weights.count); expected the same")
      }
      for (axis, extent) in weights[2...].enumerated() {
        if extent.isSurelyDifferent(from: kernel[axis]) {
          throw .mismatch("kernel_shape is \(kernel), but the weights have the extents \(Array(weights[2...]))")
        }
        kernel[axis] = extent
      }
      if let input, input[channelAxis(rank)].isSurelyDifferent(from: weights[0]) {
        throw .mismatch("the input has \(input[channelAxis(rank)]) channels and the weights are for \(weights[0])")
      }
      if let channels = weights[0].known, channels % group != 0 {
        throw .mismatch("\(channels) input channels do not divide into \(group) groups")
      }
    }
    let outputChannels = weights.map { $0[1] * Dim(group) } ?? .unknown
    if let bias = context.shape(2), bias.count != 1 || bias[0].isSurelyDifferent(from: outputChannels) {
      throw .mismatch("the bias has the shape \(bias); expected [\(outputChannels)]")
    }
    let spatial = input.map { Array(channelsLast ? $0[1..<(rank - 1)] : $0[2...]) }
    let extents = try attributes.outputExtents(
      input: spatial ?? [Dim](repeating: .unknown, count: rank - 2), kernel: kernel)
    let batch = input?[0] ?? .unknown
    context.set(
      0, context.type(0), channelsLast ? [batch] + extents + [outputChannels] : [batch, outputChannels] + extents)
  }

  private func channelAxis(_ rank: Int) -> Int { channelsLast ? rank - 1 : 1 }

  /// Of the operator with channels at the end.
  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, into: builder)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try prepareFloat(context)
    case .float64: direct(Double.self, context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context, packed: [1]) { (context) throws(OperatorError) in try prepareFloat(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func prepareFloat(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    var weights: TransposedPhases?
    var packed: [PackedOperand] = []
    if let tensor = context.packable(1), tensor.dataType == .float32, tensor.rank >= 3 {
      let window = try TransposeAttributes(context, rank: tensor.rank - 2).window
      let facts = TransposedFacts(
        shape: tensor.shape.dims, groups: try context.int("group"), strides: window.strides,
        dilations: window.dilations)
      if let form = try facts.form {
        let phases = TransposedPhases(facts, form)
        packed = [PackedOperand(input: 1, storage: try phases.packed(tensor, context.packedWeights))]
        weights = phases
      }
    }
    return .planned(packing: packed, takingRows: channelsLast) { [self, weights] (plan) throws(OperatorError) in
      let shape = try TransposedConvolution(attributes, plan, channelsLast: channelsLast)
      let hasBias = plan.isPresent(2)
      if let weights, var step = kernelStep(shape, weights, hasBias: hasBias, plan) {
        step.unreadInputs = [1]
        return step
      }
      return directStep(Float.self, shape, hasBias: hasBias)
    }
  }

  /// The step on the kernels; nil where they do not have these sizes.
  private func kernelStep(
    _ shape: TransposedConvolution, _ weights: TransposedPhases, hasBias: Bool, _ plan: PlanContext
  ) -> Step? {
    switch weights.form {
    case .planes:
      guard let step = TransposedPlanes(shape, weights)?.step(hasBias: hasBias) else { return nil }
      return channelsLast
        ? ConvTranspose.betweenLayouts(step, shape, hasBias: hasBias).named(step.kernelName, cost: step.cost) : step
    case .products:
      let given = channelsLast ? shape.pixels(plan) : nil
      guard
        var step = TransposedProducts(
          shape, weights, isPlanar: !channelsLast, pixels: given ?? (shape.channels, shape.outputChannels))?
          .step(hasBias: hasBias)
      else { return nil }
      if given != nil { step.spread = plan.spread }
      return channelsLast ? step : ConvTranspose.fromChannelsLast(step, shape, hasBias: hasBias)
    }
  }

  /// A step that takes X with channels last, behind the change of a planar one.
  private static func fromChannelsLast(_ step: Step, _ shape: TransposedConvolution, hasBias: Bool) -> Step {
    let input = LayoutChange(images: shape.batch, channels: shape.channels, pixels: shape.geometry.outputCount)
    if input.isNothing { return step }
    var sequence = StepSequence()
    let x = sequence.reserve(bytes: input.byteCount)
    sequence.append(
      .parallel(parts: input.parts) { run, part in input.toChannelsLast(part, run.inputBytes(0), run.outputBytes(0)) },
      inputs: [.input(0)], outputs: [x])
    sequence.append(step, inputs: [x, .input(1), hasBias ? .input(2) : .none], outputs: [.output(0)])
    return sequence.step.named(step.kernelName, cost: step.cost)
  }

  private func direct<Element: ConvolutionElement>(_ type: Element.Type, _ context: PrepareContext) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    return .planned { [self] (plan) throws(OperatorError) in
      directStep(
        type, try TransposedConvolution(attributes, plan, channelsLast: channelsLast), hasBias: plan.isPresent(2))
    }
  }

  private func directStep<Element: ConvolutionElement>(
    _ type: Element.Type, _ shape: TransposedConvolution, hasBias: Bool
  ) -> Step {
    let planar = ConvTranspose.planarStep(type, shape, hasBias: hasBias)
    var step =
      channelsLast
      ? ConvTranspose.betweenLayouts(planar, shape, hasBias: hasBias).named("direct", cost: planar.cost)
      : planar
    // Without pixels the outputs are the bias.
    if shape.geometry.outputCount == 0 { step.unreadInputs = [1] }
    return step
  }

  /// The plain form between two changes of layout.
  private static func betweenLayouts(_ step: Step, _ shape: TransposedConvolution, hasBias: Bool) -> Step {
    let input = LayoutChange(images: shape.batch, channels: shape.channels, pixels: shape.geometry.outputCount)
    let output = LayoutChange(images: shape.batch, channels: shape.outputChannels, pixels: shape.geometry.inputCount)
    var sequence = StepSequence()
    let (x, y) = (sequence.reserve(bytes: input.byteCount), sequence.reserve(bytes: output.byteCount))
    sequence.append(
      .parallel(parts: input.parts) { run, part in input.toPlanar(part, run.inputBytes(0), run.outputBytes(0)) },
      inputs: [.input(0)], outputs: [x])
    sequence.append(step, inputs: [x, .input(1), hasBias ? .input(2) : .none], outputs: [y])
    sequence.append(
      .parallel(parts: output.parts) { run, part in output.toChannelsLast(part, run.inputBytes(0), run.outputBytes(0))
      },
      inputs: [y], outputs: [.output(0)])
    return sequence.step
  }

  /// First the bias everywhere, then, for every plane of the output, each input element's window added.
  private static func planarStep<Element: ConvolutionElement>(
    _ type: Element.Type, _ shape: TransposedConvolution, hasBias: Bool
  ) -> Step {
    let planes = shape.batch &* shape.outputChannels
    let windows = PlaneWindows(shape.geometry, planes: planes, cost: .light * shape.channelsPerGroup, wholePlanes: true)
    let (outputArea, inputArea) = (shape.geometry.inputCount, shape.geometry.outputCount)
    let taps = shape.geometry.tapCount
    let outputsPerGroup = shape.outputChannelsPerGroup
    let fill = Partition(planes, of: .light * outputArea)
    return Step(phases: [fill.parts, windows.partition.parts], scratchBytes: windows.scratchBytes) { run, phase, part in
      let y: UnsafeMutablePointer<Element> = run.output()
      if phase == 0 {
        let bias: UnsafePointer<Element>? = hasBias ? run.input(2) : nil
        for plane in fill.range(part) {
          let value = bias?[plane % shape.outputChannels] ?? Element.zero
          (y + plane &* outputArea).update(repeating: value, count: outputArea)
        }
        return
      }
      let x: UnsafePointer<Element> = run.input(0)
      let w: UnsafePointer<Element> = run.input(1)
      windows.forEach(part: part, scratch: run.scratch) { plane, index, window in
        let (image, output) = plane.quotientAndRemainder(dividingBy: shape.outputChannels)
        let (group, outputInGroup) = output.quotientAndRemainder(dividingBy: outputsPerGroup)
        let firstChannel = group &* shape.channelsPerGroup
        let source = x + ((image &* shape.channels &+ firstChannel) &* inputArea &+ index)
        let weights = w + ((firstChannel &* outputsPerGroup &+ outputInGroup) &* taps &+ window.tap)
        let target = y + (plane &* outputArea &+ window.first)
        for runIndex in 0..<window.rowCount {
          for tap in 0..<window.count {
            let factors = weights + (window.taps[runIndex] &+ tap)
            var sum = Element.zero
            for channel in 0..<shape.channelsPerGroup {
              sum = Element.multiplyAdd(sum, source[channel &* inputArea], factors[channel &* outputsPerGroup &* taps])
            }
            let position = window.rows[runIndex] &+ tap &* window.step
            target[position] = Element.sum(target[position], sum)
          }
        }
      }
    }.named(
      "direct",
      cost: Cost(operations: shape.operations))
  }
}

/// A transposed convolution with all extents known. `geometry` slides over the output.
struct TransposedConvolution: Sendable {
  let batch: Int
  let channels: Int
  let outputChannels: Int
  let groups: Int
  let geometry: WindowGeometry

  var channelsPerGroup: Int { channels / groups }
  var outputChannelsPerGroup: Int { outputChannels / groups }
  /// A multiply-add counts as two.
  var operations: Int {
    2 &* batch &* outputChannels &* geometry.outputCount &* geometry.tapCount &* channelsPerGroup
  }

  /// The elements from one pixel of images with channels last to the next, of the input and of the output; nil where
  /// operands lie in other rows than pixels.
  func pixels(_ context: PlanContext) -> (input: Int, output: Int)? {
    guard let input = context.distance(input: 0, rowsOf: channels),
      let output = context.distance(output: 0, rowsOf: outputChannels), context.rows(input: 1) == nil,
      context.rows(input: 2) == nil
    else { return nil }
    return (input, output)
  }

  init(_ attributes: NodeAttributes, _ context: PlanContext, channelsLast: Bool) throws(OperatorError) {
    let (input, weights, output) = (context.shape(0), context.shape(1), context.outputShape(0))
    guard input.rank >= 3, weights.rank == input.rank, output.rank == input.rank else {
      throw .mismatch("the input has rank \(input.rank) and the weights \(weights.rank); expected the same, 3 or more")
    }
    let window = try TransposeAttributes(attributes, rank: input.rank - 2)
    groups = try attributes.int("group")
    let channelAxis = channelsLast ? input.rank - 1 : 1
    (batch, channels, outputChannels) = (input[0], input[channelAxis], output[channelAxis])
    let spatial = channelsLast ? 1..<(input.rank - 1) : 2..<input.rank
    geometry = window.geometry(
      input: Array(input.dims[spatial]), kernel: Array(weights.dims[2...]), output: Array(output.dims[spatial]))
  }
}
