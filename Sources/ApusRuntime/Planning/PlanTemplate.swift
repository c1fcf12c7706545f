// The plans of one region for all sizes: formulas over symbols, to be bound to the numbers of one run.

import ApusGraph
import ApusTensor
import Synchronization

/// What the plans of consecutive nodes have in common, whatever the sizes of the values that enter.
///
/// A plan is made from a template by putting numbers for the symbols: no node is inferred anew but those whose
/// inference may refuse some sizes. `TemplateBuilder` makes templates and finds out which nodes those are.
final class PlanTemplate: Sendable {
  /// The element type and the extents of a tensor, as positions in `extents`.
  struct TypeFormula: Sendable, Hashable {
    let dataType: DataType
    let extents: [Int]
  }

  /// An integer tensor whose elements are formulas, as positions in `extents`.
  struct ElementsFormula: Sendable {
    let value: ValueID
    let type: Int
    let elements: [Int]
  }

  struct Input: Sendable {
    let value: ValueID
    let type: Int
    /// Axes that give a symbol its number. Every other one must agree with its formula.
    let symbols: [(axis: Int, symbol: Int)]
  }

  /// An earlier step that is the same for the same types.
  struct Twin: Sendable {
    /// Its number among the steps.
    let step: Int
    /// False if it is another one as soon as the kernel looks at tensors while it plans.
    let isExact: Bool
  }

  /// A node that is inferred for the numbers too, or that becomes a step. Types are positions in `types`.
  final class Entry: Sendable {
    let node: Int
    let kernel: any Kernel
    let inputs: [Int?]
    let outputs: [Int?]
    /// False for a node whose outputs are all known by formula.
    let isStep: Bool
    /// True if the sizes that the node can work on are not all.
    let isChecked: Bool
    /// The step, if it is the same for all sizes.
    let fixed: StepDraft?
    let twin: Twin?
    /// The known inputs, if these are constants; nil if some are formulas.
    let constants: [Tensor?]?

    init(
      node: Int, kernel: any Kernel, inputs: [Int?], outputs: [Int?], isStep: Bool, isChecked: Bool = false,
      fixed: StepDraft? = nil,
      twin: Twin? = nil, constants: [Tensor?]? = nil
    ) {
      (self.node, self.kernel, self.inputs, self.outputs) = (node, kernel, inputs, outputs)
      (self.isStep, self.isChecked, self.fixed, self.twin, self.constants) = (isStep, isChecked, fixed, twin, constants)
    }
  }

  let nodes: Range<Int>
  let symbols: [String]
  /// Every formula of an extent or element once.
  private let extents: DimProgram
  /// Every type once.
  let types: [TypeFormula]
  let inputs: [Input]
  let known: [ElementsFormula]
  /// By value of the graph: its place in `known`, or -1.
  let knownPlaces: [Int32]
  let entries: [Entry]
  /// The nodes of the entries that are steps.
  let stepNodes: [Int]
  /// The values that the region leaves behind.
  let outputs: [(value: ValueID, type: Int)]
  /// Where the values of the last plans lie, which holds for most others too.
  private let layouts = Mutex<[RegionLayout]>([])

  init(
    nodes: Range<Int>, symbols: [String], extents: [Dim], types: [TypeFormula], inputs: [Input],
    known: [ElementsFormula], knownPlaces: [Int32], entries: [Entry], outputs: [(value: ValueID, type: Int)]
  ) {
    (self.nodes, self.symbols, self.types) = (nodes, symbols, types)
    self.extents = DimProgram(extents, symbols: symbols)
    (self.inputs, self.known, self.knownPlaces) = (inputs, known, knownPlaces)
    (self.entries, self.outputs) = (entries, outputs)
    stepNodes = entries.filter(\.isStep).map(\.node)
  }

  /// Larger numbers are left to planning node by node.
  private static let largestSymbol = 1 << 40

  /// The numbers for one set of sizes.
  struct Binding {
    /// By type.
    let types: [TensorType]
    /// By type.
    let bytes: [Int]
    let known: KnownTensors

