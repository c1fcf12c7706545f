// Gather: slices at listed indices along an axis. https://onnx.ai/onnx/operators/onnx__Gather.html
// Versions: 1, 11 (negative indices), 13 (bfloat16).

import ApusGraph
import ApusTensor

struct Gather: OperatorDefinition {
  let schema = OperatorSchema(
    "Gather", versions: [1, 11, 13],
    inputs: [.required("data", "T"), .required("indices", "Tind")], outputs: [.required("output", "T")],
    attributes: [.int("axis", default: 0)], types: ["T": .basic, "Tind": .indices], traits: .rearranges,
    axes: AxisRules.gather)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let data = context.shape(0), let indices = context.shape(1) else {
      return context.set(0, context.type(0), nil)
    }
    let axis = try resolveAxis(try context.int("axis"), rank: data.count)
    context.set(0, context.type(0), Array(data[..<axis]) + indices + data[(axis + 1)...])
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let givenAxis = try context.int("axis")
    return .moving { plan throws(OperatorError) in
      guard let data = plan.inputs[0], let indices = plan.inputs[1], let reader = IndexReader(indices.dataType) else {
        throw .mismatch("data or indices is no tensor")
      }
      let axis = try resolveAxis(givenAxis, rank: data.shape.rank)
      let extent = data.shape[axis]
      let outer = data.shape.count(of: 0..<axis)
      let bytes = data.shape.count(of: axis + 1..<data.shape.rank) * data.dataType.byteWidth
      let count = indices.count
      if outer == 1, let known = plan.integers(1), let first = Gather.firstOfRun(known, extent: extent) {
        return .views([.init(byteOffset: first * bytes)])
      }
      let gather = GatherRun(width: bytes)
      let partition = Partition(outer * count, of: .light * 2 + .copying(bytes: bytes))
      let parts = outer * count * bytes == 0 ? 0 : partition.parts
      return Step.parallel(parts: parts, scratchBytes: parts * IndexReader.block * 8) { run, part in
        let block = run.scratch.assumingMemoryBound(to: Int.self) + part &* IndexReader.block
        let range = partition.range(part)
        var row = range.lowerBound
        while row < range.upperBound {
          let start = row % count
          let length = min(IndexReader.block, count &- start, range.upperBound &- row)
          reader.read(run.inputBytes(1), from: start, length, into: block)
          for offset in 0..<length {
            let index = block[offset] < 0 ? block[offset] &+ extent : block[offset]
            guard index >= 0, index < extent else {
              return run.fail(indexMessage(block[offset], extent: extent, axis: axis, shape: data.shape))
            }
            block[offset] = index &* bytes
          }
          gather(
            run.inputBytes(0) + row / count &* extent &* bytes, block, length, run.outputBytes() + row &* bytes)
          row &+= length
        }
      }.named("gather", cost: .copying(bytes: bytes) * outer * count)
    }
  }

  /// The first of indices that count up by one within the axis; nil for all others.
  private static func firstOfRun(_ indices: [Int], extent: Int) -> Int? {
    guard let first = indices.first, first >= -extent, first < extent else { return nil }
    let start = first < 0 ? first + extent : first
    guard start + indices.count <= extent else { return nil }
    for (offset, index) in indices.enumerated() where index != start + offset && index != start + offset - extent {
      return nil
    }
    return start
  }
}
