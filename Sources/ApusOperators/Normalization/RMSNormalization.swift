// RMSNormalization: each row over the root of its mean square.
// https://onnx.ai/onnx/operators/onnx__RMSNormalization.html Versions: 23. Computed in float32, or in float64 if an
// operand is of it, whatever stash_type says.

import ApusGraph
import ApusTensor
import CApusKernels

package struct RMSNormalization: OperatorDefinition {
  package let schema = OperatorSchema(
    "RMSNormalization", versions: [23], inputs: [.required("X", "T"), .required("scale", "V")],
    outputs: [.required("Y", "V")],
    attributes: [.int("axis", default: -1), .float("epsilon", default: 1e-5), .int("stash_type", default: 1)],
    types: ["T": .floats, "V": .floats], traits: .isSensitive, axes: AxisRules.leadingAxes)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let rank = context.rank(0) { _ = try resolveAxis(context.int("axis"), rank: rank) }
    try checkBroadcast(context, parameters: [1])
    try checkStashType(context.int("stash_type"))
    context.set(0, context.type(1), context.shape(0))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let axis = try context.int("axis")
    let epsilon = try context.float("epsilon")
    let plain: @Sendable () throws(OperatorError) -> PreparedKernel = { () throws(OperatorError) in
      try prepareReal(
        context,
        float: { (_) throws(OperatorError) in RMSNormalization.plain(Float.self, axis, epsilon) },
        double: { (_) throws(OperatorError) in RMSNormalization.plain(Double.self, axis, epsilon) })
    }
    let types = [try context.type(0), try context.type(1)]
    if types.contains(.float64) { return try plain() }
    return try ElementCandidate.choose(
      .rmsNormalization, type: .float32,
      [
        .plain(plain),
        .vectors("rows") { () throws(OperatorError) in
          guard let narrow = NarrowRows(context) else { return RMSNormalization.fast(axis, epsilon, .none) }
          return try NarrowRows.prepare(context, parameters: [1]) { (_) throws(OperatorError) in
            RMSNormalization.fast(axis, epsilon, narrow)
          }
        },
      ])
  }

  private static func fast(_ axis: Int, _ epsilon: Float, _ narrow: NarrowRows) -> PreparedKernel {
    let kernels = VectorKernels.current
    return kernel(4, axis, "rms_norm_f32", scratchBytes: { narrow.scratchBytes(length: $0) }) {
      run, row, length, scale, memory in
      narrow.with(run, row &* length, length, memory) { x, y in
        kernels.table.pointee.rms_norm_f32(length, x, y, scale.assumingMemoryBound(to: Float.self), epsilon)
      }
    }
  }

  private static func plain<Element: Real>(_ type: Element.Type, _ axis: Int, _ epsilon: Float) -> PreparedKernel {
    kernel(MemoryLayout<Element>.stride, axis, "plain", scratchBytes: { _ in 0 }) { run, row, length, scale, _ in
      let x = run.input(0, as: Element.self) + row &* length
      let y = run.output(0, as: Element.self) + row &* length
      let scale = scale.assumingMemoryBound(to: Element.self)
      var squares = 0.0
      for index in 0..<length { squares += Double(x[index]) * Double(x[index]) }
      let factor = 1 / (squares / Double(length) + Double(epsilon)).squareRoot()
      for index in 0..<length { y[index] = Element(Double(x[index]) * factor * Double(scale[index])) }
    }
  }

  /// - Parameters:
  ///   - width: bytes of an element of the scale.
  ///   - scratchBytes: what a part needs for rows of a length.
  ///   - work: computes one row. Gets its number and length, its scale, and the memory of the part.
  private static func kernel(
    _ width: Int, _ axis: Int, _ name: String, scratchBytes: @escaping @Sendable (Int) -> Int,
    _ work:
      @escaping @Sendable (
        _ run: RunContext, _ row: Int, _ length: Int, _ scale: UnsafeRawPointer, _ memory: UnsafeMutableRawPointer
      ) -> Void
  ) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let shape = plan.shape(0)
      let axis = try resolveAxis(axis, rank: shape.rank)
      var sequence = StepSequence()
      let parameter = try RowParameter(plan, 1, shape: shape, axis: axis, width: width, in: &sequence)
      guard let parameter else { throw .invalid("scale is missing") }
      let (count, length) = (shape.count(of: 0..<axis), shape.count(of: axis..<shape.rank))
      let partition = Partition(count, of: .medium * length)
      let bytes = scratchBytes(length)
      let step = Step.parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
        for row in partition.range(part) {
          work(
            run, row, length, run.inputBytes(1) + row &* parameter.rowStride &* width, run.scratch + part &* bytes)
        }
      }
      sequence.append(step, inputs: [.input(0), parameter.place], outputs: [.output(0)])
      return sequence.step.named(name).overwriting(0)
    }
  }
}

/// Throws unless the attribute stash_type names a float type in which one can compute.
func checkStashType(_ value: Int) throws(OperatorError) {
  let type = Int32(exactly: value).flatMap(DataType.init(rawValue:))
  guard let type, [.float16, .bfloat16, .float32, .float64].contains(type) else {
    throw .invalid("stash_type is \(value); expected the number of a float type")
  }
}
