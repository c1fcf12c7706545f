// Bytes that are read when somebody asks for them: from a file, or from a block of another form.

import CApusProcess
import Synchronization

/// The contents of a block that has an address but no contents yet. Read once, by whoever is first; any thread may be.
///
/// `@unchecked Sendable`: `read` is called under the lock only, or into memory of its caller.
package final class DeferredBytes: @unchecked Sendable {
  /// Fills the buffer with the bytes from an offset of the block on.
  package typealias Read = @Sendable (_ offset: Int, _ buffer: UnsafeMutableRawBufferPointer) -> TensorError?

  private enum Outcome {
    case waiting
    case done(TensorError?)
  }

  private let read: Read
  private let isWaiting = Atomic<Bool>(true)
  private let outcome = Mutex<Outcome>(.waiting)
  private let account: MemoryAccount?
  /// Bytes that the account was charged for.
  private let charged = Atomic<Int>(0)

  /// What is read in place is charged to `account` as long as this lives, which is as long as the block does.
  package init(account: MemoryAccount?, _ read: @escaping Read) { (self.account, self.read) = (account, read) }

  deinit { account?.credit(charged.load(ordering: .relaxed)) }

  /// True as long as nobody has asked.
  package var isPending: Bool { isWaiting.load(ordering: .acquiring) }

  /// Reads the block into its place, if nobody has. The error of the first reading is the error of all.
  func fill(_ block: UnsafeMutableRawBufferPointer) -> TensorError? {
    outcome.withLock { outcome in
      if case .done(let error) = outcome { return error }
      let error = charge(block.count) ?? readWhole(block)
      outcome = .done(error)
      isWaiting.store(false, ordering: .releasing)
      return error
    }
  }

  private func readWhole(_ block: UnsafeMutableRawBufferPointer) -> TensorError? {
    if let start = block.baseAddress { apus_populate(start, block.count) }
    return read(0, block)
  }

  /// Reads a part of the block into other memory.
  package func copy(from offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(TensorError) {
    if let error = read(offset, buffer) { throw error }
  }

  private func charge(_ bytes: Int) -> TensorError? {
    do throws(TensorError) {
      try account?.charge(bytes)
      charged.store(bytes, ordering: .relaxed)
      return nil
    } catch {
      return error
    }
  }
}
