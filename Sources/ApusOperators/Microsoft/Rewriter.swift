// What an import rule of com.microsoft sees: its node, and the graph that it adds standard operators to.

import ApusGraph
import ApusTensor

/// A node on its way to become standard operators, the last of which takes its place.
struct Rewriter: OperatorContext {
  /// The node to be rewritten; its halves are float32 between `widenHalves` and `narrowOutputs`.
  private(set) var node: Node
  let schema: OperatorSchema
  private let builder: GraphBuilder
  /// True when the operator that takes the place of the node is there.
  private(set) var isFinished = false
  /// The outputs of halves that are computed in float32: as they are wanted, their type, and as they are computed.
  private var narrowed: [(wanted: ValueID, type: DataType, wide: ValueID)] = []

  init(_ node: Node, _ schema: OperatorSchema, in builder: GraphBuilder) {
    (self.node, self.schema, self.builder) = (node, schema, builder)
  }

  // MARK: - Operands

  /// nil: the optional input is absent.
  func input(_ index: Int) -> ValueID? { index < node.inputs.count ? node.inputs[index] : nil }

  func required(_ index: Int) throws(OperatorError) -> ValueID {
    guard let value = input(index) else {
      throw .invalid("input \(index) (\(schema.input(at: index)?.name ?? "?")) is missing")
    }
    return value
  }

  func isWanted(_ output: Int) -> Bool { output < node.outputs.count && node.outputs[output] != nil }

  func type(_ value: ValueID?) throws(OperatorError) -> DataType {
    guard let type = builder.type(value) else {
      throw .unsupported("\(schema.id) needs inputs whose element types are known before running")
    }
    return type
  }

  func shape(_ value: ValueID?) -> [Dim]? { builder.shape(value) }

  /// The rank, or an error: few exporters leave it open where it matters.
  func rank(_ value: ValueID?) throws(OperatorError) -> Int {
    guard let shape = shape(value) else {
      throw .unsupported("\(schema.id) needs inputs whose ranks are known before running")
    }
    return shape.count
  }

  func constant(_ value: ValueID?) -> Tensor? { builder.constant(value) }

  // MARK: - Helper nodes

  /// Adds a standard operator and returns its output.
  mutating func apply(
    _ op: String, domain: String = "", _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    try apply(op, domain: domain, inputs, attributes, outputs: [builder.addValue()])
  }

  /// Adds a standard operator that computes the given values; the first of them is returned.
  @discardableResult
  mutating func apply(
    _ op: String, domain: String = "", _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    outputs: [ValueID?]
  ) throws(OperatorError) -> ValueID {
    try builder.append(
      Node(
        OperatorID(op, domain: domain), name: "\(node.name)/\(op)", inputs: inputs, outputs: outputs,
        attributes: Attributes(attributes)))
    guard let first = outputs.compactMap({ $0 }).first else { throw .invalid("\(op) computes nothing") }
    return first
  }

  /// The value of an output of the node, for a helper node to compute; a new value if nobody wants it.
  mutating func output(_ index: Int) -> ValueID {
    if index < node.outputs.count, let value = node.outputs[index] { return value }
    return builder.addValue()
  }

  mutating func newValue() -> ValueID { builder.addValue() }

  /// The operator that takes the place of the node and computes its first output.
  mutating func finish(
    _ op: String, domain: String = "", _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    outputs: [ValueID?]? = nil
  ) throws(OperatorError) {
    try builder.append(
      Node(
        OperatorID(op, domain: domain), name: node.name, inputs: inputs,
        outputs: outputs ?? [node.outputs.first ?? nil],
        attributes: Attributes(attributes)))
    isFinished = true
  }

  // MARK: - Halves

