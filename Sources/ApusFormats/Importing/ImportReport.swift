// What the reading of a model of another framework has found: for people, for JSON, and for the error that lists all.

import ApusGraph

/// What an importer read and how.
package struct ImportReport: Sendable {
  /// The format as people call it, with the version that wrote the file where it says so: "Keras 3.15.1".
  package var source: String
  /// How often each operator or layer of the source occurs.
  package internal(set) var operators: [String: Int] = [:]
  /// What was left out, rounded or assumed, and might matter.
  package internal(set) var notes: [String] = []

  package init(source: String) { self.source = source }
}

/// What an import collects while it goes through the layers of all graphs of a file.
package final class ImportLedger {
  package private(set) var report: ImportReport
  package let options: ImportOptions
  /// Operators that have no rule, and things that are never read.
  private var unmapped = UnmappedKinds()
  private var refused: [ModelProblem] = []
  private var problems: [ModelProblem] = []
  private var layerCount = 0

  /// Layers that the file has; nil while nobody has said it.
  private var layersInFile: Int?

  /// What is called is put in place of its calls. How many times the layers of the file that may be, for files that are
  /// not small.
  private static let (layerFactor, smallCount) = (64, 20_000)
  /// After so many problems reading stops.
  private static let maximumProblems = 1000

  package init(source: String, options: ImportOptions) {
    (report, self.options) = (ImportReport(source: source), options)
  }

  /// The file has so many layers more. That bounds how many there may be when what they call is put in place, for a few
  /// graphs that call each other twice stand for any number.
  package func hasLayers(_ count: Int) { layersInFile = (layersInFile ?? 0) + count }

  /// Counts a layer. Throws when there are more than the limits allow, or the time of the loading is over.
  package func count(_ kind: String) throws(LoadError) {
    report.operators[kind, default: 0] += 1
    layerCount += 1
    if layerCount > options.limits.maximumNodes {
      throw .limit("maximumNodes", options.limits.maximumNodes, found: "the model has more layers")
    }
    if let layersInFile, (layerCount - Self.smallCount) / Self.layerFactor > layersInFile {
      throw .limit(
        "the \(layersInFile) layers of the file become more than \(layerCount - 1) when calls are put in place")
    }
    do throws(OperatorError) {
      try options.allowance.checkTime()
    } catch {
      throw LoadError(.limitExceeded, error.message, remedy: error.remedy)
    }
  }

  /// There is no rule for the operator `kind`, which `layer` is.
  package func isUnmapped(_ kind: String, at layer: String) { unmapped.add(kind, at: layer) }

  /// `what` is code of the model's author, which is never decoded or run.
  package func refuse(_ what: String, at layer: String, remedy: String = "") {
    refused.append(ModelProblem(nodePath: layer, reason: "\(what) is never decoded or run", remedy: remedy))
  }

  package func report(_ reason: String, at layer: String, remedy: String = "") throws(LoadError) {
    problems.append(ModelProblem(nodePath: layer, reason: reason, remedy: remedy))
    if problems.count >= Self.maximumProblems { throw LoadError(problems: found) }
  }

  package func note(_ text: String) { if !report.notes.contains(text) { report.notes.append(text) } }

  private var found: [ModelProblem] {
    unmapped.problems { "there is no rule for the operator \($0) of \(report.source)" } + refused + problems
  }

  /// Throws all that is wrong, at once; nothing if all is well.
  package func check() throws(LoadError) {
    if !found.isEmpty { throw LoadError(problems: found) }
  }
}
