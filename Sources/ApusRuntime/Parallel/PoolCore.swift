// What the callers and the workers of a pool share: the open jobs, who is idle, and where idle workers sleep.

import Synchronization

/// The state of a pool. Every worker holds a reference, so it outlives the last of them.
///
/// A caller publishes a job in a slot and raises the slot's bit in `openJobs`; idle workers look at nothing else. The
/// caller computes parts like everybody, so a job ends even if no worker ever comes: neither nested runs, nor more
/// callers than slots, nor a pool that was shut down can block.
///
/// `@unchecked Sendable`: the slots are made of atomics, and their jobs are guarded by `enter` and `leave`;
/// `wakeTokens` and `stopping` are touched only under the lock of `dormitory`, and by `reset`, beside which nobody is.
final class PoolCore: @unchecked Sendable {
  /// Runs that can be shared at once; one more is computed by its caller alone. At most the bits of `openJobs`.
  static let slotCount = 32
  /// Slots that only runs of high priority take, so that there is one for them.
  private static let slotsForUrgent = 4
  /// Sleepers that one thread wakes by itself; those wake the others.
  private static let wakesPerThread = 4

  let workerCount: Int
  /// Nanoseconds that an idle worker, or a caller whose last helper is still busy, stays awake.
  private let spin: UInt64
  private let slots: UnsafeMutablePointer<JobSlot>
  private let dormitory = Monitor()
  /// Wake-ups that were promised to a sleeper, and not taken yet.
  private var wakeTokens = 0
  private var stopping = false

  private let padding0 = CacheLinePadding()
  /// One bit for each slot whose job wants helpers.
  private let openJobs = Atomic<UInt64>(0)
  private let padding1 = CacheLinePadding()
  /// One bit for each slot that a caller has.
  private let takenSlots = Atomic<UInt64>(0)
  /// One bit for each slot whose job is of another priority than normal. Changed before a job is opened and after it
  /// has ended, and seldom.
  private let urgentSlots = Atomic<UInt64>(0)
  private let backgroundSlots = Atomic<UInt64>(0)
  private let padding2 = CacheLinePadding()
  private let idle: Atomic<IdleCount.Bits>
  private let padding3 = CacheLinePadding()

  init(workerCount: Int, spinNanoseconds: UInt64) {
    self.workerCount = workerCount
    spin = spinNanoseconds
    slots = .allocate(capacity: Self.slotCount)
    for index in 0..<Self.slotCount { (slots + index).initialize(to: JobSlot()) }
    idle = Atomic(IdleCount.awake(workerCount))
  }

  deinit {
    slots.deinitialize(count: Self.slotCount)
    slots.deallocate()
    dormitory.destroy()
  }

  /// Forgets all jobs and workers: after a fork, in the child, where they do not exist. `workerCount` new ones must
  /// follow.
  func reset() {
    for index in 0..<Self.slotCount { slots[index].reset() }
    dormitory.reset()
    wakeTokens = 0
    stopping = false
    openJobs.store(0, ordering: .relaxed)
    takenSlots.store(0, ordering: .relaxed)
    urgentSlots.store(0, ordering: .relaxed)
    backgroundSlots.store(0, ordering: .relaxed)
    idle.store(IdleCount.awake(workerCount), ordering: .relaxed)
  }

  // MARK: The caller

  /// Computes all parts of `job` together with whoever is idle, `most` workers at most. False: cancelled before the
  /// last part had begun.
  func run(_ job: Job, helpers most: Int) -> Bool {
    let priority = job.priority
    guard let index = takeSlot(priority) else { return job.runSerially() }
    let bit = UInt64(1) << UInt64(index)
    let slot = slots + index
    let helpers = min(job.parts - 1, workerCount, most)
    if priority == .high { urgentSlots.bitwiseOr(bit, ordering: .relaxed) }
    if priority == .background { backgroundSlots.bitwiseOr(bit, ordering: .relaxed) }
    slot.pointee.open(job, helpers: helpers)
    // Before the look at `idle`, in one order for all: a worker that falls asleep counts itself out first and then
    // looks at `openJobs`, so either it sees this job or it is seen asleep.
    openJobs.bitwiseOr(bit, ordering: .sequentiallyConsistent)
    summon(helpers)
    slot.pointee.work()
    close(index)
    slot.pointee.waitUntilEmpty(spin: spin)
    let complete = slot.pointee.finish()
    if priority == .high { urgentSlots.bitwiseAnd(~bit, ordering: .relaxed) }
    if priority == .background { backgroundSlots.bitwiseAnd(~bit, ordering: .relaxed) }
    takenSlots.bitwiseAnd(~bit, ordering: .releasing)
    return complete
  }

  private func takeSlot(_ priority: RunPriority) -> Int? {
    let count = priority == .high ? Self.slotCount : Self.slotCount - Self.slotsForUrgent
    var taken = takenSlots.load(ordering: .relaxed)
    while true {
      let index = (~taken).trailingZeroBitCount
      if index >= count { return nil }
      let (exchanged, original) = takenSlots.weakCompareExchange(
        expected: taken, desired: taken | (UInt64(1) << UInt64(index)), ordering: .acquiring)
      if exchanged { return index }
      taken = original
    }
  }

  /// Ends the admission to a job. Only for its caller and for helpers inside, who keep the slot from being reused.
  private func close(_ index: Int) {
    let slot = slots + index
    if slot.pointee.admits { slot.pointee.close() }
    withdraw(index)
  }

  private func withdraw(_ index: Int) {
    let bit = UInt64(1) << UInt64(index)
    if openJobs.load(ordering: .relaxed) & bit != 0 { openJobs.bitwiseAnd(~bit, ordering: .relaxed) }
  }

