// Normalizations as the arithmetic that they are; narrow floats are computed in float32.

import ApusGraph
import ApusTensor

let normalizationDerivatives: DerivativeTable = [
  "LayerNormalization": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let rank = try w.rank(x)
    let axes = Array(try resolveAxis(node.int("axis"), rank: rank)..<rank)
    let rows = try w.normalized(x, axes, Double(node.float("epsilon")))
    var y = try w.multiply(rows.values, w.widened(node.required(1)))
    if let bias = node.input(2) { y = try w.add(y, w.widened(bias)) }
    return try w.narrowed([y, rows.mean, rows.factor], for: node)
  },
  "RMSNormalization": .expansion { w, node throws(OperatorError) in
    let (x, scale) = (try w.widened(node.required(0)), try w.widened(node.required(1)))
    let rank = try w.rank(x)
    let axes = Array(try resolveAxis(node.int("axis"), rank: rank)..<rank)
    let meanSquare = try w.reduce("ReduceMean", w.square(x), axes)
    let root = try w.apply("Sqrt", [w.add(meanSquare, Double(node.float("epsilon")))])
    let rows = try w.cast(w.divide(x, root), to: w.type(scale))
    return try w.narrowed([w.multiply(rows, scale)], for: node)
  },
  "InstanceNormalization": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let rank = try w.rank(x)
    let planes = try w.normalized(x, Array(2..<rank), Double(node.float("epsilon")))
    return try w.narrowed([w.scaledByChannel(planes.values, node)], for: node)
  },
  "GroupNormalization": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let rank = try w.rank(x)
    let groups = w.ints([try node.int("num_groups")])
    let each = try w.divide(w.extent(x, 1), groups)
    var extents = [try w.extent(x, 0), groups, each]
    if rank > 2 { extents.append(try w.shapeOf(x, from: 2)) }
    let grouped = try w.reshape(x, w.join(extents))
    let normalized = try w.normalized(grouped, Array(2...rank), Double(node.float("epsilon")))
    return try w.narrowed([w.scaledByChannel(w.reshape(normalized.values, like: x), node)], for: node)
  },
  "BatchNormalization": .expansion(batchNormalization),
  "MeanVarianceNormalization": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let axes = try resolveAxes(node.ints("axes"), rank: w.rank(x))
    let centered = try w.subtract(x, w.reduce("ReduceMean", x, axes))
    let deviation = try w.apply("Sqrt", [w.reduce("ReduceMean", w.square(centered), axes)])
    return try w.narrowed([w.divide(centered, w.add(deviation, 1e-9))], for: node)
  },
  "LpNormalization": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let norm = try w.reduce(node.int("p") == 1 ? "ReduceL1" : "ReduceL2", x, [node.int("axis")])
    let divisor = try w.choose(w.test("Equal", norm, 0), w.scalar(1, like: norm), norm)
    return try w.narrowed([w.divide(x, divisor)], for: node)
  },
  "LRN": .expansion { w, node throws(OperatorError) in
    let x = try w.widened(node.required(0))
    let size = try node.int("size")
    // The channels as an axis of an image, over which a pool takes the mean of the squares.
    let shape = try w.join([w.extent(x, 0), w.ints([1]), w.extent(x, 1), w.ints([-1])])
    let image = try w.apply("Reshape", [w.square(x), shape])
    let mean = try w.apply(
      "AveragePool", [image],
      [
        ("kernel_shape", .ints([size, 1])), ("pads", .ints([(size - 1) / 2, 0, size / 2, 0])),
        ("count_include_pad", .int(1)),
      ])
    let base = try w.add(w.scale(w.reshape(mean, like: x), Double(node.float("alpha"))), Double(node.float("bias")))
    let factor = try w.apply("Pow", [base, w.scalar(-Double(node.float("beta")), like: x)])
    return try w.narrowed([w.multiply(x, factor)], for: node)
  },
]

extension DerivativeWriter {
  /// (x - mean) / √(variance + epsilon) over some axes, with the mean and one over the root.
  fileprivate mutating func normalized(
    _ x: ValueID, _ axes: [Int], _ epsilon: Double
  ) throws(OperatorError) -> (values: ValueID, mean: ValueID, factor: ValueID) {
    let mean = try reduce("ReduceMean", x, axes)
    let centered = try subtract(x, mean)
    let variance = try reduce("ReduceMean", square(centered), axes)
    let factor = try apply("Reciprocal", [apply("Sqrt", [add(variance, epsilon)])])
    return (try multiply(centered, factor), mean, factor)
  }

  /// A vector with one number a channel, in a shape that broadcasts to [N, C, …] of a rank.
  fileprivate mutating func byChannel(_ vector: ValueID, rank: Int) throws(OperatorError) -> ValueID {
    try unsqueeze(vector, Array(stride(from: 1, to: rank - 1, by: 1)))
  }

  /// x times the second input of a node plus the third, both by channel.
  fileprivate mutating func scaledByChannel(_ x: ValueID, _ node: Application) throws(OperatorError) -> ValueID {
    let rank = try rank(x)
    let scale = try byChannel(cast(node.required(1), to: type(x)), rank: rank)
    let bias = try byChannel(cast(node.required(2), to: type(x)), rank: rank)
    return try add(multiply(x, scale), bias)
  }

  /// The outputs in the types that those of the node have.
  fileprivate mutating func narrowed(_ outputs: [ValueID], for node: Application) throws(OperatorError) -> [ValueID?] {
    var narrowed: [ValueID?] = []
    for (position, value) in outputs.enumerated() where position < node.node.outputs.count {
      if let output = node.node.outputs[position] {
        narrowed.append(try cast(value, to: type(output)))
      } else {
        narrowed.append(nil)
      }
    }
    return narrowed
  }
}

/// With the statistics that the node is given, or in training with those of the batch.
private func batchNormalization(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let x = try w.widened(node.required(0))
  let rank = try w.rank(x)
  let epsilon = Double(try node.float("epsilon"))
  let type = try w.type(x)
  let given = (try w.cast(node.required(3), to: type), try w.cast(node.required(4), to: type))
  guard try node.bool("training_mode") else {
    let centered = try w.subtract(x, w.byChannel(given.0, rank: rank))
    let root = try w.apply("Sqrt", [w.add(given.1, epsilon)])
    return try w.narrowed([w.scaledByChannel(w.divide(centered, w.byChannel(root, rank: rank)), node)], for: node)
  }
  let axes = [0] + Array(stride(from: 2, to: rank, by: 1))
  let batch = try w.normalized(x, axes, epsilon)
  let centered = try w.subtract(x, batch.mean)
  let variance = try w.reduce("ReduceMean", w.square(centered), axes)
  let momentum = Double(try node.float("momentum"))
  var outputs = [try w.scaledByChannel(batch.values, node)]
  for (old, new) in [(given.0, batch.mean), (given.1, variance)] {
    outputs.append(try w.add(w.scale(old, momentum), w.scale(w.reshape(new, like: old), 1 - momentum)))
  }
  return try w.narrowed(outputs, for: node)
}
