// Which steps of a region run side by side: those that depend on nothing in common and cannot fill the threads alone.

import ApusGraph

/// Orders the steps of a region in waves. The steps of a wave do not depend on one another; waves run one after the
/// other.
///
/// A step that fills the threads by itself, or that is over before a second thread could help, is a wave of its own,
/// and such steps keep their order. Only where steps run changes, never what their parts are: results keep their bits.
enum SideBySide {
  /// The most steps of one wave.
  static let maximumSteps = 16
  /// How many steps ahead a companion is looked for: what is computed early lies in memory longer.
  private static let window = 64
  /// Operations below which a step is not worth a second thread: some microseconds of work.
  private static let worthSharing = 1 << 16

  /// The order in which the drafts run: behind those they depend on, the longest of a wave first. `waves` has the wave
  /// of each position.
  struct Order: Equatable, Sendable {
    var drafts: [Int]
    var waves: [Int]
    /// True if the drafts keep their order, each a wave of its own.
    var isOriginal = false

    /// The drafts as they come, each a wave of its own.
    static func original(count: Int) -> Order {
      Order(drafts: Array(0..<count), waves: Array(0..<count), isOriginal: true)
    }
  }

  static func order(_ drafts: [StepDraft], nodes: [Int], program: Program, threads: Int) -> Order {
    let shareable = threads > 1 ? drafts.map { isNarrow($0, threads: threads) } : []
    guard shareable.contains(true) else { return .original(count: drafts.count) }
    let producers = producers(nodes, program: program)
    var isDone = [Bool](repeating: false, count: drafts.count)
    func isReady(_ draft: Int) -> Bool {
      program.nodes[nodes[draft]].inputs.allSatisfy { input in
        guard let input, case let producer = Int(producers[input.index]), producer >= 0 else { return true }
        return isDone[producer]
      }
    }
    var order = Order(drafts: [], waves: [])
    var count = 0
    for index in drafts.indices where !isDone[index] {
      var wave = [index]
      if shareable[index] {
        var parts = width(drafts[index])
        for other in drafts.indices[(index + 1)...].prefix(window) {
          if wave.count == maximumSteps || parts >= 2 * threads { break }
          guard !isDone[other], shareable[other], isReady(other) else { continue }
          wave.append(other)
          parts += width(drafts[other])
        }
      }
      if wave.count > 1 { wave.sort { (work(drafts[$0]), $1) > (work(drafts[$1]), $0) } }
      for member in wave {
        isDone[member] = true
        order.drafts.append(member)
        order.waves.append(count)
      }
      count += 1
    }
    return order
  }

  private static func isNarrow(_ draft: StepDraft, threads: Int) -> Bool {
    !draft.step.phases.isEmpty && width(draft) < 2 * threads && work(draft) >= worthSharing
  }

  /// The parts of the widest phase.
  private static func width(_ draft: StepDraft) -> Int { draft.step.phases.max() ?? 0 }

  /// What a step has to do, in operations; one that does not count them moves its bytes.
  private static func work(_ draft: StepDraft) -> Int { max(draft.cost.operations, draft.cost.bytes) }

  /// By value of the graph: the draft that computes it; -1 if none does.
  private static func producers(_ nodes: [Int], program: Program) -> [Int32] {
    var producers = [Int32](repeating: -1, count: program.graph.values.count)
    for (index, node) in nodes.enumerated() {
      for case let output? in program.nodes[node].outputs { producers[output.index] = Int32(index) }
    }
    return producers
  }
}
