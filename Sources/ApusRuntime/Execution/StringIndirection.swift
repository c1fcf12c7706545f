// Moves strings with kernels that move numbers: the kernel works on the positions of the strings.

import ApusGraph
import ApusTensor

/// Runs a planned kernel of an operator with the trait `movesData` on tensors of int64 in place of strings, each
/// element the position of a string in the list of all input strings, and looks the results up.
struct StringIndirection: EagerKernel {
  let kernel: any Kernel
  let node: Node
  let registry: OperatorRegistry

  static func isNeeded(for node: Node, schema: OperatorSchema, graph: Graph) -> Bool {
    guard schema.traits.contains(.movesData) else { return false }
    return (node.inputs + node.outputs).contains { $0.map { graph.fact($0).tensor?.dataType == .string } ?? false }
  }

  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    // Position 0 is the empty string, which is also what a kernel writes where it fills with zeros.
    var pool: [String] = [""]
    var tensors: [Tensor?] = []
    for index in inputs.indices {
      guard inputs[index] != nil else {
        tensors.append(nil)
        continue
      }
      let tensor = try inputs.tensor(index)
      if let strings = tensor.strings {
        let positions = try context.allocate(.int64, tensor.shape)
        let target = positions.storage.base.assumingMemoryBound(to: Int.self)
        for index in 0..<strings.count { target[index] = pool.count + index }
        tensors.append(positions)
        try context.check(allocating: strings.count, of: MemoryLayout<String>.stride)
        pool += strings
      } else {
        tensors.append(tensor)
      }
    }
    let facts = zip(tensors, inputs).map { numbers, original -> ValueFact? in
      guard let numbers else { return nil }
      var fact = TensorFact(numbers)
      if original?.tensor?.dataType == .string { fact = TensorFact(.string, fact.shape) }
      return .tensor(fact)
    }
    let outer: (ValueID) -> ValueFact = { _ in .unknown }
    let inferred = try InferenceDriver(registry: registry).infer(
      node, inputs: facts, constants: tensors, outerFact: outer)
    var types: [TensorType?] = []
    for (index, fact) in inferred.enumerated() {
      guard node.outputs[index] != nil else {
        types.append(nil)
        continue
      }
      guard let fact = fact.tensor, let shape = fact.concreteShape else {
        throw .unsupported("the shape of output \(index) cannot be found for strings")
      }
      types.append(TensorType(fact.dataType == .string ? .int64 : fact.dataType, shape))
    }
    let outputs = try KernelRunner.run(kernel, inputs: tensors, outputTypes: types, allowance: context.allowance)
    var results: [Value?] = []
    for (index, output) in outputs.enumerated() {
      guard let output else {
        results.append(nil)
        continue
      }
      guard inferred[index].tensor?.dataType == .string else {
        results.append(.tensor(output))
        continue
      }
      try context.check(allocating: output.count, of: MemoryLayout<String>.stride)
      let positions = output.base.assumingMemoryBound(to: Int.self)
      let strings = (0..<output.count).map { pool[positions[$0]] }
      withExtendedLifetime(output) {}
      results.append(.tensor(try context.tensor(strings: strings, shape: output.shape)))
    }
    return results
  }
}
