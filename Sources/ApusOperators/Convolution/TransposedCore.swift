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
    let byteCount = groupCount * groups * 4
    storage = try context.packedWeights.storage(for: tensor, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let packed = try context.allowance.allocate(byteCount: byteCount)
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

  /// The positions of the input that an output position draws on, and those between them.
  func positions(of output: Int) -> Range<Int> {
    let drawn = entries[starts[output]..<starts[output + 1]].lazy.map(\.position)
    guard let first = drawn.min(), let last = drawn.max() else { return 0..<0 }
    return first..<last + 1
  }
}

/// For tests.
package enum TransposedPasses {
  /// Bytes of products that are in memory together; nil: as many as are good.
  @TaskLocal package static var bytes: Int?
}

/// A share of a transposed convolution whose products are in memory together: whole images, or rows of one image.
private struct TransposedPass: Sendable {
  let images: Range<Int>
  /// Rows of the outputs: positions on the first axis.
  let rows: Range<Int>
  /// Pixels of the input of each image, which these rows are sums of.
  let pixels: Range<Int>
  let tiling: GemmTiling
  let lines: Partition
}

/// Phases: layout; for each pass products and sums; layout.
struct TransposedCore: Sendable {
  private enum Stage: Sendable {
    case toChannelsLast, toPlanar
    case multiply(TransposedPass)
    case gather(TransposedPass)
  }

  private let shape: TransposedConvolution
  private let weights: TransposedWeights
  private let hasBias: Bool
  private let pixels: (input: Int, output: Int)
  private let axes: [TransposedAxis]
  private let input: LayoutChange
  private let output: LayoutChange
  private let stages: [Stage]
  private let changesInput: Bool
  private let changesOutput: Bool
  private let columnsOffset: Int
  private let outputOffset: Int
  private let scratchBytes: Int

  /// Outputs along an axis for which tables are made.
  private static let longestAxis = 1 << 26
  /// Bytes of products that are in memory together, unless one row of outputs needs more.
  private static let passBytes = 1 << 28

  /// nil without pixels or outputs, and for axes that are too long. `pixels`: the elements from one pixel to the next
  /// of images with channels last.
  init?(
    _ shape: TransposedConvolution, _ weights: TransposedWeights, hasBias: Bool, channelsLast: Bool,
    pixels pixelElements: (input: Int, output: Int)
  ) {
    (self.shape, self.weights, self.hasBias, self.pixels) = (shape, weights, hasBias, pixelElements)
    let pixels = shape.batch &* shape.geometry.outputCount
    guard pixels > 0, shape.geometry.inputCount > 0, shape.geometry.input.allSatisfy({ $0 <= Self.longestAxis }) else {
      return nil
    }
    axes = (0..<shape.geometry.rank).map { TransposedAxis(shape.geometry, $0) }
    let pixelBytes = weights.columns &* weights.groups &* 4
    let passes = Self.passes(
      shape, weights, axes[0], largest: max(1, (TransposedPasses.bytes ?? Self.passBytes) / pixelBytes))
    let most = passes.map { $0.images.count &* $0.pixels.count }.max() ?? 0
    let (products, overflow) = most.multipliedReportingOverflow(by: pixelBytes)
    if overflow { return nil }
    input = LayoutChange(images: shape.batch, channels: shape.channels, pixels: shape.geometry.outputCount)
    output = LayoutChange(images: shape.batch, channels: shape.outputChannels, pixels: shape.geometry.inputCount)
    changesInput = !channelsLast && !input.isNothing
    changesOutput = !channelsLast && !output.isNothing
    columnsOffset = changesInput ? aligned(input.byteCount) : 0
    outputOffset = columnsOffset + aligned(products)
    scratchBytes = outputOffset + (changesOutput ? aligned(output.byteCount) : 0)
    stages =
      (changesInput ? [.toChannelsLast] : []) + passes.flatMap { [.multiply($0), .gather($0)] }
      + (changesOutput ? [.toPlanar] : [])
  }

