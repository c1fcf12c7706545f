// Which of the two integers beside it each weight gets, when what counts is the error of the product on samples.
// Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, 2020.

import ApusGraph
import ApusTensor

/// What adaptive rounding did for a weight.
public struct RoundingOutcome: Sendable, Hashable {
  /// The ratio of signal to noise of the product, in decibels, on samples that the rounding was not fitted to: with the
  /// nearest integers, and with the best that were found. Infinite without noise.
  public let nearestDecibels: Double
  public let adaptiveDecibels: Double

  /// Whether it was kept: only where it is better.
  public var isKept: Bool { adaptiveDecibels > nearestDecibels }
}

/// Weights whose integers were chosen for the error of their products.
package struct AdaptiveRounding {
  /// By the weights, with the axis that counts outputs.
  private var codes: [WeightKey: WeightCodes] = [:]
  private var outcomes: [WeightKey: RoundingOutcome] = [:]

  /// The integers that are kept for a weight; nil: the nearest are as good, or nothing is known.
  ///
  /// - Parameter leastScales: what the scale of each output is at least; empty: whatever they are.
  func codes(of weights: Tensor, _ axes: WeightTrait.Axes, leastScales: [Float] = []) -> WeightCodes? {
    guard let found = codes[WeightKey(weights, depthAxis: axes.outputs)] else { return nil }
    for (index, least) in leastScales.enumerated() where found.scales[index % found.scales.count] < least { return nil }
    return found
  }

  func outcome(for weights: Tensor, _ axes: WeightTrait.Axes) -> RoundingOutcome? {
    outcomes[WeightKey(weights, depthAxis: axes.outputs)]
  }

  /// One weight, and what it is multiplied with.
  private struct Site {
    var key: WeightKey
    var name: String
    var tensor: Tensor
    var axes: WeightTrait.Axes
    var sources: [MomentSource]
  }

  /// Of four samples that many, from the second on, are for judging.
  private static let period = 4
  private static let judging = 1
  /// Bytes that sums of activations may take at a time.
  private static let statisticsMemory = 2 << 30

  /// Finds integers for the weights of units, from what flows into them on `data`.
  ///
  /// - Parameters:
  ///   - graph: that of the units, as it runs on the samples.
  ///   - progress: is told what is being done.
  /// - Throws: `CompressionError`, and what `data` throws.
  init(
    _ units: QuantizationUnits, in graph: Graph, _ editor: borrowing GraphEditor, _ options: QuantizationOptions,
    on data: any CalibrationData, _ surroundings: RunSurroundings, progress: (String) -> Void
  ) throws {
    let sites = Self.sites(units, in: editor)
    let sources = sites.flatMap(\.sources)
    var owners: [Int] = []
    for (index, site) in sites.enumerated() { owners += site.sources.map { _ in index } }
    let fitting = try RoundingFit(options, in: surroundings)
    let collector = MomentCollector(graph, in: surroundings, budget: Self.statisticsMemory, parts: 2) {
      $0 % Self.period == Self.judging ? 1 : 0
    }
    try collector.collect(sources, over: data, progress: progress) { (sums) throws(CompressionError) in
      for (index, site) in sites.enumerated() {
        let known = sums.keys.filter { owners[$0] == index }.sorted().compactMap { sums[$0] }
        guard var moments = known.first else { continue }
        for other in known.dropFirst() { moments = zip(moments, other).map { $0.adding($1) } }
        guard moments[1].samples > 0 else {
          throw CompressionError(
            .invalidSample, "adaptive rounding is fitted to some samples and judged by others; there is one sample",
            remedy: "Give at least two")
        }
        progress("rounding '\(site.name)'")
        let found = try fitting.fit(site.tensor, site.axes, name: site.name, fitted: moments[0], judged: moments[1])
        outcomes[site.key] = found.outcome
        if found.outcome.isKept { codes[site.key] = found.codes }
      }
    }
  }

  /// The weights of convolutions and products of matrices, each once.
  private static func sites(_ units: QuantizationUnits, in graph: borrowing GraphEditor) -> [Site] {
    var sites: [Site] = []
    var positions: [WeightKey: Int] = [:]
    for unit in units.units {
      guard case .product(let axes) = unit.kind, let data = unit.operands.first, graph.constant(data) == nil,
        let trait = graph.schema(of: graph.op(of: unit.node))?.weights,
        let tensor = graph.constant(graph[unit.node].inputs[trait.weights]),
        let source = source(unit.node, data, tensor, axes, in: graph)
      else { continue }
      let key = WeightKey(tensor, depthAxis: axes.outputs)
      if let known = positions[key] {
        sites[known].sources.append(source)
        continue
      }
      positions[key] = sites.count
      let name = graph[unit.node].name
      sites.append(
        Site(
          key: key, name: name.isEmpty ? graph.name(of: unit.output) : name, tensor: tensor, axes: axes,
          sources: [source]))
    }
    return sites
  }

  /// The rows that a weight is multiplied with; nil where they are none: of transposed convolutions.
  private static func source(
    _ id: NodeID, _ data: ValueID, _ weights: Tensor, _ axes: WeightTrait.Axes, in graph: borrowing GraphEditor
  ) -> MomentSource? {
    let node = graph[id]
    if case .images? = graph.schema(of: node.op)?.layout {
      guard axes.outputs == 0, weights.rank > 2 else { return nil }
      return MomentSource(
        value: data, rows: .windows(convolution: node, kernel: Array(weights.shape.dims[2...])),
        depth: weights.count / max(weights.shape[0], 1), groups: axes.groups)
    }
    guard weights.rank == 2, axes.groups == 1 else { return nil }
    return MomentSource(value: data, rows: .axis(axes.data), depth: weights.shape[axes.inputs])
  }
}

