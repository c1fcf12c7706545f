// Compares a found value with the expected one, element by element.

import Apus
import ApusTensor

/// Where and how a found value differs from the expected one.
public struct Difference: Sendable, CustomStringConvertible {
  public let description: String
}

/// Compares values the way the runner of the ONNX backend suite does.
public enum Comparison {
  /// nil if `found` is as near to `expected` as it must be; without a tolerance only types and shapes count.
  public static func difference(found: Value, expected: Value, tolerance: Tolerance?) -> Difference? {
    switch (found, expected) {
    case (.tensor(let found), .tensor(let expected)):
      return difference(found: found, expected: expected, tolerance: tolerance)
    case (.sequence(let found, _), .sequence(let expected, _)):
      guard found.count == expected.count else {
        return Difference(description: "\(found.count) elements in the sequence; expected \(expected.count)")
      }
      for (index, pair) in zip(found, expected).enumerated() {
        if let inner = difference(found: pair.0, expected: pair.1, tolerance: tolerance) {
          return Difference(description: "element \(index) of the sequence: \(inner)")
        }
      }
      return nil
    case (.optional(let found, _), .optional(let expected, _)):
      switch (found, expected) {
      case (nil, nil): return nil
      case (let found?, let expected?): return difference(found: found, expected: expected, tolerance: tolerance)
      default: return Difference(description: "the optional is \(found == nil ? "empty" : "not empty")")
      }
    case (.optional(let found?, _), _): return difference(found: found, expected: expected, tolerance: tolerance)
    case (_, .optional(let expected?, _)): return difference(found: found, expected: expected, tolerance: tolerance)
    case (.map(let found), .map(let expected)):
      let (found, expected) = (sorted(found), sorted(expected))
      if let keys = difference(found: found.keys, expected: expected.keys, tolerance: tolerance) {
        return Difference(description: "keys of the map: \(keys)")
      }
      return difference(
        found: .sequence(found.values, elementType: found.valueType),
        expected: .sequence(expected.values, elementType: expected.valueType), tolerance: tolerance)
    default: return Difference(description: "found \(found.type); expected \(expected.type)")
    }
  }

  /// A map has no order: the same one with ascending keys.
  private static func sorted(_ map: MapValue) -> MapValue {
    func ordered<Key: Comparable>(_ keys: [Key], _ make: ([Key]) -> Tensor) -> MapValue {
      let order = keys.indices.sorted { keys[$0] < keys[$1] }
      return MapValue(
        keys: make(order.map { keys[$0] }), values: order.map { map.values[$0] }, valueType: map.valueType)
    }
    if let strings = map.keys.strings { return ordered(strings) { Tensor(strings: $0, shape: Shape([$0.count])) } }
    if let integers = map.keys.elements(as: Int64.self) { return ordered(integers) { Tensor($0) } }
    return map
  }

  /// nil if `found` looks like a sample of the distribution that `expected` is a sample of: the same type and shape, no
  /// element outside the range of the expected ones, and means within four standard errors of each other. For cases
  /// whose expectation was drawn without a seed.
  public static func difference(found: Value, sampleLike expected: Value) -> Difference? {
    guard let found = found.tensor, let expected = expected.tensor, found.dataType == expected.dataType,
      found.shape == expected.shape
    else { return Difference(description: "found \(found.type); expected \(expected.type)") }
    let a = NumericElements.doubles(of: found)
    let b = NumericElements.doubles(of: expected)
    guard let low = b.min(), let high = b.max() else { return nil }
    if let outside = a.first(where: { $0 < low || $0 > high }) {
      return Difference(description: "\(outside) is outside \(low) to \(high)")
    }
    let count = Double(b.count)
    let (meanA, meanB) = (a.reduce(0, +) / count, b.reduce(0, +) / count)
    let variance = b.reduce(0) { $0 + ($1 - meanB) * ($1 - meanB) } / max(count - 1, 1)
    let bound = 4 * (2 * variance / count).squareRoot()
    if abs(meanA - meanB) > bound { return Difference(description: "mean \(meanA); expected \(meanB) ± \(bound)") }
    return nil
  }

  private static func difference(found: Tensor, expected: Tensor, tolerance: Tolerance?) -> Difference? {
    guard found.dataType == expected.dataType, found.shape == expected.shape else {
      return Difference(
        description: "found \(found.dataType)\(found.shape); expected \(expected.dataType)\(expected.shape)")
    }
    guard var tolerance else { return nil }
    if let a = found.strings, let b = expected.strings {
      guard let index = a.indices.first(where: { a[$0] != b[$0] }) else { return nil }
      return Difference(description: "element \(index) is \"\(a[index])\"; expected \"\(b[index])\"")
    }
    // The suite's runner compares bfloat16 with at least this.
    if found.dataType == .bfloat16 { tolerance.relative = max(tolerance.relative, 0x1p-6) }
    // Expectations of float16 were rounded after every step of a NumPy expression: two units in the last place.
    if found.dataType == .float16 { tolerance.relative = max(tolerance.relative, 0x1p-9) }
    let a = NumericElements.doubles(of: found)
    let b = NumericElements.doubles(of: expected)
    var worst: (index: Int, error: Double)?
    var count = 0
    // Integers that Double does not hold are compared as they are.
    let exact = [.int64, .uint64].contains(found.dataType) && tolerance.relative == 0 && tolerance.absolute == 0
    let (words, others) = exact ? (bits(of: found), bits(of: expected)) : ([], [])
    for index in a.indices {
      let (x, y) = (a[index], b[index])
      if (x == y && (!exact || words[index] == others[index])) || (x.isNaN && y.isNaN) { continue }
      let error = abs(x - y)
      if error <= tolerance.absolute + tolerance.relative * abs(y), x.isFinite, y.isFinite { continue }
      count += 1
      let size = error.isNaN ? Double.infinity : error
      if worst == nil || size > worst!.error { worst = (index, size) }
    }
    guard let worst else { return nil }
    let isComplex = found.dataType.isComplex
    let position = position(isComplex ? worst.index / 2 : worst.index, in: found.shape)
    return Difference(
      description:
        "\(count) of \(a.count) elements differ; the worst at \(position): found \(a[worst.index]), expected "
        + "\(b[worst.index])")
  }

  /// The elements of a tensor of int64 or uint64 as they are.
  private static func bits(of tensor: Tensor) -> [UInt64] {
    tensor.elements(as: UInt64.self) ?? tensor.elements(as: Int64.self)?.map { UInt64(bitPattern: $0) } ?? []
  }

  private static func position(_ index: Int, in shape: Shape) -> String {
    var rest = index
    return "["
      + shape.strides.map { stride in
        defer { rest %= max(stride, 1) }
        return "\(rest / max(stride, 1))"
      }.joined(separator: ", ") + "]"
  }
}
