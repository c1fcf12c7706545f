// Where the values of a region lie, apart from numbers: what the plans of a template have in common.

import ApusGraph
import ApusTensor
import Synchronization

/// The decisions of a `MemoryLayoutBuilder`, which hold for other sizes as long as the steps have the same form: which
/// block each value lies in, which blocks are one, which step needs them first and last, where operands come from. A
/// layout and the steps for one set of sizes make the placement of a plan.
final class RegionLayout: Sendable {
  /// Where a value or an operand lies. Small and without references: there is one for every value of the graph.
  struct Place: Sendable {
    enum Kind: UInt8 {
      case nowhere
      /// In the block `index`.
      case block
      /// In the input of the region at slot `index`.
      case input
      /// In the constant or known value `index`.
      case known
      /// In the tensor `index` of the layout.
      case constant
      /// In the cache `index`.
      case cache
    }
    var kind = Kind.nowhere
    var index: Int32 = 0
    /// The last of the views that lead there; -1 for none.
    var view: Int32 = -1
  }

  /// A part of an input of a step, or of an output.
  struct View: Sendable {
    /// The view that it is a view of; -1 for none.
    let base: Int32
    let draft: Int32
    /// Its position among the views of the step, or among its joins.
    let position: Int32
    /// True for a value that lies in an output of the step.
    let isJoin: Bool

    func byteOffset(_ drafts: [StepDraft]) -> Int {
      guard let lists = drafts[Int(draft)].step.sharing?.lists else { return 0 }
      return isJoin ? lists.joins[Int(position)].byteOffset : lists.views[Int(position)].byteOffset
    }
  }

  struct Block: Sendable {
    let draft: Int
    /// The output of the step that lies in it; nil for its scratch memory.
    let output: Int?
    /// The input of the region that lies in it, whose memory others may take over; there is no step then.
    var input: Int? = nil
    var firstWave: Int
    var lastWave: Int
    /// True if a value in it is needed after the region.
    var outlives = false

    func bytes(_ drafts: [StepDraft], _ region: borrowing RegionDraft) -> Int {
      if let input { return region.inputs[input].type.byteCount }
      guard let output else { return drafts[draft].step.scratchBytes }
      return drafts[draft].outputTypes.byteCount(output)
    }
  }

  /// Two blocks, one of which takes over the memory of the other if both have the same size.
  struct Comparison: Sendable {
    let a: Int
    let b: Int
    let isEqual: Bool
  }

  /// An operand or output whose tensor is not the same in all plans: one that was computed while planning, or a view.
  struct KnownOperand: Sendable {
    let value: ValueID
    /// In a known value.
    let place: Place
    /// The node that reads it; nil for a value that the region leaves behind.
    let node: Int?
    let isAligned: Bool
    /// The step whose input or output it is, for its type; of a value that the region leaves behind, its number.
    let draft: Int
    let position: Int
    let isInput: Bool
  }

  struct StepForm: Sendable {
    let draft: Int
    let node: Int
    let phases: Range<Int>
    let operands: Int
    let inputCount: Int
    let outputCount: Int
  }

  let order: SideBySide.Order
  /// The steps that the decisions were made for, in the order in which they run.
  let drafts: [StepDraft]
  let views: [View]
  let blocks: [Block]
  let comparisons: [Comparison]
  /// The blocks of the arena, without those that were merged into others.
  let arenaBlocks: [Int]
  /// The blocks that outlive the region.
  let outputBlocks: [Int]
  /// By block: its number in `arenaBlocks` or `outputBlocks`.
  let blockNumbers: [Int]
  let steps: [StepForm]
  let waves: [Range<Int>]
  let operands: [Place]
  /// Of the values that the region leaves behind.
  let outputs: [Place]
  let constants: [Tensor]
  let knownOperands: [KnownOperand]
  /// By cache: true if it has room behind it.
  let growing: [Bool]
  /// The inputs of the region that steps may write over, and those of them that steps do write over.
  let donated: [Int]
  let overwritten: [Int]
  /// The values that lie in outputs of later steps.
  let joins: [RegionJoining.Joined]
  /// True if the operands of steps lie in those of others.
  let isJoined: Bool
  /// True if they do not because the arena would be larger.
  let refusesJoins: Bool
  /// An order of the arena's blocks that was good for one set of sizes.
  private let schedule = Mutex<ArenaPlanner.Schedule?>(nil)

  /// The part of the smallest arena that a plan bound from a template may waste: looking for less takes time.
  private static let boundSlack = 1.0 / 16

  /// What runs side by side, and what takes over whose memory, changes with the sizes back and forth: a template keeps
  /// so many layouts, the newest first.
  static let mostOfTemplate = 16

