// The report of a quantization as people read it in a terminal.

import Apus

extension QuantizationSummary {
  private func printableCells(_ row: Row) -> [String] {
    var cells = cells(row)
    cells[0] = String(row.name.printable().suffix(48))
    return cells
  }

  func print(top: Int) throws {
    let worst = worstNodes
    if top > 0, !worst.isEmpty {
      try Console.print(table([QuantizationSummary.header] + worst.prefix(top).map(printableCells)))
      if worst.count > top { try Console.print("… \(worst.count - top) more; --top shows them") }
    }
    try printRounding()
    for kept in kept.prefix(top) {
      try Console.print("in float: \(kept.op) \(kept.name.printable()), because \(kept.reason.printable())")
    }
    for rank in ranking.prefix(top) {
      try Console.print("alone on integers: \(rank.name.printable()) \(QuantizationSummary.text(rank.sqnr)) dB")
    }
    for point in tradeOffs {
      try Console.print(
        "\(point.nodesInFloat) nodes in float: \(QuantizationSummary.text(point.quality, digits: 3)), "
          + "\(QuantizationSummary.bytes(point.bytes))")
    }
    try Console.print(
      "\n\(nodes.count) nodes on integers, \(kept.count) with weights in float; constants "
        + "\(QuantizationSummary.bytes(bytesBefore)) → \(QuantizationSummary.bytes(bytesAfter))")
    for output in outputs {
      try Console.print(
        "\(output.name.printable()): SQNR \(QuantizationSummary.text(output.sqnr)) dB, cosine "
          + "\(QuantizationSummary.text(output.cosine, digits: 6)), largest error "
          + "\(ValueText.format(Double(output.largestError))) on \(measuredSamples) samples")
    }
    if let file { try Console.print("\(file.printable()) written") }
  }

  /// How many weights are not the nearest integers, and what that gains.
  private func printRounding() throws {
    let tried = nodes.compactMap(\.rounding)
    if tried.isEmpty { return }
    let gains = tried.filter(\.isKept).compactMap { outcome in
      outcome.adaptiveSqnr.flatMap { found in outcome.nearestSqnr.map { found - $0 } }
    }.filter(\.isFinite)
    let mean = gains.reduce(0, +) / Double(max(gains.count, 1))
    try Console.print(
      "rounded adaptively: \(tried.count(where: \.isKept)) of \(tried.count) nodes, "
        + "\(QuantizationSummary.text(mean)) dB on average on samples that it was not fitted to")
  }
}
