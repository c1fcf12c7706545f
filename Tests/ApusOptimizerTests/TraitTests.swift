// Passes ask the schema and know no list of names: an operator that only a test has is treated as its traits say.

import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TraitTests {
  private static let own = OperatorID("Own", domain: "test")

  /// A registry with the operator `test.Own`, which computes what `known` does and has the traits that `change` gives.
  private func registry(
    _ known: String, _ change: (inout SchemaDraft) -> Void = { _ in }
  ) throws -> OperatorRegistry {
    .standard(with: [try DelegatingOperator(TraitTests.own, as: OperatorID(known), change)])
  }

  // MARK: - Identity

  private func identities(_ condition: IdentityCondition) throws -> [String] {
    let registry = try registry("Clip") { $0.identity = condition }
    var builder = GraphBuilder(registry: registry)
    let x = builder.input("x", [2, 3])
    let far = builder.constant([100 as Float], [])
    builder.output(
      try builder.node(
        "Relu", [try builder.node("Own", [x, nil, far], domain: "test")]))
    let check = try PassCheck(
      builder.graph, [sampleTensor([2, 3], seed: 1)], passes: Optimizer.portablePasses, registry: registry)
    #expect(check.difference == 0)
    return check.ops
  }

  @Test func identityIsATrait() throws {
    #expect(try identities(.never) == ["test.Own", "Relu"])
    #expect(try identities(.always) == ["Relu"])
    #expect(try identities(.sameShape) == ["Relu"])
    #expect(try identities(.sameShape { _ in false }) == ["test.Own", "Relu"])
    #expect(try identities(.oneInput) == ["test.Own", "Relu"])
    #expect(try identities(.when { !$0.isPresent(1) && $0.constant(2)?.elements(as: Float.self) == [100] }) == ["Relu"])
    #expect(try identities(.when { $0.isPresent(1) }) == ["test.Own", "Relu"])
  }

  /// A body that hands a value on through an operator that is always an identity hands it on unchanged.
  @Test(arguments: [true, false]) func carriedValuesAreATrait(_ isClaimed: Bool) throws {
    let registry = try registry("Loop") { schema in
      if isClaimed { schema.carried = CarriedValues(input: 2, bodyOutput: 1) { _, inputs in inputs - 2 } }
    }
    var body = GraphBuilder()
    _ = body.input("i", [], .int64)
    let condition = body.input("c", [], .bool)
    let (x, w) = (body.input("x", [2, 4]), body.input("w", [4, 4]))
    body.output(condition, try body.node("MatMul", [x, w]), try body.node("Identity", [w]))
    var builder = GraphBuilder(registry: registry)
    let start = builder.input("start", [2, 4])
    builder.output(
      try builder.node(
        "Own", [builder.constant([3], []), nil, start, builder.weights([4, 4])],
        [("body", .graph(Subgraph(graph: body.graph, captured: [])))], domain: "test"))
    var graph = builder.graph
    _ = try Optimizer(registry: registry).optimize(&graph)
    guard case .graph(let subgraph)? = graph.nodes.last?.attributes["body"] else {
      Issue.record("there is no body")
      return
    }
    #expect(subgraph.graph.inputs.count == (isClaimed ? 3 : 4))
    let pool = WorkerPool(threads: 1)
    let start0 = [Value.tensor(sampleTensor([2, 4], seed: 7))]
    let before = try Program(graph: builder.graph, registry: registry, pool: pool).run(start0, on: pool)
    let after = try Program(graph: graph, registry: registry, pool: pool).run(start0, on: pool)
    #expect(largestDifference(try #require(before[0].tensor), try #require(after[0].tensor)) <= 1e-6)
  }

  // MARK: - Layout

  /// The operators between two convolutions after the passes, where `test.Own` stands between them.
  private func between(
    _ known: String, _ layout: LayoutTrait, attributes: [(String, AttributeValue)] = [],
    _ operands: (inout GraphBuilder, ValueID) throws -> [ValueID?] = { [$1] }
  ) throws -> [String] {
    let registry = try registry(known) { $0.layout = layout }
    var builder = GraphBuilder(registry: registry)
    let x = builder.input("x", [2, 3, 6, 5])
    let first = try builder.node("Conv", [x, builder.weights([4, 3, 1, 1])])
    let own = try builder.node("Own", try operands(&builder, first), attributes, domain: "test")
    let channels = try #require(builder.graph.fact(own).tensor?.concreteShape?[1])
    builder.output(try builder.node("Conv", [own, builder.weights([2, channels, 1, 1])]))
    let check = try PassCheck(builder.graph, [sampleTensor([2, 3, 6, 5], seed: 1)], registry: registry)
    #expect(check.difference < 1e-5)
    let ends = (check.ops.firstIndex(of: "apus.Conv") ?? 0, check.ops.lastIndex(of: "apus.Conv") ?? 0)
    #expect(ends.0 < ends.1, "\(check.ops)")
    return Array(check.ops[(ends.0 + 1)..<max(ends.1, ends.0 + 1)])
  }

  @Test func layoutIsATrait() throws {
    let fixed = ["Transpose", "test.Own", "Transpose"]
    #expect(try between("Sin", .fixed) == fixed)
    #expect(try between("Sin", .elementwise) == ["test.Own"])
    #expect(try between("Sin", .elementwise { $0.optionalInt("none") == 1 }) == fixed)
    #expect(try between("Sub", .broadcasting) { [$1, $0.weights([4, 1, 1])] } == ["test.Own"])
    #expect(try between("Sub", .broadcasting) { [$0.weights([6, 5]), $1] } == ["test.Own"])
    let axis: [(String, AttributeValue)] = [("axis", .int(1))]
    #expect(try between("Concat", .along(attribute: "axis"), attributes: axis) { [$1, $1] } == ["test.Own"])
    #expect(try between("ReduceMean", .reducing) { [$1, $0.constant([2, -1], [2])] } == ["test.Own"])
    let window: [(String, AttributeValue)] = [("kernel_shape", .ints([2, 3]))]
    let twin = OperatorID("AveragePool", domain: "apus")
    let always: NodeCondition = { _ in true }
    let never: NodeCondition = { _ in false }
    #expect(
      try between("AveragePool", .images(twin: twin, isFaster: never) { $0.type(0) == .float32 }, attributes: window)
        == ["apus.AveragePool"])
    #expect(
      try between("AveragePool", .images(twin: twin, isFaster: never, never), attributes: window) == fixed)
    let missing = OperatorID("Nothing", domain: "apus")
    #expect(
      try between("AveragePool", .images(twin: missing, isFaster: always, always), attributes: window) == fixed)
  }

  /// Of images of one pixel the elements have one order.
  @Test func reshapingIsATrait() throws {
    for (layout, expected) in [(LayoutTrait.fixed, ["Transpose", "test.Own"]), (.reshaping, ["Reshape"])] {
      let registry = try registry("Flatten") { $0.layout = layout }
      var builder = GraphBuilder(registry: registry)
      let x = builder.input("x", [.symbol("n"), 3, 6, 5])
      let first = try builder.node("Conv", [x, builder.weights([3, 3, 1, 1])])
      let conv = try builder.node("Conv", [first, builder.weights([4, 3, 6, 5])])
      builder.output(try builder.node("Own", [conv], domain: "test"))
      let check = try PassCheck(builder.graph, [sampleTensor([2, 3, 6, 5], seed: 1)], registry: registry)
      #expect(check.difference < 1e-5)
      #expect(check.ops.split(separator: "apus.Conv").last.map { Array($0) } == expected)
    }
  }

  /// A convolution that is as fast in the order of its model stays as it is where no other wants the change, unless
  /// the model has changed the order itself.
  @Test func aloneIsATrait() throws {
    func ops(convolutions: Int, isTransposed: Bool) throws -> [String] {
      let builder = GraphBuilder()
      let shape: Shape = isTransposed ? [1, 14, 14, 64] : [1, 64, 14, 14]
      var value = builder.input("x", shape.dims.map { Dim($0) })
      if isTransposed { value = try builder.node("Transpose", [value], [("perm", .ints([0, 3, 1, 2]))]) }
      for _ in 0..<convolutions { value = try builder.node("Conv", [value, builder.weights([64, 64, 1, 1])]) }
      if isTransposed { value = try builder.node("Transpose", [value], [("perm", .ints([0, 2, 3, 1]))]) }
      builder.output(value)
      let check = try PassCheck(builder.graph, [sampleTensor(shape, seed: 1)])
      #expect(check.difference < 1e-4)
      return check.ops
    }
    #expect(try ops(convolutions: 1, isTransposed: false) == ["Conv"])
    #expect(try ops(convolutions: 1, isTransposed: true) == ["apus.Conv"])
    #expect(try ops(convolutions: 2, isTransposed: false) == ["Transpose", "apus.Conv", "apus.Conv", "Transpose"])
  }

  /// An operator alone can be worth the change of the order.
  @Test func anchorsAreATrait() throws {
    for isFaster in [true, false] {
      let twin = OperatorID("MaxPool", domain: "apus")
      let registry = try registry("MaxPool") {
        $0.layout = .images(twin: twin, isFaster: { _ in isFaster }) { _ in true }
      }
      var builder = GraphBuilder(registry: registry)
      let x = builder.input("x", [2, 3, 6, 5])
      builder.output(try builder.node("Own", [x], [("kernel_shape", .ints([2, 2]))], domain: "test"))
      let check = try PassCheck(builder.graph, [sampleTensor([2, 3, 6, 5], seed: 1)], registry: registry)
      #expect(check.difference == 0)
      #expect(check.ops.contains("apus.MaxPool") == isFaster)
    }
  }

  // MARK: - All that claim something

  /// Every operator that says what becomes of it in another order of axes, between convolutions, with the pass and
  /// without.
  @Test func channelsLastKeepsResults() throws {
    var converted: Set<String> = []
    var count = 0
    for definition in OperatorRegistry.standard.all {
      let schema = definition.schema
      if case .fixed = schema.layout { continue }
      guard let first = schema.inputs.first, schema.types[first.type]?.tensors.contains(.float32) ?? false else {
        continue
      }
      count += 1
      for seed in 0..<6 {
        guard let graph = try? LayoutCase(schema, seed: seed).graph else { continue }
        let shape = try #require(graph.fact(graph.inputs[0]).tensor?.concreteShape)
        let check = try PassCheck(
          graph, [steps(shape, seed: seed)], passes: [ChannelsLastOnly.pass, ChannelsLastOnly.clean])
        #expect(check.difference < 1e-4, "\(schema.id), seed \(seed): \(check.ops)")
        if check.reports.first?.changes ?? 0 > 2 || check.ops.contains("apus.\(schema.id.name)") {
          converted.insert(schema.id.name)
        }
      }
    }
    #expect(count > 60)
    #expect(converted.count > 50, "\(converted.sorted())")
  }
}

