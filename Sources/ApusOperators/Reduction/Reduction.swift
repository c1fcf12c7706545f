// The reductions: one number from many along some axes. https://onnx.ai/onnx/operators/onnx__ReduceSum.html
// Versions: 1, 11 (negative axes), 12 (8 bits, max and min), 13 (bfloat16; axes as input for ReduceSum), 18 (axes as
// input), 20 (bool, max and min), 28 (no integers, log).

import ApusGraph
import ApusTensor
import CApusKernels

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A family of operators that differ in what they do with the elements of one output.
///
/// Floats are summed in float32 or float64 with totals in float64; integers wrap. The reduction of nothing is 0 for
/// sums, 1 for products, the least or greatest value for maxima and minima, NaN for means (in integers what a cast of
/// NaN gives), and minus infinity for logarithms. NaN wins in maxima and minima.
struct Reduction: OperatorDefinition {
  enum Kind: String {
    case sum = "ReduceSum"
    case mean = "ReduceMean"
    case maximum = "ReduceMax"
    case minimum = "ReduceMin"
    case product = "ReduceProd"
    case l1 = "ReduceL1"
    case l2 = "ReduceL2"
    case sumSquare = "ReduceSumSquare"
    case logSum = "ReduceLogSum"
    case logSumExp = "ReduceLogSumExp"

    var fold: Fold {
      switch self {
      case .sum, .mean, .logSum, .logSumExp: .sum
      case .maximum: .maximum
      case .minimum: .minimum
      case .product: .product
      case .l1: .sumOfMagnitudes
      case .l2, .sumSquare: .sumOfSquares
      }
    }

    /// True if the reduction of one element is that element.
    var keepsSingle: Bool { [.sum, .mean, .maximum, .minimum, .product].contains(self) }
  }

  let schema: OperatorSchema
  private let kind: Kind
  /// The version in which axes became an input.
  private let axesAreInputSince: Int

  static let all: [Reduction] = [
    Reduction(.sum, [1, 11, 13], axesAreInputSince: 13), Reduction(.mean, [1, 11, 13, 18]),
    Reduction(.maximum, [1, 11, 12, 13, 18, 20], extra: [.int8, .uint8, .bool]),
    Reduction(.minimum, [1, 11, 12, 13, 18, 20], extra: [.int8, .uint8, .bool]), Reduction(.product, [1, 11, 13, 18]),
    Reduction(.l1, [1, 11, 13, 18]), Reduction(.l2, [1, 11, 13, 18]), Reduction(.sumSquare, [1, 11, 13, 18]),
    Reduction(.logSum, [1, 11, 13, 18, 28], typesBefore: logTypes),
    Reduction(.logSumExp, [1, 11, 13, 18, 28], typesBefore: logTypes),
  ]

  /// Before version 28 logarithms were allowed of these, and of types that are none any more.
  private static let logTypes: TypeSet = [.float16, .float32, .float64, .int64]

  private init(
    _ kind: Kind, _ versions: [Int], axesAreInputSince: Int = 18, extra: TypeSet = [],
    typesBefore: TypeSet = .beforeNarrowTypes
  ) {
    self.kind = kind
    self.axesAreInputSince = axesAreInputSince
    schema = OperatorSchema(
      kind.rawValue, versions: versions,
      inputs: [
        .required("data", "T"),
        .optional("axes", "tensor(int64)", readWhenPlanning: true).since(
          axesAreInputSince, before: .optional("axes", .ints)),
      ],
      outputs: [.required("reduced", "T")],
      attributes: [
        .int("keepdims", default: 1), .int("noop_with_empty_axes", default: 0).since(axesAreInputSince),
      ],
      types: ["T": .floats + [.int32, .int64, .uint32, .uint64] + extra, "tensor(int64)": .int64],
      traits: kind == .maximum || kind == .minimum ? [] : .isSensitive, layout: .reducing,
      portable: .moreTypes(than: typesBefore),
      codes: kind == .mean ? .computes : [.maximum, .minimum].contains(kind) ? .keeps : CodeTrait.none)
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < axesAreInputSince { node.makeInput(ofInts: "axes", at: 1, in: builder) }
  }

