// The report of a quantization as programs read it: the JSON of `apus quantize`, of C and of Python.

import ApusCompression

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// What a quantization to integers did and cost, in a form that encodes.
package struct QuantizationSummary: Encodable {
  package struct Row: Encodable {
    package var name, op, input, output, inputType, weightType: String
    package var scale: Float?
    package var zeroPoint: Int?
    package var low, high: Float?
    package var weightSqnr, sqnr, cosine, saturation, shareOfLoss: Double?
    package var rounding: Rounding?
  }
  /// Of the product, on samples that the rounding was not fitted to. null: without noise.
  package struct Rounding: Encodable {
    package var nearestSqnr, adaptiveSqnr: Double?
    package var isKept: Bool
  }
  package struct Kept: Encodable { package var name, op, reason: String }
  package struct Output: Encodable {
    package var name: String
    package var sqnr, cosine: Double?
    package var largestError: Float
  }
  package struct Rank: Encodable {
    package var name: String
    package var sqnr: Double
  }
  package struct Point: Encodable {
    package var nodesInFloat: Int
    package var quality: Double
    package var bytes: Int
  }

  package var model: String
  /// Where it was written; nil: nowhere yet.
  package var file: String?
  package var method: String
  package var calibrationSamples, measuredSamples, bytesBefore, bytesAfter, equalizedPairs, smoothedValues: Int
  package var nodes: [Row]
  package var kept: [Kept]
  package var outputs: [Output]
  package var ranking: [Rank]
  package var tradeOffs: [Point]
  let tensors: [QuantizationReport.CodedTensor]

  private enum CodingKeys: String, CodingKey {
    case model, file, method, calibrationSamples, measuredSamples, bytesBefore, bytesAfter, equalizedPairs
    case smoothedValues, nodes, kept, outputs, ranking, tradeOffs
  }

  package init(model: String, file: String?, report: QuantizationReport) {
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

  /// The nodes, those that add most noise first.
  package var worstNodes: [Row] { nodes.sorted { ($0.shareOfLoss ?? 0, $1.name) > ($1.shareOfLoss ?? 0, $0.name) } }

  /// The columns of tables of nodes.
  package static let header = [
    "node", "op", "input", "range", "weights", "weights dB", "SQNR dB", "cosine", "loss",
  ]

  /// The line of a node.
  package func cells(_ row: Row) -> [String] {
    let ends = [row.low, row.high].compactMap { $0.map { Printf.text("%.3g", Double($0)) } }
    let range = ends.count == 2 ? ends.joined(separator: " … ") : "–"
    return [
      row.name, row.op, row.inputType, range, row.weightType, QuantizationSummary.text(row.weightSqnr),
      QuantizationSummary.text(row.sqnr), QuantizationSummary.text(row.cosine, digits: 5),
      row.shareOfLoss.map { Printf.text("%.1f %%", 100 * $0) } ?? "–",
    ]
  }

  /// A number with so many digits behind the point.
  package static func text(_ number: Double?, digits: Int = 1) -> String {
    guard let number else { return "–" }
    if number.isInfinite { return "exact" }
    return Printf.text("%.\(digits)f", number)
  }

  package static func bytes(_ count: Int) -> String {
    count >= 1 << 20 ? Printf.text("%.1f MB", Double(count) / 1048576) : Printf.text("%.1f KB", Double(count) / 1024)
  }
}

/// Numbers as the C library writes them.
enum Printf {
  /// - Parameter format: with one place, for a double.
  static func text(_ format: String, _ number: Double) -> String {
    // The longest of all doubles has 309 digits before the point.
    let capacity = 400
    var text = [CChar](repeating: 0, count: capacity)
    withVaList([number]) { arguments in _ = vsnprintf(&text, capacity, format, arguments) }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
