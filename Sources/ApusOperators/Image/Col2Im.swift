// Col2Im: adds up the columns of blocks into an image. https://onnx.ai/onnx/operators/onnx__Col2Im.html
// Versions: 18.

import ApusGraph
import ApusTensor

struct Col2Im: OperatorDefinition {
  let schema = OperatorSchema(
    "Col2Im", versions: [18],
    inputs: [
      .required("input", "T"), .required("image_shape", "tensor(int64)", readWhenPlanning: true),
      .required("block_shape", "tensor(int64)", readWhenPlanning: true),
    ],
    outputs: [.required("output", "T")],
    attributes: [.optional("dilations", .ints), .optional("pads", .ints), .optional("strides", .ints)],
    types: ["T": .allBeforeBFloat16 + [.bfloat16], "tensor(int64)": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if context.type(0) == .string { throw .mismatch("strings cannot be added") }
    let input = context.shape(0)
    if let input, input.count != 3 {
      throw .mismatch("the input has the shape \(input); expected [batch, channels × block, blocks]")
    }
    let (image, block) = (context.values(1), context.values(2))
    guard let rank = image?.count ?? block?.count ?? context.shape(1)?.first?.known ?? context.shape(2)?.first?.known
    else {
      return context.set(0, context.type(0), nil)
    }
    if let image, let block, image.count != block.count {
      throw .mismatch("image_shape is \(image) and block_shape is \(block); expected as many extents")
    }
    guard rank <= TensorFact.maximumValues else { throw .mismatch("image_shape has \(rank) elements") }
    let window = try WindowAttributes(context, rank: rank)
    for extent in (image ?? []) + (block ?? []) {
      if let known = extent.known, known < 1 || known > WindowAttributes.limit {
        throw .mismatch("image_shape or block_shape has the extent \(known); expected 1 or more")
      }
    }
    var channels = Dim.unknown
    if let input, let block {
      let taps = block.reduce(Dim(1), *)
      channels = input[1].dividedRoundingDown(by: taps)
      if let all = input[1].known, let taps = taps.known, all % taps != 0 {
        throw .mismatch("\(all) rows do not divide into blocks of \(taps) elements")
      }
      if let image {
        let blocks = try window.outputExtents(input: image, kernel: block).reduce(Dim(1), *)
        if blocks.isSurelyDifferent(from: input[2]) {
          throw .mismatch("the input has \(input[2]) blocks; \(blocks) fit into the image \(image)")
        }
      }
    }
    context.set(
      0, context.type(0), [input?[0] ?? .unknown, channels] + (image ?? [Dim](repeating: .unknown, count: rank)))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32, .complex64: plan(RealSum<Float>.self, context)
    case .float64, .complex128: plan(RealSum<Double>.self, context)
    case .int8, .uint8: plan(WrappingSum<UInt8>.self, context)
    case .int16, .uint16: plan(WrappingSum<UInt16>.self, context)
    case .int32, .uint32: plan(WrappingSum<UInt32>.self, context)
    case .int64, .uint64: plan(WrappingSum<UInt64>.self, context)
    case .bool: plan(TruthSum.self, context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { context in plan(RealSum<Float>.self, context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func plan<Sum: ColumnSum>(_ sum: Sum.Type, _ context: PrepareContext) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let lanes = context.optionalType(0)?.isComplex ?? false ? 2 : 1
    return .planned { (plan) throws(OperatorError) in
      guard let image = plan.integers(1), let block = plan.integers(2) else {
        throw .mismatch("image_shape or block_shape is missing")
      }
      let window = try attributes.window(rank: image.count)
      let extents = try window.outputExtents(input: image.map { Dim($0) }, kernel: block.map { Dim($0) })
      guard let blocks = extents.concrete?.dims, Shape(blocks).checkedElementCount == plan.shape(0)[2] else {
        throw .mismatch("the input has \(plan.shape(0)[2]) blocks; \(extents) fit into the image \(image)")
      }
      let columns = BlockColumns<Sum>(
        geometry: window.geometry(input: SpatialExtents(image), kernel: block, output: SpatialExtents(blocks)),
        lanes: lanes, isEmpty: plan.shape(0).elementCount == 0)
      let (area, count) = (columns.geometry.inputCount, columns.geometry.outputCount)
      let taps = columns.geometry.tapCount
      let planes = Partition(plan.outputShape(0).count(of: 0..<2), of: .light * lanes * taps * count)
      return .parallel(parts: planes.parts) { run, part in
        for plane in planes.range(part) {
          columns.add(run.input(0) + plane &* taps &* count &* lanes, run.output() + plane &* area &* lanes)
        }
      }.named("direct")
    }
  }
}

/// How elements add up.
private protocol ColumnSum: SendableMetatype {
  associatedtype Element: BitwiseCopyable & Sendable & SendableMetatype
  static var zero: Element { get }
  static func add(_ a: Element, _ b: Element) -> Element
}

private enum RealSum<Element: BinaryFloatingPoint & BitwiseCopyable & Sendable & SendableMetatype>: ColumnSum {
  static var zero: Element { 0 }
  @inline(__always) static func add(_ a: Element, _ b: Element) -> Element { a + b }
}

private enum WrappingSum<Element: FixedWidthInteger & BitwiseCopyable & Sendable & SendableMetatype>: ColumnSum {
  static var zero: Element { 0 }
  @inline(__always) static func add(_ a: Element, _ b: Element) -> Element { a &+ b }
}

/// Sums of truth values are true or not.
private enum TruthSum: ColumnSum {
  static var zero: UInt8 { 0 }
  @inline(__always) static func add(_ a: UInt8, _ b: UInt8) -> UInt8 { a | b }
}

/// The columns of one plane: a row of blocks for every element of a block.
private struct BlockColumns<Sum: ColumnSum>: Sendable {
  let geometry: WindowGeometry
  /// Numbers of an element: 2 for complex.
  let lanes: Int
  /// Lines of blocks, and elements of a block along all axes but the last.
  private let lines: Int
  private let outerTaps: Int
  /// Where the line of the plane starts that an element of the blocks of a line falls on, in elements; -1 outside. One
  /// line after the other, for every element.
  private let rows: [Int]

  /// `isEmpty`: there are no planes, and blocks may be as many as nobody can count.
  init(geometry: WindowGeometry, lanes: Int, isEmpty: Bool) {
    (self.geometry, self.lanes) = (geometry, lanes)
    let last = geometry.rank - 1
    let width = geometry.output[last]
    let (lines, taps) =
      width == 0 || isEmpty
      ? (0, 0) : (geometry.outputCount / width, geometry.tapCount / geometry.kernel[last])
    (self.lines, outerTaps) = (lines, taps)
    rows = (0..<lines * taps).map { index in
      BlockColumns.row(index % lines, index / lines, geometry).map { $0 * geometry.input[last] } ?? -1
    }
  }

  /// The elements of blocks backwards, so that every element of the plane takes its blocks in their order.
  func add(_ x: UnsafePointer<Sum.Element>, _ y: UnsafeMutablePointer<Sum.Element>) {
    y.update(repeating: Sum.zero, count: geometry.inputCount &* lanes)
    let last = geometry.rank - 1
    let (kernel, width, extent) = (geometry.kernel[last], geometry.output[last], geometry.input[last])
    let stride = geometry.strides[last]
    if lines == 0 { return }
    rows.withUnsafeBufferPointer { rows in
      for outer in Swift.stride(from: outerTaps - 1, through: 0, by: -1) {
        for column in Swift.stride(from: kernel - 1, through: 0, by: -1) {
          let start = column &* geometry.dilations[last] &- geometry.padBegin[last]
          // Blocks whose element lies in the plane.
          let low = start >= 0 ? 0 : (stride &- 1 &- start) / stride
          let high = start >= extent ? 0 : min(width, (extent &- 1 &- start) / stride &+ 1)
          if low >= high { continue }
          let source = x + ((outer &* kernel &+ column) &* lines &* width &+ low) &* lanes
          let target = y + (start &+ low &* stride) &* lanes
          for line in 0..<lines where rows[outer &* lines &+ line] >= 0 {
            addLine(
              source + line &* width &* lanes, target + rows[outer &* lines &+ line] &* lanes, count: high &- low,
              stride: stride)
          }
        }
      }
    }
  }

  /// Adds `count` elements that are neighbours to some that are `stride` apart.
  @inline(__always)
  private func addLine(
    _ source: UnsafePointer<Sum.Element>, _ target: UnsafeMutablePointer<Sum.Element>, count: Int, stride: Int
  ) {
    if stride == 1 {
      for index in 0..<count &* lanes { target[index] = Sum.add(target[index], source[index]) }
      return
    }
    for index in 0..<count {
      for lane in 0..<lanes {
        let place = index &* stride &* lanes &+ lane
        target[place] = Sum.add(target[place], source[index &* lanes &+ lane])
      }
    }
  }

  /// The line of the plane that an element of the blocks of a line falls on; nil outside.
  private static func row(_ line: Int, _ tap: Int, _ geometry: WindowGeometry) -> Int? {
    var (line, tap, row, scale) = (line, tap, 0, 1)
    for axis in Swift.stride(from: geometry.rank - 2, through: 0, by: -1) {
      let coordinate =
        line % geometry.output[axis] &* geometry.strides[axis] &- geometry.padBegin[axis]
        &+ tap % geometry.kernel[axis] &* geometry.dilations[axis]
      if coordinate < 0 || coordinate >= geometry.input[axis] { return nil }
      row &+= coordinate &* scale
      scale &*= geometry.input[axis]
      line /= geometry.output[axis]
      tap /= geometry.kernel[axis]
    }
    return row
  }
}
