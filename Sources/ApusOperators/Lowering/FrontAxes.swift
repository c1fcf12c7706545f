// Axes in operator sets before 11, where most operators count them from the front only.

import ApusGraph
import ApusTensor

/// Writes the axes that nodes name as numbers of 0 or more.
struct FrontAxes {
  /// The operator set to write for.
  let opset: Int
  /// The operator set that the model was read from: what it could say there needs no proof that it can be said again.
  let source: Int

  /// From this operator set on all operators that are older take axes that are counted from the end.
  private static let firstWithNegativeAxes = 11
  /// Operators that took negative axes before.
  private static let freeOperators: Set<String> = ["Gather", "LpNormalization", "Scatter"]
  /// Operators that took -1 for the last axis before, and no other negative number.
  private static let operatorsWithLastAxis: Set<String> = ["OneHot", "TopK"]

  /// The node, which has the form of the operator set in all else, with such axes; nil if they are not known. May add
  /// constants to `builder`.
  func form(of node: Node, in builder: GraphBuilder) -> Node? {
    guard opset < Self.firstWithNegativeAxes, node.op.domain.isEmpty else { return node }
    var result = node
    switch node.op.name {
    case "Scan":
      guard let inputs = scanned(node, "scan_input_axes", node.inputs, in: builder),
        let outputs = scanned(node, "scan_output_axes", node.outputs, in: builder)
      else { return nil }
      result.attributes["scan_input_axes"] = inputs
      result.attributes["scan_output_axes"] = outputs
    default:
      guard let axis = attribute("axis", of: node, in: builder), let axes = attribute("axes", of: node, in: builder)
      else { return nil }
      if let axis { result.attributes["axis"] = axis }
      if let axes { result.attributes["axes"] = axes }
    }
    // Slice of operator set 10 has them as an input.
    guard node.op.name == "Slice", node.inputs.count > 3, let list = node.inputs[3],
      let constant = builder.constant(list), let given = constant.integers, given.contains(where: { $0 < 0 })
    else { return result }
    guard let axes = counted(given, of: node, in: builder) else { return opset < source ? nil : node }
    let numbers = Tensor(axes.map { Int64($0) })
    result.inputs[3] = builder.addConstant(
      constant.dataType == .int32 ? Tensor(axes.map { Int32(truncatingIfNeeded: $0) }) : numbers)
    return result
  }

  /// What an attribute is then: nil inside if the node does not have it, nil if that is not known.
  private func attribute(_ name: String, of node: Node, in builder: GraphBuilder) -> AttributeValue?? {
    let given: [Int]
    switch node.attributes[name] {
    case .int(let axis): given = [axis]
    case .ints(let axes): given = axes
    case let other: return .some(other)
    }
    guard given.contains(where: { $0 < 0 }) else { return .some(node.attributes[name]) }
    guard let axes = counted(given, of: node, in: builder) else {
      let isAllowed =
        opset >= source || Self.freeOperators.contains(node.op.name)
        || (Self.operatorsWithLastAxis.contains(node.op.name) && given == [-1])
      return isAllowed ? .some(node.attributes[name]) : nil
    }
    if case .int = node.attributes[name] { return .some(.int(axes[0])) }
    return .some(.ints(axes))
  }

  /// Axes of a node counted from the front; nil if the rank is not known, or has no such axis.
  private func counted(_ axes: [Int], of node: Node, in builder: GraphBuilder) -> [Int]? {
    guard let input = node.inputs.first ?? nil, var rank = builder.shape(input)?.count else { return nil }
    switch node.op.name {
    // They are axes of the result.
    case "Unsqueeze": rank += axes.count
    case "OneHot": rank += 1
    default: break
    }
    let result = axes.map { $0 < 0 ? $0 + rank : $0 }
    return result.allSatisfy { $0 >= 0 } ? result : nil
  }

  /// The axes that Scan goes along, one for each of its last operands.
  private func scanned(
    _ node: Node, _ name: String, _ operands: [ValueID?], in builder: GraphBuilder
  ) -> AttributeValue?? {
    guard let axes = node.attributes.ints(name), axes.contains(where: { $0 < 0 }), opset >= 9 else {
      return .some(node.attributes[name])
    }
    var result: [Int] = []
    for (axis, operand) in zip(axes, operands.suffix(axes.count)) {
      let rank = operand.flatMap { builder.shape($0)?.count }
      guard axis < 0 else {
        result.append(axis)
        continue
      }
      guard let rank, axis + rank >= 0 else { return opset < source ? nil : .some(node.attributes[name]) }
      result.append(axis + rank)
    }
    return .some(.ints(result))
  }
}
