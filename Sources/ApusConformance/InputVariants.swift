// Other inputs for a model, made of given ones: other elements, other extents.

import ApusTensor

/// Variations of the inputs of a test case. What they compute does not matter, and they may be invalid.
struct InputVariants {
  private let inputs: [Value]

  init(_ inputs: [Value]) { self.inputs = inputs }

  /// The inputs themselves, then the same shapes with other elements, then fewer rows.
  var all: [[Value]] {
    [inputs, map(\.reversed), map(\.nudged)] + rowCounts.map { rows in map { $0.cut(from: extent, to: rows) } }
  }

  /// The types of the inputs, for messages.
  static func describe(_ inputs: [Value]) -> String { inputs.map { "\($0.type)" }.joined(separator: ", ") }

  /// The first extent of the first input with more than one row, which inputs are likely to share.
  private var extent: Int {
    for case .tensor(let tensor) in inputs {
      if let rows = tensor.shape.first, rows > 1, tensor.dataType != .string, !tensor.dataType.isPacked { return rows }
    }
    return 1
  }

  private var rowCounts: [Int] { Set([extent - 1, 1]).filter { $0 >= 1 && $0 < extent }.sorted() }

  private func map(_ change: (Tensor) -> Tensor) -> [Value] {
    inputs.map { value in value.tensor.map { .tensor(change($0)) } ?? value }
  }
}

extension Tensor {
  /// The elements from last to first; as it is where elements have no bytes of their own.
  fileprivate var reversed: Tensor {
    let width = dataType.byteWidth
    guard width > 0 else { return self }
    return filled { source, target in
      for index in 0..<count {
        (target + index * width).copyMemory(from: source + (count - 1 - index) * width, byteCount: width)
      }
    }
  }

  /// Integers one nearer to zero, and zeros made ones; other elements as they are.
  fileprivate var nudged: Tensor {
    func move<Integer: TensorElement & FixedWidthInteger>(_ type: Integer.Type) -> Tensor? {
      elements(as: type).map { Tensor($0.map { $0 > 0 ? $0 - 1 : $0 + 1 }, shape: shape) }
    }
    return move(Int64.self) ?? move(Int32.self) ?? move(UInt8.self) ?? move(Int8.self) ?? self
  }

  /// The first `rows` rows of a tensor that has `extent` of them.
  fileprivate func cut(from extent: Int, to rows: Int) -> Tensor {
    guard shape.first == extent, dataType != .string, !dataType.isPacked else { return self }
    var shape = shape
    shape[0] = rows
    return Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset)
  }

  /// The same elements in memory of their own.
  fileprivate var duplicate: Tensor {
    if dataType == .string { return self }
    return filled { source, target in target.copyMemory(from: source, byteCount: byteCount) }
  }

  private func filled(_ body: (UnsafeRawPointer, UnsafeMutableRawPointer) -> Void) -> Tensor {
    let made = Tensor(zeros: dataType, shape: shape)
    withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { body(source, made.storage.base) }
    }
    return made
  }
}

extension Value {
  /// The same value, all of whose tensors own their memory.
  var copied: Value {
    switch self {
    case .tensor(let tensor): .tensor(tensor.duplicate)
    case .sequence(let elements, let type): .sequence(elements.map(\.copied), elementType: type)
    case .optional(let element, let type): .optional(element?.copied, elementType: type)
    case .map(let map):
      .map(MapValue(keys: map.keys.duplicate, values: map.values.map(\.copied), valueType: map.valueType))
    }
  }
}
