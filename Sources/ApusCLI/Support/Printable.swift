// Text of strangers (names, messages, strings of a model) in a form that a terminal can show.

extension String {
  /// Control characters and invisible ones of formatting as `\u{…}`, and what is longer than `limit` characters cut in
  /// the middle.
  func printable(limit: Int = 200) -> String {
    var text = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "\n": text += "\\n"
      case "\r": text += "\\r"
      case "\t": text += "\\t"
      default:
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
          text += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
        default: text.unicodeScalars.append(scalar)
        }
      }
    }
    guard text.count > limit else { return text }
    return text.prefix(limit * 2 / 3) + "…" + text.suffix(limit / 3)
  }

  /// The same for a message of several words: each word is cut by itself, and the whole at `Self.messageLimit`.
  func printableMessage() -> String {
    let words = split(separator: " ", omittingEmptySubsequences: false).map { String($0).printable() }
    return words.joined(separator: " ").printable(limit: Self.messageLimit)
  }

  private static let messageLimit = 4000
}

/// Names like the one that was not found.
enum NearMiss {
  /// `did you mean 'a' or 'b'?`, or nothing if no name is like `name`.
  static func question(_ name: String, among names: [String]) -> String {
    let close = names.map { (name: $0, distance: distance(name, $0)) }
      .filter { $0.distance <= max(1, min(name.count, $0.name.count) / 3) }
      .sorted { ($0.distance, $0.name) < ($1.distance, $1.name) }.prefix(3)
    if close.isEmpty { return "" }
    return "did you mean " + close.map { "'\($0.name.printable())'" }.joined(separator: " or ") + "?"
  }

  /// The number of characters to insert, delete or replace, in any case; names of more than 100 characters are far
  /// away.
  private static func distance(_ first: String, _ second: String) -> Int {
    let (a, b) = (Array(first.lowercased().unicodeScalars), Array(second.lowercased().unicodeScalars))
    guard a.count <= 100, b.count <= 100 else { return .max }
    var row = Array(0...b.count)
    for i in a.indices {
      var diagonal = row[0]
      row[0] = i + 1
      for j in b.indices {
        let replaced = diagonal + (a[i] == b[j] ? 0 : 1)
        diagonal = row[j + 1]
        row[j + 1] = min(replaced, row[j] + 1, diagonal + 1)
      }
    }
    return row[b.count]
  }
}
