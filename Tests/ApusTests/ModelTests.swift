// The public library on the test models: inputs checked, outputs right, async, buffers of the caller.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTestSupport
import Foundation
import Testing

@Suite struct ModelTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  private func model(_ name: String, options: ModelOptions = ModelOptions()) throws -> Model {
    try Model(contentsOf: Self.folder.appending(path: "\(name).onnx"), options: options)
  }

  private let image = Tensor((0..<64).map { Float($0 % 7) / 7 }, shape: [1, 1, 8, 8])

  @Test func sameBitsByEveryWay() async throws {
    let model = try model("digits")
    let name = model.outputs[0].name
    let runAndWait = { (inputs: [String: Tensor]) throws -> [String: Tensor] in try model.run(inputs) }
    let expected = try runAndWait(["input": image])[name]!.elements(as: Float.self)!
    let other: [String: Tensor] = try await model.run(["input": image])
    #expect(other[name]?.elements(as: Float.self) == expected)
    let output = model.outputs.first { $0.name == name }!
    #expect(output.dataType == .float32)
    var buffer = [Float](repeating: 0, count: expected.count)
    try buffer.withUnsafeMutableBytes { bytes in _ = try model.run(["input": image], into: [name: bytes]) }
    #expect(buffer == expected)
    let pixels = image.elements(as: Float.self)!
    let borrowed = try Tensor.withBorrowed(pixels.span, shape: [1, 1, 8, 8]) { tensor in
      try model.run(["input": tensor])[name]!.elements(as: Float.self)
    }
    #expect(borrowed == expected)
  }

  /// What the environment asks for must mean something: with a slip in it, it would count as not given.
  @Test func environmentWithASlip() async {
    await #expect(processExitsWith: .success) {
      setenv("APUS_ISA", "avx3", 1)
      exit(ModelTests.isRefused(for: "APUS_ISA is 'avx3'") ? 0 : 1)
    }
    await #expect(processExitsWith: .success) {
      setenv("APUS_ISA", "", 1)
      setenv("APUS_SPIN_US", "soon", 1)
      if !ModelTests.isRefused(for: "APUS_SPIN_US is 'soon'") { exit(1) }
      setenv("APUS_SPIN_US", "0", 1)
      exit(ModelTests.isRefused(for: "") ? 2 : 0)
    }
  }

  /// True if a model cannot be loaded because of the environment, from a file or from bytes.
  private static func isRefused(for reason: String) -> Bool {
    let file = folder.appending(path: "digits.onnx")
    func refuses(_ load: () throws -> Void) -> Bool {
      do {
        try load()
        return false
      } catch let error as LoadError {
        return error.code == .invalidEnvironment && error.message.contains(reason)
      } catch {
        return false
      }
    }
    return refuses { _ = try Model(contentsOf: file) } && refuses { _ = try Model(bytes: Data(contentsOf: file)) }
      && refuses { _ = try ModelFile(contentsOf: file) }
  }

  @Test func bytesAndFilesAreTheSame() throws {
    let bytes = try Data(contentsOf: Self.folder.appending(path: "digits.onnx"))
    let model = try Model(bytes: bytes)
    let name = model.outputs[0].name
    #expect(
      try model.run(["input": image])[name]?.elements(as: Float.self)
        == self.model("digits").run(["input": image])[name]?.elements(as: Float.self))
  }

  @Test func nearNamesAreFound() {
    let commands = ["run", "info", "check", "optimize"]
    #expect(nearNames("rnu", among: commands) == ["run"])
    #expect(nearNames("RUN", among: commands) == ["run"])
    #expect(nearNames("optimise", among: commands) == ["optimize"])
    #expect(nearNames("nonsense", among: commands).isEmpty && nearNames("", among: commands).isEmpty)
    #expect(nearNames("b", among: ["d", "a", "c", "b1", "b"]) == ["b", "a", "b1"])
    #expect(nearNames(String(repeating: "n", count: 201), among: [String(repeating: "n", count: 201)]).isEmpty)
  }

  @Test func wrongInputsAreNamed() throws {
    let model = try model("digits")
    #expect(throws: RunError.self) { try model.run([:]) }
    #expect(throws: RunError.self) { try model.run(["input": image, "more": image]) }
    #expect(throws: RunError.self) { try model.run(["input": Tensor([1, 2] as [Float])]) }
    do {
      _ = try model.run(["input": Tensor((0..<64).map { Double($0) }, shape: [1, 1, 8, 8])])
      Issue.record("a float64 image was taken")
    } catch {
      #expect(error.code == .invalidInput)
      #expect(
        error.description.contains("'input'") && error.description.contains("float64")
          && error.description.contains("float32"))
    }
  }

  @Test func nearNamesAreOffered() throws {
    let model = try model("digits")
    func message(_ inputs: [String: Tensor], outputs: [String]? = nil) -> String {
      var options = RunOptions()
      options.outputs = outputs
      do {
        _ = try model.run(inputs, options: options)
        return ""
      } catch {
        return "\(error)"
      }
    }
    #expect(message(["Inputs": image]).contains("'input' (float32[batch, 1, 8, 8]) is missing; there is no input"))
    #expect(message(["Inputs": image]).contains("'Inputs' (did you mean 'input'?)"))
    #expect(message(["input": image, "pixels": image]).contains("there is no input 'pixels'. Inputs are: input"))
    #expect(message(["input": image], outputs: ["probabilites"]).contains("did you mean 'probabilities'?"))
  }

  @Test func onlyWantedOutputsAreComputed() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let index = builder.input("index", [1], .int64)
    let hidden = try builder.node("Relu", [x])
    let picked = try builder.node("Gather", [hidden, index])
    let sum = try builder.node("Add", [hidden, builder.weights([4])])
    builder.output(picked, sum)
    let names = ["picked", "sum"]
    var graph = builder.graph
    for (value, name) in zip([picked, sum], names) { graph[value].name = name }
    let model = try Model(ModelGraph(graph: graph), options: ModelOptions(threads: 1))
    let input = sampleTensor([3, 4], seed: 3)
    let all = try model.run(["x": input, "index": Tensor([Int64(1)])])
    var options = RunOptions()
    options.outputs = [names[1]]
    // The row is not there: only who asks for it hears of that.
    let far = Tensor([Int64(7)])
    let one = try model.run(["x": input, "index": far], options: options)
    #expect(one.count == 1)
    #expect(one[names[1]]?.elements(as: Float.self) == all[names[1]]?.elements(as: Float.self))
    #expect(throws: RunError.self) { try model.run(["x": input, "index": far]) }
    options.outputs = [names[0]]
    #expect(throws: RunError.self) { try model.run(["x": input, "index": far], options: options) }
    options.outputs = []
    #expect(try model.run(["x": input, "index": far], options: options).isEmpty)
    options.outputs = names.reversed()
    let both = try model.run(["x": input, "index": Tensor([Int64(1)])], options: options)
    for name in names { #expect(both[name]?.elements(as: Float.self) == all[name]?.elements(as: Float.self)) }
  }

  @Test func runsInOrder() throws {
    let model = try model("digits")
    let expected = try model.run(["input": image])
    let found = try model.run(inOrder: [.tensor(image)], settings: RunSettings())
    #expect(found.count == model.outputs.count)
    for (output, value) in zip(model.outputs, found) {
      #expect(value.tensor?.elements(as: Float.self) == expected[output.name]?.elements(as: Float.self))
    }
    let wrong = Tensor([1, 2] as [Float])
    for values in [[], [.tensor(image), .tensor(image)], [.tensor(wrong)]] as [[Value]] {
      #expect(throws: RunError.self) { try model.run(inOrder: values, settings: RunSettings()) }
    }
  }

  /// One name for extents of two inputs: equal only where the graph needs it.
  @Test func oneSymbolOfTwoSizes() throws {
    func model(_ op: String, _ attributes: [(String, AttributeValue)] = []) throws -> Model {
      let builder = GraphBuilder()
      let (a, b) = (builder.input("a", [.symbol("N")]), builder.input("b", [.symbol("N")]))
      builder.output(try builder.node(op, [a, b], attributes))
      var graph = builder.graph
      graph[graph.outputs[0]].name = "y"
      return try Model(ModelGraph(graph: graph), options: ModelOptions())
    }
    let (four, three) = (Tensor([Float(1), 2, 3, 4]), Tensor([Float(5), 6, 7]))
    let joined = try model("Concat", [("axis", .int(0))])
    #expect(joined.inputs.map { "\($0.type)" } == ["float32[N]", "float32[N]"])
    for (a, b) in [(four, three), (three, four), (four, four), (three, four)] {
      let expected = (a.elements(as: Float.self) ?? []) + (b.elements(as: Float.self) ?? [])
      #expect(try joined.run(["a": a, "b": b])["y"]?.elements(as: Float.self) == expected)
    }
    let added = try model("Add")
    #expect(try added.run(["a": four, "b": four])["y"]?.elements(as: Float.self) == [2, 4, 6, 8])
    do throws(RunError) {
      _ = try added.run(["a": four, "b": three])
      Issue.record("4 and 3 elements were added")
    } catch {
      #expect(error.description.contains("4") && error.description.contains("3"))
    }
    // Those that must be equal are called as in the file, whatever they are called inside.
    let mixed = GraphBuilder()
    let values = ["a", "b", "c"].map { mixed.input($0, [.symbol("N")]) }
    let product = try mixed.node("Mul", [values[1], values[2]])
    mixed.output(try mixed.node("Concat", [values[0], product], [("axis", .int(0))]))
    let ofThree = try Model(ModelGraph(graph: mixed.graph), options: ModelOptions())
    do throws(RunError) {
      _ = try ofThree.run(["a": three, "b": four, "c": three])
      Issue.record("4 and 3 elements were multiplied")
    } catch {
      #expect(error.description.contains("dimension 'N' is 4 by input 'b' axis 0 and 3 by input 'c' axis 0"))
    }
    // What the caller gives as shapes goes by input.
    var options = ModelOptions()
    options.shapes = ["a": [4], "b": [3]]
    let builder = GraphBuilder()
    let (a, b) = (builder.input("a", [.symbol("N")]), builder.input("b", [.symbol("N")]))
    builder.output(try builder.node("Concat", [a, b], [("axis", .int(0))]))
    let fixed = try Model(ModelGraph(graph: builder.graph), options: options)
    #expect(fixed.outputs[0].shape == [7])
  }

  /// More coefficients than count are no error, but the user hears of them.
  @Test func extraCoefficientsAreNoted() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 2])
    let y = try builder.node(
      "LinearRegressor", [x], [("coefficients", .floats([1, 2, 3, 4])), ("targets", .int(1))], domain: "ai.onnx.ml")
    builder.output(y)
    var source = ModelGraph(graph: builder.graph)
    source.graph[y].name = "y"
    (source.irVersion, source.opsets) = (8, ["": 17, "ai.onnx.ml": 1])
    let file = URL(filePath: NSTemporaryDirectory()).appending(path: "\(UUID().uuidString).onnx")
    defer { try? FileManager.default.removeItem(at: file) }
    try ONNXWriter.message(source, registry: .standard).write(to: file.path)
    let model = try Model(contentsOf: file)
    #expect(model.notes.contains { $0.contains("first 2 of 4 coefficients") })
    #expect(try model.run(["x": Tensor([Float(3), 5], shape: [1, 2])])["y"]?.elements(as: Float.self) == [13])
  }

  @Test func preparationHasALimit() throws {
    var options = ModelOptions(threads: 1)
    options.limits.maximumLoadSeconds = 0
    let error = #expect(throws: (any Error).self) { try model("digits", options: options) }
    #expect(error.map { "\($0)".contains("maximumLoadSeconds") } == true)
  }

  /// A node that is folded and would take many seconds: the limit holds inside it.
  @Test func preparationEndsInsideANode() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [1])
    let pooled = try builder.node(
      "LpPool", [builder.weights([1, 1, 700, 700])], [("kernel_shape", .ints([300, 300]))])
    builder.output(try builder.node("Add", [x, try builder.node("ReduceSum", [pooled])]))
    var source = ModelGraph(graph: builder.graph)
    (source.irVersion, source.opsets) = (8, ["": 17])
    let bytes = try ONNXWriter.message(source, registry: .standard).encoded
    var options = ModelOptions(threads: 1)
    options.limits.maximumLoadSeconds = 0.2
    let clock = ContinuousClock()
    let started = clock.now
    let error = #expect(throws: (any Error).self) { try Model(bytes: bytes, options: options) }
    #expect(error.map { "\($0)".contains("maximumLoadSeconds") } == true)
    // A part of a node takes long without optimization; the whole node would take minutes then.
    #if DEBUG
      let longest = Duration.seconds(60)
    #else
      let longest = Duration.seconds(5)
    #endif
    #expect(clock.now - started < longest)
  }

  @Test func dimensionsBind() throws {
    var options = ModelOptions()
    let symbol = try model("digits").inputs[0].dimensions!.first { Int($0) == nil }
    if let symbol {
      options.dimensions = [symbol: 3]
      let bound = try model("digits", options: options)
      #expect(bound.inputs[0].shape == [3, 1, 8, 8])
      #expect(throws: RunError.self) { try bound.run(["input": image]) }
    }
    options.dimensions = ["no such": 3]
    #expect(throws: RunError.self) { try model("digits", options: options) }
  }

  @Test func intermediateValues() throws {
    var options = ModelOptions()
    options.returnsAllValues = true
    let all = try model("digits", options: options)
    #expect(all.outputs.count > 1)
    let results = try all.run(["input": image])
    #expect(results.count == Set(all.outputs.map(\.name)).count)
    options.returnsAllValues = false
    options.extraOutputs = [all.outputs[1].name]
    let one = try model("digits", options: options)
    let value = try one.run(["input": image])[all.outputs[1].name]!
    let difference = zip(
      value.elements(as: Float.self) ?? [], results[all.outputs[1].name]?.elements(as: Float.self) ?? []
    )
    .map { abs($0 - $1) }.max()
    #expect(difference.map { $0 < 1e-4 } ?? false)
  }

  @Test func cancelledTaskEnds() async throws {
    let model = try model("digits")
    let image = self.image
    let task = Task { () -> RunError? in
      while true {
        do throws(RunError) {
          let _: [String: Tensor] = try await model.run(["input": image])
        } catch {
          return error
        }
      }
    }
    task.cancel()
    #expect(await task.value?.code == .cancelled)
  }

  @Test func nestedArraysAndFiles() throws {
    let tensor = Tensor([[1, 2, 3], [4, 5, 6]] as [[Float]])
    #expect(tensor?.shape == [2, 3])
    #expect(tensor?.rows(as: Float.self) == [[1, 2, 3], [4, 5, 6]])
    #expect(Tensor([[1], [2, 3]] as [[Float]]) == nil)
    let file = FileManager.default.temporaryDirectory.appending(path: "apus-\(UUID().uuidString).npy")
    defer { try? FileManager.default.removeItem(at: file) }
    try tensor?.write(npy: file)
    #expect(try Tensor(npy: file).rows(as: Float.self) == [[1, 2, 3], [4, 5, 6]])
  }
}
