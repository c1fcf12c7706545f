// Sums of products over rows of features, in an order that depends on the length only.

/// The sum of `a[i] * b[i]`, eight partial sums side by side.
@inline(__always)
func dotProduct<Scalar: BinaryFloatingPoint & SIMDScalar>(
  _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<Scalar>, _ count: Int
) -> Scalar {
  var sums = SIMD8<Scalar>(repeating: 0)
  let (x, y) = (UnsafeRawPointer(a), UnsafeRawPointer(b))
  let width = MemoryLayout<Scalar>.stride
  var index = 0
  while index &+ 8 <= count {
    sums +=
      x.loadUnaligned(fromByteOffset: index &* width, as: SIMD8<Scalar>.self)
      * y.loadUnaligned(fromByteOffset: index &* width, as: SIMD8<Scalar>.self)
    index &+= 8
  }
  if index &+ 4 <= count {
    sums.lowHalf +=
      x.loadUnaligned(fromByteOffset: index &* width, as: SIMD4<Scalar>.self)
      * y.loadUnaligned(fromByteOffset: index &* width, as: SIMD4<Scalar>.self)
    index &+= 4
  }
  var total = sums.sum()
  while index < count {
    total += a[index] * b[index]
    index &+= 1
  }
  return total
}

/// The sum of `(a[i] - b[i])²`.
@inline(__always)
func squaredDistance<Scalar: BinaryFloatingPoint & SIMDScalar>(
  _ a: UnsafePointer<Scalar>, _ b: UnsafePointer<Scalar>, _ count: Int
) -> Scalar {
  var sums = SIMD8<Scalar>(repeating: 0)
  let (x, y) = (UnsafeRawPointer(a), UnsafeRawPointer(b))
  let width = MemoryLayout<Scalar>.stride
  var index = 0
  while index &+ 8 <= count {
    let difference =
      x.loadUnaligned(fromByteOffset: index &* width, as: SIMD8<Scalar>.self)
      - y.loadUnaligned(fromByteOffset: index &* width, as: SIMD8<Scalar>.self)
    sums += difference * difference
    index &+= 8
  }
  if index &+ 4 <= count {
    let difference =
      x.loadUnaligned(fromByteOffset: index &* width, as: SIMD4<Scalar>.self)
      - y.loadUnaligned(fromByteOffset: index &* width, as: SIMD4<Scalar>.self)
    sums.lowHalf += difference * difference
    index &+= 4
  }
  var total = sums.sum()
  while index < count {
    let difference = a[index] - b[index]
    total += difference * difference
    index &+= 1
  }
  return total
}
