// Bernoulli: 1 with the probability that the input states, else 0. https://onnx.ai/onnx/operators/onnx__Bernoulli.html
// Versions: 15, 22 (bfloat16 input).

import ApusGraph
import ApusTensor

struct Bernoulli: OperatorDefinition {
  private static let results: TypeSet = .numeric + .bool

  let schema = OperatorSchema(
    "Bernoulli", versions: [15, 22], inputs: [.required("input", "T1")], outputs: [.required("output", "T2")],
    attributes: [.optional("dtype", .int), .optional("seed", .float)], types: ["T1": .floats, "T2": results],
    traits: .random, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, try outputType(context, input: context.type(0)), context.shape(0))
  }

  private func outputType(_ context: some OperatorContext, input: DataType?) throws(OperatorError) -> DataType? {
    guard let number = context.optionalInt("dtype"), number != 0 else { return input }
    return try elementType(number, name: "dtype", allowed: Bernoulli.results)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let input = try context.type(0)
    guard let load = Lane.float64.load(input), let type = try outputType(context, input: input),
      let store = Lane.int64.store(type)
    else { throw context.unsupportedType(input) }
    let seed = RandomSeed(context.optionalFloat("seed"), of: context.node)
    return .planned { plan throws(OperatorError) in
      let count = plan.outputShape(0).elementCount
      return Step.serial(scratchBytes: MersenneTwister.stateBytes) { run in
        var generator = MersenneTwister(seed: seed.next(), memory: run.scratch)
        withUnsafeTemporaryAllocation(of: Double.self, capacity: Lane.blockLength) { block in
          guard let probabilities = block.baseAddress else { return }
          let lanes = UnsafeMutableRawPointer(probabilities).assumingMemoryBound(to: Int64.self)
          var start = 0
          while start < count {
            let n = min(Lane.blockLength, count &- start)
            load(run.inputBytes(0), start, probabilities, n)
            for i in 0..<n {
              let p = probabilities[i]
              if !(p >= 0 && p <= 1) {
                return run.fail("element \(start + i) of the input is \(p); expected a probability from 0 to 1")
              }
              lanes[i] = generator.nextBernoulli(p)
            }
            store(lanes, run.outputBytes(0), start, n)
            start &+= n
          }
        }
      }.named("Bernoulli")
    }
  }
}
