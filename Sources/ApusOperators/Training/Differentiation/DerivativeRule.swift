// What the derivative of an operator is, and the table of all of them. The rules stand in one file a family.

import ApusGraph
import ApusTensor

/// How gradients pass through an operator. An operator without a rule has none: its gradient is an error.
enum DerivativeRule: Sendable {
  /// The gradients of the inputs from those of the outputs; nil for an input that is not wanted or gets none.
  case gradients(@Sendable (inout DerivativeWriter, Application) throws(OperatorError) -> [ValueID?])
  /// Operators that compute the same outputs from the same inputs; they are differentiated in its place. nil: an output
  /// through which no gradient may pass.
  case expansion(@Sendable (inout DerivativeWriter, Application) throws(OperatorError) -> [ValueID?])
  /// Constant, or constant but for jumps: no gradient passes.
  case zero
}

/// The rules of a family, by the names of operators of the default domain.
typealias DerivativeTable = [String: DerivativeRule]

/// All rules.
let derivativeRules: DerivativeTable = [
  arithmeticDerivatives, functionDerivatives, activationDerivatives, reductionDerivatives, movementDerivatives,
  indexingDerivatives,
  productDerivatives, convolutionDerivatives, poolingDerivatives, normalizationDerivatives, lossDerivatives,
  imageDerivatives, attentionDerivatives,
].reduce(into: [:]) { all, family in all.merge(family) { first, _ in first } }

/// A node on the way from xs to y, and what is known and wanted there.
struct Application: OperatorContext {
  /// Its position in the graph.
  let index: Int
  let node: Node
  let schema: OperatorSchema
  /// By output: its gradient; nil where none arrives.
  let upstream: [ValueID?]
  /// By input: true if a gradient is asked for.
  let wanted: [Bool]

  /// nil: the optional input is absent.
  func input(_ index: Int) -> ValueID? { index < node.inputs.count ? node.inputs[index] : nil }

  func required(_ index: Int) throws(OperatorError) -> ValueID {
    guard let value = input(index) else {
      throw .invalid("input \(index) (\(schema.input(at: index)?.name ?? "?")) is missing")
    }
    return value
  }

  func isWanted(_ input: Int) -> Bool { input < wanted.count && wanted[input] }

  /// The gradient of the first output.
  func gradient() throws(OperatorError) -> ValueID {
    guard let gradient = upstream.first ?? nil else { throw .invalid("no gradient arrives at the first output") }
    return gradient
  }
}

/// The element types of which gradients exist.
let differentiableTypes: [DataType] = [.float16, .bfloat16, .float32, .float64]
