// Fourier transforms of TensorFlow Lite, whose complex numbers are pairs on a last axis here, and SVDF filters.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let signals: [String: TFLiteRule] = [
    "RFFT2D": TFLiteRule(.stored, fourier), "COMPLEX_ABS": TFLiteRule(.stored, magnitude),
    "REAL": TFLiteRule(.stored, realPart), "IMAG": TFLiteRule(.stored, imaginaryPart),
    "SVDF": TFLiteRule(.stored, filter),
  ]

  /// The operators whose rules take complex numbers as pairs on a last axis.
  static let complexReaders: Set<String> = [
    "CAST", "COMPLEX_ABS", "EXPAND_DIMS", "IMAG", "MUL", "RANK", "REAL", "RESHAPE", "SHAPE", "SQUEEZE", "TRANSPOSE",
  ]
  /// Those whose rules give them so.
  static let complexMakers: Set<String> = [
    "CAST", "EXPAND_DIMS", "MUL", "RESHAPE", "RFFT2D", "SQUEEZE", "TRANSPOSE",
  ]

  /// The extents behind a shape of complex numbers.
  static func complexAxis(_ layer: TFLiteLayer) throws(OperatorError) -> [Int] {
    try layer.tensor(0).type == .complex64 ? [2] : []
  }

  /// Operands: values, the lengths of the last two axes.
  private static func fourier(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.number(0))
    let lengths = try layer.integers(1, "the lengths")
    let rank = try layers.rank(x)
    guard lengths.count == 2, rank >= 2, lengths.allSatisfy({ $0 > 0 && $0 <= 1 << 28 }) else {
      throw .invalid("two lengths were expected; they are \(lengths)")
    }
    let rows = try transform(layer, layers.unsqueeze(x, [rank]), lengths[1], axis: rank - 1, isHalf: true)
    if lengths[0] == 1, try layers.extent(x, -2) == 1 { return [rows] }
    return [try transform(layer, rows, lengths[0], axis: rank - 2, isHalf: false)]
  }

  private static func transform(
    _ layer: TFLiteLayer, _ value: ValueID, _ length: Int, axis: Int, isHalf: Bool
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    let inputs = [
      value, layers.constant(Tensor(scalar: Int64(length))), layers.constant(Tensor(scalar: Int64(axis))),
    ]
    return try layers.emit("DFT", inputs, [("onesided", .int(isHalf ? 1 : 0))])
  }

  /// The real (0) or imaginary (1) parts of an operand.
  static func part(_ layer: TFLiteLayer, _ index: Int, of operand: Int = 0) throws(OperatorError) -> ValueID {
    let (layers, x) = (layer.layers, try layer.stored(operand))
    let rank = try layers.rank(x)
    guard try layer.tensor(operand).type == .complex64, rank > 0, try layers.extent(x, rank - 1) == 2 else {
      throw .unsupported("complex numbers that were transformed were expected")
    }
    return try layers.squeeze(layers.slice(x, from: [index], to: [index + 1], axes: [rank - 1]), [rank - 1])
  }

  /// The pairs of real and imaginary parts.
  private static func pairs(
    _ real: ValueID, _ imaginary: ValueID, _ layer: TFLiteLayer
  ) throws(OperatorError) -> ValueID {
    let (layers, rank) = (layer.layers, try layer.layers.rank(real))
    return try layers.concatenate(
      [layers.unsqueeze(real, [rank]), layers.unsqueeze(imaginary, [rank])], axis: rank)
  }

  /// Real numbers with imaginary parts of zero.
  static func complexNumbers(_ value: ValueID, _ layer: TFLiteLayer) throws(OperatorError) -> ValueID {
    let (layers, rank) = (layer.layers, try layer.layers.rank(value))
    let column = try layers.unsqueeze(layers.cast(value, to: .float32), [rank])
    return try layers.emit("Pad", [column, layers.integers([Int](repeating: 0, count: 2 * rank + 1) + [1])])
  }

  /// (a + bi) (c + di) = (ac - bd) + (ad + bc) i.
  static func complexProduct(_ layer: TFLiteLayer) throws(OperatorError) -> ValueID {
    if try layer.choice(0) != 0 { throw .unsupported("a fused activation of complex numbers is not supported") }
    let (layers, a, b) = (layer.layers, try part(layer, 0), try part(layer, 1))
    let (c, d) = (try part(layer, 0, of: 1), try part(layer, 1, of: 1))
    let real = try layers.emit("Sub", [layers.emit("Mul", [a, c]), layers.emit("Mul", [b, d])])
    let imaginary = try layers.emit("Add", [layers.emit("Mul", [a, d]), layers.emit("Mul", [b, c])])
    return try pairs(real, imaginary, layer)
  }

  private static func realPart(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] { [try part(layer, 0)] }
  private static func imaginaryPart(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] { [try part(layer, 1)] }

  private static func magnitude(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let x = try layer.stored(0)
    guard try layer.tensor(0).type == .complex64, layer.layers.type(x)?.isFloat ?? false else {
      throw .unsupported("complex numbers that were transformed were expected")
    }
    return [try layer.layers.reduce("ReduceL2", x, axes: [layer.layers.rank(x) - 1], keepsAxes: false)]
  }

  /// A filter over features, then one over time, of the first step: what came before is zero. Operands: values [batch,
  /// values], filters over values [filters, values] and over time [filters, steps], bias, state.
  private static func filter(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, rank) = (layer.layers, try layer.option(0))
    guard rank > 0, rank < 1 << 20 else { throw .invalid("a positive rank was expected; it is \(rank)") }
    let features = try layers.emit("Gemm", [layer.number(0), layer.number(1)], [("transB", .int(1))])
    // The newest step is the last one.
    let newest = try layers.slice(layer.number(2), from: [-1], to: [Int.max], axes: [1])
    let weighted = try layers.emit("Mul", [features, layers.transpose(newest, [1, 0])])
    let filters = try layers.extent(weighted, 1)
    guard filters % rank == 0 else { throw .mismatch("\(filters) filters cannot have the rank \(rank)") }
    let grouped = try layers.reshape(weighted, [-1, filters / rank, rank])
    var sums = try layers.reduce("ReduceSum", grouped, axes: [2], keepsAxes: false)
    if layer.has(3) { sums = try layers.emit("Add", [sums, layer.number(3)]) }
    layer.layers.ledger.note(
      "States of SVDF filters begin at zero in each run; TensorFlow Lite keeps them until they are reset.")
    return [try layer.activated(sums, layer.choice(1))]
  }
}
