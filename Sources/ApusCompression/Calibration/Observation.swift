// apus.Observation: what a calibration wants to know of a value, computed where the value is. Stands in graphs that are
// calibrated only.

import ApusGraph
import ApusTensor
import CApusKernels

/// The least and greatest element of X and how its elements are distributed, as float64 numbers: minimum, maximum, the
/// number of elements, how many of them are no finite numbers, the exponent of the bins, and the count of each bin (see
/// `Histogram`). Where an element is no finite number, the bins stay empty.
struct Observation: OperatorDefinition {
  static let id = OperatorID("Observation", domain: OperatorID.engineDomain)

  let schema = OperatorSchema(
    "Observation", domain: OperatorID.engineDomain, versions: [1], inputs: [.required("X", "T")],
    outputs: [.required("Y", "tensor(double)")], attributes: [.int("bins", default: 0)],
    types: ["T": [.float32], "tensor(double)": [.float64]], layout: .orderless)

  /// The numbers before the bins.
  static let headCount = 5
  /// Elements of a part: each has bins of its own, which are put together at the end.
  private static let partLength = 1 << 15
  private static let mostParts = 8

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .float64, [Dim(Self.headCount + (try context.int("bins")))])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let bins = try context.int("bins")
    return .planned { plan throws(OperatorError) in Observation.step(count: plan.shape(0).elementCount, bins: bins) }
  }

  private static func step(count: Int, bins: Int) -> Step {
    let partition = Partition(count, of: .medium, tile: partLength, maximumParts: mostParts)
    let memory = ObservationMemory(parts: partition.parts, bins: bins)
    let counts = bins > 0 ? [partition.parts] : []
    var step = Step(phases: [partition.parts] + counts + [1], scratchBytes: memory.byteCount) { run, phase, part in
      let x = run.input(0, as: Float.self)
      if phase == 0 {
        memory.survey(x, partition.range(part), part, run.scratch)
      } else if phase == 1, bins > 0 {
        memory.count(x, partition.range(part), part, run.scratch)
      } else {
        memory.finish(count, run.scratch, run.output(0, as: Double.self))
      }
    }
    step.kernelName = "observation"
    step.cost = Cost(operations: 4 * count)
    return step
  }
}

/// The working memory of one observation: extremes of each part, then the bins of each part.
private struct ObservationMemory: Sendable {
  let parts: Int
  let bins: Int

  /// Least, greatest, number of those that are not finite.
  private static let surveyed = 3
  /// Bins that neighbouring elements are counted in by turns: equal ones would wait for each other.
  private static let lanes = 2
  /// Elements that are looked at twice, or whose bins are found before they are counted.
  private static let blockLength = 2048

  /// The bins, and one more on each side for what rounding puts there.
  private var slots: Int { bins + 2 }
  private var surveyBytes: Int { parts * Self.surveyed * MemoryLayout<Double>.stride }
  var byteCount: Int { surveyBytes + (bins > 0 ? parts * Self.lanes * slots * MemoryLayout<UInt32>.stride : 0) }

  private func surveys(_ scratch: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Double> {
    scratch.assumingMemoryBound(to: Double.self)
  }

  private func table(_ part: Int, _ scratch: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt32> {
    (scratch + surveyBytes).assumingMemoryBound(to: UInt32.self) + part &* Self.lanes &* slots
  }

  func survey(_ x: UnsafePointer<Float>, _ range: Range<Int>, _ part: Int, _ scratch: UnsafeMutableRawPointer) {
    let survey = surveys(scratch) + part &* Self.surveyed
    let kernels = apus_kernels().pointee
    var (low, high) = (Float.infinity, -Float.infinity)
    // The second look at a block finds it in the first cache.
    for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.blockLength) {
      let count = min(Self.blockLength, range.upperBound &- start)
      // NaN from either stays NaN.
      let (least, greatest) = (kernels.min_f32(count, x + start), kernels.max_f32(count, x + start))
      low = least < low || least.isNaN ? least : low
      high = greatest > high || greatest.isNaN ? greatest : high
      if low.isNaN || high.isNaN { break }
    }
    (survey[0], survey[1], survey[2]) = (Double(low), Double(high), 0)
    // Both are NaN where one element is.
    if survey[0].isFinite, survey[1].isFinite { return }
    for index in range where !x[index].isFinite { survey[2] += 1 }
  }

  /// Of all parts.
  private func extremes(_ scratch: UnsafeMutableRawPointer) -> (low: Float, high: Float, strange: Double) {
    let survey = surveys(scratch)
    var (low, high, strange) = (Double.infinity, -Double.infinity, 0.0)
    for part in 0..<parts {
      low = min(low, survey[part &* Self.surveyed])
      high = max(high, survey[part &* Self.surveyed &+ 1])
      strange += survey[part &* Self.surveyed &+ 2]
    }
    return (Float(low), Float(high), strange)
  }

  func count(_ x: UnsafePointer<Float>, _ range: Range<Int>, _ part: Int, _ scratch: UnsafeMutableRawPointer) {
    let table = table(part, scratch)
    table.update(repeating: 0, count: Self.lanes &* slots)
    let (low, high, strange) = extremes(scratch)
    if strange > 0 { return }
    let exponent = Histogram.exponent(forMagnitude: max(abs(low), abs(high)))
    let half = Float(bins / 2)
    let scale = Float(sign: .plus, exponent: -exponent, significand: half)
    // A sum with 2^15 has eight bits of fraction: what lies above them is the number of the slot. There are fewer than
    // 2^15 slots.
    let anchor = Float(0x1p15) + half + 1
    let second = table + slots
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: Self.blockLength) { found in
      guard let found = found.baseAddress else { return }
      for start in stride(from: range.lowerBound, to: range.upperBound, by: Self.blockLength) {
        let count = min(Self.blockLength, range.upperBound &- start)
        let block = x + start
        for index in 0..<count { found[index] = ((block[index] * scale + anchor).bitPattern & 0x7F_FFFF) &>> 8 }
        var index = 0
        while index &+ 1 < count {
          table[Int(found[index])] &+= 1
          second[Int(found[index &+ 1])] &+= 1
          index &+= 2
        }
        if index < count { table[Int(found[index])] &+= 1 }
      }
    }
    for slot in 0..<slots { table[slot] &+= second[slot] }
  }

  func finish(_ count: Int, _ scratch: UnsafeMutableRawPointer, _ y: UnsafeMutablePointer<Double>) {
    let (low, high, strange) = extremes(scratch)
    y[0] = Double(low)
    y[1] = Double(high)
    y[2] = Double(count)
    y[3] = strange
    y[4] = Double(Histogram.exponent(forMagnitude: max(abs(low), abs(high))))
    if bins == 0 { return }
    let total = y + Observation.headCount
    total.update(repeating: 0, count: bins)
    if strange > 0 { return }
    for part in 0..<parts {
      let table = table(part, scratch)
      for bin in 0..<bins { total[bin] += Double(table[bin &+ 1]) }
      // What rounding put beyond the ends.
      total[0] += Double(table[0])
      total[bins &- 1] += Double(table[bins &+ 1])
    }
  }
}
