// How near two computations of the same node must come: by the type of the result, row by row.

import Apus
import ApusTensor

/// Compares what different instruction sets, or packed and unpacked constants, make of the same inputs.
///
/// Sums in another order differ by roundings of their terms, which the largest element of a row stands for: an element
/// may be off by so many units of it. Rows run along the last axis. Integers, booleans and strings must be equal.
package enum RowComparison {
  /// nil if `found` is as near to `expected` as the type of its elements demands, times `slack`.
  package static func difference(found: Value, expected: Value, slack: Double = 1) -> Difference? {
    guard let a = found.tensor, let b = expected.tensor, b.dataType.isFloat || b.dataType.isComplex else {
      return Comparison.difference(found: found, expected: expected, tolerance: Tolerance(relative: 0, absolute: 0))
    }
    guard a.dataType == b.dataType, a.shape == b.shape else {
      return Difference(description: "found \(a.dataType)\(a.shape); expected \(b.dataType)\(b.shape)")
    }
    let (x, y) = (NumericElements.doubles(of: a), NumericElements.doubles(of: b))
    let length = max(b.shape.last ?? 1, 1) * (b.dataType.isComplex ? 2 : 1)
    var row = 0
    while row * length < y.count {
      let elements = row * length..<min((row + 1) * length, y.count)
      let bound = bound(for: y[elements], of: b.dataType) * slack
      for index in elements where x[index] != y[index] && !(x[index].isNaN && y[index].isNaN) {
        let error = abs(x[index] - y[index])
        if error <= bound && x[index].isFinite && y[index].isFinite { continue }
        return Difference(
          description: "element \(index - elements.lowerBound) of row \(row): found \(x[index]), expected \(y[index]) "
            + "within \(bound)")
      }
      row += 1
    }
    return nil
  }

  /// The relative error that a type allows; nil for floats of a byte or less, which may be off by one step.
  static func unit(of dataType: DataType) -> Double? {
    switch dataType {
    case .float64, .complex128: 1e-9
    case .float32, .complex64: 1e-5
    case .float16: 2e-3
    // Two units in the last place of seven bits.
    case .bfloat16: 0x1p-6
    default: nil
    }
  }

  private static func bound(for row: ArraySlice<Double>, of dataType: DataType) -> Double {
    guard let unit = unit(of: dataType) else { return 1 }
    return unit * row.reduce(0) { $1.isFinite ? max($0, abs($1)) : $0 }
  }
}
