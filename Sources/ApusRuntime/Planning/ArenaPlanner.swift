// Places blocks of known size and lifetime in one arena, so that blocks alive at the same time never overlap.

/// Offline allocation by best fit over lifetimes: blocks are placed one after the other, each in the smallest gap that
/// the blocks already placed and alive with it leave, or behind them. Several orders of placing are tried within a
/// fixed budget of work, largest first before all, and the smallest arena wins. The result depends on the blocks alone.
///
/// Time grows with n log n and with the pairs of blocks whose lifetimes overlap.
package enum ArenaPlanner {
  package struct Block: Sendable, Hashable {
    /// Bytes; 0 is allowed and takes no room.
    package var size: Int
    /// The first and the last step that touch the block, both included. Any numbers; only their order counts.
    package var firstUse: Int
    package var lastUse: Int

    package init(size: Int, firstUse: Int, lastUse: Int) {
      (self.size, self.firstUse, self.lastUse) = (size, firstUse, lastUse)
    }
  }

  package struct Plan: Sendable, Hashable {
    /// The first byte of each block: a multiple of the alignment.
    package var offsets: [Int]
    /// Bytes of the arena, a multiple of the alignment.
    package var size: Int
    /// No arena can be smaller: the most bytes, aligned, that are alive at one step.
    package var lowerBound: Int
  }

  /// Places all blocks.
  ///
  /// - Parameters:
  ///   - alignment: of every offset, in bytes; a power of two.
  ///   - limit: the largest arena wanted, in bytes.
  ///   - slack: the search ends at an arena larger than the lower bound by this part of it.
  /// - Returns: nil for a negative size, for a last use before the first, for an arena beyond the limit, and for sizes
  ///   that do not add up in an `Int`.
  package static func plan(_ blocks: [Block], alignment: Int = 64, limit: Int = Int.max, slack: Double = 0) -> Plan? {
    guard let lifetimes = aligned(blocks, alignment) else { return nil }
    let lowerBound = peak(lifetimes)
    if lowerBound > limit { return nil }
    var offsets = [Int](repeating: 0, count: blocks.count)
    if lifetimes.isEmpty { return Plan(offsets: offsets, size: 0, lowerBound: 0) }

    let best = search(lifetimes, enough: lowerBound + Int(Double(lowerBound) * slack))
    if best.size > limit { return nil }
    for (index, lifetime) in lifetimes.enumerated() { offsets[lifetime.block] = best.offsets[index] }
    return Plan(offsets: offsets, size: best.size, lowerBound: lowerBound)
  }

  /// Pairs of blocks to look at before the best placement so far has to do; the first placement is always finished.
  private static let searchBudget = 250_000

  /// Places in each order; then, starting from the best, moves the blocks that end the arena to the front of the order
  /// and places again. Stops at an arena of `enough` bytes or when the budget is spent.
  private static func search(_ lifetimes: [Lifetime], enough: Int) -> Placement {
    let neighbours = Neighbours(lifetimes)
    let cost = lifetimes.count + (neighbours?.pairVisits ?? lifetimes.count * lifetimes.count / 2)
    var spent = 0
    var best = Placement(offsets: [], size: .max)
    var bestSequence: [Int32] = []
    func place(_ sequence: [Int32]) -> Placement {
      spent += cost
      let placement = neighbours.map { $0.place(lifetimes, sequence) } ?? Placement.dense(lifetimes, sequence)
      if placement.size < best.size { (best, bestSequence) = (placement, sequence) }
      return placement
    }
    var mayGoOn: Bool { best.size > enough && spent + cost <= searchBudget }

    _ = place(PlacementOrder.largestFirst.sequence(lifetimes))
    for order in PlacementOrder.allCases.dropFirst() where mayGoOn { _ = place(order.sequence(lifetimes)) }
    var sequence = bestSequence
    var current = best
    while mayGoOn {
      let atTheEnd = { (index: Int32) in
        current.offsets[Int(index)] + lifetimes[Int(index)].size == current.size
      }
      let moved = sequence.filter(atTheEnd) + sequence.filter { !atTheEnd($0) }
      if moved == sequence { break }
      sequence = moved
      current = place(sequence)
    }
    return best
  }

  /// The blocks that take room, sizes rounded up, ordered by first use. Their sizes add up without overflow, and no
  /// offset can exceed the sum, so the arithmetic after this needs no checks.
  private static func aligned(_ blocks: [Block], _ alignment: Int) -> [Lifetime]? {
    precondition(alignment > 0 && alignment & (alignment - 1) == 0, "the alignment must be a power of two")
    var result: [Lifetime] = []
    result.reserveCapacity(blocks.count)
    var sum = 0
    for (index, block) in blocks.enumerated() {
      guard block.size >= 0, block.firstUse <= block.lastUse else { return nil }
      if block.size == 0 { continue }
      let (padded, overflow) = block.size.addingReportingOverflow(alignment - 1)
      let size = padded & ~(alignment - 1)
      let (total, totalOverflow) = sum.addingReportingOverflow(size)
      if overflow || totalOverflow { return nil }
      sum = total
      result.append(Lifetime(size: size, first: block.firstUse, last: block.lastUse, block: index))
    }
    result.sort { ($0.first, $0.block) < ($1.first, $1.block) }
    return result
  }

  /// The most bytes alive at one step.
  private static func peak(_ lifetimes: [Lifetime]) -> Int {
    let byEnd = lifetimes.sorted { $0.last < $1.last }
    var ended = 0
    var live = 0
    var peak = 0
    for lifetime in lifetimes {
      while byEnd[ended].last < lifetime.first {
        live -= byEnd[ended].size
        ended += 1
      }
      live += lifetime.size
      peak = max(peak, live)
    }
    return peak
  }
}

