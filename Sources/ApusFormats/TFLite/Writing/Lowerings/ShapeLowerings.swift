// Operators of ONNX that shape, move and choose elements, as operators of TensorFlow Lite.

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  static let shapes: [String: TFLiteLowering] = [
    "Reshape": TFLiteLowering(moved, integers: .keeps, data: 0..<1, reshape),
    "Transpose": TFLiteLowering(moved, integers: .keeps, transpose),
    // The schema has a place for an activation; kernels refuse one, or compute none.
    "Concat": TFLiteLowering(moved, integers: .keeps) { (node) throws(OperatorError) in
      let axis = try node.axis(node.int("axis"), rank: node.rank())
      try node.emit("CONCATENATION", node.operands(), [(0, .int(axis)), (1, .byte(0))])
    },
    "Expand": TFLiteLowering(moved, integers: .keeps, data: 0..<1, expand),
    "Tile": TFLiteLowering([.float32, .int32, .int64, .bool, .uint8], data: 0..<1) { (node) throws(OperatorError) in
      try node.emit("TILE", [node.operand(0), node.places(1)])
    },
    "Shape": TFLiteLowering(castableShapes) { (node) throws(OperatorError) in
      try node.emit("SHAPE", [node.operand(0)], [(0, .byte(4))])
    },
    "Pad": TFLiteLowering(
      [.float32, .int32, .int64, .int8, .uint8], integers: .keepsWhen { padsZeros($0) }, data: 0..<1, pad),
    "Range": TFLiteLowering(numbers) { (node) throws(OperatorError) in try node.emit("RANGE", node.operands()) },
  ]

  private static let castableShapes: [DataType] = moved + [.float16, .float64, .uint32, .uint16]

  private static func reshape(_ node: TFLiteNode) throws(OperatorError) {
    let result = try node.resultShape()
    // Nothing of a shape without axes would lie in the file.
    if result.isEmpty { return try node.emit("SQUEEZE", [node.operand(0)]) }
    guard result.count(where: { $0.known == nil }) <= 1 else {
      // A 0 that is found in a run would mean another extent.
      guard let values = node.work.graph.fact(try node.value(1)).tensor?.values, !values.contains(where: \.isUnknown)
      else {
        throw .unsupported("the shape should follow from those of the inputs; it is computed")
      }
      if let known = try node.work.graph.constant(node.value(1))?.integers, known.contains(0) {
        throw .unsupported("extents that are copied among open ones", remedy: "Give the symbols values with --dim")
      }
      return try node.emit("RESHAPE", [node.operand(0), node.places(1)])
    }
    let target = result.map { $0.known ?? -1 }
    try node.emit("RESHAPE", [node.operand(0), node.work.integers(target)], [(0, .ints(target))])
  }

  /// Only the shape changes where the axes of more than one element keep their order.
  private static func transpose(_ node: TFLiteNode) throws(OperatorError) {
    let shape = try node.shape()
    let order = node.optionalInts("perm") ?? Array((0..<shape.count).reversed())
    guard order.sorted() == Array(0..<shape.count) else { throw .invalid("perm is \(order)") }
    if shape.isEmpty { return try node.forward(node.operand(0)) }
    let wide = order.filter { shape[$0].known != 1 }
    let result = order.map { shape[$0] }
    if wide == wide.sorted(), result.count(where: { $0.known == nil }) <= 1 {
      let target = result.map { $0.known ?? -1 }
      return try node.emit("RESHAPE", [node.operand(0), node.work.integers(target)], [(0, .ints(target))])
    }
    guard shape.count <= 6 else {
      throw .unsupported("TensorFlow Lite moves 6 axes at most; there are \(shape.count)")
    }
    try node.emit("TRANSPOSE", [node.operand(0), node.work.integers(order)])
  }

  private static func expand(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, result) = (try node.shape(), try node.resultShape())
    if shape == result, shape.concrete != nil { return try node.forward(node.operand(0)) }
    if result.isEmpty { return try node.forward(node.operand(0)) }
    if let known = result.concrete {
      return try node.emit("BROADCAST_TO", [node.operand(0), node.work.integers(known.dims)])
    }
    if shape.isEmpty { return try node.emit("FILL", [node.places(1), node.operand(0)]) }
    let own = try node.step("SHAPE", [node.operand(0)], [Dim(shape.count)], [(0, .byte(2))], type: .int32)
    let target = try node.step("BROADCAST_ARGS", [own, node.places(1)], [Dim(result.count)], type: .int32)
    try node.emit("BROADCAST_TO", [node.operand(0), target])
  }

  // MARK: - Pads

  private static func padsZeros(_ node: NodeFacts) -> Bool {
    node.optionalString("mode") ?? "constant" != "constant" || !node.isPresent(2)
      || node.constant(2)?.elements(as: Float.self)?.first == 0
  }

  private static func pad(_ node: TFLiteNode) throws(OperatorError) {
    let rank = try node.rank()
    let given = try node.knownIntegers(1, "the pads")
    let axes = try node.has(3) ? node.knownIntegers(3, "the axes") : Array(0..<rank)
    guard given.count == 2 * axes.count, rank > 0 else { throw .invalid("two pads for each axis were expected") }
    var pads = [Int](repeating: 0, count: 2 * rank)
    for (index, axis) in axes.enumerated() {
      let place = try node.axis(axis, rank: rank)
      (pads[2 * place], pads[2 * place + 1]) = (given[index], given[axes.count + index])
    }
    guard pads.allSatisfy({ $0 >= 0 && $0 < 1 << 31 }) else { throw .unsupported("negative pads are not written") }
    let list = node.work.constant(Tensor(pads.map { Int32(clamping: $0) }, shape: [rank, 2]), "pads")
    guard rank <= 5 else { throw .unsupported("TensorFlow Lite pads 5 axes at most; there are \(rank)") }
    switch node.optionalString("mode") ?? "constant" {
    case "constant":
      guard node.has(2), !padsZeros(node.work.facts(of: node.node) ?? node.emptyFacts) else {
        return try node.emit("PAD", [node.operand(0), list])
      }
      guard let filling = node.constant(2), filling.count == 1 else {
        throw .unsupported("what is filled in should be one constant number")
      }
      try node.emit("PADV2", [node.operand(0), list, node.work.constant(filling.reshaped(to: []))])
    case "reflect": try node.emit("MIRROR_PAD", [node.operand(0), list], [(0, .byte(0))])
    case let mode: throw .unsupported("TensorFlow Lite has no pads of the kind '\(mode)'")
    }
  }

  // MARK: - Slices

  static let slices: [String: TFLiteLowering] = [
    "Slice": TFLiteLowering(moved, integers: .keeps, data: 0..<1, slice),
    "Split": TFLiteLowering(moved, integers: .keeps, data: 0..<1, split),
  ]

  private static func slice(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, result) = (try node.shape(), try node.resultShape())
    guard shape.count <= 5, !shape.isEmpty else {
      throw .unsupported("TensorFlow Lite slices 1 to 5 axes; there are \(shape.count)")
    }
    let (starts, ends) = (try node.knownIntegers(1, "the starts"), try node.knownIntegers(2, "the ends"))
    let axes = try node.has(3) ? node.knownIntegers(3, "the axes") : Array(starts.indices)
    let steps = try node.has(4) ? node.knownIntegers(4, "the steps") : [Int](repeating: 1, count: starts.count)
    guard ends.count == starts.count, axes.count == starts.count, steps.count == starts.count,
      steps.allSatisfy({ $0 != 0 })
    else { throw .invalid("as many starts, ends, axes and steps were expected") }
    if result.contains(where: { $0.known == 0 }) { throw .unsupported("a slice without elements is not written") }
    var begins = [Int](repeating: 0, count: shape.count)
    var stops = [Int](repeating: 0, count: shape.count)
    var strides = [Int](repeating: 1, count: shape.count)
    // Bits of axes that are whole at an end.
    var (beginMask, endMask) = ((1 << shape.count) - 1, (1 << shape.count) - 1)
    for (index, given) in axes.enumerated() {
      let axis = try node.axis(given, rank: shape.count)
      (begins[axis], stops[axis], strides[axis]) = (starts[index], ends[index], steps[index])
      (beginMask, endMask) = (beginMask & ~(1 << axis), endMask & ~(1 << axis))
      guard let extent = shape[axis].known else {
        let bound = Int(Int32.max) / 2
        if steps[index] < 0, starts[index] == -1 || starts[index] > bound, ends[index] < -bound {
          // The whole axis from its end.
          (beginMask, endMask) = (beginMask | 1 << axis, endMask | 1 << axis)
          continue
        }
        guard steps[index] > 0 else { throw .unsupported("the extent of an axis that is reversed should be known") }
        // Whatever lies beyond 32 bits is the end.
        if ends[index] > Int(Int32.max) / 2 { (endMask, stops[axis]) = (endMask | 1 << axis, 0) }
        begins[axis] = max(begins[axis], -Int(Int32.max) / 2)
        continue
      }
      let place = starts[index] < 0 ? max(starts[index], -extent) + extent : starts[index]
      var stop = ends[index] < 0 ? max(ends[index], -extent - 1) + extent : ends[index]
      if steps[index] > 0 {
        stop = min(max(stop, 0), extent)
        (begins[axis], stops[axis]) = (min(place, extent), stop)
      } else {
        begins[axis] = min(place, extent - 1)
        stops[axis] = max(stop, 0)
        if stop < 0 { endMask |= 1 << axis }
      }
    }
    try node.emit(
      "STRIDED_SLICE",
      [node.operand(0), node.work.integers(begins), node.work.integers(stops), node.work.integers(strides)],
      [(0, .int(beginMask)), (1, .int(endMask)), (2, .int(0)), (3, .int(0)), (4, .int(0))])
  }

  private static func split(_ node: TFLiteNode) throws(OperatorError) {
    let axis = try node.axis(node.int("axis"), rank: node.rank())
    var sizes: [Int] = []
    for output in node.node.outputs.indices {
      guard let size = try node.resultShape(output)[axis].known else {
        throw .unsupported("the sizes of the parts should be known")
      }
      sizes.append(size)
    }
    try node.emit(
      "SPLIT_V",
      [node.operand(0), node.work.integers(sizes), node.work.constant(Tensor(scalar: Int32(axis)))],
      [(0, .int(sizes.count))])
  }

  // MARK: - Indexing

  static let indexing: [String: TFLiteLowering] = [
    "Gather": TFLiteLowering(moved, integers: .keeps, data: 0..<1) { (node) throws(OperatorError) in
      let shape = try node.shape()
      let axis = try node.axis(node.int("axis"), rank: shape.count)
      try node.emit("GATHER", [node.operand(0), node.indices(1, below: shape[axis])], [(0, .int(axis))])
    },
    "GatherND": TFLiteLowering(moved, integers: .keeps, data: 0..<1) { (node) throws(OperatorError) in
      if node.optionalInt("batch_dims") ?? 0 != 0 { throw .unsupported("batches of indices are not written") }
      try node.emit("GATHER_ND", [node.operand(0), node.coordinates(1)])
    },
    "ScatterND": TFLiteLowering(scattered, data: 0..<0, scatter),
    "NonZero": TFLiteLowering([.bool, .float32, .int32, .int64, .int8, .uint8]) { (node) throws(OperatorError) in
      let result = try node.resultShape()
      guard result.count == 2, result[0].known ?? 0 > 0 else { throw .unsupported("a scalar has no places") }
      let places = try node.step("WHERE", [node.operand(0)], [result[1], result[0]])
      try node.emit("TRANSPOSE", [places, node.work.integers([1, 0])])
    },
    "ReverseSequence": TFLiteLowering([.float32, .uint8, .int16, .int32, .int64], data: 0..<1) {
      (node) throws(OperatorError) in
      let (time, batch) = (try node.int("time_axis"), try node.int("batch_axis"))
      try node.emit("REVERSE_SEQUENCE", node.operands(), [(0, .int(time)), (1, .int(batch))])
    },
    "OneHot": TFLiteLowering([.int32, .int64], data: 0..<1, oneHot),
  ]

  private static let scattered: [DataType] = [.float32, .int32, .int64, .int8, .uint8, .bool]

  /// Elements in a tensor of zeros, where the same place twice has the sum; and then those of the operand elsewhere.
  private static func scatter(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, places) = (try node.extents(), try node.extents(1))
    guard let depth = places.last, depth > 0, depth <= shape.count, !shape.isEmpty else {
      throw .invalid("indices of \(shape.count) axes at most were expected; their shape is \(places)")
    }
    let indices = try node.coordinates(1, type: .int32)
    let dims = shape.map { Dim($0) }
    let operands = [indices, try node.operand(2), node.work.integers(shape)]
    switch node.optionalString("reduction") ?? "none" {
    case "none": break
    case "add":
      guard numbers.contains(try node.type()) else { throw .unsupported("TensorFlow Lite adds no \(try node.type())") }
      let sums = try node.step("SCATTER_ND", operands, dims)
      return try node.emit("ADD", [node.operand(0), sums], [(0, .byte(0))])
    case let other: throw .unsupported("TensorFlow Lite has no reduction '\(other)' of what is scattered")
    }
    guard shape.count <= 5 || depth == shape.count else {
      throw .unsupported("TensorFlow Lite broadcasts 5 axes at most; there are \(shape.count)")
    }
    let fresh = try node.step("SCATTER_ND", operands, dims)
    let outer = Array(places.dropLast())
    guard let count = Shape(outer).checkedElementCount, count < 1 << 28 else {
      throw .unsupported("so many places are not written")
    }
    let ones = node.work.constant(Tensor([Int32](repeating: 1, count: count), shape: Shape(outer)), "ones")
    var mask = try node.step(
      "SCATTER_ND", [indices, ones, node.work.integers(Array(shape[..<depth]))], Array(dims[..<depth]), type: .int32)
    if depth < shape.count {
      let column = Array(shape[..<depth]) + [Int](repeating: 1, count: shape.count - depth)
      mask = try node.step(
        "RESHAPE", [mask, node.work.integers(column)], column.map { Dim($0) }, [(0, .ints(column))], type: .int32)
    }
    let zero = node.work.constant(Tensor(scalar: Int32(0)), "zero")
    let dimsOfMask = depth < shape.count ? dims[..<depth] + [Dim](repeating: 1, count: shape.count - depth) : dims[...]
    let isFresh = try node.step("NOT_EQUAL", [mask, zero], Array(dimsOfMask), type: .bool)
    try node.emit("SELECT_V2", [isFresh, fresh, node.operand(0)])
  }

  private static func oneHot(_ node: TFLiteNode) throws(OperatorError) {
    let rank = try node.rank()
    let axis = try node.axis(node.int("axis"), rank: rank + 1)
    guard let depth = try node.integers(1)?.first, let values = node.constant(2), values.count == 2,
      let type = Optional(values.dataType), numbers.contains(type)
    else { throw .unsupported("the depth and the values should be constants") }
    let ends = try (0..<2).map { (index) throws(OperatorError) in
      try node.work.element(index, of: values)
    }
    try node.emit(
      "ONE_HOT",
      [
        node.indices(0, below: Dim(depth)), node.work.constant(Tensor(scalar: Int32(clamping: depth))),
        node.work.constant(ends[1]), node.work.constant(ends[0]),
      ], [(0, .int(axis == rank ? -1 : axis))])
  }
}

