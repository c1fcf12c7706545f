// BatchNormalization: each channel less its mean, over its deviation.
// https://onnx.ai/onnx/operators/onnx__BatchNormalization.html Versions: 1, 6 (is_test, spatial), 7 (training by the
// number of outputs), 9 (no spatial), 14 (training_mode), 15.

import ApusGraph
import ApusTensor
import CApusKernels

package struct BatchNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "BatchNormalization", versions: [1, 6, 7, 9, 14, 15],
    inputs: [
      .required("X", "T"), .required("scale", "T1"), .required("B", "T1"), .required("input_mean", "T2"),
      .required("input_var", "T2"),
    ],
    outputs: [.required("Y", "T"), .optional("running_mean", "T2"), .optional("running_var", "T2")],
    attributes: [
      .float("epsilon", default: 1e-5), .float("momentum", default: 0.9), .int("training_mode", default: 0).since(14),
    ],
    types: ["T": .floats, "T1": .floats, "T2": .floats],
    layout: .images(twin: ChannelsLastBatchNormalization.id, isFaster: { _ in false }) { node in
      (node.optionalInt("training_mode") ?? 0) == 0 && (0..<5).allSatisfy { node.type($0) == .float32 }
    }, axes: AxisRules.planesWithParameters)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.copy()
    if let shape = context.shape(0) {
      guard !shape.isEmpty else { throw .mismatch("X is a scalar; expected a batch") }
      let channels = shape.count > 1 ? shape[1] : 1
      for input in 1...4 {
        guard let parameter = context.shape(input) else { continue }
        guard parameter.count == 1, !parameter[0].isSurelyDifferent(from: channels) else {
          throw .mismatch("\(schema.inputs[input].name) is \(parameter.text); expected [\(channels)]")
        }
      }
    }
    context.copy(input: 3, to: 1)
    context.copy(input: 4, to: 2)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let options = Options(
      isTraining: try context.bool("training_mode"), momentum: Double(try context.float("momentum")),
      epsilon: Double(try context.float("epsilon")))
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        try BatchNormalization.choose { BatchNormalization.kernel(options, $0) }
      },
      double: { (_) throws(OperatorError) in
        BatchNormalization.kernel(options, BatchNormalization.plain(Double.self))
      })
  }

  struct Options: Sendable {
    let isTraining: Bool
    let momentum: Double
    let epsilon: Double
  }

  /// y = (x - mean) * factor + bias for `count` elements, with one mean, factor and bias for all or for each.
  typealias Affine<Element> =
    @Sendable (
      _ count: Int, _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ mean: UnsafePointer<Element>,
      _ factor: UnsafePointer<Element>, _ bias: UnsafePointer<Element>, _ each: Bool
    ) -> Void

  /// The kernel with the loop that suits the machine.
  static func choose(
    _ kernel: @escaping @Sendable (@escaping Affine<Float>) -> PreparedKernel
  ) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .batchNormalization, type: .float32,
      [
        .plain { kernel(plain(Float.self)) },
        .vectors("rows") {
          let affine = apus_kernels().pointee.affine_f32
          return kernel { affine($0, $1, $2, $3, $4, $5, $6) }
        },
      ])
  }

  /// What a channel's elements are multiplied by.
  @inline(__always) static func factor(scale: Double, variance: Double, epsilon: Double) -> Double {
    scale / (variance + epsilon).squareRoot()
  }

  private static func plain<Element: Real>(_ type: Element.Type) -> Affine<Element> {
    { count, x, y, mean, factor, bias, each in
      if each {
        for index in 0..<count { y[index] = (x[index] - mean[index]) * factor[index] + bias[index] }
      } else {
        let (mean, factor, bias) = (mean[0], factor[0], bias[0])
        for index in 0..<count { y[index] = (x[index] - mean) * factor + bias }
      }
    }
  }

  private static func kernel<Element: Real>(
    _ options: Options, _ affine: @escaping Affine<Element>
  ) -> PreparedKernel {
    .planned { plan in
      let shape = plan.shape(0)
      let channels = shape.rank > 1 ? shape[1] : 1
      let inner = shape.rank > 2 ? shape.count(of: 2..<shape.rank) : 1
      let layout = ChannelLayout(batch: shape[0], channels: channels, inner: inner)
      var wanted: [Int] = []
      for output in [1, 2] where plan.isWanted(output) { wanted.append(output) }
      return layout.step(options, wanted: wanted, affine)
    }
  }
}

