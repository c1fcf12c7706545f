// GridSample: samples an image at the points of a grid, in any number of spatial dimensions.
// https://onnx.ai/onnx/operators/onnx__GridSample.html
// Versions: 16 (2-D; modes bilinear and bicubic), 20 (N-D; modes linear and cubic), 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

struct GridSample: OperatorDefinition {
  let schema = OperatorSchema(
    "GridSample", versions: [16, 20, 22],
    inputs: [.required("X", "T"), .required("grid", "T2")],
    outputs: [.required("Y", "T")],
    attributes: [
      .int("align_corners", default: 0), .string("mode", default: "linear"), .string("padding_mode", default: "zeros"),
    ],
    types: ["T": .allBeforeBFloat16 + [.bfloat16], "T2": .floats],
    // True of nearest, the only mode for strings.
    traits: .movesData, portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 16 else { return }
    switch node.attributes.string("mode") {
    case "bilinear": node.attributes["mode"] = .string("linear")
    case "bicubic": node.attributes["mode"] = .string("cubic")
    default: break
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let mode = try context.string("mode", oneOf: ["linear", "nearest", "cubic"])
    _ = try context.string("padding_mode", oneOf: ["zeros", "border", "reflection"])
    if context.type(0) == .string, mode != "nearest" {
      throw .mismatch("strings can be sampled with the mode nearest only")
    }
    let (input, grid) = (context.shape(0), context.shape(1))
    guard let rank = input?.count ?? grid?.count else { return context.set(0, context.type(0), nil) }
    guard rank >= 3, input?.count ?? rank == rank, grid?.count ?? rank == rank else {
      throw .mismatch(
        "the input has rank \(input?.count ?? rank) and the grid \(grid?.count ?? rank); expected the same, 3 or more")
    }
    if let grid, let count = grid[rank - 1].known, count != rank - 2 {
      throw .mismatch("the points of the grid have \(count) coordinates; expected \(rank - 2)")
    }
    if let input, let grid, input[0].isSurelyDifferent(from: grid[0]) {
      throw .mismatch("the input has a batch of \(input[0]) and the grid one of \(grid[0])")
    }
    let points = grid.map { Array($0[1..<(rank - 1)]) } ?? [Dim](repeating: .unknown, count: rank - 2)
    context.set(0, context.type(0), [input?[0] ?? grid?[0] ?? .unknown, input?[1] ?? .unknown] + points)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (type, gridType) = (try context.type(0), try context.type(1))
    let attributes = GridAttributes(
      mode: try context.string("mode"), padding: try context.string("padding_mode"),
      alignsCorners: try context.bool("align_corners"))
    func kernel(_ compute: DataType) throws(OperatorError) -> PreparedKernel {
      if compute == .float64 { return GridSampleKernel<Double>(attributes: attributes).prepared }
      return try ElementCandidate.choose(
        .gridSample, type: .float32,
        [
          .plain { GridSampleKernel<Float>(attributes: attributes).prepared },
          .vectors("rows", refusal: attributes.mode == .nearest ? "elements move as they are" : nil) {
            GridSampleKernel<Float>(attributes: attributes, sums: { sumsOfFloats($0) }).prepared
          },
        ])
    }
    if attributes.mode == .nearest || type.isComplex {
      // Elements move as they are, or are pairs of the type to compute in.
      let compute: DataType =
        (type == .complex128 || (gridType == .float64 && type != .complex64)) ? .float64 : .float32
      if gridType == compute { return try kernel(compute) }
      return try StagedKernel.prepare(context, [gridType: compute], operands: [1], outputs: false) {
        (_) throws(OperatorError) in try kernel(compute)
      }
    }
    let isWide = gridType == .float64 || type.bits > 32 || ((type.isInteger || type == .float64) && type.bits >= 32)
    let compute: DataType = isWide ? .float64 : .float32
    if type == compute, gridType == compute { return try kernel(compute) }
    var staged = [type: compute]
    staged[gridType] = compute
    staged[compute] = nil
    return try StagedKernel.prepare(context, staged) { (_) throws(OperatorError) in try kernel(compute) }
  }
}

struct GridAttributes: Sendable {
  enum Padding: Sendable { case zeros, border, reflection }

