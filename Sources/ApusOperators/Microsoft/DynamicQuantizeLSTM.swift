// DynamicQuantizeLSTM: an LSTM whose weights are integers; inputs and states are quantized to 8 bits while running.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM
// Versions: 1. Gates i (input), o (output), f (forget), c (cell), as LSTM of ai.onnx.

import ApusGraph
import ApusTensor
import CApusKernels

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
    let weights = [
      try GateWeights(context, input: 1, scale: 8, zeroPoint: 9),
      try GateWeights(context, input: 2, scale: 10, zeroPoint: 11),
    ]
    let packed = weights.filter { $0.packed != nil }.map(\.input)
    return .planned(packing: packed) { (plan) throws(OperatorError) in
      var step = try QuantizedRecurrence(plan, options, weights).step(plan)
      step.unreadInputs = packed
      return step
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
      activations = all.map { $0.map(\.fastInPlace) }
      clip = context.optionalFloat("clip") ?? .infinity
      couplesForget = try context.bool("input_forget")
    }
  }
}

/// The matrices of the gates that inputs or states are multiplied with, [direction, k, gate]: positions in the node.
private struct GateWeights: Sendable {
  let input: Int
  let scale: Int
  let zeroPoint: Int
  let isSigned: Bool
  /// nil if they are not constant.
  let packed: PackedBytes?

  init(_ context: PrepareContext, input: Int, scale: Int, zeroPoint: Int) throws(OperatorError) {
    (self.input, self.scale, self.zeroPoint) = (input, scale, zeroPoint)
    isSigned = try context.type(input) == .int8
    packed =
      KernelSelection.current.isPlain
      ? nil : try PackedBytes(context.constant(input), isTransposed: false, in: context.packedWeights)
  }

  func load(_ bytes: UnsafeRawPointer, _ index: Int) -> Int32 {
    let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
    return isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)
  }
}

/// The product of quantized rows with the weights of one direction: extents, and where its parts lie in scratch memory.
private struct GateProduct: Sendable {
  let weights: GateWeights
  let k: Int
  let scaleIsByColumn: Bool
  let zeroIsByColumn: Bool
  /// From the start of the scratch memory: all matrices, if they are packed in every run.
  let packedOffset: Int
  let packedStride: Int
}

/// The extents of one plan, and the loop over the steps of one direction.
private struct QuantizedRecurrence: Sendable {
  private let options: DynamicQuantizeLSTM.Options
  private let steps: Int
  private let batch: Int
  private let hidden: Int
  private let width: Int
  private let hasBias: Bool
  private let hasLengths: Bool
  private let hasStates: (hidden: Bool, cell: Bool)
  private let hasPeepholes: Bool
  private let products: (input: GateProduct, state: GateProduct)
  private let memory: Memory
  /// True: no micro-kernel.
  private let isPlain: Bool
  private let kernels = ByteKernels.current
  private var gates: Int { 4 * hidden }

  /// Rows whose integer sums are held at a time.
  private static let sumRows = 24
  /// No machine has more bytes.
  private static let largestMemory = 0x1p46

  /// Scratch memory, in bytes: all packed matrices, then for each direction floats, codes, sums and zero points.
  private struct Memory: Sendable {
    let packed: Int
    let codes: Int
    let sums: Int
    let zeros: Int
    let direction: Int
  }

  init(
    _ context: PlanContext, _ options: DynamicQuantizeLSTM.Options, _ weights: [GateWeights]
  ) throws(OperatorError) {
    self.options = options
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
    // The outputs that nobody wants were not looked at.
    let (gates, kernels) = (4 * hidden, ByteKernels.current)
    let packedBytes = kernels.estimatedBytes(k: width, n: gates) + kernels.estimatedBytes(k: hidden, n: gates)
    guard Shape([directions, steps, batch, 4, hidden, 16]).checkedElementCount != nil,
      Double(directions) * packedBytes < QuantizedRecurrence.largestMemory
    else { throw .mismatch("X is \(context.shape(0)); there can be no memory for the gates of so many steps") }
    let isPlain =
      try KernelCandidate<ElementFacts, Bool>.choose(
        .quantizedRecurrence, type: .float32, [.plain { true }, .vectors("panels") { false }])
      && weights.allSatisfy { $0.packed == nil }
    self.isPlain = isPlain
    var packed = 0
    func product(_ index: Int, k: Int) -> GateProduct {
      let stride = weights[index].packed?.stride ?? kernels.packedBytes(k: k, n: gates)
      defer { if weights[index].packed == nil && !isPlain { packed += directions * stride } }
      return GateProduct(
        weights: weights[index], k: k, scaleIsByColumn: isByColumn[2 * index],
        zeroIsByColumn: isByColumn[2 * index + 1], packedOffset: packed, packedStride: stride)
    }
    products = (product(0, k: width), product(1, k: hidden))
    // Products of all inputs, gates of a step, states; codes of the widest operand; sums of some rows; zero points.
    let rows = steps * batch
    let codes = aligned((rows * gates + batch * gates + 2 * batch * hidden) * 4)
    let sums = codes + aligned(max(rows * width, batch * hidden))
    let zeros = sums + aligned(min(max(rows, batch), QuantizedRecurrence.sumRows) * gates * 4)
    memory = Memory(packed: packed, codes: codes, sums: sums, zeros: zeros, direction: zeros + aligned(gates * 4))
  }

