// QuantizeLinear on C kernels: elements pass blocks as float32, and as codes where those are packed.

import ApusTensor
import CApusKernels

/// Quantizes ranges of a tensor with a division in float32, or in a type of 16 bits by way of it.
struct QuantizeVectors: Sendable {
  /// Makes codes of numbers and of zero points: one for all, or one for each.
  private typealias Kernel =
    @Sendable (
      _ count: Int, _ numbers: UnsafeMutablePointer<Float>, _ codes: UnsafeMutableRawPointer, _ zeros: UnsafeRawPointer?
    ) -> Void
  /// The same with the scales that the numbers are divided by.
  private typealias ScalingKernel =
    @Sendable (
      _ count: Int, _ numbers: UnsafePointer<Float>, _ codes: UnsafeMutableRawPointer, _ scales: UnsafePointer<Float>,
      _ zeros: UnsafeRawPointer?
    ) -> Void
  private typealias Pair<Function> = (one: Function, each: Function)

  let forms: ParameterForms
  private let reader: BlockReader
  private let hasZero: Bool
  private let kernels: Pair<ScalingKernel>
  /// Bytes of a code as kernels write it.
  private let codeWidth: Int
  /// From bytes to packed codes; nil: kernels write the result.
  private let packing: CastKernel?
  private let resultBits: Int

  /// nil for types that have no kernels.
  init?(x: DataType, scale: DataType, precision: DataType, y: DataType, hasZeroPoint: Bool, saturate: Bool) {
    hasZero = hasZeroPoint
    // float32 numbers whose precision is less are rounded to it.
    let narrow = precision == .float32 ? nil : CastKernels.kernel(from: .float32, to: precision)
    let widen = precision == .float32 ? nil : CastKernels.kernel(from: precision, to: .float32)
    let rounding: CastKernel? = narrow.flatMap { narrow in
      widen.map { CastKernels.chain(narrow, $0, bits: (32, precision.bits, 32)) }
    }
    func conversion(_ type: DataType) -> CastKernel? {
      guard type != .float32 else { return rounding }
      guard let widened = CastKernels.kernel(from: type, to: .float32) else { return nil }
      guard let rounding, type != precision else { return widened }
      return CastKernels.chain(widened, rounding, bits: (type.bits, 32, 32))
    }
    let (numbers, scales) = (conversion(x), conversion(scale))
    guard numbers != nil || (x == .float32 && rounding == nil), scales != nil || (scale == .float32 && rounding == nil),
      let kernels = QuantizeVectors.kernels(y, rounding, saturate: saturate)
    else { return nil }
    self.kernels = kernels
    reader = BlockReader(x, width: 4, numbers)
    codeWidth = max(y.byteWidth, 1)
    resultBits = y.bits
    packing = y.isPacked ? CodeKernels.packing(y, QuantizeVectors.form(y)) : nil
    let code: DataType = y.isFloat ? .float32 : y.isPacked ? (y.isSignedInteger ? .int8 : .uint8) : y
    let zeros = code == y ? nil : CastKernels.kernel(from: y, to: code)
    guard code == y || zeros != nil else { return nil }
    forms = ParameterForms(scales: scales, scaleWidth: scale.byteWidth, zeros: zeros, zeroWidth: code.byteWidth)
  }

  private static func form(_ type: DataType) -> apus_code_form {
    type.isFloat ? APUS_CODE_LOW_BITS : type.isSignedInteger ? APUS_CODE_SIGNED : APUS_CODE_UNSIGNED
  }

  /// Quantizes the elements of `range`, which begins and ends at a byte.
  func run(
    _ x: UnsafeRawPointer, _ parameters: QuantizationParameters, _ y: UnsafeMutableRawPointer,
    _ layout: QuantizationLayout, _ range: Range<Int>
  ) {
    CodeBlocks.with(2) { memory in
      guard let packing else {
        return runSegments(x, parameters, layout, range, memory) { y + $0 &* codeWidth }
      }
      // Blocks of whole bytes.
      let codes = memory + CodeBlocks.bytes
      CodeBlocks.forEach(range.lowerBound, range.count) { start, _, n in
        runSegments(x, parameters, layout, start..<start &+ n, memory) { codes + ($0 &- start) }
        packing(n, codes, y + (start &* resultBits) >> 3)
      }
    }
  }

  /// Writes the codes of the elements `range`, of which element i belongs to `target(i)`.
  @inline(__always)
  private func runSegments(
    _ x: UnsafeRawPointer, _ parameters: QuantizationParameters, _ layout: QuantizationLayout, _ range: Range<Int>,
    _ memory: UnsafeMutableRawPointer, _ target: (Int) -> UnsafeMutableRawPointer
  ) {
    if let operands = layout.operands {
      let bases = (parameters.scales, hasZero ? parameters.zeros : parameters.scales, parameters.scales)
      operands.forEach(in: range, bases) { here, start, count in
        run(kernels.each, x, start, count, here.0, hasZero ? here.1 : nil, stride: 1, memory, target)
      }
      return
    }
    layout.forEachSegment(in: range) { start, count, scale, stride in
      run(
        stride == 0 ? kernels.one : kernels.each, x, start, count, parameters.scales + scale &* 4,
        hasZero ? parameters.zeros + scale &* forms.zeroWidth : nil, stride: stride, memory, target)
    }
  }

