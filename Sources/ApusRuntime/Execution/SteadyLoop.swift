// A graph inside a node, run for iteration after iteration with one plan: between two runs a few addresses change, and
// no value is made.

import ApusGraph
import ApusTensor

/// Where an input of the graph lies while a loop runs.
private struct Place {
  enum Owner: Equatable {
    /// What the input with this number was in the first iteration.
    case first(Int)
    /// The tensor whose elements the input with this number is.
    case whole(input: Int)
    case block(cell: Int, number: Int)
  }

  var address: UnsafeMutableRawPointer
  var owner: Owner
}

/// Where an output of the graph lies after an iteration.
private enum Source {
  /// In the memory of a cell.
  case cell(Int, byteOffset: Int)
  /// Where an input lies.
  case input(Int)
  /// At the same address each time.
  case fixed(UnsafeRawPointer)
}

/// Blocks of one size, of which each iteration takes one that no state lies in.
private struct Cell {
  let byteCount: Int
  private(set) var blocks: [TensorStorage] = []
  private(set) var addresses: [UnsafeMutableRawPointer] = []
  /// True if a state may lie in one of its blocks when the next iteration begins.
  var isHeld = false

  init(byteCount: Int) { self.byteCount = byteCount }

  mutating func add(_ block: TensorStorage) {
    blocks.append(block)
    addresses.append(block.address)
  }
}

/// An input that is an element of a tensor, and the bytes of that: `rows` runs of `rowBytes`, `pitch` apart.
private struct ElementInput {
  let input: Int
  /// That of the element of iteration 0.
  let base: UnsafeMutableRawPointer
  /// Bytes from one element to the next.
  let stride: Int
  let rows: Int
  let rowBytes: Int
  let pitch: Int
  /// Where it is copied to; nil: it is read where it lies.
  let cell: Int?
}

/// An output of all iterations, one behind the other.
private struct Collection {
  let source: Source
  private let type: TensorType
  private let byteCount: Int
  private var chunks: [(storage: TensorStorage, count: Int)] = []
  private var next: UnsafeMutableRawPointer?
  /// Iterations that the last chunk has room for, and had when it was made.
  private var room = 0
  private var capacity = 0

  /// Bytes of all iterations that are allocated together.
  private static let largestWhole = 1 << 26
  /// Bytes of a chunk, where the number of iterations is not known beforehand or large.
  private static let largestChunk = 1 << 20
  private static let smallestCapacity = 16

  init(_ source: Source, _ type: TensorType) { (self.source, self.type, byteCount) = (source, type, type.byteCount) }

  /// Copies what an iteration has left at an address. `remaining`: iterations that may follow, this one included;
  /// `isExact`: they will.
  @inline(__always)
  mutating func append(
    _ address: UnsafeRawPointer, remaining: Int, isExact: Bool, _ allowance: Allowance
  ) throws(OperatorError) {
    if room == 0 { try addChunk(remaining: remaining, isExact: isExact, allowance) }
    guard let target = next else { return }
    target.copyMemory(from: address, byteCount: byteCount)
    next = target + byteCount
    room &-= 1
  }

  private mutating func addChunk(remaining: Int, isExact: Bool, _ allowance: Allowance) throws(OperatorError) {
    let (whole, overflow) = remaining.multipliedReportingOverflow(by: byteCount)
    let usual = min(max(2 * capacity, Self.smallestCapacity), max(Self.largestChunk / max(byteCount, 1), 1))
    let count = isExact && !overflow && whole <= Self.largestWhole ? remaining : min(remaining, usual)
    let storage = try allowance.allocate(byteCount: count * byteCount)
    chunks.append((storage, count))
    (next, room, capacity) = (storage.address, count, count)
  }

  /// The chunks, each with a new first axis.
  var tensors: [Tensor] {
    chunks.indices.map { index in
      let count = chunks[index].count - (index == chunks.count - 1 ? room : 0)
      return Tensor(
        dataType: type.dataType, shape: Shape([count] + type.shape.dims), storage: chunks[index].storage)
    }
  }
}