    /// The types at these positions.
    func types(_ positions: [Int?]) -> [TensorType?] {
      var result: [TensorType?] = []
      result.reserveCapacity(positions.count)
      for position in positions { result.append(position.map { types[$0] }) }
      return result
    }

    /// The bytes of values of these types in all; `Int.max` if no integer holds them.
    func byteCount(_ types: [Int?]) -> Int {
      var sum = 0
      for case let type? in types {
        let (next, overflow) = sum.addingReportingOverflow(bytes[type])
        if overflow { return .max }
        sum = next
      }
      return sum
    }
  }

  /// The plan for the values that exist; nil if they do not have the form of the template, or if planning node by node
  /// has something to say about them.
  func bind(
    _ program: Program, values: borrowing ValueTable, threads: Int, available: Int, mayGrow: Bool,
    donated: [ValueID] = []
  ) throws(OperatorError) -> RegionPlan? {
    guard let numbers = numbers(of: values), let binding = binding(numbers, constants: program.constants) else {
      return nil
    }
    let driver = InferenceDriver(registry: program.registry)
    var drafts: [StepDraft] = []
    drafts.reserveCapacity(stepNodes.count)
    // By step: true if its kernel has looked at tensors, so that it holds for its node alone.
    var hasRead = [Bool](repeating: false, count: stepNodes.count)
    let reads = TensorReads()
    var caches = CachePlan(program.caches, mayGrow: mayGrow)
    for entry in entries {
      if entry.isChecked, !agrees(entry, binding, driver: driver, program: program) { return nil }
      if !entry.isStep { continue }
      let isOwn = caches.concerns(entry.node)
      if let twin = entry.twin, !isOwn, !caches.concerns(stepNodes[twin.step]), twin.isExact || !hasRead[twin.step] {
        drafts.append(drafts[twin.step])
      } else if let fixed = entry.fixed {
        drafts.append(fixed)
      } else {
        let pitches = isOwn ? caches.pitches(of: entry, binding, values) : []
        guard let draft = draft(entry, binding, reads, pitches, program: program, available: available) else {
          return nil
        }
        hasRead[drafts.count] = reads.take()
        drafts.append(draft)
      }
    }
    let region = RegionDraft(
      nodes: nodes, drafts: drafts, draftNodes: stepNodes, known: binding.known,
      inputs: inputs.map { ($0.value, binding.types[$0.type]) }, valuesRead: [],
      outputs: outputs.map { ($0.value, binding.types[$0.type]) }, caches: caches, isBound: true, donated: donated)
    let former = layouts.withLock { $0 }
    var latest = former
    let plan = try region.layOut(program, threads: threads, layouts: &latest)
    if latest.first !== former.first { layouts.withLock { $0 = latest } }
    return plan
  }

  /// The step of an entry; nil if the kernel refuses, or if the outputs take more memory than there is.
  private func draft(
    _ entry: Entry, _ binding: Binding, _ reads: TensorReads, _ pitches: [(operand: Int, pitch: Pitch)],
    program: Program, available: Int
  ) -> StepDraft? {
    let (inputBytes, outputBytes) = (binding.byteCount(entry.inputs), binding.byteCount(entry.outputs))
    // Views of inputs take no memory.
    guard outputBytes <= max(available, inputBytes) else { return nil }
    let prepared = program.nodes[entry.node]
    let (inputTypes, outputTypes) = (binding.types(entry.inputs), binding.types(entry.outputs))
    let context = PlanContext(
      inputs: inputTypes, outputs: outputTypes, known: tensors(of: entry, prepared, binding.known), pitches: pitches,
      reads: reads)
    // Whoever plans node by node names what is wrong.
    guard let step = try? entry.kernel.step(for: context) else { return nil }
    return StepDraft(
      step: step, inputTypes: inputTypes, outputTypes: outputTypes, bytes: inputBytes &+ outputBytes)
  }

  /// By extent: its number for the values that exist.
  private func numbers(of values: borrowing ValueTable) -> [Int]? {
    var bindings = [Int](repeating: 0, count: symbols.count)
    for input in inputs {
      guard let tensor = values.tensor(input.value), tensor.dataType == types[input.type].dataType,
        tensor.shape.rank == types[input.type].extents.count
      else { return nil }
      for (axis, symbol) in input.symbols { bindings[symbol] = tensor.shape[axis] }
    }
    guard let numbers = numbers(bindings) else { return nil }
    for input in inputs {
      guard let tensor = values.tensor(input.value) else { return nil }
      for (axis, extent) in types[input.type].extents.enumerated() where numbers[extent] != tensor.shape[axis] {
        return nil
      }
    }
    return numbers
  }

