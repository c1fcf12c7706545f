// Regular expressions in the syntax of RE2. https://github.com/google/re2/wiki/Syntax
// What RE2 rejects is rejected, with the position. Missing of what it takes: \C (a single byte).

import ApusGraph

/// An expression as a tree. Greed and captured groups do not matter for whether a text matches as a whole.
indirect enum RegexNode: Sendable {
  case empty
  case set(CodePointSet)
  case concatenation([RegexNode])
  case alternation([RegexNode])
  /// `maximum` nil: any number of times.
  case repetition(RegexNode, minimum: Int, maximum: Int?)
  case assertion(RegexAssertion)
}

/// A condition on the place between two characters.
enum RegexAssertion: Sendable {
  case beginText, endText, beginLine, endLine, wordBoundary, noWordBoundary
}

struct RegexParser {
  private struct Flags {
    var foldsCase = false
    var isMultiLine = false
    var dotTakesNewline = false
  }

  private let text: [Unicode.Scalar]
  /// Where the expression stands, for errors.
  private let attribute: String
  private var position = 0
  private var flags = Flags()
  private var depth = 0
  private var groupNames: Set<String> = []

  /// RE2's own limits.
  private static let maximumRepeat = 1000
  private static let maximumDepth = 1000

  static func parse(_ pattern: String, attribute: String = "pattern") throws(OperatorError) -> RegexNode {
    var parser = RegexParser(pattern, attribute)
    let node = try parser.alternation()
    guard parser.position == parser.text.count else { throw parser.error("unexpected )") }
    return node
  }

  private init(_ pattern: String, _ attribute: String) {
    (text, self.attribute) = (Array(pattern.unicodeScalars), attribute)
  }

  private func error(_ message: String) -> OperatorError {
    .invalid("attribute \(attribute) is no regular expression of RE2: \(message) at character \(position)")
  }

  private var next: Unicode.Scalar? { position < text.count ? text[position] : nil }
  private func peek(_ offset: Int) -> Unicode.Scalar? { position + offset < text.count ? text[position + offset] : nil }

  private mutating func skip(_ prefix: String) -> Bool {
    let scalars = Array(prefix.unicodeScalars)
    guard text.count - position >= scalars.count, text[position..<position + scalars.count].elementsEqual(scalars)
    else {
      return false
    }
    position += scalars.count
    return true
  }

  // MARK: Structure

