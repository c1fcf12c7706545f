// MaxUnpool: puts elements back where MaxPool found them, zeros elsewhere.
// https://onnx.ai/onnx/operators/onnx__MaxUnpool.html
// Versions: 9, 11 (defaults of pads and strides stated), 22 (bfloat16).

import ApusGraph
import ApusTensor

struct MaxUnpool: OperatorDefinition {
  let schema = OperatorSchema(
    "MaxUnpool", versions: [9, 11, 22],
    inputs: [.required("X", "T1"), .required("I", "T2"), .optional("output_shape", "T2", readWhenPlanning: true)],
    outputs: [.required("output", "T1")],
    attributes: [.required("kernel_shape", .ints), .optional("pads", .ints), .optional("strides", .ints)],
    types: ["T1": .floats, "T2": .int64], portable: .moreTypes)

  /// The shape that the indices count in.
  private func indexedShape(_ context: some OperatorContext, input: [Dim]) throws(OperatorError) -> [Dim] {
    let window = try WindowAttributes(context, rank: input.count - 2)
    guard let kernel = window.kernel else { throw .invalid("attribute kernel_shape is empty") }
    var shape = Array(input[..<2])
    for axis in 0..<window.rank {
      let pads = Dim(window.padBegin[axis]) + Dim(window.padEnd[axis])
      let extent = (input[axis + 2] - 1) * Dim(window.strides[axis]) + Dim(kernel[axis]) - pads
      if let known = extent.known, known < 0 {
        throw .mismatch("spatial axis \(axis) of the output would have the extent \(known)")
      }
      shape.append(extent)
    }
    return shape
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let input = context.shape(0) else { return context.set(0, context.type(0), nil) }
    if let indices = context.shape(1),
      indices.count != input.count || zip(indices, input).contains(where: { $0.isSurelyDifferent(from: $1) })
    {
      throw .mismatch("the indices have the shape \(indices); expected that of the input, \(input)")
    }
    let indexed = try indexedShape(context, input: input)
    guard context.isPresent(2) else { return context.set(0, context.type(0), indexed) }
    guard let given = context.values(2) else {
      return context.set(0, context.type(0), [Dim](repeating: .unknown, count: input.count))
    }
    guard given.count == input.count else {
      throw .mismatch("output_shape is \(given); expected \(input.count) extents")
    }
    for (extent, needed) in zip(given, indexed) {
      if let extent = extent.known, let needed = needed.known, extent < needed {
        throw .mismatch("output_shape is \(given), which is smaller than the unpooled shape \(indexed)")
      }
    }
    context.set(0, context.type(0), given)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let width = try context.type(0).byteWidth
    return .planned { (plan) throws(OperatorError) in
      let shape = try indexedShape(attributes, input: [Dim](plan.shape(0)))
      guard let indexed = shape.concrete, indexed.rank == plan.outputShape(0).rank else {
        throw .mismatch("the shape of the output is not known")
      }
      switch width {
      case 2: return MaxUnpool.step(UInt16.self, indexed: indexed, plan)
      case 4: return MaxUnpool.step(UInt32.self, indexed: indexed, plan)
      default: return MaxUnpool.step(UInt64.self, indexed: indexed, plan)
      }
    }
  }

  /// Zeros everywhere, then the elements in order: the last of several with the same index stays.
  private static func step<Word: FixedWidthInteger & SendableMetatype>(
    _ type: Word.Type, indexed: Shape, _ plan: PlanContext
  ) -> Step {
    let output = plan.outputShape(0)
    let (count, total, limit) = (plan.shape(0).elementCount, output.elementCount, indexed.elementCount)
    let fill = Partition(total, of: .light)
    let isSame = indexed == output
    let strides = output.strides
    return Step(phases: [fill.parts, 1]) { run, phase, part in
      let y: UnsafeMutablePointer<Word> = run.output()
      if phase == 0 {
        let range = fill.range(part)
        return (y + range.lowerBound).update(repeating: 0, count: range.count)
      }
      let x: UnsafePointer<Word> = run.input(0)
      let indices: UnsafePointer<Int> = run.input(1)
      for element in 0..<count {
        let index = indices[element]
        guard index >= 0, index < limit else {
          return run.fail("index \(index) at position \(element) is out of range; expected 0 to \(limit - 1)")
        }
        var position = index
        if !isSame {
          var rest = index
          position = 0
          for axis in Swift.stride(from: indexed.rank - 1, through: 0, by: -1) {
            position &+= rest % indexed[axis] &* strides[axis]
            rest /= indexed[axis]
          }
        }
        y[position] = x[element]
      }
    }.named("scatter")
  }
}
