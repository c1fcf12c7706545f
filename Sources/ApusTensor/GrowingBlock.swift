// Memory with room behind its contents, so that tensors grow along an axis and nothing is copied.

import Synchronization

/// A block for tensors that are one another's beginning: the past and the present of a cache.
///
/// A tensor of `rows` rows along some axis is `matrices` matrices (the extents before the axis) of rows of `rowBytes`
/// bytes (the extents behind it). In the block each matrix has room for `capacity` rows, so a tensor over the block is
/// not dense. Rows are written once: who appends claims the rows behind the tensor first, and of two who append to the
/// same tensor the second one gets none, and works on a copy. So nobody ever sees a tensor change.
package final class GrowingBlock: Sendable {
  package let axis: Int
  package let matrices: Int
  package let rowBytes: Int
  /// Rows that each matrix has room for.
  package let capacity: Int
  private let storage: TensorStorage
  /// The rows that are written, or that somebody is about to write.
  private let claimed: Atomic<Int>

  /// A block of which the first `rows` rows are the caller's to write, charged to `account`.
  package init(
    axis: Int, matrices: Int, rowBytes: Int, capacity: Int, claiming rows: Int, account: MemoryAccount?
  ) throws(TensorError) {
    let (matrixBytes, overflow) = capacity.multipliedReportingOverflow(by: rowBytes)
    let (bytes, isTooLarge) = matrixBytes.multipliedReportingOverflow(by: matrices)
    guard rows <= capacity, !overflow, !isTooLarge else {
      throw TensorError(.memory, "a cache of \(matrices) × \(capacity) rows of \(rowBytes) bytes is too large")
    }
    (self.axis, self.matrices, self.rowBytes, self.capacity) = (axis, matrices, rowBytes, capacity)
    storage = try TensorStorage(byteCount: bytes, account: account)
    claimed = Atomic(rows)
  }

  /// The first byte.
  package var base: UnsafeMutableRawPointer { storage.base }

  /// Takes the rows behind the first `rows`, up to `end`; false if somebody has them already or there is no room.
  package func claim(from rows: Int, to end: Int) -> Bool {
    end <= capacity && claimed.compareExchange(expected: rows, desired: end, ordering: .acquiringAndReleasing).exchanged
  }

  /// A block of the same form with a copy of the first `rows` rows, of which those up to `end` are claimed.
  package func copy(of rows: Int, claimingTo end: Int, account: MemoryAccount?) throws(TensorError) -> GrowingBlock {
    let copy = try GrowingBlock(
      axis: axis, matrices: matrices, rowBytes: rowBytes, capacity: capacity, claiming: end, account: account)
    let matrixBytes = capacity * rowBytes
    for matrix in 0..<matrices {
      (copy.base + matrix * matrixBytes).copyMemory(from: base + matrix * matrixBytes, byteCount: rows * rowBytes)
    }
    return copy
  }

  /// Copies bytes of the dense form of a tensor of `rows` rows, from `offset` on.
  func copy(rows: Int, from offset: Int, into buffer: UnsafeMutableRawBufferPointer) {
    let matrixBytes = rows * rowBytes
    var done = 0
    while done < buffer.count {
      let (matrix, start) = (offset + done).quotientAndRemainder(dividingBy: matrixBytes)
      let count = min(matrixBytes - start, buffer.count - done)
      (buffer.baseAddress! + done).copyMemory(
        from: base + matrix * capacity * rowBytes + start, byteCount: count)
      done += count
    }
  }

  /// True if `tensor` is all of the first rows of this block.
  package func holds(_ tensor: Tensor) -> Bool {
    tensor.storage.growth === self && tensor.byteOffset == 0 && tensor.byteCount == tensor.storage.byteCount
      && axis < tensor.rank && tensor.shape.count(of: 0..<axis) == matrices
      && tensor.shape.count(of: axis + 1..<tensor.rank) * tensor.dataType.byteWidth == rowBytes
  }
}

extension Tensor {
  /// The first `shape[axis]` rows of a block. Its dense form is made when somebody asks for the bytes.
  package init(_ dataType: DataType, _ shape: Shape, rowsOf block: GrowingBlock) throws(TensorError) {
    let storage = try TensorStorage(
      rows: shape[block.axis], of: block, byteCount: dataType.byteCount(elements: shape.elementCount) ?? 0)
    self.init(dataType: dataType, shape: shape, storage: storage)
  }
}
