// Caches that grow in place: outputs of a graph that an input of it begins, with room behind them for the next run.

import ApusGraph
import ApusTensor

/// A pair of past and present of a graph, whose nodes can all work on a cache with room behind it.
struct CachePair: Sendable {
  let past: ValueID
  let present: ValueID
  /// Of the node that makes the present.
  let growth: Growth
}

/// The pairs of a graph, and the nodes that read a present.
struct CachePairs: Sendable {
  private(set) var pairs: [CachePair] = []
  /// By node that makes presents: its pairs, as positions in `pairs`.
  private var makers: [Int: [Int]] = [:]
  /// By node that reads presents: the inputs and their pairs.
  private var readers: [Int: [(input: Int, pair: Int)]] = [:]

  /// Smaller caches are not worth a block of their own.
  static let smallestBytes = 1 << 13
  /// Rows more than those needed that a block of a cache of `rows` has.
  static func room(behind rows: Int) -> Int { rows / 2 + 64 }

  /// Looks for inputs of the graph that one node alone uses, to put more behind them, and whose result is an output of
  /// the graph that only such nodes read as can read it with room behind. In time that grows as the graph does.
  init(graph: Graph, nodes: [PreparedNode]) {
    let candidates = CachePairs.candidates(graph, nodes)
    if candidates.isEmpty { return }
    // By present: where it is read, and how often it is used in all, in graphs inside nodes too.
    var reads: [ValueID: [(node: Int, input: Int)]] = [:]
    var uses: [ValueID: Int] = [:]
    for candidate in candidates { (reads[candidate.present], uses[candidate.present]) = ([], 0) }
    for (index, node) in nodes.enumerated() {
      for (position, input) in node.inputs.enumerated() {
        if let input { reads[input]?.append((index, position)) }
      }
      for value in node.node.dependencies where uses[value] != nil { uses[value, default: 0] += 1 }
    }
    for candidate in candidates {
      let (growth, present) = (candidate.growth, candidate.present)
      guard let found = reads[present], found.count == uses[present] else { continue }
      let readers = found.filter { !nodes[$0.node].schema.traits.contains(.readsShapeOnly) }
      guard
        readers.allSatisfy({ reader in
          nodes[reader.node].pitchedInputs.contains(PitchedInput(input: reader.input, axis: growth.axis))
        })
      else { continue }
      makers[candidate.node, default: []].append(pairs.count)
      for reader in readers { self.readers[reader.node, default: []].append((reader.input, pairs.count)) }
      pairs.append(CachePair(past: candidate.past, present: present, growth: growth))
    }
  }

  private struct Candidate {
    let node: Int
    let past: ValueID
    let present: ValueID
    let growth: Growth
  }

  /// Inputs of the graph that one node alone uses, to make an output of the graph of them and more.
  private static func candidates(_ graph: Graph, _ nodes: [PreparedNode]) -> [Candidate] {
    guard nodes.contains(where: { !$0.growths.isEmpty }) else { return [] }
    var users = [Int](repeating: 0, count: graph.values.count)
    for node in nodes {
      for value in node.node.dependencies { users[value.index] += 1 }
    }
    let (inputs, outputs) = (Set(graph.inputs), Set(graph.outputs))
    var candidates: [Candidate] = []
    for (index, maker) in nodes.enumerated() {
      for growth in maker.growths {
        guard growth.input < maker.inputs.count, growth.output < maker.outputs.count,
          let past = maker.inputs[growth.input], let present = maker.outputs[growth.output],
          inputs.contains(past), !outputs.contains(past), users[past.index] == 1, outputs.contains(present),
          let type = graph.fact(past).tensor, type.dataType != .string, !type.dataType.isPacked
        else { continue }
        candidates.append(Candidate(node: index, past: past, present: present, growth: growth))
      }
    }
    return candidates
  }

  var isEmpty: Bool { pairs.isEmpty }

  func concern(_ node: Int) -> Bool { makers[node] != nil || readers[node] != nil }
  func made(by node: Int) -> [Int] { makers[node] ?? [] }
  func read(by node: Int) -> [(input: Int, pair: Int)] { readers[node] ?? [] }
}

