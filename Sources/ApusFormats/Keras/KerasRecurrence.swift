// Recurrent layers of Keras as LSTM, GRU and RNN of ONNX: gates in another order, masks, both directions.

import ApusGraph
import ApusTensor

enum KerasRecurrence {
  static let rules: [String: KerasRule] = [
    "LSTM": KerasRule(layer), "GRU": KerasRule(layer), "SimpleRNN": KerasRule(layer), "RNN": KerasRule(layer),
    "Bidirectional": KerasRule(bidirectional), "TimeDistributed": KerasRule(timeDistributed),
  ]

  /// The weights of one direction in the form of ONNX.
  struct Cell {
    let op: String
    let units: Int
    /// Over gates and inputs, over gates and units, and both biases; with an axis of one direction before.
    let weights: [ValueID?]
    let activations: [Activation]
    /// For GRU: the reset gate is applied behind the product.
    var resetsAfter = false

    /// The states that it keeps from step to step.
    var stateCount: Int { op == "LSTM" ? 2 : 1 }
  }

  /// An activation of a recurrent operator.
  struct Activation: Equatable {
    let name: String
    var alpha: Float = 0
    var beta: Float = 0
  }

  /// One direction of a layer.
  private struct Direction {
    let cell: Cell
    let isReverse: Bool
    /// Nothing, or a tensor for each state.
    let initial: [ValueID]
  }

  /// What a recurrent operator gives, for each direction.
  private struct Outputs {
    /// [batch, steps, units], in the order of the steps.
    var sequences: [ValueID]
    /// [batch, units].
    var states: [[ValueID]]
  }

  // MARK: - Cells

  private static func activation(_ key: String, _ preset: String, _ call: KerasCall) throws(OperatorError) -> Activation
  {
    var (name, config) = (preset, KerasConfig())
    if let value = call.config[key] { (name, config) = try KerasActivations.read(value, key) }
    switch name {
    case "tanh": return Activation(name: "Tanh")
    case "sigmoid": return Activation(name: "Sigmoid")
    case "relu" where config["max_value"] == nil: return Activation(name: "Relu")
    case "linear": return Activation(name: "Affine", alpha: 1)
    case "softsign": return Activation(name: "Softsign")
    case "softplus": return Activation(name: "Softplus")
    case "elu": return Activation(name: "Elu", alpha: 1)
    case "leaky_relu":
      return Activation(name: "LeakyRelu", alpha: Float(try config.double("negative_slope", "alpha", default: 0.2)))
    case "hard_sigmoid":
      return Activation(name: "HardSigmoid", alpha: call.network.version >= 3 ? 1 / 6 : 0.2, beta: 0.5)
    default:
      throw .unsupported(
        "the activation '\(name)' in a recurrent layer", remedy: "ONNX has tanh, sigmoid, relu and their like there")
    }
  }

  /// The cell that `call` describes: of the class of a layer or of a cell.
  static func cell(_ call: KerasCall) throws(OperatorError) -> Cell {
    let layers = call.layers
    let name = call.layer.className.replacing("Cell", with: "")
    let units = try call.config.requiredInt("units", in: 1...1 << 24)
    let usesBias = try call.config.bool("use_bias", default: true)
    let weights = try call.variables(["kernel", "recurrent_kernel"] + (usesBias ? ["bias"] : []))
    let inner = try activation("activation", "tanh", call)
    let gateCount = ["LSTM": 4, "GRU": 3][name] ?? 1
    // LSTM: Keras has input, forget, cell, output; ONNX input, output, forget, cell. GRU: both update, reset, hidden.
    let gates = name == "LSTM" ? [0, 3, 1, 2] : Array(0..<gateCount)
    func ordered(_ value: ValueID, axis: Int) throws(OperatorError) -> ValueID {
      if gateCount != 4 { return value }
      let parts = try layers.emit(
        "Split", [value], [("axis", .int(axis)), ("num_outputs", .int(gateCount))], outputs: gateCount)
      return try layers.concatenate(gates.map { parts[$0] }, axis: axis)
    }
    func directed(_ kernel: ValueID) throws(OperatorError) -> ValueID {
      guard try call.dims(kernel).count == 2, try call.dims(kernel)[1] == units * gateCount else {
        throw .mismatch("a kernel of \(units * gateCount) columns was expected; found \(try call.dims(kernel))")
      }
      return try layers.unsqueeze(layers.transpose(ordered(kernel, axis: 1), [1, 0]), [0])
    }
    let resetsAfter = name == "GRU" ? try call.config.bool("reset_after", default: call.network.version >= 3) : false
    var bias: ValueID?
    if usesBias {
      if resetsAfter {
        bias = try layers.reshape(weights[2], [1, 2 * units * gateCount])
      } else {
        let zeros = layers.constant(Tensor([Float](repeating: 0, count: units * gateCount)))
        bias = try layers.unsqueeze(layers.concatenate([ordered(weights[2], axis: 0), zeros], axis: 0), [0])
      }
    }
    let forms = [try directed(weights[0]), try directed(weights[1]), bias]
    switch name {
    case "LSTM":
      let gate = try activation("recurrent_activation", "sigmoid", call)
      return Cell(op: "LSTM", units: units, weights: forms, activations: [gate, inner, inner])
    case "GRU":
      let gate = try activation("recurrent_activation", "sigmoid", call)
      return Cell(op: "GRU", units: units, weights: forms, activations: [gate, inner], resetsAfter: resetsAfter)
    case "SimpleRNN": return Cell(op: "RNN", units: units, weights: forms, activations: [inner])
    default: throw .unsupported("cells of the class \(call.layer.className)")
    }
  }

