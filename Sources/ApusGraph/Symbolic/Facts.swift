// What is known about a value before it exists: its type, its shape of symbolic extents, perhaps its numbers.

import ApusTensor

/// What is known about a tensor.
package struct TensorFact: Sendable, Hashable {
  package var dataType: DataType
  /// The extents; nil if not even the rank is known.
  package var shape: [Dim]?
  /// The elements in row-major order, for small integer tensors whose elements are known or symbolic.
  package var values: [Dim]?

  package init(_ dataType: DataType, _ shape: [Dim]?, values: [Dim]? = nil) {
    self.dataType = dataType
    self.shape = shape
    self.values = values
  }

  package init(_ tensor: Tensor) {
    dataType = tensor.dataType
    shape = tensor.shape.map { Dim($0) }
    let isSmall = tensor.count <= TensorFact.maximumValues && !tensor.isReleased
    values = isSmall && tensor.dataType.isInteger ? tensor.dims : nil
  }

  /// Tensors with more elements do not carry their values,
  package static let maximumValues = 1024
  /// nor do those whose values are expressions of more symbols and numbers in all.
  private static let maximumSize = 4096

  /// True if a tensor carries these values.
  package static func keeps(_ values: [Dim]) -> Bool {
    values.count <= maximumValues && values.reduce(0) { $0 + $1.size } <= maximumSize
  }

  /// The shape if every extent is a number.
  package var concreteShape: Shape? { shape.flatMap { $0.concrete } }
}

extension Tensor {
  /// The elements of an integer or bool tensor; those beyond the range of `Int` are unknown. nil for other types.
  package var dims: [Dim]? {
    let isWrapping = dataType == .uint64
    return integers?.map { isWrapping && $0 < 0 ? .unknown : Dim($0) }
  }
}

extension [Dim] {
  /// The numbers, if all are.
  package var concrete: Shape? {
    var dims: [Int] = []
    dims.reserveCapacity(count)
    for dim in self {
      guard let value = dim.known else { return nil }
      dims.append(value)
    }
    return Shape(dims)
  }

  package init(_ shape: Shape) { self = shape.map { Dim($0) } }
}

/// What is known about a value of any kind.
package indirect enum ValueFact: Sendable, Hashable {
  case unknown
  case tensor(TensorFact)
  case sequence(ValueFact)
  case optional(ValueFact)
  case map(key: DataType, value: ValueFact)

  package static func tensor(_ dataType: DataType, _ shape: [Dim]?, values: [Dim]? = nil) -> ValueFact {
    .tensor(TensorFact(dataType, shape, values: values))
  }

  package var tensor: TensorFact? {
    if case .tensor(let fact) = self { fact } else { nil }
  }

  /// The element type of a plain tensor.
  package var elementType: DataType? {
    if case .tensor(let fact) = self { fact.dataType } else { nil }
  }

  /// The fact of a value that exists.
  package init(_ value: Value) {
    switch value {
    case .tensor(let tensor): self = .tensor(TensorFact(tensor))
    case .sequence(_, let elementType): self = .sequence(ValueFact(elementType))
    case .optional(_, let elementType): self = .optional(ValueFact(elementType))
    case .map(let map): self = .map(key: map.keys.dataType, value: ValueFact(map.valueType))
    }
  }

  package init(_ type: ValueType) {
    switch type {
    case .tensor(let dataType, let shape): self = .tensor(dataType, shape.map { [Dim]($0) })
    case .sequence(let element): self = .sequence(ValueFact(element))
    case .optional(let element): self = .optional(ValueFact(element))
    case .map(let key, let value): self = .map(key: key, value: ValueFact(value))
    }
  }

  /// The type, with those shapes that are wholly known; nil if nothing is known.
  package var type: ValueType? {
    switch self {
    case .unknown: nil
    case .tensor(let fact): .tensor(fact.dataType, fact.concreteShape)
    case .sequence(let element): element.type.map { .sequence($0) }
    case .optional(let element): element.type.map { .optional($0) }
    case .map(let key, let value): value.type.map { .map(key: key, value: $0) }
    }
  }

  /// The same fact with every bound symbol replaced.
  package func substituting(_ bindings: [String: Dim]) -> ValueFact {
    switch self {
    case .unknown: self
    case .tensor(let fact):
      .tensor(
        fact.dataType, fact.shape?.map { $0.substituting(bindings) },
        values: fact.values?.map { $0.substituting(bindings) })
    case .sequence(let element): .sequence(element.substituting(bindings))
    case .optional(let element): .optional(element.substituting(bindings))
    case .map(let key, let value): .map(key: key, value: value.substituting(bindings))
    }
  }
}

