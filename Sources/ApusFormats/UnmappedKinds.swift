// What a converter has no rule for, for the error that lists all.

import ApusGraph

/// The kinds of layers or nodes without a rule, each with the names of those that are of it, in the order of the file.
struct UnmappedKinds {
  private var kinds: [(kind: String, names: [String])] = []

  /// Names that an error lists of each kind.
  private static let listedNames = 5

  var isEmpty: Bool { kinds.isEmpty }

  mutating func add(_ kind: String, at name: String) {
    if let place = kinds.firstIndex(where: { $0.kind == kind }) {
      kinds[place].names.append(name)
    } else {
      kinds.append((kind, [name]))
    }
  }

  /// A problem for each kind; `lacking` words what is not there.
  func problems(_ lacking: (_ kind: String) -> String) -> [ModelProblem] {
    kinds.map { kind, names in
      let listed = names.prefix(Self.listedNames).map { "'\($0)'" }.joined(separator: ", ")
      let rest = names.count > Self.listedNames ? " and \(names.count - Self.listedNames) more" : ""
      let verb = names.count == 1 ? "is" : "are"
      return ModelProblem(nodePath: "", reason: "\(lacking(kind)), which \(listed)\(rest) \(verb)")
    }
  }
}
