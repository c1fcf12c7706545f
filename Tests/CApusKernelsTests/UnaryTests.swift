// The float32 unary kernels against the C library in double precision: sampled, or with APUS_EXHAUSTIVE=1 all 2^32
// values.

import CApusKernels
import Foundation
import Testing

/// The unary kernel of that name, if there is one.
func unary(_ kernels: Kernels, _ name: String) -> apus_unary_f32_entry.Function? {
  withUnsafePointer(to: kernels) { table in
    (0..<apus_unary_f32_count()).lazy.map { apus_unary_f32_at(table, $0) }
      .first { String(cString: $0.name) == name }?.function
  }
}

extension apus_unary_f32_entry {
  typealias Function =
    @convention(c) (Int, UnsafePointer<Float>, UnsafeMutablePointer<Float>, UnsafePointer<Float>?)
    -> Void
}

private let parameters: [Float] = [0.3, 0.7]

private func sigmoid(_ x: Double) -> Double { x < -30 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)) }

private let references: [String: @Sendable (Double) -> Double] = [
  "exp": { exp($0) }, "log": { log($0) }, "erf": { erf($0) }, "tanh": { tanh($0) },
  "sin": { sin($0) }, "cos": { cos($0) }, "sqrt": { $0.squareRoot() }, "reciprocal": { 1 / $0 },
  "rsqrt": { 1 / $0.squareRoot() }, "neg": { -$0 }, "abs": { $0.magnitude }, "floor": { floor($0) },
  "ceil": { ceil($0) }, "round": { $0.rounded(.toNearestOrEven) }, "sigmoid": sigmoid,
  "silu": { $0 * sigmoid($0) },
  "gelu": { 0.5 * $0 * erfc(-$0 / 2.0.squareRoot()) },
  "gelu_tanh": { $0 * sigmoid(2 * (2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0)) },
  "mish": { x in
    let e = exp(min(x, 40))
    let w = e * (e + 2)
    return x.isNaN ? x : x * (w / (w + 2))
  },
  "elu": { $0 > 0 ? $0 : Double(parameters[0]) * expm1($0) },
  "softplus": { $0.isNaN ? $0 : max($0, 0) + log1p(exp(-$0.magnitude)) },
  "tan": { tan($0) }, "asin": { asin($0) }, "acos": { acos($0) }, "atan": { atan($0) }, "sinh": { sinh($0) },
  "cosh": { cosh($0) }, "asinh": { asinh($0) }, "acosh": { acosh($0) }, "atanh": { atanh($0) },
  "celu": { $0 < 0 ? Double(parameters[0]) * expm1($0 / Double(parameters[0])) : $0 },
  "selu": { Double(parameters[1]) * ($0 < 0 ? Double(parameters[0]) * expm1($0) : $0) },
  "swish": { $0 * sigmoid(Double(parameters[0]) * $0) }, "softsign": { $0 / (1 + $0.magnitude) },
  "thresholded_relu": { $0 > Double(parameters[0]) ? $0 : 0 },
  "shrink": { x in
    let (bias, lambda) = (Double(parameters[0]), Double(parameters[1]))
    return x < -lambda ? x + bias : x > lambda ? x - bias : 0
  },
  "sign": { $0 > 0 ? 1 : $0 < 0 ? -1 : $0 },
  "relu": { $0.isNaN ? $0 : max($0, 0) },
  "leaky_relu": { $0 < 0 ? Double(parameters[0]) * $0 : $0 },
  "clip": { $0.isNaN ? $0 : min(max($0, Double(parameters[0])), Double(parameters[1])) },
  "hard_sigmoid": { $0.isNaN ? $0 : min(max(Double(parameters[0]) * $0 + Double(parameters[1]), 0), 1) },
  "hard_swish": { $0.isNaN ? $0 : $0 * min(max($0 / 6 + 0.5, 0), 1) },
]

/// The distance of neighbouring floats at that magnitude.
private func unit(_ x: Double) -> Double {
  let magnitude = max(Float(min(x.magnitude, Double(Float.greatestFiniteMagnitude))), Float.leastNormalMagnitude)
  return Double(magnitude.ulp)
}

@Suite struct UnaryTests {
  private static let exhaustive = ProcessInfo.processInfo.environment["APUS_EXHAUSTIVE"] == "1"

