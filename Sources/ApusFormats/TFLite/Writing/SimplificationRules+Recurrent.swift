// The rules of `TFLiteSimplification`: recurrent layers. An LSTM whose states begin at zero is one of the interpreter
// for each direction; all else is written step by step, if the sequence has few steps.

import ApusGraph
import ApusTensor

extension TFLiteSimplification {
  static let recurrentRules: [String: Rule] = ["LSTM": recurrent, "GRU": recurrent, "RNN": recurrent]

  private static let recurrent: Rule = { (node, layers) throws(OperatorError) in
    let layer = try TFLiteRecurrent(node, layers)
    return try layer.canBeSequence ? layer.sequence() : layer.steps()
  }
}

/// A recurrent layer that is taken apart.
private struct TFLiteRecurrent {
  /// Longer sequences are not written step by step.
  private static let mostSteps = 128

  let node: Node
  let layers: LayerBuilder
  private let facts: NodeFacts
  private let units: Int
  /// True for each direction from the end to the beginning.
  private let directions: [Bool]
  private let activations: [String]
  private let bound: Float?
  /// Time before batch.
  private let isTimeMajor: Bool
  private let x: ValueID

  init(_ node: Node, _ layers: LayerBuilder) throws(OperatorError) {
    (self.node, self.layers, facts) = (node, layers, try layers.facts(node))
    isTimeMajor = facts.optionalInt("layout") ?? 0 == 0
    switch facts.optionalString("direction") ?? "forward" {
    case "forward": directions = [false]
    case "reverse": directions = [true]
    case "bidirectional": directions = [false, true]
    case let other: throw .invalid("the direction is '\(other)'")
    }
    units = try layers.extent(layers.operand(node, 2), 2)
    let usual = node.op.name == "LSTM" ? ["Sigmoid", "Tanh", "Tanh"] : ["Sigmoid", "Tanh"]
    let defaults = node.op.name == "RNN" ? ["Tanh"] : usual
    // The schema's own are those of two directions.
    let given = node.attributes.strings("activations") ?? []
    activations = given.isEmpty ? directions.flatMap { _ in defaults } : given
    guard activations.count == defaults.count * directions.count else {
      throw .invalid("\(defaults.count) activations for each direction were expected; they are \(given)")
    }
    bound = facts.optionalFloat("clip")
    guard facts.optionalInt("input_forget") ?? 0 == 0 else {
      throw .unsupported("gates of input and forgetting that hang together are not written")
    }
    let x = try layers.operand(node)
    self.x = isTimeMajor ? x : try layers.transpose(x, [1, 0, 2])
    if node.inputs.count > 4, let lengths = node.inputs[4] {
      let whole = try layers.shape(self.x)[0].known
      guard let known = layers.integers(lengths), known.allSatisfy({ $0 == whole }) else {
        throw .unsupported("sequences of lengths of their own are not written")
      }
    }
  }

  private func isWanted(_ output: Int) -> Bool { output < node.outputs.count && node.outputs[output] != nil }
  private func has(_ input: Int) -> Bool { input < node.inputs.count && node.inputs[input] != nil }

  /// A state that does not begin at zero.
  private func state(_ input: Int) throws(OperatorError) -> ValueID? {
    guard has(input) else { return nil }
    let value = try layers.operand(node, input)
    if let known = layers.constant(value)?.elements(as: Float.self), known.allSatisfy({ $0 == 0 }) { return nil }
    return isTimeMajor ? value : try layers.transpose(value, [1, 0, 2])
  }

  /// The part of an operand that belongs to a direction, whose axis stays.
  private func part(_ input: Int, _ direction: Int) throws(OperatorError) -> ValueID? {
    guard has(input) else { return nil }
    let value = try layers.operand(node, input)
    return directions.count == 1
      ? value : try layers.slice(value, from: [direction], to: [direction + 1], axes: [0])
  }

  // MARK: - In one operator

  /// Whether the interpreter's own LSTM computes it.
  var canBeSequence: Bool {
    get throws(OperatorError) {
      let usual = directions.flatMap { _ in ["Sigmoid", "Tanh", "Tanh"] }
      guard node.op.name == "LSTM", activations == usual, bound == nil, !isWanted(2), try state(5) == nil,
        try state(6) == nil, layers.type(x) == .float32
      else { return false }
      return try layers.shape(x)[1].known != nil
    }
  }

  func sequence() throws(OperatorError) -> [ValueID?] {
    layers.ledger.note(
      "States of LSTM begin at zero in the first run; the interpreter keeps them until its variables are reset.")
    var results: [ValueID] = []
    var states: [ValueID] = []
    for (direction, isReversed) in directions.enumerated() {
      let given = isReversed ? try layers.reversed(x, 0) : x
      let operands = [given, try part(1, direction), try part(2, direction), try part(3, direction)]
      let y = try layers.emit(
        "LSTM", operands + [nil, nil, nil, part(7, direction)], [("hidden_size", .int(units))])
      if isWanted(1) {
        let last = try layers.slice(y, from: [-1], to: [Int(Int32.max)], axes: [0])
        states.append(try layers.squeeze(last, [0]))
      }
      results.append(isReversed ? try layers.reversed(y, 0) : y)
    }
    return try outputs(layers.concatenate(results, axis: 1), states, [])
  }

