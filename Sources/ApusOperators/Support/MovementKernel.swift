// Kernels that move elements without looking at them: steps made of strided copies, and the way for packed types.

import ApusGraph
import ApusTensor

extension PreparedKernel {
  /// A kernel that works on elements of 1, 2, 4, 8 or 16 bytes. Elements of less than a byte reach `plan` as uint8, one
  /// byte each: they are unpacked before and packed after the step. `plan` must not depend on the element type
  /// otherwise. `growths` and `takingRows` as in `Kernel`.
  static func moving(
    growths: [Growth] = [], takingRows: Bool = false,
    _ plan: @escaping @Sendable (PlanContext) throws(OperatorError) -> Step
  ) -> PreparedKernel { .planned(MovementKernel(growths: growths, takesRows: takingRows, body: plan)) }
}

extension Step {
  /// A step that makes all copies. Together they must write each output byte at most once.
  static func copying(_ copies: [MovementCopy], name: String = "copy") -> Step {
    if copies.count == 1 { return copying(copies[0], name: name) }
    var starts: [Int] = []
    starts.reserveCapacity(copies.count)
    var total = 0
    var bytes = 0
    for copy in copies {
      starts.append(total)
      total += copy.count
      bytes += copy.byteCount
    }
    let partition = Partition(total, of: .copying(bytes: total == 0 ? 1 : bytes / total))
    var step = Step.parallel(parts: total == 0 ? 0 : partition.parts) { [starts] run, part in
      let range = partition.range(part)
      for index in copies.indices {
        let lower = max(range.lowerBound - starts[index], 0)
        let upper = min(range.upperBound - starts[index], copies[index].count)
        if lower < upper { copies[index].run(run, lower..<upper) }
      }
    }
    (step.kernelName, step.cost) = (name, .copying(bytes: bytes))
    return step
  }

  /// The same for loops over operands that may lie in rows. Where rows cut through the loops, the step does not take
  /// them.
  static func copying(
    _ loops: [MovementLoops], in context: PlanContext, name: String
  ) throws(OperatorError) -> Step {
    let spread = context.spread
    var copies: [MovementCopy] = []
    copies.reserveCapacity(loops.count)
    for loop in loops {
      guard let copy = spread.isEmpty ? try loop.copy : try loop.copy(in: context) else {
        return copying(try loops.map { (loop) throws(OperatorError) in try loop.copy }, name: name)
      }
      copies.append(copy)
    }
    var step = copying(copies, name: name)
    step.spread = spread
    return step
  }

  private static func copying(_ copy: MovementCopy, name: String) -> Step {
    let partition = copy.partition
    var step = Step.parallel(parts: copy.count == 0 ? 0 : partition.parts) { run, part in
      copy.run(run, partition.range(part))
    }
    (step.kernelName, step.cost) = (name, .copying(bytes: copy.byteCount))
    return step
  }

  /// A step for one copy that fills output 0 in order: a view where the elements are neighbours already.
  static func copyingOrViewing(_ copy: MovementCopy, name: String = "copy") -> Step {
    guard copy.isContiguous, case .input(let input) = copy.source else { return copying(copy, name: name) }
    return .views([.init(input: input, byteOffset: copy.firstSourceByte)])
  }
}

/// A planned kernel that moves elements, with its form for packed types.
private struct MovementKernel: Kernel {
  let growths: [Growth]
  let takesRows: Bool
  let body: @Sendable (PlanContext) throws(OperatorError) -> Step

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let isPacked =
      context.inputs.contains { $0?.dataType.isPacked ?? false }
      || context.outputs.contains { $0?.dataType.isPacked ?? false }
    if !isPacked { return try body(context) }
    return try PackedMovement(context, inner: body(context.unpacked)).step
  }
}

extension PlanContext {
  /// The same with one byte for each packed element. Packed tensors are not known.
  fileprivate var unpacked: PlanContext {
    func widened(_ type: TensorType?) -> TensorType? {
      guard let type, type.dataType.isPacked else { return type }
      return TensorType(.uint8, type.shape)
    }
    return PlanContext(
      inputs: inputs.map(widened), outputs: outputs.map(widened),
      known: known.map { $0?.dataType.isPacked ?? false ? nil : $0 })
  }
}

/// A step on packed elements made of one on bytes.
///
/// Scratch memory: the inner step's own, a table of its operands, then one byte for each element of each packed
/// operand. The first phase unpacks the inputs and fills the table, the last packs the outputs.
private struct PackedMovement {
  /// One range of elements of one packed operand, done by one part.
  private struct Piece: Sendable {
    let operand: Int
    let bits: Int
    let elements: Range<Int>
    /// The unpacked elements in scratch memory.
    let offset: Int
  }

