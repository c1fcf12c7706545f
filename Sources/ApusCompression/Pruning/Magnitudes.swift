// The smallest of many numbers, and patterns of zeros.

import ApusTensor

/// Which numbers are the `count` smallest in magnitude. Of equal ones those that are asked first; NaN is never small.
struct MagnitudeBound {
  /// The bits of the largest magnitude that goes, as far as there are places.
  private var bound: UInt32 = 0
  private var places = 0

  init(_ numbers: [[Float]], smallest count: Int) {
    guard count > 0 else { return }
    // The order of magnitudes is that of their bits: a histogram of the upper half, then of the lower one in its bin.
    var upper = [Int](repeating: 0, count: 1 << 16)
    for part in numbers { for number in part { upper[Int(Self.bits(number) >> 16)] += 1 } }
    var (bin, below) = (0, 0)
    while bin < upper.count - 1, below + upper[bin] < count {
      below += upper[bin]
      bin += 1
    }
    var lower = [Int](repeating: 0, count: 1 << 16)
    for part in numbers {
      for number in part where Int(Self.bits(number) >> 16) == bin { lower[Int(Self.bits(number) & 0xFFFF)] += 1 }
    }
    var last = 0
    while last < lower.count - 1, below + lower[last] < count {
      below += lower[last]
      last += 1
    }
    bound = UInt32(bin) << 16 | UInt32(last)
    places = count - below
  }

  private static func bits(_ number: Float) -> UInt32 { number.bitPattern & 0x7FFF_FFFF }

  /// Whether a number goes. Each is asked once, in any order.
  mutating func takes(_ number: Float) -> Bool {
    if number.isNaN { return false }
    let bits = Self.bits(number)
    if bits == bound, places > 0 {
      places -= 1
      return true
    }
    return bits < bound
  }
}

/// N of every M elements in a row along an axis.
package struct SparsePattern: Sendable {
  package let kept: Int
  package let group: Int

  package init(kept: Int, group: Int) { (self.kept, self.group) = (kept, group) }

  /// The elements that are not among the largest of their group; of equal ones the first stays. The last group of a row
  /// may have fewer.
  package func zeros(_ numbers: [Float], _ shape: Shape, axis: Int) -> [Bool] {
    var isZero = [Bool](repeating: false, count: numbers.count)
    forEachGroup(shape, axis: axis) { members in
      guard members.count > kept else { return }
      let order = members.sorted { (-Self.size(numbers[$0]), $0) < (-Self.size(numbers[$1]), $1) }
      for element in order.dropFirst(kept) { isZero[element] = true }
    }
    return isZero
  }

  private static func size(_ number: Float) -> Float { number.isNaN ? .infinity : abs(number) }

  /// The share of the groups that have no more than `kept` elements other than 0.
  package func conformity(_ numbers: [Float], _ shape: Shape, axis: Int) -> Double {
    var (fitting, all) = (0, 0)
    forEachGroup(shape, axis: axis) { members in
      all += 1
      if members.count(where: { numbers[$0] != 0 }) <= kept { fitting += 1 }
    }
    return all == 0 ? 1 : Double(fitting) / Double(all)
  }

  /// Calls `body` with the positions of the elements of each group.
  private func forEachGroup(_ shape: Shape, axis: Int, _ body: ([Int]) -> Void) {
    let walk = AxisWalk(shape, axis: axis)
    var members: [Int] = []
    for block in 0..<walk.outer {
      for column in 0..<walk.inner {
        for start in stride(from: 0, to: walk.extent, by: group) {
          members.removeAll(keepingCapacity: true)
          for index in start..<min(start + group, walk.extent) {
            members.append((block * walk.extent + index) * walk.inner + column)
          }
          body(members)
        }
      }
    }
  }
}
