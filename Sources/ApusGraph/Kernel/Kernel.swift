// The three phases of a kernel: prepared once per node, planned once per shape, run part by part.

import ApusTensor

/// The element type and shape of a tensor that may not exist yet.
package struct TensorType: Sendable, Hashable {
  package var dataType: DataType
  package var shape: Shape

  package init(_ dataType: DataType, _ shape: Shape) {
    self.dataType = dataType
    self.shape = shape
  }

  package var count: Int { shape.elementCount }
  /// `Int.max` if the shape is not possible.
  package var byteCount: Int { shape.checkedElementCount.flatMap { dataType.byteCount(elements: $0) } ?? Int.max }
}

/// What `prepare` returns.
package enum PreparedKernel: Sendable {
  /// All shapes are known before it runs: planned into the arena, run by parts.
  case planned(any Kernel)
  /// Data-dependent shapes, strings, sequences, optionals, maps and control flow: called with values, returns values.
  case eager(any EagerKernel)

  /// A planned kernel from a closure; `packing` as in `Kernel.packedInputs`, `takingRows` as in `Kernel.takesRows`.
  package static func planned(
    packing packedInputs: [Int] = [], takingRows: Bool = false,
    _ plan: @escaping @Sendable (PlanContext) throws(OperatorError) -> Step
  ) -> PreparedKernel { .planned(ClosureKernel(packedInputs: packedInputs, takesRows: takingRows, body: plan)) }

  /// The same, with inputs that steps read in packed form as in `Kernel.packedOperands`.
  package static func planned(
    packing packedOperands: [PackedOperand], takingRows: Bool = false,
    _ plan: @escaping @Sendable (PlanContext) throws(OperatorError) -> Step
  ) -> PreparedKernel {
    .planned(
      ClosureKernel(
        packedInputs: packedOperands.map(\.input), packedOperands: packedOperands, takesRows: takingRows, body: plan))
  }

  /// A planned kernel whose output 0 is all of input 0 under another shape or type of the same width.
  package static let view = PreparedKernel.planned(ViewKernel())

  /// An eager kernel from a closure.
  package static func eager(
    _ execute: @escaping @Sendable ([Value?], any EagerContext) throws(OperatorError) -> [Value?]
  ) -> PreparedKernel { .eager(ClosureEagerKernel(body: execute)) }
}

/// A kernel of a node whose shapes are known before it runs. Immutable; shared by all runs.
package protocol Kernel: Sendable {
  /// Called once per set of shapes. Output types and shapes are already in `context`, from the operator's inference.
  func plan(_ context: PlanContext) throws(OperatorError) -> Step
  /// The constant inputs of which the kernel holds a form of its own: neither planning nor running reads their bytes,
  /// so they need not stay in memory. A plan that has to read one after all ends with an error.
  var packedInputs: [Int] { get }
  /// Those of the packed inputs whose form a step finds where the input would lie (`RunContext.input`), if it names
  /// them in `unreadInputs`. The forms are no part of the step, so that nodes which differ in nothing else share one;
  /// `plan` must not depend on their contents.
  var packedOperands: [PackedOperand] { get }
  /// What `plan` returns, if that is the same for all shapes.
  var fixedStep: Step? { get }
  /// Outputs that an input begins, so that they can lie where that lies if there is room behind it. For such an output
  /// `plan` looks at `PlanContext.pitch(output:)`.
  var growths: [Growth] { get }
  /// Inputs that may have room behind one axis of theirs: for those `plan` looks at `PlanContext.pitch(input:)`.
  var pitchedInputs: [PitchedInput] { get }
  /// True if `plan` looks at `PlanContext.rows(input:)` and `rows(output:)`, and names in `Step.spread` what it takes.
  var takesRows: Bool { get }
}

extension Kernel {
  package var packedInputs: [Int] { packedOperands.map(\.input) }
  package var packedOperands: [PackedOperand] { [] }
  package var fixedStep: Step? { nil }
  package var growths: [Growth] { [] }
  package var pitchedInputs: [PitchedInput] { [] }
  package var takesRows: Bool { false }
}

