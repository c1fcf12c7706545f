// CumSum and CumProd: sums and products of all elements up to each, along one axis.
// https://onnx.ai/onnx/operators/onnx__CumSum.html (11, 14: more types), …/onnx__CumProd.html (26)

import ApusGraph
import ApusTensor
import CApusKernels

/// An operator that folds along one axis and keeps every step.
struct Cumulative: OperatorDefinition {
  let schema: OperatorSchema
  private let isProduct: Bool

  private init(_ name: String, _ versions: [Int], isProduct: Bool) {
    schema = OperatorSchema(
      name, versions: versions,
      inputs: [.required("x", "T"), .required("axis", "T2", readWhenPlanning: true)], outputs: [.required("y", "T")],
      attributes: [.int("exclusive", default: 0), .int("reverse", default: 0)],
      types: ["T": [.int32, .int64, .uint32, .uint64] + .floats, "T2": .indices], traits: .isSensitive)
    self.isProduct = isProduct
  }

  static let sum = Cumulative("CumSum", [11, 14], isProduct: false)
  static let product = Cumulative("CumProd", [26], isProduct: true)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(1)?.concrete, shape.checkedElementCount != 1 {
      throw .mismatch("axis has the shape \(shape); expected a scalar")
    }
    if let axis = context.integers(1)?.first, let rank = context.rank(0) { _ = try resolveAxis(axis, rank: rank) }
    context.copy()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let scan = scan(type) else { throw context.unsupportedType(type) }
    let name = schema.id.name
    let (exclusive, reverse) = (try context.bool("exclusive"), try context.bool("reverse"))
    let width = type.byteWidth
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0)
      guard let given = plan.integers(1)?.first else { throw .mismatch("axis is empty; expected one number") }
      let axis = try resolveAxis(given, rank: shape.rank)
      let (length, inner) = (shape[axis], shape.count(of: axis + 1..<shape.rank))
      let columns = shape.count(of: 0..<axis) * inner
      // Lines of neighbours lie one behind the other, others side by side.
      let isLine = inner == 1
      let partition = Partition(columns, of: .light * 2 * length)
      let step = Step.parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        if length == 0 { return }
        var column = range.lowerBound
        while column < range.upperBound {
          let (outer, first) = (column / inner, column % inner)
          let n = isLine ? range.count : min(inner &- first, range.upperBound &- column)
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

  /// Neighbouring columns to scan: `length` rows, `stride` elements apart. If that is 1, the columns are lines of
  /// neighbours, one behind the other.
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

  private func scan(_ type: DataType) -> Scan? {
    let table = apus_kernels().pointee
    return switch type {
    case .float32: scan(table.scan_rows_f32, table.scan_columns_f32, width: 4)
    case .float64: scan(table.scan_rows_f64, table.scan_columns_f64, width: 8)
    case .int32, .uint32: scan(table.scan_rows_i32, table.scan_columns_i32, width: 4)
    case .int64, .uint64: scan(table.scan_rows_i64, table.scan_columns_i64, width: 8)
    default: narrowScan(type)
    }
  }

  private typealias Kernel =
    @convention(c) (Bool, Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Bool, Bool) -> Void

  private func scan(_ rows: @escaping Kernel, _ columns: @escaping Kernel, width: Int) -> Scan {
    let isProduct = isProduct
    return { x, y, shape in
      if shape.stride == 1 {
        rows(isProduct, shape.columns, shape.length, x, shape.length, y, shape.exclusive, shape.reverse)
      } else {
        columns(isProduct, shape.length, shape.columns, x, shape.stride, y, shape.exclusive, shape.reverse)
      }
    }
  }

  /// Narrow floats are summed in float32; every step is rounded on its way out only.
  private func narrowScan(_ type: DataType) -> Scan? {
    guard let codec = FloatCodec(type) else { return nil }
    let isProduct = isProduct
    let table = apus_kernels().pointee
    let (rows, combine) = (table.scan_rows_f32, isProduct ? table.mul_f32_vv : table.add_f32_vv)
    return { x, y, shape in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * blockLength) { memory in
        guard let block = memory.baseAddress else { return }
        if shape.stride == 1 {
          for row in 0..<shape.columns {
            Cumulative.narrowRow(codec, x, y, row &* shape.length, shape, isProduct: isProduct, rows, block)
          }
        } else {
          Cumulative.narrowColumns(codec, x, y, shape, neutral: isProduct ? 1 : 0, combine, block)
        }
      }
    }
  }

  /// The row that begins at the element `start`, in blocks; `memory` has room for two.
  private static func narrowRow(
    _ codec: FloatCodec, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ start: Int, _ shape: ScanShape,
    isProduct: Bool, _ rows: Kernel, _ memory: UnsafeMutablePointer<Float>
  ) {
    let sums = memory + blockLength
    var total: Float = isProduct ? 1 : 0
    var done = 0
    while done < shape.length {
      let n = min(blockLength, shape.length &- done)
      let place = start &+ (shape.reverse ? shape.length &- done &- n : done)
      let first = shape.reverse ? n &- 1 : 0
      codec.load(x, place, memory, n)
      if done > 0 { memory[first] = isProduct ? total * memory[first] : total + memory[first] }
      rows(isProduct, 1, n, memory, n, sums, false, shape.reverse)
      let next = sums[n &- 1 &- first]
      if shape.exclusive {
        // Each element takes the sum of its predecessor.
        if shape.reverse {
          for index in 0..<n { memory[index] = index == n &- 1 ? total : sums[index &+ 1] }
        } else {
          for index in 0..<n { memory[index] = index == 0 ? total : sums[index &- 1] }
        }
        codec.store(memory, y, place, n)
      } else {
        codec.store(sums, y, place, n)
      }
      total = next
      done &+= n
    }
  }

  private static func narrowColumns(
    _ codec: FloatCodec, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ shape: ScanShape, neutral: Float,
    _ combine: @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void,
    _ memory: UnsafeMutablePointer<Float>
  ) {
    let (totals, row) = (memory, memory + blockLength)
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
          combine(n, totals, row, totals)
        } else {
          if k == 0 { totals.update(from: row, count: n) } else { combine(n, totals, row, totals) }
          codec.store(totals, y, place, n)
        }
      }
      first &+= n
    }
  }
}
