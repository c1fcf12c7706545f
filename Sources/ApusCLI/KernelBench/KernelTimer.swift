// How long a call takes, and what the machine can do at most.

import CApusKernels
import Foundation

struct KernelTimer {
  /// What a block of calls takes at least, and how many blocks there are: the fastest counts.
  var block = Duration.microseconds(200)
  var blocks = 7

  /// Seconds of one call.
  func seconds(_ body: () -> Void) -> Double {
    let clock = ContinuousClock()
    func time(_ calls: Int) -> Duration {
      let start = clock.now
      for _ in 0..<calls { body() }
      return clock.now - start
    }
    body()
    var calls = 1
    while true {
      let taken = time(calls)
      if taken >= block || calls >= 1 << 24 { break }
      calls *= max(2, min(64, Int(block / max(taken, .nanoseconds(1)))))
    }
    let best = (0..<blocks).map { _ in time(calls) }.min() ?? .zero
    return best / .seconds(1) / Double(calls)
  }
}

/// The most that the machine does: of the level in use, on one core, measured in this process.
struct MachinePeaks: Encodable {
  var float32Gflops, int8Gops: Double
  /// Copying: bytes read and written a second, at the working sets of `KernelPlaces.limits`.
  var copyGbPerS: [String: Double]

  init(_ timer: KernelTimer) {
    let table = apus_kernels()
    func rate(_ name: String) -> Double {
      let line = KernelLine.all.first { $0.name == name }
      guard let line, let work = KernelWork.of(line, table)?.first else { return .nan }
      return work.amount / timer.seconds(work.body) / 1e9
    }
    float32Gflops = rate("peak_f32")
    int8Gops = rate("peak_i8")
    copyGbPerS = [:]
    for (place, bytes) in KernelPlaces.limits {
      let (from, to) = (KernelMemory(bytes / 2, "u8"), KernelMemory(bytes / 2, "u8"))
      let seconds = timer.seconds { memcpy(to.start, from.start, bytes / 2) }
      copyGbPerS[place] = Double(bytes) / seconds / 1e9
    }
  }

  /// What a rate is held against, in its unit. Memory: at the least working set that is not smaller by half.
  func limit(_ work: KernelWork) -> Double {
    switch work.limit {
    case .float32: return float32Gflops
    case .float64: return float32Gflops / 2
    case .int8: return int8Gops
    case .memory:
      let place = KernelPlaces.limits.first { work.amount <= 1.5 * Double($0.1) }?.0 ?? "48 MB"
      return copyGbPerS[place] ?? .nan
    }
  }
}
