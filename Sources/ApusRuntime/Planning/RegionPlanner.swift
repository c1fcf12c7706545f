// Plans consecutive nodes as far as shapes can be known before anything runs.

import ApusGraph
import ApusTensor

/// Builds one `RegionPlan`, starting at a node, from the values that exist.
///
/// A region ends before an eager node, and before a node whose plan needs the elements of a tensor that this very
/// region computes. Nodes whose inputs are all known while planning, and whose outputs are small, are computed right
/// here.
struct RegionPlanner: ~Copyable {
  private let program: Program
  private let start: Int
  private var end: Int
  private var facts: [ValueFact?]
  private var known: [Tensor?]
  /// Values that this region computes, by value.
  private var producedHere: [Bool]
  private var inputs: [(value: ValueID, type: TensorType)] = []
  private var inputSlot: [ValueID: Int] = [:]
  private var valuesRead: [(value: ValueID, tensor: Tensor)] = []
  private var drafts: [StepDraft] = []
  private var draftNodes: [Int] = []
  /// By draft: its kernel, where that was chosen anew.
  private var settled: [Int: any Kernel] = [:]
  /// Bytes of the tensors that were computed here.
  private var foldedBytes = 0
  private var caches: CachePlan
  /// Bytes that outputs of one node may have: plans hold tables that grow with them.
  private let available: Int

  /// Tensors of at most this many bytes are computed while planning when their inputs are known.
  private static let foldingLimit = 16 << 10
  /// Bytes of such tensors that one plan keeps.
  private static let foldingTotal = 8 << 20

  private init(program: Program, start: Int, available: Int, mayGrow: Bool) {
    self.program = program
    self.start = start
    self.available = available
    end = start
    caches = CachePlan(program.caches, mayGrow: mayGrow)
    facts = [ValueFact?](repeating: nil, count: program.graph.values.count)
    known = program.constants
    producedHere = [Bool](repeating: false, count: program.graph.values.count)
  }

  /// Plans from `start`, as far as it goes, for a number of threads and `available` bytes of memory. The node at
  /// `start` must not be eager. `mayGrow`: outputs may have room behind them. `donated`: what steps may write over.
  static func plan(
    _ program: Program, startingAt start: Int, values: borrowing ValueTable, threads: Int, available: Int,
    mayGrow: Bool, donated: [ValueID] = []
  ) throws(OperatorError) -> RegionPlan {
    var planner = RegionPlanner(program: program, start: start, available: available, mayGrow: mayGrow)
    while planner.end < program.nodes.count, try planner.append(planner.end, values: values) { planner.end += 1 }
    return try planner.finish(threads: threads, donated: donated)
  }

  /// Takes one more node into the region; false if the region must end before it.
  private mutating func append(_ index: Int, values: borrowing ValueTable) throws(OperatorError) -> Bool {
    let prepared = program.nodes[index]
    guard case .planned(let kernel) = prepared.kernel else { return false }
    let node = prepared.node
    var inputFacts: [ValueFact?] = []
    var tensors: [Tensor?] = []
    for (position, input) in node.inputs.enumerated() {
      guard let input else {
        inputFacts.append(nil)
        tensors.append(nil)
        continue
      }
      let isRead = prepared.schema.input(at: position)?.isReadWhenPlanning ?? false
      if isRead, known[input.index] == nil, producedHere[input.index] { return false }
      try enter(input, isRead: isRead, values: values)
      inputFacts.append(facts[input.index])
      tensors.append(known[input.index])
    }
    do throws(OperatorError) {
      try plan(
        node, at: index, kernel: kernel, schema: prepared.schema, facts: inputFacts, known: tensors, values: values)
    } catch {
      throw error.inside(node, inputs: inputFacts)
    }
    return true
  }

  /// Makes the fact of a value known; a value from outside becomes an input of the region.
  private mutating func enter(_ value: ValueID, isRead: Bool, values: borrowing ValueTable) throws(OperatorError) {
    if let constant = known[value.index] {
      if facts[value.index] == nil { facts[value.index] = .tensor(TensorFact(constant)) }
      return
    }
    if producedHere[value.index] { return }
    guard let tensor = values.tensor(value) else {
      let name = program.graph[value].name
      throw .mismatch("value '\(name)' is \(values[value]?.type.description ?? "absent"); expected a tensor")
    }
    if inputSlot[value] == nil {
      inputSlot[value] = inputs.count
      inputs.append((value, TensorType(tensor.dataType, tensor.shape)))
      facts[value.index] = .tensor(tensor.dataType, [Dim](tensor.shape))
    }
    if isRead {
      // The memory belongs to whoever made the value, who may fill it anew after this run.
      let copy: Tensor
      do throws(TensorError) {
        copy = try tensor.copied(account: program.leases.account)
      } catch {
        throw OperatorError(error)
      }
      valuesRead.append((value, copy))
      known[value.index] = copy
      facts[value.index] = .tensor(TensorFact(copy))
    }
  }

