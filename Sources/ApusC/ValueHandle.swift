// A value in the hands of C: its elements for reading and writing, its shape and strings in C's form.

import Apus
import CApus
import Synchronization

/// A value, with those forms of it that C holds pointers to.
///
/// `@unchecked Sendable`: `value` changes in `makeUnique` only, which the interface forbids beside other calls.
final class ValueHandle: Handle, @unchecked Sendable {
  private(set) var value: Value
  /// The extents of a tensor, followed by a 0 so that there is always something to point at.
  let shape: UnsafeMutableBufferPointer<Int64>
  private let strings = Mutex<StringBlock?>(nil)

  init(_ value: Value) {
    self.value = value
    let dims = value.tensor?.shape.dims ?? []
    shape = .allocate(capacity: dims.count + 1)
    for axis in dims.indices { shape.initializeElement(at: axis, to: Int64(dims[axis])) }
    shape.initializeElement(at: dims.count, to: 0)
  }

  deinit { shape.deallocate() }

  var tensor: Tensor? { value.tensor }

  /// The tensor; an error names what `self` is if it is none.
  func tensor(_ what: String) throws(ArgumentError) -> Tensor {
    guard let tensor = value.tensor else { throw ArgumentError("\(what) is \(value.type), no tensor") }
    return tensor
  }

  /// The strings of a tensor of strings as C reads them, made at the first call.
  func stringBlock() throws -> StringBlock {
    guard let strings = try tensor("the value").strings else {
      throw ArgumentError("the tensor is \(value.type); it has no strings")
    }
    return self.strings.withLock { block in
      if let block { return block }
      let made = StringBlock(strings)
      block = made
      return made
    }
  }

  /// The elements in memory that only this handle refers to and that the library owns: the present one if it is such,
  /// else a copy.
  func makeUnique() throws -> UnsafeMutableRawPointer {
    try checkWritable()
    var parts = takeParts()
    if isKnownUniquelyReferenced(&parts.storage), parts.storage.isOwned {
      value = .tensor(parts.tensor)
      return parts.storage.base + parts.byteOffset
    }
    let shared = parts.tensor
    // Kept in any case, so that an error leaves the value as it was.
    value = .tensor(shared)
    guard shared.byteCount <= LoadLimits().maximumRunMemory else {
      throw ArgumentError("no memory for a copy of \(shared.byteCount) bytes")
    }
    let copy = try shared.copied()
    value = .tensor(copy)
    return copy.storage.base
  }

  private func checkWritable() throws(ArgumentError) {
    if try tensor("the value").dataType == .string { throw ArgumentError("strings cannot be written") }
  }

  /// A tensor in parts, whose storage can be asked who else refers to it.
  private struct Parts {
    let dataType: DataType
    let shape: Shape
    let byteOffset: Int
    var storage: TensorStorage

    var tensor: Tensor { Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset) }
  }

  /// Hands over the tensor, which there must be, with the reference to its storage: the value is empty afterwards. A
  /// function of its own, so that no local of the caller refers to the storage too.
  @inline(never)
  private func takeParts() -> Parts {
    guard case .tensor(let tensor) = value else { preconditionFailure("checkWritable was not called") }
    value = .tensor(Tensor(placeholder: tensor.dataType, shape: tensor.shape))
    return Parts(dataType: tensor.dataType, shape: tensor.shape, byteOffset: tensor.byteOffset, storage: tensor.storage)
  }
}

/// Strings one after the other, each ended by a zero byte.
///
/// `@unchecked Sendable`: nobody writes after the initializer.
final class StringBlock: @unchecked Sendable {
  let bytes: UnsafeMutablePointer<CChar>
  /// Where each string begins, and the end of the last.
  let offsets: UnsafeMutableBufferPointer<Int>

  init(_ strings: [String]) {
    offsets = .allocate(capacity: strings.count + 1)
    var end = 0
    for (index, string) in strings.enumerated() {
      offsets[index] = end
      end += string.utf8.count + 1
    }
    offsets[strings.count] = end
    bytes = .allocate(capacity: max(end, 1))
    var position = 0
    for string in strings {
      for byte in string.utf8 {
        bytes[position] = CChar(bitPattern: byte)
        position += 1
      }
      bytes[position] = 0
      position += 1
    }
  }

  deinit {
    bytes.deallocate()
    offsets.deallocate()
  }
}
