// What flows into products: Σ x·xᵀ and Σ |x| over samples, computed by the engine beside the model's own nodes. Of the
// samples nothing but these sums is kept; what does not fit the memory at once is summed in another pass over them.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor

/// The rows that a matrix of weights is multiplied with.
struct MomentSource {
  enum Rows {
    /// The numbers along an axis of the value.
    case axis(Int)
    /// The windows of a convolution, each group of channels by itself: channels first, as its weights have them.
    case windows(convolution: Node, kernel: [Int])
  }

  let value: ValueID
  let rows: Rows
  /// Numbers of a row.
  let depth: Int
  /// Parts of the channels with sums of their own.
  var groups = 1

  /// Bytes of Σ x·xᵀ; nil if they cannot be counted.
  var byteCount: Int? {
    let (square, overflow) = depth.multipliedReportingOverflow(by: depth)
    let (bytes, isLarger) = square.multipliedReportingOverflow(by: 4 * groups)
    return overflow || isLarger ? nil : bytes
  }
}

/// The sums over all rows x, of `depth` numbers, that a source had.
package struct ActivationMoments: Sendable {
  package let depth: Int
  /// Σ x·xᵀ, [groups, depth, depth].
  package var products: [Float]
  /// Σ |x|, [groups, depth].
  package var magnitudes: [Float]
  /// Samples that it is of.
  package var samples = 0

  /// The sums over the rows of both.
  func adding(_ other: ActivationMoments) -> ActivationMoments {
    var sum = self
    for index in products.indices { sum.products[index] += other.products[index] }
    for index in magnitudes.indices { sum.magnitudes[index] += other.magnitudes[index] }
    sum.samples += other.samples
    return sum
  }

  fileprivate init(_ source: MomentSource) {
    depth = source.depth
    products = [Float](repeating: 0, count: source.groups * depth * depth)
    magnitudes = [Float](repeating: 0, count: source.groups * depth)
  }
}

/// Runs a model over samples and sums up what it hands to products.
struct MomentCollector {
  private let graph: Graph
  private let surroundings: RunSurroundings
  private let budget: Int
  private let parts: Int
  private let part: (Int) -> Int

  /// - Parameters:
  ///   - budget: bytes that sums, and the results of one run, may take.
  ///   - parts: sums that are kept apart.
  ///   - part: to which of them a sample goes, by its number from 0.
  init(
    _ graph: Graph, in surroundings: RunSurroundings, budget: Int, parts: Int = 1,
    part: @escaping (Int) -> Int = { _ in 0 }
  ) {
    (self.graph, self.surroundings, self.parts, self.part) = (graph, surroundings, parts, part)
    // The rest is for the model and the values of a run.
    self.budget = min(budget, (surroundings.memory?.available ?? .max) / 2)
  }

  /// Calls `body` with the sums of some sources by their position, one for each part, until all were among them. Those
  /// whose sums alone pass the budget are left out.
  func collect(
    _ sources: [MomentSource], over samples: any CalibrationData, progress: (String) -> Void,
    _ body: ([Int: [ActivationMoments]]) throws(CompressionError) -> Void
  ) throws {
    let passes = passes(sources)
    for (index, pass) in passes.enumerated() {
      let what = passes.count > 1 ? "statistics \(index + 1) of \(passes.count)" : "statistics"
      let all = samples.sampleCount.map { " of \($0)" } ?? ""
      // What is charged for the sums is credited when they have been used.
      let bytes = pass.reduce(0) { $0 + parts * (sources[$1].byteCount ?? 0) }
      let reservation = try surroundings.reserve(bytes, for: "sums of what flows into products")
      try body(try sums(of: pass.map { sources[$0] }, pass, over: samples) { progress("\(what): sample \($0)\(all)") })
      withExtendedLifetime(reservation) {}
    }
  }

  /// The positions of the sources that are summed together: a result of a run and the sums that it is added to.
  private func passes(_ sources: [MomentSource]) -> [[Int]] {
    var passes: [[Int]] = []
    var room = 0
    for (index, source) in sources.enumerated() {
      guard let bytes = source.byteCount, bytes <= budget / (parts + 1) else { continue }
      if bytes * (parts + 1) > room {
        passes.append([])
        room = budget
      }
      passes[passes.count - 1].append(index)
      room -= bytes * (parts + 1)
    }
    return passes
  }

  private func sums(
    of sources: [MomentSource], _ positions: [Int], over samples: any CalibrationData, _ progress: (Int) -> Void
  ) throws -> [Int: [ActivationMoments]] {
    let run = try GraphRun(try graphOfSums(sources), in: surroundings)
    var sums = sources.map { source in (0..<parts).map { _ in ActivationMoments(source) } }
    var count = 0
    try samples.forEachSample { sample in
      let part = self.part(count)
      count += 1
      progress(count)
      let results = try run.outputs(for: sample, number: count)
      for index in sums.indices {
        guard let products = results[2 * index].tensor, let magnitudes = results[2 * index + 1].tensor else { continue }
        try checkFinite(magnitudes, sources[index].value, count)
        add(products, to: &sums[index][part].products)
        add(magnitudes, to: &sums[index][part].magnitudes)
        sums[index][part].samples += 1
      }
    }
    if count == 0 { throw CompressionError.noSamples }
    return Dictionary(uniqueKeysWithValues: zip(positions, sums))
  }

