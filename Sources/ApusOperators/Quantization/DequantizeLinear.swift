// DequantizeLinear: (x - zero point) * scale. https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html
// Versions: 10, 13 (axis), 19 (float8, scales of 16 bits), 21 (blocks, 16 and 4 bits), 23 (output_dtype, float4e2m1),
// 24 (float8e8m0), 25 (2 bits), 28 (6 bits).

import ApusGraph
import ApusTensor
import CApusKernels

struct DequantizeLinear: OperatorDefinition {
  private static let results: TypeSet = [.float32, .float16, .bfloat16]
  private static let quantized = QuantizeLinear.quantizedTypes + [.int32]

  let schema = OperatorSchema(
    "DequantizeLinear", versions: [10, 13, 19, 21, 23, 24, 25, 28],
    inputs: [.required("x", "T1"), .required("x_scale", "T2"), .optional("x_zero_point", "T1")],
    outputs: [.required("y", "T3")],
    attributes: [
      .int("axis", default: 1).since(13), .int("block_size", default: 0).since(21),
      .int("output_dtype", default: 0).since(23),
    ],
    types: ["T1": quantized, "T2": results + [.float8e8m0], "T3": results], layout: .elementwise(hasOneScale),
    portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, try outputType(context, scale: context.type(1)), context.shape(0))
  }

  private func outputType(_ context: some OperatorContext, scale: DataType?) throws(OperatorError) -> DataType? {
    let number = try context.int("output_dtype")
    if number != 0 { return try elementType(number, name: "output_dtype", allowed: DequantizeLinear.results) }
    if scale == .float8e8m0 {
      throw .invalid(
        "a scale of float8e8m0 does not say the type of the output", remedy: "Set the attribute output_dtype")
    }
    return scale
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (axis, blockSize) = (try context.int("axis"), try context.int("block_size"))
    let scale = try context.type(1)
    let loop = try DequantizeLoop(
      x: try context.type(0), scale: scale, y: try outputType(context, scale: scale) ?? .float32,
      hasZeroPoint: context.isPresent(2))
    return QuantizationLayout.kernel(
      "DequantizeLinear", axis: axis, blockSize: blockSize, operations: 2, code: try context.type(0)
    ) { run, layout, range in
      loop.run(
        run.inputBytes(0), scales: run.inputBytes(1), zeroPoints: run.inputBytes(2), run.outputBytes(0), layout, range)
    }
  }
}

/// Dequantizes ranges of a tensor.
struct DequantizeLoop: Sendable {
  private let loadX: LaneLoad
  private let loadScale: LaneLoad
  private let loadZero: LaneLoad?
  private let isInteger: Bool
  private let xWidth: Int
  private let store: FloatCodec.Store
  private let kernel: DequantizeKernel?
  /// The same with scales and zero points of every element.
  private let each: DequantizeEachKernel?

  typealias DequantizeKernel =
    @convention(c) (Int, UnsafeRawPointer, UnsafeMutablePointer<Float>, Float, Int32) -> Void
  typealias DequantizeEachKernel =
    @convention(c) (
      Int, UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, UnsafeRawPointer?
    ) -> Void

  init(
    x: DataType, scale: DataType, y: DataType, hasZeroPoint: Bool
  ) throws(OperatorError) {
    let lane = x.isInteger ? Lane.int64 : .float32
    guard let loadX = lane.load(x), let loadScale = Lane.float32.load(scale), let store = FloatCodec(y)?.store else {
      throw .unsupported("DequantizeLinear has no kernel for \(x) with a scale of \(scale)")
    }
    (self.loadX, self.loadScale, self.store, isInteger, xWidth) = (loadX, loadScale, store, x.isInteger, x.byteWidth)
    loadZero = hasZeroPoint ? loadX : nil
    let kernels = apus_kernels().pointee
    let usesKernel = try KernelCandidate<ElementFacts, Bool>.choose(
      .dequantization, type: x,
      [
        .plain { false },
        .vectors(
          "vectors", types: [.uint8, .int8, .uint16, .int16, .int32],
          refusal: scale == .float32 && y == .float32 ? nil : "scale and result are not float32"
        ) { true },
      ])
    guard usesKernel else {
      (kernel, each) = (nil, nil)
      return
    }
    switch x {
    case .uint8: (kernel, each) = (kernels.dequantize_u8, kernels.dequantize_each_u8)
    case .int8: (kernel, each) = (kernels.dequantize_s8, kernels.dequantize_each_s8)
    case .uint16: (kernel, each) = (kernels.dequantize_u16, kernels.dequantize_each_u16)
    case .int16: (kernel, each) = (kernels.dequantize_s16, kernels.dequantize_each_s16)
    case .int32: (kernel, each) = (kernels.dequantize_i32, nil)
    default: (kernel, each) = (nil, nil)
    }
  }

  /// Dequantizes the elements of `range`.
  func run(
    _ x: UnsafeRawPointer, scales: UnsafeRawPointer, zeroPoints: UnsafeRawPointer, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    guard let kernel else { return runBlocks(x, scales, zeroPoints, y, layout, range) }
    if let each, let operands = layout.operands {
      let hasZero = loadZero != nil
      operands.forEach(in: range, (x, scales, hasZero ? zeroPoints : scales)) { here, start, count in
        each(
          count, here.0, (y + start &* 4).assumingMemoryBound(to: Float.self),
          here.1.assumingMemoryBound(to: Float.self), hasZero ? here.2 : nil)
      }
      return
    }
    layout.forEachSegment(in: range) { start, count, scale, stride in
      if stride != 0 { return runBlocks(x, scales, zeroPoints, y, layout, start..<start &+ count) }
      var zero: Int64 = 0
      loadZero?(zeroPoints, scale, &zero, 1)
      kernel(
        count, x + start &* xWidth, (y + start &* 4).assumingMemoryBound(to: Float.self),
        (scales + scale &* 4).assumingMemoryBound(to: Float.self).pointee, Int32(truncatingIfNeeded: zero))
    }
  }

  /// Block by block, in float32: every element gets its scale and zero point.
  private func runBlocks(
    _ x: UnsafeRawPointer, _ scales: UnsafeRawPointer, _ zeroPoints: UnsafeRawPointer, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    let length = Lane.blockLength
    withUnsafeTemporaryAllocation(of: Int64.self, capacity: length) { first in
      withUnsafeTemporaryAllocation(of: Int64.self, capacity: length) { second in
        withUnsafeTemporaryAllocation(of: Float.self, capacity: length) { third in
          guard let lanes = first.baseAddress, let zeros = second.baseAddress, let factors = third.baseAddress
          else { return }
          var start = range.lowerBound
          while start < range.upperBound {
            let n = min(length, range.upperBound &- start)
            loadX(x, start, lanes, n)
            layout.gather(start..<start &+ n, scales, factors, loadScale)
            if isInteger {
              if let loadZero {
                layout.gather(start..<start &+ n, zeroPoints, zeros, loadZero)
                for i in 0..<n { lanes[i] &-= zeros[i] }
              }
              for i in 0..<n { factors[i] *= Float(lanes[i]) }
            } else {
              let floats = UnsafeMutableRawPointer(lanes).assumingMemoryBound(to: Float.self)
              if let loadZero {
                let offsets = UnsafeMutableRawPointer(zeros).assumingMemoryBound(to: Float.self)
                layout.gather(start..<start &+ n, zeroPoints, offsets, loadZero)
                for i in 0..<n { floats[i] -= offsets[i] }
              }
              for i in 0..<n { factors[i] *= floats[i] }
            }
            store(factors, y, start, n)
            start &+= n
          }
        }
      }
    }
  }
}
