// Young operators of ai.onnx as older ones compute them, for files that older runtimes shall read. What each is made of
// follows the function bodies of the specification (https://onnx.ai/onnx/operators/).

import ApusGraph
import ApusTensor

/// The making of older nodes in the place of one.
struct Decomposition {
  /// What the outputs of the node are then; nil: an optional one that nobody wants.
  typealias Rule = @Sendable (inout Decomposition) throws(OperatorError) -> [ValueID?]

  let node: Node
  let builder: GraphBuilder
  private var counts: [String: Int] = [:]

  private init(_ node: Node, _ builder: GraphBuilder) { (self.node, self.builder) = (node, builder) }

  /// Nodes in the newest form that compute the outputs of `node`, whose values are in `builder`; nil if there are none.
  static func nodes(for node: Node, in builder: GraphBuilder) throws(OperatorError) -> [Node]? {
    guard node.op.domain.isEmpty, let rule = rules[node.op.name] else { return nil }
    let first = builder.graph.nodes.count
    var work = Decomposition(node, builder)
    let results: [ValueID?]
    do throws(OperatorError) {
      results = try rule(&work)
    } catch {
      _ = builder.takeNodes(from: first)
      // What the rule cannot do is as if there were none.
      if error.code == .unsupported { return nil }
      throw error
    }
    return work.finish(builder.takeNodes(from: first), results)
  }

  /// The nodes with the outputs of the one that they replace.
  private func finish(_ nodes: [Node], _ results: [ValueID?]) -> [Node] {
    var nodes = nodes
    let made = Set(nodes.flatMap { $0.outputs.compactMap { $0 } })
    for (output, result) in zip(node.outputs, results) {
      guard let output, let result else { continue }
      guard made.contains(result), results.count(where: { $0 == result }) == 1 else {
        nodes.append(
          Node(OperatorID("Identity"), name: "\(node.name)/Identity", inputs: [result], outputs: [output]))
        continue
      }
      for index in nodes.indices {
        nodes[index].inputs = nodes[index].inputs.map { $0 == result ? output : $0 }
        nodes[index].outputs = nodes[index].outputs.map { $0 == result ? output : $0 }
      }
    }
    if let last = nodes.indices.last { nodes[last].name = node.name }
    return nodes
  }

  // MARK: - What rules are written with

  func isPresent(_ input: Int) -> Bool { input < node.inputs.count && node.inputs[input] != nil }
  func isWanted(_ output: Int) -> Bool { output < node.outputs.count && node.outputs[output] != nil }

  func input(_ position: Int) throws(OperatorError) -> ValueID {
    guard position < node.inputs.count, let value = node.inputs[position] else {
      throw .unsupported("input \(position) is absent")
    }
    return value
  }

  func type(_ value: ValueID) throws(OperatorError) -> DataType {
    guard let type = builder.type(value) else { throw .unsupported("the type of an operand is not known") }
    return type
  }

  func rank(_ value: ValueID) throws(OperatorError) -> Int {
    guard let shape = builder.shape(value) else { throw .unsupported("the rank of an operand is not known") }
    return shape.count
  }

  /// The extent of an axis counted from the front, if it is a number.
  func extent(_ value: ValueID, _ axis: Int) throws(OperatorError) -> Int {
    guard let shape = builder.shape(value), axis < shape.count, let extent = shape[axis].known else {
      throw .unsupported("an extent is not known")
    }
    return extent
  }

  mutating func add(
    _ op: String, _ inputs: ValueID?..., attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    try add(op, inputs: inputs, attributes: attributes)
  }

  mutating func add(
    _ op: String, inputs: [ValueID?], attributes: [(String, AttributeValue)] = []
  ) throws(OperatorError) -> ValueID {
    let count = counts[op, default: 0]
    counts[op] = count + 1
    let name = count == 0 ? "\(node.name)/\(op)" : "\(node.name)/\(op)_\(count)"
    return try builder.apply(OperatorID(op), name: name, inputs, attributes)
  }

  func integers(_ numbers: [Int]) -> ValueID { builder.addConstant(Tensor(numbers.map { Int64($0) })) }

  /// A scalar of the type of `value`, rounded to it once.
  func scalar(_ number: Double, like value: ValueID) throws(OperatorError) -> ValueID {
    let tensor: Tensor
    switch try type(value) {
    case .float32: tensor = Tensor(scalar: Float(number))
    case .float64: tensor = Tensor(scalar: number)
    case .float16: tensor = Tensor(scalar: Float16(number))
    case .bfloat16: tensor = Tensor(scalar: BFloat16(Float(number)))
    case .int64: tensor = Tensor(scalar: Int64(number))
    case .int32: tensor = Tensor(scalar: Int32(number))
    case let other: throw .unsupported("there are no constants of \(other)")
    }
    return builder.addConstant(tensor)
  }

  mutating func cast(_ value: ValueID, to type: DataType) throws(OperatorError) -> ValueID {
    try self.type(value) == type ? value : add("Cast", value, attributes: [("to", .int(Int(type.rawValue)))])
  }

  /// The extents `range` of a value, as a tensor.
  mutating func extents(_ value: ValueID, _ range: Range<Int>) throws(OperatorError) -> ValueID {
    if let shape = builder.shape(value), range.upperBound <= shape.count,
      let known = Array(shape[range]).concrete
    {
      return integers(known.dims)
    }
    let shape = try add("Shape", value)
    return try add(
      "Slice", shape, integers([range.lowerBound]), integers([range.upperBound]), integers([0]))
  }
}