/// How a plan of all nodes of a program serves every iteration.
private struct SteadyLoop {
  private let plan: RegionPlan
  private let iterations: Iterations
  private let allowance: Allowance
  /// By input of the graph.
  private let types: [TensorType]
  private var firsts: [Tensor] = []
  private var places: [Place] = []
  /// By slot of the plan: the input of the graph, or -1 for a captured value, which `captured` keeps in its place.
  private var inputOfSlot: [Int] = []
  private var captured: [Tensor] = []
  private var counters: [(input: Int, cell: Int)] = []
  private var elements: [ElementInput] = []
  /// Inputs that are states, what becomes of them, and where they come to lie.
  private var states: [(input: Int, source: Source)] = []
  private var nextPlaces: [Place] = []
  /// First those of the blocks that outlive a run of the plan.
  private var cells: [Cell]
  /// By block of the plan: where it lies in this iteration, in its cell.
  private var blocks: [Int]
  private var collections: [Collection] = []
  private var condition: Source?

  /// What kernels may ask of the addresses of their operands.
  private static let alignment = 16

  /// nil if the plan does not serve every iteration: other ones may have other sizes or elements that it depends on, or
  /// a value is no tensor of whole bytes.
  init?(
    _ program: Program, _ plan: RegionPlan, _ iterations: Iterations, captures: [Value], _ table: OperandTable,
    _ allowance: Allowance
  ) throws(OperatorError) {
    guard plan.nodes == 0..<program.nodes.count, plan.isKept, plan.caches.isEmpty,
      plan.valuesRead.allSatisfy({ SteadyLoop.isSteady($0.value, program.graph, iterations) }),
      let types = SteadyLoop.types(iterations)
    else { return nil }
    (self.plan, self.iterations, self.allowance, self.types) = (plan, iterations, allowance, types)
    cells = plan.outputBlocks.map { Cell(byteCount: $0) }
    blocks = [Int](repeating: 0, count: plan.outputBlocks.count)
    guard try placeInputs(), try placeSlots(program.graph, captures, table), placeStates(program, captures, table),
      collect(program, captures, table), try ownOverwritten(program.graph)
    else { return nil }
    nextPlaces = states.map { places[$0.input] }
  }

  /// True if a value is the same in all iterations.
  private static func isSteady(_ value: ValueID, _ graph: Graph, _ iterations: Iterations) -> Bool {
    guard let input = graph.inputs.firstIndex(of: value) else { return true }
    switch iterations.inputs[input] {
    case .constant: return true
    case .state(let output): return graph.outputs[output] == value
    case .counter, .element: return false
    }
  }

  /// The types of the inputs; nil if something is no tensor of whole bytes.
  private static func types(_ iterations: Iterations) -> [TensorType]? {
    var types: [TensorType] = []
    for value in iterations.first {
      guard let tensor = value.tensor, tensor.dataType != .string, !tensor.dataType.isPacked else { return nil }
      types.append(TensorType(tensor.dataType, tensor.shape))
    }
    return types
  }

  // MARK: - Before the first iteration

  private mutating func placeInputs() throws(OperatorError) -> Bool {
    for (index, input) in iterations.inputs.enumerated() {
      guard let given = iterations.first[index].tensor else { return false }
      let first = try allowance.aligned(given, to: Self.alignment)
      firsts.append(first)
      places.append(Place(address: UnsafeMutableRawPointer(mutating: first.base), owner: .first(index)))
      switch input {
      case .counter:
        guard types[index].dataType == .int64, types[index].count == 1 else { return false }
        counters.append((index, addCell(byteCount: MemoryLayout<Int>.size)))
      case .element(let whole, let axis, let isReversed):
        addElement(index, whole, axis, isReversed)
      case .constant, .state: break
      }
    }
    return true
  }

