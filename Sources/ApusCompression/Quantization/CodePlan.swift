// Which values of a graph become integers, which of them share a code, and what has to be known for that.

import ApusGraph
import ApusTensor

/// The values between the units of a graph that are to be integers.
package struct CodePlan {
  /// In the order in which they come into being, inputs of the graph first.
  package private(set) var values: [ValueID] = []
  /// By value: the first of those that have the same code.
  private var leaders: [ValueID: ValueID] = [:]
  /// By value: what it is clamped to where it is computed.
  private var clamps: [ValueID: ClosedRange<Float>] = [:]
  /// Constants that are read as integers by units that compute, or keep, beside values.
  package private(set) var constants: Set<ValueID> = []
  /// Results of units that hand on elements of what they read: within its range.
  private var derived: Set<ValueID> = []

  package init(_ units: QuantizationUnits, in graph: borrowing GraphEditor) {
    var wanted: Set<ValueID> = []
    for unit in units.units {
      for operand in unit.operands {
        wanted.insert(operand)
        if graph.constant(operand) != nil { constants.insert(operand) }
      }
      if unit.emitsCodes { wanted.insert(unit.output) }
      if let clamp = unit.clamp { clamps[unit.output] = clamp }
    }
    for unit in units.units where unit.kind == .keeping {
      let group = unit.operands + [unit.output]
      for value in group.dropFirst() { join(group[0], value) }
      derived.insert(unit.output)
    }
    values = graph.madeValues.filter { wanted.contains($0) }
  }

  private func leader(of value: ValueID) -> ValueID {
    var value = value
    while let next = leaders[value] { value = next }
    return value
  }

  private mutating func join(_ a: ValueID, _ b: ValueID) {
    let (first, second) = (leader(of: a), leader(of: b))
    if first != second { leaders[second] = first }
  }

  /// The codes of all values and constants.
  ///
  /// - Parameter statistics: by name, of all `values`.
  package func codes(
    _ statistics: [String: TensorStatistics], _ options: QuantizationOptions, in graph: borrowing GraphEditor
  ) throws(CompressionError) -> [ValueID: TensorCode] {
    var groups: [ValueID: [ValueID]] = [:]
    for value in values + constants { groups[leader(of: value), default: []].append(value) }
    var codes: [ValueID: TensorCode] = [:]
    for members in groups.values {
      let code = try self.code(of: members, statistics, options, in: graph)
      for member in members { codes[member] = code }
    }
    return codes
  }

  private func code(
    of members: [ValueID], _ statistics: [String: TensorStatistics], _ options: QuantizationOptions,
    in graph: borrowing GraphEditor
  ) throws(CompressionError) -> TensorCode {
    var seen: [TensorStatistics] = []
    var (low, high): (Float, Float) = (0, 0)
    var named: TensorOverride?
    for member in members {
      if let own = options.overrides[graph.name(of: member)] { named = named ?? own }
      if let constant = graph.constant(member)?.elements(as: Float.self) {
        (low, high) = (min(low, constant.min() ?? 0), max(high, constant.max() ?? 0))
      } else if !derived.contains(member) {
        guard let found = statistics[graph.name(of: member)] else {
          throw CompressionError(
            .invalidSample, "nothing is known of the values of '\(graph.name(of: member))'",
            remedy: "Calibrate with samples that reach it, or leave the nodes that read it out")
        }
        seen.append(found)
      }
    }
    let type = named?.type ?? options.activations
    let isSymmetric = named?.isSymmetric ?? options.hasSymmetricActivations
    if let joined = TensorStatistics.joined(seen) {
      let range = options.range.range(of: joined, steps: type.greatest - type.least, isSymmetric: isSymmetric)
      (low, high) = (min(low, range.low), max(high, range.high))
      // A value that is 0 nearly everywhere may have nothing else within the range; it has a range all the same.
      if low == 0, high == 0 { (low, high) = (min(joined.minimum, 0), max(joined.maximum, 0)) }
    }
    // What no sample exceeds may still be cut off by what follows.
    let bounds = members.compactMap { clamps[$0] }
    if bounds.count == members.count(where: { graph.constant($0) == nil && !derived.contains($0) }) {
      (low, high) = (max(low, bounds.map(\.lowerBound).min() ?? low), min(high, bounds.map(\.upperBound).max() ?? high))
    }
    return TensorCode(type: type, low: named?.low ?? low, high: named?.high ?? high, isSymmetric: isSymmetric)
  }
}
