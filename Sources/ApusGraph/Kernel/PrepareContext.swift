// What an operator sees when it chooses its kernel.

import ApusTensor
import Synchronization

/// A node with all facts that inference found.
package struct PrepareContext: OperatorContext, Sendable {
  package let node: Node
  package let schema: OperatorSchema
  /// nil: the optional input is absent.
  package let inputs: [ValueFact?]
  package let outputs: [ValueFact?]
  private let tensors: [Tensor?]
  private let reads: TensorReads?
  /// Packed forms of constants, shared by all nodes that pack the same bytes the same way.
  package let packedWeights: PackedWeights

  /// `reads`: who wants to know whether the operator looks at its constants.
  package init(
    node: Node, schema: OperatorSchema, inputs: [ValueFact?], outputs: [ValueFact?], constants: [Tensor?],
    packedWeights: PackedWeights = PackedWeights(), reads: TensorReads? = nil
  ) {
    self.node = node
    self.schema = schema
    self.inputs = inputs
    self.outputs = outputs
    tensors = constants
    self.packedWeights = packedWeights
    self.reads = reads
  }

  /// The tensors of the inputs that are constants; a kernel may pack them here once and for all.
  package var constants: [Tensor?] {
    reads?.note()
    return tensors
  }

  /// The memory and the time that preparing may take.
  package var allowance: Allowance { packedWeights.allowance }

  package func isPresent(_ input: Int) -> Bool { input < inputs.count && inputs[input] != nil }
  package func isWanted(_ output: Int) -> Bool { output < node.outputs.count && node.outputs[output] != nil }

  /// The element type of an input, or an error if it is no tensor or not known.
  package func type(_ input: Int) throws(OperatorError) -> DataType {
    guard input < inputs.count, let fact = inputs[input] else { throw .invalid("input \(input) is missing") }
    guard let tensor = fact.tensor else { throw .mismatch("input \(input) is \(fact); expected a tensor") }
    return tensor.dataType
  }

  /// The element type of an input; nil if it is absent or no tensor.
  package func optionalType(_ input: Int) -> DataType? { input < inputs.count ? inputs[input]?.tensor?.dataType : nil }
  package func outputType(_ output: Int) -> DataType? {
    output < outputs.count ? outputs[output]?.tensor?.dataType : nil
  }
  package func rank(_ input: Int) -> Int? { input < inputs.count ? inputs[input]?.tensor?.shape?.count : nil }
  package func shape(_ input: Int) -> [Dim]? { input < inputs.count ? inputs[input]?.tensor?.shape : nil }
  package func constant(_ input: Int) -> Tensor? {
    reads?.note()
    return input < tensors.count ? tensors[input] : nil
  }

  /// A constant input that the kernel packs into one of its `Kernel.packedOperands`: nothing else may depend on its
  /// elements.
  package func packable(_ input: Int) -> Tensor? { input < tensors.count ? tensors[input] : nil }

  /// The error for an element type that the schema allows and no kernel has.
  package func unsupportedType(_ type: DataType, input: Int = 0) -> OperatorError {
    .unsupported("\(schema.id) has no kernel for \(type) at input \(input)")
  }
}

/// How exactly the float32 weights of matrix products and convolutions are kept.
package enum WeightPrecision: Sendable, Hashable {
  case full
  /// Rounded to bfloat16, to nearest, ties to even.
  case bfloat16
}

