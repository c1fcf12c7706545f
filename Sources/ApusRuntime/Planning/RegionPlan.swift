// A plan of consecutive nodes for one set of shapes: steps with all addresses as offsets.

import ApusGraph
import ApusTensor

/// Where an operand of a step lies.
enum OperandSource: Sendable {
  case arena(Int)
  /// A constant, or a value found while planning: `RegionPlan.constant`.
  case constant(Int)
  /// A tensor that exists before the region runs.
  case input(slot: Int, byteOffset: Int)
  /// A block that outlives the region.
  case output(block: Int, byteOffset: Int)
  /// A cache with room behind it.
  case cache(Int)
  /// Absent, unwanted or never read.
  case none
}

/// One step of a plan: what running it takes, and no more.
struct PlannedStep: Sendable {
  let node: Int
  let draft: StepDraft
  /// The parts of its phases, as a range of `RegionPlan.phases`.
  let phases: Range<Int>
  /// The first of its operands in the table of the plan: inputs, outputs, scratch.
  let operands: Int
  let inputCount: Int
  let outputCount: Int

  func context(_ table: OperandTable, _ failure: RunFailure) -> RunContext {
    RunContext(
      operands: UnsafePointer(table.pointers + operands), inputCount: inputCount, outputCount: outputCount,
      failure: failure)
  }
}

/// What a profile says of a step.
struct StepProfile: Sendable {
  /// The algorithm or micro-kernel.
  let kernelName: String
  /// Operations as far as they are counted, a multiply-add as two, and the bytes that it reads and writes.
  let cost: Cost
  /// The parts of its largest phase.
  let parts: Int
}

/// A block of the arena, and the waves of steps, the first and the last, that need it.
package struct ArenaBlock: Sendable {
  package let offset: Int
  package let bytes: Int
  package let firstWave: Int
  package let lastWave: Int
}

/// A value that a region leaves behind.
struct RegionOutput: Sendable {
  let value: ValueID
  let type: TensorType
  let source: OperandSource
}

/// The nodes `nodes` planned for given types of the values that enter.
final class RegionPlan: Sendable {
  let nodes: Range<Int>
  let steps: [PlannedStep]
  /// The parts of each phase of each step.
  let phases: [Int]
  /// Ranges of `steps`, one after the other; the steps of one run side by side.
  let waves: [Range<Int>]
  let operands: [OperandSource]
  /// The tensors that operands and outputs refer to by number: first those of all plans with the same layout, then
  /// those of this one. The plan keeps them alive.
  private let sharedConstants: [Tensor]
  private let ownConstants: [Tensor]
  /// The values that enter, with the types the plan holds for.
  let inputs: [(value: ValueID, type: TensorType)]
  /// The values whose very elements the plan holds for. Copies of its own: a plan outlives the runs that it was made
  /// for.
  let valuesRead: [(value: ValueID, tensor: Tensor)]
  let outputs: [RegionOutput]
  /// The pasts and presents.
  let caches: [CachePlan.Cache]
  /// The pasts whose rows are where their presents lie: no step reads them.
  let appended: Set<ValueID>
  /// True for a plan whose outputs may have room behind them; nil if the program has no caches.
  let mayGrow: Bool?
  /// The values that steps were allowed to write over, and those of them that they do write over.
  let donated: [ValueID]
  let overwritten: [ValueID]
  /// The bytes of each block that outlives the region.
  let outputBlocks: [Int]
  let arenaBytes: Int
  /// The most bytes that are alive at once.
  let arenaLowerBound: Int
  let arenaBlocks: [ArenaBlock]
  /// False for a plan that holds for so many elements that they are seldom the same twice, and cost much to keep.
  let isKept: Bool
  /// True for a plan made from a template.
  let isBound: Bool
  /// Of the types of the inputs: plans with other ones do not hold for the same sizes.
  let fingerprint: Int

  private static let maximumBytesKept = 1 << 16

