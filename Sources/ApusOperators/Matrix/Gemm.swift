// Gemm: Y = alpha * A' * B' + beta * C. https://onnx.ai/onnx/operators/onnx__Gemm.html
// Versions: 1, 6 (C broadcast by an attribute), 7 (as of NumPy), 9 (integers), 11 (C optional), 13 (bfloat16).

import ApusGraph
import ApusTensor

package struct Gemm: OperatorDefinition {
  package let schema = OperatorSchema(
    "Gemm", versions: [1, 6, 7, 9, 11, 13],
    inputs: [.required("A", "T"), .required("B", "T"), .optional("C", "T")],
    outputs: [.required("Y", "T")],
    attributes: [
      .int("transA", default: 0), .int("transB", default: 0), .float("alpha", default: 1), .float("beta", default: 1),
    ],
    types: ["T": .floats + [.uint32, .uint64, .int32, .int64]],
    multiplyAdds: { facts in
      guard let a = facts.shape(0), a.count == 2, let output = facts.outputShape(0) else { return .unknown }
      return output.product * a[facts.optionalInt("transA") ?? 0 != 0 ? 0 : 1]
    }, axes: AxisRules.gemm,
    weights: WeightTrait(bias: 2) { facts in
      let isTransposed = facts.optionalInt("transB") ?? 0 != 0
      return WeightTrait.Axes(
        outputs: isTransposed ? 0 : 1, inputs: isTransposed ? 1 : 0,
        data: facts.optionalInt("transA") ?? 0 != 0 ? 0 : 1, result: 1)
    })

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    // What the attribute allowed is a part of what is allowed now.
    if version < 7 { _ = node.attributes.remove("broadcast") }
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let a = context.shape(0), let b = context.shape(1) else {
      return context.set(0, context.type(0), [.unknown, .unknown])
    }
    guard a.count == 2, b.count == 2 else {
      throw .mismatch("A has \(a.count) axes and B \(b.count); expected 2 each")
    }
    let (transposesA, transposesB) = (try context.bool("transA"), try context.bool("transB"))
    let (m, k) = transposesA ? (a[1], a[0]) : (a[0], a[1])
    let (depth, n) = transposesB ? (b[1], b[0]) : (b[0], b[1])
    if k.isSurelyDifferent(from: depth) {
      throw .mismatch("A has \(k) columns and B \(depth) rows after transposition; they must be equal")
    }
    if let c = context.shape(2) {
      let shape = try broadcast([c, [m, n]])
      guard shape.count == 2, !shape[0].isSurelyDifferent(from: m), !shape[1].isSurelyDifferent(from: n) else {
        throw .mismatch("C does not broadcast to [\(m), \(n)]")
      }
    }
    context.set(0, context.type(0), [m, n])
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let options = Options(
      transposesA: try context.bool("transA"), transposesB: try context.bool("transB"),
      alpha: try context.float("alpha"), beta: try context.float("beta"))
    switch try context.type(0) {
    case .float16, .bfloat16:
      return try MatMulKernel.prepareHalves(context, scale: options.alpha) { (context) throws(OperatorError) in
        try Gemm.chosen(context, options, .float32)
      }
    case let type: return try Gemm.chosen(context, options, type)
    }
  }

  private static func chosen(
    _ context: PrepareContext, _ options: Options, _ type: DataType
  ) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .gemm, type: type,
      [
        .plain { .planned(PlainGemm(options: options)) },
        .vectors("panels") { () throws(OperatorError) in .planned(try PackedGemm(context, options)) },
      ])
  }

  struct Options: Sendable {
    let transposesA: Bool
    let transposesB: Bool
    let alpha: Float
    let beta: Float
  }
}

/// C as it is read for element (row, column) of the result: at `row * rowStride + column * columnStride`.
private struct BroadcastAddend: Sendable {
  let rowStride: Int
  let columnStride: Int

  init(_ c: Shape) {
    let columns = c.rank > 0 ? c[c.rank - 1] : 1
    let rows = c.rank > 1 ? c[c.rank - 2] : 1
    columnStride = columns == 1 ? 0 : 1
    rowStride = rows == 1 ? 0 : columns
  }

  /// Calls `body` for rows of a result of `columns` columns.
  func step<Element>(
    _ shape: Shape, _ type: Element.Type, c: Int,
    _ body:
      @escaping @Sendable (_ y: UnsafeMutablePointer<Element>, _ c: UnsafePointer<Element>, _ stride: Int, _ count: Int)
      -> Void
  ) -> Step {
    let columns = shape[1]
    let rows = Partition(shape[0], of: .light * 2 * columns)
    return .parallel(parts: columns == 0 ? 0 : rows.parts) { run, part in
      for row in rows.range(part) {
        body(
          run.output(0, as: Element.self) + row &* columns, run.input(c, as: Element.self) + row &* rowStride,
          columnStride,
          columns)
      }
    }
  }
}

