// Nanoseconds of the clock that never jumps: what deadlines and bounded spinning are measured by.

import Glibc

package enum MonotonicClock {
  /// Nanoseconds of `CLOCK_MONOTONIC`; only differences mean anything.
  package static func nanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }
}
