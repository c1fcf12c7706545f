// Profiles as files that browsers show.

import ApusFormats
import ApusRuntime
import FoundationEssentials

/// The trace event format of Chrome. https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
package enum ChromeTrace {
  private struct Event: Encodable {
    struct Arguments: Encodable {
      var kernel: String
      var bytes, operations, parts: Int
    }
    var name, cat: String
    var ph = "X"
    var ts, dur: Double
    var pid = 1
    var tid = 1
    var args: Arguments
  }

  /// Writes the events as one JSON object; the file is replaced at once or not at all.
  package static func write(_ events: [ProfileEvent], to path: String) throws {
    let origin = events.map(\.start).min() ?? 0
    let list = events.map {
      Event(
        name: $0.node.isEmpty ? "\($0.op)" : $0.node, cat: "\($0.op)", ts: Double($0.start - origin) / 1000,
        dur: Double($0.duration) / 1000,
        args: .init(kernel: $0.kernel, bytes: $0.cost.bytes, operations: $0.cost.operations, parts: $0.parts))
    }
    try OutputFile.write([UInt8](JSONEncoder().encode(["traceEvents": list])), to: path)
  }
}
