// The bounds that loading and running keep, whatever the file says.

/// Bounds on what a model, or any other file, may make the process use. Each holds in total: for all graphs, functions,
/// tensors and side files of a model together, and for all that is alive in a run. Whatever passes one ends in an error
/// that names it.
public struct LoadLimits: Sendable {
  /// Bytes of one file (the model, a side file of external data, an array file). What of it is read into memory counts
  /// towards `maximumLoadMemory`.
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
  /// Bytes that tensors which are no plain byte range of the file take in all when decoded: typed fields, sparse
  /// tensors, compressed and textual arrays.
  public var maximumDecodedBytes = 1 << 33
  /// Bytes that loading may hold at a time, and a loaded model afterwards: what was read of its files, decoded tensors,
  /// constants that were computed, packed weights. By default 80 % of the memory that the machine, the control groups
  /// and the limits of the process (`ulimit -v`, `ulimit -d`) leave it.
  public var maximumLoadMemory = SystemMemory.share
  /// Bytes that one run may hold at a time: working memory, values of every kind, strings included. Inputs and weights
  /// do not count. The default is that of `maximumLoadMemory`.
  public var maximumRunMemory = SystemMemory.share
  /// Seconds that a model may take to be read, typed, optimized and prepared. The clock is looked at between nodes and,
  /// where a node takes long, inside it.
  public var maximumLoadSeconds = Double.infinity
  /// Seconds that one run may take.
  public var maximumRunSeconds = Double.infinity

  public init() {}
}