  // MARK: Waking

  /// Sees to it that `wanted` workers are awake and idle, as far as there are sleepers. Those woken wake more.
  private func summon(_ wanted: Int) {
    let count = IdleCount(idle.load(ordering: .sequentiallyConsistent))
    if count.asleep > 0 && wanted > count.awake { wake(wanted) }
  }

  @inline(never)
  private func wake(_ wanted: Int) {
    dormitory.lock()
    let count = IdleCount(idle.load(ordering: .relaxed))
    let woken = max(0, min(wanted - count.awake, count.asleep, Self.wakesPerThread))
    idle.wrappingAdd(IdleCount.awake(woken) &- IdleCount.asleep(woken), ordering: .relaxed)
    wakeTokens += woken
    dormitory.unlock()
    for _ in 0..<woken { dormitory.signal() }
  }

  /// Sends the workers home. Jobs in progress are ended by those inside and by their callers.
  func stop() {
    dormitory.lock()
    stopping = true
    dormitory.unlock()
    dormitory.broadcast()
  }

  /// Corrects the count of idle workers by those that could not be started.
  func workersMissing(_ count: Int) { idle.wrappingSubtract(IdleCount.awake(count), ordering: .relaxed) }

  // MARK: The worker

  /// The life of worker `index`: help, stay awake for a while, sleep.
  func work(as index: Int) {
    // Workers begin their search at different slots and go on behind the last one, so that all jobs find helpers.
    var start = index % Self.slotCount
    while true {
      if help(as: index, from: &start) { continue }
      if SpinWait.wait(atMost: spin, until: { openJobs.load(ordering: .relaxed) != 0 }) { continue }
      if !sleep() { return }
    }
  }

  /// Joins one open job, of the most urgent ones, until it has no parts left or a more urgent one is open. False: no
  /// job admitted this worker.
  private func help(as worker: Int, from start: inout Int) -> Bool {
    let jobs = openJobs.load(ordering: .acquiring)
    if jobs == 0 { return false }
    let urgent = urgentSlots.load(ordering: .relaxed)
    let background = backgroundSlots.load(ordering: .relaxed)
    return help(as: worker, amongst: jobs & urgent, from: &start)
      || help(as: worker, amongst: jobs & ~(urgent | background), from: &start)
      || help(as: worker, amongst: jobs & background, from: &start)
  }

  private func help(as worker: Int, amongst jobs: UInt64, from start: inout Int) -> Bool {
    // Those from `start` on, then those before it.
    let later = jobs & (UInt64.max << UInt64(start))
    return help(as: worker, inOrder: later, &start) || help(as: worker, inOrder: jobs & ~later, &start)
  }

  private func help(as worker: Int, inOrder jobs: UInt64, _ start: inout Int) -> Bool {
    var left = jobs
    while left != 0 {
      let index = left.trailingZeroBitCount
      if help(as: worker, with: index) {
        start = (index + 1) % Self.slotCount
        return true
      }
      left &= left - 1
    }
    return false
  }

  /// Whether a job of a higher priority wants helpers.
  @inline(__always) private func isOutranked(_ priority: RunPriority) -> Bool {
    switch priority {
    case .high: return false
    case .normal:
      let urgent = urgentSlots.load(ordering: .relaxed)
      return urgent != 0 && openJobs.load(ordering: .relaxed) & urgent != 0
    case .background:
      return openJobs.load(ordering: .relaxed) & ~backgroundSlots.load(ordering: .relaxed) != 0
    }
  }

  private func help(as worker: Int, with index: Int) -> Bool {
    let slot = slots + index
    guard let ticketsLeft = slot.pointee.enter() else { return false }
    idle.wrappingSubtract(IdleCount.awake(1), ordering: .relaxed)
    if ticketsLeft == 0 {
      withdraw(index)
    } else if slot.pointee.hasUnclaimedParts {
      summon(ticketsLeft)
    }
    // Who leaves for a more urgent job does not come back to this one.
    if slot.pointee.help(as: worker, unless: isOutranked) { close(index) }
    // Idle again before the caller can return, so that its next run counts on this worker.
    idle.wrappingAdd(IdleCount.awake(1), ordering: .relaxed)
    slot.pointee.leave()
    return true
  }

  /// Sleeps until a caller wants this worker. False: the pool stops.
  private func sleep() -> Bool {
    dormitory.lock()
    defer { dormitory.unlock() }
    if stopping { return false }
    idle.wrappingAdd(IdleCount.asleep(1) &- IdleCount.awake(1), ordering: .sequentiallyConsistent)
    if openJobs.load(ordering: .sequentiallyConsistent) != 0 {
      idle.wrappingAdd(IdleCount.awake(1) &- IdleCount.asleep(1), ordering: .relaxed)
      return true
    }
    while wakeTokens == 0 && !stopping { dormitory.wait() }
    if wakeTokens == 0 { return false }
    wakeTokens -= 1
    return true
  }
}

/// Two counts in one word: workers that look for work, and workers that sleep and were not called yet. Wrapping sums of
/// words are exact as long as neither count leaves its 32 bits, which the number of workers sees to.
private struct IdleCount {
  typealias Bits = UInt64

  let awake: Int
  let asleep: Int

  init(_ bits: Bits) {
    awake = Int(bits & 0xFFFF_FFFF)
    asleep = Int(bits >> 32)
  }

  static func awake(_ count: Int) -> Bits { Bits(count) }
  static func asleep(_ count: Int) -> Bits { Bits(count) << 32 }
}