  init(_ builder: borrowing MemoryLayoutBuilder, _ forms: MemoryLayoutBuilder.Forms) {
    (order, drafts) = (builder.order, builder.drafts)
    (views, blocks, comparisons) = (builder.views, builder.blocks, builder.comparisons)
    (steps, waves, operands, outputs) = (forms.steps, forms.waves, forms.operands, forms.outputs)
    (constants, knownOperands) = (forms.constants, forms.knownOperands)
    growing = builder.growing
    (donated, overwritten) = (builder.donated, forms.overwritten)
    (joins, refusesJoins) = (builder.joins, builder.refusesJoins)
    isJoined = drafts.contains { $0.placement != nil }
    (arenaBlocks, outputBlocks, blockNumbers) = (forms.arenaBlocks, forms.outputBlocks, forms.blockNumbers)
  }

  // MARK: - Whether it holds

  /// True if the decisions would be the same for the steps of a region of the same nodes, run in this order.
  func holds(for region: RegionDraft, in order: SideBySide.Order) -> Bool {
    guard order == self.order, region.caches.growing == growing, region.donatedSlots == donated,
      region.joins == joins
    else { return false }
    let others = RegionLayout.ordered(region.drafts, order)
    for (index, draft) in drafts.enumerated() where draft !== others[index] {
      guard draft.hasForm(of: others[index]) else { return false }
    }
    return comparisons.allSatisfy { comparison in
      let isEqual = blocks[comparison.a].bytes(others, region) == blocks[comparison.b].bytes(others, region)
      return isEqual == comparison.isEqual
    }
  }

  /// The drafts in the order in which they run.
  static func ordered(_ drafts: [StepDraft], _ order: SideBySide.Order) -> [StepDraft] {
    if order.isOriginal { return drafts }
    return order.drafts.map { drafts[$0] }
  }

  // MARK: - Numbers

  /// What a plan has beside its layout.
  struct Placement {
    var steps: [PlannedStep] = []
    /// The parts of each phase of each step.
    var phases: [Int] = []
    var operands: [OperandSource] = []
    /// The tensors that the layout does not have.
    var constants: [Tensor] = []
    var outputs: [RegionOutput] = []
    var outputBlocks: [Int] = []
    var arenaBytes = 0
    /// No arena can be smaller.
    var arenaLowerBound = 0
    /// What lies in the arena.
    var arenaBlocks: [ArenaBlock] = []
  }

  /// The places of all values for the sizes of a region, for whose steps the layout must hold.
  func place(_ region: RegionDraft, program: Program) throws(OperatorError) -> Placement {
    let drafts = RegionLayout.ordered(region.drafts, order)
    var result = Placement()
    try placeBlocks(drafts, region, &result)
    let offsets = viewOffsets(drafts)
    result.constants.reserveCapacity(knownOperands.count)
    for operand in knownOperands {
      result.constants.append(try tensor(operand, region, drafts, offsets, program: program))
    }
    result.operands.reserveCapacity(operands.count)
    for place in operands { result.operands.append(source(place, result, offsets)) }
    result.steps.reserveCapacity(steps.count)
    result.phases.reserveCapacity(steps.last?.phases.upperBound ?? 0)
    for step in steps {
      let draft = drafts[step.draft]
      for parts in draft.step.phases { result.phases.append(parts) }
      result.steps.append(
        PlannedStep(
          node: step.node, draft: draft, phases: step.phases, operands: step.operands, inputCount: step.inputCount,
          outputCount: step.outputCount))
    }
    result.outputs.reserveCapacity(outputs.count)
    for (index, place) in outputs.enumerated() {
      let (value, type) = region.outputs[index]
      result.outputs.append(RegionOutput(value: value, type: type, source: source(place, result, offsets)))
    }
    return result
  }

  /// Lays the blocks that do not outlive the region into the arena.
  private func placeBlocks(
    _ drafts: [StepDraft], _ region: RegionDraft, _ result: inout Placement
  ) throws(OperatorError) {
    for block in outputBlocks { result.outputBlocks.append(blocks[block].bytes(drafts, region)) }
    var requests: [ArenaPlanner.Block] = []
    requests.reserveCapacity(arenaBlocks.count)
    for index in arenaBlocks {
      let block = blocks[index]
      requests.append(
        ArenaPlanner.Block(size: block.bytes(drafts, region), firstUse: block.firstWave, lastUse: block.lastWave))
    }
    guard let arena = region.isBound ? followingSchedule(requests) : ArenaPlanner.plan(requests) else {
      throw OperatorError(.limit, "the intermediate values are larger than memory can be")
    }
    (result.arenaBytes, result.arenaLowerBound) = (arena.size, arena.lowerBound)
    result.arenaBlocks.reserveCapacity(requests.count)
    for (request, offset) in zip(requests, arena.offsets) {
      result.arenaBlocks.append(
        ArenaBlock(offset: offset, bytes: request.size, firstWave: request.firstUse, lastWave: request.lastUse))
    }
  }

