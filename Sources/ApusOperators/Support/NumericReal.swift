// The elementary functions of float32 and float64 under one name each, from the C library.

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// float32 or float64, with the functions that operators are written in.
package protocol Real: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  // Conversions are members because those of the standard library are slow from a generic type. The integer part of a
  // number that does not fit traps.
  static func int32(_ x: Self) -> Int32
  static func int64(_ x: Self) -> Int64
  static func uint64(_ x: Self) -> UInt64
  static func float(_ x: Self) -> Float
  static func double(_ x: Self) -> Double

  static func exp(_ x: Self) -> Self
  static func expm1(_ x: Self) -> Self
  static func log(_ x: Self) -> Self
  static func log1p(_ x: Self) -> Self
  static func sin(_ x: Self) -> Self
  static func cos(_ x: Self) -> Self
  static func tan(_ x: Self) -> Self
  static func asin(_ x: Self) -> Self
  static func acos(_ x: Self) -> Self
  static func atan(_ x: Self) -> Self
  static func sinh(_ x: Self) -> Self
  static func cosh(_ x: Self) -> Self
  static func tanh(_ x: Self) -> Self
  static func asinh(_ x: Self) -> Self
  static func acosh(_ x: Self) -> Self
  static func atanh(_ x: Self) -> Self
  static func erf(_ x: Self) -> Self
  static func erfc(_ x: Self) -> Self
  static func pow(_ x: Self, _ y: Self) -> Self
  /// x * x * x in float64.
  static func cube(_ x: Self) -> Self
  static func fmod(_ x: Self, _ y: Self) -> Self
}

extension Float: Real {
  @inline(__always) package static func int32(_ x: Float) -> Int32 { Int32(x) }
  @inline(__always) package static func int64(_ x: Float) -> Int64 { Int64(x) }
  @inline(__always) package static func uint64(_ x: Float) -> UInt64 { UInt64(x) }
  @inline(__always) package static func float(_ x: Float) -> Float { Float(x) }
  @inline(__always) package static func double(_ x: Float) -> Double { Double(x) }

  @inline(__always) package static func exp(_ x: Float) -> Float { expf(x) }
  @inline(__always) package static func expm1(_ x: Float) -> Float { expm1f(x) }
  @inline(__always) package static func log(_ x: Float) -> Float { logf(x) }
  @inline(__always) package static func log1p(_ x: Float) -> Float { log1pf(x) }
  @inline(__always) package static func sin(_ x: Float) -> Float { sinf(x) }
  @inline(__always) package static func cos(_ x: Float) -> Float { cosf(x) }
  @inline(__always) package static func tan(_ x: Float) -> Float { tanf(x) }
  @inline(__always) package static func asin(_ x: Float) -> Float { asinf(x) }
  @inline(__always) package static func acos(_ x: Float) -> Float { acosf(x) }
  @inline(__always) package static func atan(_ x: Float) -> Float { atanf(x) }
  @inline(__always) package static func sinh(_ x: Float) -> Float { sinhf(x) }
  @inline(__always) package static func cosh(_ x: Float) -> Float { coshf(x) }
  @inline(__always) package static func tanh(_ x: Float) -> Float { tanhf(x) }
  @inline(__always) package static func asinh(_ x: Float) -> Float { asinhf(x) }
  @inline(__always) package static func acosh(_ x: Float) -> Float { acoshf(x) }
  @inline(__always) package static func atanh(_ x: Float) -> Float { atanhf(x) }
  @inline(__always) package static func erf(_ x: Float) -> Float { erff(x) }
  @inline(__always) package static func erfc(_ x: Float) -> Float { erfcf(x) }
  @inline(__always) package static func cube(_ x: Float) -> Float { Float(Double(x) * Double(x) * Double(x)) }
  @inline(__always) package static func pow(_ x: Float, _ y: Float) -> Float { powf(x, y) }
  @inline(__always) package static func fmod(_ x: Float, _ y: Float) -> Float { fmodf(x, y) }
}

