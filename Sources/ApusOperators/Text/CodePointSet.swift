// Sets of code points as sorted ranges, and the classes that regular expressions name: Perl, POSIX, Unicode.

/// A set of code points.
struct CodePointSet: Hashable, Sendable {
  struct Range: Hashable, Sendable {
    var first: UInt32
    var last: UInt32
  }

  static let maximum: UInt32 = 0x10FFFF
  static let all = CodePointSet([Range(first: 0, last: maximum)])

  /// Sorted, disjoint, not adjacent.
  private(set) var ranges: [Range]

  init(_ unordered: [Range] = []) {
    ranges = []
    for range in unordered.sorted(by: { $0.first < $1.first }) {
      if let last = ranges.last, range.first <= last.last || range.first == last.last + 1 {
        ranges[ranges.count - 1].last = max(last.last, range.last)
      } else {
        ranges.append(range)
      }
    }
  }

  init(_ point: UInt32) { ranges = [Range(first: point, last: point)] }

  /// Ranges written as pairs of their ends: "09" is 0 to 9, "azAZ" all letters.
  init(pairs: String) {
    let points = pairs.unicodeScalars.map(\.value)
    self.init(stride(from: 0, to: points.count - 1, by: 2).map { Range(first: points[$0], last: points[$0 + 1]) })
  }

  func union(_ other: CodePointSet) -> CodePointSet { CodePointSet(ranges + other.ranges) }

  var complement: CodePointSet {
    var result: [Range] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.first > next { result.append(Range(first: next, last: range.first - 1)) }
      next = range.last + 1
    }
    if next <= CodePointSet.maximum { result.append(Range(first: next, last: CodePointSet.maximum)) }
    return CodePointSet(result)
  }

  func contains(_ point: UInt32) -> Bool {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].last < point { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].first <= point
  }

  /// The set with every code point that differs from one in it by case only.
  var foldingCase: CodePointSet {
    var added: [Range] = []
    for orbit in CaseOrbits.all where orbit.contains(where: contains) {
      added += orbit.map { Range(first: $0, last: $0) }
    }
    return CodePointSet(ranges + added)
  }
}

/// Groups of code points that are one letter in several cases, by the simple foldings of CaseFolding.txt: two letters
/// belong together if one is the lower or upper case of the other, dotted and dotless i excepted.
private enum CaseOrbits {
  static let all: [[UInt32]] = {
    var parents: [UInt32: UInt32] = [:]
    func root(_ point: UInt32) -> UInt32 {
      var point = point
      while let parent = parents[point], parent != point { point = parent }
      return point
    }
    for point in UInt32(0x41)...0x1E943 where point != 0x130 && point != 0x131 {
      guard let properties = Unicode.Scalar(point)?.properties,
        properties.changesWhenLowercased || properties.changesWhenUppercased
      else { continue }
      for mapping in [properties.lowercaseMapping, properties.uppercaseMapping] {
        let scalars = mapping.unicodeScalars
        guard scalars.count == 1, let other = scalars.first?.value, other != point else { continue }
        let (a, b) = (root(point), root(other))
        (parents[a], parents[b]) = (min(a, b), min(a, b))
        if parents[point] == nil { parents[point] = min(a, b) }
      }
    }
    var orbits: [UInt32: [UInt32]] = [:]
    for point in parents.keys { orbits[root(point), default: []].append(point) }
    return orbits.values.filter { $0.count > 1 }.map { $0.sorted() }
  }()
}

/// The named classes.
enum CharacterClass {
  static let digit = CodePointSet(pairs: "09")
  static let space = CodePointSet(pairs: "\t\n\u{C}\r  ")
  static let word = CodePointSet(pairs: "09AZ__az")

  /// \d, \s, \w.
  static func perl(_ letter: Unicode.Scalar) -> CodePointSet? {
    switch letter {
    case "d": digit
    case "s": space
    case "w": word
    default: nil
    }
  }

