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
    case .float32, .complex64: plan(Float.self, context, 0) { $0 + $1 }
    case .float64, .complex128: plan(Double.self, context, 0) { $0 + $1 }
    case .int8, .uint8: plan(UInt8.self, context, 0) { $0 &+ $1 }
    case .int16, .uint16: plan(UInt16.self, context, 0) { $0 &+ $1 }
    case .int32, .uint32: plan(UInt32.self, context, 0) { $0 &+ $1 }
    case .int64, .uint64: plan(UInt64.self, context, 0) { $0 &+ $1 }
    // Sums of truth values are true or not.
    case .bool: plan(UInt8.self, context, 0) { $0 | $1 }
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { context in plan(Float.self, context, 0) { $0 + $1 } }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func plan<Element: BitwiseCopyable & Sendable & SendableMetatype>(
    _ type: Element.Type, _ context: PrepareContext, _ zero: Element,
    _ add: @escaping @Sendable (Element, Element) -> Element
  ) -> PreparedKernel {
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
      let geometry = window.geometry(
        input: SpatialExtents(image), kernel: block, output: SpatialExtents(blocks))
      let windows = PlaneWindows(geometry, planes: plan.outputShape(0).count(of: 0..<2), wholePlanes: true)
      let (area, columns, taps) = (geometry.inputCount, geometry.outputCount, geometry.tapCount)
      return .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
        let y: UnsafeMutablePointer<Element> = run.output()
        let planes = windows.partition.range(part)
        (y + planes.lowerBound &* area &* lanes).update(repeating: zero, count: planes.count &* area &* lanes)
        windows.forEach(part: part, scratch: run.scratch) { plane, column, window in
          for row in 0..<window.rowCount {
            for tap in 0..<window.count {
              let position = plane &* area &+ window.rows[row] &+ window.first &+ tap &* window.step
              let source = (plane &* taps &+ window.taps[row] &+ window.tap &+ tap) &* columns &+ column
              for lane in 0..<lanes {
                let value = run.input(0, as: Element.self)[source &* lanes &+ lane]
                y[position &* lanes &+ lane] = add(y[position &* lanes &+ lane], value)
              }
            }
          }
        }
      }.named("direct")
    }
  }
}
