// What the patterns of fusions ask of a graph.

import ApusGraph
import ApusOperators
import ApusTensor

extension GraphEditor {
  /// The node that computes a value, if it applies `op`.
  func producer(of value: ValueID?, is op: String, domain: String = "") -> (position: NodeID, node: Node)? {
    guard let value, let position = producer(of: value), self[position].op == OperatorID(op, domain: domain) else {
      return nil
    }
    return (position, self[position])
  }

  /// The input that the only output of a node equals, if the node changes nothing.
  func unchangedInput(of node: Node) -> ValueID? {
    guard let schema = schema(of: node.op), schema.identity.isPossible, let input = node.inputs.first ?? nil,
      let output = node.outputs.first, output != nil, !node.outputs.dropFirst().contains(where: { $0 != nil }),
      schema.identity.holds(for: facts(of: node, schema))
    else { return nil }
    return input
  }

  /// The activation by which an epilogue does what a node does; nil if none can.
  func epilogue(of node: Node) -> Activation? {
    guard let schema = schema(of: node.op) else { return nil }
    return Activation(epilogueFor: facts(of: node, schema))
  }

  /// True if the value has one use and is no output.
  func hasOneUser(_ value: ValueID) -> Bool { userCount(of: value) == 1 }

  /// The number of uses of the value by nodes; nil if it is an output too.
  func userCount(of value: ValueID) -> Int? { isOutput(value) ? nil : useCount(of: value) }

  func dataType(_ value: ValueID?) -> DataType? { value.flatMap { fact($0).tensor?.dataType } }
  func shape(_ value: ValueID?) -> [Dim]? { value.flatMap { fact($0).tensor?.shape } }
  func rank(_ value: ValueID?) -> Int? { shape(value)?.count }

  /// True if both values surely have the same shape.
  func haveSameShape(_ a: ValueID?, _ b: ValueID?) -> Bool {
    guard let x = shape(a), let y = shape(b), x.count == y.count else { return false }
    return zip(x, y).allSatisfy { $0.isSame(as: $1) }
  }

  /// The number that `value` is, if it is a floating-point constant with one element that gives `other` no further axes
  /// when it is broadcast to it.
  func scalar(_ value: ValueID?, beside other: ValueID?) -> ScalarConstant? {
    guard let tensor = constant(value), tensor.rank == 0 || tensor.rank <= rank(other) ?? 0 else { return nil }
    return ScalarConstant(tensor)
  }

  /// The inputs of a commutative node as (value, constant scalar), if one is such a scalar.
  func splitScalar(_ node: Node) -> (value: ValueID, scalar: ScalarConstant)? {
    guard node.inputs.count == 2, let a = node.inputs[0], let b = node.inputs[1] else { return nil }
    if let scalar = scalar(b, beside: a) { return (a, scalar) }
    return scalar(a, beside: b).map { (b, $0) }
  }
}

/// A floating-point constant of one element, in full.
struct ScalarConstant {
  let value: Double
  /// How far a number may be from the wanted one to be that number after rounding to its type, relative to it.
  private let tolerance: Double

  init?(_ tensor: Tensor) {
    guard tensor.count == 1 else { return nil }
    let number: Double?
    switch tensor.dataType {
    case .float32: (number, tolerance) = (tensor.elements(as: Float.self)?.first.map { Double($0) }, 1e-6)
    case .float64: (number, tolerance) = (tensor.elements(as: Double.self)?.first, 1e-12)
    case .float16: (number, tolerance) = (tensor.elements(as: Float16.self)?.first.map { Double($0) }, 0x1p-11)
    default: return nil
    }
    guard let number else { return nil }
    value = number
  }

  /// True if this is `wanted`, as far as its type can tell: a number that every type holds must be that very number.
  func isClose(to wanted: Double) -> Bool {
    Double(Float16(wanted)) == wanted ? value == wanted : abs(value - wanted) <= tolerance * abs(wanted)
  }
}

extension Node {
  /// True for a Cast from float16 or bfloat16, the type of its input, to float32.
  func widensHalves(_ type: DataType?) -> Bool {
    op == OperatorID("Cast") && (type == .float16 || type == .bfloat16)
      && attributes.int("to") == Int(DataType.float32.rawValue)
  }
}
