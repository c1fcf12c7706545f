// BatchNormalization of the engine's own domain: float32 images with channels last, statistics that are given, and an
// activation. Made by passes only. Like https://onnx.ai/onnx/operators/onnx__BatchNormalization.html but for the layout.

import ApusGraph
import ApusTensor

/// Y = activation((X - mean) / √(variance + epsilon) · scale + B). X and Y are [batch, spatial axes…, channels].
package struct ChannelsLastBatchNormalization: EngineOperator {
  package static let id = OperatorID("BatchNormalization", domain: "apus")

  package let schema = OperatorSchema(
    id.name, domain: id.domain, versions: [1],
    inputs: [
      .required("X", "T"), .required("scale", "T"), .required("B", "T"), .required("input_mean", "T"),
      .required("input_var", "T"),
    ],
    outputs: [.required("Y", "T")],
    attributes: [
      .float("epsilon", default: 1e-5), .float("momentum", default: 0.9), .int("training_mode", default: 0),
    ] + Activation.attributes,
    types: ["T": [.float32]])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.copy()
    guard let shape = context.shape(0) else { return }
    guard shape.count >= 2 else {
      throw .mismatch("X has rank \(shape.count); expected batch, spatial axes and channels")
    }
    let channels = shape[shape.count - 1]
    for input in 1...4 {
      guard let parameter = context.shape(input) else { continue }
      guard parameter.count == 1, !parameter[0].isSurelyDifferent(from: channels) else {
        throw .mismatch("\(schema.inputs[input].name) is \(parameter.text); expected [\(channels)]")
      }
    }
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, into: builder)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let activation = try Activation(epilogueOf: context)
    let loop = activation.kind == .none ? nil : try activation.function.floatLoop
    let epsilon = Double(try context.float("epsilon"))
    return try BatchNormalization.choose { affine in
      .planned(takingRows: true) { plan in
        ChannelsLastBatchNormalization.step(epsilon, affine, loop, plan)
      }
    }
  }

  /// Elements that are normalized before the activation goes over them: they are in the cache nearest to the core.
  private static let blockElements = 4096

  /// Scratch: the factor of each channel.
  private static func step(
    _ epsilon: Double, _ affine: @escaping BatchNormalization.Affine<Float>, _ activation: UnaryLoop?,
    _ plan: PlanContext
  ) -> Step {
    let shape = plan.shape(0)
    let channels = shape[shape.rank - 1]
    let pixels = channels == 0 ? 0 : shape.count(of: 0..<shape.rank - 1)
    let (input, output) = (plan.distance(input: 0, rowsOf: channels), plan.distance(output: 0, rowsOf: channels))
    let takesRows = input != nil && output != nil
    let (xPixel, yPixel) = takesRows ? (input ?? channels, output ?? channels) : (channels, channels)
    let partition = Partition(pixels, of: (activation == nil ? .light : .medium) * channels)
    let block = max(1, blockElements / max(channels, 1))
    let phases = [1, pixels == 0 ? 0 : partition.parts]
    var step = Step(phases: phases, scratchBytes: channels * MemoryLayout<Float>.stride) { run, phase, part in
      let factors = run.scratch.assumingMemoryBound(to: Float.self)
      if phase == 0 {
        let (scale, variance) = (run.input(1, as: Float.self), run.input(4, as: Float.self))
        for channel in 0..<channels {
          factors[channel] = Float(
            BatchNormalization.factor(
              scale: Double(scale[channel]), variance: Double(variance[channel]), epsilon: epsilon))
        }
        return
      }
      let (bias, mean) = (run.input(2, as: Float.self), run.input(3, as: Float.self))
      let (x, y) = (run.input(0, as: Float.self), run.output(0, as: Float.self))
      let range = partition.range(part)
      var first = range.lowerBound
      while first < range.upperBound {
        let end = min(first &+ block, range.upperBound)
        for pixel in first..<end {
          affine(channels, x + pixel &* xPixel, y + pixel &* yPixel, mean, factors, bias, true)
        }
        if let activation {
          if yPixel == channels {
            activation(y + first &* yPixel, y + first &* yPixel, (end &- first) &* channels)
          } else {
            for pixel in first..<end { activation(y + pixel &* yPixel, y + pixel &* yPixel, channels) }
          }
        }
        first = end
      }
    }
    if takesRows { step.spread = plan.spread }
    return xPixel == channels && yPixel == channels ? step.overwriting(0) : step
  }
}