  let mode: ResizeMode
  let padding: Padding
  let alignsCorners: Bool

  init(mode: String, padding: String, alignsCorners: Bool) {
    self.mode = mode == "nearest" ? .nearest : mode == "linear" ? .linear : .cubic
    self.padding = padding == "zeros" ? .zeros : padding == "border" ? .border : .reflection
    self.alignsCorners = alignsCorners
  }

  /// Elements of the image that one coordinate of a point draws on.
  var taps: Int { mode == .nearest ? 1 : mode == .linear ? 2 : 4 }
}

/// Places a block of points first, then reads all channels at them. Coordinates and sums are of type `Element`.
/// Not a `Kernel` itself: a generic type runs unspecialised behind a protocol. `prepared` is called on concrete ones.
struct GridSampleKernel<Element: SampledElement & SendableMetatype>: Sendable {
  let attributes: GridAttributes
  /// Adds up a block of points for all channels; nil: corner by corner.
  var sums: (@Sendable (GridRows<Element>) -> Void)?

  @inline(__always) var prepared: PreparedKernel {
    .planned { (context) throws(OperatorError) in try plan(context) }
  }

  private func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    guard let type = context.inputs.first??.dataType else { throw .mismatch("the input is missing") }
    let (input, output) = (context.shape(0), context.outputShape(0))
    let rank = input.rank - 2
    guard rank <= 8 else { throw .unsupported("GridSample of \(rank) spatial axes; no more than 8") }
    let capacity = (0..<rank).reduce(1) { product, _ in product * attributes.taps }
    let blockPoints = max(1, min(64, 4_096 / capacity))
    let points = output.count(of: 2..<output.rank)
    let blocks = (points + blockPoints - 1) / blockPoints
    let partition = Partition(output[0] * blocks, of: .light * blockPoints * (input[1] + 4) * capacity)
    // One block: counts, offsets, weights.
    let listBytes = aligned(blockPoints * (8 + capacity * (8 + MemoryLayout<Element>.stride)))
    let area = input.count(of: 2..<input.rank)
    let sums = type.isComplex || area > Int(Int32.max) ? nil : sums
    let bytes = listBytes + (sums == nil ? 0 : aligned(blockPoints * capacity * (4 + MemoryLayout<Element>.stride)))
    let sampler = GridSampler<Element>(
      attributes: attributes, extents: Array(input.dims[2...]), channels: input[1], points: points, capacity: capacity,
      lanes: type.isComplex ? 2 : 1)
    let width = type.byteWidth
    let (isGather, isLinear) = (attributes.mode == .nearest, attributes.mode == .linear)
    return .parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let counts = (run.scratch + part * bytes).assumingMemoryBound(to: Int.self)
      let offsets = counts + blockPoints
      let list = GridCorners(
        counts: counts, offsets: offsets,
        weights: UnsafeMutableRawPointer(offsets + blockPoints * capacity).assumingMemoryBound(to: Element.self))
      for unit in partition.range(part) {
        let (image, block) = unit.quotientAndRemainder(dividingBy: blocks)
        let range = block * blockPoints..<min(points, (block + 1) * blockPoints)
        let grid: UnsafePointer<Element> = run.input(1) + image * points * rank
        if sums == nil || !isLinear { sampler.place(range, grid: grid, list) }
        if let sums {
          let table = run.scratch + part * bytes + listBytes
          let weights = (table + blockPoints * capacity * 4).assumingMemoryBound(to: Element.self)
          let positions = table.assumingMemoryBound(to: Int32.self)
          let taps =
            isLinear
            ? sampler.placeLinear(range, grid: grid, positions, weights)
            : sampler.transpose(range.count, list, positions, weights)
          sums(
            GridRows(
              x: run.input(0) + image * input[1] * area, distance: area, rows: input[1], positions: positions,
              weights: weights, taps: taps, count: range.count,
              y: run.output(0) + (image * input[1] * points + range.lowerBound), target: points))
        } else if isGather {
          sampler.gather(range, image: image, width: width, run.inputBytes(0), run.outputBytes(0), list)
        } else {
          sampler.interpolate(range, image: image, run.input(0), run.output(0), list)
        }
      }
    }.named(isGather ? "nearest" : "corners")
  }
}

