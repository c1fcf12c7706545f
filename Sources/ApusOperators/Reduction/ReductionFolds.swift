// What the reductions do with elements: folds of rows and of columns in each number type.

import CApusKernels

/// What is done with the elements of one output.
enum Fold: Sendable {
  case sum, sumOfSquares, sumOfMagnitudes, product, maximum, minimum

  /// As the micro-kernels call it.
  var kernel: apus_fold {
    switch self {
    case .sum: APUS_FOLD_SUM
    case .sumOfSquares: APUS_FOLD_SUM_SQUARES
    case .sumOfMagnitudes: APUS_FOLD_SUM_ABS
    case .product: APUS_FOLD_PRODUCT
    case .maximum: APUS_FOLD_MAX
    case .minimum: APUS_FOLD_MIN
    }
  }
}

/// A type that elements are folded in, and the type that partial results are joined in.
protocol ReductionElement: BitwiseCopyable, Comparable, Sendable {
  associatedtype Total: ReductionElement
  var total: Total { get }
  init(total: Total)
  /// What an element counts.
  static func taken(_ fold: Fold, _ x: Self) -> Self
  /// Two parts of a result as one.
  static func merged(_ fold: Fold, _ a: Self, _ b: Self) -> Self
  /// The fold of nothing.
  static func identity(_ fold: Fold) -> Self
  /// totals[i] = totals[i] merged with x[i] for i < count.
  static func join(_ fold: Fold, _ x: UnsafePointer<Self>, to totals: UnsafeMutablePointer<Total>, _ count: Int)
  /// The micro-kernels of a table.
  static func kernels(_ table: apus_kernel_table) -> FoldKernels
}

/// Folds of many rows of neighbours, and of neighbouring columns; see `apus_fold_fn`.
struct FoldKernels: Sendable {
  typealias Function =
    @convention(c) (apus_fold, Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer) -> Void
  let rows: Function
  let columns: Function
}

extension ReductionElement {
  static func join(_ fold: Fold, _ x: UnsafePointer<Self>, to totals: UnsafeMutablePointer<Total>, _ count: Int) {
    for index in 0..<count { totals[index] = Total.merged(fold, totals[index], x[index].total) }
  }
}

extension ReductionElement where Self: BinaryFloatingPoint {
  @inline(__always) static func taken(_ fold: Fold, _ x: Self) -> Self {
    switch fold {
    case .sumOfSquares: x * x
    case .sumOfMagnitudes: abs(x)
    default: x
    }
  }

  /// NaN of either side wins in maxima and minima.
  @inline(__always) static func merged(_ fold: Fold, _ a: Self, _ b: Self) -> Self {
    switch fold {
    case .sum, .sumOfSquares, .sumOfMagnitudes: a + b
    case .product: a * b
    case .maximum: a >= b || a.isNaN ? a : b
    case .minimum: a <= b || a.isNaN ? a : b
    }
  }

  @inline(__always) static func identity(_ fold: Fold) -> Self {
    switch fold {
    case .sum, .sumOfSquares, .sumOfMagnitudes: 0
    case .product: 1
    case .maximum: -Self.infinity
    case .minimum: Self.infinity
    }
  }
}

/// Integers wrap.
extension ReductionElement where Self: FixedWidthInteger {
  @inline(__always) static func taken(_ fold: Fold, _ x: Self) -> Self {
    switch fold {
    case .sumOfSquares: x &* x
    case .sumOfMagnitudes: x < 0 ? 0 &- x : x
    default: x
    }
  }

  @inline(__always) static func merged(_ fold: Fold, _ a: Self, _ b: Self) -> Self {
    switch fold {
    case .sum, .sumOfSquares, .sumOfMagnitudes: a &+ b
    case .product: a &* b
    case .maximum: a > b ? a : b
    case .minimum: a < b ? a : b
    }
  }