/// A constant input in the form that a kernel has packed it in, at the start of `storage`.
package struct PackedOperand: Sendable {
  package let input: Int
  package let storage: TensorStorage
  package init(input: Int, storage: TensorStorage) { (self.input, self.storage) = (input, storage) }
}

/// An output that is an input with more behind it along an axis: the present and the past of a cache.
package struct Growth: Sendable, Hashable {
  package let input: Int
  package let output: Int
  /// Counted from the first.
  package let axis: Int
  package init(input: Int, output: Int, axis: Int) { (self.input, self.output, self.axis) = (input, output, axis) }
}

/// An input that a kernel can read where one axis has room behind it.
package struct PitchedInput: Sendable, Hashable {
  package let input: Int
  /// Counted from the first.
  package let axis: Int
  package init(input: Int, axis: Int) { (self.input, self.axis) = (input, axis) }
}

/// How an operand lies that has room behind one axis.
package struct Pitch: Sendable, Hashable {
  /// The extent of the axis in memory.
  package let capacity: Int
  /// Of an output: what its input has is there already and must not be written.
  package let isAppended: Bool
  package init(capacity: Int, isAppended: Bool) { (self.capacity, self.isAppended) = (capacity, isAppended) }
}

/// How an operand lies that is part of a larger one: in rows that lie further apart than they are long, such as the
/// channels of some images beside those of others. What lies between them belongs to others.
package struct Rows: Sendable, Hashable {
  /// Elements of one row. The elements of the operand are whole rows.
  package let length: Int
  /// Elements from the start of one row to the start of the next; more than `length`.
  package let distance: Int
  package init(length: Int, distance: Int) { (self.length, self.distance) = (length, distance) }
}

extension Kernel {
  /// The step of the kernel for one set of shapes: `plan`, or nothing to do where no output has elements. So a kernel
  /// plans for outputs of some elements only; extents beside one of 0 may be so large that their products overflow.
  package func step(for context: PlanContext) throws(OperatorError) -> Step {
    if !context.outputs.haveElements { return Step(phases: []) { _, _, _ in } }
    let step = try plan(context)
    if let output = step.unwrittenOutput(of: context) {
      throw .inconsistency("the kernel plans no work that writes output \(output)")
    }
    return step
  }
}

extension Step {
  /// An output with elements that a step without work neither writes nor views.
  fileprivate borrowing func unwrittenOutput(of context: borrowing PlanContext) -> Int? {
    for parts in phases where parts != 0 { return nil }
    for (index, output) in context.outputs.enumerated() {
      guard let output, !output.shape.dims.contains(0) else { continue }
      if !views.contains(where: { $0.output == index }), !joins.contains(where: { $0.output == index }) {
        return index
      }
    }
    return nil
  }
}

private struct ClosureKernel: Kernel {
  let packedInputs: [Int]
  var packedOperands: [PackedOperand] = []
  let takesRows: Bool
  let body: @Sendable (PlanContext) throws(OperatorError) -> Step
  func plan(_ context: PlanContext) throws(OperatorError) -> Step { try body(context) }
}

private struct ViewKernel: Kernel {
  private static let step = Step.views([.init()])
  var fixedStep: Step? { ViewKernel.step }
  func plan(_ context: PlanContext) -> Step { ViewKernel.step }
}

