// MeanVarianceNormalization: (X - mean) / (deviation + 1e-9) over some axes.
// https://onnx.ai/onnx/operators/onnx__MeanVarianceNormalization.html
// Versions: 1 (experimental: across_channels and normalize_variance in the place of axes), 9, 13 (bfloat16).

import ApusGraph
import ApusTensor

package struct MeanVarianceNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "MeanVarianceNormalization", versions: [1, 9, 13], inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    attributes: [.ints("axes", default: [0, 2, 3])], types: ["T": .floats],
    traits: .isSensitive)

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    let crosses = node.attributes.int("across_channels") ?? 0 != 0
    let isScaled = node.attributes.int("normalize_variance") ?? 1 != 0
    node.attributes["across_channels"] = nil
    node.attributes["normalize_variance"] = nil
    guard let x = node.inputs.first ?? nil, let rank = builder.shape(x)?.count else {
      throw .unsupported("MeanVarianceNormalization of version 1 needs an input whose rank is known before running")
    }
    let axes = (0..<rank).filter { crosses || $0 != 1 }
    if isScaled {
      node.attributes["axes"] = .ints(axes)
      return
    }
    let mean = try builder.apply(
      OperatorID("ReduceMean"), name: "\(node.name)/ReduceMean", [x, builder.addConstant(Tensor(axes))])
    node = Node(OperatorID("Sub"), name: node.name, inputs: [x, mean], outputs: node.outputs)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(0) { _ = try resolveAxes(context.ints("axes"), rank: rank) }
    context.copy()
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axes = try context.ints("axes")
    return try prepareReal(
      context, float: { (_) throws(OperatorError) in MeanVarianceNormalization.kernel(Float.self, axes) },
      double: { (_) throws(OperatorError) in MeanVarianceNormalization.kernel(Double.self, axes) })
  }

  private static func kernel<Element: Real>(_ type: Element.Type, _ axes: [Int]) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      let groups = AxisGroups(shape, reduced: try resolveAxes(axes, rank: shape.rank))
      let partition = Partition(groups.starts.count, of: .medium * 2 * groups.count)
      return .parallel(parts: groups.count == 0 ? 0 : partition.parts) { run, part in
        let (x, y) = (run.input(0, as: Element.self), run.output(0, as: Element.self))
        for index in partition.range(part) {
          let start = groups.starts[index]
          let mean = groups.sum(x, from: start) { $0 } / Double(groups.count)
          let squares = groups.sum(x, from: start) { ($0 - mean) * ($0 - mean) }
          let divisor = (squares / Double(groups.count)).squareRoot() + 1e-9
          if Element.self == Float.self {
            // float64 has digits to spare for the rounding of the reciprocal.
            let factor = 1 / divisor
            groups.forEach(from: start) { y[$0] = Element((Element.double(x[$0]) - mean) * factor) }
          } else {
            groups.forEach(from: start) { y[$0] = Element((Element.double(x[$0]) - mean) / divisor) }
          }
        }
      }.overwriting(0)
    }
  }
}

/// The elements of a tensor in groups: those that differ on `reduced` axes only are one.
private struct AxisGroups: Sendable {
  /// The first element of each group.
  let starts: [Int]
  /// Elements of one group.
  let count: Int
  /// Where the runs of a group start, from its first element.
  private let runs: [Int]
  private let runLength: Int
  private let runStride: Int

  init(_ shape: Shape, reduced: [Int]) {
    let strides = shape.strides
    func offsets(_ axes: [Int]) -> [Int] {
      var result = [0]
      for axis in axes {
        result = result.flatMap { start in (0..<shape[axis]).map { start + $0 * strides[axis] } }
      }
      return result
    }
    starts = offsets(shape.indices.filter { !reduced.contains($0) })
    count = reduced.reduce(1) { $0 * shape[$1] }
    // Trailing axes that are neighbours in memory are one run.
    var (length, stride, first) = (1, 1, reduced.count)
    while first > 0, first == reduced.count || reduced[first - 1] == reduced[first] - 1 {
      first -= 1
      if first == reduced.count - 1 { stride = strides[reduced[first]] }
      length *= shape[reduced[first]]
    }
    (runLength, runStride) = (length, stride)
    runs = offsets(Array(reduced[..<first]))
  }

  /// The sum of a function of a group's elements: eight partial sums by the position in a run.
  @inline(__always)
  func sum<Element: Real>(_ x: UnsafePointer<Element>, from start: Int, _ term: (Double) -> Double) -> Double {
    var sums = SIMD8<Double>()
    @inline(__always) func add(_ first: UnsafePointer<Element>, _ stride: Int) {
      var position = 0
      while position &+ 8 <= runLength {
        for lane in 0..<8 { sums[lane] += term(Element.double(first[(position &+ lane) &* stride])) }
        position &+= 8
      }
      while position < runLength {
        sums[position & 7] += term(Element.double(first[position &* stride]))
        position &+= 1
      }
    }
    for run in runs {
      if runStride == 1 { add(x + (start &+ run), 1) } else { add(x + (start &+ run), runStride) }
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
  }

  @inline(__always) func forEach(from start: Int, _ body: (Int) -> Void) {
    for run in runs {
      var index = start &+ run
      if runStride == 1 {
        for position in index..<index &+ runLength { body(position) }
        continue
      }
      for _ in 0..<runLength {
        body(index)
        index &+= runStride
      }
    }
  }
}
