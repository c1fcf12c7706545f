// Runs a program: region by region, step by step, part by part.

import ApusGraph
import ApusTensor

/// What one run is allowed, and where it tells what it does.
package struct RunSettings: Sendable {
  /// Stops the run at the next part.
  package var cancellation: CancellationFlag?
  /// The memory of the run in all: the arena, values, scratch memory.
  package let memory: MemoryAccount
  /// Where outputs of the graph go, in place of memory of the engine's own; checked by the caller for size.
  package var outputBuffers: [ValueID: OutputBuffer] = [:]
  package var profiler: Profiler?
  /// False if every output shall be dense from the start.
  package var growsCaches = true
  /// The presence of the run among those of its engine, begun and ended by whoever starts it; nil: it gives way to
  /// nobody.
  package let turn: RunTurn?

  /// For one run, which may hold `maximumBytes` at a time, charged to `account` too.
  package init(
    cancellation: CancellationFlag? = nil, maximumBytes: Int = Int.max, account: MemoryAccount? = nil,
    turn: RunTurn? = nil, profiler: Profiler? = nil
  ) {
    self.cancellation = cancellation
    memory = MemoryAccount(limit: maximumBytes, name: "maximumRunMemory", parent: account)
    self.turn = turn
    self.profiler = profiler
  }

  var allowance: Allowance { .run(memory: memory, cancellation: cancellation) }
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
    var inputs = inputs
    return try run(&inputs, donating: [], captures: captures, on: pool, settings: settings)
  }

  /// Runs the graph. The inputs with the numbers `donated` are taken out of the array, and the run may write over those
  /// to whose memory nothing else refers.
  package func run(
    _ inputs: inout [Value], donating donated: [Int], captures: [Value] = [], on pool: WorkerPool,
    settings: RunSettings = RunSettings()
  ) throws(OperatorError) -> [Value] {
    guard inputs.count == graph.inputs.count, captures.count == graph.captures.count else {
      throw .inconsistency(
        "\(inputs.count) inputs and \(captures.count) captured values for a graph of \(graph.inputs.count) and "
          + "\(graph.captures.count)")
    }
    var values = tables.take()
    values.insert(inputs, for: graph.inputs)
    for input in donated { inputs[input] = .nothing }
    values.donated = donated
    values.insert(captures, for: graph.captures)
    try runNodes(&values, pool: pool, settings: settings)
    var outputs: [Value] = []
    outputs.reserveCapacity(graph.outputs.count)
    for id in graph.outputs where !values.append(id, to: &outputs) {
      throw .mismatch("output '\(graph[id].name)' was not computed", remedy: "Give a value for every input")
    }
    tables.give(values)
    return outputs
  }

  private func runNodes(
    _ values: inout ValueTable, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) {
    var index = 0
    while index < nodes.count {
      try checkTime(settings.cancellation, settings.turn)
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
  }

  /// Forgets the values that no later node needs.
  private func drop(after range: Range<Int>, from values: inout ValueTable) {
    for index in range {
      for value in dying[index] { values[value] = nil }
    }
  }

  // MARK: - Planned nodes

  private func runRegion(
    startingAt start: Int, values: inout ValueTable, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) -> Int {
    if let end = try attemptRegion(startingAt: start, values: &values, pool: pool, settings: settings) { return end }
    var dense = settings
    dense.growsCaches = false
    if let end = try attemptRegion(startingAt: start, values: &values, pool: pool, settings: dense) { return end }
    throw .inconsistency("a kernel declines a plan without caches that grow")
  }

  /// nil if a kernel has declined what the plan does with a cache.
  private func attemptRegion(
    startingAt start: Int, values: inout ValueTable, pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) -> Int? {
    let donations = values.donated.isEmpty ? Donations() : values.donations(among: graph.inputs)
    let plan = try plan(startingAt: start, values: values, threads: pool.threadCount, donations, settings)
    let allowance = settings.allowance
    try allowance.chargeWorkspace(plan.arenaBytes)
    let lease = leases.take()
    defer { leases.give(lease) }
    try lease.reserve(plan.arenaBytes, available: settings.memory.available)
    let table = lease.table(for: plan)
    var caches: [GrowingBlock?] = []
    for cache in plan.caches { caches.append(try cache.block(behind: values.tensor(cache.pair.past), allowance)) }
    var (inputs, blocks) = lease.takeArrays()
    // Kernels may ask for the alignment of their element type.
    for index in plan.inputs.indices {
      let value = plan.inputs[index].value
      guard plan.appended.isEmpty || !plan.appended.contains(value), let tensor = values.tensor(value) else {
        table.inputAddresses[index] = nil
        inputs.append(nil)
        continue
      }
      let aligned = try allowance.aligned(tensor, to: 16)
      table.inputAddresses[index] = UnsafeMutableRawPointer(mutating: aligned.base)
      inputs.append(aligned)
    }
    try addBlocks(of: plan, to: &blocks, settings)
    for index in blocks.indices { table.blockAddresses[index] = blocks[index].base }
    try patch(table)
    for patch in table.cachePatches {
      guard let block = caches[patch.cache] else { throw .inconsistency("cache \(patch.cache) lies nowhere") }
      table.pointers[patch.position] = block.base
    }
    do {
      defer { withExtendedLifetime((inputs, blocks, caches)) {} }
      try run(plan, table: table, failures: lease.failures, pool: pool, settings: settings)
    }
    if !caches.isEmpty, lease.failures.reduce(false, { $1.takeDeclined() || $0 }) { return nil }
    for index in plan.outputs.indices {
      let output = try tensor(of: index, plan, inputs: inputs, blocks: blocks, caches: caches)
      values.set(.tensor(output), for: plan.outputs[index].value)
    }
    lease.give(&inputs, &blocks)
    return plan.nodes.upperBound
  }

  /// Puts the addresses of inputs and blocks where steps find them.
  @inline(__always)
  func patch(_ table: OperandTable) throws(OperatorError) {
    for patch in table.inputPatches {
      guard let address = table.inputAddresses[patch.slot] else {
        let value = table.plan.inputs[patch.slot].value
        throw .inconsistency("value '\(graph[value].name)' is absent where a step reads it")
      }
      table.pointers[patch.position] = address + patch.byteOffset
    }
    for patch in table.outputPatches {
      guard let address = table.blockAddresses[patch.block] else {
        throw .inconsistency("block \(patch.block) is absent where a step writes it")
      }
      table.pointers[patch.position] = address + patch.byteOffset
    }
  }

  /// The plan of the region that starts at a node: one made before, one bound from the template, or a new one.
  func plan(
    startingAt start: Int, values: borrowing ValueTable, threads: Int, _ donations: Donations, _ settings: RunSettings
  ) throws(OperatorError) -> RegionPlan {
    let mayGrow = settings.growsCaches && settings.outputBuffers.isEmpty
    if let cached = plans.plan(startingAt: start, for: values, mayGrow: mayGrow, donations) { return cached }
    // One plan for all runs, if no step can write over what was given away; else one for those that may, as in all
    // iterations of a loop but the first, beside that for this run.
    let plan = try newPlan(startingAt: start, values: values, threads: threads, donations.given, mayGrow, settings)
    if plan.suits(donations) {
      plans.insert(plan) { TemplateBuilder.template(of: plan, in: self) }
      return plan
    }
    plans.insert(plan)
    let smaller = try newPlan(startingAt: start, values: values, threads: threads, donations.free, mayGrow, settings)
    plans.insert(smaller) { TemplateBuilder.template(of: smaller, in: self) }
    return smaller
  }

  /// A plan whose steps may write over the values `donated`.
  private func newPlan(
    startingAt start: Int, values: borrowing ValueTable, threads: Int, _ donated: [ValueID], _ mayGrow: Bool,
    _ settings: RunSettings
  ) throws(OperatorError) -> RegionPlan {
    // A plan takes no memory yet: what the engine has left counts when its arena and outputs are allocated.
    let available = settings.memory.remaining
    if let template = plans.template(startingAt: start),
      let bound = try template.bind(
        self, values: values, threads: threads, available: available, mayGrow: mayGrow, donated: donated)
    {
      return bound
    }
    return try RegionPlanner.plan(
      self, startingAt: start, values: values, threads: threads, available: available, mayGrow: mayGrow,
      donated: donated)
  }

  /// Memory for the blocks that outlive the region: the caller's where an output fills a block and kernels may write to
  /// the address, new memory otherwise.
  private func addBlocks(
    of plan: RegionPlan, to blocks: inout [TensorStorage], _ settings: RunSettings
  ) throws(OperatorError) {
    let allowance = settings.allowance
    for (index, byteCount) in plan.outputBlocks.enumerated() {
      if !settings.outputBuffers.isEmpty, let buffer = buffer(for: index, of: plan, settings.outputBuffers) {
        blocks.append(TensorStorage(base: buffer.base, byteCount: buffer.byteCount, release: nil))
      } else {
        blocks.append(try allowance.allocate(byteCount: byteCount))
      }
    }
  }

  /// The caller's memory that an output block can lie in.
  private func buffer(for block: Int, of plan: RegionPlan, _ buffers: [ValueID: OutputBuffer]) -> OutputBuffer? {
    for output in plan.outputs {
      guard case .output(block, 0) = output.source, let buffer = buffers[output.value],
        buffer.byteCount >= plan.outputBlocks[block], output.type.byteCount == plan.outputBlocks[block],
        UInt(bitPattern: buffer.base) % 16 == 0
      else { continue }
      return buffer
    }
    return nil
  }

  /// An output of a region that has run.
  private func tensor(
    of index: Int, _ plan: RegionPlan, inputs: [Tensor?], blocks: [TensorStorage], caches: [GrowingBlock?]
  ) throws(OperatorError) -> Tensor {
    let type = plan.outputs[index].type
    switch plan.outputs[index].source {
    case .constant(let number):
      return plan.constant(number)
    case .output(let block, let byteOffset):
      return Tensor(dataType: type.dataType, shape: type.shape, storage: blocks[block], byteOffset: byteOffset)
    case .input(let slot, let byteOffset):
      guard let source = inputs[slot] else { break }
      return Tensor(
        dataType: type.dataType, shape: type.shape, storage: source.storage, byteOffset: source.byteOffset + byteOffset)
    case .cache(let cache):
      guard let block = caches[cache] else { break }
      do throws(TensorError) {
        return try Tensor(type.dataType, type.shape, rowsOf: block)
      } catch {
        throw OperatorError(error)
      }
    case .arena, .none: break
    }
    throw .inconsistency("value '\(graph[plan.outputs[index].value].name)' lies nowhere that outlives its region")
  }

  /// Computes all steps of a plan whose addresses are in place.
  func run(
    _ plan: RegionPlan, table: OperandTable, failures: [RunFailure], pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) {
    let (cancellation, turn, profiler) = (settings.cancellation, settings.turn, settings.profiler)
    let (steps, phases, failure) = (plan.steps, plan.phases, failures[0])
    for wave in plan.waves {
      // A profile shows each node by itself.
      if wave.count == 1 || profiler != nil {
        for index in wave {
          let started = profiler?.now() ?? 0
          run(
            steps[index], phases: phases, table: table, failure: failure, pool: pool, cancellation: cancellation,
            turn: turn)
          if let profiler {
            profiler.record(node: nodes[steps[index].node].node, step: plan.profile(of: index), from: started)
          }
          if let message = failure.take() { try check(message, of: steps[index]) }
          try checkTime(cancellation, turn)
        }
        continue
      }
      runSideBySide(plan, wave, table: table, failures: failures, pool: pool, settings: settings)
      let messages = failures.map { $0.take() }
      for (step, message) in zip(wave, messages) { try check(message, of: plan.steps[step]) }
      try checkTime(cancellation, turn)
    }
  }

  /// Computes one step. `phases`: the parts of all phases of the plan.
  @inline(__always)
  private func run(
    _ planned: PlannedStep, phases: [Int], table: OperandTable, failure: RunFailure, pool: WorkerPool,
    cancellation: CancellationFlag?, turn: RunTurn?
  ) {
    let context = planned.context(table, failure)
    for phase in planned.phases {
      let parts = phases[phase]
      let number = phase &- planned.phases.lowerBound
      if parts == 1 {
        planned.draft.step.body(context, number, 0)
      } else if parts > 1 {
        // `work` lives until the call returns, which is after all parts have ended.
        var work = PhaseWork(draft: planned.draft, context: context, phase: number)
        withUnsafePointer(to: &work) { pointer in
          _ = pool.run(
            parts: parts, cancellation: cancellation, turn: turn, context: pointer, PhaseWork.compute)
        }
      }
    }
  }

  /// Lets more urgent runs go first, and throws if the run was cancelled or its time is over: `Allowance.checkTime`,
  /// without an allowance to make.
  @inline(__always)
  func checkTime(_ cancellation: CancellationFlag?, _ turn: RunTurn?) throws(OperatorError) {
    if let turn, turn.isOutranked { turn.giveWay(cancellation) }
    if let cancellation, cancellation.isCancelled { throw .cancelled }
  }

  /// The first phases of all steps together, then the second ones, and so on.
  private func runSideBySide(
    _ plan: RegionPlan, _ wave: Range<Int>, table: OperandTable, failures: [RunFailure], pool: WorkerPool,
    settings: RunSettings
  ) {
    let steps = plan.steps[wave]
    withUnsafeTemporaryAllocation(of: PhaseWork.self, capacity: steps.count) { works in
      for (index, planned) in steps.enumerated() {
        let context = planned.context(table, failures[index])
        works.initializeElement(at: index, to: PhaseWork(draft: planned.draft, context: context, phase: 0))
      }
      withUnsafeTemporaryAllocation(of: ParallelTask.self, capacity: steps.count) { tasks in
        for phase in 0..<(steps.lazy.map(\.phases.count).max() ?? 0) {
          var end = 0
          for (index, planned) in steps.enumerated() {
            works[index].phase = phase
            end += phase < planned.phases.count ? plan.phases[planned.phases.lowerBound + phase] : 0
            let task = ParallelTask(endPart: end, context: works.baseAddress! + index, PhaseWork.compute)
            tasks.initializeElement(at: index, to: task)
          }
          pool.runGroup(UnsafeBufferPointer(tasks), cancellation: settings.cancellation, turn: settings.turn)
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
    inputs.reserveCapacity(prepared.inputs.count)
    for index in prepared.inputs.indices {
      if let input = prepared.inputs[index] { values.append(input, to: &inputs) } else { inputs.append(nil) }
    }
    var captures: [[Value]] = []
    captures.reserveCapacity(prepared.subprograms.count)
    for subprogram in prepared.subprograms {
      var captured: [Value] = []
      captured.reserveCapacity(subprogram.captured.count)
      for id in subprogram.captured {
        if values.append(id, to: &captured) { continue }
        throw OperatorError.inconsistency(
          "value '\(graph[id].name)', which \(subprogram.name) uses, was not computed"
        )
        .inside(prepared.node)
      }
      captures.append(captured)
    }
    let context = ExecutorContext(prepared: prepared, captures: captures, pool: pool, settings: settings)
    let started = settings.profiler?.now() ?? 0
    do throws(OperatorError) {
      for position in prepared.inputs.indices where prepared.inputs[position] != nil {
        if case nil = inputs[position] { throw .mismatch("input \(position) was not computed") }
      }
      var outputs = try kernel.execute(inputs, context)
      // Moved, not copied: a loop of small bodies is made of such steps.
      for index in 0..<min(outputs.count, prepared.outputs.count) {
        guard let output = prepared.outputs[index] else { continue }
        try charge(outputs[index], unlessIn: inputs, captures, context.allowance)
        if let value = outputs[index].take() { values.set(value, for: output) } else { values[output] = nil }
      }
    } catch {
      throw error.inside(prepared.node, inputs: inputs.map { $0.map { ValueFact($0.type) } })
    }
    settings.profiler?.record(eager: prepared.node, from: started)
  }
}

extension Program {
  /// Charges what an eager kernel has made by itself, and not what it hands on: that belongs to the caller or the
  /// model, or was charged before.
  private func charge(
    _ value: Value?, unlessIn inputs: [Value?], _ captures: [[Value]], _ allowance: Allowance
  ) throws(OperatorError) {
    guard let value else { return }
    if case .tensor(let tensor) = value {
      // What has an account already needs no look at the others.
      if tensor.storage.isCharged { return }
      for case .tensor(let input)? in inputs where input.storage === tensor.storage { return }
      for captured in captures {
        for case .tensor(let other) in captured where other.storage === tensor.storage { return }
      }
    }
    try allowance.charge(value)
  }
}

/// One phase of a step, as the parts on other threads find it.
private struct PhaseWork {
  let draft: StepDraft
  let context: RunContext
  var phase: Int

  static let compute: PartFunction = { context, part in
    let work = context.assumingMemoryBound(to: PhaseWork.self)
    work.pointee.draft.step.body(work.pointee.context, work.pointee.phase, part)
  }
}

/// What an eager kernel sees of the executor.
private struct ExecutorContext: EagerContext {
  let prepared: PreparedNode
  /// The captured values of each subprogram.
  let captures: [[Value]]
  let pool: WorkerPool
  let settings: RunSettings

  var wantedOutputs: [Bool] { prepared.wantedOutputs }
  var allowance: Allowance { settings.allowance }

  func run(
    subgraph name: String, inputs: inout [Value], donating donated: [Int]
  ) throws(OperatorError) -> [Value] {
    let index = try number(ofSubgraph: name)
    return try prepared.subprograms[index].program.run(
      &inputs, donating: donated, captures: captures[index], on: pool, settings: innerSettings)
  }

  func run(subgraph name: String, _ iterations: Iterations) throws(OperatorError) -> IterationResults? {
    let index = try number(ofSubgraph: name)
    return try prepared.subprograms[index].program.run(
      iterations, captures: captures[index], on: pool, settings: innerSettings)
  }

  private func number(ofSubgraph name: String) throws(OperatorError) -> Int {
    guard let index = prepared.subprograms.firstIndex(where: { $0.name == name }) else {
      throw .invalid("subgraph \(name) is missing")
    }
    return index
  }

  /// The buffers are those of the main graph, whose values have numbers of their own.
  private var innerSettings: RunSettings {
    var inner = settings
    if !inner.outputBuffers.isEmpty { inner.outputBuffers = [:] }
    inner.growsCaches = true
    return inner
  }

  func parallel(parts: Int, _ body: (Int) -> Void) {
    pool.run(parts: parts, cancellation: settings.cancellation, turn: settings.turn, body)
  }
}
