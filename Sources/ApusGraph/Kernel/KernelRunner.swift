// Runs one prepared kernel by itself, serially: constant folding, planning-time values, eager use of planned kernels, tests.

import ApusTensor

package enum KernelRunner {
  /// Runs `kernel` on tensors whose output types are known. Inputs must not be strings.
  package static func run(
    _ kernel: any Kernel, inputs: [Tensor?], outputTypes: [TensorType?]
  ) throws(OperatorError) -> [Tensor?] {
    let context = PlanContext(
      inputs: inputs.map { $0.map { TensorType($0.dataType, $0.shape) } }, outputs: outputTypes, known: inputs)
    return try run(try kernel.step(for: context), inputs: inputs, outputTypes: outputTypes)
  }

  /// Runs all phases and parts of a step in order.
  package static func run(
    _ step: Step, inputs: [Tensor?], outputTypes: [TensorType?],
    parallel: (_ parts: Int, (Int) -> Void) -> Void = { parts, body in for part in 0..<parts { body(part) } }
  ) throws(OperatorError) -> [Tensor?] {
    // A kernel may ask for alignment of its element type; ranges of files have any.
    let aligned = inputs.map { $0.map { $0.isAligned(to: 16) ? $0 : $0.copied() } }
    var outputs: [Tensor?] = outputTypes.map { $0.map { Tensor(uninitialized: $0.dataType, shape: $0.shape) } }
    for view in step.views {
      guard let source = aligned[view.input], let type = outputTypes[view.output] else { continue }
      outputs[view.output] = Tensor(
        dataType: type.dataType, shape: type.shape, storage: source.storage, byteOffset: source.byteOffset + view.byteOffset)
    }
    let scratch = TensorStorage(byteCount: step.scratchBytes)
    var operands: [UnsafeMutableRawPointer] = []
    for input in aligned { operands.append(input.map { $0.storage.base + $0.byteOffset } ?? scratch.base) }
    for output in outputs { operands.append(output.map { $0.storage.base + $0.byteOffset } ?? scratch.base) }
    operands.append(scratch.base)
    let failure = RunFailure()
    operands.withUnsafeBufferPointer { pointers in
      guard let base = pointers.baseAddress else { return }
      let run = RunContext(operands: base, inputCount: inputs.count, outputCount: outputs.count, failure: failure)
      for (phase, parts) in step.phases.enumerated() { parallel(parts) { step.body(run, phase, $0) } }
    }
    withExtendedLifetime((aligned, outputs, scratch)) {}
    if let message = failure.take() { throw .mismatch(message) }
    return outputs
  }
}
