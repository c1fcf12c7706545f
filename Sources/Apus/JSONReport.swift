// The JSON of all commands and reports: one object, members in alphabetical order with names_like_this, two spaces of
// indentation, the version of its form in `version`.

import FoundationEssentials

package enum JSONReport {
  /// Grows when a member changes its meaning or goes, not when one is added.
  package static let version = 1

  /// The members of a report, and the version.
  private struct Versioned<Body: Encodable>: Encodable {
    let body: Body
    enum Key: CodingKey { case version }

    func encode(to encoder: any Encoder) throws {
      try body.encode(to: encoder)
      var container = encoder.container(keyedBy: Key.self)
      try container.encode(JSONReport.version, forKey: .version)
    }
  }

  /// The text of a report, which must encode as an object. What is no number is "NaN", "Infinity" or "-Infinity".
  package static func text(_ report: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    encoder.keyEncodingStrategy = .convertToSnakeCase
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
    return String(decoding: try encoder.encode(Versioned(body: report)), as: UTF8.self)
  }
}
