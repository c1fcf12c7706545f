// The plans of a program by the node they start at, least recently used out.

import Synchronization

/// Finds plans that hold for given values. Bounded for each starting node.
final class PlanCache: Sendable {
  /// Plans kept for one starting node.
  static let capacity = 64

  private let plans = Mutex<[Int: [RegionPlan]]>([:])

  /// The plan that starts at `node` and holds for `values`, if there is one; it becomes the most recently used.
  func plan(startingAt node: Int, for values: borrowing ValueTable) -> RegionPlan? {
    let candidates = plans.withLock { $0[node] ?? [] }
    for (index, plan) in candidates.enumerated() where plan.matches(values) {
      if index > 0 { insert(plan) }
      return plan
    }
    return nil
  }

  /// Puts a plan first among those of its starting node.
  func insert(_ plan: RegionPlan) {
    if !plan.isKept { return }
    plans.withLock { plans in
      var list = plans[plan.nodes.lowerBound] ?? []
      list.removeAll { $0 === plan }
      list.insert(plan, at: 0)
      if list.count > PlanCache.capacity { list.removeLast() }
      plans[plan.nodes.lowerBound] = list
    }
  }

  func removeAll() { plans.withLock { $0.removeAll() } }
}
