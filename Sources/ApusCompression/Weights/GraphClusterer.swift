// Clustering: weights whose elements share a few values, so that files compress well. Han et al., arXiv 1510.00149.

import ApusGraph
import ApusOperators
import ApusTensor

/// How weights are clustered.
public struct ClusteringOptions: Sendable {
  /// The values that the elements of a weight share: 2 to 65536.
  public var codebook: Int
  /// True: an error counts as often as the element is large.
  public var isWeightedByMagnitude = false
  /// True: elements that are 0 stay 0, and others do not become 0.
  public var keepsZeros = false
  /// True: weights are written as positions in their codebook, `Gather(codebook, Cast(positions))`, where that takes
  /// fewer bytes. Runtimes that fold constants make plain weights of it when they load the model.
  public var writesIndices = false
  public var selection = WeightSelection()

  public init(codebook: Int) { self.codebook = codebook }

  static let codebooks = 2...65536
}

/// What clustering did.
public struct ClusteringReport: Sendable, Encodable {
  public struct Weight: Sendable, Encodable {
    public let weight, node, `operator`: String
    public let shape: [Int]
    public let elements: Int
    /// Values that elements have now.
    public let codebook: Int
    /// Bits an element, at least.
    public let entropy: Double
    /// Bytes of the elements before; of their positions in Huffman's code; of positions of one width; the last two with
    /// the codebook.
    public let bytes, huffmanBytes, indexBytes: Int
    /// Decibels of the weights over their error.
    public let sqnr: Double
    public let maximumError: Double
    public let isIndexed: Bool
  }

  public internal(set) var weights: [Weight] = []
  /// The sums over `weights`.
  public var bytes: Int { weights.reduce(0) { $0 + $1.bytes } }
  public var huffmanBytes: Int { weights.reduce(0) { $0 + $1.huffmanBytes } }
  public var indexBytes: Int { weights.reduce(0) { $0 + $1.indexBytes } }
}

/// Clusters the weights of graphs.
package struct GraphClusterer: Sendable {
  private let options: ClusteringOptions
  private let registry: OperatorRegistry
  private let progress: @Sendable (String) -> Void

  package init(
    _ options: ClusteringOptions, registry: OperatorRegistry = .standard,
    progress: @escaping @Sendable (String) -> Void = { _ in }
  ) throws(CompressionError) {
    (self.options, self.registry, self.progress) = (options, registry, progress)
    guard ClusteringOptions.codebooks.contains(options.codebook) else {
      let range = ClusteringOptions.codebooks
      throw CompressionError(
        .invalidOption, "a codebook of \(options.codebook) values; expected \(range.lowerBound) to \(range.upperBound)")
    }
  }

  /// Clusters the weights of the graph, each by itself. The graph stays as it is where an error is thrown.
  package func cluster(_ graph: inout Graph) throws(CompressionError) -> ClusteringReport {
    let all = graph.allWeights(registry: registry).map(\.weight)
    try options.selection.check(all)
    guard all.contains(where: { options.selection.contains($0) }) else {
      throw CompressionError(.nothingToDo, "the model has no weights of products to cluster")
    }
    var report = ClusteringReport()
    var changed = graph
    var indexed: [ValueID: (codebook: Tensor, positions: Tensor)] = [:]
    let own = Set(graph.productWeights(registry: registry))
    let index = GraphIndex(graph)
    do throws(OperatorError) {
      _ = try changed.replaceWeights(registry: registry) { (weight, tensor) throws(OperatorError) in
        guard options.selection.contains(weight) else { return nil }
        progress("clustering \(weight.name)")
        let result = try Clustered(weight, tensor, options)
        // An output keeps its name, and graphs inside nodes their constants.
        let mayIndex = options.writesIndices && own.contains(weight) && !index.isOutput[weight.value.index]
        let isIndexed = mayIndex && result.indexBytes < tensor.byteCount
        if isIndexed { indexed[weight.value] = (result.codebook, try result.positionTensor()) }
        report.weights.append(result.row(weight, tensor, isIndexed: isIndexed))
        return result.tensor
      }
      if !indexed.isEmpty { changed = try changed.readingCodebooks(indexed, registry: registry) }
    } catch {
      throw CompressionError(error)
    }
    graph = changed
    return report
  }
}

