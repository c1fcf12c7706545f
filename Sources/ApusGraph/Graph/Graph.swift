// The typed graph: values and nodes as integers into arrays. Nothing is keyed by name after loading.

import ApusTensor

/// A value of one graph: an index into `Graph.values`.
package struct ValueID: Sendable, Hashable {
  package let index: Int
  package init(_ index: Int) { self.index = index }
}

/// An operator by domain and name. The default domain `ai.onnx` is the empty string.
package struct OperatorID: Sendable, Hashable, CustomStringConvertible {
  package var domain: String
  package var name: String

  package init(_ name: String, domain: String = "") {
    self.name = name
    self.domain = domain == "ai.onnx" ? "" : domain
  }

  package var description: String { domain.isEmpty ? name : "\(domain).\(name)" }

  /// By name, which tells almost all apart.
  package func hash(into hasher: inout Hasher) { hasher.combine(name) }
}

/// What the graph knows about one value.
package struct ValueRecord: Sendable {
  /// Unique within its graph; empty for values that passes have made.
  package var name: String
  package var fact: ValueFact
  /// The tensor of an initializer or of a folded constant.
  package var constant: Tensor?

  package init(name: String, fact: ValueFact = .unknown, constant: Tensor? = nil) {
    self.name = name
    self.fact = fact
    self.constant = constant
  }
}

/// One application of an operator, in the form of the newest opset.
package struct Node: Sendable {
  package var op: OperatorID { didSet { memo = nil } }
  /// The name in the file, or one made from the operator and the first output. Used in messages and profiles only.
  package var name: String
  /// nil: an optional input that is not given.
  package var inputs: [ValueID?] { didSet { memo = nil } }
  /// nil: an optional output that nobody wants.
  package var outputs: [ValueID?] { didSet { memo = nil } }
  package var attributes: Attributes { didSet { memo = nil } }
  /// What the last inference of the node went by; nil after every change of it.
  var memo: InferenceMemo?

  package init(
    _ op: OperatorID, name: String = "", inputs: [ValueID?], outputs: [ValueID?], attributes: Attributes = Attributes()
  ) {
    self.op = op
    self.name = name
    self.inputs = inputs
    self.outputs = outputs
    self.attributes = attributes
  }

  /// The subgraphs among the attributes, with their attribute names.
  package var subgraphs: [(name: String, subgraph: Subgraph)] {
    if !hasSubgraphs { return [] }
    return attributes.entries.flatMap { entry -> [(name: String, subgraph: Subgraph)] in
      switch entry.value {
      case .graph(let subgraph): [(entry.name, subgraph)]
      case .graphs(let subgraphs): subgraphs.enumerated().map { ("\(entry.name)[\($0.offset)]", $0.element) }
      default: []
      }
    }
  }

  package var hasSubgraphs: Bool {
    attributes.entries.contains { entry in
      switch entry.value {
      case .graph: true
      case .graphs(let subgraphs): !subgraphs.isEmpty
      default: false
      }
    }
  }

  /// Every value that must exist before the node can run: its inputs and what its subgraphs capture.
  package var dependencies: [ValueID] {
    let own = inputs.compactMap { $0 }
    return hasSubgraphs ? own + subgraphs.flatMap(\.subgraph.captured) : own
  }
}

/// A graph inside a node (If, Loop, Scan, …). What it uses from outside is explicit: `captured[k]` is the value of the
/// enclosing graph that the inner value `graph.captures[k]` stands for.
package struct Subgraph: Sendable {
  package var graph: Graph
  package var captured: [ValueID]

  package init(graph: Graph, captured: [ValueID]) {
    self.graph = graph
    self.captured = captured
  }
}

