// Asynchronous runs: a bounded number at a time, in order, without a thread while they wait; priorities of runs.

import Apus
import ApusGraph
import ApusRuntime
import ApusTestSupport
import Foundation
import Synchronization
import Testing

@Suite(.serialized) struct AsyncRunTests {
  private static func model(_ engine: Engine, priority: RunPriority = .normal) throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 64])
    let hidden = try builder.node("Tanh", [try builder.node("MatMul", [x, builder.weights([64, 64])])])
    builder.output(try builder.node("MatMul", [hidden, builder.weights([64, 64])]))
    var source = ModelGraph(graph: builder.graph)
    source.graph[source.graph.outputs[0]].name = "y"
    var options = ModelOptions()
    (options.engine, options.priority) = (engine, priority)
    return try Model(source, options: options)
  }

  private static func input(_ rows: Int) -> [String: Tensor] { ["x": sampleTensor([rows, 64], seed: rows)] }

  private final class Counter: Sendable {
    let value = Atomic<Int>(0)
  }

  /// Takes all threads that the engine has for runs of a priority, until the semaphore is signalled as often.
  private static func block(_ engine: Engine, _ priority: RunPriority = .normal) -> DispatchSemaphore {
    let (gate, inside) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    for _ in 0..<engine.threads {
      engine.queue.submit(RunQueue.Entry(priority, cancellation: CancellationFlag())) { _ in
        inside.signal()
        gate.wait()
      }
    }
    for _ in 0..<engine.threads { inside.wait() }
    return gate
  }

  @Test func manyRunsTakeFewThreadsAndArenas() async throws {
    let rows = 500
    // Arenas for as many runs as there are threads, and one result for each run.
    let engine = Engine(threads: 3, memoryBudget: 1000 * 64 * 4 + 3 * 4 * rows * 64 * 4 + 1000 * rows * 64 * 4)
    let model = try Self.model(engine)
    let expected = try (1...4).map { try model.run(Self.input($0 * rows / 4))["y"]?.elements(as: Float.self) }
    let same = try await withThrowingTaskGroup(of: Bool.self) { group in
      for index in 0..<1000 {
        group.addTask {
          let found = try await model.run(Self.input((index % 4 + 1) * rows / 4))["y"]
          return found?.elements(as: Float.self) == expected[index % 4]
        }
      }
      var same = 0
      for try await isSame in group where isSame { same += 1 }
      return same
    }
    #expect(same == 1000)
    #expect(engine.queue.threadCount <= 9)
    // No result is left: what remains are weights and arenas.
    #expect(engine.memoryBytes <= 4 * 64 * 64 * 4 + 3 * (4 * rows * 64 * 4 + 1 << 17))
  }

  @Test func cancellationWhileWaiting() async throws {
    let engine = Engine(threads: 1)
    let model = try Self.model(engine)
    let gate = Self.block(engine)
    let tasks = (0..<100).map { _ in Task { try await model.run(Self.input(4)) } }
    let kept = Task { try await model.run(Self.input(4)) }
    try await Task.sleep(for: .milliseconds(5))
    for task in tasks { task.cancel() }
    // All end although no thread is free.
    for task in tasks {
      let error = await #expect(throws: RunError.self) { try await task.value }
      #expect(error?.code == .cancelled)
    }
    gate.signal()
    #expect(try await kept.value.count == 1)
    // A task that was cancelled before it began.
    let late = Task {
      try? await Task.sleep(for: .seconds(60))
      return try await model.run(Self.input(4))
    }
    late.cancel()
    let error = await #expect(throws: RunError.self) { try await late.value }
    #expect(error?.code == .cancelled)
  }

  @Test func timeCountsFromTheCall() async throws {
    let engine = Engine(threads: 1)
    let model = try Self.model(engine)
    let gate = Self.block(engine)
    var options = RunOptions()
    options.timeout = 0.03
    let begin = ContinuousClock.now
    let ready = options
    let error = await #expect(throws: RunError.self) { try await model.run(Self.input(4), options: ready) }
    #expect(error?.code == .cancelled)
    #expect(ContinuousClock.now - begin >= .milliseconds(30))
    gate.signal()
    options.timeout = 60
    #expect(try await model.run(Self.input(4), options: options).count == 1)
  }

  /// The priority is that of the model's options, or that of the run's.
  @Test func urgentRunsGoFirst() async throws {
    let engine = Engine(threads: 1)
    let (model, patient) = (try Self.model(engine), try Self.model(engine, priority: .background))
    let gate = Self.block(engine, .high)
    var options = RunOptions()
    options.priority = .background
    let ended = Counter()
    let early = Counter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (model, options) in [(patient, RunOptions()), (model, options)] {
        group.addTask {
          _ = try await model.run(Self.input(4), options: options)
          ended.value.wrappingAdd(1, ordering: .relaxed)
        }
      }
      try await Task.sleep(for: .milliseconds(20))
      // Came later, and is first.
      engine.queue.submit(RunQueue.Entry(.normal, cancellation: CancellationFlag())) { _ in
        usleep(20_000)
        early.value.store(ended.value.load(ordering: .relaxed), ordering: .relaxed)
      }
      gate.signal()
      try await group.waitForAll()
    }
    #expect(ended.value.load(ordering: .relaxed) == 2 && early.value.load(ordering: .relaxed) == 0)
  }

  /// Results are the same bits at every priority, beside runs of other priorities.
  @Test func prioritiesDoNotChangeResults() async throws {
    let engine = Engine(threads: 2)
    let model = try Self.model(engine)
    let expected = try Self.blocking(model, Self.input(200), RunOptions())["y"]?.elements(as: Float.self)
    let isSame = try await withThrowingTaskGroup(of: Bool.self) { group in
      for index in 0..<60 {
        group.addTask {
          var options = RunOptions()
          options.priority = RunPriority.allCases[index % 3]
          let isWaiting = index % 2 == 0
          let found =
            isWaiting
            ? try await model.run(Self.input(200), options: options)
            : try Self.blocking(model, Self.input(200), options)
          return found["y"]?.elements(as: Float.self) == expected
        }
      }
      return try await group.allSatisfy { $0 }
    }
    #expect(isSame)
  }

  private static func blocking(
    _ model: Model, _ input: [String: Tensor], _ options: RunOptions
  ) throws -> [String: Tensor] { try model.run(input, options: options) }

  /// Under runs in the background, an urgent one takes about its own time: they stand still meanwhile.
  @Test func backgroundRunsStandStill() throws {
    let engine = Engine(threads: 2)
    let (urgent, background) = (try Self.model(engine, priority: .high), try Self.model(engine, priority: .background))
    let isOver = Atomic<Bool>(false)
    let before = Atomic<Int>(0)
    let during = Atomic<Int>(0)
    let isUrgent = Atomic<Bool>(false)
    let threads = DispatchGroup()
    for _ in 0..<4 {
      threads.enter()
      // Threads of their own: those of queues may be taken by other tests.
      Thread.detachNewThread {
        defer { threads.leave() }
        while !isOver.load(ordering: .relaxed) {
          _ = try? background.run(Self.input(20), options: RunOptions())
          if isUrgent.load(ordering: .relaxed) {
            during.wrappingAdd(1, ordering: .relaxed)
          } else {
            before.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    while before.load(ordering: .relaxed) == 0 { usleep(1000) }
    // What they make in a while, and what under an urgent run that wants all threads: slices of a tenth of one
    // processor, and what was in progress. Where other programs take the processors, the first may be little, too.
    var standsStill = false
    for _ in 0..<10 where !standsStill {
      let start = before.load(ordering: .relaxed)
      usleep(100_000)
      let usual = before.load(ordering: .relaxed) - start
      let turn = RunTurn(engine.gate, .high, threads: 1024)
      turn.enter()
      isUrgent.store(true, ordering: .relaxed)
      let urgentStart = during.load(ordering: .relaxed)
      usleep(100_000)
      standsStill = during.load(ordering: .relaxed) - urgentStart <= usual / 2 + 4
      isUrgent.store(false, ordering: .relaxed)
      turn.leave()
    }
    #expect(standsStill)
    #expect(try urgent.run(Self.input(20)).count == 1)
    isOver.store(true, ordering: .relaxed)
    threads.wait()
  }
}
