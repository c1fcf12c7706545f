// Plans RNN, GRU and LSTM: biases and states first, then the products of all inputs at once, then step after step.

import ApusGraph
import ApusTensor
import CApusKernels

/// How the products with the weights W and R are computed.
struct RecurrentFactors<Element: Real>: Sendable {
  /// Packed panels; otherwise plain loops.
  let isPacked: Bool
  /// W, one matrix a direction, and R, one matrix a direction and gate, where they are constant.
  let input: PackedMatrix?
  let hidden: PackedMatrix?
  /// True if R is known and all its elements are finite: zeros times R are zeros.
  let isHiddenFinite: Bool

  static var plain: RecurrentFactors {
    RecurrentFactors(isPacked: false, input: nil, hidden: nil, isHiddenFinite: false)
  }
}

extension RecurrentFactors<Float> {
  static func packed(_ context: PrepareContext, _ attributes: RecurrentAttributes) throws(OperatorError)
    -> RecurrentFactors
  {
    let gates = attributes.kind.gates
    func constant(_ input: Int) -> Tensor? {
      guard let tensor = context.constant(input), tensor.dataType == .float32, tensor.rank == 3 else { return nil }
      return tensor
    }
    let input = try constant(1).map { (w) throws(OperatorError) in
      try PackedMatrix(
        w, count: w.shape[0], k: w.shape[2], n: w.shape[1], layout: .columnMajor(rows: w.shape[2]),
        in: context.packedWeights)
    }
    let hidden = try constant(2).map { (r) throws(OperatorError) in
      try PackedMatrix(
        r, count: r.shape[0] * gates, k: r.shape[2], n: r.shape[2], layout: .columnMajor(rows: r.shape[2]),
        in: context.packedWeights)
    }
    return RecurrentFactors(
      isPacked: true, input: input, hidden: hidden, isHiddenFinite: hidden?.isFinite ?? false)
  }
}

/// Not a `Kernel` itself: a generic type runs unspecialised behind a protocol. `prepared` is called on concrete ones.
struct RecurrentKernel<Element: Real>: Sendable {
  let attributes: RecurrentAttributes
  let factors: RecurrentFactors<Element>
  /// By direction, in the order of the activations.
  let activations: [[RecurrentActivation.Function<Element>]]

  init(
    _ attributes: RecurrentAttributes, _ factors: RecurrentFactors<Element>,
    _ activations: [[RecurrentActivation.Function<Element>]]
  ) {
    (self.attributes, self.factors, self.activations) = (attributes, factors, activations)
  }

  private var packedInputs: [Int] { (factors.input == nil ? [] : [1]) + (factors.hidden == nil ? [] : [2]) }