/// A graph whose nodes are in an order in which they can run.
package struct Graph: Sendable {
  package var name: String
  package var values: [ValueRecord] = []
  /// Made by a `GraphBuilder` and changed by a `GraphEditor`.
  package internal(set) var nodes: [Node] = []
  /// The formal inputs, in order. Initializers that are also inputs are constants, not inputs, unless made overridable.
  package var inputs: [ValueID] = []
  /// The outputs, in order. The same value may stand there twice, and an input or constant may be an output.
  package var outputs: [ValueID] = []
  /// What the file says of the outputs, in order; may be shorter. For people and other runtimes to read: nothing that
  /// is computed may depend on it.
  package var outputDeclarations: [ValueFact] = []
  /// In a subgraph: what was known of the outputs when the file had been read, before any pass; nil as long as it was
  /// not settled. Operators go by it where the subgraph never ran: what passes find out must not change results.
  package var settledOutputs: [ValueFact]?
  /// What the file says of the inputs, in order; may be shorter. Operators that feed a subgraph may go by it where
  /// nothing else tells what it takes.
  package var inputDeclarations: [ValueFact] = []
  /// In a subgraph: the inner values that stand for values of the enclosing graph.
  package var captures: [ValueID] = []
  /// What was found in the file and does not matter for running: declared shapes that cannot be.
  package var notes: [String] = []

  package init(name: String = "") { self.name = name }

  package subscript(id: ValueID) -> ValueRecord {
    get { values[id.index] }
    set { values[id.index] = newValue }
  }

  package func fact(_ id: ValueID) -> ValueFact { values[id.index].fact }
  /// What is known of an input, filled up by what the file says of it.
  package func describedInput(_ position: Int) -> ValueFact {
    let fact = fact(inputs[position])
    return position < inputDeclarations.count ? fact.completed(by: inputDeclarations[position]) : fact
  }

  /// What is known of an output, filled up by what the file says of it.
  package func describedOutput(_ position: Int) -> ValueFact {
    let fact = fact(outputs[position])
    return position < outputDeclarations.count ? fact.completed(by: outputDeclarations[position]) : fact
  }

  /// What stands for an output that nothing computed: settled, or what is known now. `inputs` are the facts of the node
  /// around: extents that hang on other symbols than theirs are those that the file declares, where these are numbers.
  package func uncomputedOutput(_ position: Int, inputs: [ValueFact?]) -> ValueFact {
    if let settledOutputs { return settledOutputs[position] }
    let described = describedOutput(position)
    guard let known = described.tensor, let shape = known.shape, position < outputDeclarations.count,
      let declared = outputDeclarations[position].tensor?.shape, declared.count == shape.count
    else { return described }
    let dims = inputs.flatMap { $0?.tensor?.shape ?? [] }
    let extents = zip(shape, declared).map { own, said in
      let isBound = own.symbols.allSatisfy { name in dims.contains(.symbol(name)) }
      return isBound || said.known == nil ? own : said
    }
    return .tensor(known.dataType, extents)
  }

  /// A graph of some of these nodes, which keep their order, with the same values. What the file declares of its
  /// outputs is that of the whole.
  package func part(_ nodes: [Node], inputs: [ValueID]? = nil, outputs: [ValueID]) -> Graph {
    var part = self
    part.nodes = nodes
    part.inputs = inputs ?? self.inputs
    part.outputs = outputs
    return part
  }

  /// Changes the graphs inside nodes; what is captured stays.
  package mutating func updateSubgraphs<Failure: Error>(
    _ change: (inout Graph) throws(Failure) -> Void
  ) throws(Failure) {
    for index in nodes.indices where nodes[index].hasSubgraphs {
      try nodes[index].attributes.updateGraphs { (subgraph) throws(Failure) in try change(&subgraph.graph) }
    }
  }

  /// Settles the outputs of all subgraphs.
  package mutating func settleSubgraphs() {
    for index in nodes.indices where nodes[index].hasSubgraphs {
      let facts = nodes[index].inputs.map { $0.map { fact($0) } }
      nodes[index].attributes.updateGraphs { subgraph in
        subgraph.graph.settledOutputs = subgraph.graph.outputs.indices.map {
          subgraph.graph.uncomputedOutput($0, inputs: facts)
        }
        subgraph.graph.settleSubgraphs()
      }
    }
  }

  /// Graphs in each other, this one included. Found without recursion, since it says how deep a recursion would go.
  package var nesting: Int {
    var depth = 0
    var level = [self]
    while !level.isEmpty {
      depth += 1
      var inner: [Graph] = []
      for graph in level {
        for index in graph.nodes.indices where graph.nodes[index].hasSubgraphs {
          for (_, subgraph) in graph.nodes[index].subgraphs { inner.append(subgraph.graph) }
        }
      }
      level = inner
    }
    return depth
  }

  package func constant(_ id: ValueID?) -> Tensor? { id.flatMap { values[$0.index].constant } }

  @discardableResult
  package mutating func addValue(name: String = "", fact: ValueFact = .unknown) -> ValueID {
    values.append(ValueRecord(name: name, fact: fact))
    return ValueID(values.count - 1)
  }

  package mutating func addConstant(_ tensor: Tensor, name: String = "") -> ValueID {
    values.append(ValueRecord(name: name, fact: .tensor(TensorFact(tensor)), constant: tensor))
    return ValueID(values.count - 1)
  }
}

/// A model: its graph and what the file says about it.
package struct ModelGraph: Sendable {
  package var graph: Graph
  package var irVersion: Int
  package var opsets: [String: Int]
  package var producer: String
  package var producerVersion: String
  package var domain: String
  package var modelVersion: Int
  package var documentation: String
  package var metadata: [(key: String, value: String)]
  /// The inputs of the file that initializers give a value, and that are constants of the graph therefore.
  package var defaultedInputs: [(name: String, fact: ValueFact)]

  package init(graph: Graph) {
    self.graph = graph
    irVersion = 0
    opsets = [:]
    producer = ""
    producerVersion = ""
    domain = ""
    modelVersion = 0
    documentation = ""
    metadata = []
    defaultedInputs = []
  }
}
