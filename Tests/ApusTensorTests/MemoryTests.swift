// Accounts of memory, blocks that cannot be had, sizes that come from requests, and bytes that are read late.

import ApusTensor
import CApusProcess
import Synchronization
import Testing

/// Counts calls from any thread.
private final class Counter: Sendable {
  private let value = Mutex(0)
  func increment() { value.withLock { $0 += 1 } }
  var count: Int { value.withLock { $0 } }
}

@Suite struct MemoryTests {
  /// The next block of the size of one that was freed is that one, but where another thread looks for one just then.
  @Test(arguments: [70_000, 391_111, 5_555_555]) func blocksAreUsedAgain(size: Int) throws {
    let isSame = try (0..<100).contains { _ in
      var block: TensorStorage? = try TensorStorage(byteCount: size)
      let address = try #require(block?.base)
      block = nil
      let again = try TensorStorage(byteCount: size)
      let other = try TensorStorage(byteCount: size)
      #expect(again.base != other.base)
      withExtendedLifetime(other) {}
      return again.base == address
    }
    #expect(isSame)
    TensorStorage.returnFreedMemory()
  }

  /// Blocks that will be filled have their pages from the start; ranges that hold something keep it.
  @Test func pagesMayComeAtOnce() throws {
    for size in [0, 100, 70_000, 1 << 20, 5 << 20] {
      let block = try TensorStorage(byteCount: size, isFilled: true)
      let bytes = UnsafeMutableRawBufferPointer(start: block.base, count: size)
      for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: index) }
      apus_populate(block.base, size)
      #expect(bytes.indices.allSatisfy { bytes[$0] == UInt8(truncatingIfNeeded: $0) })
    }
    TensorStorage.returnFreedMemory()
  }

  @Test func accountsCountBlocksWhileTheyLive() throws {
    let account = MemoryAccount(limit: 1000, name: "limit")
    do {
      let block = try TensorStorage(byteCount: 600, account: account)
      #expect(account.inUse == 600)
      #expect(throws: TensorError.self) { try TensorStorage(byteCount: 401, account: account) }
      #expect(account.inUse == 600, "what was refused does not count")
      withExtendedLifetime(block) {}
    }
    #expect(account.inUse == 0)
    #expect(throws: TensorError.self) { try account.charge(.max) }
  }

  @Test func partsCountInTheWhole() throws {
    let whole = MemoryAccount(limit: 1000, name: "whole")
    let part = MemoryAccount(limit: 800, name: "part", parent: whole)
    let other = MemoryAccount(limit: 800, name: "other", parent: whole)
    let block = try TensorStorage(byteCount: 700, account: part)
    #expect(throws: TensorError.self) { try other.charge(400) }
    #expect(other.inUse == 0 && whole.inUse == 700 && other.available == 300)
    withExtendedLifetime(block) {}
  }

  /// Gives back what it was told to have, a little at a time.
  private final class Keeper: MemoryKeeper {
    let spare = Mutex(0)
    let account = Mutex<MemoryAccount?>(nil)
    let usage = "500 by others"

    func makeRoom(_ bytes: Int) -> Bool {
      let freed = spare.withLock { spare in
        let freed = min(spare, 100)
        spare -= freed
        return freed
      }
      guard freed > 0, let account = account.withLock({ $0 }) else { return false }
      account.takeUp(freed)
      account.credit(freed)
      return true
    }
  }

  @Test func keepersMakeRoom() throws {
    let keeper = Keeper()
    let whole = MemoryAccount(limit: 1000, name: "budget", keeper: keeper)
    let part = MemoryAccount(limit: .max, name: "part", parent: whole)
    keeper.account.withLock { $0 = part }
    try part.charge(900)
    part.setAside(500)
    keeper.spare.withLock { $0 = 500 }
    #expect(whole.available == 600 && part.available == 600 && whole.idleBytes == 500)
    try part.check(600)
    #expect(throws: TensorError.self) { try part.check(601) }
    try part.charge(250)
    #expect(whole.inUse == 950 && whole.idleBytes == 300, "as much as was needed is given back")
    let error = #expect(throws: TensorError.self) { try part.charge(600) }
    #expect(error?.message.contains("500 by others; budget is 1000") == true)
    #expect(throws: TensorError.self) { try part.charge(.max) }
    keeper.account.withLock { $0 = nil }
  }

  /// What nobody credits goes with the account that was charged, but for working memory, which is kept elsewhere.
  @Test func accountsGoWithTheirCharges() throws {
    let whole = MemoryAccount(limit: 1000, name: "whole")
    do {
      let part = MemoryAccount(limit: 800, name: "part", parent: whole)
      try part.charge(300)
      try part.chargeWorkspace(200)
      #expect(part.inUse == 500 && whole.inUse == 300)
    }
    #expect(whole.inUse == 0)
  }

  @Test func bytesReadLateCountAsLongAsTheyLive() throws {
    let account = MemoryAccount(limit: 1000, name: "limit")
    do {
      let bytes = DeferredBytes(account: account) { _, _ in nil }
      let block = TensorStorage(
        base: .allocate(byteCount: 600, alignment: 64), byteCount: 600, deferred: bytes,
        release: { base, _ in base.deallocate() })
      #expect(account.inUse == 0)
      try block.load()
      #expect(account.inUse == 600)
    }
    #expect(account.inUse == 0)
  }

  @Test func workspacesCountOnce() throws {
    let account = MemoryAccount(limit: 1000, name: "limit")
    for bytes in [300, 500, 200] { try account.chargeWorkspace(bytes) }
    #expect(account.inUse == 500)
    #expect(throws: TensorError.self) { try account.chargeWorkspace(1001) }
  }

  @Test func stringsCountWithTheirText() throws {
    let account = MemoryAccount(limit: 10_000, name: "limit")
    let long = String(repeating: "x", count: 5000)
    let tensor = Tensor(strings: [long, "short"], shape: [2])
    try tensor.storage.charge(to: account)
    #expect(account.inUse >= 5000)
    let charged = account.inUse
    try tensor.storage.charge(to: account)
    #expect(account.inUse == charged, "a block is charged once")
    #expect(throws: TensorError.self) { try Tensor(strings: [long, long], shape: [2]).storage.charge(to: account) }
  }

  /// Small blocks, large ones, and those of large pages, around the sizes where one becomes the other.
  @Test func blocksAreAligned() throws {
    let edges = [1, 64, 4096 - 64, 4096, 4 << 20]
    var blocks: [TensorStorage] = []
    for byteCount in [0] + edges.flatMap({ [$0 - 1, $0, $0 + 1] }) {
      let block = try TensorStorage(byteCount: byteCount)
      #expect(UInt(bitPattern: block.base) % 64 == 0, "\(byteCount) bytes")
      block.base.initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: blocks.count), count: byteCount)
      blocks.append(block)
    }
    for (number, block) in blocks.enumerated() {
      let bytes = UnsafeRawBufferPointer(start: block.base, count: block.byteCount)
      #expect(bytes.allSatisfy { $0 == UInt8(truncatingIfNeeded: number) }, "\(block.byteCount) bytes")
    }
  }

  @Test func impossibleSizesAreErrors() {
    #expect(throws: TensorError.self) { try TensorStorage(byteCount: .max) }
    #expect(throws: TensorError.self) { try TensorStorage(byteCount: 1 << 60) }
    #expect(throws: TensorError.self) { try TensorStorage(byteCount: -1) }
    for shape in [[1 << 40, 1 << 40], [-1], [1 << 58]] as [Shape] {
      #expect(throws: TensorError.self) { try Tensor(zeros: .float32, validating: shape) }
      #expect(throws: TensorError.self) { try Tensor(zeros: .string, validating: shape) }
      #expect(throws: TensorError.self) { try Tensor([1, 2, 3] as [Float], validating: shape) }
      #expect(throws: TensorError.self) { try Tensor([1, 2, 3] as [Float]).reshaped(validating: shape) }
    }
  }

  @Test func requestsAreValidated() throws {
    #expect(try Tensor([1, 2, 3, 4] as [Int32], validating: [2, 2]).elements(as: Int32.self) == [1, 2, 3, 4])
    #expect(try Tensor(strings: ["a"], validating: [1, 1]).strings == ["a"])
    #expect(try Tensor(zeros: .string, validating: [2]).strings == ["", ""])
    #expect(try Tensor(zeros: .int4, validating: [3]).byteCount == 2)
    #expect(throws: TensorError.self) { try Tensor([1, 2, 3] as [Float], validating: [2]) }
    #expect(throws: TensorError.self) { try Tensor(strings: ["a"], validating: [2]) }
    #expect(throws: TensorError.self) {
      try MapValue(validating: Tensor([1, 2] as [Int]), values: [], valueType: .tensor(.float32, nil))
    }
    #expect(throws: TensorError.self) {
      try MapValue(
        validating: Tensor(scalar: Float(1)), values: [.tensor(Tensor(scalar: 1))], valueType: .tensor(.int64, nil))
    }
  }

  @Test func deferredBytesAreReadOnce() throws {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 16)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: 4)
    let reads = Counter()
    let bytes = DeferredBytes(account: nil) { offset, buffer in
      reads.increment()
      for index in buffer.indices { buffer[index] = UInt8(offset + index + 1) }
      return nil
    }
    let storage = TensorStorage(base: memory, byteCount: 4, deferred: bytes) { pointer, _ in pointer.deallocate() }
    let tensor = Tensor(dataType: .uint8, shape: [4], storage: storage)
    #expect(tensor.isAligned(to: 16) && bytes.isPending, "an address needs no bytes")
    let aside = UnsafeMutableRawBufferPointer.allocate(byteCount: 2, alignment: 1)
    defer { aside.deallocate() }
    try bytes.copy(from: 1, into: aside)
    #expect(Array(aside) == [2, 3] && bytes.isPending)
    #expect(tensor.elements(as: UInt8.self) == [1, 2, 3, 4])
    try storage.load()
    #expect(!bytes.isPending && reads.count == 2)
  }

  @Test func deferredBytesThatCannotBeReadAreAnError() {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 16)
    memory.initializeMemory(as: UInt8.self, repeating: 0, count: 4)
    let storage = TensorStorage(
      base: memory, byteCount: 4, deferred: DeferredBytes(account: nil) { _, _ in TensorError(.file, "gone") },
      release: { pointer, _ in pointer.deallocate() })
    #expect(Tensor(dataType: .uint8, shape: [4], storage: storage).elements(as: UInt8.self) == [0, 0, 0, 0])
    #expect(throws: TensorError.self) { try storage.load() }
    #expect(throws: TensorError.self) { try Tensor(released: .float32, shape: [1 << 20]).storage.load() }
  }

  @Test func deepWorkHasItsStack() throws {
    func depth(_ levels: Int) -> Int {
      withUnsafeTemporaryAllocation(byteCount: 512, alignment: 16) { buffer in
        buffer[0] = UInt8(truncatingIfNeeded: levels)
        return levels == 0 ? 0 : 1 + depth(levels - 1) + Int(buffer[0]) - Int(UInt8(truncatingIfNeeded: levels))
      }
    }
    // More than the stacks of most threads.
    #expect(DeepStack.run { depth(20_000) } == 20_000)
    #expect(DeepStack.run { DeepStack.run { 7 } } == 7)
    #expect(throws: TensorError.self) {
      try DeepStack.run { () throws(TensorError) -> Int in throw TensorError(.mismatch, "no") }
    }
  }
}