  /// The reduced axes for given ones, which may be none.
  private static func resolved(_ axes: [Int]?, rank: Int, keepsAll: Bool) throws(OperatorError) -> [Int] {
    guard let axes, !axes.isEmpty else { return keepsAll ? [] : Array(0..<rank) }
    return try resolveAxes(axes, rank: rank)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let keepsDims = try context.bool("keepdims")
    let keepsAll = try context.bool("noop_with_empty_axes")
    let given: [Int]?
    switch context.axes(1) {
    case .absent: given = nil
    case .known(let axes): given = axes
    case .unknown(let count):
      let rank = keepsDims || count == nil ? nil : context.rank(0).map { $0 - (count ?? 0) }
      return context.set(0, context.type(0), .unknown(rank: keepsDims ? context.rank(0) : count == 0 ? nil : rank))
    }
    guard let shape = context.shape(0) else {
      let isScalar = !keepsDims && !keepsAll && given?.isEmpty ?? true
      return context.set(0, context.type(0), isScalar ? [] : nil)
    }
    let axes = try Reduction.resolved(given, rank: shape.count, keepsAll: keepsAll)
    let reduced = shape.indices.compactMap { axes.contains($0) ? (keepsDims ? Dim(1) : nil) : shape[$0] }
    context.set(0, context.type(0), reduced, values: values(context, axes: axes))
  }

