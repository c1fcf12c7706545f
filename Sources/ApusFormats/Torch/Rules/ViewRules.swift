// Operators whose result shares the elements of their operand, with what writing to the result does to it.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let viewTable: [String: TorchViewRule] = [
    "view": reshapeView, "_unsafe_view": reshapeView, "reshape": reshapeView, "view_as": resultView,
    "reshape_as": resultView, "flatten": resultView, "unflatten": resultView, "ravel": resultView,
    "squeeze": squeezeView, "unsqueeze": unsqueezeView, "transpose": transposeView, "swapaxes": transposeView,
    "swapdims": transposeView, "permute": permuteView, "t": reversedView, "numpy_T": reversedView, "mT": matrixView,
    "matrix_H": matrixView, "adjoint": matrixView, "movedim": moveView, "moveaxis": moveView, "select": selectView,
    "slice": sliceView, "narrow": narrowView, "detach": aliasView, "alias": aliasView, "lift_fresh": aliasView,
    "contiguous": contiguousView, "view_as_real": aliasView, "view_as_complex": aliasView,
    "_reshape_alias": resultView, "atleast_1d": resultView, "atleast_2d": resultView, "atleast_3d": resultView,
    "diagonal": diagonalView, "_conj": aliasView, "conj": aliasView, "resolve_conj": aliasView,
    "resolve_neg": aliasView,
  ]

  static let partTable: [String: TorchPartsRule] = [
    "split": splitParts, "split_with_sizes": splitParts, "chunk": splitParts, "unsafe_split": splitParts,
    "unsafe_chunk": splitParts, "unsafe_split_with_sizes": splitParts, "tensor_split": splitParts,
    "unbind": unbindParts,
  ]

  private static func aliasView(_ call: TorchCall) throws(OperatorError) -> TorchView { .same }

  /// Shares the elements only where the operand lies in order already.
  private static func contiguousView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    var view = TorchView.same
    view.isCopy = !(call.meta("self")?.isContiguous ?? false)
    return view
  }

  /// The same elements in another shape: a copy, if the result lies in order and the operand does not.
  private static func shapeView(
    _ call: TorchCall, _ read: @escaping (ValueID) throws(OperatorError) -> ValueID
  ) -> TorchView {
    let isInOrder = call.meta("self")?.isContiguous ?? true
    let isView = call.op.rule == "view" || isInOrder || !(call.result()?.isContiguous ?? true)
    return TorchView(
      read: read,
      write: { (base, new) throws(OperatorError) in
        let shape = try call.layers.shape(base)
        return try call.layers.reshape(new, to: shape, symbolsOf: [base])
      }, isCopy: !isView)
  }

  private static func reshapeView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    if !call.has("shape"), !call.has("size") {
      throw .unsupported("the elements under another type", remedy: "Use .to(type), which converts them")
    }
    let sizes = try call.sizes(call.has("shape") ? "shape" : "size") ?? []
    return shapeView(call) { (value) throws(OperatorError) in try call.reshape(value, sizes) }
  }

  /// A reshape to what the program says of the result.
  private static func resultView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    if call.result() == nil, call.op.rule == "flatten" { return try flattenView(call) }
    return shapeView(call) { (value) throws(OperatorError) in try call.reshapeToResult(value) }
  }

  /// Axes from `start_dim` to `end_dim` as one, where the program does not say what comes of it.
  private static func flattenView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    if call.layers.builder.shape(try call.tensor(at: 0)) == nil, try call.int("end_dim", -1) == -1,
      (0...1).contains(try call.int("start_dim", 0))
    {
      // Of any rank: ONNX has the operator for a batch.
      let isBatch = try call.int("start_dim", 0) == 1
      return shapeView(call) { (value) throws(OperatorError) in
        isBatch
          ? try call.layers.emit("Flatten", [value], [("axis", .int(1))])
          : try call.layers.emit("Reshape", [value, call.layers.integers([-1])])
      }
    }
    let rank = try call.layers.rank(try call.tensor(at: 0))
    let (start, end) = (try call.axis("start_dim", of: rank, 0), try call.axis("end_dim", of: rank, -1))
    return shapeView(call) { (value) throws(OperatorError) in
      let shape = try call.layers.shape(value)
      if start >= end { return value }
      let tail = shape[(end + 1)...].map { $0.known ?? 0 }
      if tail.contains(0) { throw .unsupported("flatten before axes whose extents are not known") }
      return try call.layers.emit(
        "Reshape", [value, call.layers.integers([Int](repeating: 0, count: start) + [-1] + tail)])
    }
  }

  private static func squeezeView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let shape = try call.layers.shape(try call.tensor(at: 0))
    let asked = call.has("dim") ? try call.axes("dim", of: shape.count) : Array(shape.indices)
    let axes = asked.filter { $0 < shape.count && shape[$0].known == 1 }
    return TorchView(
      read: { (value) throws(OperatorError) in try call.layers.squeeze(value, axes) },
      write: { (_, new) throws(OperatorError) in try call.layers.unsqueeze(new, axes) })
  }

  private static func unsqueezeView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    let axis = try call.axis("dim", of: rank + 1)
    return TorchView(
      read: { (value) throws(OperatorError) in try call.layers.unsqueeze(value, [axis]) },
      write: { (_, new) throws(OperatorError) in try call.layers.squeeze(new, [axis]) })
  }

  // MARK: - Order of axes

  private static func order(_ permutation: [Int], _ call: TorchCall) -> TorchView {
    var inverse = permutation
    for (place, axis) in permutation.enumerated() { inverse[axis] = place }
    let back = inverse
    return TorchView(
      read: { (value) throws(OperatorError) in try call.layers.transpose(value, permutation) },
      write: { (_, new) throws(OperatorError) in try call.layers.transpose(new, back) })
  }

  private static func transposeView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    if rank == 0 { return .same }
    var permutation = Array(0..<rank)
    let name = call.has("dim0") ? "dim" : "axis"
    permutation.swapAt(try call.axis(name + "0", of: rank), try call.axis(name + "1", of: rank))
    return order(permutation, call)
  }

  private static func permuteView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    let permutation = rank == 0 ? [] : try call.axes("dims", of: rank)
    guard permutation.sorted() == Array(0..<rank) else { throw .invalid("dims should name each axis once") }
    return order(permutation, call)
  }

  private static func reversedView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    order(Array((0..<(try call.layers.rank(try call.tensor(at: 0)))).reversed()), call)
  }

  private static func matrixView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    guard rank >= 2 else { throw .invalid("a matrix was expected; the operand has \(rank) axes") }
    var permutation = Array(0..<rank)
    permutation.swapAt(rank - 2, rank - 1)
    return order(permutation, call)
  }

  private static func moveView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    let (from, to) = (try call.axes("source", of: rank), try call.axes("destination", of: rank))
    guard from.count == to.count, Set(from).count == from.count, Set(to).count == to.count else {
      throw .invalid("source and destination should name as many axes, each once")
    }
    var permutation = [Int](repeating: -1, count: rank)
    for (axis, place) in zip(from, to) { permutation[place] = axis }
    var rest = (0..<rank).filter { !from.contains($0) }
    for place in permutation.indices where permutation[place] < 0 { permutation[place] = rest.removeFirst() }
    return order(permutation, call)
  }

  // MARK: - Parts

  /// A part along an axis. Bounds are tensors of the shape [1].
  private static func part(
    _ axis: Int, from start: TorchSize, to end: TorchSize, step: Int, _ call: TorchCall
  ) -> TorchView {
    func slice(_ value: ValueID, _ start: ValueID, _ end: ValueID) throws(OperatorError) -> ValueID {
      let layers = call.layers
      return try layers.emit("Slice", [value, start, end, layers.integers([axis]), layers.integers([step])])
    }
    return TorchView(
      read: { (value) throws(OperatorError) in
        if try call.lowering.known(start) == 0, try call.lowering.known(end) == Int.max, step == 1 { return value }
        return try slice(value, try call.lowering.size(start), try call.lowering.size(end))
      },
      write: { (base, new) throws(OperatorError) in
        let layers = call.layers
        if step != 1 { return try scattered(base, new, axis, start, end, step, call) }
        // What stands before, the new part, and what stands behind.
        var pieces: [ValueID] = []
        let (first, last) = (try call.lowering.known(start), try call.lowering.known(end))
        if first != 0 { pieces.append(try slice(base, layers.integers([0]), try call.lowering.size(start))) }
        pieces.append(new)
        let extent = try layers.shape(base)[axis].known
        if last != Int.max, last == nil || extent == nil || last! < extent! {
          pieces.append(try slice(base, try call.lowering.size(end), layers.integers([Int.max])))
        }
        return try layers.concatenate(pieces, axis: axis)
      })
  }

  /// The base with every `step`-th element along an axis replaced.
  private static func scattered(
    _ base: ValueID, _ new: ValueID, _ axis: Int, _ start: TorchSize, _ end: TorchSize, _ step: Int, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let extent = try layers.extent(base, axis)
    guard var first = try call.lowering.known(start), var last = try call.lowering.known(end), step > 0 else {
      throw .unsupported("writing into every \(step)-th element between bounds that are not known")
    }
    first = min(max(first < 0 ? first + extent : first, 0), extent)
    last = min(max(last < 0 ? last + extent : last, 0), extent)
    let places = Array(stride(from: first, to: last, by: step))
    var permutation = Array(0..<(try layers.rank(base)))
    permutation.remove(at: axis)
    permutation.insert(axis, at: 0)
    let updates = try layers.transpose(new, permutation)
    let indices = try layers.reshape(layers.integers(places), [places.count, 1])
    let result = try layers.emit("ScatterND", [try layers.transpose(base, permutation), indices, updates])
    var inverse = permutation
    for (place, axis) in permutation.enumerated() { inverse[axis] = place }
    return try layers.transpose(result, inverse)
  }

  private static func bound(_ name: String, _ standard: Int, _ call: TorchCall) throws(OperatorError) -> TorchSize {
    try call.sizes(name)?.first ?? .number(standard)
  }

  private static func sliceView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    return part(
      try call.axis("dim", of: rank, 0), from: try bound("start", 0, call), to: try bound("end", Int.max, call),
      step: try call.int("step", 1), call)
  }

  private static func narrowView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let rank = try call.layers.rank(try call.tensor(at: 0))
    let axis = try call.axis("dim", of: rank)
    guard var start = try call.lowering.known(try bound("start", 0, call)),
      let length = try call.lowering.known(try bound("length", 0, call))
    else { throw .unsupported("a part with bounds that are not known") }
    if start < 0 { start += try call.layers.extent(try call.tensor(at: 0), axis) }
    let (end, overflows) = start.addingReportingOverflow(length)
    guard !overflows else { throw .invalid("a part of \(length) elements from \(start) on") }
    return part(axis, from: .number(start), to: .number(end), step: 1, call)
  }

  private static func selectView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let layers = call.layers
    let axis = try call.axis("dim", of: try layers.rank(try call.tensor(at: 0)))
    let index = try bound("index", 0, call)
    return element(axis, index, call)
  }

  /// One index of an axis, which goes.
  private static func element(_ axis: Int, _ index: TorchSize, _ call: TorchCall) -> TorchView {
    TorchView(
      read: { (value) throws(OperatorError) in
        let layers = call.layers
        let place = try layers.squeeze(try call.lowering.size(index), [0])
        return try layers.emit("Gather", [value, place], [("axis", .int(axis))])
      },
      write: { (base, new) throws(OperatorError) in
        guard let number = try call.lowering.known(index) else {
          throw .unsupported("writing to an index that is not known")
        }
        let end = number == -1 || number == Int.max ? Int.max : number + 1
        let view = part(axis, from: .number(number), to: .number(end), step: 1, call)
        return try view.write?(base, try call.layers.unsqueeze(new, [axis])) ?? base
      })
  }

  private static func diagonalView(_ call: TorchCall) throws(OperatorError) -> TorchView {
    let layers = call.layers
    let rank = try layers.rank(try call.tensor(at: 0))
    let (first, second) = (try call.axis("dim1", of: rank, 0), try call.axis("dim2", of: rank, 1))
    let offset = try call.int("offset", 0)
    return TorchView(
      read: { (value) throws(OperatorError) in
        try layers.diagonal(value, offset: offset, first: first, second: second)
      }, write: nil)
  }

  // MARK: - Lists of parts

  private static func splitParts(_ call: TorchCall, _ count: Int) throws(OperatorError) -> [TorchView] {
    let axis = try call.axis("dim", of: try call.layers.rank(try call.tensor(at: 0)), 0)
    var start = 0
    var views: [TorchView] = []
    for index in 0..<count {
      guard let extent = call.result(index)?.sizes[axis].known else {
        throw .unsupported("a list of views of which the extents are not known")
      }
      views.append(part(axis, from: .number(start), to: .number(start + extent), step: 1, call))
      start += extent
    }
    return views
  }

  private static func unbindParts(_ call: TorchCall, _ count: Int) throws(OperatorError) -> [TorchView] {
    let axis = try call.axis("dim", of: try call.layers.rank(try call.tensor(at: 0)), 0)
    return (0..<count).map { element(axis, .number($0), call) }
  }
}
