// What must hold for a kernel that takes operands in rows: the same bits, and nothing written between the rows.

import ApusGraph
import ApusRuntime
import ApusTensor

/// Plans a node anew with operands in rows that lie further apart than they are long, each operand by itself and all
/// that it takes together, and names what is not as it is with dense ones.
package struct RowsContract {
  let kernel: any Kernel
  let inputs: [Tensor?]
  let outputs: [Tensor?]
  let known: [Tensor?]
  let pool: WorkerPool

  package init(kernel: any Kernel, inputs: [Tensor?], outputs: [Tensor?], known: [Tensor?], pool: WorkerPool) {
    (self.kernel, self.inputs, self.outputs, self.known, self.pool) = (kernel, inputs, outputs, known, pool)
  }

  /// Elements between two rows.
  private static let gap = 5
  /// Rows of more lengths than this are not tried for one operand.
  private static let maximumLengths = 4

  private var operands: [Tensor?] { inputs + outputs }

  package func violations() -> [String] {
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
    for order in [Step.PartOrder.forwards, .backwards, .parallel(pool)] {
      if let fault = fault(of: step, rows, order) {
        found.append("\(name): \(fault)")
        break
      }
    }
    return true
  }

  /// What is wrong with one run; nil: nothing.
  private func fault(
    of step: Step, _ rows: [(operand: Int, rows: Rows)], _ order: Step.PartOrder
  ) -> String? {
    var blocks: [GuardedBlock] = []
    do throws(TensorError) {
      for (operand, tensor) in operands.enumerated() {
        let block = try GuardedBlock(
          byteCount: tensor?.byteCount ?? 0, rows: rows.first { $0.operand == operand }?.rows,
          width: tensor?.dataType.byteWidth ?? 1)
        if operand < inputs.count { block.write(tensor) }
        blocks.append(block)
      }
      let scratch = try GuardedBlock(byteCount: step.scratchBytes)
      let (given, made) = (blocks[..<inputs.count], blocks[inputs.count...])
      if !step.run(packed: kernel.packedOperands, inputs: given, outputs: made, scratch: scratch, order) {
        return "the step fails"
      }
      if !scratch.isIntact { return "writes outside its scratch memory" }
    } catch {
      return error.message
    }
    for (operand, block) in blocks.enumerated() {
      if !block.isIntact { return "writes between the rows of operand \(operand)" }
      let isRead = operand >= inputs.count || !step.unreadInputs.contains(operand)
      if isRead, !block.holds(operands[operand]) { return "operand \(operand) has other bits" }
    }
    return nil
  }
}
