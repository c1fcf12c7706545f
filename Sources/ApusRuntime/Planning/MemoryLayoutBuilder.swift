// Gives every value of a region its place: shared blocks for views and in-place results, lifetimes, one arena.

import ApusGraph
import ApusTensor

/// Turns the drafts of a region into steps with operands.
///
/// A block is memory with one lifetime. A value lies in a block at a byte offset; views share the block of what they
/// view, and an in-place result takes over the block of the input that it overwrites. Blocks that outlive the region
/// are allocated by each run, all others lie in the arena.
struct MemoryLayoutBuilder: ~Copyable {
  /// The part of the smallest arena that a plan bound from a template may waste: looking for less takes time.
  private static let boundSlack = 1.0 / 16

  struct Result {
    var steps: [PlannedStep] = []
    /// By step.
    var profiles: [StepProfile] = []
    /// The parts of each phase of each step.
    var phases: [Int] = []
    /// The steps that run side by side, as ranges of `steps`.
    var waves: [Range<Int>] = []
    var operands: [OperandSource] = []
    var outputBlocks: [Int] = []
    var arenaBytes = 0
    /// No arena can be smaller.
    var arenaLowerBound = 0
    /// What lies in the arena.
    var arenaBlocks: [ArenaBlock] = []
  }

  /// Where a value lies. Small and without references: there is one for every value of the graph.
  private struct Place {
    enum Kind: UInt8 {
      case nowhere
      /// In the block `index`.
      case block
      /// In the input of the region at slot `index`.
      case input
      /// In the constant or known value `index`.
      case known
      /// In the cache `index`.
      case cache
    }
    var kind = Kind.nowhere
    var index: Int32 = 0
    var byteOffset = 0
  }

  private struct Block {
    var bytes: Int
    var firstWave: Int
    var lastWave: Int
    /// True if a value in it is needed after the region.
    var outlives = false
    /// Set by `assignAddresses`: the offset in the arena, or the number of the block among those that outlive.
    var address = 0
  }

  private let program: Program
  private let nodes: Range<Int>
  /// In the order in which they run.
  private let drafts: [StepDraft]
  /// By draft: its wave.
  private let waves: [Int]
  private let known: KnownTensors
  private let isBound: Bool
  /// By value of the graph.
  private var places: [Place]
  private var blocks: [Block] = []
  /// By draft: the block of its scratch memory.
  private var scratch: [Int?] = []
  /// By block: the block that it was merged into, or itself.
  private var mergedInto: [Int] = []

  init(_ region: RegionDraft, program: Program, order: SideBySide.Order) {
    self.program = program
    nodes = region.nodes
    known = region.known
    isBound = region.isBound
    drafts = order.drafts.map { region.drafts[$0] }
    waves = order.waves
    places = [Place](repeating: Place(), count: known.count)
    for (slot, input) in region.inputs.enumerated() {
      places[input.value.index] = Place(kind: .input, index: Int32(slot))
    }
    for (index, cache) in region.caches.caches.enumerated() where cache.pitch != nil {
      places[cache.pair.present.index] = Place(kind: .cache, index: Int32(index))
    }
  }

