// Matrix products of every element type without packing: the general path, and the oracle of the fast one.

import ApusGraph
import ApusTensor
import CApusKernels

/// Elements of which sums of products are made. Integers wrap around, so that the unsigned types stand for the signed.
protocol ProductElement: BitwiseCopyable, Sendable, SendableMetatype {
  static var zero: Self { get }
  static func addingProduct(_ sum: Self, _ a: Self, _ b: Self) -> Self
}

extension Float: ProductElement {
  @inline(__always) static func addingProduct(_ sum: Float, _ a: Float, _ b: Float) -> Float { sum + a * b }
}
extension Double: ProductElement {
  @inline(__always) static func addingProduct(_ sum: Double, _ a: Double, _ b: Double) -> Double { sum + a * b }
}
extension UInt8: ProductElement {
  @inline(__always) static func addingProduct(_ sum: UInt8, _ a: UInt8, _ b: UInt8) -> UInt8 { sum &+ a &* b }
}
extension UInt16: ProductElement {
  @inline(__always) static func addingProduct(_ sum: UInt16, _ a: UInt16, _ b: UInt16) -> UInt16 { sum &+ a &* b }
}
extension UInt32: ProductElement {
  @inline(__always) static func addingProduct(_ sum: UInt32, _ a: UInt32, _ b: UInt32) -> UInt32 { sum &+ a &* b }
}
extension UInt64: ProductElement {
  @inline(__always) static func addingProduct(_ sum: UInt64, _ a: UInt64, _ b: UInt64) -> UInt64 { sum &+ a &* b }
}

/// C = A·B for several products of equal extents, C [m, n] in rows.
struct PlainProduct: Sendable {
  let m: Int
  let n: Int
  let k: Int
  let left: MatrixLayout
  let right: MatrixLayout
  let batch: GemmBatch

  var operations: Int { batch.count &* 2 &* m &* n &* k }

  /// The step for an element type; nil for types that no product is made of. Inputs A and B, output C.
  func step(_ type: DataType, a: Int = 0, b: Int = 1) -> Step? {
    switch type {
    case .float64: doubleStep(a: a, b: b)
    case .float32: step(Float.self, a: a, b: b)
    case .int8, .uint8: step(UInt8.self, a: a, b: b)
    case .int16, .uint16: step(UInt16.self, a: a, b: b)
    case .int32, .uint32: step(UInt32.self, a: a, b: b)
    case .int64, .uint64: step(UInt64.self, a: a, b: b)
    default: nil
    }
  }

  /// The step for floats if each product is one sum over neighbours of both sides, in partial sums; else nil.
  func dotStep(_ type: DataType) -> Step? {
    guard m == 1, n == 1, left.columnStride == 1, right.rowStride == 1 else { return nil }
    return switch type {
    case .float32: dotStep(Float.self)
    case .float64: dotStep(Double.self)
    default: nil
    }
  }

  private func dotStep<Element: BinaryFloatingPoint & SIMDScalar & SendableMetatype>(_ type: Element.Type) -> Step {
    let partition = Partition(batch.count, of: .light * k)
    return Step.parallel(parts: batch.count == 0 ? 0 : partition.parts) { run, part in
      let (a, b) = (run.input(0, as: Element.self), run.input(1, as: Element.self))
      for index in partition.range(part) {
        let offset = batch[index]
        run.output(0, as: Element.self)[index] = dotProduct(a + offset.a, b + offset.b, k)
      }
    }.named("dot products", cost: Cost(operations: operations))
  }

  /// The rows of C that one part computes.
  private var rowPartition: Partition {
    Partition(
      m, of: .light * 2 * n * k, maximumParts: max(1, Partition.maximumParts / max(batch.count, 1)))
  }

  private func step<Element: ProductElement>(_ type: Element.Type, a: Int, b: Int) -> Step {
    let rows = rowPartition
    return Step.parallel(parts: n == 0 ? 0 : batch.count * rows.parts) { run, part in
      let (index, block) = part.quotientAndRemainder(dividingBy: rows.parts)
      let offset = batch[index]
      multiply(
        rows.range(block), run.input(a, as: Element.self) + offset.a, run.input(b, as: Element.self) + offset.b,
        run.output(0, as: Element.self) + index &* m &* n)
    }.named("plain", cost: Cost(operations: operations))
  }

  func multiply<Element: ProductElement>(
    _ rows: Range<Int>, _ a: UnsafePointer<Element>, _ b: UnsafePointer<Element>, _ c: UnsafeMutablePointer<Element>
  ) {
    for row in rows {
      let target = c + row &* n
      let source = a + row &* left.rowStride
      for column in 0..<n { target[column] = .zero }
      for depth in 0..<k {
        let factor = source[depth &* left.columnStride]
        let line = b + depth &* right.rowStride
        if right.columnStride == 1 {
          for column in 0..<n { target[column] = Element.addingProduct(target[column], factor, line[column]) }
        } else {
          for column in 0..<n {
            target[column] = Element.addingProduct(target[column], factor, line[column &* right.columnStride])
          }
        }
      }
    }
  }

  // MARK: - float64

  /// The fewest rows and columns of a part: enough of both to pay for packing a block of B.
  private static let rowTile = 96
  private static let columnTile = 64

  private func doubleStep(a: Int, b: Int) -> Step {
    let element = Cost(operations: 2) * k
    let rows = Partition(m, of: element * n, tile: PlainProduct.rowTile)
    let columns = Partition(
      n, of: element * rows.itemsPerPart, tile: PlainProduct.columnTile,
      maximumParts: max(1, Partition.maximumParts / (rows.parts &* max(batch.count, 1))))
    let parts = rows.parts &* columns.parts
    let multiply = apus_kernels().pointee.gemm_f64
    return Step.parallel(parts: n == 0 ? 0 : batch.count * parts) { run, part in
      let (index, block) = part.quotientAndRemainder(dividingBy: parts)
      let (rowBlock, columnBlock) = block.quotientAndRemainder(dividingBy: columns.parts)
      let (offset, rowRange, columnRange) = (batch[index], rows.range(rowBlock), columns.range(columnBlock))
      var arguments = apus_gemm_f64_args(
        a: run.input(a, as: Double.self) + offset.a, a_row: left.rowStride, a_depth: left.columnStride,
        b: run.input(b, as: Double.self) + offset.b, b_depth: right.rowStride, b_column: right.columnStride,
        c: run.output(0, as: Double.self) + index &* m &* n, ldc: n, k: k)
      multiply(&arguments, rowRange.lowerBound, rowRange.upperBound, columnRange.lowerBound, columnRange.upperBound)
    }.named("gemm_f64", cost: Cost(operations: operations))
  }
}
