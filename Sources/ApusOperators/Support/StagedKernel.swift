// Kernels for narrow element types by way of float32 or float64: inputs are converted into scratch memory, the inner
// kernel runs there, and its outputs are converted back.

import ApusGraph
import ApusTensor
import CApusKernels

/// Converts `count` elements from one element type to another. Neither side needs more than its element's alignment.
typealias ElementConverter =
  @Sendable (_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, _ count: Int) -> Void

/// A kernel whose tensors have other element types than the node's: each operand with a staged type is converted before
/// or after the inner kernel. The inner kernel must not ask for views.
struct StagedKernel: Kernel {
  /// How one operand is converted.
  private struct Stage: Sendable {
    let type: DataType
    let convert: ElementConverter
    /// The converted tensor, if the operand is constant.
    let constant: Tensor?
  }

  private let inner: any Kernel
  /// nil: the inner kernel takes the operand as it is.
  private let inputs: [Stage?]
  private let outputs: [Stage?]

  /// float16 and bfloat16 by way of float32.
  static let halves: [DataType: DataType] = [.float16: .float32, .bfloat16: .float32]

  /// The kernel that `prepare` gives for the same node with every element type in `types` replaced. Constants are
  /// converted now, so that it may pack them; `packed` names the inputs that it then does not read while running.
  /// `packing` is where it packs, if constants that are not converted are worth to be shared; otherwise it has packed
  /// weights of its own. `operands` limits the conversion to some inputs; `outputs` false leaves the outputs alone.
  static func prepare(
    _ context: PrepareContext, _ types: [DataType: DataType] = halves, packed: [Int] = [],
    packing: PackedWeights? = nil,
    operands: [Int]? = nil, outputs convertsOutputs: Bool = true,
    _ prepare: (PrepareContext) throws(OperatorError) -> PreparedKernel
  ) throws(OperatorError) -> PreparedKernel {
    var inputs: [Stage?] = []
    for (index, fact) in context.inputs.enumerated() {
      guard let from = fact?.tensor?.dataType, let to = types[from], operands?.contains(index) ?? true else {
        inputs.append(nil)
        continue
      }
      guard let convert = elementConverter(from: from, to: to) else {
        throw context.unsupportedType(from, input: index)
      }
      let constant = try context.constant(index).map { (tensor) throws(OperatorError) in
        try tensor.converted(to: to, convert, context.allowance)
      }
      inputs.append(Stage(type: to, convert: convert, constant: constant))
    }
    var outputs: [Stage?] = []
    for fact in context.outputs {
      guard convertsOutputs, let from = fact?.tensor?.dataType, let to = types[from] else {
        outputs.append(nil)
        continue
      }
      guard let convert = elementConverter(from: to, to: from) else { throw context.unsupportedType(from) }
      outputs.append(Stage(type: to, convert: convert, constant: nil))
    }
    func facts(_ facts: [ValueFact?], _ stages: [Stage?]) -> [ValueFact?] {
      zip(facts, stages).map { fact, stage in
        if let stage, let tensor = fact?.tensor { .tensor(stage.type, tensor.shape) } else { fact }
      }
    }
    let constants = context.constants.enumerated().map {
      inputs[$0.offset] == nil ? $0.element : inputs[$0.offset]?.constant
    }
    // The converted constants are nobody else's: shared packed weights would keep them alive.
    let wide = PrepareContext(
      node: context.node, schema: context.schema, inputs: facts(context.inputs, inputs),
      outputs: facts(context.outputs, outputs), constants: constants,
      packedWeights: packing ?? PackedWeights(allowance: context.allowance))
    guard case .planned(let inner) = try prepare(wide) else {
      throw .unsupported("\(context.schema.id) has no kernel for these element types")
    }
    // Read after all, in a form that is not packed, they are converted while running.
    for index in packed where index < inputs.count {
      inputs[index] = inputs[index].map { Stage(type: $0.type, convert: $0.convert, constant: nil) }
    }
    return .planned(StagedKernel(inner: inner, inputs: inputs, outputs: outputs))
  }

  var packedInputs: [Int] { inner.packedInputs }
  var packedOperands: [PackedOperand] { inner.packedOperands }

  /// One range of elements of one operand, converted by one part.
  private struct Piece: Sendable {
    let operand: Int
    let start: Int
    let count: Int
  }

