// QuantizeLinear: saturate(x / scale + zero point). https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
// Versions: 10, 13 (axis), 19 (float8, saturate), 21 (blocks, 16 and 4 bits, output_dtype), 23 (precision, float4e2m1),
// 24, 25 (2 bits), 28 (6 bits).

import ApusGraph
import ApusTensor
import CApusKernels

struct QuantizeLinear: OperatorDefinition {
  static let quantizedTypes: TypeSet =
    [.uint8, .int8, .uint16, .int16] + .packedIntegers + .float8 + .float6 + [.float4e2m1]
  private static let precisions: TypeSet = [.float32, .float16, .bfloat16]

  let schema = OperatorSchema(
    "QuantizeLinear", versions: [10, 13, 19, 21, 23, 24, 25, 28],
    inputs: [.required("x", "T1"), .required("y_scale", "T2"), .optional("y_zero_point", "T3")],
    outputs: [.required("y", "T3")],
    attributes: [
      .int("axis", default: 1).since(13), .int("block_size", default: 0).since(21),
      .int("output_dtype", default: 0).since(21),
      .int("precision", default: 0).since(23), .int("saturate", default: 1).since(19),
    ],
    types: [
      "T1": precisions + [.int32], "T2": precisions + [.int32, .float8e8m0], "T3": quantizedTypes,
    ], layout: .elementwise(hasOneScale), portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, try outputType(context, zeroPoint: context.type(2)), context.shape(0))
  }

  private func outputType(_ context: some OperatorContext, zeroPoint: DataType?) throws(OperatorError) -> DataType {
    let number = try context.int("output_dtype")
    if number == 0 { return zeroPoint ?? .uint8 }
    let type = try elementType(number, name: "output_dtype", allowed: QuantizeLinear.quantizedTypes)
    if let zeroPoint, zeroPoint != type {
      throw .invalid("attribute output_dtype is \(type), but y_zero_point is \(zeroPoint)")
    }
    return type
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (axis, blockSize) = (try context.int("axis"), try context.int("block_size"))
    let type = try outputType(context, zeroPoint: context.optionalType(2))
    let loop = try QuantizeLoop(
      x: try context.type(0), scale: try context.type(1), precision: try precision(context), y: type,
      hasZeroPoint: context.isPresent(2),
      saturate: try context.bool("saturate"))
    return QuantizationLayout.kernel(
      "QuantizeLinear", axis: axis, blockSize: blockSize, operations: 3, code: type, forms: loop.forms
    ) { run, parameters, layout, range in
      loop.run(run.inputBytes(0), parameters, run.outputBytes(0), layout, range)
    }
  }

  /// The type in which the division is done; nil: float64.
  private func precision(_ context: PrepareContext) throws(OperatorError) -> DataType? {
    let number = try context.int("precision")
    if number != 0 { return try elementType(number, name: "precision", allowed: QuantizeLinear.precisions) }
    switch try context.type(1) {
    case .int32: return nil
    case .float8e8m0: return .float32
    case let type: return type
    }
  }
}

/// Quantizes ranges of a tensor.
struct QuantizeLoop: Sendable {
  private let loadX: LaneLoad
  private let loadScale: LaneLoad
  private let loadZero: LaneLoad?
  /// True if the division is done in float64, else in float32 or, with `narrow`, in what that converts to.
  private let isDouble: Bool
  private let narrow: FloatCodec?
  /// The least and the greatest integer of the result; nil for floats.
  private let limits: (low: Double, high: Double)?
  private let store: LaneStore
  private let isPacked: Bool
  private let vectors: QuantizeVectors?
  /// How `run` wants its parameters.
  let forms: ParameterForms

  /// - Parameter precision: the type of the division; nil for float64.
  init(
    x: DataType, scale: DataType, precision: DataType?, y: DataType, hasZeroPoint: Bool, saturate: Bool
  ) throws(OperatorError) {
    let lane = precision == nil ? Lane.float64 : .float32
    let resultLane = y.isInteger ? Lane.int64 : .float32
    guard let loadX = lane.load(x), let loadScale = lane.load(scale),
      let store = resultLane.store(y, CastRounding(saturate: saturate))
    else { throw .unsupported("QuantizeLinear has no kernel for \(x) with a scale of \(scale) to \(y)") }
    (self.loadX, self.loadScale, self.store) = (loadX, loadScale, store)
    loadZero = hasZeroPoint ? resultLane.load(y) : nil
    (isDouble, isPacked) = (precision == nil, y.isPacked)
    narrow = precision.flatMap { $0 == .float32 ? nil : FloatCodec($0) }
    let magnitude = y.isSignedInteger ? 1 << (y.bits - 1) : 1 << y.bits
    limits = !y.isInteger ? nil : (y.isSignedInteger ? -Double(magnitude) : 0, Double(magnitude - 1))
    vectors = try KernelCandidate<ElementFacts, QuantizeVectors?>.choose(
      .quantization, type: x,
      [
        .plain { .some(nil) },
        .vectors("vectors", types: [], refusal: precision == nil ? "the division is in float64" : nil) {
          precision.flatMap {
            QuantizeVectors(x: x, scale: scale, precision: $0, y: y, hasZeroPoint: hasZeroPoint, saturate: saturate)
          }
        },
      ])
    forms = vectors?.forms ?? ParameterForms(zeroWidth: 1)
  }

