// Which weights a compression works on: patterns of names and operators.

import ApusGraph

/// Weights by patterns, with `*` for any characters and `?` for one. A pattern stands for the name of a node, the name
/// of a weight, or an operator.
public struct WeightSelection: Sendable, Hashable {
  /// Only what one of these fits; empty: everything.
  public var include: [String]
  /// Not what one of these fits.
  public var exclude: [String]

  public init(include: [String] = [], exclude: [String] = []) { (self.include, self.exclude) = (include, exclude) }

  package func contains(_ weight: WeightReference) -> Bool {
    (include.isEmpty || include.contains { Self.fits($0, weight) }) && !exclude.contains { Self.fits($0, weight) }
  }

  package static func fits(_ pattern: String, _ weight: WeightReference) -> Bool {
    [weight.node, weight.name, weight.op.description].contains { Glob(pattern).matches($0) }
  }

  /// Throws if a pattern fits no weight: that is a slip.
  package func check(_ weights: [WeightReference], others: [String] = []) throws(CompressionError) {
    for pattern in include + exclude + others where !weights.contains(where: { Self.fits(pattern, $0) }) {
      let some = weights.prefix(5).map { "'\($0.node)' (\($0.op))" }.joined(separator: ", ")
      throw CompressionError(
        .invalidOption, "the pattern '\(pattern)' fits no weight of the model",
        remedy: weights.isEmpty ? "The model has no weights of products" : "The first weights are those of \(some)")
    }
  }
}
