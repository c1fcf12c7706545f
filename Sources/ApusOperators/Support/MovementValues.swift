// Known elements of small tensors that an operator moves: the kernel itself says where each one goes.

import ApusGraph
import ApusTensor

extension InferenceContext {
  /// Sets the known elements of every output that has a concrete shape, by running the operator's own kernel on
  /// positions in place of elements. Does nothing unless the elements of all inputs of the type variable `variable` are
  /// known, and those of all other inputs are numbers. Call it after types and shapes of the outputs are set.
  mutating func moveValues(of definition: some OperatorDefinition, variable: String = "T") {
    // Position 0 stands for the zero that kernels fill with.
    var pool: [Dim] = [0]
    var tensors: [Tensor?] = []
    var types: [TensorType?] = []
    for index in inputs.indices {
      guard isPresent(index) else {
        tensors.append(nil)
        types.append(nil)
        continue
      }
      let isData = schema.input(at: index)?.type == variable
      guard let type = type(index), let shape = shape(index)?.concrete, let values = values(index),
        values.count == shape.checkedElementCount, !isData || type.isInteger
      else { return }
      if isData {
        tensors.append(Tensor((0..<values.count).map { Int64(pool.count + $0) }, shape: shape))
        types.append(TensorType(.int64, shape))
        pool += values
      } else {
        guard let numbers = values.concrete?.dims, let tensor = Tensor(integers: numbers, type, shape) else { return }
        tensors.append(tensor)
        types.append(TensorType(type, shape))
      }
    }
    var outputTypes: [TensorType?] = []
    for output in outputs {
      guard let shape = output.tensor?.shape?.concrete, let count = shape.checkedElementCount,
        count <= TensorFact.maximumValues
      else { return }
      outputTypes.append(TensorType(.int64, shape))
    }
    guard let moved = try? run(definition, variable, tensors, types, outputTypes) else { return }
    for (index, tensor) in moved.enumerated() {
      guard let fact = outputs[index].tensor, let positions = tensor?.elements(as: Int.self) else { continue }
      set(index, fact.dataType, fact.shape, values: positions.map { pool[$0] })
    }
  }

  private func run(
    _ definition: some OperatorDefinition, _ variable: String, _ tensors: [Tensor?], _ types: [TensorType?],
    _ outputTypes: [TensorType?]
  ) throws(OperatorError) -> [Tensor?] {
    func facts(_ types: [TensorType?]) -> [ValueFact?] {
      types.map { $0.map { ValueFact.tensor($0.dataType, [Dim]($0.shape)) } }
    }
    let context = PrepareContext(
      node: node, schema: schema, inputs: facts(types), outputs: facts(outputTypes),
      constants: tensors.enumerated().map { schema.input(at: $0.offset)?.type == variable ? nil : $0.element })
    guard case .planned(let kernel) = try definition.prepare(context) else { throw .unsupported("eager") }
    return try KernelRunner.run(kernel, inputs: tensors, outputTypes: outputTypes, allowance: .unlimited)
  }

  /// Sets the known elements of output 0 to those of an input whose order stays the same.
  mutating func keepValues(ofInput input: Int = 0) {
    guard type(input)?.isInteger ?? false, let values = values(input), let fact = outputs.first?.tensor else { return }
    set(0, fact.dataType, fact.shape, values: values)
  }
}

extension Tensor {
  /// A tensor of an integer type that some operator takes for axes, indices or lengths; nil for other types.
  init?(integers: [Int], _ type: DataType, _ shape: Shape) {
    switch type {
    case .int64: self.init(integers, shape: shape)
    case .int32: self.init(integers.map { Int32(truncatingIfNeeded: $0) }, shape: shape)
    case .bool: self.init(integers.map { $0 != 0 }, shape: shape)
    default: return nil
    }
  }
}
