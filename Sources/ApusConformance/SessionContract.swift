// What must hold for one session over many runs: nothing of an earlier run shows in a later one.

import Apus
import ApusGraph
import ApusOperators
import ApusTensor

/// Runs a model on inputs whose shapes, elements and places change from run to run in an order that looks random, and
/// holds every run against a model that was never run before.
///
/// Inputs lie in memory of the caller, every third time in front of a page that cannot be read. It is filled with other
/// bytes after each run and given back to the system in the end. The model must not hold on to it, and outputs that
/// were handed out must not change with it. Constants lie at all offsets from a multiple of 16 that a file may put them
/// at.
struct SessionContract {
  private let source: ModelGraph
  private let inputs: [Value]
  private var options: ModelOptions

  /// Models whose constants and inputs have more bytes are left out: they do nothing that small ones do not do too.
  private static let maximumBytes = 1 << 20
  /// How many inputs, one after the other, are made constants: of models with one node, and of larger ones.
  private static let constantInputs = (ofOperator: 6, ofModel: 1)

  /// - Parameter inputs: a value for each input of the graph.
  init(source: ModelGraph, inputs: [Value], options: ModelOptions) {
    (self.source, self.inputs, self.options) = (source, inputs, options)
    self.options.limits.maximumRunMemory = 1 << 30
  }

  /// Bytes from a multiple of 16 that differ for elements of some width.
  private static let offsets = [1, 2, 3, 4, 8, 12]

  func violations() -> [String] {
    let bytes = source.graph.constantBytes + inputs.reduce(0) { $0 + ($1.tensor?.byteCount ?? 0) }
    if bytes > Self.maximumBytes || source.graph.hasTrait(.random) { return [] }
    // A model that does not run on these inputs has no results to compare.
    if outcome(of: source.graph, inputs).isError { return [] }
    var found = checkOffsets()
    let free = source.graph.withSymbolicInputs
    found += checkHistory(of: free, inputs: inputs, what: "")
    let count = free.nodes.count == 1 ? Self.constantInputs.ofOperator : Self.constantInputs.ofModel
    for (index, input) in inputs.enumerated().prefix(count) {
      guard inputs.count > 1, let tensor = input.tensor, tensor.dataType != .string else { continue }
      var others = inputs
      others.remove(at: index)
      let graph = free.withConstant(tensor, forInput: index)
      found += checkHistory(of: graph, inputs: others, what: "with input \(index) as a constant, ")
    }
    return found
  }

  // MARK: - Constants in files

  /// The bits of the results do not depend on where constants lie.
  private func checkOffsets() -> [String] {
    guard source.graph.constantBytes > 0 else { return [] }
    let expected = outcome(of: source.graph, inputs)
    return Self.offsets.compactMap { offset in
      let found = outcome(of: source.graph.placingConstants(at: offset), inputs)
      return found.difference(from: expected).map { "with constants \(offset) bytes from a multiple of 16: \($0)" }
    }
  }

  private func outcome(of graph: Graph, _ inputs: [Value]) -> RunOutcome {
    RunOutcome { try model(graph).run(values: named(inputs, graph)) }
  }

  private func model(_ graph: Graph) throws -> Model {
    var source = source
    source.graph = graph
    return try Model(source, options: options)
  }

  private func named(_ inputs: [Value], _ graph: Graph) -> [String: Value] {
    Dictionary(zip(graph.inputs.map { graph[$0].name }, inputs)) { first, _ in first }
  }

  // MARK: - One session, many runs

  private func checkHistory(of graph: Graph, inputs: [Value], what: String) -> [String] {
    let variants = InputVariants(inputs).all
    // A model that is not prepared without the extents of its inputs has nothing to remember.
    guard let session = try? model(graph.placingConstants(at: 1 + inputs.count % 15)) else { return [] }
    let expected = variants.map { outcome(of: graph, $0) }
    var violations: [String] = []
    for (round, order) in Self.orders(of: variants.count).enumerated() where violations.count < 3 {
      // Given back to the system at the end of the round.
      let blocks = inputs.indices.map { index in
        BorrowedBlock(byteCount: 64 + (variants.compactMap { $0[index].tensor?.byteCount }.max() ?? 0))
      }
      for (turn, variant) in order.enumerated() {
        let found = outcome(of: session, graph, variants[variant], in: blocks, turn: turn)
        let types = InputVariants.describe(variants[variant])
        let place = "\(what)run \(round * order.count + turn) of a session, on \(types)"
        if let difference = found.outcome.difference(from: expected[variant]) {
          violations.append("\(place): \(difference)")
        }
        for block in blocks { block?.scramble() }
        if let difference = found.outcome.difference(from: found.copy) {
          violations.append("\(place): changing the inputs after the run changes the outputs: \(difference)")
        }
      }
      for (index, block) in blocks.enumerated() where !(block?.isReleased ?? true) {
        violations.append("\(what)the memory of input \(index) is held after the run")
      }
    }
    return violations
  }

  /// Runs the session on tensors over the blocks. The copy of the outcome owns its memory.
  private func outcome(
    of session: Model, _ graph: Graph, _ inputs: [Value], in blocks: [BorrowedBlock?], turn: Int
  ) -> (outcome: RunOutcome, copy: RunOutcome) {
    let borrowed = zip(inputs, blocks).map { input, block -> Value in
      guard let tensor = input.tensor, let block, tensor.dataType != .string else { return input }
      // Aligned, in front of memory that nobody may read, and misaligned in turn: kernels may be given a copy then.
      let place: BorrowedBlock.Place =
        turn % 3 == 1 ? .end : .offset(turn % 3 == 2 ? max(tensor.dataType.byteWidth, 1) : 0)
      return .tensor(block.tensor(like: tensor, at: place))
    }
    let outcome = RunOutcome { try session.run(values: named(borrowed, graph)) }
    return (outcome, outcome.copied)
  }

  /// Three orders of `count` variants; the first one begins with the plain inputs, which make the first plan.
  private static func orders(of count: Int) -> [[Int]] {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    return (0..<3).map { round -> [Int] in
      if round == 0 { return Array(0..<count) }
      return (0..<count).map { index -> (key: UInt64, index: Int) in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return (state, index)
      }.sorted { $0.key < $1.key }.map(\.index)
    }
  }
}

/// What became of a run.
private struct RunOutcome {
  private let outputs: [String: Value]?
  private let error: String

  init(_ run: () throws -> [String: Value]) {
    do {
      (outputs, error) = (try run(), "")
    } catch {
      (outputs, self.error) = (nil, "\(error)")
    }
  }

  private init(outputs: [String: Value]?, error: String) { (self.outputs, self.error) = (outputs, error) }

  var isError: Bool { outputs == nil }

  /// The same outcome, whose tensors own their memory.
  var copied: RunOutcome { RunOutcome(outputs: outputs?.mapValues(\.copied), error: error) }

  /// nil if both ended with the same bits, or both with an error.
  func difference(from expected: RunOutcome) -> String? {
    switch (outputs, expected.outputs) {
    case (nil, nil): return nil
    case (nil, _?): return "ends with an error: \(error)"
    case (_?, nil): return "succeeds; a new session says: \(expected.error)"
    case (let found?, let expected?):
      for (name, value) in expected.sorted(by: { $0.key < $1.key }) {
        guard let other = found[name] else { return "output '\(name)' is missing" }
        if other.hasSameBits(as: value) { continue }
        return "output '\(name)' is \(other.type) with other bits than \(value.type)"
      }
      return nil
    }
  }
}
