// The report of a quantization as people and programs read it.

import Apus
import ApusCompression
import ApusFormats
import Foundation

struct QuantizationSummary: Encodable {
  struct Row: Encodable {
    var name, op, input, output, inputType, weightType: String
    var scale: Float?
    var zeroPoint: Int?
    var low, high: Float?
    var weightSqnr, sqnr, cosine, saturation, shareOfLoss: Double?
    var rounding: Rounding?
  }
  /// Of the product, on samples that the rounding was not fitted to. null: without noise.
  struct Rounding: Encodable {
    var nearestSqnr, adaptiveSqnr: Double?
    var isKept: Bool
  }
  struct Kept: Encodable { var name, op, reason: String }
  struct Output: Encodable {
    var name: String
    var sqnr, cosine: Double?
    var largestError: Float
  }
  struct Rank: Encodable {
    var name: String
    var sqnr: Double
  }
  struct Point: Encodable {
    var nodesInFloat: Int
    var quality: Double
    var bytes: Int
  }

  var model, file, method: String
  var calibrationSamples, measuredSamples, bytesBefore, bytesAfter, equalizedPairs, smoothedValues: Int
  var nodes: [Row]
  var kept: [Kept]
  var outputs: [Output]
  var ranking: [Rank]
  var tradeOffs: [Point]
  private let tensors: [QuantizationReport.CodedTensor]

  private enum CodingKeys: String, CodingKey {
    case model, file, method, calibrationSamples, measuredSamples, bytesBefore, bytesAfter, equalizedPairs
    case smoothedValues, nodes, kept, outputs, ranking, tradeOffs
  }

