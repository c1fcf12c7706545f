// DeformConv: convolution whose taps are moved by learnt offsets. https://onnx.ai/onnx/operators/onnx__DeformConv.html
// Versions: 19, 22 (bfloat16).

import ApusGraph
import ApusTensor

struct DeformConv: OperatorDefinition {
  let schema = OperatorSchema(
    "DeformConv", versions: [19, 22],
    inputs: [
      .required("X", "T"), .required("W", "T"), .required("offset", "T"), .optional("B", "T"), .optional("mask", "T"),
    ],
    outputs: [.required("Y", "T")],
    attributes: [
      .optional("dilations", .ints), .int("group", default: 1), .optional("kernel_shape", .ints),
      .int("offset_group", default: 1), .optional("pads", .ints), .optional("strides", .ints),
    ],
    types: ["T": .floats], portable: .moreTypes)

  private static let operands = ConvolutionOperands(bias: 3)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try DeformConv.operands.infer(&context, outputType: context.type(0))
    let groups = try context.int("offset_group")
    guard groups >= 1, groups <= WindowAttributes.limit else {
      throw .invalid("attribute offset_group is \(groups); expected a positive number")
    }
    if let channels = context.shape(0)?[1].known, channels % groups != 0 {
      throw .mismatch("\(channels) channels do not divide into \(groups) offset groups")
    }
    guard let weights = context.shape(1), case .tensor(let output) = context.outputs[0], let shape = output.shape else {
      return
    }
    let taps = weights[2...].reduce(Dim(groups), *)
    let batchAndExtents = [shape[0]] + shape[2...]
    func check(_ input: Int, channels: Dim, _ name: String) throws(OperatorError) {
      guard let found = context.shape(input) else { return }
      let expected = [batchAndExtents[0], channels] + batchAndExtents[1...]
      if found.count != expected.count || zip(found, expected).contains(where: { $0.isSurelyDifferent(from: $1) }) {
        throw .mismatch("\(name) has the shape \(found); expected \(expected)")
      }
    }
    try check(2, channels: taps * Dim(weights.count - 2), "offset")
    try check(4, channels: taps, "mask")
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try DeformConv.prepareFloats(context)
    case .float64: try DeformConv.prepare(context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { (context) throws(OperatorError) in try DeformConv.prepareFloats(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private static func prepareFloats(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepare(context) { (facts) throws(OperatorError) in
      try DeformedFacts.Candidate.choose(.deformedConvolution, for: facts, DeformedFacts.candidates)
    }
  }

  private static func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepare(context) { DeformedConvolution<Double>($0).step }
  }

  private static func prepare(
    _ context: PrepareContext, _ step: @escaping @Sendable (DeformedFacts) throws(OperatorError) -> Step
  ) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let offsetGroups = try context.int("offset_group")
    return .planned { (plan) throws(OperatorError) in
      let convolution = try operands.resolve(attributes, plan)
      guard convolution.geometry.rank <= LinearSampler<Float>.maximumRank else {
        throw .unsupported("DeformConv of more than \(LinearSampler<Float>.maximumRank) spatial axes")
      }
      return try step(
        DeformedFacts(
          elementType: plan.inputs[0]?.dataType, convolution: convolution, offsetGroups: offsetGroups,
          bias: plan.isPresent(3) ? 3 : nil, mask: plan.isPresent(4) ? 4 : nil))
    }
  }
}

/// A deformed convolution that is being planned.
struct DeformedFacts: KernelFacts {
  typealias Candidate = KernelCandidate<DeformedFacts, Step>

  let elementType: DataType?
  var layout = ImageLayout.planar
  let convolution: Convolution
  let offsetGroups: Int
  /// The positions of inputs that are present.
  let bias: Int?
  let mask: Int?

  private var products: Double { Double(convolution.operations) / 2 }

  fileprivate static let candidates = [
    Candidate("plain") {
      .cost(.loops(operations: $0.products))
    } make: {
      DeformedConvolution<Float>($0).step
    },
    Candidate("products", types: [.float32]) { facts in
      DeformedProducts.refusal(facts).map { .refused($0) } ?? .cost(.vectors(operations: facts.products))
    } make: {
      DeformedProducts($0).step
    },
  ]
}

/// One output position at a time: its taps are sampled into a column, which every row of the weights multiplies.
private struct DeformedConvolution<Element: SampledElement & ConvolutionElement>: Sendable {
  let convolution: Convolution
  let offsetGroups: Int
  let bias: Int?
  let mask: Int?
  let partition: Partition
  let sampler: LinearSampler<Element>
  private let columnBytes: Int
  private let cornerBytes: Int

