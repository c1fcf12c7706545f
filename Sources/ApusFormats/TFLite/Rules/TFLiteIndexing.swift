// Operators of TensorFlow Lite that read and write by index: gathering, scattering, segments, random numbers.

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let indexing: [String: TFLiteRule] = [
    "GATHER": TFLiteRule(.moved, gather), "GATHER_ND": TFLiteRule(.moved, gatherND),
    "SCATTER_ND": TFLiteRule(.moved, scatterND), "ONE_HOT": TFLiteRule(.moved, oneHot),
    "WHERE": TFLiteRule(.stored, places), "UNIQUE": TFLiteRule(.stored, unique),
    "SPARSE_TO_DENSE": TFLiteRule(.moved, sparseToDense), "BUCKETIZE": TFLiteRule(bucketize),
  ]

  private static func gather(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x, indices) = (layer.layers, try layer.input(0), try layer.stored(1))
    let axis = try layer.axis(layer.option(0), rank: layers.rank(x))
    let batch = try layer.option(1)
    if batch == 0 { return [try layers.emit("Gather", [x, indices], [("axis", .int(axis))])] }
    let batches = batch < 0 ? batch + (try layers.rank(indices)) : batch
    guard batches >= 0, batches <= axis, batches <= (try layers.rank(indices)) else {
      throw .invalid("batch_dims should be at most the axis \(axis); it is \(batch)")
    }
    // The gathered axis comes to the batches, and what lay between goes behind the indices again.
    let rank = try layers.rank(x)
    let order = Array(0..<batches) + [axis] + (batches..<rank).filter { $0 != axis }
    let rows = try layers.unsqueeze(layers.cast(indices, to: .int64), [layers.rank(indices)])
    let found = try layers.emit(
      "GatherND", [layers.transpose(x, order), rows], [("batch_dims", .int(batches))])
    let indexAxes = try layers.rank(indices) - batches
    let between = axis - batches
    if between == 0 { return [found] }
    let first = batches + indexAxes
    let back =
      Array(0..<batches) + (first..<(first + between)) + Array(batches..<first)
      + Array((first + between)..<(try layers.rank(found)))
    return [try layers.transpose(found, back)]
  }

  private static func gatherND(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("GatherND", [layer.input(0), layer.longs(1)])]
  }

  /// Operands: indices, updates, shape. Updates of the same place add up.
  private static func scatterND(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, updates) = (layer.layers, try layer.input(1))
    if layer.form == .stored, try layer.tensor(1).quantization != nil {
      throw .unsupported("codes cannot add up")
    }
    let zeros = try layers.emit("Expand", [layers.scalar(0, like: updates), layer.longs(2)])
    return [
      try layers.emit("ScatterND", [zeros, layer.longs(0), updates], [("reduction", .string("add"))])
    ]
  }

  /// Operands: indices, depth, value at the index, value elsewhere. An index outside of the depth has none.
  private static func oneHot(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, indices) = (layer.layers, try layer.longs(0))
    let rank = try layers.rank(indices)
    let axis = try layer.axis(layer.option(0), rank: rank + 1)
    let zero = layers.constant(Tensor(scalar: Int64(0)))
    let one = layers.constant(Tensor(scalar: Int64(1)))
    let range = try layers.emit("Range", [zero, scalar(layer, layer.longs(1)), one])
    let column = try layers.unsqueeze(range, Array(1..<max(rank - axis + 1, 1)))
    let hits = try layers.emit("Equal", [try layers.unsqueeze(indices, [axis]), column])
    return [try layers.emit("Where", [hits, scalar(layer, layer.input(2)), scalar(layer, layer.input(3))])]
  }

  /// The places of the elements that are not zero, one in a row.
  private static func places(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let found = try layer.layers.emit("NonZero", [layer.stored(0)])
    return [try layer.layers.cast(layer.layers.transpose(found, [1, 0]), to: layer.output(0).type ?? .int64)]
  }

  private static func unique(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let results = try layers.emit("Unique", [layer.stored(0)], [("sorted", .int(0))], outputs: 3)
    return [results[0], try layers.cast(results[2], to: layer.output(1).type ?? .int32)]
  }

  /// Operands: indices, shape, values, what lies elsewhere.
  private static func sparseToDense(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let filling = try scalar(layer, layer.input(3))
    let base = try layers.emit("Expand", [filling, layer.longs(1)])
    var indices = try layer.longs(0)
    switch try layers.rank(indices) {
    case 0: indices = try layers.reshape(indices, [1, 1])
    case 1: indices = try layers.unsqueeze(indices, [1])
    default: break
    }
    var values = try layer.input(2)
    if try layers.rank(values) == 0 {
      let count = try layers.emit("Shape", [indices], [("start", .int(0)), ("end", .int(1))])
      values = try layers.emit("Expand", [values, count])
    }
    return [try layers.emit("ScatterND", [base, indices, values])]
  }

  /// How many of the boundaries are not above an element.
  private static func bucketize(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, x) = (layer.layers, try layer.input(0))
    let given = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.float32s(0) } ?? []
    let rank = try layers.rank(x)
    let bounds = layers.constant(Tensor(given))
    let column = try layers.unsqueeze(layers.cast(x, to: .float32), [rank])
    let passed = try layers.cast(layers.emit("GreaterOrEqual", [column, bounds]), to: .int32)
    return [try layers.reduce("ReduceSum", passed, axes: [rank], keepsAxes: false)]
  }

  // MARK: - Segments

  static let segments: [String: TFLiteRule] = [
    "SEGMENT_SUM": TFLiteRule(segmentSum), "UNSORTED_SEGMENT_SUM": segment("add", 0),
    "UNSORTED_SEGMENT_PROD": segment("mul", 1), "UNSORTED_SEGMENT_MAX": segment("max", nil),
    "UNSORTED_SEGMENT_MIN": segment("min", nil),
  ]

  /// Operands: rows, the segment of each, sorted. There are as many segments as the last one says.
  private static func segmentSum(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let layers = layer.layers
    let last = try layers.slice(layer.longs(1), from: [-1], to: [Int.max], axes: [0])
    let count = try layers.emit("Add", [last, layers.integers([1])])
    return [try segments(layer, count, "add", layers.scalar(0, like: layer.input(0)))]
  }

  /// Operands: rows, the segment of each, how many there are. `first` is what a segment without rows has; nil for the
  /// least or largest number of the type.
  private static func segment(_ reduction: String, _ first: Double?) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in
      let (layers, x) = (layer.layers, try layer.input(0))
      let count = try layers.reshape(layer.longs(2), [1])
      let start: ValueID
      if let first {
        start = try layers.scalar(first, like: x)
      } else if layers.type(x) == .int32 {
        start = layers.constant(Tensor(scalar: reduction == "max" ? Int32.min : Int32.max))
      } else {
        let bound = Double(Float.greatestFiniteMagnitude)
        start = try layers.scalar(reduction == "max" ? -bound : bound, like: x)
      }
      return [try segments(layer, count, reduction, start)]
    }
  }

  private static func segments(
    _ layer: TFLiteLayer, _ count: ValueID, _ reduction: String, _ start: ValueID
  ) throws(OperatorError) -> ValueID {
    let (layers, x) = (layer.layers, try layer.input(0))
    let rank = try layers.rank(layer.stored(1))
    var shape = count
    if try layers.rank(x) > rank {
      shape = try layers.concatenate([count, layers.emit("Shape", [x], [("start", .int(rank))])], axis: 0)
    }
    let base = try layers.emit("Expand", [start, shape])
    let rows = try layers.unsqueeze(layer.longs(1), [rank])
    return try layers.emit("ScatterND", [base, rows, x], [("reduction", .string(reduction))])
  }

  // MARK: - Random numbers

  static let random: [String: TFLiteRule] = [
    "RANDOM_UNIFORM": noise("RandomUniform"), "RANDOM_STANDARD_NORMAL": noise("RandomNormal"),
    "MULTINOMIAL": TFLiteRule(multinomial),
  ]

  /// The same distribution; the numbers are others.
  private static func noise(_ op: String) -> TFLiteRule {
    TFLiteRule(.stored) { (layer) throws(OperatorError) in
      let shape = try layer.integers(0, "the shape")
      return [try layer.layers.emit(op, [], [("shape", .ints(shape)), ("dtype", .int(1))])]
    }
  }

  private static func multinomial(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let type = try layer.output(0).type ?? .int64
    let count = try layer.integer(1, "the number of samples")
    return [
      try layer.layers.emit(
        "Multinomial", [layer.input(0)], [("sample_size", .int(count)), ("dtype", .int(Int(type.rawValue)))])
    ]
  }
}
