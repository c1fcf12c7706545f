// The functions of the C library that reports need.

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

private func logarithm(_ value: Double) -> Double { log(value) }
private func exponentialFunction(_ value: Double) -> Double { exp(value) }

extension Double {
  var logarithm2: Double { log2(self) }
  var logarithm10: Double { log10(self) }
  var naturalLogarithm: Double { logarithm(self) }
  var exponential: Double { exponentialFunction(self) }
  var cubeRoot: Double { cbrt(self) }
}

/// Ratios of powers.
enum Decibels {
  /// Infinite without noise.
  static func ratio(_ signal: Double, _ noise: Double) -> Double {
    noise > 0 ? 10 * (signal / noise).logarithm10 : .infinity
  }
}
