// What fusions of quantized operators ask of a graph: what a DequantizeLinear reads, what a QuantizeLinear makes of a
// value, and the constants of a patch.

import ApusGraph
import ApusTensor

/// Sums of products of bytes that 32 bits hold; longer ones would wrap around, where floats do not.
enum ExactSum {
  static func holds(_ products: Int) -> Bool { products <= 1 << 14 }
  /// What a sum begins with.
  static func holds(start: Int32) -> Bool { start.magnitude <= 1 << 30 }
}

/// The constants of a patch under construction.
struct QuantizedPatch {
  private(set) var constants: [Tensor] = []

  /// A constant.
  mutating func add(_ tensor: Tensor) -> ValueID {
    constants.append(tensor)
    return GraphPatch.constant(constants.count - 1)
  }

  /// A zero point of 0.
  mutating func zero(_ type: DataType, count: Int? = nil) -> ValueID {
    add(Tensor(zeros: type, shape: count.map { [$0] } ?? []))
  }
}

/// What a DequantizeLinear reads.
struct Dequantized {
  let quantized: ValueID
  let type: DataType
  let scale: ValueID
  let zeroPoint: ValueID?
  /// One scale for the whole tensor.
  let isWhole: Bool
  /// The axis along which there are several, from the front.
  let axis: Int
  /// How many, if that is known.
  let scaleCount: Int?

  /// nil if `value` is not the result of a DequantizeLinear into float32 with scales for all or for one axis.
  init?(_ value: ValueID?, in graph: borrowing GraphEditor) {
    guard let (_, node) = graph.producer(of: value, is: "DequantizeLinear"), let quantized = node.inputs[0],
      let scale = node.inputs[1], let type = graph.dataType(quantized), [.int8, .uint8, .int32].contains(type),
      graph.dataType(scale) == .float32, graph.dataType(value) == .float32,
      node.attributes.int("block_size") ?? 0 == 0, let scales = graph.shape(scale), scales.count <= 1,
      let rank = graph.rank(quantized)
    else { return nil }
    (self.quantized, self.type, self.scale) = (quantized, type, scale)
    zeroPoint = node.inputs.count > 2 ? node.inputs[2] : nil
    scaleCount = scales.isEmpty ? 1 : scales[0].known
    isWhole = scaleCount == 1
    let axis = node.attributes.int("axis") ?? 1
    self.axis = axis < 0 ? axis + rank : axis
  }

  /// Tensor, scale and zero point, as operators on integers take them.
  func operands(_ patch: inout QuantizedPatch) -> [ValueID?] {
    [quantized, scale, zeroPoint ?? patch.zero(type, count: isWhole ? nil : scaleCount)]
  }

  /// True if scale and zero point are known.
  func isConstant(in graph: borrowing GraphEditor) -> Bool {
    graph.constant(scale) != nil && (zeroPoint == nil || graph.constant(zeroPoint) != nil)
  }

  /// True if this is a sum of products of `x` and `w`: scaled by the product of their scales, without a zero point.
  func isOfProduct(_ x: Dequantized, _ w: Dequantized, in graph: borrowing GraphEditor) -> Bool {
    guard let own = graph.constant(scale)?.elements(as: Float.self),
      let left = graph.constant(x.scale)?.elements(as: Float.self), left.count == 1,
      let right = graph.constant(w.scale)?.elements(as: Float.self), own.count == right.count || own.count == 1,
      zeroPoint == nil || graph.constant(zeroPoint)?.elements(as: Int32.self)?.allSatisfy({ $0 == 0 }) ?? false
    else { return false }
    return right.indices.allSatisfy { channel in
      let product = left[0] * right[channel]
      return abs(own[own.count == 1 ? 0 : channel] - product) <= 1e-6 * abs(product)
    }
  }
}

/// A QuantizeLinear into bytes with one scale.
struct QuantizedResult {
  let output: ValueID
  let type: DataType
  let scale: ValueID
  let zeroPoint: ValueID?
  /// The value that is quantized, or what a Relu before it reads.
  private let source: ValueID
  /// The Relu: what it cuts off lies below the zero point.
  let between: [NodeID]

  init?(_ root: NodeID, in graph: borrowing GraphEditor) {
    let node = graph[root]
    guard node.inputs.count >= 2, let source = node.inputs[0], let scale = node.inputs[1],
      let output = node.outputs.first ?? nil, let type = graph.dataType(output), type == .int8 || type == .uint8,
      graph.dataType(source) == .float32, graph.dataType(scale) == .float32,
      node.attributes.int("block_size") ?? 0 == 0, node.attributes.int("precision") ?? 0 == 0,
      let scales = graph.shape(scale), scales.count <= 1, scales.first?.known ?? 1 == 1
    else { return nil }
    (self.output, self.type, self.scale) = (output, type, scale)
    let zeroPoint = node.inputs.count > 2 ? node.inputs[2] : nil
    self.zeroPoint = zeroPoint
    let lowest = type == .uint8 ? 0 : -128
    // By a scale below 0 what a Relu cuts off would lie above.
    let isPositive = graph.constant(scale)?.elements(as: Float.self)?.allSatisfy { $0 > 0 } ?? false
    let isLowest = zeroPoint == nil ? type == .uint8 : graph.constant(zeroPoint)?.integers == [lowest]
    if isPositive, isLowest, let relu = graph.producer(of: source, is: "Relu"), let inner = relu.node.inputs[0] {
      (self.source, between) = (inner, [relu.position])
    } else {
      (self.source, between) = (source, [])
    }
  }

  func producer(is op: String, in graph: borrowing GraphEditor) -> (position: NodeID, node: Node)? {
    graph.producer(of: source, is: op)
  }
}
