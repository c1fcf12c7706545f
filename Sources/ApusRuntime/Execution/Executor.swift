// Runs a program: region by region, step by step, part by part.

import ApusGraph
import ApusTensor

/// What one run is allowed, and where it tells what it does.
package struct RunSettings: Sendable {
  /// Stops the run at the next part.
  package var cancellation: CancellationFlag?
  /// Bytes that the arena, the outputs or one tensor of an eager node may take.
  package var maximumBytes: Int
  /// Where outputs of the graph go, in place of memory of the engine's own; checked by the caller for size.
  package var outputBuffers: [ValueID: OutputBuffer] = [:]
  package var profiler: Profiler?

  package init(cancellation: CancellationFlag? = nil, maximumBytes: Int = Int.max, profiler: Profiler? = nil) {
    self.cancellation = cancellation
    self.maximumBytes = maximumBytes
    self.profiler = profiler
  }
}

/// Memory of the caller that an output is written to.
///
/// `@unchecked Sendable`: the caller promises exclusive use of the bytes until the run has ended.
package struct OutputBuffer: @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int
  package init(base: UnsafeMutableRawPointer, byteCount: Int) { (self.base, self.byteCount) = (base, byteCount) }
}

extension Program {
  /// Runs the graph. `inputs` and `captures` stand in the order of the graph's; the types must fit its facts.
  package func run(
    _ inputs: [Value], captures: [Value] = [], on pool: WorkerPool, settings: RunSettings = RunSettings()
  ) throws(OperatorError) -> [Value] {
    guard inputs.count == graph.inputs.count, captures.count == graph.captures.count else {
      throw .inconsistency(
        "\(inputs.count) inputs and \(captures.count) captured values for a graph of \(graph.inputs.count) and "
          + "\(graph.captures.count)")
    }
    var values = ValueTable(graph: graph)
    for (id, value) in zip(graph.inputs, inputs) { values[id] = value }
    for (id, value) in zip(graph.captures, captures) { values[id] = value }
    var index = 0
    while index < nodes.count {
      if settings.cancellation?.isCancelled ?? false { throw Program.cancelled }
      let first = index
      switch nodes[index].kernel {
      case .eager(let kernel):
        try runEager(kernel, at: index, values: &values, pool: pool, settings: settings)
        index += 1
      case .planned:
        index = try runRegion(startingAt: index, values: &values, pool: pool, settings: settings)
      }
      if index < nodes.count { drop(after: first..<index, from: &values) }
    }
    var outputs: [Value] = []
    for id in graph.outputs {
      guard let value = values[id] else {
        throw .mismatch("output '\(graph[id].name)' was not computed", remedy: "Give a value for every input")
      }
      outputs.append(value)
    }
    return outputs
  }

  static let cancelled = OperatorError(.cancelled, "the run was cancelled or its time was over")

  /// Forgets the values that no later node needs.
  private func drop(after range: Range<Int>, from values: inout ValueTable) {
    for index in range {
      for value in nodes[index].node.dependencies where lastUse[value.index] < range.upperBound { values[value] = nil }
    }
  }

  // MARK: - Planned nodes

  private func runRegion(
    startingAt start: Int, values: inout ValueTable, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) -> Int {
    let plan: RegionPlan
    if let cached = plans.plan(startingAt: start, for: values) {
      plan = cached
    } else {
      plan = try RegionPlanner.plan(self, startingAt: start, values: values, threads: pool.threadCount)
      plans.insert(plan)
    }
    let outputBytes = plan.outputBlocks.reduce(0, +)
    if plan.arenaBytes > settings.maximumBytes || outputBytes > settings.maximumBytes - plan.arenaBytes {
      throw OperatorError(
        .limit, "the run needs \(plan.arenaBytes) bytes of working memory and \(outputBytes) bytes of outputs; "
          + "the limit is \(settings.maximumBytes)", remedy: "Raise the limit or use smaller inputs")
    }
    let lease = leases.take()
    defer { leases.give(lease) }
    try lease.reserve(plan.arenaBytes)
    let table = lease.table(for: plan)
    // Kernels may ask for the alignment of their element type.
    let inputs = plan.inputs.map { values.tensor($0.value).map { $0.isAligned(to: 16) ? $0 : $0.copied() } }
    for patch in table.inputPatches {
      guard let tensor = inputs[patch.slot] else {
        throw .inconsistency("value '\(graph[plan.inputs[patch.slot].value].name)' is absent where a step reads it")
      }
      table.pointers[patch.position] = tensor.storage.base + tensor.byteOffset + patch.byteOffset
    }
    let blocks = outputStorages(of: plan, buffers: settings.outputBuffers)
    for patch in table.outputPatches { table.pointers[patch.position] = blocks[patch.block].base + patch.byteOffset }
    defer { withExtendedLifetime((inputs, blocks)) {} }
    try run(plan, table: table, failures: lease.failures, pool: pool, settings: settings)
    for output in plan.outputs {
      values[output.value] = .tensor(try tensor(of: output, inputs: inputs, blocks: blocks))
    }
    return plan.nodes.upperBound
  }

