// The shapes of NumPy's matmul: extents, broadcast batches, and what can be one product.

import ApusGraph
import ApusTensor

/// The shape of A·B; nil if a rank is unknown. A vector on the left is a row, on the right a column, and its axis is
/// missing in the result.
func matMulShape(_ a: [Dim]?, _ b: [Dim]?) throws(OperatorError) -> [Dim]? {
  guard let a, let b else { return nil }
  guard !a.isEmpty, !b.isEmpty else { throw .mismatch("a factor is a scalar; expected at least one axis") }
  let (leftDepth, rightDepth) = (a[a.count - 1], b[b.count == 1 ? 0 : b.count - 2])
  if leftDepth.isSurelyDifferent(from: rightDepth) {
    throw .mismatch("the last extent of A is \(leftDepth), the second to last of B \(rightDepth); they must be equal")
  }
  var shape = try broadcast([Array(a.dropLast(2)), Array(b.dropLast(2))])
  if a.count > 1 { shape.append(a[a.count - 2]) }
  if b.count > 1 { shape.append(b[b.count - 1]) }
  return shape
}

/// The multiply-adds of a product: one for each element of the result and of the last axis of input `a`.
func matMulProducts(a: Int) -> NodeFormula {
  { facts in
    guard let inner = facts.shape(a)?.last, let output = facts.outputShape(0) else { return .unknown }
    return output.product * inner
  }
}

/// The extents of A·B with the batches as few products as possible.
struct MatMulExtents: Sendable {
  let m: Int
  let n: Int
  let k: Int
  let left: MatrixLayout
  let right: MatrixLayout
  let batch: GemmBatch
  /// The matrices of B, which lie one after the other.
  let rightCount: Int

  /// `transposesA` and `transposesB` exchange the last two axes of a factor before the product. A factor of rank 1 is
  /// not transposed.
  init(_ a: Shape, _ b: Shape, transposesA: Bool = false, transposesB: Bool = false) {
    let transposesA = transposesA && a.rank > 1
    let transposesB = transposesB && b.rank > 1
    let aRows = a.rank > 1 ? a[a.rank - 2] : 1
    let aColumns = a[a.rank - 1]
    let bRows = b.rank > 1 ? b[b.rank - 2] : b[0]
    let bColumns = b.rank > 1 ? b[b.rank - 1] : 1
    let rows = transposesA ? aColumns : aRows
    k = transposesA ? aRows : aColumns
    n = transposesB ? bRows : bColumns
    left = transposesA ? .columnMajor(rows: aColumns) : .rowMajor(columns: aColumns)
    right = transposesB ? .columnMajor(rows: bColumns) : .rowMajor(columns: bColumns)
    if b.rank <= 2 && !transposesA {
      // One B for all: the matrices of A are rows of one.
      rightCount = 1
      m = rows * (a.rank > 2 ? a.count(of: 0..<a.rank - 2) : 1)
      batch = .single
      return
    }
    let rank = max(a.rank, b.rank, 2) - 2
    let aBatch = MatMulExtents.batch(of: a, rank: rank)
    let bBatch = MatMulExtents.batch(of: b, rank: rank)
    rightCount = bBatch.reduce(1, &*)
    if rightCount == 1 && !transposesA {
      m = rows * aBatch.reduce(1, &*)
      batch = .single
    } else {
      m = rows
      batch = GemmBatch(
        extents: zip(aBatch, bBatch).map { $0 == 1 ? $1 : $0 },
        a: MatMulExtents.strides(aBatch, matrix: aRows * aColumns),
        b: MatMulExtents.strides(bBatch, matrix: bRows * bColumns))
    }
  }

  private static func batch(of shape: Shape, rank: Int) -> [Int] {
    let own = shape.dims.dropLast(2)
    return [Int](repeating: 1, count: rank - own.count) + own
  }

  /// The distances by axis; 0 along axes that are repeated.
  private static func strides(_ extents: [Int], matrix: Int) -> [Int] {
    var stride = matrix
    var strides = [Int](repeating: 0, count: extents.count)
    for axis in extents.indices.reversed() {
      if extents[axis] != 1 { strides[axis] = stride }
      stride *= extents[axis]
    }
    return strides
  }

  /// The plain product of these extents.
  var plain: PlainProduct { PlainProduct(m: m, n: n, k: k, left: left, right: right, batch: batch) }
}
