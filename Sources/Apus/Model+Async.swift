// Runs that wait without a thread.

import ApusGraph
import ApusRuntime

extension Model {
  /// Runs the model when it is its turn; no thread is held until then. Of all asynchronous runs of an engine as many
  /// are in progress at a time as it has threads, the more urgent first, and those of one priority in the order of the
  /// calls.
  ///
  /// Cancelling the task ends the run at once while it waits, and within one part of one node afterwards. The time of
  /// `RunOptions/timeout` counts from the call.
  ///
  /// - Throws: `RunError`, as the form that blocks.
  public func run(
    _ inputs: [String: Tensor], options: RunOptions = RunOptions()
  ) async throws(RunError) -> [String: Tensor] {
    try await inTurn(options: options) { (settings) throws(RunError) in
      try self.run(values: inputs.mapValues { .tensor($0) }, settings: settings, wanted: options.outputs)
        .compactMapValues(\.tensor)
    }
  }

  /// Does `work` when it is its turn, on a thread of the engine's queue.
  func inTurn(
    options: RunOptions, _ work: @escaping @Sendable (RunSettings) throws(RunError) -> [String: Tensor]
  ) async throws(RunError) -> [String: Tensor] {
    let flag = flag(for: options)
    let settings = settings(flag, priority: options.priority, queue: engine.queue)
    let entry = RunQueue.Entry(options.priority ?? priority, cancellation: flag)
    let result: Result<[String: Tensor], RunError> = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        engine.queue.submit(entry) { isItsTurn in
          continuation.resume(
            returning: Result { () throws(RunError) in
              guard isItsTurn else { throw RunError(.cancelled) }
              return try work(settings)
            })
        }
      }
    } onCancel: {
      flag.cancel()
      engine.queue.withdraw(entry)
    }
    return try result.get()
  }
}