  func plan(_ context: PlanContext) throws(OperatorError) -> Step {
    let inputTypes = zip(context.inputs, inputs).map { type, stage in
      type.map { TensorType(stage?.type ?? $0.dataType, $0.shape) }
    }
    let outputTypes = zip(context.outputs, outputs).map { type, stage in
      type.map { TensorType(stage?.type ?? $0.dataType, $0.shape) }
    }
    // Converted constants are known to the inner kernel in their new type; a packed one is not.
    let known = context.known.enumerated().map { inputs[$0.offset] == nil ? $0.element : inputs[$0.offset]?.constant }
    let step = try inner.step(for: PlanContext(inputs: inputTypes, outputs: outputTypes, known: known))
    precondition(step.views.isEmpty, "a staged kernel cannot return views")
    // The scratch of the inner kernel, then a block for each operand that is converted.
    var offsets = [Int?](repeating: nil, count: inputTypes.count + outputTypes.count)
    var end = aligned(step.scratchBytes)
    var before: [Piece] = []
    var after: [Piece] = []
    for (operand, type) in (inputTypes + outputTypes).enumerated() {
      let isInput = operand < inputTypes.count
      let stage = isInput ? inputs[operand] : outputs[operand - inputTypes.count]
      let isUnread = isInput && step.unreadInputs.contains(operand)
      guard let type, let stage, stage.constant == nil, !isUnread else { continue }
      offsets[operand] = end
      end += aligned(type.byteCount)
      let partition = Partition(type.count, of: .light * 2)
      for part in 0..<partition.parts {
        let range = partition.range(part)
        let piece = Piece(operand: operand, start: range.lowerBound, count: range.count)
        if isInput { before.append(piece) } else { after.append(piece) }
      }
    }
    return staged(step, offsets: offsets, scratchBytes: end, before: before, after: after, context)
  }

  private func staged(
    _ step: Step, offsets: [Int?], scratchBytes: Int, before: [Piece], after: [Piece], _ context: PlanContext
  ) -> Step {
    let converters = (inputs + outputs).map { $0?.convert }
    let constants = (inputs + outputs).map { $0?.constant }
    let narrowWidths = (Array(context.inputs) + context.outputs).map { $0?.dataType.byteWidth ?? 0 }
    let wideWidths = (inputs + outputs).map { $0?.type.byteWidth ?? 0 }
    let operandCount = offsets.count
    let lastPhase = step.phases.count + 1
    let body = step.body
    var result = Step(phases: [before.count] + step.phases + [after.count], scratchBytes: scratchBytes) {
      run, phase, part in
      if phase > 0 && phase < lastPhase {
        withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer.self, capacity: operandCount + 1) { operands in
          guard let base = operands.baseAddress else { return }
          for index in 0..<operandCount {
            let constant = constants[index].map { $0.storage.base + $0.byteOffset }
            (base + index).initialize(to: constant ?? offsets[index].map { run.scratch + $0 } ?? run.operands[index])
          }
          (base + operandCount).initialize(to: run.scratch)
          body(
            RunContext(
              operands: base, inputCount: run.inputCount, outputCount: run.outputCount, failure: run.failure),
            phase - 1, part)
        }
        return
      }
      let piece = phase == 0 ? before[part] : after[part]
      guard let convert = converters[piece.operand], let offset = offsets[piece.operand] else { return }
      let narrow = run.operands[piece.operand] + piece.start * narrowWidths[piece.operand]
      let wide = run.scratch + offset + piece.start * wideWidths[piece.operand]
      if phase == 0 { convert(narrow, wide, piece.count) } else { convert(wide, narrow, piece.count) }
    }
    result.unreadInputs = step.unreadInputs
    result.cost = Cost(operations: step.cost.operations)
    result.kernelName = step.kernelName
    return result
  }
}

/// The next multiple of 64.
func aligned(_ bytes: Int) -> Int { (bytes &+ 63) & ~63 }

extension Tensor {
  /// The elements in another type, in memory of `allowance`.
  func converted(
    to type: DataType, _ convert: ElementConverter, _ allowance: Allowance
  ) throws(OperatorError) -> Tensor {
    let source = try allowance.aligned(self, to: 16)
    let target = try allowance.allocate(type, shape)
    convert(source.base, target.storage.base, count)
    withExtendedLifetime(source) {}
    return target
  }
}

/// The conversion between a float32 or float64 and another element type; nil for pairs that nobody needs. Towards
/// integers it rounds half to even and saturates; NaN becomes 0. Bool is 0 or 1, and true for everything but 0.
func elementConverter(from source: DataType, to target: DataType) -> ElementConverter? {
  switch (source, target) {
  case (.float16, .float32): { from, to, count in apus_kernels().pointee.f16_to_f32(count, from, to) }
  case (.float32, .float16): { from, to, count in apus_kernels().pointee.f32_to_f16(count, from, to) }
  case (.bfloat16, .float32): { from, to, count in apus_kernels().pointee.bf16_to_f32(count, from, to) }
  case (.float32, .bfloat16): { from, to, count in apus_kernels().pointee.f32_to_bf16(count, from, to) }
  case (.uint8, .float32): { from, to, count in apus_kernels().pointee.u8_to_f32(count, from, to) }
  case (.int8, .float32): { from, to, count in apus_kernels().pointee.i8_to_f32(count, from, to) }
  // NaN becomes the least value, which is 0.
  case (.float32, .uint8):
    { from, to, count in
      apus_kernels().pointee.quantize_u8(count, from.assumingMemoryBound(to: Float.self), to, 1, 0)
    }
  case (.float32, .uint16):
    { from, to, count in
      apus_kernels().pointee.quantize_u16(count, from.assumingMemoryBound(to: Float.self), to, 1, 0)
    }
  case (let type, .float32): widening(type, as: Float.self)
  case (let type, .float64): widening(type, as: Double.self)
  case (.float32, let type): narrowing(Float.self, type)
  case (.float64, let type): narrowing(Double.self, type)
  default: nil
  }
}

