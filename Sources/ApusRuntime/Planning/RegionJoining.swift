// Values that are made where a later step would copy them to, and values that are read where an earlier step would copy
// them from: Concat, Split and Slice without copies.

import ApusGraph
import ApusTensor

/// Finds the operands of a region that can lie in those of other steps, and plans the steps anew that they concern.
///
/// A step offers what it copies: inputs that are parts of an output (`Step.joinable`), outputs that are rows of an
/// input (`Step.viewable`). Where such a part is one run of bytes, whoever makes the input writes it there without
/// knowing. Where it is rows that lie apart, all steps that touch the value must take it so: each is planned with the
/// rows, and says whether it does (`Step.spread`). Results keep their bits: only where elements lie changes.
struct RegionJoining: ~Copyable {
  /// A value that lies in an output of a later step.
  struct Joined: Sendable, Equatable {
    /// What a step makes: the input, or what it is a view of.
    let value: ValueID
    /// The step that would copy it, as a number among the drafts of the region.
    let draft: Int
    /// The input of that step that it is.
    let input: Int
  }

  /// The producer of a value.
  private struct Origin {
    /// -1: no step of the region.
    var draft: Int32 = -1
    var position: Int32 = 0
    /// The value that it is a view of; -1: none.
    var base: Int32 = -1
    /// False for a view that does not begin where its base does.
    var isAtStart = true
    /// The last reader, as a position among all; -1: none.
    var reader: Int32 = -1
  }

  private struct Reader {
    let draft: Int32
    let input: Int32
    /// The reader before; -1: none.
    let next: Int32
  }

  private let region: RegionDraft
  private let program: Program
  private var drafts: [StepDraft]
  /// By value of the graph.
  private var origins: [Origin]
  private var readers: [Reader] = []
  /// By value that is no view: true if it or a view of it is needed after the region, or is a cache.
  private var mustStay: [Bool]
  /// By value that is no view: the widest element that it is seen as.
  private var widths: [Int]
  /// By draft: how its operands lie.
  private var placements: [Int: OperandPlacement] = [:]
  /// How values lie that do not lie dense.
  private var rows: [ValueID: Rows] = [:]
  /// The first byte of joined values in their block.
  private var offsets: [ValueID: Int] = [:]
  private var joined: [Joined] = []

  /// Shorter rows take longer to walk than a copy does.
  private static let smallestRow = 64

  /// The region with all joins that are possible; nil if there are none.
  static func joined(_ region: RegionDraft, _ program: Program) -> RegionDraft? {
    let hasOffers = region.drafts.contains { !$0.step.joinable.isEmpty || !$0.step.viewable.isEmpty }
    guard hasOffers else { return nil }
    var joining = RegionJoining(region, program)
    for draft in region.drafts.indices where !region.drafts[draft].step.viewable.isEmpty { joining.view(from: draft) }
    // What is joined last is what the others lie in.
    for draft in region.drafts.indices.reversed() where !region.drafts[draft].step.joinable.isEmpty {
      joining.join(into: draft)
    }
    return joining.result()
  }

  private init(_ region: RegionDraft, _ program: Program) {
    (self.region, self.program, drafts) = (region, program, region.drafts)
    origins = [Origin](repeating: Origin(), count: program.graph.values.count)
    mustStay = [Bool](repeating: false, count: origins.count)
    widths = [Int](repeating: 1, count: origins.count)
    for (index, draft) in drafts.enumerated() {
      let node = node(index)
      for (position, input) in node.inputs.enumerated() {
        guard let input else { continue }
        let isViewed = draft.step.views.contains { $0.input == position }
        if draft.step.unreadInputs.contains(position), !isViewed { continue }
        readers.append(
          Reader(draft: Int32(index), input: Int32(position), next: origins[input.index].reader))
        origins[input.index].reader = Int32(readers.count - 1)
      }
      for (position, output) in node.outputs.enumerated() {
        guard let output else { continue }
        origins[output.index].draft = Int32(index)
        origins[output.index].position = Int32(position)
        if let view = draft.step.views.first(where: { $0.output == position }), let base = node.inputs[view.input] {
          origins[output.index].base = Int32(base.index)
          origins[output.index].isAtStart = view.byteOffset == 0
        }
        let root = root(of: output).index
        if program.lastUse[output.index] >= region.nodes.upperBound { mustStay[root] = true }
        let type = program.graph.fact(output).tensor?.dataType ?? draft.outputTypes[position]?.dataType
        widths[root] = max(widths[root], type?.byteWidth ?? 16)
      }
    }
    for (cache, isGrowing) in zip(region.caches.caches, region.caches.growing) where isGrowing {
      mustStay[cache.pair.present.index] = true
    }
  }

  private func node(_ draft: Int) -> PreparedNode { program.nodes[region.draftNodes[draft]] }

