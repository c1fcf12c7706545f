// What models share: threads of one engine, and what each may use of them.

import Apus
import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite(.serialized) struct EngineTests {
  private func model(threads: Int?, engine: Engine? = nil) throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [64, 64])
    builder.output(try builder.node("MatMul", [x, builder.weights([64, 64])]))
    var options = ModelOptions(threads: threads)
    options.engine = engine
    return try Model(ModelGraph(graph: builder.graph), options: options)
  }

  @Test func modelsShareAnEngine() throws {
    let models = try (0..<4).map { _ in try model(threads: 7) }
    #expect(models.allSatisfy { $0.engine === models[0].engine && $0.threadCount == 7 })
    let input = sampleTensor([64, 64], seed: 1)
    for model in models { _ = try model.run(["x": input]) }
    // Those that want fewer threads than there are processors take a part of the same.
    let (all, serial) = (try model(threads: nil), try model(threads: 1))
    #expect(try model(threads: all.threadCount).engine === all.engine)
    #expect(serial.threadCount == 1)
  }

  @Test func enginesOfOnesOwn() throws {
    let engine = Engine(threads: 3)
    #expect(engine.threads == 3)
    let (all, part) = (try model(threads: nil, engine: engine), try model(threads: 2, engine: engine))
    #expect(all.engine === engine && part.engine === engine)
    #expect([all.threadCount, part.threadCount] == [3, 2])
    #expect(try model(threads: 9, engine: engine).threadCount == 3, "an engine has no more")
    let input = sampleTensor([64, 64], seed: 1)
    let results = try [all, part].map { try #require($0.run(["x": input]).values.first) }
    #expect(largestDifference(results[0], results[1]) == 0)
  }

  /// A model of two layers on an engine; the second one has weights of `seed`.
  private func layers(_ seed: Int, engine: Engine) throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 96])
    let first = builder.constant(sampleTensor([96, 128], seed: 1).elements(as: Float.self) ?? [], [96, 128])
    let second = builder.constant(sampleTensor([128, 96], seed: seed).elements(as: Float.self) ?? [], [128, 96])
    let hidden = try builder.node("MatMul", [x, first])
    builder.output(try builder.node("MatMul", [hidden, second]))
    var options = ModelOptions(threads: 1)
    options.engine = engine
    return try Model(ModelGraph(graph: builder.graph), options: options)
  }

  @Test func equalWeightsAreInMemoryOnce() throws {
    let engine = Engine(threads: 1)
    let input = ["x": sampleTensor([5, 96], seed: 9)]
    let model = try layers(2, engine: engine)
    let bytes = engine.weightBytes
    #expect(bytes >= 2 * 96 * 128 * 4)
    let same = try layers(2, engine: engine)
    #expect(engine.weightBytes == bytes)
    // A version with another second layer: one layer more.
    var version: Model? = try layers(3, engine: engine)
    #expect(engine.weightBytes > bytes + 96 * 128 * 3 && engine.weightBytes < bytes + 96 * 128 * 5)
    let results = try [model, same].map { try #require($0.run(input).values.first) }
    #expect(largestDifference(results[0], results[1]) == 0)
    let other = try #require(version?.run(input).values.first)
    #expect(largestDifference(results[0], other) > 0.01)
    version = nil
    #expect(engine.weightBytes == bytes, "weights go with the last model that has them")
    #expect(Engine(threads: 1).weightBytes == 0)
  }
}
