// Products, distances and lengths of vectors of PyTorch, diagonals, and windows of signals.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let vectorTable: [String: TorchRule] = [
    "addr": addOuter, "linalg_cross": cross, "cross": cross, "linalg_det": determinant, "_linalg_det": determinant,
    "det": determinant, "dist": distance, "renorm": renorm, "pdist": pairDistances, "_pdist_forward": pairDistances,
    "_euclidean_dist": euclideanDistances, "diag": diagonalOrMatrix, "max_unpool2d": unpool,
    "hann_window": window([0.5, 0.5]), "hamming_window": window([0.54, 0.46]),
    "blackman_window": window([0.42, 0.5, 0.08]),
  ]

  /// `beta * self + alpha * vec1 vec2ᵀ`.
  private static func addOuter(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    let column = try layers.unsqueeze(try call.operand("vec1", as: type), [1])
    var product = try layers.emit("Mul", [column, try layers.unsqueeze(try call.operand("vec2", as: type), [0])])
    if let alpha = try call.number("alpha"), alpha.real != 1 {
      product = try layers.emit("Mul", [product, try call.constant(alpha, type)])
    }
    var own = try call.operand("self", as: type)
    if let beta = try call.number("beta"), beta.real != 1 {
      if beta.real == 0 { return [product] }
      own = try layers.emit("Mul", [own, try call.constant(beta, type)])
    }
    return [try layers.emit("Add", [own, product])]
  }

  private static func cross(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let type = try call.resultType()
    let (a, b) = (try call.operand("self", as: type), try call.operand("other", as: type))
    let rank = max(try layers.rank(a), try layers.rank(b))
    if call.op.rule == "cross", !call.has("dim") { throw .unsupported("a cross product without 'dim'") }
    let axis = try call.axis("dim", of: rank, -1)
    guard try layers.rank(a) == layers.rank(b), try layers.extent(a, axis) == 3, try layers.extent(b, axis) == 3 else {
      throw .invalid("vectors of three elements were expected along 'dim'")
    }
    let first = try layers.emit(
      "Mul", [try layers.rolled(a, axis: axis, by: -1), try layers.rolled(b, axis: axis, by: -2)])
    let second = try layers.emit(
      "Mul", [try layers.rolled(a, axis: axis, by: -2), try layers.rolled(b, axis: axis, by: -1)])
    return [try layers.emit("Sub", [first, second])]
  }

  private static func determinant(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    for index in 1..<3 where call.op.rule == "_linalg_det" && call.isUsed(index) {
      throw .unsupported("the factors of a matrix")
    }
    return [try call.layers.emit("Det", [try call.tensor(at: 0)])]
  }

  // MARK: - Distances

  /// The p-norm of vectors along an axis.
  private static func length(
    _ value: ValueID, _ order: Double, axes: [Int], keepsAxes: Bool = false, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    switch order {
    case 2: return try layers.reduce("ReduceL2", value, axes: axes, keepsAxes: keepsAxes)
    case 1: return try layers.reduce("ReduceL1", value, axes: axes, keepsAxes: keepsAxes)
    case .infinity:
      return try layers.reduce("ReduceMax", layers.emit("Abs", [value]), axes: axes, keepsAxes: keepsAxes)
    default:
      guard order > 0 else { throw .unsupported("a norm of the order \(order)") }
      let power = try layers.emit("Pow", [try layers.emit("Abs", [value]), try layers.scalar(order, like: value)])
      let sum = try layers.reduce("ReduceSum", power, axes: axes, keepsAxes: keepsAxes)
      return try layers.emit("Pow", [sum, try layers.scalar(1 / order, like: value)])
    }
  }

  private static func distance(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    let difference = try call.layers.emit(
      "Sub", [try call.operand("self", as: type), try call.operand("other", as: type)])
    let axes = Array(0..<(try call.layers.rank(difference)))
    return [try length(difference, try call.real("p", 2), axes: axes, call)]
  }

  /// Parts of which the norm is at most `maxnorm`: https://docs.pytorch.org/docs/stable/generated/torch.renorm.html
  private static func renorm(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let rank = try layers.rank(value)
    let axis = try call.axis("dim", of: rank)
    let norm = try length(
      value, try call.real("p"), axes: (0..<rank).filter { $0 != axis }, keepsAxes: true, call)
    let most = try layers.scalar(try call.real("maxnorm"), like: norm)
    let factor = try layers.emit("Div", [most, try layers.emit("Add", [norm, try layers.scalar(1e-7, like: norm)])])
    let isLong = try layers.emit("Greater", [norm, most])
    let scale = try layers.emit("Where", [isLong, factor, try layers.scalar(1, like: norm)])
    return [try layers.emit("Mul", [value, scale])]
  }

  /// The distances of all pairs of rows, each once.
  private static func pairDistances(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    guard try layers.rank(value) == 2 else { throw .invalid("a matrix was expected") }
    let count = try layers.extent(value, 0)
    guard count <= 4096 else { throw .unsupported("the distances of \(count) rows") }
    var (first, second): ([Int], [Int]) = ([], [])
    for row in 0..<count {
      for other in (row + 1)..<max(count, row + 1) {
        first.append(row)
        second.append(other)
      }
    }
    let a = try layers.emit("Gather", [value, layers.integers(first)], [("axis", .int(0))])
    let b = try layers.emit("Gather", [value, layers.integers(second)], [("axis", .int(0))])
    return [try length(try layers.emit("Sub", [a, b]), try call.real("p", 2), axes: [1], call)]
  }

  private static func euclideanDistances(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (a, b, layers) = (try call.tensor(at: 0), try call.tensor(at: 1), call.layers)
    let rank = try layers.rank(a)
    let difference = try layers.emit(
      "Sub", [try layers.unsqueeze(a, [rank - 1]), try layers.unsqueeze(b, [try layers.rank(b) - 2])])
    return [try length(difference, 2, axes: [rank], call)]
  }

  // MARK: - Shapes

  /// The diagonal of a matrix, or the matrix that has a vector there.
  private static func diagonalOrMatrix(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let offset = try call.int("diagonal", 0)
    if try layers.rank(value) == 2 { return [try layers.diagonal(value, offset: offset, first: 0, second: 1)] }
    return [try layers.matrix(ofDiagonal: value, offset: offset)]
  }

  /// Each element where it came from in its picture, zeros everywhere else.
  private static func unpool(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (value, layers) = (try call.tensor("self"), call.layers)
    let size = try call.ints("output_size")
    let rank = try layers.rank(value)
    guard size.count == 2, rank >= 3, size.allSatisfy({ (1...1 << 20).contains($0) }) else {
      throw .invalid("the argument 'output_size' should be two extents; it is \(size)")
    }
    let lead = [Int](repeating: 0, count: rank - 2)
    let row = layers.integers(lead + [-1])
    let elements = try layers.emit("Reshape", [value, row])
    let places = try layers.emit("Reshape", [try call.tensor("indices"), row])
    let shape = try layers.concatenate(
      [
        try layers.emit("Shape", [value], [("start", .int(0)), ("end", .int(rank - 2))]),
        layers.integers([size[0] * size[1]]),
      ], axis: 0)
    let empty = try layers.emit("Expand", [try layers.scalar(0, like: value), shape])
    let filled = try layers.emit("ScatterElements", [empty, places, elements], [("axis", .int(rank - 2))])
    return [try layers.emit("Reshape", [filled, layers.integers(lead + size)])]
  }

  /// Sums of cosines, with signs that change.
  private static func window(_ standard: [Double]) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      let length = try call.int("window_length")
      guard (1...1 << 24).contains(length) else { throw .invalid("a window of \(length) elements") }
      var parts = standard
      if let alpha = try call.number("alpha") { parts[0] = alpha.real }
      if let beta = try call.number("beta") { parts[1] = beta.real }
      let points = Double(try call.bool("periodic", true) ? length : max(length - 1, 1))
      let type = try call.resultType()
      if length == 1 { return [try layers.cast(layers.constant(Tensor([1.0])), to: type)] }
      var total: ValueID?
      for (index, part) in parts.enumerated() {
        let angles = (0..<length).map { 2 * Double.pi * Double(index) * Double($0) / points }
        let wave = try layers.emit("Cos", [layers.constant(Tensor(angles))])
        let term = try layers.emit("Mul", [wave, try layers.scalar(index % 2 == 0 ? part : -part, like: wave)])
        total = try total.map { (sum) throws(OperatorError) in try layers.emit("Add", [sum, term]) } ?? term
      }
      return [try total.map { (sum) throws(OperatorError) in try layers.cast(sum, to: type) }]
    }
  }
}
