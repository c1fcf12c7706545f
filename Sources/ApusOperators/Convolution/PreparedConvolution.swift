// A convolution after preparation: the kernels where they have it, otherwise the plain form.

import ApusGraph
import ApusTensor
import CApusKernels

/// Inputs X, W and, by position, B and a residual. A residual and an epilogue are for float32 only.
struct PreparedConvolution<Element: ConvolutionElement>: Kernel {
  private let operands: ConvolutionOperands
  private let attributes: NodeAttributes
  private let residual: Int?
  private let weights: ConvolutionWeights?
  private let epilogue: ConvolutionEpilogue
  /// True: never the kernels.
  private let isDirect: Bool

  init(
    _ context: PrepareContext, _ operands: ConvolutionOperands, residual: Int? = nil, weights: ConvolutionWeights?,
    _ epilogue: ConvolutionEpilogue, isDirect: Bool = false
  ) {
    (self.operands, self.residual, self.weights, self.epilogue) = (operands, residual, weights, epilogue)
    attributes = NodeAttributes(context)
    self.isDirect = isDirect || Element.self != Float.self
  }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let convolution = try operands.resolve(attributes, context)
    let bias = operands.bias.flatMap { context.isPresent($0) ? $0 : nil }
    let residual = residual.flatMap { context.isPresent($0) ? $0 : nil }
    if !isDirect, let core = core(convolution, context) {
      return ConvolutionStep(core, isPlanar: !operands.channelsLast, bias: bias, residual: residual).step
    }
    if operands.channelsLast { return channelsLastStep(convolution, bias: bias, residual: residual) }
    return DirectConvolution<Element>.step(convolution, bias: bias)
  }

  private func core(_ convolution: Convolution, _ context: PlanContext) -> ConvolutionCore? {
    let form = weights ?? ConvolutionWeights(
      shape: context.shape(operands.w).dims, groups: convolution.groups, dilations: convolution.geometry.dilations)
    return form.flatMap { ConvolutionCore(convolution, $0, epilogue) }
  }

  /// The plain form between two changes of layout, then residual and activation.
  private func channelsLastStep(_ convolution: Convolution, bias: Int?, residual: Int?) -> Step {
    let direct = DirectConvolution<Float>(convolution)
    let area = (convolution.geometry.inputCount, convolution.geometry.outputCount)
    let input = LayoutChange(images: convolution.batch, channels: convolution.channels, pixels: area.0)
    let output = LayoutChange(images: convolution.batch, channels: convolution.outputChannels, pixels: area.1)
    let x = aligned(direct.windows.scratchBytes)
    let y = x + aligned(convolution.batch &* convolution.channels &* area.0 &* 4)
    let finish = Partition(convolution.outputCount, minimum: 32_768)
    let phases = [input.parts, direct.windows.partition.parts, output.parts, finish.parts]
    let scratch = y + aligned(convolution.outputCount &* 4)
    return Step(phases: phases, scratchBytes: scratch) { [epilogue] run, phase, part in
      let planarX = (run.scratch + x).assumingMemoryBound(to: Float.self)
      let planarY = (run.scratch + y).assumingMemoryBound(to: Float.self)
      switch phase {
      case 0: input.toPlanar(part, run.input(0), planarX)
      case 1:
        direct.run(
          part: part, x: planarX, w: run.input(1), bias: bias.map { run.input($0) }, y: planarY, scratch: run.scratch)
      case 2: output.toChannelsLast(part, planarY, run.output(0))
      default:
        let range = finish.range(part)
        if range.isEmpty { return }
        epilogue.apply(
          run.output(0) + range.lowerBound, add: residual.map { run.input($0) + range.lowerBound }, count: range.count)
      }
    }.named("direct", operations: convolution.operations)
  }
}

extension ConvolutionEpilogue {
  /// y = activation(y + add) for `count` elements.
  func apply(_ y: UnsafeMutablePointer<Float>, add: UnsafePointer<Float>?, count: Int) {
    if let add { apus_kernels().pointee.accumulate_f32(count, add, y) }
    let kernels = apus_kernels()
    let function: apus_unary_f32_fn? =
      switch activation {
      case APUS_ACTIVATION_RELU: kernels.pointee.relu_f32
      case APUS_ACTIVATION_CLIP: kernels.pointee.clip_f32
      case APUS_ACTIVATION_LEAKY_RELU: kernels.pointee.leaky_relu_f32
      case APUS_ACTIVATION_SIGMOID: kernels.pointee.sigmoid_f32
      case APUS_ACTIVATION_TANH: kernels.pointee.tanh_f32
      case APUS_ACTIVATION_HARD_SIGMOID: kernels.pointee.hard_sigmoid_f32
      case APUS_ACTIVATION_HARD_SWISH: kernels.pointee.hard_swish_f32
      case APUS_ACTIVATION_SILU: kernels.pointee.silu_f32
      case APUS_ACTIVATION_GELU: kernels.pointee.gelu_f32
      case APUS_ACTIVATION_GELU_TANH: kernels.pointee.gelu_tanh_f32
      default: nil
      }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { parameters in
      parameters[0] = alpha
      parameters[1] = beta
      function?(count, y, y, parameters.baseAddress)
    }
  }
}
