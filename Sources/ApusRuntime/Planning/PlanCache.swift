// The plans of a program by the node they start at, least recently used out, and what they have in common.

import Synchronization

/// Finds plans that hold for given values. Bounded for each starting node.
final class PlanCache: Sendable {
  /// Plans kept for one starting node.
  static let capacity = 64
  /// Plans made node by node before their common form is looked for: most models see one set of sizes only.
  private static let plansBeforeTemplate = 2

  /// What is known of a starting node.
  private struct Entry {
    /// The most recently used first.
    var plans: [RegionPlan] = []
    /// Plans that were made node by node.
    var planned = 0
    var template: PlanTemplate?
  }

  /// By starting node.
  private let entries: Mutex<[Entry]>

  /// For a program of `nodeCount` nodes.
  init(nodeCount: Int) { entries = Mutex([Entry](repeating: Entry(), count: nodeCount)) }

  /// The plan that starts at `node` and holds for `values`, if there is one; it becomes the most recently used.
  func plan(
    startingAt node: Int, for values: borrowing ValueTable, mayGrow: Bool, _ donations: Donations
  ) -> RegionPlan? {
    let candidates = entries.withLock { $0[node].plans }
    guard let first = candidates.first else { return nil }
    if first.matches(values, mayGrow: mayGrow, donations) { return first }
    // Most plans differ in the sizes of the same inputs.
    let fingerprint = first.fingerprint(of: values)
    for plan in candidates.dropFirst() {
      if plan.fingerprint != fingerprint, plan.hasInputs(of: first) { continue }
      if !plan.matches(values, mayGrow: mayGrow, donations) { continue }
      moveToFront(plan)
      return plan
    }
    return nil
  }

  /// The common form of the plans that start at `node`, if one was found.
  func template(startingAt node: Int) -> PlanTemplate? { entries.withLock { $0[node].template } }

  /// Puts a plan first among those of its starting node.
  func insert(_ plan: RegionPlan) {
    if !plan.isKept { return }
    let node = plan.nodes.lowerBound
    let evicted = entries.withLock { entries in
      entries[node].plans.insert(plan, at: 0)
      return entries[node].plans.count > PlanCache.capacity ? entries[node].plans.removeLast() : nil
    }
    // Freed without the lock.
    withExtendedLifetime(evicted) {}
  }

  private func moveToFront(_ plan: RegionPlan) {
    entries.withLock { entries in
      let node = plan.nodes.lowerBound
      guard let index = entries[node].plans.firstIndex(where: { $0 === plan }) else { return }
      entries[node].plans.remove(at: index)
      entries[node].plans.insert(plan, at: 0)
    }
  }

  /// Keeps a plan. `makeTemplate` is called when there have been enough that were made node by node.
  func insert(_ plan: RegionPlan, template makeTemplate: () -> PlanTemplate?) {
    insert(plan)
    if plan.isBound { return }
    let node = plan.nodes.lowerBound
    let isTime = entries.withLock { entries in
      entries[node].planned += 1
      return entries[node].planned == PlanCache.plansBeforeTemplate
    }
    if !isTime { return }
    let template = makeTemplate()
    entries.withLock { $0[node].template = template }
  }

  /// All plans, by starting node, the most recently used first.
  var all: [RegionPlan] { entries.withLock { $0.flatMap(\.plans) } }

  /// Forgets the plans and their steps, and keeps what they have in common.
  func removeAll() {
    entries.withLock { entries in
      for node in entries.indices {
        entries[node].plans = []
        entries[node].template?.forgetSteps()
      }
    }
  }
}
