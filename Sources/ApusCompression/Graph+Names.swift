// Names for what passes made: reports and files of statistics know values by their names.

import ApusGraph
import ApusOperators

extension Graph {
  /// Gives every value that a node computes and that has no name one that no other value has, made of the node's.
  package mutating func nameValues() {
    var taken = Set(values.lazy.map(\.name))
    for node in nodes {
      for (position, output) in node.outputs.enumerated() {
        guard let output, self[output].name.isEmpty else { continue }
        let stem = (node.name.isEmpty ? node.op.name : node.name) + (position == 0 ? "" : ":\(position)")
        var (name, number) = (stem, 2)
        while !taken.insert(name).inserted {
          name = "\(stem)#\(number)"
          number += 1
        }
        self[output].name = name
      }
    }
  }

  /// Gives the outputs the names that they have in `former`; a value that is several outputs is copied.
  package mutating func keepOutputNames(of former: Graph) throws(OperatorError) {
    for (index, original) in former.outputs.enumerated() {
      let (value, name) = (outputs[index], former[original].name)
      if self[value].name == name { continue }
      for other in values.indices where values[other].name == name { values[other].name = "" }
      guard outputs[..<index].contains(value) || inputs.contains(value) else {
        self[value].name = name
        continue
      }
      let builder = GraphBuilder(continuing: self, inference: InferenceDriver(registry: .standard))
      let copy = builder.addValue(name, fact: fact(value))
      try builder.appendCopy(of: value, as: copy)
      builder.graph.outputs[index] = copy
      self = builder.graph
    }
  }
}
