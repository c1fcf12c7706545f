// Runs of elements of any float type of ONNX to float32 and back: the way of every operator that computes in float32.

import ApusTensor
import CApusKernels

/// Conversion of runs of elements of one float type to and from float32. Elements are counted from the start of the
/// tensor, so that packed types (float4e2m1, float6…) work like the others.
struct FloatCodec: Sendable {
  /// Reads the elements `start ..< start + count`.
  typealias Load =
    @Sendable (
      _ base: UnsafeRawPointer, _ start: Int, _ target: UnsafeMutablePointer<Float>, _ count: Int
    ) -> Void
  /// Writes the elements `start ..< start + count`. For packed types `start` must begin a byte, and bits behind the
  /// last element in its byte become zero: a multiple of 4 elements is always right.
  typealias Store =
    @Sendable (
      _ source: UnsafePointer<Float>, _ base: UnsafeMutableRawPointer, _ start: Int, _ count: Int
    ) -> Void

  let load: Load
  /// Rounds to nearest, ties to even; float8e8m0 rounds up.
  let store: Store

  /// nil for float64 and for every type that is no float. `saturate` is that of Cast, for the types of 8 bits.
  init?(_ type: DataType, saturate: Bool = true, powerOfTwoRounding: PowerOfTwoFloat.Rounding = .up) {
    switch type {
    case .float32:
      load = { base, start, target, count in
        UnsafeMutableRawPointer(target).copyMemory(from: base + start &* 4, byteCount: count &* 4)
      }
      store = { source, base, start, count in
        (base + start &* 4).copyMemory(from: source, byteCount: count &* 4)
      }
    case .float16:
      load = FloatCodec.load(apus_kernels().pointee.f16_to_f32)
      store = FloatCodec.store(apus_kernels().pointee.f32_to_f16)
    case .bfloat16:
      load = FloatCodec.load(apus_kernels().pointee.bf16_to_f32)
      store = FloatCodec.store(apus_kernels().pointee.f32_to_bf16)
    case .float8e8m0:
      load = FloatCodec.loadCodes(type)
      store = { source, base, start, count in
        let target = (base + start).assumingMemoryBound(to: UInt8.self)
        for i in 0..<count {
          target[i] = PowerOfTwoFloat.encode(source[i], saturate: saturate, rounding: powerOfTwoRounding)
        }
      }
    default:
      guard let format = SmallFloat(type) else { return nil }
      load = FloatCodec.loadCodes(type)
      store = FloatCodec.storeCodes(format, bits: type.bits, saturate: saturate)
    }
  }

  private typealias ConversionKernel = @convention(c) (Int, UnsafeRawPointer, UnsafeMutableRawPointer) -> Void

  private static func load(_ kernel: @escaping ConversionKernel) -> Load {
    { base, start, target, count in kernel(count, base + start &* 2, target) }
  }

  private static func store(_ kernel: @escaping ConversionKernel) -> Store {
    { source, base, start, count in kernel(count, source, base + start &* 2) }
  }

  private static func loadCodes(_ type: DataType) -> Load {
    let bits = type.bits
    let table = SmallFloatTable.table(of: type)
    return { base, start, target, count in
      guard let values = table?.values else { return }
      if bits == 8 {
        let codes = (base + start).assumingMemoryBound(to: UInt8.self)
        for i in 0..<count { target[i] = values[Int(codes[i])] }
      } else {
        PackedElements.forEachBlock(base, bits: bits, from: start, count) { codes, done, n in
          for i in 0..<n { target[done &+ i] = values[Int(codes[i])] }
        }
      }
    }
  }

  private static func storeCodes(_ format: SmallFloat, bits: Int, saturate: Bool) -> Store {
    { source, base, start, count in
      if bits == 8 {
        let target = (base + start).assumingMemoryBound(to: UInt8.self)
        for i in 0..<count { target[i] = format.encode(source[i], saturate: saturate) }
      } else {
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: blockLength) { codes in
          guard let codes = codes.baseAddress else { return }
          var done = 0
          while done < count {
            let n = min(blockLength, count &- done)
            for i in 0..<n { codes[i] = format.encode(source[done &+ i], saturate: saturate) }
            PackedElements.pack(codes, n, bits: bits, base, at: start &+ done)
            done &+= n
          }
        }
      }
    }
  }
}

/// Elements of a block of float32 on the stack: 1024 bytes, which is what the runtime surely takes from the stack.
let blockLength = 256

/// `value` rounded to the precision of a float type; as it is for float32, float64 and what is no float.
func rounded(_ value: Float, to type: DataType) -> Float {
  guard type != .float32, let codec = FloatCodec(type) else { return value }
  return withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { bytes in
    guard let base = bytes.baseAddress else { return value }
    var result = value
    codec.store(&result, base, 0, 1)
    codec.load(base, 0, &result, 1)
    return result
  }
}