  /// Puts float32 in the place of all inputs and outputs of float16 and bfloat16.
  mutating func widenHalves() throws(OperatorError) {
    var types: [String: DataType] = [:]
    var half: DataType?
    for (index, input) in node.inputs.enumerated() {
      guard let input, let type = builder.type(input) else { continue }
      if let variable = schema.input(at: index)?.type { types[variable] = type }
      if StagedKernel.halves[type] == nil { continue }
      half = half ?? type
      node.inputs[index] = try cast(input, .float32)
    }
    guard let half else { return }
    for (index, output) in node.outputs.enumerated() {
      guard let output, index < schema.outputs.count else { continue }
      let variable = schema.outputs[index].type
      // A type that no input has goes with the rest.
      let type = types[variable] ?? (schema.types[variable]?.tensors.contains(half) ?? false ? half : .float32)
      if StagedKernel.halves[type] == nil { continue }
      let wide = builder.addValue()
      narrowed.append((output, type, wide))
      node.outputs[index] = wide
    }
  }

  /// Rounds what `widenHalves` has put off.
  mutating func narrowOutputs() throws(OperatorError) {
    for output in narrowed {
      try apply("Cast", [output.wide], [("to", .int(Int(output.type.rawValue)))], outputs: [output.wanted])
    }
  }

  // MARK: - Constants

  mutating func constant(_ tensor: Tensor) -> ValueID { builder.addConstant(tensor) }
  /// int64, rank 1.
  mutating func ints(_ values: [Int]) -> ValueID { builder.addConstant(Tensor(values)) }
  /// int64, rank 0.
  mutating func int(_ value: Int) -> ValueID { builder.addConstant(Tensor(scalar: value)) }

  /// A scalar of an element type.
  mutating func scalar(_ value: Float, _ type: DataType) throws(OperatorError) -> ValueID {
    guard let constant = try builder.addScalar(value, type) else {
      throw .unsupported("\(schema.id) has no kernel for \(type)")
    }
    return constant
  }

  // MARK: - Shapes

  /// The extent of one axis as int64 [1].
  mutating func extent(_ value: ValueID, _ axis: Int) throws(OperatorError) -> ValueID {
    let end: [(String, AttributeValue)] = axis == -1 ? [] : [("end", .int(axis + 1))]
    return try apply("Shape", [value], [("start", .int(axis))] + end)
  }

  mutating func reshape(_ value: ValueID, _ shape: [Int]) throws(OperatorError) -> ValueID {
    try apply("Reshape", [value, ints(shape)])
  }
  mutating func unsqueeze(_ value: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    try apply("Unsqueeze", [value, ints(axes)])
  }
  mutating func squeeze(_ value: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    try apply("Squeeze", [value, ints(axes)])
  }
  mutating func transpose(_ value: ValueID, _ perm: [Int]) throws(OperatorError) -> ValueID {
    try apply("Transpose", [value], [("perm", .ints(perm))])
  }
  mutating func cast(_ value: ValueID, _ type: DataType) throws(OperatorError) -> ValueID {
    try apply("Cast", [value], [("to", .int(Int(type.rawValue)))])
  }
  mutating func slice(_ value: ValueID, _ axis: Int, from start: Int, to end: Int) throws(OperatorError) -> ValueID {
    try apply("Slice", [value, ints([start]), ints([end]), ints([axis])])
  }

  /// The parts of a value along an axis.
  mutating func split(_ value: ValueID, _ axis: Int, sizes: [Int]) throws(OperatorError) -> [ValueID] {
    let parts = sizes.map { _ in builder.addValue() }
    try apply("Split", [value, ints(sizes)], [("axis", .int(axis))], outputs: parts)
    return parts
  }

  /// Channels at the end to channels behind the batch.
  mutating func toChannelsFirst(_ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rank(value)
    guard rank > 2 else { return value }
    return try transpose(value, [0, rank - 1] + Array(1..<rank - 1))
  }

  /// The permutation that brings channels to the end again.
  static func channelsLast(rank: Int) -> [Int] { [0] + Array(2..<Swift.max(rank, 2)) + [1] }
}
