// What RNN, GRU and LSTM share: attributes, shapes, old versions.

import ApusGraph
import ApusTensor

/// The kinds of recurrent operators.
enum RecurrentKind: Sendable {
  case rnn
  /// `appliesResetAfter`: the reset gate works on the product with the hidden state, not on the state.
  case gru(appliesResetAfter: Bool)
  case lstm(couplesForget: Bool)

  var gates: Int {
    switch self {
    case .rnn: 1
    case .gru: 3
    case .lstm: 4
    }
  }

  var activations: [Activation.Kind] {
    switch self {
    case .rnn: [.tanh]
    case .gru: [.sigmoid, .tanh]
    case .lstm: [.sigmoid, .tanh, .tanh]
    }
  }
}

/// The attributes of one node.
struct RecurrentAttributes: Sendable {
  let kind: RecurrentKind
  /// For each direction: does it run backwards?
  let isReversed: [Bool]
  let activations: [[Activation]]
  let clip: Float?
  /// Batch first: X [batch, time, size], Y [batch, time, direction, hidden].
  let isBatchFirst: Bool

  /// The attributes that all three have. `activations` is nil where the schema states no default.
  static func schemas(_ activations: AttributeSchema) -> [AttributeSchema] {
    [
      .optional("activation_alpha", .floats), .optional("activation_beta", .floats), activations,
      .optional("clip", .float),
      .string("direction", default: "forward"), .optional("hidden_size", .int), .int("layout", default: 0).since(14),
    ]
  }

  /// The multiply-adds of a node: every step of every sequence meets all weights.
  static let products: NodeFormula = { facts in
    guard let x = facts.shape(0), x.count == 3, let w = facts.shape(1), let r = facts.shape(2) else { return .unknown }
    return x[0] * x[1] * (w.product + r.product)
  }

  init(_ context: some OperatorContext, _ kind: RecurrentKind) throws(OperatorError) {
    self.kind = kind
    switch try context.string("direction", oneOf: ["forward", "reverse", "bidirectional"]) {
    case "forward": isReversed = [false]
    case "reverse": isReversed = [true]
    default: isReversed = [false, true]
    }
    activations = try RecurrentActivation.all(context, directions: isReversed.count, defaults: kind.activations)
    clip = context.optionalFloat("clip")
    let layout = try context.int("layout")
    guard layout == 0 || layout == 1 else { throw .invalid("layout is \(layout); expected 0 or 1") }
    isBatchFirst = layout == 1
  }

  /// Checks shapes and sets those of Y, Y_h and, for LSTM, Y_c.
  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (x, w, r) = (context.shape(0), context.shape(1), context.shape(2))
    for (shape, name) in [(x, "X"), (w, "W"), (r, "R")] {
      if let shape, shape.count != 3 { throw .mismatch("\(name) is \(shape.text); expected 3 axes") }
    }
    let directions = Dim(isReversed.count)
    let hidden = r?[2] ?? context.optionalInt("hidden_size").map { Dim($0) } ?? .unknown
    if let size = context.optionalInt("hidden_size"), let known = r?[2].known, known != size {
      throw .mismatch("hidden_size is \(size), and R has \(known) columns")
    }
    let batch = x.map { $0[isBatchFirst ? 0 : 1] } ?? .unknown
    let steps = x.map { $0[isBatchFirst ? 1 : 0] } ?? .unknown
    let gates = hidden * Dim(kind.gates)
    if let size = hidden.known, size >= 1 << 48 {
      throw .mismatch("hidden_size is \(size); no memory holds the gates of so many units")
    }
    let state: [Dim] = isBatchFirst ? [batch, directions, hidden] : [directions, batch, hidden]
    var expected: [[Dim]] = [
      [directions, gates, x?[2] ?? .unknown], [directions, gates, hidden], [directions, gates * Dim(2)], [batch], state,
    ]
    if case .lstm = kind { expected += [state, [directions, hidden * Dim(3)]] }
    for (index, target) in expected.enumerated() {
      guard let shape = context.shape(index + 1) else { continue }
      if shape.count != target.count || zip(shape, target).contains(where: { $0.isSurelyDifferent(from: $1) }) {
        throw .mismatch("\(context.schema.inputs[index + 1].name) is \(shape.text); expected \(target.text)")
      }
    }
    context.set(
      0, context.type(0), isBatchFirst ? [batch, steps, directions, hidden] : [steps, directions, batch, hidden])
    context.set(1, context.type(0), state)
    if case .lstm = kind { context.set(2, context.type(0), state) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    // The two weights are packed if they are constant; the plain forms read them.
    try prepareReal(
      context, packed: KernelSelection.current.isPlain ? [] : [1, 2],
      float: { (context) throws(OperatorError) in
        try ElementCandidate.choose(
          .recurrence, type: .float32,
          [
            .plain {
              RecurrentKernel(
                self, RecurrentFactors<Float>.plain, activations.map { $0.map { $0.inPlace(Float.self) } }
              ).prepared
            },
            .vectors("panels") { () throws(OperatorError) in
              RecurrentKernel(
                self, try RecurrentFactors.packed(context, self), activations.map { $0.map(\.fastInPlace) }
              ).prepared
            },
          ])
      },
      double: { (_) throws(OperatorError) in
        RecurrentKernel(self, RecurrentFactors<Double>.plain, activations.map { $0.map { $0.inPlace(Double.self) } })
          .prepared
      })
  }
}

/// Versions before 7 had an attribute that said whether the sequence is an output; the outputs say it too.
func upgradeRecurrent(_ node: inout Node, from version: Int) {
  if version < 7 { _ = node.attributes.remove("output_sequence") }
}