  private mutating func addCell(byteCount: Int) -> Int {
    cells.append(Cell(byteCount: byteCount))
    return cells.count - 1
  }

  private mutating func addElement(_ input: Int, _ whole: Tensor, _ axis: Int, _ isReversed: Bool) {
    let (rows, extent, bytes) = (whole.shape.count(of: 0..<axis), whole.shape[axis], types[input].byteCount)
    let rowBytes = rows == 0 ? 0 : bytes / rows
    let base = UnsafeMutableRawPointer(mutating: whole.base)
    let isReadInPlace =
      rows == 1 && UInt(bitPattern: base) % UInt(Self.alignment) == 0 && rowBytes % Self.alignment == 0
    elements.append(
      ElementInput(
        input: input, base: base + (isReversed ? (extent - 1) * rowBytes : 0),
        stride: isReversed ? -rowBytes : rowBytes, rows: rows, rowBytes: rowBytes, pitch: extent * rowBytes,
        cell: isReadInPlace ? nil : addCell(byteCount: bytes)))
  }

  /// Finds the inputs of the plan, and sets the addresses of those that stay.
  private mutating func placeSlots(
    _ graph: Graph, _ captures: [Value], _ table: OperandTable
  ) throws(OperatorError) -> Bool {
    for slot in plan.inputs.indices {
      let value = plan.inputs[slot].value
      if let input = graph.inputs.firstIndex(of: value) {
        inputOfSlot.append(input)
        continue
      }
      guard let number = graph.captures.firstIndex(of: value), let tensor = captures[number].tensor else {
        return false
      }
      let aligned = try allowance.aligned(tensor, to: Self.alignment)
      captured.append(aligned)
      inputOfSlot.append(-1)
      table.inputAddresses[slot] = UnsafeMutableRawPointer(mutating: aligned.base)
    }
    return true
  }

  /// Where an output of the graph lies, and its type; nil if that is nowhere which lasts.
  private func source(
    _ output: Int, _ program: Program, _ captures: [Value], _ table: OperandTable
  ) -> (Source, TensorType)? {
    let value = program.graph.outputs[output]
    if let found = plan.outputs.first(where: { $0.value == value }) {
      switch found.source {
      case .output(let block, let byteOffset): return (.cell(block, byteOffset: byteOffset), found.type)
      case .constant(let number): return (.fixed(plan.constantBase(number)), found.type)
      case .input(let slot, 0):
        if inputOfSlot[slot] >= 0 { return (.input(inputOfSlot[slot]), found.type) }
        return table.inputAddresses[slot].map { (.fixed(UnsafeRawPointer($0)), found.type) }
      case .input, .arena, .cache, .none: return nil
      }
    }
    if let input = program.graph.inputs.firstIndex(of: value) { return (.input(input), types[input]) }
    let capture = program.graph.captures.firstIndex(of: value).flatMap { captures[$0].tensor }
    guard let tensor = capture ?? program.constants[value.index], tensor.dataType != .string else { return nil }
    return (.fixed(tensor.base), TensorType(tensor.dataType, tensor.shape))
  }

  private mutating func placeStates(_ program: Program, _ captures: [Value], _ table: OperandTable) -> Bool {
    for (index, input) in iterations.inputs.enumerated() {
      guard case .state(let output) = input else { continue }
      guard let (source, type) = source(output, program, captures, table), type == types[index] else { return false }
      switch source {
      case .cell(let cell, _): cells[cell].isHeld = true
      case .input(let other):
        for counter in counters where counter.input == other { cells[counter.cell].isHeld = true }
        for element in elements where element.input == other {
          if let cell = element.cell { cells[cell].isHeld = true }
        }
      case .fixed: return false
      }
      states.append((index, source))
    }
    return true
  }

