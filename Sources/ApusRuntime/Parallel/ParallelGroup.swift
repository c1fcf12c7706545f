// Several independent jobs side by side: their parts form one sequence, which the threads share.

import ApusGraph

/// One job of a group.
package struct ParallelTask {
  /// The number of parts of this job and of all jobs before it in the group; equal to the one before for an empty job.
  package var endPart: Int
  package var context: UnsafeRawPointer
  package var function: PartFunction

  package init(endPart: Int, context: UnsafeRawPointer, _ function: PartFunction) {
    (self.endPart, self.context, self.function) = (endPart, context, function)
  }
}

extension WorkerPool {
  /// Runs all parts of all `tasks`, which must not depend on one another; each function gets its own part numbers, from
  /// 0. Each thread takes parts in the order of the tasks: the longest first fills the threads best. Else as `run`.
  @discardableResult
  package func runGroup(
    _ tasks: UnsafeBufferPointer<ParallelTask>, cancellation: CancellationFlag? = nil, turn: RunTurn? = nil
  ) -> Bool {
    guard let base = tasks.baseAddress, let last = tasks.last else { return true }
    return withUnsafePointer(to: Group(tasks: base, count: tasks.count)) { group in
      run(parts: last.endPart, cancellation: cancellation, turn: turn, context: group) { context, part in
        context.assumingMemoryBound(to: Group.self).pointee.compute(part)
      }
    }
  }
}

private struct Group {
  let tasks: UnsafePointer<ParallelTask>
  let count: Int

  /// Finds the first task that ends behind `part`, by halving, and computes it.
  func compute(_ part: Int) {
    var low = 0
    var high = count - 1
    while low < high {
      let middle = (low + high) / 2
      if tasks[middle].endPart > part { high = middle } else { low = middle + 1 }
    }
    let begin = low == 0 ? 0 : tasks[low - 1].endPart
    tasks[low].function(tasks[low].context, part - begin)
  }
}
