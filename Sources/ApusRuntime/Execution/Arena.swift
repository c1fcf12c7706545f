// The memory of one run: an arena straight from the system, and the addresses that plans have in it.

import ApusGraph
import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// One arena with the operand tables of the plans that were run in it. Used by one run at a time.
///
/// `@unchecked Sendable`: whoever holds the lease is its only user; `LeasePool` hands it on under a lock.
final class Lease: @unchecked Sendable {
  private(set) var base: UnsafeMutableRawPointer?
  private(set) var byteCount = 0
  /// Empty arrays for the inputs of a region that runs and the blocks that outlive it, so that a run makes none.
  private var inputs: [Tensor?] = []
  private var blocks: [TensorStorage] = []
  /// Where the steps of a wave report data that they cannot work on, each its own.
  let failures = (0..<SideBySide.maximumSteps).map { _ in RunFailure() }
  /// Charged for the arena.
  private let account: MemoryAccount?
  private var tables: [ObjectIdentifier: OperandTable] = [:]
  /// The table that was asked for last: usually the next one too.
  private var lastTable: OperandTable?
  /// Tables kept for one arena; more means more plans than the cache holds.
  private static let tableCapacity = 128
  /// Arenas are multiples of this.
  private static let granule = 1 << 16
  /// What the runs since the last look have needed.
  private var recentPeak = 0
  private var runsSinceLook = 0

  init(account: MemoryAccount?) { self.account = account }

  deinit { release() }

  /// Makes the arena at least `needed` bytes large. Gives most of it back after many runs that needed far less, and at
  /// once if it is larger than needed by more than the `available` bytes that the run has left.
  func reserve(_ needed: Int, available: Int) throws(OperatorError) {
    recentPeak = max(recentPeak, needed)
    runsSinceLook += 1
    let isMuchTooLarge = runsSinceLook >= 256 && byteCount > 4 << 20 && recentPeak < byteCount / 2
    let isInTheWay = byteCount > needed + Self.granule && byteCount - needed > available
    if needed > byteCount || isMuchTooLarge || isInTheWay {
      // Sizes that grow from run to run, as the past of a decoder, do not take new memory each time.
      let grown = needed > byteCount && byteCount > 0 ? min(needed + needed / 4, max(available, needed)) : needed
      let target = needed > byteCount || isInTheWay ? grown : recentPeak
      release()
      do throws(OperatorError) {
        try map(target)
      } catch {
        // What others have taken meanwhile may leave room for what is needed, and no more.
        guard target > needed else { throw error }
        try map(needed)
      }
    }
    if runsSinceLook >= 256 {
      runsSinceLook = 0
      recentPeak = needed
    }
  }

  /// Takes an arena of at least `target` bytes where there is none.
  private func map(_ target: Int) throws(OperatorError) {
    let (rounded, overflow) = max(target, 64).addingReportingOverflow(Self.granule - 1)
    guard !overflow else { throw OperatorError(.limit, "no memory for an arena of \(target) bytes") }
    let size = rounded / Self.granule * Self.granule
    do throws(TensorError) {
      try account?.charge(size)
    } catch {
      throw OperatorError(error)
    }
    let pointer = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let pointer, pointer != MAP_FAILED else {
      account?.credit(size)
      throw OperatorError(
        .limit, "the system has no memory for an arena of \(size) bytes",
        remedy: "Use smaller inputs, or a process that may have more memory")
    }
    if size >= 2 << 20 { madvise(pointer, size, MADV_HUGEPAGE) }
    base = pointer
    byteCount = size
  }

  /// Two empty arrays, to be given back.
  func takeArrays() -> (inputs: [Tensor?], blocks: [TensorStorage]) {
    var arrays: (inputs: [Tensor?], blocks: [TensorStorage]) = ([], [])
    swap(&arrays.inputs, &inputs)
    swap(&arrays.blocks, &blocks)
    return arrays
  }

  /// Empties two arrays and keeps their memory.
  func give(_ inputs: inout [Tensor?], _ blocks: inout [TensorStorage]) {
    inputs.removeAll(keepingCapacity: true)
    blocks.removeAll(keepingCapacity: true)
    swap(&self.inputs, &inputs)
    swap(&self.blocks, &blocks)
  }

  /// Gives the memory back to the system.
  func release() {
    tables.removeAll()
    lastTable = nil
    guard let base else { return }
    munmap(base, byteCount)
    account?.credit(byteCount)
    self.base = nil
    byteCount = 0
  }

