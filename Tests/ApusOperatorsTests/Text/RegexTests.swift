// Regular expressions: the syntax of RE2, whole matches, and time that is linear in the text for hostile patterns.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct RegexTests {
  private func matches(_ pattern: String, _ texts: [String]) throws -> [Bool]? {
    let run = OperatorRun("RegexFullMatch", attributes: [("pattern", .string(pattern))])
    return try run(Tensor(strings: texts, shape: [texts.count]))[0].elements(as: Bool.self)
  }

  @Test func wholeTexts() throws {
    #expect(try matches("a|ab", ["a", "ab", "abc", ""]) == [true, true, false, false])
    #expect(try matches("", ["", "a"]) == [true, false])
    #expect(try matches("a*?", ["aaa"]) == [true])
    #expect(try matches("^a$", ["a", "a\n"]) == [true, false])
    #expect(try matches("(?m)a$\\n^b", ["a\nb"]) == [true])
    #expect(try matches("a.c", ["a\nc", "a\u{1F426}c", "ae\u{301}c"]) == [false, true, false])
    #expect(try matches("(?s)a.c", ["a\nc"]) == [true])
    #expect(try matches("\\bab\\b.\\Bc", ["ab c", "abbc"]) == [false, false])
    #expect(try matches("(?P<year>\\d{4})-(\\d\\d)", ["2026-11", "2026-1"]) == [true, false])
  }

  @Test func classes() throws {
    // \d, \w and \s are ASCII, as in RE2.
    #expect(try matches("\\d\\w\\s", ["1a ", "\u{661}a ", "1é ", "1a\u{A0}"]) == [true, false, false, false])
    #expect(try matches("\\pL+", ["aéдΩ日", "a1"]) == [true, false])
    #expect(try matches("\\p{Greek}\\P{Greek}", ["Ωa", "aΩ"]) == [true, false])
    #expect(try matches("[^a-c\\]]", ["d", "b", "]", "\n"]) == [true, false, false, true])
    #expect(try matches("[[:alpha:]][[:^digit:]]", ["ax", "a1", "éx"]) == [true, false, false])
    #expect(try matches("(?i)straSSe[k]", ["STRASSEK", "strasse\u{212A}"]) == [true, true])
    #expect(try matches("\\x{1F426}\\x41\\Q.*\\E", ["\u{1F426}A.*", "\u{1F426}Axy"]) == [true, false])
    #expect(try matches("a{2,3}b{,2}", ["aab{,2}", "aabb"]) == [true, false])
  }

  @Test(
    arguments: [
      "(", ")", "[", "[b-a]", "*", "a**", "a{2}{3}", "a{1001}", "\\", "\\8", "\\p{Klingon}", "(?<n>a)(?<n>b)", "(?z)",
      "\\x{110000}", "(?=a)", "(a)\\1", "[[:nothing:]]",
    ]) func refused(pattern: String)
  {
    #expect(throws: PreparationError.self) { try matches(pattern, ["a"]) }
  }

  /// Patterns on which backtracking takes time exponential in the text.
  @Test(arguments: ["(a*)*b", "(a|a)*b", "(a+)+b", "(.*a){20}b", "(a?){50}a*b", "(a|aa|aaa)*b", "(\\w|_)*\\d*b"])
  func hostilePatterns(pattern: String) throws {
    let text = String(repeating: "a", count: 20_000)
    #expect(try matches(pattern, [text, text + "b"]) == [false, true])
  }

  /// Automata with many states: they are forgotten, not collected without end.
  @Test func manyStates() throws {
    var text = ""
    var state: UInt64 = 7
    for _ in 0..<20_000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      text += state >> 40 & 1 == 0 ? "a" : "b"
    }
    let tail = String(repeating: "a", count: 20)
    #expect(try matches("[ab]*a[ab]{19}", [text + tail, text + "b" + tail.dropFirst()]) == [true, false])
  }

  @Test func largePatterns() throws {
    #expect(throws: PreparationError.self) { try matches("((a{1000}){1000}){1000}", ["a"]) }
    // Nothing, any number of times, is nothing.
    #expect(try matches("((((){1000}){1000}){1000}){1000}", ["", "a"]) == [true, false])
    #expect(try matches("((((|){100}){100})*)+", [""]) == [true])
    let deep = String(repeating: "(", count: 900) + "a" + String(repeating: ")", count: 900)
    #expect(try matches(deep, ["a", ""]) == [true, false])
    let deeper = String(repeating: "(", count: 100_000) + String(repeating: ")", count: 100_000)
    #expect(throws: PreparationError.self) { try matches(deeper, [""]) }
  }

  @Test func shapes() throws {
    let run = OperatorRun("RegexFullMatch", attributes: [("pattern", .string("a"))])
    #expect(try run(Tensor(strings: [], shape: [2, 0]))[0].shape == [2, 0])
    #expect(try run(Tensor(strings: ["a"], shape: []))[0].elements(as: Bool.self) == [true])
    var wide = run
    wide.threads = 2
    let texts = (0..<3000).map { $0 % 3 == 0 ? "a" : "b" }
    #expect(try wide(Tensor(strings: texts, shape: [3000]))[0].elements(as: Bool.self) == texts.map { $0 == "a" })
  }
}
