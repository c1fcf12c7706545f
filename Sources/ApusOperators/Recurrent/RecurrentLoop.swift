// The steps of a recurrent operator: products with the hidden state, and the mathematics of the gates.

import ApusGraph
import ApusTensor
import CApusKernels

/// Runs over the time. Inputs of its step: R, B, sequence_lens, P; outputs: Y, Y_h, Y_c, gates, hidden states, cells.
///
/// Gates are [direction, row, gate, hidden]; rows are those of X. Hidden states are [direction, 2, batch, hidden]: a
/// step reads one and writes the other. Cells [direction, batch, hidden] are those of an LSTM, or room for a GRU.
struct RecurrentLoop<Element: Real>: Sendable {
  /// c[row][unit] += sum over k of a[row][k] * R[matrix][unit][k]; rows of `a` are `hidden` apart. `units` start where
  /// a panel starts.
  typealias Product =
    @Sendable (
      _ r: UnsafePointer<Element>, _ matrix: Int, _ a: UnsafePointer<Element>, _ rows: Int,
      _ c: UnsafeMutablePointer<Element>, _ ldc: Int, _ units: Range<Int>
    ) -> Void

  let attributes: RecurrentAttributes
  let extents: RecurrentExtents
  let activations: [[RecurrentActivation.Function<Element>]]
  let multiply: Product
  /// R is known, and finite.
  let isHiddenFinite: Bool
  let clip: Element?
  let hasBias: Bool
  let hasLengths: Bool
  let hasPeepholes: Bool
  let wantsSequence: Bool
  let wantsHidden: Bool
  let wantsCell: Bool

  // MARK: - Products

  static func plainProduct(_ hidden: Int) -> Product {
    { r, matrix, a, rows, c, ldc, units in
      for row in 0..<rows {
        for unit in units {
          let weights = r + (matrix &* hidden &+ unit) &* hidden
          var sum: Element = 0
          for k in 0..<hidden { sum += a[row &* hidden &+ k] * weights[k] }
          c[row &* ldc &+ unit] += sum
        }
      }
    }
  }