extension TFLiteNode {
  var emptyFacts: NodeFacts { NodeFacts(node: node, schema: schema, inputs: [], outputs: [], constants: []) }

  /// Indices of an axis, those that count from its end made to count from its beginning.
  func indices(_ input: Int, below extent: Dim) throws(OperatorError) -> Int {
    if let constant = constant(input), let numbers = constant.integers {
      guard numbers.contains(where: { $0 < 0 }) else { return try operand(input) }
      guard let count = extent.known else {
        throw .unsupported("the extent of an axis should be known whose indices count from its end")
      }
      let shifted = numbers.map { Int32(clamping: $0 < 0 ? $0 + count : $0) }
      return work.constant(Tensor(shifted, shape: constant.shape), "indices")
    }
    if let known = try work.fact(value(input)).values, known.allSatisfy(\.isSurelyNonNegative) {
      return try operand(input)
    }
    guard let count = extent.known else { throw .unsupported("the extent of the axis of indices should be known") }
    let (type, dims) = (try type(input), try shape(input))
    let (zero, size) =
      type == .int64
      ? (Tensor(scalar: Int64(0)), Tensor(scalar: Int64(count)))
      : (Tensor(scalar: Int32(0)), Tensor(scalar: Int32(clamping: count)))
    let given = try operand(input)
    let isBehind = try step("LESS", [given, work.constant(zero)], dims, type: .bool)
    let shifted = try step("ADD", [given, work.constant(size)], dims, [(0, .byte(0))], type: type)
    return try step("SELECT_V2", [isBehind, shifted, given], dims, type: type)
  }