  mutating func build() throws(OperatorError) -> Result {
    placeOutputs()
    mergedInto = Array(blocks.indices)
    findLifetimes()
    mergeInPlace()
    var result = Result()
    try assignAddresses(&result)
    var lastWave = -1
    result.steps.reserveCapacity(drafts.count)
    result.operands.reserveCapacity(4 * drafts.count)
    result.phases.reserveCapacity(drafts.count)
    result.waves.reserveCapacity(drafts.count)
    result.profiles.reserveCapacity(drafts.count)
    for (index, draft) in drafts.enumerated() where !draft.step.phases.isEmpty {
      let prepared = program.nodes[draft.node]
      let first = result.operands.count
      for (position, input) in prepared.inputs.enumerated() {
        guard let input, !draft.step.unreadInputs.contains(position) else {
          result.operands.append(.none)
          continue
        }
        result.operands.append(
          try source(of: input, as: draft.inputTypes[position], isAligned: !prepared.movesData, for: prepared))
      }
      for (position, output) in prepared.outputs.enumerated() {
        guard let output else {
          result.operands.append(.none)
          continue
        }
        result.operands.append(try source(of: output, as: draft.outputTypes[position], isAligned: false, for: prepared))
      }
      result.operands.append(scratch[index].map { .arena(blocks[$0].address) } ?? .none)
      let start = waves[index] == lastWave ? result.waves.removeLast().lowerBound : result.steps.count
      lastWave = waves[index]
      result.waves.append(start..<result.steps.count + 1)
      let firstPhase = result.phases.count
      result.phases += draft.step.phases
      result.steps.append(
        PlannedStep(
          node: draft.node, body: draft.step.body, phases: firstPhase..<result.phases.count, operands: first,
          inputCount: prepared.inputs.count, outputCount: prepared.outputs.count))
      result.profiles.append(
        StepProfile(
          kernelName: draft.step.kernelName, operations: draft.step.operations, bytes: draft.bytes,
          parts: draft.step.phases.max() ?? 0))
    }
    return result
  }

  /// Where a value that the region leaves behind lies, after `build`.
  func source(of value: ValueID, as type: TensorType) throws(OperatorError) -> OperandSource {
    try source(of: value, as: type, isAligned: false, for: nil)
  }

  /// Where a value lies; at a multiple of its element's width if that is asked for, as by all kernels but those that
  /// move bytes.
  private func source(
    of value: ValueID, as type: TensorType?, isAligned: Bool, for prepared: PreparedNode?
  ) throws(OperatorError) -> OperandSource {
    let place = place(of: value)
    let index = Int(place.index)
    switch place.kind {
    case .nowhere: return .none
    case .input: return .input(slot: index, byteOffset: place.byteOffset)
    case .cache: return .cache(index)
    case .block:
      let block = blocks[root(of: index)]
      return block.outlives
        ? .output(block: block.address, byteOffset: place.byteOffset) : .arena(block.address + place.byteOffset)
    case .known:
      guard let whole = known[index], let type else { return .none }
      let tensor =
        value.index == index
        ? whole
        : Tensor(
          dataType: type.dataType, shape: type.shape, storage: whole.storage,
          byteOffset: whole.byteOffset + place.byteOffset)
      if !isAligned { return .constant(tensor) }
      do throws(TensorError) {
        return .constant(try program.aligned(tensor, rangeOf: whole, root: ValueID(index)))
      } catch {
        throw prepared.map { OperatorError(error).inside($0.node) } ?? OperatorError(error)
      }
    }
  }

  private func root(of block: Int) -> Int {
    var block = block
    while mergedInto[block] != block { block = mergedInto[block] }
    return block
  }

  private func place(of value: ValueID) -> Place {
    let place = places[value.index]
    if place.kind == .nowhere, known.contains(value.index) { return Place(kind: .known, index: Int32(value.index)) }
    return place
  }

  /// The block that a value lies in.
  private func block(of value: ValueID?) -> Int? {
    guard let value, places[value.index].kind == .block else { return nil }
    return Int(places[value.index].index)
  }

  /// One block for every output that is no view, and for every scratch.
  private mutating func placeOutputs() {
    scratch.reserveCapacity(drafts.count)
    for (index, draft) in drafts.enumerated() {
      let node = program.nodes[draft.node]
      for (position, output) in node.outputs.enumerated() {
        guard let output, places[output.index].kind != .cache else { continue }
        if let view = draft.step.views.first(where: { $0.output == position }), let input = node.inputs[view.input] {
          var base = place(of: input)
          if base.kind != .nowhere {
            base.byteOffset += view.byteOffset
            places[output.index] = base
            continue
          }
        }
        guard let type = draft.outputTypes[position] else { continue }
        places[output.index] = Place(kind: .block, index: Int32(blocks.count))
        blocks.append(Block(bytes: type.byteCount, firstWave: waves[index], lastWave: waves[index]))
      }
      if draft.step.scratchBytes > 0 {
        scratch.append(blocks.count)
        blocks.append(Block(bytes: draft.step.scratchBytes, firstWave: waves[index], lastWave: waves[index]))
      } else {
        scratch.append(nil)
      }
    }
  }

