// Symbols of inputs that a file gives one name and a graph does not need to be equal: each extent gets a symbol of its
// own, and only those become one again that an operator makes one extent of.

/// Facts of a graph under symbols that are equal only where the graph needs it.
///
/// Exporters use one name for extents that merely look alike. A plan or a rewriting that trusts in the name would be
/// wrong for inputs of different sizes, and to refuse them would refuse graphs that can be computed. Two extents of one
/// name are kept as one symbol where some operator broadcasts them against each other or knows its output only if they
/// are equal.
package struct SymbolSplitting {
  /// One axis of one input that has a plain symbol.
  private struct Occurrence {
    let input: ValueID
    let axis: Int
    /// The name in the file.
    let name: String
    /// The symbol in the facts; equal for occurrences that have become one.
    var symbol: String
  }

  private let driver: InferenceDriver
  private var occurrences: [Occurrence] = []
  /// The names in the file of the symbols in the facts.
  private var names: [String: Dim] = [:]

  private init(driver: InferenceDriver) { self.driver = driver }

  /// The graph with its facts under split symbols. `declared` has the facts that the file gives, `inferred` what
  /// inference made of them. That is the result where there is nothing to split, or, with a note, where inference does
  /// not come through without the names. Throws if the time of `allowance` is over.
  package static func split(
    declared: Graph, inferred: Graph, registry: OperatorRegistry, within allowance: Allowance = .unlimited
  ) throws(OperatorError) -> Graph {
    var splitting = SymbolSplitting(driver: InferenceDriver(registry: registry, allowance: allowance))
    splitting.collect(declared)
    let counts = Dictionary(grouping: splitting.occurrences, by: \.name).mapValues(\.count)
    splitting.occurrences.removeAll { counts[$0.name] == 1 }
    if splitting.occurrences.isEmpty { return inferred }
    var graph = splitting.separated(declared)
    for index in graph.nodes.indices {
      do throws(OperatorError) {
        try splitting.infer(nodeAt: index, in: &graph, as: inferred)
      } catch {
        try allowance.checkTime()
        graph = inferred
        graph.notes.append("extents of one name are taken to be equal; without that, \(error)")
        return graph
      }
    }
    // The notes are those of one inference.
    graph.notes = inferred.notes
    return graph
  }

  private mutating func collect(_ graph: Graph) {
    for input in graph.inputs {
      for (axis, dim) in (graph.fact(input).tensor?.shape ?? []).enumerated() {
        guard let name = dim.symbols.first, dim == .symbol(name) else { continue }
        occurrences.append(Occurrence(input: input, axis: axis, name: name, symbol: name))
      }
    }
  }

  /// The declared facts with a symbol for each occurrence, and without the names elsewhere: which one they mean is not
  /// known.
  private mutating func separated(_ declared: Graph) -> Graph {
    var graph = declared
    let shared = Set(occurrences.map(\.name))
    let hidden = Dictionary(uniqueKeysWithValues: shared.map { ($0, Dim.unknown) })
    let inputs = Set(graph.inputs)
    for index in graph.values.indices where !inputs.contains(ValueID(index)) {
      graph.values[index].fact = graph.values[index].fact.substituting(hidden)
    }
    var taken = Set(graph.inputs.flatMap { graph.fact($0).tensor?.shape?.flatMap(\.symbols) ?? [] })
    var seen: Set<String> = []
    for index in occurrences.indices {
      let occurrence = occurrences[index]
      // The first one keeps the name.
      if !seen.insert(occurrence.name).inserted {
        var number = 2
        while taken.contains("\(occurrence.name)_\(number)") { number += 1 }
        occurrences[index].symbol = "\(occurrence.name)_\(number)"
        taken.insert(occurrences[index].symbol)
      }
      names[occurrences[index].symbol] = .symbol(occurrence.name)
      guard let fact = graph.fact(occurrence.input).tensor, var shape = fact.shape else { continue }
      shape[occurrence.axis] = .symbol(occurrences[index].symbol)
      graph[occurrence.input].fact = .tensor(fact.dataType, shape)
    }
    return graph
  }

  /// Infers one node, and joins the symbols without whose equality less is known than in `shared`.
  private mutating func infer(nodeAt index: Int, in graph: inout Graph, as shared: Graph) throws(OperatorError) {
    try driver.infer(nodeAt: index, in: &graph)
    var losses = self.losses(of: graph.nodes[index], in: graph, shared)
    if losses.count == 0 { return }
    // What is broadcast names the symbols itself; else they are among those of the inputs, and may be none.
    let node = graph.nodes[index]
    let candidates = losses.symbols.union(node.dependencies.flatMap { graph.fact($0).symbols })
    for group in groups(of: candidates) {
      let (before, own) = (graph, self)
      join(group, in: &graph)
      try driver.infer(nodeAt: index, in: &graph)
      let now = self.losses(of: node, in: graph, shared)
      if now.count < losses.count {
        losses = now
        if losses.count == 0 { return }
      } else {
        graph = before
        self = own
      }
    }
  }

  /// The extents and elements of the outputs of a node that are less known than under shared symbols, and their
  /// symbols.
  private func losses(of node: Node, in graph: Graph, _ shared: Graph) -> (count: Int, symbols: Set<String>) {
    var count = 0
    var symbols: Set<String> = []
    for output in node.outputs.compactMap({ $0 }) {
      guard let fact = graph.fact(output).tensor, let wanted = shared.fact(output).tensor else { continue }
      for (own, other) in [(fact.shape, wanted.shape), (fact.values, wanted.values)] {
        guard let other else { continue }
        guard let own, own.count == other.count else {
          count += 1
          continue
        }
        for (dim, target) in zip(own, other) where isLoss(dim, target) {
          count += 1
          symbols.formUnion(dim.symbols)
        }
      }
    }
    return (count, symbols)
  }

  private func isLoss(_ dim: Dim, _ shared: Dim) -> Bool {
    if shared.isUnknown || dim == shared { return false }
    return dim.substituting(names) != shared || (dim.hasBroadcast && !shared.hasBroadcast)
  }

  /// Symbols of one name in the file, for every name that has several among `symbols`.
  private func groups(of symbols: Set<String>) -> [[String]] {
    var groups: [String: [String]] = [:]
    var seen: Set<String> = []
    for occurrence in occurrences where symbols.contains(occurrence.symbol) && seen.insert(occurrence.symbol).inserted {
      groups[occurrence.name, default: []].append(occurrence.symbol)
    }
    return groups.values.filter { $0.count > 1 }.sorted { $0[0] < $1[0] }
  }

  private mutating func join(_ symbols: [String], in graph: inout Graph) {
    let bindings = Dictionary(uniqueKeysWithValues: symbols.dropFirst().map { ($0, Dim.symbol(symbols[0])) })
    for index in occurrences.indices where bindings[occurrences[index].symbol] != nil {
      occurrences[index].symbol = symbols[0]
    }
    for index in graph.values.indices where graph.values[index].constant == nil {
      let fact = graph.values[index].fact
      if !fact.symbols.isDisjoint(with: symbols) { graph.values[index].fact = fact.substituting(bindings) }
    }
  }
}

extension ValueFact {
  /// The symbols in the shape and the elements.
  fileprivate var symbols: Set<String> {
    switch self {
    case .unknown: []
    case .tensor(let fact): Set((fact.shape ?? []).flatMap(\.symbols) + (fact.values ?? []).flatMap(\.symbols))
    case .sequence(let element), .optional(let element), .map(_, let element): element.symbols
    }
  }
}
