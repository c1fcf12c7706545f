// RegexFullMatch: does a regular expression match the whole string?
// https://onnx.ai/onnx/operators/onnx__RegexFullMatch.html Versions: 20.

import ApusGraph
import ApusTensor
import Synchronization

struct RegexFullMatch: OperatorDefinition {
  let schema = OperatorSchema(
    "RegexFullMatch", versions: [20],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [.optional("pattern", .string)],
    types: ["T1": .string, "T2": .bool])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.set(0, .bool, context.shape(0)) }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let pool = MatcherPool(try RegexProgram(RegexParser.parse(context.string("pattern"))))
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      guard let strings = input.strings else { throw .mismatch("the input is \(input.dataType); expected strings") }
      let partition = Partition(strings.count, of: .heavy * 8)
      let results = Mutex([Bool](repeating: false, count: strings.count))
      context.parallel(parts: partition.parts) { part in
        let matcher = pool.take()
        let range = partition.range(part)
        let found = strings[range].map { matcher.matches($0) }
        results.withLock { $0.replaceSubrange(range, with: found) }
        pool.give(matcher)
      }
      return [.tensor(Tensor(results.withLock { $0 }, shape: input.shape))]
    }
  }
}

/// Matchers of one program that nobody uses, with the states that they have made.
private final class MatcherPool: Sendable {
  private let program: RegexProgram
  private let idle = Mutex<[RegexMatcher]>([])

  init(_ program: RegexProgram) { self.program = program }

  func take() -> RegexMatcher { idle.withLock { $0.popLast() } ?? RegexMatcher(program) }
  func give(_ matcher: RegexMatcher) { idle.withLock { $0.append(matcher) } }
}
