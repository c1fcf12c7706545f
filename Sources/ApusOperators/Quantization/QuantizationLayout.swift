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
  ///   - forms: how `body` wants scales and zero points.
  ///   - body: works on a range that begins and ends at a byte.
  static func kernel(
    _ name: String, axis: Int, blockSize: Int, operations: Int, code: DataType, forms: ParameterForms,
    _ body: @escaping @Sendable (RunContext, QuantizationParameters, QuantizationLayout, Range<Int>) -> Void
  ) -> PreparedKernel {
    .planned { plan throws(OperatorError) in
      let hasZero = plan.isPresent(2)
      let layout = try QuantizationLayout(plan.shape(0), scale: plan.shape(1), axis: axis, blockSize: blockSize)
        .spread(zero: hasZero ? forms.zeroWidth : nil)
      try requireSameShape(hasZero ? plan.shape(2) : nil, plan.shape(1))
      let count = plan.outputShape(0).elementCount
      let partition = GroupedPartition(count, of: .medium)
      let conversion = forms.conversion(plan.shape(1).elementCount, zeros: hasZero ? code : nil)
      return Step(phases: conversion.phases + [partition.parts], scratchBytes: conversion.scratchBytes) {
        run, phase, part in
        if phase < conversion.phases.count { return conversion.run(run, part) }
        body(run, conversion.parameters(run), layout, partition.range(part))
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

  /// The same with `operands` for scales of float32 and zero points of this width; nil: there is no zero point.
  private func spread(zero: Int?) -> QuantizationLayout {
    guard let view, run < QuantizationLayout.longRun else { return self }
    let shapes = [view.scale] + (zero == nil ? [] : [view.scale])
    let broadcast = Broadcast(output: view.x, inputs: shapes)
    var result = self
    result.operands = BroadcastBlocks(
      broadcast, output: view.x, inputs: shapes, widths: [MemoryLayout<Float>.size] + (zero.map { [$0] } ?? []))
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

// MARK: - Scales and zero points as kernels want them

/// Where the scales and zero points of a run lie. `zeros` points nowhere useful where there are none.
struct QuantizationParameters {
  let scales: UnsafeRawPointer
  let zeros: UnsafeRawPointer
}

/// The form in which loops read scales and zero points: what converts them to float32 and to codes, nil where they lie
/// in that form, and the bytes of a zero point in it.
struct ParameterForms: Sendable {
  var scales: CastKernel?
  /// Bytes of a scale as it lies.
  var scaleWidth = 4
  var zeros: CastKernel?
  var zeroWidth: Int

  /// The conversion of `count` scales, and of as many zero points if there are any.
  fileprivate func conversion(_ count: Int, zeros type: DataType?) -> ParameterConversion {
    ParameterConversion(forms: self, count: count, zeroBits: type?.bits ?? 0, hasZeros: type != nil)
  }
}

/// Scales and zero points that are converted before the elements are worked on.
private struct ParameterConversion: Sendable {
  private let count: Int
  private let scales: CastKernel?
  private let scaleWidth: Int
  private let zeros: CastKernel?
  private let zeroBits: Int
  private let zeroWidth: Int
  private let partition: GroupedPartition

  init(forms: ParameterForms, count: Int, zeroBits: Int, hasZeros: Bool) {
    (self.count, scales, zeros) = (count, forms.scales, hasZeros ? forms.zeros : nil)
    (scaleWidth, self.zeroBits, zeroWidth) = (forms.scaleWidth, zeroBits, forms.zeroWidth)
    partition = GroupedPartition(count, of: .light * 2)
  }

  private var zeroOffset: Int { scales == nil ? 0 : aligned(count &* 4) }
  var scratchBytes: Int { zeroOffset &+ (zeros == nil ? 0 : aligned(count &* zeroWidth)) }
  var phases: [Int] { scales == nil && zeros == nil ? [] : [partition.parts] }

  func run(_ run: RunContext, _ part: Int) {
    let range = partition.range(part)
    let start = range.lowerBound
    if let scales { scales(range.count, run.inputBytes(1) + start &* scaleWidth, run.scratch + start &* 4) }
    zeros?(
      range.count, run.inputBytes(2) + (start &* zeroBits) >> 3, run.scratch + (zeroOffset &+ start &* zeroWidth))
  }

  func parameters(_ run: RunContext) -> QuantizationParameters {
    QuantizationParameters(
      scales: scales == nil ? run.inputBytes(1) : UnsafeRawPointer(run.scratch),
      zeros: zeros == nil ? run.inputBytes(2) : UnsafeRawPointer(run.scratch + zeroOffset))
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
