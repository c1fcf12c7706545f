// RoiAlign of float32 averages with all channels of an element at a time. The weights of the samples of a bin are
// products of those of its rows and of its columns, so a bin is a sum over the elements under it.

import ApusGraph
import ApusTensor
import CApusKernels

/// A RoiAlign that is being planned.
struct RegionFacts<Element: SampledElement>: KernelFacts {
  typealias Candidate = KernelCandidate<RegionFacts, Step>

  let elementType: DataType?
  let align: RegionAlign<Element>
  let regions: Int
}

struct RegionChannels: Sendable {
  private let align: RegionAlign<Float>
  private let regions: Int
  private let change: LayoutChange
  private let partition: Partition
  /// Scratch memory of a part in floats: the bins, the weights of an axis, and those of columns; then as many offsets
  /// as a bin may have, with their weights.
  private let partBytes: Int

  /// Elements of a plane, all of which a bin may draw on.
  private static let largestPlane = 1 << 16
  /// Fewer channels fill no vectors.
  private static let fewestChannels = 8

  /// Why it does not apply; nil: it does.
  static func refusal<Element>(_ facts: RegionFacts<Element>) -> String? {
    let align = facts.align
    if align.takesMaximum { return "a maximum is over single products" }
    if align.channels < fewestChannels { return "fewer than \(fewestChannels) channels" }
    if align.width > 0, align.height > largestPlane / align.width { return "planes are too large" }
    if align.binRows > largestPlane / max(align.binColumns, 1) { return "there are too many bins" }
    return nil
  }

  init(_ align: RegionAlign<Float>, regions: Int) {
    (self.align, self.regions) = (align, regions)
    let area = align.height * align.width
    let bins = align.binRows * align.binColumns
    change = LayoutChange(images: align.batch, channels: align.channels, pixels: area)
    // Bilinear samples, four of them for a bin at least.
    partition = Partition(regions, of: Cost(operations: 32) * align.channels * bins)
    let floats = bins * align.channels + max(align.height, align.width)
    let columns = align.binColumns * align.width * 8 + align.binColumns * 8 + align.height * 8
    partBytes = aligned(floats * 4) + aligned(columns) + aligned(max(area, 1) * 12)
  }

  var step: Step {
    let scratch = change.isNothing ? 0 : aligned(change.byteCount)
    let phases = (change.isNothing ? [] : [change.parts]) + [partition.parts]
    return Step(phases: phases, scratchBytes: scratch + partition.parts * partBytes) { run, phase, part in
      if !change.isNothing, phase == 0 { return change.toChannelsLast(part, run.inputBytes(0), run.scratch) }
      let x = change.isNothing ? run.inputBytes(0) : UnsafeRawPointer(run.scratch)
      let space = Space(run.scratch + scratch + part &* partBytes, align)
      for region in partition.range(part) {
        self.run(run, region, x.assumingMemoryBound(to: Float.self), space)
      }
    }.named("channels \(String(cString: apus_kernels().pointee.name))")
  }

  /// The scratch memory of a part.
  private struct Space {
    let bins: UnsafeMutablePointer<Float>
    /// Zeros, as many as the longer axis has elements.
    let line: UnsafeMutablePointer<Float>
    /// For each column of bins, how many elements it draws on.
    let columnCounts: UnsafeMutablePointer<Int>
    let columns: UnsafeMutablePointer<Int32>
    let columnWeights: UnsafeMutablePointer<Float>
    let rows: UnsafeMutablePointer<Int32>
    let rowWeights: UnsafeMutablePointer<Float>
    let offsets: UnsafeMutablePointer<Int>
    let weights: UnsafeMutablePointer<Float>

    init(_ base: UnsafeMutableRawPointer, _ align: RegionAlign<Float>) {
      let (height, width, columnBins) = (align.height, align.width, align.binColumns)
      let binFloats = align.binRows * columnBins * align.channels
      bins = base.assumingMemoryBound(to: Float.self)
      line = bins + binFloats
      line.update(repeating: 0, count: max(height, width))
      let lists = base + aligned((binFloats + max(height, width)) * 4)
      columnCounts = lists.assumingMemoryBound(to: Int.self)
      columns = (lists + columnBins * 8).assumingMemoryBound(to: Int32.self)
      columnWeights = UnsafeMutableRawPointer(columns + columnBins * width).assumingMemoryBound(to: Float.self)
      rows = UnsafeMutableRawPointer(columnWeights + columnBins * width).assumingMemoryBound(to: Int32.self)
      rowWeights = UnsafeMutableRawPointer(rows + height).assumingMemoryBound(to: Float.self)
      let table = lists + aligned(columnBins * width * 8 + columnBins * 8 + height * 8)
      offsets = table.assumingMemoryBound(to: Int.self)
      weights = UnsafeMutableRawPointer(offsets + max(height * width, 1)).assumingMemoryBound(to: Float.self)
    }
  }

  private func run(_ run: RunContext, _ region: Int, _ x: UnsafePointer<Float>, _ space: Space) {
    guard let image = align.image(run, region) else { return }
    let (rows, columns) = align.axes(run.input(1) + region &* 4)
    let (channels, width) = (align.channels, align.width)
    for bin in 0..<align.binColumns {
      space.columnCounts[bin] = elements(
        columns, bin, space.line, space.columns + bin &* width, space.columnWeights + bin &* width)
    }
    let source = x + image &* align.height &* width &* channels
    for row in 0..<align.binRows {
      let rowCount = elements(rows, row, space.line, space.rows, space.rowWeights)
      for column in 0..<align.binColumns {
        let (places, factors) = (space.columns + column &* width, space.columnWeights + column &* width)
        var taps = 0
        for i in 0..<rowCount {
          let start = Int(space.rows[i]) &* width
          for j in 0..<space.columnCounts[column] {
            space.offsets[taps] = (start &+ Int(places[j])) &* channels
            space.weights[taps] = space.rowWeights[i] * factors[j]
            taps &+= 1
          }
        }
        var arguments = apus_plane_sums_args(
          x: source, offsets: space.offsets, taps: taps, weights: space.weights, weights_ld: 1, outputs: 1, bias: nil,
          y: space.bins + (row &* align.binColumns &+ column) &* channels, y_ld: 0)
        apus_kernels().pointee.plane_sums_f32(&arguments, channels)
      }
    }
    let bins = align.binRows &* align.binColumns
    var total = Float.maximum(rows.count * columns.count, 1)
    apus_kernels().pointee.div_f32_vs(bins &* channels, space.bins, &total, space.bins)
    apus_kernels().pointee.transpose_4(
      bins, channels, space.bins, channels, run.output(0, as: Float.self) + region &* channels &* bins, bins)
  }

  /// The elements of an axis that the samples of a bin draw on, and the sums of their weights; returns how many.
  private func elements(
    _ axis: RegionAlign<Float>.Axis, _ bin: Int, _ line: UnsafeMutablePointer<Float>,
    _ places: UnsafeMutablePointer<Int32>, _ weights: UnsafeMutablePointer<Float>
  ) -> Int {
    var (first, last) = (Int.max, -1)
    for index in axis.samples(bin: bin) {
      guard let place = axis.place(axis.coordinate(index, bin: bin)) else { continue }
      line[place.low] += 1 - place.weight
      line[place.high] += place.weight
      (first, last) = (min(first, place.low), max(last, place.high))
    }
    var count = 0
    for element in first..<max(first, last &+ 1) where line[element] != 0 {
      (places[count], weights[count]) = (Int32(truncatingIfNeeded: element), line[element])
      line[element] = 0
      count &+= 1
    }
    return count
  }
}
