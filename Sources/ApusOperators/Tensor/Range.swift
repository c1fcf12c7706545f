// Range: numbers from a start in equal steps up to a limit. https://onnx.ai/onnx/operators/onnx__Range.html
// Versions: 11, 27 (float16, bfloat16, stash_type).

import ApusGraph
import ApusTensor

struct RangeOperator: OperatorDefinition {
  let schema = OperatorSchema(
    "Range", versions: [11, 27],
    inputs: [
      .required("start", "T", readWhenPlanning: true), .required("limit", "T", readWhenPlanning: true),
      .required("delta", "T", readWhenPlanning: true),
    ],
    outputs: [.required("output", "T")],
    attributes: [.int("stash_type", default: 1).since(27)],
    types: ["T": [.float64, .float32, .int16, .int32, .int64, .float16, .bfloat16]],
    portable: .moreTypes(than: [.float32, .float64, .int16, .int32, .int64]))

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let stash = try context.int("stash_type")
    guard stash == Int(DataType.float32.rawValue) || stash == Int(DataType.float64.rawValue) else {
      throw .invalid("stash_type is \(stash); expected 1 (float) or 11 (double)")
    }
    for index in 0..<3 {
      if let count = context.shape(index)?.product.known, count != 1 {
        throw .mismatch("input \(index) has \(count) elements; expected one")
      }
    }
    let type = context.type(0)
    if let floats = try RangeOperator.floats(context.constants) {
      return context.set(0, type, [Dim(try RangeOperator.count(floats))])
    }
    guard let start = context.values(0)?.first, let limit = context.values(1)?.first,
      let delta = context.values(2)?.first,
      type?.isInteger ?? true
    else { return context.set(0, type, [.unknown]) }
    let count = try RangeOperator.count(start: start, limit: limit, delta: delta)
    let length = count.known ?? Int.max
    let values = length > TensorFact.maximumValues ? nil : (0..<length).map { start + delta * Dim($0) }
    context.set(0, type, [count], values: values)
  }

  private typealias Floats = (start: Double, limit: Double, delta: Double)

  /// The three inputs, if they are floats and known.
  private static func floats(_ tensors: [Tensor?]) throws(OperatorError) -> Floats? {
    var numbers: [Double] = []
    for tensor in tensors {
      guard let tensor, let number = tensor.floatScalar else { return nil }
      numbers.append(number)
    }
    guard numbers.count == 3 else { return nil }
    return (numbers[0], numbers[1], numbers[2])
  }

  private static func count(_ floats: Floats) throws(OperatorError) -> Int {
    if floats.delta == 0 { throw .mismatch("delta is 0") }
    let count = ((floats.limit - floats.start) / floats.delta).rounded(.up)
    // NaN is not below anything.
    guard count < 0x1p62 else {
      throw .mismatch("a range from \(floats.start) to \(floats.limit) by \(floats.delta) has no length")
    }
    return count > 0 ? Int(count) : 0
  }

  private static func count(start: Dim, limit: Dim, delta: Dim) throws(OperatorError) -> Dim {
    if delta.known == 0 { throw .mismatch("delta is 0") }
    guard let step = delta.known else { return .unknown }
    if let start = start.known, let limit = limit.known {
      let isForward = step > 0
      if isForward ? limit <= start : limit >= start { return 0 }
      // The distance fits an unsigned integer even where the difference overflows.
      let distance = UInt(bitPattern: isForward ? limit &- start : start &- limit)
      guard let count = Int(exactly: (distance - 1) / step.magnitude + 1) else {
        throw .mismatch("a range from \(start) to \(limit) by \(step) is too long")
      }
      return Dim(count)
    }
    let span = step > 0 ? limit - start : start - limit
    let length = span.isSurelyNonNegative ? span : Dim.max(span, 0)
    return length.dividedRoundingUp(by: Dim(Int(clamping: step.magnitude)))
  }

  /// Writes the elements `range` of an output.
  private typealias Writer = @Sendable (_ output: UnsafeMutableRawPointer, _ range: Range<Int>) -> Void

  /// `element` gives the element at an index; it becomes a part of the loop.
  @inline(__always)
  private static func fill<Element: BitwiseCopyable>(
    _ output: UnsafeMutableRawPointer, _ range: Range<Int>, _ element: (_ index: Int) -> Element
  ) {
    let y = output.assumingMemoryBound(to: Element.self)
    for index in range { y[index] = element(index) }
  }

  private static func writer(_ type: DataType, _ floats: Floats) throws(OperatorError) -> Writer {
    let (start, delta) = (floats.start, floats.delta)
    switch type {
    case .float64: return { fill($0, $1) { start + Double($0) * delta } }
    case .float32: return { fill($0, $1) { Float(start + Double($0) * delta) } }
    case .float16: return { fill($0, $1) { Float16(Float(start + Double($0) * delta)) } }
    case .bfloat16: return { fill($0, $1) { BFloat16(Float(start + Double($0) * delta)) } }
    default: throw .mismatch("the inputs are floats, the output \(type)")
    }
  }

  /// The elements lie between start and limit, so only the unused product beyond the last can wrap.
  private static func writer(_ type: DataType, start: Int, delta: Int) throws(OperatorError) -> Writer {
    switch type {
    case .int64: return { fill($0, $1) { start &+ $0 &* delta } }
    case .int32: return { fill($0, $1) { Int32(truncatingIfNeeded: start &+ $0 &* delta) } }
    case .int16: return { fill($0, $1) { Int16(truncatingIfNeeded: start &+ $0 &* delta) } }
    default: throw .unsupported("Range has no kernel for \(type)")
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { plan throws(OperatorError) in
      guard let output = plan.outputs[0] else { return .views([]) }
      let partition = Partition(output.count, of: .light * 2)
      let write: Writer
      if let floats = try RangeOperator.floats(plan.known) {
        write = try RangeOperator.writer(output.dataType, floats)
      } else if let start = plan.integers(0)?.first, let delta = plan.integers(2)?.first {
        write = try RangeOperator.writer(output.dataType, start: start, delta: delta)
      } else {
        throw .mismatch("start or delta is empty")
      }
      return Step.parallel(parts: output.count == 0 ? 0 : partition.parts) { run, part in
        write(run.outputBytes(), partition.range(part))
      }.notReading(0, 1, 2).named("range")
    }
  }
}

extension Tensor {
  /// The first element of a float tensor of at least 16 bits; nil for other types and empty tensors.
  var floatScalar: Double? {
    guard count > 0 else { return nil }
    return switch dataType {
    case .float64: elements(as: Double.self)?.first
    case .float32: elements(as: Float.self)?.first.map { Double($0) }
    case .float16: elements(as: Float16.self)?.first.map { Double($0) }
    case .bfloat16: elements(as: BFloat16.self)?.first.map { Double($0.float) }
    default: nil
    }
  }
}