  @inline(__always) static func identity(_ fold: Fold) -> Self {
    switch fold {
    case .sum, .sumOfSquares, .sumOfMagnitudes: 0
    case .product: 1
    case .maximum: Self.min
    case .minimum: Self.max
    }
  }
}

/// Joined in their own type.
extension ReductionElement where Total == Self {
  @inline(__always) var total: Self { self }
  @inline(__always) init(total: Self) { self = total }
}

extension Float: ReductionElement {
  @inline(__always) var total: Double { Double(self) }
  @inline(__always) init(total: Double) { self = Float(total) }
  // Of concrete types: elements of 16 bits, which are folded in small pieces, are joined often.
  static func join(_ fold: Fold, _ x: UnsafePointer<Float>, to totals: UnsafeMutablePointer<Double>, _ count: Int) {
    for index in 0..<count { totals[index] = Double.merged(fold, totals[index], Double(x[index])) }
  }
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_f32, columns: table.fold_columns_f32)
  }
}
extension Double: ReductionElement {
  typealias Total = Double
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_f64, columns: table.fold_columns_f64)
  }
}
extension Int32: ReductionElement {
  typealias Total = Int32
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_i32, columns: table.fold_columns_i32)
  }
}
extension UInt32: ReductionElement {
  typealias Total = UInt32
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_u32, columns: table.fold_columns_u32)
  }
}
extension Int64: ReductionElement {
  typealias Total = Int64
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_i64, columns: table.fold_columns_i64)
  }
}
extension UInt64: ReductionElement {
  typealias Total = UInt64
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_u64, columns: table.fold_columns_u64)
  }
}
/// Maxima and minima only.
extension Int8: ReductionElement {
  typealias Total = Int8
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_s8, columns: table.fold_columns_s8)
  }
}
/// Maxima and minima only.
extension UInt8: ReductionElement {
  typealias Total = UInt8
  static func kernels(_ table: apus_kernel_table) -> FoldKernels {
    FoldKernels(rows: table.fold_rows_u8, columns: table.fold_columns_u8)
  }
}

/// One fold over one type. Elements are taken in an order that their number alone decides.
struct ElementFold<Element: ReductionElement>: Sendable {
  let fold: Fold
  /// nil: loops over single elements.
  let kernels: FoldKernels?

  init(_ fold: Fold, _ table: apus_kernel_table?) {
    self.fold = fold
    kernels = table.map(Element.kernels)
  }

  var identity: Element { Element.identity(fold) }

  /// y[r] = the fold of the n neighbours from x + r * stride on, for r < rows.
  func rows(
    _ rows: Int, _ n: Int, _ x: UnsafePointer<Element>, _ stride: Int, _ y: UnsafeMutablePointer<Element>
  ) {
    if let kernels { return kernels.rows(fold.kernel, rows, n, x, stride, y) }
    for row in 0..<rows { y[row] = line(x + row &* stride, n, 1) }
  }

  /// y[j] = the fold of `rows` elements, stride apart, from x + j on, for j < n.
  func columns(
    _ rows: Int, _ n: Int, _ x: UnsafePointer<Element>, _ stride: Int, _ y: UnsafeMutablePointer<Element>
  ) {
    if let kernels { return kernels.columns(fold.kernel, rows, n, x, stride, y) }
    for column in 0..<n { y[column] = line(x + column, rows, stride) }
  }

  private func line(_ x: UnsafePointer<Element>, _ count: Int, _ stride: Int) -> Element {
    var result = identity.total
    for index in 0..<count {
      result = Element.Total.merged(fold, result, Element.taken(fold, x[index &* stride]).total)
    }
    return Element(total: result)
  }

  /// totals[i] = totals[i] joined with x[i] for i < count.
  func join(_ x: UnsafePointer<Element>, to totals: UnsafeMutablePointer<Element.Total>, _ count: Int) {
    Element.join(fold, x, to: totals, count)
  }
}
