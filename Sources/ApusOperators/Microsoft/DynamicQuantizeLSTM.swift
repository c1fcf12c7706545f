// DynamicQuantizeLSTM: an LSTM whose weights are integers; inputs and states are quantized to 8 bits while running.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM
// Versions: 1. Gates i (input), o (output), f (forget), c (cell), as LSTM of ai.onnx.

import ApusGraph
import ApusTensor

struct DynamicQuantizeLSTM: OperatorDefinition {
  let schema = OperatorSchema(
    "DynamicQuantizeLSTM", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("X", "T"), .required("W", "T2"), .required("R", "T2"), .optional("B", "T"),
      .optional("sequence_lens", "T1"), .optional("initial_h", "T"), .optional("initial_c", "T"), .optional("P", "T"),
      .required("W_scale", "T"),
      .required("W_zero_point", "T2"), .required("R_scale", "T"), .required("R_zero_point", "T2"),
    ],
    outputs: [.optional("Y", "T"), .optional("Y_h", "T"), .optional("Y_c", "T")],
    attributes: [
      .optional("activation_alpha", .floats), .optional("activation_beta", .floats), .optional("activations", .strings),
      .optional("clip", .float), .string("direction", default: "forward"), .optional("hidden_size", .int),
      .int("input_forget", default: 0),
    ], types: ["T": .float32, "T1": .int32, "T2": .bytes])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let options = try Options(context)
    let (x, w, r) = (context.shape(0), context.shape(1), context.shape(2))
    for (shape, name) in [(x, "X"), (w, "W"), (r, "R")] {
      if let shape, shape.count != 3 { throw .mismatch("\(name) is \(shape.text); expected 3 axes") }
    }
    let directions = Dim(options.isReversed.count)
    let hidden = r?[1] ?? context.optionalInt("hidden_size").map { Dim($0) } ?? .unknown
    if let size = context.optionalInt("hidden_size"), hidden.isSurelyDifferent(from: Dim(size)) {
      throw .mismatch("hidden_size is \(size), and R has \(hidden) rows")
    }
    let (steps, batch) = (x?[0] ?? .unknown, x?[1] ?? .unknown)
    let (gates, state) = (hidden * Dim(4), [directions, batch, hidden])
    let expected: [(Int, [Dim])] = [
      (1, [directions, x?[2] ?? .unknown, gates]), (2, [directions, hidden, gates]), (3, [directions, gates * Dim(2)]),
      (4, [batch]), (5, state), (6, state), (7, [directions, hidden * Dim(3)]),
    ]
    for (index, target) in expected {
      guard let shape = context.shape(index) else { continue }
      if shape.count != target.count || zip(shape, target).contains(where: { $0.isSurelyDifferent(from: $1) }) {
        throw .mismatch("\(context.schema.inputs[index].name) is \(shape.text); expected \(target.text)")
      }
    }
    context.set(0, .float32, [steps, directions, batch, hidden])
    for output in 1...2 { context.set(output, .float32, state) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let options = try Options(context)
    let isSigned = (try context.type(1) == .int8, try context.type(2) == .int8)
    return .planned { (plan) throws(OperatorError) in
      try QuantizedRecurrence(plan, options, isSigned: isSigned).step(plan)
    }
  }

  struct Options: Sendable {
    /// For each direction: does it run backwards?
    let isReversed: [Bool]
    let activations: [[RecurrentActivation.Function<Float>]]
    let clip: Float
    let couplesForget: Bool

    init(_ context: some OperatorContext) throws(OperatorError) {
      switch try context.string("direction", oneOf: ["forward", "reverse", "bidirectional"]) {
      case "forward": isReversed = [false]
      case "reverse": isReversed = [true]
      default: isReversed = [false, true]
      }
      let all = try RecurrentActivation.all(
        context, directions: isReversed.count, defaults: RecurrentKind.lstm(couplesForget: false).activations)
      activations = all.map { $0.map(\.fast) }
      clip = context.optionalFloat("clip") ?? .infinity
      couplesForget = try context.bool("input_forget")
    }
  }
}

/// The extents of one plan, and the loop over the steps of one direction.
private struct QuantizedRecurrence: Sendable {
  private let options: DynamicQuantizeLSTM.Options
  private let isSigned: (input: Bool, state: Bool)
  private let steps: Int
  private let batch: Int
  private let width: Int
  private let hidden: Int
  private let hasBias: Bool
  private let hasLengths: Bool
  private let hasStates: (hidden: Bool, cell: Bool)
  private let hasPeepholes: Bool
  private let isByColumn: (inputScale: Bool, inputZero: Bool, stateScale: Bool, stateZero: Bool)
  private var gates: Int { 4 * hidden }

