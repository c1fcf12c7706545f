// The rules of `Decomposition`: activations, comparisons, shapes, normalizations. Attention is in a file of its own.

import ApusGraph
import ApusTensor

extension Decomposition {
  static let rules: [String: Rule] = [
    "Attention": attention, "Celu": celu, "Clip": clip, "Einsum": einsum, "Gelu": gelu,
    "GreaterOrEqual": greaterOrEqual,
    "GroupNormalization": groupNormalization, "HardSwish": hardSwish, "LayerNormalization": layerNormalization,
    "LessOrEqual": lessOrEqual, "MeanVarianceNormalization": meanVariance, "Mish": mish,
    "RMSNormalization": rootMeanSquare, "Resize": ResizeDecomposition.rule, "RotaryEmbedding": rotaryEmbedding,
    "Shape": shape, "Swish": swish, "ThresholdedRelu": thresholdedRelu, "Trilu": triangle,
  ]

  // MARK: - Activations

  /// x * (1 + erf(x / sqrt 2)) / 2, or its approximation by tanh.
  private static let gelu: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let gate: ValueID
    if work.node.attributes.string("approximate") == "tanh" {
      let square = try work.add("Mul", x, x)
      let cube = try work.add("Mul", square, x)
      let small = try work.add("Mul", cube, work.scalar(0.044715, like: x))
      let sum = try work.add("Add", x, small)
      gate = try work.add("Tanh", work.add("Mul", sum, work.scalar((2 / Double.pi).squareRoot(), like: x)))
    } else {
      gate = try work.add("Erf", work.add("Mul", x, work.scalar(0.5.squareRoot(), like: x)))
    }
    let factor = try work.add("Add", gate, work.scalar(1, like: x))
    return [try work.add("Mul", work.add("Mul", x, work.scalar(0.5, like: x)), factor)]
  }

  private static let hardSwish: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let gate = try work.add("HardSigmoid", x, attributes: [("alpha", .float(1 / 6)), ("beta", .float(0.5))])
    return [try work.add("Mul", x, gate)]
  }

  private static let mish: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    return [try work.add("Mul", x, work.add("Tanh", work.add("Softplus", x)))]
  }

  private static let swish: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let alpha = Double(work.node.attributes.float("alpha") ?? 1)
    let scaled = alpha == 1 ? x : try work.add("Mul", x, work.scalar(alpha, like: x))
    return [try work.add("Mul", x, work.add("Sigmoid", scaled))]
  }

  private static let thresholdedRelu: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let bound = try work.scalar(Double(work.node.attributes.float("alpha") ?? 1), like: x)
    return [try work.add("Where", work.add("Greater", x, bound), x, work.scalar(0, like: x))]
  }

  private static let celu: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let alpha = work.node.attributes.float("alpha") ?? 1
    let factor = try work.scalar(Double(alpha), like: x)
    let bent = try work.add("Elu", work.add("Div", x, factor), attributes: [("alpha", .float(1))])
    return [try work.add("Mul", bent, factor)]
  }

  /// Bounds that are computed, or crossed: the upper one is what counts then.
  private static let clip: Rule = { (work) throws(OperatorError) in
    var result = try work.input(0)
    // Max and Min got integers when Clip did.
    guard try work.type(result).isFloat else { throw .unsupported("bounds of integers") }
    if work.isPresent(1) { result = try work.add("Max", result, work.input(1)) }
    if work.isPresent(2) { result = try work.add("Min", result, work.input(2)) }
    return [result]
  }

  // MARK: - Comparisons, types, shapes

  /// Not the negation of the other, which is true where an element is NaN.
  private static let greaterOrEqual: Rule = { (work) throws(OperatorError) in
    let (a, b) = (try work.input(0), try work.input(1))
    return [try work.add("Or", work.add("Greater", a, b), work.add("Equal", a, b))]
  }

  private static let lessOrEqual: Rule = { (work) throws(OperatorError) in
    let (a, b) = (try work.input(0), try work.input(1))
    return [try work.add("Or", work.add("Less", a, b), work.add("Equal", a, b))]
  }

  /// Some of the extents: those of all, and a slice.
  private static let shape: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let start = work.node.attributes.int("start") ?? 0
    let end = work.node.attributes.int("end") ?? Int(Int32.max)
    let all = try work.add("Shape", x)
    return [try work.add("Slice", all, work.integers([start]), work.integers([end]), work.integers([0]))]
  }

  /// Elements above or below a diagonal, by the numbers of rows and columns.
  private static let triangle: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let rank = try work.rank(x)
    guard rank >= 2 else { throw .unsupported("a matrix was expected") }
    func numbers(_ axis: Int) throws(OperatorError) -> ValueID {
      let extent = try work.add("Squeeze", work.extents(x, axis..<(axis + 1)), work.integers([0]))
      let zero = work.builder.addConstant(Tensor(scalar: Int64(0)))
      return try work.add("Range", zero, extent, work.builder.addConstant(Tensor(scalar: Int64(1))))
    }
    let rows = try work.add("Unsqueeze", numbers(rank - 2), work.integers([1]))
    let columns = try work.add("Unsqueeze", numbers(rank - 1), work.integers([0]))
    let diagonal = work.isPresent(1) ? try work.input(1) : work.builder.addConstant(Tensor(scalar: Int64(0)))
    let place = try work.add("Sub", columns, rows)
    let isUpper = work.node.attributes.int("upper") ?? 1 != 0
    let isOutside = try work.add(isUpper ? "Less" : "Greater", place, diagonal)
    return [try work.add("Where", isOutside, work.scalar(0, like: x), x)]
  }

  // MARK: - Normalizations

  /// The axes from the attribute `axis` on.
  private func normalizedAxes(_ x: ValueID) throws(OperatorError) -> [Int] {
    let rank = try rank(x)
    let axis = node.attributes.int("axis") ?? -1
    let first = axis < 0 ? axis + rank : axis
    guard first >= 0, first < rank else { throw .unsupported("axis \(axis) of a tensor of \(rank) axes") }
    return Array(first..<rank)
  }

  /// The type that statistics are computed in.
  private func stashType(_ x: ValueID) throws(OperatorError) -> DataType {
    let own = try type(x)
    return own == .float64 || node.attributes.int("stash_type") ?? 1 != 1 ? own : .float32
  }

  private mutating func mean(_ x: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    try add("ReduceMean", x, integers(axes), attributes: [("keepdims", .int(1))])
  }

  /// One over the root of the mean square of what has no mean, and a little.
  private mutating func inverseDeviation(_ centered: ValueID, _ axes: [Int]) throws(OperatorError) -> ValueID {
    let variance = try mean(add("Mul", centered, centered), axes)
    let epsilon = try scalar(Double(node.attributes.float("epsilon") ?? 1e-5), like: centered)
    return try add("Reciprocal", add("Sqrt", add("Add", variance, epsilon)))
  }

  private static let layerNormalization: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let axes = try work.normalizedAxes(x)
    let type = try work.type(x)
    let wide = try work.cast(x, to: work.stashType(x))
    let mean = try work.mean(wide, axes)
    let centered = try work.add("Sub", wide, mean)
    let deviation = try work.inverseDeviation(centered, axes)
    let normal = try work.cast(work.add("Mul", centered, deviation), to: type)
    var result = try work.add("Mul", normal, work.input(1))
    if work.isPresent(2) { result = try work.add("Add", result, work.input(2)) }
    return [result, work.isWanted(1) ? mean : nil, work.isWanted(2) ? deviation : nil]
  }

  private static let rootMeanSquare: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let axes = try work.normalizedAxes(x)
    let wide = try work.cast(x, to: work.stashType(x))
    let normal = try work.add("Mul", wide, work.inverseDeviation(wide, axes))
    let scale = try work.input(1)
    return [try work.add("Mul", work.cast(normal, to: work.type(scale)), scale)]
  }

  private static let meanVariance: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let axes = work.node.attributes.ints("axes") ?? [0, 2, 3]
    let mean = try work.mean(x, axes)
    let square = try work.add("Mul", mean, mean)
    let variance = try work.add("Sub", work.mean(work.add("Mul", x, x), axes), square)
    let deviation = try work.add("Add", work.add("Sqrt", variance), work.scalar(1e-9, like: x))
    return [try work.add("Div", work.add("Sub", x, mean), deviation)]
  }

  /// Groups as rows.
  private static let groupNormalization: Rule = { (work) throws(OperatorError) in
    let x = try work.input(0)
    let (rank, type) = (try work.rank(x), try work.type(x))
    guard let groups = work.node.attributes.int("num_groups"), groups > 0 else { throw .unsupported("no groups") }
    let wide = try work.cast(x, to: work.stashType(x))
    let rows = try work.add("Reshape", wide, work.integers([0, groups, -1]))
    let centered = try work.add("Sub", rows, work.mean(rows, [2]))
    let normal = try work.add("Mul", centered, work.inverseDeviation(centered, [2]))
    let images = try work.add("Reshape", work.cast(normal, to: type), work.extents(x, 0..<rank))
    // One number for each channel.
    let column = work.integers([-1] + [Int](repeating: 1, count: rank - 2))
    let scale = try work.add("Reshape", work.input(1), column)
    let bias = try work.add("Reshape", work.input(2), column)
    return [try work.add("Add", work.add("Mul", images, scale), bias)]
  }
}
