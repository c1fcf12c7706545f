// LSTM, GRU and RNN of PyTorch as those of ONNX, and their cells.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let recurrentTable: [String: TorchRule] = [
    "lstm": recurrent("LSTM"), "gru": recurrent("GRU"), "rnn_tanh": recurrent("RNN"), "rnn_relu": recurrent("RNN"),
    "lstm_cell": lstmCell, "gru_cell": gruCell, "rnn_tanh_cell": rnnCell("Tanh"), "rnn_relu_cell": rnnCell("Relu"),
  ]

  /// Which gate of torch stands where in ONNX: input, output, forget, cell; update, reset, hidden.
  private static let gates = ["LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]]

  private static func recurrent(_ kind: String) -> TorchRule {
    { (call) throws(OperatorError) in
      if call.op.overload == "data" { throw .unsupported("packed sequences", remedy: "Give the sequences padded") }
      if try call.bool("train", false), try call.real("dropout", 0) > 0 { throw .unsupported("dropout in training") }
      let layers = call.layers
      var value = try call.tensor("input")
      let states = kind == "LSTM" ? try call.tensors("hx") : [try call.tensor("hx")]
      guard states.count == (kind == "LSTM" ? 2 : 1) else { throw .invalid("hx should have the states") }
      let isSingle = try layers.rank(value) == 2
      let isBatchFirst = try call.bool("batch_first", false)
      if isSingle { value = try layers.unsqueeze(value, [1]) }
      if isBatchFirst, !isSingle { value = try layers.transpose(value, [1, 0, 2]) }
      var initial: [ValueID] = []
      for state in states { initial.append(isSingle ? try layers.unsqueeze(state, [1]) : state) }
      let run = RecurrentLayers(
        call: call, kind: kind, directions: try call.bool("bidirectional", false) ? 2 : 1,
        hasBiases: try call.bool("has_biases", true), parameters: try call.tensors("params"), initial: initial)
      var (result, last) = try run.all(value, count: try call.int("num_layers"))
      if isSingle {
        result = try layers.squeeze(result, [1])
        for index in last.indices { last[index] = try layers.squeeze(last[index], [1]) }
      } else if isBatchFirst {
        result = try layers.transpose(result, [1, 0, 2])
      }
      return [result] + last.map { $0 }
    }
  }

  /// The layers of one call, from below.
  private struct RecurrentLayers {
    let call: TorchCall
    let kind: String
    let directions: Int
    let hasBiases: Bool
    let parameters: [ValueID]
    let initial: [ValueID]
    /// How many parameters a direction of a layer has that does not project its states.
    var plainWidth: Int { hasBiases ? 4 : 2 }

    /// The sequence that comes out, and the last states of all layers.
    func all(_ value: ValueID, count: Int) throws(OperatorError) -> (ValueID, [ValueID]) {
      let layers = call.layers
      guard (1...1024).contains(count) else { throw .unsupported("\(count) layers") }
      let width = parameters.count / (count * directions)
      guard parameters.count == count * directions * width,
        width == plainWidth || (kind == "LSTM" && width == plainWidth + 1)
      else { throw .unsupported("\(parameters.count) parameters of \(count) layers") }
      var value = value
      var states = initial.map { _ in [ValueID]() }
      for layer in 0..<count {
        let first = layer * directions * width
        let own = Array(parameters[first..<(first + directions * width)])
        var starts: [ValueID] = []
        for state in initial {
          starts.append(
            count == 1
              ? state
              : try layers.slice(state, from: [layer * directions], to: [(layer + 1) * directions], axes: [0]))
        }
        let outputs = try self.layer(value, own, width, starts)
        value = try joined(outputs[0])
        for index in states.indices { states[index].append(outputs[index + 1]) }
      }
      var last: [ValueID] = []
      for parts in states { last.append(try layers.concatenate(parts, axis: 0)) }
      return (value, last)
    }

    /// [length, directions, batch, size] as [length, batch, directions * size].
    private func joined(_ value: ValueID) throws(OperatorError) -> ValueID {
      let layers = call.layers
      if directions == 1 { return try layers.squeeze(value, [1]) }
      let size = try layers.extent(value, 3)
      let ordered = try layers.transpose(value, [0, 2, 1, 3])
      return try layers.emit("Reshape", [ordered, layers.integers([0, 0, directions * size])])
    }

    private func layer(
      _ value: ValueID, _ parameters: [ValueID], _ width: Int, _ states: [ValueID]
    ) throws(OperatorError) -> [ValueID] {
      let layers = call.layers
      if width > plainWidth { return try projected(value, parameters, width, states) }
      var (inputs, recurrences, biases): ([ValueID], [ValueID], [ValueID]) = ([], [], [])
      for direction in 0..<directions {
        let own = parameters[(direction * width)..<((direction + 1) * width)].map { $0 }
        var ordered: [ValueID] = []
        for parameter in own { ordered.append(try inOrder(parameter)) }
        inputs.append(try layers.unsqueeze(ordered[0], [0]))
        recurrences.append(try layers.unsqueeze(ordered[1], [0]))
        if hasBiases {
          biases.append(try layers.unsqueeze(try layers.concatenate([ordered[2], ordered[3]], axis: 0), [0]))
        }
      }
      var attributes: [(String, AttributeValue)] = [
        ("hidden_size", .int(try layers.extent(recurrences[0], 2))),
        ("direction", .string(directions == 2 ? "bidirectional" : "forward")),
      ]
      if kind == "GRU" { attributes.append(("linear_before_reset", .int(1))) }
      if call.op.rule == "rnn_relu" {
        attributes.append(("activations", .strings([String](repeating: "Relu", count: directions))))
      }
      return try layers.emit(
        kind,
        [
          value, try layers.concatenate(inputs, axis: 0), try layers.concatenate(recurrences, axis: 0),
          biases.isEmpty ? nil : try layers.concatenate(biases, axis: 0), nil, states[0],
          states.count > 1 ? states[1] : nil,
        ], attributes, outputs: 1 + states.count)
    }

    /// An LSTM whose hidden state goes through a matrix P before it is read again (`proj_size`). ONNX has none: here
    /// the state that comes back is the one before P, which the recurrent weights R P read as R reads the projected
    /// one. A first state h, which is known projected only, is an input of its own: R reads it in the first step.
    private func projected(
      _ value: ValueID, _ parameters: [ValueID], _ width: Int, _ states: [ValueID]
    ) throws(OperatorError) -> [ValueID] {
      let layers = call.layers
      var (inputs, recurrences, biases): ([ValueID], [ValueID], [ValueID]) = ([], [], [])
      var (projections, features): ([ValueID], [ValueID]) = ([], [value])
      for direction in 0..<directions {
        let own = Array(parameters[(direction * width)..<((direction + 1) * width)])
        let (input, recurrence) = (try inOrder(own[0]), try inOrder(own[1]))
        let projection = own[width - 1]
        // Each direction reads its own first state, and nothing of that of the other.
        var parts = [input]
        for other in 0..<directions {
          let nothing = try layers.emit("Mul", [recurrence, layers.scalar(0, like: recurrence)])
          parts.append(other == direction ? recurrence : nothing)
        }
        inputs.append(try layers.unsqueeze(try layers.concatenate(parts, axis: 1), [0]))
        recurrences.append(try layers.unsqueeze(try layers.emit("MatMul", [recurrence, projection]), [0]))
        if hasBiases {
          let both = try layers.concatenate([try inOrder(own[2]), try inOrder(own[3])], axis: 0)
          biases.append(try layers.unsqueeze(both, [0]))
        }
        projections.append(try layers.unsqueeze(try layers.transpose(projection, [1, 0]), [0]))
        features.append(try firstState(states[0], direction, value))
      }
      let outputs = try layers.emit(
        kind,
        [
          try layers.concatenate(features, axis: 2), try layers.concatenate(inputs, axis: 0),
          try layers.concatenate(recurrences, axis: 0),
          biases.isEmpty ? nil : try layers.concatenate(biases, axis: 0), nil, nil, states[1],
        ],
        [
          ("hidden_size", .int(try layers.extent(recurrences[0], 2))),
          ("direction", .string(directions == 2 ? "bidirectional" : "forward")),
        ], outputs: 3)
      let projection = try layers.concatenate(projections, axis: 0)
      return [
        try layers.emit("MatMul", [outputs[0], projection]), try layers.emit("MatMul", [outputs[1], projection]),
        outputs[2],
      ]
    }

    /// The first state of a direction in the step that it begins with, zeros in all others.
    private func firstState(_ state: ValueID, _ direction: Int, _ value: ValueID) throws(OperatorError) -> ValueID {
      let layers = call.layers
      let first = try layers.slice(state, from: [direction], to: [direction + 1], axes: [0])
      let length = try layers.emit("Shape", [value], [("start", .int(0)), ("end", .int(1))])
      let others = try layers.emit("Sub", [length, layers.integers([1])])
      let nothing = layers.integers([0, 0])
      let pads =
        direction == 0
        ? [layers.integers([0]), nothing, others, nothing] : [others, nothing, layers.integers([0]), nothing]
      return try layers.emit("Pad", [first, try layers.concatenate(pads, axis: 0)])
    }

    /// A parameter with its gates in the order of ONNX.
    private func inOrder(_ parameter: ValueID) throws(OperatorError) -> ValueID {
      let layers = call.layers
      guard let order = TorchRules.gates[kind], order.count > 1 else { return parameter }
      let size = try layers.extent(parameter, 0) / order.count
      var parts: [ValueID] = []
      for gate in order {
        parts.append(try layers.slice(parameter, from: [gate * size], to: [(gate + 1) * size], axes: [0]))
      }
      return try layers.concatenate(parts, axis: 0)
    }
  }

  // MARK: - Cells

  /// The gates of a cell: both products with their biases.
  private static func cellGates(_ call: TorchCall, _ state: ValueID) throws(OperatorError) -> (ValueID, ValueID) {
    (
      try linear(try call.tensor("input"), try call.tensor("w_ih"), try call.optional("b_ih"), call),
      try linear(state, try call.tensor("w_hh"), try call.optional("b_hh"), call)
    )
  }

  private static func lstmCell(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let states = try call.tensors("hx")
    guard states.count == 2 else { throw .invalid("hx should have two states") }
    let (a, b) = try cellGates(call, states[0])
    let gates = try layers.emit(
      "Split", [try layers.emit("Add", [a, b])], [("axis", .int(-1)), ("num_outputs", .int(4))], outputs: 4)
    let (input, forget) = (try layers.emit("Sigmoid", [gates[0]]), try layers.emit("Sigmoid", [gates[1]]))
    let new = try layers.emit("Mul", [input, try layers.emit("Tanh", [gates[2]])])
    let cell = try layers.emit("Add", [try layers.emit("Mul", [forget, states[1]]), new])
    let hidden = try layers.emit("Mul", [try layers.emit("Sigmoid", [gates[3]]), try layers.emit("Tanh", [cell])])
    return [hidden, cell]
  }

  private static func gruCell(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let state = try call.tensor("hx")
    let (a, b) = try cellGates(call, state)
    let attributes: [(String, AttributeValue)] = [("axis", .int(-1)), ("num_outputs", .int(3))]
    let x = try layers.emit("Split", [a], attributes, outputs: 3)
    let h = try layers.emit("Split", [b], attributes, outputs: 3)
    let reset = try layers.emit("Sigmoid", [try layers.emit("Add", [x[0], h[0]])])
    let update = try layers.emit("Sigmoid", [try layers.emit("Add", [x[1], h[1]])])
    let new = try layers.emit("Tanh", [try layers.emit("Add", [x[2], try layers.emit("Mul", [reset, h[2]])])])
    let kept = try layers.emit("Mul", [update, try layers.emit("Sub", [state, new])])
    return [try layers.emit("Add", [new, kept])]
  }

  private static func rnnCell(_ activation: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (a, b) = try cellGates(call, try call.tensor("hx"))
      return [try call.layers.emit(activation, [try call.layers.emit("Add", [a, b])])]
    }
  }
}