/// A block of points of all channels: sums of `taps` elements, which lie at the positions of their point, -1 for none;
/// positions and weights of one tap lie one after the other.
struct GridRows<Element> {
  let x: UnsafePointer<Element>
  /// From one channel to the next.
  let distance: Int
  let rows: Int
  let positions: UnsafePointer<Int32>
  let weights: UnsafePointer<Element>
  let taps: Int
  let count: Int
  let y: UnsafeMutablePointer<Element>
  let target: Int
}

private func sumsOfFloats(_ rows: GridRows<Float>) {
  var arguments = apus_resample_args(
    x: rows.x, x_ld: rows.distance, rows: rows.rows, positions: rows.positions, weights: rows.weights, taps: rows.taps,
    n: rows.count, y: rows.y, y_ld: rows.target)
  apus_kernels().pointee.resample_f32(&arguments)
}

/// The elements that the points of a block draw on: `counts[i]` of them for point i, from `i * capacity` on.
private struct GridCorners<Element> {
  let counts: UnsafeMutablePointer<Int>
  let offsets: UnsafeMutablePointer<Int>
  let weights: UnsafeMutablePointer<Element>
}

private struct GridSampler<Element: SampledElement>: Sendable {
  let attributes: GridAttributes
  let extents: [Int]
  let channels: Int
  let points: Int
  let capacity: Int
  /// Numbers of an element: 2 for complex.
  let lanes: Int

  func place(_ range: Range<Int>, grid: UnsafePointer<Element>, _ list: GridCorners<Element>) {
    let rank = extents.count
    for point in range {
      let slot = point &- range.lowerBound
      let (offsets, weights) = (list.offsets + slot &* capacity, list.weights + slot &* capacity)
      offsets[0] = 0
      weights[0] = 1
      var count = 1
      for axis in 0..<rank {
        // The last coordinate of a point belongs to the first axis.
        let coordinate = resolve(grid[point &* rank &+ rank &- 1 &- axis], axis)
        count = expand(offsets, weights, count, axis: axis, coordinate)
        if count == 0 { break }
      }
      list.counts[slot] = count
    }
  }

  /// `place` and `transpose` at once for two taps an axis: there is a tap for every corner, with no element where that
  /// lies outside. In the number of a corner, the bit of an axis says which of the two it is.
  func placeLinear(
    _ range: Range<Int>, grid: UnsafePointer<Element>, _ positions: UnsafeMutablePointer<Int32>,
    _ weights: UnsafeMutablePointer<Element>
  ) -> Int {
    let (rank, count) = (extents.count, range.count)
    extents.withUnsafeBufferPointer { extents in
      for point in range {
        let slot = point &- range.lowerBound
        (positions[slot], weights[slot]) = (0, 1)
        var corners = 1
        for axis in 0..<rank {
          // The last coordinate of a point belongs to the first axis.
          let x = resolve(grid[point &* rank &+ rank &- 1 &- axis], axis)
          let extent = Int32(truncatingIfNeeded: extents[axis])
          var (low, high): (Int32, Int32) = (-1, -1)
          var fraction: Element = 0
          if x > -4, x < Element(extents[axis]) + 4, extent > 0 {
            let whole = x.integer
            let first = Element(whole) > x ? whole &- 1 : whole
            fraction = x - Element(first)
            low = Int32(truncatingIfNeeded: inside(first, axis) ?? -1)
            high = Int32(truncatingIfNeeded: inside(first &+ 1, axis) ?? -1)
          }
          for corner in 0..<corners {
            let (place, other) = (corner &* count &+ slot, (corners &+ corner) &* count &+ slot)
            let (position, weight) = (positions[place], weights[place])
            let isHigh = position >= 0 && high >= 0
            positions[other] = isHigh ? position &* extent &+ high : -1
            weights[other] = isHigh ? weight * fraction : 0
            let isLow = position >= 0 && low >= 0
            positions[place] = isLow ? position &* extent &+ low : -1
            weights[place] = isLow ? weight * (1 - fraction) : 0
          }
          corners &*= 2
        }
      }
    }
    return 1 << rank
  }

