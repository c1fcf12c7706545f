// Reads models in ONNX Runtime's own form (.ort): the messages of ONNX as one FlatBuffer, which then go the way of any
// ONNX model. https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html

import ApusContainers
import ApusGraph

package struct ORTImporter: ModelImporter {
  package let name = "ort"
  package let title = "ONNX Runtime"
  package let endings = ["ort"]
  /// None of its own: operators are those of ONNX.
  package let operators: [String] = []
  package let isTidied = false

  package init() {}

  package func recognizes(_ file: FileBytes) -> Bool { FlatBuffer.isIdentified(file, by: ORTSchema.identifier) }

  package func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    var unpack = ORTUnpack(limits: options.limits, account: options.allowance.memory)
    let proto = try unpack.model(file.view())
    let problems = Self.problems(unpack.foreign)
    if !problems.isEmpty, !options.keepsFaultyNodes { throw LoadError(problems: problems) }
    // The form has no place for names of side files.
    let external = ExternalDataFolder(nil, limits: options.limits)
    let decoder = TensorDecoder(
      file: file, external: external, limits: options.limits, account: options.allowance.memory)
    var imported = try ONNXReader.load(proto, decoder: decoder, registry: registry, options: options)
    if !problems.isEmpty { imported.problems = problems }
    imported.files = [file.reader].compactMap(\.self)
    imported.mapped = [file.mapping].compactMap(\.self)
    var report = ImportReport(source: "\(title), version \(unpack.version) of its form")
    proto.graph?.countOperators(&report.operators)
    imported.report = report
    return imported
  }

  /// Nodes of one kind that a problem names.
  private static let namedNodes = 5

  /// A problem for each kind of nodes that mean something on one machine only.
  private static func problems(_ nodes: [ORTUnpack.ForeignNode]) -> [ModelProblem] {
    var kinds: [(first: ORTUnpack.ForeignNode, names: [String])] = []
    var places: [String: Int] = [:]
    for node in nodes {
      if let place = places[node.kind] {
        kinds[place].names.append("'\(node.name)'")
      } else {
        places[node.kind] = kinds.count
        kinds.append((node, ["'\(node.name)'"]))
      }
    }
    return kinds.map { first, names in
      let rest = names.count > namedNodes ? " and \(names.count - namedNodes) more" : ""
      let which = names.prefix(namedNodes).joined(separator: ", ") + rest + (names.count == 1 ? " is" : " are")
      return ModelProblem(
        nodePath: "",
        reason: "an operator of ONNX was expected; \(first.kind), which \(which), "
          + (first.isCompiled
            ? "was compiled by an execution provider, and the file does not hold its code"
            : "takes operands in the order of the machine that optimized the model, which the file does not tell"),
        remedy: remedy)
    }
  }

  private static let remedy = """
    Make the file again without optimizations of the layout, for the CPU alone: with graph_optimization_level at \
    ORT_ENABLE_EXTENDED, or by `python -m onnxruntime.tools.convert_onnx_models_to_ort MODEL.onnx \
    --optimization_style Fixed`; or use the ONNX model that it was made from
    """
}

extension GraphProto {
  /// Adds how often each operator occurs, in graphs inside of nodes too.
  fileprivate func countOperators(_ counts: inout [String: Int]) {
    for node in nodes {
      counts[node.domain.isEmpty ? node.opType : "\(node.domain).\(node.opType)", default: 0] += 1
      for attribute in node.attributes {
        switch attribute.content {
        case .graph(let graph): graph.countOperators(&counts)
        case .graphs(let graphs): for graph in graphs { graph.countOperators(&counts) }
        default: break
        }
      }
    }
  }
}