  private func followingSchedule(_ requests: [ArenaPlanner.Block]) -> ArenaPlanner.Plan? {
    let former = schedule.withLock { $0 }
    var latest = former
    let plan = ArenaPlanner.plan(requests, slack: RegionLayout.boundSlack, following: &latest)
    if former !== latest { schedule.withLock { $0 = latest } }
    return plan
  }

  /// By view: the bytes from the start of what holds the value.
  private func viewOffsets(_ drafts: [StepDraft]) -> [Int] {
    var offsets: [Int] = []
    offsets.reserveCapacity(views.count)
    for view in views {
      let base = view.base < 0 ? 0 : offsets[Int(view.base)]
      offsets.append(base + view.byteOffset(drafts))
    }
    return offsets
  }

  private func source(_ place: Place, _ result: borrowing Placement, _ offsets: [Int]) -> OperandSource {
    let index = Int(place.index)
    let offset = place.view < 0 ? 0 : offsets[Int(place.view)]
    switch place.kind {
    case .nowhere: return .none
    case .input: return .input(slot: index, byteOffset: offset)
    case .block:
      if let slot = blocks[index].input { return .input(slot: slot, byteOffset: offset) }
      let number = blockNumbers[index]
      return blocks[index].outlives
        ? .output(block: number, byteOffset: offset) : .arena(result.arenaBlocks[number].offset + offset)
    case .constant: return .constant(index)
    case .cache: return .cache(index)
    case .known: return .constant(constants.count + index)
    }
  }

  private func tensor(
    _ operand: KnownOperand, _ region: RegionDraft, _ drafts: [StepDraft], _ offsets: [Int], program: Program
  ) throws(OperatorError) -> Tensor {
    let place = operand.place
    let root = ValueID(Int(place.index))
    guard let whole = region.known[Int(place.index)] else {
      throw .inconsistency("value '\(program.graph[operand.value].name)' is not known any more")
    }
    var tensor = whole
    if operand.value != root {
      let type: TensorType? =
        if operand.node == nil {
          region.outputs[operand.draft].type
        } else if operand.isInput {
          drafts[operand.draft].inputTypes[operand.position]
        } else {
          drafts[operand.draft].outputTypes[operand.position]
        }
      guard let type else { throw .inconsistency("value '\(program.graph[operand.value].name)' has no type") }
      let offset = place.view < 0 ? 0 : offsets[Int(place.view)]
      tensor = Tensor(
        dataType: type.dataType, shape: type.shape, storage: whole.storage, byteOffset: whole.byteOffset + offset)
    }
    if !operand.isAligned { return tensor }
    return try RegionLayout.aligned(tensor, rangeOf: whole, root: root, for: operand.node, program)
  }
}

extension RegionLayout {
  /// A known tensor at a multiple of its element's width, as all kernels ask for but those that move bytes.
  static func aligned(
    _ tensor: Tensor, rangeOf whole: Tensor, root: ValueID, for node: Int?, _ program: Program
  ) throws(OperatorError) -> Tensor {
    do throws(TensorError) {
      return try program.aligned(tensor, rangeOf: whole, root: root)
    } catch {
      throw node.map { OperatorError(error).inside(program.nodes[$0].node) } ?? OperatorError(error)
    }
  }
}

extension StepDraft {
  /// True if the memory of the step is of the same form, whatever the sizes are: nothing in a layout depends on more.
  fileprivate func hasForm(of other: StepDraft) -> Bool {
    guard step.phases.count == other.step.phases.count, (step.scratchBytes > 0) == (other.step.scratchBytes > 0),
      step.unreadInputs == other.step.unreadInputs,
      step.inPlace.elementsEqual(other.step.inPlace, by: { $0 == $1 })
    else { return false }
    if step.sharing === other.step.sharing { return true }
    guard let lists = step.sharing?.lists, let others = other.step.sharing?.lists else { return false }
    return lists.haveForm(of: others)
  }
}

extension Step.Sharing.Lists {
  fileprivate func haveForm(of other: Step.Sharing.Lists) -> Bool {
    joins.elementsEqual(other.joins) { a, b in
      a.input == b.input && a.output == b.output && (a.byteOffset == 0) == (b.byteOffset == 0)
    }
      && views.elementsEqual(other.views) { a, b in
        a.input == b.input && a.output == b.output && (a.byteOffset == 0) == (b.byteOffset == 0)
      }
  }
}
