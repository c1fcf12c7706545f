// Gives every value of a region its place: shared blocks for views and in-place results, lifetimes, one arena.

import ApusGraph
import ApusTensor

/// Decides where the values of a region lie.
///
/// A block is memory with one lifetime. A value lies in a block at a byte offset; views share the block of what they
/// view, joined values that of the output that they are a part of, and an in-place result takes over the block of the
/// input that it overwrites. Blocks that outlive the region are allocated by each run, all others lie in the arena.
struct MemoryLayoutBuilder: ~Copyable {
  /// Steps and operands, without numbers.
  struct Forms {
    var steps: [RegionLayout.StepForm] = []
    /// The steps that run side by side, as ranges of `steps`.
    var waves: [Range<Int>] = []
    var operands: [RegionLayout.Place] = []
    var outputs: [RegionLayout.Place] = []
    var constants: [Tensor] = []
    var knownOperands: [RegionLayout.KnownOperand] = []
    var arenaBlocks: [Int] = []
    var outputBlocks: [Int] = []
    var blockNumbers: [Int] = []
    var overwritten: [Int] = []
  }

  private typealias Place = RegionLayout.Place
  private typealias Block = RegionLayout.Block

  private let program: Program
  private let nodes: Range<Int>
  let order: SideBySide.Order
  /// In the order in which they run.
  let drafts: [StepDraft]
  /// By draft: its node.
  private let draftNodes: [Int]
  /// By draft: its wave.
  private let waves: [Int]
  /// By draft: its kernel, where that is not the node's.
  private let settled: [Int: any Kernel]
  private let known: KnownTensors
  private let leaving: [(value: ValueID, type: TensorType)]
  /// By value of the graph.
  private var places: [RegionLayout.Place]
  private(set) var views: [RegionLayout.View] = []
  /// By view: the bytes from the start of what holds the value.
  private var viewOffsets: [Int] = []
  private(set) var blocks: [RegionLayout.Block] = []
  /// By block.
  private var sizes: [Int] = []
  private(set) var comparisons: [RegionLayout.Comparison] = []
  /// By draft: the block of its scratch memory.
  private var scratch: [Int?] = []
  /// By block: the block that it was merged into, or itself.
  private var mergedInto: [Int] = []
  /// By value of the graph, as it is and aligned: its number among the constants of the layout, or -1.
  private var constantNumbers: [Int32]
  /// By cache: true if it has room behind it.
  let growing: [Bool]
  /// The inputs of the region that steps may write over. Each has a block, which is none of the arena's.
  let donated: [Int]
  let joins: [RegionJoining.Joined]
  let refusesJoins: Bool
  /// By joined value: the draft whose output it lies in, and its position among the joins of that.
  private var joinPlaces: [ValueID: (draft: Int, position: Int)] = [:]

  init(_ region: RegionDraft, program: Program, order: SideBySide.Order, refusesJoins: Bool) {
    self.program = program
    nodes = region.nodes
    (known, settled) = (region.known, region.settled)
    leaving = region.outputs
    self.order = order
    drafts = RegionLayout.ordered(region.drafts, order)
    draftNodes = order.drafts.map { region.draftNodes[$0] }
    waves = order.waves
    places = [Place](repeating: Place(), count: known.count)
    constantNumbers = [Int32](repeating: -1, count: 2 * known.count)
    for (slot, input) in region.inputs.enumerated() {
      places[input.value.index] = Place(kind: .input, index: Int32(slot))
    }
    donated = region.donatedSlots
    for slot in donated {
      places[region.inputs[slot].value.index] = Place(kind: .block, index: Int32(blocks.count))
      blocks.append(Block(draft: -1, output: nil, input: slot, firstWave: 0, lastWave: 0))
    }
    (growing, joins, self.refusesJoins) = (region.caches.growing, region.joins, refusesJoins)
    if !joins.isEmpty {
      var positions = Array(drafts.indices)
      for (position, draft) in order.drafts.enumerated() { positions[draft] = position }
      for join in joins {
        guard let position = region.drafts[join.draft].step.joins.firstIndex(where: { $0.input == join.input }) else {
          continue
        }
        joinPlaces[join.value] = (positions[join.draft], position)
      }
    }
    for (index, cache) in region.caches.caches.enumerated() where growing[index] {
      places[cache.pair.present.index] = Place(kind: .cache, index: Int32(index))
    }
  }

