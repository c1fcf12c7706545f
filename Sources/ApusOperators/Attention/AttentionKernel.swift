// Plans an Attention: caches first, then the mask as numbers, then the attention itself, packed or plain.

import ApusGraph
import ApusTensor

/// The kernel of Attention for float32 or float64 operands (the mask may be of any type).
struct AttentionKernel: Kernel {
  enum Core: Sendable {
    /// float32 on the packed micro-kernels.
    case packed
    /// Any form, in float32 or float64; scores and probabilities are rounded to a narrower type if one is given.
    case plain(DataType, DataType?)

    var type: DataType {
      switch self {
      case .packed: .float32
      case .plain(let type, _): type
      }
    }
  }

  let options: AttentionOptions
  let core: Core
  /// Axes of K and V; nil: not known.
  let rank: Int?
  let hasPast: Bool

  init(options: AttentionOptions, core: Core, _ context: PrepareContext) {
    (self.options, self.core) = (options, core)
    (rank, hasPast) = (context.rank(1), context.isPresent(4))
  }

  var growths: [Growth] {
    hasPast ? [Growth(input: 4, output: 1, axis: 2), Growth(input: 5, output: 2, axis: 2)] : []
  }

  var pitchedInputs: [PitchedInput] {
    guard let rank, !hasPast else { return [] }
    return [PitchedInput(input: 1, axis: rank - 2), PitchedInput(input: 2, axis: rank - 2)]
  }

  var takesRows: Bool { true }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    var sequence = StepSequence()
    var (geometry, pastLength) = AttentionKernel.geometry(context, options)
    let isSpread = !context.spread.isEmpty && AttentionKernel.spread(&geometry, context)
    let width = core.type.byteWidth
    var places: [StepSequence.Operand] = [.input(0)]
    // Keys and values with their past, [batch, heads, keys, size]; as they are where nobody needs them so.
    for (input, size) in [(1, geometry.size), (2, geometry.valueSize)] {
      let isKept = context.isWanted(input)
      if pastLength == nil && !isKept {
        places.append(.input(input))
        continue
      }
      let pitch = context.pitch(output: input)
      let layout = AttentionGeometry.Layout.byHead(
        heads: geometry.keyHeads, length: pitch?.capacity ?? geometry.keys, size: size)
      let count = geometry.batch * geometry.keyHeads * geometry.keys * size
      let place: StepSequence.Operand = isKept ? .output(input) : sequence.reserve(bytes: count * width)
      let step = try concatenation(
        geometry, size: size, from: input == 1 ? geometry.key : geometry.value, to: layout, past: pastLength ?? 0,
        isAppended: pitch?.isAppended ?? false)
      sequence.append(step, inputs: [.input(input), pastLength == nil ? .none : .input(input + 3)], outputs: [place])
      places.append(place)
      if input == 1 { geometry.key = layout } else { geometry.value = layout }
    }
    let mask = context.isPresent(3) ? try AttentionMask(context.shape(3), geometry) : nil
    places.append(mask == nil ? .none : try addMask(context, to: &sequence))
    places.append(context.isPresent(6) ? .input(6) : .none)
    var problem = AttentionProblem(
      geometry: geometry, range: range(context, pastLength), mask: mask,
      scale: options.scale ?? 1 / Double(geometry.size).squareRoot(), softcap: options.softcap,
      scoreMode: context.isWanted(3) ? options.scoreMode : nil)
    problem.emptyRows = options.emptyRows
    let step: Step =
      switch core {
      case .packed: PackedAttention(problem).step()
      case .plain(.float64, let rounding): problem.plainStep(Double.self, rounding: rounding)
      case .plain(_, let rounding): problem.plainStep(Float.self, rounding: rounding)
      }
    sequence.append(step, inputs: places, outputs: [.output(0), context.isWanted(3) ? .output(3) : .none])
    let appended = (1...2).filter { context.pitch(output: $0)?.isAppended ?? false }.map { $0 + 3 }
    var whole = sequence.step.named(step.kernelName, cost: step.cost)
    whole.unreadInputs += appended
    if isSpread { whole.spread = context.spread }
    return whole
  }

  /// Q, K, V and the result, with all heads of a position in one row, where the context has them; false if operands lie
  /// in other rows.
  private static func spread(_ geometry: inout AttentionGeometry, _ context: PlanContext) -> Bool {
    let result = context.inputs.count
    guard context.shape(0).rank == 3, context.spread.allSatisfy({ $0 < 3 || $0 == result }) else { return false }
    func spread(_ layout: inout AttentionGeometry.Layout, _ rows: Rows?) -> Bool {
      guard let rows else { return true }
      guard rows.length == layout.row else { return false }
      (layout.batch, layout.row) = (layout.batch / layout.row * rows.distance, rows.distance)
      return true
    }
    return spread(&geometry.query, context.rows(input: 0)) && spread(&geometry.key, context.rows(input: 1))
      && spread(&geometry.value, context.rows(input: 2)) && spread(&geometry.result, context.rows(output: 0))
  }

  private func range(_ context: PlanContext, _ past: Int?) -> KeyRange {
    KeyRange(
      isCausal: options.isCausal, left: options.left, right: options.right,
      offset: past ?? (context.isPresent(6) ? nil : 0), hasValidCounts: context.isPresent(6))
  }

  /// The extents, with the layouts of Q, K and V as they come; and the length of the past, if there is one.
  private static func geometry(
    _ context: PlanContext, _ options: AttentionOptions
  ) -> (AttentionGeometry, past: Int?) {
    let (q, k, v) = (context.shape(0), context.shape(1), context.shape(2))
    let past = context.isPresent(4) ? context.shape(4)[2] : nil
    typealias Layout = AttentionGeometry.Layout
    let keyRows = context.pitch(input: 1)?.capacity ?? k[k.rank - 2]
    let valueRows = context.pitch(input: 2)?.capacity ?? v[v.rank - 2]
    if q.rank == 4 {
      let geometry = AttentionGeometry(
        batch: q[0], queryHeads: q[1], keyHeads: k[1], queries: q[2], keys: k[2] + (past ?? 0), size: q[3],
        valueSize: v[3],
        query: .byHead(heads: q[1], length: q[2], size: q[3]), key: .byHead(heads: k[1], length: keyRows, size: k[3]),
        value: .byHead(heads: v[1], length: valueRows, size: v[3]),
        result: .byHead(heads: q[1], length: q[2], size: v[3]))
      return (geometry, past)
    }
    let (queryHeads, keyHeads) = (options.queryHeads ?? 1, options.keyHeads ?? 1)
    let (size, valueSize) = (q[2] / queryHeads, v[2] / keyHeads)
    let geometry = AttentionGeometry(
      batch: q[0], queryHeads: queryHeads, keyHeads: keyHeads, queries: q[1], keys: k[1] + (past ?? 0), size: size,
      valueSize: valueSize, query: .byPosition(heads: queryHeads, length: q[1], size: size),
      key: .byPosition(heads: keyHeads, length: keyRows, size: size),
      value: .byPosition(heads: keyHeads, length: valueRows, size: valueSize),
      result: .byPosition(heads: queryHeads, length: q[1], size: valueSize))
    return (geometry, past)
  }

  /// Inputs: the new part in `layout`, the past; output: both in `target`, where the past may be already.
  private func concatenation(
    _ geometry: AttentionGeometry, size: Int, from layout: AttentionGeometry.Layout,
    to target: AttentionGeometry.Layout, past: Int, isAppended: Bool
  ) throws(OperatorError) -> Step {
    func copy(_ input: Int, _ source: AttentionGeometry.Layout, length: Int, offset: Int) throws(OperatorError)
      -> MovementCopy
    {
      try MovementCopy(
        from: .input(input), width: core.type.byteWidth, extents: [geometry.batch, geometry.keyHeads, length, size],
        sourceStrides: [source.batch, source.head, source.row, 1],
        targetStrides: [target.batch, target.head, target.row, 1], targetOffset: offset * size)
    }
    var copies = [try copy(0, layout, length: geometry.keys - past, offset: past)]
    if past > 0, !isAppended {
      copies.append(try copy(1, .byHead(heads: geometry.keyHeads, length: past, size: size), length: past, offset: 0))
    }
    return .copying(copies)
  }

  /// The mask as numbers of the core's type to add: true is 0, false -infinity.
  private func addMask(_ context: PlanContext, to sequence: inout StepSequence) throws(OperatorError)
    -> StepSequence.Operand
  {
    guard let type = context.inputs[3] else { return .none }
    if type.dataType == core.type { return .input(3) }
    let place = sequence.reserve(bytes: type.count * core.type.byteWidth)
    let partition = Partition(type.count, of: .light * 2)
    let (width, isDouble) = (core.type.byteWidth, core.type == .float64)
    let step: Step
    if type.dataType == .bool {
      step = .parallel(parts: partition.parts) { run, part in
        let source = run.input(0, as: UInt8.self)
        for index in partition.range(part) {
          if isDouble {
            run.output(0, as: Double.self)[index] = source[index] == 0 ? -.infinity : 0
          } else {
            run.output(0, as: Float.self)[index] = source[index] == 0 ? -.infinity : 0
          }
        }
      }
    } else {
      guard let convert = elementConverter(from: type.dataType, to: core.type) else {
        throw .unsupported("Attention has no kernel for a mask of \(type.dataType)")
      }
      step = .parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        convert(
          run.inputBytes(0) + range.lowerBound &* type.dataType.byteWidth,
          run.outputBytes() + range.lowerBound &* width,
          range.count)
      }
    }
    sequence.append(step, inputs: [.input(3)], outputs: [place])
    return place
  }
}

