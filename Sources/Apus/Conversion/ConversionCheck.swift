// Whether what was written computes what was read: both run on the same inputs.

import ApusFormats
import ApusGraph
import ApusTensor

/// How far an output of the model that was written is from that of the one that was read.
package struct OutputDifference: Sendable, Encodable {
  package let output: String
  package let elements: Int
  /// Elements that are not the same number.
  package let differing: Int
  /// The largest difference, and that over the largest magnitude of the output. NaN where only one has a number.
  package let largestError, relativeError: Double
}

/// What a conversion is verified with.
package struct ConversionCheck {
  /// What one run takes, and what it should give where that is known from elsewhere.
  package struct Sample {
    package var inputs: [String: Value]
    package var outputs: [String: Value]

    package init(inputs: [String: Value], outputs: [String: Value] = [:]) {
      (self.inputs, self.outputs) = (inputs, outputs)
    }
  }

  /// The runs, for the model that was read.
  let samples: (Model) throws -> [Sample]
  /// The largest error over the largest magnitude of an output that is none.
  let tolerance: Double
  package static let usualTolerance = 1e-4

  package init(
    tolerance: Double = ConversionCheck.usualTolerance, samples: @escaping (Model) throws -> [Sample]
  ) {
    (self.tolerance, self.samples) = (tolerance, samples)
  }

  /// The largest differences of each output over all runs.
  ///
  /// - Throws: `LoadError` if a difference is above the tolerance, or an output is of another shape.
  func compare(_ source: Model, _ made: Model, _ name: String) throws -> [OutputDifference] {
    let found = try differences(source, made)
    if let worst = found.first(where: { !($0.relativeError <= tolerance) }) {
      throw LoadError(
        .cannotWrite,
        "output '\(worst.output)' of the model that is written differs by \(worst.largestError), "
          + "\(worst.relativeError) of its largest magnitude; at most \(tolerance) was expected",
        remedy: "If that is exact enough, say so with --tolerance"
      ).inFile(name)
    }
    return found
  }

  private func differences(_ source: Model, _ made: Model) throws -> [OutputDifference] {
    var found: [String: OutputDifference] = [:]
    var order: [String] = []
    for sample in try samples(source) {
      let read = try source.run(values: sample.inputs)
      let outputs = try made.run(values: Self.fitting(sample.inputs, made))
      let expected =
        source.outputs.map { ($0.name, $0.name, read[$0.name]) }
        + sample.outputs.sorted { $0.key < $1.key }.map { ("\($0.key) (given)", $0.key, Optional($0.value)) }
      for (title, name, value) in expected {
        guard let a = value, let b = outputs[name] else {
          throw LoadError(.cannotWrite, "the model that is written has no output '\(name)'")
        }
        for difference in try Self.differences(title, a, b) {
          if let known = found[difference.output] {
            found[difference.output] = known.merged(with: difference)
          } else {
            order.append(difference.output)
            found[difference.output] = difference
          }
        }
      }
    }
    return order.compactMap { found[$0] }
  }

  /// The inputs with floats of the width that the model takes.
  private static func fitting(_ inputs: [String: Value], _ model: Model) throws(TensorError) -> [String: Value] {
    var fitting = inputs
    for input in model.inputs {
      guard case .tensor(let tensor)? = inputs[input.name], let wanted = input.dataType, wanted != tensor.dataType,
        tensor.dataType.isFloat, let cast = try cast(tensor, to: wanted)
      else { continue }
      fitting[input.name] = .tensor(cast)
    }
    return fitting
  }

  /// nil for other types than floats of 16 bits and more.
  private static func cast(_ tensor: Tensor, to type: DataType) throws(TensorError) -> Tensor? {
    if tensor.dataType.bits < 16 { return nil }
    let numbers = NumericElements.doubles(of: tensor)
    return switch type {
    case .float16: try Tensor(numbers.map { Float16($0) }, validating: tensor.shape)
    case .bfloat16: try Tensor(numbers.map { BFloat16(Float($0)) }, validating: tensor.shape)
    case .float32: try Tensor(numbers.map { Float($0) }, validating: tensor.shape)
    case .float64: try Tensor(numbers, validating: tensor.shape)
    default: nil
    }
  }

  private static func differences(_ name: String, _ a: Value, _ b: Value) throws(LoadError) -> [OutputDifference] {
    switch (a, b) {
    case (.tensor(let a), .tensor(let b)): return [try difference(name, a, b)]
    case (.sequence(let a, _), .sequence(let b, _)):
      guard a.count == b.count else {
        throw LoadError(.cannotWrite, "output '\(name)' has \(a.count) elements as read and \(b.count) as written")
      }
      var found: [OutputDifference] = []
      for (index, pair) in zip(a, b).enumerated() { found += try differences("\(name)[\(index)]", pair.0, pair.1) }
      return found
    case (.optional(let a?, _), .optional(let b?, _)): return try differences(name, a, b)
    case (.optional(nil, _), .optional(nil, _)): return []
    case (.map(let a), .map(let b)):
      return try [difference("\(name), keys", a.keys, b.keys)]
        + differences(
          name, .sequence(a.values, elementType: a.valueType), .sequence(b.values, elementType: b.valueType))
    default: throw LoadError(.cannotWrite, "output '\(name)' is \(a.type) as read and \(b.type) as written")
    }
  }

  private static func difference(_ name: String, _ a: Tensor, _ b: Tensor) throws(LoadError) -> OutputDifference {
    guard a.shape == b.shape else {
      throw LoadError(.cannotWrite, "output '\(name)' is \(a.shape) as read and \(b.shape) as written")
    }
    if let left = a.strings, let right = b.strings {
      let count = zip(left, right).count { $0 != $1 }
      let error: Double = count == 0 ? 0 : .infinity
      return OutputDifference(
        output: name, elements: left.count, differing: count, largestError: error, relativeError: error)
    }
    let (left, right) = (NumericElements.doubles(of: a), NumericElements.doubles(of: b))
    var (largest, magnitude, differing) = (0.0, 0.0, 0)
    for (x, y) in zip(left, right) {
      if x.isFinite { magnitude = max(magnitude, abs(x)) }
      if x == y || x.isNaN && y.isNaN { continue }
      differing += 1
      let error = abs(x - y)
      largest = error.isNaN || largest.isNaN ? .nan : max(largest, error)
    }
    return OutputDifference(
      output: name, elements: left.count, differing: differing, largestError: largest,
      relativeError: largest == 0 ? 0 : largest / max(magnitude, .leastNormalMagnitude))
  }
}

extension OutputDifference {
  fileprivate func merged(with other: OutputDifference) -> OutputDifference {
    func larger(_ a: Double, _ b: Double) -> Double { a.isNaN || b.isNaN ? .nan : max(a, b) }
    return OutputDifference(
      output: output, elements: elements + other.elements, differing: differing + other.differing,
      largestError: larger(largestError, other.largestError),
      relativeError: larger(relativeError, other.relativeError))
  }
}
