// State that runs update where it lies: the numbers of runs that copy it, whoever keeps what, and no copies.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

/// A model with state of fixed size.
enum StateForm: String, CaseIterable, Sendable {
  /// TensorScatter of keys and values, read by Attention with the numbers of valid keys.
  case tensorScatter
  case circular
  /// GroupQueryAttention whose pasts are as long as its presents.
  case grouped
  /// ScatterND into one tensor, ScatterElements with a sum into another.
  case scatters
  /// A Loop whose body scatters into what it carries.
  case loop
}

@Suite struct ModelStateTests {
  private static let room = 48
  private static let state: Shape = [2, 2, room, 24]

  private func model(_ form: StateForm, threads: Int = 1) throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 2, 1, 24])
    let position = builder.input("position", [1], .int64)
    let (keys, values) = (
      builder.input("keys", [2, 2, Dim(Self.room), 24]), builder.input("values", [2, 2, Dim(Self.room), 24])
    )
    var outputs: [ValueID]
    switch form {
    case .tensorScatter, .circular:
      let places = try builder.node("Expand", [position, builder.constant([2] as [Int], [1])])
      let mode = ("mode", AttributeValue.string(form == .circular ? "circular" : "linear"))
      let newKeys = try builder.node("TensorScatter", [keys, x, places], [mode])
      let newValues = try builder.node("TensorScatter", [values, try builder.node("Neg", [x]), places], [mode])
      let valid = try builder.node("Add", [places, builder.constant([1] as [Int], [1])])
      let result = try builder.node("Attention", [x, newKeys, newValues, nil, nil, nil, valid])
      outputs = [result, newKeys, newValues]
    case .grouped:
      let flat = try builder.node("Reshape", [x, builder.constant([2, 1, 48] as [Int], [3])])
      let last = try builder.node("Cast", [position], [("to", .int(6))])
      let lasts = try builder.node("Expand", [last, builder.constant([2] as [Int], [1])])
      let total = builder.constant([Int32(Self.room)], [1])
      outputs = try builder.apply(
        OperatorID("GroupQueryAttention", domain: "com.microsoft"), name: "n",
        [flat, flat, flat, keys, values, lasts, total], [("num_heads", .int(2)), ("kv_num_heads", .int(2))],
        outputCount: 3)
    case .scatters:
      let zeros = builder.constant([0, 0] as [Int], [2])
      let place = try builder.node("Concat", [zeros, position], [("axis", .int(0))])
      let row = try builder.node("Reshape", [place, builder.constant([1, 3] as [Int], [2])])
      let update = try builder.node("Slice", [x, zeros, builder.constant([1, 1] as [Int], [2])])
      let line = try builder.node("Reshape", [update, builder.constant([1, 24] as [Int], [2])])
      let newKeys = try builder.node("ScatterND", [keys, row, line])
      let places = try builder.node("Expand", [position, builder.constant([2, 2, 1, 24] as [Int], [4])])
      let newValues = try builder.node(
        "ScatterElements", [values, places, x], [("axis", .int(2)), ("reduction", .string("add"))])
      outputs = [try builder.node("ReduceMax", [newKeys], [("keepdims", .int(0))]), newKeys, newValues]
    case .loop:
      let body = GraphBuilder()
      let iteration = body.input("iteration", [], .int64)
      let going = body.input("going", [], .bool)
      let (first, second) = (
        body.input("first", [2, 2, Dim(Self.room), 24]), body.input("second", [2, 2, Dim(Self.room), 24])
      )
      let index = try body.node("Reshape", [iteration, body.constant([1] as [Int], [1])])
      let places = try body.node("Expand", [index, body.constant([2] as [Int], [1])])
      let written = try body.node("TensorScatter", [first, body.weights([2, 2, 1, 24]), places])
      let sum = try body.node("Add", [second, written])
      body.output(try body.node("Identity", [going]), written, sum)
      let count = try builder.node("Reshape", [position, builder.constant([] as [Int], [0])])
      outputs = try builder.apply(
        OperatorID("Loop"), name: "loop", [count, nil, keys, values],
        [("body", .graph(Subgraph(graph: body.graph, captured: [])))], outputCount: 2)
      outputs.insert(try builder.node("Neg", [x]), at: 0)
    }
    builder.output(outputs[0], outputs[1], outputs[2])
    var graph = builder.graph
    for (output, name) in zip(graph.outputs, ["result", "new_keys", "new_values"]) {
      graph.values[output.index].name = name
    }
    return try Model(ModelGraph(graph: graph), options: ModelOptions(threads: threads))
  }

  private func inputs(seed: Int, position: Int) -> [String: Tensor] {
    ["x": sampleTensor([2, 2, 1, 24], seed: seed), "position": Tensor([position])]
  }

  private func state(of results: [String: Tensor]) throws -> [String: Tensor] {
    ["keys": try #require(results["new_keys"]), "values": try #require(results["new_values"])]
  }

  private func start(seed: Int = 900) -> [String: Tensor] {
    ["keys": sampleTensor(Self.state, seed: seed), "values": sampleTensor(Self.state, seed: seed + 1)]
  }

  private func copies(_ tensors: [String: Tensor]) throws -> [String: Tensor] {
    try tensors.mapValues { (tensor) throws(TensorError) in try tensor.copied() }
  }

  private func haveSameBytes(_ a: [String: Tensor], _ b: [String: Tensor]) -> Bool {
    a.count == b.count
      && a.allSatisfy { name, x in
        guard let y = b[name], x.shape == y.shape else { return false }
        return x.withUnsafeBytes { x in y.withUnsafeBytes { y in x.elementsEqual(y) } }
      }
  }

  @Test(arguments: StateForm.allCases)
  func stateStaysWhereItIs(_ form: StateForm) throws {
    let model = try model(form)
    var state = start()
    var expected = try copies(state)
    for step in 0..<12 {
      let new = inputs(seed: step, position: step + 1)
      let places = state.mapValues { UInt(bitPattern: $0.base) }
      let results = try model.run(new, donating: consume state)
      let copied = try model.run(new.merging(expected) { $1 })
      #expect(haveSameBytes(results, copied), "step \(step)")
      (state, expected) = (try self.state(of: results), try self.state(of: copied))
      // A Loop writes its first results anew: the node around it holds what it begins with.
      if form == .loop { continue }
      #expect(state.mapValues { UInt(bitPattern: $0.base) } == places, "step \(step)")
    }
  }

  /// Sequences of calls with states that are given away, kept, branched off, and lost in runs that fail.
  @Test(arguments: StateForm.allCases)
  func randomSequencesOfCalls(_ form: StateForm) throws {
    for seed in 0..<8 {
      var random = TestRandom(seed: UInt64(seed))
      let model = try model(form, threads: 1 + seed % 2)
      var states = [start(seed: seed)]
      var expected = [try copies(states[0])]
      for step in 0..<40 {
        let index = random.below(states.count)
        let fails = random.below(8) == 0
        let position = fails && form != .circular && form != .loop ? Self.room + 7 : random.below(Self.room)
        let new = inputs(seed: 100 * seed + step, position: position)
        let reference = Result { try model.run(new.merging(expected[index]) { $1 }) }
        let found: Result<[String: Tensor], any Error>
        let isGiven = random.below(2) == 0
        if isGiven {
          let state = states.remove(at: index)
          let before = expected.remove(at: index)
          // Now and then one tensor of the two is somebody else's too.
          let kept = random.below(3) == 0 ? state["keys"] : nil
          found = Result { try model.run(new, donating: consume state) }
          if let kept { #expect(haveSameBytes(["keys": kept], ["keys": before["keys"]!])) }
        } else {
          found = Result { try model.run(new, donating: states[index]) }
        }
        switch (found, reference) {
        case (.success(let results), .success(let wanted)):
          #expect(haveSameBytes(results, wanted), "seed \(seed), step \(step)")
          if states.count < 4 {
            states.append(try state(of: results))
            expected.append(try state(of: wanted))
          }
        case (.failure, .failure): break
        default: Issue.record("seed \(seed), step \(step): only one of two runs fails")
        }
        if states.isEmpty {
          states.append(start(seed: step))
          expected.append(try copies(states[0]))
        }
        for (state, wanted) in zip(states, expected) {
          #expect(haveSameBytes(state, wanted), "seed \(seed), step \(step)")
        }
      }
    }
  }

  @Test func manyThreadsGiveOneTensor() async throws {
    let model = try model(.tensorScatter, threads: 2)
    let state = start()
    let before = try copies(state)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for task in 0..<8 {
        group.addTask {
          for step in 0..<20 {
            let new = inputs(seed: task * 100 + step, position: step)
            let results = try await model.run(new, donating: state)
            let expected = try await model.run(new.merging(before) { $1 })
            #expect(haveSameBytes(results, expected))
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(haveSameBytes(state, before))
  }

  @Test func asynchronousRunsTakeWhatIsGiven() async throws {
    let model = try model(.tensorScatter)
    var state = start()
    let place = UInt(bitPattern: try #require(state["keys"]).base)
    for step in 0..<4 {
      let results = try await model.run(inputs(seed: step, position: step), donating: consume state)
      state = try self.state(of: results)
    }
    #expect(UInt(bitPattern: try #require(state["keys"]).base) == place)
  }

  @Test func wantedOutputsAlone() throws {
    let model = try model(.tensorScatter)
    var options = RunOptions()
    options.outputs = ["new_keys"]
    let (state, new) = (start(), inputs(seed: 1, position: 3))
    let place = UInt(bitPattern: try #require(state["keys"]).base)
    let expected = try model.run(new.merging(copies(state)) { $1 }, options: options)
    let found = try model.run(new, donating: consume state, options: options)
    #expect(haveSameBytes(found, expected))
    #expect(UInt(bitPattern: try #require(found["new_keys"]).base) == place)
  }

  @Test func whatDoesNotFitIsNamed() throws {
    let model = try model(.tensorScatter)
    let new = inputs(seed: 1, position: 3)
    #expect(throws: RunError.self) { try model.run(new, donating: ["keys": start()["keys"]!]) }
    #expect(throws: RunError.self) { try model.run(new.merging(start()) { $1 }, donating: start()) }
    #expect(throws: RunError.self) { try model.run(new.merging(start()) { $1 }, donating: ["kyes": start()["keys"]!]) }
  }

  /// The body holds its state once: the first iteration copies it, the others write into that.
  @Test func loopsCarryWithoutCopies() throws {
    let model = try model(.loop)
    let bytes = try #require(start()["keys"]).byteCount
    let inputs = [sampleTensor([2, 2, 1, 24], seed: 1), Tensor([20] as [Int])]
    let given = inputs + [try #require(start()["keys"]), try #require(start()["values"])]
    let results = try model.run(
      inOrder: given.map { .tensor($0) }, settings: RunSettings(maximumBytes: 2 * bytes + bytes / 2))
    #expect(results.count == 3)
  }

  // MARK: - Memory of the caller

  /// Memory with the bytes of tensors, one after the other.
  private func withMemory(
    _ tensors: [Tensor], _ body: ([UnsafeMutableRawBufferPointer]) throws -> Void
  ) throws {
    let memory = tensors.map { UnsafeMutableRawBufferPointer.allocate(byteCount: $0.byteCount, alignment: 64) }
    defer { for buffer in memory { buffer.deallocate() } }
    for (tensor, buffer) in zip(tensors, memory) { tensor.withUnsafeBytes { buffer.copyMemory(from: $0) } }
    try body(memory)
  }

  private func tensor(over buffer: UnsafeMutableRawBufferPointer) throws -> Tensor {
    let storage = TensorStorage(base: try #require(buffer.baseAddress), byteCount: buffer.count, release: nil)
    return Tensor(dataType: .float32, shape: Self.state, storage: storage)
  }

  @Test(arguments: StateForm.allCases)
  func buffersThatAreInputsAreUpdated(_ form: StateForm) throws {
    let model = try model(form)
    let start = start()
    var expected = start
    try withMemory([start["keys"]!, start["values"]!]) { memory in
      for step in 0..<8 {
        let new = inputs(seed: step, position: step + 1)
        let state = ["keys": try tensor(over: memory[0]), "values": try tensor(over: memory[1])]
        let copied = try model.run(new.merging(expected) { $1 })
        // Every other time the outputs change places.
        let (first, second) = (step % 2, 1 - step % 2)
        let results = try model.run(
          new.merging(state) { $1 }, into: ["new_keys": memory[first], "new_values": memory[second]])
        #expect(haveSameBytes(results, copied), "step \(step)")
        let written = ["keys": try tensor(over: memory[first]), "values": try tensor(over: memory[second])]
        expected = try self.state(of: copied)
        #expect(haveSameBytes(written, expected), "step \(step)")
        if first == 1 {
          try expected["keys"]!.withUnsafeBytes { memory[0].copyMemory(from: $0) }
          try expected["values"]!.withUnsafeBytes { memory[1].copyMemory(from: $0) }
        }
      }
    }
  }

  @Test func oneMemoryForTwoInputs() throws {
    let model = try model(.tensorScatter)
    let start = start()
    try withMemory([start["keys"]!]) { memory in
      let both = ["keys": start["keys"]!, "values": start["keys"]!]
      let new = inputs(seed: 1, position: 7)
      let copied = try model.run(new.merging(both) { $1 })
      let given = ["keys": try tensor(over: memory[0]), "values": try tensor(over: memory[0])]
      let results = try model.run(new.merging(given) { $1 }, into: ["new_keys": memory[0]])
      #expect(haveSameBytes(results, copied))
      #expect(haveSameBytes(["keys": try tensor(over: memory[0])], ["keys": copied["new_keys"]!]))
    }
  }

  /// A buffer whose output is not asked for is nobody's to write.
  @Test func buffersOfOtherOutputsStayAsTheyAre() throws {
    let model = try model(.tensorScatter)
    let start = start()
    try withMemory([start["keys"]!]) { memory in
      var options = RunOptions()
      options.outputs = ["result"]
      let given = ["keys": try tensor(over: memory[0]), "values": start["values"]!]
      _ = try model.run(
        inputs(seed: 1, position: 7).merging(given) { $1 }, into: ["new_keys": memory[0]], options: options)
      #expect(haveSameBytes(["keys": try tensor(over: memory[0])], ["keys": start["keys"]!]))
    }
  }

  @Test func circularWritesGoRound() throws {
    let model = try model(.circular)
    var (state, expected) = (start(), start())
    for position in [Self.room - 1, Self.room, -1, 3 * Self.room + 5, -2 * Self.room] {
      let new = inputs(seed: position, position: position)
      let results = try model.run(new, donating: consume state)
      let copied = try model.run(new.merging(expected) { $1 })
      #expect(haveSameBytes(results, copied))
      (state, expected) = (try self.state(of: results), try self.state(of: copied))
    }
  }
}
