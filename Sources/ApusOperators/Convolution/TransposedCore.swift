// The float32 transposed convolution on the matrix kernel: every pixel's contribution to every tap is one product; each
// output pixel then adds up its taps.

import ApusGraph
import ApusTensor
import CApusKernels

/// The weights of a transposed convolution, packed with the taps of all outputs as columns.
struct TransposedWeights: Sendable {
  let groups: Int
  let channelsPerGroup: Int
  let outputsPerGroup: Int
  let taps: Int
  let storage: TensorStorage

  var columns: Int { taps &* outputsPerGroup }
  var groupCount: Int { GemmKernels.current.packedCount(k: channelsPerGroup, n: columns) }

  /// The constant weights at input 1; nil if they are not constant or have no elements.
  init?(_ context: PrepareContext) throws(OperatorError) {
    guard let tensor = context.constant(1), tensor.dataType == .float32, tensor.rank >= 3, tensor.count > 0 else {
      return nil
    }
    let groups = try context.int("group")
    guard groups >= 1, tensor.shape[0] % groups == 0 else { return nil }
    let (channels, outputs) = (tensor.shape[0] / groups, tensor.shape[1])
    let taps = tensor.shape.count(of: 2..<tensor.rank)
    let kernels = GemmKernels.current
    let groupCount = kernels.packedCount(k: channels, n: taps * outputs)
    (self.groups, channelsPerGroup, outputsPerGroup, self.taps) = (groups, channels, outputs, taps)
    let format = "transposed conv \(groups) \(tensor.shape) \(kernels.panelColumns)"
    storage = try context.packedWeights.storage(for: tensor, format: format) { (source) throws(OperatorError) in
      let packed = try context.allowance.allocate(byteCount: groupCount * groups * 4)
      // Outputs behind taps, so that one tap of all outputs is a run.
      let ordered = try context.allowance.allocate(byteCount: tensor.byteCount)
      let channelBytes = outputs * taps * 4
      let step = max(1, PackingSource.usualPiece / channelBytes)
      for first in stride(from: 0, to: tensor.shape[0], by: step) {
        let piece = first..<min(first + step, tensor.shape[0])
        try source.withBytes(piece.lowerBound * channelBytes..<piece.upperBound * channelBytes) { bytes in
          for channel in piece {
            apus_kernels().pointee.transpose_4(
              outputs, taps, bytes + (channel - first) * channelBytes, taps, ordered.base + channel * channelBytes,
              outputs)
          }
        }
      }
      for group in 0..<groups {
        var source = apus_gemm_source(
          b: ordered.base + group * channels * outputs * taps * 4, stride_tap: 0, stride_k: outputs * taps, stride_n: 1,
          taps: 1, kc: channels, n: taps * outputs)
        kernels.pack(
          &source, packed.base.assumingMemoryBound(to: Float.self) + group * groupCount, 0,
          kernels.panelCount(taps * outputs))
      }
      withExtendedLifetime(ordered) {}
      return packed
    }
  }
}

/// Which input elements and taps reach each output position, along one axis.
private struct TransposedAxis: Sendable {
  /// For output position o, the entries from starts[o] to starts[o + 1].
  let starts: [Int]
  let entries: [(tap: Int, position: Int)]

  init(_ geometry: WindowGeometry, _ axis: Int) {
    var starts = [0]
    var entries: [(tap: Int, position: Int)] = []
    for output in 0..<geometry.input[axis] {
      for tap in 0..<geometry.kernel[axis] {
        let distance = output &+ geometry.padBegin[axis] &- tap &* geometry.dilations[axis]
        guard distance >= 0, distance % geometry.strides[axis] == 0 else { continue }
        let position = distance / geometry.strides[axis]
        if position < geometry.output[axis] { entries.append((tap, position)) }
      }
      starts.append(entries.count)
    }
    (self.starts, self.entries) = (starts, entries)
  }
}

/// Phases: layout, products, sums, layout.
struct TransposedCore: Sendable {
  private enum Stage: Sendable { case toChannelsLast, multiply, gather, toPlanar }

  private let shape: TransposedConvolution
  private let weights: TransposedWeights
  private let hasBias: Bool
  private let axes: [TransposedAxis]
  private let tiling: GemmTiling
  private let lines: Partition
  private let input: LayoutChange
  private let output: LayoutChange
  private let stages: [Stage]
  private let columnsOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// Outputs along an axis for which tables are made.
  private static let longestAxis = 1 << 26

