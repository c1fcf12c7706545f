// Sums of elements, or of products of two elements, under any strides: what Einsum does beside matrix products.

import ApusGraph
import ApusTensor

/// y[i] = sum over j of x(i, j) or of x(i, j) * z(i, j), with i over `extents` and j over `sumExtents`; y in rows.
struct StridedTerms: Sendable {
  let extents: [Int]
  let left: [Int]
  let right: [Int]
  let sumExtents: [Int]
  let sumLeft: [Int]
  let sumRight: [Int]
  let hasRight: Bool

  /// Inputs x and z, output y.
  func step(_ type: DataType) throws(OperatorError) -> Step {
    switch type {
    case .float32: step(Float.self)
    case .float64: step(Double.self)
    case .int8, .uint8: step(UInt8.self)
    case .int16, .uint16: step(UInt16.self)
    case .int32, .uint32: step(UInt32.self)
    case .int64, .uint64: step(UInt64.self)
    default: throw .unsupported("Einsum has no kernel for \(type)")
    }
  }

  private func step<Element: ProductElement & ExpressibleByIntegerLiteral>(_ element: Element.Type) -> Step {
    let count = extents.reduce(1, &*)
    let terms = sumExtents.reduce(1, &*)
    let partition = Partition(count, of: .medium * terms)
    let rightOfSums = hasRight ? sumRight : sumExtents.map { _ in 0 }
    return .parallel(parts: count == 0 ? 0 : partition.parts) { run, part in
      let (x, z, y) = (run.input(0, as: Element.self), run.input(1, as: Element.self), run.output(0, as: Element.self))
      for index in partition.range(part) {
        var (a, b) = StridedTerms.offsets(of: index, extents, left, right)
        var sum = Element.zero
        if sumExtents.isEmpty {
          sum = hasRight ? Element.addingProduct(.zero, x[a], z[b]) : x[a]
        } else {
          let (firstA, firstB) = (a, b)
          let last = sumExtents.count - 1
          let (inner, innerA, innerB) = (sumExtents[last], sumLeft[last], rightOfSums[last])
          for outer in 0..<(inner == 0 ? 0 : terms / inner) {
            // The position of the outer sums; the innermost runs below.
            let position = StridedTerms.offsets(of: outer &* inner, sumExtents, sumLeft, rightOfSums)
            (a, b) = (firstA &+ position.0, firstB &+ position.1)
            for _ in 0..<inner {
              sum = Element.addingProduct(sum, x[a], hasRight ? z[b] : 1)
              a &+= innerA
              b &+= innerB
            }
          }
        }
        y[index] = sum
      }
    }
  }

  @inline(__always)
  private static func offsets(of index: Int, _ extents: [Int], _ a: [Int], _ b: [Int]) -> (Int, Int) {
    var (rest, x, z) = (index, 0, 0)
    var axis = extents.count &- 1
    while axis >= 0 {
      let next = rest / extents[axis]
      let position = rest &- next &* extents[axis]
      x &+= position &* a[axis]
      z &+= position &* b[axis]
      rest = next
      axis &-= 1
    }
    return (x, z)
  }
}
