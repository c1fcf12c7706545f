// LSTM as the operator of TensorFlow Lite: a matrix for each gate, states that the interpreter keeps.
// https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/kernels/unidirectional_sequence_lstm.cc

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  static let recurrent: [String: TFLiteLowering] = ["LSTM": TFLiteLowering(floats, data: 0..<1, longShortTerm)]

  /// Where the gates of input, forgetting, cell and output stand in ONNX.
  private static let gateOrder = [0, 2, 3, 1]
  /// The same for peepholes, of which the cell has none.
  private static let peepholeOrder = [0, 2, 1]

  /// The simplification has left one direction from the beginning on, whose states are zeros at first.
  private static func longShortTerm(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, result) = (try node.shape(), try node.resultShape())
    let units = try node.extents(2)
    let width = try node.extents(1)
    guard shape.count == 3, result.count == 4, units.count == 3, width.count == 3, units[2] > 0, units[2] < 1 << 24,
      shape[1].known != nil, node.node.outputs.count == 1, !node.has(5), !node.has(6)
    else { throw .unsupported("an LSTM of one direction, with states of zero and a fixed batch, was expected") }
    let count = units[2]
    var operands: [Int?] = [try node.operand(0)]
    for gate in gateOrder { operands.append(try node.rows(1, gate * count, count, width[2])) }
    for gate in gateOrder { operands.append(try node.rows(2, gate * count, count, count)) }
    for gate in peepholeOrder { operands.append(node.has(7) ? try node.rows(7, gate * count, count, nil) : nil) }
    for gate in gateOrder { operands.append(try node.lstmBias(gate, count)) }
    // No projection.
    operands += [nil, nil]
    for state in ["hidden", "cell"] {
      operands.append(node.work.newVariable("\(node.node.name)/\(state)", [shape[1], Dim(count)]))
    }
    let options: [(Int, TFLiteOptions.Value)] = [(0, .byte(4)), (1, .real(0)), (2, .real(0)), (3, .flag(true))]
    let all = try node.step(
      "UNIDIRECTIONAL_SEQUENCE_LSTM", operands, [result[0], result[2], result[3]], options)
    try node.emit("EXPAND_DIMS", [all, node.work.constant(Tensor(scalar: Int32(1)))])
  }
}

extension TFLiteNode {
  /// Rows of an operand with an axis of directions, of which there is one, before: [count, columns], or [count].
  fileprivate func rows(
    _ input: Int, _ first: Int, _ count: Int, _ columns: Int?
  ) throws(OperatorError) -> Int {
    let width = columns ?? 1
    let dims = columns.map { [count, $0] } ?? [count]
    if let floats = constant(input)?.elements(as: Float.self) {
      let (start, end) = (first * width, (first + count) * width)
      guard end <= floats.count else { throw .invalid("input \(input) has \(floats.count) elements") }
      return work.wide(Tensor(Array(floats[start..<end]), shape: Shape(dims)), "\(node.name)/weights")
    }
    let rank = try rank(input)
    let ones = [Int](repeating: 1, count: rank)
    let begins = [0, first] + [Int](repeating: 0, count: max(rank - 2, 0))
    let ends = [1, first + count] + (columns.map { [$0] } ?? [])
    guard begins.count == rank, ends.count == rank else { throw .invalid("input \(input) has \(rank) axes") }
    // The axis of directions goes.
    return try step(
      "STRIDED_SLICE", [operand(input), work.integers(begins), work.integers(ends), work.integers(ones)],
      dims.map { Dim($0) }, [(0, .int(0)), (1, .int(0)), (2, .int(0)), (3, .int(0)), (4, .int(1))])
  }

  /// The bias of a gate: those of inputs and of states together.
  fileprivate func lstmBias(_ gate: Int, _ count: Int) throws(OperatorError) -> Int {
    guard has(3) else { return work.constant(Tensor([Float](repeating: 0, count: count)), "\(node.name)/bias") }
    if let floats = constant(3)?.elements(as: Float.self) {
      guard floats.count == 8 * count else { throw .invalid("a bias of \(8 * count) numbers was expected") }
      let sums = (0..<count).map { floats[gate * count + $0] + floats[(gate + 4) * count + $0] }
      return work.constant(Tensor(sums), "\(node.name)/bias")
    }
    let parts = try [gate, gate + 4].map { (part) throws(OperatorError) in try rows(3, part * count, count, nil) }
    return try step("ADD", parts, [Dim(count)], [(0, .byte(0))])
  }
}
