// StringNormalizer: removes stop words and changes case. https://onnx.ai/onnx/operators/onnx__StringNormalizer.html
// Versions: 10.

import ApusGraph
import ApusTensor

struct StringNormalizer: OperatorDefinition {
  let schema = OperatorSchema(
    "StringNormalizer", versions: [10],
    inputs: [.required("X", "tensor(string)")],
    outputs: [.required("Y", "tensor(string)")],
    attributes: [
      .string("case_change_action", default: "NONE"), .int("is_case_sensitive", default: 0),
      .optional("locale", .string),
      .optional("stopwords", .strings),
    ],
    types: ["tensor(string)": .string])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, .string, nil) }
    try StringNormalizer.check(shape)
    let keepsAll = (context.optionalStrings("stopwords") ?? []).isEmpty && shape.last?.known ?? 0 > 0
    context.set(0, .string, keepsAll ? shape : Array(shape.dropLast()) + [.unknown])
  }

  private static func check(_ shape: [Dim]) throws(OperatorError) {
    guard shape.count == 1 || shape.count == 2 && !shape[0].isSurelyDifferent(from: 1) else {
      throw .mismatch("the input has the shape \(shape.map(\.description)); expected [C] or [1, C]")
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let action = try context.string("case_change_action", oneOf: ["LOWER", "UPPER", "NONE"])
    let isSensitive = try context.bool("is_case_sensitive")
    let letters = LetterCase(locale: context.optionalString("locale") ?? "en_US")
    let stops = Set(
      (context.optionalStrings("stopwords") ?? []).map { ExactString(isSensitive ? $0 : letters.lower($0)) })
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      try StringNormalizer.check([Dim](input.shape))
      guard var strings = input.strings else { throw .mismatch("the input is \(input.dataType); expected strings") }
      if !stops.isEmpty { strings.removeAll { stops.contains(ExactString(isSensitive ? $0 : letters.lower($0))) } }
      try context.check(allocating: TensorStorage.cost(of: strings))
      switch action {
      case "LOWER": strings = strings.map { letters.lower($0) }
      case "UPPER": strings = strings.map { letters.upper($0) }
      default: break
      }
      if strings.isEmpty { strings = [""] }
      let shape: Shape = input.rank == 1 ? [strings.count] : [1, strings.count]
      return [.tensor(try context.tensor(strings: strings, shape: shape))]
    }
  }
}
