// What must hold for a kernel that takes operands in rows: the same bits, and nothing written between the rows.

import ApusGraph
import ApusRuntime
import ApusTensor

/// Plans a node anew with operands in rows that lie further apart than they are long, each operand by itself and all
/// that it takes together, and names what is not as it is with dense ones.
struct RowsContract {
  let kernel: any Kernel
  let inputs: [Tensor?]
  let outputs: [Tensor?]
  let known: [Tensor?]
  let pool: WorkerPool

  /// Elements between two rows.
  private static let gap = 5
  /// Rows of more lengths than this are not tried for one operand.
  private static let maximumLengths = 4

  private var operands: [Tensor?] { inputs + outputs }

  func violations() -> [String] {
    guard kernel.takesRows, !operands.contains(where: { $0?.dataType.isPacked ?? false }) else { return [] }
    var found: [String] = []
    var taken: [(operand: Int, rows: Rows)] = []
    for operand in operands.indices {
      for rows in rows(of: operand) where check([(operand, rows)], &found) {
        if !taken.contains(where: { $0.operand == operand }) { taken.append((operand, rows)) }
      }
    }
    if taken.count > 1 { _ = check(taken, &found) }
    return found
  }

  /// The rows that an operand may lie in: all elements of some of its last axes are one.
  private func rows(of operand: Int) -> [Rows] {
    guard let tensor = operands[operand], tensor.count > 0 else { return [] }
    var lengths: [Int] = []
    for axis in tensor.shape.indices.dropFirst().reversed() {
      let length = tensor.shape.count(of: axis..<tensor.rank)
      if length < tensor.count, !lengths.contains(length) { lengths.append(length) }
    }
    return lengths.prefix(RowsContract.maximumLengths).map { Rows(length: $0, distance: $0 + RowsContract.gap) }
  }

  /// Runs the step with operands in rows; false if the kernel does not take them.
  private func check(_ rows: [(operand: Int, rows: Rows)], _ found: inout [String]) -> Bool {
    var placement = OperandPlacement()
    placement.rows = rows
    func types(_ tensors: [Tensor?]) -> [TensorType?] { tensors.map { $0.map { TensorType($0.dataType, $0.shape) } } }
    let context = PlanContext(
      inputs: types(inputs), outputs: types(outputs), known: known, placement: placement)
    guard let step = try? kernel.step(for: context), rows.allSatisfy({ step.spread.contains($0.operand) }),
      step.views.isEmpty
    else { return false }
    let name = rows.map { "operand \($0.operand) in rows of \($0.rows.length)" }.joined(separator: ", ")
    for (isReversed, isParallel) in [(false, false), (true, false), (false, true)] {
      if let fault = run(step, rows, isReversed: isReversed, isParallel: isParallel) {
        found.append("\(name): \(fault)")
        break
      }
    }
    return true
  }

  /// What is wrong with one run; nil: nothing.
  private func run(
    _ step: Step, _ rows: [(operand: Int, rows: Rows)], isReversed: Bool, isParallel: Bool
  ) -> String? {
    var blocks: [SpreadBlock] = []
    for (operand, tensor) in operands.enumerated() {
      let block = SpreadBlock(tensor, rows.first { $0.operand == operand }?.rows)
      if operand < inputs.count { block.write(tensor) }
      blocks.append(block)
    }
    guard let scratch = try? TensorStorage(byteCount: step.scratchBytes + 64) else { return "no memory" }
    let failure = RunFailure()
    var addresses = blocks.map(\.base) + [scratch.base]
    for operand in kernel.packedOperands where step.unreadInputs.contains(operand.input) {
      addresses[operand.input] = operand.storage.base
    }
    addresses.withUnsafeBufferPointer { pointers in
      guard let base = pointers.baseAddress else { return }
      let context = RunContext(
        operands: base, inputCount: inputs.count, outputCount: outputs.count, failure: failure)
      for (phase, parts) in step.phases.enumerated() {
        if isParallel {
          pool.run(parts: parts, cancellation: nil) { step.body(context, phase, $0) }
        } else {
          for part in 0..<parts { step.body(context, phase, isReversed ? parts - 1 - part : part) }
        }
      }
    }
    withExtendedLifetime(scratch) {}
    if failure.take() != nil { return "the step fails" }
    for (operand, block) in blocks.enumerated() {
      if !block.isIntact { return "writes between the rows of operand \(operand)" }
      let isRead = operand >= inputs.count || !step.unreadInputs.contains(operand)
      if isRead, !block.holds(operands[operand]) { return "operand \(operand) has other bits" }
    }
    return nil
  }
}

/// Memory for an operand in rows, with known bytes around each row.
private final class SpreadBlock {
  private let storage: TensorStorage
  private let rowBytes: Int
  private let distance: Int
  private let rows: Int
  private static let margin = 128
  private static let mark: UInt8 = 0x77

  /// `rows` nil: dense.
  init(_ tensor: Tensor?, _ rows: Rows?) {
    let byteCount = tensor?.byteCount ?? 0
    let width = tensor?.dataType.byteWidth ?? 1
    rowBytes = rows.map { $0.length * width } ?? byteCount
    distance = rows.map { $0.distance * width } ?? byteCount
    self.rows = rowBytes == 0 ? 0 : byteCount / rowBytes
    guard let storage = try? TensorStorage(byteCount: self.rows * distance + 2 * Self.margin) else {
      preconditionFailure("no memory for a test of \(byteCount) bytes")
    }
    self.storage = storage
    storage.base.initializeMemory(as: UInt8.self, repeating: Self.mark, count: storage.byteCount)
  }

  var base: UnsafeMutableRawPointer { storage.base + Self.margin }

  func write(_ tensor: Tensor?) {
    tensor?.withUnsafeBytes { bytes in
      guard let source = bytes.baseAddress else { return }
      for row in 0..<rows { (base + row * distance).copyMemory(from: source + row * rowBytes, byteCount: rowBytes) }
    }
  }

  func holds(_ tensor: Tensor?) -> Bool {
    tensor?.withUnsafeBytes { bytes in
      (0..<rows).allSatisfy { row in
        UnsafeRawBufferPointer(start: base + row * distance, count: rowBytes)
          .elementsEqual(bytes[row * rowBytes..<(row + 1) * rowBytes])
      }
    } ?? true
  }

  /// True if all bytes that are no row's are as they were.
  var isIntact: Bool {
    let all = UnsafeRawBufferPointer(start: storage.base, count: storage.byteCount)
    var end = 0
    for row in 0..<rows {
      let start = Self.margin + row * distance
      if !all[end..<start].allSatisfy({ $0 == Self.mark }) { return false }
      end = start + rowBytes
    }
    return all[end...].allSatisfy { $0 == Self.mark }
  }
}
