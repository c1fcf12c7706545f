// The float32 transposed convolution as matrix products: a row is an element of a phase, its columns are the outputs of
// all phases of the last axis. So rows one after the other are a line of the output.

import ApusGraph
import ApusTensor
import CApusKernels

/// X is channels-last. Y is, too, or planar.
struct TransposedProducts: Sendable {
  /// Rows of one product: some elements of some lines of a phase.
  private struct Job: Sendable {
    let phase: Int
    /// Lines of the phase, counted along its first two axes.
    let lines: Range<Int>
    /// Elements along the last axis.
    let elements: Range<Int>
    /// Outputs of a group, in whole panels where they are not all.
    let outputs: Range<Int>

    var rows: Int { lines.count &* elements.count }
  }

  private let shape: TransposedConvolution
  private let weights: TransposedPhases
  private let isPlanar: Bool
  private let strides: (Int, Int)
  private let lastStride: Int
  private let pixels: (input: Int, output: Int)
  private let extents: [TransposedExtent]
  /// Extents of the input along three axes, and of the output.
  private let input: [Int]
  private let output: [Int]
  /// Of one image.
  private let jobs: [Job]
  private let partition: Partition
  /// Bytes of the scratch memory of a part: the table of taps, the lines, the bias of all columns, and zeros.
  private let tableBytes: Int
  private let lineBytes: Int
  private let biasBytes: Int
  private let partBytes: Int

  /// Register tiles of rows, and floats of lines, that are worth a product.
  private static let tilesOfJob = 8
  /// Fewer rows read the weights too often where a job can have fewer outputs instead.
  private static let fewestTiles = 4
  private static let floatsOfJob = 1 << 17
  private static let mostJobs = 1 << 16

  /// `isPlanar`: Y is. `pixels`: the elements from one pixel to the next of operands with channels last. nil where the
  /// kernels do not have it.
  init?(
    _ shape: TransposedConvolution, _ weights: TransposedPhases, isPlanar: Bool, pixels: (input: Int, output: Int)
  ) {
    let geometry = shape.geometry
    guard shape.batch > 0, geometry.outputCount > 0, let extents = TransposedExtent.all(geometry),
      geometry.outputCount < Int(Int32.max) / max(pixels.input, 1)
    else { return nil }
    (self.shape, self.weights, self.isPlanar, self.pixels, self.extents) = (shape, weights, isPlanar, pixels, extents)
    let ones = [Int](repeating: 1, count: 3 - geometry.rank)
    (input, output) = (ones + Array(geometry.output), ones + Array(geometry.input))
    let tile = GemmKernels.current.tileRows
    let all = Cost(operations: shape.operations)
    let wanted = max(1, min(all.worthwhileParts, Partition.maximumParts) / shape.batch)
    guard
      let jobs = TransposedProducts.jobs(
        weights, extents, rows: max(tile, min(tile * Self.tilesOfJob, Self.floatsOfJob / weights.columns)),
        wanted: wanted)
    else { return nil }
    self.jobs = jobs
    let rows = jobs.map(\.rows).max() ?? 0
    let taps = weights.phases.map { $0.taps.count * weights.last.lags.count }.max() ?? 0
    (strides, lastStride) = ((weights.axes[0].stride, weights.axes[1].stride), weights.last.stride)
    tableBytes = aligned(rows * taps * 4)
    lineBytes = aligned(rows * weights.columns * 4)
    biasBytes = aligned(weights.columns * 4)
    partBytes = tableBytes + lineBytes + biasBytes + aligned(weights.channels * 4)
    partition = PhasePlanes.partition(
      shape.batch * jobs.count, of: Cost(operations: all.operations / max(jobs.count * shape.batch, 1)),
      floats: partBytes / 4)
  }

