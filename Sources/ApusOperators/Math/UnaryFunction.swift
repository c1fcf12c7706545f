// The functions of one element: their definition for float32 and float64, for integers, and the C kernels that are
// faster.

import ApusGraph
import ApusTensor
import CApusKernels

/// A function of one number, with its parameters.
package enum UnaryFunction: Sendable {
  case abs, neg, sign, ceil, floor, round, sqrt, reciprocal
  case exp, log, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, asinh, acosh, atanh, erf
  case sigmoid, relu, softplus, softsign, mish, hardSwish, gelu, geluTanh
  case leakyRelu(alpha: Float)
  case elu(alpha: Float)
  case selu(alpha: Float, gamma: Float)
  case celu(alpha: Float)
  case hardSigmoid(alpha: Float, beta: Float)
  case thresholdedRelu(alpha: Float)
  case swish(alpha: Float)
  case shrink(bias: Float, lambda: Float)
  case bitwiseNot
  case identity
  case clip(low: Float, high: Float)
  case affine(alpha: Float, beta: Float)
  case scaledTanh(alpha: Float, beta: Float)

  /// The loop for an element type; nil if there is none.
  package func loop(_ type: DataType) throws(OperatorError) -> UnaryLoop? {
    switch type {
    case .float32: try floatLoop
    case .float64: try Elementwise.choose(type, plain: realLoop(Double.self), doubleLoop)
    case .float16, .bfloat16:
      try FloatCodec(type).map { (codec) throws(OperatorError) in
        Elementwise.narrow(codec, width: 2, try rounding(to: type).floatLoop)
      }
    case .int8: integerLoop(Int8.self)
    case .int16: integerLoop(Int16.self)
    case .int32: integerLoop(Int32.self)
    case .int64: integerLoop(Int64.self)
    case .uint8: integerLoop(UInt8.self)
    case .uint16: integerLoop(UInt16.self)
    case .uint32: integerLoop(UInt32.self)
    case .uint64: integerLoop(UInt64.self)
    default: nil
    }
  }

  /// The same function with the parameters that it has for `type`. The slope of LeakyRelu has the precision of the
  /// data.
  private func rounding(to type: DataType) -> UnaryFunction {
    if case .leakyRelu(let alpha) = self { return .leakyRelu(alpha: rounded(alpha, to: type)) }
    return self
  }

  var cost: Cost {
    switch self {
    case .abs, .neg, .sign, .ceil, .floor, .round, .relu, .leakyRelu, .hardSigmoid, .hardSwish, .thresholdedRelu,
      .shrink,
      .bitwiseNot, .softsign, .reciprocal, .sqrt, .identity, .clip, .affine:
      .light
    default: fastLoop == nil ? .heavy : .medium
    }
  }
}

// MARK: - Definitions

extension UnaryFunction {
  /// The definition, for float32 and float64: the oracle of every faster loop.
  package func realLoop<T: Real>(_ type: T.Type) -> UnaryLoop {
    switch self {
    case .abs: Elementwise.map { (x: T) in x.magnitude }
    case .neg: Elementwise.map { (x: T) in -x }
    case .sign: Elementwise.map { (x: T) in x > 0 ? 1 : x < 0 ? -1 : x == 0 ? 0 : x }
    case .ceil: Elementwise.map { (x: T) in x.rounded(.up) }
    case .floor: Elementwise.map { (x: T) in x.rounded(.down) }
    case .round: Elementwise.map { (x: T) in x.rounded(.toNearestOrEven) }
    case .sqrt: Elementwise.map { (x: T) in x.squareRoot() }
    case .reciprocal: Elementwise.map { (x: T) in 1 / x }
    case .exp: Elementwise.map(T.exp)
    case .log: Elementwise.map(T.log)
    case .sin: Elementwise.map(T.sin)
    case .cos: Elementwise.map(T.cos)
    case .tan: Elementwise.map(T.tan)
    case .asin: Elementwise.map(T.asin)
    case .acos: Elementwise.map(T.acos)
    case .atan: Elementwise.map(T.atan)
    case .sinh: Elementwise.map(T.sinh)
    case .cosh: Elementwise.map(T.cosh)
    case .tanh: Elementwise.map(T.tanh)
    case .asinh: Elementwise.map(T.asinh)
    case .acosh: Elementwise.map(T.acosh)
    case .atanh: Elementwise.map(T.atanh)
    case .erf: Elementwise.map(T.erf)
    default: activationLoop(type)
    }
  }

