// How large the values of a model become on samples: what must not be kept in 16 bits.

import ApusGraph
import ApusOperators
import ApusTensor

/// The largest magnitudes of values, and how many of their elements are small.
struct HalfRanges {
  struct Range {
    var largest: Float = 0
    /// The mean over samples of the part of elements that are below the normal numbers of the type.
    var smallPart: Double = 0
  }

  private(set) var ranges: [ValueID: Range] = [:]

  /// No samples: nothing is known.
  init() {}

  /// Runs a graph over samples, with the range of every value of float32 that a node computes as its outputs.
  init(
    _ graph: Graph, over samples: any CalibrationData, _ type: HalfConversionOptions.ElementType,
    in surroundings: RunSurroundings, progress: (String) -> Void
  ) throws {
    let values = graph.inputs + graph.nodes.flatMap(\.outputs).compactMap { $0 }
    let floats = values.filter { graph.fact($0).elementType == .float32 }
    let run = try GraphRun(try Self.graph(graph, floats, type), in: surroundings)
    var count = 0
    try samples.forEachSample { sample in
      count += 1
      progress("ranges: sample \(count)" + (samples.sampleCount.map { " of \($0)" } ?? ""))
      let results = try run.outputs(for: sample, number: count)
      for (index, value) in floats.enumerated() {
        let largest = results[2 * index].tensor?.elements(as: Float.self)?.first ?? 0
        let part = results[2 * index + 1].tensor?.elements(as: Float.self)?.first ?? 0
        var range = ranges[value] ?? Range()
        // Infinite numbers are infinite in both types; NaN of an empty value says nothing.
        if largest.isFinite, largest > range.largest { range.largest = largest }
        if part.isFinite { range.smallPart += Double(part) }
        ranges[value] = range
      }
    }
    if count == 0 { throw CompressionError.noSamples }
    for value in ranges.keys { ranges[value]?.smallPart /= Double(count) }
  }

  private static func graph(
    _ graph: Graph, _ values: [ValueID], _ type: HalfConversionOptions.ElementType
  ) throws(CompressionError) -> Graph {
    let builder = GraphBuilder(continuing: graph, inference: InferenceDriver(registry: .standard))
    builder.graph.outputs = []
    builder.graph.outputDeclarations = []
    let whole = builder.addConstant(Tensor([-1], shape: [1]))
    let normal = builder.addConstant(Tensor(scalar: type.leastNormal))
    let zero = builder.addConstant(Tensor(scalar: Float(0)))
    do throws(OperatorError) {
      for value in values {
        let name = graph[value].name
        let line = try builder.apply(OperatorID("Reshape"), name: "\(name)/line", [value, whole])
        let sizes = try builder.apply(OperatorID("Abs"), name: "\(name)/sizes", [line])
        let largest = try builder.apply(
          OperatorID("ReduceMax"), name: "\(name)/largest", [sizes], [("keepdims", .int(0))])
        let low = try builder.apply(OperatorID("Less"), name: "\(name)/low", [sizes, normal])
        let some = try builder.apply(OperatorID("Greater"), name: "\(name)/some", [sizes, zero])
        let small = try builder.apply(OperatorID("And"), name: "\(name)/small", [low, some])
        let ones = try builder.apply(
          OperatorID("Cast"), name: "\(name)/ones", [small], [("to", .int(Int(DataType.float32.rawValue)))])
        let part = try builder.apply(OperatorID("ReduceMean"), name: "\(name)/part", [ones], [("keepdims", .int(0))])
        builder.graph.outputs += [largest, part]
      }
    } catch {
      throw CompressionError(error)
    }
    return builder.graph
  }
}
