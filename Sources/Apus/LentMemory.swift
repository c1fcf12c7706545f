// The memory that callers lend to one run, which nothing that outlives the run may refer to.

import ApusTensor

/// Address ranges of a run's inputs and of the buffers for its outputs. Their owners may fill or free them once the run
/// is over, so what the run returns must lie elsewhere.
struct LentMemory {
  /// The values of a run, looked at when somebody asks: most runs have few.
  private let inputs: [Value]
  private var ranges: [Range<UInt>] = []

  init(inputs: [Value]) { self.inputs = inputs }

  /// The inputs without those with the numbers `donated`, which are the run's own.
  init(inputs: inout [Value], without donated: [Int]) {
    if donated.isEmpty {
      self.init(inputs: inputs)
      return
    }
    // Nothing here may refer to them.
    var taken = [Value](repeating: .nothing, count: donated.count)
    for (place, input) in donated.enumerated() { swap(&taken[place], &inputs[input]) }
    self.init(inputs: inputs)
    for (place, input) in donated.enumerated() { swap(&taken[place], &inputs[input]) }
  }

  mutating func add(_ base: UnsafeRawPointer, byteCount: Int) {
    if byteCount > 0 { ranges.append(LentMemory.range(base, byteCount)) }
  }

  /// True if one of the bytes is lent.
  func contains(_ base: UnsafeRawPointer, byteCount: Int) -> Bool {
    if byteCount <= 0 { return false }
    let range = LentMemory.range(base, byteCount)
    for other in ranges where other.overlaps(range) { return true }
    for input in inputs where LentMemory.overlaps(input, range) { return true }
    return false
  }

  private static func range(_ base: UnsafeRawPointer, _ byteCount: Int) -> Range<UInt> {
    let start = UInt(bitPattern: base)
    return start..<start + UInt(byteCount)
  }

  private static func overlaps(_ value: Value, _ range: Range<UInt>) -> Bool {
    switch value {
    // A growing block is nobody's to write once its rows are there.
    case .tensor(let tensor) where tensor.storage.growth != nil: return false
    case .tensor(let tensor):
      let count = tensor.byteCount
      return count > 0 && LentMemory.range(tensor.base, count).overlaps(range)
    case .sequence(let elements, _): return elements.contains { overlaps($0, range) }
    case .optional(let element, _): return element.map { overlaps($0, range) } ?? false
    case .map(let map): return overlaps(.tensor(map.keys), range) || map.values.contains { overlaps($0, range) }
    }
  }

  /// The values, their tensors copied where they lie in lent memory. Copies are charged to `account`.
  func detached(_ values: consuming [Value], _ account: MemoryAccount) throws(TensorError) -> [Value] {
    for index in values.indices where !isApart(values[index]) { values[index] = try detached(values[index], account) }
    return values
  }

  /// True for a tensor outside lent memory.
  private func isApart(_ value: Value) -> Bool {
    guard case .tensor(let tensor) = value else { return false }
    return tensor.storage.growth != nil || !contains(tensor.base, byteCount: tensor.byteCount)
  }

  /// `value`, its tensors copied where they lie in lent memory. Copies are charged to `account`.
  func detached(_ value: Value, _ account: MemoryAccount) throws(TensorError) -> Value {
    let inner = { (value: Value) throws(TensorError) -> Value in try detached(value, account) }
    switch value {
    case .tensor(let tensor): return .tensor(try detached(tensor, account))
    case .sequence(let elements, let type): return .sequence(try elements.map(inner), elementType: type)
    case .optional(let element, let type): return .optional(try element.map(inner), elementType: type)
    case .map(let map):
      return .map(
        MapValue(
          keys: try detached(map.keys, account), values: try map.values.map(inner), valueType: map.valueType))
    }
  }

  /// `tensor` itself, or a copy if it lies in lent memory.
  func detached(_ tensor: Tensor, _ account: MemoryAccount) throws(TensorError) -> Tensor {
    if tensor.storage.growth != nil { return tensor }
    return contains(tensor.base, byteCount: tensor.byteCount) ? try tensor.copied(account: account) : tensor
  }
}
