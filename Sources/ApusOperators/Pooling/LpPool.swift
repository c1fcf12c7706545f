// LpPool: the p-norm of every window; pads count as 0. https://onnx.ai/onnx/operators/onnx__LpPool.html
// Versions: 1, 2 (p is an integer), 11, 18 (ceil_mode, dilations), 22 (bfloat16).

import ApusGraph
import ApusTensor

struct LpPool: OperatorDefinition {
  let schema = OperatorSchema(
    "LpPool", versions: [1, 2, 11, 18, 22],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T")],
    attributes: poolAttributes(ceilModeSince: 18, dilationsSince: 18) + [.int("p", default: 2), LpNorm.fraction],
    types: ["T": .floats], portable: .moreTypes, axes: AxisRules.planes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    try LpNorm.upgrade(&node, from: version)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    _ = try LpNorm(context)
    context.set(0, context.type(0), try PoolLayout().outputShape(context))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareReal(
      context, float: { (context) throws(OperatorError) in try plan(Float.self, context) },
      double: { (context) throws(OperatorError) in try plan(Double.self, context) })
  }

  private func plan<Element: PoolElement>(_ type: Element.Type, _ context: PrepareContext) throws(OperatorError)
    -> PreparedKernel
  {
    let attributes = NodeAttributes(context)
    let norm = try LpNorm(context)
    return .planned { (plan) throws(OperatorError) in
      let geometry = try PoolLayout().geometry(attributes, plan)
      let windows = PlaneWindows(
        geometry, planes: plan.shape(0).count(of: 0..<2), cost: norm.p == 1 || norm.p == 2 ? .light : .heavy)
      let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
      return .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
        let y: UnsafeMutablePointer<Element> = run.output()
        windows.forEach(part: part, scratch: run.scratch) { plane, index, window in
          let source: UnsafePointer<Element> = run.input(0) + (plane &* area &+ window.first)
          var sum = Element.zero
          for row in 0..<window.rowCount {
            for tap in 0..<window.count { sum = norm.add(source[window.rows[row] &+ tap &* window.step], to: sum) }
          }
          y[plane &* outputArea &+ index] = norm.root(sum)
        }
      }.named("direct")
    }
  }
}
