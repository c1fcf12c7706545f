// What the reductions do with elements: folds over runs and rows of one of four number types.

import CApusKernels

/// What is done with the elements of one output.
enum Fold: Sendable {
  case sum, sumOfSquares, sumOfMagnitudes, product, maximum, minimum
}

/// A type that elements are folded in, and the type that partial results are joined in.
protocol ReductionLane: BitwiseCopyable, Comparable, Sendable {
  associatedtype Total: BitwiseCopyable, Sendable
  var total: Total { get }
  init(total: Total)
}
extension Float: ReductionLane {
  var total: Double { Double(self) }
  init(total: Double) { self = Float(total) }
}
extension Double: ReductionLane {
  var total: Double { self }
  init(total: Double) { self = total }
}
extension Int64: ReductionLane {
  var total: Int64 { self }
  init(total: Int64) { self = total }
}
extension UInt64: ReductionLane {
  var total: UInt64 { self }
  init(total: UInt64) { self = total }
}

/// The loops of one fold over one type. Each takes its elements in an order that depends on their number alone.
struct LaneFold<Element: ReductionLane>: Sendable {
  /// The fold of n neighbours.
  var line: @Sendable (_ x: UnsafePointer<Element>, _ n: Int) -> Element
  /// acc[i] = acc[i] joined with x[i] for i < n.
  var row: @Sendable (_ x: UnsafePointer<Element>, _ acc: UnsafeMutablePointer<Element>, _ n: Int) -> Void
  /// acc[i] = the fold of `rows` elements, `stride` apart, from x[i] on; nil where `row` does it.
  var rows:
    (
      @Sendable (
        _ x: UnsafePointer<Element>, _ stride: Int, _ rows: Int, _ acc: UnsafeMutablePointer<Element>, _ n: Int
      ) -> Void
    )?
  var join: @Sendable (Element.Total, Element.Total) -> Element.Total
  /// The fold of nothing.
  var identity: Element
}

extension LaneFold {
  /// Eight accumulators in turn, joined in a fixed order.
  @inline(__always)
  fileprivate static func make(
    identity: Element, _ step: @escaping @Sendable (Element, Element) -> Element,
    _ merge: @escaping @Sendable (Element, Element) -> Element,
    _ join: @escaping @Sendable (Element.Total, Element.Total) -> Element.Total
  ) -> LaneFold {
    LaneFold(
      line: { x, n in
        var (a, b, c, d) = (identity, identity, identity, identity)
        var (e, f, g, h) = (identity, identity, identity, identity)
        var i = 0
        while i &+ 8 <= n {
          (a, b, c, d) = (step(a, x[i]), step(b, x[i &+ 1]), step(c, x[i &+ 2]), step(d, x[i &+ 3]))
          (e, f, g, h) = (step(e, x[i &+ 4]), step(f, x[i &+ 5]), step(g, x[i &+ 6]), step(h, x[i &+ 7]))
          i &+= 8
        }
        while i < n {
          a = step(a, x[i])
          i &+= 1
        }
        return merge(merge(merge(a, e), merge(b, f)), merge(merge(c, g), merge(d, h)))
      },
      row: { x, acc, n in for i in 0..<n { acc[i] = step(acc[i], x[i]) } },
      rows: nil, join: join, identity: identity)
  }

  /// Folds of floats. NaN anywhere gives NaN.
  @inline(__always)
  fileprivate static func floats(_ fold: Fold) -> LaneFold where Element: BinaryFloatingPoint, Element.Total == Double {
    switch fold {
    case .sum: make(identity: 0, { $0 + $1 }, { $0 + $1 }, { $0 + $1 })
    case .sumOfSquares: make(identity: 0, { $0 + $1 * $1 }, { $0 + $1 }, { $0 + $1 })
    case .sumOfMagnitudes: make(identity: 0, { $0 + abs($1) }, { $0 + $1 }, { $0 + $1 })
    case .product: make(identity: 1, { $0 * $1 }, { $0 * $1 }, { $0 * $1 })
    case .maximum:
      make(
        identity: -Element.infinity, { $0 >= $1 || $0.isNaN ? $0 : $1 }, { $0 >= $1 || $0.isNaN ? $0 : $1 },
        { $0 >= $1 || $0.isNaN ? $0 : $1 })
    case .minimum:
      make(
        identity: Element.infinity, { $0 <= $1 || $0.isNaN ? $0 : $1 }, { $0 <= $1 || $0.isNaN ? $0 : $1 },
        { $0 <= $1 || $0.isNaN ? $0 : $1 })
    }
  }

  /// Folds of integers, which wrap. `lowest` and `highest` are the bounds of the element type.
  @inline(__always)
  fileprivate static func integers(_ fold: Fold, lowest: Element, highest: Element) -> LaneFold
  where Element: FixedWidthInteger, Element.Total == Element {
    switch fold {
    case .sum: make(identity: 0, { $0 &+ $1 }, { $0 &+ $1 }, { $0 &+ $1 })
    case .sumOfSquares: make(identity: 0, { $0 &+ $1 &* $1 }, { $0 &+ $1 }, { $0 &+ $1 })
    case .sumOfMagnitudes: make(identity: 0, { $0 &+ ($1 < 0 ? 0 &- $1 : $1) }, { $0 &+ $1 }, { $0 &+ $1 })
    case .product: make(identity: 1, { $0 &* $1 }, { $0 &* $1 }, { $0 &* $1 })
    case .maximum: make(identity: lowest, { $0 > $1 ? $0 : $1 }, { $0 > $1 ? $0 : $1 }, { $0 > $1 ? $0 : $1 })
    case .minimum: make(identity: highest, { $0 < $1 ? $0 : $1 }, { $0 < $1 ? $0 : $1 }, { $0 < $1 ? $0 : $1 })
    }
  }
}

extension LaneFold<Float> {
  /// By the micro-kernels where there is one.
  static func float32(_ fold: Fold, kernels: apus_kernel_table?) -> LaneFold {
    var result = floats(fold)
    guard let kernels else { return result }
    let line: (@convention(c) (Int, UnsafePointer<Float>) -> Float)?
    switch fold {
    case .sum: line = kernels.sum_f32
    case .sumOfSquares: line = kernels.sum_squares_f32
    case .sumOfMagnitudes: line = kernels.sum_abs_f32
    case .maximum: line = kernels.max_f32
    case .minimum: line = kernels.min_f32
    case .product: line = nil
    }
    if let line { result.line = { x, n in line(n, x) } }
    if fold == .sum {
      let columns = kernels.column_sums_f32
      result.rows = { x, stride, rows, acc, n in columns(rows, n, x, stride, acc) }
    }
    if fold == .maximum || fold == .minimum {
      let binary = fold == .maximum ? kernels.max_f32_vv : kernels.min_f32_vv
      result.row = { x, acc, n in binary(n, acc, x, acc) }
    }
    return result
  }
}

extension LaneFold<Double> {
  static func float64(_ fold: Fold) -> LaneFold { floats(fold) }
}

extension LaneFold<Int64> {
  static func int64(_ fold: Fold, lowest: Int64, highest: Int64) -> LaneFold {
    integers(fold, lowest: lowest, highest: highest)
  }
}

extension LaneFold<UInt64> {
  static func uint64(_ fold: Fold) -> LaneFold { integers(fold, lowest: .min, highest: .max) }
}
