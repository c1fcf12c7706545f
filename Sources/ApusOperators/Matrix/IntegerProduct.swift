// Integer products of 8-bit factors less their zero points: the choice of form, and the plain one.

import ApusGraph
import ApusTensor

/// The int32 product of two 8-bit factors less their zero points, of one node. B is packed here if it is constant.
struct IntegerProduct: Sendable {
  private let operands: IntegerOperandPositions
  private let packed: PackedBytes?
  /// The zero point of B is 0: that spares the kernels a sum over each row.
  private let isCentred: Bool

  init(_ context: PrepareContext, _ operands: IntegerOperandPositions) throws(OperatorError) {
    self.operands = operands
    isCentred = context.isZero(operands.bZero)
    // Beside a factor that is no byte, or not known yet, B is read as it is.
    let isByte = context.optionalType(operands.a).map { $0 == .int8 || $0 == .uint8 } ?? false
    packed =
      KernelSelection.current.isPlain || !isByte
      ? nil
      : try PackedBytes(
        context.constant(operands.b), isTransposed: operands.isTransposed, in: context.packedWeights)
  }

  /// Of the node; the step that the product is part of does not read them.
  var packedInputs: [Int] { packed == nil ? [] : [operands.b] }

  /// Appends the product as int32. Returns the name of its kernel and its cost.
  func append(
    _ context: PlanContext, to target: StepSequence.Operand, in sequence: inout StepSequence
  ) throws(OperatorError) -> (name: String, cost: Cost) {
    let step = try IntegerProductFacts.Candidate.choose(
      .integerProduct, for: try facts(context), IntegerProductFacts.candidates)
    // The operands are where the node has them.
    let inputs = (0...(operands.all.max() ?? 0)).map { index -> StepSequence.Operand in
      operands.all.contains(index) && context.isPresent(index) ? .input(index) : .none
    }
    sequence.append(step, inputs: inputs, outputs: [target])
    return (step.kernelName, step.cost)
  }

  /// The product and what becomes of its sums in one step, or if `result` is nil or the kernels do not have it, as
  /// `plain` does it.
  func step(
    _ context: PlanContext, _ result: ByteResult?, plain: @escaping @Sendable () throws(OperatorError) -> Step
  ) throws(OperatorError) -> Step {
    var step = try QuantizedProductFacts.Candidate.choose(
      .quantizedProduct, for: QuantizedProductFacts(product: try facts(context), result: result, plain: plain),
      QuantizedProductFacts.candidates)
    step.unreadInputs = packedInputs
    return step
  }

  private func facts(_ context: PlanContext) throws(OperatorError) -> IntegerProductFacts {
    guard let a = context.inputs[operands.a], let b = context.inputs[operands.b] else {
      throw .invalid("a factor is missing")
    }
    let aZero = context.isPresent(operands.aZero) ? context.shape(operands.aZero) : nil
    let bZero = context.isPresent(operands.bZero) ? context.shape(operands.bZero) : nil
    let rows = try LineIndex(aZero, of: a.shape, axis: 2, name: "the zero point of A")
    let columns = try LineIndex(
      bZero, of: b.shape.asRightFactor(isTransposed: operands.isTransposed), axis: 1, name: "the zero point of B")
    return IntegerProductFacts(
      a: a, b: b, rows: rows, columns: columns, hasZeroPoints: (aZero != nil, bZero != nil && !isCentred),
      operands: operands,
      packed: packed)
  }
}

/// An integer product that is being planned.
private struct IntegerProductFacts: KernelFacts {
  typealias Candidate = KernelCandidate<IntegerProductFacts, Step>

  let a: TensorType
  let b: TensorType
  /// Of zero points.
  let rows: LineIndex
  let columns: LineIndex
  let hasZeroPoints: (a: Bool, b: Bool)
  let operands: IntegerOperandPositions
  let packed: PackedBytes?

  var elementType: DataType? { a.dataType }
  var products: Double {
    Double(a.count) * Double(b.shape.asRightFactor(isTransposed: operands.isTransposed).last ?? 1)
  }

  /// The steps have their operands where the node has them, and the product as output 0.
  static let candidates = [
    Candidate("plain") {
      .cost(.loops(operations: 2 * $0.products))
    } make: { (facts) throws(OperatorError) in
      try facts.plain()
    },
    Candidate("panels", types: [.int8, .uint8]) {
      .cost(.vectors(operations: 2 * $0.products))
    } make: { facts in
      facts.panels(.sums)
    },
  ]

  func panels(_ result: ByteResult) -> Step? {
    ByteProduct(
      a, b, zeroPoints: (rows, columns), operands, hasZeroPoints: hasZeroPoints, packed: packed, result: result)?.step
  }

  private func plain() throws(OperatorError) -> Step {
    let left = IntegerFactor(shape: a.shape, zeroPoints: rows, isLeft: true)
    // The columns of a transposed matrix are its rows.
    let right = IntegerFactor(shape: b.shape, zeroPoints: columns, isLeft: operands.isTransposed)
    guard let leftStep = left.step(a.dataType, hasZeroPoint: hasZeroPoints.a),
      let rightStep = right.step(b.dataType, hasZeroPoint: hasZeroPoints.b),
      let product = MatMulExtents(a.shape, b.shape, transposesB: operands.isTransposed).plain.step(.int32)
    else { throw .unsupported("there is no integer product of \(a.dataType) and \(b.dataType)") }
    var sequence = StepSequence()
    let leftPlace = sequence.reserve(bytes: a.count * 4)
    let rightPlace = sequence.reserve(bytes: b.count * 4)
    func point(_ isThere: Bool, _ input: Int) -> StepSequence.Operand { isThere ? .input(input) : .none }
    sequence.append(
      leftStep, inputs: [.input(operands.a), point(hasZeroPoints.a, operands.aZero)], outputs: [leftPlace])
    sequence.append(
      rightStep, inputs: [.input(operands.b), point(hasZeroPoints.b, operands.bZero)], outputs: [rightPlace])
    sequence.append(product, inputs: [leftPlace, rightPlace], outputs: [.output(0)])
    return sequence.step.named(product.kernelName, cost: product.cost)
  }
}

/// A product of bytes that becomes floats or bytes, while it is planned.
private struct QuantizedProductFacts: KernelFacts {
  typealias Candidate = KernelCandidate<QuantizedProductFacts, Step>

  let product: IntegerProductFacts
  let result: ByteResult?
  /// The step that does it number by number.
  let plain: @Sendable () throws(OperatorError) -> Step

  var elementType: DataType? { product.a.dataType }

  static let candidates = [
    Candidate("plain") {
      .cost(.loops(operations: 4 * $0.product.products))
    } make: { (facts) throws(OperatorError) in
      try facts.plain()
    },
    Candidate("panels", types: [.int8, .uint8]) {
      $0.result == nil
        ? .refused("scales or types that the kernel does not have")
        : .cost(.vectors(operations: 2 * $0.product.products))
    } make: { facts in
      facts.result.flatMap { facts.product.panels($0) }
    },
  ]
}
