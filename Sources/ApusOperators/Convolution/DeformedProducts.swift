// The float32 deformed convolution as products of the weights with sampled windows, which are the columns of a matrix.

import ApusGraph
import ApusTensor
import CApusKernels

/// Inputs X, W in the specification's layout, offsets, and where present B and a mask.
///
/// Scratch memory of a part: a panel of columns, then the places and weights of what one tap of them is made of.
struct DeformedProducts: Sendable {
  private let facts: DeformedFacts
  private let sampler: LinearSampler<Float>
  private let kernels = GemmKernels.current
  /// Elements of the image that a sample is made of.
  private let corners: Int
  private let panels: Int
  private let partition: Partition
  private let panelBytes: Int
  private let listBytes: Int

  private var convolution: Convolution { facts.convolution }
  private var columns: Int { kernels.panelColumns }
  /// Rows of a panel: all channels, with the taps of each.
  private var depth: Int { convolution.channels &* convolution.geometry.tapCount }

  /// Why there is no such form; nil: there is.
  static func refusal(_ facts: DeformedFacts) -> String? {
    let convolution = facts.convolution
    guard convolution.outputCount > 0, convolution.channels > 0, convolution.geometry.inputCount > 0 else {
      return "no elements"
    }
    guard convolution.geometry.inputCount <= Int(Int32.max) else { return "places in the image beyond 32 bits" }
    let window = convolution.channels.multipliedReportingOverflow(by: convolution.geometry.tapCount)
    return window.overflow || window.partialValue > ColumnConvolution.largestWindow
      ? "windows of more than \(ColumnConvolution.largestWindow) elements" : nil
  }

  /// For facts that are not refused.
  init(_ facts: DeformedFacts) {
    self.facts = facts
    let geometry = facts.convolution.geometry
    sampler = LinearSampler(extents: Array(geometry.input))
    corners = 1 << geometry.rank
    panels = kernels.panelCount(geometry.outputCount)
    let depth = facts.convolution.channels * geometry.tapCount
    panelBytes = aligned((depth * kernels.panelColumns + Int(APUS_PLANE_SLACK)) * 4)
    // Places, weights, and where each window begins.
    listBytes =
      aligned(kernels.panelColumns * (corners * 8 + geometry.rank * 8)) + aligned(sampler.scratchBytes)
    let work = Cost(operations: facts.convolution.operations) + .light * depth * corners * geometry.outputCount
    partition = PhasePlanes.partition(
      facts.convolution.batch * panels,
      of: Cost(operations: work.operations / max(facts.convolution.batch * panels, 1)),
      floats: (panelBytes + listBytes) / 4)
  }

  var step: Step {
    let partBytes = panelBytes &+ listBytes
    return .parallel(parts: partition.parts, scratchBytes: partition.parts &* partBytes) { run, part in
      let scratch = run.scratch + part &* partBytes
      for unit in partition.range(part) {
        let (image, panel) = unit.quotientAndRemainder(dividingBy: panels)
        self.run(run, image: image, first: panel &* columns, scratch)
      }
    }.named("products \(String(cString: apus_kernels().pointee.name))", cost: Cost(operations: convolution.operations))
  }

  /// The columns from `first` on.
  private func run(_ run: RunContext, image: Int, first: Int, _ scratch: UnsafeMutableRawPointer) {
    let (pixels, taps) = (convolution.geometry.outputCount, convolution.geometry.tapCount)
    let count = min(columns, pixels &- first)
    let panel = scratch.assumingMemoryBound(to: Float.self)
    let list = CornerList(
      scratch + panelBytes, columns: columns, corners: corners, rank: convolution.geometry.rank)
    beginnings(list, first: first, count: count)
    let channels = convolution.channels / facts.offsetGroups
    for group in 0..<facts.offsetGroups {
      let block = image &* facts.offsetGroups &+ group
      let x = run.input(0, as: Float.self) + block &* channels &* convolution.geometry.inputCount
      for tap in 0..<taps {
        let row = (block &* taps &+ tap) &* pixels &+ first
        let offsets = run.input(2, as: Float.self) + (block &* taps &+ tap) &* convolution.geometry.rank &* pixels
        place(list, tap: tap, offsets + first, count: count)
        let target = panel + (group &* channels &* taps &+ tap) &* columns
        var arguments = apus_resample_args(
          x: x, x_ld: convolution.geometry.inputCount, rows: channels, positions: list.positions,
          weights: list.weights, taps: corners, n: columns, y: target, y_ld: taps &* columns)
        apus_kernels().pointee.resample_f32(&arguments)
        guard let mask = facts.mask else { continue }
        for channel in 0..<channels {
          let samples = target + channel &* taps &* columns
          apus_kernels().pointee.mul_f32_vv(count, samples, run.input(mask, as: Float.self) + row, samples)
        }
      }
    }
    multiply(run, panel, image: image, first: first)
  }

