// Computes nodes whose inputs are all constant.

import ApusGraph
import ApusTensor

struct ConstantFolding: GraphPass {
  let name: String
  /// Leaves transposes of large matrices, and their Casts from 16 bits to float32, for later: the fusion of a matrix
  /// product looks for these and reads what is before them. And transposes of matrices that others read as they are: a
  /// saved model would hold these twice.
  let keepsTransposes: Bool
  /// Leaves quantized weights as they are: their floats would make a saved model up to sixteen times as large.
  let keepsQuantized: Bool

  /// Quantized weights of so many elements or fewer are no weights.
  private let smallQuantized: Int

  init(keepsTransposes: Bool = false, keepsQuantized: Bool = false, smallQuantized: Int = smallMatrix) {
    (self.keepsTransposes, self.keepsQuantized) = (keepsTransposes, keepsQuantized)
    self.smallQuantized = smallQuantized
    name = keepsTransposes ? "fold-constants" : "fold-remaining-constants"
  }

  /// A result larger than this, and larger than all the inputs together by more than `maximumFactor`, is left to be
  /// computed by every run.
  private static let maximumGrowth = 1 << 20
  /// Elements of 4 bits that become float32.
  private static let maximumFactor = 8
  /// Matrices that are not worth to be kept: elements of 16 bits, bytes of shared ones.
  static let smallMatrix = 1 << 12

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for id in graph.nodes {
      try work.allowance.checkTime()
      let node = graph[id]
      guard let results = fold(node, in: graph, within: work), work.budget.take() else { continue }
      graph.remove(id)
      for (output, value) in zip(node.outputs, results) {
        if let output, let tensor = value?.tensor { graph.replace(output, withConstant: tensor) }
      }
      for case let input? in node.inputs { graph.forgetUnusedConstant(input) }
      changes += 1
    }
    return changes
  }

  /// The outputs of a node, or nil if it cannot or should not be computed now. A node that fails here is left to fail,
  /// with its full message, when it is prepared or run.
  private func fold(_ node: Node, in graph: borrowing GraphEditor, within work: OptimizerWork) -> [Value?]? {
    let registry = work.registry
    guard node.subgraphs.isEmpty, let definition = registry.definition(of: node.op),
      !definition.schema.traits.contains(.random)
    else { return nil }
    let inputs = node.inputs.map { graph.constant($0) }
    guard zip(node.inputs, inputs).allSatisfy({ $0 == nil || $1 != nil }) else { return nil }
    if keepsTransposes, let matrix = inputs.first ?? nil, matrix.rank == 2 {
      let isShared = node.inputs[0].map { graph.useCount(of: $0) > 1 } ?? false
      let largest = isShared ? ConstantFolding.smallMatrix : ConstantFolding.maximumGrowth
      if node.op == OperatorID("Transpose"), matrix.byteCount > largest { return nil }
      if node.widensHalves(matrix.dataType), matrix.byteCount > ConstantFolding.smallMatrix { return nil }
    }
    if keepsQuantized, node.op == OperatorID("DequantizeLinear"), let codes = inputs.first ?? nil,
      codes.count > smallQuantized
    {
      return nil
    }
    let facts = node.inputs.map { $0.map { graph.fact($0) } }
    let (grown, overflow) = inputs.reduce(0) { $0 &+ ($1?.byteCount ?? 0) }
      .multipliedReportingOverflow(by: ConstantFolding.maximumFactor)
    let limit = max(ConstantFolding.maximumGrowth, overflow ? .max : grown)
    return work.inference.evaluate(
      node, facts: facts, constants: inputs, limit: limit, memory: work.folding)
  }
}
