// Element by element: the loops that operators supply, and the steps that carry them over whole tensors by parts.

import ApusGraph
import ApusTensor

/// y[i] = f(x[i]) for i < count, contiguous. x and y may be the same address if the elements have the same width.
package typealias UnaryLoop = @Sendable (_ x: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ count: Int) -> Void

/// y[i] = f(a[i], b[i]) for i < count; a loop for a scalar operand reads a[0] or b[0] only. y may be the address of an
/// operand of the same width that moves.
package typealias BinaryLoop =
  @Sendable (
    _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ count: Int
  ) -> Void

/// The loops of a binary operation: both operands move, only a, only b.
package struct BinaryLoops: Sendable {
  package var both: BinaryLoop
  package var scalarB: BinaryLoop
  package var scalarA: BinaryLoop
}

/// `cost` is that of one element: how finely the work is divided.
enum Elementwise {
  /// y = loop(input 0). Element types of whole bytes; the output may take the place of an input of the same width.
  static func unary(_ loop: @escaping UnaryLoop, cost: Cost, name: String) -> PreparedKernel {
    .planned(takingRows: true) { context throws(OperatorError) in
      guard let input = context.inputs.first ?? nil, let output = context.outputs.first ?? nil else {
        return Step(phases: []) { _, _, _ in }
      }
      let (inputWidth, outputWidth) = (input.dataType.byteWidth, output.dataType.byteWidth)
      let partition = Partition(output.count, of: cost)
      if !context.spread.isEmpty {
        let pieces = RowPieces(a: context.rows(input: 0), y: context.rows(output: 0))
        var step = Step.parallel(parts: partition.parts) { run, part in
          pieces.forEach(in: partition.range(part)) { x, _, y, count in
            loop(run.inputBytes(0) + x &* inputWidth, run.outputBytes(0) + y &* outputWidth, count)
          }
        }.named(name, cost: Cost(operations: output.count))
        step.spread = context.spread
        return step
      }
      let step = Step.parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        if range.isEmpty { return }
        loop(
          run.inputBytes(0) + range.lowerBound &* inputWidth, run.outputBytes(0) + range.lowerBound &* outputWidth,
          range.count)
      }.named(name, cost: Cost(operations: output.count))
      return inputWidth == outputWidth ? step.overwriting(0) : step
    }
  }

  /// y = loops(input 0, input 1), broadcast to the shape of output 0.
  static func binary(_ loops: BinaryLoops, cost: Cost, name: String) -> PreparedKernel {
    .planned(takingRows: true) { context throws(OperatorError) in
      binaryStep(loops, cost: cost, context).named(name)
    }
  }

  /// y = loops(…loops(loops(input 0, input 1), input 2)…), then `finish` on y, all broadcast to the shape of output 0.
  static func variadic(
    _ loops: BinaryLoops, finish: UnaryLoop? = nil, cost: Cost, name: String
  ) -> PreparedKernel {
    .planned { context throws(OperatorError) in
      guard let output = context.outputs.first ?? nil else { return Step(phases: []) { _, _, _ in } }
      let width = output.dataType.byteWidth
      let inputs = context.inputs.indices.filter { context.isPresent($0) }
      let partition = Partition(output.count, of: cost)
      if inputs.count == 1 && finish == nil { return .views([.init(input: inputs[0])]) }
      let first = RowApplication(
        loops, widths: (width, width, width), a: context.shape(inputs[0]),
        b: context.shape(inputs[min(1, inputs.count - 1)]),
        output: output.shape)
      let rest = inputs.dropFirst(2).map { input in
        (
          input: input,
          rows: RowApplication(
            loops, widths: (width, width, width), a: output.shape, b: context.shape(input), output: output.shape)
        )
      }
      let isSingle = inputs.count == 1
      let (a, b) = (inputs[0], inputs[min(1, inputs.count - 1)])
      let step = Step.parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        if range.isEmpty { return }
        let y = run.outputBytes(0)
        if isSingle {
          finish?(run.inputBytes(a) + range.lowerBound &* width, y + range.lowerBound &* width, range.count)
          return
        }
        first.apply(run.inputBytes(a), run.inputBytes(b), y, range)
        for (input, rows) in rest { rows.apply(UnsafeRawPointer(y), run.inputBytes(input), y, range) }
        finish?(UnsafeRawPointer(y) + range.lowerBound &* width, y + range.lowerBound &* width, range.count)
      }.named(name, cost: Cost(operations: output.count &* inputs.count))
      return context.shape(inputs[0]).elementCount == output.count ? step.overwriting(inputs[0]) : step
    }
  }

  /// The step of `binary` for the inputs `a` and `b` of a node.
  static func binaryStep(
    _ loops: BinaryLoops, cost: Cost, a: Int = 0, b: Int = 1, _ context: PlanContext
  ) -> Step {
    guard let x = context.inputs[a], let z = context.inputs[b], let output = context.outputs.first ?? nil else {
      return Step(phases: []) { _, _, _ in }
    }
    let widths = (x.dataType.byteWidth, z.dataType.byteWidth, output.dataType.byteWidth)
    let rows = RowApplication(loops, widths: widths, a: x.shape, b: z.shape, output: output.shape)
    let partition = Partition(output.count, of: cost)
    if !context.spread.isEmpty, rows.isSingle {
      let pieces = RowPieces(a: context.rows(input: a), b: context.rows(input: b), y: context.rows(output: 0))
      var step = Step.parallel(parts: partition.parts) { run, part in
        rows.apply(run.inputBytes(a), run.inputBytes(b), run.outputBytes(0), partition.range(part), pieces)
      }
      (step.cost, step.spread) = (Cost(operations: output.count), context.spread)
      return step
    }
    var step = Step.parallel(parts: partition.parts) { run, part in
      rows.apply(run.inputBytes(a), run.inputBytes(b), run.outputBytes(0), partition.range(part))
    }
    step.cost = Cost(operations: output.count)
    // An operand with as many elements as the output is not repeated, so every element is read before it is
    // overwritten.
    if widths.0 == widths.2, x.count == output.count { step.inPlace.append((input: a, output: 0)) }
    if widths.1 == widths.2, z.count == output.count { step.inPlace.append((input: b, output: 0)) }
    return step
  }
}

