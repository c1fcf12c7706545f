// What becomes of the sums of a product of bytes.

import ApusGraph
import CApusKernels

/// The sums themselves, floats, or bytes again. Numbers are those of inputs of the step.
enum ByteResult: Sendable {
  case sums
  case floats(FloatResult)
  case bytes(ByteRequantization)

  /// y = activation(float(sum) * scale + bias + residual), in float32.
  struct FloatResult: Sendable {
    /// float32, one or one a column.
    var scale: Int
    var scaleCount: Int
    /// float32, one a column.
    var bias: Int?
    /// float32, as the result.
    var residual: Int?
    var epilogue = GemmEpilogue()
  }

  /// y = saturate(round_half_even((sum + bias) * (a_scale * b_scale / y_scale)) + y_zero_point): the scale in float32,
  /// its product with the sum in float64.
  struct ByteRequantization: Sendable {
    var aScale: Int
    var bScale: Int
    /// One, or one a column.
    var bScaleCount: Int
    var yScale: Int
    var yZero: Int
    var isSigned: Bool
    /// int32, one a column.
    var bias: Int?
  }

  /// Bytes of an element.
  var width: Int {
    if case .bytes = self { 1 } else { 4 }
  }

  /// Scales that are computed before the product.
  var scaleCount: Int {
    if case .bytes(let result) = self { result.bScaleCount } else { 0 }
  }

  /// Writes those scales.
  func fill(_ scales: UnsafeMutablePointer<Float>, _ run: RunContext) {
    guard case .bytes(let result) = self else { return }
    let a = run.input(result.aScale, as: Float.self)[0]
    let y = run.input(result.yScale, as: Float.self)[0]
    let b = run.input(result.bScale, as: Float.self)
    for column in 0..<result.bScaleCount { scales[column] = a * b[column] / y }
  }

  /// Says to the kernel what to do with the sums; `scales` is what `fill` wrote.
  func complete(
    _ arguments: inout apus_gemm_i8_args, _ run: RunContext, _ scales: UnsafePointer<Float>, columns: Int
  ) {
    switch self {
    case .sums: break
    case .floats(let result):
      arguments.output = APUS_GEMM_I8_TO_F32
      let scale = run.input(result.scale, as: Float.self)
      if result.scaleCount == 1 { arguments.scale = scale[0] } else { arguments.scales = scale }
      arguments.epilogue = apus_epilogue_f32(
        bias: result.bias.map { run.input($0) }, add: result.residual.map { run.input($0) }, add_ld: columns,
        activation: result.epilogue.activation, alpha: result.epilogue.alpha, beta: result.epilogue.beta)
    case .bytes(let result):
      arguments.output = result.isSigned ? APUS_GEMM_I8_TO_S8 : APUS_GEMM_I8_TO_U8
      arguments.wide = true
      if result.bScaleCount == 1 { arguments.scale = scales[0] } else { arguments.scales = scales }
      arguments.bias = result.bias.map { run.input($0) }
      let zero = run.inputBytes(result.yZero).load(as: UInt8.self)
      arguments.zero = result.isSigned ? Int32(Int8(bitPattern: zero)) : Int32(zero)
      (arguments.low, arguments.high) = result.isSigned ? (-128, 127) : (0, 255)
    }
  }
}