/// The float32 product on packed panels. B carries alpha; C is the bias or the addend of the product.
private struct PackedGemm: Kernel {
  private let beta: Float
  private let product: MatMulKernel

  init(_ context: PrepareContext, _ options: Gemm.Options) throws(OperatorError) {
    beta = options.beta
    product = try MatMulKernel(
      context,
      MatMulKernel.Options(
        transposesA: options.transposesA, transposesB: options.transposesB, scale: options.alpha))
  }

  var packedOperands: [PackedOperand] { product.packedOperands }
  var takesRows: Bool { true }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let shape = context.outputShape(0)
    guard context.isPresent(2), beta != 0 else { return product.step(context, .init()) }
    let c = context.shape(2)
    if beta == 1 && c.elementCount == shape[1] && (c.rank == 1 || (c.rank == 2 && c[0] == 1)) {
      return product.step(context, .init(bias: 2))
    }
    if beta == 1 && c == shape { return product.step(context, .init(add: 2)) }
    let fill = BroadcastAddend(c).step(shape, Float.self, c: 0) { [beta] y, c, stride, count in
      for column in 0..<count { y[column] = beta * c[column &* stride] }
    }
    var sequence = StepSequence()
    let inner = product.step(context, .init(addsOutput: true))
    sequence.append(fill, inputs: [.input(2)], outputs: [.output(0)])
    sequence.append(inner, inputs: [.input(0), .input(1)], outputs: [.output(0)])
    var step = sequence.step.named("gemm_f32", cost: inner.cost)
    step.unreadInputs = inner.unreadInputs
    return step
  }
}

/// The plain product, then alpha and beta. Integers with factors other than 1 go by way of float64 and are cut towards
/// 0.
private struct PlainGemm: Kernel {
  let options: Gemm.Options

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let extents = MatMulExtents(
      context.shape(0), context.shape(1), transposesA: options.transposesA, transposesB: options.transposesB)
    let type = context.outputs[0]?.dataType ?? .float32
    guard let product = extents.plain.step(type) else { throw .unsupported("Gemm has no kernel for \(type)") }
    var sequence = StepSequence()
    sequence.append(product, inputs: [.input(0), .input(1)], outputs: [.output(0)])
    let hasC = context.isPresent(2) && options.beta != 0
    if hasC || options.alpha != 1 {
      let c = hasC ? context.shape(2) : Shape([])
      // Without C any element stands in for it, times 0.
      let combine = combination(type, context.outputShape(0), c, hasC: hasC)
      sequence.append(combine, inputs: [.input(hasC ? 2 : 0)], outputs: [.output(0)])
    }
    return sequence.step.named(product.kernelName, cost: product.cost)
  }

  private func combination(_ type: DataType, _ shape: Shape, _ c: Shape, hasC: Bool) -> Step {
    let addend = BroadcastAddend(c)
    let (alpha, beta) = (options.alpha, options.beta)
    func integer<Element: FixedWidthInteger & Sendable>(_ element: Element.Type) -> Step {
      if alpha == 1 && beta == 1 {
        return addend.step(shape, element, c: 0) { y, c, stride, count in
          for column in 0..<count { y[column] &+= c[column &* stride] }
        }
      }
      return addend.step(shape, element, c: 0) { y, c, stride, count in
        for column in 0..<count {
          let sum = Double(y[column]) * Double(alpha) + (hasC ? Double(c[column &* stride]) * Double(beta) : 0)
          y[column] = saturated(sum)
        }
      }
    }
    func real<Element: Real>(_ element: Element.Type) -> Step {
      let (alpha, beta) = (Element(alpha), Element(beta))
      return addend.step(shape, element, c: 0) { y, c, stride, count in
        for column in 0..<count {
          y[column] = hasC ? alpha * y[column] + beta * c[column &* stride] : alpha * y[column]
        }
      }
    }
    switch type {
    case .float64: return real(Double.self)
    case .int32: return integer(Int32.self)
    case .uint32: return integer(UInt32.self)
    case .int64: return integer(Int64.self)
    case .uint64: return integer(UInt64.self)
    default: return real(Float.self)
    }
  }
}

/// The integer towards 0, at the limits of the type where it lies beyond; 0 for NaN.
private func saturated<Element: FixedWidthInteger>(_ value: Double) -> Element {
  let cut = value.rounded(.towardZero)
  if let exact = Element(exactly: cut) { return exact }
  return cut.isNaN ? 0 : cut > 0 ? .max : .min
}