/// A tensor [batch, channels, inner].
private struct ChannelLayout: Sendable {
  let batch: Int
  let channels: Int
  let inner: Int

  /// Scratch: the mean, then the factor, of each channel.
  func step<Element: Real>(
    _ options: BatchNormalization.Options, wanted: [Int], _ affine: @escaping BatchNormalization.Affine<Element>
  ) -> Step {
    let width = MemoryLayout<Element>.stride
    // A part sums whole channels.
    let statistics = Partition(channels, of: options.isTraining ? .medium * batch * inner : .heavy)
    // A line is a channel of one image or, without inner axes, all channels of one image.
    let lines = inner == 1 ? batch : batch * channels
    let length = inner == 1 ? channels : inner
    let partition = Partition(lines, of: .medium * length)
    let phases = [statistics.parts, length == 0 ? 0 : partition.parts]
    return Step(phases: phases, scratchBytes: 2 * channels * width) { run, phase, part in
      let means = run.scratch.assumingMemoryBound(to: Element.self)
      let factors = means + channels
      if phase == 0 {
        for channel in statistics.range(part) { prepare(channel, run, options, means, factors, wanted) }
        return
      }
      let (x, y) = (run.input(0, as: Element.self), run.output(0, as: Element.self))
      let bias = run.input(2, as: Element.self)
      for line in partition.range(part) {
        let (source, target) = (x + line &* length, y + line &* length)
        let channel = inner == 1 ? 0 : line % channels
        affine(length, source, target, means + channel, factors + channel, bias + channel, inner == 1)
      }
    }.overwriting(0)
  }

  /// The mean and factor of one channel, and its running statistics.
  private func prepare<Element: Real>(
    _ channel: Int, _ run: RunContext, _ options: BatchNormalization.Options,
    _ means: UnsafeMutablePointer<Element>, _ factors: UnsafeMutablePointer<Element>, _ wanted: [Int]
  ) {
    var mean = Double(run.input(3, as: Element.self)[channel])
    var variance = Double(run.input(4, as: Element.self)[channel])
    if options.isTraining {
      let (runningMean, runningVariance) = (mean, variance)
      (mean, variance) = moments(of: channel, run.input(0, as: Element.self))
      let (old, new) = (options.momentum, 1 - options.momentum)
      if wanted.contains(1) { run.output(1, as: Element.self)[channel] = Element(runningMean * old + mean * new) }
      if wanted.contains(2) {
        run.output(2, as: Element.self)[channel] = Element(runningVariance * old + variance * new)
      }
    } else {
      if wanted.contains(1) { run.output(1, as: Element.self)[channel] = Element(mean) }
      if wanted.contains(2) { run.output(2, as: Element.self)[channel] = Element(variance) }
    }
    means[channel] = Element(mean)
    let scale = Double(run.input(1, as: Element.self)[channel])
    factors[channel] = Element(
      BatchNormalization.factor(scale: scale, variance: variance, epsilon: options.epsilon))
  }

  private func moments<Element: Real>(of channel: Int, _ x: UnsafePointer<Element>) -> (mean: Double, variance: Double)
  {
    let count = Double(batch * inner)
    var sum = 0.0
    for image in 0..<batch {
      let line = x + (image &* channels &+ channel) &* inner
      for index in 0..<inner { sum += Double(line[index]) }
    }
    let mean = sum / count
    var squares = 0.0
    for image in 0..<batch {
      let line = x + (image &* channels &+ channel) &* inner
      for index in 0..<inner {
        let difference = Double(line[index]) - mean
        squares += difference * difference
      }
    }
    return (mean, squares / count)
  }
}
