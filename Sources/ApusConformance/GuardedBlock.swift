// Memory in which one step runs by itself: known bytes lie around whatever it may write.

import ApusGraph
import ApusRuntime
import ApusTensor

/// Memory for one operand, in one piece or in rows, with known bytes around the piece or each row.
package final class GuardedBlock {
  private let storage: TensorStorage
  private let start: Int
  private let rowBytes: Int
  private let distance: Int
  private let rows: Int
  private static let margin = 128
  private static let mark: UInt8 = 0x77
  /// No machine has addresses for more bytes. Sums and products of what is less do not overflow.
  private static let most = 1 << 48

  /// - Parameters:
  ///   - byteCount: of the elements.
  ///   - rows: in elements of `width` bytes; nil: dense.
  ///   - shift: the bytes from a multiple of 64.
  package init(byteCount: Int, rows: Rows? = nil, width: Int = 1, shift: Int = 0) throws(TensorError) {
    guard byteCount <= Self.most else {
      throw TensorError(.memory, "no machine has memory for an operand of \(byteCount) bytes")
    }
    start = Self.margin + shift
    rowBytes = rows.map { $0.length * width } ?? byteCount
    distance = rows.map { $0.distance * width } ?? byteCount
    self.rows = rowBytes == 0 ? 0 : byteCount / rowBytes
    storage = try TensorStorage(byteCount: start + self.rows * distance + Self.margin)
    storage.base.initializeMemory(as: UInt8.self, repeating: Self.mark, count: storage.byteCount)
  }

  var base: UnsafeMutableRawPointer { storage.base + start }

  /// The elements without what lies between rows.
  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(rows * rowBytes)
    for row in 0..<rows { bytes += UnsafeRawBufferPointer(start: base + row * distance, count: rowBytes) }
    return bytes
  }

  func fill(_ byte: UInt8) {
    for row in 0..<rows { (base + row * distance).initializeMemory(as: UInt8.self, repeating: byte, count: rowBytes) }
  }

  /// Writes all elements of a tensor of as many bytes; nil: nothing.
  func write(_ tensor: Tensor?) {
    tensor?.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress else { return }
      for row in 0..<rows { (base + row * distance).copyMemory(from: source + row * rowBytes, byteCount: rowBytes) }
    }
  }

  /// True if the elements are those of the tensor.
  func holds(_ tensor: Tensor?) -> Bool {
    tensor?.withUnsafeBytes { $0.elementsEqual(bytes) } ?? true
  }

  /// True if all bytes that are no row's are as they were.
  var isIntact: Bool {
    let all = UnsafeRawBufferPointer(start: storage.base, count: storage.byteCount)
    var end = 0
    for row in 0..<rows {
      let first = start + row * distance
      if !all[end..<first].allSatisfy({ $0 == Self.mark }) { return false }
      end = first + rowBytes
    }
    return all[end...].allSatisfy { $0 == Self.mark }
  }
}

extension Step {
  /// The order in which the parts of a phase run.
  enum PartOrder {
    case forwards, backwards
    /// On the threads of a pool.
    case parallel(WorkerPool)
  }

  /// Runs the whole step on the memory of its inputs, its outputs and its scratch, in this order, with the operands
  /// that its kernel has packed. False if it reports a failure.
  func run(
    packed: [PackedOperand], inputs: ArraySlice<GuardedBlock>, outputs: ArraySlice<GuardedBlock>,
    scratch: GuardedBlock, _ order: PartOrder
  ) -> Bool {
    let failure = RunFailure()
    var operands = (inputs + outputs + [scratch]).map(\.base)
    for operand in packed where unreadInputs.contains(operand.input) {
      operands[operand.input] = operand.storage.base
    }
    operands.withUnsafeBufferPointer { pointers in
      guard let base = pointers.baseAddress else { return }
      let context = RunContext(
        operands: base, inputCount: inputs.count, outputCount: outputs.count, failure: failure)
      for (phase, parts) in phases.enumerated() {
        switch order {
        case .forwards: for part in 0..<parts { body(context, phase, part) }
        case .backwards: for part in (0..<parts).reversed() { body(context, phase, part) }
        case .parallel(let pool): pool.run(parts: parts, cancellation: nil) { body(context, phase, $0) }
        }
      }
    }
    // The addresses are those of blocks that nothing else may keep alive.
    withExtendedLifetime((packed, inputs, outputs, scratch)) {}
    return failure.take() == nil
  }
}
