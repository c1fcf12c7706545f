// The values of one run, as far as they exist at some point of it.

import ApusGraph
import ApusTensor
import Synchronization

/// Values by value of the graph. Few of a graph's values ever exist: most lie in arenas, so a table costs four bytes
/// for each of those.
struct ValueTable: ~Copyable {
  /// The memory of a table, which the next run uses again.
  struct Memory: Sendable {
    /// By value: its place in `values`.
    fileprivate var places: [Int32]
    fileprivate var values: [Value?] = []
    /// By place in `values`: the value of the graph.
    fileprivate var ids: [ValueID] = []
  }

  private static let nowhere: Int32 = -1
  private var memory: Memory
  /// By value of the graph: its constant, if it is one.
  private let constants: [Tensor?]
  /// The inputs of the graph, by number, that were given away.
  var donated: [Int] = []

  fileprivate init(_ memory: consuming Memory?, constants: [Tensor?]) {
    self.memory = memory ?? Memory(places: [Int32](repeating: ValueTable.nowhere, count: constants.count))
    self.constants = constants
  }

  subscript(id: ValueID) -> Value? {
    get {
      let place = Int(memory.places[id.index])
      if place >= 0 { return memory.values[place] }
      if let constant = constants[id.index] { return .tensor(constant) }
      return nil
    }
    set {
      let place = Int(memory.places[id.index])
      if place >= 0 {
        memory.values[place] = newValue
      } else if let newValue {
        memory.places[id.index] = Int32(memory.values.count)
        memory.values.append(newValue)
        memory.ids.append(id)
      }
    }
  }

  /// Sets values that the table does not have yet. From array to array: each value is copied once.
  mutating func insert(_ values: [Value], for ids: [ValueID]) {
    for index in values.indices {
      memory.places[ids[index].index] = Int32(memory.values.count)
      memory.ids.append(ids[index])
      memory.values.append(values[index])
    }
  }

  /// Sets a value, whether the table has it or not.
  @inline(__always) mutating func set(_ value: Value, for id: ValueID) {
    let place = Int(memory.places[id.index])
    if place < 0 {
      memory.places[id.index] = Int32(memory.values.count)
      memory.ids.append(id)
      memory.values.append(value)
    } else {
      memory.values[place] = value
    }
  }

  /// Appends a value, if there is one.
  @inline(__always) func append(_ id: ValueID, to values: inout [Value]) -> Bool {
    let place = Int(memory.places[id.index])
    if place >= 0 {
      guard let value = memory.values[place] else { return false }
      values.append(value)
      return true
    }
    guard let constant = constants[id.index] else { return false }
    values.append(.tensor(constant))
    return true
  }

  /// Appends a value, or nil if there is none.
  @inline(__always) func append(_ id: ValueID, to values: inout [Value?]) {
    let place = Int(memory.places[id.index])
    if place >= 0 {
      values.append(memory.values[place])
    } else {
      values.append(constants[id.index].map { .tensor($0) })
    }
  }

  func tensor(_ id: ValueID) -> Tensor? {
    if case .tensor(let tensor)? = existing(id) { return tensor }
    return constants[id.index]
  }

  /// True if the value is a tensor of this type.
  @inline(__always) func holds(_ id: ValueID, _ type: borrowing TensorType) -> Bool {
    let place = Int(memory.places[id.index])
    if place < 0 {
      guard let constant = constants[id.index] else { return false }
      return constant.shape == type.shape && constant.dataType == type.dataType
    }
    guard case .tensor(let tensor)? = memory.values[place] else { return false }
    return tensor.shape == type.shape && tensor.dataType == type.dataType
  }

  private func existing(_ id: ValueID) -> Value? {
    let place = Int(memory.places[id.index])
    return place < 0 ? nil : memory.values[place]
  }

  /// What the run may write over, of the inputs of its graph.
  mutating func donations(among inputs: [ValueID]) -> Donations {
    var donations = Donations()
    for input in donated {
      let id = inputs[input]
      let place = Int(memory.places[id.index])
      if place < 0 || elementBytes(id) < Donations.smallestBytes { continue }
      donations.append(id, isFree: memory.values[place]?.isAlone() ?? false)
    }
    return donations
  }

  /// The bytes of a tensor; 0 for strings and other values. A function of its own, which leaves no reference behind.
  @inline(never)
  private func elementBytes(_ id: ValueID) -> Int { tensor(id)?.byteCount ?? 0 }

  /// The memory of the table, without values.
  fileprivate consuming func cleared() -> Memory {
    for id in memory.ids { memory.places[id.index] = ValueTable.nowhere }
    memory.values.removeAll(keepingCapacity: true)
    memory.ids.removeAll(keepingCapacity: true)
    return memory
  }
}

/// The memory of tables of a program that no run uses at the moment.
final class ValueTablePool: Sendable {
  private let idle = Mutex<[ValueTable.Memory]>([])
  private let constants: [Tensor?]

  init(constants: [Tensor?]) { self.constants = constants }

  /// An empty table.
  func take() -> ValueTable { ValueTable(idle.withLock { $0.popLast() }, constants: constants) }

  func give(_ table: consuming ValueTable) {
    let memory = table.cleared()
    idle.withLock { $0.append(memory) }
  }

  /// Frees the memory.
  func removeAll() { idle.withLock { $0 = [] } }
}