/// What a kernel knows while planning.
package struct PlanContext: Sendable {
  /// nil: the optional input is absent.
  package let inputs: OperandTypes
  /// nil: nobody wants the optional output.
  package let outputs: OperandTypes
  private let tensors: [Tensor?]
  /// Of the operands that are not dense, inputs before outputs. Only such that the kernel asks for.
  private let pitches: [(operand: Int, pitch: Pitch)]
  private let reads: TensorReads?
  private let placement: OperandPlacement?

  /// The inputs that are constant or whose elements are known at this point.
  package var known: [Tensor?] {
    reads?.note()
    return tensors
  }

  /// `reads`: who wants to know whether the kernel looks at what is known.
  package init(
    inputs: OperandTypes, outputs: OperandTypes, known: [Tensor?], pitches: [(operand: Int, pitch: Pitch)] = [],
    reads: TensorReads? = nil, placement: OperandPlacement? = nil
  ) {
    (self.inputs, self.outputs, tensors, self.reads) = (inputs, outputs, known, reads)
    (self.pitches, self.placement) = (pitches, placement)
  }

  /// The same for types that belong to no region.
  package init(
    inputs: [TensorType?], outputs: [TensorType?], known: [Tensor?], placement: OperandPlacement? = nil
  ) {
    self.init(inputs: OperandTypes(inputs), outputs: OperandTypes(outputs), known: known, placement: placement)
  }

  /// nil: the input is dense.
  package func pitch(input: Int) -> Pitch? {
    input < inputs.count ? pitches.first { $0.operand == input }?.pitch : nil
  }
  /// nil: the output is dense.
  package func pitch(output: Int) -> Pitch? { pitches.first { $0.operand == inputs.count + output }?.pitch }

  /// nil: the input is dense. Asked for only of kernels that take rows.
  package func rows(input: Int) -> Rows? {
    input < inputs.count ? placement?.rows.first { $0.operand == input }?.rows : nil
  }
  /// nil: the output is dense. Asked for only of kernels that take rows.
  package func rows(output: Int) -> Rows? { placement?.rows.first { $0.operand == inputs.count + output }?.rows }
  /// The operands, inputs before outputs, that lie in rows.
  @inlinable package var spread: [Int] { placement?.rows.map(\.operand) ?? [] }
  /// True if the input lies where the step would copy it: one of `Step.joinable`, which becomes one of `Step.joins`.
  package func isJoined(_ input: Int) -> Bool { placement?.joined.contains(input) ?? false }
  /// True if the output shall be a view: one of `Step.viewable`, which becomes one of `Step.views`.
  package func isViewed(_ output: Int) -> Bool { placement?.viewed.contains(output) ?? false }

  package func isPresent(_ input: Int) -> Bool { input < inputs.count && inputs[input] != nil }
  package func isWanted(_ output: Int) -> Bool { output < outputs.count && outputs[output] != nil }

  /// The shape of an input; the empty shape if it is absent.
  package func shape(_ input: Int) -> Shape { input < inputs.count ? inputs[input]?.shape ?? [] : [] }
  package func outputShape(_ output: Int) -> Shape { output < outputs.count ? outputs[output]?.shape ?? [] : [] }

  /// The elements of an input that the schema marks as read when planning; nil if the input is absent.
  package func integers(_ input: Int) -> [Int]? { tensor(input)?.integers }
  package func tensor(_ input: Int) -> Tensor? {
    reads?.note()
    return input < tensors.count ? tensors[input] : nil
  }
}

/// How the operands of a step lie among those of others, where that is not each by itself.
package struct OperandPlacement: Sendable {
  /// Operands, inputs before outputs, that lie in rows.
  package var rows: [(operand: Int, rows: Rows)] = []
  /// Inputs that lie in an output.
  package var joined: [Int] = []
  /// Outputs that lie in an input, in rows.
  package var viewed: [Int] = []
  package init() {}
}