  /// The cells of a layer, which run one after the other.
  private static func cells(_ call: KerasCall) throws(OperatorError) -> [Cell] {
    if call.layer.className != "RNN" {
      // The weights belong to a cell inside, whose name is that of its class.
      let cellName = KerasNetwork.snakeCase(call.layer.className) + "_cell"
      let scope = call.scope.child("cell", named: cellName)
      return [
        try cell(KerasCall(layer: call.layer, node: call.node, scope: scope, network: call.network, name: call.name))
      ]
    }
    let inner = try call.innerLayer("cell")
    let innerCall = call.inner(inner, "cell", KerasNode())
    guard inner.className == "StackedRNNCells" else { return [try cell(innerCall)] }
    var counts: [String: Int] = [:]
    var cells: [Cell] = []
    for value in inner.config["cells"]?.elements ?? [] {
      let part = try KerasModelParser.layer(value)
      let name = KerasNetwork.snakeCase(part.className)
      let count = counts[name, default: 0]
      counts[name] = count + 1
      cells.append(
        try cell(innerCall.inner(part, "cells/" + (count == 0 ? name : "\(name)_\(count)"), KerasNode())))
    }
    if cells.isEmpty { throw .invalid("'cells' is empty") }
    return cells
  }

  // MARK: - Layers

  /// The tensors behind the first one: those that the states begin with.
  private static func initialStates(_ call: KerasCall) -> [ValueID] {
    let given =
      call.node.arguments.flatMap(\.tensors).dropFirst() + (call.node.keywords["initial_state"]?.tensors ?? [])
    return given.map(\.value)
  }

  private static func layer(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let config = call.config
    let input = try call.input()
    noteState(call)
    if try config.bool("time_major", default: false) { throw .unsupported("sequences with the time first") }
    let returnsSequences = try config.bool("return_sequences", default: false)
    let mask = call.keyword("mask")?.value ?? input.mask
    let isReverse = try config.bool("go_backwards", default: false)
    var states = initialStates(call)
    var value = input.value
    var finals: [ValueID] = []
    let cells = try cells(call)
    for (index, cell) in cells.enumerated() {
      let isLast = index == cells.count - 1
      let initial = Array(states.prefix(cell.stateCount))
      states = Array(states.dropFirst(cell.stateCount))
      let outputs = try run(
        value, [Direction(cell: cell, isReverse: isReverse, initial: initial)], mask,
        zeroes: isLast ? zeroes(call) : false, needsSequences: returnsSequences || !isLast, call.layers)
      value = isLast && !returnsSequences ? outputs.states[0][0] : outputs.sequences[0]
      finals += outputs.states[0]
    }
    if !returnsSequences, let mask, try zeroes(call) {
      // The output of the step that is made last, which is nothing if it is hidden.
      let last = try call.layers.emit(
        "Gather", [mask, call.layers.integers([isReverse ? 0 : -1])], [("axis", .int(1))])
      value = try call.layers.emit("Where", [last, value, call.layers.scalar(0, like: value)])
    }
    // Keras gives the steps of a reversed layer in the order in which it made them.
    if isReverse, returnsSequences { value = try reversed(value, call.layers) }
    let result = KerasTensor(value, mask: returnsSequences ? mask : nil)
    return try config.bool("return_state", default: false) ? [result] + finals.map { KerasTensor($0) } : [result]
  }