  /// What a value is a view of.
  private func root(of value: ValueID) -> ValueID {
    var index = value.index
    while origins[index].base >= 0 { index = Int(origins[index].base) }
    return ValueID(index)
  }

  // MARK: - Views in rows

  /// Lets outputs of a step lie in its input, where all who read them take rows.
  private mutating func view(from draft: Int) {
    for offer in drafts[draft].step.viewable {
      let node = node(draft)
      guard let rows = offer.rows, let input = node.inputs[offer.input], let output = node.outputs[offer.output],
        let type = drafts[draft].outputTypes[offer.output], isLongEnough(rows, type.dataType),
        isInMemory(input), case let index = root(of: input).index, !region.known.contains(index)
      else { continue }
      var changed: [Int: StepDraft] = [:]
      var requests: [Int: OperandPlacement] = [:]
      var family: [ValueID] = []
      requests[draft] = placements[draft] ?? OperandPlacement()
      requests[draft]?.viewed.append(offer.output)
      guard take(output, in: rows, &family, &requests), replan(requests, family, rows, &changed) else { continue }
      accept(requests, changed)
      origins[output.index].base = Int32(input.index)
      origins[output.index].isAtStart = offer.byteOffset == 0
      if mustStay[output.index] { mustStay[index] = true }
      widths[index] = max(widths[index], widths[output.index])
    }
  }

  /// False for a value that has no place a view could share.
  private func isInMemory(_ value: ValueID) -> Bool {
    let root = root(of: value)
    if mustStay[root.index], region.caches.caches.contains(where: { $0.pair.present == root }) { return false }
    return origins[root.index].draft >= 0 || region.inputs.contains { $0.value == root }
  }

  private func isLongEnough(_ rows: Rows, _ type: DataType) -> Bool {
    rows.length * type.byteWidth >= RegionJoining.smallestRow
  }

  /// Asks all who read a value, and views of all of it, to take it in rows. False if it is needed after the region, or
  /// if somebody sees a part of it or something else in it.
  private func take(
    _ value: ValueID, in rows: Rows, _ family: inout [ValueID], _ requests: inout [Int: OperandPlacement]
  ) -> Bool {
    if program.lastUse[value.index] >= region.nodes.upperBound { return false }
    if program.graph.fact(value).tensor?.dataType == nil { return false }
    family.append(value)
    var next = Int(origins[value.index].reader)
    while next >= 0 {
      let reader = readers[next]
      next = Int(reader.next)
      let (draft, input) = (Int(reader.draft), Int(reader.input))
      let views = drafts[draft].step.views.filter { $0.input == input }
      if !drafts[draft].step.phases.isEmpty {
        if !views.isEmpty { return false }
        var request = requests[draft] ?? placements[draft] ?? OperandPlacement()
        request.rows.append((input, rows))
        requests[draft] = request
      } else if views.isEmpty {
        return false
      }
      for view in views {
        guard view.byteOffset == 0, view.rows == nil, let output = node(draft).outputs[view.output],
          let (type, bytes) = size(of: output), type == program.graph.fact(value).tensor?.dataType,
          bytes == nil || size(of: value)?.bytes == nil || bytes == size(of: value)?.bytes
        else { return false }
        if !take(output, in: rows, &family, &requests) { return false }
      }
    }
    return true
  }

  /// The element type of a value, and its bytes where its step knows them.
  private func size(of value: ValueID) -> (type: DataType, bytes: Int?)? {
    guard let type = program.graph.fact(value).tensor?.dataType else { return nil }
    let origin = origins[value.index]
    guard origin.draft >= 0 else { return (type, nil) }
    return (type, drafts[Int(origin.draft)].outputTypes[Int(origin.position)]?.byteCount)
  }

  // MARK: - Joins

  /// Lets inputs of a step lie in its output.
  private mutating func join(into draft: Int) {
    let node = node(draft)
    guard !region.caches.concerns(region.draftNodes[draft]), case let target? = node.outputs[0],
      case let base = offsets[target] ?? 0
    else { return }
    var accepted: [Joined] = []
    for offer in drafts[draft].step.joinable where offer.output == 0 {
      guard let input = node.inputs[offer.input], let type = drafts[draft].inputTypes[offer.input],
        !node.inputs.enumerated().contains(where: { $0 != offer.input && $1 == input }),
        let value = source(of: input, type, in: draft), !accepted.contains(where: { $0.value == value }),
        (base + offer.byteOffset) % widths[value.index] == 0
      else { continue }
      var changed: [Int: StepDraft] = [:]
      var requests: [Int: OperandPlacement] = [:]
      var family: [ValueID] = []
      if let rows = offer.rows {
        let origin = origins[value.index]
        guard value == input, isLongEnough(rows, type.dataType), take(value, in: rows, &family, &requests) else {
          continue
        }
        // The step itself leaves the input where it is.
        requests[draft]?.rows.removeAll { $0.operand == offer.input }
        if requests[draft]?.rows.isEmpty ?? false, placements[draft] == nil { requests[draft] = nil }
        let maker = Int(origin.draft)
        var request = requests[maker] ?? placements[maker] ?? OperandPlacement()
        request.rows.append((self.node(maker).inputs.count + Int(origin.position), rows))
        requests[maker] = request
      }
      var own = requests[draft] ?? placements[draft] ?? OperandPlacement()
      own.joined.append(offer.input)
      requests[draft] = own
      guard replan(requests, family, offer.rows, &changed) else { continue }
      accept(requests, changed)
      offsets[value] = base + offer.byteOffset
      accepted.append(Joined(value: value, draft: draft, input: offer.input))
    }
    joined += accepted
    for join in accepted {
      mustStay[join.value.index] = true
      let root = root(of: target).index
      widths[root] = max(widths[root], widths[join.value.index])
    }
  }

