// CumSum and CumProd: sums and products of all elements up to each, along one axis.
// https://onnx.ai/onnx/operators/onnx__CumSum.html (11, 14: more types), …/onnx__CumProd.html (26)

import ApusGraph
import ApusTensor

/// An operator that folds along one axis and keeps every step.
struct Cumulative: OperatorDefinition {
  let schema: OperatorSchema
  private let function: BinaryFunction
  /// What an exclusive result begins with.
  private let neutral: Int

  private init(_ name: String, _ versions: [Int], _ function: BinaryFunction, neutral: Int) {
    schema = OperatorSchema(
      name, versions: versions,
      inputs: [.required("x", "T"), .required("axis", "T2", readWhenPlanning: true)], outputs: [.required("y", "T")],
      attributes: [.int("exclusive", default: 0), .int("reverse", default: 0)],
      types: ["T": [.int32, .int64, .uint32, .uint64] + .floats, "T2": .indices])
    self.function = function
    self.neutral = neutral
  }

  static let sum = Cumulative("CumSum", [11, 14], .add, neutral: 0)
  static let product = Cumulative("CumProd", [26], .mul, neutral: 1)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(1)?.concrete, shape.checkedElementCount != 1 {
      throw .mismatch("axis has the shape \(shape); expected a scalar")
    }
    if let axis = context.integers(1)?.first, let rank = context.rank(0) { _ = try resolveAxis(axis, rank: rank) }
    context.copy()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let scan = try scan(type) else { throw context.unsupportedType(type) }
    let name = schema.id.name
    let (exclusive, reverse) = (try context.bool("exclusive"), try context.bool("reverse"))
    let width = type.byteWidth
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0)
      guard let given = plan.integers(1)?.first else { throw .mismatch("axis is empty; expected one number") }
      let axis = try resolveAxis(given, rank: shape.rank)
      let (length, inner) = (shape[axis], shape.count(of: axis + 1..<shape.rank))
      let columns = shape.count(of: 0..<axis) * inner
      let partition = Partition(columns, of: .light * 2 * length)
      let step = Step.parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        if length == 0 { return }
        var column = range.lowerBound
        while column < range.upperBound {
          // The columns of one outer index lie side by side.
          let (outer, first) = (column / inner, column % inner)
          let n = min(inner &- first, range.upperBound &- column)
          let offset = (outer &* length &* inner &+ first) &* width
          scan(
            run.inputBytes(0) + offset, run.outputBytes(0) + offset,
            ScanShape(length: length, columns: n, stride: inner, exclusive: exclusive, reverse: reverse))
          column &+= n
        }
      }.named(name, cost: Cost(operations: shape.elementCount))
      return exclusive ? step : step.overwriting(0)
    }
  }

  /// Neighbouring columns to scan: `length` rows, `stride` elements apart.
  struct ScanShape {
    let length: Int
    let columns: Int
    let stride: Int
    let exclusive: Bool
    let reverse: Bool

    /// The offset in elements of the k-th row in the order of the scan.
    @inline(__always) func row(_ k: Int) -> Int { (reverse ? length &- 1 &- k : k) &* stride }
  }

  typealias Scan = @Sendable (_ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ shape: ScanShape) -> Void

  private func scan(_ type: DataType) throws(OperatorError) -> Scan? {
    let isSum = function == .add
    switch type {
    case .float32: return isSum ? Cumulative.typed(Float(0)) { $0 + $1 } : Cumulative.typed(Float(1)) { $0 * $1 }
    case .float64: return isSum ? Cumulative.typed(Double(0)) { $0 + $1 } : Cumulative.typed(Double(1)) { $0 * $1 }
    case .int32, .uint32:
      return isSum ? Cumulative.typed(UInt32(0)) { $0 &+ $1 } : Cumulative.typed(UInt32(1)) { $0 &* $1 }
    case .int64, .uint64:
      return isSum ? Cumulative.typed(UInt64(0)) { $0 &+ $1 } : Cumulative.typed(UInt64(1)) { $0 &* $1 }
    default:
      return try narrowScan(type)
    }
  }

  /// Narrow floats are summed in float32; every step is rounded on its way out only.
  private func narrowScan(_ type: DataType) throws(OperatorError) -> Scan? {
    guard let codec = FloatCodec(type), let loops = try function.loops(.float32) else { return nil }
    let neutral = Float(neutral)
    return { x, y, shape in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * blockLength) { memory in
        guard let totals = memory.baseAddress else { return }
        let row = totals + blockLength
        var first = 0
        while first < shape.columns {
          let n = min(blockLength, shape.columns &- first)
          totals.update(repeating: neutral, count: n)
          for k in 0..<shape.length {
            // Read before it is written: x and y may be the same memory.
            let place = shape.row(k) &+ first
            codec.load(x, place, row, n)
            if shape.exclusive {
              codec.store(totals, y, place, n)
              loops.both(totals, row, totals, n)
            } else {
              if k == 0 { totals.update(from: row, count: n) } else { loops.both(totals, row, totals, n) }
              codec.store(totals, y, place, n)
            }
          }
          first &+= n
        }
      }
    }
  }

  @inline(__always)
  private static func typed<T: BitwiseCopyable & Sendable>(
    _ neutral: T, _ combine: @escaping @Sendable (T, T) -> T
  ) -> Scan {
    { x, y, shape in
      let x = x.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: T.self)
      for k in 0..<shape.length {
        let target = y + shape.row(k)
        if k == 0 {
          let source = x + shape.row(0)
          for j in 0..<shape.columns { target[j] = shape.exclusive ? neutral : source[j] }
        } else {
          let source = x + shape.row(shape.exclusive ? k &- 1 : k)
          let before = y + shape.row(k &- 1)
          for j in 0..<shape.columns { target[j] = combine(before[j], source[j]) }
        }
      }
    }
  }
}