  /// [:name:], of ASCII.
  static func posix(_ name: String) -> CodePointSet? {
    switch name {
    case "alnum": CodePointSet(pairs: "09AZaz")
    case "alpha": CodePointSet(pairs: "AZaz")
    case "ascii": CodePointSet(pairs: "\0\u{7F}")
    case "blank": CodePointSet(pairs: "\t\t  ")
    case "cntrl": CodePointSet(pairs: "\0\u{1F}\u{7F}\u{7F}")
    case "digit": digit
    case "graph": CodePointSet(pairs: "!~")
    case "lower": CodePointSet(pairs: "az")
    case "print": CodePointSet(pairs: " ~")
    case "punct": CodePointSet(pairs: "!/:@[`{~")
    case "space": CodePointSet(pairs: "\t\r  ")
    case "upper": CodePointSet(pairs: "AZ")
    case "word": word
    case "xdigit": CodePointSet(pairs: "09AFaf")
    default: nil
    }
  }

  /// \p{name}: a general category, a group of them by its letter, a script, or Any.
  static func unicode(_ name: String) -> CodePointSet? {
    if name == "Any" { return .all }
    if let set = categories[name] { return set }
    for line in UnicodeScripts.table.split(separator: "\n") where line.prefix(name.utf8.count) == name {
      let words = line.split(separator: " ")
      guard words.first.map(String.init) == name else { continue }
      var ranges: [CodePointSet.Range] = []
      var end: UInt32 = 0
      for word in words.dropFirst() {
        let parts = word.split(separator: "+").map { UInt32($0, radix: 16) ?? 0 }
        let first = end + parts[0]
        end = first + (parts.count > 1 ? parts[1] : 0)
        ranges.append(.init(first: first, last: end))
      }
      return CodePointSet(ranges)
    }
    return nil
  }

  /// The general categories that code points have, by their short names.
  private static let categories: [String: CodePointSet] = {
    var ranges: [String: [CodePointSet.Range]] = [:]
    var current: (name: String, first: UInt32)?
    for point in 0...CodePointSet.maximum + 1 {
      let category = Unicode.Scalar(point)?.properties.generalCategory
      let name = point > CodePointSet.maximum ? "" : category.map(shortName) ?? "Cs"
      if name == current?.name { continue }
      if let current, !current.name.isEmpty {
        ranges[current.name, default: []].append(.init(first: current.first, last: point - 1))
      }
      current = (name, point)
    }
    var sets: [String: CodePointSet] = [:]
    for (name, list) in ranges where name != "Cn" { sets[name] = CodePointSet(list) }
    for letter in ["C", "L", "M", "N", "P", "S", "Z"] {
      sets[letter] = CodePointSet(sets.filter { $0.key.count == 2 && $0.key.hasPrefix(letter) }.flatMap(\.value.ranges))
    }
    return sets
  }()

  private static func shortName(_ category: Unicode.GeneralCategory) -> String {
    switch category {
    case .uppercaseLetter: "Lu"
    case .lowercaseLetter: "Ll"
    case .titlecaseLetter: "Lt"
    case .modifierLetter: "Lm"
    case .otherLetter: "Lo"
    case .nonspacingMark: "Mn"
    case .spacingMark: "Mc"
    case .enclosingMark: "Me"
    case .decimalNumber: "Nd"
    case .letterNumber: "Nl"
    case .otherNumber: "No"
    case .connectorPunctuation: "Pc"
    case .dashPunctuation: "Pd"
    case .openPunctuation: "Ps"
    case .closePunctuation: "Pe"
    case .initialPunctuation: "Pi"
    case .finalPunctuation: "Pf"
    case .otherPunctuation: "Po"
    case .mathSymbol: "Sm"
    case .currencySymbol: "Sc"
    case .modifierSymbol: "Sk"
    case .otherSymbol: "So"
    case .spaceSeparator: "Zs"
    case .lineSeparator: "Zl"
    case .paragraphSeparator: "Zp"
    case .control: "Cc"
    case .format: "Cf"
    case .surrogate: "Cs"
    case .privateUse: "Co"
    case .unassigned: "Cn"
    @unknown default: "Cn"
    }
  }
}
