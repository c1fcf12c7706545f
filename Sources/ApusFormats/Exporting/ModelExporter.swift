// The formats of other frameworks that models are written to.

import ApusGraph
import ApusTensor

/// How to write a model.
package struct ExportOptions: Sendable {
  /// Stores weights of float32 in 16 bits, where the format has a place for that.
  package var halvesWeights = false
  /// The memory and the time of the work.
  package var allowance = Allowance.unlimited

  package init() {}
}

/// A model in the bytes of a format.
package struct ExportedModel: Sendable {
  package var bytes: [UInt8]
  /// What was rounded or assumed, and might matter.
  package var notes: [String] = []
  /// How often each operator of the format occurs.
  package var operators: [String: Int] = [:]

  package init(bytes: [UInt8]) { self.bytes = bytes }
}

/// Writes the models of one format. An exporter gives a file that the format's own runtime runs, or throws an error
/// that lists everything it could not say.
///
/// The work has two halves, between which the caller runs passes over the graph: `arranged` makes nodes that the format
/// has an operator for, in its order of axes, with changes of the order around; the passes let these cancel; `write`
/// goes through the nodes by a table. Both have one ledger: what `arranged` cannot make simpler stays in the graph as
/// it was, so that `write` sees all other nodes too, and throws everything at once.
package protocol ModelExporter: Sendable {
  /// The name on command lines: "tflite".
  var name: String { get }
  /// What people call it: "TensorFlow Lite".
  var title: String { get }
  /// Endings of file names, without the point; the first is the usual one.
  var endings: [String] { get }

  /// The operators of ONNX that it can say, as they are or by others, for `apus formats` and docs/conversion.md.
  func operators(_ standard: OperatorRegistry) -> [String]

  /// The operators that may stand in graphs between `arranged` and `write`.
  func registry(_ standard: OperatorRegistry) -> OperatorRegistry

  /// The graph in nodes that `write` knows, under the registry of the exporter. Names of outputs may get lost. What
  /// cannot be said goes to `ledger`; limits alone are thrown.
  func arranged(_ graph: Graph, registry: OperatorRegistry, ledger: ExportLedger) throws(LoadError) -> Graph

  /// The file for a model whose graph was arranged with the same ledger.
  func write(
    _ model: ModelGraph, registry: OperatorRegistry, ledger: ExportLedger
  ) throws(LoadError) -> ExportedModel
}

/// All exporters.
package enum ModelExporters {
  package static let all: [any ModelExporter] = [TFLiteExporter()]

  /// The exporter named `name`; nil if there is none.
  package static func exporter(named name: String) -> (any ModelExporter)? { all.first { $0.name == name } }

  /// The exporter that a file name asks for by its ending.
  package static func exporter(path: String) -> (any ModelExporter)? {
    let file = path.split(separator: "/").last.map(String.init) ?? path
    guard let point = file.lastIndex(of: ".") else { return nil }
    let ending = file[file.index(after: point)...].lowercased()
    return all.first { $0.endings.contains(ending) }
  }
}