  private func activationLoop<T: Real>(_ type: T.Type) -> UnaryLoop {
    switch self {
    case .sigmoid: return Elementwise.map { (x: T) in logistic(x) }
    case .relu: return Elementwise.map { (x: T) in x < 0 ? 0 : x }
    case .softplus: return Elementwise.map { (x: T) in logOnePlusExp(x) }
    case .softsign: return Elementwise.map { (x: T) in x / (1 + x.magnitude) }
    case .mish: return Elementwise.map { (x: T) in x * T.tanh(logOnePlusExp(x)) }
    case .hardSwish: return Elementwise.map { (x: T) in x * clamp(x / 6 + 0.5, 0, 1) }
    // 1 + erf(u) is erfc(-u), and (1 + tanh(u)) / 2 is the logistic function of 2u: both without cancellation.
    case .gelu: return Elementwise.map { (x: T) in 0.5 * x * T.erfc(-x * T(0.5).squareRoot()) }
    case .geluTanh:
      let scale = T(2 * 0.797884560802865355879892119869)
      return Elementwise.map { (x: T) in x * logistic(scale * (x + 0.044715 * x * x * x)) }
    case .leakyRelu(let alpha):
      let alpha = T(alpha)
      return Elementwise.map { (x: T) in x < 0 ? alpha * x : x }
    case .elu(let alpha):
      let alpha = T(alpha)
      return Elementwise.map { (x: T) in x < 0 ? alpha * T.expm1(x) : x }
    case .selu(let alpha, let gamma):
      let (alpha, gamma) = (T(alpha), T(gamma))
      return Elementwise.map { (x: T) in gamma * (x < 0 ? alpha * T.expm1(x) : x) }
    case .celu(let alpha):
      let alpha = T(alpha)
      return Elementwise.map { (x: T) in x < 0 ? alpha * T.expm1(x / alpha) : x }
    case .hardSigmoid(let alpha, let beta):
      let (alpha, beta) = (T(alpha), T(beta))
      return Elementwise.map { (x: T) in clamp(alpha * x + beta, 0, 1) }
    case .thresholdedRelu(let alpha):
      let alpha = T(alpha)
      return Elementwise.map { (x: T) in x > alpha ? x : 0 }
    case .swish(let alpha):
      let alpha = T(alpha)
      return Elementwise.map { (x: T) in x * logistic(alpha * x) }
    case .shrink(let bias, let lambda):
      let (bias, lambda) = (T(bias), T(lambda))
      return Elementwise.map { (x: T) in x < -lambda ? x + bias : x > lambda ? x - bias : 0 }
    case .identity: return Elementwise.map { (x: T) in x }
    case .clip(let low, let high):
      let (low, high) = (T(low), T(high))
      return Elementwise.map { (x: T) in clamp(x, low, high) }
    case .affine(let alpha, let beta):
      let (alpha, beta) = (T(alpha), T(beta))
      return Elementwise.map { (x: T) in alpha * x + beta }
    case .scaledTanh(let alpha, let beta):
      let (alpha, beta) = (T(alpha), T(beta))
      return Elementwise.map { (x: T) in alpha * T.tanh(beta * x) }
    default: return { _, _, _ in }
    }
  }

  /// The definition for integers; nil for functions that have none. Results that do not fit wrap.
  private func integerLoop<T: FixedWidthInteger & BitwiseCopyable & Sendable>(_ type: T.Type) -> UnaryLoop? {
    switch self {
    case .abs: return Elementwise.map { (x: T) in x < 0 ? 0 &- x : x }
    case .neg: return Elementwise.map { (x: T) in 0 &- x }
    case .sign: return Elementwise.map { (x: T) in x > 0 ? 1 : x < 0 ? 0 &- 1 : 0 }
    case .relu: return Elementwise.map { (x: T) in x < 0 ? 0 : x }
    case .bitwiseNot: return Elementwise.map { (x: T) in ~x }
    case .erf: return Elementwise.map { (x: T) in T(truncatingIfNeeded: truncated32(Float(Double.erf(Double(x))))) }
    case .shrink(let bias, let lambda):
      let (bias, lambda) = (Double(bias), Double(lambda))
      return Elementwise.map { (x: T) in
        let x = Double(x)
        return T(truncatingIfNeeded: truncated64(x < -lambda ? x + bias : x > lambda ? x - bias : 0))
      }
    default: return nil
    }
  }
}

/// 1 / (1 + exp(-x)) without overflow.
@inline(__always) func logistic<T: Real>(_ x: T) -> T {
  let e = T.exp(-x.magnitude)
  return x < 0 ? e / (1 + e) : 1 / (1 + e)
}

/// log(1 + exp(x)) without overflow.
@inline(__always) func logOnePlusExp<T: Real>(_ x: T) -> T {
  (x > 0 ? x : x != x ? x : 0) + T.log1p(T.exp(-x.magnitude))
}

/// min(max(x, low), high); NaN stays NaN.
@inline(__always) func clamp<T: BinaryFloatingPoint>(_ x: T, _ low: T, _ high: T) -> T {
  let raised = x < low ? low : x
  return raised > high ? high : raised
}

// MARK: - C kernels

