// Where: X where the condition is true, Y elsewhere. https://onnx.ai/onnx/operators/onnx__Where.html
// Versions: 9, 16 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

struct Where: OperatorDefinition {
  let schema = OperatorSchema(
    "Where", versions: [9, 16], inputs: [.required("condition", "B"), .required("X", "T"), .required("Y", "T")],
    outputs: [.required("output", "T")], types: ["B": .bool, "T": .allBeforeBFloat16 + [.bfloat16]], traits: .movesData,
    layout: .broadcasting)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let type = context.type(1) ?? context.type(2)
    let shape = try context.broadcastShape([0, 1, 2])
    let values = context.elementwiseValues([0, 1, 2], output: shape) { operands in
      guard let condition = operands[0].known else {
        return operands[1].isSame(as: operands[2]) ? operands[1] : .unknown
      }
      return condition != 0 ? operands[1] : operands[2]
    }
    context.set(0, type, shape, values: values)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { plan throws(OperatorError) in
      guard let output = plan.outputs.first ?? nil else { return Step(phases: []) { _, _, _ in } }
      let shapes = [plan.shape(0), plan.shape(1), plan.shape(2)]
      let broadcast = Broadcast(output: output.shape, inputs: shapes)
      let type = output.dataType
      var step = try KernelCandidate<ElementFacts, Step>.choose(
        .elementwise, type: type,
        [
          .plain { Where.rows(type, broadcast) },
          .vectors("vectors", types: []) { Where.blocks(type, broadcast, output.shape, shapes) },
        ]
      ).named("Where", cost: Cost(operations: output.count))
      for input in [1, 2] where plan.shape(input).elementCount == output.count {
        step.inPlace.append((input: input, output: 0))
      }
      return step
    }
  }

  /// Row by row, with a loop for every pattern of strides.
  private static func rows(_ type: DataType, _ broadcast: Broadcast) -> Step {
    let width = type.byteWidth
    let select = Where.select(width: width)
    let strides = (broadcast.rowStrides[0], broadcast.rowStrides[1], broadcast.rowStrides[2])
    let partition = Partition(broadcast.count, of: .light)
    return Step.parallel(parts: partition.parts) { run, part in
      let condition = run.inputBytes(0).assumingMemoryBound(to: UInt8.self)
      let (x, y, target) = (run.inputBytes(1), run.inputBytes(2), run.outputBytes(0))
      broadcast.forEachRow(in: partition.range(part)) { offsets, first, count in
        select(
          condition + offsets[0], x + offsets[1] &* width, y + offsets[2] &* width, target + first &* width, count,
          strides)
      }
    }
  }

  /// Block by block, with the C kernel; nil for elements of 16 bytes.
  private static func blocks(_ type: DataType, _ broadcast: Broadcast, _ output: Shape, _ shapes: [Shape]) -> Step? {
    let width = type.byteWidth
    let kernels = apus_kernels().pointee
    guard let blocks = BroadcastBlocks(broadcast, output: output, inputs: shapes, widths: [1, width, width]) else {
      return nil
    }
    let select =
      switch width {
      case 1: kernels.select_1
      case 2: kernels.select_2
      case 4: kernels.select_4
      default: kernels.select_8
      }
    let partition = Partition(broadcast.count, of: .light)
    return Step.parallel(parts: partition.parts) { run, part in
      let target = run.outputBytes(0)
      blocks.forEach(in: partition.range(part), (run.inputBytes(0), run.inputBytes(1), run.inputBytes(2))) {
        operands, start, count in
        select(
          count, operands.0.assumingMemoryBound(to: UInt8.self), operands.1, operands.2, target + start &* width)
      }
    }
  }

  /// target[i] = condition[i * strides.0] ? x[i * strides.1] : y[i * strides.2]
  typealias Select =
    @Sendable (
      _ condition: UnsafePointer<UInt8>, _ x: UnsafeRawPointer, _ y: UnsafeRawPointer,
      _ target: UnsafeMutableRawPointer,
      _ count: Int, _ strides: (Int, Int, Int)
    ) -> Void

  private static func select(width: Int) -> Select {
    switch width {
    case 1: select(UInt8.self)
    case 2: select(UInt16.self)
    case 4: select(UInt32.self)
    case 8: select(UInt64.self)
    default: select(Elementwise.SixteenBytes.self)
    }
  }

  @inline(__always)
  private static func select<T: BitwiseCopyable & Sendable>(_ type: T.Type) -> Select {
    { condition, x, y, target, count, strides in
      let x = x.assumingMemoryBound(to: T.self)
      let y = y.assumingMemoryBound(to: T.self)
      let target = target.assumingMemoryBound(to: T.self)
      switch strides {
      case (1, 1, 1): for i in 0..<count { target[i] = condition[i] != 0 ? x[i] : y[i] }
      case (1, 1, 0):
        let other = y[0]
        for i in 0..<count { target[i] = condition[i] != 0 ? x[i] : other }
      case (1, 0, 1):
        let other = x[0]
        for i in 0..<count { target[i] = condition[i] != 0 ? other : y[i] }
      case (1, 0, 0):
        let (one, other) = (x[0], y[0])
        for i in 0..<count { target[i] = condition[i] != 0 ? one : other }
      default:
        // One condition for the whole row.
        let (source, stride) = condition[0] != 0 ? (x, strides.1) : (y, strides.2)
        for i in 0..<count { target[i] = source[i &* stride] }
      }
    }
  }
}