  private static func noteState(_ call: KerasCall) {
    if (try? call.config.bool("stateful", default: false)) ?? false {
      call.ledger.note("the layer '\(call.name)' is stateful; here it begins every run without a state")
    }
  }

  /// True if the outputs of steps that are masked are zeros and not those of the step before.
  private static func zeroes(_ call: KerasCall) throws(OperatorError) -> Bool {
    try call.config.bool("zero_output_for_mask", default: false)
  }

  private static func reversed(_ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    try layers.slice(value, from: [-1], to: [-Int(Int32.max)], axes: [1], steps: [-1])
  }

  private static func bidirectional(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let forward = try call.innerLayer("layer")
    let name = forward.name.hasPrefix("forward_") ? String(forward.name.dropFirst(8)) : forward.name
    let backward = call.config["backward_layer"] == nil ? forward : try call.innerLayer("backward_layer")
    let backwardName =
      backward.name.hasPrefix("backward_") || call.config["backward_layer"] != nil
      ? backward.name : "backward_" + name
    let calls = [
      call.inner(forward, "forward_layer", call.node, named: "forward_" + name),
      call.inner(backward, "backward_layer", call.node, named: backwardName),
    ]
    let config = calls[0].config
    if try config.bool("go_backwards", default: false) { throw .unsupported("a forward layer that goes backwards") }
    let input = try call.input()
    calls.forEach(noteState)
    let mask = call.keyword("mask")?.value ?? input.mask
    let returnsSequences = try config.bool("return_sequences", default: false)
    let initial = initialStates(call)
    var directions: [Direction] = []
    for (index, inner) in calls.enumerated() {
      let cells = try cells(inner)
      guard cells.count == 1 else { throw .unsupported("stacked cells in both directions") }
      let states = index == 0 ? initial.prefix(initial.count / 2) : initial.suffix(initial.count / 2)
      directions.append(Direction(cell: cells[0], isReverse: index == 1, initial: Array(states)))
    }
    // Keras lets the outputs of masked steps be zeros here.
    let outputs = try both(
      input.value, directions, mask, needsSequences: returnsSequences, layers)
    let parts = returnsSequences ? outputs.sequences : outputs.states.map { $0[0] }
    let merged = try merge(parts, call)
    let results = merged.map { KerasTensor($0, mask: returnsSequences ? mask : nil) }
    guard try config.bool("return_state", default: false) else { return results }
    return results + outputs.states.flatMap { $0 }.map { KerasTensor($0) }
  }

  private static func merge(_ parts: [ValueID], _ call: KerasCall) throws(OperatorError) -> [ValueID] {
    let layers = call.layers
    // Null is a mode of its own: no merging.
    switch try call.config.string("merge_mode") {
    case nil: return parts
    case "concat": return [try layers.concatenate(parts, axis: try layers.rank(parts[0]) - 1)]
    case "sum": return [try layers.emit("Add", [parts[0], parts[1]])]
    case "mul": return [try layers.emit("Mul", [parts[0], parts[1]])]
    case "ave":
      let sum = try layers.emit("Add", [parts[0], parts[1]])
      return [try layers.emit("Mul", [sum, layers.scalar(0.5, like: sum)])]
    case let mode?: throw .invalid("'merge_mode' should be concat, sum, mul, ave or null; it is '\(mode)'")
    }
  }

  /// Both directions in one node where they are alike, else in two.
  private static func both(
    _ value: ValueID, _ directions: [Direction], _ mask: ValueID?, needsSequences: Bool, _ layers: LayerBuilder
  ) throws(OperatorError) -> Outputs {
    let (first, second) = (directions[0], directions[1])
    let alike =
      first.cell.op == second.cell.op && first.cell.units == second.cell.units
      && first.cell.resetsAfter == second.cell.resetsAfter
      && (first.cell.weights[2] == nil) == (second.cell.weights[2] == nil)
      && first.initial.count == second.initial.count
    if alike { return try run(value, directions, mask, zeroes: true, needsSequences: needsSequences, layers) }
    var outputs = try run(value, [first], mask, zeroes: true, needsSequences: needsSequences, layers)
    let other = try run(value, [second], mask, zeroes: true, needsSequences: needsSequences, layers)
    outputs.sequences += other.sequences
    outputs.states += other.states
    return outputs
  }

  // MARK: - Nodes

