// Sliding windows over any number of spatial axes: the attributes that convolutions and pools share, the extents of
// their outputs, and which elements of the input a window covers. https://onnx.ai/onnx/operators/onnx__Conv.html,
// https://onnx.ai/onnx/operators/onnx__MaxPool.html

import ApusGraph
import ApusTensor

/// `kernel_shape`, `strides`, `dilations`, `pads`, `auto_pad` and `ceil_mode` of a node, checked, with the defaults of
/// the specification filled in for `rank` spatial axes. An object, since every plan of a node asks for them.
final class WindowAttributes: Sendable {
  enum AutoPad: Sendable { case explicit, sameUpper, sameLower, valid }

  let rank: Int
  /// nil where the extents come from the weights.
  let kernel: [Int]?
  let strides: [Int]
  let dilations: [Int]
  let padBegin: [Int]
  let padEnd: [Int]
  let autoPad: AutoPad
  let roundsUp: Bool
  /// The windows, where they are the same for all extents of the input and not given by weights.
  private let form: WindowForm?

  /// No extent, stride, dilation or pad of a model may be larger; so products of two of them cannot overflow.
  static let limit = Int(Int32.max)

  init(_ context: some OperatorContext, rank: Int) throws(OperatorError) {
    guard rank >= 1 else { throw .mismatch("the input has no spatial axes; expected a rank of 3 or more") }
    self.rank = rank
    kernel = try WindowAttributes.extents("kernel_shape", context, count: rank)
    strides = try WindowAttributes.extents("strides", context, count: rank) ?? [Int](repeating: 1, count: rank)
    dilations = try WindowAttributes.extents("dilations", context, count: rank) ?? [Int](repeating: 1, count: rank)
    autoPad =
      switch context.optionalString("auto_pad") ?? "NOTSET" {
      case "NOTSET", "": .explicit
      case "SAME_UPPER": .sameUpper
      case "SAME_LOWER": .sameLower
      case "VALID": .valid
      case let other:
        throw .invalid("attribute auto_pad is '\(other)'; expected NOTSET, SAME_UPPER, SAME_LOWER or VALID")
      }
    let pads = context.optionalInts("pads").flatMap { $0.isEmpty ? nil : $0 } ?? [Int](repeating: 0, count: 2 * rank)
    guard pads.count == 2 * rank, pads.allSatisfy({ $0.magnitude <= UInt(WindowAttributes.limit) }) else {
      throw .invalid("attribute pads is \(pads); expected \(2 * rank) numbers, the begins of all axes, then the ends")
    }
    padBegin = autoPad == .explicit ? Array(pads[..<rank]) : [Int](repeating: 0, count: rank)
    padEnd = autoPad == .explicit ? Array(pads[rank...]) : [Int](repeating: 0, count: rank)
    roundsUp = (context.optionalInt("ceil_mode") ?? 0) != 0
    form = kernel.flatMap { [padBegin, padEnd, strides, dilations, autoPad] kernel in
      autoPad == .sameUpper || autoPad == .sameLower
        ? nil
        : WindowForm(kernel: kernel, strides: strides, dilations: dilations, padBegin: padBegin, padEnd: padEnd)
    }
  }

  /// The windows for these extents of theirs, if they are the same for all extents of the input.
  func form(kernel: [Int]) -> WindowForm? {
    if autoPad == .sameUpper || autoPad == .sameLower { return nil }
    if let form, form.kernel == kernel { return form }
    return WindowForm(kernel: kernel, strides: strides, dilations: dilations, padBegin: padBegin, padEnd: padEnd)
  }

  /// An attribute of one positive number an axis; nil if it is absent or empty.
  static func extents(
    _ name: String, _ context: some OperatorContext, count: Int
  ) throws(OperatorError) -> [Int]? {
    guard let values = context.optionalInts(name), !values.isEmpty else { return nil }
    guard values.count == count, values.allSatisfy({ $0 >= 1 && $0 <= limit }) else {
      throw .invalid("attribute \(name) is \(values); expected \(count) positive numbers, one for each spatial axis")
    }
    return values
  }

