// Names for what passes made: reports and files of statistics know values by their names.

import ApusGraph
import ApusOperators

extension Graph {
  /// Gives every value that a node computes and that has no name one that no other value has, made of the node's. In
  /// the graphs inside nodes every value gets a name that no other graph has, but for captured values: they get that
  /// which they have outside.
  package mutating func nameValues() {
    var taken = Set(values.lazy.map(\.name))
    nameValues(&taken)
  }

  private mutating func nameValues(_ taken: inout Set<String>) {
    for node in nodes {
      for (position, output) in node.outputs.enumerated() {
        guard let output, self[output].name.isEmpty else { continue }
        let stem = (node.name.isEmpty ? node.op.name : node.name) + (position == 0 ? "" : ":\(position)")
        self[output].name = Graph.free(stem, &taken)
      }
    }
    guard nodes.contains(where: \.hasSubgraphs) else { return }
    let names = values.map(\.name)
    var editor = GraphEditor(self, inference: InferenceDriver(registry: .standard))
    for node in editor.nodes where editor.hasSubgraphs(node) {
      // Nothing is thrown where nothing is.
      _ = try? editor.updateSubgraphs(of: node) { subgraph in
        let captured = subgraph.captured.map { names[$0.index] }
        subgraph.graph.nameInnerValues(captured: captured, &taken)
        return 0
      }
    }
    self = editor.finish()
  }

  private mutating func nameInnerValues(captured: [String], _ taken: inout Set<String>) {
    let isCaptured = Set(captures)
    for index in values.indices where !values[index].name.isEmpty && !isCaptured.contains(ValueID(index)) {
      values[index].name = Graph.free(values[index].name, &taken)
    }
    for (value, name) in zip(captures, captured) { self[value].name = name }
    nameValues(&taken)
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

  private static func free(_ stem: String, _ taken: inout Set<String>) -> String {
    var (name, number) = (stem, 2)
    while !taken.insert(name).inserted {
      name = "\(stem)#\(number)"
      number += 1
    }
    return name
  }
}

extension GraphEditor {
  /// The values that a run makes or gets: captured ones, inputs, and results of nodes.
  package var madeValues: [ValueID] {
    captures + inputs + nodes.flatMap { self[$0].outputs.compactMap { $0 } }
  }
}