/// Chooses the integers of single weights.
private struct RoundingFit {
  private let options: QuantizationOptions
  private let surroundings: RunSurroundings
  private let optimizer: RoundingOptimizer
  private let errors: ProductErrors

  /// Scales that are tried, as parts of those that span all weights, down to the last of these.
  private static let scaleSteps = 24
  private static let leastScale: Float = 0.5

  init(_ options: QuantizationOptions, in surroundings: RunSurroundings) throws(CompressionError) {
    (self.options, self.surroundings) = (options, surroundings)
    optimizer = try RoundingOptimizer(on: surroundings.pool)
    errors = try ProductErrors(on: surroundings.pool)
  }

  /// The integers with the least error on the samples that they were fitted to, and what that is worth on the others.
  func fit(
    _ tensor: Tensor, _ axes: WeightTrait.Axes, name: String, fitted: ActivationMoments, judged: ActivationMoments
  ) throws(CompressionError) -> (codes: WeightCodes, outcome: RoundingOutcome) {
    let depth = fitted.depth
    let bytes = RoundingOptimizer.workingBytes(rows: tensor.count / max(depth, 1), depth: depth, withMoments: true)
    let reservation = try surroundings.reserve(bytes, for: "rounding the weights of '\(name)'")
    defer { withExtendedLifetime(reservation) {} }
    let numbers = tensor.elements(as: Float.self) ?? []
    let axis = options.isPerChannel ? axes.outputs : nil
    let nearest = WeightCodes(numbers, shape: tensor.shape, axis: axis, options.weightOptions)
    let layout = RowLayout(tensor.shape, axes, groups: fitted.products.count / max(depth * depth, 1))
    let rows = layout.rows(of: numbers)
    var best = (codes: nearest, error: Double.infinity)
    for start in candidates(nearest, numbers, layout, fitted) {
      let codes = try rounded(start, rows, layout, fitted.products, depth)
      let error = try noise(codes, rows, layout, fitted.products, depth)
      if error < best.error { best = (codes, error) }
    }
    let signal = try energy(rows, layout, judged.products, depth)
    return (
      best.codes,
      RoundingOutcome(
        nearestDecibels: decibels(signal: signal, noise: try noise(nearest, rows, layout, judged.products, depth)),
        adaptiveDecibels: decibels(signal: signal, noise: try noise(best.codes, rows, layout, judged.products, depth)))
    )
  }

  /// The nearest integers with the scales that span all weights, and with those of the least error in the output.
  private func candidates(
    _ nearest: WeightCodes, _ numbers: [Float], _ layout: RowLayout, _ moments: ActivationMoments
  ) -> [WeightCodes] {
    guard options.hasSymmetricWeights, options.weightOptions.greatest == nil, nearest.axis != nil else {
      return [nearest]
    }
    let rows = layout.rows(of: numbers)
    var scales = nearest.scales
    for row in scales.indices {
      let values = rows[row * layout.depth..<(row + 1) * layout.depth]
      let group = row / layout.rowsOfGroup * layout.depth * layout.depth
      let weights = (0..<layout.depth).map { max(moments.products[group + $0 * (layout.depth + 1)], 0) }
      scales[row] = Self.scale(values, weights, nearest.scales[row], nearest.type)
    }
    let narrowed = WeightCodes(
      numbers, shape: nearest.shape, axis: nearest.axis, type: nearest.type, scales: scales,
      zeroPoints: nearest.zeroPoints)
    return [nearest, narrowed]
  }