/// A block that takes room: aligned size, first and last step, and its index among all blocks.
private struct Lifetime {
  var size: Int
  var first: Int
  var last: Int
  var block: Int

  /// Steps between first and last use. The difference of two `Int`s can overflow; as a word without sign it is exact.
  var length: UInt { UInt(bitPattern: last) &- UInt(bitPattern: first) }
}

/// The orders in which blocks are placed. Ties go to the block with the earlier first use.
private enum PlacementOrder: CaseIterable {
  case largestFirst
  case longestLivedFirst
  case heaviestFirst
  case byFirstUse

  func sequence(_ lifetimes: [Lifetime]) -> [Int32] {
    let indices = (0..<Int32(lifetimes.count))
    switch self {
    case .largestFirst: return Self.descending(lifetimes.map { (UInt($0.size), $0.length) })
    case .longestLivedFirst: return Self.descending(lifetimes.map { ($0.length, UInt($0.size)) })
    case .heaviestFirst:
      return Self.descending(
        lifetimes.map { lifetime in
          // Wraps only for a life over all integers, where a wrong order does no harm.
          let weight = UInt(lifetime.size).multipliedFullWidth(by: lifetime.length &+ 1)
          return (weight.high, weight.low)
        })
    case .byFirstUse: return Array(indices)
    }
  }

  private static func descending(_ keys: [(UInt, UInt)]) -> [Int32] {
    (0..<Int32(keys.count)).sorted { a, b in
      let (left, right) = (keys[Int(a)], keys[Int(b)])
      if left.0 != right.0 { return left.0 > right.0 }
      return left.1 != right.1 ? left.1 > right.1 : a < b
    }
  }
}

/// Bytes of the arena that a placed block has: from `start` up to `end`.
private struct Extent {
  var start: Int
  var end: Int
}

/// Looks for the smallest gap, among extents shown in ascending order of their starts.
private struct GapSearch {
  private let size: Int
  private var top = 0
  private var bestGap = Int.max
  private var bestStart = 0

  init(size: Int) { self.size = size }

  mutating func pass(start: Int, end: Int) {
    let gap = start - top
    if gap >= size && gap < bestGap { (bestGap, bestStart) = (gap, top) }
    top = max(top, end)
  }

