// Lets nodes that compute the same from the same share one result.

import ApusGraph
import ApusTensor

struct CommonSubexpressionElimination: GraphPass {
  let name = "eliminate-common-subexpressions"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    /// By what a node computes.
    var seen: [String: [ValueID?]] = [:]
    var changes = 0
    for id in graph.nodes {
      let node = graph[id]
      guard let key = text(of: node), let definition = work.registry.definition(of: node.op),
        !definition.schema.traits.contains(.random),
        !node.outputs.contains(where: { $0.map { graph.isOutput($0) } ?? false })
      else { continue }
      guard let first = seen[key] else {
        seen[key] = node.outputs
        continue
      }
      guard work.budget.take() else { break }
      for case (let duplicate?, let original?) in zip(node.outputs, first) {
        graph.replaceUses(of: duplicate, with: original)
      }
      graph.remove(id)
      changes += 1
    }
    return changes
  }

  /// Operator, inputs, wanted outputs and attributes as text; nil if there are tensors or graphs among the attributes.
  private func text(of node: Node) -> String? {
    var text = "\(node.op.domain):\(node.op.name)"
    for input in node.inputs { text += input.map { ",\($0.index)" } ?? "," }
    text += ">"
    for output in node.outputs { text += output == nil ? "0" : "1" }
    for entry in node.attributes.entries.sorted(by: { $0.name < $1.name }) {
      text += ";\(entry.name)="
      switch entry.value {
      case .int(let value): text += "\(value)"
      case .float(let value): text += "\(value.bitPattern)f"
      case .string(let value): text += value.debugDescription
      case .ints(let values): for value in values { text += "\(value)," }
      case .floats(let values):
        text += "f"
        for value in values { text += "\(value.bitPattern)," }
      case .strings(let values): for value in values { text += value.debugDescription }
      case .tensor, .tensors, .graph, .graphs, .type, .types: return nil
      }
    }
    return text
  }
}