  let step: Step

  init(_ context: PlanContext, inner: Step) {
    let types = Array(context.inputs) + context.outputs
    var views: [Step.View] = []
    var aliased: [Int: Int] = [:]
    var end = (inner.scratchBytes + 63) & ~63
    let table = end
    end += ((types.count + 1) * MemoryLayout<UnsafeMutableRawPointer>.stride + 63) & ~63
    var offsets = [Int?](repeating: nil, count: types.count)
    for (operand, type) in types.enumerated() {
      guard let type, type.dataType.isPacked else { continue }
      offsets[operand] = end
      end += (type.count + 63) & ~63
    }
    for view in inner.views {
      let operand = context.inputs.count + view.output
      guard offsets[view.input] != nil, let type = types[operand] else {
        views.append(view)
        continue
      }
      let bits = type.dataType.bits
      // The unused bits of a last byte must be 0, so only whole bytes can be shared.
      let isWhole = view.byteOffset == 0 && type.count == types[view.input]?.count
      if isWhole || (view.byteOffset * bits % 8 == 0 && type.count * bits % 8 == 0) {
        views.append(Step.View(output: view.output, input: view.input, byteOffset: view.byteOffset * bits / 8))
        offsets[operand] = nil
      } else {
        aliased[operand] = view.byteOffset + (offsets[view.input] ?? 0)
      }
    }
    let isUnread = Set(inner.phases.isEmpty && aliased.isEmpty ? Array(context.inputs.indices) : inner.unreadInputs)
    var before: [Piece] = []
    var after: [Piece] = []
    for (operand, type) in types.enumerated() {
      let isInput = operand < context.inputs.count
      guard let type, let offset = aliased[operand] ?? offsets[operand], !(isInput && isUnread.contains(operand)) else {
        continue
      }
      // Eight elements fill whole bytes.
      let partition = Partition((type.count + 7) / 8, of: .light * 2 * 8)
      for part in 0..<partition.parts {
        let groups = partition.range(part)
        let elements = groups.lowerBound * 8..<min(groups.upperBound * 8, type.count)
        let piece = Piece(operand: operand, bits: type.dataType.bits, elements: elements, offset: offset)
        if isInput { before.append(piece) } else { after.append(piece) }
      }
    }
    guard !(inner.phases.isEmpty && after.isEmpty) else {
      step = .views(views)
      return
    }
    var result = PackedMovement.step(inner, table: table, offsets: offsets, before: before, after: after, scratch: end)
    result.views = views
    step = result
  }

  private static func step(
    _ inner: Step, table: Int, offsets: [Int?], before: [Piece], after: [Piece], scratch: Int
  ) -> Step {
    let lastPhase = inner.phases.count + 1
    let body = inner.body
    // One more part than pieces: it fills the table.
    let phases = [before.count + 1] + inner.phases + [after.count]
    var result = Step(phases: phases, scratchBytes: scratch) { run, phase, part in
      let operands = (run.scratch + table).assumingMemoryBound(to: UnsafeMutableRawPointer.self)
      if phase == 0 {
        if part == before.count {
          for index in offsets.indices {
            (operands + index).initialize(to: offsets[index].map { run.scratch + $0 } ?? run.operands[index])
          }
          (operands + offsets.count).initialize(to: run.scratch)
        } else {
          let piece = before[part]
          let bytes = (run.scratch + piece.offset).assumingMemoryBound(to: UInt8.self)
          PackedElements.unpack(
            run.operands[piece.operand], bits: piece.bits, from: piece.elements.lowerBound,
            bytes + piece.elements.lowerBound, piece.elements.count)
        }
      } else if phase == lastPhase {
        let piece = after[part]
        let bytes = (run.scratch + piece.offset).assumingMemoryBound(to: UInt8.self)
        PackedElements.pack(
          bytes + piece.elements.lowerBound, piece.elements.count, bits: piece.bits, run.operands[piece.operand],
          at: piece.elements.lowerBound)
      } else {
        let wide = RunContext(
          operands: UnsafePointer(operands), inputCount: run.inputCount, outputCount: run.outputCount,
          failure: run.failure)
        body(wide, phase - 1, part)
      }
    }
    result.kernelName = inner.kernelName
    result.unreadInputs = inner.unreadInputs
    return result
  }
}
