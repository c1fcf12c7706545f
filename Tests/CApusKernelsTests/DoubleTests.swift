// The float64 unary kernels against the C library, within the errors that their contract states.

import CApusKernels
import Foundation
import Testing

@Suite struct DoubleTests {
  private typealias Kernel = @convention(c) (Int, UnsafePointer<Double>, UnsafeMutablePointer<Double>) -> Void

  private static let special: [Double] = [
    .nan, .infinity, -.infinity, 0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1, -1, .leastNonzeroMagnitude, 0x1p-1030, 0x1p52,
    0x1p53 + 2, 709.7, 710, -745, -746, -740, 20, -20,
  ]

  private func check(_ label: String, _ kernel: Kernel, ulp bound: Double, _ reference: (Double) -> Double) {
    var numbers = Numbers(61)
    for (n, scale) in [(0, 1.0), (1, 1), (7, 3), (16, 30), (1003, 3), (1003, 700), (1003, 1e300)] {
      let x = Buffer<Double>(n) { $0 < Self.special.count ? Self.special[$0] : Double(numbers.float()) * scale }
      let y = Buffer<Double>(n, repeating: 0)
      kernel(n, x.pointer, y.base)
      for i in 0..<n {
        let expected = reference(x[i])
        // The reference is itself one unit off.
        let near = (y[i] - expected).magnitude <= (bound == 0 ? 0 : bound + 1) * expected.ulp
        let isRight = y[i] == expected || (y[i].isNaN && expected.isNaN) || near
        #expect(isRight, "\(label)(\(x[i])) is \(y[i]), not \(expected)")
        if expected == 0 { #expect(y[i].sign == expected.sign, "\(label)(\(x[i])) is \(y[i])") }
      }
      kernel(n, x.pointer, x.base)
      #expect((0..<n).allSatisfy { x[$0] == y[$0] || y[$0].isNaN }, "\(label) \(n) in place")
    }
  }

  @Test(arguments: levels.indices) func functions(level: Int) {
    let k = levels[level]
    check("\(k.label) exp", k.exp_f64, ulp: 1) { exp($0) }
    check("\(k.label) log", k.log_f64, ulp: 1) { log($0) }
    check("\(k.label) tanh", k.tanh_f64, ulp: 3) { tanh($0) }
    check("\(k.label) sigmoid", k.sigmoid_f64, ulp: 2.5) { $0 < 0 ? exp($0) / (1 + exp($0)) : 1 / (1 + exp(-$0)) }
    check("\(k.label) sqrt", k.sqrt_f64, ulp: 0) { $0.squareRoot() }
    check("\(k.label) floor", k.floor_f64, ulp: 0) { $0.rounded(.down) }
    check("\(k.label) ceil", k.ceil_f64, ulp: 0) { $0.rounded(.up) }
    check("\(k.label) round", k.round_f64, ulp: 0) { $0.rounded(.toNearestOrEven) }
  }
}