  /// A node for one direction or for both. Steps that `mask` hides are left out: the others move together, and their
  /// outputs back to where they were, so that the states pass over what is hidden.
  private static func run(
    _ value: ValueID, _ directions: [Direction], _ mask: ValueID?, zeroes: Bool, needsSequences: Bool,
    _ layers: LayerBuilder
  ) throws(OperatorError) -> Outputs {
    guard try layers.rank(value) == 3 else {
      throw .mismatch("a sequence of three axes was expected; it has \(try layers.rank(value))")
    }
    let cell = directions[0].cell
    var value = value
    var lengths: ValueID?
    var places: MaskedSteps?
    if let mask {
      let steps = try MaskedSteps(mask, layers)
      value = try layers.emit("GatherND", [value, steps.order], [("batch_dims", .int(1))])
      (lengths, places) = (steps.lengths, steps)
    }
    func stacked(_ values: [ValueID?]) throws(OperatorError) -> ValueID? {
      let present = values.compactMap { $0 }
      return present.isEmpty ? nil : try layers.concatenate(present, axis: 0)
    }
    var inputs: [ValueID?] = [try layers.transpose(value, [1, 0, 2])]
    for index in 0..<3 { inputs.append(try stacked(directions.map { $0.cell.weights[index] })) }
    inputs.append(lengths)
    for state in 0..<cell.stateCount {
      var initial: [ValueID?] = []
      for direction in directions where !direction.initial.isEmpty {
        guard direction.initial.count == cell.stateCount else {
          throw .invalid("\(cell.stateCount) states were expected; found \(direction.initial.count)")
        }
        initial.append(try layers.unsqueeze(direction.initial[state], [0]))
      }
      inputs.append(try stacked(initial))
    }
    let outputs = try layers.emit(
      cell.op, inputs, attributes(directions), outputs: cell.stateCount + 1)
    return try parts(outputs, directions, places, zeroes: zeroes, needsSequences: needsSequences, layers)
  }

  private static func attributes(_ directions: [Direction]) -> [(String, AttributeValue)] {
    let cell = directions[0].cell
    let activations = directions.flatMap(\.cell.activations)
    let direction = directions.count == 2 ? "bidirectional" : directions[0].isReverse ? "reverse" : "forward"
    var attributes: [(String, AttributeValue)] = [
      ("hidden_size", .int(cell.units)), ("direction", .string(direction)),
    ]
    let standard: [String: [String]] = [
      "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"],
    ]
    if directions.contains(where: { $0.cell.activations.map(\.name) != standard[cell.op] }) {
      attributes.append(("activations", .strings(activations.map(\.name))))
      // Parameters stand in the order of the activations that have some.
      let alphas = activations.filter { ["Affine", "LeakyRelu", "Elu", "HardSigmoid"].contains($0.name) }
      let betas = activations.filter { ["Affine", "HardSigmoid"].contains($0.name) }
      if !alphas.isEmpty { attributes.append(("activation_alpha", .floats(alphas.map(\.alpha)))) }
      if !betas.isEmpty { attributes.append(("activation_beta", .floats(betas.map(\.beta)))) }
    }
    if cell.op == "GRU", cell.resetsAfter { attributes.append(("linear_before_reset", .int(1))) }
    return attributes
  }

  /// The outputs of a node by direction, with the batch first.
  private static func parts(
    _ outputs: [ValueID], _ directions: [Direction], _ places: MaskedSteps?, zeroes: Bool, needsSequences: Bool,
    _ layers: LayerBuilder
  ) throws(OperatorError) -> Outputs {
    var result = Outputs(sequences: [], states: [])
    for (index, direction) in directions.enumerated() {
      func part(_ value: ValueID, axis: Int) throws(OperatorError) -> ValueID {
        if directions.count == 1 { return try layers.squeeze(value, [axis]) }
        let place = layers.constant(Tensor(scalar: Int64(index)))
        return try layers.emit("Gather", [value, place], [("axis", .int(axis))])
      }
      var states: [ValueID] = []
      for state in outputs.dropFirst() { states.append(try part(state, axis: 0)) }
      result.states.append(states)
      guard needsSequences else { continue }
      let sequence = try layers.transpose(part(outputs[0], axis: 1), [1, 0, 2])
      result.sequences.append(
        try places?.spread(sequence, isReverse: direction.isReverse, zeroes: zeroes, layers) ?? sequence)
    }
    return result
  }

  // MARK: - Steps as a batch

  /// [batch, steps, …] as [batch · steps, …].
  static func mergingSteps(_ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    let shape = try layers.shape(value)
    guard shape.count >= 2, let rest = Array(shape.dropFirst(2)).concrete else {
      throw .unsupported("steps of an unknown shape: \(shape)", remedy: "Export the model with a fixed shape")
    }
    return try layers.reshape(value, [-1] + rest.dims)
  }

  /// [batch · steps, …] as [batch, steps, …], where `other` has both.
  static func splittingSteps(
    _ value: ValueID, like other: ValueID, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let outer = try layers.shape(other).prefix(2)
    return try layers.reshape(value, to: Array(outer) + layers.shape(value).dropFirst(), symbolsOf: [other])
  }

  /// Layers that do the same to every step as they stand.
  private static let stepwise: Set<String> = ["Dense", "Activation", "ReLU", "LeakyReLU", "ELU", "Dropout"]

  private static func timeDistributed(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let inner = try call.innerLayer("layer")
    let input = try call.input()
    func result(_ value: ValueID) throws(OperatorError) -> ValueID {
      let results = try call.inner(inner, "layer", KerasNode(arguments: [.tensor(KerasTensor(value))])).results()
      guard results.count == 1 else { throw .unsupported("a layer inside with \(results.count) outputs") }
      return results[0].value
    }
    if stepwise.contains(inner.className), try call.layers.rank(input.value) > 2 {
      return [KerasTensor(try result(input.value), mask: input.mask)]
    }
    let merged = try result(mergingSteps(input.value, call.layers))
    return [KerasTensor(try splittingSteps(merged, like: input.value, call.layers), mask: input.mask)]
  }
}

