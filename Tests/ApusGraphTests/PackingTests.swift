// Weights that are packed straight from a file, and steps that cannot be.

import ApusGraph
import ApusTensor
import Synchronization
import Testing

/// A file of consecutive bytes that notes what is read of it.
private final class NotedFile: Sendable {
  let byteCount: Int
  private let ranges = Mutex<[Range<Int>]>([])
  private let fault: TensorError?

  init(byteCount: Int, fault: TensorError? = nil) { (self.byteCount, self.fault) = (byteCount, fault) }

  var read: [Range<Int>] { ranges.withLock { $0 } }

  /// A tensor of bytes whose contents are read late.
  func tensor() -> Tensor {
    let base = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 64)
    base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    let deferred = DeferredBytes(account: nil) { [self] offset, buffer in
      ranges.withLock { $0.append(offset..<offset + buffer.count) }
      for index in buffer.indices { buffer[index] = UInt8(truncatingIfNeeded: offset + index) }
      return fault
    }
    let storage = TensorStorage(base: base, byteCount: byteCount, deferred: deferred) { base, _ in base.deallocate() }
    return Tensor(dataType: .uint8, shape: [byteCount], storage: storage)
  }
}

@Suite struct PackingTests {
  /// The first byte of each range, packed.
  private func pack(
    _ tensor: Tensor, _ ranges: [Range<Int>], with weights: PackedWeights
  ) throws(OperatorError) -> TensorStorage {
    try weights.storage(for: tensor, format: "first bytes", byteCount: ranges.count) {
      (source) throws(OperatorError) in
      let packed = try weights.allowance.allocate(byteCount: ranges.count)
      for (index, range) in ranges.enumerated() {
        try source.withBytes(range) { bytes in
          packed.base.storeBytes(of: bytes.load(as: UInt8.self), toByteOffset: index, as: UInt8.self)
        }
      }
      return packed
    }
  }

  private func bytes(_ storage: TensorStorage, _ count: Int) -> [UInt8] {
    (0..<count).map { storage.base.load(fromByteOffset: $0, as: UInt8.self) }
  }

  /// Ranges are read as they are asked for; the whole is never in memory.
  @Test func rangesOfAFile() throws {
    let file = NotedFile(byteCount: 1000)
    let ranges = [7..<20, 300..<301, 0..<999, 500..<600]
    let packed = try pack(file.tensor(), ranges, with: PackedWeights())
    #expect(bytes(packed, 4) == ranges.map { UInt8(truncatingIfNeeded: $0.lowerBound) })
    #expect(file.read == ranges)
  }

  @Test func packedOnce() throws {
    let file = NotedFile(byteCount: 100)
    let (tensor, weights) = (file.tensor(), PackedWeights())
    let first = try pack(tensor, [0..<10], with: weights)
    #expect(try pack(tensor, [0..<10], with: weights) === first)
    #expect(file.read.count == 1)
    weights.finish()
    #expect(try pack(tensor, [0..<10], with: weights) !== first)
  }

  /// What was packed from the constants of a compiled model is noted, and not packed again where it is known.
  @Test func formsOfACompiledModel() throws {
    let (file, other) = (NotedFile(byteCount: 100), NotedFile(byteCount: 100))
    let tensor = file.tensor()
    let forms = PackedForms(constants: [other.tensor().storage, tensor.storage])
    let packed = try pack(tensor, [3..<4, 9..<10], with: PackedWeights(forms: forms))
    _ = try pack(NotedFile(byteCount: 10).tensor(), [1..<2], with: PackedWeights(forms: forms))
    let form = PackedForms.Form(constant: 1, format: "first bytes")
    #expect(forms.all.count == 1 && forms.all[form] === packed)

    let unread = NotedFile(byteCount: 100).tensor()
    let known = PackedForms(constants: [unread.storage], blocks: [.init(constant: 0, format: "first bytes"): packed])
    #expect(try pack(unread, [3..<4, 9..<10], with: PackedWeights(forms: known)) === packed)
    #expect(unread.storage.deferred?.isPending ?? false)
    // A block of another size is for other kernels.
    let error = #expect(throws: OperatorError.self) { try pack(unread, [3..<4], with: PackedWeights(forms: known)) }
    #expect(error?.message.contains("2 bytes") ?? false)
  }

  /// What is in memory is not read again.
  @Test func memory() throws {
    let tensor = Tensor((0..<100).map { UInt8($0) })
    #expect(bytes(try pack(tensor, [5..<6, 99..<100], with: PackedWeights()), 2) == [5, 99])
  }

  @Test func faultsOfTheFile() {
    let file = NotedFile(byteCount: 100, fault: TensorError(.file, "the file is shorter than it was"))
    let error = #expect(throws: OperatorError.self) { try pack(file.tensor(), [0..<10], with: PackedWeights()) }
    #expect(error?.message.contains("shorter than it was") ?? false)
  }
}

@Suite struct StepTests {
  /// A kernel that forgets an output is an error, not memory as it was.
  @Test func stepsWithoutWork() throws {
    func step(_ shape: Shape, _ step: Step) throws -> Step {
      guard case .planned(let kernel) = PreparedKernel.planned({ (_) throws(OperatorError) in step }) else {
        throw OperatorError.inconsistency("not planned")
      }
      let type = TensorType(.float32, shape)
      return try kernel.step(for: PlanContext(inputs: [type], outputs: [type], known: [nil]))
    }
    #expect(throws: OperatorError.self) { try step([2], .parallel(parts: 0) { _, _ in }) }
    #expect(throws: OperatorError.self) { try step([2], Step(phases: []) { _, _, _ in }) }
    #expect(try step([2], .serial { _ in }).phases == [1])
    #expect(try step([2], .views([Step.View()])).views.count == 1)
    #expect(try step([0, 2], .parallel(parts: 0) { _, _ in }).phases == [])
  }
}