  /// A part for each direction, after one for each matrix that is to be packed.
  func step(_ context: PlanContext) -> Step {
    let wants = (0..<3).map { context.isWanted($0) }
    let directions = options.isReversed.count
    let parts = batch == 0 || hidden == 0 ? 0 : directions
    let unpacked = isPlain ? [] : [products.input, products.state].filter { $0.weights.packed == nil }
    let phases = (unpacked.isEmpty || parts == 0 ? [] : [directions * unpacked.count]) + [parts]
    let bytes = memory.packed + memory.direction * directions
    return Step(phases: phases, scratchBytes: bytes) { run, phase, part in
      if phase == phases.count &- 1 {
        advance(run, part, wants)
        return
      }
      let (index, direction) = part.quotientAndRemainder(dividingBy: directions)
      let product = unpacked[index]
      kernels.pack(
        run.inputBytes(product.weights.input) + direction &* product.k &* gates, k: product.k, n: gates,
        isTransposed: false,
        isSigned: product.weights.isSigned,
        to: run.scratch + (product.packedOffset &+ direction &* product.packedStride),
        panels: 0..<kernels.panelCount(gates))
    }.named(
      "quantized lstm", cost: Cost(operations: 2 &* directions &* steps &* batch &* gates &* (width &+ hidden)))
  }

  private func advance(_ run: RunContext, _ direction: Int, _ wants: [Bool]) {
    let memory = run.scratch + (self.memory.packed &+ direction &* self.memory.direction)
    let lengths = hasLengths ? run.input(4, as: Int32.self) : nil
    for row in 0..<batch {
      if let lengths, lengths[row] < 0 || Int(lengths[row]) > steps {
        run.fail("sequence_lens[\(row)] is \(lengths[row]); expected 0 to \(steps)")
        return
      }
    }
    let shares = memory.assumingMemoryBound(to: Float.self)
    let current = shares + steps &* batch &* gates
    let state = current + batch &* gates
    let cell = state + batch &* hidden
    let count = batch &* hidden
    let offset = direction &* count
    state.update(repeating: 0, count: count)
    cell.update(repeating: 0, count: count)
    if hasStates.hidden { state.update(from: run.input(5) + offset, count: count) }
    if hasStates.cell { cell.update(from: run.input(6) + offset, count: count) }
    var longest = steps
    if let lengths {
      longest = 0
      for row in 0..<batch { longest = max(longest, Int(lengths[row])) }
    }
    fillZeros(run, direction, products.input, memory)
    multiply(run, run.input(0), rows: longest &* batch, direction, products.input, memory, to: shares, adds: false)
    fillZeros(run, direction, products.state, memory)
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
        (current + row &* gates).update(from: shares + (place &* batch &+ row) &* gates, count: gates)
      }
      multiply(run, state, rows: batch, direction, products.state, memory, to: current, adds: true)
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

  // MARK: - Products

  /// Writes the zero points of the columns of one matrix, if they have their own, as int32.
  private func fillZeros(
    _ run: RunContext, _ direction: Int, _ product: GateProduct, _ memory: UnsafeMutableRawPointer
  ) {
    guard product.zeroIsByColumn else { return }
    let zeros = (memory + self.memory.zeros).assumingMemoryBound(to: Int32.self)
    let bytes = run.inputBytes(product.weights.zeroPoint) + direction &* gates
    for column in 0..<gates { zeros[column] = product.weights.load(bytes, column) }
  }

