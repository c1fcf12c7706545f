// Dropout: zeroes elements at random and scales the others, in training.
// https://onnx.ai/onnx/operators/onnx__Dropout.html
// Versions: 1, 6 (ratio, is_test), 7 (never in training), 10 (mask is bool), 12 (ratio and training_mode as inputs),
// 13, 22 (bfloat16, float8). Before 10 the mask had the type of the data.

import ApusGraph
import ApusTensor

struct Dropout: OperatorDefinition {
  private static let types: TypeSet = .floats + .float8

  let schema = OperatorSchema(
    "Dropout", versions: [1, 6, 7, 10, 12, 13, 22],
    inputs: [.required("data", "T"), .optional("ratio", "T1").since(12), .optional("training_mode", "T2").since(12)],
    outputs: [.required("output", "T"), .optional("mask", "T2")], attributes: [.optional("seed", .int).since(12)],
    types: ["T": types, "T1": types, "T2": .bool], traits: .random, identity: .when { !$0.isPresent(2) },
    portable: .moreTypes, axes: { $0.isPresent(2) ? nil : AxisLinks(sameAxesOf: $0) })

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version < 12 else { return }
    _ = node.attributes.remove("consumed_inputs")
    var ratio: Float = 0.5
    if case .float(let given)? = node.attributes.remove("ratio") { ratio = given }
    var isTest = version >= 7
    if case .int(let flag)? = node.attributes.remove("is_test") { isTest = isTest || flag != 0 }
    if !isTest {
      let (share, training) = (builder.addConstant(Tensor(scalar: ratio)), builder.addConstant(Tensor(scalar: true)))
      node.inputs = [node.inputs.first ?? nil, share, training]
    }
    guard version < 10, node.outputs.count > 1, let mask = node.outputs[1] else { return }
    // The mask of today is cast to what it was.
    let truth = builder.addValue()
    try builder.append(
      Node(
        node.op, name: node.name + "/dropout", inputs: node.inputs, outputs: [node.outputs[0], truth],
        attributes: node.attributes))
    let data = node.inputs.first ?? nil
    node = Node(OperatorID("CastLike"), name: node.name, inputs: [truth, data], outputs: [mask])
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    for (position, name) in [(1, "ratio"), (2, "training_mode")] {
      if let shape = context.shape(position)?.concrete, shape.checkedElementCount != 1 {
        throw .mismatch("\(name) has the shape \(shape); expected a scalar")
      }
    }
    context.copy()
    context.set(1, .bool, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let neverTrains = !context.isPresent(2) || context.constant(2)?.integers?.first == 0
    if neverTrains { return Dropout.inference }
    let type = try context.type(0)
    let ratioType = context.optionalType(1)
    guard let loop = DropoutLoop(type), let loadRatio = Lane.float64.load(ratioType ?? .float64) else {
      throw context.unsupportedType(type)
    }
    let seed = RandomSeed(context.optionalInt("seed"), of: context.node)
    return .planned { plan throws(OperatorError) in
      let count = plan.outputShape(0).elementCount
      let (wantsOutput, wantsMask) = (plan.isWanted(0), plan.isWanted(1))
      return Step.serial(scratchBytes: MersenneTwister.stateBytes) { run in
        let isTraining = run.input(2, as: UInt8.self).pointee != 0
        var ratio = 0.5
        if ratioType != nil { loadRatio(run.inputBytes(1), 0, &ratio, 1) }
        if isTraining && !(ratio >= 0 && ratio < 1) { return run.fail("ratio is \(ratio); expected 0 <= ratio < 1") }
        let scale = Dropout.scale(ratio, ratioType)
        let keepsAll = !isTraining || ratio == 0
        var generator = MersenneTwister(seed: keepsAll ? 0 : seed.next(), memory: run.scratch)
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: Lane.blockLength) { block in
          guard let kept = block.baseAddress else { return }
          var start = 0
          while start < count {
            let n = min(Lane.blockLength, count &- start)
            for i in 0..<n { kept[i] = keepsAll || generator.nextDouble() >= ratio ? 1 : 0 }
            if wantsMask { (run.outputBytes(1) + start).copyMemory(from: kept, byteCount: n) }
            if wantsOutput {
              if keepsAll {
                loop.copy(run.inputBytes(0), run.outputBytes(0), start, n)
              } else {
                loop.run(run.inputBytes(0), kept, scale, run.outputBytes(0), start, n)
              }
            }
            start &+= n
          }
        }
      }.named("Dropout")
    }
  }

  /// The input itself, and a mask of ones.
  private static let inference = PreparedKernel.planned { plan throws(OperatorError) in
    guard plan.isWanted(1) else { return .views([.init()]) }
    let partition = Partition(plan.outputShape(1).elementCount, of: Cost(bytes: 1))
    var step = Step.parallel(parts: partition.parts) { run, part in
      let range = partition.range(part)
      (run.outputBytes(1) + range.lowerBound).initializeMemory(as: UInt8.self, repeating: 1, count: range.count)
    }
    if plan.isWanted(0) { step.views = [.init()] }
    return step.named("Dropout")
  }

  /// 1 / (1 - ratio) in the type of the ratio; in float32 for bfloat16 and narrower types.
  private static func scale(_ ratio: Double, _ type: DataType?) -> Double {
    switch type {
    case nil, .float64: 1 / (1 - ratio)
    case .float16: Double(rounded(1 / rounded(Float(1 - ratio), to: .float16), to: .float16))
    default: Double(1 / (1 - Float(ratio)))
    }
  }
}

/// mask * x * scale, in a float type.
private struct DropoutLoop: Sendable {
  private let width: Int
  /// nil: float64.
  private let codec: FloatCodec?

  init?(_ type: DataType) {
    width = type.byteWidth
    codec = FloatCodec(type)
    if codec == nil && type != .float64 { return nil }
  }

  func copy(_ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ start: Int, _ count: Int) {
    (y + start &* width).copyMemory(from: x + start &* width, byteCount: count &* width)
  }

  func run(
    _ x: UnsafeRawPointer, _ mask: UnsafePointer<UInt8>, _ scale: Double, _ y: UnsafeMutableRawPointer, _ start: Int,
    _ count: Int
  ) {
    guard let codec else {
      let x = x.assumingMemoryBound(to: Double.self) + start
      let y = y.assumingMemoryBound(to: Double.self) + start
      for i in 0..<count { y[i] = Double(mask[i]) * x[i] * scale }
      return
    }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: Lane.blockLength) { block in
      guard let values = block.baseAddress else { return }
      codec.load(x, start, values, count)
      for i in 0..<count { values[i] = Float(mask[i]) * values[i] * Float(scale) }
      codec.store(values, y, start, count)
    }
  }
}
