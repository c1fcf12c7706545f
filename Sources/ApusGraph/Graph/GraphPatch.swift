// A rewrite as a value: the nodes that go, those that come, and what must hold for that.

import ApusTensor

/// Replaces some nodes of a graph by others that compute the same values.
package struct GraphPatch {
  /// Nodes that nobody needs any more. One whose results are used elsewhere must not be among them.
  package var removed: [NodeID]
  /// Computes every value that removed nodes computed and that is still used. Runs in the place of the last removed
  /// node.
  package var added: [Node]
  /// Constants that the new nodes use, made on application: `added` refers to them by their position, see
  /// `constant(_:)`.
  package var constants: [Tensor]

  package init(removed: [NodeID], added: [Node], constants: [Tensor] = []) {
    (self.removed, self.added, self.constants) = (removed, added, constants)
  }

  /// Stands for `constants[position]` until the patch is applied.
  package static func constant(_ position: Int) -> ValueID { ValueID(-1 - position) }
}

/// Why a patch cannot be applied.
package enum PatchRefusal: Error, Sendable, Equatable {
  /// A node that is to be removed is gone, or stands behind the place of the new ones.
  case nodeIsGone
  /// A value that no new node computes is used elsewhere.
  case valueIsUsed(String)
  /// A new node reads a value that does not exist where it would run.
  case valueIsAbsent(String)
  /// The new nodes compute a value twice, or one that is not theirs.
  case valueIsNotTheirs(String)
  /// A value would have another type or shape.
  case factDiffers(String)
  /// A new node cannot be.
  case invalidNode(String)
}

extension PatchRefusal: CustomStringConvertible {
  package var description: String {
    switch self {
    case .nodeIsGone: "a node of it is gone"
    case .valueIsUsed(let value): "\(value) is needed elsewhere"
    case .valueIsAbsent(let value): "\(value) does not exist where it would be read"
    case .valueIsNotTheirs(let value): "\(value) is not computed by the nodes that go, or twice by those that come"
    case .factDiffers(let text): text
    case .invalidNode(let text): text
    }
  }
}

extension GraphEditor {
  /// Applies a patch whose place is that of `root`, or says why it cannot be; the graph stays as it is then.
  package mutating func apply(_ patch: GraphPatch, at root: NodeID) throws(PatchRefusal) {
    let removed = Set(patch.removed)
    guard removed.contains(root), removed.allSatisfy({ exists($0) && !isBefore(root, $0) }) else { throw .nodeIsGone }
    let made = Set(removed.flatMap { self[$0].outputs.compactMap { $0 } })
    let kept = patch.added.flatMap(\.outputs).compactMap { $0 }
    for (index, value) in kept.enumerated() where !made.contains(value) || kept[..<index].contains(value) {
      throw .valueIsNotTheirs(label(value))
    }
    for value in made {
      let others = users(of: value).filter { !removed.contains($0) }
      if kept.contains(value) {
        // It comes into being at the root from now on.
        if others.contains(where: { isBefore($0, root) }) { throw .valueIsUsed(label(value)) }
      } else if isOutput(value) || !others.isEmpty {
        throw .valueIsUsed(label(value))
      }
    }
    for value in patch.added.flatMap(\.dependencies) where value.index >= 0 {
      let isThere = producer(of: value).map { isBefore($0, root) && !removed.contains($0) } ?? exists(value)
      if !isThere { throw .valueIsAbsent(label(value)) }
    }
    let facts = try factsOfNewNodes(patch)
    for value in kept {
      guard let found = facts[value] else { continue }
      if !found.isCompatible(with: fact(value)) {
        throw .factDiffers("\(label(value)) is \(fact(value)) and would be \(found)")
      }
    }
    // From here on nothing can fail.
    let constants = patch.constants.map { addConstant($0) }
    let next = node(after: root)
    for node in patch.removed { remove(node) }
    for var node in patch.added {
      node.inputs = node.inputs.map { input in input.map { $0.index < 0 ? constants[-1 - $0.index] : $0 } }
      do throws(OperatorError) {
        try insert(node, before: next)
      } catch {
        throw .invalidNode("\(error)")
      }
    }
  }

  /// True for a value that exists before any node runs.
  private func exists(_ value: ValueID) -> Bool {
    constant(value) != nil || inputs.contains(value) || captures.contains(value)
  }

  /// What is inferred of the outputs of the new nodes, before anything is changed.
  private func factsOfNewNodes(_ patch: GraphPatch) throws(PatchRefusal) -> [ValueID: ValueFact] {
    var facts: [ValueID: ValueFact] = [:]
    for node in patch.added {
      let known = node.inputs.map { input in input.map { facts[$0] ?? givenFact($0, patch) } }
      let tensors = node.inputs.map { input -> Tensor? in
        guard let input else { return nil }
        return input.index < 0 ? patch.constants[-1 - input.index] : constant(input)
      }
      // What is inferred of these depends on the graph around them: it cannot be known before they are in it.
      if node.hasSubgraphs { throw .invalidNode("\(node.op) '\(node.name)' has a graph inside; patches make none") }
      do throws(OperatorError) {
        try node.validate(against: inference.registry.require(node.op).schema)
        let found = try inference.infer(node, inputs: known, constants: tensors) { _ in .unknown }
        for case (let output?, let fact) in zip(node.outputs, found) { facts[output] = fact }
      } catch {
        throw .invalidNode("\(error.inside(node, inputs: known))")
      }
    }
    return facts
  }

  private func givenFact(_ value: ValueID, _ patch: GraphPatch) -> ValueFact {
    value.index < 0 ? .tensor(TensorFact(patch.constants[-1 - value.index])) : fact(value)
  }

  private func label(_ value: ValueID) -> String {
    let name = name(of: value)
    return name.isEmpty ? "value \(value.index)" : "'\(name)'"
  }
}

extension ValueFact {
  /// False if the types, ranks or extents surely differ.
  package func isCompatible(with other: ValueFact) -> Bool {
    guard hasSameType(as: other) else { return false }
    guard let x = tensor?.shape, let y = other.tensor?.shape else { return true }
    return x.count == y.count && !zip(x, y).contains { $0.isSurelyDifferent(from: $1) }
  }
}
