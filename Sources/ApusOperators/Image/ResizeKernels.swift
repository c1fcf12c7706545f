// The kernels of Resize: one gather for the nearest element, one pass an axis for filters.

import ApusGraph
import ApusTensor
import CApusKernels

/// Moves elements of any width.
struct NearestResize: Kernel {
  let attributes: ResizeAttributes
  var takesRows: Bool { true }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let (input, output) = (context.shape(0), context.outputShape(0))
    guard let type = context.inputs.first??.dataType else { throw .mismatch("the input is missing") }
    if output.elementCount == 0 { return Step(phases: []) { _, _, _ in } }
    let filters = try attributes.filters(context)
    // Axes behind the last one that changes move together, as one block of bytes.
    let lastAxis = filters.last?.axis ?? -1
    let length = input.count(of: lastAxis + 1..<input.rank)
    let block = length * type.byteWidth
    // Blocks may lie in rows, as the channels of images do.
    var (source, target) = (length, length)
    var takesRows = false
    if lastAxis >= 0, !context.spread.isEmpty, context.spread.allSatisfy({ [0, context.inputs.count].contains($0) }),
      let from = context.distance(input: 0, rowsOf: length), let to = context.distance(output: 0, rowsOf: length)
    {
      (source, target, takesRows) = (from, to, true)
    }
    let gather = NearestGather(
      rows: output.count(of: 0..<max(lastAxis, 0)), width: lastAxis < 0 ? 1 : output[lastAxis], block: block,
      targetDistance: target * type.byteWidth, outerExtents: Array(output.dims[..<max(lastAxis, 0)]),
      strides: Array(input.strides[..<max(lastAxis + 1, 0)]).map { $0 / length * source * type.byteWidth },
      positions: (0...max(lastAxis, 0)).map { axis in filters.first { $0.axis == axis }?.positions },
      isOutside: (0...max(lastAxis, 0)).map { axis in filters.first { $0.axis == axis }?.isOutside ?? [] },
      fill: filters.contains { !$0.isOutside.isEmpty } ? attributes.extrapolationBytes(type) : [])
    let partition = Partition(gather.rows, of: (.medium + .copying(bytes: block)) * gather.width)
    var step = Step.parallel(parts: partition.parts) { run, part in
      gather.run(partition.range(part), run.inputBytes(0), run.outputBytes(0))
    }.named("nearest")
    if takesRows { step.spread = context.spread }
    return step
  }
}

/// Rows of blocks of bytes, each block from a position of its own.
private struct NearestGather: Sendable {
  let rows: Int
  let width: Int
  let block: Int
  /// Bytes from one block of the output to the next.
  let targetDistance: Int
  let outerExtents: [Int]
  /// Bytes from one element of an axis to the next, in the input.
  let strides: [Int]
  /// The input position of every output position of an axis; nil where they are the same.
  let positions: [[Int]?]
  let isOutside: [[Bool]]
  /// The bytes of one element outside, if there are any.
  let fill: [UInt8]
  /// How often each block of a row stands in the output, one after the other; 1 where that differs.
  private let repeats: Int

  init(
    rows: Int, width: Int, block: Int, targetDistance: Int, outerExtents: [Int], strides: [Int], positions: [[Int]?],
    isOutside: [[Bool]], fill: [UInt8]
  ) {
    (self.rows, self.width, self.block, self.targetDistance) = (rows, width, block, targetDistance)
    (self.outerExtents, self.strides, self.positions) = (outerExtents, strides, positions)
    (self.isOutside, self.fill) = (isOutside, fill)
    let isDense = targetDistance == block && strides.last == block && [1, 2, 4, 8].contains(block)
    let last = (positions.last ?? nil) ?? []
    let first = last.prefix { $0 == last.first }.count
    let isEven = isDense && first > 1 && last.count % first == 0 && last.indices.allSatisfy { last[$0] == $0 / first }
    repeats = isEven ? first : 1
  }

