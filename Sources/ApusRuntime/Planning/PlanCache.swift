// The plans of a program by the node they start at, least recently used out.

import Synchronization

/// Finds plans that hold for given values. Bounded for each starting node.
final class PlanCache: Sendable {
  /// Plans kept for one starting node.
  static let capacity = 64

  /// By starting node.
  private let plans: Mutex<[[RegionPlan]]>

  /// For a program of `nodeCount` nodes.
  init(nodeCount: Int) { plans = Mutex([[RegionPlan]](repeating: [], count: nodeCount)) }

  /// The plan that starts at `node` and holds for `values`, if there is one; it becomes the most recently used.
  func plan(startingAt node: Int, for values: borrowing ValueTable) -> RegionPlan? {
    let candidates = plans.withLock { $0[node] }
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
      let node = plan.nodes.lowerBound
      plans[node].removeAll { $0 === plan }
      plans[node].insert(plan, at: 0)
      if plans[node].count > PlanCache.capacity { plans[node].removeLast() }
    }
  }

  /// All plans, by starting node, the most recently used first.
  var all: [RegionPlan] { plans.withLock { $0.flatMap(\.self) } }

  func removeAll() {
    plans.withLock { plans in
      for node in plans.indices { plans[node] = [] }
    }
  }
}
