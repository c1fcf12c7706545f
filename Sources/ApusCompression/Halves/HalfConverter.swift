// Makes a model of 16 bits of one of float32: nodes, constants, and Casts where both meet.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor

/// Converts a graph and the graphs inside its nodes.
package struct HalfConverter {
  private let options: HalfConversionOptions
  private let surroundings: RunSurroundings
  private let progress: (String) -> Void
  private let inference = InferenceDriver(registry: .standard, keepsFaultySubgraphs: true)
  /// Operator set 13 brought bfloat16, and 22 gave it to most operators that had not taken it before.
  private static let bfloat16Opsets = 13...22

  package init(
    _ options: HalfConversionOptions, in surroundings: RunSurroundings, progress: @escaping (String) -> Void = { _ in }
  ) {
    (self.options, self.surroundings, self.progress) = (options, surroundings, progress)
  }

  /// - Parameters:
  ///   - graph: typed; stays as it is if an error is thrown.
  ///   - samples: nodes whose values pass the range on them stay in float32; nil: only weights are looked at.
  /// - Throws: `CompressionError`, and what `samples` throw.
  /// - Returns: the report, and the operator set that the result needs at least.
  package func convert(
    _ graph: inout Graph, samples: (any CalibrationData)? = nil
  ) throws -> (report: HalfConversionReport, opset: Int) {
    let selection = NodeSelection(included: options.include, excluded: options.keep)
    try selection.check(against: graph)
    let ranges =
      try samples.map { samples in
        try HalfRanges(graph, over: samples, options.type, in: surroundings, progress: progress)
      } ?? HalfRanges()
    var report = HalfConversionReport()
    report.bytesBefore = graph.floatBytes
    var opset = options.type == .bfloat16 ? 13 : 1
    var result = try convert(graph, ranges, isMain: true, &report, &opset)
    if report.converted == 0 {
      let reasons = Set(report.kept.map(\.reason)).sorted().prefix(3).joined(separator: "; ")
      throw CompressionError(
        .nothingToDo,
        "no node of the model can compute in \(options.type.rawValue)" + (reasons.isEmpty ? "" : ": \(reasons)"))
    }
    do throws(OperatorError) {
      _ = try Optimizer(registry: .standard, passes: Optimizer.loweredPasses).optimize(&result)
      try result.keepOutputNames(of: graph)
    } catch {
      throw CompressionError(error)
    }
    report.bytesAfter = result.floatBytes
    note(ranges, graph, &report)
    graph = result
    return (report, opset)
  }

  private func note(_ ranges: HalfRanges, _ graph: Graph, _ report: inout HalfConversionReport) {
    for (value, range) in ranges.ranges.sorted(by: { $0.key.index < $1.key.index }) {
      // A hundredth of small elements is no loss to speak of.
      guard range.largest >= options.type.overflow || range.smallPart > 0.01 else { continue }
      report.activations.append(
        .init(value: graph[value].name, largest: range.largest, smallPart: range.smallPart))
    }
  }

  private func convert(
    _ graph: Graph, _ ranges: HalfRanges, isMain: Bool, _ report: inout HalfConversionReport, _ opset: inout Int
  ) throws(CompressionError) -> Graph {
    let keepsInterface = !isMain || options.keepsInterface
    let editor = GraphEditor(graph, inference: inference)
    let decisions = try HalfDecisions(editor, options, ranges)
    note(decisions, editor, &report)
    var work = HalfWork(editor.finish(), decisions, options, inference, keepsInterface: keepsInterface)
    for id in work.nodes {
      switch decisions.decisions[id] {
      case .half:
        opset = max(opset, try work.convert(id) ?? 1)
        report.converted += 1
      case .kept, .neutral, .moving, nil:
        try work.widen(id)
        try convertGraphs(inside: id, &work, &report, &opset)
      }
    }
    let (result, casts) = try work.finish()
    report.casts += casts
    return result
  }

  private func note(
    _ decisions: HalfDecisions, _ graph: borrowing GraphEditor, _ report: inout HalfConversionReport
  ) {
    for id in graph.nodes {
      guard case .kept(let reason)? = decisions.decisions[id] else { continue }
      report.kept.append(.init(node: graph[id].name, operator: graph.op(of: id).description, reason: reason))
    }
    for (value, range) in decisions.constantRanges where range.isRemarkable {
      report.weights.append(
        .init(
          weight: graph.name(of: value), elements: range.count, overflows: range.overflows,
          subnormals: range.subnormals, zeros: range.zeros, largest: range.largest))
    }
  }

  /// Graphs with products inside are converted between their own inputs and outputs, which stay what they are.
  private func convertGraphs(
    inside id: NodeID, _ work: inout HalfWork, _ report: inout HalfConversionReport, _ opset: inout Int
  ) throws(CompressionError) {
    guard work.hasSubgraphs(id) else { return }
    var (inner, least) = (report, opset)
    try work.updateSubgraphs(of: id) { (graph) throws(CompressionError) in
      guard graph.nodes.contains(where: { inference.registry.definition(of: $0.op)?.schema.multiplyAdds != nil })
      else { return }
      graph = try convert(graph, HalfRanges(), isMain: false, &inner, &least)
    }
    (report, opset) = (inner, least)
  }

  /// Operators that took float32 before float16, and the operator set in which they took both. Made by comparing all
  /// versions of the schemas of onnx 1.23.2; `versions` do not tell what changed.
  private static let float16Opsets = ["Celu": 28, "CumSum": 14, "IsInf": 20, "QuantizeLinear": 19, "Range": 27]

  /// The operator set in which an operator takes the type; nil: only in newer ones than most runtimes read.
  static func opset(of schema: OperatorSchema, _ type: HalfConversionOptions.ElementType) -> Int? {
    guard schema.id.domain == "" else { return 1 }
    if type == .bfloat16 { return schema.versions.last { bfloat16Opsets.contains($0) } }
    let opset = float16Opsets[schema.id.name] ?? 1
    return opset <= bfloat16Opsets.upperBound ? opset : nil
  }
}

extension Graph {
  /// Bytes of the constants of floats, those of graphs inside included, each once.
  fileprivate var floatBytes: Int {
    var seen: Set<WeightKey> = []
    return floatBytes(&seen)
  }

  private func floatBytes(_ seen: inout Set<WeightKey>) -> Int {
    var total = 0
    for value in values {
      guard let tensor = value.constant, tensor.dataType.isFloat else { continue }
      if seen.insert(WeightKey(tensor, depthAxis: 0)).inserted { total += tensor.byteCount }
    }
    for node in nodes { for (_, subgraph) in node.subgraphs { total += subgraph.graph.floatBytes(&seen) } }
    return total
  }
}
