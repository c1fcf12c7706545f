// The ways to compute a node, and the choice among them: of those that apply the cheapest is taken, or the one that a
// test asks for.

import ApusTensor

/// Instructions that a machine may have beyond those that it is compiled for. The bits are those of `apus_features`.
package struct MachineFeatures: OptionSet, Sendable, Hashable {
  package let rawValue: UInt32
  package init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// How the images of an operand lie in memory.
package enum ImageLayout: String, Sendable, Hashable {
  /// [batch, channels, spatial axes]; also what no image is.
  case planar
  /// [batch, spatial axes, channels].
  case channelsLast
}

/// What a choice is made by: facts of a node when it is prepared, or types and sizes when it is planned.
package protocol KernelFacts: Sendable {
  /// Of the operand that decides, usually the first; nil: it is not known.
  var elementType: DataType? { get }
  var layout: ImageLayout { get }
  /// What the machine has.
  var features: MachineFeatures { get }
}

extension KernelFacts {
  package var layout: ImageLayout { .planar }
}

/// What a candidate says to facts.
package enum Appraisal: Sendable, Hashable {
  /// It applies, and this is what it takes.
  case cost(Cost)
  /// Why it does not apply.
  case refused(String)
}

/// One way to make a kernel or a step. The first of the candidates of a choice is the plain one: it applies to
/// everything that the operator has a kernel for, and is the oracle of the others. An object, as choices are made while
/// planning.
package final class KernelCandidate<Facts: KernelFacts, Made>: Sendable {
  /// Names it among the candidates of its choice; the first is called `plain`.
  package let name: String
  /// What the machine must have.
  package let features: MachineFeatures
  /// The element types that it takes; empty: all that the operator has.
  package let types: [DataType]
  /// The layouts that it takes; empty: all.
  package let layouts: [ImageLayout]
  /// Its cost, for facts of types and layouts that it takes.
  package let appraise: @Sendable (Facts) -> Appraisal
  /// nil: it does not apply after all, which only making it shows.
  package let make: @Sendable (Facts) throws(OperatorError) -> Made?

  package init(
    _ name: String, features: MachineFeatures = [], types: [DataType] = [], layouts: [ImageLayout] = [],
    appraise: @escaping @Sendable (Facts) -> Appraisal,
    make: @escaping @Sendable (Facts) throws(OperatorError) -> Made?
  ) {
    (self.name, self.features, self.types, self.layouts) = (name, features, types, layouts)
    (self.appraise, self.make) = (appraise, make)
  }

  /// Whether it takes such facts, by what it says of itself.
  @inlinable @inline(__always) package func takes(_ facts: Facts) -> Bool {
    (features.isEmpty || features.isSubset(of: facts.features))
      && (types.isEmpty || facts.elementType.map { types.contains($0) } ?? false)
      && (layouts.isEmpty || layouts.contains(facts.layout))
  }

  /// Whether it applies, or why not, by what it says of itself and by its own judgement.
  private func appraisal(of facts: Facts) -> Appraisal {
    if takes(facts) { return appraise(facts) }
    if !features.isSubset(of: facts.features) { return .refused("the machine lacks instructions that it needs") }
    if !layouts.isEmpty, !layouts.contains(facts.layout) { return .refused("no \(facts.layout.rawValue) images") }
    return .refused(facts.elementType.map { "no elements of \($0)" } ?? "the element type is not known")
  }
}

extension Cost {
  /// Operations of a vector kernel in the time of one of a plain loop.
  @inlinable package static var lanes: Double { 16 }

  /// Of kernels that work on vectors.
  @inlinable package static func vectors(operations: Double, bytes: Double = 0) -> Cost {
    Cost(operations: Int(min(operations, 0x1p61)), bytes: Int(min(bytes, 0x1p61)))
  }

  /// Of loops that work on one element after the other.
  @inlinable package static func loops(operations: Double, bytes: Double = 0) -> Cost {
    vectors(operations: operations * lanes, bytes: bytes)
  }
}

extension KernelCandidate {
  /// What the candidate that is to be taken makes of `facts`; `point` names the choice.
  @inlinable @inline(__always) package static func choose(
    _ candidates: [KernelCandidate], at point: @autoclosure () -> String, for facts: Facts
  ) throws(OperatorError) -> Made {
    let selection = KernelSelection.current
    // Those that turned out not to apply.
    var refusing: UInt64 = 0
    while let index = best(candidates, for: facts, selection, without: refusing) {
      if let made = try candidates[index].make(facts) {
        if let choices = KernelChoices.current {
          choices.note(choice(candidates, at: point(), for: facts, taken: index, refusing: refusing))
        }
        return made
      }
      refusing |= 1 << UInt64(index)
    }
    throw .inconsistency("none of the candidates of the choice '\(point())' applies")
  }

  /// The number of the candidate to be taken, without those whose bit is set in `refusing`; nil if there is none.
  @inlinable @inline(__always) package static func best(
    _ candidates: [KernelCandidate], for facts: Facts, _ selection: KernelSelection, without refusing: UInt64
  ) -> Int? {
    precondition(candidates.count <= UInt64.bitWidth, "more candidates than bits")
    var wanted: String?
    switch selection {
    case .cheapest: break
    case .plain: return refusing & 1 != 0 ? nil : 0
    case .named(let name): wanted = name
    }
    var (best, least) = (-1, Double.infinity)
    for index in candidates.indices where refusing >> UInt64(index) & 1 == 0 {
      guard candidates[index].takes(facts), case .cost(let cost) = candidates[index].appraise(facts) else { continue }
      if let wanted, candidates[index].name == wanted { return index }
      if cost.time <= least { (best, least) = (index, cost.time) }
    }
    return best < 0 ? nil : best
  }

  /// For those who want to know.
  @usableFromInline package static func choice(
    _ candidates: [KernelCandidate], at point: String, for facts: Facts, taken: Int, refusing: UInt64
  ) -> KernelChoice {
    let opinions = candidates.enumerated().map { index, candidate in
      KernelChoice.Opinion(
        candidate: candidate.name,
        appraisal: refusing >> UInt64(index) & 1 == 1 ? .refused("not for these sizes") : candidate.appraisal(of: facts)
      )
    }
    return KernelChoice(point: point, opinions: opinions, taken: candidates[taken].name)
  }
}
