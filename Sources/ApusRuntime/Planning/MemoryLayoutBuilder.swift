// Gives every value of a region its place: shared blocks for views and in-place results, lifetimes, one arena.

import ApusGraph
import ApusTensor

/// Turns the drafts of a region into steps with operands.
///
/// A block is memory with one lifetime. A value lies in a block at a byte offset; views share the block of what they
/// view, and an in-place result takes over the block of the input that it overwrites. Blocks that outlive the region
/// are allocated by each run, all others lie in the arena.
struct MemoryLayoutBuilder: ~Copyable {
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

  private enum Place {
    case block(Int, byteOffset: Int)
    case input(slot: Int, byteOffset: Int)
    /// All or a range of the bytes of the known value `root`.
    case constant(Tensor, root: ValueID)
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
  private let drafts: [RegionPlanner.StepDraft]
  /// By draft: its wave.
  private let waves: [Int]
  private let known: [Tensor?]
  private let inputSlot: [ValueID: Int]
  private var places: [Int: Place] = [:]
  private var blocks: [Block] = []
  private var scratch: [Int?] = []
  /// By block: the block that it was merged into, or itself.
  private var mergedInto: [Int] = []

  /// `waves` are the indices of the drafts that run side by side, in the order in which they run.
  init(
    program: Program, nodes: Range<Int>, drafts: [RegionPlanner.StepDraft], waves: [[Int]], known: [Tensor?],
    inputSlot: [ValueID: Int]
  ) {
    self.program = program
    self.nodes = nodes
    self.drafts = waves.flatMap { $0.map { drafts[$0] } }
    self.waves = waves.enumerated().flatMap { wave, members in members.map { _ in wave } }
    self.known = known
    self.inputSlot = inputSlot
  }

  mutating func build() throws(OperatorError) -> Result {
    placeOutputs()
    mergedInto = Array(blocks.indices)
    findLifetimes()
    mergeInPlace()
    var result = Result()
    try assignAddresses(&result)
    var lastWave = -1
    for (index, draft) in drafts.enumerated() where !draft.step.phases.isEmpty {
      let node = program.nodes[draft.node].node
      let first = result.operands.count
      for (position, input) in node.inputs.enumerated() {
        let isUnread = draft.step.unreadInputs.contains(position)
        guard let input, !isUnread else {
          result.operands.append(.none)
          continue
        }
        // Kernels that move bytes take any alignment; others get the alignment of the element type.
        let takesAnyAddress = program.nodes[draft.node].schema.traits.contains(.movesData)
        result.operands.append(takesAnyAddress ? source(of: input) : try alignedSource(of: input, for: node))
      }
      for output in node.outputs { result.operands.append(output.map { source(of: $0) } ?? .none) }
      result.operands.append(scratch[index].map { .arena(blocks[$0].address) } ?? .none)
      let start = waves[index] == lastWave ? result.waves.removeLast().lowerBound : result.steps.count
      lastWave = waves[index]
      result.waves.append(start..<result.steps.count + 1)
      let firstPhase = result.phases.count
      result.phases += draft.step.phases
      result.steps.append(
        PlannedStep(
          node: draft.node, body: draft.step.body, phases: firstPhase..<result.phases.count, operands: first,
          inputCount: node.inputs.count, outputCount: node.outputs.count))
      result.profiles.append(
        StepProfile(
          kernelName: draft.step.kernelName, operations: draft.step.operations,
          bytes: (draft.inputTypes + draft.outputTypes).reduce(0) { $0 &+ ($1?.byteCount ?? 0) },
          parts: draft.step.phases.max() ?? 0))
    }
    return result
  }

  /// Where a value lies, after `build`.
  func source(of value: ValueID) -> OperandSource {
    switch place(of: value) {
    case .constant(let tensor, _)?: .constant(tensor)
    case .input(let slot, let offset)?: .input(slot: slot, byteOffset: offset)
    case .block(let index, let offset)?:
      blocks[root(of: index)].outlives
        ? .output(block: blocks[root(of: index)].address, byteOffset: offset)
        : .arena(blocks[root(of: index)].address + offset)
    case nil: .none
    }
  }