/// One planned node: how its work divides, the memory it wants, and the code that does it.
package struct Step: Sendable {
  /// The number of parts of each phase. A phase starts when all parts of the phase before have ended. The numbers, and
  /// the order of every sum, depend on shapes alone, never on the number of threads.
  package var phases: [Int]
  /// Bytes of scratch memory, 64-byte aligned, shared by all parts of this step.
  package var scratchBytes: Int
  /// Outputs that may take the memory of an input of the same byte count, if nobody else needs that input any more.
  package var inPlace: [(input: Int, output: Int)] = []
  /// Which operands lie in others, or may. Most steps have nothing of it.
  package var sharing: Sharing? = nil
  /// Inputs whose bytes `body` never reads: packed by `prepare`, read by `plan`, or of interest for their shape only.
  /// Of `Kernel.packedOperands` it reads the packed form.
  package var unreadInputs: [Int] = []
  /// The whole step as a profile counts it: floating-point or integer operations, a multiply-add as two, 0 where
  /// counting says nothing; bytes that it reads and writes, 0 for all of its operands.
  package var cost = Cost()
  /// What a profile shows: the algorithm or micro-kernel.
  package var kernelName = ""
  /// Computes one part. Never allocates, blocks, throws or switches on an element type.
  package var body: @Sendable (RunContext, _ phase: Int, _ part: Int) -> Void

  /// Outputs that are byte ranges of an input. An output listed here is not written by `body`.
  @inlinable package var views: [View] {
    get { sharing?.lists.views ?? [] }
    set { share { $0.views = newValue } }
  }

  /// The operands, inputs before outputs, that `body` takes in rows as the context says.
  @inlinable package var spread: [Int] {
    get { sharing?.lists.spread ?? [] }
    set { if !newValue.isEmpty || sharing != nil { share { $0.spread = newValue } } }
  }

  @inlinable package var joinable: [Join] { sharing?.lists.joinable ?? [] }
  @inlinable package var joins: [Join] { sharing?.lists.joins ?? [] }
  @inlinable package var viewable: [View] { sharing?.lists.viewable ?? [] }

  /// Changes which operands lie in others.
  package mutating func share(_ change: (inout Sharing.Lists) -> Void) {
    var lists = sharing?.lists ?? Sharing.Lists()
    change(&lists)
    sharing = Sharing(lists)
  }

  /// Which operands of a step lie in others, or may. An object, since few steps have one and all are handed on.
  package final class Sharing: Sendable {
    package struct Lists: Sendable {
      /// Outputs that are byte ranges of an input.
      package var views: [View] = []
      /// Inputs that the step copies to byte ranges of an output, and that may lie there from the start.
      package var joinable: [Join] = []
      /// Inputs that lie there: what the context says of `joinable`. The step neither reads them nor writes those
      /// ranges.
      package var joins: [Join] = []
      /// Outputs that the step copies from rows of an input, and that may lie there.
      package var viewable: [View] = []
      /// Operands, inputs before outputs, that the step takes in rows as the context says.
      package var spread: [Int] = []
    }

    package let lists: Lists
    package init(_ lists: Lists) { self.lists = lists }
  }

  package struct View: Sendable {
    package var output: Int
    package var input: Int
    package var byteOffset: Int
    /// nil: the output is dense.
    package var rows: Rows?
    package init(output: Int = 0, input: Int = 0, byteOffset: Int = 0, rows: Rows? = nil) {
      (self.output, self.input, self.byteOffset, self.rows) = (output, input, byteOffset, rows)
    }
  }

  /// An input that lies in an output.
  package struct Join: Sendable {
    package var input: Int
    package var output: Int
    package var byteOffset: Int
    /// nil: the input is dense.
    package var rows: Rows?
    package init(input: Int, output: Int = 0, byteOffset: Int, rows: Rows? = nil) {
      (self.input, self.output, self.byteOffset, self.rows) = (input, output, byteOffset, rows)
    }
  }

  package init(
    phases: [Int], scratchBytes: Int = 0, _ body: @escaping @Sendable (RunContext, _ phase: Int, _ part: Int) -> Void
  ) {
    self.phases = phases
    self.scratchBytes = scratchBytes
    self.body = body
  }

  /// One phase of `parts` independent parts.
  package static func parallel(
    parts: Int, scratchBytes: Int = 0, _ body: @escaping @Sendable (RunContext, _ part: Int) -> Void
  ) -> Step { Step(phases: onePhase(parts), scratchBytes: scratchBytes) { run, _, part in body(run, part) } }

  /// `phases` of one phase. Nearly all steps have one of few parts: those share their lists.
  package static func onePhase(_ parts: Int) -> [Int] {
    singlePhases.indices.contains(parts) ? singlePhases[parts] : [parts]
  }

  private static let singlePhases = (0..<64).map { [$0] }

  /// One part.
  package static func serial(scratchBytes: Int = 0, _ body: @escaping @Sendable (RunContext) -> Void) -> Step {
    Step(phases: [1], scratchBytes: scratchBytes) { run, _, _ in body(run) }
  }

  /// No work: outputs are byte ranges of inputs.
  package static func views(_ views: [View]) -> Step {
    var step = Step(phases: []) { _, _, _ in }
    step.views = views
    step.kernelName = "view"
    return step
  }

  /// The same step, allowed to write output 0 over the given inputs.
  @inlinable @inline(__always) package consuming func overwriting(_ inputs: Int...) -> Step {
    inPlace = inputs.map { (input: $0, output: 0) }
    return self
  }

  /// The same step, which never reads the bytes of the given inputs.
  @inlinable @inline(__always) package consuming func notReading(_ inputs: Int...) -> Step {
    unreadInputs = inputs
    return self
  }

  /// The same step under the name that a profile shows, at a cost; nil: the one that it has.
  @inlinable @inline(__always) package consuming func named(_ name: String, cost: Cost? = nil) -> Step {
    kernelName = name
    self.cost = cost ?? self.cost
    return self
  }
}

