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

  /// The drafts of each wave by index, longest first. Every draft stands in one wave, behind those it depends on.
  static func waves(_ drafts: [RegionPlanner.StepDraft], program: Program, threads: Int) -> [[Int]] {
    let shareable = drafts.map { threads > 1 && isNarrow($0, threads: threads) }
    guard shareable.contains(true) else { return drafts.indices.map { [$0] } }
    let producers = dependencies(drafts, program: program)
    var isDone = [Bool](repeating: false, count: drafts.count)
    var waves: [[Int]] = []
    for index in drafts.indices where !isDone[index] {
      var wave = [index]
      if shareable[index] {
        var parts = width(drafts[index])
        for other in drafts.indices[(index + 1)...].prefix(window) {
          if wave.count == maximumSteps || parts >= 2 * threads { break }
          guard !isDone[other], shareable[other], producers[other].allSatisfy({ isDone[$0] }) else { continue }
          wave.append(other)
          parts += width(drafts[other])
        }
      }
      for member in wave { isDone[member] = true }
      waves.append(wave.sorted { (work(drafts[$0]), $1) > (work(drafts[$1]), $0) })
    }
    return waves
  }

  private static func isNarrow(_ draft: RegionPlanner.StepDraft, threads: Int) -> Bool {
    !draft.step.phases.isEmpty && width(draft) < 2 * threads && work(draft) >= worthSharing
  }

  /// The parts of the widest phase.
  private static func width(_ draft: RegionPlanner.StepDraft) -> Int { draft.step.phases.max() ?? 0 }

  /// What a step has to do, in operations; one that does not count them moves its bytes.
  private static func work(_ draft: RegionPlanner.StepDraft) -> Int {
    let bytes = (draft.inputTypes + draft.outputTypes).reduce(0) { $0 &+ ($1?.byteCount ?? 0) }
    return max(draft.step.operations, bytes)
  }

  /// By draft: the drafts whose results it reads.
  private static func dependencies(_ drafts: [RegionPlanner.StepDraft], program: Program) -> [[Int]] {
    var producer: [Int: Int] = [:]
    return drafts.enumerated().map { index, draft in
      let node = program.nodes[draft.node].node
      let read = node.inputs.compactMap { $0.flatMap { producer[$0.index] } }
      for output in node.outputs.compactMap({ $0 }) { producer[output.index] = index }
      return read
    }
  }
}