extension PreparedNode {
  fileprivate var growths: [Growth] {
    if case .planned(let kernel) = kernel { return kernel.growths }
    return []
  }
  fileprivate var pitchedInputs: [PitchedInput] {
    if case .planned(let kernel) = kernel { return kernel.pitchedInputs }
    return []
  }
}

/// How the caches of one plan lie.
struct CachePlan: Sendable {
  /// One past and present.
  struct Cache: Sendable {
    let pair: CachePair
    /// The type of the present.
    let type: TensorType
    /// Rows of the past.
    let rows: Int
    /// nil: the present is dense.
    let pitch: Pitch?

    /// Rows of the present.
    var end: Int { type.shape[pair.growth.axis] }
    var matrices: Int { type.shape.count(of: 0..<pair.growth.axis) }
    var rowBytes: Int {
      type.shape.count(of: pair.growth.axis + 1..<type.shape.rank) * type.dataType.byteWidth
    }
  }

  private let pairs: CachePairs
  /// True if the outputs of the run may have room behind them; nil where there are no caches.
  let mayGrow: Bool?
  private(set) var caches: [Cache] = []
  /// By cache: true if it has room behind it.
  var growing: [Bool] { caches.map { $0.pitch != nil } }
  /// By pair: its place in `caches`.
  private var places: [Int: Int] = [:]

  init(_ pairs: CachePairs, mayGrow: Bool) { (self.pairs, self.mayGrow) = (pairs, pairs.isEmpty ? nil : mayGrow) }

  /// True for a node whose operands may be parts of caches: its step is nobody else's.
  func concerns(_ node: Int) -> Bool { mayGrow == true && pairs.concern(node) }

  /// Where the operands of a node lie that are parts of caches, for the types of its outputs.
  mutating func pitches(
    of node: Int, inputCount: Int, outputs types: OperandTypes, _ values: borrowing ValueTable
  ) -> [(operand: Int, pitch: Pitch)] {
    if mayGrow != true { return [] }
    var pitches: [(operand: Int, pitch: Pitch)] = []
    for index in pairs.made(by: node) {
      let pair = pairs.pairs[index]
      guard let type = types[pair.growth.output], let tensor = values.tensor(pair.past) else { continue }
      let pitch = CachePlan.pitch(of: type, behind: tensor, axis: pair.growth.axis)
      places[index] = caches.count
      caches.append(Cache(pair: pair, type: type, rows: tensor.shape[pair.growth.axis], pitch: pitch))
      if let pitch { pitches.append((inputCount + pair.growth.output, pitch)) }
    }
    for (input, pair) in pairs.read(by: node) {
      if let place = places[pair], let pitch = caches[place].pitch { pitches.append((input, pitch)) }
    }
    return pitches
  }

  /// How a present of `type` lies for this past; nil: dense. A past in memory of a caller, who makes a new one for each
  /// run, is not worth it.
  static func pitch(of type: TensorType, behind past: Tensor, axis: Int) -> Pitch? {
    let rows = past.shape[axis]
    let end = type.shape[axis]
    guard type.byteCount >= CachePairs.smallestBytes, end > rows else { return nil }
    if let block = past.storage.growth, block.axis == axis, block.holds(past), block.capacity >= end {
      return Pitch(capacity: block.capacity, isAppended: true)
    }
    guard past.storage.growth != nil || past.storage.isOwned || rows == 0 else { return nil }
    return Pitch(capacity: end + CachePairs.room(behind: end), isAppended: false)
  }
}

extension CachePlan.Cache {
  /// The block that the present of this run lies in, that of the past or a new one; nil: it is dense.
  func block(behind past: Tensor?, _ allowance: Allowance) throws(OperatorError) -> GrowingBlock? {
    guard let pitch, let past else { return nil }
    do throws(TensorError) {
      if pitch.isAppended, let block = past.storage.growth {
        if block.claim(from: rows, to: end) { return block }
        // Somebody else has put something behind the same past.
        return try block.copy(of: rows, claimingTo: end, account: allowance.memory)
      }
      return try GrowingBlock(
        axis: pair.growth.axis, matrices: matrices, rowBytes: rowBytes, capacity: pitch.capacity, claiming: end,
        account: allowance.memory)
    } catch {
      throw OperatorError(error)
    }
  }
}