  private mutating func plan(
    _ node: Node, at index: Int, kernel: any Kernel, schema: OperatorSchema, facts inputFacts: [ValueFact?],
    known tensors: [Tensor?], values: borrowing ValueTable
  ) throws(OperatorError) {
    let outer: (ValueID) -> ValueFact = { _ in .unknown }
    let inferred = try InferenceDriver(registry: program.registry).infer(
      node, inputs: inputFacts, constants: tensors, outerFact: outer)
    var types: [TensorType?] = []
    var outputBytes = 0
    for (position, output) in node.outputs.enumerated() {
      guard let output else {
        types.append(nil)
        continue
      }
      guard let fact = inferred[position].tensor, let shape = fact.concreteShape else {
        throw .unsupported("output \(position) is \(inferred[position]); its shape must be known before the node runs")
      }
      guard let count = shape.checkedElementCount, let bytes = fact.dataType.byteCount(elements: count) else {
        throw OperatorError(
          .limit, "output \(position) has the shape \(shape), which no memory holds", remedy: "Use smaller inputs")
      }
      types.append(TensorType(fact.dataType, shape))
      // Only compared with a limit.
      outputBytes = outputBytes.addingReportingOverflow(bytes).overflow ? .max : outputBytes + bytes
      facts[output.index] = .tensor(fact)
      producedHere[output.index] = true
    }
    let inputTypes = OperandTypes(
      inputFacts.map { fact in
        guard let tensor = fact?.tensor, let shape = tensor.concreteShape else { return nil }
        return TensorType(tensor.dataType, shape)
      })
    let outputTypes = OperandTypes(types)
    // Views of inputs take no memory.
    let inputBytes = inputTypes.byteCount
    guard outputBytes <= max(available, inputBytes) else {
      throw OperatorError(
        .limit, "the outputs have \(outputBytes) bytes; \(available) bytes are available to this run",
        remedy: "Use smaller inputs, or a larger maximumRunMemory")
    }
    let chosen = try settled(kernel, node, schema, facts: inputFacts, outputs: inferred, known: tensors)
    let kernel = chosen ?? kernel
    let pitches = caches.pitches(of: index, inputCount: node.inputs.count, outputs: outputTypes, values)
    let step = try kernel.step(
      for: PlanContext(inputs: inputTypes, outputs: outputTypes, known: tensors, pitches: pitches))
    if isFoldable(node, schema: schema, known: tensors, outputBytes: outputBytes) {
      let placeholders = zip(tensors, inputTypes).map { tensor, type in
        tensor ?? type.map { Tensor(placeholder: $0.dataType, shape: $0.shape) }
      }
      foldedBytes += outputBytes
      // The plan outlives the run that it is made for.
      let allowance = Allowance.run(memory: program.leases.account, cancellation: nil)
      let results = try KernelRunner.run(
        step, packed: kernel.packedOperands, inputs: placeholders, outputTypes: types, allowance: allowance)
      for (output, tensor) in zip(node.outputs, results) {
        guard let output, let tensor else { continue }
        known[output.index] = tensor
        facts[output.index] = .tensor(TensorFact(tensor))
      }
      return
    }
    settled[drafts.count] = chosen
    drafts.append(StepDraft(step: step, inputTypes: inputTypes, outputTypes: outputTypes))
    draftNodes.append(index)
  }

  /// The kernel for the types that the inputs have, where one was not known when the model was loaded and the kernel
  /// was chosen without it; nil where all were known.
  private func settled(
    _ kernel: any Kernel, _ node: Node, _ schema: OperatorSchema, facts: [ValueFact?], outputs: [ValueFact],
    known tensors: [Tensor?]
  ) throws(OperatorError) -> (any Kernel)? {
    var isChosenAnew = false
    for (position, input) in node.inputs.enumerated() {
      guard let input, let type = facts[position]?.tensor?.dataType else { continue }
      let former = program.graph.fact(input).tensor?.dataType
      if former == type { continue }
      if let former { throw .mismatch("input \(position) is \(type); the model was loaded for \(former)") }
      isChosenAnew = true
    }
    if !isChosenAnew { return nil }
    let definition = try program.registry.require(node.op)
    let context = PrepareContext(
      node: node, schema: schema, inputs: facts, outputs: zip(node.outputs, outputs).map { $0 == nil ? nil : $1 },
      constants: tensors)
    guard case .planned(let chosen) = try definition.prepare(context),
      !facts.contains(where: { $0?.tensor?.dataType == .string })
    else { throw .unsupported("the types of the inputs must be known when the model is loaded") }
    return chosen
  }

  /// True if the node can be computed while planning.
  private func isFoldable(_ node: Node, schema: OperatorSchema, known tensors: [Tensor?], outputBytes: Int) -> Bool {
    if schema.traits.contains(.random) || outputBytes > RegionPlanner.foldingLimit { return false }
    if foldedBytes + outputBytes > RegionPlanner.foldingTotal { return false }
    if schema.traits.contains(.readsShapeOnly) { return true }
    return zip(node.inputs, tensors).allSatisfy { input, tensor in
      guard input != nil else { return true }
      return tensor.map { $0.dataType != .string && !$0.isReleased } ?? false
    }
  }

  /// The plan of the nodes that were taken in.
  private consuming func finish(threads: Int, donated: [ValueID]) throws(OperatorError) -> RegionPlan {
    var outputs: [(value: ValueID, type: TensorType)] = []
    for index in start..<end {
      for case let output? in program.nodes[index].outputs where program.lastUse[output.index] >= end {
        guard let fact = facts[output.index]?.tensor, let shape = fact.concreteShape else { continue }
        outputs.append((output, TensorType(fact.dataType, shape)))
      }
    }
    let draft = RegionDraft(
      nodes: start..<end, drafts: drafts, draftNodes: draftNodes, known: KnownTensors(known), inputs: inputs,
      valuesRead: valuesRead, outputs: outputs, caches: caches, donated: donated, settled: settled)
    var layouts: [RegionLayout] = []
    return try draft.layOut(program, threads: threads, layouts: &layouts)
  }
}
