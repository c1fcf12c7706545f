// A convolution after preparation: the kernels where they have it, otherwise the plain form.

import ApusGraph
import ApusTensor

/// Inputs X, W and, by position, B and a residual. A residual and an epilogue are for float32 only.
/// Not a `Kernel` itself: a generic type runs unspecialised behind a protocol. `prepared` is called on concrete ones.
struct PreparedConvolution<Element: ConvolutionElement>: Sendable {
  private let operands: ConvolutionOperands
  private let attributes: NodeAttributes
  private let windows: WindowForm?
  private let residual: Int?
  private let weights: ConvolutionWeights?
  /// The constant weights; nil if they are packed while running.
  private let packed: TensorStorage?
  /// nil: none.
  private let activation: Activation?

  init(
    _ context: PrepareContext, _ operands: ConvolutionOperands, residual: Int? = nil, activation: Activation? = nil
  ) throws(OperatorError) {
    (self.operands, self.residual, self.activation) = (operands, residual, activation)
    attributes = NodeAttributes(context)
    windows = try operands.windows(attributes, context)
    let weights = Element.self == Float.self ? try ConvolutionWeights.packed(context, operands) : nil
    (self.weights, packed) = (weights?.form, weights?.storage)
  }

  private var packedOperands: [PackedOperand] {
    packed.map { [PackedOperand(input: operands.w, storage: $0)] } ?? []
  }

  @inline(__always) var prepared: PreparedKernel {
    .planned(packing: packedOperands, takingRows: operands.channelsLast) { (context) throws(OperatorError) in
      try plan(context)
    }
  }

  private func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let convolution = try operands.resolve(attributes, context, windows: windows)
    let bias = operands.bias.flatMap { context.isPresent($0) ? $0 : nil }
    let residual = residual.flatMap { context.isPresent($0) ? $0 : nil }
    let pixels =
      operands.channelsLast && !context.spread.isEmpty
      ? ConvolutionPixels(convolution, residual: residual, bias: bias, weights: operands.w, context) : nil
    var weights = weights
    if Element.self == Float.self, weights == nil { weights = try unpackedWeights(convolution, context) }
    if let weights, let sums = planarSums(convolution, weights, hasBias: bias != nil) {
      return PlanarStep(convolution: convolution).step(
        around: sums, weights, operands, isPacked: packed != nil, bias: bias, residual: residual,
        activation: activation)
    }
    let epilogue = activation?.epilogue ?? GemmEpilogue()
    if let weights, !weights.form.isPlanar, let core = ConvolutionCore(convolution, weights, epilogue, pixels) {
      var step = ConvolutionStep(
        core, isPlanar: !operands.channelsLast, isPacked: packed != nil, bias: bias, residual: residual
      ).step
      // Padded copies are made of images that lie dense.
      if pixels != nil, core.padded == nil || context.rows(input: 0) == nil { step.spread = context.spread }
      return step
    }
    if Element.self == Double.self, let products = try doubleProducts(convolution, bias: bias) { return products }
    var step =
      operands.channelsLast
      ? channelsLastStep(convolution, bias: bias, residual: residual)
      : DirectConvolution<Element>.step(convolution, bias: bias)
    // Of empty images only the padding is seen.
    if convolution.geometry.inputCount == 0 { step.unreadInputs = [operands.w] }
    return step
  }

  /// The products of float64; nil: the plain form is to be taken.
  private func doubleProducts(_ convolution: Convolution, bias: Int?) throws(OperatorError) -> Step? {
    try KernelCandidate<ElementFacts, Step?>.choose(
      .convolution, type: .float64,
      [
        .plain { .some(nil) },
        .vectors("products", types: [.float64]) {
          DoubleConvolution(convolution).map { .some($0.step(bias: bias)) }
        },
      ])
  }

  /// The sums over planar images, of X, packed weights and B; nil for weights in another form, and where the kernels do
  /// not have these sizes.
  private func planarSums(_ convolution: Convolution, _ weights: ConvolutionWeights, hasBias: Bool) -> Step? {
    let bias = hasBias ? 2 : nil
    switch weights.form {
    case .planes:
      return DepthwisePlanes(convolution)?.step(bias: bias) ?? PlanarConvolution(convolution)?.step(bias: bias)
    case .columns: return ColumnConvolution(convolution, weights)?.step(bias: bias)
    default: return nil
    }
  }

  /// The form of weights that are packed while running; nil: the plain form is to be taken.
  private func unpackedWeights(
    _ convolution: Convolution, _ context: PlanContext
  ) throws(OperatorError) -> ConvolutionWeights? {
    let facts = ConvolutionFacts(
      shape: context.shape(operands.w).dims, groups: convolution.groups, dilations: convolution.geometry.dilations,
      layout: operands.layout)
    return try facts.form.flatMap { ConvolutionWeights(facts, form: $0) }
  }

  /// The plain form between two changes of layout, then residual and activation.
  private func channelsLastStep(_ convolution: Convolution, bias: Int?, residual: Int?) -> Step {
    let direct = DirectConvolution<Float>(convolution)
    let area = (convolution.geometry.inputCount, convolution.geometry.outputCount)
    let input = LayoutChange(images: convolution.batch, channels: convolution.channels, pixels: area.0)
    let output = LayoutChange(images: convolution.batch, channels: convolution.outputChannels, pixels: area.1)
    let x = aligned(direct.windows.scratchBytes)
    let y = x + aligned(convolution.batch &* convolution.channels &* area.0 &* 4)
    let finish = Partition(convolution.outputCount, of: .light * 2)
    let phases = [input.parts, direct.windows.partition.parts, output.parts, finish.parts]
    let scratch = y + aligned(convolution.outputCount &* 4)
    let exact = activation.map { ExactActivation($0) }
    return Step(phases: phases, scratchBytes: scratch) { run, phase, part in
      let planarX = (run.scratch + x).assumingMemoryBound(to: Float.self)
      let planarY = (run.scratch + y).assumingMemoryBound(to: Float.self)
      switch phase {
      case 0: input.toPlanar(part, run.inputBytes(0), planarX)
      case 1:
        direct.run(
          part: part, x: planarX, w: run.input(1), bias: bias.map { run.input($0) }, y: planarY, scratch: run.scratch)
      case 2: output.toChannelsLast(part, planarY, run.outputBytes(0))
      default:
        let y: UnsafeMutablePointer<Float> = run.output(0)
        let add: UnsafePointer<Float>? = residual.map { run.input($0) }
        for index in finish.range(part) {
          let sum = add.map { y[index] + $0[index] } ?? y[index]
          y[index] = exact.map { Float($0(Double(sum))) } ?? sum
        }
      }
    }.named("direct", cost: Cost(operations: convolution.operations))
  }
}
