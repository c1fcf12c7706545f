// How urgent a run is.

/// How urgent a run is, compared with the other runs of its engine.
///
/// As long as more urgent runs want all processors, others stand still between two parts of their work, but for a small
/// share of the time, so that none waits for ever. Results do not depend on it.
public enum RunPriority: Int, Sendable, Hashable, Comparable, CaseIterable {
  /// For work that nobody waits for.
  case background = -1
  case normal = 0
  /// For short runs that somebody waits for.
  case high = 1

  public static func < (a: RunPriority, b: RunPriority) -> Bool { a.rawValue < b.rawValue }
}
