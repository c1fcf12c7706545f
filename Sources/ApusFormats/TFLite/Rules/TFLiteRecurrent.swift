// Recurrent layers of TensorFlow Lite as ONNX's own: gates of four matrices each, states that begin at zero.
// https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/unidirectional_sequence_lstm.cc

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let recurrent: [String: TFLiteRule] = [
    "UNIDIRECTIONAL_SEQUENCE_LSTM": TFLiteRule(.stored, sequenceLSTM), "LSTM": TFLiteRule(.stored, stepLSTM),
    "BIDIRECTIONAL_SEQUENCE_LSTM": TFLiteRule(.stored, bidirectionalLSTM),
    "UNIDIRECTIONAL_SEQUENCE_RNN": TFLiteRule(.stored, sequenceRNN), "RNN": TFLiteRule(.stored, stepRNN),
    "BIDIRECTIONAL_SEQUENCE_RNN": TFLiteRule(.stored, bidirectionalRNN),
  ]

  /// Where the operands of one direction stand. Gates are in the order of the file: input, forget, cell, output.
  private struct Cell {
    var weights: [Int]
    var recurrent: [Int]
    var peepholes: [Int] = []
    var biases: [Int]
    /// Hidden state, and for LSTM cell state.
    var states: [Int]
    var projection: Int?
  }

  /// ONNX has the gates in the order input, output, forget, cell.
  private static let gateOrder = [0, 3, 1, 2]

  private static func noteStates(_ layer: TFLiteLayer) {
    layer.layers.ledger.note(
      "States of recurrent layers begin at zero in each run; TensorFlow Lite keeps them until they are reset.")
  }

  /// Rows of gates, one below the other, with a direction before them. An input gate that is left out is what the
  /// forget gate lets go: the sigmoid of the negated sum.
  private static func gates(_ layer: TFLiteLayer, _ places: [Int], forget: Int) throws(OperatorError) -> ValueID {
    let parts = try places.map { (index) throws(OperatorError) in
      layer.has(index) ? try layer.number(index) : try layer.layers.emit("Neg", [layer.number(forget)])
    }
    return try layer.layers.unsqueeze(layer.layers.concatenate(parts, axis: 0), [0])
  }

  /// The operands of ONNX for one direction: W, R, B, P; P is nil without peepholes.
  private static func operands(
    _ layer: TFLiteLayer, _ cell: Cell
  ) throws(OperatorError) -> (w: ValueID, r: ValueID, b: ValueID, p: ValueID?) {
    let layers = layer.layers
    let order = cell.weights.count == 4 ? gateOrder : [0]
    if let projection = cell.projection, layer.has(projection) {
      throw .unsupported("recurrent layers with a projection are not supported")
    }
    guard order.allSatisfy({ layer.has(cell.weights[$0]) || (order.count > 1 && $0 == 0) }) else {
      throw .unsupported("the operands of a gate are missing")
    }
    func rows(_ list: [Int]) throws(OperatorError) -> ValueID {
      try gates(layer, order.map { list[$0] }, forget: list[min(1, list.count - 1)])
    }
    let w = try rows(cell.weights)
    let r = try rows(cell.recurrent)
    let bias = try rows(cell.biases)
    let size = try layers.extent(bias, 1)
    guard size <= 1 << 24 else { throw .unsupported("a bias of \(size) numbers is too large") }
    let none = layers.constant(Tensor(zeros: .float32, shape: [1, size]))
    var p: ValueID?
    if cell.peepholes.contains(where: { layer.has($0) }) {
      // In the file: input, forget, output. In ONNX: input, output, forget.
      p = try gates(layer, [cell.peepholes[0], cell.peepholes[2], cell.peepholes[1]], forget: cell.peepholes[1])
    }
    return (w, r, try layers.concatenate([bias, none], axis: 1), p)
  }

  /// A state that is computed; nil for one that the layer keeps itself, which begins at zero.
  private static func state(_ layer: TFLiteLayer, _ index: Int) throws(OperatorError) -> ValueID? {
    guard layer.has(index) else { return nil }
    if try layer.tensor(index).isVariable {
      noteStates(layer)
      return nil
    }
    return try layer.number(index)
  }

  private static func states(
    _ layer: TFLiteLayer, _ places: [Int]
  ) throws(OperatorError) -> ValueID? {
    let states = try places.map { (index) throws(OperatorError) in try state(layer, index) }
    let given = states.compactMap(\.self)
    if given.isEmpty { return nil }
    guard given.count == states.count else { throw .unsupported("the state of one direction alone is given") }
    let parts = try given.map { (value) throws(OperatorError) in try layer.layers.unsqueeze(value, [0]) }
    return try layer.layers.concatenate(parts, axis: 0)
  }

  /// The name of an activation in ONNX.
  private static func activation(_ code: Int) throws(OperatorError) -> String {
    switch code {
    case 1: "Relu"
    case 4: "Tanh"
    case 0: "Affine"
    default: throw .unsupported("the activation \(code) of a recurrent layer is not supported")
    }
  }

  /// Attributes for activations, which are those of each direction in turn.
  private static func activations(
    _ names: [String], _ directions: Int
  ) -> [(String, AttributeValue)] {
    let all = [String](repeating: "", count: directions).flatMap { _ in names }
    var list: [(String, AttributeValue)] = [("activations", .strings(all))]
    if all.contains("Affine") {
      // 1 · x + 0.
      list.append(("activation_alpha", .floats(all.map { $0 == "Affine" ? 1 : 0 })))
      list.append(("activation_beta", .floats(all.map { _ in 0 })))
    }
    return list
  }

  /// Runs cells over a sequence with the time before the batch; the result is [time, directions, batch, units].
  private static func run(
    _ layer: TFLiteLayer, _ op: String, _ sequence: ValueID, _ cells: [Cell], activation code: Int
  ) throws(OperatorError) -> [ValueID] {
    let layers = layer.layers
    let parts = try cells.map { (cell) throws(OperatorError) in try operands(layer, cell) }
    noteActivations(layer, 0, weights: cells[0].weights.last ?? 0)
    func joined(_ values: [ValueID]) throws(OperatorError) -> ValueID { try layers.concatenate(values, axis: 0) }
    let peepholes = parts.compactMap(\.p)
    guard peepholes.isEmpty || peepholes.count == parts.count else {
      throw .unsupported("one direction alone has peepholes")
    }
    let w = try joined(parts.map(\.w))
    let r = try joined(parts.map(\.r))
    var inputs: [ValueID?] = [sequence, w, r, try joined(parts.map(\.b)), nil]
    inputs.append(try states(layer, cells.map { $0.states[0] }))
    var names = [try activation(code)]
    if op == "LSTM" {
      inputs.append(try states(layer, cells.map { $0.states[1] }))
      inputs.append(peepholes.isEmpty ? nil : try joined(peepholes))
      names = ["Sigmoid", names[0], names[0]]
    }
    let attributes: [(String, AttributeValue)] = [
      ("hidden_size", .int(try layers.extent(r, 2))),
      ("direction", .string(cells.count == 2 ? "bidirectional" : "forward")),
    ]
    return try layers.emit(
      op, inputs, attributes + activations(names, cells.count), outputs: op == "LSTM" ? 3 : 2)
  }

  /// Operand 0 with the time before the batch.
  private static func sequence(_ layer: TFLiteLayer, isTimeMajor: Bool) throws(OperatorError) -> ValueID {
    isTimeMajor ? try layer.number(0) : try layer.number(0, transposed: [1, 0, 2])
  }

  /// The results of the directions in the order of the file, encoded.
  private static func results(
    _ layer: TFLiteLayer, _ value: ValueID, directions: Int, isTimeMajor: Bool, merges: Bool = true
  ) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    if directions == 1 {
      let whole = try layer.codes(layers.squeeze(value, [1]))
      return [isTimeMajor ? whole : try layers.transpose(whole, [1, 0, 2])]
    }
    let parts = try layers.emit("Split", [value, layers.integers([1, 1])], [("axis", .int(1))], outputs: 2)
    let rows = try parts.map { (part) throws(OperatorError) in
      let row = try layers.squeeze(part, [1])
      return isTimeMajor ? row : try layers.transpose(row, [1, 0, 2])
    }
    if merges { return [try layer.codes(layers.concatenate(rows, axis: 2))] }
    return [try layer.codes(rows[0]), try layer.codes(rows[1], output: 1)]
  }

  // MARK: - LSTM

  private static func checkClips(_ layer: TFLiteLayer) throws(OperatorError) {
    let clip = try layer.real(1)
    // Keras writes none, old speech models large ones that nothing reaches.
    if clip != 0 {
      layer.layers.ledger.note("The bound \(clip) of the cell states of an LSTM is left out.")
    }
  }

  private static func sequenceLSTM(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    try checkClips(layer)
    if (20..<24).contains(where: { layer.has($0) }) {
      throw .unsupported("an LSTM with normalized layers is not supported")
    }
    if try layer.flag(5) { throw .unsupported("an LSTM with diagonal recurrent weights is not supported") }
    let cell = Cell(
      weights: [1, 2, 3, 4], recurrent: [5, 6, 7, 8], peepholes: [9, 10, 11], biases: [12, 13, 14, 15],
      states: [18, 19], projection: 16)
    let isTimeMajor = try layer.flag(3)
    let values = try run(
      layer, "LSTM", sequence(layer, isTimeMajor: isTimeMajor), [cell], activation: layer.choice(0))
    return try results(layer, values[0], directions: 1, isTimeMajor: isTimeMajor)
  }

  private static func bidirectionalLSTM(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    try checkClips(layer)
    if (39..<48).contains(where: { layer.has($0) }) {
      throw .unsupported("an LSTM with a second input is not supported")
    }
    let forward = Cell(
      weights: [1, 2, 3, 4], recurrent: [5, 6, 7, 8], peepholes: [9, 10, 11], biases: [12, 13, 14, 15],
      states: [35, 36], projection: 16)
    let backward = Cell(
      weights: [18, 19, 20, 21], recurrent: [22, 23, 24, 25], peepholes: [26, 27, 28], biases: [29, 30, 31, 32],
      states: [37, 38], projection: 33)
    let isTimeMajor = try layer.flag(4, default: true)
    let values = try run(
      layer, "LSTM", sequence(layer, isTimeMajor: isTimeMajor), [forward, backward], activation: layer.choice(0))
    return try results(
      layer, values[0], directions: 2, isTimeMajor: isTimeMajor, merges: layer.flag(3))
  }

  /// One step: the full kernel has the operands of a sequence, the basic one (5 operands) a single matrix.
  private static func stepLSTM(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    if try layer.choice(3) == 1 { return try basicLSTM(layer) }
    try checkClips(layer)
    if (20..<24).contains(where: { layer.has($0) }) {
      throw .unsupported("an LSTM with normalized layers is not supported")
    }
    let cell = Cell(
      weights: [1, 2, 3, 4], recurrent: [5, 6, 7, 8], peepholes: [9, 10, 11], biases: [12, 13, 14, 15],
      states: [18, 19], projection: 16)
    let step = try layer.layers.unsqueeze(layer.number(0), [0])
    let values = try run(layer, "LSTM", step, [cell], activation: layer.choice(0))
    return [try layer.codes(layer.layers.squeeze(values[0], [0, 1]))]
  }

  /// Operands: values, last result, weights [4 · units, values + units], bias, last cell state. Gates in the order
  /// input, cell, forget, output. Results: activation, cell state, then working memory.
  private static func basicLSTM(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let joined = try layers.concatenate([layer.number(0), layer.number(1)], axis: -1)
    let sums = try layers.emit("Gemm", [joined, layer.number(2), layer.number(3)], [("transB", .int(1))])
    let units = try layers.extent(sums, 1) / 4
    let sizes = layers.integers([units, units, units, units])
    let gates = try layers.emit("Split", [sums, sizes], [("axis", .int(1))], outputs: 4)
    let taken = try layers.emit("Mul", [layers.emit("Sigmoid", [gates[0]]), layers.emit("Tanh", [gates[1]])])
    let kept = try layers.emit("Mul", [layers.emit("Sigmoid", [gates[2]]), layer.number(4)])
    let cell = try layers.emit("Add", [taken, kept])
    let result = try layers.emit("Mul", [layers.emit("Sigmoid", [gates[3]]), layers.emit("Tanh", [cell])])
    let results: [ValueID?] = [result, cell, joined, sums]
    return try results.prefix(layer.outputCount).enumerated().map { (index, value) throws(OperatorError) in
      try value.map { (value) throws(OperatorError) in try layer.codes(value, output: index) }
    }
  }

  // MARK: - RNN

  private static func sequenceRNN(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let isTimeMajor = try layer.flag(0)
    let cell = Cell(weights: [1], recurrent: [2], biases: [3], states: [4])
    let values = try run(
      layer, "RNN", sequence(layer, isTimeMajor: isTimeMajor), [cell], activation: layer.choice(1))
    return try results(layer, values[0], directions: 1, isTimeMajor: isTimeMajor)
  }

  private static func bidirectionalRNN(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    if (9..<12).contains(where: { layer.has($0) }) {
      throw .unsupported("a recurrent layer with a second input is not supported")
    }
    let isTimeMajor = try layer.flag(0)
    let cells = [
      Cell(weights: [1], recurrent: [2], biases: [3], states: [4]),
      Cell(weights: [5], recurrent: [6], biases: [7], states: [8]),
    ]
    let values = try run(
      layer, "RNN", sequence(layer, isTimeMajor: isTimeMajor), cells, activation: layer.choice(1))
    return try results(layer, values[0], directions: 2, isTimeMajor: isTimeMajor, merges: layer.flag(2))
  }

  private static func stepRNN(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let cell = Cell(weights: [1], recurrent: [2], biases: [3], states: [4])
    let step = try layer.layers.unsqueeze(layer.number(0), [0])
    let values = try run(layer, "RNN", step, [cell], activation: layer.choice(0))
    return [try layer.codes(layer.layers.squeeze(values[0], [0, 1]))]
  }
}
