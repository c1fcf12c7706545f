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
      "DequantizeLinear", axis: axis, blockSize: blockSize, operations: 2, code: try context.type(0), forms: loop.forms
    ) { run, parameters, layout, range in
      loop.run(run.inputBytes(0), parameters, run.outputBytes(0), layout, range)
    }
  }
}

/// Dequantizes ranges of a tensor.
struct DequantizeLoop: Sendable {
  private let loadX: LaneLoad
  private let loadScale: LaneLoad
  private let loadZero: LaneLoad?
  private let isInteger: Bool
  private let store: FloatCodec.Store
  private let vectors: DequantizeVectors?
  /// How `run` wants its parameters.
  let forms: ParameterForms

  init(
    x: DataType, scale: DataType, y: DataType, hasZeroPoint: Bool
  ) throws(OperatorError) {
    let lane = x.isInteger ? Lane.int64 : .float32
    guard let loadX = lane.load(x), let loadScale = Lane.float32.load(scale), let store = FloatCodec(y)?.store else {
      throw .unsupported("DequantizeLinear has no kernel for \(x) with a scale of \(scale)")
    }
    (self.loadX, self.loadScale, self.store, isInteger) = (loadX, loadScale, store, x.isInteger)
    loadZero = hasZeroPoint ? loadX : nil
    vectors = try KernelCandidate<ElementFacts, DequantizeVectors?>.choose(
      .dequantization, type: x,
      [
        .plain { .some(nil) },
        .vectors("vectors", types: []) { DequantizeVectors(x: x, scale: scale, y: y, hasZeroPoint: hasZeroPoint) },
      ])
    forms = vectors?.forms ?? ParameterForms(zeroWidth: 1)
  }