  /// Quantizes the elements of `range`, which begins and ends at a byte.
  func run(
    _ x: UnsafeRawPointer, _ parameters: QuantizationParameters, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    if let vectors { return vectors.run(x, parameters, y, layout, range) }
    runBlocks(x, parameters.scales, parameters.zeros, y, layout, range)
  }

  private func runBlocks(
    _ x: UnsafeRawPointer, _ scales: UnsafeRawPointer, _ zeroPoints: UnsafeRawPointer, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    if isDouble {
      runBlocks(Double.self, x, scales, zeroPoints, y, layout, range)
    } else {
      runBlocks(Float.self, x, scales, zeroPoints, y, layout, range)
    }
  }

  /// Block by block: every element gets its scale and zero point, then all are divided, rounded, written.
  @inline(__always)
  private func runBlocks<T: Real>(
    _ type: T.Type, _ x: UnsafeRawPointer, _ scales: UnsafeRawPointer, _ zeroPoints: UnsafeRawPointer,
    _ y: UnsafeMutableRawPointer, _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    let length = Lane.blockLength
    withUnsafeTemporaryAllocation(of: T.self, capacity: length) { first in
      withUnsafeTemporaryAllocation(of: T.self, capacity: length) { second in
        withUnsafeTemporaryAllocation(of: Int64.self, capacity: length) { third in
          guard let quotients = first.baseAddress, let divisors = second.baseAddress, let lanes = third.baseAddress
          else { return }
          var start = range.lowerBound
          while start < range.upperBound {
            let n = min(length, range.upperBound &- start)
            layout.gather(start..<start &+ n, scales, divisors, loadScale)
            loadX(x, start, quotients, n)
            round(quotients, n)
            round(divisors, n)
            for i in 0..<n { quotients[i] /= divisors[i] }
            round(quotients, n)
            if limits != nil {
              if let loadZero { layout.gather(start..<start &+ n, zeroPoints, lanes, loadZero) }
              roundToIntegers(quotients, lanes, n)
            } else {
              let floats = UnsafeMutableRawPointer(lanes).assumingMemoryBound(to: Float.self)
              if let loadZero { layout.gather(start..<start &+ n, zeroPoints, floats, loadZero) }
              addZeros(quotients, floats, n)
            }
            store(lanes, y, start, n)
            start &+= n
          }
        }
      }
    }
  }

  /// Rounds float32 numbers to the precision of the division.
  @inline(__always)
  private func round<T>(_ values: UnsafeMutablePointer<T>, _ count: Int) {
    guard let narrow else { return }
    let floats = UnsafeMutableRawPointer(values).assumingMemoryBound(to: Float.self)
    withUnsafeTemporaryAllocation(of: UInt16.self, capacity: Lane.blockLength) { block in
      guard let bits = block.baseAddress else { return }
      narrow.store(floats, bits, 0, count)
      narrow.load(bits, 0, floats, count)
    }
  }

  /// Writes saturate(round(quotient) + zero point) over the zero points. NaN gives the least value.
  @inline(__always)
  private func roundToIntegers<T: Real>(
    _ quotients: UnsafePointer<T>, _ lanes: UnsafeMutablePointer<Int64>, _ count: Int
  ) {
    guard let limits else { return }
    let hasZero = loadZero != nil
    for i in 0..<count {
      let zero = hasZero ? lanes[i] : 0
      let quotient = T.double(quotients[i])
      let (least, most) = (limits.low - Double(zero), limits.high - Double(zero))
      let bounded = quotient > least ? (quotient < most ? quotient : most) : least
      // Adding 1.5 * 2^52 rounds to an integer, ties to even, in the low bits.
      let rounded = (bounded + 6_755_399_441_055_744).bitPattern &- 0x4338_0000_0000_0000
      lanes[i] = Int64(bitPattern: rounded) &+ zero
    }
  }

  /// Writes quotient + zero point over the zero points. A zero point of 0 leaves alone what becomes a float of 8 bits,
  /// and with it the sign of a zero.
  @inline(__always)
  private func addZeros<T: Real>(_ quotients: UnsafePointer<T>, _ floats: UnsafeMutablePointer<Float>, _ count: Int) {
    let hasZero = loadZero != nil
    let keepsZeroSigns = !hasZero || !isPacked
    for i in 0..<count {
      let zero = hasZero ? floats[i] : 0
      floats[i] = zero == 0 && keepsZeroSigns ? T.float(quotients[i]) : T.float(quotients[i] + T(zero))
    }
  }
}
