// Which tensor of a file is which weight of a model: by name and shape, with prefixes that one side has and the other
// has not.

import ApusTensor

/// The weights of a model beside those of a file.
package struct WeightMatching: Sendable {
  package struct Pair: Sendable {
    /// The name in the model.
    package let target: String
    /// The name in the file.
    package let source: String
  }

  package private(set) var pairs: [Pair] = []
  /// Weights of the model that keep what they have, with the reason.
  package private(set) var unmatched: [(name: String, reason: String)] = []
  /// Tensors of the file that no weight of the model took.
  package private(set) var unused: [String] = []

  /// Those of `unused` that lie in a dictionary with tensors that were taken: weights of the same network that the
  /// model has in another form, or has not. Counts of batches, which only training reads, are none.
  package var leftOut: [String] {
    let roots = Set(pairs.map { Self.root($0.source) })
    return unused.filter { roots.contains(Self.root($0)) && !$0.hasSuffix("num_batches_tracked") }
  }

  /// What stands before the last `/` of a name: the keys of the dictionaries around a state_dict.
  private static func root(_ name: String) -> Substring {
    name.lastIndex(of: "/").map { name[..<$0] } ?? ""
  }

  /// What is compared: the type and the shape under a name.
  package struct Description: Sendable, Hashable {
    package let dataType: DataType
    package let shape: Shape

    package init(_ tensor: Tensor) { (dataType, shape) = (tensor.dataType, tensor.shape) }
  }

  /// Matches names that are equal; then names that differ by the prefix that most of the others differ by; then names
  /// whose last parts are the same, where only one on each side has them. Shape and type must be the same each time.
  package init(
    _ targets: [(name: String, description: Description)], _ sources: [(name: String, description: Description)]
  ) {
    var open = targets
    var free = Dictionary(sources.map { ($0.name, $0.description) }, uniquingKeysWith: { first, _ in first })
    var misfits: [String: String] = [:]
    func take(_ name: (String) -> String?) {
      open.removeAll { target, description in
        guard let source = name(target), let found = free[source] else { return false }
        guard found == description else {
          misfits[target] =
            "'\(source)' is \(found.dataType)\(found.shape); \(description.dataType)\(description.shape) was expected"
          return false
        }
        pairs.append(Pair(target: target, source: source))
        free[source] = nil
        return true
      }
    }
    take { $0 }
    while let change = Self.commonChange(open.map(\.name), Set(free.keys)) {
      let count = pairs.count
      take { change.applied(to: $0) }
      if pairs.count == count { break }
    }
    for depth in stride(from: 6, through: 1, by: -1) {
      let ends = Self.uniqueEnds(open.map(\.name), depth)
      let sources = Self.uniqueEnds(Array(free.keys), depth)
      let found = Dictionary(ends.compactMap { end, name in sources[end].map { (name, $0) } }) { first, _ in first }
      // A last part alone, as `weight`, says nothing.
      if depth > 1 { take { found[$0] } }
    }
    unmatched = open.map { ($0.name, misfits[$0.name] ?? "no tensor of the file has this name") }
    unused = free.keys.sorted()
  }

  /// A prefix that names of the file have and those of the model have not, or the other way round.
  private struct Change: Hashable {
    let prefix: String
    let isOfSource: Bool

    func applied(to target: String) -> String? {
      if isOfSource { return prefix + target }
      return target.hasPrefix(prefix) ? String(target.dropFirst(prefix.count)) : nil
    }
  }

  /// The change of prefix that makes most names equal.
  private static func commonChange(_ targets: [String], _ sources: Set<String>) -> Change? {
    var counts: [Change: Int] = [:]
    let byEnd = Dictionary(grouping: sources, by: lastPart)
    let targetsByEnd = Dictionary(grouping: targets, by: lastPart)
    for (end, names) in targetsByEnd {
      for target in names.prefix(maximumNames) {
        for source in (byEnd[end] ?? []).prefix(maximumNames) {
          if source.hasSuffix("." + target) || source.hasSuffix("/" + target) {
            counts[Change(prefix: String(source.dropLast(target.count)), isOfSource: true), default: 0] += 1
          } else if target.hasSuffix("." + source) || target.hasSuffix("/" + source) {
            counts[Change(prefix: String(target.dropLast(source.count)), isOfSource: false), default: 0] += 1
          }
        }
      }
    }
    return counts.max { ($0.value, $1.key.prefix) < ($1.value, $0.key.prefix) }?.key
  }

  /// Names with the same last part that are compared with each other.
  private static let maximumNames = 2000

  private static func lastPart(_ name: String) -> String {
    name.lastIndex { $0 == "." || $0 == "/" }.map { String(name[name.index(after: $0)...]) } ?? name
  }

  /// The names by their last `depth` parts, where no two have the same.
  private static func uniqueEnds(_ names: [String], _ depth: Int) -> [String: String] {
    var ends: [String: String?] = [:]
    for name in names {
      let parts = name.split { $0 == "." || $0 == "/" }
      if parts.count < depth { continue }
      let end = parts.suffix(depth).joined(separator: ".")
      ends[end] = ends[end] == nil ? .some(name) : .some(nil)
    }
    return ends.compactMapValues { $0 }
  }
}