  /// Where a value that `node` reads lies, at a multiple of its element's width.
  private func alignedSource(of value: ValueID, for node: Node) throws(OperatorError) -> OperandSource {
    guard case .constant(let tensor, let root)? = place(of: value), let whole = known[root.index] else {
      return source(of: value)
    }
    do throws(TensorError) {
      return .constant(try program.aligned(tensor, rangeOf: whole, root: root))
    } catch {
      throw OperatorError(error).inside(node)
    }
  }

  private func root(of block: Int) -> Int {
    var block = block
    while mergedInto[block] != block { block = mergedInto[block] }
    return block
  }

  private func place(of value: ValueID) -> Place? {
    if let place = places[value.index] { return place }
    if let slot = inputSlot[value] { return .input(slot: slot, byteOffset: 0) }
    return known[value.index].map { .constant($0, root: value) }
  }

  /// One block for every output that is no view, and for every scratch.
  private mutating func placeOutputs() {
    for (index, draft) in drafts.enumerated() {
      let node = program.nodes[draft.node].node
      for (position, output) in node.outputs.enumerated() {
        guard let output, let type = draft.outputTypes[position] else { continue }
        if let view = draft.step.views.first(where: { $0.output == position }),
          let input = node.inputs[view.input], let base = place(of: input)
        {
          switch base {
          case .block(let block, let offset): places[output.index] = .block(block, byteOffset: offset + view.byteOffset)
          case .input(let slot, let offset):
            places[output.index] = .input(slot: slot, byteOffset: offset + view.byteOffset)
          case .constant(let tensor, let root):
            let range = Tensor(
              dataType: type.dataType, shape: type.shape, storage: tensor.storage,
              byteOffset: tensor.byteOffset + view.byteOffset)
            places[output.index] = .constant(range, root: root)
          }
        } else {
          places[output.index] = .block(blocks.count, byteOffset: 0)
          blocks.append(Block(bytes: type.byteCount, firstWave: waves[index], lastWave: waves[index]))
        }
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
      let node = program.nodes[draft.node].node
      for value in (node.inputs + node.outputs).compactMap({ $0 }) {
        guard case .block(let block, _)? = places[value.index] else { continue }
        blocks[block].lastWave = max(blocks[block].lastWave, waves[index])
        if program.lastUse[value.index] >= nodes.upperBound { blocks[block].outlives = true }
      }
    }
  }

  /// Lets results take over the memory of inputs that die there.
  private mutating func mergeInPlace() {
    for (index, draft) in drafts.enumerated() where !draft.step.inPlace.isEmpty {
      let node = program.nodes[draft.node].node
      for pair in draft.step.inPlace {
        guard pair.input < node.inputs.count, let input = node.inputs[pair.input],
          let output = node.outputs[pair.output],
          case .block(let sourceBlock, 0)? = places[input.index], case .block(let target, 0)? = places[output.index],
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
  private func isReadTwice(_ input: ValueID, otherThan position: Int, by node: Node) -> Bool {
    guard case .block(let own, _)? = places[input.index] else { return true }
    let block = root(of: own)
    return node.inputs.enumerated().contains { other, value in
      guard other != position, let value, case .block(let otherBlock, _)? = places[value.index] else { return false }
      return root(of: otherBlock) == block
    }
  }

  /// True if another step of the same wave reads or writes the block.
  private func isTouchedBeside(_ index: Int, block: Int) -> Bool {
    var beside: [Int] = []
    var other = index
    while other > 0, waves[other - 1] == waves[index] {
      other -= 1
      beside.append(other)
    }
    other = index
    while other + 1 < waves.count, waves[other + 1] == waves[index] {
      other += 1
      beside.append(other)
    }
    return beside.contains { draft in
      let node = program.nodes[drafts[draft].node].node
      return (node.inputs + node.outputs).contains { value in
        guard let value, case .block(let touched, _)? = places[value.index] else { return false }
        return root(of: touched) == block
      }
    }
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
    guard let arena = ArenaPlanner.plan(requests) else {
      throw OperatorError(.limit, "the intermediate values are larger than memory can be")
    }
    for (position, index) in arenaIndices.enumerated() { blocks[index].address = arena.offsets[position] }
    (result.arenaBytes, result.arenaLowerBound) = (arena.size, arena.lowerBound)
    result.arenaBlocks = zip(requests, arena.offsets).map {
      ArenaBlock(offset: $1, bytes: $0.size, firstWave: $0.firstUse, lastWave: $0.lastUse)
    }
  }
}