  // MARK: - The graph of the sums

  /// The graph with the sums of one run as its outputs: for each source Xᵀ·X, then the column sums of |X|.
  private func graphOfSums(_ sources: [MomentSource]) throws(CompressionError) -> Graph {
    let builder = GraphBuilder(continuing: graph, inference: InferenceDriver(registry: .standard))
    builder.graph.outputs = []
    builder.graph.outputDeclarations = []
    do throws(OperatorError) {
      for source in sources {
        let name = builder.graph[source.value].name
        let rows = try rows(of: source, in: builder)
        // [rows, groups, depth] as [groups, depth, rows] by [groups, rows, depth]; one group has no axis.
        let isOne = source.groups == 1
        let left = try builder.apply(
          OperatorID("Transpose"), name: "\(name)/turned", [rows], [("perm", .ints(isOne ? [1, 0] : [1, 2, 0]))])
        let right =
          isOne
          ? rows
          : try builder.apply(
            OperatorID("Transpose"), name: "\(name)/groups", [rows], [("perm", .ints([1, 0, 2]))])
        let products = try builder.apply(OperatorID("MatMul"), name: "\(name)/products", [left, right])
        let sizes = try builder.apply(OperatorID("Abs"), name: "\(name)/sizes", [rows])
        let axes = builder.addConstant(Tensor([0], shape: [1]))
        let magnitudes = try builder.apply(
          OperatorID("ReduceSum"), name: "\(name)/magnitudes", [sizes, axes], [("keepdims", .int(0))])
        builder.graph.outputs += [products, magnitudes]
      }
    } catch {
      throw CompressionError(error)
    }
    return builder.graph
  }

  /// A value as [rows, groups, depth], or [rows, depth] where there is one group.
  private func rows(of source: MomentSource, in builder: GraphBuilder) throws(OperatorError) -> ValueID {
    let name = builder.graph[source.value].name
    var (value, axis) = (source.value, -1)
    switch source.rows {
    case .axis(let position): axis = position
    case .windows(let convolution, let kernel):
      value = try windows(of: source, convolution, kernel, in: builder)
      axis = 1
    }
    if let rank = builder.shape(value)?.count, axis >= 0, axis != rank - 1 {
      let order = (0..<rank).filter { $0 != axis } + [axis]
      value = try builder.apply(OperatorID("Transpose"), name: "\(name)/last", [value], [("perm", .ints(order))])
    }
    let extents = source.groups == 1 ? [-1, source.depth] : [-1, source.groups, source.depth]
    let shape = builder.addConstant(Tensor(extents, shape: [extents.count]))
    return try builder.apply(OperatorID("Reshape"), name: "\(name)/rows", [value, shape])
  }

  /// The windows of a convolution as channels of its result, by a convolution that takes one element each.
  private func windows(
    of source: MomentSource, _ convolution: Node, _ kernel: [Int], in builder: GraphBuilder
  ) throws(OperatorError) -> ValueID {
    let size = kernel.reduce(1, *)
    let channels = source.groups * source.depth / max(size, 1)
    var ones = [Float](repeating: 0, count: channels * size * size)
    for row in 0..<channels * size { ones[row * size + row % size] = 1 }
    let weights = builder.addConstant(Tensor(ones, shape: Shape([channels * size, 1] + kernel)))
    let name = builder.graph[source.value].name
    var attributes = convolution.attributes.entries.filter { $0.name != "group" }.map { ($0.name, $0.value) }
    attributes.append(("group", .int(channels)))
    return try builder.apply(convolution.op, name: "\(name)/windows", [source.value, weights], attributes)
  }

  // MARK: - Sums

  private func checkFinite(_ tensor: Tensor, _ value: ValueID, _ sample: Int) throws(CompressionError) {
    guard let numbers = tensor.elements(as: Float.self), !numbers.allSatisfy(\.isFinite) else { return }
    throw CompressionError(
      .invalidSample, "with sample \(sample) the value '\(graph[value].name)' is not finite; expected finite numbers",
      remedy: "Look for NaN and infinity in the sample, and for overflows in the model")
  }

  private func add(_ tensor: Tensor, to sums: inout [Float]) {
    let piece = 1 << 16
    let count = sums.count
    precondition(tensor.count == count, "a sum has another size than the values that it is of")
    // Parts write to different pieces.
    sums.withUnsafeMutableBufferPointer { sums in
      tensor.withElements(Float.self) { numbers in
        guard let sums = sums.baseAddress else { return }
        surroundings.pool.run(parts: (count + piece - 1) / piece) { part in
          for index in part * piece..<min((part + 1) * piece, count) { sums[index] += numbers[index] }
        }
      }
    }
  }
}
