// GatherElements: for each index the element that it names along an axis.
// https://onnx.ai/onnx/operators/onnx__GatherElements.html
// Versions: 11, 13 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

struct GatherElements: OperatorDefinition {
  let schema = OperatorSchema(
    "GatherElements", versions: [11, 13],
    inputs: [.required("data", "T"), .required("indices", "Tind")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: 0)], types: ["T": .basic, "Tind": .indices], traits: .rearranges)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let data = context.shape(0), let indices = context.shape(1) {
      let axis = try resolveAxis(try context.int("axis"), rank: data.count)
      try checkIndexShape(indices, data: data, axis: axis)
    }
    context.set(0, context.type(0), context.shape(1))
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    return .moving { plan throws(OperatorError) in
      guard let data = plan.inputs[0], let indices = plan.inputs[1], let reader = IndexReader(indices.dataType) else {
        throw .mismatch("data or indices is no tensor")
      }
      let axis = try resolveAxis(givenAxis, rank: data.shape.rank)
      let width = data.dataType.byteWidth
      let lines = IndexLines(indices: indices.shape, data: data.shape, axis: axis, width: width)
      let extent = data.shape[axis]
      let gather = GatherRun(width: width)
      let partition = Partition(lines.count, of: .medium * lines.length)
      let parts = indices.count == 0 ? 0 : partition.parts
      let (axisStride, step) = (lines.axisStride, lines.step)
      let findOffsets = apus_kernels().pointee.index_offsets
      return Step.parallel(parts: parts, scratchBytes: parts * IndexReader.block * 8) { run, part in
        let block = run.scratch.assumingMemoryBound(to: Int.self) + part &* IndexReader.block
        for line in partition.range(part) {
          let base = run.inputBytes(0) + lines.dataOffset(line)
          var start = 0
          while start < lines.length {
            let length = min(IndexReader.block, lines.length &- start)
            let first = line &* lines.length &+ start
            reader.read(run.inputBytes(1), from: first, length, into: block)
            guard findOffsets(length, block, extent, axisStride, start &* step, step, block) else {
              reader.read(run.inputBytes(1), from: first, length, into: block)
              return run.fail(indexMessage(block, length, extent: extent, axis: axis, shape: data.shape))
            }
            gather(base, block, length, run.outputBytes() + first &* width)
            start &+= length
          }
        }
      }.named("gather elements", cost: .copying(bytes: width) * indices.count)
    }
  }
}

/// The message for the first of some indices that is beyond its axis.
func indexMessage(_ indices: UnsafePointer<Int>, _ count: Int, extent: Int, axis: Int, shape: Shape) -> String {
  let first = (0..<count).first { indices[$0] < -extent || indices[$0] >= extent } ?? 0
  return indexMessage(indices[first], extent: extent, axis: axis, shape: shape)
}

/// The message for an index beyond its axis.
func indexMessage(_ index: Int, extent: Int, axis: Int, shape: Shape) -> String {
  "indices has \(index); expected \(-extent) to \(extent - 1) for axis \(axis) of the shape \(shape)"
}

/// Indices as those of GatherElements: the rank of the data, and no more than it on all axes but one.
func checkIndexShape(_ indices: [Dim], data: [Dim], axis: Int) throws(OperatorError) {
  guard indices.count == data.count else {
    throw .mismatch("indices has the shape \(indices.text), data \(data.text); expected equal ranks")
  }
  for position in data.indices where position != axis {
    if let a = indices[position].known, let b = data[position].known, a > b {
      throw .mismatch("indices has the shape \(indices.text), data \(data.text): beyond the data on axis \(position)")
    }
  }
}

/// The lines along the last axis of a tensor of indices, and where each begins in the data that they index along
/// `axis`.
struct IndexLines: Sendable {
  /// The number of lines and the length of each.
  let count: Int
  let length: Int
  /// Bytes from one element of the data to the next along the indexed axis.
  let axisStride: Int
  /// Bytes that one step along a line moves in the data by itself: 0 where the line lies along the indexed axis.
  let step: Int
  /// The axes of the indices before the last, with the bytes that a step on each moves in the data.
  private let outer: [(extent: Int, stride: Int)]

  init(indices: Shape, data: Shape, axis: Int, width: Int) {
    let strides = data.strides.map { $0 * width }
    let last = indices.rank - 1
    length = indices[last]
    count = indices.count(of: 0..<last)
    axisStride = strides[axis]
    step = axis == last ? 0 : width
    outer = (0..<last).map { (indices[$0], $0 == axis ? 0 : strides[$0]) }
  }

  /// Bytes from the start of the data to the line's element 0 with the index 0.
  func dataOffset(_ line: Int) -> Int {
    var rest = line
    var offset = 0
    var axis = outer.count - 1
    while axis >= 0 {
      offset &+= rest % outer[axis].extent &* outer[axis].stride
      rest /= outer[axis].extent
      axis -= 1
    }
    return offset
  }
}