  func run(_ range: Range<Int>, _ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer) {
    if strides.isEmpty {
      if !range.isEmpty { y.copyMemory(from: x, byteCount: block) }
      return
    }
    let lastAxis = strides.count - 1
    let stride = strides[lastAxis]
    var previous = -1
    for row in range {
      var offset = 0
      var rest = row
      var isRowOutside = false
      for axis in Swift.stride(from: lastAxis - 1, through: 0, by: -1) {
        let position = rest % outerExtents[axis]
        rest /= outerExtents[axis]
        offset &+= (positions[axis]?[position] ?? position) &* strides[axis]
        if !isOutside[axis].isEmpty, isOutside[axis][position] { isRowOutside = true }
      }
      let target = y + row &* width &* targetDistance
      if offset == previous, fill.isEmpty, targetDistance == block {
        target.copyMemory(from: target - width &* block, byteCount: width &* block)
        continue
      }
      previous = offset
      if repeats > 1 {
        repeatBlocks(x + offset, target)
      } else if let columns = positions[lastAxis] {
        columns.withUnsafeBufferPointer { moveBlocks(x + offset, target, $0, stride: stride) }
      } else {
        for column in 0..<width {
          (target + column &* targetDistance).copyMemory(from: x + offset + column &* stride, byteCount: block)
        }
      }
      if fill.isEmpty { continue }
      for column in 0..<width where isRowOutside || (!isOutside[lastAxis].isEmpty && isOutside[lastAxis][column]) {
        for start in Swift.stride(from: 0, to: block, by: fill.count) {
          for index in 0..<fill.count {
            target.storeBytes(
              of: fill[index], toByteOffset: column &* targetDistance &+ start &+ index, as: UInt8.self)
          }
        }
      }
    }
  }

  /// A row, as the transposition of rows that are all the same one.
  private func repeatBlocks(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer) {
    let count = width / repeats
    switch block {
    case 1: apus_kernels().pointee.transpose_1(repeats, count, source, 0, target, repeats)
    case 2: apus_kernels().pointee.transpose_2(repeats, count, source, 0, target, repeats)
    case 4: apus_kernels().pointee.transpose_4(repeats, count, source, 0, target, repeats)
    default: apus_kernels().pointee.transpose_8(repeats, count, source, 0, target, repeats)
    }
  }

  @inline(__always)
  private func moveBlocks(
    _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ columns: UnsafeBufferPointer<Int>, stride: Int
  ) {
    switch targetDistance == block && stride == block ? block : 0 {
    case 1: move(UInt8.self, source, target, columns)
    case 2: move(UInt16.self, source, target, columns)
    case 4: move(UInt32.self, source, target, columns)
    case 8: move(UInt64.self, source, target, columns)
    default:
      for column in columns.indices {
        (target + column &* targetDistance).copyMemory(from: source + columns[column] &* stride, byteCount: block)
      }
    }
  }

  /// Blocks of one element.
  @inline(__always)
  private func move<Word>(
    _ type: Word.Type, _ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer,
    _ columns: UnsafeBufferPointer<Int>
  ) {
    let (from, to) = (source.assumingMemoryBound(to: Word.self), target.assumingMemoryBound(to: Word.self))
    for column in columns.indices { to[column] = from[columns[column]] }
  }
}

extension ResizeAttributes {
  /// The extrapolation value as one element of a type; zero bytes for types that are no numbers.
  fileprivate func extrapolationBytes(_ type: DataType) -> [UInt8] {
    let real: DataType = type == .complex64 ? .float32 : type == .complex128 ? .float64 : type
    var bytes = [UInt8](repeating: 0, count: type.byteWidth)
    guard let convert = elementConverter(from: .float32, to: real) else { return bytes }
    withUnsafeBytes(of: extrapolation) { source in
      bytes.withUnsafeMutableBytes { target in
        if let source = source.baseAddress, let target = target.baseAddress { convert(source, target, 1) }
      }
    }
    return bytes
  }
}

/// Interpolates in float32 or float64, one axis after the other. Complex numbers are pairs along one more axis.
/// Not a `Kernel` itself: a generic type runs unspecialised behind a protocol. `prepared` is called on concrete ones.
struct FilterResize<Element: SampledElement & SendableMetatype>: Sendable {
  let attributes: ResizeAttributes

  /// One axis: rows of `inner` elements, `input` of them in each of `outer` blocks, become `output` rows a block.
  fileprivate struct Pass: Sendable {
    let outer: Int
    let inner: Int
    let input: Int
    let output: Int
    let taps: Int
    let positions: [Int]
    let weights: [Element]
    let isOutside: [Bool]
    let partition: Partition
  }