  /// y (+)= quantized(x) · W: x [rows, k], of which all elements have one scale, W [k, gates].
  private func multiply(
    _ run: RunContext, _ x: UnsafePointer<Float>, rows: Int, _ direction: Int, _ product: GateProduct,
    _ memory: UnsafeMutableRawPointer, to y: UnsafeMutablePointer<Float>, adds: Bool
  ) {
    let codes = (memory + self.memory.codes).assumingMemoryBound(to: UInt8.self)
    let sums = (memory + self.memory.sums).assumingMemoryBound(to: Int32.self)
    let (step, middle) = quantize(x, count: rows &* product.k, to: codes)
    let scales =
      run.input(product.weights.scale, as: Float.self) + (product.scaleIsByColumn ? direction &* gates : direction)
    var first = 0
    while first < rows {
      let count = min(QuantizedRecurrence.sumRows, rows &- first)
      sum(run, codes + first &* product.k, rows: count, zero: middle, direction, product, memory, to: sums)
      for row in 0..<count {
        let (line, target) = (sums + row &* gates, y + (first &+ row) &* gates)
        let scale = step * scales[0]
        for column in 0..<gates {
          let value = Float(line[column]) * (product.scaleIsByColumn ? step * scales[column] : scale)
          target[column] = adds ? target[column] + value : value
        }
      }
      first &+= count
    }
  }

  /// Quantizes to uint8 over the range of the elements and 0. Returns the scale and the zero point.
  private func quantize(
    _ x: UnsafePointer<Float>, count: Int, to codes: UnsafeMutablePointer<UInt8>
  ) -> (scale: Float, zero: Int32) {
    var (lows, highs) = (SIMD16<Float>(repeating: 0), SIMD16<Float>(repeating: 0))
    var index = 0
    while index &+ 16 <= count {
      let lanes = UnsafeRawPointer(x + index).loadUnaligned(as: SIMD16<Float>.self)
      lows.replace(with: lanes, where: lanes .< lows)
      highs.replace(with: lanes, where: lanes .> highs)
      index &+= 16
    }
    var (low, high) = (lows.min(), highs.max())
    while index < count {
      low = min(low, x[index])
      high = max(high, x[index])
      index &+= 1
    }
    let scale = low == high ? 1 : (high - low) / 255
    let zero = Int32(max(0, min(255, (-low / scale).rounded(.toNearestOrEven))))
    apus_kernels().pointee.quantize_u8(count, x, codes, scale, zero)
    return (scale, zero)
  }

  /// sums [rows, gates] = (codes - zero) · (W - zero points).
  private func sum(
    _ run: RunContext, _ codes: UnsafePointer<UInt8>, rows: Int, zero: Int32, _ direction: Int, _ product: GateProduct,
    _ memory: UnsafeMutableRawPointer, to sums: UnsafeMutablePointer<Int32>
  ) {
    let weights = product.weights
    let zeros = UnsafePointer((memory + self.memory.zeros).assumingMemoryBound(to: Int32.self))
    let single = product.zeroIsByColumn ? 0 : weights.load(run.inputBytes(weights.zeroPoint), direction)
    if isPlain {
      let matrix = run.inputBytes(weights.input) + direction &* product.k &* gates
      for row in 0..<rows {
        let line = sums + row &* gates
        line.update(repeating: 0, count: gates)
        for index in 0..<product.k {
          let code = Int32(codes[row &* product.k &+ index]) &- zero
          for column in 0..<gates {
            let point = product.zeroIsByColumn ? zeros[column] : single
            line[column] &+= code &* (weights.load(matrix, index &* gates &+ column) &- point)
          }
        }
      }
      return
    }
    let packed =
      weights.packed?.base(direction)
      ?? UnsafeRawPointer(run.scratch + (product.packedOffset &+ direction &* product.packedStride))
    var arguments = apus_gemm_i8_args(
      a: codes, lda: product.k, offsets: nil, pad: nil, taps: 1, kc: product.k, n: gates, a_signed: false,
      b_signed: weights.isSigned, a_zero: zero, b_zero: single, a_zeros: nil,
      b_zeros: product.zeroIsByColumn ? zeros : nil, b: packed, c: sums, ldc: gates, output: APUS_GEMM_I8_TO_I32,
      wide: false,
      bias: nil, scale: 1, scales: nil, zero: 0, low: 0, high: 0, epilogue: apus_epilogue_f32())
    kernels.multiply(&arguments, 0, rows, 0, kernels.panelCount(gates))
  }
}
