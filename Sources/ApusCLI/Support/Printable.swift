// Text of strangers (names, messages, strings of a model) in a form that a terminal can show.

import Apus

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
  /// What there is in place of a name that was not found, to follow a semicolon: `passes are a, b`, behind the question
  /// whether one of them was meant if one is like it.
  static func choices(_ name: String, among names: [String], _ list: String) -> String {
    let near = nearNames(name, among: names).map { "'\($0.printable())'" }
    if near.isEmpty { return list }
    return "did you mean \(near.joined(separator: " or "))? " + list.prefix(1).uppercased() + list.dropFirst()
  }
}
