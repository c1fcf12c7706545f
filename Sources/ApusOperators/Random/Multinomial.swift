// Multinomial: draws classes from unnormalized log-probabilities. https://onnx.ai/onnx/operators/onnx__Multinomial.html
// Versions: 7, 22 (bfloat16). The specification leaves the draws open: each takes one uniform number of the generator,
// row by row, and finds it in the cumulated probabilities.

import ApusGraph
import ApusTensor

struct Multinomial: OperatorDefinition {
  let schema = OperatorSchema(
    "Multinomial", versions: [7, 22], inputs: [.required("input", "T1")], outputs: [.required("output", "T2")],
    attributes: [.int("dtype", default: 6), .int("sample_size", default: 1), .optional("seed", .float)],
    types: ["T1": .floats, "T2": .indices], traits: .random, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = try elementType(try context.int("dtype"), name: "dtype", allowed: .indices)
    let samples = try context.int("sample_size")
    guard samples >= 0 else { throw .invalid("attribute sample_size is \(samples); expected 0 or more") }
    if let rank = context.rank(0), rank != 2 {
      throw .mismatch("the input has rank \(rank); expected 2: [batch_size, class_size]")
    }
    context.set(0, type, [context.shape(0)?[0] ?? .unknown, Dim(samples)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let input = try context.type(0)
    guard let load = Lane.float64.load(input) else { throw context.unsupportedType(input) }
    let isWide = try context.int("dtype") == Int(DataType.int64.rawValue)
    let seed = RandomSeed(context.optionalFloat("seed"), of: context.node)
    return .planned { plan throws(OperatorError) in
      let (rows, classes, samples) = (plan.shape(0)[0], plan.shape(0)[1], plan.outputShape(0)[1])
      let stateBytes = (MersenneTwister.stateBytes + 63) / 64 * 64
      return Step.serial(scratchBytes: stateBytes + classes * 8) { run in
        if rows > 0 && samples > 0 && classes == 0 { return run.fail("the input has no classes to draw from") }
        var generator = MersenneTwister(seed: seed.next(), memory: run.scratch)
        let sums = (run.scratch + stateBytes).assumingMemoryBound(to: Double.self)
        for row in 0..<rows {
          load(run.inputBytes(0), row &* classes, sums, classes)
          let total = Multinomial.cumulate(sums, classes)
          if !(total > 0 && total < .infinity) {
            return run.fail("row \(row) of the input holds no finite log-probabilities")
          }
          for sample in 0..<samples {
            let choice = Multinomial.find(generator.nextDouble() * total, sums, classes)
            let position = row &* samples &+ sample
            if isWide {
              run.output(0, as: Int64.self)[position] = Int64(choice)
            } else {
              run.output(0, as: Int32.self)[position] = Int32(truncatingIfNeeded: choice)
            }
          }
        }
      }.named("Multinomial")
    }
  }

  /// Replaces logarithms by the sums of probabilities up to each, of a scale in which the greatest is 1. Returns the
  /// last.
  private static func cumulate(_ values: UnsafeMutablePointer<Double>, _ count: Int) -> Double {
    var greatest = -Double.infinity
    for i in 0..<count where values[i] > greatest { greatest = values[i] }
    var sum = 0.0
    for i in 0..<count {
      sum += Double.exp(values[i] - greatest)
      values[i] = sum
    }
    return sum
  }

  /// The first index whose sum exceeds `value`.
  private static func find(_ value: Double, _ sums: UnsafePointer<Double>, _ count: Int) -> Int {
    var (low, high) = (0, count &- 1)
    while low < high {
      let middle = (low &+ high) / 2
      if sums[middle] > value { high = middle } else { low = middle &+ 1 }
    }
    return low
  }
}