  /// The elements of the output, where those of a small integer input are known or symbols.
  private func values(_ context: InferenceContext, axes: [Int]) -> [Dim]? {
    guard context.type(0)?.isInteger ?? false, let values = context.values(0), let shape = context.shape(0)?.concrete,
      values.count == shape.checkedElementCount
    else { return nil }
    let join: (Dim, Dim) -> Dim
    switch kind {
    case .sum: join = { $0 + $1 }
    case .product: join = { $0 * $1 }
    case .maximum: join = { .max($0, $1) }
    case .minimum: join = { .min($0, $1) }
    default: return nil
    }
    let isSum = kind == .sum || kind == .product
    let outputShape = Shape(shape.indices.map { axes.contains($0) ? 1 : shape[$0] })
    guard let count = outputShape.checkedElementCount, count <= TensorFact.maximumValues else { return nil }
    let (strides, outputStrides) = (shape.strides, outputShape.strides)
    var results = [Dim?](repeating: isSum ? Dim(kind == .sum ? 0 : 1) : nil, count: count)
    for (index, value) in values.enumerated() {
      let place = shape.indices.reduce(0) {
        $0 + (axes.contains($1) ? 0 : index / strides[$1] % shape[$1] * outputStrides[$1])
      }
      results[place] = results[place].map { join($0, value) } ?? value
    }
    let known = results.compactMap { $0 }
    return known.count == results.count ? known : nil
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let keepsAll = try context.bool("noop_with_empty_axes")
    let makeStep = try stepMaker(context, type)
    let keepsSingle = kind.keepsSingle
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0)
      let axes = try Reduction.resolved(plan.integers(1), rank: shape.rank, keepsAll: keepsAll)
      if keepsSingle, axes.allSatisfy({ shape[$0] == 1 }),
        let view = try KernelCandidate<ElementFacts, Step?>.choose(
          .singleElements, type: type, [.plain { .some(nil) }, .vectors("view", types: []) { .views([.init()]) }])
      {
        return view
      }
      var step = makeStep(ReductionGeometry(shape: shape, axes: axes))
      step.unreadInputs = [1]
      return step
    }
  }

  /// The one switch on the element type.
  private func stepMaker(
    _ context: PrepareContext, _ type: DataType
  ) throws(OperatorError) -> @Sendable (ReductionGeometry) -> Step {
    let isLogarithm = kind == .logSum || kind == .logSumExp
    if isLogarithm, !type.isFloat { return try integerLogarithm(context, type) }
    let table = try KernelCandidate<ElementFacts, apus_kernel_table?>.choose(
      .reduction, type: type,
      [.plain { .some(nil) }, .vectors("rows", types: []) { .some(apus_kernels().pointee) }])
    switch type {
    case .float32: return floatSteps(load: nil, store: nil, table)
    case .float64:
      if kind == .logSumExp {
        let kernel = LogSumExpKernel<Double>(load: nil, store: nil, table)
        return { kernel.step($0) }
      }
      return steps(Double.self, table, finish: floatFinish)
    // Roots of sums that do not wrap.
    case .int32 where kind == .l2, .uint32 where kind == .l2:
      let finish = integerFinish(Int64.self, ofNothing: 0)
      return steps(Int64.self, table, load: Lane.load(type), store: Lane.int64.store(type), finish: finish)
    case .int32: return steps(Int32.self, table, finish: integerFinish(Int32.self, ofNothing: .min))
    case .uint32: return steps(UInt32.self, table, finish: integerFinish(UInt32.self, ofNothing: 0))
    case .int64: return steps(Int64.self, table, finish: integerFinish(Int64.self, ofNothing: .min))
    case .uint64: return steps(UInt64.self, table, finish: integerFinish(UInt64.self, ofNothing: 1 << 63))
    case .int8: return steps(Int8.self, table)
    case .uint8: return steps(UInt8.self, table)
    // Every byte but 0 is true.
    case .bool:
      let finish: ReductionKernel<UInt8>.Finish = { totals, count, _ in
        for index in 0..<count { totals[index] = totals[index] == 0 ? 0 : 1 }
      }
      return steps(UInt8.self, table, finish: finish)
    default:
      guard let load = Lane.load(type), let store = Lane.float32.store(type) else {
        throw context.unsupportedType(type)
      }
      return floatSteps(load: load, store: store, table)
    }
  }

  private func steps<Element: ReductionElement>(
    _ type: Element.Type, _ table: apus_kernel_table?, load: LaneLoad? = nil, store: LaneStore? = nil,
    finish: ReductionKernel<Element>.Finish? = nil
  ) -> @Sendable (ReductionGeometry) -> Step {
    let kernel = ReductionKernel(fold: ElementFold<Element>(kind.fold, table), load: load, store: store, finish: finish)
    let name = kind.rawValue
    return { kernel.step($0, name: name) }
  }

  private func floatSteps(
    load: LaneLoad?, store: LaneStore?, _ table: apus_kernel_table?
  ) -> @Sendable (ReductionGeometry) -> Step {
    guard kind == .logSumExp else {
      return steps(Float.self, table, load: load, store: store, finish: floatFinish)
    }
    guard let exponential = table?.exp_f32, let logarithm = table?.log_f32 else {
      let kernel = LogSumExpKernel<Float>(load: load, store: store, table)
      return { kernel.step($0) }
    }
    let kernel = LogSumExpKernel<Float>(
      load: load, store: store, table, exponentials: { exponential($1, $0, $0, nil) },
      logarithms: { logarithm($1, $0, $0, nil) })
    return { kernel.step($0) }
  }

  private var floatFinish: (@Sendable (UnsafeMutablePointer<Double>, Int, Int) -> Void)? {
    switch kind {
    case .mean:
      { totals, count, reduced in
        let divisor = Double(reduced)
        for index in 0..<count { totals[index] /= divisor }
      }
    case .l2: { totals, count, _ in for index in 0..<count { totals[index] = totals[index].squareRoot() } }
    case .logSum: { totals, count, _ in for index in 0..<count { totals[index] = log(totals[index]) } }
    default: nil
    }
  }

  /// The mean divides a sum that has wrapped as the element type does.
  private func integerFinish<Element: ReductionElement & FixedWidthInteger>(
    _ type: Element.Type, ofNothing: Element
  ) -> ReductionKernel<Element>.Finish? where Element.Total == Element {
    switch kind {
    case .mean:
      return { totals, count, reduced in
        guard reduced > 0 else { return totals.update(repeating: ofNothing, count: count) }
        if let divisor = Element(exactly: reduced) {
          for index in 0..<count { totals[index] /= divisor }
        } else {
          // More elements than the type can count.
          for index in 0..<count { totals[index] = Element(Int64(totals[index]) / Int64(reduced)) }
        }
      }
    case .l2:
      return { totals, count, _ in
        for index in 0..<count {
          let root = Double(totals[index]).squareRoot()
          totals[index] = Element(
            truncatingIfNeeded: Element.isSigned ? UInt64(bitPattern: truncated64(root)) : truncatedUnsigned64(root))
        }
      }
    default: return nil
    }
  }

  /// Logarithms of integers, which versions before 28 allow: computed in float64, then truncated.
  private func integerLogarithm(
    _ context: PrepareContext, _ type: DataType
  ) throws(OperatorError) -> @Sendable (ReductionGeometry) -> Step {
    guard let lane = Lane(type), let load = Lane.load(type), let store = Lane.float64.store(type) else {
      throw context.unsupportedType(type)
    }
    let isUnsigned = lane == .uint64
    let loadFloats: LaneLoad = { base, start, lanes, count in
      load(base, start, lanes, count)
      for index in 0..<count {
        let bits = lanes.load(fromByteOffset: index &* 8, as: UInt64.self)
        let value = isUnsigned ? Double(bits) : Double(Int64(bitPattern: bits))
        lanes.storeBytes(of: value, toByteOffset: index &* 8, as: Double.self)
      }
    }
    if kind == .logSumExp {
      let kernel = LogSumExpKernel<Double>(load: loadFloats, store: store, nil)
      return { kernel.step($0) }
    }
    return steps(Double.self, nil, load: loadFloats, store: store, finish: floatFinish)
  }
}