extension ValueFact {
  /// The same type, with nothing known about shapes and elements.
  package var withoutShapes: ValueFact {
    switch self {
    case .unknown, .map: self
    case .tensor(let fact): .tensor(fact.dataType, nil)
    case .sequence(let element): .sequence(element.withoutShapes)
    case .optional(let element): .optional(element.withoutShapes)
    }
  }

  /// The same fact with the extents of `hint` where its own are unknown. If the two contradict each other it stays as
  /// it is.
  package func completed(by hint: ValueFact) -> ValueFact {
    switch (self, hint) {
    case (.unknown, _): return hint
    case (.tensor(let own), .tensor(let other)):
      guard own.dataType == other.dataType, let extents = other.shape else { return self }
      guard let shape = own.shape else { return .tensor(own.dataType, extents, values: own.values) }
      guard shape.count == extents.count, !zip(shape, extents).contains(where: { $0.isSurelyDifferent(from: $1) })
      else {
        return self
      }
      return .tensor(own.dataType, zip(shape, extents).map { $0.isUnknown ? $1 : $0 }, values: own.values)
    case (.sequence(let own), .sequence(let other)): return .sequence(own.completed(by: other))
    case (.optional(let own), .optional(let other)): return .optional(own.completed(by: other))
    default: return self
    }
  }

  /// What holds for both: the fact of a value that is sometimes one and sometimes the other. The elements are not kept.
  package func common(with other: ValueFact) -> ValueFact {
    switch (self, other) {
    case (.tensor(let a), .tensor(let b)):
      guard a.dataType == b.dataType else { return .unknown }
      guard let x = a.shape, let y = b.shape, x.count == y.count else { return .tensor(a.dataType, nil) }
      return .tensor(a.dataType, zip(x, y).map { $0.isSame(as: $1) ? $0 : .unknown })
    case (.sequence(let a), .sequence(let b)): return .sequence(a.common(with: b))
    case (.optional(let a), .optional(let b)): return .optional(a.common(with: b))
    case (.map, .map): return self == other ? self : .unknown
    default: return .unknown
    }
  }

  /// False if the types surely differ, whatever the shapes are.
  package func hasSameType(as other: ValueFact) -> Bool {
    switch (self, other) {
    case (.unknown, _), (_, .unknown): true
    case (.tensor(let a), .tensor(let b)): a.dataType == b.dataType
    case (.sequence(let a), .sequence(let b)), (.optional(let a), .optional(let b)): a.hasSameType(as: b)
    case (.map(let keyA, let a), .map(let keyB, let b)): keyA == keyB && a.hasSameType(as: b)
    default: false
    }
  }
}

extension ValueFact: CustomStringConvertible {
  /// `float32[batch, 3, 224, 224]`, `sequence(int64[?])`, `?`.
  package var description: String {
    switch self {
    case .unknown: "?"
    case .tensor(let fact):
      "\(fact.dataType)" + (fact.shape.map { "[" + $0.map(\.description).joined(separator: ", ") + "]" } ?? "[…]")
    case .sequence(let element): "sequence(\(element))"
    case .optional(let element): "optional(\(element))"
    case .map(let key, let value): "map(\(key), \(value))"
    }
  }
}
