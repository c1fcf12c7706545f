// The parts of a run that nobody has claimed.

import Synchronization

/// The unclaimed parts of a job, in lanes of neighbours: the caller begins with the first lane, each worker with one
/// of its own, and who finds its lane empty goes on with the next. So a thread comes upon the same share of every job
/// of one shape, and finds in its cache what it has written there itself.
struct PartLanes: ~Copyable {
  /// Threads beyond so many share lanes.
  private static let most = 8

  private struct Lane: ~Copyable {
    let next = Atomic<Int>(0)
    let padding = CacheLinePadding()
  }

  private let lanes = UnsafeMutablePointer<Lane>.allocate(capacity: most)
  private var count = 1
  /// Each lane has so many parts, and the first `longer` ones one more: the caller is there already.
  private var share = 0
  private var longer = 0

  init() {
    for lane in 0..<Self.most { (lanes + lane).initialize(to: Lane()) }
  }

  deinit {
    lanes.deinitialize(count: Self.most)
    lanes.deallocate()
  }

  /// Only while nobody claims.
  mutating func fill(parts: Int, threads: Int) {
    count = max(1, min(threads, parts, Self.most))
    (share, longer) = parts.quotientAndRemainder(dividingBy: count)
    for lane in 0..<count { lanes[lane].next.store(begin(of: lane), ordering: .relaxed) }
  }

  /// Where the worker of that number begins.
  func lane(of worker: Int) -> Int { (worker + 1) % count }

  /// A part that nobody else gets: of that lane, or of the next one that has any. nil: none is left.
  @inline(__always) func claim(from lane: inout Int) -> Int? {
    for _ in 0..<count {
      let end = begin(of: lane + 1)
      // Looked at first: a lane that is empty is asked by all who come by.
      if lanes[lane].next.load(ordering: .relaxed) < end {
        let part = lanes[lane].next.wrappingAdd(1, ordering: .relaxed).oldValue
        if part < end { return part }
      }
      lane = lane + 1 == count ? 0 : lane + 1
    }
    return nil
  }

  var areEmpty: Bool {
    for lane in 0..<count where lanes[lane].next.load(ordering: .relaxed) < begin(of: lane + 1) { return false }
    return true
  }

  /// The first part of a lane.
  @inline(__always) private func begin(of lane: Int) -> Int { share * lane + min(lane, longer) }
}