  /// The last wave that needs each block.
  private mutating func findLifetimes() {
    for (index, draft) in drafts.enumerated() {
      let node = program.nodes[draft.node]
      for value in node.inputs { use(value, in: waves[index]) }
      for value in node.outputs { use(value, in: waves[index]) }
    }
  }

  private mutating func use(_ value: ValueID?, in wave: Int) {
    guard let value, let block = block(of: value) else { return }
    blocks[block].lastWave = max(blocks[block].lastWave, wave)
    if program.lastUse[value.index] >= nodes.upperBound { blocks[block].outlives = true }
  }

  /// Lets results take over the memory of inputs that die there.
  private mutating func mergeInPlace() {
    for (index, draft) in drafts.enumerated() where !draft.step.inPlace.isEmpty {
      let node = program.nodes[draft.node]
      for pair in draft.step.inPlace {
        guard pair.input < node.inputs.count, let input = node.inputs[pair.input],
          let output = node.outputs[pair.output],
          places[input.index].byteOffset == 0, places[output.index].byteOffset == 0,
          let sourceBlock = block(of: input), let target = block(of: output),
          case let source = root(of: sourceBlock), mergedInto[target] == target, source != target,
          blocks[target].firstWave == waves[index], blocks[source].lastWave == waves[index], !blocks[source].outlives,
          blocks[source].bytes == blocks[target].bytes,
          !isReadTwice(input, otherThan: pair.input, by: node), !isTouchedBeside(index, block: source)
        else { continue }
        blocks[source].lastWave = blocks[target].lastWave
        blocks[source].outlives = blocks[target].outlives
        mergedInto[target] = source
        break
      }
    }
  }

  /// True if another input of the node lies in the same block.
  private func isReadTwice(_ input: ValueID, otherThan position: Int, by node: PreparedNode) -> Bool {
    guard let own = block(of: input) else { return true }
    let root = root(of: own)
    return node.inputs.enumerated().contains { $0 != position && isIn(root, $1) }
  }

  /// True if a value lies in a block or in one that was merged into it.
  private func isIn(_ root: Int, _ value: ValueID?) -> Bool {
    block(of: value).map { self.root(of: $0) == root } ?? false
  }

  /// True if another step of the same wave reads or writes the block.
  private func isTouchedBeside(_ index: Int, block: Int) -> Bool {
    func isTouched(by draft: Int) -> Bool {
      let node = program.nodes[drafts[draft].node]
      return node.inputs.contains { isIn(block, $0) } || node.outputs.contains { isIn(block, $0) }
    }
    var other = index
    while other > 0, waves[other - 1] == waves[index] {
      other -= 1
      if isTouched(by: other) { return true }
    }
    other = index
    while other + 1 < waves.count, waves[other + 1] == waves[index] {
      other += 1
      if isTouched(by: other) { return true }
    }
    return false
  }

  private mutating func assignAddresses(_ result: inout Result) throws(OperatorError) {
    var arenaIndices: [Int] = []
    for index in blocks.indices where mergedInto[index] == index {
      if blocks[index].outlives {
        blocks[index].address = result.outputBlocks.count
        result.outputBlocks.append(blocks[index].bytes)
      } else {
        arenaIndices.append(index)
      }
    }
    let requests = arenaIndices.map {
      ArenaPlanner.Block(size: blocks[$0].bytes, firstUse: blocks[$0].firstWave, lastUse: blocks[$0].lastWave)
    }
    let slack = isBound ? MemoryLayoutBuilder.boundSlack : 0
    guard let arena = ArenaPlanner.plan(requests, slack: slack) else {
      throw OperatorError(.limit, "the intermediate values are larger than memory can be")
    }
    for (position, index) in arenaIndices.enumerated() { blocks[index].address = arena.offsets[position] }
    (result.arenaBytes, result.arenaLowerBound) = (arena.size, arena.lowerBound)
    result.arenaBlocks = zip(requests, arena.offsets).map {
      ArenaBlock(offset: $1, bytes: $0.size, firstWave: $0.firstUse, lastWave: $0.lastUse)
    }
  }
}
