// What flows along an edge of a graph: a tensor, or one of the containers of ONNX.

/// A value of a graph.
public enum Value: Sendable {
  case tensor(Tensor)
  /// All elements have the type that `elementType` states.
  case sequence([Value], elementType: ValueType)
  /// An optional; nil if empty. `elementType` is the type of what it holds or would hold.
  indirect case optional(Value?, elementType: ValueType)
  indirect case map(MapValue)

  public var tensor: Tensor? {
    if case .tensor(let tensor) = self { tensor } else { nil }
  }

  public var sequence: [Value]? {
    if case .sequence(let elements, _) = self { elements } else { nil }
  }

  /// The type with the shapes of this very value.
  public var type: ValueType {
    switch self {
    case .tensor(let tensor): .tensor(tensor.dataType, tensor.shape)
    case .sequence(_, let elementType): .sequence(elementType)
    case .optional(_, let elementType): .optional(elementType)
    case .map(let map): .map(key: map.keys.dataType, value: map.valueType)
    }
  }
}

extension Value {
  /// What stands where a value was taken away.
  package static let nothing = Value.sequence([], elementType: .tensor(.float32, nil))

  /// True for a tensor that is all of a block which may be written to and to which nothing else refers: nobody sees
  /// what is written over it.
  package mutating func isAlone() -> Bool {
    guard var parts = takeParts() else { return false }
    let isAlone =
      isKnownUniquelyReferenced(&parts.storage) && parts.storage.isWritable && parts.byteOffset == 0
      && parts.dataType.byteCount(elements: parts.shape.elementCount) == parts.storage.byteCount
    self = .tensor(
      Tensor(dataType: parts.dataType, shape: parts.shape, storage: parts.storage, byteOffset: parts.byteOffset))
    return isAlone
  }

  /// A tensor in parts, whose storage can be asked who else refers to it.
  private struct Parts {
    let dataType: DataType
    let shape: Shape
    let byteOffset: Int
    var storage: TensorStorage
  }

  /// Hands over a tensor with the reference to its storage; nil for other values. A function of its own, so that no
  /// local of the caller refers to the storage too.
  @inline(never)
  private mutating func takeParts() -> Parts? {
    guard case .tensor(let tensor) = self else { return nil }
    self = .nothing
    return Parts(dataType: tensor.dataType, shape: tensor.shape, byteOffset: tensor.byteOffset, storage: tensor.storage)
  }
}

/// A map of ONNX in the order of its making.
public struct MapValue: Sendable {
  /// A tensor of rank 1, of strings or integers, without duplicates.
  public let keys: Tensor
  /// One value a key.
  public let values: [Value]
  public let valueType: ValueType

  /// For maps that the program itself makes: traps if there is not one value a key. `init(validating:)` throws instead.
  public init(keys: Tensor, values: [Value], valueType: ValueType) {
    precondition(keys.count == values.count, "\(keys.count) keys for \(values.count) values")
    (self.keys, self.values, self.valueType) = (keys, values, valueType)
  }

  /// A map of keys that come from elsewhere: strings or integers of rank 1, one value each.
  public init(validating keys: Tensor, values: [Value], valueType: ValueType) throws(TensorError) {
    guard keys.rank == 1, keys.dataType == .string || keys.dataType.isInteger else {
      throw TensorError(
        .mismatch, "the keys of a map are strings or integers of rank 1; these are \(keys.dataType)\(keys.shape)")
    }
    guard keys.count == values.count else {
      throw TensorError(.mismatch, "\(keys.count) keys were given for \(values.count) values")
    }
    self.init(keys: keys, values: values, valueType: valueType)
  }
}

/// The type of a value whose shapes are all known or do not matter (nil).
public indirect enum ValueType: Sendable, Hashable {
  case tensor(DataType, Shape?)
  case sequence(ValueType)
  case optional(ValueType)
  case map(key: DataType, value: ValueType)
}

extension ValueType: CustomStringConvertible {
  /// `float32[1, 3]`, `sequence(float32)`, `map(int64, float32)`.
  public var description: String {
    switch self {
    case .tensor(let type, let shape): "\(type)\(shape.map(\.description) ?? "")"
    case .sequence(let element): "sequence(\(element))"
    case .optional(let element): "optional(\(element))"
    case .map(let key, let value): "map(\(key), \(value))"
    }
  }
}
