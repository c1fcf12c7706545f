// How much memory the program may still take, asked before it makes large inputs.

import Apus
import Foundation

enum MemoryRoom {
  /// Throws if `bytes` more are more than runs may hold, or more than the limits of the process leave.
  static func require(_ bytes: Int?, for what: String) throws {
    let room = available
    guard let bytes, bytes <= room else {
      throw InputError("\(what) takes \(bytes.map { "\($0)" } ?? "more than 2^63") bytes; there is room for \(room)")
    }
  }

  private static var available: Int {
    var room = LoadLimits().maximumRunMemory
    let used = statusKilobytes("VmSize:") * 1024
    for resource in [RLIMIT_AS, RLIMIT_DATA].map({ __rlimit_resource_t($0.rawValue) }) {
      var limit = rlimit()
      if getrlimit(resource, &limit) == 0, limit.rlim_cur < UInt(Int.max) {
        room = min(room, max(0, Int(limit.rlim_cur) - used))
      }
    }
    return room
  }

  /// The largest resident memory so far, in units of 10^6 bytes.
  static func peakMegabytes() -> Double { Double(statusKilobytes("VmHWM:")) * 1024 / 1e6 }

  /// A line of what the system says about this process; 0 if it says nothing.
  private static func statusKilobytes(_ key: String) -> Int {
    guard let file = fopen("/proc/self/status", "re") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, CInt(line.count), file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.hasPrefix(key) { return Int(text.filter(\.isNumber)) ?? 0 }
    }
    return 0
  }
}
