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

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    var seen: [Key: [ValueID?]] = [:]
    var replacement: [ValueID: ValueID] = [:]
    var kept: [Node] = []
    for var node in graph.nodes {
      node.inputs = node.inputs.map { $0.map { replacement[$0] ?? $0 } }
      guard let attributes = text(of: node.attributes), let definition = registry.definition(of: node.op),
        !definition.schema.traits.contains(.random),
        !node.outputs.contains(where: { $0.map { graph.outputs.contains($0) } ?? false })
      else {
        kept.append(node)
        continue
      }
      let key = Key(op: node.op, inputs: node.inputs, outputs: node.outputs.map { $0 != nil }, attributes: attributes)
      if let first = seen[key] {
        for (duplicate, original) in zip(node.outputs, first) {
          if let duplicate, let original { replacement[duplicate] = original }
        }
      } else {
        seen[key] = node.outputs
        kept.append(node)
      }
    }
    let changes = graph.nodes.count - kept.count
    graph.nodes = kept
    if changes > 0 { graph.replaceUses { replacement[$0] ?? $0 } }
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