  /// Memory for the blocks that outlive the region: the caller's where an output fills a block and kernels may write to the
  /// address, new memory otherwise.
  private func outputStorages(of plan: RegionPlan, buffers: [ValueID: OutputBuffer]) -> [TensorStorage] {
    if buffers.isEmpty { return plan.outputBlocks.map { TensorStorage(byteCount: $0) } }
    return plan.outputBlocks.indices.map { index in
      for output in plan.outputs {
        guard case .output(index, 0) = output.source, let buffer = buffers[output.value],
          buffer.byteCount >= plan.outputBlocks[index], output.type.byteCount == plan.outputBlocks[index],
          UInt(bitPattern: buffer.base) % 16 == 0
        else { continue }
        return TensorStorage(base: buffer.base, byteCount: buffer.byteCount, release: nil)
      }
      return TensorStorage(byteCount: plan.outputBlocks[index])
    }
  }

  private func tensor(
    of output: RegionOutput, inputs: [Tensor?], blocks: [TensorStorage]
  ) throws(OperatorError) -> Tensor {
    let type = output.type
    switch output.source {
    case .constant(let tensor):
      return tensor
    case .output(let block, let byteOffset):
      return Tensor(dataType: type.dataType, shape: type.shape, storage: blocks[block], byteOffset: byteOffset)
    case .input(let slot, let byteOffset):
      guard let source = inputs[slot] else { break }
      return Tensor(
        dataType: type.dataType, shape: type.shape, storage: source.storage, byteOffset: source.byteOffset + byteOffset)
    case .arena, .none: break
    }
    throw .inconsistency("value '\(graph[output.value].name)' lies nowhere that outlives its region")
  }

  private func run(
    _ plan: RegionPlan, table: OperandTable, failures: [RunFailure], pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) {
    for wave in plan.waves {
      // A profile shows each node by itself.
      if wave.count == 1 || settings.profiler != nil {
        for step in wave { try run(plan.steps[step], table: table, failure: failures[0], pool: pool, settings: settings) }
        continue
      }
      runSideBySide(plan.steps[wave], table: table, failures: failures, pool: pool, cancellation: settings.cancellation)
      let messages = zip(plan.steps[wave], failures).map { ($0, $1.take()) }
      for (planned, message) in messages { try check(message, of: planned) }
      if settings.cancellation?.isCancelled ?? false { throw Program.cancelled }
    }
  }

  private func run(
    _ planned: PlannedStep, table: OperandTable, failure: RunFailure, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) {
    let started = settings.profiler?.now() ?? 0
    var work = PhaseWork(planned, table: table, failure: failure)
    for parts in planned.step.phases {
      if parts == 1 {
        work.body(work.context, work.phase, 0)
      } else if parts > 1 {
        // `work` lives until the call returns, which is after all parts have ended.
        withUnsafePointer(to: &work) { pointer in
          _ = pool.run(parts: parts, cancellation: settings.cancellation, context: pointer, PhaseWork.compute)
        }
      }
      work.phase += 1
    }
    if let profiler = settings.profiler {
      profiler.record(node: nodes[planned.node].node, planned: planned, from: started)
    }
    try check(failure.take(), of: planned)
    if settings.cancellation?.isCancelled ?? false { throw Program.cancelled }
  }

