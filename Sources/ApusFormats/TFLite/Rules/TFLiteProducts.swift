// Products of matrices, reductions and normalizations of TensorFlow Lite.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let products: [String: TFLiteRule] = [
    "FULLY_CONNECTED": TFLiteRule(.stored, fullyConnected), "BATCH_MATMUL": TFLiteRule(batchMatMul),
    "EMBEDDING_LOOKUP": TFLiteRule(.stored, embedding),
  ]

  /// Operands: values, weights [results, values], bias.
  private static func fullyConnected(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, weights) = (layer.layers, try layer.stored(1))
    guard try layer.choice(1) == 0 else {
      throw .unsupported("weights in the shuffled order are not supported", remedy: "Convert the model again")
    }
    let (rows, depth) = (try layers.extent(weights, 0), try layers.extent(weights, 1))
    let shape = try layers.shape(layer.stored(0))
    let keepsAxes = try layer.flag(2) && shape.count != 2
    noteActivations(layer, 0, weights: 1)
    let bias = try bias(layer, 2, of: (0, 1))
    if keepsAxes, try layer.output(0).quantization == nil, shape.last?.known == depth {
      let matrix = try layer.number(1, transposed: [1, 0])
      var result = try layers.emit("MatMul", [layer.number(0), matrix])
      if let bias { result = try layers.emit("Add", [result, bias]) }
      return [try layer.activated(result, layer.choice(0))]
    }
    let values = try flat(layer, depth, isFlat: shape.count == 2 && shape[1].known == depth)
    let gemm = try layers.emit("Gemm", [values, layer.number(1), bias], [("transB", .int(1))])
    let result = try layer.activated(gemm, layer.choice(0))
    if !keepsAxes { return [result] }
    return [try layers.reshape(result, to: shape.dropLast() + [Dim(rows)], symbolsOf: [layer.stored(0)])]
  }

  /// Operand 0 as rows of `depth` numbers.
  private static func flat(_ layer: TFLiteLayer, _ depth: Int, isFlat: Bool) throws(OperatorError) -> ValueID {
    if isFlat { return try layer.number(0) }
    let rows = try layer.layers.reshape(layer.stored(0), [-1, depth])
    return try layer.scope.number(rows, of: layer.tensor(0))
  }

  private static func batchMatMul(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    noteActivations(layer, 0, weights: 1)
    var factors: [ValueID?] = []
    for index in 0..<2 {
      let rank = try layer.layers.rank(layer.stored(index))
      guard try layer.flag(index), rank >= 2 else {
        factors.append(try layer.number(index))
        continue
      }
      factors.append(try layer.number(index, transposed: Array(0..<(rank - 2)) + [rank - 1, rank - 2]))
    }
    return [try layer.layers.emit("MatMul", factors)]
  }

  /// Rows of a table, which are decoded after they are chosen.
  private static func embedding(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, table) = (layer.layers, try layer.tensor(1))
    let rows = try layers.emit("Gather", [layer.stored(1), layer.stored(0)], [("axis", .int(0))])
    guard let quantization = table.quantization, try layer.output(0).quantization == nil else { return [rows] }
    if quantization.isWhole { return [try layer.scope.number(rows, of: table)] }
    return [try layers.emit("Gather", [layer.number(1), layer.stored(0)], [("axis", .int(0))])]
  }

  // MARK: - Reductions

  static let reductions: [String: TFLiteRule] = [
    "MEAN": reduction("ReduceMean"), "SUM": reduction("ReduceSum"), "REDUCE_PROD": reduction("ReduceProd"),
    "REDUCE_MAX": reduction("ReduceMax"), "REDUCE_MIN": reduction("ReduceMin"), "REDUCE_ANY": reduction("ReduceMax"),
    "REDUCE_ALL": reduction("ReduceMin"), "ARG_MAX": TFLiteRule(.stored, argMax),
    "ARG_MIN": TFLiteRule(.stored, argMin),
    "CUMSUM": TFLiteRule(cumulativeSum), "TOPK_V2": TFLiteRule(.moved, topK),
  ]

  private static func reduction(_ op: String) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in
      let (layers, x, keeps) = (layer.layers, try layer.input(0), try layer.flag(0))
      guard let axes = layers.integers(try layer.stored(1)) else {
        return [try layers.emit(op, [x, layer.longs(1)], [("keepdims", .int(keeps ? 1 : 0))])]
      }
      let rank = try layers.rank(x)
      // An axis may be named twice.
      let set = Set(try axes.map { (axis) throws(OperatorError) in try layer.axis(axis, rank: rank) })
      if set.isEmpty { return [x] }
      return [try layers.reduce(op, x, axes: set.sorted(), keepsAxes: keeps)]
    }
  }

  private static func argMax(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] { try extreme(layer, "ArgMax") }
  private static func argMin(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] { try extreme(layer, "ArgMin") }

  /// The first place of the largest or smallest element. Codes are in the order of their numbers.
  private static func extreme(_ layer: TFLiteLayer, _ op: String) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.stored(0))
    let axis = try layer.axis(layer.integer(1, "the axis"), rank: layers.rank(x))
    let place = try layers.emit(op, [x], [("axis", .int(axis)), ("keepdims", .int(0))])
    return [try layers.cast(place, to: layer.output(0).type ?? .int64)]
  }

  private static func cumulativeSum(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let attributes: [(String, AttributeValue)] = [
      ("exclusive", .int(try layer.flag(0) ? 1 : 0)), ("reverse", .int(try layer.flag(1) ? 1 : 0)),
    ]
    let axis = try layer.layers.constant(Tensor(scalar: Int64(layer.integer(1, "the axis"))))
    return [try layer.layers.emit("CumSum", [layer.input(0), axis], attributes)]
  }

  private static func topK(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let count = try layers.reshape(layer.longs(1), [1])
    let results = try layers.emit("TopK", [layer.input(0), count], [("axis", .int(-1))], outputs: 2)
    let type = layer.outputCount > 1 ? try layer.output(1).type ?? .int32 : .int32
    return [results[0], try layers.cast(results[1], to: type)]
  }

  // MARK: - Normalizations

  static let normalizations: [String: TFLiteRule] = [
    "SOFTMAX": TFLiteRule(softmax), "LOG_SOFTMAX": unary("LogSoftmax", [("axis", .int(-1))]),
    "L2_NORMALIZATION": TFLiteRule(unitLength), "LOCAL_RESPONSE_NORMALIZATION": TFLiteRule(localResponse),
  ]

  private static func softmax(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, beta) = (layer.layers, try layer.real(0))
    var x = try layer.input(0)
    if beta != 1 { x = try layers.emit("Mul", [x, layers.scalar(Double(beta), like: x)]) }
    return [try layers.emit("Softmax", [x], [("axis", .int(-1))])]
  }

  /// The least length that is divided by.
  private static let leastLength = 1e-6

  private static func unitLength(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let length = try layers.clip(layers.reduce("ReduceL2", x, axes: [-1], keepsAxes: true), leastLength, nil)
    return [try layers.emit("Div", [x, length])]
  }

  /// ONNX divides alpha by the number of channels that are summed.
  private static func localResponse(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, radius) = (layer.layers, try layer.option(0))
    guard radius >= 0, radius < 1 << 20 else { throw .invalid("the radius should not be negative; it is \(radius)") }
    let size = 2 * radius + 1
    let attributes: [(String, AttributeValue)] = [
      ("size", .int(size)), ("bias", .float(try layer.real(1))),
      ("alpha", .float(try layer.real(2) * Float(size))), ("beta", .float(try layer.real(3))),
    ]
    return [try layers.channelsLast(layers.emit("LRN", [layer.image()], attributes))]
  }
}
