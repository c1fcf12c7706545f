// An order in which the nodes of a graph can run. The specification asks files to be in one; some are not.

import ApusGraph

private enum Mark { case new, open, done }

extension Array where Element == NodeProto {
  /// The nodes around a cycle.
  struct Cycle: Error {
    let names: [String]
  }

  /// Positions of the nodes so that each comes after those whose outputs it needs: the order of the file if that will
  /// do. `namesUsed` gives those of a node, `isDefined` says which have a value before any node runs.
  func runnableOrder(
    _ namesUsed: (NodeProto) -> [String], _ isDefined: (String) -> Bool
  ) throws(Cycle) -> [Int] {
    var definers: [String: Int] = [:]
    for (index, node) in enumerated() {
      for output in node.outputs where !output.isEmpty && definers[output] == nil && !isDefined(output) {
        definers[output] = index
      }
    }
    var isOrdered = true
    var needs: [[Int]] = []
    needs.reserveCapacity(count)
    for (index, node) in enumerated() {
      let sources = namesUsed(node).compactMap { definers[$0] }
      if sources.contains(where: { $0 >= index }) { isOrdered = false }
      needs.append(sources)
    }
    return isOrdered ? [Int](indices) : try sorted(needs)
  }

  /// Depth first, with a stack of its own.
  private func sorted(_ needs: [[Int]]) throws(Cycle) -> [Int] {
    var marks = [Mark](repeating: .new, count: count)
    var order: [Int] = []
    var stack: [(node: Int, next: Int)] = []
    for start in indices where marks[start] == .new {
      stack.append((start, 0))
      marks[start] = .open
      while let (node, next) = stack.last {
        if next == needs[node].count {
          marks[node] = .done
          order.append(node)
          stack.removeLast()
          continue
        }
        stack[stack.count - 1].next += 1
        let need = needs[node][next]
        switch marks[need] {
        case .done: break
        case .open:
          let cycle = stack.drop { $0.node != need }
          throw Cycle(names: cycle.map { self[$0.node].label })
        case .new:
          marks[need] = .open
          stack.append((need, 0))
        }
      }
    }
    return order
  }
}

extension NodeProto {
  /// `Conv 'layer1/conv'`, or with the first output if the node has no name.
  var label: String {
    let op = domain.isEmpty ? opType : "\(domain).\(opType)"
    return "\(op) '\(nameOrOutput)'"
  }

  /// The name, or one made from the first output.
  var nameOrOutput: String {
    name.isEmpty ? outputs.first { !$0.isEmpty } ?? "" : name
  }

  var op: OperatorID { OperatorID(opType, domain: domain) }

  /// The names that must have a value before the node can run: its inputs, what its subgraphs take from outside, and
  /// what those of its attributes name that `naming` gives.
  func usedNames(_ naming: (NodeProto) -> [String]) -> [String] {
    var names = inputs.filter { !$0.isEmpty }
    if attributes.isEmpty { return names }
    let namingAttributes = naming(self)
    for attribute in attributes {
      switch attribute.content {
      case .graph(let graph): names += graph.freeNames(naming)
      case .graphs(let graphs): for graph in graphs { names += graph.freeNames(naming) }
      case .string(let bytes) where namingAttributes.contains(attribute.name):
        names.append(String(decoding: bytes, as: UTF8.self))
      case .strings(let strings) where namingAttributes.contains(attribute.name):
        names += strings.map { String(decoding: $0, as: UTF8.self) }
      default: break
      }
    }
    return names
  }
}

extension GraphProto {
  /// The names that are used here and defined outside.
  func freeNames(_ naming: (NodeProto) -> [String]) -> Set<String> {
    var used: Set<String> = []
    var defined: Set<String> = []
    for node in nodes {
      used.formUnion(node.usedNames(naming))
      defined.formUnion(node.outputs)
    }
    used.formUnion(outputs.map(\.name))
    defined.formUnion(inputs.map(\.name))
    defined.formUnion(initializers.map(\.name))
    defined.formUnion(sparseInitializers.compactMap(\.values?.name))
    return used.subtracting(defined)
  }
}
