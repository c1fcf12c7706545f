// What enters the graphs inside of a node when it runs, so that their nodes can be checked one by one like all others.

import ApusGraph
import ApusRuntime
import ApusTensor

/// A graph inside of a node, with the values of its first use.
struct SubgraphEntry {
  let graph: Graph
  /// By value of the graph: its inputs and what it captures.
  let values: [Value?]

  /// The first use of each graph inside of `node`, found by running the node; empty for a node without graphs.
  ///
  /// - Parameter values: those that exist when the node runs, by value of `graph`; constants need not be among them.
  static func entries(
    of node: Node, in graph: Graph, values: [Value?], registry: OperatorRegistry, pool: WorkerPool
  ) throws -> [SubgraphEntry] {
    if node.subgraphs.isEmpty { return [] }
    func value(_ id: ValueID) -> Value? { values[id.index] ?? graph.constant(id).map { .tensor($0) } }
    let definition = try registry.require(node.op)
    let kernel = try definition.prepare(
      PrepareContext(
        node: node, schema: definition.schema, inputs: node.inputs.map { $0.map { graph.fact($0) } },
        outputs: node.outputs.map { $0.map { graph.fact($0) } }, constants: node.inputs.map { graph.constant($0) }))
    guard case .eager(let eager) = kernel else { return [] }
    var bodies: [String: Recorder.Body] = [:]
    for (name, subgraph) in node.subgraphs {
      let program = try Program(graph: subgraph.graph, registry: registry, pool: pool)
      bodies[name] = Recorder.Body(program: program, captures: subgraph.captured.compactMap(value))
    }
    let recorder = Recorder(bodies: bodies, pool: pool, wantedOutputs: node.outputs.map { $0 != nil })
    _ = try eager.execute(node.inputs.map { $0.flatMap(value) }, recorder)
    return node.subgraphs.compactMap { recorder.entries[$0.name] }
  }

  /// Runs the graphs of a node and keeps what enters each for the first time.
  private final class Recorder: EagerContext {
    struct Body {
      let program: Program
      let captures: [Value]
    }

    let wantedOutputs: [Bool]
    let allowance = Allowance.unlimited
    private let bodies: [String: Body]
    private let pool: WorkerPool
    private(set) var entries: [String: SubgraphEntry] = [:]

    init(bodies: [String: Body], pool: WorkerPool, wantedOutputs: [Bool]) {
      (self.bodies, self.pool, self.wantedOutputs) = (bodies, pool, wantedOutputs)
    }

    func run(
      subgraph name: String, inputs: inout [Value], donating donated: [Int]
    ) throws(OperatorError) -> [Value] {
      guard let body = bodies[name] else { throw .invalid("subgraph \(name) is missing") }
      let graph = body.program.graph
      if entries[name] == nil {
        var values = [Value?](repeating: nil, count: graph.values.count)
        for (id, value) in zip(graph.inputs, inputs) { values[id.index] = value }
        for (id, value) in zip(graph.captures, body.captures) { values[id.index] = value }
        entries[name] = SubgraphEntry(graph: graph, values: values)
      }
      return try body.program.run(&inputs, donating: donated, captures: body.captures, on: pool)
    }

    func parallel(parts: Int, _ body: (Int) -> Void) {
      for part in 0..<max(parts, 0) { body(part) }
    }
  }
}
