// What must hold for one node on given inputs: inference, threads, instruction sets, constants, its kernel's memory.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import CApusKernels

/// The threads and instruction sets under which the contract is checked.
package struct ContractSettings: Sendable {
  let serial = WorkerPool(threads: 1)
  let parallel = WorkerPool(threads: 3)
  /// The lesser machines that this one can stand for, by number, and itself. Forcing one changes the whole process.
  let lowerMachines: [Int]
  let ownMachine: Int

  /// - Parameter levels: whether lower instruction sets are tried; nothing else may run models in this process then.
  package init(levels: Bool) {
    let machines = 0..<apus_machine_count()
    let own = machines.first { apus_machine_at($0) == apus_kernels() } ?? 0
    ownMachine = own
    lowerMachines = levels ? Array(machines.prefix(upTo: own)) : []
  }
}

/// One node of a graph with the values that enter it.
package struct NodeContract {
  let node: Node
  let graph: Graph
  /// By value of the graph.
  let values: [Value?]
  let settings: ContractSettings
  let registry: OperatorRegistry
  package private(set) var violations: [String] = []
  /// How many roundings count as one where instruction sets are compared.
  private var slack = 1.0

  /// Nodes with more operations, or more bytes of inputs and outputs, are left out of the slower checks: the former of
  /// those on lower instruction sets and without constants, the latter of those in other memory.
  private static let maximumOperations = 100_000_000
  private static let maximumBytes = 32 << 20

  package init(
    node: Node, graph: Graph, values: [Value?], settings: ContractSettings, registry: OperatorRegistry = .standard
  ) {
    (self.node, self.graph, self.values, self.settings, self.registry) = (node, graph, values, settings, registry)
  }

  /// The outputs of the node, after everything was checked. Throws if the node does not run at all.
  package mutating func check() throws -> [Value?] {
    let program = try program(constants: true)
    let outputs = try run(program, on: settings.serial)
    let schema = try registry.require(node.op).schema
    checkInference(outputs)
    if schema.traits.contains(.random) { return outputs }
    let others = try run(program, on: settings.parallel)
    compare(others, outputs, "on 3 threads", exactly: true)
    let operations = try checkKernel(outputs)
    // Large nodes do nothing that small ones do not do too.
    if operations > NodeContract.maximumOperations { return outputs }
    // The roundings of a sum of n terms grow as the root of n, and its terms may be larger than itself.
    let elements = outputs.reduce(0) { $0 + ($1?.tensor?.count ?? 0) }
    slack = max(1, (Double(operations) / Double(max(elements, 1))).squareRoot())
    checkUnpacked(outputs, schema: schema)
    for machine in settings.lowerMachines {
      apus_force_machine(apus_machine_at(machine))
      defer { apus_force_machine(apus_machine_at(settings.ownMachine)) }
      let name = String(cString: apus_kernels().pointee.name)
      do {
        let lower = try self.program(constants: true)
        compare(try run(lower, on: settings.serial), outputs, "with \(name)", exactly: false)
      } catch {
        violations.append("with \(name): \(error)")
      }
    }
    return outputs
  }

  // MARK: - The node as a program

  /// A program of this node alone. Its constants are those of the graph, or inputs like any other.
  private func program(constants: Bool) throws -> Program {
    var single = graph.part([node], inputs: [], outputs: node.outputs.compactMap { $0 })
    if !constants {
      for value in node.inputs.compactMap({ $0 }) { single.values[value.index].constant = nil }
    }
    single.captures = []
    var seen: Set<ValueID> = []
    single.inputs = node.dependencies.filter { single.constant($0) == nil && seen.insert($0).inserted }
    do {
      return try Program(graph: single, registry: registry, pool: settings.serial)
    } catch {
      throw error.errors.first ?? .unsupported("the node cannot be prepared")
    }
  }

  private func value(_ id: ValueID) -> Value? { values[id.index] ?? graph.constant(id).map { .tensor($0) } }

  private func run(_ program: Program, on pool: WorkerPool) throws -> [Value?] {
    var results = try program.run(program.graph.inputs.compactMap { value($0) }, on: pool)[...]
    return node.outputs.map { $0 == nil ? nil : results.removeFirst() }
  }

  private mutating func compare(_ found: [Value?], _ expected: [Value?], _ what: String, exactly: Bool) {
    for (index, pair) in zip(found, expected).enumerated() {
      guard let a = pair.0, let b = pair.1 else { continue }
      if exactly {
        if !a.hasSameBits(as: b) { violations.append("\(what): output \(index) has other bits") }
      } else if let difference = RowComparison.difference(found: a, expected: b, slack: slack) {
        violations.append("\(what): output \(index): \(difference)")
      }
    }
  }

  /// The node with its constants as inputs: nothing is packed beforehand.
  private mutating func checkUnpacked(_ outputs: [Value?], schema: OperatorSchema) {
    guard node.inputs.contains(where: { graph.constant($0) != nil }) else { return }
    do {
      compare(try run(try program(constants: false), on: settings.serial), outputs, "without constants", exactly: false)
    } catch {
      violations.append("without constants: \(error)")
    }
  }

  // MARK: - Inference

  /// What inference finds from shapes that are known, symbolic, and of unknown rank must fit what the kernel made.
  private mutating func checkInference(_ outputs: [Value?]) {
    let inputs = node.inputs.map { $0.flatMap { value($0) } }
    let constants = node.inputs.map { graph.constant($0) }
    var bindings: [String: Dim] = [:]
    var symbolic: [ValueFact?] = []
    for (index, input) in inputs.enumerated() {
      guard case .tensor(let tensor)? = input, constants[index] == nil else {
        symbolic.append(input.map { ValueFact($0) })
        continue
      }
      let shape = tensor.shape.indices.map { axis in
        bindings["s\(index)_\(axis)"] = Dim(tensor.shape[axis])
        return Dim.symbol("s\(index)_\(axis)")
      }
      symbolic.append(.tensor(tensor.dataType, shape))
    }
    let known = inputs.map { $0?.tensor }
    let outer = graph
    let concrete = inputs.map { $0.map { ValueFact($0) } }
    let rankless = zip(symbolic, constants).map { $1 == nil ? $0?.withoutShapes : $0 }
    for (what, facts, constants) in [
      ("known shapes", concrete, known), ("symbolic shapes", symbolic, constants),
      ("unknown ranks", rankless, constants),
    ] {
      do {
        let inferred = try InferenceDriver(registry: registry).infer(
          node, inputs: facts, constants: constants, outerFact: { outer.fact($0) })
        for (index, fact) in inferred.enumerated() {
          guard index < outputs.count, let output = outputs[index] else { continue }
          let expected = fact.substituting(bindings)
          if !expected.admits(output) {
            violations.append("inference from \(what): output \(index) is \(output.type); inferred \(fact)")
          }
        }
      } catch {
        violations.append("inference from \(what): \(error)")
      }
    }
  }

  // MARK: - The kernel

  /// The contract of the step, if the node has a planned kernel and no strings. The operations that the step counts.
  private mutating func checkKernel(_ outputs: [Value?]) throws -> Int {
    let definition = try registry.require(node.op)
    let schema = definition.schema
    let inputs = node.inputs.map { $0.flatMap { value($0)?.tensor } }
    guard !(inputs + outputs.map { $0?.tensor }).contains(where: { $0?.dataType == .string }) else { return 0 }
    let context = PrepareContext(
      node: node, schema: schema, inputs: node.inputs.map { $0.map { graph.fact($0) } },
      outputs: node.outputs.map { $0.map { graph.fact($0) } }, constants: node.inputs.map { graph.constant($0) })
    guard case .planned(let kernel) = try definition.prepare(context) else { return 0 }
    let known = zip(node.inputs, inputs).enumerated().map { position, pair -> Tensor? in
      let isRead = schema.input(at: position)?.isReadWhenPlanning ?? false
      return isRead || graph.constant(pair.0) != nil ? pair.1 : nil
    }
    let outputTypes = outputs.map { $0?.tensor.map { TensorType($0.dataType, $0.shape) } }
    let step = try kernel.step(
      for: PlanContext(
        inputs: inputs.map { $0.map { TensorType($0.dataType, $0.shape) } }, outputs: outputTypes, known: known))
    let bytes = inputs.reduce(0) { $0 + ($1?.byteCount ?? 0) } + outputTypes.reduce(0) { $0 + ($1?.byteCount ?? 0) }
    if bytes <= NodeContract.maximumBytes {
      let contract = StepContract(
        step: step, packed: kernel.packedOperands, inputs: inputs, outputTypes: outputTypes, pool: settings.parallel)
      violations += contract.violations()
      let rows = RowsContract(
        kernel: kernel, inputs: inputs, outputs: outputs.map { $0?.tensor }, known: known, pool: settings.parallel)
      violations += rows.violations()
    }
    return step.cost.operations
  }
}

