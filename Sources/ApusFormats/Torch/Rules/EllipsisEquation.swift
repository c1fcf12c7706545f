// The equation of torch.einsum where `...` stands for more axes of one operand than of another.

/// Writes `...` as letters. ONNX takes an ellipsis only where it stands for as many axes in each term.
enum EllipsisEquation {
  private struct Term {
    var before = ""
    var behind = ""
    var hasEllipsis = false
    var letters: String { before + behind }

    /// nil for what is no term: the operator says then what is wrong.
    init?(_ text: Substring) {
      var rest = text
      while let character = rest.first {
        if rest.hasPrefix("...") {
          if hasEllipsis { return nil }
          hasEllipsis = true
          rest = rest.dropFirst(3)
          continue
        }
        guard character.isASCII, character.isLetter else { return nil }
        if hasEllipsis { behind.append(character) } else { before.append(character) }
        rest = rest.dropFirst()
      }
    }

    func written(_ ellipsis: some StringProtocol) -> String { before + (hasEllipsis ? String(ellipsis) : "") + behind }
  }

  private static let alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

  /// The equation with letters in the place of each `...`, aligned at the last axis; nil if it can stay as it is, or is
  /// none for operands of these ranks.
  static func expanded(_ equation: String, ranks: [Int]) -> String? {
    let text = equation.filter { $0 != " " }
    var (left, right) = (text[...], Substring?.none)
    if let arrow = text.firstIndex(of: "-") {
      guard text[arrow...].hasPrefix("->") else { return nil }
      (left, right) = (text[..<arrow], text[arrow...].dropFirst(2))
    }
    let parts = left.split(separator: ",", omittingEmptySubsequences: false)
    let terms = parts.compactMap { Term($0) }
    guard terms.count == parts.count, terms.count == ranks.count else { return nil }
    var hidden: [Int] = []
    for (term, rank) in zip(terms, ranks) {
      let count = rank - term.letters.count
      guard term.hasEllipsis ? count >= 0 : count == 0 else { return nil }
      hidden.append(count)
    }
    let counts = Set(zip(terms, hidden).filter(\.0.hasEllipsis).map(\.1))
    guard counts.count > 1, let most = counts.max() else { return nil }
    let free = alphabet.filter { !text.contains($0) }
    guard free.count >= most else { return nil }
    let letters = free.prefix(most)
    let operands = zip(terms, hidden).map { term, count in term.written(letters.suffix(count)) }
    if let right {
      guard let output = Term(right) else { return nil }
      return operands.joined(separator: ",") + "->" + output.written(letters)
    }
    // Without a result: the ellipsis, then in alphabetical order the letters that stand once.
    let all = terms.map(\.letters).joined()
    let once = all.filter { letter in all.count(where: { $0 == letter }) == 1 }.sorted()
    return operands.joined(separator: ",") + "->" + letters + String(once)
  }
}
