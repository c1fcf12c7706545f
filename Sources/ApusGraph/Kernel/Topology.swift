// How many processors this process may use: the affinity of its threads and the quota of its control groups, not the
// host.

import Glibc

package enum Topology {
  /// `availableProcessorCount` when it was first asked for: the answer is spread over several files of the system.
  package static let processors = availableProcessorCount()

  /// The processors that the calling thread may run on, or the quota of the process's control groups if that is less;
  /// at least 1.
  package static func availableProcessorCount() -> Int {
    let allowed =
      readText("/proc/thread-self/status").flatMap(allowedProcessors)
      ?? max(sysconf(Int32(_SC_NPROCESSORS_ONLN)), 1)
    let quota = processorQuota(
      membership: readText("/proc/self/cgroup") ?? "", mounts: readText("/proc/self/mountinfo") ?? "", read: readText)
    return max(1, min(allowed, quota ?? allowed))
  }

  /// The number of processors in the affinity mask of a `/proc/<pid>/status`; nil if the text has none. The mask is
  /// that of `sched_getaffinity`, which already respects cpusets.
  package static func allowedProcessors(status: String) -> Int? {
    for line in parts(of: status, at: "\n") where line.hasPrefix("Cpus_allowed:") {
      var count = 0
      for digit in line.utf8.dropFirst("Cpus_allowed:".utf8.count) {
        count += Character(Unicode.Scalar(digit)).hexDigitValue?.nonzeroBitCount ?? 0
      }
      return count > 0 ? count : nil
    }
    return nil
  }

  // MARK: Control groups

  /// The least quota, in whole processors rounded up, of the process's control group and all its ancestors that are
  /// visible; nil if none limits it.
  ///
  /// - Parameters:
  ///   - membership: the text of `/proc/self/cgroup`.
  ///   - mounts: the text of `/proc/self/mountinfo`.
  ///   - read: the text of a file; nil if it cannot be read.
  package static func processorQuota(membership: String, mounts: String, read: (String) -> String?) -> Int? {
    var least: Int?
    for line in parts(of: mounts, at: "\n") {
      guard let mount = CgroupMount(mountinfo: line) else { continue }
      guard let group = groupPath(membership: membership, unified: mount.isUnified) else { continue }
      for directory in mount.directories(of: group) {
        let quota =
          mount.isUnified
          ? read(directory + "/cpu.max").flatMap(quota(cpuMax:))
          : quota(
            microseconds: read(directory + "/cpu.cfs_quota_us"), period: read(directory + "/cpu.cfs_period_us"))
        if let quota { least = min(least ?? quota, quota) }
      }
    }
    return least
  }

  /// The path after `0::` (version 2) or after the controller `cpu` (version 1) in a `/proc/<pid>/cgroup`.
  package static func groupPath(membership: String, unified: Bool) -> String? {
    for line in parts(of: membership, at: "\n") {
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let matches = unified ? fields[0] == "0" && fields[1].isEmpty : fields[1].split(separator: ",").contains("cpu")
      if matches { return String(fields[2]) }
    }
    return nil
  }

  /// The quota of a version 2 `cpu.max`, `"<microseconds or max> <period>"`; nil without limit.
  package static func quota(cpuMax text: String) -> Int? {
    let fields = text.split(whereSeparator: \.isWhitespace)
    guard fields.count == 2 else { return nil }
    return quota(microseconds: String(fields[0]), period: String(fields[1]))
  }

  /// Processors, rounded up, of a quota per period as the kernel prints them; nil without limit (`max`, `-1`).
  package static func quota(microseconds: String?, period: String?) -> Int? {
    guard let quota = integer(microseconds), let period = integer(period), quota > 0, period > 0 else { return nil }
    return (quota - 1) / period + 1
  }

  private static func integer(_ text: String?) -> Int? {
    text.flatMap { Int($0.split(whereSeparator: \.isWhitespace).first ?? "") }
  }

  /// The text of a small file; nil if it cannot be read.
  private static func readText(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    if file < 0 { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var block = [UInt8](repeating: 0, count: 4096)
    while bytes.count < 1 << 20 {
      let count = read(file, &block, block.count)
      if count < 0 { return nil }
      if count == 0 { break }
      bytes += block[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// The pieces between bytes of one kind, without the empty ones. By bytes: every process that loads a model comes here,
/// and characters cost a hundred times as much.
private func parts(of text: String, at separator: Unicode.Scalar) -> [String] {
  var parts: [String] = []
  for part in Array(text.utf8).split(separator: UInt8(ascii: separator)) {
    parts.append(String(decoding: part, as: UTF8.self))
  }
  return parts
}

/// A mounted hierarchy of control groups that can limit processor time.
private struct CgroupMount {
  let isUnified: Bool
  /// The group that the mount point shows.
  let root: String
  let mountPoint: String

  /// nil for a line of `/proc/<pid>/mountinfo` that is no such mount (proc(5): fields 4, 5, and after the dash).
  init?(mountinfo line: String) {
    let fields = parts(of: line, at: " ")
    guard fields.count > 6, let dash = fields[6...].firstIndex(of: "-"), fields.count > dash + 3 else { return nil }
    switch fields[dash + 1] {
    case "cgroup2": isUnified = true
    case "cgroup" where fields[dash + 3].split(separator: ",").contains("cpu"): isUnified = false
    default: return nil
    }
    root = Self.unescape(fields[3])
    mountPoint = Self.unescape(fields[4])
  }

  /// The directories of `group` and its ancestors, the mount point last. A group outside the mount's root (as another
  /// cgroup namespace shows it) leaves only the mount point.
  func directories(of group: String) -> [String] {
    let groupParts = group.split(separator: "/")
    let rootParts = root.split(separator: "/")
    guard groupParts.starts(with: rootParts), !groupParts.contains("..") else { return [mountPoint] }
    let below = groupParts.dropFirst(rootParts.count)
    return (0...below.count).reversed().map { depth in
      ([mountPoint] + below.prefix(depth).map(String.init)).joined(separator: "/")
    }
  }

  /// Undoes the octal escapes of blanks and backslashes.
  private static func unescape(_ field: String) -> String {
    var bytes: [UInt8] = []
    var rest = Array(field.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (0x30...0x37).contains($0) }) {
        bytes.append(UInt8(truncatingIfNeeded: digits.reduce(0) { $0 * 8 + Int($1 - 0x30) }))
        rest = rest.dropFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
