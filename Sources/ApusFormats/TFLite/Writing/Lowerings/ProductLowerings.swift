// Products of matrices, reductions and what normalizes, as operators of TensorFlow Lite.

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  static let products: [String: TFLiteLowering] = [
    "Gemm": TFLiteLowering(
      floats, integers: .product { $0.optionalInt("transB") ?? 0 != 0 ? 0 : 1 }, data: 0..<1, activation: 0, gemm),
    "MatMul": TFLiteLowering(
      floats, integers: .product { _ in 1 }, data: 0..<1, activation: 0, takesBias: true, matMul),
  ]

  /// The simplification has seen to factors, and to whatever is added that is no bias.
  private static func gemm(_ node: TFLiteNode) throws(OperatorError) {
    let isTransposed = node.optionalInt("transB") ?? 0 != 0
    let weights = try node.work.weights(
      node.value(1), isTransposed ? [0, 1] : [1, 0], isCoded: node.isCoded, node.node.name)
    guard let count = try node.shape(1)[isTransposed ? 0 : 1].known else {
      throw .unsupported("the number of results should be known")
    }
    try fullyConnected(node, weights, node.bias(2, weights, count: count))
  }

  private static func fullyConnected(
    _ node: TFLiteNode, _ weights: TFLiteWeights, _ bias: Int?
  ) throws(OperatorError) {
    let operands: [Int?] = [try node.operand(0), weights.tensor] + (bias.map { [$0] } ?? [])
    try node.emit(
      "FULLY_CONNECTED", operands, [(0, .byte(node.activation)), (1, .byte(0)), (2, .flag(node.rank() > 2))])
  }

  private static func matMul(_ node: TFLiteNode) throws(OperatorError) {
    let (a, b) = (try node.shape(0), try node.shape(1))
    let isConstant = try node.isConstant(1)
    if b.count == 2, a.count >= 2, isConstant {
      let weights = try node.work.weights(node.value(1), [1, 0], isCoded: node.isCoded, node.node.name)
      guard let count = b[1].known else { throw .unsupported("the number of results should be known") }
      let bias = try node.addedBias.map { (value) throws(OperatorError) in
        try node.bias(of: value, weights, count: count)
      }
      return try fullyConnected(node, weights, bias)
    }
    if node.isCoded { throw .inconsistency("a product of codes without weights") }
    guard a.count <= 5, b.count <= 5 else {
      throw .unsupported("TensorFlow Lite multiplies matrices of 5 axes at most; there are \(max(a.count, b.count))")
    }
    let options: [(Int, TFLiteOptions.Value)] = [(0, .flag(false)), (1, .flag(false))]
    if a.count > 1, b.count > 1 {
      if node.activation == 0 { return try node.emit("BATCH_MATMUL", node.operands(), options) }
      let product = try node.step("BATCH_MATMUL", node.operands(), node.resultShape(), options)
      return try node.emitActivation(of: product)
    }
    // A vector is a matrix of one row or column.
    var operands = try node.operands()
    var result = try node.resultShape()
    if a.count == 1 {
      operands[0] = try node.step("EXPAND_DIMS", [operands[0], node.work.constant(Tensor(scalar: Int32(0)))], [1] + a)
      result.insert(1, at: max(result.count - (b.count > 1 ? 1 : 0), 0))
    }
    if b.count == 1 {
      operands[1] = try node.step("EXPAND_DIMS", [operands[1], node.work.constant(Tensor(scalar: Int32(1)))], b + [1])
      result.append(1)
    }
    let product = try node.step("BATCH_MATMUL", operands, result, options)
    let rank = result.count
    let axes = (a.count == 1 ? [rank - 2] : []) + (b.count == 1 ? [rank - 1] : [])
    if node.activation == 0 { return try node.emit("SQUEEZE", [product], [(0, .ints(axes))]) }
    try node.emitActivation(of: node.step("SQUEEZE", [product], node.resultShape(), [(0, .ints(axes))]))
  }

  // MARK: - Reductions

  static let reductions: [String: TFLiteLowering] = [
    "ReduceMean": reduction("MEAN", [.float32, .int32, .int64], integers: .computes),
    "ReduceSum": reduction("SUM", numbers), "ReduceProd": reduction("REDUCE_PROD", numbers),
    "ReduceMax": reduction("REDUCE_MAX", numbers + [.bool], integers: .keeps, logical: "REDUCE_ANY"),
    "ReduceMin": reduction("REDUCE_MIN", numbers + [.bool], integers: .keeps, logical: "REDUCE_ALL"),
    "ArgMax": extreme("ARG_MAX"), "ArgMin": extreme("ARG_MIN"),
    "Softmax": along("SOFTMAX", [(0, .real(1))], .fixed(scale: 1.0 / 256, zeroPoint: -128)),
    "LogSoftmax": along("LOG_SOFTMAX", [], .fixed(scale: 16.0 / 256, zeroPoint: 127)),
    "CumSum": TFLiteLowering(numbers, data: 0..<1) { (node) throws(OperatorError) in
      let axis = try node.axis(node.knownIntegers(1, "the axis").first ?? 0, rank: node.rank())
      try node.emit(
        "CUMSUM", [node.operand(0), node.work.constant(Tensor(scalar: Int32(axis)))],
        [(0, .flag(node.int("exclusive") != 0)), (1, .flag(node.int("reverse") != 0))])
    },
    "TopK": TFLiteLowering([.float32, .int32, .int64], data: 0..<1, topK),
  ]

  private static func reduction(
    _ kind: String, _ types: [DataType], integers: TFLiteLowering.Integers = .none, logical: String? = nil
  ) -> TFLiteLowering {
    TFLiteLowering(types, integers: integers, data: 0..<1) { (node) throws(OperatorError) in
      let rank = try node.rank()
      var axes = try node.has(1) ? node.knownIntegers(1, "the axes") : []
      if axes.isEmpty {
        if node.optionalInt("noop_with_empty_axes") ?? 0 != 0 { return try node.forward(node.operand(0)) }
        axes = Array(0..<rank)
      }
      if rank == 0 { return try node.forward(node.operand(0)) }
      let resolved = try axes.map { (axis) throws(OperatorError) in try node.axis(axis, rank: rank) }
      let keeps = try node.int("keepdims") != 0
      let own = try node.type() == .bool ? (logical ?? kind) : kind
      try node.emit(own, [node.operand(0), node.work.integers(Array(Set(resolved)).sorted())], [(0, .flag(keeps))])
    }
  }

  private static func extreme(_ kind: String) -> TFLiteLowering {
    TFLiteLowering([.float32, .int32], integers: .none) { (node) throws(OperatorError) in
      if node.optionalInt("select_last_index") ?? 0 != 0 {
        throw .unsupported("TensorFlow Lite finds the first place, not the last one")
      }
      let shape = try node.shape()
      let axis = try node.axis(node.int("axis"), rank: shape.count)
      let place = node.work.constant(Tensor(scalar: Int32(axis)))
      let options: [(Int, TFLiteOptions.Value)] = [(0, .byte(4))]
      guard try node.int("keepdims") != 0 else { return try node.emit(kind, [node.operand(0), place], options) }
      var dims = shape
      dims.remove(at: axis)
      let found = try node.step(kind, [node.operand(0), place], dims, options)
      try node.emit("EXPAND_DIMS", [found, place])
    }
  }

  /// An operator along the last axis, to which another axis comes first.
  private static func along(
    _ kind: String, _ options: [(Int, TFLiteOptions.Value)], _ integers: TFLiteLowering.Integers
  ) -> TFLiteLowering {
    TFLiteLowering(floats, integers: integers) { (node) throws(OperatorError) in
      let shape = try node.shape()
      if shape.isEmpty { throw .unsupported("a scalar has no axes") }
      let axis = try node.axis(node.int("axis"), rank: shape.count)
      if axis == shape.count - 1 { return try node.emit(kind, [node.operand(0)], options) }
      let order = swapped(axis, shape.count)
      let dims = order.map { shape[$0] }
      let codes = node.isCoded ? try node.scale(0) : nil
      let moved = try node.step("TRANSPOSE", [node.operand(0), node.work.integers(order)], dims, quantization: codes)
      let result = try node.step(kind, [moved], dims, options)
      try node.emit("TRANSPOSE", [result, node.work.integers(order)])
    }
  }

  /// The order of axes in which an axis and the last one have changed places.
  private static func swapped(_ axis: Int, _ rank: Int) -> [Int] {
    var order = Array(0..<rank)
    order.swapAt(axis, rank - 1)
    return order
  }

  /// The largest along the last axis; places are of 32 bits.
  private static func topK(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, result) = (try node.shape(), try node.resultShape())
    let axis = try node.axis(node.int("axis"), rank: shape.count)
    let isLargest = try node.int("largest") != 0
    guard axis == shape.count - 1, node.node.outputs.count == 2 else {
      throw .unsupported("TensorFlow Lite finds the largest elements of the last axis only")
    }
    let count = try node.knownIntegers(1, "the number of elements").first ?? 1
    var x = try node.operand(0)
    if !isLargest { x = try node.step("NEG", [x], shape) }
    let values = try node.tensor("values", result)
    let places = try node.tensor("places", result, type: .int32)
    node.work.emit("TOPK_V2", [x, node.work.constant(Tensor(scalar: Int32(clamping: count)))], [values, places])
    if isLargest {
      try node.forward(values)
    } else {
      node.work.emit("NEG", [values], [try node.result(0)])
    }
    node.work.emit("CAST", [places], [try node.result(1)])
  }
}