  init(
    _ context: PlanContext, _ options: DynamicQuantizeLSTM.Options, isSigned: (Bool, Bool)
  ) throws(OperatorError) {
    self.options = options
    self.isSigned = isSigned
    (steps, batch, width) = (context.shape(0)[0], context.shape(0)[1], context.shape(0)[2])
    hidden = context.shape(2)[1]
    hasBias = context.isPresent(3)
    hasLengths = context.isPresent(4)
    hasStates = (context.isPresent(5), context.isPresent(6))
    hasPeepholes = context.isPresent(7)
    let directions = options.isReversed.count
    var isByColumn = [false, false, false, false]
    for (index, name) in ["W_scale", "W_zero_point", "R_scale", "R_zero_point"].enumerated() {
      let count = context.shape(8 + index).elementCount
      guard count == directions || count == directions * 4 * hidden else {
        throw .mismatch(
          "\(name) is \(context.shape(8 + index)); expected [\(directions)] or [\(directions), \(4 * hidden)]")
      }
      isByColumn[index] = count != directions
    }
    self.isByColumn = (isByColumn[0], isByColumn[1], isByColumn[2], isByColumn[3])
    // The outputs that nobody wants were not looked at.
    guard Shape([directions, steps, batch, 4, hidden, 16]).checkedElementCount != nil else {
      throw .mismatch("X is \(context.shape(0)); there can be no memory for the gates of so many steps")
    }
  }

  /// A part for each direction.
  func step(_ context: PlanContext) throws(OperatorError) -> Step {
    let (rows, longest) = (steps * batch, max(width, hidden))
    // By direction: products of all inputs, gates of a step, states, codes of the widest operand, sums of a product.
    let floats = rows * gates + batch * gates + 2 * batch * hidden
    let bytes = aligned(floats * 4) + aligned(max(rows, batch) * longest) + aligned(gates * 4)
    let wants = (0..<3).map { context.isWanted($0) }
    let directions = options.isReversed.count
    let parts = batch == 0 || hidden == 0 ? 0 : directions
    return Step.parallel(parts: parts, scratchBytes: bytes * directions) { run, direction in
      let memory = run.scratch + direction &* bytes
      let products = memory.assumingMemoryBound(to: Float.self)
      let lengths = hasLengths ? run.input(4, as: Int32.self) : nil
      for row in 0..<batch {
        if let lengths, lengths[row] < 0 || Int(lengths[row]) > steps {
          run.fail("sequence_lens[\(row)] is \(lengths[row]); expected 0 to \(steps)")
          return
        }
      }
      let codes = (memory + aligned(floats * 4)).assumingMemoryBound(to: UInt8.self)
      let sums = (memory + aligned(floats * 4) + aligned(max(rows, batch) * longest))
        .assumingMemoryBound(to: Int32.self)
      advance(run, direction, products, codes, sums, lengths, wants)
    }.named("quantized lstm", operations: 2 &* directions &* rows &* gates &* (width &+ hidden))
  }

  private func advance(
    _ run: RunContext, _ direction: Int, _ products: UnsafeMutablePointer<Float>, _ codes: UnsafeMutablePointer<UInt8>,
    _ sums: UnsafeMutablePointer<Int32>, _ lengths: UnsafePointer<Int32>?, _ wants: [Bool]
  ) {
    let current = products + steps &* batch &* gates
    let state = current + batch &* gates
    let cell = state + batch &* hidden
    let count = batch &* hidden
    let offset = direction &* count
    state.update(repeating: 0, count: count)
    cell.update(repeating: 0, count: count)
    if hasStates.hidden { state.update(from: run.input(5) + offset, count: count) }
    if hasStates.cell { cell.update(from: run.input(6) + offset, count: count) }
    var longest = steps
    if let lengths { longest = (0..<batch).map { Int(lengths[$0]) }.max() ?? 0 }
    multiply(
      run, run.input(0), rows: longest &* batch, width, direction, weights: 1, scale: 8, zero: 9, isSigned.input,
      (isByColumn.inputScale, isByColumn.inputZero), codes, sums, to: products, adds: false)
    if wants[0] {
      for time in 0..<steps {
        let line = time &* options.isReversed.count &+ direction
        (run.output(0, as: Float.self) + line &* count).update(repeating: 0, count: count)
      }
    }
    for time in 0..<longest {
      for row in 0..<batch {
        let length = lengths.map { Int($0[row]) } ?? steps
        // A sequence that has ended is a row of zeros.
        if time >= length {
          (current + row &* gates).update(repeating: 0, count: gates)
          continue
        }
        let place = options.isReversed[direction] ? length &- 1 &- time : time
        (current + row &* gates).update(from: products + (place &* batch &+ row) &* gates, count: gates)
      }
      multiply(
        run, state, rows: batch, hidden, direction, weights: 2, scale: 10, zero: 11, isSigned.state,
        (isByColumn.stateScale, isByColumn.stateZero), codes, sums, to: current, adds: true)
      for row in 0..<batch {
        let length = lengths.map { Int($0[row]) } ?? steps
        if time >= length { continue }
        let line = state + row &* hidden
        updateCell(run, direction, current + row &* gates, cell + row &* hidden, line)
        let place = options.isReversed[direction] ? length &- 1 &- time : time
        if wants[0] {
          (run.output(0, as: Float.self) + ((place &* options.isReversed.count &+ direction) &* batch &+ row) &* hidden)
            .update(from: line, count: hidden)
        }
        if time &+ 1 == length { finish(run, offset &+ row &* hidden, line, cell + row &* hidden, wants) }
      }
    }
    for row in 0..<batch where (lengths.map { Int($0[row]) } ?? steps) == 0 {
      finish(run, offset &+ row &* hidden, state + row &* hidden, cell + row &* hidden, wants, isEmpty: true)
    }
  }

