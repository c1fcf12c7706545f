// The rules of `TFLiteSimplification`: products of integers, which are computed on floats, and codes with scales that
// are found in a run.

import ApusGraph
import ApusTensor

extension TFLiteSimplification {
  static let integerProductRules: [String: Rule] = [
    "MatMulInteger": { (node, layers) throws(OperatorError) in
      let (a, b) = (try layers.operand(node), try layers.operand(node, 1))
      let depth = try layers.shape(a).last?.known
      noteSums(node, depth, layers)
      let rows = node.inputs.count > 2 ? node.inputs[2] : nil
      let columns = node.inputs.count > 3 ? node.inputs[3] : nil
      let product = try layers.emit(
        "MatMul", [centered(a, rows, behind: 1, layers), wide(b, columns, axis: layers.rank(b) - 1, layers)])
      return [try layers.cast(product, to: .int32)]
    },
    "ConvInteger": { (node, layers) throws(OperatorError) in
      let (x, w) = (try layers.operand(node), try layers.operand(node, 1))
      noteSums(node, try Array(layers.shape(w).dropFirst()).concrete?.checkedElementCount, layers)
      let zero = node.inputs.count > 2 ? node.inputs[2] : nil
      let zeros = node.inputs.count > 3 ? node.inputs[3] : nil
      let product = try layers.emit(
        "Conv", [centered(x, zero, behind: 0, layers), wide(w, zeros, axis: 0, layers)],
        node.attributes.entries.map { ($0.name, $0.value) })
      return [try layers.cast(product, to: .int32)]
    },
    "DynamicQuantizeLinear": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      let axes = Array(0..<(try layers.rank(x)))
      let most = try layers.emit("Max", layers.reduce("ReduceMax", x, axes: axes, keepsAxes: false), 0)
      let least = try layers.emit("Min", layers.reduce("ReduceMin", x, axes: axes, keepsAxes: false), 0)
      let range = try layers.emit("Div", layers.emit("Sub", [most, least]), 255)
      // Zeros alone have any scale.
      let scale = try layers.emit("Max", range, Double(Float.leastNormalMagnitude))
      let offset = try layers.emit("Round", [layers.emit("Div", [layers.emit("Neg", [least]), scale])])
      let zero = try layers.clip(offset, 0, 255)
      let codes = try layers.emit("Add", [layers.emit("Round", [layers.emit("Div", [x, scale])]), zero])
      return [try layers.cast(layers.clip(codes, 0, 255), to: .uint8), scale, try layers.cast(zero, to: .uint8)]
    },
    "IsInf": { (node, layers) throws(OperatorError) in
      let (facts, x) = (try layers.facts(node), try layers.operand(node))
      let (high, low) = (try facts.int("detect_positive") != 0, try facts.int("detect_negative") != 0)
      if high, low { return [try layers.emit("Equal", layers.emit("Abs", [x]), .infinity)] }
      if high || low { return [try layers.emit("Equal", x, high ? .infinity : -.infinity)] }
      return [try layers.emit("Not", [layers.emit("Equal", [x, x])])]
    },
    "BitwiseNot": { (node, layers) throws(OperatorError) in
      let x = try layers.operand(node)
      guard let type = layers.type(x), type.bits <= 32 else {
        throw .unsupported("integers of 64 bits are not written")
      }
      let ones = [.int8, .int16, .int32].contains(type) ? -1 : Double((1 << type.bits) - 1)
      return [try layers.emit("BitwiseXor", x, ones)]
    },
  ]

  /// From here on floats skip integers.
  private static let exactSums = 1 << 24
  private static let largestProduct = 255 * 255

  private static func noteSums(_ node: Node, _ count: Int?, _ layers: LayerBuilder) {
    if let count, count <= exactSums / largestProduct { return }
    layers.ledger.note("Sums of \(node.op.name) are computed on floats: those beyond 2^24 are rounded.")
  }

  /// Codes that are computed, without their zero point, as floats. A zero point for each row, of an operand whose
  /// rows have `behind` axes behind them, gets as many.
  private static func centered(
    _ x: ValueID, _ zero: ValueID?, behind: Int, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let floats = try layers.cast(x, to: .float32)
    guard let zero else { return floats }
    let point = try layers.cast(zero, to: .float32)
    let shape = try layers.shape(zero)
    guard shape.count == 1, shape[0].known != 1 else {
      return try layers.emit("Sub", [floats, shape.count == 1 ? layers.reshape(point, []) : point])
    }
    return try layers.emit("Sub", [floats, layers.reshape(point, [-1] + [Int](repeating: 1, count: behind))])
  }

  /// Weights as floats; constant ones stay integers in the file, with a scale of 1.
  private static func wide(
    _ w: ValueID, _ zero: ValueID?, axis: Int, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    guard layers.constant(w) != nil, zero == nil || layers.constant(zero) != nil else {
      let isWhole = try zero.map { (value) throws(OperatorError) in try layers.rank(value) == 0 } ?? true
      let isOne = try zero.map { (value) throws(OperatorError) in try layers.shape(value).first?.known == 1 } ?? false
      guard isWhole || isOne else { throw .unsupported("zero points of each channel should be constants") }
      return try centered(w, zero, behind: 0, layers)
    }
    let count = layers.constant(zero)?.count ?? 1
    let isOne = count == 1
    let scale = layers.constant(
      Tensor([Float](repeating: 1, count: count), shape: isOne ? [] : Shape([count])))
    let point = try zero.map { (value) throws(OperatorError) in isOne ? try layers.reshape(value, []) : value }
    return try layers.emit("DequantizeLinear", [w, scale, point], isOne ? [] : [("axis", .int(axis))])
  }
}
