// The types of the inputs or outputs of a node.

/// The types of the inputs or outputs of a node by position; nil for one that is absent.
///
/// Either a list of their own, or positions in the types of a region: plans are made of the latter many times, and
/// nothing has to be copied for a node.
package struct OperandTypes: Sendable, RandomAccessCollection, ExpressibleByArrayLiteral {
  private enum Storage: Sendable {
    case own([TensorType?])
    case shared(RegionTypes, positions: [Int?])
  }

  private let storage: Storage

  package init(_ types: [TensorType?]) { storage = .own(types) }
  package init(arrayLiteral types: TensorType?...) { storage = .own(types) }
  /// Those at `positions` of `types`.
  package init(_ types: RegionTypes, at positions: [Int?]) { storage = .shared(types, positions: positions) }

  package var startIndex: Int { 0 }
  package var endIndex: Int {
    switch storage {
    case .own(let types): types.count
    case .shared(_, let positions): positions.count
    }
  }

  package subscript(operand: Int) -> TensorType? {
    switch storage {
    case .own(let types): types[operand]
    case .shared(let region, let positions): positions[operand].map { region.types[$0] }
    }
  }

  /// The bytes of an operand; 0 for one that is absent, `Int.max` if its shape is not possible.
  package func byteCount(_ operand: Int) -> Int {
    switch storage {
    case .own(let types): types[operand]?.byteCount ?? 0
    case .shared(let region, let positions): positions[operand].map { region.bytes[$0] } ?? 0
    }
  }

  /// The bytes of all operands; `Int.max` if no integer holds them.
  package var byteCount: Int {
    switch storage {
    case .own(let types): RegionTypes.sum(types.lazy.map { $0?.byteCount ?? 0 })
    case .shared(let region, let positions): region.byteCount(at: positions)
    }
  }

  /// False if some are present and none of them has elements.
  var haveElements: Bool {
    if case .shared(let region, let positions) = storage {
      return positions.contains { $0.map { region.bytes[$0] > 0 } ?? false } || !positions.contains { $0 != nil }
    }
    return contains { $0.map { !$0.shape.dims.contains(0) } ?? false } || !contains { $0 != nil }
  }
}

/// The types that the operands of a region have, each once.
package final class RegionTypes: Sendable {
  package let types: [TensorType]
  /// The bytes of a tensor of each type.
  package let bytes: [Int]

  /// nil if one is not possible.
  package init?(_ types: [TensorType]) {
    var bytes: [Int] = []
    bytes.reserveCapacity(types.count)
    for type in types {
      guard let count = type.shape.checkedElementCount, let size = type.dataType.byteCount(elements: count) else {
        return nil
      }
      bytes.append(size)
    }
    (self.types, self.bytes) = (types, bytes)
  }

  /// The bytes of operands of these types; `Int.max` if no integer holds them.
  package func byteCount(at positions: [Int?]) -> Int {
    RegionTypes.sum(positions.lazy.map { $0.map { self.bytes[$0] } ?? 0 })
  }

  fileprivate static func sum(_ bytes: some Sequence<Int>) -> Int {
    var sum = 0
    for count in bytes {
      let (next, overflow) = sum.addingReportingOverflow(count)
      if overflow { return .max }
      sum = next
    }
    return sum
  }
}