  /// Passes of at most `largest` pixels where that is possible.
  private static func passes(
    _ shape: TransposedConvolution, _ weights: TransposedWeights, _ axis: TransposedAxis, largest: Int
  ) -> [TransposedPass] {
    let (pixels, height) = (shape.geometry.outputCount, shape.geometry.input[0])
    let (rowPixels, rowOutputs) = (pixels / shape.geometry.output[0], shape.geometry.inputCount / height)
    func pass(_ images: Range<Int>, _ rows: Range<Int>, _ pixels: Range<Int>) -> TransposedPass {
      TransposedPass(
        images: images, rows: rows, pixels: pixels,
        tiling: GemmTiling(
          batch: weights.groups, m: images.count &* pixels.count, n: weights.columns, k: weights.channelsPerGroup,
          tileRows: GemmKernels.current.tileRows, panelColumns: GemmKernels.current.panelColumns),
        lines: Partition(images.count &* rows.count &* rowOutputs, of: .medium * 2 * shape.outputChannels))
    }
    if pixels <= largest {
      let step = largest / pixels
      return stride(from: 0, to: shape.batch, by: step).map {
        pass($0..<min($0 &+ step, shape.batch), 0..<height, 0..<pixels)
      }
    }
    var bands: [(rows: Range<Int>, pixels: Range<Int>)] = []
    var first = 0
    while first < height {
      var end = first + 1
      var needed = axis.positions(of: first)
      while end < height {
        let next = axis.positions(of: end)
        let both = min(needed.lowerBound, next.lowerBound)..<max(needed.upperBound, next.upperBound)
        let longer = needed.isEmpty ? next : next.isEmpty ? needed : both
        if longer.count &* rowPixels > largest { break }
        (needed, end) = (longer, end + 1)
      }
      bands.append((first..<end, needed.lowerBound &* rowPixels..<needed.upperBound &* rowPixels))
      first = end
    }
    return (0..<shape.batch).flatMap { image in bands.map { pass(image..<image + 1, $0.rows, $0.pixels) } }
  }

  var step: Step {
    let phases = stages.map { stage in
      switch stage {
      case .toChannelsLast: input.parts
      case .multiply(let pass): pass.tiling.parts
      case .gather(let pass): pass.lines.parts
      case .toPlanar: output.parts
      }
    }
    var step = Step(phases: phases, scratchBytes: scratchBytes) { run, phase, part in
      let result = changesOutput ? run.scratch + outputOffset : run.outputBytes(0)
      switch stages[phase] {
      case .toChannelsLast: input.toChannelsLast(part, run.inputBytes(0), run.scratch)
      case .multiply(let pass):
        multiply(
          pass, part, changesInput ? UnsafeRawPointer(run.scratch) : run.inputBytes(0), run.scratch + columnsOffset)
      case .gather(let pass): gather(pass, part, run, result.assumingMemoryBound(to: Float.self))
      case .toPlanar: output.toPlanar(part, result, run.outputBytes(0))
      }
    }
    step.unreadInputs = [1]
    let pixels = shape.batch &* shape.geometry.outputCount
    let operations = 2 &* pixels &* weights.columns &* weights.channelsPerGroup &* weights.groups
    return step.named("gemm \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: operations))
  }

  /// Columns of one group: [pixels][taps][outputs of the group].
  private func multiply(
    _ pass: TransposedPass, _ part: Int, _ x: UnsafeRawPointer, _ columns: UnsafeMutableRawPointer
  ) {
    let tile = pass.tiling.tile(part)
    let first = pass.images.lowerBound &* shape.geometry.outputCount &+ pass.pixels.lowerBound
    let source = x.assumingMemoryBound(to: Float.self) + first &* pixels.input
    for group in tile.batches {
      var arguments = apus_gemm_f32_args(
        a: source + group &* weights.channelsPerGroup, lda: pixels.input, offsets: nil, zeros: nil, taps: 1,
        kc: weights.channelsPerGroup, n: weights.columns,
        b: UnsafePointer(weights.storage.base.assumingMemoryBound(to: Float.self)) + group &* weights.groupCount,
        c: columns.assumingMemoryBound(to: Float.self) + group &* pass.tiling.m &* weights.columns,
        ldc: weights.columns, epilogue: apus_epilogue_f32())
      GemmKernels.current.multiply(
        &arguments, tile.rows.lowerBound, tile.rows.upperBound, tile.panels.lowerBound, tile.panels.upperBound)
    }
  }

  private func gather(_ pass: TransposedPass, _ part: Int, _ run: RunContext, _ y: UnsafeMutablePointer<Float>) {
    let columns = UnsafePointer((run.scratch + columnsOffset).assumingMemoryBound(to: Float.self))
    let area = shape.geometry.inputCount
    let rowOutputs = area / shape.geometry.input[0]
    let outputs = weights.outputsPerGroup
    for unit in pass.lines.range(part) {
      let (image, line) = unit.quotientAndRemainder(dividingBy: pass.rows.count &* rowOutputs)
      let position = pass.rows.lowerBound &* rowOutputs &+ line
      let target = y + ((pass.images.lowerBound &+ image) &* area &+ position) &* pixels.output
      if hasBias {
        target.update(from: run.input(2), count: shape.outputChannels)
      } else {
        target.update(repeating: 0, count: shape.outputChannels)
      }
      for combination in 0..<combinations(position) {
        let (tap, pixel) = place(position, combination)
        let row = image &* pass.pixels.count &+ pixel &- pass.pixels.lowerBound
        let source = columns + (row &* weights.columns &+ tap &* outputs)
        for group in 0..<weights.groups {
          apus_kernels().pointee.accumulate_f32(
            outputs, source + group &* pass.tiling.m &* weights.columns, target + group &* outputs)
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