/// A score without a value that takes part in the softmax of every row.
enum AttentionSink: Sendable {
  case none
  case zero
  /// Input 5 of the step has one number for each head of queries.
  case byHead
}

/// What remains when keys, values and mask are in place. Inputs of a step: queries, keys, values, mask, counts of valid
/// keys, sinks; outputs: the result, and what `scoreMode` asks for.
struct AttentionProblem: Sendable {
  let geometry: AttentionGeometry
  let range: KeyRange
  let mask: AttentionMask?
  let scale: Double
  let softcap: Double
  let scoreMode: Int?
  /// For the packed form only.
  var sink = AttentionSink.none
  /// The probabilities of a row whose scores are all -infinity.
  var emptyRows: Float = 0

  var operations: Int {
    2 &* geometry.batch &* geometry.queryHeads &* geometry.queries &* geometry.keys
      &* (geometry.size &+ geometry.valueSize)
  }

  /// The keys that a query sees, apart from the elements of the mask.
  @inline(__always) func visible(_ run: RunContext, batch: Int, query: Int) -> Range<Int> {
    let valid = range.hasValidCounts ? max(0, run.input(4, as: Int.self)[batch]) : geometry.keys
    let keys = range(query: query, queries: geometry.queries, keys: geometry.keys, valid: valid)
    guard let mask, mask.length < keys.upperBound else { return keys }
    return min(keys.lowerBound, mask.length)..<mask.length
  }
}
