// Which scale and zero point belong to which element: per tensor, per index of an axis, or per block along an axis.
// https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html

import ApusGraph
import ApusTensor

/// The granularity of a quantization, for one shape.
struct QuantizationLayout: Sendable {
  private enum Mode: Sendable { case tensor, axis, block }

  private let mode: Mode
  /// The extent of the axis, the elements inside one of its indices, the block size, and the blocks of the axis.
  private let extent: Int
  private let inner: Int
  private let blockSize: Int
  private let blocks: Int
  /// The tensor as seen by a scale that broadcasts to it: both in that view. nil where blocks are not all whole.
  private let view: (x: Shape, scale: Shape)?
  /// What lays out a scale and a zero point for every element; nil where runs with one scale are long.
  private(set) var operands: BroadcastBlocks?

  /// Elements with one scale that are worth a call.
  private static let longRun = 256

  /// The elements that have one scale and lie beside each other.
  private var run: Int {
    switch mode {
    case .tensor: .max
    case .axis: inner
    case .block: inner == 1 ? blockSize : 1
    }
  }

  /// A kernel that works on ranges of a tensor, input 0, whose scales and zero points are inputs 1 and 2.
  ///
  /// - Parameters:
  ///   - operations: of each element.
  ///   - code: the type of zero points.
  ///   - body: works on a range that begins and ends at a byte.
  static func kernel(
    _ name: String, axis: Int, blockSize: Int, operations: Int, code: DataType,
    _ body: @escaping @Sendable (RunContext, QuantizationLayout, Range<Int>) -> Void
  ) -> PreparedKernel {
    .planned { plan throws(OperatorError) in
      let layout = try QuantizationLayout(plan.shape(0), scale: plan.shape(1), axis: axis, blockSize: blockSize)
        .spread(x: plan.inputs[0]?.dataType.byteWidth ?? 4, zero: plan.isPresent(2) ? code.byteWidth : nil)
      try requireSameShape(plan.isPresent(2) ? plan.shape(2) : nil, plan.shape(1))
      let count = plan.outputShape(0).elementCount
      let partition = GroupedPartition(count, of: .medium)
      return Step.parallel(parts: partition.parts) { run, part in
        body(run, layout, partition.range(part))
      }.named(name, cost: Cost(operations: operations * count))
    }
  }

  /// - Parameter blockSize: 0 if the quantization is not by blocks.
  init(_ shape: Shape, scale: Shape, axis given: Int, blockSize: Int) throws(OperatorError) {
    if scale.elementCount == 1 {
      (mode, extent, inner, self.blockSize, blocks, view) = (.tensor, 1, 1, 1, 1, nil)
      return
    }
    // A tensor of rank 1 has one axis, whatever the default says.
    let axis = shape.rank == 1 ? 0 : try resolveAxis(given, rank: shape.rank)
    let extent = shape.rank == 0 ? 1 : shape[axis]
    let inner = shape.rank == 0 ? 1 : shape.count(of: axis + 1..<shape.rank)
    (self.extent, self.inner) = (extent, inner)
    if blockSize == 0 {
      guard scale.rank == 1, shape.rank > 0, scale[0] == extent else {
        throw .mismatch(
          "the scale has the shape \(scale); expected a scalar or [\(extent)], the extent of axis \(axis)")
      }
      (mode, self.blockSize, blocks) = (.axis, 1, extent)
      view = ([shape.count(of: 0..<axis), extent, inner], [1, extent, 1])
    } else {
      guard blockSize > 0 else { throw .mismatch("block_size is \(blockSize); expected a positive number") }
      let blocks = extent / blockSize + (extent % blockSize == 0 ? 0 : 1)
      var expected = shape
      if shape.rank > 0 { expected[axis] = blocks }
      guard scale == expected else {
        throw .mismatch(
          "the scale has the shape \(scale); expected \(expected) for blocks of \(blockSize) on axis \(axis)")
      }
      (mode, self.blockSize, self.blocks) = (.block, blockSize, blocks)
      let outer = shape.rank == 0 ? 1 : shape.count(of: 0..<axis)
      view = extent % blockSize == 0 ? ([outer, blocks, blockSize, inner], [outer, blocks, 1, inner]) : nil
    }
  }

