// A graph prepared for running: one kernel a node, constants bound, subgraphs prepared likewise.

import ApusGraph
import ApusTensor
import Synchronization

/// One node with its kernel.
final class PreparedNode: Sendable {
  let node: Node
  let schema: OperatorSchema
  let kernel: PreparedKernel
  /// The programs of the node's subgraphs by attribute name.
  let subprograms: [Subprogram]
  /// Those of the node.
  let inputs: [ValueID?]
  let outputs: [ValueID?]
  let wantedOutputs: [Bool]
  /// True if the kernel takes operands at any address.
  let movesData: Bool
  /// True if the kernel is planned before it runs.
  let isPlanned: Bool
  /// True if the kernel was made with a look at the constants among the inputs.
  let readsConstants: Bool
  /// What the kernel was chosen among; empty where nobody wanted to know.
  let choices: [KernelChoice]

  init(
    node: Node, schema: OperatorSchema, kernel: PreparedKernel, subprograms: [Subprogram], readsConstants: Bool,
    choices: [KernelChoice]
  ) {
    (self.node, self.schema, self.choices) = (node, schema, choices)
    (self.kernel, self.subprograms, self.readsConstants) = (kernel, subprograms, readsConstants)
    (inputs, outputs) = (node.inputs, node.outputs)
    wantedOutputs = node.outputs.map { $0 != nil }
    isPlanned = if case .planned = kernel { true } else { false }
    movesData = schema.traits.contains(.movesData)
  }
}

/// A subgraph of a node.
struct Subprogram: Sendable {
  /// Of the attribute.
  let name: String
  let program: Program
  /// The values of the graph around it that it uses.
  let captured: [ValueID]
}

