// The packed forms of the constants of a compiled model: noted while it is made, given out while it is loaded.

import ApusTensor
import Synchronization

/// Packed blocks by the constant that they are made of and the format that they have.
package final class PackedForms: Sendable {
  /// A form of the constant with that number.
  package struct Form: Hashable, Sendable {
    package let constant: Int
    package let format: String

    package init(constant: Int, format: String) { (self.constant, self.format) = (constant, format) }
  }

  /// Kept, so that their identities stay unique.
  private let constants: [TensorStorage]
  private let numbers: [ObjectIdentifier: Int]
  private let blocks: Mutex<[Form: TensorStorage]>

  /// `constants` are the storages of the constants by number, each with the elements at its beginning. `blocks` are
  /// there already; what is packed beside them is noted.
  package init(constants: [TensorStorage], blocks: [Form: TensorStorage] = [:]) {
    self.constants = constants
    numbers = Dictionary(constants.enumerated().map { (ObjectIdentifier($1), $0) }) { first, _ in first }
    self.blocks = Mutex(blocks)
  }

  /// The blocks that are known, with those that were noted.
  package var all: [Form: TensorStorage] { blocks.withLock { $0 } }

  private func form(_ tensor: Tensor, _ format: String) -> Form? {
    guard tensor.byteOffset == 0, let number = numbers[ObjectIdentifier(tensor.storage)] else { return nil }
    return Form(constant: number, format: format)
  }

  /// The block for a tensor that is packed in a format of `byteCount` bytes; nil if there is none.
  func block(for tensor: Tensor, format: String, byteCount: Int) throws(OperatorError) -> TensorStorage? {
    guard let form = form(tensor, format), let block = blocks.withLock({ $0[form] }) else { return nil }
    guard block.byteCount == byteCount else {
      throw .invalid(
        "the compiled model has \(block.byteCount) bytes for weights in the format '\(format)'; expected \(byteCount)")
    }
    return block
  }

  /// Notes a block that was packed from a constant of the model; does nothing for other tensors.
  func record(_ block: TensorStorage, for tensor: Tensor, format: String) {
    guard let form = form(tensor, format) else { return }
    blocks.withLock { $0[form] = block }
  }
}
