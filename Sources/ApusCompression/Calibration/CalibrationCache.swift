// What a calibration has seen, as a file: to quantize the same model in other ways without its samples.

import ApusFormats
import ApusGraph
import ApusTensor

/// The statistics of a calibration. Encoded, they are one JSON object.
public struct CalibrationCache: Sendable, Hashable {
  /// By the name of the value.
  public internal(set) var statistics: [String: TensorStatistics]
  public internal(set) var samples: Int
  /// Tells the graph whose values they are of.
  package let fingerprint: String

  /// By the name of the value, where biases are corrected.
  package let channels: [String: ChannelStatistics]

  package init(
    statistics: [String: TensorStatistics], channels: [String: ChannelStatistics], samples: Int, fingerprint: String
  ) {
    (self.statistics, self.channels) = (statistics, channels)
    (self.samples, self.fingerprint) = (samples, fingerprint)
  }

  /// Digest of the operators of a graph and of those inside its nodes, of the names of their values, and of their
  /// constants.
  package static func fingerprint(of graph: Graph) -> String {
    var text = ""
    graph.forEachGraph { graph in
      for node in graph.nodes {
        text += "\(node.op)"
        for value in node.inputs + node.outputs {
          guard let value else {
            text += " -"
            continue
          }
          text += " \(graph[value].name)" + (graph.constant(value).map { digest($0) } ?? "")
        }
        text += "\n"
      }
    }
    let bytes = Array(text.utf8)
    return SHA256.digest(bytes.span).map { byte in
      let digits = String(byte, radix: 16)
      return digits.count == 1 ? "0" + digits : digits
    }.joined()
  }

  /// Type, shape, and a sum of the elements that tells models with other weights: they are not of an enemy.
  private static func digest(_ tensor: Tensor) -> String {
    var sum: UInt64 = 0
    if tensor.dataType != .string {
      tensor.withUnsafeBytes { bytes in
        for place in stride(from: 0, to: bytes.count, by: 8) {
          var word: UInt64 = 0
          withUnsafeMutableBytes(of: &word) { $0.copyBytes(from: bytes[place..<min(place + 8, bytes.count)]) }
          sum = (sum ^ word) &* 0x9E37_79B9_7F4A_7C15
          sum ^= sum >> 29
        }
      }
    }
    return "\(tensor.dataType)\(tensor.shape)\(sum)"
  }
}

extension CalibrationCache: Codable {
  private enum Key: String, CodingKey { case format, version, fingerprint, samples, tensors, channels }

  private static let format = "apus-calibration"
  private static let version = 1

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    guard try container.decode(String.self, forKey: .format) == CalibrationCache.format,
      try container.decode(Int.self, forKey: .version) == CalibrationCache.version
    else {
      throw CompressionError(
        .invalidFile, "this is no calibration of version \(CalibrationCache.version)",
        remedy: "Calibrate again and store it with --save-calibration")
    }
    fingerprint = try container.decode(String.self, forKey: .fingerprint)
    samples = try container.decode(Int.self, forKey: .samples)
    statistics = try container.decode([String: TensorStatistics].self, forKey: .tensors)
    channels = try container.decodeIfPresent([String: ChannelStatistics].self, forKey: .channels) ?? [:]
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(CalibrationCache.format, forKey: .format)
    try container.encode(CalibrationCache.version, forKey: .version)
    try container.encode(fingerprint, forKey: .fingerprint)
    try container.encode(samples, forKey: .samples)
    try container.encode(statistics, forKey: .tensors)
    if !channels.isEmpty { try container.encode(channels, forKey: .channels) }
  }
}

extension TensorStatistics: Codable {
  private enum Key: String, CodingKey {
    case minimum, maximum, sumOfMinima, sumOfMaxima, samples, elements, exponent, bins, firstBin, counts
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    func number(_ key: Key) throws -> Double { try container.decode(Double.self, forKey: key) }
    func count(_ key: Key) throws -> Int { try container.decode(Int.self, forKey: key) }
    func fault(_ text: String) -> CompressionError {
      CompressionError(.invalidFile, "the calibration is broken: \(text)")
    }
    let (low, high) = (Float(try number(.minimum)), Float(try number(.maximum)))
    let (samples, elements) = (try count(.samples), try count(.elements))
    guard low <= high, low.isFinite, high.isFinite, samples > 0, elements > 0 else {
      throw fault("a range of \(low) to \(high) in \(samples) samples")
    }
    var histogram: Histogram?
    if let bins = try container.decodeIfPresent(Int.self, forKey: .bins) {
      let (first, counts) = (try count(.firstBin), try container.decode([Int].self, forKey: .counts))
      guard bins > 0, bins % 2 == 0, bins <= TensorStatistics.mostBins, first >= 0, counts.count <= bins,
        first <= bins - counts.count, counts.allSatisfy({ $0 >= 0 && $0 <= elements })
      else { throw fault("a histogram of \(bins) bins with \(counts.count) counts") }
      var all = [Int](repeating: 0, count: bins)
      all.replaceSubrange(first..<first + counts.count, with: counts)
      histogram = Histogram(exponent: try count(.exponent), counts: all)
    }
    self.init(
      minimum: low, maximum: high, sumOfMinima: try number(.sumOfMinima), sumOfMaxima: try number(.sumOfMaxima),
      samples: samples, elements: elements, histogram: histogram)
  }

  private static let mostBins = 1 << 20

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(Double(minimum), forKey: .minimum)
    try container.encode(Double(maximum), forKey: .maximum)
    try container.encode(sumOfMinima, forKey: .sumOfMinima)
    try container.encode(sumOfMaxima, forKey: .sumOfMaxima)
    try container.encode(samples, forKey: .samples)
    try container.encode(elements, forKey: .elements)
    guard let histogram else { return }
    let first = histogram.counts.firstIndex { $0 > 0 } ?? 0
    let end = (histogram.counts.lastIndex { $0 > 0 } ?? -1) + 1
    try container.encode(histogram.exponent, forKey: .exponent)
    try container.encode(histogram.counts.count, forKey: .bins)
    try container.encode(first, forKey: .firstBin)
    try container.encode(Array(histogram.counts[first..<max(first, end)]), forKey: .counts)
  }
}