  /// The corners of `count` points, tap by tap. Returns how many taps there are.
  func transpose(
    _ count: Int, _ list: GridCorners<Element>, _ positions: UnsafeMutablePointer<Int32>,
    _ weights: UnsafeMutablePointer<Element>
  ) -> Int {
    var taps = 0
    for slot in 0..<count { taps = Swift.max(taps, list.counts[slot]) }
    for slot in 0..<count {
      let (offsets, factors) = (list.offsets + slot &* capacity, list.weights + slot &* capacity)
      for tap in 0..<taps {
        let isPresent = tap < list.counts[slot]
        positions[tap &* count &+ slot] = isPresent ? Int32(truncatingIfNeeded: offsets[tap]) : -1
        weights[tap &* count &+ slot] = isPresent ? factors[tap] : 0
      }
    }
    return taps
  }

  /// The coordinate in elements, brought inside where the padding mode says so.
  private func resolve(_ normalized: Element, _ axis: Int) -> Element {
    let extent = Element(extents[axis])
    var x = attributes.alignsCorners ? (normalized + 1) / 2 * (extent - 1) : ((normalized + 1) * extent - 1) / 2
    if attributes.mode == .nearest { x = x.rounded(.toNearestOrEven) }
    let low: Element = attributes.alignsCorners ? 0 : -0.5
    if attributes.padding == .zeros || (x >= low && x <= extent - 1 - low) { return x }
    if attributes.padding == .border, attributes.mode == .cubic, !x.isNaN {
      // As in PyTorch the four taps are brought inside, not the point; three elements outside they all are the border.
      return Element.minimum(Element.maximum(x, -3), extent + 2)
    }
    if attributes.padding == .border { return x.isNaN ? 0 : Element.minimum(Element.maximum(x, 0), extent - 1) }
    return reflect(x, low, extent - 1 - low)
  }

  /// Mirrors x at `low` and `high` until it lies between them.
  private func reflect(_ x: Element, _ low: Element, _ high: Element) -> Element {
    let span = high - low
    guard span > 0 else { return low }
    var rest = (x - low).truncatingRemainder(dividingBy: 2 * span)
    if rest < 0 { rest += 2 * span }
    if rest.isNaN { return low }
    return rest <= span ? low + rest : high - (rest - span)
  }

  /// Multiplies the corners so far by those along one axis; returns their new number.
  private func expand(
    _ offsets: UnsafeMutablePointer<Int>, _ weights: UnsafeMutablePointer<Element>, _ count: Int, axis: Int,
    _ x: Element
  ) -> Int {
    let extent = extents[axis]
    guard x > -4, x < Element(extent) + 4, extent > 0 else { return 0 }
    let floor = x.rounded(.down)
    let fraction = x - floor
    let first = floor.integer &- (attributes.taps == 4 ? 1 : 0)
    // Appended behind the corners so far, which the first tap inside replaces at the end.
    var total = 0
    var keptTap = -1
    var kept = 0
    for tap in 0..<attributes.taps {
      guard let position = inside(first &+ tap, axis) else { continue }
      if keptTap < 0 {
        (keptTap, kept) = (tap, position)
        total = count
        continue
      }
      let factor = weight(tap, fraction)
      for corner in 0..<count {
        offsets[total &+ corner] = offsets[corner] &* extent &+ position
        weights[total &+ corner] = weights[corner] * factor
      }
      total &+= count
    }
    if keptTap < 0 { return 0 }
    let factor = weight(keptTap, fraction)
    for corner in 0..<count {
      offsets[corner] = offsets[corner] &* extent &+ kept
      weights[corner] *= factor
    }
    return total
  }

