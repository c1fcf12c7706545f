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
    search(blocks, alignment: alignment, limit: limit, slack: slack)?.plan
  }

  /// The same for blocks with lifetimes that were planned before, by `schedule`: where placing them in the order that
  /// was good then is good enough, no other is looked for; else `schedule` is the new order. Nothing can be smaller
  /// than the lower bound; without slack, an order that reaches it is good enough.
  package static func plan(
    _ blocks: [Block], alignment: Int = 64, limit: Int = Int.max, slack: Double = 0, following schedule: inout Schedule?
  ) -> Plan? {
    if let plan = schedule?.place(blocks, alignment), plan.size <= enough(plan.lowerBound, slack), plan.size <= limit {
      return plan
    }
    guard let found = search(blocks, alignment: alignment, limit: limit, slack: slack) else { return nil }
    schedule = found.order.flatMap { Schedule(blocks, $0, found.plan) }
    return found.plan
  }

  /// The order that a search has found best.
  fileprivate struct Order {
    let lifetimes: [Lifetime]
    let neighbours: Neighbours?
    let sequence: [Int32]
  }

  private static func enough(_ lowerBound: Int, _ slack: Double) -> Int {
    let (sum, overflow) = lowerBound.addingReportingOverflow(Int(Double(lowerBound) * slack))
    return overflow ? .max : sum
  }

  private static func search(
    _ blocks: [Block], alignment: Int, limit: Int, slack: Double
  ) -> (plan: Plan, order: Order?)? {
    guard let lifetimes = aligned(blocks, alignment) else { return nil }
    let lowerBound = peak(lifetimes)
    if lowerBound > limit { return nil }
    var offsets = [Int](repeating: 0, count: blocks.count)
    if lifetimes.isEmpty { return (Plan(offsets: offsets, size: 0, lowerBound: 0), nil) }

    let neighbours = Neighbours(lifetimes)
    let (best, sequence) = search(lifetimes, neighbours, enough: enough(lowerBound, slack))
    if best.size > limit { return nil }
    for (index, lifetime) in lifetimes.enumerated() { offsets[lifetime.block] = best.offsets[index] }
    let plan = Plan(offsets: offsets, size: best.size, lowerBound: lowerBound)
    return (plan, Order(lifetimes: lifetimes, neighbours: neighbours, sequence: sequence))
  }

  /// Pairs of blocks to look at before the best placement so far has to do; the first placement is always finished.
  private static let searchBudget = 250_000

  /// Places in each order; then, starting from the best, moves the blocks that end the arena to the front of the order
  /// and places again. Stops at an arena of `enough` bytes or when the budget is spent.
  private static func search(
    _ lifetimes: [Lifetime], _ neighbours: Neighbours?, enough: Int
  ) -> (Placement, sequence: [Int32]) {
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
    return (best, bestSequence)
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
      alive.sortByStart()
      let size = lifetimes[index].size
      var search = GapSearch(size: size)
      for extent in alive { search.pass(start: extent.start, end: extent.end) }
      result.offsets[index] = search.result
      result.size = max(result.size, search.result + size)
    }
    return result
  }

  /// The neighbours of a block.
  func neighbours(of index: Int) -> ArraySlice<Int32> { list[begin[index]..<begin[index + 1]] }
}

extension [Extent] {
  /// By start; few extents, as is usual, without the allocations of the general sort.
  fileprivate mutating func sortByStart() {
    if count > 48 { return sort { $0.start < $1.start } }
    for index in indices.dropFirst() {
      let moved = self[index]
      var position = index
      while position > 0 && self[position - 1].start > moved.start {
        self[position] = self[position - 1]
        position -= 1
      }
      self[position] = moved
    }
  }
}

