// Holds the operators of test cases to the contract of operators, node by node and as whole programs.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime
import Synchronization

/// Checks cases of the ONNX test layout, whose models and inputs serve as examples; expected outputs are not looked at.
///
/// For every node, also of graphs inside of nodes, as the file has it and as the passes leave it: inference fits what
/// is produced; the results are the same bits on several threads, in place, in other memory, with parts in another
/// order (`StepContract`); lower instruction sets and constants that are not packed give the same numbers
/// (`NodeContract`). For the whole program: the same bits on several threads, and where every value is kept, so that
/// nothing is computed in place; on any inputs after any others, wherever inputs and constants lie (`SessionContract`);
/// and when its file changes (`FileContract`).
public final class ContractRunner: Sendable {
  private let settings: ContractSettings
  private let counts = Mutex<[OperatorID: Int]>([:])

  /// - Parameter levels: whether lower instruction sets are tried. Nothing else may run models in this process then.
  public init(levels: Bool = true) { settings = ContractSettings(levels: levels) }

  /// - Parameter sessions: whether sessions and files are checked too, which takes most of the time.
  public func run(_ test: ConformanceCase, sessions: Bool = true) -> ConformanceResult {
    let start = ContinuousClock.now
    var operators: Set<String> = []
    var violations: [String] = []
    do {
      violations = try check(test, sessions: sessions, operators: &operators)
    } catch {
      violations = ["\(error)"]
    }
    return ConformanceResult(
      name: test.name, kind: test.kind, outcome: violations.isEmpty ? .passed : .failed,
      message: violations.prefix(4).joined(separator: "; "), operators: operators.sorted(),
      seconds: (ContinuousClock.now - start) / .seconds(1))
  }

  /// Nodes that were checked, by operator.
  package var coverage: [OperatorID: Int] { counts.withLock { $0 } }

  /// How much was checked, and which operators never were.
  public var summary: String {
    let counts = coverage
    let missing = OperatorRegistry.standard.all.filter { counts[$0.schema.id] == nil }.map(\.schema.id.description)
    let text = "\(counts.values.reduce(0, +)) nodes of \(counts.count) operators"
    return missing.isEmpty ? text : "\(text); no case has \(missing.joined(separator: ", "))"
  }

  // MARK: - One case

  private func check(
    _ test: ConformanceCase, sessions: Bool, operators: inout Set<String>
  ) throws -> [String] {
    let path = test.modelURL.path(percentEncoded: false)
    let source = try ModelReader.read(path: path, options: ModelOptions())
    guard let set = test.dataSets.first else { return ["no test_data_set_0 beside the model"] }
    let inputs = try test.values("input", in: set, facts: source.graph.inputs.map { source.graph.fact($0) })
    var violations: [String] = []
    var plain: [OperatorID] = []
    for optimization in [OptimizationOptions.none, OptimizationOptions()] {
      var options = ModelOptions(threads: 1)
      options.optimization = optimization
      options.keepsConstants = true
      let graph = try Model(ModelReader.read(path: path, options: options), options: options).graph
      guard inputs.count == graph.inputs.count else { return ["\(inputs.count) inputs for \(graph.inputs.count)"] }
      let operatorsOfGraph = graph.nodes.map(\.op)
      // Passes that changed nothing leave nothing new to check.
      if optimization.isEnabled && operatorsOfGraph == plain { break }
      plain = operatorsOfGraph
      let what = optimization.isEnabled ? " (after passes)" : ""
      violations += try checkProgram(graph, inputs).map { $0 + what }
      violations += checkNodes(graph, Self.values(inputs, of: graph)).map { $0 + what }
      operators.formUnion(operatorsOfGraph.map(\.description))
      guard sessions else { continue }
      violations += SessionContract(source: source.model, inputs: inputs, options: options).violations().map {
        $0 + what
      }
      let file = FileContract(model: test.modelURL, inputs: inputs, options: options)
      violations += try file.violations().map { $0 + what }
    }
    return violations
  }

  private func checkProgram(_ graph: Graph, _ inputs: [Value]) throws -> [String] {
    let registry = OperatorRegistry.standard
    if graph.hasTrait(.random) { return [] }
    func run(_ graph: Graph, on pool: WorkerPool) throws -> [Value] {
      do {
        return try Program(graph: graph, registry: registry, pool: settings.serial).run(inputs, on: pool)
      } catch let error as PreparationError {
        throw error.errors.first ?? .unsupported("the model cannot be prepared")
      }
    }
    let expected = try run(graph, on: settings.serial)
    var keeping = graph
    keeping.outputs += graph.nodes.flatMap { $0.outputs.compactMap { $0 } }
    var violations: [String] = []
    for (what, found) in [
      ("on 3 threads", try run(graph, on: settings.parallel)),
      ("with every value kept", try run(keeping, on: settings.serial)),
    ] {
      for (id, (a, b)) in zip(graph.outputs, zip(found, expected)) where !a.hasSameBits(as: b) {
        violations.append("\(what): output '\(graph[id].name)' has other bits")
      }
    }
    return violations
  }

  private static func values(_ inputs: [Value], of graph: Graph) -> [Value?] {
    var values = [Value?](repeating: nil, count: graph.values.count)
    for (id, input) in zip(graph.inputs, inputs) { values[id.index] = input }
    return values
  }

  /// Checks every node of the graph and of the graphs inside of nodes. `values` are those that enter, by value.
  private func checkNodes(_ graph: Graph, _ values: [Value?]) -> [String] {
    var values = values
    var violations: [String] = []
    for node in graph.nodes {
      var contract = NodeContract(node: node, graph: graph, values: values, settings: settings)
      do {
        for entry in try SubgraphEntry.entries(
          of: node, in: graph, values: values, registry: .standard, pool: settings.serial)
        {
          violations += checkNodes(entry.graph, entry.values).map { "\(node.op) '\(node.name)': \($0)" }
        }
        for (id, value) in zip(node.outputs, try contract.check()) {
          if let id { values[id.index] = value }
        }
      } catch {
        return violations + ["\(node.op) '\(node.name)' does not run by itself: \(error)"]
      }
      violations += contract.violations.map { "\(node.op) '\(node.name)': \($0)" }
      counts.withLock { $0[node.op, default: 0] += 1 }
    }
    return violations
  }
}