/// An immutable prepared graph with its cache of plans and its pool of arenas. Safe to run from several threads at
/// once.
package final class Program: Sendable {
  package let graph: Graph
  let nodes: [PreparedNode]
  /// By value of the graph: its constant, if it is one.
  let constants: [Tensor?]
  let registry: OperatorRegistry
  /// By value: the last node that uses it; `nodes.count` for outputs of the graph; -1 if nobody does.
  let lastUse: [Int]
  /// Graphs in each other, this one included.
  package let nesting: Int
  /// The caches that can grow in place.
  let caches: CachePairs
  let plans: PlanCache
  let leases: LeasePool
  let tables: ValueTablePool
  /// By node: the values that no later node uses.
  let dying: [[ValueID]]
  private let alignedConstants: AlignedConstants
  /// What is left of the program for some of its outputs, by their numbers.
  private let parts = Mutex<[[Int]: Program]>([:])

  /// Prepares every node, in parallel on `pool`, within the allowance of `packedWeights`. Throws all problems together.
  /// Working memory and what plans hold is charged to `account`.
  package convenience init(
    graph: Graph, registry: OperatorRegistry, pool: WorkerPool, packedWeights: PackedWeights = PackedWeights(),
    account: MemoryAccount? = nil
  ) throws(PreparationError) {
    try self.init(
      graph: graph, registry: registry, pool: pool, packedWeights: packedWeights, leases: LeasePool(account: account))
  }

  /// A subprogram takes its working memory from the pool of the program around it: only one of them runs at a time.
  fileprivate init(
    graph: Graph, registry: OperatorRegistry, pool: WorkerPool, packedWeights: PackedWeights, leases: LeasePool
  ) throws(PreparationError) {
    self.registry = registry
    self.leases = leases
    let prepared = Mutex([PreparedNode?](repeating: nil, count: graph.nodes.count))
    let failures = Mutex<[(node: Int, errors: [OperatorError])]>([])
    let preparation = Preparation(
      graph: graph, registry: registry, pool: pool, packedWeights: packedWeights, leases: leases)
    let cancellation = packedWeights.allowance.cancellation
    let isComplete = pool.run(parts: graph.nodes.count, cancellation: cancellation) { index in
      do throws(PreparationError) {
        let node = try preparation.prepare(graph.nodes[index])
        prepared.withLock { $0[index] = node }
      } catch {
        failures.withLock { $0.append((index, error.errors)) }
      }
    }
    if !isComplete { throw PreparationError(errors: [.late]) }
    let errors = failures.withLock { $0.sorted { $0.node < $1.node }.flatMap(\.errors) }
    if !errors.isEmpty { throw PreparationError(errors: errors) }
    let nodes = prepared.withLock { $0.compactMap { $0 } }
    guard nodes.count == graph.nodes.count else {
      throw PreparationError(errors: [.inconsistency("\(nodes.count) of \(graph.nodes.count) nodes were prepared")])
    }
    self.nodes = nodes
    self.graph = try Program.settled(graph, nodes, packedWeights)
    constants = self.graph.values.map(\.constant)
    lastUse = Program.lastUses(of: graph)
    dying = Program.dyingValues(of: graph, lastUse)
    tables = ValueTablePool(constants: constants)
    nesting = 1 + (nodes.lazy.flatMap(\.subprograms).map(\.program.nesting).max() ?? 0)
    caches = CachePairs(graph: self.graph, nodes: nodes)
    plans = PlanCache(nodeCount: nodes.count)
    alignedConstants = AlignedConstants()
  }

  /// The nodes of `whole` that the outputs with these numbers need, with the same kernels and arenas.
  private init(_ outputs: [Int], of whole: Program) {
    let outputs = outputs.map { whole.graph.outputs[$0] }
    var isNeeded = [Bool](repeating: false, count: whole.graph.values.count)
    for value in outputs { isNeeded[value.index] = true }
    var kept: [Int] = []
    for index in whole.nodes.indices.reversed() {
      guard whole.nodes[index].outputs.contains(where: { $0.map { isNeeded[$0.index] } ?? false }) else { continue }
      kept.append(index)
      for value in whole.nodes[index].node.dependencies { isNeeded[value.index] = true }
    }
    kept.reverse()
    let graph = whole.graph.part(kept.map { whole.graph.nodes[$0] }, outputs: outputs)
    nodes = kept.map { whole.nodes[$0] }
    self.graph = graph
    (constants, registry, nesting) = (whole.constants, whole.registry, whole.nesting)
    (leases, alignedConstants) = (whole.leases, whole.alignedConstants)
    lastUse = Program.lastUses(of: graph)
    caches = CachePairs(graph: graph, nodes: nodes)
    dying = Program.dyingValues(of: graph, lastUse)
    tables = ValueTablePool(constants: constants)
    plans = PlanCache(nodeCount: nodes.count)
  }

  /// Parts kept; programs are asked for few sets of outputs.
  private static let maximumParts = 8

  /// The program that computes the outputs with the numbers `wanted`, in that order, and nothing that they do not need.
  package func part(for wanted: [Int]) -> Program {
    if wanted.elementsEqual(graph.outputs.indices) { return self }
    return parts.withLock { parts in
      if let part = parts[wanted] { return part }
      if parts.count == Program.maximumParts { parts.removeAll() }
      let part = Program(wanted, of: self)
      parts[wanted] = part
      return part
    }
  }

  /// `tensor`, all or a range of the bytes of `whole`, at an address that is a multiple of its element's width: itself,
  /// or the same range of a copy of `whole`. A constant of the graph, whose value is `root`, is copied once; what
  /// planning has found lies aligned already.
  func aligned(_ tensor: Tensor, rangeOf whole: Tensor, root: ValueID) throws(TensorError) -> Tensor {
    try tensor.storage.load()
    if tensor.isAligned(to: max(tensor.dataType.byteWidth, 1)) { return tensor }
    let copy = try alignedConstants.copy(
      of: whole, for: graph.constant(root) == nil ? nil : root, account: leases.account)
    return Tensor(
      dataType: tensor.dataType, shape: tensor.shape, storage: copy.storage,
      byteOffset: copy.byteOffset + tensor.byteOffset - whole.byteOffset)
  }

  /// Frees the working memory of runs that are over, and all plans.
  package func releaseMemory() {
    plans.removeAll()
    leases.releaseMemory()
    tables.removeAll()
    parts.withLock { $0 = [:] }
    for node in nodes {
      for subprogram in node.subprograms { subprogram.program.releaseMemory() }
    }
  }

  /// The graph with every constant in memory that somebody may read, shared with other models where they have the same,
  /// and without the others: those that all their nodes have packed.
  private static func settled(
    _ graph: Graph, _ nodes: [PreparedNode], _ packedWeights: PackedWeights
  ) throws(PreparationError) -> Graph {
    var isRead = [Bool](repeating: !packedWeights.releasesSources, count: graph.values.count)
    var isHandedOn = [Bool](repeating: false, count: graph.values.count)
    for prepared in nodes {
      let packed = prepared.kernel.packedInputs
      for (position, input) in prepared.node.inputs.enumerated() where !packed.contains(position) {
        if let input { isRead[input.index] = true }
      }
      for (_, subgraph) in prepared.node.subgraphs {
        for value in subgraph.captured { isRead[value.index] = true }
      }
      if prepared.subprograms.isEmpty { continue }
      for value in prepared.node.dependencies { isHandedOn[value.index] = true }
    }
    for value in graph.outputs { isRead[value.index] = true }
    var settled = graph
    for index in graph.values.indices {
      guard var tensor = graph.values[index].constant else { continue }
      if isRead[index] {
        do throws(TensorError) {
          try tensor.storage.load()
          // Every run of a graph inside would copy what lies at an odd address of the file.
          if isHandedOn[index], tensor.dataType != .string, !tensor.isAligned(to: 16) {
            tensor = try tensor.copied(account: packedWeights.allowance.memory)
            settled.values[index].constant = tensor
          }
        } catch {
          throw PreparationError(errors: [OperatorError(error)])
        }
        let shared = packedWeights.shared(tensor.storage)
        if shared !== tensor.storage {
          settled.values[index].constant = Tensor(
            dataType: tensor.dataType, shape: tensor.shape, storage: shared, byteOffset: tensor.byteOffset)
        }
      } else {
        settled.values[index].constant = Tensor(released: tensor.dataType, shape: tensor.shape)
      }
    }
    return settled
  }

  private static func lastUses(of graph: Graph) -> [Int] {
    var last = [Int](repeating: -1, count: graph.values.count)
    for (index, node) in graph.nodes.enumerated() {
      for value in node.dependencies { last[value.index] = index }
    }
    for value in graph.outputs { last[value.index] = graph.nodes.count }
    return last
  }
}