  /// Indices of several axes, as their last axis has them: those that count from an end made to count from a beginning,
  /// of 32 or 64 bits as they are, or of the type that is given.
  func coordinates(_ input: Int, type wanted: DataType? = nil) throws(OperatorError) -> Int {
    let (data, dims, own) = (try shape(0), try shape(input), try type(input))
    guard let depth = dims.last?.known, depth > 0, depth <= data.count else {
      throw .unsupported("the number of axes that are indexed should be known")
    }
    let extents = Array(data[..<depth])
    if let constant = constant(input), let given = constant.integers {
      var numbers: [Int] = []
      numbers.reserveCapacity(given.count)
      for (place, number) in given.enumerated() {
        guard number < 0 else {
          numbers.append(number)
          continue
        }
        guard let extent = extents[place % depth].known else {
          throw .unsupported("the extent of an axis should be known whose indices count from its end")
        }
        numbers.append(number + extent)
      }
      return work.constant(Tensor(numbers.map { Int32(clamping: $0) }, shape: constant.shape), "indices")
    }
    var tensor = try operand(input)
    if let wanted, wanted != own { tensor = try step("CAST", [tensor], dims, type: wanted) }
    if let known = try work.fact(value(input)).values, known.allSatisfy(\.isSurelyNonNegative) { return tensor }
    let sizes = try Self.numbers(extents)
    let type = wanted ?? own
    guard type == .int32 || type == .int64 else { throw .invalid("indices of \(type)") }
    let (zero, size) =
      type == .int64
      ? (Tensor(scalar: Int64(0)), Tensor(sizes.map { Int64($0) }))
      : (Tensor(scalar: Int32(0)), Tensor(sizes.map { Int32(clamping: $0) }))
    guard dims.count <= 4 || depth == 1 else {
      // More axes than the interpreter broadcasts: rows, and back again.
      let rows = try step("RESHAPE", [tensor, work.integers([-1, depth])], [.unknown, Dim(depth)], [], type: type)
      let moved = try wrapped(rows, [.unknown, Dim(depth)], type, zero, size)
      let target = dims.map { $0.known ?? -1 }
      guard target.count(where: { $0 < 0 }) <= 1 else { throw .unsupported("the shape of indices should be known") }
      return try step("RESHAPE", [moved, work.integers(target)], dims, [(0, .ints(target))], type: type)
    }
    return try wrapped(tensor, dims, type, zero, size)
  }

  private func wrapped(
    _ tensor: Int, _ dims: [Dim], _ type: DataType, _ zero: Tensor, _ size: Tensor
  ) throws(OperatorError) -> Int {
    let isBehind = try step("LESS", [tensor, work.constant(zero)], dims, type: .bool)
    let shifted = try step("ADD", [tensor, work.constant(size)], dims, [(0, .byte(0))], type: type)
    return try step("SELECT_V2", [isBehind, shifted, tensor], dims, type: type)
  }

  /// A tensor on the way whose operator follows.
  func tensor(_ name: String, _ dims: [Dim], type: DataType? = nil) throws(OperatorError) -> Int {
    let own = try type == nil ? resultType() : type
    return work.newTensor("\(node.name)/\(name)", own ?? .float32, dims)
  }
}

extension TFLiteWork {
  /// One element of a constant of one axis, as a scalar.
  func element(_ index: Int, of tensor: Tensor) throws(OperatorError) -> Tensor {
    let width = tensor.dataType.byteWidth
    guard width > 0, index < tensor.count else { throw .invalid("element \(index) of \(tensor.shape)") }
    return Tensor(
      dataType: tensor.dataType, shape: [], storage: tensor.storage, byteOffset: tensor.byteOffset + index * width)
  }
}