  /// Holds every kernel to its stated error over a sample of bit patterns with that step.
  private func check(_ entry: apus_unary_f32_entry, _ reference: (Double) -> Double, step: UInt64, _ label: String) {
    let block = 1 << 14
    let x = Buffer<Float>(block, repeating: 0)
    let y = Buffer<Float>(block, repeating: 0)
    var pattern: UInt64 = 0
    var worst = 0.0
    var worstAt = Float(0)
    var wrong: [Float] = []
    while pattern >> 32 == 0 {
      var n = 0
      while n < block, pattern >> 32 == 0 {
        x[n] = Float(bitPattern: UInt32(pattern))
        pattern += step
        n += 1
      }
      entry.function(n, x.pointer, y.base, parameters)
      for i in 0..<n {
        let expected = reference(Double(x[i]))
        let got = Double(y[i])
        let rounded = Float(expected)
        if expected.isNaN || got.isNaN {
          if expected.isNaN != got.isNaN { wrong.append(x[i]) }
        } else if rounded.isInfinite || got.isInfinite {
          let close = expected.magnitude > 3.4028e38 && got.magnitude > 3.4028e38 && (expected > 0) == (got > 0)
          if Float(got) != rounded && !close { wrong.append(x[i]) }
        } else {
          let scale = entry.error_of_input ? unit(max(1, Double(x[i].magnitude))) : unit(expected)
          let error = (got - expected).magnitude / scale
          if error > worst { (worst, worstAt) = (error, x[i]) }
        }
      }
    }
    #expect(wrong.isEmpty, "\(label): \(wrong.count) wrong special values, as at \(wrong.first ?? 0)")
    #expect(worst <= entry.max_ulp, "\(label): \(worst) ULP at \(worstAt), stated \(entry.max_ulp)")
  }

  @Test(arguments: levels.indices) func errorsAreAsStated(level: Int) throws {
    var kernels = levels[level]
    for index in 0..<apus_unary_f32_count() {
      let entry = apus_unary_f32_at(&kernels, index)
      let name = String(cString: entry.name)
      let reference = try #require(references[name], "no reference for \(name)")
      check(entry, reference, step: Self.exhaustive ? 1 : 50_021, "\(kernels.label) \(name)")
    }
  }

  /// The bits of an element depend on neither its place nor its company; nothing beyond n is written; in place is
  /// legal.
  @Test(arguments: levels.indices) func elementsAreIndependent(level: Int) {
    var kernels = levels[level]
    var numbers = Numbers(7)
    let count = 75
    let x = numbers.floats(count, scale: 30)
    (x[3], x[20], x[40]) = (.nan, .infinity, 20_000)
    for index in 0..<apus_unary_f32_count() {
      let entry = apus_unary_f32_at(&kernels, index)
      let whole = Buffer<Float>(count, repeating: 0)
      entry.function(count, x.pointer, whole.base, parameters)
      for n in [0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33] {
        for start in [0, 1, 13] {
          let part = Buffer<Float>(n + 1) { $0 < n ? x[start + $0] : 777 }
          entry.function(n, part.pointer, part.base, parameters)
          let equal = (0..<n).allSatisfy { same(part[$0], whole[start + $0]) }
          #expect(equal && part[n] == 777, "\(kernels.label) \(String(cString: entry.name)) n \(n) from \(start)")
        }
      }
    }
  }

  @Test(arguments: levels.indices) func specialValues(level: Int) throws {
    let kernels = levels[level]
    let cases: [(String, Float, Float)] = [
      ("erf", .infinity, 1), ("erf", -.infinity, -1), ("exp", -.infinity, 0), ("exp", .infinity, .infinity),
      ("exp", 100, .infinity), ("exp", 0, 1), ("log", 0, -.infinity), ("log", -0.0, -.infinity), ("log", -1, .nan),
      ("log", .infinity, .infinity), ("log", 1, 0), ("tanh", .infinity, 1), ("tanh", -0.0, -0.0), ("erf", -0.0, -0.0),
      ("sigmoid", -.infinity, 0), ("sigmoid", .infinity, 1), ("elu", -.infinity, -0.3),
      ("softplus", .infinity, .infinity),
      ("softplus", -.infinity, 0), ("sin", .infinity, .nan), ("cos", -.infinity, .nan), ("sin", -0.0, -0.0),
      ("round", 2.5, 2), ("round", -0.5, -0.0), ("ceil", -0.5, -0.0), ("relu", .nan, .nan), ("clip", .nan, .nan),
      ("rsqrt", 0, .infinity), ("reciprocal", -0.0, -.infinity), ("exp", .nan, .nan), ("tanh", 0x1p-140, 0x1p-140),
      ("asin", 1.5, .nan), ("acos", 1, 0), ("atan", .infinity, 0x1.921fb6p+0), ("asin", -0.0, -0.0),
      ("sinh", -0.0, -0.0), ("sinh", -.infinity, -.infinity), ("cosh", .infinity, .infinity), ("acosh", 1, 0),
      ("acosh", 0.5, .nan), ("acosh", .infinity, .infinity),
      ("asinh", -.infinity, -.infinity), ("atanh", 1, .infinity), ("atanh", -2, .nan), ("tan", .infinity, .nan),
      ("sign", -0.0, 0), ("sign", .nan, .nan), ("thresholded_relu", .nan, 0), ("celu", -.infinity, -0.3),
    ]
    for (name, x, expected) in cases {
      let function = try #require(unary(kernels, name))
      var y: Float = 0
      function(1, [x], &y, parameters)
      #expect(same(y, expected), "\(kernels.label) \(name)(\(x)) is \(y)")
    }
  }
}