  /// The extents of the output for the extents of an input; throws where a window does not fit.
  func outputExtents(input: [Dim], kernel: [Dim]) throws(OperatorError) -> [Dim] {
    var extents: [Dim] = []
    for axis in 0..<rank {
      let extent = outputExtent(axis, input: input[axis], kernel: kernel[axis])
      if let known = extent.known, known < 0 {
        throw .mismatch(
          "the window does not fit: spatial axis \(axis) has extent \(input[axis]), pads \(padBegin[axis]) and "
            + "\(padEnd[axis]), kernel \(kernel[axis]), dilation \(dilations[axis])")
      }
      extents.append(extent)
    }
    return extents
  }

  private func outputExtent(_ axis: Int, input: Dim, kernel: Dim) -> Dim {
    let stride = Dim(strides[axis])
    // From the first element of a window to its last.
    let reach = (kernel - 1) * Dim(dilations[axis])
    switch autoPad {
    case .sameUpper, .sameLower: return input.dividedRoundingUp(by: stride)
    case .valid: return (input - reach - 1).dividedRoundingDown(by: stride) + 1
    case .explicit: break
    }
    let free = input + Dim(padBegin[axis]) + Dim(padEnd[axis]) - reach - 1
    if !roundsUp { return free.dividedRoundingDown(by: stride) + 1 }
    let rounded = free.dividedRoundingUp(by: stride) + 1
    // A last window that would start behind the input and its first pad is left out.
    let beginning = input + Dim(padBegin[axis])
    if let windows = rounded.known, let end = beginning.known {
      return (windows - 1).multipliedReportingOverflow(by: strides[axis]).partialValue >= end ? rounded - 1 : rounded
    }
    guard let last = reach.known, padEnd[axis] <= last else { return .unknown }
    return .min(rounded, (beginning - 1).dividedRoundingDown(by: stride) + 1)
  }

  /// The windows for known extents. `output` must come from `outputExtents`.
  func geometry(input: SpatialExtents, kernel: [Int], output: SpatialExtents) -> WindowGeometry {
    if let form = form(kernel: kernel) { return WindowGeometry(input: input, output: output, form) }
    var (begin, end) = (padBegin, padEnd)
    for axis in 0..<rank {
      let covered = (output[axis] &- 1) &* strides[axis] &+ (kernel[axis] &- 1) &* dilations[axis] &+ 1
      let total = max(0, covered &- input[axis])
      begin[axis] = autoPad == .sameUpper ? total / 2 : total - total / 2
      end[axis] = total - begin[axis]
    }
    return WindowGeometry(
      input: input, output: output,
      WindowForm(kernel: kernel, strides: strides, dilations: dilations, padBegin: begin, padEnd: end))
  }
}

/// What windows are like, whatever they slide over. One number a spatial axis in every list. An object, since all plans
/// of a node have it in common.
final class WindowForm: Sendable {
  let kernel: [Int]
  let strides: [Int]
  let dilations: [Int]
  let padBegin: [Int]
  let padEnd: [Int]
  /// Elements of a window.
  let tapCount: Int
  /// True for windows of one element each, one beside the other, that begin with the first.
  let isPointwise: Bool

  init(kernel: [Int], strides: [Int], dilations: [Int], padBegin: [Int], padEnd: [Int]) {
    (self.kernel, self.strides, self.dilations) = (kernel, strides, dilations)
    (self.padBegin, self.padEnd) = (padBegin, padEnd)
    tapCount = kernel.reduce(1, &*)
    isPointwise = zip(kernel, strides).allSatisfy { $0 == 1 && $1 == 1 } && padBegin.allSatisfy { $0 == 0 }
  }
}

/// The extents of the spatial axes of a shape, numbered from 0. Shares the memory of the shape.
struct SpatialExtents: Sendable, RandomAccessCollection, Equatable, ExpressibleByArrayLiteral {
  private let dims: [Int]
  private let first: Int
  let count: Int

  init(of shape: Shape, _ axes: Range<Int>) { (dims, first, count) = (shape.dims, axes.lowerBound, axes.count) }
  init(_ extents: [Int]) { (dims, first, count) = (extents, 0, extents.count) }
  init(arrayLiteral extents: Int...) { self.init(extents) }

