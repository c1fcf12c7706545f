// Patterns of names, as users write them.

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

/// Some of them.
package struct NamePatterns: Sendable {
  private let patterns: [Glob]

  package init(_ patterns: [String]) { self.patterns = patterns.map { Glob($0) } }

  package var isEmpty: Bool { patterns.isEmpty }

  /// True if one of the names fits one of the patterns.
  package func fit(_ names: [String]) -> Bool {
    patterns.contains { pattern in names.contains { pattern.matches($0) } }
  }
}
