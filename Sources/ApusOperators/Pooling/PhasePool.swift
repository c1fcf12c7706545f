// Maximum and average pools of planar float32 images on the kernels for planes. Small planes are pooled several at a
// time: the planes are one more axis then.

import ApusGraph
import ApusTensor
import CApusKernels

/// The plan of a pool without indices, in the layout [batch, channels, spatial axes].
struct PhasePool: Sendable {
  private let planes: PhasePlanes
  private let isMaximum: Bool
  /// True if the first axis of `planes` is that of the planes.
  private let joinsPlanes: Bool
  private let planeCount: Int
  private let areas: (input: Int, output: Int)
  /// Where the taps of a window lie. Of a window in two passes, those of all axes but the last, and those of the last
  /// axis in what the first pass makes.
  private let taps: [Int]
  private let lastTaps: [Int]
  /// The first pass: elements, for each of the phases of the last axis, and where that phase starts.
  private let passStride: Int
  private let passReach: Int
  private let passPhases: [Int]
  /// Ones, as many as the longer pass has taps.
  private let ones: [Float]
  /// Of averages: the elements of each window, for as many outputs as a band has.
  private let divisors: [Float]
  private let partition: Partition
  private let partFloats: Int

  /// Bytes of a plane that is pooled together with others.
  private static let smallPlane = 1 << 14
  /// The largest windows whose elements are added in their order, as the plain form does. Averages of a few quantized
  /// numbers lie in the middle of two others now and then, and every other order would round some to the other one.
  private static let smallWindow = 64
  /// Outputs of a plane whose windows are counted beforehand.
  private static let longestCounted = 1 << 22

  /// nil where the kernels do not have it.
  init?(_ pool: PoolFacts, _ function: RowPoolFunction) {
    let geometry = pool.geometry
    let rank = geometry.rank
    areas = (geometry.inputCount, geometry.outputCount)
    planeCount = pool.planes
    guard pool.planes > 0, rank <= 3, areas.output <= Self.longestCounted, geometry.tapCount <= Self.longestCounted
    else { return nil }
    isMaximum = if case .maximum = function { true } else { false }
    joinsPlanes = rank <= 2 && areas.input * 4 <= Self.smallPlane && areas.output * 4 <= Self.smallPlane
    var axes = PhasePlanes.axes(geometry)
    if joinsPlanes {
      axes.insert(
        PhasePlanes.Axis(input: pool.planes, output: pool.planes, start: 0, stride: 1, reach: 0), at: 0)
    }
    guard let planes = PhasePlanes(axes, planes: 1, fill: isMaximum ? -.infinity : 0) else { return nil }
    self.planes = planes
    let (all, width) = (planes.taps(geometry, in: axes.count), geometry.kernel[rank - 1])
    let outer = geometry.tapCount / width
    let isSeparable =
      outer > 1 && width > 1 && (isMaximum ? outer * width > outer + width + 2 : outer * width > Self.smallWindow)
    let (stride, dilation) = (geometry.strides[rank - 1], geometry.dilations[rank - 1])
    let count = planes.flatCount(planes.bandLength)
    if isSeparable {
      let distances = (0..<width).map { $0 * dilation }
      passReach = (distances.last ?? 0) / stride
      passStride = (count + passReach + Int(APUS_PLANE_SLACK) + 15) & ~15
      // Only phases that a tap falls on.
      let phases = Set(distances.map { $0 % stride }).sorted()
      passPhases = phases.map { planes.phaseOffset(last: $0) }
      taps = Swift.stride(from: 0, to: all.count, by: width).map { all[$0] }
      lastTaps = distances.map { [passStride] distance in
        (phases.firstIndex(of: distance % stride) ?? 0) * passStride + distance / stride
      }
    } else {
      (taps, lastTaps, passPhases, passStride, passReach) = (all, [], [], 0, 0)
    }
    ones = isMaximum ? [] : [Float](repeating: 1, count: max(taps.count, lastTaps.count))
    if case .average(let countsPads) = function {
      let plane = PhasePool.counts(geometry, countsPads: countsPads)
      divisors = joinsPlanes ? (0..<planes.bandLength).flatMap { _ in plane } : plane
    } else {
      divisors = []
    }
    partFloats = planes.planeStride + planes.flatStride + passPhases.count * passStride
    let visits = taps.count * max(passPhases.count, 1) + lastTaps.count
    partition = PhasePlanes.partition(
      planes.bands * (joinsPlanes ? 1 : pool.planes),
      of: .light * planes.planeStride + Cost(operations: 2) * visits * planes.flatStride, floats: partFloats)
  }

  /// The elements of the window of each output of a plane.
  private static func counts(_ geometry: WindowGeometry, countsPads: Bool) -> [Float] {
    var counts: [Int] = [1]
    for axis in 0..<geometry.rank {
      let along = (0..<geometry.output[axis]).map {
        countsPads ? geometry.countInPads(axis, window: $0) : geometry.clip(axis, window: $0).count
      }
      counts = counts.flatMap { outer in along.map { outer * $0 } }
    }
    return counts.map { Float($0) }
  }

  /// Input 0 to output 0.
  var step: Step {
    .parallel(parts: partition.parts, scratchBytes: partition.parts &* partFloats &* 4) { run, part in
      let scratch = run.scratch.assumingMemoryBound(to: Float.self) + part &* partFloats
      for unit in partition.range(part) {
        let (plane, band) = joinsPlanes ? (0, unit) : unit.quotientAndRemainder(dividingBy: planes.bands)
        self.run(band, run.input(0) + plane &* areas.input, run.output(0) + plane &* areas.output, scratch)
      }
    }.named("planes \(String(cString: apus_kernels().pointee.name))")
  }

  private func run(
    _ band: Int, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ copy: UnsafeMutablePointer<Float>
  ) {
    let outputs = planes.outputs(band)
    let count = planes.flatCount(outputs.count)
    let hasNaN = planes.split(band, x, copy)
    let flat = copy + planes.planeStride
    if lastTaps.isEmpty {
      combine(copy, taps, hasNaN, count, flat)
    } else {
      let pass = flat + planes.flatStride
      for phase in passPhases.indices {
        combine(copy + passPhases[phase], taps, hasNaN, count &+ passReach, pass + phase &* passStride)
      }
      combine(pass, lastTaps, hasNaN, count, flat)
    }
    planes.join(band, flat, y)
    if isMaximum { return }
    let start = outputs.lowerBound &* planes.rowOutputs
    let target = y + start
    divisors.withUnsafeBufferPointer { divisors in
      guard let base = divisors.baseAddress else { return }
      apus_kernels().pointee.div_f32_vv(
        outputs.count &* planes.rowOutputs, target, joinsPlanes ? base : base + start, target)
    }
  }

  /// y[i] = the maximum or the sum of x[taps + i].
  private func combine(
    _ x: UnsafePointer<Float>, _ taps: [Int], _ hasNaN: Bool, _ count: Int, _ y: UnsafeMutablePointer<Float>
  ) {
    taps.withUnsafeBufferPointer { offsets in
      guard let first = offsets.baseAddress else { return }
      if isMaximum {
        apus_kernels().pointee.plane_max_f32(x, first, offsets.count, hasNaN, count, y)
        return
      }
      ones.withUnsafeBufferPointer { ones in
        guard let weights = ones.baseAddress else { return }
        var arguments = apus_plane_sums_args(
          x: x, offsets: first, taps: offsets.count, weights: weights, weights_ld: 1, outputs: 1, bias: nil, y: y,
          y_ld: 0)
        apus_kernels().pointee.plane_sums_f32(&arguments, count)
      }
    }
  }
}