  /// nil if the products would take more than a GiB.
  init?(_ shape: TransposedConvolution, _ weights: TransposedWeights, hasBias: Bool, channelsLast: Bool) {
    (self.shape, self.weights, self.hasBias) = (shape, weights, hasBias)
    let pixels = shape.batch &* shape.geometry.outputCount
    let products = (pixels &* weights.columns).multipliedReportingOverflow(by: weights.groups &* 4)
    guard !products.overflow, products.partialValue <= 1 << 30, pixels > 0, shape.geometry.inputCount > 0,
      shape.geometry.input.allSatisfy({ $0 <= Self.longestAxis })
    else { return nil }
    axes = (0..<shape.geometry.rank).map { TransposedAxis(shape.geometry, $0) }
    tiling = GemmTiling(
      batch: weights.groups, m: pixels, n: weights.columns, k: weights.channelsPerGroup,
      tileRows: GemmKernels.current.tileRows, panelColumns: GemmKernels.current.panelColumns)
    let outputs = shape.batch &* shape.geometry.inputCount
    lines = Partition(outputs, minimum: max(1, 32_768 / max(1, shape.outputChannels &* 4)))
    input = LayoutChange(images: shape.batch, channels: shape.channels, pixels: shape.geometry.outputCount)
    output = LayoutChange(images: shape.batch, channels: shape.outputChannels, pixels: shape.geometry.inputCount)
    let changesInput = !channelsLast && !input.isNothing
    let changesOutput = !channelsLast && !output.isNothing
    columnsOffset = changesInput ? aligned(input.byteCount) : 0
    outputOffset = columnsOffset + aligned(products.partialValue)
    scratchBytes = outputOffset + (changesOutput ? aligned(output.byteCount) : 0)
    stages =
      (changesInput ? [.toChannelsLast] : []) + [.multiply, .gather] + (changesOutput ? [.toPlanar] : [])
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .toChannelsLast: input.parts
      case .multiply: tiling.parts
      case .gather: lines.parts
      case .toPlanar: output.parts
      }
    }
    let changesOutput = stages.last == .toPlanar
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      let result = changesOutput ? run.scratch + outputOffset : run.outputBytes(0)
      switch stages[phase] {
      case .toChannelsLast: input.toChannelsLast(part, run.inputBytes(0), run.scratch)
      case .multiply:
        multiply(
          part, columnsOffset > 0 ? UnsafeRawPointer(run.scratch) : run.inputBytes(0), run.scratch + columnsOffset)
      case .gather: gather(part, run, result.assumingMemoryBound(to: Float.self))
      case .toPlanar: output.toPlanar(part, result, run.outputBytes(0))
      }
    }
    step.unreadInputs = [1]
    let operations = 2 &* tiling.m &* weights.columns &* weights.channelsPerGroup &* weights.groups
    return step.named("gemm \(String(cString: apus_kernels().pointee.name))", operations: operations)
  }

  /// Columns of one group: [pixels][taps][outputs of the group].
  private func multiply(_ part: Int, _ x: UnsafeRawPointer, _ columns: UnsafeMutableRawPointer) {
    let tile = tiling.tile(part)
    for group in tile.batches {
      var arguments = apus_gemm_f32_args(
        a: x.assumingMemoryBound(to: Float.self) + group &* weights.channelsPerGroup, lda: shape.channels, offsets: nil,
        zeros: nil, taps: 1, kc: weights.channelsPerGroup, n: weights.columns,
        b: UnsafePointer(weights.storage.base.assumingMemoryBound(to: Float.self)) + group &* weights.groupCount,
        c: columns.assumingMemoryBound(to: Float.self) + group &* tiling.m &* weights.columns, ldc: weights.columns,
        epilogue: apus_epilogue_f32())
      GemmKernels.current.multiply(
        &arguments, tile.rows.lowerBound, tile.rows.upperBound, tile.panels.lowerBound, tile.panels.upperBound)
    }
  }

  private func gather(_ part: Int, _ run: RunContext, _ y: UnsafeMutablePointer<Float>) {
    let columns = UnsafePointer((run.scratch + columnsOffset).assumingMemoryBound(to: Float.self))
    let geometry = shape.geometry
    let (area, pixels) = (geometry.inputCount, geometry.outputCount)
    let outputs = weights.outputsPerGroup
    for unit in lines.range(part) {
      let target = y + unit &* shape.outputChannels
      if hasBias {
        target.update(from: run.input(2), count: shape.outputChannels)
      } else {
        target.update(repeating: 0, count: shape.outputChannels)
      }
      let (image, position) = unit.quotientAndRemainder(dividingBy: area)
      for combination in 0..<combinations(position) {
        let (tap, pixel) = place(position, combination)
        let source = columns + ((image &* pixels &+ pixel) &* weights.columns &+ tap &* outputs)
        for group in 0..<weights.groups {
          apus_kernels().pointee.accumulate_f32(
            outputs, source + group &* tiling.m &* weights.columns, target + group &* outputs)
        }
      }
    }
  }

  /// How many taps reach an output position.
  private func combinations(_ position: Int) -> Int {
    var rest = position
    var count = 1
    for axis in stride(from: axes.count - 1, through: 0, by: -1) {
      let coordinate = rest % shape.geometry.input[axis]
      rest /= shape.geometry.input[axis]
      count &*= axes[axis].starts[coordinate &+ 1] &- axes[axis].starts[coordinate]
    }
    return count
  }

  /// The tap and the input pixel of one of them.
  private func place(_ position: Int, _ combination: Int) -> (tap: Int, pixel: Int) {
    var (rest, choice) = (position, combination)
    var (tap, pixel, tapScale, pixelScale) = (0, 0, 1, 1)
    for axis in stride(from: axes.count - 1, through: 0, by: -1) {
      let coordinate = rest % shape.geometry.input[axis]
      rest /= shape.geometry.input[axis]
      let start = axes[axis].starts[coordinate]
      let count = axes[axis].starts[coordinate &+ 1] &- start
      let entry = axes[axis].entries[start &+ choice % count]
      choice /= count
      tap &+= entry.tap &* tapScale
      pixel &+= entry.position &* pixelScale
      tapScale &*= shape.geometry.kernel[axis]
      pixelScale &*= shape.geometry.output[axis]
    }
    return (tap, pixel)
  }
}
