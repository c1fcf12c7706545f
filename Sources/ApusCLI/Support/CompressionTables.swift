// Reports of weights in few bits, and of models in 16 bits, for people.

import Apus

extension WeightQuantizationReport {
  /// A line for each weight, those that stay float, and the sum.
  func show() throws {
    var rows = [["weight", "shape", "type", "block", "method", "SQNR dB", "output dB", "bytes"]]
    for weight in weights {
      rows.append([
        weight.weight.printable(), weight.shape.map { "\($0)" }.joined(separator: "x"), weight.type,
        "\(weight.block)", weight.method, Self.text(weight.signalToNoise),
        weight.outputSignalToNoise.map(Self.text) ?? "–", "\(weight.bytesAfter)",
      ])
    }
    try Console.print(table(rows))
    for weight in weights {
      if let note = weight.note { try Console.print("\(weight.weight.printable()): \(note)") }
    }
    for weight in kept {
      try Console.print(
        "\(weight.weight.printable()) of \(weight.node.printable()) kept in float because \(weight.reason.printable())")
    }
    try Console.print("\n\(weights.count) weights: \(bytesBefore) bytes became \(bytesAfter)")
  }

  private static func text(_ decibels: Double) -> String { "\((decibels * 100).rounded() / 100)" }
}

extension HalfConversionReport {
  /// What is not the same but for rounding, what stays float32, and the sum.
  func show() throws {
    for weight in weights {
      try Console.print(
        "\(weight.weight.printable()): of \(weight.elements) numbers up to \(weight.largest), \(weight.overflows) "
          + "overflow, \(weight.subnormals) lose digits, \(weight.zeros) become 0")
    }
    for value in activations {
      let part = (value.smallPart * 1000).rounded() / 10
      try Console.print("\(value.value.printable()): up to \(value.largest), \(part) % small, on the samples")
    }
    for node in kept {
      try Console.print(
        "\(node.node.printable()) (\(node.operator)) kept in float32 because \(node.reason.printable())")
    }
    try Console.print(
      "\n\(converted) nodes in 16 bits, \(casts) Casts; \(bytesBefore) bytes of weights became \(bytesAfter)")
  }
}
