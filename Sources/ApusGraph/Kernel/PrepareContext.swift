// What an operator sees when it chooses its kernel.

import ApusTensor
import Synchronization

/// A node with all facts that inference found.
package struct PrepareContext: OperatorContext {
  package let node: Node
  package let schema: OperatorSchema
  /// nil: the optional input is absent.
  package let inputs: [ValueFact?]
  package let outputs: [ValueFact?]
  /// The tensors of the inputs that are constants; a kernel may pack them here once and for all.
  package let constants: [Tensor?]
  /// Packed forms of constants, shared by all nodes that pack the same bytes the same way.
  package let packedWeights: PackedWeights

  package init(
    node: Node, schema: OperatorSchema, inputs: [ValueFact?], outputs: [ValueFact?], constants: [Tensor?],
    packedWeights: PackedWeights = PackedWeights()
  ) {
    self.node = node
    self.schema = schema
    self.inputs = inputs
    self.outputs = outputs
    self.constants = constants
    self.packedWeights = packedWeights
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
  package func outputType(_ output: Int) -> DataType? { output < outputs.count ? outputs[output]?.tensor?.dataType : nil }
  package func rank(_ input: Int) -> Int? { input < inputs.count ? inputs[input]?.tensor?.shape?.count : nil }
  package func shape(_ input: Int) -> [Dim]? { input < inputs.count ? inputs[input]?.tensor?.shape : nil }
  package func constant(_ input: Int) -> Tensor? { input < constants.count ? constants[input] : nil }

  /// The error for an element type that the schema allows and no kernel has.
  package func unsupportedType(_ type: DataType, input: Int = 0) -> OperatorError {
    .unsupported("\(schema.id) has no kernel for \(type) at input \(input)")
  }
}

/// Packed forms of constants by what was packed and how. Filled while a model is prepared.
package final class PackedWeights: Sendable {
  package struct Key: Hashable, Sendable {
    let storage: ObjectIdentifier
    let byteOffset: Int
    let format: String

    /// `format` must name everything the packing depends on besides the bytes: algorithm, transposition, extents.
    package init(_ tensor: Tensor, format: String) {
      storage = ObjectIdentifier(tensor.storage)
      byteOffset = tensor.byteOffset
      self.format = format
    }
  }

  /// The memory and the time of the loading that the packing belongs to.
  package let allowance: Allowance
  private let entries = Mutex<[Key: (packed: TensorStorage, source: TensorStorage)]>([:])
  /// Buffers that tensors are read into to be packed, at most one a thread.
  private let buffers = Mutex<[TensorStorage]>([])

  /// True if constants that all their nodes have packed shall not stay in memory in their first form.
  package let releasesSources: Bool

  package init(allowance: Allowance = .unlimited, releasesSources: Bool = false) {
    (self.allowance, self.releasesSources) = (allowance, releasesSources)
  }

  /// Forgets what only preparing needs.
  package func finish() {
    entries.withLock { $0 = [:] }
    buffers.withLock { $0 = [] }
  }

  /// The packed form, made by `pack` at the first call. `pack` gets the tensor, or a copy of it that lives only during the
  /// call where its bytes are still in a file.
  package func storage(
    for tensor: Tensor, format: String, pack: (Tensor) throws(OperatorError) -> TensorStorage
  ) throws(OperatorError) -> TensorStorage {
    let key = Key(tensor, format: format)
    if let entry = entries.withLock({ $0[key] }) { return entry.packed }
    try allowance.checkTime()
    let packed = try packing(tensor, pack)
    // The source is kept alive so that its identity stays unique.
    return entries.withLock { entries in
      if let entry = entries[key] { return entry.packed }
      entries[key] = (packed, tensor.storage)
      return packed
    }
  }

  private func packing(
    _ tensor: Tensor, _ pack: (Tensor) throws(OperatorError) -> TensorStorage
  ) throws(OperatorError) -> TensorStorage {
    guard let deferred = tensor.storage.deferred, deferred.isPending else { return try pack(tensor) }
    let buffer = try takeBuffer(tensor.byteCount)
    defer { buffers.withLock { $0.append(buffer) } }
    var done = 0
    while done < tensor.byteCount {
      try allowance.checkTime()
      let count = min(tensor.byteCount - done, PackedWeights.readingChunk)
      do throws(TensorError) {
        try deferred.copy(
          from: tensor.byteOffset + done, into: UnsafeMutableRawBufferPointer(start: buffer.base + done, count: count))
      } catch {
        throw OperatorError(error)
      }
      done += count
    }
    return try pack(Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: buffer))
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