  /// The products of all groups with a panel.
  private func multiply(_ run: RunContext, _ panel: UnsafeMutablePointer<Float>, image: Int, first: Int) {
    let (outputs, pixels) = (convolution.outputChannelsPerGroup, convolution.geometry.outputCount)
    let depth = convolution.channelsPerGroup &* convolution.geometry.tapCount
    for group in 0..<convolution.groups {
      let output = group &* outputs
      var arguments = apus_gemm_f32_args(
        a: run.input(1, as: Float.self) + output &* depth, lda: depth, offsets: nil, zeros: nil, taps: 1, kc: depth,
        n: pixels &- first, b: UnsafePointer(panel) + group &* depth &* columns,
        c: run.output(0, as: Float.self) + ((image &* convolution.outputChannels &+ output) &* pixels &+ first),
        ldc: pixels, epilogue: apus_epilogue_f32(),
        row_bias: facts.bias.map { run.input($0, as: Float.self) + output })
      kernels.multiply(&arguments, 0, outputs, 0, 1)
    }
  }

  /// Where the windows of the columns begin, along every axis.
  private func beginnings(_ list: CornerList, first: Int, count: Int) {
    let geometry = convolution.geometry
    for slot in 0..<count {
      var rest = first &+ slot
      for axis in stride(from: geometry.rank - 1, through: 0, by: -1) {
        list.beginnings[axis &* columns &+ slot] =
          rest % geometry.output[axis] &* geometry.strides[axis] &- geometry.padBegin[axis]
        rest /= geometry.output[axis]
      }
    }
  }

  /// Fills in what one tap of the columns is made of. `offsets`: of this tap, those along an axis after the other.
  private func place(_ list: CornerList, tap: Int, _ offsets: UnsafePointer<Float>, count: Int) {
    if convolution.geometry.rank == 2 {
      placeInPlane(list, tap: tap, offsets, count: count)
    } else {
      placeAnywhere(list, tap: tap, offsets, count: count)
    }
  }

  /// The same for two axes: corners by column, then row, as the sampler has them.
  private func placeInPlane(_ list: CornerList, tap: Int, _ offsets: UnsafePointer<Float>, count: Int) {
    let geometry = convolution.geometry
    let (height, width, pixels) = (geometry.input[0], geometry.input[1], geometry.outputCount)
    let (row, column) = tap.quotientAndRemainder(dividingBy: geometry.kernel[1])
    let (down, right) = (row &* geometry.dilations[0], column &* geometry.dilations[1])
    let (bottom, end) = (Float(height), Float(width))
    for slot in 0..<columns {
      let (positions, weights) = (list.positions + slot, list.weights + slot)
      for corner in 0..<4 {
        positions[corner &* columns] = -1
        weights[corner &* columns] = 0
      }
      if slot >= count { continue }
      let y = Float(list.beginnings[slot] &+ down) + offsets[slot]
      let x = Float(list.beginnings[columns &+ slot] &+ right) + offsets[pixels &+ slot]
      guard y > -1, y < bottom, x > -1, x < end else { continue }
      let (top, left) = (y.rounded(.down), x.rounded(.down))
      let (fractionY, fractionX) = (y - top, x - left)
      let (firstRow, firstColumn) = (Int(top), Int(left))
      for corner in 0..<4 {
        let (i, j) = (corner & 1, corner >> 1)
        let (atRow, atColumn) = (firstRow &+ i, firstColumn &+ j)
        let factorY = i == 0 ? 1 - fractionY : fractionY
        let factorX = j == 0 ? 1 - fractionX : fractionX
        // What weighs nothing is not looked at.
        guard atRow >= 0, atRow < height, atColumn >= 0, atColumn < width, i == 0 || fractionY > 0,
          j == 0 || fractionX > 0
        else { continue }
        positions[corner &* columns] = Int32(truncatingIfNeeded: atRow &* width &+ atColumn)
        weights[corner &* columns] = factorY * factorX
      }
    }
  }

  /// The same for any number of axes.
  private func placeAnywhere(_ list: CornerList, tap: Int, _ offsets: UnsafePointer<Float>, count: Int) {
    let geometry = convolution.geometry
    let (rank, pixels) = (geometry.rank, geometry.outputCount)
    let sample = sampler.corners(in: list.sample)
    for slot in 0..<columns {
      var rest = tap
      for axis in stride(from: rank - 1, through: 0, by: -1) {
        let reach = rest % geometry.kernel[axis] &* geometry.dilations[axis]
        rest /= geometry.kernel[axis]
        if slot < count {
          sample.coordinates[axis] =
            Float(list.beginnings[axis &* columns &+ slot] &+ reach) + offsets[axis &* pixels &+ slot]
        }
      }
      let found = slot < count ? sampler.place(sample) : 0
      for corner in 0..<corners {
        let isPresent = corner < found
        list.positions[corner &* columns &+ slot] = isPresent ? Int32(truncatingIfNeeded: sample.offsets[corner]) : -1
        list.weights[corner &* columns &+ slot] = isPresent ? sample.weights[corner] : 0
      }
    }
  }
}

/// Memory for what the samples of a panel are made of: by corner and column.
private struct CornerList {
  let beginnings: UnsafeMutablePointer<Int>
  let positions: UnsafeMutablePointer<Int32>
  let weights: UnsafeMutablePointer<Float>
  /// Of one sample.
  let sample: UnsafeMutableRawPointer

  init(_ memory: UnsafeMutableRawPointer, columns: Int, corners: Int, rank: Int) {
    beginnings = memory.assumingMemoryBound(to: Int.self)
    let behind = memory + columns &* rank &* 8
    positions = behind.assumingMemoryBound(to: Int32.self)
    weights = (behind + columns &* corners &* 4).assumingMemoryBound(to: Float.self)
    sample = memory + aligned(columns &* (corners &* 8 &+ rank &* 8))
  }
}
