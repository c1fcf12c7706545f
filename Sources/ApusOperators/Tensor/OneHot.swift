// OneHot: for each index a vector with one element on, all others off. https://onnx.ai/onnx/operators/onnx__OneHot.html
// Versions: 9, 11 (negative axis and indices), 28 (bfloat16 values).

import ApusGraph
import ApusTensor

struct OneHot: OperatorDefinition {
  let schema = OperatorSchema(
    "OneHot", versions: [9, 11, 28],
    inputs: [.required("indices", "T1"), .required("depth", "T2", readWhenPlanning: true), .required("values", "T3")],
    outputs: [.required("output", "T3")],
    attributes: [.int("axis", default: -1)],
    types: ["T1": .integers + .ieeeFloats, "T2": .integers + .ieeeFloats, "T3": .basic], traits: .movesData,
    portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let count = context.shape(2)?.product.known, count != 2 {
      throw .mismatch("values has \(count) elements; expected [off, on]")
    }
    if let count = context.shape(1)?.product.known, count != 1 {
      throw .mismatch("depth has \(count) elements; expected one")
    }
    guard var shape = context.shape(0) else { return context.set(0, context.type(2), nil) }
    let axis = try resolveAxis(try context.int("axis"), rank: shape.count + 1)
    var depth = context.values(1)?.first ?? .unknown
    if let tensor = context.constant(1), let number = IndexReader.integers(of: tensor)?.first { depth = Dim(number) }
    if let depth = depth.known, depth < 0 { throw .mismatch("depth is \(depth)") }
    shape.insert(depth, at: axis)
    context.set(0, context.type(2), shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let reader = IndexReader(type) else { throw context.unsupportedType(type) }
    let givenAxis = try context.int("axis")
    return .moving { plan throws(OperatorError) in
      guard let output = plan.outputs[0] else { return .views([]) }
      let axis = try resolveAxis(givenAxis, rank: output.shape.rank)
      let depth = output.shape[axis]
      let inner = output.shape.count(of: axis + 1..<output.shape.rank)
      let indices = plan.shape(0).elementCount
      let width = output.dataType.byteWidth
      let fill = try MovementCopy(
        from: .input(2), width: width, extents: [output.count], sourceStrides: [0], targetStrides: [1])
      let filling = fill.partition
      let setting = Partition(indices, of: .medium)
      let parts = indices == 0 || depth == 0 ? 0 : setting.parts
      return Step(
        phases: [output.count == 0 ? 0 : filling.parts, parts], scratchBytes: parts * IndexReader.block * 8
      ) { run, phase, part in
        if phase == 0 { return fill.run(run, filling.range(part)) }
        let block = run.scratch.assumingMemoryBound(to: Int.self) + part &* IndexReader.block
        let range = setting.range(part)
        let on = run.inputBytes(2) + width
        var start = range.lowerBound
        while start < range.upperBound {
          let count = min(IndexReader.block, range.upperBound &- start)
          reader.read(run.inputBytes(0), from: start, count, into: block)
          for offset in 0..<count {
            let index = block[offset] < 0 ? block[offset] &+ depth : block[offset]
            if index < 0 || index >= depth { continue }
            let (outer, column) = ((start &+ offset) / inner, (start &+ offset) % inner)
            (run.outputBytes() + ((outer &* depth &+ index) &* inner &+ column) &* width)
              .copyMemory(from: on, byteCount: width)
          }
          start &+= count
        }
      }.named("one-hot")
    }
  }
}