  /// `region`: the one that the builder was made for.
  mutating func build(_ region: RegionDraft) throws(OperatorError) -> RegionLayout {
    placeOutputs()
    mergedInto = Array(blocks.indices)
    sizes = blocks.map { $0.bytes(drafts, region) }
    findLifetimes()
    mergeInPlace()
    var forms = Forms()
    numberBlocks(&forms)
    try addSteps(&forms)
    for (index, output) in leaving.enumerated() {
      let operand = Operand(value: output.value, node: nil, isAligned: false, draft: index, position: 0, isInput: false)
      forms.outputs.append(try form(of: operand, &forms))
    }
    return RegionLayout(self, forms)
  }

  private mutating func addSteps(_ forms: inout Forms) throws(OperatorError) {
    var lastWave = -1
    var phases = 0
    for (index, draft) in drafts.enumerated() where !draft.step.phases.isEmpty {
      let node = draftNodes[index]
      let prepared = program.nodes[node]
      let first = forms.operands.count
      for (position, input) in prepared.inputs.enumerated() {
        guard let input else {
          forms.operands.append(Place())
          continue
        }
        if draft.step.unreadInputs.contains(position) {
          forms.operands.append(packed(position, of: index, &forms))
          continue
        }
        let operand = Operand(
          value: input, node: node, isAligned: !prepared.movesData, draft: index, position: position, isInput: true)
        forms.operands.append(try form(of: operand, &forms))
      }
      for (position, output) in prepared.outputs.enumerated() {
        guard let output else {
          forms.operands.append(Place())
          continue
        }
        let operand = Operand(
          value: output, node: node, isAligned: false, draft: index, position: position, isInput: false)
        forms.operands.append(try form(of: operand, &forms))
      }
      forms.operands.append(scratch[index].map { Place(kind: .block, index: Int32($0)) } ?? Place())
      let start = waves[index] == lastWave ? forms.waves.removeLast().lowerBound : forms.steps.count
      lastWave = waves[index]
      forms.waves.append(start..<forms.steps.count + 1)
      forms.steps.append(
        RegionLayout.StepForm(
          draft: index, node: node, phases: phases..<phases + draft.step.phases.count, operands: first,
          inputCount: prepared.inputs.count, outputCount: prepared.outputs.count))
      phases += draft.step.phases.count
    }
  }

  /// Where the packed form of an input that a step does not read is found, if it has one.
  private func packed(_ input: Int, of index: Int, _ forms: inout Forms) -> RegionLayout.Place {
    var kernel = settled[order.drafts[index]]
    if kernel == nil, case .planned(let own) = program.nodes[draftNodes[index]].kernel { kernel = own }
    guard let storage = kernel?.packedOperands.first(where: { $0.input == input })?.storage else { return Place() }
    let tensor = Tensor(dataType: .uint8, shape: [storage.byteCount], storage: storage, byteOffset: 0)
    forms.constants.append(tensor)
    return Place(kind: .constant, index: Int32(forms.constants.count - 1))
  }

  /// An input or output of a step, or a value that the region leaves behind.
  private struct Operand {
    let value: ValueID
    let node: Int?
    /// True if it must lie at a multiple of its element's width, as for all kernels but those that move bytes.
    let isAligned: Bool
    let draft: Int
    let position: Int
    let isInput: Bool
  }

  /// Where an operand comes from.
  private mutating func form(
    of operand: Operand, _ forms: inout Forms
  ) throws(OperatorError) -> RegionLayout.Place {
    var place = place(of: operand.value)
    if place.kind == .block { place.index = Int32(root(of: Int(place.index))) }
    guard place.kind == .known else { return place }
    let index = Int(place.index)
    if operand.value.index == index, let constant = program.constants[index] {
      let key = 2 * index + (operand.isAligned ? 1 : 0)
      if constantNumbers[key] >= 0 { return Place(kind: .constant, index: constantNumbers[key]) }
      let tensor =
        operand.isAligned
        ? try RegionLayout.aligned(constant, rangeOf: constant, root: operand.value, for: operand.node, program)
        : constant
      constantNumbers[key] = Int32(forms.constants.count)
      forms.constants.append(tensor)
      return Place(kind: .constant, index: constantNumbers[key])
    }
    forms.knownOperands.append(
      RegionLayout.KnownOperand(
        value: operand.value, place: place, node: operand.node, isAligned: operand.isAligned, draft: operand.draft,
        position: operand.position, isInput: operand.isInput))
    return Place(kind: .known, index: Int32(forms.knownOperands.count - 1))
  }

  private func root(of block: Int) -> Int {
    var block = block
    while mergedInto[block] != block { block = mergedInto[block] }
    return block
  }

  private func place(of value: ValueID) -> RegionLayout.Place {
    let place = places[value.index]
    if place.kind == .nowhere, known.contains(value.index) { return Place(kind: .known, index: Int32(value.index)) }
    return place
  }

  /// The bytes from the start of what holds the value.
  private func byteOffset(of place: RegionLayout.Place) -> Int { place.view < 0 ? 0 : viewOffsets[Int(place.view)] }