  /// The lowest of the smallest gaps; behind everything if there is none.
  var result: Int { bestGap == Int.max ? top : bestStart }
}

/// Offsets by index into the lifetimes, and the end of the last block.
private struct Placement {
  var offsets: [Int]
  var size: Int

  /// Compares each block with all those placed before it: for lifetimes of which most overlap.
  static func dense(_ lifetimes: [Lifetime], _ sequence: [Int32]) -> Placement {
    var result = Placement(offsets: [Int](repeating: 0, count: lifetimes.count), size: 0)
    /// By start. Blocks of different times may share bytes.
    var placed: [(extent: Extent, first: Int, last: Int)] = []
    placed.reserveCapacity(lifetimes.count)
    for index in sequence {
      let lifetime = lifetimes[Int(index)]
      var search = GapSearch(size: lifetime.size)
      for other in placed where other.first <= lifetime.last && lifetime.first <= other.last {
        search.pass(start: other.extent.start, end: other.extent.end)
      }
      let extent = Extent(start: search.result, end: search.result + lifetime.size)
      result.offsets[Int(index)] = extent.start
      result.size = max(result.size, extent.end)
      var position = placed.count
      while position > 0 && placed[position - 1].extent.start > extent.start { position -= 1 }
      placed.insert((extent, lifetime.first, lifetime.last), at: position)
    }
    return result
  }
}

/// For each block, those alive with it: for lifetimes of which few overlap.
private struct Neighbours {
  /// The neighbours of block `i` are `list[begin[i]..<begin[i + 1]]`.
  private var begin: [Int]
  private var list: [Int32]

  /// Neighbours that one placement of all blocks looks at.
  var pairVisits: Int { list.count }

  /// nil if so many overlap that comparing all with all is quicker.
  init?(_ lifetimes: [Lifetime]) {
    let count = lifetimes.count
    let maximumPairs = min(max(count * count / 16, 64), 1 << 22)
    var pairs: [(Int32, Int32)] = []
    var active: [Int32] = []
    begin = [Int](repeating: 0, count: count + 1)
    for (index, lifetime) in lifetimes.enumerated() {
      active.removeAll { lifetimes[Int($0)].last < lifetime.first }
      if pairs.count + active.count > maximumPairs { return nil }
      for other in active {
        pairs.append((other, Int32(index)))
        begin[Int(other) + 1] += 1
      }
      begin[index + 1] += active.count
      active.append(Int32(index))
    }
    for index in 0..<count { begin[index + 1] += begin[index] }
    list = [Int32](repeating: 0, count: begin[count])
    var next = begin
    for (a, b) in pairs {
      list[next[Int(a)]] = b
      next[Int(a)] += 1
      list[next[Int(b)]] = a
      next[Int(b)] += 1
    }
  }

  func place(_ lifetimes: [Lifetime], _ sequence: [Int32]) -> Placement {
    /// -1: not placed yet.
    var result = Placement(offsets: [Int](repeating: -1, count: lifetimes.count), size: 0)
    var alive: [Extent] = []
    for index in sequence.lazy.map(Int.init) {
      alive.removeAll(keepingCapacity: true)
      for other in list[begin[index]..<begin[index + 1]].lazy.map(Int.init) where result.offsets[other] >= 0 {
        let start = result.offsets[other]
        alive.append(Extent(start: start, end: start + lifetimes[other].size))
      }
      Self.sort(&alive)
      let size = lifetimes[index].size
      var search = GapSearch(size: size)
      for extent in alive { search.pass(start: extent.start, end: extent.end) }
      result.offsets[index] = search.result
      result.size = max(result.size, search.result + size)
    }
    return result
  }

  /// By start; few extents, as is usual, without the allocations of the general sort.
  private static func sort(_ extents: inout [Extent]) {
    if extents.count > 48 { return extents.sort { $0.start < $1.start } }
    for index in extents.indices.dropFirst() {
      let moved = extents[index]
      var position = index
      while position > 0 && extents[position - 1].start > moved.start {
        extents[position] = extents[position - 1]
        position -= 1
      }
      extents[position] = moved
    }
  }
}