/// Where the steps of sequences go that a mask does not hide: to the front, in their order.
private struct MaskedSteps {
  /// Of bools, [batch, steps].
  private let mask: ValueID
  /// The steps that are there, then the others, [batch, steps, 1].
  let order: ValueID
  /// How many are there, [batch], int32.
  let lengths: ValueID
  /// How many are there up to each step, [batch, steps].
  private let counts: ValueID
  private let isThere: ValueID

  /// More than any sequence has steps; a float32 counts exactly up to there.
  private static let beyond = 1 << 22

  init(_ mask: ValueID, _ layers: LayerBuilder) throws(OperatorError) {
    self.mask = mask
    isThere = try layers.cast(mask, to: .int64)
    let axis = layers.constant(Tensor(scalar: Int64(1)))
    counts = try layers.emit("CumSum", [isThere, axis])
    let whole = try layers.reduce("ReduceSum", isThere, axes: [1], keepsAxes: false)
    lengths = try layers.cast(whole, to: .int32)
    let one = layers.constant(Tensor(scalar: Int64(1)))
    let ones = try layers.emit("Add", [layers.emit("Mul", [isThere, layers.constant(Tensor(scalar: Int64(0)))]), one])
    let places = try layers.emit("CumSum", [ones, axis])
    let far = try layers.emit("Mul", [isThere, layers.constant(Tensor(scalar: Int64(Self.beyond)))])
    let keys = try layers.cast(layers.emit("Sub", [far, places]), to: .float32)
    let count = try layers.emit("Shape", [mask], [("start", .int(1)), ("end", .int(2))])
    order = try layers.unsqueeze(layers.emit("TopK", [keys, count], [("axis", .int(1))], outputs: 2)[1], [2])
  }

  /// Outputs of steps that were moved, back at their places. At those that are hidden stand zeros, or the output of the
  /// step that was made before.
  func spread(
    _ sequence: ValueID, isReverse: Bool, zeroes: Bool, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let one = layers.constant(Tensor(scalar: Int64(1)))
    let zero = layers.constant(Tensor(scalar: Int64(0)))
    var (places, isDefined): (ValueID, ValueID)
    if isReverse {
      places = try layers.emit("Sub", [counts, isThere])
      let whole = try layers.reduce("ReduceSum", isThere, axes: [1], keepsAxes: true)
      isDefined = try layers.emit("Less", [places, whole])
      places = try layers.emit("Min", [places, layers.emit("Max", [layers.emit("Sub", [whole, one]), zero])])
    } else {
      places = try layers.emit("Sub", [counts, one])
      isDefined = try layers.emit("GreaterOrEqual", [places, zero])
      places = try layers.emit("Max", [places, zero])
    }
    if zeroes { isDefined = mask }
    let moved = try layers.emit("GatherND", [sequence, layers.unsqueeze(places, [2])], [("batch_dims", .int(1))])
    return try layers.emit(
      "Where", [layers.unsqueeze(isDefined, [2]), moved, layers.scalar(0, like: moved)])
  }
}
