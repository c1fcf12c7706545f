// A plan of consecutive nodes for one set of shapes: steps with all addresses as offsets.

import ApusGraph
import ApusTensor

/// Where an operand of a step lies.
enum OperandSource: Sendable {
  case arena(Int)
  /// A constant, or a value found while planning. The plan keeps the tensor alive.
  case constant(Tensor)
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
  let body: @Sendable (RunContext, _ phase: Int, _ part: Int) -> Void
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
  /// Operations, a multiply-add as two; 0 where they are not counted.
  let operations: Int
  /// Bytes of its inputs and outputs.
  let bytes: Int
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
  /// By step.
  let profiles: [StepProfile]
  /// The parts of each phase of each step.
  let phases: [Int]
  /// Ranges of `steps`, one after the other; the steps of one run side by side.
  let waves: [Range<Int>]
  let operands: [OperandSource]
  /// The values that enter, with the types the plan holds for.
  let inputs: [(value: ValueID, type: TensorType)]
  /// The values whose very elements the plan holds for. Copies of its own: a plan outlives the runs that it was made
  /// for.
  let valuesRead: [(value: ValueID, tensor: Tensor)]
  let outputs: [RegionOutput]
  /// The pasts and presents.
  let caches: [CachePlan.Cache]
  /// True for a plan whose outputs may have room behind them; nil if the program has no caches.
  let mayGrow: Bool?
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

  private static let maximumBytesKept = 1 << 16

  init(
    nodes: Range<Int>, layout: MemoryLayoutBuilder.Result, inputs: [(value: ValueID, type: TensorType)],
    valuesRead: [(value: ValueID, tensor: Tensor)], outputs: [RegionOutput], caches: [CachePlan.Cache],
    mayGrow: Bool?, isBound: Bool
  ) {
    self.nodes = nodes
    steps = layout.steps
    profiles = layout.profiles
    phases = layout.phases
    waves = layout.waves
    operands = layout.operands
    outputBlocks = layout.outputBlocks
    (arenaBytes, arenaLowerBound) = (layout.arenaBytes, layout.arenaLowerBound)
    arenaBlocks = layout.arenaBlocks
    self.inputs = inputs
    self.valuesRead = valuesRead
    self.outputs = outputs
    (self.caches, self.mayGrow) = (caches, mayGrow)
    self.isBound = isBound
    isKept = valuesRead.reduce(0) { $0 + $1.tensor.byteCount } <= RegionPlan.maximumBytesKept
  }

  /// True if the plan holds for these values, and for outputs that may have room behind them or may not.
  func matches(_ values: borrowing ValueTable, mayGrow: Bool) -> Bool {
    for input in inputs {
      guard let tensor = values.tensor(input.value), tensor.shape == input.type.shape,
        tensor.dataType == input.type.dataType
      else { return false }
    }
    for read in valuesRead {
      guard let tensor = values.tensor(read.value), tensor.hasSameBytes(as: read.tensor) else { return false }
    }
    return cachesMatch(values, mayGrow: mayGrow)
  }
}

extension RegionPlan {
  /// True for a past whose rows are where its present lies: no step reads it.
  func isAppended(_ value: ValueID) -> Bool {
    !caches.isEmpty && caches.contains { $0.pair.past == value && $0.pitch?.isAppended ?? false }
  }

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

/// The values that exist at some point of a run, by value of the graph. Few of a graph's values ever do: most lie in
/// arenas, so a table costs four bytes for each of those.
struct ValueTable: ~Copyable {
  private static let nowhere: Int32 = -1
  /// By value: its place in `values`.
  private var places: [Int32]
  private var values: [Value?] = []
  private let constants: [ValueRecord]

  init(graph: Graph) {
    places = [Int32](repeating: ValueTable.nowhere, count: graph.values.count)
    constants = graph.values
  }

  subscript(id: ValueID) -> Value? {
    get { existing(id) ?? constants[id.index].constant.map { .tensor($0) } }
    set {
      let place = Int(places[id.index])
      if place >= 0 {
        values[place] = newValue
      } else if let newValue {
        places[id.index] = Int32(values.count)
        values.append(newValue)
      }
    }
  }

  func tensor(_ id: ValueID) -> Tensor? {
    if case .tensor(let tensor)? = existing(id) { return tensor }
    return constants[id.index].constant
  }

  private func existing(_ id: ValueID) -> Value? {
    let place = Int(places[id.index])
    return place < 0 ? nil : values[place]
  }
}
