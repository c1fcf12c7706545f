// Upper and lower case by the full mappings of Unicode, with the conditions of SpecialCasing.txt: the final sigma, and
// the letters i of Turkish, Azeri and Lithuanian. https://www.unicode.org/Public/UCD/latest/ucd/SpecialCasing.txt

/// The rules of a language.
struct LetterCase: Sendable {
  private enum Language { case other, turkic, lithuanian }
  private let language: Language

  /// The language is what stands before "_", "-" or "." in the name of a locale: en_US, tr-TR, lt_LT.UTF-8.
  init(locale: String) {
    switch locale.lowercased().split(whereSeparator: { "_-.@".contains($0) }).first {
    case "tr", "az": language = .turkic
    case "lt": language = .lithuanian
    default: language = .other
    }
  }

  func upper(_ text: String) -> String {
    if language == .other { return text.uppercased() }
    let scalars = Array(text.unicodeScalars)
    var result = String.UnicodeScalarView()
    for (index, scalar) in scalars.enumerated() {
      if language == .turkic, scalar == "i" {
        result.append("\u{130}")
      } else if language == .lithuanian, scalar == "\u{307}", isAfterSoftDotted(scalars, index) {
        continue
      } else {
        result += scalar.properties.uppercaseMapping.unicodeScalars
      }
    }
    return String(result)
  }

  func lower(_ text: String) -> String {
    if text.utf8.allSatisfy({ $0 < 128 }), language == .other { return text.lowercased() }
    let scalars = Array(text.unicodeScalars)
    var result = String.UnicodeScalarView()
    for (index, scalar) in scalars.enumerated() {
      if scalar == "\u{3A3}" {
        result.append(isFinal(scalars, index) ? "\u{3C2}" : "\u{3C3}")
      } else if language == .turkic {
        switch scalar {
        case "I": result.append(isBeforeDot(scalars, index) ? "i" : "\u{131}")
        case "\u{130}": result.append("i")
        case "\u{307}" where isAfterI(scalars, index): continue
        default: result += scalar.properties.lowercaseMapping.unicodeScalars
        }
      } else {
        result += scalar.properties.lowercaseMapping.unicodeScalars
        if language == .lithuanian { appendDot(after: scalar, scalars, index, &result) }
      }
    }
    return String(result)
  }

  /// In Lithuanian the dot of a small i stays under other accents.
  private func appendDot(
    after scalar: Unicode.Scalar, _ scalars: [Unicode.Scalar], _ index: Int, _ result: inout String.UnicodeScalarView
  ) {
    let accents: [Unicode.Scalar: Unicode.Scalar] = ["\u{CC}": "\u{300}", "\u{CD}": "\u{301}", "\u{128}": "\u{303}"]
    if let accent = accents[scalar] {
      result.removeLast()
      result += ["i", "\u{307}", accent]
    } else if ["I", "J", "\u{12E}"].contains(scalar), hasAccentAbove(scalars, index) {
      result.append("\u{307}")
    }
  }

  /// A cased letter stands before, none behind, with only characters between that do not matter for case.
  private func isFinal(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool {
    let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
    let behind = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
    return before?.properties.isCased ?? false && !(behind?.properties.isCased ?? false)
  }

  /// An accent above follows before any other base character.
  private func hasAccentAbove(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool {
    for scalar in scalars[(index + 1)...] {
      let combining = scalar.properties.canonicalCombiningClass.rawValue
      if combining == 230 { return true }
      if combining == 0 { return false }
    }
    return false
  }

  private func isBeforeDot(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool {
    for scalar in scalars[(index + 1)...] {
      if scalar == "\u{307}" { return true }
      let combining = scalar.properties.canonicalCombiningClass.rawValue
      if combining == 0 || combining == 230 { return false }
    }
    return false
  }

  private func isAfterI(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool {
    for scalar in scalars[..<index].reversed() {
      if scalar == "I" { return true }
      let combining = scalar.properties.canonicalCombiningClass.rawValue
      if combining == 0 || combining == 230 { return false }
    }
    return false
  }

  private func isAfterSoftDotted(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool {
    for scalar in scalars[..<index].reversed() {
      if scalar.properties.isSoftDotted { return true }
      let combining = scalar.properties.canonicalCombiningClass.rawValue
      if combining == 0 || combining == 230 { return false }
    }
    return false
  }
}
