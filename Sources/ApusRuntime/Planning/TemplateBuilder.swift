// Makes the template of a region: formulas by inference over symbols, and which nodes ask for more than those say.

import ApusGraph
import ApusTensor

/// Infers the nodes of a region once over symbols.
///
/// The formulas say what a node gives, and not for which sizes it refuses to. So every node is tried with numbers too:
/// ones, two sets of small primes, and for each symbol one very large number. A node that refuses one of these, as one
/// that adds a table of 512 positions does, or that gives something else than its formulas say, is inferred in every
/// plan.
struct TemplateBuilder: ~Copyable {
  private let program: Program
  private let nodes: Range<Int>
  private let driver: InferenceDriver
  private var facts: [ValueFact?]
  private var symbols: [String] = []
  private var extents: [Dim] = []
  private var extentIndex: [Dim: Int] = [:]
  private var types: [PlanTemplate.TypeFormula] = []
  private var typeIndex: [PlanTemplate.TypeFormula: Int] = [:]
  private var inputs: [PlanTemplate.Input] = []
  private var known: [PlanTemplate.ElementsFormula] = []
  /// By value: true for constants and for what is in `known`.
  private var isKnown: [Bool]
  private var entries: [PlanTemplate.Entry] = []

  /// More symbols are seldom; each costs one more trial of every node.
  private static let maximumSymbols = 8
  private static let large = 1_000_003
  private static let primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]

  /// The template of the region that `plan` is a plan of; nil if its plans have no common form.
  static func template(of plan: RegionPlan, in program: Program) -> PlanTemplate? {
    guard plan.valuesRead.isEmpty else { return nil }
    var builder = TemplateBuilder(program, plan.nodes)
    guard builder.enter(plan.inputs) else { return nil }
    for node in plan.nodes {
      guard builder.append(node) else { return nil }
    }
    return builder.finish()
  }

  private init(_ program: Program, _ nodes: Range<Int>) {
    (self.program, self.nodes) = (program, nodes)
    driver = InferenceDriver(registry: program.registry)
    facts = [ValueFact?](repeating: nil, count: program.graph.values.count)
    isKnown = program.constants.map { $0 != nil }
  }

  // MARK: - Formulas

  /// The values that enter, with the symbols that the graph has for their extents and new ones where it has none.
  private mutating func enter(_ entering: [(value: ValueID, type: TensorType)]) -> Bool {
    let shapes = entering.map { shape(of: $0.value, like: $0.type) }
    var bound: Set<String> = []
    for dim in shapes.joined() {
      if let name = dim.symbol { bound.insert(name) }
    }
    var given: Set<String> = []
    for (slot, (value, type)) in entering.enumerated() {
      var shape = shapes[slot]
      var axes: [(axis: Int, symbol: Int)] = []
      for axis in shape.indices {
        if shape[axis].isUnknown || !shape[axis].symbols.isSubset(of: bound) {
          // No name in a file has a line feed.
          shape[axis] = .symbol("\n\(slot).\(axis)")
        }
        guard let name = shape[axis].symbol, given.insert(name).inserted else { continue }
        axes.append((axis, symbols.count))
        symbols.append(name)
      }
      facts[value.index] = .tensor(type.dataType, shape)
      guard let formula = enter(TensorFact(type.dataType, shape)) else { return false }
      inputs.append(PlanTemplate.Input(value: value, type: formula, symbols: axes))
    }
    return symbols.count <= TemplateBuilder.maximumSymbols
  }

  private func shape(of value: ValueID, like type: TensorType) -> [Dim] {
    guard let shape = program.graph.fact(value).tensor?.shape, shape.count == type.shape.rank else {
      return [Dim](repeating: .unknown, count: type.shape.rank)
    }
    return shape
  }

  /// The position of a type; nil if an extent has no formula.
  private mutating func enter(_ fact: TensorFact) -> Int? {
    guard let shape = fact.shape, !shape.contains(where: \.isUnknown) else { return nil }
    let formula = PlanTemplate.TypeFormula(dataType: fact.dataType, extents: shape.map { position(of: $0) })
    if let index = typeIndex[formula] { return index }
    typeIndex[formula] = types.count
    types.append(formula)
    return types.count - 1
  }

  private mutating func position(of extent: Dim) -> Int {
    if let index = extentIndex[extent] { return index }
    extentIndex[extent] = extents.count
    extents.append(extent)
    return extents.count - 1
  }

  /// Takes one more node; false if not all it gives has a formula.
  private mutating func append(_ index: Int) -> Bool {
    let prepared = program.nodes[index]
    let node = prepared.node
    guard case .planned(let kernel) = prepared.kernel else { return false }
    var inputFacts: [ValueFact?] = []
    var inputTypes: [Int?] = []
    for (position, input) in node.inputs.enumerated() {
      guard let input else {
        inputFacts.append(nil)
        inputTypes.append(nil)
        continue
      }
      if facts[input.index] == nil, let constant = program.constants[input.index] {
        facts[input.index] = .tensor(TensorFact(constant))
      }
      let isRead = prepared.schema.input(at: position)?.isReadWhenPlanning ?? false
      guard let fact = facts[input.index]?.tensor, let type = enter(fact), !isRead || isKnown[input.index],
        program.graph.fact(input).tensor?.dataType == fact.dataType
      else { return false }
      inputFacts.append(facts[input.index])
      inputTypes.append(type)
    }
    let constants = node.inputs.map { $0.flatMap { program.constants[$0.index] } }
    guard
      let inferred = try? driver.infer(node, inputs: inputFacts, constants: constants, outerFact: { _ in .unknown })
    else { return false }
    var outputTypes: [Int?] = []
    var isStep = prepared.schema.traits.contains(.random)
    for (position, output) in node.outputs.enumerated() {
      guard let output else {
        outputTypes.append(nil)
        continue
      }
      guard let fact = inferred[position].tensor, let type = enter(fact) else { return false }
      outputTypes.append(type)
      facts[output.index] = .tensor(fact)
      if let elements = elements(of: fact) {
        known.append(PlanTemplate.ElementsFormula(value: output, type: type, elements: elements))
        isKnown[output.index] = true
      } else {
        isStep = true
      }
    }
    entries.append(
      PlanTemplate.Entry(node: index, kernel: kernel, inputs: inputTypes, outputs: outputTypes, isStep: isStep))
    return true
  }

  /// The formulas of the elements; nil if not all have one.
  private mutating func elements(of fact: TensorFact) -> [Int]? {
    guard fact.dataType == .int64 || fact.dataType == .int32, let values = fact.values,
      !values.contains(where: \.isUnknown)
    else { return nil }
    return values.map { position(of: $0) }
  }

  // MARK: - Trials

  private consuming func finish() -> PlanTemplate? {
    var outputs: [(value: ValueID, type: Int)] = []
    for entry in entries {
      for (value, type) in zip(program.nodes[entry.node].outputs, entry.outputs) {
        guard let value, let type, program.lastUse[value.index] >= nodes.upperBound else { continue }
        outputs.append((value, type))
      }
    }
    let unchecked = template(outputs: outputs)
    var mustBeChecked = [Bool](repeating: false, count: entries.count)
    for trial in trials() {
      guard let binding = unchecked.binding(of: trial, constants: program.constants) else {
        // Some size is not possible; which nodes refuse it is not known.
        mustBeChecked = [Bool](repeating: true, count: entries.count)
        break
      }
      for (index, entry) in entries.enumerated() where !mustBeChecked[index] {
        mustBeChecked[index] = !unchecked.agrees(entry, binding, driver: driver, program: program)
      }
    }
    let formulas = Dictionary(uniqueKeysWithValues: known.map { ($0.value, $0) })
    var twins = TwinFinder(program, formulas)
    entries = entries.enumerated().compactMap { index, entry in
      if !entry.isStep, !mustBeChecked[index] { return nil }
      return PlanTemplate.Entry(
        node: entry.node, kernel: entry.kernel, inputs: entry.inputs, outputs: entry.outputs, isStep: entry.isStep,
        check: mustBeChecked[index] ? check(of: entry) : .none, fixed: fixedDraft(entry),
        twin: entry.isStep ? twins.append(entry) : nil,
        constants: constants(of: entry, unless: formulas), sizes: sizes(of: entry, formulas))
    }
    dropUnread(outputs)
    return template(outputs: outputs)
  }

  /// How to find out whether the formulas of a node hold, which do not for all sizes. Where all that inference asks of
  /// extents is that some are equal, nothing has to be inferred.
  private func check(of entry: PlanTemplate.Entry) -> PlanTemplate.SizeCheck {
    let (node, schema) = (program.nodes[entry.node].node, program.nodes[entry.node].schema)
    guard node.outputs.count == 1, case let value? = node.outputs[0], !isKnown[value.index],
      case let output? = entry.outputs[0].map({ types[$0].extents })
    else { return .inference }
    // The axis of the output that has what all inputs have there.
    let joined: Int?
    switch schema.layout {
    case .broadcasting: joined = nil
    case .along(let attribute) where schema.inputs.first?.presence == .variadic:
      guard case .int(let axis)? = node.attributes[attribute] else { return .inference }
      joined = axis < 0 ? axis + output.count : axis
    default: return .inference
    }
    var pairs: [(Int, Int)] = []
    for case let input? in entry.inputs.map({ $0.map { types[$0].extents } }) {
      let first = output.count - input.count
      guard first == 0 || (first > 0 && joined == nil) else { return .inference }
      for (axis, extent) in input.enumerated() where axis != joined && extent != output[first + axis] {
        if joined == nil, extents[extent].known == 1 { continue }
        pairs.append((extent, output[first + axis]))
      }
    }
    return .equality(pairs)
  }

  /// What a step depends on: the extents of its operands, and the elements of known ones.
  private func sizes(
    of entry: PlanTemplate.Entry, _ formulas: [ValueID: PlanTemplate.ElementsFormula]
  ) -> [Int] {
    var sizes: Set<Int> = []
    for case let type? in entry.inputs + entry.outputs { sizes.formUnion(types[type].extents) }
    for case let input? in program.nodes[entry.node].inputs { sizes.formUnion(formulas[input]?.elements ?? []) }
    return sizes.filter { extents[$0].known == nil }.sorted()
  }

  /// The constants among the inputs; nil if one of `formulas`, which are known too, is among them.
  private func constants(
    of entry: PlanTemplate.Entry, unless formulas: [ValueID: PlanTemplate.ElementsFormula]
  ) -> [Tensor?]? {
    let inputs = program.nodes[entry.node].inputs
    if inputs.contains(where: { $0.map { formulas[$0] != nil } ?? false }) { return nil }
    return inputs.map { $0.flatMap { program.constants[$0.index] } }
  }

  /// Forgets the elements that served for formulas only: no plan needs the tensors.
  private mutating func dropUnread(_ outputs: [(value: ValueID, type: Int)]) {
    var isNeeded = Set(outputs.map(\.value))
    for entry in entries {
      let node = program.nodes[entry.node]
      isNeeded.formUnion(node.outputs.compactMap { $0 })
      if let fixed = entry.fixed, case .none = entry.check {
        isNeeded.formUnion(fixed.step.views.compactMap { node.inputs[$0.input] })
      } else {
        isNeeded.formUnion(node.inputs.compactMap { $0 })
      }
    }
    known.removeAll { !isNeeded.contains($0.value) }
  }

  /// The draft of an entry whose step is the same for all sizes. Such a step only names views, for which nobody looks
  /// at the types.
  private func fixedDraft(_ entry: PlanTemplate.Entry) -> StepDraft? {
    guard let step = entry.kernel.fixedStep, step.phases.isEmpty,
      entry.outputs.indices.allSatisfy({ output in step.views.contains { $0.output == output } })
    else { return nil }
    return StepDraft(
      step: step, inputTypes: OperandTypes(entry.inputs.map { _ in nil }),
      outputTypes: OperandTypes(entry.outputs.map { _ in nil }), bytes: 0)
  }

  private func template(outputs: [(value: ValueID, type: Int)]) -> PlanTemplate {
    var places = [Int32](repeating: -1, count: program.graph.values.count)
    for (place, formula) in known.enumerated() { places[formula.value.index] = Int32(place) }
    return PlanTemplate(
      nodes: nodes, symbols: symbols, extents: extents, types: types, inputs: inputs, known: known,
      knownPlaces: places, entries: entries, outputs: outputs)
  }

  /// Numbers for the symbols.
  private func trials() -> [[Int]] {
    func trial(_ number: (Int) -> Int) -> [Int] { symbols.indices.map(number) }
    let primes = TemplateBuilder.primes
    var trials = [trial { _ in 1 }, trial { primes[$0] }, trial { primes[primes.count - 1 - $0] }]
    for large in symbols.indices { trials.append(trial { $0 == large ? TemplateBuilder.large : primes[$0] }) }
    return trials
  }
}

