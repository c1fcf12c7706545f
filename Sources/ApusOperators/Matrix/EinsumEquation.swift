// The equation of Einsum: labels of the axes of each operand and of the result.

import ApusGraph

/// A parsed equation for operands of known ranks.
struct EinsumEquation: Sendable {
  /// A letter by its code; an axis under an ellipsis as -1 for the last, -2 for the one before, …
  typealias Label = Int

  let terms: [[Label]]
  let output: [Label]

  /// Parses `text` for operands of `ranks`. A rank may be nil only if the term has no ellipsis.
  init(_ text: String, ranks: [Int?]) throws(OperatorError) {
    let characters = text.utf8.filter { $0 != UInt8(ascii: " ") }
    let arrow = characters.firstIndex(of: UInt8(ascii: "-"))
    var left = characters[...]
    var right: ArraySlice<UInt8>?
    if let arrow {
      guard arrow + 1 < characters.count, characters[arrow + 1] == UInt8(ascii: ">") else {
        throw .invalid("the equation '\(text)' has a '-' that is no '->'")
      }
      left = characters[..<arrow]
      right = characters[(arrow + 2)...]
    }
    let parts = left.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    guard parts.count == ranks.count else {
      throw .invalid("the equation '\(text)' has \(parts.count) terms for \(ranks.count) inputs")
    }
    var terms: [[Label]] = []
    var ellipsisAxes = 0
    for (part, rank) in zip(parts, ranks) {
      let term = try EinsumEquation.term(part, of: text)
      let letters = term.count { $0 != nil }
      guard term.count > letters || rank == nil || rank == letters else {
        throw .mismatch("the equation '\(text)' has a term of \(letters) labels for an input of rank \(rank ?? 0)")
      }
      let hidden = term.count > letters ? (rank ?? letters) - letters : 0
      guard hidden >= 0 else {
        throw .mismatch("the equation '\(text)' has a term of \(letters) labels for an input of rank \(rank ?? 0)")
      }
      ellipsisAxes = max(ellipsisAxes, hidden)
      terms.append(term.flatMap { label in label.map { [$0] } ?? (0..<hidden).map { $0 - hidden } })
    }
    self.terms = terms
    let ellipsis = (0..<ellipsisAxes).map { $0 - ellipsisAxes }
    guard let right else {
      let all = terms.joined().filter { $0 > 0 }
      output = ellipsis + Set(all).filter { label in all.count { $0 == label } == 1 }.sorted()
      return
    }
    let term = try EinsumEquation.term(right, of: text)
    output = term.flatMap { $0.map { [$0] } ?? ellipsis }
    for label in output {
      guard output.count(where: { $0 == label }) == 1 else {
        throw .invalid("the equation '\(text)' names an axis of the result twice")
      }
      guard label < 0 || terms.joined().contains(label) else {
        throw .invalid("the equation '\(text)' has a label in the result that no input has")
      }
    }
    guard ellipsisAxes == 0 || term.contains(where: { $0 == nil }) else {
      throw .invalid("the equation '\(text)' has an ellipsis in an input and none in the result")
    }
  }

  /// The letters of one term; nil stands for the ellipsis, which may occur once.
  private static func term(_ part: ArraySlice<UInt8>, of text: String) throws(OperatorError) -> [Label?] {
    var labels: [Label?] = []
    var rest = part
    while let character = rest.first {
      switch character {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"):
        labels.append(Int(character))
        rest = rest.dropFirst()
      case UInt8(ascii: ".") where rest.prefix(3).elementsEqual("...".utf8) && !labels.contains(nil):
        labels.append(nil)
        rest = rest.dropFirst(3)
      default:
        throw .invalid("the equation '\(text)' has an unexpected '\(String(decoding: [character], as: UTF8.self))'")
      }
    }
    return labels
  }
}