extension ArenaPlanner {
  /// An order of placing that was good for blocks of some sizes, for blocks with the same lifetimes and other sizes.
  package final class Schedule: Sendable {
    /// One block in the order of placing.
    private struct Entry {
      let block: Int32
      /// The end of its part of `earlier`, which begins where that of the entry before ends.
      let end: Int32
    }

    /// The blocks that took room, by first use.
    private let byStart: [Lifetime]
    /// The places in `byStart`, by last use.
    private let byEnd: [Int32]
    private let entries: [Entry]
    /// For each entry, the blocks alive with it that are placed before.
    private let earlier: [Int32]
    private let blockCount: Int

    /// Most blocks overlap few others. Where they overlap so many, a search is as quick.
    private static let maximumDense = 512

    /// `plan`: where the blocks lie in that order.
    fileprivate init?(_ blocks: [Block], _ order: Order, _ plan: Plan) {
      let (lifetimes, neighbours) = (order.lifetimes, order.neighbours)
      if neighbours == nil, lifetimes.count > Schedule.maximumDense { return nil }
      (byStart, blockCount) = (lifetimes, blocks.count)
      byEnd = lifetimes.indices.sorted { (lifetimes[$0].last, $0) < (lifetimes[$1].last, $1) }.map(Int32.init)
      var isPlaced = [Bool](repeating: false, count: lifetimes.count)
      var entries: [Entry] = []
      var earlier: [Int32] = []
      for index in order.sequence.lazy.map(Int.init) {
        let lifetime = lifetimes[index]
        if let neighbours {
          for other in neighbours.neighbours(of: index) where isPlaced[Int(other)] {
            earlier.append(Int32(lifetimes[Int(other)].block))
          }
        } else {
          for (other, placed) in isPlaced.enumerated() where placed {
            let isAlive = lifetimes[other].first <= lifetime.last && lifetime.first <= lifetimes[other].last
            if isAlive { earlier.append(Int32(lifetimes[other].block)) }
          }
        }
        isPlaced[index] = true
        // Most will lie in the same order again, and need no sorting then.
        earlier[(entries.last.map { Int($0.end) } ?? 0)...].sort { plan.offsets[Int($0)] < plan.offsets[Int($1)] }
        entries.append(Entry(block: Int32(lifetime.block), end: Int32(earlier.count)))
      }
      (self.entries, self.earlier) = (entries, earlier)
    }

    /// All blocks in the order of the schedule; nil if others take room, or if the sizes do not add up.
    fileprivate func place(_ blocks: [Block], _ alignment: Int) -> Plan? {
      guard blocks.count == blockCount, let lowerBound = peak(blocks, alignment) else { return nil }
      var plan = Plan(offsets: [Int](repeating: 0, count: blockCount), size: 0, lowerBound: lowerBound)
      let most = entries.indices.reduce(0) { max($0, count(of: $1)) }
      plan.size = plan.offsets.withUnsafeMutableBufferPointer { offsets in
        withUnsafeTemporaryAllocation(of: Extent.self, capacity: most) { alive in
          var (next, end) = (0, 0)
          for entry in entries {
            var count = 0
            while next < Int(entry.end) {
              let other = Int(earlier[next])
              let start = offsets[other]
              let extent = Extent(start: start, end: start + Schedule.padded(blocks[other].size, alignment))
              // They nearly always come in order.
              var position = count
              while position > 0, alive[position - 1].start > start {
                alive.initializeElement(at: position, to: alive[position - 1])
                position -= 1
              }
              alive.initializeElement(at: position, to: extent)
              count += 1
              next += 1
            }
            let size = Schedule.padded(blocks[Int(entry.block)].size, alignment)
            var search = GapSearch(size: size)
            for index in 0..<count { search.pass(start: alive[index].start, end: alive[index].end) }
            offsets[Int(entry.block)] = search.result
            end = max(end, search.result + size)
          }
          return end
        }
      }
      return plan
    }

    /// How many blocks alive with that of an entry are placed before it.
    private func count(of entry: Int) -> Int {
      Int(entries[entry].end) - (entry == 0 ? 0 : Int(entries[entry - 1].end))
    }

    /// The most bytes alive at one step; nil if not the blocks of the schedule take room, with its lifetimes, or if the
    /// sizes do not add up.
    private func peak(_ blocks: [Block], _ alignment: Int) -> Int? {
      var (ended, live, peak, total, count) = (0, 0, 0, 0, 0)
      for block in blocks where block.size != 0 { count += 1 }
      guard count == byStart.count else { return nil }
      for lifetime in byStart {
        let block = blocks[lifetime.block]
        guard block.size > 0, block.firstUse == lifetime.first, block.lastUse == lifetime.last,
          block.size <= Int.max - alignment
        else { return nil }
        let size = Schedule.padded(block.size, alignment)
        let (sum, overflow) = total.addingReportingOverflow(size)
        if overflow { return nil }
        total = sum
        while byStart[Int(byEnd[ended])].last < lifetime.first {
          live -= Schedule.padded(blocks[byStart[Int(byEnd[ended])].block].size, alignment)
          ended += 1
        }
        live += size
        peak = max(peak, live)
      }
      return peak
    }

    /// Without overflow, as `peak` has found.
    private static func padded(_ size: Int, _ alignment: Int) -> Int { (size + alignment - 1) & ~(alignment - 1) }
  }
}