  var startIndex: Int { 0 }
  var endIndex: Int { count }
  @inline(__always) subscript(axis: Int) -> Int { dims[first &+ axis] }

  static func == (a: SpatialExtents, b: SpatialExtents) -> Bool { a.elementsEqual(b) }
}

/// Windows with all extents known. One number a spatial axis in every list. An object, since plans hand it on and keep
/// it.
final class WindowGeometry: Sendable {
  let input: SpatialExtents
  let output: SpatialExtents
  let form: WindowForm
  /// Elements of a plane of the input and of the output.
  let inputCount: Int
  let outputCount: Int

  init(input: SpatialExtents, output: SpatialExtents, _ form: WindowForm) {
    (self.input, self.output, self.form) = (input, output, form)
    inputCount = input.reduce(1, &*)
    outputCount = output.reduce(1, &*)
  }

  var rank: Int { input.count }
  @inline(__always) var kernel: [Int] { form.kernel }
  @inline(__always) var strides: [Int] { form.strides }
  @inline(__always) var dilations: [Int] { form.dilations }
  @inline(__always) var padBegin: [Int] { form.padBegin }
  @inline(__always) var padEnd: [Int] { form.padEnd }
  /// Elements of a window.
  var tapCount: Int { form.tapCount }

  /// True if every window is one element and window i is element i.
  var isPointwise: Bool { form.isPointwise && output == input }

  /// The part of a window that lies in the input, along one axis: `count` elements from coordinate `first` on, one
  /// every dilation, the first of which is number `tap` of the window.
  @inline(__always) func clip(_ axis: Int, window: Int) -> (first: Int, tap: Int, count: Int) {
    let start = window &* strides[axis] &- padBegin[axis]
    let (extent, dilation) = (input[axis], dilations[axis])
    let tap = start >= 0 ? 0 : (dilation &- 1 &- start) / dilation
    let first = start &+ tap &* dilation
    if first >= extent || tap >= kernel[axis] { return (0, 0, 0) }
    return (first, tap, Swift.min(kernel[axis] &- tap, (extent &- first &- 1) / dilation &+ 1))
  }

  /// How many elements of a window lie in the input or its pads, along one axis. Windows at the end may reach beyond
  /// the pads where the output extent was rounded up.
  func countInPads(_ axis: Int, window: Int) -> Int {
    let start = window &* strides[axis] &- padBegin[axis]
    let room = input[axis] &+ padEnd[axis] &- start
    return room <= 0 ? 0 : Swift.min(kernel[axis], (room &- 1) / dilations[axis] &+ 1)
  }
}

// MARK: - Visiting windows of planes (batch × channel) in row-major order

/// One window of one plane: `rowCount` runs of `count` elements each. Element j of run r lies at
/// `rows[r] + first + j * step` of the plane, and is tap `taps[r] + tap + j` of the kernel.
struct PlaneWindow {
  let rows: UnsafePointer<Int>
  let taps: UnsafePointer<Int>
  let rowCount: Int
  let first: Int
  let tap: Int
  let count: Int
  let step: Int
}

/// Walks all windows over a number of planes, divided into parts by shapes alone.
struct PlaneWindows: Sendable {
  let geometry: WindowGeometry
  let partition: Partition
  /// Rows of windows in one plane: all output axes but the last.
  private let rowsPerPlane: Int
  private let capacity: Int
  /// No window has an element to draw on.
  private let isEmpty: Bool

  private let planeUnits: Int

