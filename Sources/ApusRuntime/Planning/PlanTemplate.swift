// The plans of one region for all sizes: formulas over symbols, to be bound to the numbers of one run.

import ApusGraph
import ApusTensor
import Synchronization

/// What the plans of consecutive nodes have in common, whatever the sizes of the values that enter.
///
/// A plan is made from a template by putting numbers for the symbols: no node is inferred anew but those that may
/// refuse some sizes, unless equal extents are all they ask for. `TemplateBuilder` makes templates and finds out which
/// nodes those are.
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

  /// What is to be found out about a node for the numbers of a run, whose formulas hold for some sizes only.
  enum SizeCheck: Sendable {
    /// The formulas hold for all sizes.
    case none
    /// They hold if the two extents of each pair are equal, and seldom otherwise: then the node is inferred.
    case equality([(Int, Int)])
    /// The node is inferred.
    case inference
  }

  /// A node that is checked, or that becomes a step. Types are positions in `types`.
  final class Entry: Sendable {
    let node: Int
    let kernel: any Kernel
    let inputs: [Int?]
    let outputs: [Int?]
    /// False for a node whose outputs are all known by formula.
    let isStep: Bool
    let check: SizeCheck
    /// The step, if it is the same for all sizes.
    let fixed: StepDraft?
    let twin: Twin?
    /// The known inputs, if these are constants; nil if some are formulas.
    let constants: [Tensor?]?
    /// The extents and elements, as positions in `extents`, that a step depends on.
    let sizes: [Int]

    init(
      node: Int, kernel: any Kernel, inputs: [Int?], outputs: [Int?], isStep: Bool, check: SizeCheck = .none,
      fixed: StepDraft? = nil, twin: Twin? = nil, constants: [Tensor?]? = nil, sizes: [Int] = []
    ) {
      (self.node, self.kernel, self.inputs, self.outputs) = (node, kernel, inputs, outputs)
      (self.isStep, self.check, self.fixed, self.twin, self.constants) = (isStep, check, fixed, twin, constants)
      self.sizes = sizes
    }
  }

  let nodes: Range<Int>
  let symbols: [String]
  /// Every formula of an extent or element once.
  private let extents: DimProgram
  /// Every type once.
  let types: [TypeFormula]
  /// By type: what it is for all sizes, as those of weights; nil if it depends on symbols.
  private let fixedTypes: [TensorType?]
  let inputs: [Input]
  let known: [ElementsFormula]
  /// By value of the graph: its place in `known`, or -1.
  let knownPlaces: [Int32]
  let entries: [Entry]
  /// The nodes of the entries that are steps.
  let stepNodes: [Int]
  /// The values that the region leaves behind.
  let outputs: [(value: ValueID, type: Int)]
  /// By step: what it depends on.
  private let stepSizes: [[Int]]
  private let memo: StepMemo
  /// Where the values of the last plans lie, which holds for most others too.
  private let layouts = Mutex<[RegionLayout]>([])

  init(
    nodes: Range<Int>, symbols: [String], extents: [Dim], types: [TypeFormula], inputs: [Input],
    known: [ElementsFormula], knownPlaces: [Int32], entries: [Entry], outputs: [(value: ValueID, type: Int)]
  ) {
    (self.nodes, self.symbols, self.types) = (nodes, symbols, types)
    self.extents = DimProgram(extents, symbols: symbols)
    fixedTypes = types.map { type in
      let shape = type.extents.compactMap { extents[$0].known }
      return shape.count == type.extents.count ? TensorType(type.dataType, Shape(shape)) : nil
    }
    (self.inputs, self.known, self.knownPlaces) = (inputs, known, knownPlaces)
    (self.entries, self.outputs) = (entries, outputs)
    let steps = entries.filter(\.isStep)
    stepNodes = steps.map(\.node)
    stepSizes = steps.map(\.sizes)
    memo = StepMemo(count: steps.count)
  }

  /// Larger numbers are left to planning node by node.
  private static let largestSymbol = 1 << 40

  /// The numbers for one set of sizes.
  struct Binding {
    let region: RegionTypes
    let known: KnownTensors

    /// By type.
    var types: [TensorType] { region.types }

    /// The types at these positions.
    func types(_ positions: [Int?]) -> OperandTypes { OperandTypes(region, at: positions) }
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
    let former = memo.steps(numbers, dependingOn: stepSizes)
    var new: [(place: Int, step: StepMemo.Step)] = []
    var caches = CachePlan(program.caches, mayGrow: mayGrow)
    for entry in entries {
      if !passes(entry, numbers, binding, driver: driver, program: program) { return nil }
      if !entry.isStep { continue }
      let isOwn = caches.concerns(entry.node)
      if let twin = entry.twin, !isOwn, !caches.concerns(stepNodes[twin.step]), twin.isExact || !hasRead[twin.step] {
        drafts.append(drafts[twin.step])
      } else if let fixed = entry.fixed {
        drafts.append(fixed)
      } else {
        // Views of inputs take no memory.
        let outputBytes = binding.region.byteCount(at: entry.outputs)
        guard outputBytes <= available || outputBytes <= binding.region.byteCount(at: entry.inputs) else { return nil }
        let place = drafts.count
        if !isOwn, let step = former[place] {
          drafts.append(step.draft)
          hasRead[place] = step.hasRead
          continue
        }
        let (inputs, outputs) = (binding.types(entry.inputs), binding.types(entry.outputs))
        let pitches = isOwn ? caches.pitches(of: entry, binding, values) : []
        let known = tensors(of: entry, program.nodes[entry.node], binding.known)
        let context = PlanContext(inputs: inputs, outputs: outputs, known: known, pitches: pitches, reads: reads)
        // Whoever plans node by node names what is wrong.
        guard let step = try? entry.kernel.step(for: context) else { return nil }
        let draft = StepDraft(
          step: step, inputTypes: inputs, outputTypes: outputs, bytes: inputs.byteCount &+ outputBytes)
        hasRead[place] = reads.take()
        drafts.append(draft)
        if !isOwn { new.append((place, StepMemo.Step(numbers: numbers, draft: draft, hasRead: hasRead[place]))) }
      }
    }
    memo.keep(new)
    let region = RegionDraft(
      nodes: nodes, drafts: drafts, draftNodes: stepNodes, known: binding.known,
      inputs: inputs.map { ($0.value, binding.types[$0.type]) }, valuesRead: [],
      outputs: outputs.map { ($0.value, binding.types[$0.type]) }, caches: caches, isBound: true, donated: donated)
    let layouts = layouts.withLock { $0 }
    var latest = layouts
    let plan = try region.layOut(program, threads: threads, layouts: &latest)
    if latest.first !== layouts.first { self.layouts.withLock { [latest] in $0 = latest } }
    return plan
  }

  /// Forgets the steps of former plans; they take memory.
  func forgetSteps() { memo.removeAll() }

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
    var bound: [TensorType] = []
    bound.reserveCapacity(types.count)
    for (index, type) in types.enumerated() {
      bound.append(fixedTypes[index] ?? TensorType(type.dataType, Shape(type.extents.map { numbers[$0] })))
    }
    guard let region = RegionTypes(bound) else { return nil }
    var tensors: [Tensor] = []
    tensors.reserveCapacity(known.count)
    for formula in known {
      let elements = formula.elements.map { numbers[$0] }
      guard let tensor = Tensor(integers: elements, bound[formula.type]) else { return nil }
      tensors.append(tensor)
    }
    return Binding(
      region: region,
      known: KnownTensors(constants: constants, places: knownPlaces, computed: tensors))
  }

  /// True if the formulas of a node hold for the numbers.
  private func passes(
    _ entry: Entry, _ numbers: [Int], _ binding: Binding, driver: InferenceDriver, program: Program
  ) -> Bool {
    switch entry.check {
    case .none: return true
    case .equality(let pairs):
      for (a, b) in pairs where numbers[a] != numbers[b] {
        return agrees(entry, binding, driver: driver, program: program)
      }
      return true
    case .inference: return agrees(entry, binding, driver: driver, program: program)
    }
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
