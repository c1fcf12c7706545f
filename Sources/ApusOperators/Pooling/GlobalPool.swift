// GlobalMaxPool, GlobalAveragePool, GlobalLpPool: one number for every plane.
// https://onnx.ai/onnx/operators/onnx__GlobalAveragePool.html, …GlobalMaxPool.html, …GlobalLpPool.html
// Versions: 1, 2 (GlobalLpPool: p is an integer), 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

struct GlobalPool: OperatorDefinition {
  enum Reduction: Sendable { case maximum, mean, norm }

  let schema: OperatorSchema
  private let reduction: Reduction

  init(_ name: String, _ reduction: Reduction) {
    self.reduction = reduction
    schema = OperatorSchema(
      name, versions: reduction == .norm ? [1, 2, 22] : [1, 22],
      inputs: [.required("X", "T")],
      outputs: [.required("Y", "T")],
      attributes: reduction == .norm ? [.int("p", default: 2), LpNorm.fraction] : [],
      types: ["T": .floats],
      layout: reduction == .mean
        ? .images(twin: OperatorID(name, domain: "apus"), isFaster: { _ in false }) { $0.type(0) == .float32 } : .fixed,
      portable: .moreTypes, axes: AxisRules.planes,
      codes: reduction == .norm ? CodeTrait.none : reduction == .mean ? .computes : .keeps)
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if reduction == .norm { try LpNorm.upgrade(&node, from: version) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if reduction == .norm { _ = try LpNorm(context) }
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard shape.count >= 2 else {
      throw .mismatch("the input has rank \(shape.count); expected batch, channels and spatial axes")
    }
    context.set(0, context.type(0), shape[..<2] + [Dim](repeating: 1, count: shape.count - 2))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try planFloat(context)
    case .float64: try planDouble(context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { (context) throws(OperatorError) in try planFloat(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func planFloat(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .globalPool, type: .float32,
      [
        .plain { () throws(OperatorError) in try plan(Float.self, context) },
        .vectors("rows", refusal: reduction == .norm ? "there is no kernel for norms" : nil) { planRows() },
      ])
  }

  private func planDouble(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .globalPool, type: .float64,
      [
        .plain { () throws(OperatorError) in try plan(Double.self, context) },
        .vectors(
          "rows of doubles", types: [.float64],
          refusal: reduction == .maximum ? nil : "sums of doubles have the order of the plain form"
        ) { GlobalPool.maximaOfDoubles },
      ])
  }

  private static let maximaOfDoubles = PreparedKernel.planned { plan in
    let planes = plan.shape(0).count(of: 0..<2)
    let area = plan.shape(0).count(of: 2..<plan.shape(0).rank)
    let partition = Partition(planes, of: .light * 2 * area)
    return .parallel(parts: partition.parts) { run, part in
      let range = partition.range(part)
      apus_kernels().pointee.fold_rows_f64(
        APUS_FOLD_MAX, range.count, area, run.inputBytes(0) + range.lowerBound &* area &* 8, area,
        run.outputBytes(0) + range.lowerBound &* 8)
    }.named("rows of doubles")
  }

  private func planRows() -> PreparedKernel {
    .planned { [reduction] plan in
      let planes = plan.shape(0).count(of: 0..<2)
      let area = plan.shape(0).count(of: 2..<plan.shape(0).rank)
      let partition = Partition(planes, of: .light * 2 * area)
      return .parallel(parts: partition.parts) { run, part in
        let y: UnsafeMutablePointer<Float> = run.output(0)
        for plane in partition.range(part) {
          let x: UnsafePointer<Float> = run.input(0) + plane &* area
          y[plane] =
            reduction == .mean ? apus_kernels().pointee.mean_f32(area, x) : apus_kernels().pointee.max_f32(area, x)
        }
      }.named("rows \(String(cString: apus_kernels().pointee.name))")
    }
  }

  private func plan<Element: PoolElement & SIMDScalar>(
    _ type: Element.Type, _ context: PrepareContext
  ) throws(OperatorError) -> PreparedKernel {
    let norm = reduction == .norm ? try LpNorm(context) : nil
    return .planned { [reduction] plan in
      let planes = plan.shape(0).count(of: 0..<2)
      let area = plan.shape(0).count(of: 2..<plan.shape(0).rank)
      let partition = Partition(planes, of: .light * 2 * area)
      return .parallel(parts: partition.parts) { run, part in
        let y: UnsafeMutablePointer<Element> = run.output()
        for plane in partition.range(part) {
          let x: UnsafePointer<Element> = run.input(0) + plane &* area
          switch reduction {
          case .maximum: y[plane] = maximum(x, area)
          case .mean: y[plane] = laneSum(x, area) { $0 } / Element(area)
          case .norm: y[plane] = norm.map { norm in norm.root(laneSum(x, area) { norm.add($0, to: 0) }) } ?? 0
          }
        }
      }.named("direct")
    }
  }
}

/// The sum of `term` over `count` elements, in eight lanes of fixed order.
@inline(__always)
private func laneSum<Element: PoolElement & SIMDScalar>(
  _ x: UnsafePointer<Element>, _ count: Int, _ term: (Element) -> Element
) -> Element {
  var lanes = SIMD8<Element>(repeating: 0)
  for block in 0..<count / 8 {
    for lane in 0..<8 { lanes[lane] += term(x[block &* 8 &+ lane]) }
  }
  var sum = ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
  for index in count & ~7..<count { sum += term(x[index]) }
  return sum
}

/// The largest element, NaN if there is one; minus infinity of nothing.
@inline(__always)
private func maximum<Element: PoolElement>(_ x: UnsafePointer<Element>, _ count: Int) -> Element {
  var best = -Element.infinity
  for index in 0..<count where !(x[index] <= best) { best = x[index].isNaN ? .nan : best.isNaN ? best : x[index] }
  return best
}
