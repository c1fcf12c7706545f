// ScatterElements: a copy of the data with updates at the places that indices name along an axis.
// https://onnx.ai/onnx/operators/onnx__ScatterElements.html
// Versions: Scatter 9, 11 (deprecated); ScatterElements 11, 13 (bfloat16), 16 (add, mul), 18 (min, max).

import ApusGraph
import ApusTensor
import CApusKernels

/// Updates of one place are applied in the order of the indices.
struct ScatterElements: OperatorDefinition {
  let schema = OperatorSchema(
    "ScatterElements", versions: [11, 13, 16, 18],
    inputs: [.required("data", "T"), .required("indices", "Tind"), .required("updates", "T")],
    outputs: [.required("output", "T")],
    attributes: [.int("axis", default: 0), .string("reduction", default: "none").since(16)],
    types: ["T": .basic, "Tind": .indices], traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    _ = try ScatterReduction.of(context)
    if let data = context.shape(0), let indices = context.shape(1) {
      let axis = try resolveAxis(try context.int("axis"), rank: data.count)
      try checkIndexShape(indices, data: data, axis: axis)
      if let updates = context.shape(2) {
        guard updates.count == indices.count, !zip(updates, indices).contains(where: { $0.isSurelyDifferent(from: $1) })
        else { throw .mismatch("updates has the shape \(updates.text), indices \(indices.text); expected the same") }
      }
    }
    context.copy()
    if try ScatterReduction.of(context) == .none { context.moveValues(of: self) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    let elementType = try context.type(0)
    let reduction = try ScatterReduction.of(context, elementType)
    return .moving { plan throws(OperatorError) in
      guard let data = plan.inputs[0], let indices = plan.inputs[1], let reader = IndexReader(indices.dataType),
        let scatter = ScatterRun(reduction, data.dataType)
      else { throw .unsupported("ScatterElements has no kernel for \(elementType) with \(reduction.rawValue)") }
      let axis = try resolveAxis(givenAxis, rank: data.shape.rank)
      return try ScatterPlan(data: data, indices: indices.shape, axis: axis, reader: reader, scatter: scatter).step
    }
  }
}

/// Scatter, the name of ScatterElements before version 11.
struct Scatter: ImportRule {
  let schema = OperatorSchema(
    "Scatter", versions: [9, 11],
    inputs: [.required("data", "T"), .required("indices", "Tind"), .required("updates", "T")],
    outputs: [.required("output", "T")], attributes: [.int("axis", default: 0)],
    types: ["T": .allBeforeBFloat16, "Tind": .indices])

  let readAs = "ScatterElements"

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    var node = node
    node.op = OperatorID("ScatterElements")
    try builder.append(node)
  }
}

/// The work of a ScatterElements: a copy of the data, then one task for each stretch of places that no other task
/// touches.
///
/// Indices along the last axis: a task is a line of them. Along another axis: a task is a block of columns of the last
/// axis with all their indices along the axis.
private struct ScatterPlan {
  let step: Step

  init(
    data: TensorType, indices: Shape, axis: Int, reader: IndexReader, scatter: ScatterRun
  ) throws(OperatorError) {
    let width = data.dataType.byteWidth
    let extent = data.shape[axis]
    let rank = indices.rank
    let columns = indices[rank - 1]
    let isLast = axis == rank - 1
    let dataStrides = data.shape.strides.map { $0 * width }
    let indexStrides = indices.strides
    // The axes that tell tasks apart, beside the block of columns.
    let outer = (0..<rank - 1).filter { $0 != axis }
      .map { (extent: indices[$0], data: dataStrides[$0], index: indexStrides[$0]) }
    let blocks = isLast ? 1 : (columns + IndexReader.block - 1) / IndexReader.block
    let lines = isLast ? 1 : indices[axis]
    let tasks = outer.reduce(blocks) { $0 * $1.extent }
    let copy = try MovementCopy(
      from: .input(0), width: width, extents: [data.count], sourceStrides: [1], targetStrides: [1])
    let copying = copy.partition
    let scattering = Partition(
      tasks, of: .medium * min(columns, isLast ? columns : IndexReader.block) * lines)
    let parts = indices.elementCount == 0 ? 0 : scattering.parts
    let shape = data.shape
    let findOffsets = apus_kernels().pointee.index_offsets
    step = Step(
      phases: [data.count == 0 ? 0 : copying.parts, parts], scratchBytes: parts * IndexReader.block * 8
    ) { run, phase, part in
      if phase == 0 {
        if run.inputBytes(0) != UnsafeRawPointer(run.outputBytes()) { copy.run(run, copying.range(part)) }
        return
      }
      let places = run.scratch.assumingMemoryBound(to: Int.self) + part &* IndexReader.block
      for task in scattering.range(part) {
        let firstColumn = task % blocks &* IndexReader.block
        let lastColumn = isLast ? columns : min(columns, firstColumn &+ IndexReader.block)
        var rest = task / blocks
        var (dataOffset, indexOffset) = (0, 0)
        for position in outer.indices.reversed() {
          let coordinate = rest % outer[position].extent
          rest /= outer[position].extent
          dataOffset &+= coordinate &* outer[position].data
          indexOffset &+= coordinate &* outer[position].index
        }
        for line in 0..<lines {
          var column = firstColumn
          while column < lastColumn {
            let count = min(IndexReader.block, lastColumn &- column)
            let first = indexOffset &+ (isLast ? 0 : line &* indexStrides[axis]) &+ column
            reader.read(run.inputBytes(1), from: first, count, into: places)
            let step = isLast ? 0 : width
            guard findOffsets(count, places, extent, dataStrides[axis], column &* step, step, places) else {
              reader.read(run.inputBytes(1), from: first, count, into: places)
              return run.fail(indexMessage(places, count, extent: extent, axis: axis, shape: shape))
            }
            scatter(run.outputBytes() + dataOffset, places, run.inputBytes(2) + first &* width, count)
            column &+= count
          }
        }
      }
    }.overwriting(0).named("scatter elements")
  }
}
