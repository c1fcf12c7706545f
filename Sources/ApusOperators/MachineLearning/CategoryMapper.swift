// CategoryMapper: strings to integers or back. https://onnx.ai/onnx/operators/onnx_aionnxml_CategoryMapper.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct CategoryMapper: OperatorDefinition {
  let schema = OperatorSchema(
    "CategoryMapper", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [
      .optional("cats_int64s", .ints), .optional("cats_strings", .strings), .int("default_int64", default: -1),
      .string("default_string", default: "_Unused"),
    ],
    types: ["T1": [.string, .int64], "T2": [.string, .int64]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let type = context.type(0) else { return }
    context.set(0, type == .string ? .int64 : .string, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (numbers, names) = (context.optionalInts("cats_int64s") ?? [], context.optionalStrings("cats_strings") ?? [])
    guard numbers.count == names.count else {
      throw .invalid("there are \(numbers.count) cats_int64s and \(names.count) cats_strings")
    }
    let (number, name) = (try context.int("default_int64"), try context.string("default_string"))
    let toNumber = Dictionary(zip(names.map { ExactString($0) }, numbers), uniquingKeysWith: { $1 })
    let toName = Dictionary(zip(numbers, names), uniquingKeysWith: { $1 })
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      if let strings = input.strings {
        return [.tensor(Tensor(strings.map { toNumber[ExactString($0)] ?? number }, shape: input.shape))]
      }
      let integers = input.integers ?? []
      return [.tensor(try context.tensor(strings: integers.map { toName[$0] ?? name }, shape: input.shape))]
    }
  }
}
