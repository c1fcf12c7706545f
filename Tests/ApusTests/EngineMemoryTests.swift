// The memory budget of an engine: what counts, what is refused and how, what is given back.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTestSupport
import Foundation
import Synchronization
import Testing

@Suite(.serialized) struct EngineMemoryTests {
  /// The bytes of a model whose runs take three times `n * width` numbers of working memory and give as many.
  private static func bytes(width: Int, seed: Int = 1, layers: Int = 2) throws -> [UInt8] {
    let builder = GraphBuilder()
    var x = builder.input("x", [.symbol("n"), Dim(width)])
    for layer in 0..<layers {
      let elements = sampleTensor([width, width], seed: seed + layer).elements(as: Float.self) ?? []
      x = try builder.node("Tanh", [try builder.node("MatMul", [x, builder.constant(elements, [width, width])])])
    }
    builder.output(x)
    var source = ModelGraph(graph: builder.graph)
    source.graph[x].name = "y"
    (source.irVersion, source.opsets) = (8, ["": 17])
    return try ONNXWriter.message(source, registry: .standard).encoded
  }

  private static func load(_ bytes: [UInt8], _ engine: Engine) throws -> Model {
    var options = ModelOptions()
    options.engine = engine
    return try Model(bytes: bytes, options: options)
  }

  private static func input(_ rows: Int, _ width: Int) -> [String: Tensor] {
    ["x": sampleTensor([rows, width], seed: rows)]
  }

  @Test func withoutABudgetNothingIsCounted() throws {
    let engine = Engine(threads: 1)
    let model = try Self.load(Self.bytes(width: 64), engine)
    _ = try model.run(Self.input(3, 64))
    #expect(engine.memoryBudget == nil && engine.memoryBytes == 0)
  }

  @Test func everythingCountsAsLongAsItLives() throws {
    let engine = Engine(threads: 2, memoryBudget: 64 << 20)
    #expect(engine.memoryBudget == 64 << 20 && engine.memoryBytes == 0)
    let weights = 2 * 256 * 256 * 4
    var model: Model? = try Self.load(Self.bytes(width: 256), engine)
    let loaded = engine.memoryBytes
    #expect(loaded >= weights && loaded < 4 * weights)
    // Another one on the same weights shares them.
    var second: Model? = try Self.load(Self.bytes(width: 256), engine)
    #expect(second != nil && engine.memoryBytes < loaded + weights)
    second = nil
    let rows = 1000 * 256 * 4
    let idle = try withExtendedLifetime(model?.run(Self.input(1000, 256))) { _ in
      #expect(engine.memoryBytes >= loaded + 2 * rows, "the arena and the result")
      return engine.memoryBytes - rows
    }
    #expect(engine.memoryBytes == idle)
    model?.releaseMemory()
    #expect(engine.memoryBytes <= loaded + 1 << 16)
    try withExtendedLifetime(model?.run(Self.input(1000, 256))) { _ in
      model = nil
      #expect(engine.memoryBytes == rows, "results outlive their model")
    }
    #expect(engine.memoryBytes == 0)
    #expect(model == nil && second == nil)
  }

  @Test func whatDoesNotFitIsRefused() throws {
    let engine = Engine(threads: 1, memoryBudget: 8 << 20)
    let model = try Self.load(Self.bytes(width: 512), engine)
    let before = engine.memoryBytes
    do throws(RunError) {
      _ = try model.run(Self.input(4000, 512))
      Issue.record("a run took more than there is")
    } catch {
      #expect(error.code == .limitExceeded)
      #expect(error.message.contains("memoryBudget is \(8 << 20)"))
      #expect(error.message.contains("by a model from bytes"))
      #expect(error.remedy.contains("release models"))
    }
    let error = #expect(throws: (any Error).self) { try Self.load(Self.bytes(width: 1024, seed: 7), engine) }
    #expect(error.map { "\($0)".contains("memoryBudget") } == true)
    // Nothing of what was refused is left, and what fits runs.
    #expect(engine.memoryBytes <= before + 1 << 16)
    #expect(try model.run(Self.input(10, 512)).count == 1)
    #expect(throws: (any Error).self) { try Self.load(Self.bytes(width: 64), Engine(memoryBudget: 1000)) }
  }