  /// The same with `operands` for elements and zero points of these widths; nil: there is no zero point.
  private func spread(x: Int, zero: Int?) -> QuantizationLayout {
    guard let view, run < QuantizationLayout.longRun else { return self }
    let shapes = [view.x, view.scale] + (zero == nil ? [] : [view.scale])
    let broadcast = Broadcast(output: view.x, inputs: shapes)
    var result = self
    result.operands = BroadcastBlocks(
      broadcast, output: view.x, inputs: shapes, widths: [x, MemoryLayout<Float>.size] + (zero.map { [$0] } ?? []))
    return result
  }

  /// Calls `body` for every run of the elements `range` along which the scale either stands still (stride 0) or moves
  /// with the elements (stride 1).
  @inline(__always)
  func forEachSegment(
    in range: Range<Int>, _ body: (_ start: Int, _ count: Int, _ scale: Int, _ scaleStride: Int) -> Void
  ) {
    var position = range.lowerBound
    while position < range.upperBound {
      var (length, scale, stride) = (range.upperBound &- position, 0, 0)
      switch mode {
      case .tensor: break
      case .axis where inner == 1:
        scale = position % extent
        (length, stride) = (extent &- scale, 1)
      case .axis:
        scale = position / inner % extent
        length = inner &- position % inner
      case .block where inner == 1:
        let (outer, index) = (position / extent, position % extent)
        scale = outer &* blocks &+ index / blockSize
        length = min(blockSize &- index % blockSize, extent &- index)
      case .block:
        let (row, column) = (position / inner, position % inner)
        scale = (row / extent &* blocks &+ row % extent / blockSize) &* inner &+ column
        (length, stride) = (inner &- column, 1)
      }
      let count = min(length, range.upperBound &- position)
      body(position, count, scale, stride)
      position &+= count
    }
  }
}

extension QuantizationLayout {
  /// Writes the scale, or zero point, of every element of `range` to `target`. `load` reads them into lanes of type
  /// `T`.
  @inline(__always)
  func gather<T: BitwiseCopyable>(
    _ range: Range<Int>, _ base: UnsafeRawPointer, _ target: UnsafeMutablePointer<T>, _ load: LaneLoad
  ) {
    forEachSegment(in: range) { start, count, position, stride in
      let own = target + (start &- range.lowerBound)
      if stride == 0 {
        load(base, position, own, 1)
        let value = own[0]
        for i in 1..<max(count, 1) { own[i] = value }
      } else {
        load(base, position, own, count)
      }
    }
  }
}

/// True for a QuantizeLinear or DequantizeLinear that treats all elements alike.
func hasOneScale(_ facts: NodeFacts) -> Bool {
  guard let shape = facts.shape(1) else { return false }
  return shape.count <= 1 && shape.allSatisfy { $0.known == 1 } && facts.optionalInt("block_size") ?? 0 == 0
}

/// Checks that a zero point has the shape of its scale.
func requireSameShape(_ zeroPoint: Shape?, _ scale: Shape) throws(OperatorError) {
  guard let zeroPoint, zeroPoint != scale, zeroPoint.elementCount != 1 || scale.elementCount != 1 else { return }
  throw .mismatch("the zero point has the shape \(zeroPoint); expected \(scale), that of the scale")
}

/// Parts of whole groups of elements, so that no two of them share a byte of a packed tensor.
struct GroupedPartition: Sendable {
  private static let group = 1024
  private let count: Int
  private let groups: Partition
  var parts: Int { groups.parts }

  /// `cost` is that of one element.
  init(_ count: Int, of cost: Cost) {
    self.count = count
    groups = Partition(
      (count + GroupedPartition.group - 1) / GroupedPartition.group, of: cost * GroupedPartition.group)
  }

  func range(_ part: Int) -> Range<Int> {
    let range = groups.range(part)
    return range.lowerBound &* GroupedPartition.group..<min(count, range.upperBound &* GroupedPartition.group)
  }
}
