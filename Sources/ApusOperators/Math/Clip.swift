// Clip: min(max(input, min), max). https://onnx.ai/onnx/operators/onnx__Clip.html
// Versions: 1, 6 (bounds as attributes, finite by default), 11 (bounds as inputs), 12 (integers), 13 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

struct Clip: OperatorDefinition {
  let schema = OperatorSchema(
    "Clip", versions: [1, 6, 11, 12, 13],
    inputs: [
      .required("input", "T"), .optional("min", "T").since(11, before: .optional("min", .float)),
      .optional("max", "T").since(11, before: .optional("max", .float)),
    ],
    outputs: [.required("output", "T")],
    types: ["T": .numeric], layout: .elementwise,
    codes: .clamps { facts in
      func bound(_ input: Int, _ absent: Float) -> Float? {
        facts.isPresent(input) ? facts.constant(input)?.elements(as: Float.self)?.first : absent
      }
      guard let low = bound(1, -.infinity), let high = bound(2, .infinity), low <= high else { return nil }
      return low...high
    })

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version < 11 else { return }
    node.removeLegacyHints()
    let isFiniteByDefault = version == 6
    let low = try bound(
      of: &node, "min", default: isFiniteByDefault ? -Float.greatestFiniteMagnitude : nil, in: builder)
    let high = try bound(
      of: &node, "max", default: isFiniteByDefault ? Float.greatestFiniteMagnitude : nil, in: builder)
    node.inputs += [low, high]
  }

  /// The constant for a bound that was an attribute, in the type of the input.
  private func bound(
    of node: inout Node, _ name: String, default value: Float?, in builder: GraphBuilder
  ) throws(OperatorError) -> ValueID? {
    var number = value
    if case .float(let given)? = node.attributes.remove(name) { number = given }
    guard let number else { return nil }
    let type = builder.type(node.inputs.first ?? nil) ?? .float32
    guard let store = Lane.float32.store(type) else {
      throw .unsupported("Clip before version 11 has no bounds of \(type)")
    }
    let tensor = try Allowance.unlimited.allocate(type, [])
    withUnsafePointer(to: number) { store($0, tensor.storage.base, 0, 1) }
    return builder.addConstant(tensor)
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    for (position, name) in [(1, "min"), (2, "max")] {
      let shape = context.shape(position)
      if let count = shape?.concrete?.checkedElementCount, count != 1 {
        throw .mismatch("\(name) has the shape \(shape ?? []); expected a scalar")
      }
    }
    context.copy()
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let loop = try Clip.loop(type) else { throw context.unsupportedType(type) }
    let (hasLow, hasHigh) = (context.isPresent(1), context.isPresent(2))
    let width = type.byteWidth
    if !hasLow && !hasHigh { return .view }
    return .planned { plan throws(OperatorError) in
      let count = plan.outputShape(0).elementCount
      let partition = Partition(count, of: .light)
      return Step.parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        let offset = range.lowerBound &* width
        loop(
          run.inputBytes(0) + offset, hasLow ? run.inputBytes(1) : nil, hasHigh ? run.inputBytes(2) : nil,
          run.outputBytes(0) + offset, range.count)
      }.overwriting(0).named("Clip", cost: Cost(operations: 2 &* count))
    }
  }

  /// y = min(max(x, low), high); nil: no bound. NaN stays NaN.
  typealias ClipLoop =
    @Sendable (
      _ x: UnsafeRawPointer, _ low: UnsafeRawPointer?, _ high: UnsafeRawPointer?, _ y: UnsafeMutableRawPointer,
      _ count: Int
    ) -> Void

  static func loop(_ type: DataType) throws(OperatorError) -> ClipLoop? {
    switch type {
    case .float32: wide(try single)
    case .float64: definition(Double.self, -.infinity, .infinity)
    case .int8: integers(Int8.self)
    case .int16: integers(Int16.self)
    case .int32: integers(Int32.self)
    case .int64: integers(Int64.self)
    case .uint8: integers(UInt8.self)
    case .uint16: integers(UInt16.self)
    case .uint32: integers(UInt32.self)
    case .uint64: integers(UInt64.self)
    default: try FloatCodec(type).map { (codec) throws(OperatorError) in narrow(codec, try single) }
    }
  }

  private static func definition<T: Comparable & BitwiseCopyable & Sendable>(
    _ type: T.Type, _ lowest: T, _ highest: T
  ) -> ClipLoop {
    { x, low, high, y, count in
      let low = low.map { $0.assumingMemoryBound(to: T.self).pointee } ?? lowest
      let high = high.map { $0.assumingMemoryBound(to: T.self).pointee } ?? highest
      let x = x.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: T.self)
      for i in 0..<count {
        let raised = x[i] < low ? low : x[i]
        y[i] = raised > high ? high : raised
      }
    }
  }

  private static func integers<T: FixedWidthInteger & BitwiseCopyable & Sendable>(_ type: T.Type) -> ClipLoop {
    definition(type, T.min, T.max)
  }

  /// y = min(max(x, bounds[0]), bounds[1]).
  private typealias SingleLoop =
    @Sendable (
      _ count: Int, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ bounds: UnsafePointer<Float>
    ) -> Void

  private static var single: SingleLoop {
    get throws(OperatorError) {
      let kernel = apus_kernels().pointee.clip_f32
      return try KernelCandidate<ElementFacts, SingleLoop>.choose(
        .elementwise, type: .float32,
        [
          .plain {
            { count, x, y, bounds in
              let (low, high) = (bounds[0], bounds[1])
              for i in 0..<count { y[i] = clamp(x[i], low, high) }
            }
          },
          .vectors("vectors") { { count, x, y, bounds in kernel(count, x, y, bounds) } },
        ])
    }
  }

  private static func wide(_ loop: @escaping SingleLoop) -> ClipLoop {
    { x, low, high, y, count in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { bounds in
        guard let base = bounds.baseAddress else { return }
        bounds[0] = low.map { $0.assumingMemoryBound(to: Float.self).pointee } ?? -.infinity
        bounds[1] = high.map { $0.assumingMemoryBound(to: Float.self).pointee } ?? .infinity
        loop(count, x.assumingMemoryBound(to: Float.self), y.assumingMemoryBound(to: Float.self), base)
      }
    }
  }

  /// Floats of fewer bits become float32 block by block.
  private static func narrow(_ codec: FloatCodec, _ loop: @escaping SingleLoop) -> ClipLoop {
    { x, low, high, y, count in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { bounds in
        guard let base = bounds.baseAddress else { return }
        (bounds[0], bounds[1]) = (-.infinity, .infinity)
        if let low { codec.load(low, 0, base, 1) }
        if let high { codec.load(high, 0, base + 1, 1) }
        Elementwise.forEachBlock(count) { block, start, n in
          codec.load(x, start, block, n)
          loop(n, block, block, base)
          codec.store(block, y, start, n)
        }
      }
    }
  }
}
