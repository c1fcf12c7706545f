// Runs one prepared kernel by itself, serially: constant folding, planning-time values, eager use of planned kernels,
// tests.

import ApusTensor

package enum KernelRunner {
  /// Runs `kernel` on tensors whose output types are known. Inputs must not be strings. Outputs and scratch memory are
  /// charged to `allowance`. `movesData`: of an operator with that trait, whose kernels take operands at any address.
  package static func run(
    _ kernel: any Kernel, inputs: [Tensor?], outputTypes: [TensorType?], allowance: Allowance, movesData: Bool = false
  ) throws(OperatorError) -> [Tensor?] {
    // Kernels plan with sizes that are possible.
    for type in outputTypes {
      try type.map { (type) throws(OperatorError) in try allowance.check(allocating: type.byteCount) }
    }
    let context = PlanContext(
      inputs: inputs.map { $0.map { TensorType($0.dataType, $0.shape) } }, outputs: outputTypes, known: inputs)
    return try run(
      try kernel.step(for: context), packed: kernel.packedOperands, inputs: inputs, outputTypes: outputTypes,
      allowance: allowance, movesData: movesData)
  }

  /// Runs all phases and parts of a step in order. `packed`: the operands that its kernel has packed. `parallel` may
  /// leave parts out when the time of `allowance` is over.
  package static func run(
    _ step: Step, packed: [PackedOperand] = [], inputs: [Tensor?], outputTypes: [TensorType?], allowance: Allowance,
    movesData: Bool = false, parallel: ((_ parts: Int, (Int) -> Void) -> Void)? = nil
  ) throws(OperatorError) -> [Tensor?] {
    // A kernel may ask for alignment of its element type; ranges of files have any. What is never read may not be
    // there.
    var aligned: [Tensor?] = []
    for (position, input) in inputs.enumerated() {
      let isViewed = step.views.contains { $0.input == position }
      guard let input, isViewed || !step.unreadInputs.contains(position) else {
        aligned.append(nil)
        continue
      }
      // What is moved; indices, which say where to, are numbers that a kernel reads.
      let isMoved = movesData && !isViewed && ![.int32, .int64].contains(input.dataType)
      aligned.append(try allowance.aligned(input, to: isMoved ? 1 : 16))
    }
    var outputs: [Tensor?] = []
    for (position, type) in outputTypes.enumerated() {
      guard let type, !step.views.contains(where: { $0.output == position }) else {
        outputs.append(nil)
        continue
      }
      outputs.append(try allowance.allocate(type.dataType, type.shape))
    }
    for view in step.views {
      guard let source = aligned[view.input], let type = outputTypes[view.output] else { continue }
      outputs[view.output] = Tensor(
        dataType: type.dataType, shape: type.shape, storage: source.storage,
        byteOffset: source.byteOffset + view.byteOffset)
    }
    let scratch = try allowance.allocate(byteCount: step.scratchBytes)
    var operands: [UnsafeMutableRawPointer] = []
    for input in aligned { operands.append(input.map { $0.storage.base + $0.byteOffset } ?? scratch.base) }
    for output in outputs { operands.append(output.map { $0.storage.base + $0.byteOffset } ?? scratch.base) }
    operands.append(scratch.base)
    for operand in packed where step.unreadInputs.contains(operand.input) {
      operands[operand.input] = operand.storage.base
    }
    let failure = RunFailure()
    operands.withUnsafeBufferPointer { pointers in
      guard let base = pointers.baseAddress else { return }
      let run = RunContext(operands: base, inputCount: inputs.count, outputCount: outputs.count, failure: failure)
      for (phase, parts) in step.phases.enumerated() {
        if let parallel {
          parallel(parts) { step.body(run, phase, $0) }
        } else {
          for part in 0..<parts where !(allowance.cancellation?.isCancelled ?? false) { step.body(run, phase, part) }
        }
      }
    }
    withExtendedLifetime((aligned, packed, outputs, scratch)) {}
    try allowance.checkTime()
    if let message = failure.take() { throw .mismatch(message) }
    return outputs
  }
}
