// Writes models of TensorFlow Lite (LiteRT): channels last, activations inside operators, integers where the graph says
// that floats stand for some. https://ai.google.dev/edge/litert

import ApusContainers
import ApusGraph
import ApusTensor

package struct TFLiteExporter: ModelExporter {
  package let name = "tflite"
  package let title = "TensorFlow Lite"
  package let endings = ["tflite", "lite"]

  package init() {}

  package var operators: [String] {
    let own = TFLiteLowerings.all.keys.map { $0.split(separator: ".").last.map(String.init) ?? $0 }
    return Set(own + TFLiteSimplification.rules.keys + ["QuantizeLinear", "DequantizeLinear"]).sorted()
  }

  package func registry(_ standard: OperatorRegistry) -> OperatorRegistry {
    standard.addingChannelsLastForms(of: TFLiteLowerings.images)
  }

  package func arranged(
    _ graph: Graph, registry: OperatorRegistry, options: ExportOptions
  ) throws(LoadError) -> Graph {
    let ledger = ExportLedger(target: title, options: options)
    let simple = try TFLiteSimplification.simplified(graph, registry, ledger)
    for node in simple.nodes where !Self.isMapped(node) { ledger.isUnmapped(node) }
    try ledger.check()
    do throws(OperatorError) {
      return try simple.withChannelsLast(
        TFLiteLowerings.images, InferenceDriver(registry: registry, allowance: options.allowance))
    } catch {
      throw LoadError(.malformed, error.message, remedy: error.remedy, path: error.path.joined(separator: " › "))
    }
  }

  private static func isMapped(_ node: Node) -> Bool {
    if node.hasSubgraphs { return false }
    if ["QuantizeLinear", "DequantizeLinear"].contains(node.op.description) { return true }
    return TFLiteLowerings.all[node.op.description] != nil
      || node.op.domain.isEmpty && TFLiteLowerings.images.contains(node.op.name)
  }

  package func write(
    _ model: ModelGraph, registry: OperatorRegistry, options: ExportOptions
  ) throws(LoadError) -> ExportedModel {
    let ledger = ExportLedger(target: title, options: options)
    let graph = model.graph
    let work = TFLiteWork(graph, InferenceDriver(registry: registry, allowance: options.allowance), ledger)
    // Values of nodes that could not be written, and of those behind them, which are passed over.
    var faulty: Set<ValueID> = []
    for (index, node) in graph.nodes.enumerated() {
      let isFaulty = node.inputs.contains { $0.map { faulty.contains($0) } ?? false }
      if !isFaulty, work.isFinished(index) { continue }
      do throws(OperatorError) {
        try options.allowance.checkTime()
        if !isFaulty { try Self.write(node, index, work) }
      } catch {
        try ledger.report(error, at: node)
        for case let output? in node.outputs { faulty.insert(output) }
      }
      if isFaulty { for case let output? in node.outputs { faulty.insert(output) } }
    }
    let unused = graph.inputs.filter { !work.isUsed($0) }
    for value in graph.inputs where !unused.contains(value) {
      do throws(OperatorError) {
        try work.checkElements(value)
      } catch {
        throw LoadError(problems: [ModelProblem(nodePath: graph[value].name, reason: "Input: \(error.message)")])
      }
    }
    try ledger.check()
    var outputs: [(name: String, tensor: Int)] = []
    for value in graph.outputs {
      do throws(OperatorError) {
        outputs.append((graph[value].name, try work.output(value)))
      } catch {
        throw LoadError(.malformed, error.message, remedy: error.remedy, path: graph[value].name)
      }
    }
    try ledger.check()
    var inputs: [(name: String, tensor: Int)] = []
    for value in graph.inputs {
      do throws(OperatorError) {
        inputs.append((graph[value].name, try work.tensor(value)))
      } catch {
        throw .unsupported("the input '\(graph[value].name)' should be a tensor: \(error.message)")
      }
    }
    let file = TFLiteFile(
      draft: work.draft, name: graph.name.isEmpty ? "main" : graph.name, description: "Written by Apus", inputs: inputs,
      outputs: outputs)
    var exported = ExportedModel(bytes: try file.bytes())
    (exported.notes, exported.operators) = (ledger.notes, work.draft.census)
    return exported
  }

  private static func write(_ node: Node, _ index: Int, _ work: TFLiteWork) throws(OperatorError) {
    switch node.op.description {
    case "QuantizeLinear": try work.quantize(node)
    case "DequantizeLinear": try work.dequantize(node)
    default:
      guard let lowering = TFLiteLowerings.all[node.op.description] else {
        throw .unsupported("there is no rule for \(node.op)")
      }
      let schema = try work.inference.registry.require(node.op).schema
      try lowering.make(TFLiteNode(index, lowering, schema, work))
    }
  }
}

// MARK: - Scales

extension TFLiteWork {
  /// Codes of what comes; none are computed where the value is codes with this scale already.
  fileprivate func quantize(_ node: Node) throws(OperatorError) {
    guard let (given, type) = graph.quantization(of: node), let x = node.inputs[0], let y = node.outputs[0] else {
      throw .unsupported("the scale and the zero point should be constants")
    }
    let wanted = type == .uint8 ? given.shifted(by: -128) : given
    if let codes = try codes(of: x) {
      return define(encoded: y, as: rescaled(codes, wanted, node.name))
    }
    let result = newTensor(graph[y].name, .int8, try shape(x), wanted)
    emit("QUANTIZE", [try tensor(x)], [result])
    define(encoded: y, as: TFLiteCodes(tensor: result, quantization: wanted))
  }

  /// Says what codes stand for; the floats are computed when somebody asks for them.
  fileprivate func dequantize(_ node: Node) throws(OperatorError) {
    guard let (given, type) = graph.quantization(of: node), let x = node.inputs[0], let y = node.outputs[0] else {
      throw .unsupported("the scale and the zero point should be constants")
    }
    guard let constant = graph.constant(x) else { return define(y, as: try stored(x, given)) }
    guard type == .uint8, let codes = constant.elements(as: UInt8.self) else {
      return define(y, standsFor: constant, given)
    }
    // 0 to 255 as -128 to 127.
    let signed = Tensor(codes.map { Int8(bitPattern: $0 ^ 0x80) }, shape: constant.shape)
    define(y, standsFor: signed, given.shifted(by: -128))
  }

  /// The tensor of an output. Constants and inputs are outputs of their own.
  fileprivate func output(_ value: ValueID) throws(OperatorError) -> Int { try tensor(value) }
}
