// RandomNormal, RandomUniform, RandomNormalLike, RandomUniformLike.
// https://onnx.ai/onnx/operators/onnx__RandomNormal.html … Versions: 1, 22 (bfloat16).

import ApusGraph
import ApusTensor

/// What is drawn, with the names of its two parameters.
private enum Distribution: Sendable {
  case normal, uniform

  var attributes: [AttributeSchema] {
    switch self {
    case .normal: [.float("mean", default: 0), .float("scale", default: 1)]
    case .uniform: [.float("low", default: 0), .float("high", default: 1)]
    }
  }

  /// What a draw is multiplied with, and what is added to it.
  func transform(_ context: PrepareContext) throws(OperatorError) -> (factor: Double, offset: Double) {
    switch self {
    case .normal: return (Double(try context.float("scale")), Double(try context.float("mean")))
    case .uniform:
      let low = try context.float("low")
      return (Double(try context.float("high") - low), Double(low))
    }
  }
}

/// A tensor of random numbers, of a shape that an attribute or an input gives.
struct RandomDistribution: OperatorDefinition {
  let schema: OperatorSchema
  private let distribution: Distribution
  private let isLike: Bool

  private init(_ name: String, _ distribution: Distribution, isLike: Bool) {
    let own: [AttributeSchema] =
      isLike ? [.optional("dtype", .int)] : [.int("dtype", default: 1), .required("shape", .ints)]
    schema = OperatorSchema(
      name, versions: [1, 22], inputs: isLike ? [.required("input", "T1")] : [],
      outputs: [.required("output", isLike ? "T2" : "T")],
      attributes: distribution.attributes + [.optional("seed", .float)] + own,
      types: isLike ? ["T1": .allBeforeBFloat16 + [.bfloat16], "T2": .floats] : ["T": .floats],
      traits: isLike ? [.random, .readsShapeOnly] : .random, portable: .moreTypes)
    self.distribution = distribution
    self.isLike = isLike
  }

  static let all: [any OperatorDefinition] = [
    RandomDistribution("RandomNormal", .normal, isLike: false),
    RandomDistribution("RandomNormalLike", .normal, isLike: true),
    RandomDistribution("RandomUniform", .uniform, isLike: false),
    RandomDistribution("RandomUniformLike", .uniform, isLike: true),
  ]

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = try outputType(context, input: context.type(0))
    if isLike { return context.set(0, type, context.shape(0)) }
    let shape = try context.ints("shape")
    if let dim = shape.first(where: { $0 < 0 }) { throw .invalid("attribute shape has the extent \(dim)") }
    context.set(0, type, shape.map { Dim($0) })
  }

  private func outputType(_ context: some OperatorContext, input: DataType?) throws(OperatorError) -> DataType? {
    if let number = context.optionalInt("dtype"), number != 0 || !isLike {
      return try elementType(number, name: "dtype", allowed: .floats)
    }
    if let input, !input.isFloat {
      throw .invalid("attribute dtype is missing and the input is \(input), which is no float")
    }
    return input
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    guard let type = try outputType(context, input: context.optionalType(0)) else {
      throw .invalid("attribute dtype is missing")
    }
    let (factor, offset) = try distribution.transform(context)
    guard let scaler = RandomScaler(type, factor: factor, offset: offset) else { throw context.unsupportedType(type) }
    let seed = RandomSeed(context.optionalFloat("seed"), of: context.node)
    let distribution = distribution
    let name = schema.id.name
    let kernel = PreparedKernel.planned { plan throws(OperatorError) in
      let count = plan.outputShape(0).elementCount
      return Step.serial(scratchBytes: MersenneTwister.stateBytes) { run in
        var generator = MersenneTwister(seed: seed.next(), memory: run.scratch)
        withUnsafeTemporaryAllocation(of: Double.self, capacity: Lane.blockLength) { block in
          guard let draws = block.baseAddress else { return }
          var start = 0
          while start < count {
            let n = min(Lane.blockLength, count &- start)
            switch distribution {
            case .normal: for i in 0..<n { draws[i] = generator.nextNormal() }
            case .uniform: for i in 0..<n { draws[i] = generator.nextDouble() }
            }
            scaler.write(draws, run.outputBytes(0), start, n)
            start &+= n
          }
        }
      }.named(name)
    }
    guard context.optionalType(0) == .string, case .planned(let planned) = kernel else { return kernel }
    // Strings have no place in a plan; only their shape counts.
    return .eager { inputs, context throws(OperatorError) in
      let output = TensorType(type, try inputs.tensor(0).shape)
      return try KernelRunner.run(planned, inputs: [nil], outputTypes: [output], allowance: context.allowance).map {
        $0.map { .tensor($0) }
      }
    }
  }
}

/// Turns float64 draws into `draw * factor + offset` of a type, rounding to it after every operation as NumPy does.
private struct RandomScaler: Sendable {
  private let type: DataType
  private let factor: Double
  private let offset: Double
  private let codec: FloatCodec?
  private let storeDouble: LaneStore

  init?(_ type: DataType, factor: Double, offset: Double) {
    guard let store = Lane.float64.store(type) else { return nil }
    self.type = type
    storeDouble = store
    codec = FloatCodec(type)
    (self.factor, self.offset) = (factor, offset)
  }

  func write(_ draws: UnsafePointer<Double>, _ y: UnsafeMutableRawPointer, _ start: Int, _ count: Int) {
    storeDouble(draws, y, start, count)
    if type == .float64 {
      let y = y.assumingMemoryBound(to: Double.self) + start
      for i in 0..<count { y[i] *= factor }
      for i in 0..<count { y[i] += offset }
      return
    }
    guard let codec else { return }
    let (factor, offset) = (Float(factor), Float(offset))
    withUnsafeTemporaryAllocation(of: Float.self, capacity: Lane.blockLength) { block in
      guard let values = block.baseAddress else { return }
      codec.load(y, start, values, count)
      for i in 0..<count { values[i] *= factor }
      codec.store(values, y, start, count)
      codec.load(y, start, values, count)
      for i in 0..<count { values[i] += offset }
      codec.store(values, y, start, count)
    }
  }
}
