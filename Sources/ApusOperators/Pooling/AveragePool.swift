// AveragePool: the mean of every window. https://onnx.ai/onnx/operators/onnx__AveragePool.html
// Versions: 1, 7 (count_include_pad), 10 (ceil_mode), 11, 19 (dilations), 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct AveragePool: OperatorDefinition {
  package let schema = OperatorSchema(
    "AveragePool", versions: [1, 7, 10, 11, 19, 22],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    attributes: poolAttributes(ceilModeSince: 10, dilationsSince: 19) + [.int("count_include_pad", default: 0)],
    types: ["T": .floats],
    layout: .images(twin: OperatorID("AveragePool", domain: "apus"), isFaster: { _ in false }) {
      $0.type(0) == .float32
    },
    portable: .moreTypes, axes: AxisRules.planes, codes: .computes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(0), try PoolLayout().outputShape(context))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32, .float64: try rows(context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { (context) throws(OperatorError) in try rows(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func rows(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let countsPads = try context.bool("count_include_pad")
    return .planned { (plan) throws(OperatorError) in
      try AveragePool.candidates.chosen(
        .averagePool,
        PoolFacts(
          elementType: plan.inputs[0]?.dataType, geometry: try PoolLayout().geometry(attributes, plan),
          planes: plan.shape(0).count(of: 0..<2), countsPads: countsPads))
    }
  }

  private static let candidates: [PoolCandidate] = [
    .plain {
      $0.elementType == .float64
        ? direct(Double.self, $0.geometry, planes: $0.planes, countsPads: $0.countsPads)
        : direct(Float.self, $0.geometry, planes: $0.planes, countsPads: $0.countsPads)
    },
    .planes {
      PhasePool($0, .average(countsPads: $0.countsPads))?.step
    } unless: { _ in
      nil
    },
    .wholeWindows(isAverage: true) { _ in
      nil
    },
    .rows(types: [.float32]) {
      RowPool<Float>(
        $0, .average(countsPads: $0.countsPads), combine: apus_kernels().pointee.add_f32_vv, start: 0
      ).step
    } unless: {
      longRows($0)
    },
    .rows("rows of doubles", types: [.float64]) {
      RowPool<Double>(
        $0, .average(countsPads: $0.countsPads), combine: apus_kernels().pointee.add_f64_vv, start: 0
      ).step
    } unless: {
      longRows($0)
    },
  ]

  private static func longRows(_ pool: PoolFacts) -> String? {
    pool.geometry.output.last ?? 0 > RowPool<Float>.longestCounted
      ? "the windows of a row are too many to be counted" : nil
  }

  private static func direct<Element: PoolElement>(
    _ type: Element.Type, _ geometry: WindowGeometry, planes: Int, countsPads: Bool
  ) -> Step {
    let windows = PlaneWindows(geometry, planes: planes)
    let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
    return .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
      let y: UnsafeMutablePointer<Element> = run.output()
      windows.forEach(part: part, scratch: run.scratch) { plane, index, window in
        let source: UnsafePointer<Element> = run.input(0) + (plane &* area &+ window.first)
        var sum = Element.zero
        for row in 0..<window.rowCount {
          for tap in 0..<window.count { sum += source[window.rows[row] &+ tap &* window.step] }
        }
        let count = countsPads ? geometry.countInPads(position: index) : window.rowCount &* window.count
        y[plane &* outputArea &+ index] = sum / Element(count)
      }
    }.named("direct")
  }
}

extension WindowGeometry {
  /// How many elements of the window at a row-major output position lie in the input or its pads.
  func countInPads(position: Int) -> Int {
    var rest = position
    var count = 1
    for axis in stride(from: rank - 1, through: 0, by: -1) {
      count &*= countInPads(axis, window: rest % output[axis])
      rest /= output[axis]
    }
    return count
  }
}