  /// Finds the outputs that are collected, and the condition.
  private mutating func collect(_ program: Program, _ captures: [Value], _ table: OperandTable) -> Bool {
    if let output = iterations.condition {
      guard let (source, type) = source(output, program, captures, table), type.dataType == .bool, type.count == 1
      else { return false }
      condition = source
    }
    for output in iterations.collected {
      guard let (source, type) = source(output, program, captures, table), !type.dataType.isPacked else { return false }
      collections.append(Collection(source, type))
    }
    return true
  }

  /// Gives states that steps write over memory of their own. False if one may come to lie where something else does.
  private mutating func ownOverwritten(_ graph: Graph) throws(OperatorError) -> Bool {
    for value in plan.overwritten {
      guard let input = graph.inputs.firstIndex(of: value), let state = states.first(where: { $0.input == input })
      else { return false }
      let sharing = states.count { other in
        switch (state.source, other.source) {
        case (.cell(let cell, _), .cell(let second, _)): cell == second
        case (.input(let first), .input(let second)): first == second
        default: false
        }
      }
      guard sharing == 1 else { return false }
      if case .input(let other) = state.source, !plan.overwritten.contains(graph.inputs[other]) { return false }
      let block = try allowance.allocate(byteCount: types[input].byteCount)
      block.address.copyMemory(from: places[input].address, byteCount: block.byteCount)
      let cell = addCell(byteCount: block.byteCount)
      cells[cell].add(block)
      places[input] = Place(address: block.address, owner: .block(cell: cell, number: 0))
    }
    return true
  }

  // MARK: - One iteration

  /// The number of a block of a cell that no state lies in.
  @inline(__always)
  private mutating func freeBlock(of cell: Int) throws(OperatorError) -> Int {
    var number = 0
    if cells[cell].isHeld {
      while isTaken(cell, number) { number &+= 1 }
    }
    if number == cells[cell].addresses.count {
      cells[cell].add(try allowance.allocate(byteCount: cells[cell].byteCount))
    }
    return number
  }

  private func isTaken(_ cell: Int, _ number: Int) -> Bool {
    for index in states.indices where places[states[index].input].owner == .block(cell: cell, number: number) {
      return true
    }
    return false
  }

  /// Takes a free block of a cell for an input.
  private mutating func renew(_ input: Int, in cell: Int) throws(OperatorError) -> UnsafeMutableRawPointer {
    let number = try freeBlock(of: cell)
    let address = cells[cell].addresses[number]
    places[input] = Place(address: address, owner: .block(cell: cell, number: number))
    return address
  }

  /// Sets the addresses of what the plan reads and writes.
  mutating func begin(_ iteration: Int, _ table: OperandTable) throws(OperatorError) {
    for index in counters.indices {
      try renew(counters[index].input, in: counters[index].cell).storeBytes(of: iteration, as: Int.self)
    }
    for index in elements.indices { try place(elements[index], iteration) }
    for slot in inputOfSlot.indices where inputOfSlot[slot] >= 0 {
      table.inputAddresses[slot] = places[inputOfSlot[slot]].address
    }
    for block in blocks.indices {
      let number = try freeBlock(of: block)
      blocks[block] = number
      table.blockAddresses[block] = cells[block].addresses[number]
    }
  }

  private mutating func place(_ element: ElementInput, _ iteration: Int) throws(OperatorError) {
    let source = element.base + iteration &* element.stride
    guard let cell = element.cell else {
      places[element.input] = Place(address: source, owner: .whole(input: element.input))
      return
    }
    let target = try renew(element.input, in: cell)
    for row in 0..<element.rows {
      (target + row &* element.rowBytes).copyMemory(
        from: source + row &* element.pitch, byteCount: element.rowBytes)
    }
  }

  @inline(__always)
  private func address(_ source: Source) -> UnsafeRawPointer {
    switch source {
    case .cell(let cell, let byteOffset): UnsafeRawPointer(cells[cell].addresses[blocks[cell]] + byteOffset)
    case .input(let input): UnsafeRawPointer(places[input].address)
    case .fixed(let address): address
    }
  }