extension TraitTests {
  /// As detectors have it: the extents of one image are the sizes of another one. No image is put in its first order to
  /// be measured.
  @Test(arguments: [(0, 4), (1, 3), (-2, 4), (2, 9), (3, 2)]) func shapesOfImages(_ start: Int, _ end: Int) throws {
    var builder = GraphBuilder()
    let x = builder.input("x", [2, 3, .symbol("h"), .symbol("w")])
    let image = try builder.node("Conv", [x, builder.steps([6, 3, 1, 1])])
    let bounds: [(String, AttributeValue)] = [("start", .int(start)), ("end", .int(end))]
    let small = try builder.node("Conv", [image, builder.steps([6, 6, 1, 1])], [("strides", .ints([2, 2]))])
    let sizes = try builder.node("Shape", [image])
    let large = try builder.node("Resize", [small, nil, nil, sizes])
    let sum = try builder.node("Add", [large, image])
    builder.output(
      try builder.node("Conv", [sum, builder.steps([4, 6, 1, 1])]), try builder.node("Shape", [image], bounds))
    let inputs = [[2, 3, 6, 5], [2, 3, 9, 4]].map { steps(Shape($0), seed: start) }
    for input in inputs {
      let check = try PassCheck(builder.graph, [input], passes: [ChannelsLastOnly.pass, ChannelsLastOnly.clean])
      #expect(check.difference < 1e-4, "\(check.ops)")
      // The image of the input, and the result.
      #expect(check.ops.count { $0 == "Transpose" } == 2, "\(check.ops)")
    }
  }
}