/// The addresses that one step works on, during one run.
///
/// `@unchecked Sendable`: the parts of a step get the same addresses and write disjoint ranges; the executor keeps the
/// memory alive until all have ended.
package struct RunContext: @unchecked Sendable {
  /// Inputs, then outputs, then scratch. Absent inputs and unwanted outputs point nowhere useful.
  package let operands: UnsafePointer<UnsafeMutableRawPointer>
  package let inputCount: Int
  package let outputCount: Int
  /// Where `fail` leaves its message. Not retained, so that passing a context on costs nothing: whoever runs the step
  /// keeps it.
  package unowned(unsafe) let failure: RunFailure

  @inlinable @inline(__always) package init(
    operands: UnsafePointer<UnsafeMutableRawPointer>, inputCount: Int, outputCount: Int, failure: RunFailure
  ) {
    self.operands = operands
    self.inputCount = inputCount
    self.outputCount = outputCount
    self.failure = failure
  }

  /// The elements of an input. Aligned to the element; no more, as an operand may be a part of another one.
  @inline(__always) package func input<T>(_ index: Int, as type: T.Type = T.self) -> UnsafePointer<T> {
    UnsafePointer(UnsafeRawPointer(operands[index]).assumingMemoryBound(to: T.self))
  }

  @inline(__always) package func output<T>(_ index: Int = 0, as type: T.Type = T.self) -> UnsafeMutablePointer<T> {
    operands[inputCount &+ index].assumingMemoryBound(to: T.self)
  }

  @inline(__always) package func inputBytes(_ index: Int) -> UnsafeRawPointer { UnsafeRawPointer(operands[index]) }
  @inline(__always) package func outputBytes(_ index: Int = 0) -> UnsafeMutableRawPointer {
    operands[inputCount &+ index]
  }
  @inline(__always) package var scratch: UnsafeMutableRawPointer { operands[inputCount &+ outputCount] }

  /// Reports data that the operator cannot work on (an index out of range, a division by zero). The part should fill
  /// its output with anything and return; the run ends with this error after the step.
  package func fail(_ message: @autoclosure () -> String) { failure.report(message()) }

  /// Reports that what is new in a cache does not go behind all of the past, which it was planned to be put behind
  /// (`Pitch.isAppended`). The region is run again with dense caches. To be called before anything of the past is
  /// written over.
  package func decline() { failure.decline() }
}
