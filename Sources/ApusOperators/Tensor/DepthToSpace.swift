// DepthToSpace and SpaceToDepth: blocks of channels to pixels and back.
// https://onnx.ai/onnx/operators/onnx__DepthToSpace.html
// Versions: DepthToSpace 1, 11 (mode), 13, 28 (rank 4 stated); SpaceToDepth 1, 13, 28 (mode).

import ApusGraph
import ApusTensor

struct DepthToSpace: OperatorDefinition {
  let schema = OperatorSchema(
    "DepthToSpace", versions: [1, 11, 13, 28],
    inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.required("blocksize", .int), .string("mode", default: "DCR").since(11)],
    types: ["T": .basic], traits: .rearranges, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let block = Dim(try blockSize(context))
    guard let shape = try imageShape(context) else { return context.set(0, context.type(0), .unknown(rank: 4)) }
    let channels = shape[1].dividedRoundingDown(by: block * block)
    if (channels * block * block).isSurelyDifferent(from: shape[1]) {
      throw .mismatch("\(shape[1]) channels are no multiple of blocksize² = \(block * block)")
    }
    context.set(0, context.type(0), [shape[0], channels, shape[2] * block, shape[3] * block])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let block = try blockSize(context)
    let isDepthFirst = try context.string("mode", oneOf: ["DCR", "CRD"]) == "DCR"
    return .moving { plan throws(OperatorError) in
      guard let input = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let dims = input.shape.dims
      let channels = dims[1] / (block * block)
      // The input as [n, (b, b, c) or (c, b, b), h, w], read in the order n, c, h, b, w, b.
      let plane = dims[2] * dims[3]
      let (blockRow, blockColumn, channel) =
        isDepthFirst
        ? (block * channels * plane, channels * plane, plane) : (block * plane, plane, block * block * plane)
      let extents = [dims[0], channels, dims[2], block, dims[3], block]
      let copy = try MovementCopy(
        from: .input(0), width: input.dataType.byteWidth, extents: extents,
        sourceStrides: [dims[1] * plane, channel, dims[3], blockRow, 1, blockColumn],
        targetStrides: Shape(extents).strides)
      return .copyingOrViewing(copy, name: "depth to space")
    }
  }
}

struct SpaceToDepth: OperatorDefinition {
  let schema = OperatorSchema(
    "SpaceToDepth", versions: [1, 13, 28],
    inputs: [.required("input", "T")], outputs: [.required("output", "T")],
    attributes: [.required("blocksize", .int), .string("mode", default: "DCR").since(28)],
    types: ["T": .basic], traits: .rearranges, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let block = Dim(try blockSize(context))
    guard let shape = try imageShape(context) else { return context.set(0, context.type(0), .unknown(rank: 4)) }
    let rows = shape[2].dividedRoundingDown(by: block)
    let columns = shape[3].dividedRoundingDown(by: block)
    if (rows * block).isSurelyDifferent(from: shape[2]) || (columns * block).isSurelyDifferent(from: shape[3]) {
      throw .mismatch("\(shape[2]) × \(shape[3]) pixels are no multiple of the blocksize \(block)")
    }
    context.set(0, context.type(0), [shape[0], shape[1] * block * block, rows, columns])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let block = try blockSize(context)
    let isDepthFirst = try context.string("mode", oneOf: ["DCR", "CRD"]) == "DCR"
    return .moving { plan throws(OperatorError) in
      guard let input = plan.inputs[0] else { throw .invalid("input 0 is missing") }
      let dims = input.shape.dims
      let (rows, columns) = (dims[2] / block, dims[3] / block)
      let row = dims[3]
      let plane = dims[2] * row
      // The input as [n, c, h, b, w, b], read in the order n, (b, b, c) or (c, b, b), h, w.
      let extents =
        isDepthFirst
        ? [dims[0], block, block, dims[1], rows, columns] : [dims[0], dims[1], block, block, rows, columns]
      let strides =
        isDepthFirst
        ? [dims[1] * plane, row, 1, plane, block * row, block] : [dims[1] * plane, plane, row, 1, block * row, block]
      let copy = try MovementCopy(
        from: .input(0), width: input.dataType.byteWidth, extents: extents, sourceStrides: strides,
        targetStrides: Shape(extents).strides)
      return .copyingOrViewing(copy, name: "space to depth")
    }
  }
}

private func blockSize(_ context: some OperatorContext) throws(OperatorError) -> Int {
  let block = try context.int("blocksize")
  guard block > 0, block <= 1 << 16 else { throw .invalid("blocksize is \(block); expected 1 to 65536") }
  return block
}

private func imageShape(_ context: InferenceContext) throws(OperatorError) -> [Dim]? {
  guard let shape = context.shape(0) else { return nil }
  guard shape.count == 4 else { throw .mismatch("the input has the shape \(shape.text); expected [n, c, h, w]") }
  return shape
}