  /// Products of about `rows` rows, `wanted` of them if that is possible.
  private static func jobs(
    _ weights: TransposedPhases, _ extents: [TransposedExtent], rows: Int, wanted: Int
  ) -> [Job]? {
    let elements = extents[2].elements
    let lines = weights.phases.map { phase in
      extents[0].outputs(phase.remainders[0]).count * extents[1].outputs(phase.remainders[1]).count
    }
    let total = lines.reduce(0, +)
    let panels =
      weights.outputs % GemmKernels.current.panelColumns == 0
      ? weights.outputs / GemmKernels.current.panelColumns : 1
    let fewest = panels > 1 ? min(rows, GemmKernels.current.tileRows * fewestTiles) : 1
    let most = max(fewest, min(rows, (total * elements.count + wanted - 1) / wanted))
    let blocks = (elements.count + most - 1) / most
    let width = (elements.count + blocks - 1) / blocks
    let height = max(1, most / width)
    let products = lines.reduce(0, { $0 + ($1 + height - 1) / height }) * blocks
    let slices = outputSlices(weights.outputs, panels: panels, count: (wanted + products - 1) / max(products, 1))
    guard lines.reduce(0, { $0 + ($1 + height - 1) / height }) <= mostJobs / blocks / slices.count else { return nil }
    var jobs: [Job] = []
    for (phase, count) in lines.enumerated() {
      // Of nearly equal height.
      let blocksOfLines = (count + height - 1) / height
      let height = count == 0 ? 1 : (count + blocksOfLines - 1) / blocksOfLines
      for line in stride(from: 0, to: count, by: height) {
        for first in stride(from: elements.lowerBound, through: elements.upperBound, by: width) {
          for outputs in slices {
            jobs.append(
              Job(
                phase: phase, lines: line..<min(line + height, count),
                elements: first..<min(first + width, elements.upperBound + 1), outputs: outputs))
          }
        }
      }
    }
    return jobs
  }

  /// The outputs of a group in about `count` slices of whole panels.
  private static func outputSlices(_ outputs: Int, panels: Int, count: Int) -> [Range<Int>] {
    let perSlice = (panels + max(min(count, panels), 1) - 1) / max(min(count, panels), 1)
    let width = outputs / panels * perSlice
    return stride(from: 0, to: outputs, by: max(width, 1)).map { $0..<min($0 + width, outputs) }
  }