  /// Collects outputs and hands states on. False if no iteration follows.
  mutating func end(_ iteration: Int) throws(OperatorError) -> Bool {
    for index in collections.indices {
      try collections[index].append(
        address(collections[index].source), remaining: iterations.limit - iteration,
        isExact: iterations.condition == nil, allowance)
    }
    var goesOn = iteration + 1 < iterations.limit
    if let condition, address(condition).load(as: UInt8.self) == 0 { goesOn = false }
    for index in states.indices { nextPlaces[index] = try place(of: states[index].source) }
    for index in states.indices { places[states[index].input] = nextPlaces[index] }
    return goesOn
  }

  @inline(__always)
  private func place(of source: Source) throws(OperatorError) -> Place {
    switch source {
    case .cell(let cell, let byteOffset):
      return Place(
        address: cells[cell].addresses[blocks[cell]] + byteOffset, owner: .block(cell: cell, number: blocks[cell]))
    case .input(let input): return places[input]
    case .fixed: throw .inconsistency("a state of a loop is a constant")
    }
  }

  // MARK: - After the last one

  func results() -> IterationResults {
    IterationResults(states: states.map { .tensor(tensor(of: $0.input)) }, collected: collections.map(\.tensors))
  }

  private func tensor(of input: Int) -> Tensor {
    let (place, type) = (places[input], types[input])
    var storage = firsts[input].storage
    switch place.owner {
    case .first(let index): storage = firsts[index].storage
    case .whole(let index):
      if case .element(let whole, _, _) = iterations.inputs[index] { storage = whole.storage }
    case .block(let cell, let number): storage = cells[cell].blocks[number]
    }
    return Tensor(
      dataType: type.dataType, shape: type.shape, storage: storage,
      byteOffset: UnsafeRawPointer(place.address) - UnsafeRawPointer(storage.address))
  }
}

extension Program {
  /// Runs the graph for iteration after iteration, with one plan for all. nil, and nothing has run, if that is not
  /// possible: the iterations are to be run one by one then.
  func run(
    _ iterations: Iterations, captures: [Value], on pool: WorkerPool, settings: RunSettings
  ) throws(OperatorError) -> IterationResults? {
    guard iterations.limit > 1, !nodes.isEmpty, iterations.first.count == graph.inputs.count,
      captures.count == graph.captures.count, nodes.allSatisfy(\.isPlanned)
    else { return nil }
    let plan = try plan(of: iterations, captures, threads: pool.threadCount, settings)
    let allowance = settings.allowance
    try allowance.chargeWorkspace(plan.arenaBytes)
    let lease = leases.take()
    defer { leases.give(lease) }
    try lease.reserve(plan.arenaBytes, available: settings.memory.available)
    let table = lease.table(for: plan)
    guard var loop = try SteadyLoop(self, plan, iterations, captures: captures, table, allowance) else { return nil }
    var (iteration, goesOn) = (0, true)
    while goesOn {
      try checkTime(settings.cancellation, settings.turn)
      try loop.begin(iteration, table)
      try patch(table)
      try run(plan, table: table, failures: lease.failures, pool: pool, settings: settings)
      goesOn = try loop.end(iteration)
      iteration += 1
    }
    return loop.results()
  }

  /// The plan for the sizes of the first iteration. It may write over large states.
  private func plan(
    of iterations: Iterations, _ captures: [Value], threads: Int, _ settings: RunSettings
  ) throws(OperatorError) -> RegionPlan {
    var values = tables.take()
    values.insert(iterations.first, for: graph.inputs)
    values.insert(captures, for: graph.captures)
    var donations = Donations()
    for (index, input) in iterations.inputs.enumerated() {
      guard case .state = input, let bytes = iterations.first[index].tensor?.byteCount else { continue }
      if bytes >= Donations.smallestBytes { donations.append(graph.inputs[index], isFree: true) }
    }
    let found = try plan(startingAt: 0, values: values, threads: threads, donations, settings)
    tables.give(values)
    return found
  }
}