extension TraitTests {
  /// What other runtimes do not compute with channels last stays as it is: models are saved for them too.
  @Test(arguments: [("nearest", 4, 2), ("nearest", 5, 2), ("linear", 4, 2), ("linear", 5, 4), ("cubic", 4, 4)])
  func imagesThatStayPlanar(_ mode: String, _ rank: Int, _ transposes: Int) throws {
    var builder = GraphBuilder()
    let pixels = Array([4, 3, 2].prefix(rank - 2))
    let ones = [Int](repeating: 1, count: rank - 2)
    let x = builder.input("x", [1, 3] + pixels.map { Dim($0) })
    let image = try builder.node("Conv", [x, builder.steps(Shape([6, 3] + ones))])
    let sizes = builder.constant([1, 6] + pixels.map { 2 * $0 }, [rank])
    let large = try builder.node("Resize", [image, nil, nil, sizes], [("mode", .string(mode))])
    builder.output(try builder.node("Conv", [large, builder.steps(Shape([4, 6] + ones))]))
    let check = try PassCheck(
      builder.graph, [steps(Shape([1, 3] + pixels), seed: rank)],
      passes: [ChannelsLastOnly.pass, ChannelsLastOnly.clean])
    #expect(check.difference < 1e-4)
    #expect(check.ops.count { $0 == "Transpose" } == transposes, "\(check.ops)")
  }
}

