// Inputs that a run may write over: those that were given away with it and that nothing else refers to.

import ApusGraph
import ApusTensor

/// The inputs of a graph that a region may write over, as far as they still exist.
///
/// That somebody gave a value away says that its memory would be welcome, and no more: a region writes over it if the
/// table of the run holds the only reference to it and no later node needs it.
struct Donations: Sendable {
  /// What was given away.
  private(set) var given: [ValueID] = []
  /// Of that, what nothing else refers to at the moment.
  private(set) var free: [ValueID] = []

  /// Smaller values are not worth plans of their own.
  static let smallestBytes = 1 << 13

  mutating func append(_ value: ValueID, isFree: Bool) {
    given.append(value)
    if isFree { free.append(value) }
  }
}

extension RegionDraft {
  /// The inputs that steps may write over, by number.
  var donatedSlots: [Int] {
    // A region whose caches grow may have to run twice.
    if donated.isEmpty || caches.caches.contains(where: { $0.pitch?.isAppended ?? false }) { return [] }
    return inputs.indices.filter { donated.contains(inputs[$0].value) }
  }
}

extension RegionPlan {
  /// True if the plan writes over nothing but what is free, and was made to write over all of that if it can.
  func suits(_ donations: Donations) -> Bool {
    if overwritten.isEmpty && donations.free.isEmpty { return true }
    return overwritten.allSatisfy(donations.free.contains)
      && donations.free.allSatisfy { value in
        donated.contains(value) || !inputs.contains { $0.value == value }
      }
  }
}