  /// Hands out the last states of a sequence, of which the one that is quantized becomes zero.
  private func finish(
    _ run: RunContext, _ offset: Int, _ state: UnsafeMutablePointer<Float>, _ cell: UnsafeMutablePointer<Float>,
    _ wants: [Bool], isEmpty: Bool = false
  ) {
    if isEmpty {
      state.update(repeating: 0, count: hidden)
      cell.update(repeating: 0, count: hidden)
    }
    if wants[1] { (run.output(1, as: Float.self) + offset).update(from: state, count: hidden) }
    if wants[2] { (run.output(2, as: Float.self) + offset).update(from: cell, count: hidden) }
    state.update(repeating: 0, count: hidden)
  }

  /// One row of gates to the next cell and state.
  private func updateCell(
    _ run: RunContext, _ direction: Int, _ gates: UnsafeMutablePointer<Float>, _ cell: UnsafeMutablePointer<Float>,
    _ state: UnsafeMutablePointer<Float>
  ) {
    let (input, output, forget, candidate) = (gates, gates + hidden, gates + 2 &* hidden, gates + 3 &* hidden)
    let peepholes = run.input(7, as: Float.self) + 3 &* direction &* hidden
    let activations = options.activations[direction]
    if hasBias {
      let bias = run.input(3, as: Float.self) + 8 &* direction &* hidden
      for unit in 0..<4 &* hidden { gates[unit] += bias[unit] + bias[4 &* hidden &+ unit] }
    }
    if hasPeepholes {
      for unit in 0..<hidden {
        input[unit] += peepholes[unit] * cell[unit]
        forget[unit] += peepholes[2 &* hidden &+ unit] * cell[unit]
      }
    }
    for (gate, activation) in [(input, activations[0]), (forget, activations[0]), (candidate, activations[1])] {
      bound(gate)
      activation(gate, hidden)
    }
    if options.couplesForget { for unit in 0..<hidden { forget[unit] = 1 - input[unit] } }
    for unit in 0..<hidden { cell[unit] = forget[unit] * cell[unit] + input[unit] * candidate[unit] }
    if hasPeepholes { for unit in 0..<hidden { output[unit] += peepholes[hidden &+ unit] * cell[unit] } }
    bound(output)
    activations[0](output, hidden)
    candidate.update(from: cell, count: hidden)
    activations[2](candidate, hidden)
    for unit in 0..<hidden { state[unit] = output[unit] * candidate[unit] }
  }

  private func bound(_ gate: UnsafeMutablePointer<Float>) {
    if options.clip == .infinity { return }
    for unit in 0..<hidden { gate[unit] = max(-options.clip, min(options.clip, gate[unit])) }
  }

  /// y (+)= quantized(x) · W: x [rows, k], of which all elements have one scale, W [k, gates].
  private func multiply(
    _ run: RunContext, _ x: UnsafePointer<Float>, rows: Int, _ k: Int, _ direction: Int, weights: Int, scale: Int,
    zero: Int, _ isSigned: Bool, _ isByColumn: (scale: Bool, zero: Bool), _ codes: UnsafeMutablePointer<UInt8>,
    _ sums: UnsafeMutablePointer<Int32>, to y: UnsafeMutablePointer<Float>, adds: Bool
  ) {
    var (low, high): (Float, Float) = (0, 0)
    for index in 0..<rows &* k {
      low = min(low, x[index])
      high = max(high, x[index])
    }
    let step = low == high ? 1 : (high - low) / 255
    let middle = Int32(max(0, min(255, (-low / step).rounded(.toNearestOrEven))))
    for index in 0..<rows &* k {
      let value = (x[index] / step).rounded(.toNearestOrEven) + Float(middle)
      codes[index] = value > 0 ? UInt8(min(255, value)) : 0
    }
    let matrix = run.inputBytes(weights) + direction &* k &* gates
    let scales = run.input(scale, as: Float.self) + (isByColumn.scale ? direction &* gates : direction)
    let zeros = run.inputBytes(zero) + (isByColumn.zero ? direction &* gates : direction)
    func load(_ base: UnsafeRawPointer, _ index: Int) -> Int32 {
      let code = base.load(fromByteOffset: index, as: UInt8.self)
      return isSigned ? Int32(Int8(bitPattern: code)) : Int32(code)
    }
    for row in 0..<rows {
      sums.update(repeating: 0, count: gates)
      for index in 0..<k {
        let code = Int32(codes[row &* k &+ index]) &- middle
        if code == 0 { continue }
        for column in 0..<gates {
          sums[column] &+= code &* (load(matrix, index &* gates &+ column) &- load(zeros, isByColumn.zero ? column : 0))
        }
      }
      let target = y + row &* gates
      for column in 0..<gates {
        let value = Float(sums[column]) * (step * scales[isByColumn.scale ? column : 0])
        target[column] = adds ? target[column] + value : value
      }
    }
  }
}
