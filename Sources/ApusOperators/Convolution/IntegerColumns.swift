// Sums of planar 8-bit images over single pixels, as products of the weights with the pixels as columns, which are
// packed some panels at a time: rows of the product are planes of the output.

import ApusGraph
import ApusTensor
import CApusKernels

/// X, Y and W have the layout of the specification. Y has 32 bits.
struct IntegerColumns: Sendable {
  private let node: IntegerNode
  private let columns = apus_kernels().pointee.gemm_i8_nr
  private let panelBytes: Int
  /// Panels that are packed together, and how many such blocks an image of a group has.
  private let panelsPerBlock: Int
  private let blocks: Int
  private let partition: Partition
  private let zeroBytes: Int

  /// Bytes that are packed at once: they fit the second-level cache beside the weights.
  private static let pieceBytes = 128 << 10

  /// Why there is no such form for a node; nil: there is.
  static func refusal(_ node: IntegerNode) -> String? {
    let (convolution, codes) = (node.convolution, node.codes)
    guard codes.inputs.requantization == nil, codes.bias == nil, !codes.inputs.operands.channelsLast else {
      return "not the sums of planar images"
    }
    guard convolution.geometry.isPointwise else { return "windows of more than one pixel" }
    return convolution.outputCount > 0 && convolution.channels > 0 ? nil : "no elements"
  }

  /// For a node that is not refused.
  init(_ node: IntegerNode) {
    self.node = node
    let convolution = node.convolution
    panelBytes = aligned(apus_gemm_i8_panel_bytes(1, convolution.channelsPerGroup, columns))
    let panels = apus_gemm_panels(convolution.geometry.outputCount, columns)
    let products = convolution.batch * convolution.groups
    let cost = Cost(operations: convolution.operations / 2, bytes: 4 * convolution.outputCount)
    let wanted = (min(max(cost.worthwhileParts, 1), Partition.maximumParts) + products - 1) / products
    panelsPerBlock = max(1, min(IntegerColumns.pieceBytes / panelBytes, (panels + wanted - 1) / wanted))
    blocks = (panels + panelsPerBlock - 1) / panelsPerBlock
    zeroBytes = aligned(convolution.outputChannels * 4)
    let units = products * blocks
    partition = PhasePlanes.partition(
      units, of: Cost(operations: cost.operations / units, bytes: cost.bytes / units),
      floats: (panelsPerBlock * panelBytes + zeroBytes) / 4)
  }

  var step: Step {
    let partBytes = panelsPerBlock &* panelBytes &+ zeroBytes
    return .parallel(parts: partition.parts, scratchBytes: partition.parts &* partBytes) { run, part in
      let packed = run.scratch + part &* partBytes
      let zeros = (packed + panelsPerBlock &* panelBytes).assumingMemoryBound(to: Int32.self)
      for output in 0..<node.convolution.outputChannels {
        zeros[output] = node.codes.wZero({ run.inputBytes($0) }, output: output)
      }
      for unit in partition.range(part) { self.run(run, unit, packed, UnsafePointer(zeros)) }
    }.named(
      "columns \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: node.convolution.operations))
  }

  private func run(
    _ run: RunContext, _ unit: Int, _ packed: UnsafeMutableRawPointer, _ zeros: UnsafePointer<Int32>
  ) {
    let (convolution, codes) = (node.convolution, node.codes)
    // Groups of all images in turn.
    let (group, block) = unit.quotientAndRemainder(dividingBy: blocks)
    let (pixels, channels) = (convolution.geometry.outputCount, convolution.channelsPerGroup)
    let first = block &* panelsPerBlock &* columns
    let count = min(pixels &- first, panelsPerBlock &* columns)
    let panels = apus_gemm_panels(count, columns)
    var source = apus_gemm_source(
      b: run.inputBytes(codes.inputs.operands.x) + (group &* channels &* pixels &+ first), stride_tap: 0,
      stride_k: pixels, stride_n: 1, taps: 1, kc: channels, n: count)
    apus_kernels().pointee.gemm_i8_pack(&source, codes.xIsSigned, packed, 0, panels)
    let outputs = convolution.outputChannelsPerGroup
    let output = group % convolution.groups &* outputs
    var arguments = apus_gemm_i8_args(
      a: run.inputBytes(codes.inputs.operands.w) + output &* channels, lda: channels, offsets: nil, pad: nil, taps: 1,
      kc: channels, n: count, a_signed: codes.wIsSigned, b_signed: codes.xIsSigned, a_zero: zeros[output],
      b_zero: codes.xZero { run.inputBytes($0) }, a_zeros: codes.wZeroCount > 1 ? zeros + output : nil, b_zeros: nil,
      b: packed, c: run.outputBytes(0) + (group &* outputs &* pixels &+ first) &* 4, ldc: pixels,
      output: APUS_GEMM_I8_TO_I32, wide: false, bias: nil, scale: 1, scales: nil, zero: 0, low: 0, high: 0,
      epilogue: apus_epilogue_f32())
    apus_kernels().pointee.gemm_i8(&arguments, 0, outputs, 0, panels)
  }
}
