// The extents of a tensor, all known.

/// The extents of a tensor, outermost first. A rank of 0 is a scalar; an extent of 0 makes the tensor empty.
public struct Shape: Sendable, Hashable, ExpressibleByArrayLiteral, RandomAccessCollection, MutableCollection {
  public var dims: [Int]

  @inlinable public init(_ dims: [Int]) { self.dims = dims }
  @inlinable public init(arrayLiteral elements: Int...) { dims = elements }

  @inlinable public var startIndex: Int { 0 }
  @inlinable public var endIndex: Int { dims.count }
  @inlinable public subscript(axis: Int) -> Int {
    get { dims[axis] }
    set { dims[axis] = newValue }
  }

  /// The number of axes.
  @inlinable public var rank: Int { dims.count }

  /// The number of elements. The shape must have passed `checkedElementCount` once.
  public var elementCount: Int {
    var product = 1
    for dim in dims { product &*= dim }
    return product
  }

  /// The number of elements, or nil if an extent is negative or no memory can hold as many: the extents beside those
  /// of 0 multiply to more than `maximumElementCount`. So sizes, strides and small multiples of them never overflow,
  /// of empty tensors neither.
  public var checkedElementCount: Int? {
    var product = 1
    for dim in dims {
      if dim < 0 { return nil }
      let next = product.multipliedReportingOverflow(by: Swift.max(dim, 1))
      if next.overflow || next.partialValue > Shape.maximumElementCount { return nil }
      product = next.partialValue
    }
    return dims.contains(0) ? 0 : product
  }

  /// More than the addresses of a process.
  private static let maximumElementCount = 1 << 48

  /// Row-major strides in elements.
  public var strides: [Int] {
    var strides = [Int](repeating: 1, count: rank)
    var axis = rank - 2
    while axis >= 0 {
      strides[axis] = strides[axis + 1] &* dims[axis + 1]
      axis -= 1
    }
    return strides
  }

  /// The product of the extents of `axes`.
  public func count(of axes: Range<Int>) -> Int {
    var product = 1
    for axis in axes { product &*= dims[axis] }
    return product
  }
}

extension Shape: CustomStringConvertible {
  /// `[2, 3, 224]`.
  public var description: String { "[" + dims.map { "\($0)" }.joined(separator: ", ") + "]" }
}
