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

/// A pattern of text with `*` for any characters, none included, and `?` for one.
package struct Glob: Sendable {
  private let pattern: [Character]

  package init(_ pattern: String) { self.pattern = Array(pattern) }

  package func matches(_ text: String) -> Bool {
    let text = Array(text)
    var (place, index) = (0, 0)
    // Where to go on if what follows the last star does not fit: the star takes one more.
    var retry: (place: Int, index: Int)?
    while index < text.count {
      if place < pattern.count, pattern[place] == "*" {
        retry = (place, index)
        place += 1
      } else if place < pattern.count, pattern[place] == "?" || pattern[place] == text[index] {
        (place, index) = (place + 1, index + 1)
      } else if let last = retry {
        retry = (last.place, last.index + 1)
        (place, index) = (last.place + 1, last.index + 1)
      } else {
        return false
      }
    }
    return pattern[place...].allSatisfy { $0 == "*" }
  }
}
