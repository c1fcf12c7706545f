// Resize of float32 by filters on the vector kernels: one pass an axis, as in the plain form, the axes in the order in
// which they take less.

import ApusGraph
import ApusTensor
import CApusKernels

struct ResizeRows: Kernel {
  let attributes: ResizeAttributes

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    guard let type = context.inputs.first??.dataType else { throw .mismatch("the input is missing") }
    if context.outputShape(0).elementCount == 0 { return Step(phases: []) { _, _, _ in } }
    var shape = context.shape(0)
    var passes: [ResizePass] = []
    // Two buffers in turn hold what lies between the passes.
    var bufferBytes = [0, 0]
    let filters = ResizeRows.ordered(try attributes.filters(context), shape)
    if filters.isEmpty { return copy(context.inputs[0]?.byteCount ?? 0) }
    for (index, filter) in filters.enumerated() {
      let outer = shape.count(of: 0..<filter.axis)
      let inner = shape.count(of: filter.axis + 1..<shape.rank) * (type.isComplex ? 2 : 1)
      shape[filter.axis] = filter.output
      guard shape.checkedElementCount != nil else {
        throw OperatorError(.limit, "resizing axis by axis leads through the shape \(shape), which no memory holds")
      }
      passes.append(ResizePass(filter, outer: outer, inner: inner, extrapolation: attributes.extrapolation))
      if index < filters.count - 1 {
        bufferBytes[index % 2] = max(bufferBytes[index % 2], aligned(outer * filter.output * inner * 4))
      }
    }
    let secondBuffer = bufferBytes[0]
    return Step(phases: passes.map(\.partition.parts), scratchBytes: bufferBytes[0] + bufferBytes[1]) {
      [passes] run, phase, part in
      func buffer(_ index: Int) -> UnsafeMutablePointer<Float> {
        (run.scratch + (index % 2 == 0 ? 0 : secondBuffer)).assumingMemoryBound(to: Float.self)
      }
      let source = phase == 0 ? run.input(0) : UnsafePointer(buffer(phase - 1))
      let target = phase == passes.count - 1 ? run.output(0) : buffer(phase)
      passes[phase].run(part, source, target)
    }.named("rows \(String(cString: apus_kernels().pointee.name))")
  }

  private func copy(_ byteCount: Int) -> Step {
    let copied = Partition(byteCount, of: .copying(bytes: 1))
    return .parallel(parts: copied.parts) { run, part in
      let range = copied.range(part)
      (run.outputBytes(0) + range.lowerBound).copyMemory(
        from: run.inputBytes(0) + range.lowerBound, byteCount: range.count)
    }.named("copy")
  }

  /// The last axis first, where it is cheaper to resize it before the others grow. Where some outputs lie outside, all
  /// axes in their order.
  private static func ordered(_ filters: [ResizeFilter], _ shape: Shape) -> [ResizeFilter] {
    guard let last = filters.last, filters.count > 1, filters.allSatisfy({ $0.isOutside.isEmpty }) else {
      return filters
    }
    let turned = [last] + filters.dropLast()
    return cost(turned, shape) < cost(filters, shape) ? turned : filters
  }

  private static func cost(_ filters: [ResizeFilter], _ shape: Shape) -> Double {
    var dims = shape.dims.map { Double($0) }
    return filters.reduce(0) { cost, filter in
      dims[filter.axis] = Double(filter.output)
      // Elements that lie apart are picked one by one.
      let isLast = dims[(filter.axis + 1)...].reduce(1, *) < Double(ResizePass.narrow)
      return cost + dims.reduce(1, *) * Double(filter.taps) * (isLast ? 2 : 1)
    }
  }
}

/// One axis: each element of the output is a sum over some of the input, or each block of them where the axis is not
/// the last.
struct ResizePass: Sendable {
  private let outer: Int
  private let inner: Int
  private let input: Int
  private let output: Int
  private let taps: Int
  /// Of blocks: where they start, one after the other for each output element.
  private let offsets: [Int]
  /// Of elements: where they lie, one tap after the other for a whole row.
  private let positions: [Int32]
  private let weights: [Float]
  private let isOutside: [Bool]
  private let extrapolation: Float
  let partition: Partition

  /// Shorter blocks count as elements.
  static let narrow = 16
  /// Rows of one call: they lie in a cache together.
  private static let tileRows = 64

  private var takesElements: Bool { offsets.isEmpty }

  init(_ filter: ResizeFilter, outer: Int, inner: Int, extrapolation: Float) {
    (self.outer, self.inner, self.extrapolation) = (outer, inner, extrapolation)
    (input, output, taps, isOutside) = (filter.input, filter.output, filter.taps, filter.isOutside)
    let cost = Cost(operations: 4) * inner * filter.taps + .light * inner
    if inner < ResizePass.narrow, filter.input < Int(Int32.max) / ResizePass.narrow {
      let row = filter.output * inner
      var positions = [Int32](repeating: 0, count: row * filter.taps)
      var weights = [Float](repeating: 0, count: row * filter.taps)
      for element in 0..<filter.output {
        for tap in 0..<filter.taps {
          let source = element * filter.taps + tap
          for lane in 0..<inner {
            let index = tap * row + element * inner + lane
            positions[index] = Int32(filter.positions[source] * inner + lane)
            weights[index] = Float(filter.weights[source])
          }
        }
      }
      (self.positions, self.weights, offsets) = (positions, weights, [])
      partition = Partition(outer, of: cost * filter.output)
    } else {
      positions = []
      weights = filter.weights.map { Float($0) }
      offsets = filter.positions.map { $0 * inner }
      partition = Partition(outer * filter.output, of: cost)
    }
  }

  func run(_ part: Int, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    takesElements ? elements(partition.range(part), x, y) : blocks(partition.range(part), x, y)
  }

  private func elements(_ rows: Range<Int>, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    let (from, to) = (input &* inner, output &* inner)
    positions.withUnsafeBufferPointer { positions in
      weights.withUnsafeBufferPointer { weights in
        guard let positions = positions.baseAddress, let weights = weights.baseAddress else { return }
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: ResizePass.tileRows) {
          var arguments = apus_resample_args(
            x: x + first &* from, x_ld: from, rows: min(ResizePass.tileRows, rows.upperBound &- first),
            positions: positions, weights: weights, taps: taps, n: to, y: y + first &* to, y_ld: to)
          apus_kernels().pointee.resample_f32(&arguments)
        }
      }
    }
    for element in isOutside.indices where isOutside[element] {
      for row in rows { (y + (row &* to &+ element &* inner)).update(repeating: extrapolation, count: inner) }
    }
  }

  private func blocks(_ units: Range<Int>, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    offsets.withUnsafeBufferPointer { offsets in
      weights.withUnsafeBufferPointer { weights in
        guard let offsets = offsets.baseAddress, let weights = weights.baseAddress else { return }
        for unit in units {
          let (block, element) = unit.quotientAndRemainder(dividingBy: output)
          let target = y + unit &* inner
          if !isOutside.isEmpty, isOutside[element] {
            target.update(repeating: extrapolation, count: inner)
            continue
          }
          var arguments = apus_plane_sums_args(
            x: x + block &* input &* inner, offsets: offsets + element &* taps, taps: taps,
            weights: weights + element &* taps, weights_ld: 1, outputs: 1, bias: nil, y: target, y_ld: 0)
          apus_kernels().pointee.plane_sums_f32(&arguments, inner)
        }
      }
    }
  }
}