  @inline(__always) var prepared: PreparedKernel {
    .planned(packing: packedInputs) { (context) throws(OperatorError) in try plan(context) }
  }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let (x, r) = (context.shape(0), context.shape(2))
    let time = attributes.isBatchFirst ? 1 : 0
    let extents = RecurrentExtents(
      steps: x[time], batch: x[1 - time], input: x[2], hidden: r[2], directions: attributes.isReversed.count,
      gates: attributes.kind.gates, isBatchFirst: attributes.isBatchFirst)
    // The outputs that nobody wants were not looked at.
    let all: Shape = [extents.directions, extents.steps, extents.batch, 2 * extents.gates, extents.hidden]
    guard all.checkedElementCount != nil else {
      throw .mismatch("X is \(x) and the hidden size \(r[2]): no memory holds the gates of all steps")
    }
    let width = MemoryLayout<Element>.stride
    var sequence = StepSequence()
    let bias = sequence.reserve(bytes: extents.directions * extents.gateWidth * width)
    let gates = sequence.reserve(bytes: extents.directions * extents.rows * extents.gateWidth * width)
    let states = sequence.reserve(bytes: 2 * extents.stateCount * width)
    let cells = sequence.reserve(bytes: extents.stateCount * width)
    func input(_ index: Int) -> StepSequence.Operand { context.isPresent(index) ? .input(index) : .none }
    sequence.append(
      initialization(context, extents), inputs: [input(3), input(4), input(5), input(6)],
      outputs: [bias, states, cells])
    let projection = try projection(extents)
    for step in projection { sequence.append(step, inputs: [.input(0), .input(1), bias], outputs: [gates]) }
    let (hidden, packing) = hiddenFactor(extents)
    var hiddenPlace: StepSequence.Operand = .input(2)
    if let packing {
      hiddenPlace = sequence.reserve(bytes: packing.bytes)
      sequence.append(packing.step, inputs: [.input(2)], outputs: [hiddenPlace])
    }
    let loop = RecurrentLoop(
      attributes: attributes, extents: extents, activations: activations, multiply: hidden,
      isHiddenFinite: factors.isHiddenFinite, clip: attributes.clip.map { Element($0) }, hasBias: context.isPresent(3),
      hasLengths: context.isPresent(4), hasPeepholes: context.isPresent(7), wantsSequence: context.isWanted(0),
      wantsHidden: context.isWanted(1), wantsCell: context.isWanted(2))
    func output(_ index: Int) -> StepSequence.Operand { context.isWanted(index) ? .output(index) : .none }
    sequence.append(
      loop.step(isPacked: factors.isPacked), inputs: [hiddenPlace, input(3), input(4), input(7)],
      outputs: [output(0), output(1), output(2), gates, states, cells])
    var step = sequence.step.named(
      factors.isPacked ? "recurrent_f32" : "plain", cost: Cost(operations: extents.operations))
    if factors.input != nil { step.unreadInputs.append(1) }
    if factors.hidden != nil { step.unreadInputs.append(2) }
    return step
  }

  /// Inputs B, sequence_lens, initial_h, initial_c; outputs: the biases of W and R together, hidden states, cells.
  private func initialization(_ context: PlanContext, _ extents: RecurrentExtents) -> Step {
    let has = (3...6).map { context.isPresent($0) }
    // With a late reset gate the bias of R for the candidate is added where the gate is applied.
    let isLate = if case .gru(appliesResetAfter: true) = attributes.kind { true } else { false }
    let separateBias = isLate ? 2 * extents.hidden..<3 * extents.hidden : 0..<0
    return .serial { [attributes] run in
      let bias = run.output(0, as: Element.self)
      let given = run.input(0, as: Element.self)
      for direction in 0..<extents.directions {
        for index in 0..<extents.gateWidth {
          let source = given + (2 &* direction &* extents.gateWidth &+ index)
          let sum = has[0] ? source[0] + (separateBias.contains(index) ? 0 : source[extents.gateWidth]) : 0
          bias[direction &* extents.gateWidth &+ index] = sum
        }
      }
      if has[1] {
        let lengths = run.input(1, as: Int32.self)
        for index in 0..<extents.batch where lengths[index] < 0 || Int(lengths[index]) > extents.steps {
          run.fail("sequence_lens[\(index)] is \(lengths[index]); expected 0 to \(extents.steps)")
        }
      }
      for (index, target) in [(2, run.output(1, as: Element.self)), (3, run.output(2, as: Element.self))] {
        for direction in 0..<extents.directions {
          for row in 0..<extents.batch {
            // Hidden states have two places, of which the first step reads the first.
            let place = index == 2 ? 2 &* direction &* extents.batch &+ row : direction &* extents.batch &+ row
            let line = target + place &* extents.hidden
            let source =
              attributes.isBatchFirst
              ? row &* extents.directions &+ direction : direction &* extents.batch &+ row
            if has[index] {
              line.update(from: run.input(index, as: Element.self) + source &* extents.hidden, count: extents.hidden)
            } else {
              line.update(repeating: 0, count: extents.hidden)
            }
          }
        }
      }
    }
  }

  /// Inputs X, W, bias; output: the gates [direction, row, gate, hidden] without the hidden state's share.
  private func projection(_ extents: RecurrentExtents) throws(OperatorError) -> [Step] {
    let (m, n, k) = (extents.rows, extents.gateWidth, extents.input)
    let right = MatrixLayout.columnMajor(rows: k)
    if factors.isPacked {
      let plan = GemmPlan(
        m: m, n: n, k: k, left: .rowMajor(columns: k),
        right: factors.input.map { .packed($0) } ?? .unpacked(right, scale: 1),
        batch: GemmBatch(count: extents.directions, a: 0, b: factors.input == nil ? n * k : 1))
      return [plan.step(GemmPlan.Operands(bias: 2, biasStride: n))]
    }
    let plain = PlainProduct(
      m: m, n: n, k: k, left: .rowMajor(columns: k), right: right,
      batch: GemmBatch(count: extents.directions, a: 0, b: n * k))
    guard let product = plain.step(Element.self == Double.self ? .float64 : .float32) else {
      throw .unsupported("there is no product for these elements")
    }
    let rows = Partition(extents.directions * m, of: .medium * n)
    let addition = Step.parallel(parts: rows.parts) { run, part in
      let (bias, gates) = (run.input(2, as: Element.self), run.output(0, as: Element.self))
      for row in rows.range(part) {
        let first = bias + row / m &* n
        for column in 0..<n { gates[row &* n &+ column] += first[column] }
      }
    }
    return [product, addition]
  }

  /// The product with R, and the step that packs R if that happens in every run.
  private func hiddenFactor(
    _ extents: RecurrentExtents
  ) -> (RecurrentLoop<Element>.Product, (step: Step, bytes: Int)?) {
    let hidden = extents.hidden
    guard factors.isPacked, let product = RecurrentLoop<Element>.packedProduct(hidden, factors.hidden) else {
      return (RecurrentLoop<Element>.plainProduct(hidden), nil)
    }
    if factors.hidden != nil { return (product, nil) }
    let kernels = GemmKernels.current
    let floats = kernels.packedCount(k: hidden, n: hidden)
    let count = extents.directions * extents.gates
    let matrices = Partition(count, of: .copying(bytes: 4) * hidden * hidden)
    let step = Step.parallel(parts: matrices.parts) { run, part in
      for matrix in matrices.range(part) {
        var source = apus_gemm_source(
          b: run.inputBytes(0) + matrix &* hidden &* hidden &* 4, stride_tap: 0, stride_k: 1, stride_n: hidden, taps: 1,
          kc: hidden, n: hidden)
        kernels.pack(&source, run.output(0, as: Float.self) + matrix &* floats, 0, kernels.panelCount(hidden))
      }
    }
    return (product, (step, count * floats * 4))
  }
}

/// The extents of one plan.
struct RecurrentExtents: Sendable {
  let steps: Int
  let batch: Int
  let input: Int
  let hidden: Int
  let directions: Int
  let gates: Int
  let isBatchFirst: Bool

  /// Rows of X and of the gates.
  var rows: Int { steps * batch }
  var gateWidth: Int { gates * hidden }
  /// Elements of the states of all directions.
  var stateCount: Int { directions * batch * hidden }
  var operations: Int { 2 &* directions &* rows &* gateWidth &* (input &+ hidden) }
}