extension Value {
  /// True for equal types, shapes and bytes.
  package func hasSameBits(as other: Value) -> Bool {
    switch (self, other) {
    case (.tensor(let a), .tensor(let b)):
      guard a.dataType == b.dataType, a.shape == b.shape, a.strings == b.strings else { return false }
      return a.withUnsafeBytes { x in b.withUnsafeBytes { y in x.elementsEqual(y) } }
    case (.sequence(let a, _), .sequence(let b, _)):
      return a.count == b.count && zip(a, b).allSatisfy { $0.hasSameBits(as: $1) }
    case (.optional(let a, _), .optional(let b, _)):
      guard let a, let b else { return a == nil && b == nil }
      return a.hasSameBits(as: b)
    case (.map(let a), .map(let b)):
      return Value.tensor(a.keys).hasSameBits(as: .tensor(b.keys)) && a.values.count == b.values.count
        && zip(a.values, b.values).allSatisfy { $0.hasSameBits(as: $1) }
    default: return false
    }
  }
}

extension ValueFact {
  /// True if a value can be what the fact says.
  fileprivate func admits(_ value: Value) -> Bool {
    switch (self, value) {
    case (.unknown, _): return true
    case (.tensor(let fact), .tensor(let tensor)):
      guard fact.dataType == tensor.dataType else { return false }
      if let values = fact.values, let elements = tensor.integers {
        let fits = zip(values, elements).allSatisfy { $0.known == nil || $0.known == $1 }
        if values.count != elements.count || !fits { return false }
      }
      guard let shape = fact.shape else { return true }
      return shape.count == tensor.rank && zip(shape, tensor.shape).allSatisfy { $0.known == nil || $0.known == $1 }
    case (.sequence(let fact), .sequence(let elements, _)): return elements.allSatisfy { fact.admits($0) }
    case (.optional(let fact), .optional(let inner, _)): return inner.map { fact.admits($0) } ?? true
    case (.optional(let fact), _): return fact.admits(value)
    case (.map(let key, let fact), .map(let map)):
      return key == map.keys.dataType && map.values.allSatisfy { fact.admits($0) }
    default: return false
    }
  }
}