  private mutating func alternation() throws(OperatorError) -> RegexNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= RegexParser.maximumDepth else { throw error("parentheses lie too deep in each other") }
    var branches = [try concatenation()]
    while skip("|") { branches.append(try concatenation()) }
    return branches.count == 1 ? branches[0] : .alternation(branches)
  }

  private mutating func concatenation() throws(OperatorError) -> RegexNode {
    var nodes: [RegexNode] = []
    var isRepeated = false
    while let character = next, character != "|", character != ")" {
      if let (minimum, maximum) = try repetition() {
        guard let last = nodes.popLast() else { throw error("nothing to repeat") }
        guard !isRepeated else { throw error("a repetition is repeated") }
        nodes.append(.repetition(last, minimum: minimum, maximum: maximum))
        isRepeated = true
        continue
      }
      isRepeated = false
      try appendAtom(to: &nodes)
    }
    return nodes.count == 1 ? nodes[0] : nodes.isEmpty ? .empty : .concatenation(nodes)
  }

  /// A repetition operator with its `?`; nil if there is none.
  private mutating func repetition() throws(OperatorError) -> (minimum: Int, maximum: Int?)? {
    var result: (minimum: Int, maximum: Int?)
    switch next {
    case "*": result = (0, nil)
    case "+": result = (1, nil)
    case "?": result = (0, 1)
    case "{":
      // What is no valid count stands for itself.
      guard let counts = counts() else { return nil }
      guard counts.minimum <= RegexParser.maximumRepeat, counts.maximum ?? 0 <= RegexParser.maximumRepeat,
        counts.minimum <= counts.maximum ?? .max
      else { throw error("the repeat count is wrong or above \(RegexParser.maximumRepeat)") }
      position = counts.end - 1
      result = (counts.minimum, counts.maximum)
    default: return nil
    }
    position += 1
    _ = skip("?")
    return result
  }

  /// {n}, {n,} or {n,m}.
  private func counts() -> (minimum: Int, maximum: Int?, end: Int)? {
    var index = position + 1
    func number() -> Int? {
      let start = index
      var value = 0
      while index < text.count, let digit = RegexParser.digit(text[index], below: 10) {
        value = min(value * 10 + digit, 1 << 20)
        index += 1
      }
      return index == start ? nil : value
    }
    guard let minimum = number(), index < text.count else { return nil }
    var maximum: Int? = minimum
    if text[index] == "," {
      index += 1
      maximum = number()
    }
    guard index < text.count, text[index] == "}" else { return nil }
    return (minimum, maximum, index + 1)
  }

  private mutating func appendAtom(to nodes: inout [RegexNode]) throws(OperatorError) {
    switch text[position] {
    case "(": if let group = try group() { nodes.append(group) }
    case "[": nodes.append(.set(try bracket()))
    case ".":
      position += 1
      nodes.append(.set(flags.dotTakesNewline ? .all : CodePointSet(0x0A).complement))
    case "^":
      position += 1
      nodes.append(.assertion(flags.isMultiLine ? .beginLine : .beginText))
    case "$":
      position += 1
      nodes.append(.assertion(flags.isMultiLine ? .endLine : .endText))
    case "\\": try appendEscape(to: &nodes)
    default:
      nodes.append(literal(text[position]))
      position += 1
    }
  }

  private func literal(_ character: Unicode.Scalar) -> RegexNode {
    let set = CodePointSet(character.value)
    return .set(flags.foldsCase ? set.foldingCase : set)
  }

  /// A group, or nil for flags that hold from here on.
  private mutating func group() throws(OperatorError) -> RegexNode? {
    position += 1
    let outer = flags
    if skip("?") {
      if skip("P<") || skip("<") {
        try groupName()
      } else if try !groupFlags() {
        return nil
      }
    }
    let node = try alternation()
    guard skip(")") else { throw error("missing )") }
    flags = outer
    return node
  }

  private mutating func groupName() throws(OperatorError) {
    var name = ""
    while let character = next, character != ">" {
      guard CharacterClass.word.contains(character.value) else {
        throw error("the name of a group has other than letters")
      }
      name.unicodeScalars.append(character)
      position += 1
    }
    guard skip(">"), !name.isEmpty, groupNames.insert(name).inserted else {
      throw error("the name of a group is wrong")
    }
  }

  /// Reads flags and sets them; true if a group follows, false if they hold from here on.
  private mutating func groupFlags() throws(OperatorError) -> Bool {
    var isNegated = false
    var hasFlag = false
    while let character = next {
      position += 1
      switch character {
      case "i": flags.foldsCase = !isNegated
      case "m": flags.isMultiLine = !isNegated
      case "s": flags.dotTakesNewline = !isNegated
      case "U": break
      case "-" where !isNegated:
        isNegated = true
        hasFlag = false
        continue
      case ":" where !isNegated || hasFlag: return true
      case ")" where !isNegated || hasFlag: return false
      default: throw error("(? is followed by what is no flag")
      }
      hasFlag = true
    }
    throw error("missing )")
  }

  // MARK: Escapes

  private mutating func appendEscape(to nodes: inout [RegexNode]) throws(OperatorError) {
    if skip("\\Q") {
      while position < text.count, !skip("\\E") {
        nodes.append(literal(text[position]))
        position += 1
      }
      return
    }
    switch peek(1) {
    case "A": nodes.append(.assertion(.beginText))
    case "z": nodes.append(.assertion(.endText))
    case "b": nodes.append(.assertion(.wordBoundary))
    case "B": nodes.append(.assertion(.noWordBoundary))
    case "C": throw .unsupported("\\C (a single byte) in a regular expression")
    default:
      if let set = try classEscape() {
        nodes.append(.set(set))
      } else {
        nodes.append(literal(try characterEscape()))
      }
      return
    }
    position += 2
  }

  /// \d, \D, \pN, \P{Greek} and the like; nil if another escape stands here.
  private mutating func classEscape() throws(OperatorError) -> CodePointSet? {
    guard next == "\\", let letter = peek(1) else { return nil }
    let lower = Unicode.Scalar(letter.value | 0x20) ?? letter
    if let set = CharacterClass.perl(lower), letter.isASCII {
      position += 2
      let folded = flags.foldsCase ? set.foldingCase : set
      return letter == lower ? folded : folded.complement
    }
    guard letter == "p" || letter == "P" else { return nil }
    position += 2
    var isNegated = letter == "P"
    var name = ""
    if skip("{") {
      if skip("^") { isNegated.toggle() }
      while let character = next, character != "}" {
        name.unicodeScalars.append(character)
        position += 1
      }
      guard skip("}") else { throw error("missing }") }
    } else if let character = next {
      name = String(character)
      position += 1
    }
    guard let set = CharacterClass.unicode(name) else {
      throw error("no category or script of Unicode is called '\(name)'")
    }
    let folded = flags.foldsCase ? set.foldingCase : set
    return isNegated ? folded.complement : folded
  }

  /// An escape that stands for one character.
  private mutating func characterEscape() throws(OperatorError) -> Unicode.Scalar {
    guard let letter = peek(1) else { throw error("a trailing \\") }
    position += 2
    switch letter {
    case "a": return "\u{7}"
    case "f": return "\u{C}"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "v": return "\u{B}"
    case "x": return try hexadecimal()
    case "0"..."7":
      // A single digit from 1 on would refer to a group.
      guard letter == "0" || next.flatMap({ RegexParser.digit($0, below: 8) }) != nil else {
        throw error("references to groups do not exist")
      }
      var value = Int(letter.value) - 0x30
      var count = 1
      while count < 3, let digit = next.flatMap({ RegexParser.digit($0, below: 8) }) {
        value = value * 8 + digit
        position += 1
        count += 1
      }
      return Unicode.Scalar(UInt32(value)) ?? "\0"
    default:
      guard letter.isASCII, !CharacterClass.word.contains(letter.value) else {
        throw error("the escape \\\(letter) is not known")
      }
      return letter
    }
  }

  private mutating func hexadecimal() throws(OperatorError) -> Unicode.Scalar {
    var value = 0
    if skip("{") {
      var count = 0
      while let digit = next.flatMap({ RegexParser.digit($0, below: 16) }) {
        value = min(value * 16 + digit, 1 << 24)
        position += 1
        count += 1
      }
      guard count > 0, skip("}") else { throw error("\\x{ without number or }") }
    } else {
      for _ in 0..<2 {
        guard let digit = next.flatMap({ RegexParser.digit($0, below: 16) }) else {
          throw error("\\x without two digits")
        }
        value = value * 16 + digit
        position += 1
      }
    }
    guard let scalar = Unicode.Scalar(UInt32(value)) else { throw error("\\x of no character") }
    return scalar
  }

  private static func digit(_ scalar: Unicode.Scalar, below base: Int) -> Int? {
    let value: Int
    switch scalar {
    case "0"..."9": value = Int(scalar.value) - 0x30
    case "a"..."f": value = Int(scalar.value) - 0x57
    case "A"..."F": value = Int(scalar.value) - 0x37
    default: return nil
    }
    return value < base ? value : nil
  }

  // MARK: Classes in brackets

  private mutating func bracket() throws(OperatorError) -> CodePointSet {
    position += 1
    let isNegated = skip("^")
    var set = CodePointSet()
    var isFirst = true
    while isFirst || next != "]" {
      guard let character = next else { throw error("missing ]") }
      isFirst = false
      if character == "[", peek(1) == ":", let named = try posix() {
        set = set.union(named)
      } else if let escaped = try classEscape() {
        set = set.union(escaped)
      } else {
        let first = try bracketCharacter()
        var last = first
        if next == "-", let end = peek(1), end != "]" {
          position += 1
          last = try bracketCharacter()
        }
        guard first <= last else { throw error("a range of characters is backwards") }
        let range = CodePointSet([.init(first: first.value, last: last.value)])
        set = set.union(flags.foldsCase ? range.foldingCase : range)
      }
    }
    position += 1
    return isNegated ? set.complement : set
  }

  private mutating func bracketCharacter() throws(OperatorError) -> Unicode.Scalar {
    guard let character = next else { throw error("missing ]") }
    if character == "\\" { return try characterEscape() }
    position += 1
    return character
  }

  /// [:name:] or [:^name:]; nil if it has no end and is no such class.
  private mutating func posix() throws(OperatorError) -> CodePointSet? {
    var end = position + 2
    while end + 1 < text.count, text[end] != ":" || text[end + 1] != "]" { end += 1 }
    guard end + 1 < text.count else { return nil }
    var name = String(String.UnicodeScalarView(text[position + 2..<end]))
    let isNegated = name.hasPrefix("^")
    if isNegated { name.removeFirst() }
    guard let set = CharacterClass.posix(name) else { throw error("[:\(name):] is no class") }
    position = end + 2
    let folded = flags.foldsCase ? set.foldingCase : set
    return isNegated ? folded.complement : folded
  }
}
