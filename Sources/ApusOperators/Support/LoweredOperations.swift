// Standard operators one after another, as which an operator of the engine's own domain is written to a file.

import ApusGraph
import ApusTensor

/// Operators each of which takes what the one before computes. The last one computes the output of a node.
struct LoweredOperations {
  private struct Operation {
    let op: String
    let attributes: [(String, AttributeValue)]
    /// The inputs, with what the operator before computes among them.
    let inputs: (ValueID) throws(OperatorError) -> [ValueID?]
  }

  private let node: Node
  let builder: GraphBuilder
  private var operations: [Operation] = []

  init(_ node: Node, in builder: GraphBuilder) { (self.node, self.builder) = (node, builder) }

  mutating func append(
    _ op: String, _ attributes: [(String, AttributeValue)] = [],
    _ inputs: @escaping (ValueID) throws(OperatorError) -> [ValueID?]
  ) {
    operations.append(Operation(op: op, attributes: attributes, inputs: inputs))
  }

  /// Adds another value, if there is one.
  mutating func appendSum(_ other: ValueID?) {
    if let other { append("Add") { (value) throws(OperatorError) in [value, other] } }
  }

  /// Appends the operators to the graph; the first takes `value`.
  func finish(_ value: ValueID) throws(OperatorError) {
    var current = value
    for (index, operation) in operations.enumerated() {
      let isLast = index == operations.count - 1
      let inputs = try operation.inputs(current)
      let output = isLast ? node.outputs.first ?? nil : builder.addValue()
      try builder.append(
        Node(
          OperatorID(operation.op), name: isLast ? node.name : "\(node.name)/\(operation.op)", inputs: inputs,
          outputs: [output], attributes: Attributes(operation.attributes)))
      if let output { current = output }
    }
  }

  // MARK: - Activations

  /// Applies the activation that the attributes of the node name, to values of an element type.
  mutating func appendActivation(_ type: DataType) throws(OperatorError) {
    let name = node.attributes.string("activation") ?? "none"
    let (alpha, beta) = (
      node.attributes.float("activation_alpha") ?? 0, node.attributes.float("activation_beta") ?? 0
    )
    guard let kind = Activation.Kind(rawValue: name), let op = kind.operator?.name else {
      throw .unsupported("the activation '\(name)' has no form that other runtimes know")
    }
    switch kind {
    case .none: break
    case .geluTanh: appendUnary(op, [("approximate", .string("tanh"))])
    case .silu:
      // Swish is younger than most runtimes.
      append("Mul") { [builder, node] (value) throws(OperatorError) in
        [value, try builder.apply(OperatorID("Sigmoid"), name: "\(node.name)/Sigmoid", [value])]
      }
    case .clip:
      let low = alpha == -.infinity ? nil : try builder.addScalar(alpha, type)
      let high = beta == .infinity ? nil : try builder.addScalar(beta, type)
      append(op) { (value) throws(OperatorError) in [value, low, high] }
    default: appendUnary(op, zip(kind.parameters, [alpha, beta]).map { ($0.name, .float($1)) })
    }
  }

  private mutating func appendUnary(_ op: String, _ attributes: [(String, AttributeValue)] = []) {
    append(op, attributes) { (value) throws(OperatorError) in [value] }
  }

  // MARK: - Layouts

  /// Channels at the end to channels behind the batch, for values of a rank.
  static func toChannelsFirst(rank: Int) -> [Int] { [0, rank - 1] + Array(1..<rank - 1) }
  static func toChannelsLast(rank: Int) -> [Int] { [0] + Array(2..<rank) + [1] }

  /// Writes a node whose first input and output have channels at the end as the standard operator of its name between
  /// two Transposes. What is added and applied in the epilogue stands before the second one, so that Transposes of
  /// neighbours meet.
  static func lowerChannelsLast(
    _ node: Node, residual: Int? = nil, into builder: GraphBuilder
  ) throws(OperatorError) {
    guard let x = node.inputs.first ?? nil, let rank = builder.shape(x)?.count, rank >= 2 else {
      throw .unsupported("\(node.op) on an input of unknown rank has no form that other runtimes know")
    }
    var attributes = node.attributes
    for attribute in Activation.attributes { attributes[attribute.name] = nil }
    var inputs = node.inputs
    var other: ValueID?
    if let residual, residual < inputs.count {
      other = inputs[residual]
      inputs.removeSubrange(residual...)
    }
    while inputs.last == .some(nil) { inputs.removeLast() }
    let first: [(String, AttributeValue)] = [("perm", .ints(toChannelsFirst(rank: rank)))]
    var operations = LoweredOperations(node, in: builder)
    operations.append("Transpose", first) { (value) throws(OperatorError) in [value] }
    operations.append(node.op.name, attributes.entries.map { ($0.name, $0.value) }) { (value) throws(OperatorError) in
      [value] + inputs.dropFirst()
    }
    if let other {
      operations.appendSum(
        try builder.apply(OperatorID("Transpose"), name: "\(node.name)/residual", [other], first))
    }
    if let type = builder.type(x) { try operations.appendActivation(type) }
    operations.append("Transpose", [("perm", .ints(toChannelsLast(rank: rank)))]) { (value) throws(OperatorError) in
      [value]
    }
    try operations.finish(x)
  }
}

extension GraphBuilder {
  /// A constant without axes of a float type, or of what floats are converted to; nil if they are not.
  func addScalar(_ value: Float, _ type: DataType) throws(OperatorError) -> ValueID? {
    let tensor = Tensor(scalar: value)
    if type == .float32 { return addConstant(tensor) }
    guard let convert = elementConverter(from: .float32, to: type) else { return nil }
    return addConstant(try tensor.converted(to: type, convert, .unlimited))
  }
}