  /// `cost` is that of one element of one window; zero if there are none. `wholePlanes`: no plane is divided, so that a
  /// part may write anywhere in its planes.
  init(_ geometry: WindowGeometry, planes: Int, cost: Cost = .light, wholePlanes: Bool = false) {
    self.geometry = geometry
    rowsPerPlane = geometry.output.dropLast().reduce(1, &*)
    planeUnits = wholePlanes ? rowsPerPlane : 1
    isEmpty = cost == Cost() || geometry.input.contains(0) || geometry.kernel.contains(0)
    let runs = zip(geometry.kernel, geometry.input).dropLast()
    capacity = isEmpty ? 1 : runs.reduce(1) { $0 &* Swift.max(Swift.min($1.0, $1.1), 1) }
    let covered = zip(geometry.kernel, geometry.input).reduce(1) { $0 &* Swift.max(Swift.min($1.0, $1.1), 1) }
    let row = cost * covered * (geometry.output.last ?? 1)
    // Memory for the lists of runs bounds the number of parts.
    let maximumParts = Swift.max(1, Swift.min(Partition.maximumParts, (16 << 20) / (capacity &* 16)))
    partition = Partition(
      wholePlanes ? planes : planes &* rowsPerPlane, of: row * Swift.max(planeUnits, 1), maximumParts: maximumParts)
  }

  var scratchBytes: Int { partition.parts &* capacity &* 16 }

  /// Calls `body` for every window of a part with the number of its plane and its index among the plane's windows.
  /// `scratch` is that of the step.
  @inline(__always)
  func forEach(
    part: Int, scratch: UnsafeMutableRawPointer, _ body: (_ plane: Int, _ index: Int, _ window: PlaneWindow) -> Void
  ) {
    let lastAxis = geometry.rank - 1
    let width = geometry.output[lastAxis]
    let step = geometry.dilations[lastAxis]
    forEachRow(part: part, scratch: scratch) { plane, row, rows, taps, rowCount in
      for window in 0..<width {
        let (first, tap, count) = geometry.clip(lastAxis, window: window)
        body(
          plane, row &* width &+ window,
          PlaneWindow(
            rows: rows, taps: taps, rowCount: count == 0 ? 0 : rowCount, first: first, tap: tap, count: count,
            step: step))
      }
    }
  }

  /// Calls `body` for every row of windows of a part: its plane and number, and the runs that its windows draw on, by
  /// where each starts in the plane and by its tap.
  @inline(__always)
  func forEachRow(
    part: Int, scratch: UnsafeMutableRawPointer,
    _ body: (_ plane: Int, _ row: Int, _ rows: UnsafePointer<Int>, _ taps: UnsafePointer<Int>, _ rowCount: Int) -> Void
  ) {
    let rows = (scratch + part &* capacity &* 16).assumingMemoryBound(to: Int.self)
    let taps = rows + capacity
    let range = partition.range(part)
    for unit in range.lowerBound &* planeUnits..<range.upperBound &* planeUnits {
      let (plane, row) = unit.quotientAndRemainder(dividingBy: rowsPerPlane)
      let rowCount = isEmpty ? 0 : fillRuns(row: row, rows, taps)
      body(plane, row, UnsafePointer(rows), UnsafePointer(taps), rowCount)
    }
  }

  /// Lists the runs of all windows of a row: where each starts in the plane, and its tap. Returns their number.
  private func fillRuns(row: Int, _ rows: UnsafeMutablePointer<Int>, _ taps: UnsafeMutablePointer<Int>) -> Int {
    rows[0] = 0
    taps[0] = 0
    var filled = 1
    var remaining = row
    var divisor = rowsPerPlane
    for axis in 0..<geometry.rank - 1 {
      divisor /= geometry.output[axis]
      let (first, tap, count) = geometry.clip(axis, window: remaining / divisor)
      remaining %= divisor
      if count == 0 { return 0 }
      let (extent, kernel, dilation) = (geometry.input[axis], geometry.kernel[axis], geometry.dilations[axis])
      // Backwards, since entry i becomes the entries i * count and following.
      for entry in stride(from: filled - 1, through: 0, by: -1) {
        let (outerRow, outerTap) = (rows[entry] &* extent &+ first, taps[entry] &* kernel &+ tap)
        for index in stride(from: count - 1, through: 0, by: -1) {
          rows[entry &* count &+ index] = outerRow &+ index &* dilation
          taps[entry &* count &+ index] = outerTap &+ index
        }
      }
      filled &*= count
    }
    let (extent, kernel) = (geometry.input[geometry.rank - 1], geometry.kernel[geometry.rank - 1])
    for entry in 0..<filled {
      rows[entry] &*= extent
      taps[entry] &*= kernel
    }
    return filled
  }
}
