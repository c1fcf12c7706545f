// The report of a quantization as a page: HTML with its pictures inside, and without links.

import ApusCompression

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

extension QuantizationSummary {
  private static let entities: [Character: String] = ["&": "&amp;", "<": "&lt;", ">": "&gt;", "\"": "&quot;"]

  private static func escaped(_ text: String) -> String {
    text.map { character in
      if let entity = entities[character] { return entity }
      let categories = character.unicodeScalars.map(\.properties.generalCategory)
      return categories.contains { $0 == .control || $0 == .format } ? "\u{FFFD}" : String(character)
    }.joined()
  }

  private static func rows(_ lines: [[String]]) -> String {
    lines.map { cells in "<tr>" + cells.map { "<td>\(escaped($0))</td>" }.joined() + "</tr>" }.joined(separator: "\n")
  }

  /// The page.
  package var page: String {
    let head = QuantizationSummary.header.map { "<th>\($0)</th>" }.joined()
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
      \(QuantizationSummary.rows(worstNodes.map(cells)))</table>
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
      + "\(Printf.text("%.3g", low)) … \(Printf.text("%.3g", high))"
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
