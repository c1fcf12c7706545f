// A model file as something to look at, check, optimize and save, without being prepared for running.

import ApusFormats
import ApusGraph
public import FoundationEssentials

/// What a model file holds. The model need not be able to run.
public struct ModelFile: Sendable {
  public let information: ModelInformation
  public let inputs: [ValueDescription]
  public let outputs: [ValueDescription]
  /// What the model costs, as far as its graph tells.
  public let statistics: ModelFigures
  /// Every reason why the model cannot run, each with its node; empty if types and shapes fit. Loading it with
  /// `Model(contentsOf:)` may still find a kernel missing.
  public let problems: [ModelProblem]
  /// Oddities that do not keep the model from running.
  public let notes: [String]

  let path: String
  let options: ModelOptions

  /// Reads a file and infers its types and shapes, under the dimensions, shapes and limits of `options`.
  ///
  /// - Throws: `LoadError` if the file cannot be read or is no model, or passes a limit; `RunError` if `options` name a
  ///   dimension or input that the model does not have. Problems of its nodes are no errors here.
  public init(contentsOf url: URL, options: ModelOptions = ModelOptions()) throws {
    path = url.path(percentEncoded: false)
    self.options = options
    let inspection = try ModelReader.inspect(path: path, options: options)
    let graph = inspection.graph
    information = inspection.information
    problems = inspection.problems
    notes = Set(graph.notes).sorted()
    inputs = graph.inputs.map { ValueDescription(name: graph[$0].name, fact: graph.fact($0)) }
    outputs = graph.outputs.indices.map {
      ValueDescription(name: graph[graph.outputs[$0]].name, fact: graph.describedOutput($0))
    }
    statistics = ModelFigures(ModelStatistics(graph))
  }

  /// Runs the passes over the model and writes the result, which other runtimes load too, to `target`. That may be the
  /// file itself: it is replaced when the new one is whole.
  ///
  /// - Parameters:
  ///   - opset: the operator set of the default domain to write; nil: the lowest, from that of the model on, that holds
  ///     the result.
  ///   - passes: which passes run. They keep to operators that can be saved, whatever `isPortable` says.
  /// - Returns: what each pass did.
  /// - Throws: `LoadError` if the file cannot be read or written, `PrepareError` for a model that cannot run.
  @discardableResult
  public func optimize(
    to target: URL, opset: Int? = nil, passes: OptimizationOptions = OptimizationOptions()
  ) throws -> [PassSummary] {
    var options = options
    options.optimization = passes
    options.optimization.isPortable = true
    let optimized = try ModelReader.optimize(path: path, options: options, for: .saving(opset: opset))
    try optimized.save(to: target.path(percentEncoded: false), opset: opset)
    return optimized.passes.map {
      PassSummary(name: $0.pass, changes: $0.changes, nodesBefore: $0.nodesBefore, nodesAfter: $0.nodesAfter)
    }
  }
}

/// What a pass of the optimizer did.
public struct PassSummary: Sendable, Hashable {
  public let name: String
  /// Rewrites, those in graphs inside nodes included.
  public let changes: Int
  public let nodesBefore: Int
  public let nodesAfter: Int
}

/// What a model costs, as far as its graph tells before it runs. Formulas are in the model's symbolic dimensions.
public struct ModelFigures: Sendable, Hashable {
  /// Applications of operators, those in graphs inside nodes included.
  public let nodes: Int
  /// How often each operator is applied.
  public let operators: [String: Int]
  /// Elements of all constants.
  public let parameters: Int
  /// Bytes of all constants.
  public let constantBytes: Int
  /// Multiply-adds of convolutions, matrix products, attention and recurrences of the main graph.
  public let multiplyAdds: Dimension
  /// Operators whose multiply-adds could not be counted, by name.
  public let uncounted: [String]
  /// Bytes of the values that are alive at the step with the most, inputs and outputs included: an upper bound on the
  /// working memory, before values are computed in place.
  public let peakBytes: Dimension

  init(_ statistics: ModelStatistics) {
    nodes = statistics.nodes
    operators = statistics.operators
    parameters = statistics.parameters
    constantBytes = statistics.constantBytes.values.reduce(0, +)
    multiplyAdds = Dimension(statistics.multiplyAdds)
    uncounted = statistics.uncounted
    peakBytes = Dimension(statistics.peakBytes)
  }
}

/// An extent, or another number that shapes decide.
public enum Dimension: Sendable, Hashable, CustomStringConvertible {
  case number(Int)
  /// A name of the file. Inputs may give it any size.
  case symbol(String)
  /// A formula of symbols, as `past + sequence`.
  case expression(String)
  case unknown

  init(_ dim: Dim) {
    self =
      if let number = dim.known {
        .number(number)
      } else if let symbol = dim.symbol {
        .symbol(symbol)
      } else if dim.isUnknown {
        .unknown
      } else {
        .expression(dim.description)
      }
  }

  /// `4`, `batch`, `2*sequence + 1`, `?`.
  public var description: String {
    switch self {
    case .number(let number): "\(number)"
    case .symbol(let text), .expression(let text): text
    case .unknown: "?"
    }
  }
}