private protocol StagingFloat: BinaryFloatingPoint, BitwiseCopyable, Sendable {
  init(_ value: Float)
  init(_ value: Float16)
  var asFloat: Float { get }
  var asDouble: Double { get }
}
extension Float: StagingFloat {
  var asFloat: Float { self }
  var asDouble: Double { Double(self) }
}
extension Double: StagingFloat {
  var asFloat: Float { Float(self) }
  var asDouble: Double { self }
}

private func widening<Wide: StagingFloat>(_ type: DataType, as wide: Wide.Type) -> ElementConverter? {
  func integer<Narrow: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(_ narrow: Narrow.Type)
    -> ElementConverter
  {
    convertElements(Narrow.self, Wide.self) { Wide($0) }
  }
  return switch type {
  case .float16: convertElements(Float16.self, Wide.self) { Wide($0) }
  case .bfloat16: convertElements(UInt16.self, Wide.self) { Wide(Float(bitPattern: UInt32($0) << 16)) }
  case .float32: convertElements(Float.self, Wide.self) { Wide($0) }
  case .float64: convertElements(Double.self, Wide.self) { Wide($0) }
  case .bool: convertElements(UInt8.self, Wide.self) { $0 == 0 ? 0 : 1 }
  case .int8: integer(Int8.self)
  case .uint8: integer(UInt8.self)
  case .int16: integer(Int16.self)
  case .uint16: integer(UInt16.self)
  case .int32: integer(Int32.self)
  case .uint32: integer(UInt32.self)
  case .int64: integer(Int64.self)
  case .uint64: integer(UInt64.self)
  default: nil
  }
}

private func narrowing<Wide: StagingFloat>(_ wide: Wide.Type, _ type: DataType) -> ElementConverter? {
  func integer<Narrow: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(_ narrow: Narrow.Type)
    -> ElementConverter
  {
    // The bounds as floats lie at or just beyond those of the type; what rounds onto them saturates.
    let (low, high) = (Wide(Narrow.min), Wide(Narrow.max))
    return convertElements(Wide.self, Narrow.self) { value in
      let rounded = value.rounded(.toNearestOrEven)
      return rounded >= high ? Narrow.max : rounded > low ? Narrow(rounded) : rounded <= low ? Narrow.min : 0
    }
  }
  // Concrete, without the care of a conversion that may fail.
  func short<Narrow: FixedWidthInteger & BitwiseCopyable & SendableMetatype>(_ narrow: Narrow.Type) -> ElementConverter
  {
    let (low, high) = (Double(Narrow.min), Double(Narrow.max))
    return convertElements(Wide.self, Narrow.self) { value in
      let rounded = value.asDouble.rounded(.toNearestOrEven)
      // NaN is neither.
      let bounded = rounded >= high ? high : rounded > low ? rounded : rounded <= low ? low : 0
      return Narrow(truncatingIfNeeded: Int64(bounded))
    }
  }
  return switch type {
  case .float16: convertElements(Wide.self, Float16.self) { Float16($0) }
  case .bfloat16: convertElements(Wide.self, UInt16.self) { BFloat16($0.asFloat).bitPattern }
  case .float32: convertElements(Wide.self, Float.self) { $0.asFloat }
  case .float64: convertElements(Wide.self, Double.self) { $0.asDouble }
  case .bool: convertElements(Wide.self, UInt8.self) { $0 == 0 ? 0 : 1 }
  case .int8: short(Int8.self)
  case .uint8: short(UInt8.self)
  case .int16: short(Int16.self)
  case .uint16: short(UInt16.self)
  case .int32: short(Int32.self)
  case .uint32: short(UInt32.self)
  case .int64: integer(Int64.self)
  case .uint64: integer(UInt64.self)
  default: nil
  }
}

@inline(__always)
private func convertElements<Source: BitwiseCopyable, Target: BitwiseCopyable>(
  _ source: Source.Type, _ target: Target.Type, _ convert: @escaping @Sendable (Source) -> Target
) -> ElementConverter {
  { from, to, count in
    let source = from.assumingMemoryBound(to: Source.self)
    let target = to.assumingMemoryBound(to: Target.self)
    for index in 0..<count { target[index] = convert(source[index]) }
  }
}
