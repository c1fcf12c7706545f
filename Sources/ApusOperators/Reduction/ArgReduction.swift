// ArgMax and ArgMin: where along an axis the largest or smallest element stands.
// https://onnx.ai/onnx/operators/onnx__ArgMax.html
// Versions: 1, 11 (negative axis), 12 (select_last_index), 13 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

/// Among equal elements the first wins, or the last with `select_last_index`. NaN wins over everything, as in NumPy.
struct ArgReduction: OperatorDefinition {
  let schema: OperatorSchema
  private let isMaximum: Bool

  static let all = [ArgReduction("ArgMax", isMaximum: true), ArgReduction("ArgMin", isMaximum: false)]

  private init(_ name: String, isMaximum: Bool) {
    self.isMaximum = isMaximum
    schema = OperatorSchema(
      name, versions: [1, 11, 12, 13],
      inputs: [.required("data", "T")], outputs: [.required("reduced", "tensor(int64)")],
      attributes: [
        .int("axis", default: 0), .int("keepdims", default: 1), .int("select_last_index", default: 0).since(12),
      ],
      types: ["T": .numeric, "tensor(int64)": .int64])
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var shape = context.shape(0) else { return context.set(0, .int64, nil) }
    // A scalar counts as one element on axis 0.
    let axis = try resolveAxis(try context.int("axis"), rank: max(shape.count, 1))
    if shape.isEmpty { return context.set(0, .int64, []) }
    if try context.bool("keepdims") { shape[axis] = 1 } else { shape.remove(at: axis) }
    context.set(0, .int64, shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let givenAxis = try context.int("axis")
    let prefersLast = try context.bool("select_last_index")
    let isMaximum = self.isMaximum
    let make: @Sendable (Lines) -> Step = try KernelCandidate<ElementFacts, @Sendable (Lines) -> Step>.choose(
      .argReduction, type: type,
      [
        .plain { () throws(OperatorError) in
          guard let keys = SortKeys(type) else { throw context.unsupportedType(type) }
          return { $0.step(keys, isMaximum: isMaximum, isFloat: type.isFloat, prefersLast: prefersLast) }
        },
        .vectors("rows", types: []) {
          if let search = ExtremeSearch(type) {
            return { $0.step(search, isMaximum: isMaximum, prefersLast: prefersLast) }
          }
          // Of 16 bits: by way of a wider type, a block at a time.
          let wide: DataType = type.isFloat ? .float32 : .int32
          guard let search = ExtremeSearch(wide), let widen = CastKernels.kernel(from: type, to: wide) else {
            return nil
          }
          let narrow = NarrowElements(width: type.byteWidth, widen: widen)
          if type.isFloat {
            return { $0.step(search, Float.self, narrow, isMaximum: isMaximum, prefersLast: prefersLast) }
          }
          return { $0.step(search, Int32.self, narrow, isMaximum: isMaximum, prefersLast: prefersLast) }
        },
      ])
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0).rank == 0 ? [1] : plan.shape(0)
      let axis = try resolveAxis(givenAxis, rank: shape.rank)
      let outputs = plan.outputShape(0).elementCount
      if shape[axis] == 0 && outputs > 0 {
        throw .mismatch("axis \(axis) of the shape \(shape) is empty: no element stands out")
      }
      return make(Lines(extent: shape[axis], inner: shape.count(of: axis + 1..<shape.rank), count: outputs)).named(
        isMaximum ? "argmax" : "argmin")
    }
  }
}

/// The micro-kernels by which extremes of a type are found: their values first, then their places.
private struct ExtremeSearch: Sendable {
  typealias Find =
    @convention(c) (Int, Int, UnsafeRawPointer, Int, UnsafeRawPointer, Bool, UnsafeMutablePointer<Int64>) -> Void
  let width: Int
  let fold: FoldKernels
  let findRows: Find
  let findColumns: Find

  /// nil for types that have none.
  init?(_ type: DataType) {
    let table = apus_kernels().pointee
    width = type.byteWidth
    switch type {
    case .float32: (fold, findRows, findColumns) = (Float.kernels(table), table.find_rows_f32, table.find_columns_f32)
    case .float64: (fold, findRows, findColumns) = (Double.kernels(table), table.find_rows_f64, table.find_columns_f64)
    case .int8: (fold, findRows, findColumns) = (Int8.kernels(table), table.find_rows_i8, table.find_columns_i8)
    case .uint8: (fold, findRows, findColumns) = (UInt8.kernels(table), table.find_rows_i8, table.find_columns_i8)
    case .int32: (fold, findRows, findColumns) = (Int32.kernels(table), table.find_rows_i32, table.find_columns_i32)
    case .uint32: (fold, findRows, findColumns) = (UInt32.kernels(table), table.find_rows_i32, table.find_columns_i32)
    case .int64: (fold, findRows, findColumns) = (Int64.kernels(table), table.find_rows_i64, table.find_columns_i64)
    case .uint64: (fold, findRows, findColumns) = (UInt64.kernels(table), table.find_rows_i64, table.find_columns_i64)
    default: return nil
    }
  }
}

/// Elements that are searched in a wider type.
private struct NarrowElements: Sendable {
  let width: Int
  let widen: CastKernel
}

/// Lines of elements: element j of line `index` lies at `(index / inner * extent + j) * inner + index % inner`.
private struct Lines: Sendable {
  let extent: Int
  let inner: Int
  let count: Int

  /// Lines that are searched together.
  private static let block = 256
  /// Elements of neighbouring lines that are still at hand when they are searched.
  private static let cachedElements = 8192

