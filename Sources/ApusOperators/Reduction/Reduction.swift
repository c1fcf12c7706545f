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
      types: ["T": .floats + [.int32, .int64, .uint32, .uint64] + extra, "tensor(int64)": .int64], layout: .reducing,
      portable: .moreTypes(than: typesBefore))
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
    guard let lane = Lane(type), let load = Lane.load(type) else { throw context.unsupportedType(type) }
    if isLogarithm, !type.isFloat { return try integerLogarithm(context, type, lane, load) }
    guard let store = lane.store(type) else { throw context.unsupportedType(type) }
    let kernels = try KernelCandidate<ElementFacts, apus_kernel_table?>.choose(
      .reduction, type: lane == .float32 ? .float32 : type,
      [.plain { .some(nil) }, .vectors("rows") { .some(apus_kernels().pointee) }])
    let name = kind.rawValue
    switch lane {
    case .float32:
      let load = type == .float32 ? nil : load
      if kind == .logSumExp { return logSumExp(type, load, store, kernels) }
      let kernel = ReductionKernel(
        fold: .float32(kind.fold, kernels: kernels), load: load, store: store, finish: floatFinish)
      return { kernel.step($0, name: name) }
    case .float64:
      if kind == .logSumExp { return logSumExp64(load: nil, store) }
      let kernel = ReductionKernel(
        fold: .float64(kind.fold), load: nil, store: store, finish: floatFinish)
      return { kernel.step($0, name: name) }
    case .int64:
      let (lowest, highest) = Reduction.bounds(of: type)
      let fold = LaneFold<Int64>.int64(kind.fold, lowest: lowest, highest: highest)
      let kernel = ReductionKernel(
        fold: fold, load: type == .int64 ? nil : load, store: store, finish: integerFinish(type))
      return { kernel.step($0, name: name) }
    case .uint64:
      let kernel = ReductionKernel(
        fold: LaneFold<UInt64>.uint64(kind.fold), load: nil, store: store, finish: unsignedFinish)
      return { kernel.step($0, name: name) }
    }
  }

  private var floatFinish: @Sendable (Double, Int) -> Double {
    switch kind {
    case .mean: { $0 / Double($1) }
    case .l2: { total, _ in total.squareRoot() }
    case .logSum: { total, _ in log(total) }
    default: { total, _ in total }
    }
  }

  private func integerFinish(_ type: DataType) -> @Sendable (Int64, Int) -> Int64 {
    let spare = Int64(64 - type.bits)
    let isSigned = type.isSignedInteger
    let ofNothing = isSigned ? Reduction.bounds(of: type).0 : 0
    switch kind {
    case .mean:
      // The sum wraps as one of the element type would.
      return { total, count in
        let high = total << spare
        let sum = isSigned ? high >> spare : Int64(bitPattern: UInt64(bitPattern: high) >> UInt64(spare))
        return count == 0 ? ofNothing : sum / Int64(count)
      }
    case .l2: return { total, _ in truncated64(Double(total).squareRoot()) }
    default: return { total, _ in total }
    }
  }

  private var unsignedFinish: @Sendable (UInt64, Int) -> UInt64 {
    switch kind {
    case .mean: { total, count in count == 0 ? 1 << 63 : total / UInt64(count) }
    case .l2: { total, _ in truncatedUnsigned64(Double(total).squareRoot()) }
    default: { total, _ in total }
    }
  }

  private static func bounds(of type: DataType) -> (Int64, Int64) {
    switch type {
    case .bool: (0, 1)
    case .int8: (Int64(Int8.min), Int64(Int8.max))
    case .uint8: (0, Int64(UInt8.max))
    case .int32: (Int64(Int32.min), Int64(Int32.max))
    case .uint32: (0, Int64(UInt32.max))
    default: (.min, .max)
    }
  }

  // MARK: - Logarithms

  private func logSumExp(
    _ type: DataType, _ load: LaneLoad?, _ store: @escaping LaneStore, _ kernels: apus_kernel_table?
  ) -> @Sendable (ReductionGeometry) -> Step {
    let exponential = kernels?.exp_f32
    let finish: @Sendable (Double, Int) -> Double = { total, _ in total }
    let kernel = LogSumExpKernel<Float>(
      maximum: ReductionKernel(
        fold: .float32(.maximum, kernels: kernels), load: load, store: store, finish: finish),
      sum: ReductionKernel(
        fold: .float32(.sum, kernels: kernels), load: load, store: store, finish: finish),
      shift: { x, shift, stride, y, count in
        for index in 0..<count { y[index] = x[index] - shift[index &* stride] }
        if let exponential {
          exponential(count, y, y, nil)
        } else {
          for index in 0..<count { y[index] = expf(y[index]) }
        }
      })
    return { kernel.step($0) }
  }

  private func logSumExp64(load: LaneLoad?, _ store: @escaping LaneStore) -> @Sendable (ReductionGeometry) -> Step {
    let finish: @Sendable (Double, Int) -> Double = { total, _ in total }
    let kernel = LogSumExpKernel<Double>(
      maximum: ReductionKernel(fold: .float64(.maximum), load: load, store: store, finish: finish),
      sum: ReductionKernel(fold: .float64(.sum), load: load, store: store, finish: finish),
      shift: { x, shift, stride, y, count in
        for index in 0..<count { y[index] = exp(x[index] - shift[index &* stride]) }
      })
    return { kernel.step($0) }
  }

  /// Logarithms of integers, which versions before 28 allow: computed in float64, then truncated.
  private func integerLogarithm(
    _ context: PrepareContext, _ type: DataType, _ lane: Lane, _ load: @escaping LaneLoad
  ) throws(OperatorError) -> @Sendable (ReductionGeometry) -> Step {
    guard let store = Lane.float64.store(type) else { throw context.unsupportedType(type) }
    let isUnsigned = lane == .uint64
    let loadFloats: LaneLoad = { base, start, lanes, count in
      load(base, start, lanes, count)
      for index in 0..<count {
        let bits = lanes.load(fromByteOffset: index &* 8, as: UInt64.self)
        let value = isUnsigned ? Double(bits) : Double(Int64(bitPattern: bits))
        lanes.storeBytes(of: value, toByteOffset: index &* 8, as: Double.self)
      }
    }
    if kind == .logSumExp { return logSumExp64(load: loadFloats, store) }
    let name = kind.rawValue
    let kernel = ReductionKernel(
      fold: .float64(.sum), load: loadFloats, store: store, finish: floatFinish)
    return { kernel.step($0, name: name) }
  }
}