  /// Y, Y_h and Y_c of [time, directions, batch, units] and [1, batch, units] of each direction.
  private func outputs(
    _ y: ValueID?, _ hidden: [ValueID], _ cells: [ValueID]
  ) throws(OperatorError) -> [ValueID?] {
    let last = try [hidden, cells].map { (states) throws(OperatorError) -> ValueID? in
      if states.isEmpty { return nil }
      let all = try layers.concatenate(states, axis: 0)
      return isTimeMajor ? all : try layers.transpose(all, [1, 0, 2])
    }
    let all = try y.map { (value) throws(OperatorError) in
      isTimeMajor ? value : try layers.transpose(value, [2, 0, 1, 3])
    }
    return Array([all, last[0], last[1]].prefix(node.outputs.count))
  }

  // MARK: - Step by step

  func steps() throws(OperatorError) -> [ValueID?] {
    guard let count = try layers.shape(x)[0].known, count > 0, count <= Self.mostSteps else {
      throw .unsupported(
        "TensorFlow Lite has LSTM with states of zero, usual activations and a fixed batch only; others are written "
          + "for 1 to \(Self.mostSteps) steps", remedy: "Give the inputs shapes with --shape")
    }
    var results: [ValueID] = []
    var hidden: [ValueID] = []
    var cells: [ValueID] = []
    for (direction, isReversed) in directions.enumerated() {
      let cell = try Cell(self, direction)
      let sums = try cell.sums(x, count)
      var states: [ValueID] = []
      var (h, c) = (try initial(5, direction), try initial(6, direction))
      for step in isReversed ? Array((0..<count).reversed()) : Array(0..<count) {
        (h, c) = try cell.step(sums[step], h, c)
        if let h { states.append(try layers.unsqueeze(h, [0])) }
      }
      if isWanted(0) {
        let ordered: [ValueID] = isReversed ? states.reversed() : states
        results.append(try layers.unsqueeze(layers.concatenate(ordered, axis: 0), [1]))
      }
      if isWanted(1), let last = states.last { hidden.append(last) }
      if isWanted(2), let c { cells.append(try layers.unsqueeze(c, [0])) }
    }
    return try outputs(results.isEmpty ? nil : layers.concatenate(results, axis: 1), hidden, cells)
  }

  private func initial(_ input: Int, _ direction: Int) throws(OperatorError) -> ValueID? {
    guard node.op.name == "LSTM" || input == 5, let value = try state(input) else { return nil }
    let own = directions.count == 1 ? value : try layers.slice(value, from: [direction], to: [direction + 1], axes: [0])
    return try layers.squeeze(own, [0])
  }

  /// One direction.
  private struct Cell {
    let layer: TFLiteRecurrent
    let activations: [String]
    let gates: Int
    let resetsAfter: Bool
    /// The recurrent weights, [units, gates · units].
    let recurrent: ValueID
    let weights: ValueID
    /// What is added to the products of inputs, and to those of states.
    let bias: ValueID?
    let innerBias: ValueID?
    let peepholes: [ValueID]

    init(_ layer: TFLiteRecurrent, _ direction: Int) throws(OperatorError) {
      let (layers, units) = (layer.layers, layer.units)
      self.layer = layer
      gates = ["LSTM": 4, "GRU": 3][layer.node.op.name] ?? 1
      let count = layer.activations.count / layer.directions.count
      activations = Array(layer.activations[(direction * count)..<((direction + 1) * count)])
      resetsAfter = gates == 3 && layer.facts.optionalInt("linear_before_reset") ?? 0 != 0
      guard let w = try layer.part(1, direction), let r = try layer.part(2, direction), units > 0, units < 1 << 24
      else {
        throw .invalid("weights are missing")
      }
      weights = try layers.transpose(layers.squeeze(w, [0]), [1, 0])
      recurrent = try layers.transpose(layers.squeeze(r, [0]), [1, 0])
      let size = gates * units
      if let both = try layer.part(3, direction) {
        let flat = try layers.squeeze(both, [0])
        let outer = try layers.slice(flat, from: [0], to: [size], axes: [0])
        let inner = try layers.slice(flat, from: [size], to: [2 * size], axes: [0])
        (bias, innerBias) = resetsAfter ? (outer, inner) : (try layers.emit("Add", [outer, inner]), nil)
      } else {
        (bias, innerBias) = (nil, nil)
      }
      guard gates == 4, let p = try layer.part(7, direction) else {
        peepholes = []
        return
      }
      let row = try layers.squeeze(p, [0])
      peepholes = try (0..<3).map { (gate) throws(OperatorError) in
        try layers.slice(row, from: [gate * units], to: [(gate + 1) * units], axes: [0])
      }
    }