/// The one pass, and the one that takes away what it leaves.
private enum ChannelsLastOnly {
  static let pass = Optimizer.enginePasses.first { $0.name == "channels-last" }!
  static let clean = Optimizer.enginePasses.last!
}

/// Halves in [-1, 1]: sums of few products of them are exact in any order.
private func steps(_ shape: Shape, seed: Int) -> Tensor {
  let numbers = sampleTensor(shape, seed: seed).elements(as: Float.self) ?? []
  return Tensor(numbers.map { ($0 * 2).rounded() / 2 }, shape: shape)
}

/// A convolution, an operator of float32, a convolution: shapes and attributes that depend on the seed.
private struct LayoutCase {
  let graph: Graph

  init(_ schema: OperatorSchema, seed: Int) throws {
    var builder = GraphBuilder()
    // Ranks 3 to 5; channels that differ from all extents of pixels.
    let rank = 3 + seed % 3
    let pixels = Array([5, 4, 3].prefix(rank - 2))
    let x = builder.input("x", [2, 3] + pixels.map { Dim($0) })
    let ones = [Int](repeating: 1, count: rank - 2)
    let first = try builder.node("Conv", [x, builder.steps(Shape([6, 3] + ones))])
    let inputs = try LayoutCase.operands(schema, first, rank: rank, seed: seed, in: &builder)
    let result = try builder.node(
      schema.id.name, inputs, LayoutCase.attributes(schema, rank: rank, seed: seed), domain: schema.id.domain)
    let fact = builder.graph.fact(result).tensor
    guard fact?.dataType == .float32, let shape = fact?.concreteShape, shape.rank == rank else {
      builder.output(result, first)
      graph = builder.graph
      return
    }
    builder.output(try builder.node("Conv", [result, builder.steps(Shape([2, shape[1]] + ones))]), result)
    graph = builder.graph
  }