extension Double: Real {
  @inline(__always) package static func int32(_ x: Double) -> Int32 { Int32(x) }
  @inline(__always) package static func int64(_ x: Double) -> Int64 { Int64(x) }
  @inline(__always) package static func uint64(_ x: Double) -> UInt64 { UInt64(x) }
  @inline(__always) package static func float(_ x: Double) -> Float { Float(x) }
  @inline(__always) package static func double(_ x: Double) -> Double { Double(x) }

  @inline(__always) package static func exp(_ x: Double) -> Double { libmExp(x) }
  @inline(__always) package static func expm1(_ x: Double) -> Double { libmExpm1(x) }
  @inline(__always) package static func log(_ x: Double) -> Double { libmLog(x) }
  @inline(__always) package static func log1p(_ x: Double) -> Double { libmLog1p(x) }
  @inline(__always) package static func sin(_ x: Double) -> Double { libmSin(x) }
  @inline(__always) package static func cos(_ x: Double) -> Double { libmCos(x) }
  @inline(__always) package static func tan(_ x: Double) -> Double { libmTan(x) }
  @inline(__always) package static func asin(_ x: Double) -> Double { libmAsin(x) }
  @inline(__always) package static func acos(_ x: Double) -> Double { libmAcos(x) }
  @inline(__always) package static func atan(_ x: Double) -> Double { libmAtan(x) }
  @inline(__always) package static func sinh(_ x: Double) -> Double { libmSinh(x) }
  @inline(__always) package static func cosh(_ x: Double) -> Double { libmCosh(x) }
  @inline(__always) package static func tanh(_ x: Double) -> Double { libmTanh(x) }
  @inline(__always) package static func asinh(_ x: Double) -> Double { libmAsinh(x) }
  @inline(__always) package static func acosh(_ x: Double) -> Double { libmAcosh(x) }
  @inline(__always) package static func atanh(_ x: Double) -> Double { libmAtanh(x) }
  @inline(__always) package static func erf(_ x: Double) -> Double { libmErf(x) }
  @inline(__always) package static func erfc(_ x: Double) -> Double { libmErfc(x) }
  @inline(__always) package static func cube(_ x: Double) -> Double { x * x * x }
  @inline(__always) package static func pow(_ x: Double, _ y: Double) -> Double { libmPow(x, y) }
  @inline(__always) package static func fmod(_ x: Double, _ y: Double) -> Double { libmFmod(x, y) }
}

// Aliases, since inside the extension the plain names mean its members.
@inline(__always) private func libmExp(_ x: Double) -> Double { exp(x) }
@inline(__always) private func libmExpm1(_ x: Double) -> Double { expm1(x) }
@inline(__always) private func libmLog(_ x: Double) -> Double { log(x) }
@inline(__always) private func libmLog1p(_ x: Double) -> Double { log1p(x) }
@inline(__always) private func libmSin(_ x: Double) -> Double { sin(x) }
@inline(__always) private func libmCos(_ x: Double) -> Double { cos(x) }
@inline(__always) private func libmTan(_ x: Double) -> Double { tan(x) }
@inline(__always) private func libmAsin(_ x: Double) -> Double { asin(x) }
@inline(__always) private func libmAcos(_ x: Double) -> Double { acos(x) }
@inline(__always) private func libmAtan(_ x: Double) -> Double { atan(x) }
@inline(__always) private func libmSinh(_ x: Double) -> Double { sinh(x) }
@inline(__always) private func libmCosh(_ x: Double) -> Double { cosh(x) }
@inline(__always) private func libmTanh(_ x: Double) -> Double { tanh(x) }
@inline(__always) private func libmAsinh(_ x: Double) -> Double { asinh(x) }
@inline(__always) private func libmAcosh(_ x: Double) -> Double { acosh(x) }
@inline(__always) private func libmAtanh(_ x: Double) -> Double { atanh(x) }
@inline(__always) private func libmErf(_ x: Double) -> Double { erf(x) }
@inline(__always) private func libmErfc(_ x: Double) -> Double { erfc(x) }
@inline(__always) private func libmPow(_ x: Double, _ y: Double) -> Double { pow(x, y) }
@inline(__always) private func libmFmod(_ x: Double, _ y: Double) -> Double { fmod(x, y) }
