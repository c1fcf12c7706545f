// Names for what passes made: reports and files of statistics know values by their names.

import ApusGraph

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
}