  /// The first phases of all steps together, then the second ones, and so on.
  private func runSideBySide(
    _ steps: ArraySlice<PlannedStep>, table: OperandTable, failures: [RunFailure], pool: WorkerPool,
    cancellation: CancellationFlag?
  ) {
    withUnsafeTemporaryAllocation(of: PhaseWork.self, capacity: steps.count) { works in
      for (index, planned) in steps.enumerated() {
        works.initializeElement(at: index, to: PhaseWork(planned, table: table, failure: failures[index]))
      }
      withUnsafeTemporaryAllocation(of: ParallelTask.self, capacity: steps.count) { tasks in
        for phase in 0..<(steps.lazy.map(\.step.phases.count).max() ?? 0) {
          var end = 0
          for (index, planned) in steps.enumerated() {
            works[index].phase = phase
            end += phase < planned.step.phases.count ? planned.step.phases[phase] : 0
            let task = ParallelTask(endPart: end, context: works.baseAddress! + index, PhaseWork.compute)
            tasks.initializeElement(at: index, to: task)
          }
          pool.runGroup(UnsafeBufferPointer(tasks), cancellation: cancellation)
        }
      }
      works.deinitialize()
    }
  }

  private func check(_ failure: String?, of planned: PlannedStep) throws(OperatorError) {
    if let failure { throw OperatorError.mismatch(failure).inside(nodes[planned.node].node) }
  }

  // MARK: - Eager nodes

  private func runEager(
    _ kernel: any EagerKernel, at index: Int, values: inout ValueTable, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) {
    let prepared = nodes[index]
    var inputs: [Value?] = []
    for input in prepared.node.inputs { inputs.append(input.flatMap { values[$0] }) }
    var captures: [[Value]] = []
    for subprogram in prepared.subprograms {
      var captured: [Value] = []
      for id in subprogram.captured {
        guard let value = values[id] else {
          throw OperatorError.inconsistency("value '\(graph[id].name)', which \(subprogram.name) uses, was not computed")
            .inside(prepared.node)
        }
        captured.append(value)
      }
      captures.append(captured)
    }
    let context = ExecutorContext(prepared: prepared, captures: captures, pool: pool, settings: settings)
    let started = settings.profiler?.now() ?? 0
    do throws(OperatorError) {
      for (position, input) in prepared.node.inputs.enumerated() where input != nil && inputs[position] == nil {
        throw .mismatch("input \(position) was not computed")
      }
      let outputs = try kernel.execute(inputs, context)
      for (output, value) in zip(prepared.node.outputs, outputs) {
        if let output { values[output] = value }
      }
    } catch {
      throw error.inside(prepared.node, inputs: inputs.map { $0.map { ValueFact($0.type) } })
    }
    settings.profiler?.record(eager: prepared.node, from: started)
  }
}

/// One phase of a step, as the parts on other threads find it.
private struct PhaseWork {
  let body: @Sendable (RunContext, Int, Int) -> Void
  let context: RunContext
  var phase = 0

  init(_ planned: PlannedStep, table: OperandTable, failure: RunFailure) {
    body = planned.step.body
    context = RunContext(
      operands: UnsafePointer(table.pointers + planned.operands), inputCount: planned.inputCount,
      outputCount: planned.outputCount, failure: failure)
  }

  static let compute: PartFunction = { context, part in
    let work = context.assumingMemoryBound(to: PhaseWork.self)
    work.pointee.body(work.pointee.context, work.pointee.phase, part)
  }
}

/// What an eager kernel sees of the executor.
private struct ExecutorContext: EagerContext {
  let prepared: PreparedNode
  /// The captured values of each subprogram.
  let captures: [[Value]]
  let pool: WorkerPool
  let settings: RunSettings

  var wantedOutputs: [Bool] { prepared.node.outputs.map { $0 != nil } }

  func run(subgraph name: String, inputs: [Value]) throws(OperatorError) -> [Value] {
    guard let index = prepared.subprograms.firstIndex(where: { $0.name == name }) else {
      throw .invalid("subgraph \(name) is missing")
    }
    // The buffers are those of the main graph, whose values have numbers of their own.
    var inner = settings
    inner.outputBuffers = [:]
    return try prepared.subprograms[index].program.run(inputs, captures: captures[index], on: pool, settings: inner)
  }

  func parallel(parts: Int, _ body: (Int) -> Void) {
    pool.run(parts: parts, cancellation: settings.cancellation, body)
  }

  func check(allocating bytes: Int) throws(OperatorError) {
    if settings.cancellation?.isCancelled ?? false { throw Program.cancelled }
    if bytes > settings.maximumBytes {
      throw OperatorError(
        .limit, "a tensor of \(bytes) bytes is beyond the limit of \(settings.maximumBytes)",
        remedy: "Raise the limit or use smaller inputs")
    }
  }
}