  /// The part of a scale with the least sum of squared errors, each weighted.
  private static func scale(
    _ values: ArraySlice<Float>, _ weights: [Float], _ whole: Float, _ type: QuantizedType
  ) -> Float {
    var best = (scale: whole, error: Double.infinity)
    for step in 0...scaleSteps {
      let scale = whole * (1 - (1 - leastScale) * Float(step) / Float(scaleSteps))
      let code = TensorCode(type: type, scale: scale, zeroPoint: type.isSigned ? 0 : (type.greatest + 1) / 2)
      var error = 0.0
      for (value, weight) in zip(values, weights) {
        let rest = Double(code.number(code.integer(value)) - value)
        error += Double(weight) * rest * rest
      }
      if error < best.error { best = (scale, error) }
    }
    return best.scale
  }

  /// The integers beside the weights, group by group of a convolution, with the scales of `start`.
  private func rounded(
    _ start: WeightCodes, _ rows: [Float], _ layout: RowLayout, _ moments: [Float], _ depth: Int
  ) throws(CompressionError) -> WeightCodes {
    let least = start.type.least
    let grid = WeightGrid(
      rows: layout.rowsOfGroup, depth: depth, bits: start.type.bits, block: nil, hasZeroPoints: true)
    let integers = layout.rows(of: start.integers)
    var found = integers
    for group in 0..<layout.groups {
      let range = group * layout.rowsOfGroup * depth..<(group + 1) * layout.rowsOfGroup * depth
      var parameters = QuantizedMatrix(grid)
      for row in 0..<layout.rowsOfGroup {
        let scale = start.scales.count == 1 ? 0 : group * layout.rowsOfGroup + row
        parameters.scales[row] = start.scales[scale]
        parameters.zeros[row] = UInt8(start.zeroPoints[scale] - least)
      }
      parameters.codes = integers[range].map { UInt8(Int($0) - least) }
      var settings = RoundingOptimizer.Options()
      (settings.parameters, settings.keepsNeighbours) = (parameters, true)
      let square = depth * depth
      let matrix = try optimizer.optimize(
        Array(rows[range]), grid, moments: Array(moments[group * square..<(group + 1) * square]), settings
      ).matrix
      let greatest = options.weightOptions.greatest ?? .max
      for (index, code) in matrix.codes.enumerated() {
        found[range.lowerBound + index] = Int32(min(max(Int(code) + least, -greatest), greatest))
      }
    }
    var codes = start
    codes.integers = layout.elements(of: found)
    return codes
  }

  private func noise(
    _ codes: WeightCodes, _ rows: [Float], _ layout: RowLayout, _ moments: [Float], _ depth: Int
  ) throws(CompressionError) -> Double {
    let found = layout.rows(of: codes.numbers)
    return try energy(zip(rows, found).map { $0 - $1 }, layout, moments, depth)
  }

  private func energy(
    _ rows: [Float], _ layout: RowLayout, _ moments: [Float], _ depth: Int
  ) throws(CompressionError) -> Double {
    var sum = 0.0
    let (part, square) = (layout.rowsOfGroup * depth, depth * depth)
    for group in 0..<layout.groups {
      sum += try errors.energy(
        Array(rows[group * part..<(group + 1) * part]),
        moments: Array(moments[group * square..<(group + 1) * square]), depth: depth)
    }
    return sum
  }
}

/// Weights as a row for each output, the groups of a convolution behind each other.
private struct RowLayout {
  let groups, rowsOfGroup, depth: Int
  /// Whether outputs are the second axis of a matrix.
  private let isTurned: Bool

  init(_ shape: Shape, _ axes: WeightTrait.Axes, groups: Int) {
    let outputs = shape[axes.outputs]
    (self.groups, rowsOfGroup) = (groups, outputs / max(groups, 1))
    depth = shape.elementCount / max(outputs, 1)
    isTurned = axes.outputs != 0
  }

  func rows<Element>(of elements: [Element]) -> [Element] {
    isTurned ? transposed(elements, depth, groups * rowsOfGroup) : elements
  }

  func elements<Element>(of rows: [Element]) -> [Element] {
    isTurned ? transposed(rows, groups * rowsOfGroup, depth) : rows
  }
}
