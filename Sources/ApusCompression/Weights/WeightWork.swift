// The weights of a model on their way to few bits: each quantized once, with what is known of it.

import ApusGraph
import ApusRuntime
import ApusTensor

/// Quantizes weights, and notes what that cost.
struct WeightWork {
  /// A weight with all its uses.
  private struct Entry {
    var sites: [WeightSite]
    /// The values of the main graph that it is multiplied with.
    var activations: [ValueID]
  }

  private let options: WeightQuantizationOptions
  private let surroundings: RunSurroundings
  private var pool: WorkerPool { surroundings.pool }
  private let progress: (String) -> Void
  private let optimizer: RoundingOptimizer
  private let errors: ProductErrors
  private var pending: [WeightKey: Entry] = [:]
  private let order: [WeightKey]
  private(set) var weights: [WeightKey: QuantizedWeight] = [:]
  private var reports: [WeightKey: WeightQuantizationReport.Weight] = [:]
  private let nodeNames: [WeightKey: [String]]

  /// - Parameters:
  ///   - main: the sites of the graph itself.
  ///   - inner: those of the graphs inside its nodes.
  init(
    _ main: [WeightSite], _ inner: [WeightSite], _ options: WeightQuantizationOptions,
    _ surroundings: RunSurroundings, _ progress: @escaping (String) -> Void
  ) throws(CompressionError) {
    (self.options, self.surroundings, self.progress) = (options, surroundings, progress)
    optimizer = try RoundingOptimizer(on: surroundings.pool)
    errors = try ProductErrors(on: surroundings.pool)
    var order: [WeightKey] = []
    for (index, site) in (main + inner).enumerated() {
      if pending[site.key] == nil { order.append(site.key) }
      var entry = pending[site.key] ?? Entry(sites: [], activations: [])
      entry.sites.append(site)
      if index < main.count, let value = site.activation, !entry.activations.contains(value) {
        entry.activations.append(value)
      }
      pending[site.key] = entry
    }
    self.order = order
    nodeNames = pending.mapValues { $0.sites.map(\.nodeName) }
  }

  var isEmpty: Bool { order.isEmpty }

  /// What became of the weights, in the order of the graph.
  var report: [WeightQuantizationReport.Weight] { order.compactMap { reports[$0] } }

  /// Quantizes the weights that meet the values whose sums are known now.
  mutating func quantize(with sums: [ValueID: ActivationMoments]) throws(CompressionError) {
    for key in order {
      guard let entry = pending[key] else { continue }
      let known = entry.activations.compactMap { sums[$0] }
      guard let first = known.first else { continue }
      try quantize(key, entry, known.dropFirst().reduce(first) { $0.adding($1) }.products)
    }
  }

  /// Quantizes what is left, without activations.
  mutating func quantizeRest() throws(CompressionError) {
    for key in order {
      if let entry = pending[key] { try quantize(key, entry, nil) }
    }
  }

  private mutating func quantize(
    _ key: WeightKey, _ entry: Entry, _ moments: [Float]?
  ) throws(CompressionError) {
    pending[key] = nil
    guard let site = entry.sites.first else { return }
    progress("quantizing '\(site.name)' (\(reports.count + 1) of \(order.count))")
    if surroundings.cancellation?.isCancelled ?? false {
      throw CompressionError(.limitExceeded, "the work was cancelled")
    }
    let reservation = try surroundings.reserve(
      RoundingOptimizer.workingBytes(rows: site.rows, depth: site.depth, withMoments: moments != nil),
      for: "the work on the weight '\(site.name)'")
    defer { withExtendedLifetime(reservation) {} }
    let rows = site.rowsOfDepth()
    let names = [site.name] + (nodeNames[key] ?? []) + entry.sites.map(\.op.description)
    try check(rows, site)
    let grid = site.grid(options, names: names)
    let (matrix, method, note) = try matrix(rows, grid, moments, isTable: site.role == .table)
    let type = options.type(for: names)
    let isStandard = options.format == .standard
    let weight = QuantizedWeight(
      grid: grid, blocks: isStandard ? nil : try PackedBlocks(matrix),
      form: isStandard
        ? try DequantizedForm(matrix, shape: key.shape, depthAxis: key.depthAxis, type: type) : nil,
      isFactor: entry.sites.contains { $0.role == .product })
    weights[key] = weight
    reports[key] = .init(
      weight: site.name, nodes: nodeNames[key] ?? [], shape: Array(key.shape), type: type.rawValue, block: grid.block,
      hasZeroPoints: grid.hasZeroPoints, method: method.rawValue,
      signalToNoise: matrix.signalToNoise(of: rows),
      outputSignalToNoise: try moments.map { (moments) throws(CompressionError) in
        try errors.signalToNoise(of: rows, matrix, moments: moments)
      }, bytesBefore: site.tensor.byteCount, bytesAfter: weight.byteCount, note: note)
  }

  private func check(_ rows: [Float], _ site: WeightSite) throws(CompressionError) {
    guard let index = rows.firstIndex(where: { !$0.isFinite }) else { return }
    throw CompressionError(
      .nothingToDo,
      "the weight '\(site.name)' holds \(rows[index]), which no scale reaches; expected finite numbers",
      remedy: "Exclude it: --exclude '\(site.name)'", nodePath: [site.nodeName])
  }

  private func matrix(
    _ rows: [Float], _ grid: WeightGrid, _ moments: [Float]?, isTable: Bool
  ) throws(CompressionError) -> (QuantizedMatrix, WeightQuantizationOptions.Method, note: String?) {
    let importance = moments.map { RoundingOptimizer.importance(of: $0, grid.depth) }
    switch options.method {
    case .halfQuadratic: return (QuantizedMatrix(halfQuadratic: rows, grid, on: pool), .halfQuadratic, nil)
    case .compensated:
      guard let moments else { break }
      var settings = RoundingOptimizer.Options()
      settings.damping = options.damping
      settings.ordersByActivation = options.ordersByActivation
      settings.sweeps = options.descentSweeps
      let (matrix, damping) = try optimizer.optimize(rows, grid, moments: moments, settings)
      return (matrix, .compensated, damping == options.damping ? nil : "the damping is \(damping)")
    case .activationAware where moments != nil:
      return (QuantizedMatrix(nearest: rows, grid, importance: importance, on: pool), .activationAware, nil)
    default: break
    }
    let note =
      !options.method.wantsSamples
      ? nil : isTable ? "a table has no activations" : "nothing is known of its activations"
    return (QuantizedMatrix(nearest: rows, grid, importance: importance, on: pool), .roundToNearest, note)
  }
}

extension QuantizedWeight {
  /// Bytes of codes, scales and zero points.
  var byteCount: Int {
    let tensors: [Tensor?] =
      if let blocks { [blocks.codes, blocks.scales, blocks.zeros] } else { [form?.codes, form?.scales, form?.zeros] }
    return tensors.reduce(0) { $0 + ($1?.byteCount ?? 0) }
  }
}