  /// The element at a position along an axis, which may lie outside; nil if that is 0.
  private func inside(_ position: Int, _ axis: Int) -> Int? {
    let extent = extents[axis]
    if position >= 0 && position < extent { return position }
    switch attributes.padding {
    case .zeros: return nil
    case .border: return Swift.min(Swift.max(position, 0), extent - 1)
    case .reflection:
      let low: Element = attributes.alignsCorners ? 0 : -0.5
      return Swift.min(Swift.max(reflect(Element(position), low, Element(extent - 1) - low).integer, 0), extent - 1)
    }
  }

  /// The weight of a tap of a coordinate that lies `f` behind the first of two, or the second of four.
  private func weight(_ tap: Int, _ f: Element) -> Element {
    if attributes.mode == .nearest { return 1 }
    if attributes.mode == .linear { return tap == 0 ? 1 - f : f }
    // The cubic convolution of Keys with a = -3/4.
    let d = tap == 0 ? 1 + f : tap == 1 ? f : tap == 2 ? 1 - f : 2 - f
    return tap == 1 || tap == 2 ? (1.25 * d - 2.25) * d * d + 1 : ((-0.75 * d + 3.75) * d - 6) * d + 3
  }

  func interpolate(
    _ range: Range<Int>, image: Int, _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>,
    _ list: GridCorners<Element>
  ) {
    let area = extents.reduce(1, &*)
    for channel in 0..<channels {
      let plane = image &* channels &+ channel
      for lane in 0..<lanes {
        let source = x + (plane &* area &* lanes &+ lane)
        let target = y + (plane &* points &* lanes &+ lane)
        for point in range {
          let slot = point &- range.lowerBound
          let (offsets, weights) = (list.offsets + slot &* capacity, list.weights + slot &* capacity)
          var sum: Element = 0
          for corner in 0..<list.counts[slot] { sum += weights[corner] * source[offsets[corner] &* lanes] }
          target[point &* lanes] = sum
        }
      }
    }
  }

  /// Copies one element a point, zeros for points outside. `width` is that of an element in bytes.
  func gather(
    _ range: Range<Int>, image: Int, width: Int, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer,
    _ list: GridCorners<Element>
  ) {
    switch width {
    case 1: gather(UInt8.self, 0, range, image, x, y, list)
    case 2: gather(UInt16.self, 0, range, image, x, y, list)
    case 4: gather(UInt32.self, 0, range, image, x, y, list)
    case 8: gather(UInt64.self, 0, range, image, x, y, list)
    default: gather(Complex128.self, Complex128(0, 0), range, image, x, y, list)
    }
  }

  @inline(__always)
  private func gather<Word: BitwiseCopyable>(
    _ type: Word.Type, _ zero: Word, _ range: Range<Int>, _ image: Int, _ x: UnsafeRawPointer,
    _ y: UnsafeMutableRawPointer,
    _ list: GridCorners<Element>
  ) {
    let area = extents.reduce(1, &*)
    for channel in 0..<channels {
      let plane = image &* channels &+ channel
      let source = x.assumingMemoryBound(to: Word.self) + plane &* area
      let target = y.assumingMemoryBound(to: Word.self) + plane &* points
      for point in range {
        let slot = point &- range.lowerBound
        target[point] = list.counts[slot] == 0 ? zero : source[list.offsets[slot &* capacity]]
      }
    }
  }
}
