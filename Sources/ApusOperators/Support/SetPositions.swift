// The positions of the elements for which something holds, without a branch for each of them.

/// The `index < count` for which `isSet` holds, in ascending order.
@inline(__always)
func positions(_ count: Int, where isSet: (Int) -> Bool) -> [Int] {
  if count == 0 { return [] }
  return [Int](unsafeUninitializedCapacity: count) { buffer, initialized in
    guard let target = buffer.baseAddress else { return }
    var next = 0
    // Every index is written to the next place, and stays there if it is one of them.
    for index in 0..<count {
      target[next] = index
      next &+= isSet(index) ? 1 : 0
    }
    initialized = next
  }
}