  /// The product on packed panels: those of `constant`, or those that `r` points at. nil unless elements are float32.
  static func packedProduct(_ hidden: Int, _ constant: PackedMatrix?) -> Product? {
    let kernels = GemmKernels.current
    let floats = kernels.packedCount(k: hidden, n: hidden)
    let product: RecurrentLoop<Float>.Product = { r, matrix, a, rows, c, ldc, units in
      var args = apus_gemm_f32_args(
        a: a, lda: hidden, offsets: nil, zeros: nil, taps: 1, kc: hidden, n: hidden,
        b: constant.map { $0.base(matrix) } ?? r + matrix &* floats, c: c, ldc: ldc,
        epilogue: apus_epilogue_f32(
          bias: nil, add: UnsafePointer(c), add_ld: ldc, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
      let columns = kernels.panelColumns
      kernels.multiply(&args, 0, rows, units.lowerBound / columns, (units.upperBound + columns - 1) / columns)
    }
    return product as? Product
  }

  // MARK: - The step

  /// Time steps that units are divided for: each is a phase of its own.
  private static var longestSplit: Int { 1 << 20 }
  /// Rows of a part: fewer would read the weights too often.
  private static var rowTile: Int { 4 }

  /// Parts are directions and blocks of the batch, each through all of time; or, for large states and few rows,
  /// directions and blocks of units, which meet after every time step.
  func step(isPacked: Bool) -> Step {
    let columns = isPacked ? GemmKernels.current.panelColumns : 1
    let panels = (extents.hidden + columns - 1) / columns
    // Few rows: every multiply-add loads a weight.
    let row = Cost(operations: 4) * extents.gateWidth * extents.hidden
    let rows = Partition(extents.batch, of: row * extents.steps, tile: Self.rowTile, maximumParts: 16)
    let timeStep = row * extents.batch
    let splitsUnits =
      isPacked && extents.directions * rows.parts < 8 && timeStep.worthwhileParts >= 4 && panels > 1
      && extents.steps <= Self.longestSplit
    let panel = Cost(operations: timeStep.operations / max(panels, 1))
    let units = Partition(panels, of: panel, maximumParts: 16)
    let count = extents.batch * extents.hidden == 0 ? 0 : extents.directions
    let last = splitsUnits ? extents.steps * subSteps : 1
    let partCount = splitsUnits ? count * units.parts : count * rows.parts
    let phases = [Int](repeating: partCount, count: last) + [1]
    return Step(phases: phases) { run, phase, part in
      if phase == last { return storeStates(run) }
      if splitsUnits {
        let (direction, block) = part.quotientAndRemainder(dividingBy: units.parts)
        let range = units.range(block)
        let (step, sub) = phase.quotientAndRemainder(dividingBy: subSteps)
        advance(
          run,
          RecurrentPart(
            direction: direction, step: step, sub: sub, rows: 0..<extents.batch,
            units: range.lowerBound * columns..<min(range.upperBound * columns, extents.hidden)))
        return
      }
      let (direction, block) = part.quotientAndRemainder(dividingBy: rows.parts)
      var work = RecurrentPart(
        direction: direction, step: 0, sub: 0, rows: rows.range(block), units: 0..<extents.hidden)
      for step in 0..<extents.steps {
        for sub in 0..<subSteps {
          (work.step, work.sub) = (step, sub)
          advance(run, work)
        }
      }
    }
  }

  /// Passes of one time step between which all units must be ready.
  private var subSteps: Int {
    if case .gru(appliesResetAfter: false) = attributes.kind { 2 } else { 1 }
  }

  private func advance(_ run: RunContext, _ part: RecurrentPart) {
    if part.rows.isEmpty { return }
    switch attributes.kind {
    case .rnn: advanceRNN(run, part)
    case .gru(let appliesResetAfter):
      if appliesResetAfter {
        advanceGRUWithLateReset(run, part)
      } else if part.sub == 0 {
        advanceGRUGates(run, part)
      } else {
        advanceGRUCandidate(run, part)
      }
    case .lstm(let couplesForget): advanceLSTM(run, part, couplesForget: couplesForget)
    }
  }

  /// The last hidden states and cells.
  private func storeStates(_ run: RunContext) {
    let (hidden, batch) = (extents.hidden, extents.batch)
    for direction in 0..<extents.directions {
      for row in 0..<batch {
        let target =
          (attributes.isBatchFirst ? row &* extents.directions &+ direction : direction &* batch &+ row) &* hidden
        if wantsHidden {
          let source = state(run, direction, extents.steps) + row &* hidden
          (run.output(1, as: Element.self) + target).update(from: source, count: hidden)
        }
        if wantsCell {
          (run.output(2, as: Element.self) + target).update(from: cell(run, direction) + row &* hidden, count: hidden)
        }
      }
    }
  }

  // MARK: - Places

  /// The hidden states that `step` reads, and that the step before it writes.
  @inline(__always) func state(_ run: RunContext, _ direction: Int, _ step: Int) -> UnsafeMutablePointer<Element> {
    run.output(4, as: Element.self) + (2 &* direction &+ (step & 1)) &* extents.batch &* extents.hidden
  }

  @inline(__always) func cell(_ run: RunContext, _ direction: Int) -> UnsafeMutablePointer<Element> {
    run.output(5, as: Element.self) + direction &* extents.batch &* extents.hidden
  }

  @inline(__always) func time(_ part: RecurrentPart) -> Int {
    attributes.isReversed[part.direction] ? extents.steps &- 1 &- part.step : part.step
  }

  /// The gates of one row of the batch.
  @inline(__always) func gates(_ run: RunContext, _ part: RecurrentPart, row: Int) -> UnsafeMutablePointer<Element> {
    let time = time(part)
    let index = extents.isBatchFirst ? row &* extents.steps &+ time : time &* extents.batch &+ row
    return run.output(3, as: Element.self) + (part.direction &* extents.rows &+ index) &* extents.gateWidth
  }

  /// Elements from the gates of one row of the batch to those of the next.
  var gateStride: Int { extents.isBatchFirst ? extents.steps &* extents.gateWidth : extents.gateWidth }

  /// Adds the products of `a` with some gates' matrices to the gates.
  func addProducts(_ run: RunContext, _ part: RecurrentPart, gates range: Range<Int>, of a: UnsafePointer<Element>) {
    let target = gates(run, part, row: part.rows.lowerBound)
    for gate in range {
      addProduct(
        run, part, gate: gate, of: a + part.rows.lowerBound &* extents.hidden, to: target + gate &* extents.hidden,
        gateStride)
    }
  }

  /// Adds the products of some rows `a` with the matrix of a gate to `c`. In the first step, where states are zeros
  /// more often than not, a product that is known to be zeros is not computed.
  func addProduct(
    _ run: RunContext, _ part: RecurrentPart, gate: Int, of a: UnsafePointer<Element>,
    to c: UnsafeMutablePointer<Element>, _ ldc: Int
  ) {
    if part.step == 0 && isHiddenFinite && isZero(a, part.rows.count &* extents.hidden) {
      for row in 0..<part.rows.count {
        // As the product does: the sum of 0 and -0 is 0.
        for unit in part.units { c[row &* ldc &+ unit] += 0 }
      }
      return
    }
    multiply(run.input(0), part.direction &* extents.gates &+ gate, a, part.rows.count, c, ldc, part.units)
  }

  private func isZero(_ values: UnsafePointer<Element>, _ count: Int) -> Bool {
    for index in 0..<count where values[index] != 0 { return false }
    return true
  }

  /// True if the sequence of this row has not ended; if it has, the state stays and the output is 0.
  @inline(__always) func isActive(_ run: RunContext, _ part: RecurrentPart, row: Int) -> Bool {
    !hasLengths || time(part) < Int(run.input(2, as: Int32.self)[row])
  }

  /// Writes the new hidden state of a row to Y; zeros if the row is not active.
  func storeSequence(_ run: RunContext, _ part: RecurrentPart, row: Int, _ value: UnsafePointer<Element>?) {
    guard wantsSequence else { return }
    let (time, hidden) = (time(part), extents.hidden)
    let index =
      extents.isBatchFirst
      ? (row &* extents.steps &+ time) &* extents.directions &+ part.direction
      : (time &* extents.directions &+ part.direction) &* extents.batch &+ row
    let target = run.output(0, as: Element.self) + (index &* hidden &+ part.units.lowerBound)
    if let value {
      target.update(from: value, count: part.units.count)
    } else {
      target.update(repeating: 0, count: part.units.count)
    }
  }

  /// Keeps the state of a row whose sequence has ended.
  func keepState(_ run: RunContext, _ part: RecurrentPart, row: Int) {
    let offset = row &* extents.hidden &+ part.units.lowerBound
    (state(run, part.direction, part.step &+ 1) + offset)
      .update(from: state(run, part.direction, part.step) + offset, count: part.units.count)
    storeSequence(run, part, row: row, nil)
  }

  @inline(__always) func clamp(_ x: UnsafeMutablePointer<Element>, _ count: Int) {
    guard let clip else { return }
    for index in 0..<count {
      let value = x[index]
      x[index] = value > clip ? clip : value < -clip ? -clip : value
    }
  }
}

/// What one call computes: some units of some rows, for one time step of one direction.
struct RecurrentPart {
  var direction: Int
  /// Counted in the order of the direction.
  var step: Int
  var sub: Int
  var rows: Range<Int>
  var units: Range<Int>
}