  /// Inputs X, packed weights and, with `hasBias`, B.
  func step(hasBias: Bool) -> Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts &* partBytes) { run, part in
      let scratch = run.scratch + part &* partBytes
      (scratch + (tableBytes &+ lineBytes &+ biasBytes)).initializeMemory(
        as: Float.self, repeating: 0, count: weights.channels)
      for unit in partition.range(part) {
        let (image, job) = unit.quotientAndRemainder(dividingBy: jobs.count)
        self.run(jobs[job], image, run.input(0), run.input(1), hasBias ? run.input(2) : nil, run.output(0), scratch)
      }
    }.named("gemm \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: shape.operations))
  }

  private func run(
    _ job: Job, _ image: Int, _ x: UnsafePointer<Float>, _ w: UnsafePointer<Float>, _ bias: UnsafePointer<Float>?,
    _ y: UnsafeMutablePointer<Float>, _ scratch: UnsafeMutableRawPointer
  ) {
    let lines = (scratch + tableBytes).assumingMemoryBound(to: Float.self)
    let columnBias = (scratch + tableBytes + lineBytes).assumingMemoryBound(to: Float.self)
    let phase = weights.phases[job.phase]
    let (columns, outputs) = (weights.columns, weights.outputs)
    for group in 0..<weights.groups {
      if let bias {
        for column in 0..<columns { columnBias[column] = bias[group &* outputs &+ column % outputs] }
      }
      let pixel = x + (image &* shape.geometry.outputCount &* pixels.input &+ group &* weights.channels)
      for block in phase.blocks {
        multiply(
          job, phase, block, pixel, w + (block.start &+ group &* block.groupCount),
          bias: bias == nil ? nil : UnsafePointer(columnBias), to: lines, scratch)
      }
      var source = lines
      for line in job.lines {
        store(job, place(phase, line), group, source, y, image)
        source += job.elements.count &* columns
      }
    }
  }

  /// The columns of a strip of the last axis, for all rows of a job. `x`: the first pixel of the image; `bias`: of the
  /// columns of all strips; `lines`: the first column of all.
  private func multiply(
    _ job: Job, _ phase: TransposedPhases.Phase, _ block: TransposedPhases.Block, _ x: UnsafePointer<Float>,
    _ w: UnsafePointer<Float>, bias: UnsafePointer<Float>?, to lines: UnsafeMutablePointer<Float>,
    _ scratch: UnsafeMutableRawPointer
  ) {
    let table = scratch.assumingMemoryBound(to: Int32.self)
    let zeros = (scratch + tableBytes + lineBytes + biasBytes).assumingMemoryBound(to: Float.self)
    let (strip, outputs, kernels) = (block.strip, weights.outputs, GemmKernels.current)
    let columns = strip.remainders.count &* outputs
    let first = strip.remainders.lowerBound &* outputs
    fill(table, phase, job, strip.lags)
    var arguments = apus_gemm_f32_args(
      a: x, lda: pixels.input, offsets: table, zeros: zeros, taps: phase.taps.count &* strip.lags.count,
      kc: weights.channels, n: columns, b: w, c: lines + first, ldc: weights.columns,
      epilogue: GemmEpilogue().arguments(bias: bias.map { $0 + first }, add: nil, rowLength: weights.columns))
    if job.outputs.count == outputs {
      kernels.multiply(&arguments, 0, job.rows, 0, kernels.panelCount(columns))
      return
    }
    for remainder in 0..<strip.remainders.count {
      let first = remainder &* outputs
      kernels.multiply(
        &arguments, 0, job.rows, (first &+ job.outputs.lowerBound) / kernels.panelColumns,
        (first &+ job.outputs.upperBound) / kernels.panelColumns)
    }
  }

  /// The outputs along the first two axes that a line of a phase is.
  private func place(_ phase: TransposedPhases.Phase, _ line: Int) -> (Int, Int) {
    let (a, b) = (extents[0].outputs(phase.remainders[0]), extents[1].outputs(phase.remainders[1]))
    let (first, second) = line.quotientAndRemainder(dividingBy: b.count)
    return (a.first &+ first &* strides.0, b.first &+ second &* strides.1)
  }

  /// Where the taps of each row with some lags of the last axis lie in the image.
  private func fill(
    _ table: UnsafeMutablePointer<Int32>, _ phase: TransposedPhases.Phase, _ job: Job, _ lags: [Int]
  ) {
    var next = table
    let width = input[2]
    for line in job.lines {
      let (first, second) = place(phase, line)
      let (a, b) = (extents[0].element(first), extents[1].element(second))
      for element in job.elements {
        for tap in phase.taps {
          let (i, j) = (a &- tap.lags.0, b &- tap.lags.1)
          let isInside = i >= 0 && i < input[0] && j >= 0 && j < input[1]
          let row = (i &* input[1] &+ j) &* width
          for lag in lags {
            let k = element &- lag
            next.pointee =
              isInside && k >= 0 && k < width
              ? Int32(truncatingIfNeeded: (row &+ k) &* pixels.input) : Int32.min
            next += 1
          }
        }
      }
    }
  }

  /// Puts the elements of one line into the output at a place along the first two axes.
  private func store(
    _ job: Job, _ place: (Int, Int), _ group: Int, _ values: UnsafeMutablePointer<Float>,
    _ y: UnsafeMutablePointer<Float>, _ image: Int
  ) {
    let (first, second) = place
    let outputs = weights.outputs
    // Outputs along the last axis that the elements are, those before the first and behind the last one left out.
    let start = job.elements.lowerBound &* lastStride &+ extents[2].origin
    let end = job.elements.upperBound &* lastStride &+ extents[2].origin
    let (low, high) = (max(start, 0), min(end, output[2]))
    if low >= high { return }
    let (slice, width) = (job.outputs.lowerBound, job.outputs.count)
    let source = values + ((low &- start) &* outputs &+ slice)
    let pixel = (first &* output[1] &+ second) &* output[2] &+ low
    let area = shape.geometry.inputCount
    if isPlanar {
      apus_kernels().pointee.transpose_4(
        high &- low, width, source, outputs,
        y + ((image &* shape.outputChannels &+ group &* outputs &+ slice) &* area &+ pixel), area)
      return
    }
    let target = y + ((image &* area &+ pixel) &* pixels.output &+ group &* outputs &+ slice)
    if pixels.output == width {
      target.update(from: source, count: (high &- low) &* outputs)
    } else {
      for index in 0..<high &- low {
        (target + index &* pixels.output).update(from: source + index &* outputs, count: width)
      }
    }
  }
}