  /// By extent: its number for these numbers of the symbols; nil if one has none.
  private func numbers(_ bindings: [Int]) -> [Int]? {
    if bindings.contains(where: { $0 <= 0 || $0 > PlanTemplate.largestSymbol }) { return nil }
    return extents.numbers(bindings)
  }

  /// The types and tensors for these numbers of the symbols; nil if one is not possible.
  func binding(of symbols: [Int], constants: [Tensor?]) -> Binding? {
    numbers(symbols).flatMap { binding($0, constants: constants) }
  }

  private func binding(_ numbers: [Int], constants: [Tensor?]) -> Binding? {
    var (bound, bytes) = ([TensorType](), [Int]())
    bound.reserveCapacity(types.count)
    bytes.reserveCapacity(types.count)
    for type in types {
      let shape = Shape(type.extents.map { numbers[$0] })
      guard let count = shape.checkedElementCount, let byteCount = type.dataType.byteCount(elements: count) else {
        return nil
      }
      bound.append(TensorType(type.dataType, shape))
      bytes.append(byteCount)
    }
    var tensors: [Tensor] = []
    tensors.reserveCapacity(known.count)
    for formula in known {
      let elements = formula.elements.map { numbers[$0] }
      guard let tensor = Tensor(integers: elements, bound[formula.type]) else { return nil }
      tensors.append(tensor)
    }
    return Binding(
      types: bound, bytes: bytes,
      known: KnownTensors(constants: constants, places: knownPlaces, computed: tensors))
  }

  /// True if the node, inferred for the numbers, gives what the formulas say.
  func agrees(_ entry: Entry, _ binding: Binding, driver: InferenceDriver, program: Program) -> Bool {
    let prepared = program.nodes[entry.node]
    let constants = tensors(of: entry, prepared, binding.known)
    let facts = zip(entry.inputs, constants).map { type, tensor -> ValueFact? in
      if let tensor { return .tensor(TensorFact(tensor)) }
      return type.map { .tensor(binding.types[$0].dataType, [Dim](binding.types[$0].shape)) }
    }
    guard
      let inferred = try? driver.infer(prepared.node, inputs: facts, constants: constants, outerFact: { _ in .unknown })
    else { return false }
    for (position, type) in entry.outputs.enumerated() {
      guard let type, let output = prepared.outputs[position] else { continue }
      guard let fact = inferred[position].tensor, fact.dataType == binding.types[type].dataType,
        fact.concreteShape == binding.types[type].shape
      else { return false }
      if let tensor = binding.known[output.index], fact.values != tensor.dims { return false }
    }
    return true
  }

  private func tensors(of entry: Entry, _ node: PreparedNode, _ known: KnownTensors) -> [Tensor?] {
    entry.constants ?? node.inputs.map { $0.flatMap { known[$0.index] } }
  }
}

extension CachePlan {
  fileprivate mutating func pitches(
    of entry: PlanTemplate.Entry, _ binding: PlanTemplate.Binding, _ values: borrowing ValueTable
  ) -> [(operand: Int, pitch: Pitch)] {
    pitches(of: entry.node, inputCount: entry.inputs.count, outputs: binding.types(entry.outputs), values)
  }
}

extension Tensor {
  /// A tensor of int32 or int64 with these elements; nil for another type, and if one does not fit.
  fileprivate init?(integers: [Int], _ type: TensorType) {
    switch type.dataType {
    case .int64:
      guard let tensor = try? Tensor(integers.map { Int64($0) }, validating: type.shape) else { return nil }
      self = tensor
    case .int32:
      let narrow = integers.compactMap { Int32(exactly: $0) }
      guard narrow.count == integers.count, let tensor = try? Tensor(narrow, validating: type.shape) else { return nil }
      self = tensor
    default: return nil
    }
  }
}