  /// The value that must lie elsewhere for an input of a step to do so: what it is a view of all of. nil if a step that
  /// runs makes no such value, or if it must lie where it does.
  private func source(of input: ValueID, _ type: TensorType, in draft: Int) -> ValueID? {
    var index = input.index
    while origins[index].base >= 0 {
      guard origins[index].isAtStart, rows[ValueID(index)] == nil else { return nil }
      index = Int(origins[index].base)
    }
    let origin = origins[index]
    guard origin.draft >= 0, origin.draft != draft, !mustStay[index], rows[ValueID(index)] == nil,
      case let maker = drafts[Int(origin.draft)].step, !maker.phases.isEmpty || !maker.joins.isEmpty,
      let made = drafts[Int(origin.draft)].outputTypes[Int(origin.position)], made.byteCount == type.byteCount,
      made.byteCount > 0, !made.dataType.isPacked, made.dataType.byteWidth == type.dataType.byteWidth
    else { return nil }
    return ValueID(index)
  }

  // MARK: - Steps

  /// Plans steps anew for values that lie in rows; false, with everything as before, if one does not take what is
  /// asked.
  private mutating func replan(
    _ requests: [Int: OperandPlacement], _ values: [ValueID], _ rows: Rows?, _ changed: inout [Int: StepDraft]
  ) -> Bool {
    for value in values { self.rows[value] = rows }
    for (draft, placement) in requests {
      guard let step = step(draft, placement) else {
        for value in values { self.rows[value] = nil }
        return false
      }
      changed[draft] = step
    }
    return true
  }

  private mutating func accept(_ requests: [Int: OperandPlacement], _ changed: [Int: StepDraft]) {
    for (draft, placement) in requests { placements[draft] = placement }
    for (draft, step) in changed { drafts[draft] = step }
  }

  /// The step of a node whose operands lie as `placement` says; nil if its kernel does not take them so.
  private func step(_ draft: Int, _ placement: OperandPlacement) -> StepDraft? {
    let node = node(draft)
    let former = drafts[draft]
    guard case .planned(let kernel) = node.kernel, placement.rows.isEmpty || kernel.takesRows,
      placement.rows.isEmpty || !region.caches.concerns(region.draftNodes[draft]),
      // Where a type was not known when the model was loaded, the step is another kernel's.
      node.inputs.allSatisfy({ $0.map { program.graph.fact($0).tensor?.dataType != nil } ?? true })
    else { return nil }
    let context = PlanContext(
      inputs: former.inputTypes, outputs: former.outputTypes,
      known: node.inputs.map { $0.flatMap { region.known[$0.index] } }, placement: placement)
    // The kernel has planned for these types before; a refusal is none of this value's place.
    guard var step = try? kernel.step(for: context), placement.rows.allSatisfy({ step.spread.contains($0.operand) }),
      step.joins.map(\.input).sorted() == placement.joined.sorted(),
      // What has been planned for the rows of a value holds for no others.
      step.joins.allSatisfy({ join in node.inputs[join.input].map { rows[$0] == join.rows } ?? false }),
      step.views.allSatisfy({ view in node.outputs[view.output].map { rows[$0] == view.rows } ?? false }),
      step.views.allSatisfy({ view in
        placement.viewed.contains(view.output) || former.step.views.contains { $0.output == view.output }
      }), placement.viewed.allSatisfy({ output in step.views.contains { $0.output == output } })
    else { return nil }
    // Elements of one place may lie elsewhere in the other.
    if !placement.rows.isEmpty { step.inPlace = [] }
    return StepDraft(
      step: step, inputTypes: former.inputTypes, outputTypes: former.outputTypes, bytes: former.bytes,
      placement: placement)
  }

  private consuming func result() -> RegionDraft? {
    if placements.isEmpty { return nil }
    var result = region
    (result.drafts, result.joins) = (drafts, joined)
    return result
  }
}
