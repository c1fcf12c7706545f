// OneHotEncoder: each element becomes a row with a one at its category. Versions: 1.
// https://onnx.ai/onnx/operators/onnx_aionnxml_OneHotEncoder.html

import ApusGraph
import ApusTensor

struct OneHotEncoder: OperatorDefinition {
  let schema = OperatorSchema(
    "OneHotEncoder", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [.optional("cats_int64s", .ints), .optional("cats_strings", .strings), .int("zeros", default: 1)],
    types: ["T": featureTypes + [.string], "tensor(float)": [.float32]])

  private static func counts(_ context: some OperatorContext) throws(OperatorError) -> (numbers: [Int], names: [String])
  {
    let (numbers, names) = (context.optionalInts("cats_int64s") ?? [], context.optionalStrings("cats_strings") ?? [])
    guard numbers.isEmpty != names.isEmpty else {
      throw .invalid("expected one of the attributes cats_int64s and cats_strings")
    }
    return (numbers, names)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let (numbers, names) = try OneHotEncoder.counts(context)
    context.set(0, .float32, context.shape(0).map { $0 + [Dim(max(numbers.count, names.count))] })
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (numbers, names) = try OneHotEncoder.counts(context)
    let allowsOthers = try context.bool("zeros")
    let type = try context.type(0)
    guard (type == .string) == numbers.isEmpty else {
      throw .mismatch("the input is \(type); the categories are \(numbers.isEmpty ? "strings" : "integers")")
    }
    if type == .string {
      let table = Dictionary(names.enumerated().map { (ExactString($0.element), $0.offset) }, uniquingKeysWith: { $1 })
      return .eager { (inputs, context) throws(OperatorError) in
        let input = try inputs.tensor(0)
        let result = try context.allocate(.float32, Shape(input.shape.dims + [names.count]))
        let target = result.storage.base.assumingMemoryBound(to: Float.self)
        for index in 0..<result.count { target[index] = 0 }
        for (index, string) in (input.strings ?? []).enumerated() {
          if let position = table[ExactString(string)] {
            target[index * names.count + position] = 1
          } else if !allowsOthers {
            throw .mismatch("'\(string)' is none of the categories")
          }
        }
        return [.tensor(result)]
      }
    }
    guard let reader = IndexReader(type) else { throw context.unsupportedType(type) }
    let table = IntegerTable(
      numbers.enumerated().map { (key: UInt64(bitPattern: Int64($0.element)), value: $0.offset) })
    let width = numbers.count
    return .planned { plan in
      let partition = Partition(plan.shape(0).elementCount, of: .light * (width + 8))
      return .parallel(parts: partition.parts) { run, part in
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 128) { block in
          guard let values = block.baseAddress else { return }
          let range = partition.range(part)
          var start = range.lowerBound
          while start < range.upperBound {
            let count = min(128, range.upperBound &- start)
            reader.read(run.inputBytes(0), from: start, count, into: values)
            let target: UnsafeMutablePointer<Float> = run.output(0) + start &* width
            for index in 0..<count &* width { target[index] = 0 }
            for index in 0..<count {
              let position = table[values[index]]
              if position >= 0 {
                target[index &* width &+ position] = 1
              } else if !allowsOthers {
                run.fail("\(values[index]) is none of the categories")
              }
            }
            start &+= count
          }
        }
      }
    }
  }
}
