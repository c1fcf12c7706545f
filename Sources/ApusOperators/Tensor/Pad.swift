// Pad: more elements, or fewer, at the ends of axes. https://onnx.ai/onnx/operators/onnx__Pad.html
// Versions: 1, 2 (paddings renamed to pads), 11 (inputs), 13 (all types), 18 (axes), 19 (wrap), 21, 23, 24, 25 (more
// types).

import ApusGraph
import ApusTensor

struct Pad: OperatorDefinition {
  let schema = OperatorSchema(
    "Pad", versions: [1, 2, 11, 13, 18, 19, 21, 23, 24, 25],
    inputs: [
      .required("data", "T"),
      .required("pads", "tensor(int64)", readWhenPlanning: true).since(11, before: .optional("pads", .ints)),
      .optional("constant_value", "T").since(11, before: .optional("value", .float)),
      .optional("axes", "Tind", readWhenPlanning: true).since(18),
    ],
    outputs: [.required("output", "T")],
    attributes: [.string("mode", default: "constant")],
    types: ["T": .stored, "Tind": .indices, "tensor(int64)": .int64], traits: .movesData,
    identity: .when { $0.integers(1)?.allSatisfy { $0 == 0 } ?? false }, layout: .axesInput(3), portable: .moreTypes,
    axes: AxisRules.pad)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version < 11 else { return }
    let name = version == 1 ? "paddings" : "pads"
    guard node.attributes.ints(name) != nil else { throw .invalid("attribute \(name) (ints) is missing") }
    node.makeInput(ofInts: name, at: 1, in: builder)
    guard case .float(let value)? = node.attributes.remove("value"), value != 0, let data = node.inputs[0] else {
      return
    }
    switch builder.type(data) {
    case .float32: node.setInput(2, builder.addConstant(Tensor(scalar: value)))
    case .float64: node.setInput(2, builder.addConstant(Tensor(scalar: Double(value))))
    case .float16: node.setInput(2, builder.addConstant(Tensor(scalar: Float16(value))))
    default:
      let constant = builder.addConstant(Tensor(scalar: value))
      let value = try builder.apply(OperatorID("CastLike"), name: node.name + "/value", [constant, data])
      node.setInput(2, value)
    }
  }

  /// The elements to add, or to remove if negative, before and after each axis.
  static func widths(
    _ pads: [Dim], axes: [Int]?, rank: Int
  ) throws(OperatorError) -> [(begin: Dim, end: Dim)] {
    var positions: [Int] = []
    for axis in axes ?? Array(0..<rank) { positions.append(try resolveAxis(axis, rank: rank, name: "axes")) }
    guard pads.count == 2 * positions.count else {
      throw .mismatch("\(pads.count) pads for \(positions.count) axes; expected \(2 * positions.count)")
    }
    guard Set(positions).count == positions.count else { throw .mismatch("axes \(positions) names an axis twice") }
    if let huge = pads.first(where: { $0.known?.magnitude ?? 0 > 1 << 48 }) { throw .mismatch("pads has \(huge)") }
    var result = [(begin: Dim, end: Dim)](repeating: (0, 0), count: rank)
    for (index, axis) in positions.enumerated() { result[axis] = (pads[index], pads[index + positions.count]) }
    return result
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    _ = try Mode.of(context)
    if let count = context.shape(2)?.product.known, count != 1 {
      throw .mismatch("constant_value has \(count) elements; expected one")
    }
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let axes: [Int]?
    switch context.axes(3) {
    case .absent: axes = nil
    case .known(let given): axes = given
    case .unknown: return context.set(0, context.type(0), .unknown(rank: shape.count))
    }
    guard let pads = context.values(1) else { return context.set(0, context.type(0), .unknown(rank: shape.count)) }
    let widths = try Pad.widths(pads, axes: axes, rank: shape.count)
    let padded = zip(shape, widths).map { $0 + $1.begin + $1.end }
    if padded.contains(where: { $0.known.map { $0 < 0 } ?? false }) {
      throw .mismatch("pads \(pads.text) take more than there is from the shape \(shape.text)")
    }
    context.set(0, context.type(0), padded)
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let mode = try Mode.of(context)
    return .moving { plan throws(OperatorError) in
      guard let input = plan.inputs[0], let pads = plan.integers(1) else { throw .invalid("data or pads is missing") }
      let widths = try Pad.widths(pads.map { Dim($0) }, axes: plan.integers(3), rank: input.shape.rank).map {
        (begin: $0.begin.known ?? 0, end: $0.end.known ?? 0)
      }
      let output = plan.outputShape(0)
      if output == input.shape, widths.allSatisfy({ $0.begin == 0 && $0.end == 0 }) { return .views([.init()]) }
      if mode == .constant {
        return try Pad.constant(input, output, widths: widths, value: plan.isPresent(2) ? .input(2) : .zeros)
      }
      if output.elementCount == 0 { return .copying([]) }
      guard output.dims.reduce(0, +) <= 1 << 28 else {
        throw OperatorError(.limit, "an output of the shape \(output) is too large for the mode \(mode.rawValue)")
      }
      var tables: [[Int]] = []
      for axis in output.indices {
        let (begin, end) = widths[axis]
        let first = max(0, -begin)
        let kept = input.shape[axis] - first - max(0, -end)
        guard kept > 0 else {
          throw .mismatch("axis \(axis) of the shape \(input.shape) is empty; only the mode constant can pad it")
        }
        tables.append((0..<output[axis]).map { first + mode.source(of: $0 - max(0, begin), extent: kept) })
      }
      return MovementTable(tables: tables, sourceShape: input.shape, width: input.dataType.byteWidth)
        .step(input: 0, output: output, name: "pad \(mode.rawValue)")
    }
  }

  /// The box of the input and, around it, for each axis the two boxes before and after it.
  private static func constant(
    _ input: TensorType, _ output: Shape, widths: [(begin: Int, end: Int)], value: MovementCopy.Source
  ) throws(OperatorError) -> Step {
    let width = input.dataType.byteWidth
    let (sourceStrides, targetStrides) = (input.shape.strides, output.strides)
    // What is copied, in positions of the output. Removing may reach beyond the input into what the other end adds.
    let box = output.indices.map { axis in
      let begin = min(max(0, widths[axis].begin), output[axis])
      return begin..<max(begin, output[axis] - max(0, widths[axis].end))
    }
    var copies: [MovementCopy] = []
    func add(_ ranges: [Range<Int>], isFill: Bool) throws(OperatorError) {
      if ranges.contains(where: \.isEmpty) { return }
      let target = zip(ranges, targetStrides).reduce(0) { $0 + $1.0.lowerBound * $1.1 }
      let source = zip(widths, sourceStrides).reduce(0) { $0 + max(0, -$1.0.begin) * $1.1 }
      copies.append(
        try MovementCopy(
          from: isFill ? value : .input(0), width: width, extents: ranges.map(\.count),
          sourceStrides: isFill ? ranges.map { _ in 0 } : sourceStrides, targetStrides: targetStrides,
          sourceOffset: isFill ? 0 : source, targetOffset: target))
    }
    try add(box, isFill: false)
    for axis in output.indices {
      // Axes before this one within the box, axes after it whole: every element belongs to one box.
      let before = box[..<axis]
      let after = output.indices[(axis + 1)...].map { 0..<output[$0] }
      try add(before + [0..<box[axis].lowerBound] + after, isFill: true)
      try add(before + [box[axis].upperBound..<output[axis]] + after, isFill: true)
    }
    return .copying(copies, name: "pad")
  }

  enum Mode: String, CaseIterable {
    case constant, reflect, edge, wrap

    static func of(_ context: some OperatorContext) throws(OperatorError) -> Mode {
      Mode(rawValue: try context.string("mode", oneOf: allCases.map(\.rawValue))) ?? .constant
    }

    /// The element of an axis of `extent` elements that stands at a position before, in or after it.
    func source(of position: Int, extent: Int) -> Int {
      switch self {
      case .constant, .edge: return min(max(position, 0), extent - 1)
      case .wrap:
        let rest = position % extent
        return rest < 0 ? rest + extent : rest
      case .reflect:
        if extent == 1 { return 0 }
        let period = 2 * (extent - 1)
        let rest = abs(position % period)
        return rest < extent ? rest : period - rest
      }
    }
  }
}
