// Cast: every numeric type, bool and string to every other. https://onnx.ai/onnx/operators/onnx__Cast.html
// Versions: 1 (`to` as a name), 6 (`to` as a number), 9 (string), 13 (bfloat16), 19 (float8, saturate), 21 (4 bits), 23
// (float4e2m1), 24 (float8e8m0, round_mode), 25 (2 bits), 28 (6 bits). CastLike: 15, 19, 21, 23, 24, 25.

import ApusGraph
import ApusTensor

extension TypeSet {
  /// What Cast converts: everything but complex numbers.
  fileprivate static let castable =
    numeric + bool + string + float8 + packedIntegers + [.float4e2m1, .float8e8m0] + float6
}

struct Cast: OperatorDefinition {
  let schema = OperatorSchema(
    "Cast", versions: [1, 6, 9, 13, 19, 21, 23, 24, 25, 28], inputs: [.required("input", "T1")],
    outputs: [.required("output", "T2")],
    attributes: [
      .required("to", .int), .int("saturate", default: 1).since(19), .string("round_mode", default: "up").since(24),
    ],
    types: ["T1": .castable, "T2": .castable],
    identity: .when { $0.type(0).map { Int($0.rawValue) } == $0.optionalInt("to") }, layout: .elementwise,
    portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1, case .string(let name)? = node.attributes["to"] else { return }
    let spelled = ["FLOAT": "float32", "DOUBLE": "float64"][name] ?? name.lowercased()
    guard let type = DataType(name: spelled) else {
      throw .invalid("attribute to is '\(name)'; expected the name of an element type")
    }
    node.attributes["to"] = .int(Int(type.rawValue))
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = try elementType(try context.int("to"), allowed: schema.types["T2"] ?? [])
    inferCast(&context, to: type)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try elementType(try context.int("to"), allowed: schema.types["T2"] ?? [])
    return try prepareCast(context, to: type)
  }
}

/// CastLike: Cast to the type of the second input, whose elements do not matter.
struct CastLike: OperatorDefinition {
  let schema = OperatorSchema(
    "CastLike", versions: [15, 19, 21, 23, 24, 25],
    inputs: [.required("input", "T1"), .required("target_type", "T2")], outputs: [.required("output", "T2")],
    attributes: [.int("saturate", default: 1).since(19), .string("round_mode", default: "up").since(24)],
    types: ["T1": .castable, "T2": .castable], layout: .elementwise, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let type = context.type(1) else { return }
    inferCast(&context, to: type)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try prepareCast(context, to: try context.type(1))
  }
}

/// The element type that an attribute names by its number in TensorProto.
func elementType(_ number: Int, name: String = "to", allowed: TypeSet) throws(OperatorError) -> DataType {
  guard let raw = Int32(exactly: number), let type = DataType(rawValue: raw), allowed.tensors.contains(type) else {
    let names = allowed.tensors.map { "\($0) (\($0.rawValue))" }.joined(separator: ", ")
    throw .invalid("attribute \(name) is \(number); expected one of \(names)")
  }
  return type
}

private func inferCast(_ context: inout InferenceContext, to type: DataType) {
  let shape = context.shape(0)
  var values: [Dim]?
  if [.int32, .int64, .bool].contains(type) {
    values = context.elementwiseValues([0], output: shape) { operand in
      type != .bool ? operand[0] : operand[0].known.map { $0 == 0 ? 0 : 1 } ?? .unknown
    }
  }
  context.set(0, type, shape, values: context.fitting(values, type))
}

private func prepareCast(_ context: PrepareContext, to: DataType) throws(OperatorError) -> PreparedKernel {
  let from = try context.type(0)
  let modes = PowerOfTwoFloat.Rounding.allCases.map(\.rawValue)
  let mode = try context.string("round_mode", oneOf: modes)
  let rounding = CastRounding(saturate: try context.bool("saturate"), powersOfTwo: .init(rawValue: mode) ?? .up)
  if from == to { return .view }
  if from == .string { return castFromStrings(to: to, rounding) }
  if to == .string { return castToStrings() }
  // Between signed and unsigned of the same width the bits stay.
  if from.isInteger && to.isInteger && from.bits == to.bits { return .view }
  guard let plain = CastLoop(from: from, to: to, rounding) else { throw context.unsupportedType(from) }
  let loop = try KernelCandidate<ElementFacts, CastLoop>.choose(
    .elementwise, type: from,
    [.plain { plain }, .vectors("vectors", types: []) { CastLoop(vectorsFrom: from, to: to, rounding) }])
  return .planned { plan throws(OperatorError) in loop.step(count: plan.outputShape(0).elementCount) }
}

/// The conversion of a run of elements between two numeric types.
struct CastLoop: Sendable {
  /// Converts the elements `start ..< start + count`; `start` is a multiple of 8.
  typealias Body = @Sendable (_ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ start: Int, _ count: Int) -> Void
  let body: Body
  private let isInPlace: Bool

  /// nil for strings and complex numbers.
  init?(from: DataType, to: DataType, _ rounding: CastRounding = CastRounding()) {
    guard let load = Lane.load(from), let lane = Lane(from), let store = lane.store(to, rounding) else { return nil }
    isInPlace = from.bits == to.bits && !from.isPacked
    if to == lane.dataType {
      let width = to.byteWidth
      body = { x, y, start, count in load(x, start, y + start &* width, count) }
    } else if from == lane.dataType {
      let width = from.byteWidth
      body = { x, y, start, count in store(x + start &* width, y, start, count) }
    } else {
      body = { x, y, start, count in
        withUnsafeTemporaryAllocation(byteCount: Lane.blockLength * 8, alignment: 64) { block in
          guard let lanes = block.baseAddress else { return }
          var done = 0
          while done < count {
            let n = min(Lane.blockLength, count &- done)
            load(x, start &+ done, lanes, n)
            store(lanes, y, start &+ done, n)
            done &+= n
          }
        }
      }
    }
  }

  /// The same by C kernels; nil for pairs that have none.
  init?(vectorsFrom from: DataType, to: DataType, _ rounding: CastRounding) {
    guard let kernel = CastKernels.kernel(from: from, to: to, rounding) else { return nil }
    isInPlace = from.bits == to.bits && !from.isPacked
    let (fromBits, toBits) = (from.bits, to.bits)
    body = { x, y, start, count in kernel(count, x + (start &* fromBits) >> 3, y + (start &* toBits) >> 3) }
  }

  func step(count: Int) -> Step {
    // Parts of whole groups, so that no two of them share a byte of a packed tensor.
    let group = 1024
    let partition = Partition((count + group - 1) / group, of: .medium * group)
    let body = body
    let step = Step.parallel(parts: partition.parts) { run, part in
      let range = partition.range(part)
      let start = range.lowerBound &* group
      body(run.inputBytes(0), run.outputBytes(0), start, min(count, range.upperBound &* group) &- start)
    }.named("Cast")
    return isInPlace ? step.overwriting(0) : step
  }
}
