// Computes a node while a model is read or optimized.

import ApusTensor

extension InferenceDriver {
  /// The outputs of a node without subgraphs on constant inputs, each of at most `limit` bytes; nil if it cannot be
  /// computed. `facts` are those of the inputs; nil: the input is absent. The outputs are charged to `memory`.
  package func evaluate(
    _ node: Node, facts: [ValueFact?], constants inputs: [Tensor?], limit: Int, memory: Allowance
  ) -> [Value?]? {
    guard let definition = registry.definition(of: node.op) else { return nil }
    do throws(OperatorError) {
      let inferred = try infer(node, inputs: facts, constants: inputs) { _ in .unknown }
      let context = PrepareContext(
        node: node, schema: definition.schema, inputs: facts, outputs: inferred, constants: inputs,
        packedWeights: PackedWeights(allowance: memory))
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
        return try KernelRunner.run(
          kernel, inputs: inputs, outputTypes: types, allowance: memory,
          movesData: definition.schema.traits.contains(.movesData)
        ).map { $0.map { .tensor($0) } }
      case .eager(let kernel):
        let wanted = node.outputs.map { $0 != nil }
        let results = try kernel.execute(
          inputs.map { $0.map { .tensor($0) } }, SerialEagerContext(wantedOutputs: wanted, allowance: memory))
        for (isWanted, result) in zip(wanted, results) where isWanted {
          guard let tensor = result?.tensor,
            max(tensor.byteCount, TensorStorage.cost(of: tensor.storage.strings)) <= limit
          else { return nil }
          if !inputs.contains(where: { $0?.storage === tensor.storage }) { try memory.charge(.tensor(tensor)) }
        }
        return results
      }
    } catch {
      return nil
    }
  }
}