  init(_ region: RegionDraft, _ layout: RegionLayout, _ placed: RegionLayout.Placement) {
    nodes = region.nodes
    steps = placed.steps
    phases = placed.phases
    waves = layout.waves
    operands = placed.operands
    (sharedConstants, ownConstants) = (layout.constants, placed.constants)
    outputBlocks = placed.outputBlocks
    (arenaBytes, arenaLowerBound) = (placed.arenaBytes, placed.arenaLowerBound)
    arenaBlocks = placed.arenaBlocks
    inputs = region.inputs
    valuesRead = region.valuesRead
    outputs = placed.outputs
    (donated, overwritten) = (region.donated, layout.overwritten.map { region.inputs[$0].value })
    (caches, mayGrow) = (region.caches.caches, region.caches.mayGrow)
    appended = Set(caches.lazy.filter { $0.pitch?.isAppended ?? false }.map(\.pair.past))
    isBound = region.isBound
    fingerprint = inputs.reduce(0) { RegionPlan.mixed($0, $1.type.dataType, $1.type.shape) }
    isKept = valuesRead.reduce(0) { $0 + $1.tensor.byteCount } <= RegionPlan.maximumBytesKept
  }

  func constant(_ number: Int) -> Tensor {
    number < sharedConstants.count ? sharedConstants[number] : ownConstants[number - sharedConstants.count]
  }

  /// Its first byte.
  func constantBase(_ number: Int) -> UnsafeRawPointer {
    let shared = sharedConstants.count
    return number < shared ? sharedConstants[number].base : ownConstants[number - shared].base
  }

  /// The fingerprint of types when one more stands behind them. Wraps, as mixing bits does.
  private static func mixed(_ fingerprint: Int, _ dataType: DataType, _ shape: borrowing Shape) -> Int {
    var mixed = fingerprint &* 31 &+ Int(dataType.rawValue)
    for extent in shape.dims { mixed = mixed &* 1_000_003 &+ extent }
    return mixed
  }

  /// True if the plan takes the same values as another one.
  func hasInputs(of other: RegionPlan) -> Bool {
    guard inputs.count == other.inputs.count else { return false }
    for index in inputs.indices where inputs[index].value != other.inputs[index].value { return false }
    return true
  }

  /// What `fingerprint` is in plans that hold for these values of the inputs; nil if one is no tensor.
  func fingerprint(of values: borrowing ValueTable) -> Int? {
    var result = 0
    for index in inputs.indices {
      guard let tensor = values.tensor(inputs[index].value) else { return nil }
      result = RegionPlan.mixed(result, tensor.dataType, tensor.shape)
    }
    return result
  }

  /// What a profile says of a step.
  func profile(of step: Int) -> StepProfile {
    let draft = steps[step].draft
    return StepProfile(
      kernelName: draft.step.kernelName, cost: draft.cost, parts: draft.step.phases.max() ?? 0)
  }

  /// True if the plan holds for these values, for outputs that may have room behind them or may not, and for what may
  /// be written over.
  func matches(_ values: borrowing ValueTable, mayGrow: Bool, _ donations: Donations) -> Bool {
    guard suits(donations) else { return false }
    for index in inputs.indices where !values.holds(inputs[index].value, inputs[index].type) { return false }
    for index in valuesRead.indices {
      guard let tensor = values.tensor(valuesRead[index].value), tensor.hasSameBytes(as: valuesRead[index].tensor)
      else { return false }
    }
    return cachesMatch(values, mayGrow: mayGrow)
  }
}

extension RegionPlan {
  /// True if a plan for these values would have the same caches.
  private func cachesMatch(_ values: borrowing ValueTable, mayGrow: Bool) -> Bool {
    guard let ownGrowth = self.mayGrow else { return true }
    if ownGrowth != mayGrow { return false }
    for cache in caches {
      guard let past = values.tensor(cache.pair.past),
        CachePlan.pitch(of: cache.type, behind: past, axis: cache.pair.growth.axis) == cache.pitch
      else { return false }
    }
    return true
  }
}

extension Tensor {
  /// True for equal types, shapes and bytes.
  func hasSameBytes(as other: Tensor) -> Bool {
    guard dataType == other.dataType, shape == other.shape else { return false }
    if dataType == .string { return strings == other.strings }
    return withUnsafeBytes { a in
      other.withUnsafeBytes { b in a.count == b.count && a.elementsEqual(b) }
    }
  }
}
