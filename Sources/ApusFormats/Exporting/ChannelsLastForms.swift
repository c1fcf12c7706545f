// Operators of images in the order that other frameworks have: batch, spatial axes, channels. They stand in graphs that
// are about to be written, where no pass but the movement of Transposes meets them; nothing runs them.

import ApusGraph
import ApusTensor

/// An operator whose first input, and whose outputs, have their channels last. All else that it is given (weights,
/// pads, sizes, scales) is in the order of ONNX.
package struct ChannelsLastForm: OperatorDefinition {
  /// The domain of these operators. No file may use it.
  package static let domain = "channels-last"

  package let schema: OperatorSchema
  private let base: any OperatorDefinition

  package init(of base: any OperatorDefinition) {
    let own = base.schema
    self.base = base
    schema = OperatorSchema(
      own.id.name, domain: Self.domain, versions: own.versions, inputs: own.inputs, outputs: own.outputs,
      attributes: own.attributes, types: own.types, traits: own.traits)
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    var inputs = context.inputs
    if let image = context.tensor(0) { inputs[0] = .tensor(image.dataType, image.shape.map(Self.planar)) }
    var constants = context.constants
    if !constants.isEmpty { constants[0] = nil }
    var inner = InferenceContext(
      node: context.node, schema: base.schema, inputs: inputs, constants: constants,
      inferSubgraph: { (_, _) throws(OperatorError) in
        throw .inconsistency("an operator of images has no graphs inside")
      })
    try base.infer(&inner)
    for (index, fact) in inner.outputs.enumerated() {
      guard let result = fact.tensor else { continue }
      context.set(index, result.dataType, result.shape.map(Self.channelsLast))
    }
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    throw .unsupported("\(schema.id) is a form for files and runs nowhere")
  }

  /// The extents of an image with its channels last, with the channels behind the batch.
  static func planar(_ shape: [Dim]) -> [Dim] {
    shape.count < 3 ? shape : [shape[0], shape[shape.count - 1]] + shape[1..<(shape.count - 1)]
  }

  static func channelsLast(_ shape: [Dim]) -> [Dim] {
    shape.count < 3 ? shape : [shape[0]] + shape[2...] + [shape[1]]
  }
}

extension OperatorRegistry {
  /// This registry, and the channels-last forms of these operators of ONNX.
  package func addingChannelsLastForms(of operators: Set<String>) -> OperatorRegistry {
    adding(operators.sorted().compactMap { definition(of: OperatorID($0)).map { ChannelsLastForm(of: $0) } })
  }
}

extension Graph {
  /// The graph with the channels-last forms of these operators, between Transposes, where their images have three axes
  /// or more. Nodes that cannot have such forms go to `ledger`; those that did before stay as they are.
  package func withChannelsLast(
    _ operators: Set<String>, _ inference: InferenceDriver, _ ledger: ExportLedger
  ) throws(LoadError) -> Graph {
    let builder = GraphBuilder(rewriting: self, inference: inference)
    for node in nodes {
      guard node.op.domain.isEmpty, operators.contains(node.op.name), let image = node.inputs.first ?? nil,
        let rank = builder.shape(image)?.count, rank >= 3, node.outputs.count == 1, let output = node.outputs[0],
        !ledger.isReported(node)
      else {
        builder.appendUnchecked(node)
        continue
      }
      let first = builder.graph.nodes.count
      do throws(OperatorError) {
        let last = [0] + Array(2..<rank) + [1]
        let moved = try builder.apply(
          OperatorID("Transpose"), name: "\(node.name)/channels-last", [image], [("perm", .ints(last))])
        var form = node
        form.op = OperatorID(node.op.name, domain: ChannelsLastForm.domain)
        let result = builder.addValue()
        (form.inputs[0], form.outputs) = (moved, [result])
        try builder.append(form)
        let planar = [0, rank - 1] + Array(1..<(rank - 1))
        try builder.append(
          Node(
            OperatorID("Transpose"), name: "\(node.name)/channels-first", inputs: [result], outputs: [output],
            attributes: Attributes([("perm", .ints(planar))])))
      } catch {
        _ = builder.takeNodes(from: first)
        try ledger.report(error, at: node)
        builder.appendUnchecked(node)
      }
    }
    return builder.graph
  }
}
