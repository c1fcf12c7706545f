// Text operators: the case rules of Unicode and of locales, empty and odd shapes, white space, n-grams with gaps.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TextTests {
  private func strings(_ elements: [String], _ shape: Shape? = nil) -> Tensor {
    Tensor(strings: elements, shape: shape ?? [elements.count])
  }

  // MARK: StringNormalizer

  private func normalized(_ texts: [String], _ action: String, locale: String? = nil) throws -> [String]? {
    var attributes: [(String, AttributeValue)] = [("case_change_action", .string(action))]
    if let locale { attributes.append(("locale", .string(locale))) }
    return try OperatorRun("StringNormalizer", attributes: attributes)(strings(texts))[0].strings
  }

  @Test func fullCaseMappings() throws {
    #expect(try normalized(["straße", "ŉ", "ﬃ", "ǰ"], "UPPER") == ["STRASSE", "ʼN", "FFI", "J\u{30C}"])
    #expect(try normalized(["ÄÖÜ", "ДОМ", "\u{1C4}", "日本"], "LOWER") == ["äöü", "дом", "\u{1C6}", "日本"])
    // A sigma at the end of a word is another letter than one inside; a full stop does not end it.
    #expect(try normalized(["ΟΔΥΣΣΕΥΣ", "Σ", "ΑΣ.Β"], "LOWER") == ["οδυσσευς", "σ", "ασ.β"])
    // Outside of the first plane, and a decomposed accent, which stays as it is.
    #expect(try normalized(["\u{10400}", "E\u{301}"], "LOWER") == ["\u{10428}", "e\u{301}"])
    #expect(try normalized(["Aß"], "NONE") == ["Aß"])
  }

  @Test(arguments: ["tr", "tr_TR", "az-AZ", "tr_TR.UTF-8"]) func lettersIOfTurkish(locale: String) throws {
    #expect(try normalized(["iı", "TITLE"], "UPPER", locale: locale) == ["İI", "TITLE"])
    #expect(try normalized(["Iİ", "I\u{307}"], "LOWER", locale: locale) == ["ıi", "i"])
  }

  @Test func otherLocales() throws {
    #expect(try normalized(["title", "ı"], "UPPER", locale: "en_US") == ["TITLE", "I"])
    #expect(try normalized(["TITLE"], "LOWER", locale: "no such place") == ["title"])
    #expect(
      try normalized(["\u{CC}", "J\u{301}"], "LOWER", locale: "lt_LT") == ["i\u{307}\u{300}", "j\u{307}\u{301}"])
    #expect(try normalized(["i\u{307}"], "UPPER", locale: "lt") == ["I"])
  }

  @Test func stopWords() throws {
    func run(_ texts: Tensor, _ words: [String], sensitive: Bool) throws -> Tensor {
      try OperatorRun(
        "StringNormalizer",
        attributes: [("stopwords", .strings(words)), ("is_case_sensitive", .int(sensitive ? 1 : 0))])(texts)[0]
    }
    // Whole elements, compared by code points: a decomposed letter is another one.
    let texts = strings(["The", "the cat", "THE", "é", "e\u{301}", ""], [1, 6])
    #expect(try run(texts, ["the", "é"], sensitive: false).strings == ["the cat", "e\u{301}", ""])
    #expect(try run(texts, ["the", "é"], sensitive: true).strings == ["The", "the cat", "THE", "e\u{301}", ""])
    let none = try run(strings(["a", "A"], [1, 2]), ["a"], sensitive: false)
    #expect(none.shape == [1, 1] && none.strings == [""])
    #expect(try run(strings(["a"]), ["a"], sensitive: true).shape == [1])
    #expect(try run(strings([]), [], sensitive: true).strings == [""])
    #expect(throws: OperatorError.self) { try run(strings(["a", "b"], [2, 1]), [], sensitive: true) }
    #expect(throws: PreparationError.self) { try normalized(["a"], "TITLE") }
  }

  // MARK: StringSplit and StringConcat

  private func split(_ texts: Tensor, _ delimiter: String? = nil, limit: Int? = nil) throws -> (Tensor, [Int]?) {
    var attributes: [(String, AttributeValue)] = []
    if let delimiter { attributes.append(("delimiter", .string(delimiter))) }
    if let limit { attributes.append(("maxsplit", .int(limit))) }
    let results = try OperatorRun("StringSplit", attributes: attributes)(texts, outputs: 2)
    return (results[0], results[1].elements(as: Int.self))
  }

  @Test func splitting() throws {
    let (pieces, counts) = try split(strings(["a--b--", "", "--"], [3, 1]), "--")
    #expect(pieces.shape == [3, 1, 3] && counts == [3, 1, 2])
    #expect(pieces.strings == ["a", "b", "", "", "", "", "", "", ""])
    // All white space of Unicode separates; what is left after the last split keeps the white space inside.
    let (words, wordCounts) = try split(strings([" a\u{A0}b \t c\u{3000}", " \n"]))
    #expect(words.strings == ["a", "b", "c", "", "", ""] && wordCounts == [3, 0])
    #expect(try split(strings([" a  b  c "]), "", limit: 1).0.strings == ["a", "b  c"])
    #expect(try split(strings(["aaa"]), "aa").0.strings == ["", "a"])
    #expect(try split(strings(["日本日本"]), "本", limit: 1).0.strings == ["日", "日本"])
    let (none, noCounts) = try split(strings([], [2, 0]), ",")
    #expect(none.shape == [2, 0, 0] && noCounts == [])
    #expect(try split(strings(["a b"], [])).0.shape == [2])
  }

  @Test func joining() throws {
    let concatenate = OperatorRun("StringConcat")
    let rows = try concatenate(strings(["a", "b"], [2, 1]), strings(["x", "", "é"]))[0]
    #expect(rows.shape == [2, 3] && rows.strings == ["ax", "a", "aé", "bx", "b", "bé"])
    #expect(try concatenate(strings([], [0, 1]), strings(["x", "y"]))[0].shape == [0, 2])
    #expect(try concatenate(strings(["e"], []), strings(["\u{301}"], []))[0].strings?.first?.unicodeScalars.count == 2)
    #expect(throws: OperatorError.self) { try concatenate(strings(["a", "b"]), strings(["a", "b", "c"])) }
  }

  // MARK: TfIdfVectorizer

  private func grams(
    _ low: Int, _ high: Int, skips: Int, pool: [Int], starts: [Int], places: [Int]
  ) -> OperatorRun {
    OperatorRun(
      "TfIdfVectorizer",
      attributes: [
        ("mode", .string("TF")), ("min_gram_length", .int(low)), ("max_gram_length", .int(high)),
        ("max_skip_count", .int(skips)), ("pool_int64s", .ints(pool)), ("ngram_counts", .ints(starts)),
        ("ngram_indexes", .ints(places)),
      ])
  }

  @Test func gramsWithGaps() throws {
    let pairs = grams(2, 2, skips: 1, pool: [1, 2, 1, 3], starts: [0, 0], places: [1, 0])
    #expect(try pairs(Tensor([1, 2, 3, 1, 9, 3]))[0].elements(as: Float.self) == [2, 1])
    #expect(try pairs(Tensor([1, 2, 1, 3], shape: [2, 2]))[0].elements(as: Float.self) == [0, 1, 1, 0])
    // No tokens, or fewer than an n-gram has.
    #expect(try pairs(Tensor([Int](), shape: [0]))[0].elements(as: Float.self) == [0, 0])
    #expect(try pairs(Tensor([Int](), shape: [3, 0]))[0].shape == [3, 2])
    #expect(try pairs(Tensor([1]))[0].elements(as: Float.self) == [0, 0])
    #expect(throws: OperatorError.self) { try pairs(Tensor([1], shape: [1, 1, 1])) }
    #expect(throws: PreparationError.self) { try pairs(strings(["1"])) }
    #expect(throws: (any Error).self) {
      try grams(1, 1, skips: 0, pool: [1], starts: [0], places: [-1])(Tensor([1]))
    }
    #expect(throws: PreparationError.self) {
      try grams(1, 2, skips: 0, pool: [1, 2, 3], starts: [0, 2], places: [0, 1, 2])(Tensor([1]))
    }
  }
}
