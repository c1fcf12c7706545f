// Gradient: the partial derivatives of a tensor of the graph with respect to others.
// https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Gradient.html. Version 1 of ai.onnx.preview.training.

import ApusGraph
import ApusTensor

/// While a model is read the node becomes the operators that compute the gradient.
///
/// The attributes xs, zs and y name values, which the reader puts behind the inputs of the node.
/// The result is that of the sum of all elements of y. xs and zs are independent: no gradient passes through one to
/// another.
struct Gradient: ImportRule {
  static let name = "Gradient"

  let schema = OperatorSchema(
    name, domain: "ai.onnx.preview.training", versions: [1], inputs: [.variadic("Inputs", "T1")],
    outputs: [.variadic("Outputs", "T2")],
    attributes: [.required("xs", .strings), .required("y", .string), .optional("zs", .strings)],
    types: ["T1": .all, "T2": .ieeeFloats])

  let readAs = "the operators of its derivatives"
  let attributesNamingValues = ["xs", "zs", "y"]

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    try node.validate(against: schema)
    let problem = try Problem(node, in: builder.graph)
    var differentiator = Differentiator(DerivativeWriter(name: node.name, in: builder))
    let gradients: [ValueID]
    do throws(OperatorError) {
      gradients = try problem.solve(&differentiator)
    } catch {
      // The error of another node names that one behind this.
      throw error.path.isEmpty ? error : error.inside(node)
    }
    for (output, gradient) in zip(node.outputs, gradients) {
      guard let output else { continue }
      try builder.append(Node(OperatorID("Identity"), name: node.name, inputs: [gradient], outputs: [output]))
    }
  }
}

extension Graph {
  /// True if the graph, or one in it, has this very tensor among its constants.
  fileprivate func holds(_ tensor: Tensor) -> Bool {
    values.contains { value in
      guard let constant = value.constant else { return false }
      return constant.storage === tensor.storage && constant.byteOffset == tensor.byteOffset
        && constant.shape == tensor.shape
    } || nodes.contains { $0.subgraphs.contains { $0.subgraph.graph.holds(tensor) } }
  }
}

/// What one Gradient node asks for.
private struct Problem {
  /// The values that xs, then zs name.
  let named: [ValueID]
  /// The values at which the gradient is taken, in the same order.
  let given: [ValueID]
  /// The number of xs.
  let count: Int
  let y: ValueID

  init(_ node: Node, in graph: Graph) throws(OperatorError) {
    count = node.attributes.strings("xs")?.count ?? 0
    let total = count + (node.attributes.strings("zs")?.count ?? 0)
    let inputs = node.inputs.count - total - 1
    guard count > 0 else { throw .invalid("attribute xs is empty; expected the names of at least one tensor") }
    guard inputs == total else {
      throw .invalid("the node has \(max(inputs, 0)) inputs; expected \(total), one for each name in xs and zs")
    }
    guard node.outputs.count <= count else {
      throw .invalid("the node has \(node.outputs.count) outputs; expected at most \(count), one for each name in xs")
    }
    let values = node.inputs.compactMap { $0 }
    guard values.count == node.inputs.count else { throw .invalid("an input is absent; expected all of xs and zs") }
    given = Array(values[..<total])
    named = Array(values[total..<(2 * total)])
    y = values[2 * total]
    for (index, value) in named.enumerated() {
      if let first = named.firstIndex(of: value), given[first] != given[index] {
        throw .invalid("'\(graph[value].name)' is named twice, with different inputs")
      }
    }
    for value in named[..<count] + [y] {
      guard case .tensor(let fact) = graph.fact(value), differentiableTypes.contains(fact.dataType) else {
        throw .mismatch("'\(graph[value].name)' is \(graph.fact(value)); gradients exist of float tensors only")
      }
    }
  }