    /// What each step adds to the gates: [batch, gates · units].
    func sums(_ x: ValueID, _ count: Int) throws(OperatorError) -> [ValueID] {
      let layers = layer.layers
      var all = try layers.emit("MatMul", [x, weights])
      if let bias { all = try layers.emit("Add", [all, bias]) }
      if count == 1 { return [try layers.squeeze(all, [0])] }
      let sizes = layers.integers([Int](repeating: 1, count: count))
      let parts = try layers.emit("Split", [all, sizes], [("axis", .int(0))], outputs: count)
      return try parts.map { (part) throws(OperatorError) in try layers.squeeze(part, [0]) }
    }

    func step(
      _ sum: ValueID, _ h: ValueID?, _ c: ValueID?
    ) throws(OperatorError) -> (ValueID?, ValueID?) {
      switch gates {
      case 4: try longStep(sum, h, c)
      case 3: (try gatedStep(sum, h), nil)
      default: (try active(joined(sum, h), 0), nil)
      }
    }

    /// The sum with the product of the state; itself while that is zero.
    private func joined(_ sum: ValueID, _ h: ValueID?) throws(OperatorError) -> ValueID {
      guard let h else { return sum }
      return try layer.layers.emit("Add", [sum, layer.layers.emit("MatMul", [h, recurrent])])
    }

    private func split(_ value: ValueID, _ count: Int) throws(OperatorError) -> [ValueID] {
      let sizes = layer.layers.integers([Int](repeating: layer.units, count: count))
      return try layer.layers.emit("Split", [value, sizes], [("axis", .int(-1))], outputs: count)
    }

    private static let known: Set<String> = ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]

    private func active(_ value: ValueID, _ place: Int) throws(OperatorError) -> ValueID {
      let name = activations[place]
      guard let op = Self.known.first(where: { $0.lowercased() == name.lowercased() }) else {
        throw .unsupported("the activation \(name) of recurrent layers is not written")
      }
      let bounded = try layer.bound.map { (bound) throws(OperatorError) in
        try layer.layers.clip(value, Double(-bound), Double(bound))
      }
      return try layer.layers.emit(op, [bounded ?? value])
    }

    /// Gates of input, output, forgetting, and what enters the cell.
    private func longStep(
      _ sum: ValueID, _ h: ValueID?, _ c: ValueID?
    ) throws(OperatorError) -> (ValueID?, ValueID?) {
      let layers = layer.layers
      var gates = try split(joined(sum, h), 4)
      func peep(_ gate: Int, _ cell: ValueID?) throws(OperatorError) {
        guard let cell, gate < peepholes.count else { return }
        gates[gate] = try layers.emit("Add", [gates[gate], layers.emit("Mul", [cell, peepholes[gate]])])
      }
      try peep(0, c)
      try peep(2, c)
      var cell = try layers.emit("Mul", [active(gates[0], 0), active(gates[3], 1)])
      if let c { cell = try layers.emit("Add", [layers.emit("Mul", [active(gates[2], 0), c]), cell]) }
      try peep(1, cell)
      // The bound is that of gates alone.
      let name = activations[2]
      guard let op = Self.known.first(where: { $0.lowercased() == name.lowercased() }) else {
        throw .unsupported("the activation \(name) of recurrent layers is not written")
      }
      return (try layers.emit("Mul", [active(gates[1], 0), layers.emit(op, [cell])]), cell)
    }

    /// Gates of update and reset, and what is new.
    private func gatedStep(_ sum: ValueID, _ h: ValueID?) throws(OperatorError) -> ValueID {
      let (layers, units) = (layer.layers, layer.units)
      let given = try split(sum, 3)
      var (update, reset) = (given[0], given[1])
      var inner: ValueID?
      if resetsAfter {
        var product = try h.map { (h) throws(OperatorError) in try layers.emit("MatMul", [h, recurrent]) }
        if let innerBias, let known = product {
          product = try layers.emit("Add", [known, innerBias])
        } else if let innerBias {
          product = try layers.unsqueeze(innerBias, [0])
        }
        if let product {
          let parts = try split(product, 3)
          update = try layers.emit("Add", [update, parts[0]])
          reset = try layers.emit("Add", [reset, parts[1]])
          inner = try layers.emit("Mul", [active(reset, 0), parts[2]])
        }
      } else if let h {
        let outer = try layers.slice(recurrent, from: [0], to: [2 * units], axes: [1])
        let parts = try split(layers.emit("MatMul", [h, outer]), 2)
        update = try layers.emit("Add", [update, parts[0]])
        reset = try layers.emit("Add", [reset, parts[1]])
        let own = try layers.slice(recurrent, from: [2 * units], to: [3 * units], axes: [1])
        inner = try layers.emit("MatMul", [layers.emit("Mul", [active(reset, 0), h]), own])
      }
      let sum =
        try inner.map { (value) throws(OperatorError) in try layers.emit("Add", [given[2], value]) } ?? given[2]
      let fresh = try active(sum, 1)
      let share = try active(update, 0)
      // (1 - z) · n + z · h
      guard let h else { return try layers.emit("Sub", [fresh, layers.emit("Mul", [share, fresh])]) }
      return try layers.emit("Add", [fresh, layers.emit("Mul", [share, layers.emit("Sub", [h, fresh])])])
    }
  }
}
