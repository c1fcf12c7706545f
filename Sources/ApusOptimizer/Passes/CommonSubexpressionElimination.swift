// Lets nodes that compute the same from the same share one result.

import ApusGraph
import ApusTensor

struct CommonSubexpressionElimination: GraphPass {
  let name = "eliminate-common-subexpressions"

  private struct Key: Hashable {
    let op: OperatorID
    let inputs: [ValueID?]
    let outputs: [Bool]
    let attributes: String
  }

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var seen: [Key: [ValueID?]] = [:]
    var changes = 0
    for id in graph.nodes {
      let node = graph[id]
      guard let attributes = text(of: node.attributes), let definition = work.registry.definition(of: node.op),
        !definition.schema.traits.contains(.random),
        !node.outputs.contains(where: { $0.map { graph.isOutput($0) } ?? false })
      else { continue }
      let key = Key(op: node.op, inputs: node.inputs, outputs: node.outputs.map { $0 != nil }, attributes: attributes)
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

  /// The attributes as text; nil if there are tensors or graphs among them.
  private func text(of attributes: Attributes) -> String? {
    var parts: [String] = []
    for entry in attributes.entries {
      switch entry.value {
      case .int(let value): parts.append("\(entry.name)=\(value)")
      case .float(let value): parts.append("\(entry.name)=\(value.bitPattern)f")
      case .string(let value): parts.append("\(entry.name)=\(value.debugDescription)")
      case .ints(let values): parts.append("\(entry.name)=\(values)")
      case .floats(let values): parts.append("\(entry.name)=\(values.map(\.bitPattern))f")
      case .strings(let values): parts.append("\(entry.name)=\(values)")
      case .tensor, .tensors, .graph, .graphs, .type, .types: return nil
      }
    }
    return parts.sorted().joined(separator: ";")
  }
}