/// Finds steps that are the same for the same types: those of nodes with the same operator, attributes and facts, where
/// the tensors that are known are the same too or the kernels do not look at them.
private struct TwinFinder {
  private struct Key: Hashable {
    let op: OperatorID
    let inputs: [Int?]
    let outputs: [Int?]
  }

  private let program: Program
  /// The known tensors that are no constants.
  private let formulas: [ValueID: PlanTemplate.ElementsFormula]
  /// By key: the numbers of the steps that have no earlier twin, with their nodes.
  private var candidates: [Key: [(step: Int, node: Int)]] = [:]
  private var count = 0

  /// Larger constants are not compared.
  private static let largestCompared = 1 << 10

  init(_ program: Program, _ formulas: [ValueID: PlanTemplate.ElementsFormula]) {
    (self.program, self.formulas) = (program, formulas)
  }

  /// Takes one more step; an earlier one that is the same.
  mutating func append(_ entry: PlanTemplate.Entry) -> PlanTemplate.Twin? {
    defer { count += 1 }
    let prepared = program.nodes[entry.node]
    if prepared.schema.traits.contains(.random) { return nil }
    let key = Key(op: prepared.node.op, inputs: entry.inputs, outputs: entry.outputs)
    for candidate in candidates[key] ?? [] {
      let other = program.nodes[candidate.node]
      guard haveSameFacts(other, prepared) else { continue }
      if zip(other.inputs, prepared.inputs).allSatisfy(isSameTensor) {
        return PlanTemplate.Twin(step: candidate.step, isExact: true)
      }
      if !other.readsConstants, !prepared.readsConstants, arePackedAlike(other, prepared) {
        return PlanTemplate.Twin(step: candidate.step, isExact: false)
      }
    }
    candidates[key, default: []].append((count, entry.node))
    return nil
  }

