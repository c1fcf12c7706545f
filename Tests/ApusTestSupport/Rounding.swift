// How far a sum of products may be from the exact one: a bound from arithmetic, for tests of every float type.

import ApusGraph
import ApusOperators
import ApusTensor

/// Compares an operator that sums products with its plain form in float64 on the very same numbers.
///
/// Results of float16 and bfloat16 are sums in float32, rounded once. So an element may be off by half a unit of its
/// type, and by a unit of the sum's type for each term, of the sum of the terms' magnitudes.
package struct RoundingCheck {
  private let run: OperatorRun
  /// Additions and multiplications behind one element.
  private let terms: Int
  /// Inputs that are weights of the sum, and not numbers in it, keep their sign where magnitudes are summed.
  private let signed: Set<Int>

  package init(_ run: OperatorRun, terms: Int, signed: Set<Int> = []) {
    (self.run, self.terms, self.signed) = (run, terms, signed)
  }

  /// The largest error of `inputs` in the given type, as a multiple of what is allowed; infinity if the shapes differ.
  package func worst(_ inputs: [Tensor?], as type: DataType) throws -> Double {
    let narrow = try inputs.map { try $0.map { try cast($0, to: type) } }
    let exact = try narrow.map { try $0.map { try cast($0, to: .float64) } }
    let magnitudes = try exact.enumerated().map { (index, tensor) -> Tensor? in
      try signed.contains(index) ? tensor : tensor.map { try OperatorRun("Abs")($0)[0] }
    }
    let result = try run(narrow.map { $0.map { .tensor($0) } })[0].tensor
    let (expected, sums) = try KernelSelection.$current.withValue(.plain) {
      try (
        run(exact.map { $0.map { .tensor($0) } })[0].tensor, run(magnitudes.map { $0.map { .tensor($0) } })[0].tensor
      )
    }
    guard let result, result.dataType == type, result.shape == expected?.shape,
      let found = try cast(result, to: .float64).elements(as: Double.self),
      let wanted = expected?.elements(as: Double.self), let sums = sums?.elements(as: Double.self)
    else { return .infinity }
    let ofSum = Double(terms + 4) * (type == .float64 ? 0x1p-53 : 0x1p-24)
    var worst = 0.0
    for index in found.indices {
      let bound = Self.rounding(wanted[index], to: type) + ofSum * sums[index]
      let error = abs(found[index] - wanted[index])
      if error > 0 || error.isNaN { worst = max(worst, error.isNaN ? .infinity : error / bound) }
    }
    return worst
  }

  /// Half a unit in the last place of a number that is rounded to a type once more.
  private static func rounding(_ value: Double, to type: DataType) -> Double {
    switch type {
    case .float16: 0x1.01p-11 * max(abs(value), 0x1p-14)
    case .bfloat16: 0x1.01p-8 * abs(value)
    default: 0
    }
  }

  private func cast(_ tensor: Tensor, to type: DataType) throws -> Tensor {
    try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(tensor)[0]
  }
}
