// Removes nodes that hand their input on unchanged.

import ApusGraph
import ApusTensor

struct IdentityElimination: GraphPass {
  let name = "eliminate-identities"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    let isInput = Set(graph.inputs + graph.captures)
    for id in graph.nodes {
      // An output of the graph that is an input would lose its own name and memory; keep the copy.
      guard let source = source(of: graph[id], in: graph), let output = graph[id].outputs[0],
        !(graph.isOutput(output) && (isInput.contains(source) || graph.constant(source) != nil)), work.budget.take()
      else { continue }
      graph.replaceUses(of: output, with: source)
      graph.remove(id)
      changes += 1
    }
    return changes
  }

  /// The input that the only output equals, if the node changes nothing.
  private func source(of node: Node, in graph: borrowing GraphEditor) -> ValueID? {
    guard node.op.domain.isEmpty, let input = node.inputs.first ?? nil, node.outputs.count >= 1, node.outputs[0] != nil,
      !node.outputs.dropFirst().contains(where: { $0 != nil })
    else { return nil }
    let fact = graph.fact(input).tensor
    switch node.op.name {
    case "Identity": return input
    case "Dropout": return node.inputs.count < 3 || node.inputs[2] == nil ? input : nil
    case "Cast":
      guard let to = node.attributes.int("to"), let type = fact?.dataType else { return nil }
      return Int(type.rawValue) == to ? input : nil
    case "Transpose":
      guard let perm = node.attributes.ints("perm") else { return nil }
      return perm == Array(perm.indices) ? input : nil
    case "Reshape", "Expand", "Slice", "Flatten", "Squeeze", "Unsqueeze":
      // Equal shapes mean an equal tensor, except where a Slice steps backwards.
      if node.op.name == "Slice", node.inputs.count > 4, let steps = node.inputs[4] {
        guard let values = graph.constant(steps)?.integers, values.allSatisfy({ $0 > 0 }) else { return nil }
      }
      guard let output = node.outputs[0], let before = fact?.shape, let after = graph.fact(output).tensor?.shape,
        before.count == after.count, zip(before, after).allSatisfy({ $0.isSame(as: $1) })
      else { return nil }
      return input
    case "Concat", "Sum", "Max", "Min", "Mean": return node.inputs.count == 1 ? input : nil
    case "Pad":
      guard node.inputs.count > 1, let pads = graph.constant(node.inputs[1])?.integers else { return nil }
      return pads.allSatisfy { $0 == 0 } ? input : nil
    default: return nil
    }
  }
}