  func step(_ search: ExtremeSearch, isMaximum: Bool, prefersLast: Bool) -> Step {
    let partition = Partition(count, of: .light * 2 * extent)
    let parts = count == 0 ? 0 : partition.parts
    let bytes = Lines.block * 8
    let fold = isMaximum ? APUS_FOLD_MAX : APUS_FOLD_MIN
    let most = inner == 1 ? max(1, min(Lines.block, Lines.cachedElements / max(extent, 1))) : Lines.block
    return .parallel(parts: parts, scratchBytes: parts * bytes) { run, part in
      let values = run.scratch + part &* bytes
      let target = run.output(0, as: Int64.self)
      let range = partition.range(part)
      var first = range.lowerBound
      while first < range.upperBound {
        let n = min(most, range.upperBound &- first)
        if inner == 1 {
          let source = run.inputBytes(0) + first &* extent &* search.width
          search.fold.rows(fold, n, extent, source, extent, values)
          search.findRows(n, extent, source, extent, values, prefersLast, target + first)
          first &+= n
        } else {
          let (outer, column) = first.quotientAndRemainder(dividingBy: inner)
          let n = min(n, inner &- column)
          let source = run.inputBytes(0) + (outer &* extent &* inner &+ column) &* search.width
          search.fold.columns(fold, extent, n, source, inner, values)
          search.findColumns(extent, n, source, inner, values, prefersLast, target + first)
          first &+= n
        }
      }
    }
  }

  /// The same by way of a wider type of 4 bytes: lines are searched in pieces that fit a block, and the best of the
  /// pieces is kept.
  @inline(__always)
  func step<Wide: Comparable & BitwiseCopyable & SendableMetatype>(
    _ search: ExtremeSearch, _ type: Wide.Type, _ narrow: NarrowElements, isMaximum: Bool, prefersLast: Bool
  ) -> Step {
    let partition = Partition(count, of: .light * 3 * extent)
    let parts = count == 0 ? 0 : partition.parts
    let fold = isMaximum ? APUS_FOLD_MAX : APUS_FOLD_MIN
    let isLine = inner == 1
    // Lines of a block, and elements of each of them that are searched at once.
    let most = isLine ? max(1, min(Lines.block, Lines.cachedElements / max(extent, 1))) : Lines.block
    let piece = isLine ? Lines.cachedElements : Lines.cachedElements / Lines.block
    let bytes = (Lines.cachedElements + 4 * Lines.block) * 4
    return .parallel(parts: parts, scratchBytes: parts * bytes) { run, part in
      let block = run.scratch + part &* bytes
      let best = (block + Lines.cachedElements &* 4).assumingMemoryBound(to: Wide.self)
      let values = best + Lines.block
      let places = UnsafeMutableRawPointer(values + Lines.block).assumingMemoryBound(to: Int64.self)
      let target = run.output(0, as: Int64.self)
      let range = partition.range(part)
      var first = range.lowerBound
      while first < range.upperBound {
        let (outer, column) = isLine ? (first, 0) : first.quotientAndRemainder(dividingBy: inner)
        let n = min(most, range.upperBound &- first, isLine ? most : inner &- column)
        let source = run.inputBytes(0) + (outer &* extent &* inner &+ column) &* narrow.width
        var start = 0
        while start < extent {
          let length = min(piece, extent &- start)
          if isLine {
            // More than one line only where they are whole.
            narrow.widen(n &* length, source + start &* narrow.width, block)
            search.fold.rows(fold, n, length, block, length, values)
            search.findRows(n, length, block, length, values, prefersLast, places)
          } else {
            for row in 0..<length {
              narrow.widen(n, source + (start &+ row) &* inner &* narrow.width, block + row &* n &* 4)
            }
            search.fold.columns(fold, length, n, block, n, values)
            search.findColumns(length, n, block, n, values, prefersLast, places)
          }
          for line in 0..<n {
            let (value, kept) = (values[line], best[line])
            // NaN is better than everything else, and as good as itself.
            let isBetter = isMaximum ? value > kept : value < kept
            let isEqual = value == kept || (value != value && kept != kept)
            if start == 0 || (kept == kept && (isBetter || value != value)) || (prefersLast && isEqual) {
              best[line] = value
              target[first &+ line] = Int64(start) &+ places[line]
            }
          }
          start &+= length
        }
        first &+= n
      }
    }
  }

  func step(_ keys: SortKeys, isMaximum: Bool, isFloat: Bool, prefersLast: Bool) -> Step {
    let partition = Partition(count, of: .light * 2 * extent)
    let block = 128
    let parts = count == 0 ? 0 : partition.parts
    return .parallel(parts: parts, scratchBytes: parts * block * 8) { run, part in
      let buffer = (run.scratch + part &* block &* 8).assumingMemoryBound(to: UInt64.self)
      let target = run.output(0, as: Int.self)
      for index in partition.range(part) {
        let first = run.inputBytes(0) + (index / inner &* extent &* inner &+ index % inner) &* keys.width
        var best: UInt64 = 0
        var place = 0
        var start = 0
        while start < extent {
          let count = min(block, extent &- start)
          keys.load(first + start &* inner &* keys.width, inner &* keys.width, count, buffer)
          for offset in 0..<count {
            // Larger is better; for the minimum the order is turned round, with NaN still best.
            let key = isMaximum || (isFloat && buffer[offset] == .max) ? buffer[offset] : ~buffer[offset]
            if key > best || (prefersLast && key == best) || start &+ offset == 0 {
              (best, place) = (key, start &+ offset)
            }
          }
          start &+= count
        }
        target[index] = place
      }
    }
  }
}