  /// Dequantizes the elements of `range`.
  func run(
    _ x: UnsafeRawPointer, _ parameters: QuantizationParameters, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    if let vectors { return vectors.run(x, parameters, y, layout, range) }
    runBlocks(x, parameters.scales, parameters.zeros, y, layout, range)
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

/// The same by C kernels: elements pass a block as codes that a kernel reads, and results one as float32, where they
/// are of other types.
private struct DequantizeVectors: Sendable {
  /// Computes `count` numbers from codes, one scale and one zero point, or those of each element.
  private typealias Kernel =
    @Sendable (
      _ count: Int, _ codes: UnsafeRawPointer, _ y: UnsafeMutablePointer<Float>, _ scales: UnsafePointer<Float>,
      _ zeros: UnsafeRawPointer?
    ) -> Void

  let forms: ParameterForms
  private let reader: BlockReader
  private let hasZero: Bool
  private let one: Kernel
  private let each: Kernel
  /// From float32 to the type of the result; nil: it is that.
  private let finish: CastKernel?
  private let resultWidth: Int

  /// nil for pairs of types that have no kernels.
  init?(x: DataType, scale: DataType, y: DataType, hasZeroPoint: Bool) {
    hasZero = hasZeroPoint
    let code = DequantizeVectors.code(of: x)
    guard let kernels = DequantizeVectors.kernels(code) else { return nil }
    (one, each) = kernels
    let scales = scale == .float32 ? nil : CastKernels.kernel(from: scale, to: .float32)
    let conversion = code == x ? nil : CastKernels.kernel(from: x, to: code)
    finish = y == .float32 ? nil : CastKernels.kernel(from: .float32, to: y)
    guard scales != nil || scale == .float32, conversion != nil || code == x, finish != nil || y == .float32 else {
      return nil
    }
    forms = ParameterForms(scales: scales, scaleWidth: scale.byteWidth, zeros: conversion, zeroWidth: code.byteWidth)
    reader = BlockReader(x, width: code.byteWidth, conversion)
    resultWidth = y.byteWidth
  }

  /// The type in which kernels read elements.
  private static func code(of type: DataType) -> DataType {
    if type.isFloat { return .float32 }
    return type.isPacked ? (type.isSignedInteger ? .int8 : .uint8) : type
  }

  func run(
    _ x: UnsafeRawPointer, _ parameters: QuantizationParameters, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    let width = forms.zeroWidth
    CodeBlocks.with(2) { memory in
      if let operands = layout.operands {
        let bases = (parameters.scales, hasZero ? parameters.zeros : parameters.scales, parameters.scales)
        operands.forEach(in: range, bases) { here, start, count in
          run(each, x, y, start, count, here.0, hasZero ? here.1 : nil, stride: 1, memory)
        }
        return
      }
      layout.forEachSegment(in: range) { start, count, scale, stride in
        run(
          stride == 0 ? one : each, x, y, start, count, parameters.scales + scale &* 4,
          hasZero ? parameters.zeros + scale &* width : nil, stride: stride, memory)
      }
    }
  }

  /// `count` elements from `start` on, whose parameters begin at `scales` and `zeros`.
  @inline(__always)
  private func run(
    _ kernel: Kernel, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ start: Int, _ count: Int,
    _ scales: UnsafeRawPointer, _ zeros: UnsafeRawPointer?, stride: Int, _ memory: UnsafeMutableRawPointer
  ) {
    let numbers = (memory + CodeBlocks.bytes).assumingMemoryBound(to: Float.self)
    CodeBlocks.forEach(start, count) { first, done, n in
      let codes = reader.read(x, first, n, memory)
      let target = finish == nil ? (y + first &* 4).assumingMemoryBound(to: Float.self) : numbers
      kernel(
        n, codes, target, (scales + done &* stride &* 4).assumingMemoryBound(to: Float.self),
        zeros.map { $0 + done &* stride &* forms.zeroWidth })
      finish?(n, numbers, y + first &* resultWidth)
    }
  }

  // MARK: - Kernels

  private typealias OneFunction =
    @convention(c) (Int, UnsafeRawPointer, UnsafeMutablePointer<Float>, Float, Int32) -> Void
  private typealias EachFunction =
    @convention(c) (
      Int, UnsafeRawPointer, UnsafeMutablePointer<Float>, UnsafePointer<Float>, UnsafeRawPointer?
    ) -> Void

  private static func kernels(_ code: DataType) -> (one: Kernel, each: Kernel)? {
    let k = apus_kernels().pointee
    return switch code {
    case .uint8: kernels(UInt8.self, k.dequantize_u8, k.dequantize_each_u8)
    case .int8: kernels(Int8.self, k.dequantize_s8, k.dequantize_each_s8)
    case .uint16: kernels(UInt16.self, k.dequantize_u16, k.dequantize_each_u16)
    case .int16: kernels(Int16.self, k.dequantize_s16, k.dequantize_each_s16)
    case .int32: integers
    case .float32: floats
    default: nil
    }
  }

  private static func kernels<Code: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(
    _ type: Code.Type, _ one: @escaping OneFunction, _ each: @escaping EachFunction
  ) -> (one: Kernel, each: Kernel) {
    (
      { count, x, y, scales, zeros in
        one(count, x, y, scales[0], zeros.map { Int32(truncatingIfNeeded: $0.load(as: Code.self)) } ?? 0)
      },
      { count, x, y, scales, zeros in each(count, x, y, scales, zeros) }
    )
  }

  /// The zero points of elements are few, and mostly 0.
  private static var integers: (one: Kernel, each: Kernel) {
    let (toFloat, multiply) = (apus_kernels().pointee.i32_to_f32, apus_kernels().pointee.mul_f32_vv)
    let one = apus_kernels().pointee.dequantize_i32
    return (
      { count, x, y, scales, zeros in one(count, x, y, scales[0], zeros?.load(as: Int32.self) ?? 0) },
      { count, x, y, scales, zeros in
        if let zeros = zeros?.assumingMemoryBound(to: Int32.self) {
          let codes = x.assumingMemoryBound(to: Int32.self)
          for i in 0..<count { y[i] = Float(Int64(codes[i]) - Int64(zeros[i])) }
        } else {
          toFloat(count, x, y)
        }
        multiply(count, y, scales, y)
      }
    )
  }

  private static var floats: (one: Kernel, each: Kernel) {
    let k = apus_kernels().pointee
    let (lessOne, lessEach, byOne, byEach) = (k.sub_f32_vs, k.sub_f32_vv, k.mul_f32_vs, k.mul_f32_vv)
    return (
      { count, x, y, scales, zeros in
        if let zeros { lessOne(count, x, zeros, y) }
        byOne(count, zeros == nil ? x : UnsafeRawPointer(y), scales, y)
      },
      { count, x, y, scales, zeros in
        if let zeros { lessEach(count, x, zeros, y) }
        byEach(count, zeros == nil ? x : UnsafeRawPointer(y), scales, y)
      }
    )
  }
}
