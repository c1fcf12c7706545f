// Caches that grow in place: the same numbers as with copies, whoever keeps what, and no copies where there is room.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Synchronization
import Testing

/// A form of decoder with one or two caches.
enum CacheForm: String, CaseIterable, Sendable {
  /// Concat of [batch, heads, length, size], read by Attention.
  case concat
  /// Concat of [batch, length, heads · size] along axis -2, read by Attention.
  case byPosition
  /// Attention with past and present of its own.
  case attention
  /// Concat whose result nobody reads but for its shape.
  case unread
  /// Concat read by an operator that needs dense inputs.
  case dense
}

@Suite struct CacheTests {
  private let heads = 3
  private let size = 20

  private func model(_ form: CacheForm, threads: Int = 1) throws -> Model {
    let builder = GraphBuilder()
    let width = heads * size
    let isFlat = form == .byPosition
    func shape(_ length: String) -> [Dim] {
      isFlat
        ? [.symbol("batch"), .symbol(length), Dim(width)] : [.symbol("batch"), Dim(heads), .symbol(length), Dim(size)]
    }
    let query = builder.input("query", shape("sequence"))
    let key = builder.input("key", shape("sequence"))
    let value = builder.input("value", shape("sequence"))
    let pastKey = builder.input("past_key", shape("past"))
    let pastValue = builder.input("past_value", shape("past"))
    if form == .attention {
      builder.graph.outputs = try builder.apply(
        OperatorID("Attention"), name: "n", [query, key, value, nil, pastKey, pastValue], [("is_causal", .int(1))],
        outputCount: 3)
      return try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: threads))
    }
    let axis = isFlat ? -2 : 2
    let keys = try builder.node("Concat", [pastKey, key], [("axis", .int(axis))])
    let values = try builder.node("Concat", [pastValue, value], [("axis", .int(axis))])
    let result =
      switch form {
      case .concat: try builder.node("Attention", [query, keys, values])
      case .byPosition:
        try builder.node(
          "Attention", [query, keys, values], [("q_num_heads", .int(heads)), ("kv_num_heads", .int(heads))])
      case .unread: try builder.node("Shape", [keys])
      default: try builder.node("ReduceSum", [keys], [("keepdims", .int(0))])
      }
    builder.output(result, keys, values)
    var graph = builder.graph
    for (output, name) in zip(graph.outputs, ["result", "keys", "values"]) { graph.values[output.index].name = name }
    return try Model(ModelGraph(graph: graph), options: ModelOptions(threads: threads))
  }

  /// The inputs of one call; the caches are [query, key, value, past key, past value] in the order of the model.
  private func inputs(_ form: CacheForm, batch: Int, new: Int, seed: Int) -> [Tensor] {
    let shape: Shape = form == .byPosition ? [batch, new, heads * size] : [batch, heads, new, size]
    return (0..<3).map { sampleTensor(shape, seed: seed * 3 + $0) }
  }

  private func empty(_ form: CacheForm, batch: Int) -> Tensor {
    Tensor(zeros: .float32, shape: form == .byPosition ? [batch, 0, heads * size] : [batch, heads, 0, size])
  }

  private func run(_ model: Model, _ inputs: [Tensor], grows: Bool = true) throws -> [Tensor] {
    var settings = RunSettings()
    settings.growsCaches = grows
    return try model.run(inOrder: inputs.map { .tensor($0) }, settings: settings).compactMap(\.tensor)
  }

  @Test(arguments: CacheForm.allCases)
  func givesTheNumbersOfCopies(_ form: CacheForm) throws {
    let model = try model(form)
    var grown = [Tensor](repeating: empty(form, batch: 2), count: 2)
    var dense = grown
    var kept: [(value: Tensor, expected: Tensor)] = []
    for step in 0..<90 {
      let new = inputs(form, batch: 2, new: step == 0 ? 30 : 1 + step % 3, seed: step)
      let results = try run(model, new + grown)
      let expected = try run(model, new + dense, grows: false)
      #expect(results[0].hasSameBytes(as: expected[0]), "step \(step)")
      grown = Array(results[1...])
      dense = Array(expected[1...])
      if step % 17 == 0 { kept += zip(grown, dense).map { ($0, $1) } }
      // A look in between changes nothing.
      if step % 23 == 22 { #expect(grown[0].hasSameBytes(as: dense[0])) }
    }
    for (value, expected) in kept + zip(grown, dense).map({ ($0, $1) }) {
      #expect(value.hasSameBytes(as: expected))
    }
  }

  @Test(arguments: [CacheForm.concat, .byPosition, .attention, .unread])
  func appendsWhereThereIsRoom(_ form: CacheForm) throws {
    let model = try model(form)
    var caches = [Tensor](repeating: empty(form, batch: 1), count: 2)
    var blocks: Set<ObjectIdentifier> = []
    for step in 0..<200 {
      caches = Array(try run(model, inputs(form, batch: 1, new: step == 0 ? 64 : 1, seed: step) + caches)[1...])
      for cache in caches { blocks.insert(ObjectIdentifier(try #require(cache.storage.growth))) }
      // The dense form was never made.
      #expect(caches.allSatisfy { $0.storage.deferred?.isPending ?? false })
    }
    // 64 rows and 96 more; 161 rows and 144 more.
    #expect(blocks.count == 4)
  }

  @Test func readersThatNeedDenseInputsGetThem() throws {
    let model = try model(.dense)
    let caches = [Tensor](repeating: empty(.dense, batch: 1), count: 2)
    let results = try run(model, inputs(.dense, batch: 1, new: 64, seed: 1) + caches)
    #expect(results[1].storage.growth == nil)
    #expect(results[2].storage.growth != nil)
  }

  @Test(arguments: [CacheForm.concat, .attention])
  func branchesDoNotMeet(_ form: CacheForm) throws {
    let model = try model(form)
    let start = try run(
      model, inputs(form, batch: 2, new: 40, seed: 1) + [Tensor](repeating: empty(form, batch: 2), count: 2))
    let past = Array(start[1...])
    let densePast = try past.map { try $0.copied() }
    var branches: [[Tensor]] = []
    for branch in 0..<4 {
      var (caches, dense) = (past, densePast)
      for step in 0..<5 {
        let new = inputs(form, batch: 2, new: 1, seed: 100 * branch + step)
        let results = try run(model, new + caches)
        let expected = try run(model, new + dense, grows: false)
        #expect(results[0].hasSameBytes(as: expected[0]))
        (caches, dense) = (Array(results[1...]), Array(expected[1...]))
      }
      branches.append(caches + dense)
    }
    for branch in branches {
      #expect(branch[0].hasSameBytes(as: branch[2]))
      #expect(branch[1].hasSameBytes(as: branch[3]))
    }
    #expect(past[0].hasSameBytes(as: densePast[0]))
  }

  @Test func manyThreadsAppendToOnePast() async throws {
    let model = try model(.concat, threads: 2)
    let start = try run(
      model, inputs(.concat, batch: 1, new: 50, seed: 1) + [Tensor](repeating: empty(.concat, batch: 1), count: 2))
    let past = Array(start[1...])
    let dense = try past.map { try $0.copied() }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask {
          for step in 0..<20 {
            let new = inputs(.concat, batch: 1, new: 2, seed: 100 * task + step)
            let results = try run(model, new + past)
            let expected = try run(model, new + dense, grows: false)
            for (result, wanted) in zip(results, expected) { #expect(result.hasSameBytes(as: wanted)) }
          }
        }
      }
      try await group.waitForAll()
    }
  }

  @Test func cachesInOtherShapesAndTypesAreDense() throws {
    let model = try model(.concat)
    let start = try run(
      model, inputs(.concat, batch: 2, new: 40, seed: 1) + [Tensor](repeating: empty(.concat, batch: 2), count: 2))
    // The same bytes as one image of 80 rows: their block has room behind 40.
    let turned = start[1...].map { $0.reshaped(to: [1, 3, 80, 20]) }
    let new = inputs(.concat, batch: 1, new: 1, seed: 2)
    let results = try run(model, new + turned)
    let expected = try run(model, new + turned.map { try $0.copied() }, grows: false)
    for (result, wanted) in zip(results, expected) { #expect(result.hasSameBytes(as: wanted)) }
  }

  @Test func buffersOfTheCallerAreFilled() throws {
    let model = try model(.concat)
    var caches = [Tensor](repeating: empty(.concat, batch: 1), count: 2)
    for step in 0..<3 {
      let new = inputs(.concat, batch: 1, new: 30, seed: step)
      let expected = try run(model, new + caches, grows: false)
      let names = model.inputs.map(\.name)
      var buffer = [UInt8](repeating: 7, count: expected[1].byteCount)
      let name = model.outputs[1].name
      let results = try buffer.withUnsafeMutableBytes { bytes in
        try model.run(Dictionary(uniqueKeysWithValues: zip(names, new + caches)), into: [name: bytes])
      }
      #expect(expected[1].withUnsafeBytes { $0.elementsEqual(buffer) })
      caches = try [#require(results[name]).copied(), #require(results[model.outputs[2].name])]
    }
  }

  /// Two heads of keys and values for four of queries, and a past for each of two images.
  private func groupQueryModel() throws -> Model {
    let builder = GraphBuilder()
    func input(_ name: String, _ type: DataType, _ shape: [Dim]) -> ValueID { builder.input(name, shape, type) }
    let query = input("query", .float32, [2, .symbol("sequence"), 80])
    let (key, value) = (
      input("key", .float32, [2, .symbol("sequence"), 40]), input("value", .float32, [2, .symbol("sequence"), 40])
    )
    let cache: [Dim] = [2, 2, .symbol("past"), 20]
    let (pastKey, pastValue) = (input("past_key", .float32, cache), input("past_value", .float32, cache))
    let (lengths, total) = (input("lengths", .int32, [2]), input("total", .int32, [1]))
    builder.graph.outputs = try builder.apply(
      OperatorID("GroupQueryAttention", domain: "com.microsoft"), name: "n",
      [query, key, value, pastKey, pastValue, lengths, total], [("num_heads", .int(4)), ("kv_num_heads", .int(2))],
      outputCount: 3)
    return try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: 1))
  }

  @Test func groupedQueriesAppendOrDecline() throws {
    let model = try groupQueryModel()
    var caches = [Tensor](repeating: Tensor(zeros: .float32, shape: [2, 2, 0, 20]), count: 2)
    var dense = caches
    var appended = 0
    for step in 0..<40 {
      let new = step == 0 ? 60 : 1
      let total = caches[0].shape[2] + new
      // Now and then the second image has fewer tokens than the first: what is new goes between those of the past.
      let lengths = [Int32(total - 1), Int32(step % 10 == 7 ? total - 5 : total - 1)]
      let query = sampleTensor([2, new, 80], seed: 7 * step)
      let others = (1...2).map { sampleTensor([2, new, 40], seed: 7 * step + $0) }
      let last = [Tensor(lengths), Tensor([Int32(total)])]
      let results = try run(model, [query] + others + caches + last)
      let expected = try run(model, [query] + others + dense + last, grows: false)
      for (result, wanted) in zip(results, expected) { #expect(result.hasSameBytes(as: wanted), "step \(step)") }
      let block = caches[0].storage.growth
      (caches, dense) = (Array(results[1...]), Array(expected[1...]))
      if let block, caches[0].storage.growth === block { appended += 1 }
    }
    #expect(appended > 25)
  }

  @Test func memoryOfACacheIsChargedToTheRun() throws {
    let model = try model(.concat)
    let new = inputs(.concat, batch: 1, new: 400, seed: 1)
    let caches = [Tensor](repeating: empty(.concat, batch: 1), count: 2)
    #expect(throws: RunError.self) {
      try model.run(
        inOrder: (new + caches).map { .tensor($0) }, settings: RunSettings(maximumBytes: 2 * new[0].byteCount))
    }
  }

  /// A Loop whose body puts one row behind a cache and attends to it.
  @Test(arguments: [1, 60]) func loopsCarryCaches(rows: Int) throws {
    let body = GraphBuilder()
    let iteration = body.input("iteration", [], .int64)
    let going = body.input("going", [], .bool)
    let hidden = body.input("hidden", [1, 3, 1, 20])
    let past = body.input("past", [1, 3, .symbol("past"), 20])
    let cache = try body.node("Concat", [past, hidden], [("axis", .int(2))])
    let attended = try body.node("Attention", [hidden, cache, cache])
    let next = try body.node("Sin", [attended])
    _ = iteration
    body.output(try body.node("Identity", [going]), next, cache)
    let builder = GraphBuilder()
    let count = builder.input("count", [], .int64)
    let first = builder.input("first", [1, 3, 1, 20])
    let start = builder.input("start", [1, 3, .symbol("rows"), 20])
    builder.graph.outputs = try builder.apply(
      OperatorID("Loop"), name: "loop", [count, nil, first, start],
      [("body", .graph(Subgraph(graph: body.graph, captured: [])))], outputCount: 2)
    let model = try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: 1))
    let given = [sampleTensor([1, 3, 1, 20], seed: 3), sampleTensor([1, 3, rows, 20], seed: 4)]
    // The same, one iteration at a time.
    let step = try Model(ModelGraph(graph: body.graph), options: ModelOptions(threads: 1))
    var carried = given
    for index in 0..<100 {
      let results = try run(
        step, [Tensor(scalar: index), Tensor(scalar: true)] + carried, grows: false)
      carried = Array(results[1...])
    }
    let results = try run(model, [Tensor(scalar: 100)] + given)
    #expect(results[1].storage.growth != nil)
    for (result, expected) in zip(results, carried) { #expect(result.hasSameBytes(as: expected)) }
  }
}

extension Tensor {
  fileprivate func hasSameBytes(as other: Tensor) -> Bool {
    dataType == other.dataType && shape == other.shape
      && withUnsafeBytes { a in other.withUnsafeBytes { b in a.elementsEqual(b) } }
  }
}