/// A weight after clustering.
private struct Clustered {
  let tensor: Tensor
  let codebook: Tensor
  private let positions: [Int]
  private let counts: [Int]
  private let shape: Shape
  private let cost: SymbolCost
  private let sqnr, maximumError: Double

  init(_ weight: WeightReference, _ tensor: Tensor, _ options: ClusteringOptions) throws(OperatorError) {
    guard let numbers = WeightNumbers.read(tensor), numbers.allSatisfy(\.isFinite) else {
      throw .invalid(
        "the weight '\(weight.name)' of '\(weight.node)' holds what is no finite number",
        remedy: "Leave it out with exclude")
    }
    let clusters = ScalarClusters(
      numbers, count: options.codebook, byMagnitude: options.isWeightedByMagnitude, keepsZero: options.keepsZeros)
    positions = clusters.positions(of: numbers, keepsZero: options.keepsZeros)
    shape = tensor.shape
    do throws(TensorError) {
      codebook = try WeightNumbers.write(
        clusters.centers, like: Tensor(placeholder: tensor.dataType, shape: [clusters.centers.count]))
      let values = WeightNumbers.read(codebook) ?? clusters.centers
      self.tensor = try WeightNumbers.write(positions.map { values[$0] }, like: tensor)
      var counts = [Int](repeating: 0, count: values.count)
      var (signal, noise, largest) = (0.0, 0.0, 0.0)
      for (number, position) in zip(numbers, positions) {
        counts[position] += 1
        let error = Double(number) - Double(values[position])
        signal += Double(number) * Double(number)
        noise += error * error
        largest = max(largest, abs(error))
      }
      self.counts = counts
      cost = SymbolCost(counts)
      (sqnr, maximumError) = (Decibels.ratio(signal, noise), largest)
    } catch {
      throw .invalid("\(error)")
    }
  }

  private static let smallestCodebook = 256

  /// Bytes of positions of one or two bytes, and of the codebook.
  var indexBytes: Int {
    positions.count * (codebook.count <= Self.smallestCodebook ? 1 : 2) + codebook.byteCount
  }

  func positionTensor() throws(OperatorError) -> Tensor {
    do throws(TensorError) {
      return codebook.count <= Self.smallestCodebook
        ? try Tensor(positions.map { UInt8($0) }, validating: shape)
        : try Tensor(positions.map { UInt16($0) }, validating: shape)
    } catch {
      throw .invalid("\(error)")
    }
  }

  func row(_ weight: WeightReference, _ tensor: Tensor, isIndexed: Bool) -> ClusteringReport.Weight {
    // The table of a canonical code: one byte, its length, for each value.
    let table = codebook.byteCount + codebook.count
    return ClusteringReport.Weight(
      weight: weight.name, node: weight.node, operator: weight.op.description, shape: shape.dims,
      elements: positions.count, codebook: counts.count { $0 > 0 }, entropy: cost.entropy, bytes: tensor.byteCount,
      huffmanBytes: (cost.huffmanBits + 7) / 8 + table, indexBytes: indexBytes, sqnr: sqnr,
      maximumError: maximumError, isIndexed: isIndexed)
  }
}

extension Graph {
  /// The graph in which constants are looked up in their codebooks.
  fileprivate func readingCodebooks(
    _ indexed: [ValueID: (codebook: Tensor, positions: Tensor)], registry: OperatorRegistry
  ) throws(OperatorError) -> Graph {
    var editor = GraphEditor(self, inference: InferenceDriver(registry: registry, keepsFaultySubgraphs: true))
    for (value, parts) in indexed.sorted(by: { $0.key.index < $1.key.index }) {
      let name = editor.name(of: value)
      let (codebook, positions) = (editor.addConstant(parts.codebook), editor.addConstant(parts.positions))
      // Gather takes no narrower integers.
      let indices = try editor.apply(
        OperatorID("Cast"), name: name + "/Cast", [positions], [("to", .int(Int(DataType.int32.rawValue)))],
        before: editor.firstNode)
      let cast = editor.firstNode
      let weight = try editor.apply(
        OperatorID("Gather"), name: name + "/Gather", [codebook, indices], [("axis", .int(0))],
        before: cast.flatMap { editor.node(after: $0) })
      editor.replaceUses(of: value, with: weight)
      editor.forgetUnusedConstant(value)
    }
    try editor.settle()
    try editor.verify()
    return editor.finish()
  }
}
