// The one way in which passes change a graph: producers, users and facts are current after every change, and a change
// costs what it touches.

import ApusTensor

/// A node of a graph that is being edited. Stays the same whatever happens around it.
package struct NodeID: Sendable, Hashable {
  fileprivate let slot: Int
}

/// Owns a graph while passes change it.
///
/// Nodes have an order in which they can run. A new node is inferred when it is inserted; nodes whose inputs change are
/// inferred anew by `settle`, and from there on those whose inputs became known better.
package struct GraphEditor: ~Copyable {
  /// The nodes lie in slots, in the order of their making; those of nodes that are gone stay empty until `finish`.
  private var graph: Graph
  private var places: [Place]
  private var first = -1
  private var last = -1
  /// By value: the slot of the node that computes it.
  private var producers: [Int?]
  /// By value: the slots of the nodes that use it, each once a use.
  private var users: [[Int]]
  /// By value: how many outputs of the graph it is.
  private var outputUses: [Int]
  /// Slots of nodes to infer, by their rank.
  private var pending: [Int] = []
  package let inference: InferenceDriver
  private var isReordered = false

  /// Where a node stands among the others.
  private struct Place {
    var previous: Int
    var next: Int
    /// Grows along the order, so that two places can be compared.
    var rank: Int
    var isAlive = true
    var isPending = false
  }

  /// Room between two neighbours for nodes that come between them.
  private static let rankDistance = 1 << 24

  package init(_ graph: consuming Graph, inference: InferenceDriver) {
    self.inference = inference
    producers = [Int?](repeating: nil, count: graph.values.count)
    users = [[Int]](repeating: [], count: graph.values.count)
    outputUses = [Int](repeating: 0, count: graph.values.count)
    places = []
    places.reserveCapacity(graph.nodes.count)
    for value in graph.outputs { outputUses[value.index] += 1 }
    self.graph = graph
    for slot in self.graph.nodes.indices {
      places.append(
        Place(
          previous: slot - 1, next: slot + 1 < self.graph.nodes.count ? slot + 1 : -1,
          rank: slot &* Self.rankDistance))
      link(slot)
    }
    if !places.isEmpty { (first, last) = (0, places.count - 1) }
  }

  // MARK: - Looking

  package subscript(node: NodeID) -> Node { graph.nodes[node.slot] }

  // Without a copy of the node:
  package func op(of node: NodeID) -> OperatorID { graph.nodes[node.slot].op }
  /// Whether the node has graphs inside.
  package func hasSubgraphs(_ node: NodeID) -> Bool { graph.nodes[node.slot].hasSubgraphs }

  package var firstNode: NodeID? { first < 0 ? nil : NodeID(slot: first) }
  package var lastNode: NodeID? { last < 0 ? nil : NodeID(slot: last) }

  package func node(after node: NodeID) -> NodeID? {
    let next = places[node.slot].next
    return next < 0 ? nil : NodeID(slot: next)
  }

  package func node(before node: NodeID) -> NodeID? {
    let previous = places[node.slot].previous
    return previous < 0 ? nil : NodeID(slot: previous)
  }

  /// False for a node that was removed.
  package func exists(_ node: NodeID) -> Bool { places[node.slot].isAlive }

  package func isBefore(_ node: NodeID, _ other: NodeID) -> Bool { places[node.slot].rank < places[other.slot].rank }

  /// The node that computes a value; nil for inputs, constants, captured values, and values that nobody computes.
  package func producer(of value: ValueID) -> NodeID? { producers[value.index].map { NodeID(slot: $0) } }

  /// The nodes that use a value, as an input or in a subgraph, each once a use.
  package func users(of value: ValueID) -> [NodeID] { users[value.index].map { NodeID(slot: $0) } }

  /// The uses of a value by nodes.
  package func useCount(of value: ValueID) -> Int { users[value.index].count }

  package func isOutput(_ value: ValueID) -> Bool { outputUses[value.index] > 0 }

  /// True if neither a node nor the graph needs the value.
  package func isUnused(_ value: ValueID) -> Bool { users[value.index].isEmpty && outputUses[value.index] == 0 }

  package func fact(_ value: ValueID) -> ValueFact { graph.fact(value) }
  package func constant(_ value: ValueID?) -> Tensor? { graph.constant(value) }
  package func name(of value: ValueID) -> String { graph[value].name }
  package var inputs: [ValueID] { graph.inputs }
  package var captures: [ValueID] { graph.captures }
  package var outputs: [ValueID] { graph.outputs }
  package var valueCount: Int { graph.values.count }

  /// The nodes in their order.
  package var nodes: [NodeID] {
    var nodes: [NodeID] = []
    var slot = first
    while slot >= 0 {
      nodes.append(NodeID(slot: slot))
      slot = places[slot].next
    }
    return nodes
  }

  // MARK: - Values

  /// A new value that a node will compute.
  package mutating func addValue(fact: ValueFact = .unknown) -> ValueID {
    growTables()
    return graph.addValue(fact: fact)
  }

  package mutating func addConstant(_ tensor: Tensor) -> ValueID {
    growTables()
    return graph.addConstant(tensor)
  }

  private mutating func growTables() {
    producers.append(nil)
    users.append([])
    outputUses.append(0)
  }

  /// Makes a constant of a value that a node computes; the node does not compute it any more, and goes if it computes
  /// nothing else.
  package mutating func replace(_ value: ValueID, withConstant tensor: Tensor) {
    graph[value].constant = tensor
    graph[value].fact = .tensor(TensorFact(tensor))
    for slot in users[value.index] { markPending(slot) }
  }

  /// Forgets the tensor of a constant that nobody uses.
  package mutating func forgetUnusedConstant(_ value: ValueID) {
    if graph[value].constant != nil, isUnused(value) { graph[value].constant = nil }
  }

  /// Lets every use of a value, as input, captured value or output, use another.
  package mutating func replaceUses(of old: ValueID, with new: ValueID) {
    precondition(old != new)
    let slots = users[old.index]
    for slot in Set(slots) {
      graph.nodes[slot].replaceInputs { $0 == old ? new : $0 }
      markPending(slot)
    }
    users[new.index] += slots
    users[old.index] = []
    if outputUses[old.index] > 0 {
      graph.outputs = graph.outputs.map { $0 == old ? new : $0 }
      outputUses[new.index] += outputUses[old.index]
      outputUses[old.index] = 0
    }
  }

  // MARK: - Nodes

  /// Inserts a node before another, or behind all. Its outputs must not be computed by anybody else; what is known of
  /// them is inferred now. A node whose inference fails is inserted and the error thrown.
  @discardableResult
  package mutating func insert(_ node: Node, before place: NodeID?) throws(OperatorError) -> NodeID {
    let slot = graph.nodes.count
    graph.nodes.append(node)
    let next = place?.slot ?? -1
    let previous = next < 0 ? last : places[next].previous
    places.append(Place(previous: previous, next: next, rank: 0))
    if previous < 0 { first = slot } else { places[previous].next = slot }
    if next < 0 { last = slot } else { places[next].previous = slot }
    setRank(of: slot)
    isReordered = isReordered || next >= 0
    link(slot)
    try infer(slot)
    return NodeID(slot: slot)
  }

  /// Inserts a node with one new output and returns that.
  package mutating func apply(
    _ op: OperatorID, name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    before place: NodeID?
  ) throws(OperatorError) -> ValueID {
    let output = addValue()
    try insert(
      Node(op, name: name, inputs: inputs, outputs: [output], attributes: Attributes(attributes)), before: place)
    return output
  }

  /// Removes a node. What it computed must get another producer, or be unused, before `settle`.
  package mutating func remove(_ node: NodeID) {
    let slot = node.slot
    precondition(places[slot].isAlive, "the node was removed before")
    unlink(slot)
    let (previous, next) = (places[slot].previous, places[slot].next)
    if previous < 0 { first = next } else { places[previous].next = next }
    if next < 0 { last = previous } else { places[next].previous = previous }
    places[slot].isAlive = false
    isReordered = true
  }

  /// Changes a node where it stands. It is inferred anew by `settle`.
  package mutating func update(_ node: NodeID, _ change: (inout Node) -> Void) {
    unlink(node.slot)
    change(&graph.nodes[node.slot])
    link(node.slot)
    markPending(node.slot)
  }

  /// Changes the subgraphs of a node. `change` says how many changes it made; their sum is returned.
  package mutating func updateSubgraphs(
    of node: NodeID, _ change: (inout Subgraph) throws(OperatorError) -> Int
  ) throws(OperatorError) -> Int {
    guard graph.nodes[node.slot].hasSubgraphs else { return 0 }
    unlink(node.slot)
    defer { link(node.slot) }
    var total = 0
    try graph.nodes[node.slot].attributes.updateGraphs { (subgraph) throws(OperatorError) in
      total += try change(&subgraph)
    }
    if total > 0 { markPending(node.slot) }
    return total
  }

  private mutating func link(_ slot: Int) {
    let node = graph.nodes[slot]
    for value in node.dependencies { users[value.index].append(slot) }
    for case let value? in node.outputs { producers[value.index] = slot }
  }

  private mutating func unlink(_ slot: Int) {
    let node = graph.nodes[slot]
    for value in node.dependencies {
      if let index = users[value.index].firstIndex(of: slot) { users[value.index].remove(at: index) }
    }
    for case let value? in node.outputs where producers[value.index] == slot { producers[value.index] = nil }
  }

  private mutating func setRank(of slot: Int) {
    let (previous, next) = (places[slot].previous, places[slot].next)
    let low = previous < 0 ? (next < 0 ? 0 : places[next].rank - 2 * Self.rankDistance) : places[previous].rank
    let high = next < 0 ? low + 2 * Self.rankDistance : places[next].rank
    if high - low >= 2 {
      places[slot].rank = low + (high - low) / 2
      return
    }
    var rank = 0
    var current = first
    while current >= 0 {
      places[current].rank = rank
      rank += Self.rankDistance
      current = places[current].next
    }
  }

  // MARK: - Facts

  private mutating func markPending(_ slot: Int) {
    if places[slot].isPending { return }
    places[slot].isPending = true
    pending.append(slot)
  }

  private mutating func infer(_ slot: Int) throws(OperatorError) {
    let before = graph.nodes[slot].outputs.map { $0.map { graph.fact($0) } }
    try inference.infer(nodeAt: slot, in: &graph)
    for (output, former) in zip(graph.nodes[slot].outputs, before) {
      guard let output, graph.fact(output) != former else { continue }
      for user in users[output.index] { markPending(user) }
    }
  }

  /// Infers the nodes whose inputs have changed, in their order, and those behind them as far as anything new is found.
  /// With `keepsFaults`, nodes that cannot run on what is known of their inputs are no error: of a graph that may never
  /// run.
  package mutating func settle(keepsFaults: Bool = false) throws(OperatorError) {
    while !pending.isEmpty {
      // Those behind a node come later: a sorted round at a time.
      let round = pending.filter { places[$0].isAlive }.sorted { places[$0].rank < places[$1].rank }
      for slot in pending { places[slot].isPending = false }
      pending = []
      for slot in round {
        do throws(OperatorError) {
          try infer(slot)
        } catch {
          if !keepsFaults || error.code != .invalidInput { throw error }
        }
      }
    }
  }

  /// Checks that the graph is one: see `GraphVerifier`.
  package func verify() throws(OperatorError) {
    try GraphVerifier.verify(graph, order: nodes.map(\.slot), registry: inference.registry)
  }

  /// Notes that inference left while the graph was edited: declared shapes that contradict what is computed.
  package func notes(after count: Int) -> ArraySlice<String> { graph.notes.dropFirst(count) }
  package var noteCount: Int { graph.notes.count }

  /// The number of nodes, those of subgraphs included.
  package var totalNodeCount: Int {
    var count = 0
    for node in nodes { count += graph.nodes[node.slot].totalCount }
    return count
  }

  /// The graph, its nodes in their order.
  package consuming func finish() -> Graph {
    if isReordered {
      let order = nodes
      graph.nodes = order.map { graph.nodes[$0.slot] }
    }
    return graph
  }
}

extension Graph {
  /// The number of nodes, those of subgraphs included.
  package var totalNodeCount: Int {
    var count = 0
    for index in nodes.indices { count += nodes[index].totalCount }
    return count
  }
}

extension Node {
  /// The node and those of its subgraphs.
  fileprivate var totalCount: Int {
    hasSubgraphs ? subgraphs.reduce(1) { $0 + $1.subgraph.graph.totalNodeCount } : 1
  }

  /// Maps every use of every value, captured ones included.
  fileprivate mutating func replaceInputs(_ map: (ValueID) -> ValueID) {
    inputs = inputs.map { $0.map(map) }
    if hasSubgraphs {
      attributes.updateGraphs { subgraph in subgraph.captured = subgraph.captured.map(map) }
    }
  }
}
