// The bounds that loading and running keep, whatever the file says.

#if canImport(Glibc)
import Glibc
#else
import Musl
#endif

/// Bounds on what a model, or any other file, may make the process use. Whatever passes one ends in an error that names it.
public struct LoadLimits: Sendable {
  /// Bytes of one file that is mapped (the model, a side file of external data, an array file). Mapping costs address
  /// space, not memory.
  public var maximumFileBytes = 1 << 40
  /// Bytes of a model that does not come from a regular file and so must be held in memory: a pipe, standard input.
  public var maximumStreamBytes = 1 << 34
  /// Messages inside messages. A graph inside a node takes three levels. Values above 1000 are taken as 1000, since
  /// unpacking recurses once a level.
  public var maximumNesting = 100
  /// Nodes of all graphs and functions of the file, and, counted again, of the graph after functions are inlined.
  public var maximumNodes = 1_000_000
  /// Bytes that the unpacked model takes without its tensors: nodes, names, attributes. At most 2 GiB.
  public var maximumStructureBytes = 1 << 30
  /// Elements of one tensor.
  public var maximumTensorElements = 1 << 40
  /// Bytes that tensors which are no plain byte range of the file take in all when decoded: typed fields, sparse tensors,
  /// compressed and textual arrays.
  public var maximumDecodedBytes = 1 << 33
  /// Bytes that one run may hold at a time. By default 80 % of the memory that the machine or the control group has.
  public var maximumRunMemory = LoadLimits.machineMemory / 5 * 4
  /// Seconds that a model which has been read may take to be typed, optimized and prepared. The clock is looked at
  /// between passes and between nodes.
  public var maximumLoadSeconds = Double.infinity
  /// Seconds that one run may take.
  public var maximumRunSeconds = Double.infinity

  public init() {}

  /// The memory of the machine, or of the control group if that is less.
  static let machineMemory: Int = {
    let pages = sysconf(Int32(_SC_PHYS_PAGES))
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    let (product, overflow) = pages.multipliedReportingOverflow(by: pageSize)
    var memory = pages > 0 && pageSize > 0 && !overflow ? product : 1 << 32
    for path in ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"] {
      if let text = SmallFile.firstLine(of: path), let limit = Int(text), limit > 0 { memory = min(memory, limit) }
    }
    return memory
  }()
}
