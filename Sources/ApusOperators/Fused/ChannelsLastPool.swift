// MaxPool, AveragePool and GlobalAveragePool of the engine's own domain: float32 images with channels last. Made by
// passes only. Like https://onnx.ai/onnx/operators/onnx__MaxPool.html and its relatives but for the layout.

import ApusGraph
import ApusTensor
import CApusKernels

/// X and Y are [batch, spatial axes…, channels].
package struct ChannelsLastPool: EngineOperator {
  package enum Reduction: Sendable { case maximum, mean }

  package let schema: OperatorSchema
  private let reduction: Reduction

  package init(_ reduction: Reduction) {
    self.reduction = reduction
    schema = OperatorSchema(
      reduction == .maximum ? "MaxPool" : "AveragePool", domain: "apus", versions: [1],
      inputs: [.required("X", "T")],
      outputs: [.required("Y", "T")],
      attributes: poolAttributes() + [
        reduction == .maximum ? .int("storage_order", default: 0) : .int("count_include_pad", default: 0)
      ],
      types: ["T": [.float32]])
  }

  private static let layout = PoolLayout(channelsLast: true)

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try ChannelsLastPool.layout.outputShape(context))
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, into: builder)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let countsPads = context.optionalInt("count_include_pad") ?? 0 != 0
    return .planned(takingRows: true) { [reduction] (plan) throws(OperatorError) in
      let geometry = try ChannelsLastPool.layout.geometry(attributes, plan)
      let channels = plan.shape(0)[geometry.rank + 1]
      var pool = PoolFacts(
        elementType: .float32, layout: .channelsLast, geometry: geometry, planes: plan.shape(0)[0], channels: channels,
        countsPads: countsPads)
      if let input = plan.distance(input: 0, rowsOf: channels), let output = plan.distance(output: 0, rowsOf: channels)
      {
        (pool.pixels, pool.spread) = ((input, output), plan.spread)
      }
      return try ChannelsLastPool.candidates(reduction).chosen(.channelsLastPool, pool)
    }
  }

  private static func candidates(_ reduction: Reduction) -> [PoolCandidate] {
    reduction == .maximum ? maximumCandidates : meanCandidates
  }
  private static let maximumCandidates = makeCandidates(.maximum)
  private static let meanCandidates = makeCandidates(.mean)

  private static func makeCandidates(_ reduction: Reduction) -> [PoolCandidate] {
    [
      .plain { direct($0.geometry, $0.planes, $0.channels, reduction, countsPads: $0.countsPads) },
      .channels { pool in
        var step = fast(
          pool.geometry, pool.planes, pool.channels, reduction, countsPads: pool.countsPads,
          pixels: pool.pixels ?? (pool.channels, pool.channels))
        step.spread = pool.spread
        return step
      } unless: {
        $0.geometry.rank > 2
          ? "more than two spatial axes" : $0.geometry.inputCount == 0 ? "the images have no pixels" : nil
      },
    ]
  }

  private static func fast(
    _ geometry: WindowGeometry, _ images: Int, _ channels: Int, _ reduction: Reduction, countsPads: Bool,
    pixels: (input: Int, output: Int)
  ) -> Step {
    let height = geometry.output[0]
    let rows = Partition(
      height, of: .light * geometry.tapCount * channels * (geometry.outputCount / max(height, 1)),
      maximumParts: max(1, Partition.maximumParts / max(images, 1)))
    let (inputCount, outputCount) = (geometry.inputCount &* pixels.input, geometry.outputCount &* pixels.output)
    return .parallel(parts: images &* rows.parts) { run, part in
      let (image, tile) = part.quotientAndRemainder(dividingBy: rows.parts)
      let range = rows.range(tile)
      var window = geometry.kernelWindow(
        run.input(0) + image &* inputCount, run.output(0) + image &* outputCount, inputPixel: pixels.input,
        outputPixel: pixels.output)
      if reduction == .maximum {
        apus_kernels().pointee.max_pool_f32(&window, range.lowerBound, range.upperBound, 0, channels)
      } else {
        apus_kernels().pointee.average_pool_f32(&window, countsPads, range.lowerBound, range.upperBound, 0, channels)
      }
    }.named("pool \(String(cString: apus_kernels().pointee.name))")
  }

  /// Any number of axes: every window of an image, all channels of an element at a time.
  private static func direct(
    _ geometry: WindowGeometry, _ images: Int, _ channels: Int, _ reduction: Reduction, countsPads: Bool
  ) -> Step {
    let windows = PlaneWindows(geometry, planes: images, cost: .light * channels)
    let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
    return .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
      windows.forEach(part: part, scratch: run.scratch) { image, index, window in
        let y: UnsafeMutablePointer<Float> = run.output(0) + (image &* outputArea &+ index) &* channels
        y.update(repeating: reduction == .maximum ? -.infinity : 0, count: channels)
        for row in 0..<window.rowCount {
          for tap in 0..<window.count {
            let pixel = image &* area &+ window.rows[row] &+ window.first &+ tap &* window.step
            let x: UnsafePointer<Float> = run.input(0) + pixel &* channels
            for channel in 0..<channels {
              if reduction == .mean {
                y[channel] += x[channel]
              } else if !(x[channel] <= y[channel]), !y[channel].isNaN {
                y[channel] = x[channel]
              }
            }
          }
        }
        if reduction == .mean {
          let count = Float(countsPads ? geometry.countInPads(position: index) : window.rowCount &* window.count)
          for channel in 0..<channels { y[channel] /= count }
        }
      }
    }.named("direct")
  }
}

/// The mean of every channel of an image.
struct ChannelsLastGlobalAveragePool: EngineOperator {
  let schema = OperatorSchema(
    "GlobalAveragePool", domain: "apus", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    types: ["T": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard shape.count >= 2 else {
      throw .mismatch("the input has rank \(shape.count); expected batch, spatial axes and channels")
    }
    context.set(0, context.type(0), [shape[0]] + [Dim](repeating: 1, count: shape.count - 2) + [shape[shape.count - 1]])
  }

  func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    try LoweredOperations.lowerChannelsLast(node, into: builder)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned(takingRows: true) { plan in
      let shape = plan.shape(0)
      let (channels, area) = (shape[shape.rank - 1], shape.count(of: 1..<shape.rank - 1))
      let blocks = Partition((channels + 63) / 64, of: .light * 2 * 64 * area, maximumParts: 16)
      let pixel = plan.distance(input: 0, rowsOf: channels)
      var step = Step.parallel(parts: shape[0] &* blocks.parts) { [pixel = pixel ?? channels] run, part in
        let (image, block) = part.quotientAndRemainder(dividingBy: blocks.parts)
        let first = blocks.range(block).lowerBound &* 64
        let count = min(channels, blocks.range(block).upperBound &* 64) &- first
        if count <= 0 { return }
        apus_kernels().pointee.column_means_f32(
          area, count, run.input(0) + (image &* area &* pixel &+ first), pixel,
          run.output(0) + (image &* channels &+ first))
      }.named("columns \(String(cString: apus_kernels().pointee.name))")
      if pixel != nil, plan.rows(output: 0) == nil { step.spread = plan.spread }
      return step
    }
  }
}