  /// The gradients of the xs.
  func solve(_ differentiator: inout Differentiator) throws(OperatorError) -> [ValueID] {
    let nodes = 0..<differentiator.writer.builder.graph.nodes.count
    try refuseOuterPaths(differentiator, nodes)
    try refuseInnerConstants(differentiator, nodes)
    var target = y
    var range = nodes
    if given != named {
      target = try evaluate(&differentiator, nodes)
      range = nodes.upperBound..<differentiator.writer.builder.graph.nodes.count
    }
    let seed = try differentiator.writer.ones(like: target)
    let found = try differentiator.gradients(of: Set(given), seeds: [(target, seed)], in: range)
    var gradients: [ValueID] = []
    for x in given[..<count] {
      if let gradient = found[x] {
        gradients.append(gradient)
      } else {
        gradients.append(try differentiator.writer.zeros(like: x))
      }
    }
    return gradients
  }

  /// In a subgraph, what a captured value is computed from is out of sight. It must not hide a path to an x that is
  /// captured too.
  private func refuseOuterPaths(_ differentiator: Differentiator, _ nodes: Range<Int>) throws(OperatorError) {
    let graph = differentiator.writer.builder.graph
    let captures = Set(graph.captures)
    guard !captures.isDisjoint(with: named[..<count]) else { return }
    let ancestors = differentiator.ancestors(of: y, in: nodes)
    for value in graph.captures where ancestors.contains(value) && !named.contains(value) {
      guard let type = graph.fact(value).tensor?.dataType, !differentiableTypes.contains(type) else {
        throw .unsupported(
          "'\(graph[y].name)' depends on '\(graph[value].name)', which comes from outside of the subgraph of this node",
          remedy: "Move the Gradient out of the subgraph, or name this value in zs if it is to be held constant")
      }
    }
  }

  /// A constant that a subgraph uses is a constant of the subgraph, not a captured value: nothing tells that it is the
  /// x.
  private func refuseInnerConstants(_ differentiator: Differentiator, _ nodes: Range<Int>) throws(OperatorError) {
    let graph = differentiator.writer.builder.graph
    let constants = named[..<count].compactMap { x in graph.constant(x).map { (x, $0) } }
    guard !constants.isEmpty else { return }
    let ancestors = differentiator.ancestors(of: y, in: nodes)
    for index in nodes {
      let node = graph.nodes[index]
      guard !node.subgraphs.isEmpty, node.computes(oneOf: ancestors) else { continue }
      for (x, tensor) in constants where node.subgraphs.contains(where: { $0.subgraph.graph.holds(tensor) }) {
        throw OperatorError.unsupported(
          "the constant '\(graph[x].name)' is used in a subgraph, where no gradient of it can be followed",
          remedy: "Make it an input of the graph, or let an Identity outside of the subgraph give it to it"
        ).inside(node)
      }
    }
  }

  /// Copies what leads from the named values to y, with the given ones in their place; returns the copy of y.
  private func evaluate(_ differentiator: inout Differentiator, _ nodes: Range<Int>) throws(OperatorError) -> ValueID {
    var copies = Dictionary(zip(named, given), uniquingKeysWith: { first, _ in first })
    let ancestors = differentiator.ancestors(of: y, in: nodes)
    for index in nodes {
      var node = differentiator.writer.builder.graph.nodes[index]
      guard node.computes(oneOf: ancestors), node.dependencies.contains(where: { copies[$0] != nil }) else { continue }
      node.inputs = node.inputs.map { $0.map { copies[$0] ?? $0 } }
      for entry in node.attributes.entries.indices {
        guard case .graph(var subgraph) = node.attributes.entries[entry].value else { continue }
        subgraph.captured = subgraph.captured.map { copies[$0] ?? $0 }
        node.attributes.entries[entry].value = .graph(subgraph)
      }
      for position in node.outputs.indices {
        guard let output = node.outputs[position] else { continue }
        let copy = differentiator.writer.newValue()
        // A named value is independent, whatever computes it.
        if copies[output] == nil { copies[output] = copy }
        node.outputs[position] = copy
      }
      try differentiator.writer.append(node)
    }
    return copies[y] ?? y
  }
}