  init(_ facts: DeformedFacts) {
    let convolution = facts.convolution
    (self.convolution, offsetGroups, bias, mask) = (convolution, facts.offsetGroups, facts.bias, facts.mask)
    let column = convolution.channels &* convolution.geometry.tapCount
    partition = Partition(
      convolution.batch &* convolution.geometry.outputCount,
      of: .light * convolution.channelsPerGroup * convolution.outputChannels * convolution.geometry.tapCount)
    sampler = LinearSampler(extents: Array(convolution.geometry.input))
    columnBytes = aligned(column &* MemoryLayout<Element>.stride)
    cornerBytes = aligned(sampler.scratchBytes)
  }

  var step: Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts &* (columnBytes &+ cornerBytes)) { run, part in
      self.run(run, part)
    }.named("direct", cost: Cost(operations: convolution.operations))
  }

  private func run(_ run: RunContext, _ part: Int) {
    let scratch = run.scratch + part &* (columnBytes &+ cornerBytes)
    let column = scratch.assumingMemoryBound(to: Element.self)
    let corners = sampler.corners(in: scratch + columnBytes)
    let geometry = convolution.geometry
    let area = geometry.outputCount
    for unit in partition.range(part) {
      let (image, position) = unit.quotientAndRemainder(dividingBy: area)
      fill(column, image: image, position: position, corners, run)
      let y: UnsafeMutablePointer<Element> = run.output() + (image &* convolution.outputChannels &* area &+ position)
      let depth = convolution.channelsPerGroup &* geometry.tapCount
      for output in 0..<convolution.outputChannels {
        let weights: UnsafePointer<Element> = run.input(1) + output &* depth
        let values = column + output / convolution.outputChannelsPerGroup &* depth
        var sum = Element.zero
        for index in 0..<depth { sum = Element.multiplyAdd(sum, values[index], weights[index]) }
        if let bias { sum += run.input(bias, as: Element.self)[output] }
        y[output &* area] = sum
      }
    }
  }

  /// Samples all taps of all channels at one output position.
  private func fill(
    _ column: UnsafeMutablePointer<Element>, image: Int, position: Int, _ corners: SampleCorners<Element>,
    _ run: RunContext
  ) {
    let geometry = convolution.geometry
    let (rank, taps, area) = (geometry.rank, geometry.tapCount, geometry.outputCount)
    let channelsPerOffset = convolution.channels / offsetGroups
    // Without channels the offsets are as many as nobody can count.
    if channelsPerOffset == 0 { return }
    for group in 0..<offsetGroups {
      let source: UnsafePointer<Element> =
        run.input(0) + (image &* convolution.channels &+ group &* channelsPerOffset) &* geometry.inputCount
      for tap in 0..<taps {
        let block = (image &* offsetGroups &+ group) &* taps &+ tap
        let offsets: UnsafePointer<Element> = run.input(2) + (block &* rank &* area &+ position)
        var (rest, tapRest) = (position, tap)
        for axis in stride(from: rank - 1, through: 0, by: -1) {
          let start = rest % geometry.output[axis] &* geometry.strides[axis] &- geometry.padBegin[axis]
          let reach = tapRest % geometry.kernel[axis] &* geometry.dilations[axis]
          rest /= geometry.output[axis]
          tapRest /= geometry.kernel[axis]
          corners.coordinates[axis] = Element(start &+ reach) + offsets[axis &* area]
        }
        let count = sampler.place(corners)
        let factor = mask.map { run.input($0, as: Element.self)[block &* area &+ position] } ?? 1
        for channel in 0..<channelsPerOffset {
          let values = source + channel &* geometry.inputCount
          var sum = Element.zero
          for corner in 0..<count { sum += corners.weights[corner] * values[corners.offsets[corner]] }
          column[(group &* channelsPerOffset &+ channel) &* taps &+ tap] = sum * factor
        }
      }
    }
  }
}
