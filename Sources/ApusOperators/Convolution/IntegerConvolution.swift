// Convolution of 8-bit tensors with zero points into sums of 32 bits, for ConvInteger and QLinearConv.

import ApusGraph
import ApusTensor

/// Which inputs of a node hold the operands of an integer convolution. A zero point that is nil is 0.
struct IntegerConvolution: Sendable {
  let operands: ConvolutionOperands
  let xZero: Int?
  let wZero: Int?

  /// Throws where the zero points have another shape than a scalar or, for the weights, one number a channel.
  func inferZeroPoints(_ context: InferenceContext) throws(OperatorError) {
    try expectScalar(context, xZero, name: "the zero point of the input")
    try expectScalarOrChannels(context, wZero, name: "the zero point of the weights")
  }

  func expectScalar(_ context: InferenceContext, _ input: Int?, name: String) throws(OperatorError) {
    guard let input, let shape = context.shape(input) else { return }
    if shape.count > 1 || (shape.first?.known ?? 1) != 1 {
      throw .mismatch("\(name) has the shape \(shape); expected a scalar")
    }
  }

  func expectScalarOrChannels(_ context: InferenceContext, _ input: Int?, name: String) throws(OperatorError) {
    guard let input, let shape = context.shape(input) else { return }
    let channels = context.shape(operands.w)?.first ?? .unknown
    guard shape.count <= 1, shape.isEmpty || shape[0].known == 1 || !shape[0].isSurelyDifferent(from: channels) else {
      throw .mismatch("\(name) has the shape \(shape); expected a scalar or [\(channels)]")
    }
  }

  /// The plan of the sums: two phases and scratch memory, followed by `extraBytes` for the caller.
  struct Plan: Sendable {
    let convolution: Convolution
    fileprivate let direct: DirectConvolution<Int32>
    fileprivate let xPartition: Partition
    fileprivate let wPartition: Partition
    fileprivate let wZeroCount: Int
    fileprivate let xIsSigned: Bool
    fileprivate let wIsSigned: Bool
    fileprivate let source: IntegerConvolution
    fileprivate let windowsOffset: Int
    fileprivate let wOffset: Int

    var phases: [Int] { [xPartition.parts + wPartition.parts, direct.windows.partition.parts] }
    var scratchBytes: Int { aligned(windowsOffset + direct.windows.scratchBytes) }
  }

  func plan(_ attributes: NodeAttributes, _ context: PlanContext) throws(OperatorError) -> Plan {
    let convolution = try operands.resolve(attributes, context)
    let (x, w) = (context.shape(operands.x).elementCount, context.shape(operands.w).elementCount)
    let wOffset = aligned(x &* 4)
    return Plan(
      convolution: convolution, direct: DirectConvolution(convolution), xPartition: Partition(x, minimum: 65_536),
      wPartition: Partition(convolution.outputChannels, minimum: max(1, 65_536 / max(1, w / max(1, convolution.outputChannels)))),
      wZeroCount: wZero.map { context.shape($0).elementCount } ?? 0,
      xIsSigned: context.inputs[operands.x]?.dataType == .int8, wIsSigned: context.inputs[operands.w]?.dataType == .int8,
      source: self, windowsOffset: aligned(wOffset + w &* 4), wOffset: wOffset)
  }
}

extension IntegerConvolution.Plan {
  /// Runs a part of phase 0 (operands less their zero points, as 32 bits) or 1 (the sums, into `target`).
  func run(_ run: RunContext, phase: Int, part: Int, target: UnsafeMutablePointer<Int32>) {
    let x = run.scratch.assumingMemoryBound(to: Int32.self)
    let w = (run.scratch + wOffset).assumingMemoryBound(to: Int32.self)
    if phase == 1 {
      direct.run(part: part, x: x, w: w, bias: nil, y: target, scratch: run.scratch + windowsOffset)
    } else if part < xPartition.parts {
      let zero = source.xZero.map { widened(run.inputBytes($0), 0, isSigned: xIsSigned) } ?? 0
      let bytes = run.inputBytes(source.operands.x)
      for index in xPartition.range(part) { x[index] = widened(bytes, index, isSigned: xIsSigned) &- zero }
    } else {
      let bytes = run.inputBytes(source.operands.w)
      let perChannel = convolution.channelsPerGroup &* convolution.geometry.tapCount
      for channel in wPartition.range(part - xPartition.parts) {
        let zero = source.wZero.map { widened(run.inputBytes($0), wZeroCount > 1 ? channel : 0, isSigned: wIsSigned) } ?? 0
        for index in channel &* perChannel..<(channel &+ 1) &* perChannel {
          w[index] = widened(bytes, index, isSigned: wIsSigned) &- zero
        }
      }
    }
  }

  @inline(__always)
  private func widened(_ bytes: UnsafeRawPointer, _ index: Int, isSigned: Bool) -> Int32 {
    let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
    return isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)
  }
}