  /// The block that a value lies in.
  private func block(of value: ValueID?) -> Int? {
    guard let value, places[value.index].kind == .block else { return nil }
    return Int(places[value.index].index)
  }

  /// One block for every output that is no view, and for every scratch.
  private mutating func placeOutputs() {
    scratch.reserveCapacity(drafts.count)
    for (index, draft) in drafts.enumerated() {
      let node = program.nodes[draftNodes[index]]
      for (position, output) in node.outputs.enumerated() {
        guard let output, places[output.index].kind != .cache else { continue }
        if let view = draft.step.views.firstIndex(where: { $0.output == position }),
          let input = node.inputs[draft.step.views[view].input]
        {
          var place = place(of: input)
          if place.kind != .nowhere {
            viewOffsets.append(byteOffset(of: place) + draft.step.views[view].byteOffset)
            views.append(
              RegionLayout.View(base: place.view, draft: Int32(index), position: Int32(view), isJoin: false))
            place.view = Int32(views.count - 1)
            places[output.index] = place
            continue
          }
        }
        if draft.outputTypes[position] == nil { continue }
        placeOutput(output, of: index, position, firstWave: waves[index])
      }
      if draft.step.scratchBytes > 0 {
        scratch.append(blocks.count)
        blocks.append(Block(draft: index, output: nil, firstWave: waves[index], lastWave: waves[index]))
      } else {
        scratch.append(nil)
      }
    }
  }

  /// A block for an output, or its part of the output that it is joined in, which is needed from `firstWave` on.
  private mutating func placeOutput(_ output: ValueID, of draft: Int, _ position: Int, firstWave: Int) {
    if places[output.index].kind == .block { return }
    guard let join = joinPlaces[output] else {
      places[output.index] = Place(kind: .block, index: Int32(blocks.count))
      blocks.append(Block(draft: draft, output: position, firstWave: firstWave, lastWave: waves[draft]))
      return
    }
    let taken = drafts[join.draft].step.joins[join.position]
    guard let whole = program.nodes[draftNodes[join.draft]].outputs[taken.output] else { return }
    placeOutput(whole, of: join.draft, taken.output, firstWave: firstWave)
    var place = places[whole.index]
    viewOffsets.append(byteOffset(of: place) + taken.byteOffset)
    views.append(
      RegionLayout.View(base: place.view, draft: Int32(join.draft), position: Int32(join.position), isJoin: true))
    place.view = Int32(views.count - 1)
    places[output.index] = place
  }

  /// The last wave that needs each block.
  private mutating func findLifetimes() {
    for index in drafts.indices {
      let node = program.nodes[draftNodes[index]]
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
      let node = program.nodes[draftNodes[index]]
      for pair in draft.step.inPlace {
        guard pair.input < node.inputs.count, let input = node.inputs[pair.input],
          let output = node.outputs[pair.output],
          byteOffset(of: places[input.index]) == 0, byteOffset(of: places[output.index]) == 0,
          let sourceBlock = block(of: input), let target = block(of: output),
          case let source = root(of: sourceBlock), mergedInto[target] == target, source != target,
          blocks[target].firstWave == waves[index], blocks[source].lastWave == waves[index], !blocks[source].outlives,
          areSameSize(source, target), !node.outputs.contains(where: { isIn(source, $0) }),
          !isReadTwice(input, otherThan: pair.input, by: node), !isTouchedBeside(index, block: source)
        else { continue }
        blocks[source].lastWave = blocks[target].lastWave
        blocks[source].outlives = blocks[target].outlives
        mergedInto[target] = source
      }
    }
  }

  private mutating func areSameSize(_ a: Int, _ b: Int) -> Bool {
    let isEqual = sizes[a] == sizes[b]
    comparisons.append(RegionLayout.Comparison(a: a, b: b, isEqual: isEqual))
    return isEqual
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
      let node = program.nodes[draftNodes[draft]]
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

  private func numberBlocks(_ forms: inout Forms) {
    forms.blockNumbers = [Int](repeating: 0, count: blocks.count)
    for index in blocks.indices where mergedInto[index] == index {
      if let slot = blocks[index].input {
        forms.blockNumbers[index] = slot
      } else if blocks[index].outlives {
        forms.blockNumbers[index] = forms.outputBlocks.count
        forms.outputBlocks.append(index)
      } else {
        forms.blockNumbers[index] = forms.arenaBlocks.count
        forms.arenaBlocks.append(index)
      }
    }
    for index in blocks.indices where mergedInto[index] != index {
      if let slot = blocks[root(of: index)].input, !forms.overwritten.contains(slot) { forms.overwritten.append(slot) }
    }
  }
}
