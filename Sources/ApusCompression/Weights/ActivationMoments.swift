// What flows into products: Σ x·xᵀ and the mean of |x|, computed by the engine beside the model's own nodes.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor

/// Samples that can be read several times.
package struct CompressionSamples: Sendable {
  package let count: Int
  /// The inputs of the model, in its order, for a sample from 0 up to `count`.
  package let inputs: @Sendable (_ sample: Int) throws(CompressionError) -> [Value]

  package init(count: Int, inputs: @escaping @Sendable (_ sample: Int) throws(CompressionError) -> [Value]) {
    (self.count, self.inputs) = (count, inputs)
  }

  /// The inputs of a sample, which must fit a graph.
  func inputs(_ sample: Int, of graph: Graph) throws(CompressionError) -> [Value] {
    let values = try inputs(sample)
    guard values.count == graph.inputs.count else {
      throw CompressionError(
        .invalidSample, "sample \(sample) has \(values.count) inputs; expected \(graph.inputs.count)")
    }
    for (input, value) in zip(graph.inputs, values) {
      guard let wanted = graph.fact(input).tensor else { continue }
      let (type, shape) = (value.tensor?.dataType, value.tensor.map { [Dim]($0.shape) })
      let fits =
        wanted.shape.map { dims in
          shape.map { $0.count == dims.count && !zip($0, dims).contains { $0.isSurelyDifferent(from: $1) } } ?? false
        } ?? true
      if type == wanted.dataType, fits { continue }
      throw CompressionError(
        .invalidSample,
        "input '\(graph[input].name)' of sample \(sample) is \(ValueFact(value)); expected \(graph.fact(input))")
    }
    return values
  }
}

/// The sums over all rows x, of `depth` numbers, that a value had.
package struct ActivationMoments: Sendable {
  package let depth: Int
  /// Σ x·xᵀ, [depth, depth].
  package var products: [Float]
  /// Σ |x|, [depth].
  package var magnitudes: [Float]

  fileprivate init(depth: Int) {
    self.depth = depth
    products = [Float](repeating: 0, count: depth * depth)
    magnitudes = [Float](repeating: 0, count: depth)
  }
}

/// Runs a model over samples and sums up what it hands to products.
struct MomentCollector {
  private let graph: Graph
  private let surroundings: RunSurroundings
  private let budget: Int

  /// - Parameter budget: bytes that sums, and the results of one run, may take.
  init(_ graph: Graph, in surroundings: RunSurroundings, budget: Int) {
    (self.graph, self.surroundings, self.budget) = (graph, surroundings, budget)
  }

  /// Calls `body` with the sums of some values, until all of `values` (with their last extents) were among them. Those
  /// whose sums alone pass the budget are left out.
  func collect(
    _ values: [(value: ValueID, depth: Int)], over samples: CompressionSamples, progress: (String) -> Void,
    _ body: ([ValueID: ActivationMoments]) throws(CompressionError) -> Void
  ) throws(CompressionError) {
    if samples.count == 0 {
      throw CompressionError(.invalidSample, "there are no samples", remedy: "Give at least one")
    }
    let groups = groups(values)
    for (index, group) in groups.enumerated() {
      let what = groups.count > 1 ? "statistics \(index + 1) of \(groups.count)" : "statistics"
      try body(try sums(of: group, over: samples) { progress("\(what): sample \($0 + 1) of \(samples.count)") })
    }
  }

  /// A result of a run and the sum that it is added to take 4 bytes an element each.
  private func groups(_ values: [(value: ValueID, depth: Int)]) -> [[(value: ValueID, depth: Int)]] {
    var groups: [[(value: ValueID, depth: Int)]] = []
    var room = 0
    for entry in values {
      let (bytes, overflow) = entry.depth.multipliedReportingOverflow(by: entry.depth * 8)
      if overflow || bytes > budget { continue }
      if bytes > room {
        groups.append([])
        room = budget
      }
      groups[groups.count - 1].append(entry)
      room -= bytes
    }
    return groups
  }

  private func sums(
    of values: [(value: ValueID, depth: Int)], over samples: CompressionSamples, _ progress: (Int) -> Void
  ) throws(CompressionError) -> [ValueID: ActivationMoments] {
    let run = try GraphRun(try graphOfSums(values), in: surroundings)
    var sums = values.map { ActivationMoments(depth: $0.depth) }
    for sample in 0..<samples.count {
      progress(sample)
      let results = try run.outputs(for: try samples.inputs(sample, of: graph))
      for index in sums.indices {
        guard let products = results[2 * index].tensor, let magnitudes = results[2 * index + 1].tensor else { continue }
        try checkFinite(magnitudes, values[index].value, sample)
        add(products, to: &sums[index].products)
        add(magnitudes, to: &sums[index].magnitudes)
      }
    }
    return Dictionary(uniqueKeysWithValues: zip(values.map(\.value), sums))
  }

  /// The graph with the sums of one run as its outputs: for each value Xᵀ·X, then the column sums of |X|.
  private func graphOfSums(_ values: [(value: ValueID, depth: Int)]) throws(CompressionError) -> Graph {
    let builder = GraphBuilder(continuing: graph, inference: InferenceDriver(registry: .standard))
    builder.graph.outputs = []
    builder.graph.outputDeclarations = []
    do throws(OperatorError) {
      for (value, depth) in values {
        let name = builder.graph[value].name
        let shape = builder.addConstant(Tensor([-1, depth], shape: [2]))
        let rows = try builder.apply(OperatorID("Reshape"), name: "\(name)/rows", [value, shape])
        let turned = try builder.apply(
          OperatorID("Transpose"), name: "\(name)/turned", [rows], [("perm", .ints([1, 0]))])
        let products = try builder.apply(OperatorID("MatMul"), name: "\(name)/products", [turned, rows])
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
