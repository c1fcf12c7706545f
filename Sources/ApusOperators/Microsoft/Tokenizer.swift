// Tokenizer: strings cut into tokens, at separators or by an expression that tokens match.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.Tokenizer
// Versions: 1.

import ApusGraph
import ApusTensor

struct Tokenizer: OperatorDefinition {
  let schema = OperatorSchema(
    "Tokenizer", domain: "com.microsoft", versions: [1], inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    attributes: [
      .required("mark", .int), .required("mincharnum", .int), .required("pad_value", .string),
      .optional("separators", .strings), .optional("tokenexp", .string),
    ], types: ["T": .string])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(0), !(1...2).contains(shape.count) {
      throw .mismatch("X is \(shape.text); expected one or two axes")
    }
    context.set(0, .string, context.shape(0).map { $0.contains { $0.known == 0 } ? $0 : $0 + [.unknown] })
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let cutter = try TokenCutter(context)
    let hasMarks = try context.bool("mark")
    let padding = try context.string("pad_value")
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      guard let strings = input.strings else { throw .mismatch("X is \(input.dataType); expected strings") }
      if strings.isEmpty { return [.tensor(input)] }
      var rows: [[String]] = []
      var cost = 0
      for string in strings {
        let row = cutter.tokens(of: string)
        cost += TensorStorage.cost(of: row)
        try context.check(allocating: cost)
        rows.append(row)
      }
      let longest = rows.map(\.count).max() ?? 0
      if longest == 0 { return [.tensor(Tensor(strings: [], shape: Shape(input.shape.dims + [0])))] }
      let width = longest + (hasMarks ? 2 : 0)
      let (total, overflow) = width.multipliedReportingOverflow(by: strings.count)
      try context.check(allocating: overflow ? .max : total, of: MemoryLayout<String>.stride)
      var padded: [String] = []
      padded.reserveCapacity(width * strings.count)
      for row in rows {
        if hasMarks { padded.append("\u{2}") }
        padded += row
        if hasMarks { padded.append("\u{3}") }
        padded += repeatElement(padding, count: longest - row.count)
      }
      return [.tensor(try context.tensor(strings: padded, shape: Shape(input.shape.dims + [width])))]
    }
  }
}

/// How tokens are found.
private struct TokenCutter: Sendable {
  private enum Method: Sendable {
    case characters
    /// What stands between matches, of each expression in turn.
    case between([RegexProgram])
    /// The matches.
    case matching(RegexProgram)
  }

  private let method: Method
  /// Tokens of fewer characters are left out.
  private let least: Int

  init(_ context: some OperatorContext) throws(OperatorError) {
    least = try context.int("mincharnum")
    guard least > 0 else { throw .invalid("mincharnum is \(least); expected a positive number") }
    switch (context.optionalStrings("separators"), context.optionalString("tokenexp")) {
    case (let separators?, nil):
      guard !separators.isEmpty else { throw .invalid("separators is empty") }
      if separators == [""] {
        method = .characters
        break
      }
      var programs: [RegexProgram] = []
      for separator in separators {
        guard !separator.isEmpty else { throw .invalid("an element of separators is empty") }
        programs.append(try RegexProgram(RegexParser.parse(separator, attribute: "separators")))
      }
      method = .between(programs)
    case (nil, let expression?):
      guard !expression.isEmpty else { throw .invalid("tokenexp is empty") }
      let program = try RegexProgram(RegexParser.parse(expression, attribute: "tokenexp"))
      method = expression == "." ? .characters : .matching(program)
    default: throw .invalid("one of separators and tokenexp must be given")
    }
    if case .characters = method, least > 1 { throw .invalid("mincharnum is \(least); single characters are tokens") }
  }

  func tokens(of string: String) -> [String] {
    let text = Array(string.unicodeScalars)
    switch method {
    case .characters: return text.map { String($0) }
    case .matching(let program):
      return matches(of: RegexMatcher(program), in: text).filter { $0.count >= least }.map { joined(text[$0]) }
    case .between(let programs):
      var pieces = [text]
      for program in programs {
        let matcher = RegexMatcher(program)
        pieces = pieces.flatMap { cut($0, at: matcher) }
      }
      return pieces.map { joined($0[...]) }
    }
  }

  private func joined(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var string = String.UnicodeScalarView()
    string.append(contentsOf: scalars)
    return String(string)
  }

  /// Matches from left to right that do not overlap, the empty ones among them.
  private func matches(of matcher: RegexMatcher, in text: [Unicode.Scalar]) -> [Range<Int>] {
    var found: [Range<Int>] = []
    var position = 0
    while position <= text.count, let match = matcher.firstMatch(in: text, from: position) {
      found.append(match)
      position = match.isEmpty ? match.upperBound + 1 : match.upperBound
    }
    return found
  }

  private func cut(_ text: [Unicode.Scalar], at matcher: RegexMatcher) -> [[Unicode.Scalar]] {
    var pieces: [[Unicode.Scalar]] = []
    var start = 0
    for match in matches(of: matcher, in: text) + [text.count..<text.count] {
      if match.lowerBound - start >= least { pieces.append(Array(text[start..<match.lowerBound])) }
      // Where nothing separates, a character does, and is lost.
      start = max(start, match.isEmpty ? match.upperBound + 1 : match.upperBound)
    }
    return pieces
  }
}
