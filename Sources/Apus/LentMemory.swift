// The memory that callers lend to one run, which nothing that outlives the run may refer to.

import ApusTensor

/// Address ranges of a run's inputs and of the buffers for its outputs. Their owners may fill or free them once the run
/// is over, so what the run returns must lie elsewhere.
struct LentMemory {
  private var ranges: [Range<UInt>] = []

  init(inputs: [Value]) {
    for input in inputs { add(input) }
  }

  private mutating func add(_ value: Value) {
    switch value {
    // A growing block is nobody's to write once its rows are there.
    case .tensor(let tensor) where tensor.storage.growth != nil: break
    case .tensor(let tensor): add(UnsafeRawPointer(tensor.base), byteCount: tensor.byteCount)
    case .sequence(let elements, _): for element in elements { add(element) }
    case .optional(let element, _): if let element { add(element) }
    case .map(let map):
      add(.tensor(map.keys))
      for element in map.values { add(element) }
    }
  }

  mutating func add(_ base: UnsafeRawPointer, byteCount: Int) {
    let start = UInt(bitPattern: base)
    if byteCount > 0 { ranges.append(start..<start + UInt(byteCount)) }
  }

  /// True if one of the bytes is lent.
  func contains(_ base: UnsafeRawPointer, byteCount: Int) -> Bool {
    let start = UInt(bitPattern: base)
    return byteCount > 0 && ranges.contains { $0.overlaps(start..<start + UInt(byteCount)) }
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
