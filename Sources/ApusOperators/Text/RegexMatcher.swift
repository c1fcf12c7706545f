// Whether a text matches an automaton as a whole, in time linear in the text: a deterministic automaton that is made as
// far as it is needed. R. Cox, Regular Expression Matching in the Wild (2010),
// https://swtch.com/~rsc/regexp/regexp3.html

/// One matcher serves one thread at a time; `@unchecked Sendable` so that matchers can be lent from a pool.
final class RegexMatcher: @unchecked Sendable {
  /// What stands before a place in the text.
  private enum Before: UInt8 { case start, newline, word, other }
  /// What stands behind it: a character of a class, or the end.
  private enum Behind { case newline, word, other, end }

  /// A state: the instructions that wait at a place, in order, and what stands before it.
  private struct Key: Hashable {
    let waiting: [Int32]
    let before: Before
  }

  private let program: RegexProgram
  private var states: [Key] = []
  private var indices: [Key: Int32] = [:]
  /// By state and class: the state after it. The last column: 1 if the text may end here.
  private var transitions: [Int32] = []
  private let width: Int
  private let maximumStates: Int
  /// The instructions reached while a transition is made.
  private var marks: [UInt32]
  private var mark: UInt32 = 0
  private var stack: [Int32] = []

  private static let unknown: Int32 = -1
  private static let dead: Int32 = -2

  init(_ program: RegexProgram) {
    self.program = program
    width = program.classCount + 1
    maximumStates = max(64, (1 << 18) / width)
    marks = [UInt32](repeating: 0, count: program.instructions.count)
  }

  /// True if the whole text matches.
  func matches(_ text: String) -> Bool {
    var state = index(of: Key(waiting: [program.start], before: .start))
    for scalar in text.unicodeScalars {
      let kind = program.characterClass(scalar.value)
      var next = transitions[Int(state) * width + kind]
      if next == RegexMatcher.unknown { next = transition(from: state, class: kind) }
      if next == RegexMatcher.dead { return false }
      state = next
    }
    var result = transitions[Int(state) * width + width - 1]
    if result == RegexMatcher.unknown {
      result = reachesEnd(state) ? 1 : 0
      transitions[Int(state) * width + width - 1] = result
    }
    return result == 1
  }

  /// The first match in a text from a position on, and of those the longest; nil if there is none. It may be empty.
  func firstMatch(in text: [Unicode.Scalar], from position: Int) -> Range<Int>? {
    for start in position...max(position, text.count) {
      if let end = longestMatch(in: text, at: start) { return start..<end }
    }
    return nil
  }

  /// The end of the longest match that starts at a position.
  private func longestMatch(in text: [Unicode.Scalar], at start: Int) -> Int? {
    var before = Before.start
    if start > 0, program.hasAssertions {
      let kind = program.characterClass(text[start - 1].value)
      before = program.classIsNewline[kind] ? .newline : program.classIsWord[kind] ? .word : .other
    }
    var state = index(of: Key(waiting: [program.start], before: before))
    var end: Int?
    for position in start...max(start, text.count) {
      guard position < text.count else {
        if reachesEnd(state) { end = position }
        break
      }
      let kind = program.characterClass(text[position].value)
      let behind: Behind = program.classIsNewline[kind] ? .newline : program.classIsWord[kind] ? .word : .other
      if visit(states[Int(state)], behind, take: { _, _ in }) { end = position }
      var next = transitions[Int(state) * width + kind]
      if next == RegexMatcher.unknown { next = transition(from: state, class: kind) }
      if next == RegexMatcher.dead { break }
      state = next
    }
    return end
  }

  /// The number of a state, which is new if it was not there. All states are forgotten when there are too many.
  private func index(of key: Key) -> Int32 {
    if let index = indices[key] { return index }
    if states.count >= maximumStates {
      states.removeAll(keepingCapacity: true)
      indices.removeAll(keepingCapacity: true)
      transitions.removeAll(keepingCapacity: true)
    }
    let index = Int32(states.count)
    states.append(key)
    indices[key] = index
    transitions += repeatElement(RegexMatcher.unknown, count: width)
    return index
  }

  private func transition(from state: Int32, class kind: Int) -> Int32 {
    let key = states[Int(state)]
    let behind: Behind = program.classIsNewline[kind] ? .newline : program.classIsWord[kind] ? .word : .other
    var taken: [Int32] = []
    visit(key, behind) { set, next in
      if program.contains(set: set, class: kind) { taken.append(next) }
    }
    if taken.isEmpty {
      transitions[Int(state) * width + kind] = RegexMatcher.dead
      return RegexMatcher.dead
    }
    taken = Array(Set(taken)).sorted()
    let before: Before =
      !program.hasAssertions
      ? .start : program.classIsNewline[kind] ? .newline : program.classIsWord[kind] ? .word : .other
    let count = states.count
    let next = index(of: Key(waiting: taken, before: before))
    // If the states were forgotten on the way, `state` is no more.
    if states.count >= count { transitions[Int(state) * width + kind] = next }
    return next
  }

  private func reachesEnd(_ state: Int32) -> Bool {
    visit(states[Int(state)], .end) { _, _ in }
  }

  /// Follows everything that takes no character, and calls `take` for what takes one. True if the match is reached.
  @discardableResult
  private func visit(_ key: Key, _ behind: Behind, take: (_ set: Int, _ next: Int32) -> Void) -> Bool {
    mark &+= 1
    if mark == 0 {
      for index in marks.indices { marks[index] = 0 }
      mark = 1
    }
    var isMatch = false
    stack.removeAll(keepingCapacity: true)
    stack += key.waiting
    while let position = stack.popLast() {
      if marks[Int(position)] == mark { continue }
      marks[Int(position)] = mark
      switch program.instructions[Int(position)] {
      case .take(let set, let next): take(set, next)
      case .fork(let first, let second):
        stack.append(first)
        stack.append(second)
      case .assert(let assertion, let next): if holds(assertion, key.before, behind) { stack.append(next) }
      case .match: isMatch = true
      }
    }
    return isMatch
  }

  private func holds(_ assertion: RegexAssertion, _ before: Before, _ behind: Behind) -> Bool {
    switch assertion {
    case .beginText: before == .start
    case .endText: behind == .end
    case .beginLine: before == .start || before == .newline
    case .endLine: behind == .end || behind == .newline
    case .wordBoundary: (before == .word) != (behind == .word)
    case .noWordBoundary: (before == .word) == (behind == .word)
    }
  }
}
