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

  package func operators(_ standard: OperatorRegistry) -> [String] {
    let own = TFLiteLowerings.all.keys.map { $0.split(separator: ".").last.map(String.init) ?? $0 }
    let simpler = Array(TFLiteSimplification.rules.keys) + (standard.opsetForms?.decomposedOperators ?? [])
    return Set(own + simpler + ["QuantizeLinear", "DequantizeLinear"]).sorted()
  }

  package func registry(_ standard: OperatorRegistry) -> OperatorRegistry {
    standard.addingChannelsLastForms(of: TFLiteLowerings.images)
  }

  package func arranged(
    _ graph: Graph, registry: OperatorRegistry, ledger: ExportLedger
  ) throws(LoadError) -> Graph {
    let simple = try TFLiteSimplification.simplified(graph, registry, ledger)
    let inference = InferenceDriver(registry: registry, allowance: ledger.options.allowance)
    return try simple.withChannelsLast(TFLiteLowerings.images, inference, ledger)
  }

  private static func isMapped(_ node: Node) -> Bool {
    if node.hasSubgraphs { return false }
    if ["QuantizeLinear", "DequantizeLinear"].contains(node.op.description) { return true }
    return TFLiteLowerings.all[node.op.description] != nil
      || node.op.domain.isEmpty && TFLiteLowerings.images.contains(node.op.name)
  }

  package func write(
    _ model: ModelGraph, registry: OperatorRegistry, ledger: ExportLedger
  ) throws(LoadError) -> ExportedModel {
    let graph = model.graph
    let allowance = ledger.options.allowance
    let work = TFLiteWork(graph, InferenceDriver(registry: registry, allowance: allowance), ledger)
    // Nodes without names are told apart by nothing: only what the first half refused is passed over.
    let refused = Set(graph.nodes.indices.filter { ledger.isReported(graph.nodes[$0]) })
    for (index, node) in graph.nodes.enumerated() where !work.isFinished(index) {
      do throws(OperatorError) {
        try allowance.checkTime()
        work.begin(index)
        if refused.contains(index) {
          work.passOver()
        } else if !Self.isMapped(node) {
          ledger.isUnmapped(node)
          work.passOver()
        } else if work.readsUnknown(node) {
          work.passOver()
        } else {
          try Self.write(node, index, work)
        }
      } catch {
        try ledger.report(error, at: node)
        work.passOver()
      }
    }
    for value in graph.inputs where work.isUsed(value) {
      do throws(OperatorError) {
        try work.checkElements(value)
      } catch {
        try ledger.report(error, of: "Input", at: graph[value].name)
      }
    }
    try ledger.check()
    let inputs = try Self.interface(graph.inputs, "Input", work)
    let outputs = try Self.interface(graph.outputs, "Output", work)
    try ledger.check()
    let file = TFLiteFile(
      draft: work.draft, name: graph.name.isEmpty ? "main" : graph.name, description: "Written by Apus", inputs: inputs,
      outputs: outputs)
    var exported = ExportedModel(bytes: try file.bytes())
    (exported.notes, exported.operators) = (ledger.notes, work.draft.census)
    return exported
  }

  /// The tensors of inputs or outputs, by the names that callers use. Constants and inputs are outputs of their own.
  private static func interface(
    _ values: [ValueID], _ kind: String, _ work: TFLiteWork
  ) throws(LoadError) -> [(name: String, tensor: Int)] {
    var tensors: [(name: String, tensor: Int)] = []
    for value in values {
      let name = work.graph[value].name
      do throws(OperatorError) {
        tensors.append((name, try work.tensor(value)))
      } catch {
        try work.ledger.report(error, of: kind, at: name)
      }
    }
    return tensors
  }

  private static func write(_ node: Node, _ index: Int, _ work: TFLiteWork) throws(OperatorError) {
    switch node.op.description {
    case "QuantizeLinear": try work.quantize(node)
    case "DequantizeLinear": try work.dequantize(node)
    default:
      guard let lowering = TFLiteLowerings.all[node.op.description] else {
        throw .unsupported("images of three axes or more, and one result, were expected")
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
}