/// Packed forms of constants by what was packed and how. Filled while a model is prepared.
package final class PackedWeights: Sendable {
  /// A form of the tensor at `byteOffset` in `source`, which is kept alive so that its identity stays unique.
  private struct Entry {
    let source: TensorStorage
    let byteOffset: Int
    let packed: TensorStorage
  }

  /// The memory and the time of the loading that the packing belongs to.
  package let allowance: Allowance
  /// By format.
  private let entries = Mutex<[String: [Entry]]>([:])
  /// Buffers that tensors are read into to be packed, at most one a thread.
  private let buffers = Mutex<[TensorStorage]>([])

  /// True if constants that all their nodes have packed shall not stay in memory in their first form.
  package let releasesSources: Bool
  /// What kernels may make of float32 weights.
  package let precision: WeightPrecision

  /// Where models look for weights that others have already; nil: nowhere.
  private let store: WeightStore?
  /// The forms of a compiled model, which it is made of or loaded from; nil: neither.
  private let forms: PackedForms?

  package init(
    allowance: Allowance = .unlimited, releasesSources: Bool = false, store: WeightStore? = nil,
    forms: PackedForms? = nil, precision: WeightPrecision = .full
  ) {
    (self.allowance, self.releasesSources, self.precision) = (allowance, releasesSources, precision)
    (self.store, self.forms) = (store, forms)
  }

  /// The block that models share for the bytes of `storage`, which nobody may change any more.
  package func shared(_ storage: TensorStorage) -> TensorStorage {
    guard let store else { return storage }
    let shared = store.shared(storage)
    if shared !== storage { spared.add(storage.byteCount, ordering: .relaxed) }
    return shared
  }

  /// Bytes that were packed or read and are in memory already.
  private let spared = Atomic<Int>(0)

  /// Forgets what only preparing needs.
  package func finish() {
    entries.withLock { $0 = [:] }
    buffers.withLock { $0 = [] }
    // The C library would keep what second copies have taken.
    if spared.load(ordering: .relaxed) > 1 << 20 { TensorStorage.returnFreedMemory() }
  }

  /// The packed form of `byteCount` bytes, made by `pack` at the first call. `format` must name everything the packing
  /// depends on besides the bytes: algorithm, transposition, extents. What a kernel reads of the form must not depend
  /// on its contents: those of a compiled model come from a file.
  package func storage(
    for tensor: Tensor, format: String, byteCount: Int, pack: (PackingSource) throws(OperatorError) -> TensorStorage
  ) throws(OperatorError) -> TensorStorage {
    func known(_ entries: [String: [Entry]]) -> TensorStorage? {
      entries[format]?.first { $0.source === tensor.storage && $0.byteOffset == tensor.byteOffset }?.packed
    }
    if let packed = entries.withLock({ known($0) }) { return packed }
    try allowance.checkTime()
    let packed: TensorStorage
    if let known = try forms?.block(for: tensor, format: format, byteCount: byteCount) {
      packed = known
    } else {
      packed = shared(try pack(PackingSource(tensor: tensor, weights: self)))
      assert(packed.byteCount == byteCount, "\(format): \(packed.byteCount) bytes, not \(byteCount)")
      forms?.record(packed, for: tensor, format: format)
    }
    return entries.withLock { entries in
      if let first = known(entries) { return first }
      let entry = Entry(source: tensor.storage, byteOffset: tensor.byteOffset, packed: packed)
      entries[format, default: []].append(entry)
      return packed
    }
  }

  /// Reads a range of the bytes of a deferred tensor into a buffer, which is free again when `body` returns.
  fileprivate func withCopy(
    of range: Range<Int>, _ deferred: DeferredBytes, _ body: (UnsafeRawPointer) throws(OperatorError) -> Void
  ) throws(OperatorError) {
    let buffer = try takeBuffer(range.count)
    defer { buffers.withLock { $0.append(buffer) } }
    for start in stride(from: 0, to: range.count, by: PackedWeights.readingChunk) {
      try allowance.checkTime()
      let count = min(range.count - start, PackedWeights.readingChunk)
      do throws(TensorError) {
        // In bounds: the buffer has at least `range.count` bytes.
        let target = UnsafeMutableRawBufferPointer(start: buffer.base + start, count: count)
        try deferred.copy(from: range.lowerBound + start, into: target)
      } catch {
        throw OperatorError(error)
      }
    }
    try body(buffer.base)
  }

  /// Bytes that are read between two looks at the clock.
  private static let readingChunk = 64 << 20

  private func takeBuffer(_ byteCount: Int) throws(OperatorError) -> TensorStorage {
    let buffer = buffers.withLock { buffers in
      (buffers.firstIndex { $0.byteCount >= byteCount } ?? buffers.indices.last).map { buffers.remove(at: $0) }
    }
    if let buffer, buffer.byteCount >= byteCount { return buffer }
    return try allowance.allocate(byteCount: byteCount)
  }
}

/// A constant whose bytes somebody packs. What is still in a file is read by the ranges that are asked for, so that
/// they pass through the caches and never lie in memory as a whole.
package struct PackingSource {
  package let tensor: Tensor
  fileprivate let weights: PackedWeights

  /// Bytes that are worth to be asked for at a time: they fit into the second cache beside what is made of them.
  package static let usualPiece = 1 << 18

  /// Calls `body` with the address of the first of a range of the tensor's bytes, of any alignment, valid during the
  /// call.
  package func withBytes(
    _ range: Range<Int>, _ body: (UnsafeRawPointer) throws(OperatorError) -> Void
  ) throws(OperatorError) {
    precondition(range.lowerBound >= 0 && range.upperBound <= tensor.byteCount)
    defer { withExtendedLifetime(tensor) {} }
    guard let deferred = tensor.storage.deferred, deferred.isPending else {
      try weights.allowance.checkTime()
      return try body(tensor.base + range.lowerBound)
    }
    let place = tensor.byteOffset + range.lowerBound
    try weights.withCopy(of: place..<place + range.count, deferred, body)
  }

  /// The same with all bytes.
  package func withBytes(_ body: (UnsafeRawPointer) throws(OperatorError) -> Void) throws(OperatorError) {
    try withBytes(0..<tensor.byteCount, body)
  }
}