/// A binary operation on two broadcast operands, ready to be applied to a range of output elements.
struct RowApplication: Sendable {
  let broadcast: Broadcast
  private let loop: BinaryLoop
  private let both: BinaryLoop
  private let fill: (@Sendable (UnsafeMutableRawPointer, Int) -> Void)?
  private let widths: (a: Int, b: Int, y: Int)
  /// The byte strides of the operands if all elements lie in one row, as for equal shapes and scalars.
  private let singleRow: (a: Int, b: Int)?
  /// What lays operands out where rows are too short to be worth a call each; nil where they are not.
  private let blocks: BroadcastBlocks?

  /// Elements of a row that are worth a call.
  private static let longRow = 256

  init(_ loops: BinaryLoops, widths: (Int, Int, Int), a: Shape, b: Shape, output: Shape) {
    broadcast = Broadcast(output: output, inputs: [a, b])
    self.widths = (widths.0, widths.1, widths.2)
    switch (broadcast.rowStrides[0], broadcast.rowStrides[1]) {
    case (1, 1): (loop, fill) = (loops.both, nil)
    case (1, 0): (loop, fill) = (loops.scalarB, nil)
    case (0, 1): (loop, fill) = (loops.scalarA, nil)
    default: (loop, fill) = (loops.both, Elementwise.repeatFirst(width: widths.2))
    }
    let isSingle = broadcast.dims.isEmpty && fill == nil
    singleRow = isSingle ? (broadcast.rowStrides[0] * widths.0, broadcast.rowStrides[1] * widths.1) : nil
    let isShort = !isSingle && broadcast.rowLength < RowApplication.longRow
    blocks = isShort ? BroadcastBlocks(broadcast, output: output, inputs: [a, b], widths: [widths.0, widths.1]) : nil
    both = loops.both
  }

  /// True if every operand has as many elements as the result, or one.
  var isSingle: Bool { singleRow != nil }

  /// The same, where that is true, for operands in rows.
  func apply(
    _ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ range: Range<Int>, _ pieces: RowPieces
  ) {
    guard let strides = singleRow else { return }
    let (loop, width) = (loop, widths.y)
    pieces.forEach(in: range) { aStart, bStart, start, count in
      loop(a + aStart &* strides.a, b + bStart &* strides.b, y + start &* width, count)
    }
  }

  func apply(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ y: UnsafeMutableRawPointer, _ range: Range<Int>) {
    let (loop, fill, widths) = (loop, fill, widths)
    if let strides = singleRow {
      let (start, count) = (range.lowerBound, range.count)
      if count > 0 { loop(a + start &* strides.a, b + start &* strides.b, y + start &* widths.y, count) }
      return
    }
    if let blocks {
      let (both, width) = (both, widths.y)
      blocks.forEach(in: range, (a, b, b)) { operands, start, count in
        both(operands.0, operands.1, y + start &* width, count)
      }
      return
    }
    broadcast.forEachRow(in: range) { offsets, output, count in
      let target = y + output &* widths.y
      if let fill {
        loop(a + offsets[0] &* widths.a, b + offsets[1] &* widths.b, target, 1)
        fill(target, count)
      } else {
        loop(a + offsets[0] &* widths.a, b + offsets[1] &* widths.b, target, count)
      }
    }
  }
}
