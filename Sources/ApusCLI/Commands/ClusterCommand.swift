// apus cluster: weights whose elements share a few values.

import Apus
import ApusCompression
import ApusGraph
import ArgumentParser

struct ClusterCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "cluster",
    abstract: "Lets the elements of each weight share a few values, so that the file packs well.",
    discussion: """
      The values are found by k-means, each weight by itself. The model stays plain ONNX of the same size, which gzip \
      or zstd make small. With --indices the file itself is smaller: a weight is Gather(codebook, Cast(positions)), \
      which runtimes that fold constants turn into a plain weight when they load it; others compute it in every run.
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var comparison: ComparisonArguments

  @Option(name: .shortAndLong, help: "Where to save the clustered model.", completion: .file(extensions: ["onnx"]))
  var output: String

  @Option(parsing: .unconditional, help: "The values that the elements of a weight share: 2 to 65536.")
  var codebook: Int

  @Option(help: "Only weights that this pattern fits. May be repeated.")
  var include: [String] = []

  @Option(help: "Not the weights that this pattern fits. May be repeated.")
  var exclude: [String] = []

  @Flag(help: "Let an error count as often as the element is large.")
  var byMagnitude = false

  @Flag(help: "Keep zeros as they are, and let nothing else become 0: for a model that was pruned.")
  var keepZeros = false

  @Flag(help: "Write positions and codebooks in place of weights, where that is smaller.")
  var indices = false

  @Option(help: "The operator set to save for. [default: that of the model, or the lowest that holds it]")
  var opset: Int?

  @Flag(help: "Print JSON.")
  var json = false

  private struct Report: Encodable {
    var model, file: String
    var clustering: ClusteringReport
    /// Sums over all weights.
    var bytes, huffmanBytes, indexBytes: Int
    var comparison: ModelComparison
  }

  func validate() throws {
    try OptionValues.check(codebook, "--codebook", 2...65536)
    try CompressionOutput.check(output, opset, model)
  }

  func run() throws {
    var options = ClusteringOptions(codebook: codebook)
    options.isWeightedByMagnitude = byMagnitude
    options.keepsZeros = keepZeros
    options.writesIndices = indices
    options.selection = WeightSelection(include: include, exclude: exclude)
    let source = try CompressionSource(path: model.model, options: model.options())
    let (made, report) = try WeightClusterer(options).cluster(source) { Console.progress($0) }
    let comparison = try comparison.comparing(model, source, made, output: output, opset: opset)
    let whole = Report(
      model: model.name, file: output, clustering: report, bytes: report.bytes, huffmanBytes: report.huffmanBytes,
      indexBytes: report.indexBytes, comparison: comparison)
    if json { return try printJSON(whole) }
    let rows = report.weights.map {
      [
        $0.weight.printable(limit: 60), "\(Shape($0.shape))", "\($0.codebook)", ValueText.format($0.entropy),
        "\($0.bytes)", "\($0.huffmanBytes)", "\($0.indexBytes)", ValueText.format($0.sqnr) + " dB",
      ]
    }
    let header = ["weight", "shape", "values", "entropy (bits)", "bytes", "Huffman", "positions", "SQNR"]
    try Console.print(table([header] + rows))
    try Console.print(
      "\nweights: \(report.bytes) bytes, \(report.huffmanBytes) in Huffman's code, \(report.indexBytes) as positions")
    try Console.print("\n\(comparison.text)\n\(output.printable()) written")
  }
}