  init(model: String, file: String, report: QuantizationReport) {
    (self.model, self.file, method) = (model, file, report.method.rawValue)
    (calibrationSamples, measuredSamples) = (report.calibrationSamples, report.measuredSamples)
    (bytesBefore, bytesAfter) = (report.bytesBefore, report.bytesAfter)
    (equalizedPairs, smoothedValues) = (report.equalizedPairs, report.smoothedValues)
    tensors = report.tensors
    let codes = Dictionary(report.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    // Noise relative to the signal: what a node adds to that of the model, as far as nodes do not depend on each other.
    let losses = report.nodes.map { node in node.outputNoise?.decibels.map { pow(10, -$0 / 10) } ?? 0 }
    let all = losses.reduce(0, +)
    nodes = zip(report.nodes, losses).map { node, loss in
      let code = codes[node.input]
      return Row(
        name: node.name, op: node.op, input: node.input, output: node.output,
        inputType: code?.type.rawValue ?? QuantizedType.uint8.rawValue, weightType: node.weightType.rawValue,
        scale: code?.scale, zeroPoint: code?.zeroPoint, low: code?.statistics?.minimum, high: code?.statistics?.maximum,
        weightSqnr: node.weightNoise.decibels, sqnr: node.outputNoise?.decibels, cosine: node.outputNoise?.cosine,
        saturation: node.saturation, shareOfLoss: all > 0 ? loss / all : nil,
        rounding: node.rounding.map {
          Rounding(nearestSqnr: $0.nearestDecibels, adaptiveSqnr: $0.adaptiveDecibels, isKept: $0.isKept)
        })
    }
    kept = report.kept.map { Kept(name: $0.name, op: $0.op, reason: $0.reason) }
    outputs = report.outputs.map {
      Output(
        name: $0.name, sqnr: $0.noise.decibels, cosine: $0.noise.cosine, largestError: $0.noise.largestError)
    }
    ranking = report.sensitivities.map { Rank(name: $0.name, sqnr: $0.decibels) }
    tradeOffs = report.tradeOffs.map { Point(nodesInFloat: $0.nodesInFloat, quality: $0.quality, bytes: $0.bytes) }
  }

  // MARK: - Text

  private static func text(_ number: Double?, digits: Int = 1) -> String {
    guard let number else { return "–" }
    if number.isInfinite { return "exact" }
    return String(format: "%.\(digits)f", number)
  }

  private static let header = ["node", "op", "input", "range", "weights", "weights dB", "SQNR dB", "cosine", "loss"]

  private func cells(_ row: Row) -> [String] {
    let range = row.low.flatMap { low in row.high.map { String(format: "%.3g … %.3g", low, $0) } } ?? "–"
    return [
      String(row.name.printable().suffix(48)), row.op, row.inputType, range, row.weightType,
      QuantizationSummary.text(row.weightSqnr), QuantizationSummary.text(row.sqnr),
      QuantizationSummary.text(row.cosine, digits: 5),
      row.shareOfLoss.map { String(format: "%.1f %%", 100 * $0) } ?? "–",
    ]
  }

  func print(top: Int) throws {
    let worst = nodes.sorted { ($0.shareOfLoss ?? 0, $1.name) > ($1.shareOfLoss ?? 0, $0.name) }
    if top > 0, !worst.isEmpty {
      try Console.print(table([QuantizationSummary.header] + worst.prefix(top).map(cells)))
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
    try Console.print("\(file.printable()) written")
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

  private static func bytes(_ count: Int) -> String {
    count >= 1 << 20
      ? String(format: "%.1f MB", Double(count) / 1048576) : String(format: "%.1f KB", Double(count) / 1024)
  }

  // MARK: - HTML

  func writeHTML(to path: String) throws { try OutputFile.write(Array(page.utf8), to: path) }

  private static func escaped(_ text: String) -> String {
    text.replacingOccurrences(of: "&", with: "&amp;").replacingOccurrences(of: "<", with: "&lt;")
      .replacingOccurrences(of: ">", with: "&gt;").replacingOccurrences(of: "\"", with: "&quot;")
  }

  private static func rows(_ lines: [[String]]) -> String {
    lines.map { cells in "<tr>" + cells.map { "<td>\(escaped($0))</td>" }.joined() + "</tr>" }.joined(separator: "\n")
  }

  private var page: String {
    let head = QuantizationSummary.header.map { "<th>\($0)</th>" }.joined()
    let losses = nodes.sorted { ($0.shareOfLoss ?? 0, $1.name) > ($1.shareOfLoss ?? 0, $0.name) }
    return """
      <!DOCTYPE html>
      <html lang="en"><head><meta charset="utf-8"><title>\(QuantizationSummary.escaped(model)): quantization</title>
      <style>
      body { font: 14px sans-serif; margin: 2em; color: #222 } table { border-collapse: collapse }
      td, th { padding: 2px 10px; text-align: right; border-bottom: 1px solid #ddd } td:first-child { text-align: left }
      .value { display: inline-block; margin: 0 1em 1em 0; width: 260px; font-size: 11px; overflow: hidden }
      </style></head><body>
      <h1>\(QuantizationSummary.escaped(model))</h1>
      <p>\(method) quantization, \(calibrationSamples) samples; constants \(QuantizationSummary.bytes(bytesBefore)) →
      \(QuantizationSummary.bytes(bytesAfter)); \(nodes.count) nodes on integers,
      \(kept.count) with weights in float.</p>
      <h2>Outputs</h2><table><tr><th>output</th><th>SQNR dB</th><th>cosine</th><th>largest error</th></tr>
      \(QuantizationSummary.rows(outputs.map { output in
        [
          output.name, QuantizationSummary.text(output.sqnr), QuantizationSummary.text(output.cosine, digits: 6),
          "\(output.largestError)",
        ]
      }))</table>
      \(tradeOffs.isEmpty ? "" : "<h2>Trade-off</h2>" + curve)
      <h2>Nodes, the worst first</h2><table><tr>\(head)</tr>
      \(QuantizationSummary.rows(losses.map(cells)))</table>
      <h2>In float</h2><table>\(QuantizationSummary.rows(kept.map { [$0.name, $0.op, $0.reason] }))</table>
      <h2>Values</h2>
      \(tensors.map(QuantizationSummary.picture).joined(separator: "\n"))
      </body></html>

      """
  }

  /// Quality over the bytes of the constants.
  private var curve: String {
    let (qualities, sizes) = (tradeOffs.map(\.quality).filter(\.isFinite), tradeOffs.map { Double($0.bytes) })
    guard let low = qualities.min(), let high = qualities.max(), let least = sizes.min(), let most = sizes.max() else {
      return ""
    }
    let dots = tradeOffs.filter(\.quality.isFinite).map { point in
      let x = 40 + 400 * (most > least ? (Double(point.bytes) - least) / (most - least) : 0.5)
      let y = 180 - 150 * (high > low ? (point.quality - low) / (high - low) : 0.5)
      return "<circle cx=\"\(x)\" cy=\"\(y)\" r=\"4\" fill=\"#36c\"><title>\(point.nodesInFloat) nodes in float: "
        + "\(point.quality), \(QuantizationSummary.bytes(point.bytes))</title></circle>"
    }
    return "<svg width=\"480\" height=\"210\"><line x1=\"40\" y1=\"190\" x2=\"460\" y2=\"190\" stroke=\"#888\"/>"
      + dots.joined() + "<text x=\"40\" y=\"206\" font-size=\"11\">\(QuantizationSummary.bytes(Int(least)))</text>"
      + "<text x=\"400\" y=\"206\" font-size=\"11\">\(QuantizationSummary.bytes(Int(most)))</text></svg>"
  }

  /// The distribution of a value, and the part of it that integers stand for.
  private static func picture(_ tensor: QuantizationReport.CodedTensor) -> String {
    let low = Double(Float(tensor.type.least - tensor.zeroPoint) * tensor.scale)
    let high = Double(Float(tensor.type.greatest - tensor.zeroPoint) * tensor.scale)
    let label =
      "\(escaped(tensor.name))<br>\(tensor.type.rawValue), scale \(tensor.scale), zero point \(tensor.zeroPoint), "
      + String(format: "%.3g … %.3g", low, high)
    guard let statistics = tensor.statistics, let histogram = statistics.histogram else {
      return "<div class=\"value\">\(label)</div>"
    }
    let (first, last) = (
      min(Double(statistics.minimum), low), max(Double(statistics.maximum), high)
    )
    let columns = 120
    var heights = [Double](repeating: 0, count: columns)
    for bin in histogram.counts.indices where histogram.counts[bin] > 0 {
      let place = (histogram.centre(bin) - first) / max(last - first, 1e-30)
      heights[min(max(Int(place * Double(columns)), 0), columns - 1)] += Double(histogram.counts[bin])
    }
    let most = log1p(heights.max() ?? 1)
    let bars = heights.enumerated().map { column, height -> String in
      let tall = most > 0 ? 60 * log1p(height) / most : 0
      return "<rect x=\"\(2 * column)\" y=\"\(60 - tall)\" width=\"2\" height=\"\(tall)\" fill=\"#69c\"/>"
    }
    func place(_ value: Double) -> Double { 240 * (value - first) / max(last - first, 1e-30) }
    let marks = [low, high].map {
      "<line x1=\"\(place($0))\" y1=\"0\" x2=\"\(place($0))\" y2=\"62\" stroke=\"#c33\"/>"
    }
    return
      "<div class=\"value\"><svg width=\"242\" height=\"62\">\(bars.joined())\(marks.joined())</svg><br>\(label)</div>"
  }
}