extension UnaryFunction {
  /// The loop for float32: of the C kernel, where there is one.
  var floatLoop: UnaryLoop {
    get throws(OperatorError) {
      try KernelCandidate<ElementFacts, UnaryLoop>.choose(
        .elementwise, type: .float32, [.plain { realLoop(Float.self) }, .vectors("vectors") { fastLoop }])
    }
  }

  /// The loop of the C kernel for float32; nil if there is none.
  package var fastLoop: UnaryLoop? {
    let kernels = apus_kernels().pointee
    switch self {
    case .abs: return fast(kernels.abs_f32)
    case .neg: return fast(kernels.neg_f32)
    case .ceil: return fast(kernels.ceil_f32)
    case .floor: return fast(kernels.floor_f32)
    case .round: return fast(kernels.round_f32)
    case .sqrt: return fast(kernels.sqrt_f32)
    case .reciprocal: return fast(kernels.reciprocal_f32)
    case .exp: return fast(kernels.exp_f32)
    case .log: return fast(kernels.log_f32)
    case .sin: return fast(kernels.sin_f32)
    case .cos: return fast(kernels.cos_f32)
    case .tan: return fast(kernels.tan_f32)
    case .asin: return fast(kernels.asin_f32)
    case .acos: return fast(kernels.acos_f32)
    case .atan: return fast(kernels.atan_f32)
    case .sinh: return fast(kernels.sinh_f32)
    case .cosh: return fast(kernels.cosh_f32)
    case .tanh: return fast(kernels.tanh_f32)
    case .asinh: return fast(kernels.asinh_f32)
    case .acosh: return fast(kernels.acosh_f32)
    case .atanh: return fast(kernels.atanh_f32)
    case .sign: return fast(kernels.sign_f32)
    case .erf: return fast(kernels.erf_f32)
    case .sigmoid: return fast(kernels.sigmoid_f32)
    case .relu: return fast(kernels.relu_f32)
    case .softplus: return fast(kernels.softplus_f32)
    case .mish: return fast(kernels.mish_f32)
    case .hardSwish: return fast(kernels.hard_swish_f32)
    case .gelu: return fast(kernels.gelu_f32)
    case .geluTanh: return fast(kernels.gelu_tanh_f32)
    case .leakyRelu(let alpha): return fast(kernels.leaky_relu_f32, alpha)
    case .elu(let alpha): return fast(kernels.elu_f32, alpha)
    case .celu(let alpha): return alpha == 1 ? fast(kernels.elu_f32, 1) : fast(kernels.celu_f32, alpha)
    case .hardSigmoid(let alpha, let beta): return fast(kernels.hard_sigmoid_f32, alpha, beta)
    case .swish(let alpha): return alpha == 1 ? fast(kernels.silu_f32) : fast(kernels.swish_f32, alpha)
    case .selu(let alpha, let gamma): return fast(kernels.selu_f32, alpha, gamma)
    case .softsign: return fast(kernels.softsign_f32)
    case .thresholdedRelu(let alpha): return fast(kernels.thresholded_relu_f32, alpha)
    case .shrink(let bias, let lambda): return fast(kernels.shrink_f32, bias, lambda)
    default: return nil
    }
  }

  /// The loop of the C kernel for float64; nil if there is none.
  package var doubleLoop: UnaryLoop? {
    let kernels = apus_kernels().pointee
    let kernel: DoubleKernel? =
      switch self {
      case .ceil: kernels.ceil_f64
      case .floor: kernels.floor_f64
      case .round: kernels.round_f64
      case .sqrt: kernels.sqrt_f64
      case .exp: kernels.exp_f64
      case .log: kernels.log_f64
      case .tanh: kernels.tanh_f64
      case .sigmoid: kernels.sigmoid_f64
      default: nil
      }
    guard let kernel else { return nil }
    return { x, y, count in
      kernel(count, x.assumingMemoryBound(to: Double.self), y.assumingMemoryBound(to: Double.self))
    }
  }

  private func fast(_ kernel: FloatKernel, _ alpha: Float = 0, _ beta: Float = 0) -> UnaryLoop {
    { x, y, count in
      withUnsafeTemporaryAllocation(of: Float.self, capacity: 2) { parameters in
        parameters[0] = alpha
        parameters[1] = beta
        kernel(
          count, x.assumingMemoryBound(to: Float.self), y.assumingMemoryBound(to: Float.self), parameters.baseAddress)
      }
    }
  }
}

/// A float32 kernel of one operand, as `kernels.inc` lists them.
typealias FloatKernel =
  @convention(c) (
    Int, UnsafePointer<Float>, UnsafeMutablePointer<Float>, UnsafePointer<Float>?
  ) -> Void

/// The same for float64.
typealias DoubleKernel = @convention(c) (Int, UnsafePointer<Double>, UnsafeMutablePointer<Double>) -> Void
