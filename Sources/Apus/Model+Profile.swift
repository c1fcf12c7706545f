// Where the time of a run goes, node by node.

import ApusRuntime

/// One node of a profiled run.
public struct NodeProfile: Sendable, Hashable {
  /// The name of the node in the file; of a node that a pass has made, of what it stands for.
  public let node: String
  public let op: String
  /// The algorithm or micro-kernel.
  public let kernel: String
  /// Seconds after the start of the run.
  public let start: Double
  /// Seconds that the node took.
  public let seconds: Double
  /// Bytes that it reads and writes: those of its inputs and outputs, or fewer where it does not need all of them.
  public let bytes: Int
  /// Floating-point or integer operations, a multiply-add as two; 0 where they are not counted.
  public let operations: Int
  /// The parts that its work was divided in.
  public let parts: Int
}

extension Model {
  /// Runs the model once and measures every node. Nodes run one after the other then, so the whole may take longer than
  /// a run. The first run of new sizes also plans; run the model before to leave that out.
  ///
  /// - Throws: `RunError`, as `run(_:options:)`.
  public func profile(
    _ inputs: [String: Tensor], options: RunOptions = RunOptions()
  ) throws(RunError) -> (outputs: [String: Tensor], nodes: [NodeProfile]) {
    let profiler = Profiler()
    var settings = settings(for: options)
    settings.profiler = profiler
    let start = profiler.now()
    let outputs = try run(values: inputs.mapValues { .tensor($0) }, settings: settings, wanted: options.outputs)
    let nodes = profiler.events.map { event in
      NodeProfile(
        node: event.node, op: "\(event.op)", kernel: event.kernel, start: Double(event.start &- start) / 1e9,
        seconds: Double(event.duration) / 1e9, bytes: event.cost.bytes, operations: event.cost.operations,
        parts: event.parts)
    }
    return (outputs.compactMapValues(\.tensor), nodes)
  }
}
