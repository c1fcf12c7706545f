// The steps of a template's latest plans, to be used again where a new size leaves sizes of some layers as they were.

import Synchronization

/// The steps that were planned for the latest sizes, by their place among the steps of a template.
///
/// A new size of the inputs is not a new one for every layer: the encoder stays while the text grows, and the small
/// images deep in a detector have few sizes. Such a step is what planning it again would give.
final class StepMemo: Sendable {
  struct Step: Sendable {
    /// All numbers of the plan it was made for. It holds for others that agree where it depends on them.
    let numbers: [Int]
    let draft: StepDraft
    /// True if its kernel has looked at tensors.
    let hasRead: Bool
  }

  /// By place, the oldest first.
  private let steps: Mutex<[[Step]]>

  /// Kept for each place.
  private static let most = 16

  init(count: Int) { steps = Mutex([[Step]](repeating: [], count: count)) }

  /// By place: the step for these numbers, of which the one at `place` depends on `sizes[place]`; nil if there is none.
  func steps(_ numbers: [Int], dependingOn sizes: [[Int]]) -> [Step?] {
    steps.withLock { steps in
      var found: [Step?] = []
      found.reserveCapacity(sizes.count)
      for (place, sizes) in sizes.enumerated() {
        found.append(
          steps[place].last { step in sizes.allSatisfy { step.numbers[$0] == numbers[$0] } })
      }
      return found
    }
  }

  /// Forgets all steps.
  func removeAll() {
    steps.withLock { steps in
      for place in steps.indices { steps[place] = [] }
    }
  }

  /// Keeps steps in the place of the oldest ones.
  func keep(_ new: [(place: Int, step: Step)]) {
    if new.isEmpty { return }
    steps.withLock { steps in
      for (place, step) in new {
        if steps[place].count == StepMemo.most { steps[place].removeFirst() }
        steps[place].append(step)
      }
    }
  }
}
