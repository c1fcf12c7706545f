// A regular expression as a nondeterministic automaton over classes of characters. K. Thompson, Regular Expression
// Search Algorithm, CACM 11 (1968).

import ApusGraph

/// An automaton: instructions that take a character, fork, or ask where they are. Immutable.
struct RegexProgram: Sendable {
  enum Instruction: Sendable {
    /// Takes a character of a set.
    case take(set: Int, next: Int32)
    case fork(Int32, Int32)
    case assert(RegexAssertion, next: Int32)
    case match
  }

  private(set) var instructions: [Instruction] = []
  private(set) var start: Int32 = 0
  /// Characters that no set tells apart are one class. By class and set: is it in?
  private(set) var classCount = 1
  private var membership: [Bool] = []
  private(set) var classIsWord: [Bool] = []
  private(set) var classIsNewline: [Bool] = []
  /// The class of each ASCII character, and of the code points from each boundary on.
  private(set) var asciiClasses: [Int] = []
  private var boundaries: [UInt32] = []
  private var boundaryClasses: [Int] = []
  /// True if an assertion looks at the characters around.
  private(set) var hasAssertions = false

  private var sets: [CodePointSet] = []
  private var setIndices: [CodePointSet: Int] = [:]

  private static let maximumInstructions = 1 << 17
  private static let maximumMembership = 1 << 24

  init(_ node: RegexNode) throws(OperatorError) {
    let end = try append(.match)
    start = try compile(node, next: end)
    try divideCharacters()
  }

  func contains(set: Int, class index: Int) -> Bool { membership[index * sets.count + set] }

  /// The class of a code point.
  func characterClass(_ point: UInt32) -> Int {
    if point < 128 { return asciiClasses[Int(point)] }
    var (low, high) = (0, boundaries.count)
    while low + 1 < high {
      let middle = (low + high) / 2
      if boundaries[middle] <= point { low = middle } else { high = middle }
    }
    return boundaryClasses[low]
  }

  private mutating func append(_ instruction: Instruction) throws(OperatorError) -> Int32 {
    guard instructions.count < RegexProgram.maximumInstructions else {
      throw .unsupported("the regular expression is too large: more than \(RegexProgram.maximumInstructions) steps")
    }
    instructions.append(instruction)
    return Int32(instructions.count - 1)
  }

  /// The first instruction of `node`, which goes on at `next`.
  private mutating func compile(_ node: RegexNode, next: Int32) throws(OperatorError) -> Int32 {
    switch node {
    case .empty: return next
    case .set(let set):
      if setIndices[set] == nil {
        setIndices[set] = sets.count
        sets.append(set)
      }
      return try append(.take(set: setIndices[set] ?? 0, next: next))
    case .assertion(let assertion):
      hasAssertions = true
      return try append(.assert(assertion, next: next))
    case .concatenation(let nodes):
      var entry = next
      for node in nodes.reversed() { entry = try compile(node, next: entry) }
      return entry
    case .alternation(let branches):
      var entry = try compile(branches[branches.count - 1], next: next)
      for branch in branches.dropLast().reversed() {
        let first = try compile(branch, next: next)
        entry = try append(.fork(first, entry))
      }
      return entry
    case .repetition(let body, let minimum, let maximum):
      var entry = next
      if let maximum {
        for _ in minimum..<max(minimum, maximum) {
          let first = try compile(body, next: entry)
          entry = try append(.fork(first, next))
        }
      } else {
        entry = try append(.fork(0, next))
        let first = try compile(body, next: entry)
        instructions[Int(entry)] = .fork(first, next)
      }
      for _ in 0..<minimum {
        let count = instructions.count
        entry = try compile(body, next: entry)
        // What takes nothing is the same any number of times.
        if instructions.count == count { break }
      }
      return entry
    }
  }

  /// Finds the classes of characters that behave alike.
  private mutating func divideCharacters() throws(OperatorError) {
    let probes = sets + [CharacterClass.word, CodePointSet(0x0A)]
    var cuts: Set<UInt32> = [0]
    for set in probes {
      for range in set.ranges {
        cuts.insert(range.first)
        cuts.insert(range.last + 1)
      }
    }
    boundaries = cuts.filter { $0 <= CodePointSet.maximum }.sorted()
    guard boundaries.count * probes.count <= RegexProgram.maximumMembership else {
      throw .unsupported("the regular expression is too large: \(probes.count) sets of characters")
    }
    var classes: [[Bool]: Int] = [:]
    for boundary in boundaries {
      let signature = probes.map { $0.contains(boundary) }
      if classes[signature] == nil {
        classes[signature] = classes.count
        membership += signature.prefix(sets.count)
        classIsWord.append(signature[sets.count])
        classIsNewline.append(signature[sets.count + 1])
      }
      boundaryClasses.append(classes[signature] ?? 0)
    }
    classCount = classes.count
    var index = 0
    for point in UInt32(0)..<128 {
      while index + 1 < boundaries.count, boundaries[index + 1] <= point { index += 1 }
      asciiClasses.append(boundaryClasses[index])
    }
  }
}
