// Moves integers where a model moves the floats that they stand for: a node that rearranges elements between
// DequantizeLinear and QuantizeLinear with one scale and zero point rearranges what the former reads.

import ApusGraph
import ApusTensor

/// DequantizeLinear → Reshape, Transpose, Concat, … → QuantizeLinear, all with the same constants, becomes the operator
/// in the middle. Nothing is rounded: an integer of 16 bits less its zero point, multiplied by a scale and divided by
/// it, is nearest to itself.
struct QuantizedMovement: GraphPass {
  let name = "move-quantized"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    var changes = 0
    for node in graph.nodes {
      guard let movement = Movement(node, in: graph), work.budget.take() else { continue }
      movement.apply(to: &graph)
      changes += 1
    }
    return changes
  }
}

/// A node that rearranges dequantized tensors, whose results are quantized again and not needed otherwise.
private struct Movement {
  private let node: NodeID
  /// The positions of the inputs that are moved, and the integers that stand behind them.
  private var sources: [(position: Int, quantized: ValueID)] = []
  /// The nodes that quantize each output that is wanted.
  private var results: [(position: Int, quantizers: [NodeID])] = []

  init?(_ id: NodeID, in graph: borrowing GraphEditor) {
    node = id
    let node = graph[id]
    guard let schema = graph.schema(of: node.op), schema.traits.contains(.rearranges), let moved = schema.outputs.first
    else { return nil }
    var common: LinearCode?
    func isCommon(_ code: LinearCode?) -> Bool {
      guard let code, common ?? code == code else { return false }
      common = code
      return true
    }
    for (position, input) in node.inputs.enumerated() where schema.input(at: position)?.type == moved.type {
      guard let producer = graph.producer(of: input, is: "DequantizeLinear")?.node, let quantized = producer.inputs[0],
        isCommon(LinearCode(producer, of: quantized, in: graph))
      else { return nil }
      sources.append((position, quantized))
    }
    for (position, output) in node.outputs.enumerated() {
      guard let output else { continue }
      let users = graph.users(of: output)
      guard schema.output(at: position)?.type == moved.type, !users.isEmpty, !graph.isOutput(output) else { return nil }
      for user in users {
        let quantizer = graph[user]
        guard quantizer.op == OperatorID("QuantizeLinear"), quantizer.inputs.first == output,
          let result = quantizer.outputs[0], isCommon(LinearCode(quantizer, of: result, in: graph)),
          // It keeps its name only where the node itself writes it.
          users.count == 1 || !graph.isOutput(result)
        else { return nil }
      }
      results.append((position, users))
    }
    guard !sources.isEmpty, !results.isEmpty, let common,
      schema.types[moved.type]?.tensors.contains(common.type) ?? false
    else { return nil }
  }

  func apply(to graph: inout GraphEditor) {
    var outputs: [(position: Int, value: ValueID)] = []
    for (position, quantizers) in results {
      let values = quantizers.compactMap { graph[$0].outputs[0] }
      for quantizer in quantizers { graph.remove(quantizer) }
      for other in values.dropFirst() { graph.replaceUses(of: other, with: values[0]) }
      outputs.append((position, values[0]))
    }
    graph.update(node) { node in
      for (position, quantized) in sources { node.inputs[position] = quantized }
      for (position, value) in outputs { node.outputs[position] = value }
    }
  }
}

/// How integers stand for floats: all by one scale above 0 and one zero point, which are known.
private struct LinearCode: Equatable {
  let type: DataType
  private let scale: Float
  private let zeroPoint: Int

  /// Scales beyond these lose places, or all, of the products that they make.
  private static let scales: ClosedRange<Float> = 0x1p-100...0x1p100

  /// That of a DequantizeLinear or QuantizeLinear between float32 and the integers `quantized`; nil if there is none.
  init?(_ node: Node, of quantized: ValueID, in graph: borrowing GraphEditor) {
    guard let type = graph.dataType(quantized), [.int8, .uint8, .int16, .uint16].contains(type),
      node.attributes.int("block_size") ?? 0 == 0, node.attributes.int("precision") ?? 0 == 0,
      let scales = graph.constant(node.inputs[1])?.elements(as: Float.self), scales.count == 1,
      LinearCode.scales.contains(scales[0])
    else { return nil }
    (self.type, scale) = (type, scales[0])
    guard node.inputs.count > 2, let zero = node.inputs[2] else {
      zeroPoint = 0
      return
    }
    guard let zeros = graph.constant(zero)?.integers, zeros.count == 1 else { return nil }
    zeroPoint = zeros[0]
  }
}