extension Program {
  /// By node: the values that it is the last to use.
  fileprivate static func dyingValues(of graph: Graph, _ lastUse: [Int]) -> [[ValueID]] {
    var isNoted = [Bool](repeating: false, count: lastUse.count)
    return graph.nodes.enumerated().map { index, node in
      node.dependencies.filter { value in
        if lastUse[value.index] != index || isNoted[value.index] { return false }
        isNoted[value.index] = true
        return true
      }
    }
  }
}

/// Copies of the constants that lie at odd addresses of their file, whole.
private final class AlignedConstants: Sendable {
  private let copies = Mutex<[ValueID: Tensor]>([:])

  /// The copy of a tensor, which for a value of the graph is made once.
  func copy(of tensor: Tensor, for value: ValueID?, account: MemoryAccount?) throws(TensorError) -> Tensor {
    try copies.withLock { (copies) throws(TensorError) in
      if let value, let copy = copies[value] { return copy }
      let copy = try tensor.copied(account: account)
      if let value { copies[value] = copy }
      return copy
    }
  }
}

/// What the preparation of a node needs.
private struct Preparation {
  let graph: Graph
  let registry: OperatorRegistry
  let pool: WorkerPool
  let packedWeights: PackedWeights
  let leases: LeasePool
  /// That of the thread that wants the program: nodes are prepared on others.
  private let scope = KernelScope.current

  init(
    graph: Graph, registry: OperatorRegistry, pool: WorkerPool, packedWeights: PackedWeights, leases: LeasePool
  ) {
    (self.graph, self.registry, self.pool) = (graph, registry, pool)
    (self.packedWeights, self.leases) = (packedWeights, leases)
  }

  func prepare(_ node: Node) throws(PreparationError) -> PreparedNode {
    let choices = scope.choices == nil ? nil : KernelChoices()
    let prepared = try KernelScope(selection: scope.selection, choices: choices).run {
      () throws(PreparationError) in try prepare(node, noting: choices)
    }
    for choice in prepared.choices { scope.choices?.note(choice) }
    return prepared
  }

  private func prepare(_ node: Node, noting choices: KernelChoices?) throws(PreparationError) -> PreparedNode {
    var subprograms: [Subprogram] = []
    for (name, subgraph) in node.subgraphs {
      do throws(PreparationError) {
        let program = try Program(
          graph: subgraph.graph, registry: registry, pool: pool, packedWeights: packedWeights, leases: leases)
        subprograms.append(Subprogram(name: name, program: program, captured: subgraph.captured))
      } catch {
        throw PreparationError(errors: error.errors.map { $0.inside(node) })
      }
    }
    let inputs = node.inputs.map { $0.map { graph.fact($0) } }
    do throws(OperatorError) {
      let definition = try registry.require(node.op)
      let reads = TensorReads()
      let context = PrepareContext(
        node: node, schema: definition.schema, inputs: inputs, outputs: node.outputs.map { $0.map { graph.fact($0) } },
        constants: node.inputs.map { graph.constant($0) }, packedWeights: packedWeights, reads: reads)
      var kernel = try definition.prepare(context)
      if case .planned(let planned) = kernel,
        StringIndirection.isNeeded(for: node, schema: definition.schema, graph: graph)
      {
        kernel = .eager(StringIndirection(kernel: planned, node: node, registry: registry))
      }
      try load(node, kernel)
      return PreparedNode(
        node: node, schema: definition.schema, kernel: kernel, subprograms: subprograms, readsConstants: reads.take(),
        choices: choices?.all ?? [])
    } catch {
      throw PreparationError(errors: [error.inside(node, inputs: inputs)])
    }
  }

  /// Reads the constants that the kernel goes on to read, while other threads pack: a table of embeddings is large.
  private func load(_ node: Node, _ kernel: PreparedKernel) throws(OperatorError) {
    let packed = kernel.packedInputs
    for (position, input) in node.inputs.enumerated() where !packed.contains(position) {
      guard let constant = graph.constant(input) else { continue }
      do throws(TensorError) {
        try constant.storage.load()
      } catch {
        throw OperatorError(error)
      }
    }
  }
}

extension PreparedKernel {
  /// The inputs that the kernel holds in a form of its own.
  fileprivate var packedInputs: [Int] {
    if case .planned(let kernel) = self { return kernel.packedInputs }
    return []
  }
}

/// Every node of a graph that cannot be prepared.
package struct PreparationError: Error, Sendable {
  package let errors: [OperatorError]
}