  @inline(__always) var prepared: PreparedKernel {
    .planned { (context) throws(OperatorError) in try plan(context) }
  }

  private func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    guard let type = context.inputs.first??.dataType else { throw .mismatch("the input is missing") }
    if context.outputShape(0).elementCount == 0 { return Step(phases: []) { _, _, _ in } }
    var shape = context.shape(0)
    let filters = try attributes.filters(context)
    var passes: [Pass] = []
    // Two buffers in turn hold what lies between the passes.
    var bufferBytes = [0, 0]
    for (index, filter) in filters.enumerated() {
      let outer = shape.count(of: 0..<filter.axis)
      let inner = shape.count(of: filter.axis + 1..<shape.rank) * (type.isComplex ? 2 : 1)
      shape[filter.axis] = filter.output
      guard shape.checkedElementCount != nil else {
        throw OperatorError(.limit, "resizing axis by axis leads through the shape \(shape), which no memory holds")
      }
      passes.append(
        Pass(
          outer: outer, inner: inner, input: filter.input, output: filter.output, taps: filter.taps,
          positions: filter.positions, weights: filter.weights.map { Element($0) }, isOutside: filter.isOutside,
          partition: Partition(outer * filter.output, of: .light * 2 * inner * filter.taps)))
      if index < filters.count - 1 {
        bufferBytes[index % 2] = max(
          bufferBytes[index % 2], aligned(outer * filter.output * inner * MemoryLayout<Element>.stride))
      }
    }
    let secondBuffer = bufferBytes[0]
    let copied = Partition(context.inputs[0]?.byteCount ?? 0, of: .copying(bytes: 1))
    let extrapolation = Element(attributes.extrapolation)
    if passes.isEmpty {
      return .parallel(parts: copied.parts) { run, part in
        let range = copied.range(part)
        (run.outputBytes(0) + range.lowerBound).copyMemory(
          from: run.inputBytes(0) + range.lowerBound, byteCount: range.count)
      }.named("copy")
    }
    return Step(phases: passes.map(\.partition.parts), scratchBytes: bufferBytes[0] + bufferBytes[1]) {
      [passes] run, phase, part in
      func buffer(_ index: Int) -> UnsafeMutablePointer<Element> {
        (run.scratch + (index % 2 == 0 ? 0 : secondBuffer)).assumingMemoryBound(to: Element.self)
      }
      let source = phase == 0 ? run.input(0) : UnsafePointer(buffer(phase - 1))
      let target = phase == passes.count - 1 ? run.output(0) : buffer(phase)
      passes[phase].run(part, source, target, extrapolation)
    }.named("separable")
  }
}

extension FilterResize.Pass {
  fileprivate func run(
    _ part: Int, _ x: UnsafePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ extrapolation: Element
  ) {
    positions.withUnsafeBufferPointer { positions in
      weights.withUnsafeBufferPointer { weights in
        let rows = partition.range(part)
        var (block, element) = rows.lowerBound.quotientAndRemainder(dividingBy: output)
        for row in rows {
          defer {
            element &+= 1
            if element == output { (block, element) = (block &+ 1, 0) }
          }
          let target = y + row &* inner
          if !isOutside.isEmpty, isOutside[element] {
            target.update(repeating: extrapolation, count: inner)
            continue
          }
          let source = x + block &* input &* inner
          let first = element &* taps
          if inner == 1 && taps == 2 {
            target[0] = weights[first] * source[positions[first]] + weights[first &+ 1] * source[positions[first &+ 1]]
          } else if inner == 1 {
            var sum: Element = 0
            for tap in first..<first &+ taps { sum += weights[tap] * source[positions[tap]] }
            target[0] = sum
          } else if taps == 2 {
            let (a, b) = (source + positions[first] &* inner, source + positions[first &+ 1] &* inner)
            let (p, q) = (weights[first], weights[first &+ 1])
            for index in 0..<inner { target[index] = p * a[index] + q * b[index] }
          } else {
            let (start, weight) = (source + positions[first] &* inner, weights[first])
            for index in 0..<inner { target[index] = weight * start[index] }
            for tap in first &+ 1..<first &+ taps {
              let (values, weight) = (source + positions[tap] &* inner, weights[tap])
              for index in 0..<inner { target[index] += weight * values[index] }
            }
          }
        }
      }
    }
  }
}
