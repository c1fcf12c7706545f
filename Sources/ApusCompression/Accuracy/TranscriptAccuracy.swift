// How much of a text a model gets wrong, in words and in characters.

import ApusFormats
import ApusTensor

/// Changes of one list that make another of it.
public enum EditDistance {
  /// The least number of insertions, deletions and replacements (V. I. Levenshtein, Soviet Physics Doklady 10, 1966).
  public static func of<Element: Hashable>(_ a: [Element], _ b: [Element]) -> Int {
    var row = Array(0...b.count)
    for (index, element) in a.enumerated() {
      var diagonal = row[0]
      row[0] = index + 1
      for place in b.indices {
        let replaced = diagonal + (element == b[place] ? 0 : 1)
        diagonal = row[place + 1]
        row[place + 1] = min(replaced, diagonal + 1, row[place] + 1)
      }
    }
    return row[b.count]
  }
}

/// What connectionist temporal classification says.
public enum CTCDecoder {
  /// The best path: the class with the highest score at each step, repeats once, without blanks. A. Graves et al., ICML
  /// 2006, section 3.2.
  ///
  /// - Parameter scores: float[T, classes], or [1, T, classes].
  public static func bestPath(_ scores: Tensor, blank: Int) throws(CompressionError) -> [Int] {
    guard scores.dataType.isFloat, scores.rank == 2 || scores.rank == 3 && scores.shape[0] == 1,
      let width = scores.shape.last, (0..<width).contains(blank)
    else {
      throw CompressionError(
        .invalidSample,
        "the scores are \(scores.dataType)\(scores.shape), the blank is class \(blank); expected floats [T, classes]"
      )
    }
    let numbers = scores.doubles
    var path: [Int] = []
    var last = blank
    for step in 0..<numbers.count / width {
      let best = ClassificationAccuracy.largest(Array(numbers[step * width..<(step + 1) * width]))
      if best != last, best != blank { path.append(best) }
      last = best
    }
    return path
  }
}

/// Sums of changes over all texts, against the lengths of the true ones.
public struct TranscriptAccuracy: Sendable {
  public private(set) var samples = 0
  private var words = Sums()
  private var characters = Sums()
  private var tokens = Sums()
  private var exact = 0

  private struct Sums: Sendable {
    var (changes, length) = (0, 0)

    mutating func add<Element: Hashable>(_ truth: [Element], _ output: [Element]) {
      changes += EditDistance.of(truth, output)
      length += truth.count
    }

    func rate(_ name: String, of what: String) -> AccuracyMetric {
      AccuracyMetric(name, Double(changes), of: Double(length), otherwise: "the true texts have no \(what)")
    }
  }

  public init() {}

  /// Adds a text. Words stand between white space; characters are Unicode scalars, white space between words included
  /// as one blank. Case and punctuation count.
  public mutating func add(output: String, truth: String) {
    samples += 1
    exact += Self.words(truth) == Self.words(output) ? 1 : 0
    count(output, truth)
  }

  /// Adds a list of tokens, as numbers, and the texts that they spell where there are any.
  public mutating func add(output: [Int], truth: [Int], texts: (output: String, truth: String)? = nil) {
    samples += 1
    exact += output == truth ? 1 : 0
    tokens.add(truth, output)
    if let texts { count(texts.output, texts.truth) }
  }

  private mutating func count(_ output: String, _ truth: String) {
    let (trueWords, foundWords) = (Self.words(truth), Self.words(output))
    words.add(trueWords, foundWords)
    characters.add(Self.characters(trueWords), Self.characters(foundWords))
  }

  private static func words(_ text: String) -> [String] { text.split(whereSeparator: \.isWhitespace).map(String.init) }

  private static func characters(_ words: [String]) -> [Unicode.Scalar] {
    Array(words.joined(separator: " ").unicodeScalars)
  }

  public var report: AccuracyReport {
    let hasTokens = tokens.length > 0 || tokens.changes > 0
    return AccuracyReport(
      samples: samples,
      metrics: (hasTokens ? [tokens.rate("token_error_rate", of: "tokens")] : [])
        + (hasTokens && words.length + words.changes == 0
          ? [] : [words.rate("wer", of: "words"), characters.rate("cer", of: "characters")])
        + [AccuracyMetric("exact", share: exact, of: samples)])
  }
}