  private func haveSameFacts(_ a: PreparedNode, _ b: PreparedNode) -> Bool {
    func areSame(_ a: [ValueID?], _ b: [ValueID?]) -> Bool {
      zip(a, b).allSatisfy { x, y in
        guard let x, let y else { return x == y }
        return program.graph.fact(x) == program.graph.fact(y)
      }
    }
    return a.node.attributes.isSame(as: b.node.attributes) && areSame(a.inputs, b.inputs)
      && areSame(a.outputs, b.outputs)
  }

  /// True if steps find the same inputs in packed form.
  private func arePackedAlike(_ a: PreparedNode, _ b: PreparedNode) -> Bool {
    guard case .planned(let first) = a.kernel, case .planned(let second) = b.kernel else { return false }
    return first.packedOperands.map(\.input) == second.packedOperands.map(\.input)
  }

  /// True if both inputs are unknown while planning, or the same tensor for all sizes.
  private func isSameTensor(_ a: ValueID?, _ b: ValueID?) -> Bool {
    guard let a, let b, a != b else { return a == b }
    if let x = formulas[a], let y = formulas[b] { return x.type == y.type && x.elements == y.elements }
    guard formulas[a] == nil, formulas[b] == nil else { return false }
    guard let x = program.constants[a.index], let y = program.constants[b.index] else {
      return program.constants[a.index] == nil && program.constants[b.index] == nil
    }
    return !x.isReleased && !y.isReleased && x.byteCount <= TwinFinder.largestCompared && x.hasSameBytes(as: y)
  }
}