  /// `count` elements from `start` on, whose parameters begin at `scales` and `zeros`.
  @inline(__always)
  private func run(
    _ kernel: ScalingKernel, _ x: UnsafeRawPointer, _ start: Int, _ count: Int, _ scales: UnsafeRawPointer,
    _ zeros: UnsafeRawPointer?, stride: Int, _ memory: UnsafeMutableRawPointer,
    _ target: (Int) -> UnsafeMutableRawPointer
  ) {
    CodeBlocks.forEach(start, count) { first, done, n in
      kernel(
        n, reader.read(x, first, n, memory).assumingMemoryBound(to: Float.self), target(first),
        (scales + done &* stride &* 4).assumingMemoryBound(to: Float.self),
        zeros.map { $0 + done &* stride &* forms.zeroWidth })
    }
  }

  // MARK: - Kernels

  /// For results of a type, with quotients that `rounding` brings to the precision of the division; nil: it is float32.
  private static func kernels(_ type: DataType, _ rounding: CastKernel?, saturate: Bool) -> Pair<ScalingKernel>? {
    let k = apus_kernels().pointee
    switch type {
    case .uint8, .uint4, .uint2: return integers(UInt8.self, k.quantize_u8, k.quantize_each_u8, rounding)
    case .int8, .int4, .int2: return integers(Int8.self, k.quantize_s8, k.quantize_each_s8, rounding)
    case .uint16: return integers(UInt16.self, k.quantize_u16, k.quantize_each_u16, rounding)
    case .int16: return integers(Int16.self, k.quantize_s16, k.quantize_each_s16, rounding)
    default:
      guard let format = SmallFloat(type) else { return nil }
      return dividing(floats(format.kernelFormat(saturate: saturate), isPacked: type.isPacked), rounding)
    }
  }

  private typealias OneFunction =
    @convention(c) (Int, UnsafePointer<Float>, UnsafeMutableRawPointer, Float, Int32) -> Void
  private typealias EachFunction =
    @convention(c) (
      Int, UnsafePointer<Float>, UnsafeMutableRawPointer, UnsafePointer<Float>, UnsafeRawPointer?
    ) -> Void

  private static func integers<Code: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(
    _ type: Code.Type, _ one: @escaping OneFunction, _ each: @escaping EachFunction, _ rounding: CastKernel?
  ) -> Pair<ScalingKernel> {
    @Sendable func zero(_ zeros: UnsafeRawPointer?) -> Int32 {
      zeros.map { Int32(truncatingIfNeeded: $0.load(as: Code.self)) } ?? 0
    }
    guard rounding != nil else {
      return (
        { count, x, y, scales, zeros in one(count, x, y, scales[0], zero(zeros)) },
        { count, x, y, scales, zeros in each(count, x, y, scales, zeros) }
      )
    }
    // Quotients that have been rounded are divided by 1.
    let ones = [Float](repeating: 1, count: CodeBlocks.length)
    return dividing(
      (
        { count, x, y, zeros in one(count, x, y, 1, zero(zeros)) },
        { count, x, y, zeros in
          ones.withUnsafeBufferPointer { ones in
            guard let ones = ones.baseAddress else { return }
            each(count, x, y, ones, zeros)
          }
        }
      ), rounding)
  }

  /// Zero points of 0 leave codes of 8 bits alone, and with them the sign of a zero.
  private static func floats(_ format: apus_small_float, isPacked: Bool) -> Pair<Kernel> {
    let (encode, addOne) = (apus_kernels().pointee.f32_to_codes, apus_kernels().pointee.add_f32_vs)
    @Sendable func finish(_ count: Int, _ numbers: UnsafePointer<Float>, _ y: UnsafeMutableRawPointer) {
      withUnsafePointer(to: format) { encode(count, numbers, y.assumingMemoryBound(to: UInt8.self), $0) }
    }
    return (
      { count, numbers, y, zeros in
        if isPacked || zeros.map({ $0.load(as: Float.self) != 0 }) ?? false {
          var zero: Float = zeros?.load(as: Float.self) ?? 0
          addOne(count, numbers, &zero, numbers)
        }
        finish(count, numbers, y)
      },
      { count, numbers, y, zeros in
        let zeros = zeros?.assumingMemoryBound(to: Float.self)
        for i in 0..<count {
          let (number, zero) = (numbers[i], zeros?[i] ?? 0)
          numbers[i] = zero == 0 && !isPacked ? number : number + zero
        }
        finish(count, numbers, y)
      }
    )
  }

  /// Kernels behind the division by scales and the rounding of quotients.
  private static func dividing(_ kernels: Pair<Kernel>, _ rounding: CastKernel?) -> Pair<ScalingKernel> {
    let (byOne, byEach) = (apus_kernels().pointee.div_f32_vs, apus_kernels().pointee.div_f32_vv)
    typealias Division = @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void
    @Sendable func behind(_ divide: @escaping Division, _ kernel: @escaping Kernel) -> ScalingKernel {
      { count, x, y, scales, zeros in
        withUnsafeTemporaryAllocation(byteCount: CodeBlocks.bytes, alignment: 64) { memory in
          guard let base = memory.baseAddress else { return }
          let quotients = base.assumingMemoryBound(to: Float.self)
          divide(count, x, scales, base)
          rounding?(count, base, base)
          kernel(count, quotients, y, zeros)
        }
      }
    }
    return (behind(byOne, kernels.one), behind(byEach, kernels.each))
  }
}