  private static func operands(
    _ schema: OperatorSchema, _ x: ValueID, rank: Int, seed: Int, in builder: inout GraphBuilder
  ) throws -> [ValueID?] {
    switch schema.layout {
    case .broadcasting:
      // A vector for each channel, a number, a plane, the value itself, in turn.
      let shapes: [Shape?] = [
        Shape([6] + [Int](repeating: 1, count: rank - 2)), [], nil, Shape([2, 1]), nil, [1, 1, 1],
      ]
      guard let shape = shapes[seed % shapes.count] else { return [x, x] }
      let other = schema.id.name == "SwiGLU" ? x : builder.steps(shape.rank == 2 ? [builder.lastExtent(x)] : shape)
      return seed % 2 == 0 || schema.id.name == "PRelu" ? [x, other] : [other, x]
    case .along: return seed % 2 == 0 ? [x, x, x] : [x, try builder.node("Abs", [x])]
    case .axes:
      let sizes = seed % 2 == 0 ? [2, 6] + [7, 2, 5].prefix(rank - 2) : [7, 3]
      return [x, nil, nil, builder.constant(Array(sizes), [sizes.count])]
    case .reducing:
      let axes: [[Int]] = [[2], [-1], [1], Array(2..<rank), [0, 1], [1, rank - 1]]
      let chosen = axes[seed % axes.count]
      return [x, builder.constant(chosen, [chosen.count])]
    case .reshaping:
      let pixel = try builder.node(
        "ReduceMean", [x, builder.constant(Array(2..<rank), [rank - 2])])
      switch schema.id.name {
      case "Reshape":
        return [pixel, builder.constant(seed % 2 == 0 ? [2, -1] : [-1, 2, 3], seed % 2 == 0 ? [2] : [3])]
      case "Unsqueeze": return [pixel, builder.constant([1], [1])]
      default: return [pixel]
      }
    case .images:
      if schema.inputs.count == 1 { return [x] }
      if schema.id.name == "BatchNormalization" {
        let variance = builder.constant([0.25, 1, 4, 0.25, 1, 4] as [Float], [6])
        return [x] + (0..<3).map { _ in builder.steps([6]) } + [variance]
      }
      let channels = schema.id.name == "ConvTranspose" ? [6, 4] : [4, 6]
      return [x, builder.steps(Shape(channels + [Int](repeating: 2, count: rank - 2)))]
    default:
      switch schema.id.name {
      case "Clip": return [x, builder.constant([-0.1 as Float], []), builder.constant([0.2 as Float], [])]
      case "QuantizeLinear": return [x, builder.constant([0.01 as Float], []), builder.constant([3 as UInt8], [])]
      case "CastLike": return [x, builder.constant([1.0], [1])]
      default: return [x]
      }
    }
  }

  private static func attributes(
    _ schema: OperatorSchema, rank: Int, seed: Int
  ) -> [(String, AttributeValue)] {
    switch schema.layout {
    case .along(let attribute): return [(attribute, .int(seed % 2 == 0 ? seed % rank : -1 - seed % rank))]
    case .axes(let attribute, _):
      let mode: (String, AttributeValue) = ("mode", .string(seed < 2 ? "nearest" : seed < 4 ? "linear" : "cubic"))
      return seed % 2 == 0 ? [mode] : [mode, (attribute, .ints([-1, 1]))]
    case .reducing: return [("keepdims", .int(seed % 2))]
    case .images:
      let window = [Int](repeating: 2, count: rank - 2)
      return schema.attributes.contains { $0.name == "kernel_shape" } ? [("kernel_shape", .ints(window))] : []
    default:
      if schema.id.name == "Cast" { return [("to", .int([6, 11, 10, 9, 1, 2][seed % 6]))] }
      return schema.id.name == "BitCast" ? [("to", .int(6))] : []
    }
  }
}

extension GraphBuilder {
  fileprivate func steps(_ shape: Shape) -> ValueID {
    constant(ApusOptimizerTests.steps(shape, seed: graph.values.count).elements(as: Float.self) ?? [], shape)
  }

  fileprivate func lastExtent(_ value: ValueID) -> Int { graph.fact(value).tensor?.concreteShape?.dims.last ?? 1 }
}