  /// The operand table of a plan, with the arena's addresses in place.
  func table(for plan: RegionPlan) -> OperandTable {
    if let lastTable, lastTable.plan === plan { return lastTable }
    let key = ObjectIdentifier(plan)
    if let table = tables[key], table.plan === plan {
      lastTable = table
      return table
    }
    let table = OperandTable(plan: plan, arena: base)
    if !plan.isKept { return table }
    if tables.count >= Lease.tableCapacity { tables.removeAll() }
    tables[key] = table
    lastTable = table
    return table
  }
}

/// The addresses of all operands of a plan in one arena. Those of inputs and outputs are set anew by each run.
final class OperandTable {
  let plan: RegionPlan
  let pointers: UnsafeMutablePointer<UnsafeMutableRawPointer>
  /// Where the inputs and the blocks that outlive the region lie, by slot and by block: set by each run. An input that
  /// is no tensor is nil.
  let inputAddresses: UnsafeMutablePointer<UnsafeMutableRawPointer?>
  let blockAddresses: UnsafeMutablePointer<UnsafeMutableRawPointer?>
  /// Positions in `pointers` to set by slot of an input.
  let inputPatches: [(position: Int, slot: Int, byteOffset: Int)]
  let outputPatches: [(position: Int, block: Int, byteOffset: Int)]
  let cachePatches: [(position: Int, cache: Int)]

  init(plan: RegionPlan, arena: UnsafeMutableRawPointer?) {
    self.plan = plan
    pointers = .allocate(capacity: max(plan.operands.count, 1))
    inputAddresses = .allocate(capacity: max(plan.inputs.count, 1))
    inputAddresses.initialize(repeating: nil, count: max(plan.inputs.count, 1))
    blockAddresses = .allocate(capacity: max(plan.outputBlocks.count, 1))
    blockAddresses.initialize(repeating: nil, count: max(plan.outputBlocks.count, 1))
    var inputPatches: [(position: Int, slot: Int, byteOffset: Int)] = []
    var outputPatches: [(position: Int, block: Int, byteOffset: Int)] = []
    var cachePatches: [(position: Int, cache: Int)] = []
    let nowhere = OperandTable.nowhere
    for position in plan.operands.indices {
      var pointer = nowhere
      switch plan.operands[position] {
      case .arena(let offset): if let arena { pointer = arena + offset }
      case .constant(let number): pointer = UnsafeMutableRawPointer(mutating: plan.constantBase(number))
      case .input(let slot, let byteOffset): inputPatches.append((position, slot, byteOffset))
      case .output(let block, let byteOffset): outputPatches.append((position, block, byteOffset))
      case .cache(let index): cachePatches.append((position, index))
      case .none: break
      }
      (pointers + position).initialize(to: pointer)
    }
    self.inputPatches = inputPatches
    self.outputPatches = outputPatches
    self.cachePatches = cachePatches
  }

  deinit {
    pointers.deallocate()
    inputAddresses.deallocate()
    blockAddresses.deallocate()
  }

  /// Where absent operands point. `nonisolated(unsafe)`: never read or written through.
  private nonisolated(unsafe) static let nowhere = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
}

/// The leases of a program and its subprograms that no run holds at the moment.
final class LeasePool: Sendable {
  /// Charged for the arenas, as long as there are any; it knows those that no run holds as idle.
  let account: MemoryAccount?
  private let idle = Mutex<[Lease]>([])
  private let lastGiven = Atomic<UInt64>(0)

  init(account: MemoryAccount? = nil) { self.account = account }

  func take() -> Lease { takeIdle() ?? Lease(account: account) }

  func give(_ lease: Lease) {
    if account != nil { lastGiven.store(MonotonicClock.nanoseconds(), ordering: .relaxed) }
    idle.withLock { idle in
      account?.setAside(lease.byteCount)
      idle.append(lease)
    }
  }

  /// When a run has last ended, on `MonotonicClock`; known only where there is an account.
  var lastUse: UInt64 { lastGiven.load(ordering: .relaxed) }

  /// Frees idle arenas of `bytes` in all, or as many as there are. Returns what was freed.
  func giveBack(_ bytes: Int) -> Int {
    var freed = 0
    while freed < bytes, let lease = takeIdle() { freed += lease.byteCount }
    return freed
  }

  private func takeIdle() -> Lease? {
    idle.withLock { idle in
      let lease = idle.popLast()
      if let lease { account?.takeUp(lease.byteCount) }
      return lease
    }
  }

  /// Frees the arenas of all idle leases.
  func releaseMemory() { _ = giveBack(.max) }

  /// Bytes of the idle arenas.
  var byteCount: Int { idle.withLock { $0.reduce(0) { $0 + $1.byteCount } } }
}
