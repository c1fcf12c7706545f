// How much memory this process may have: the machine's, its control groups', its own limits.

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

package enum SystemMemory {
  /// 80 % of the least of: the memory of the machine, the limit of every control group around the process, and what its
  /// limits on address space and data (`ulimit -v`, `ulimit -d`) leave it at this moment.
  package static var share: Int { min(fixed, remainingOfProcess) / 5 * 4 }

  /// The least of what does not change while the process runs.
  private static let fixed = min(
    machine, controlGroups(of: SystemFile.lines("/proc/self/cgroup"), root: "/sys/fs/cgroup"))

  private static var machine: Int {
    let pages = sysconf(Int32(_SC_PHYS_PAGES))
    let (product, overflow) = pages.multipliedReportingOverflow(by: sysconf(Int32(_SC_PAGESIZE)))
    return pages > 0 && product > 0 && !overflow ? product : 1 << 32
  }

  /// The least limit of the control groups that `/proc/self/cgroup` names, and of those around them, below the folder
  /// `root` where they are mounted. Version 2 has one tree, version 1 one for memory alone.
  package static func controlGroups(of lines: [String], root: String) -> Int {
    var least = Int.max
    for line in lines {
      // hierarchy:controllers:path
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      let isUnified = parts[0] == "0" && parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains("memory") else { continue }
      let (folder, file) = isUnified ? (root, "memory.max") : (root + "/memory", "memory.limit_in_bytes")
      var path = parts[2].split(separator: "/")
      while true {
        let place = ([folder] + path.map { String($0) } + [file]).joined(separator: "/")
        if let text = SystemFile.lines(place).first, let limit = Int(text), limit > 0 { least = min(least, limit) }
        if path.isEmpty { break }
        path.removeLast()
      }
    }
    return least
  }

  private static var remainingOfProcess: Int {
    let (space, data) = (softLimit(RLIMIT_AS), softLimit(RLIMIT_DATA))
    if space >= rlim_t(Int.max), data >= rlim_t(Int.max) { return .max }
    // Pages: size, resident, shared, text, 0, data and stack.
    let pages = SystemFile.lines("/proc/self/statm").first?.split(separator: " ").compactMap { Int($0) } ?? []
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    func remaining(_ limit: rlim_t, _ position: Int) -> Int {
      if limit >= rlim_t(Int.max) { return .max }
      return max(0, Int(limit) - (position < pages.count ? pages[position] * pageSize : 0))
    }
    return min(remaining(space, 0), remaining(data, 5))
  }

  private static func softLimit(_ resource: __rlimit_resource) -> rlim_t {
    var limit = rlimit()
    return getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0 ? limit.rlim_cur : .max
  }
}

/// Short files that the system writes.
enum SystemFile {
  /// The lines of the first 64 KB; none if the file cannot be read.
  static func lines(_ path: String) -> [String] {
    let descriptor = Descriptor(opening: path, waiting: false)
    guard descriptor.isOpen else { return [] }
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = Glibc.read(descriptor.number, &buffer, buffer.count)
    guard count > 0 else { return [] }
    return String(decoding: buffer[..<count], as: UTF8.self).split(separator: "\n").map { String($0) }
  }
}
