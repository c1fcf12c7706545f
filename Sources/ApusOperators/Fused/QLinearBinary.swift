// apus.QLinearAdd and apus.QLinearMul: sums and products of bytes that stand for floats, as bytes. Made by passes,
// never read from a file. Versions: 1.

import ApusGraph
import ApusTensor
import CApusKernels

/// C = QuantizeLinear(DequantizeLinear(A) op DequantizeLinear(B)) with constant scales and zero points, one of each.
package struct QLinearBinary: EngineOperator {
  package enum Operation: String, Sendable, CaseIterable {
    case add = "Add"
    case multiply = "Mul"

    /// The operator on floats.
    package var float: OperatorID { OperatorID(rawValue) }
    /// That on bytes.
    package var id: OperatorID { OperatorID("QLinear" + rawValue, domain: "apus") }
  }

  package let schema: OperatorSchema
  private let operation: Operation

  package init(_ operation: Operation) {
    self.operation = operation
    schema = OperatorSchema(
      operation.id.name, domain: "apus", versions: [1],
      inputs: [
        .required("A", "T1"), .required("A_scale", "TS"), .required("A_zero_point", "T1"), .required("B", "T2"),
        .required("B_scale", "TS"), .required("B_zero_point", "T2"), .required("C_scale", "TS"),
        .required("C_zero_point", "T3"),
      ],
      outputs: [.required("C", "T3")],
      types: ["TS": .float32, "T1": .bytes, "T2": .bytes, "T3": .bytes], layout: .broadcasting)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(7), try context.broadcastShape([0, 3]))
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    guard node.inputs.count == 8 else { throw .invalid("\(node.op) lacks inputs") }
    func dequantized(_ first: Int, _ name: String) throws(OperatorError) -> ValueID {
      try builder.apply(
        OperatorID("DequantizeLinear"), name: "\(node.name)/\(name)", Array(node.inputs[first..<first + 3]))
    }
    let (a, b) = (try dequantized(0, "A"), try dequantized(3, "B"))
    var operations = LoweredOperations(node, in: builder)
    operations.append(operation.rawValue) { (a) throws(OperatorError) in [a, b] }
    operations.append("QuantizeLinear") { (value) throws(OperatorError) in [value, node.inputs[6], node.inputs[7]] }
    try operations.finish(a)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let codes = [1, 4, 6].compactMap { ByteCode(context, $0) }
    let refusal = codes.count == 3 ? nil : "scales or zero points come with the run"
    return try ElementCandidate.choose(
      .quantizedElementwise, type: try context.type(0),
      [
        .plain { [self] in .planned { (plan) throws(OperatorError) in try plainStep(plan) } },
        .vectors("vectors", types: [.int8, .uint8], refusal: refusal) { [operation, name = schema.id.name] in
          let kernels = apus_kernels().pointee
          let loops =
            operation == .add
            ? QLinearBinary.vectors(codes, both: kernels.add_bytes, single: kernels.add_bytes_vs)
            : QLinearBinary.vectors(codes, both: kernels.mul_bytes, single: kernels.mul_bytes_vs)
          return .planned(takingRows: true) { context throws(OperatorError) in
            Elementwise.binaryStep(loops, cost: .light * 2, a: 0, b: 3, context).named(name)
          }
        },
      ])
  }

  /// Scales and zero points are read when it runs.
  private func plainStep(_ plan: PlanContext) throws(OperatorError) -> Step {
    guard let a = plan.inputs[0], let b = plan.inputs[3], let c = plan.outputs[0] else {
      throw .invalid("an operand is missing")
    }
    let partition = Partition(c.count, of: .medium)
    let types = [a.dataType, b.dataType, c.dataType]
    return Step.parallel(parts: partition.parts) { [operation] run, part in
      let codes = zip([1, 4, 6], types).map { input, type in
        ByteCode(
          scale: run.input(input, as: Float.self)[0],
          zero: IntegerCodes.byte(run.inputBytes(input + 1), 0, isSigned: type == .int8), isSigned: type == .int8)
      }
      let rows = RowApplication(
        QLinearBinary.plain(operation, codes), widths: (1, 1, 1), a: a.shape, b: b.shape, output: c.shape)
      rows.apply(run.inputBytes(0), run.inputBytes(3), run.outputBytes(0), partition.range(part))
    }.named(schema.id.name)
  }

  private typealias Kernel =
    @convention(c) (
      Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer, UnsafePointer<apus_byte_code>
    ) -> Void

  private static func vectors(_ codes: [ByteCode], both: @escaping Kernel, single: @escaping Kernel) -> BinaryLoops {
    let (straight, reversed) = (CodeTable([codes[0], codes[1], codes[2]]), CodeTable([codes[1], codes[0], codes[2]]))
    return BinaryLoops(
      both: { a, b, y, n in both(n, a, b, y, straight.base) },
      scalarB: { a, b, y, n in single(n, a, b, y, straight.base) },
      // Sums and products are the same in either order.
      scalarA: { a, b, y, n in single(n, b, a, y, reversed.base) })
  }

  private static func plain(_ operation: Operation, _ codes: [ByteCode]) -> BinaryLoops {
    let (first, second, result) = (codes[0], codes[1], codes[2])
    let rounding = ByteRounding(zero: result.zero, isSigned: result.isSigned)
    @Sendable @inline(__always) func value(_ a: UInt8, _ b: UInt8) -> UInt8 {
      let (x, y) = (first.decode(a), second.decode(b))
      return rounding((operation == .add ? x + y : x * y) / result.scale)
    }
    func loop(_ aStep: Int, _ bStep: Int) -> BinaryLoop {
      { a, b, y, count in
        let (a, b) = (a.assumingMemoryBound(to: UInt8.self), b.assumingMemoryBound(to: UInt8.self))
        let y = y.assumingMemoryBound(to: UInt8.self)
        for index in 0..<count { y[index] = value(a[index &* aStep], b[index &* bStep]) }
      }
    }
    return BinaryLoops(both: loop(1, 1), scalarB: loop(1, 0), scalarA: loop(0, 1))
  }
}

/// Codes of operands as a kernel reads them, at one address.
///
/// `@unchecked Sendable`: nobody writes to them.
private final class CodeTable: @unchecked Sendable {
  let base: UnsafePointer<apus_byte_code>
  private let memory: UnsafeMutableBufferPointer<apus_byte_code>

  init(_ codes: [ByteCode]) {
    memory = .allocate(capacity: codes.count)
    _ = memory.initialize(from: codes.map(\.kernelCode))
    base = UnsafePointer(memory.baseAddress!)
  }

  deinit { memory.deallocate() }
}

/// How the bytes of an operand stand for floats.
struct ByteCode: Sendable {
  let scale: Float
  let zero: Int32
  let isSigned: Bool

  init(scale: Float, zero: Int32, isSigned: Bool) {
    (self.scale, self.zero, self.isSigned) = (scale, zero, isSigned)
  }

  /// That of the constant scale at an input, with the zero point behind it; nil if they are not one constant number
  /// each.
  init?(_ context: PrepareContext, _ input: Int) {
    guard let scale = context.constant(input)?.elements(as: Float.self), scale.count == 1,
      let zero = context.constant(input + 1), zero.count == 1, let number = zero.integers?.first
    else { return nil }
    (self.scale, self.zero, isSigned) = (scale[0], Int32(number), zero.dataType == .int8)
  }

  @inline(__always) func decode(_ byte: UInt8) -> Float {
    Float((isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)) &- zero) * scale
  }

  var kernelCode: apus_byte_code { apus_byte_code(scale: scale, zero: zero, is_signed: isSigned) }
}
