// Computes nodes whose inputs are all constant.

import ApusGraph
import ApusTensor

struct ConstantFolding: GraphPass {
  let name: String
  /// Leaves transposes of large matrices, which a matrix product reads as they are, for later.
  let keepsTransposes: Bool

  init(keepsTransposes: Bool = false) {
    self.keepsTransposes = keepsTransposes
    name = keepsTransposes ? "fold-constants" : "fold-remaining-constants"
  }

  /// A result larger than this, and larger than all the inputs together, is left to be computed by every run.
  private static let maximumGrowth = 1 << 20

  func run(_ graph: inout Graph, registry: OperatorRegistry) throws(OperatorError) -> Int {
    var changes = 0
    var kept: [Node] = []
    for node in graph.nodes {
      if let results = fold(node, in: graph, registry: registry) {
        for (output, value) in zip(node.outputs, results) {
          guard let output, let tensor = value?.tensor else { continue }
          graph[output].constant = tensor
          graph[output].fact = .tensor(TensorFact(tensor))
        }
        changes += 1
      } else {
        kept.append(node)
      }
    }
    graph.nodes = kept
    return changes
  }

  /// The outputs of a node, or nil if it cannot or should not be computed now. A node that fails here is left to fail,
  /// with its full message, when it is prepared or run.
  private func fold(_ node: Node, in graph: Graph, registry: OperatorRegistry) -> [Value?]? {
    guard node.subgraphs.isEmpty, let definition = registry.definition(of: node.op),
      !definition.schema.traits.contains(.random)
    else { return nil }
    let inputs = node.inputs.map { graph.constant($0) }
    guard zip(node.inputs, inputs).allSatisfy({ $0 == nil || $1 != nil }) else { return nil }
    if keepsTransposes, node.op == OperatorID("Transpose"), inputs[0]?.rank == 2,
      inputs[0]?.byteCount ?? 0 > ConstantFolding.maximumGrowth
    {
      return nil
    }
    let facts = node.inputs.map { $0.map { graph.fact($0) } }
    let limit = max(ConstantFolding.maximumGrowth, inputs.reduce(0) { $0 + ($1?.byteCount ?? 0) })
    do throws(OperatorError) {
      let inferred = try InferenceDriver(registry: registry).infer(node, inputs: facts, constants: inputs) { _ in .unknown }
      let context = PrepareContext(
        node: node, schema: definition.schema, inputs: facts, outputs: inferred, constants: inputs)
      switch try definition.prepare(context) {
      case .planned(let kernel):
        var types: [TensorType?] = []
        for (output, fact) in zip(node.outputs, inferred) {
          guard output != nil else {
            types.append(nil)
            continue
          }
          guard let fact = fact.tensor, let shape = fact.concreteShape, fact.dataType != .string,
            let count = shape.checkedElementCount, let bytes = fact.dataType.byteCount(elements: count), bytes <= limit
          else { return nil }
          types.append(TensorType(fact.dataType, shape))
        }
        if inputs.contains(where: { $0?.dataType == .string }) { return nil }
        return try KernelRunner.run(kernel, inputs: inputs, outputTypes: types).map { $0.map { .tensor($0) } }
      case .eager(let kernel):
        let wanted = node.outputs.map { $0 != nil }
        let results = try kernel.execute(
          inputs.map { $0.map { .tensor($0) } }, SerialEagerContext(wantedOutputs: wanted, maximumBytes: limit))
        let areTensors = zip(wanted, results).allSatisfy { !$0 || $1?.tensor != nil }
        return areTensors ? results : nil
      }
    } catch {
      return nil
    }
  }
}