  @Test func refusalsNameTheModels() throws {
    let folder = URL(filePath: NSTemporaryDirectory()).appending(path: UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let engine = Engine(threads: 1, memoryBudget: 6 << 20)
    var options = ModelOptions()
    options.engine = engine
    var models: [Model] = []
    for (index, name) in ["one.onnx", "two.onnx"].enumerated() {
      let file = folder.appending(path: name)
      try Data(Self.bytes(width: 256, seed: 10 * index + 1)).write(to: file)
      models.append(try Model(contentsOf: file, options: options))
    }
    let error = #expect(throws: RunError.self) { try models[0].run(Self.input(8000, 256)) }
    #expect(error?.message.contains("by 'one.onnx'") == true && error?.message.contains("by 'two.onnx'") == true)
  }

  /// Arenas of models that do nothing make room for a run of another, and for the loading of one.
  @Test func idleMemoryIsGivenBack() throws {
    let engine = Engine(threads: 1, memoryBudget: 14 << 20)
    let models = try (0..<3).map { try Self.load(Self.bytes(width: 128, seed: 10 * $0), engine) }
    let expected = try models.map { try $0.run(Self.input(8000, 128))["y"]?.elements(as: Float.self) }
    #expect(expected.allSatisfy { $0 != nil })
    for _ in 0..<3 {
      for (model, expected) in zip(models, expected) {
        #expect(try model.run(Self.input(8000, 128))["y"]?.elements(as: Float.self) == expected)
        #expect(engine.memoryBytes <= 14 << 20)
      }
    }
    let another = try Self.load(Self.bytes(width: 640, seed: 50), engine)
    #expect(try another.run(Self.input(2, 640)).count == 1)
  }

  /// Loads and runs of random sizes from several threads: never more than the budget, and right results or errors of
  /// the usual form; nothing is left when the models are gone.
  @Test func stress() throws {
    let budget = 12 << 20
    let engine = Engine(threads: 2, memoryBudget: budget)
    let widths = [64, 128, 256]
    let files = try widths.map { try Self.bytes(width: $0) }
    let plain = try files.map { try Model(bytes: $0, options: ModelOptions(threads: 1)) }
    let runs = Atomic<Int>(0)
    let refusals = Atomic<Int>(0)
    let wrong = Atomic<Int>(0)
    let most = Atomic<Int>(0)
    DispatchQueue.concurrentPerform(iterations: 6) { thread in
      var random = SystemRandomNumberGenerator()
      var models: [(kind: Int, model: Model)] = []
      for _ in 0..<60 {
        if models.isEmpty || Int.random(in: 0..<4, using: &random) == 0 {
          let kind = Int.random(in: 0..<3, using: &random)
          if models.count > 2 { models.removeFirst() }
          do {
            models.append((kind, try Self.load(files[kind], engine)))
          } catch {
            refusals.wrappingAdd(1, ordering: .relaxed)
            if !"\(error)".contains("memoryBudget") { wrong.wrappingAdd(1, ordering: .relaxed) }
          }
        }
        guard let (kind, model) = models.randomElement(using: &random) else { continue }
        let input = Self.input([1, 50, 1000, 4000].randomElement(using: &random) ?? 1, widths[kind])
        do {
          let found = try model.run(input)
          most.max(engine.memoryBytes, ordering: .relaxed)
          runs.wrappingAdd(1, ordering: .relaxed)
          let expected = try plain[kind].run(input)
          if found["y"]?.elements(as: Float.self) != expected["y"]?.elements(as: Float.self) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        } catch let error as RunError {
          refusals.wrappingAdd(1, ordering: .relaxed)
          if error.code != .limitExceeded { wrong.wrappingAdd(1, ordering: .relaxed) }
        } catch {
          wrong.wrappingAdd(1, ordering: .relaxed)
        }
        most.max(engine.memoryBytes, ordering: .relaxed)
      }
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(most.load(ordering: .relaxed) <= budget)
    #expect(runs.load(ordering: .relaxed) > 0)
    #expect(engine.memoryBytes == 0)
  }

  @Test func modelsMadeInMemoryCountToo() throws {
    let engine = Engine(threads: 1, memoryBudget: 16 << 20)
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 256])
    builder.output(try builder.node("MatMul", [x, builder.weights([256, 256])]))
    var options = ModelOptions()
    options.engine = engine
    var model: Model? = try Model(ModelGraph(graph: builder.graph), options: options)
    #expect(engine.memoryBytes >= 256 * 256 * 4)
    _ = try model?.run(["x": sampleTensor([4, 256], seed: 1)])
    model = nil
    #expect(engine.memoryBytes == 0)
  }
}
