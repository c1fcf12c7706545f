// Lets changes of the order of axes sink until they meet one that undoes them: models of frameworks that have the
// channels last stand between Transposes, most of which are needless.

import ApusGraph
import ApusTensor

/// Every Transpose waits until somebody needs its result as it is. Operators that can work in another order of axes,
/// as their layout trait says, read what lies before it, and their results wait in turn.
struct TransposeMovement: GraphPass {
  let name = "move-transposes"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    let nodes = graph.nodes
    guard nodes.count(where: { graph.op(of: $0) == OperatorID("Transpose") }) > 1 else { return 0 }
    var mover = TransposeMover(graph, work)
    for node in nodes { mover.take(node) }
    let (changes, failure) = (mover.changes, mover.failure)
    graph = mover.finish()
    if let failure { throw failure }
    return changes
  }
}

/// Goes through the nodes of a graph in order.
private struct TransposeMover: ~Copyable {
  private var graph: GraphEditor
  private let work: OptimizerWork
  /// Values that another one is in another order of axes: axis k of the value is axis `order[k]` of `source`.
  private var origins: [ValueID: (source: ValueID, order: [Int])] = [:]
  /// Those of them that no node computes until somebody needs them.
  private var waiting: Set<ValueID> = []
  /// Where new nodes go; nil: to the end.
  private var place: NodeID?
  private(set) var changes = 0
  /// The first node that could not be inferred.
  private(set) var failure: OperatorError?

  private static let transpose = OperatorID("Transpose")

  init(_ graph: consuming GraphEditor, _ work: OptimizerWork) {
    self.graph = graph
    self.work = work
  }

  mutating func take(_ id: NodeID) {
    place = id
    let node = graph[id]
    if work.budget.mayPatch, move(node) {
      graph.remove(id)
      work.budget.count()
      changes += 1
      return
    }
    for value in node.dependencies { restore(value) }
  }

  consuming func finish() -> GraphEditor {
    place = nil
    for value in graph.outputs { restore(value) }
    return graph
  }

  /// Lets a value be computed after all.
  private mutating func restore(_ value: ValueID) {
    guard waiting.remove(value) != nil, let origin = origins[value] else { return }
    add(
      Node(
        TransposeMover.transpose, name: "\(graph.name(of: value))/Transpose", inputs: [origin.source],
        outputs: [value], attributes: Attributes([("perm", .ints(origin.order))])))
  }

  private mutating func add(_ node: Node) {
    do throws(OperatorError) {
      try graph.insert(node, before: place)
    } catch {
      failure = failure ?? error
    }
  }

  // MARK: - Nodes

  private mutating func move(_ node: Node) -> Bool {
    guard let schema = graph.schema(of: node.op), let output = node.outputs.first ?? nil else { return false }
    if case .axis(let attribute) = schema.layout { return moveAxis(node, attribute, schema) }
    guard
      !node.outputs.dropFirst().contains(where: { $0 != nil }), let input = node.inputs.first ?? nil
    else { return false }
    if node.op == TransposeMover.transpose { return postpone(node, input, output) }
    switch schema.layout {
    case .fixed, .axis, .images, .orderless: return false
    case .elementwise(let condition):
      guard let origin = origins[input], condition(graph.facts(of: node, schema)) else { return false }
      replace(node, inputs: [origin.source] + node.inputs.dropFirst(), output, origin.order)
      return true
    case .broadcasting: return moveBroadcast(node, output)
    case .along(let attribute): return moveAlong(node, attribute, output)
    case .axes(let attribute, let condition):
      guard condition(graph.facts(of: node, schema)) else { return false }
      return moveAxes(node, attribute, input, output)
    case .axesInput(let position): return moveAxesInput(node, position, input, output)
    case .reducing: return moveReduction(node, input, output)
    case .reshaping: return moveReshape(node, input, output)
    }
  }

  /// Inserts a node like `node` on other inputs, whose result in the order `order` is `output`.
  private mutating func replace(_ node: Node, inputs: [ValueID?], _ output: ValueID, _ order: [Int]) {
    var copy = node
    let isSame = order == Array(order.indices)
    let result = isSame ? output : graph.addValue()
    (copy.inputs, copy.outputs) = (inputs, [result])
    for value in inputs { if let value { restore(value) } }
    add(copy)
    if !isSame { wait(output, for: result, order) }
  }

  private mutating func wait(_ value: ValueID, for source: ValueID, _ order: [Int]) {
    origins[value] = (source, order)
    waiting.insert(value)
  }

  private mutating func postpone(_ node: Node, _ input: ValueID, _ output: ValueID) -> Bool {
    guard let rank = rank(input), graph.constant(input) == nil else { return false }
    let own = node.attributes.ints("perm") ?? Array((0..<rank).reversed())
    guard own.count == rank else { return false }
    let (source, order) = origins[input].map { origin in (origin.source, own.map { origin.order[$0] }) } ?? (input, own)
    if order != Array(0..<rank) {
      wait(output, for: source, order)
    } else if graph.isOutput(output) {
      restore(source)
      add(Node(OperatorID("Identity"), name: node.name, inputs: [source], outputs: [output]))
    } else {
      graph.replaceUses(of: output, with: source)
    }
    return true
  }

  /// All operands in one other order, or so small that none matters.
  private mutating func moveBroadcast(_ node: Node, _ output: ValueID) -> Bool {
    let orders = node.inputs.compactMap { operand in operand.flatMap { origins[$0]?.order } }
    guard let order = orders.first, rank(output) == order.count else { return false }
    var inputs: [ValueID?] = []
    for case let operand? in node.inputs {
      if let origin = origins[operand] {
        guard origin.order == order else { return false }
        inputs.append(origin.source)
      } else if graph.fact(operand).tensor?.shape?.allSatisfy({ $0.known == 1 }) ?? false {
        inputs.append(operand)
      } else if let constant = graph.constant(operand), let moved = inverse(constant, order) {
        inputs.append(moved)
      } else if let moved = reshaped(operand, order) {
        inputs.append(moved)
      } else {
        return false
      }
    }
    guard inputs.count == node.inputs.count else { return false }
    replace(node, inputs: inputs, output, order)
    return true
  }

  /// The constant of which the value in the order `order` is `tensor`, filled up to that rank.
  private mutating func inverse(_ tensor: Tensor, _ order: [Int]) -> ValueID? {
    guard tensor.rank <= order.count else { return nil }
    let filled = tensor.reshaped(to: Shape([Int](repeating: 1, count: order.count - tensor.rank) + tensor.shape.dims))
    let back = order.indices.map { axis in order.firstIndex(of: axis) ?? axis }
    let node = Node(
      TransposeMover.transpose, inputs: [ValueID(0)], outputs: [ValueID(0)],
      attributes: Attributes([("perm", .ints(back))]))
    let results = work.inference.evaluate(
      node, facts: [.tensor(TensorFact(filled))], constants: [filled], limit: max(filled.byteCount, 1),
      memory: work.folding)
    guard let moved = results?.first??.tensor else { return nil }
    return graph.addConstant(moved)
  }

  private mutating func moveAlong(_ node: Node, _ attribute: String, _ output: ValueID) -> Bool {
    let operands = node.inputs.compactMap { $0 }
    guard let order = operands.first.flatMap({ origins[$0]?.order }), let schema = graph.schema(of: node.op),
      let given = graph.facts(of: node, schema).optionalInt(attribute)
    else { return false }
    var inputs: [ValueID?] = []
    for operand in operands {
      if let origin = origins[operand], origin.order == order {
        inputs.append(origin.source)
      } else if let constant = graph.constant(operand), constant.rank == order.count,
        let moved = inverse(constant, order)
      {
        inputs.append(moved)
      } else {
        return false
      }
    }
    let axis = given < 0 ? given + order.count : given
    guard order.indices.contains(axis) else { return false }
    var copy = node
    copy.attributes[attribute] = .int(order[axis])
    replace(copy, inputs: inputs, output, order)
    return true
  }

  /// The value of which `operand` is the one in the order `order`, if its elements lie in the same order in both.
  private mutating func reshaped(_ operand: ValueID, _ order: [Int]) -> ValueID? {
    guard let shape = graph.fact(operand).tensor?.shape, shape.count == order.count else { return nil }
    let back = order.indices.map { axis in order.firstIndex(of: axis) ?? axis }
    let wide = back.filter { shape[$0].known != 1 }
    guard wide == wide.sorted() else { return nil }
    restore(operand)
    let moved = graph.addValue()
    add(
      Node(
        TransposeMover.transpose, name: "\(graph.name(of: operand))/Transpose", inputs: [operand], outputs: [moved],
        attributes: Attributes([("perm", .ints(back))])))
    return moved
  }

  /// Along an axis of input 0 that every output has.
  private mutating func moveAxis(_ node: Node, _ attribute: String, _ schema: OperatorSchema) -> Bool {
    guard let input = node.inputs.first ?? nil, let origin = origins[input],
      let given = graph.facts(of: node, schema).optionalInt(attribute),
      let axis = positions([given], origin.order)?.first
    else { return false }
    var copy = node
    copy.attributes[attribute] = .int(axis)
    copy.inputs[0] = origin.source
    copy.outputs = node.outputs.map { $0 == nil ? nil : graph.addValue() }
    for value in copy.inputs { if let value { restore(value) } }
    add(copy)
    for (output, result) in zip(node.outputs, copy.outputs) {
      if let output, let result { wait(output, for: result, origin.order) }
    }
    return true
  }

  private mutating func moveAxes(_ node: Node, _ attribute: String, _ input: ValueID, _ output: ValueID) -> Bool {
    guard let origin = origins[input], rank(output) == origin.order.count,
      let axes = positions(node.attributes.ints(attribute) ?? Array(origin.order.indices), origin.order)
    else { return false }
    var copy = node
    copy.attributes[attribute] = .ints(axes)
    replace(copy, inputs: [origin.source] + node.inputs.dropFirst(), output, origin.order)
    return true
  }

  private mutating func moveAxesInput(_ node: Node, _ position: Int, _ input: ValueID, _ output: ValueID) -> Bool {
    guard let origin = origins[input], rank(output) == origin.order.count else { return false }
    var given = Array(origin.order.indices)
    if position < node.inputs.count, let listed = node.inputs[position] {
      guard let known = graph.constant(listed)?.integers else { return false }
      given = known
    }
    guard let axes = positions(given, origin.order) else { return false }
    var inputs = [origin.source] + node.inputs.dropFirst()
    inputs += [ValueID?](repeating: nil, count: max(0, position + 1 - inputs.count))
    inputs[position] = graph.addConstant(Tensor(axes.map { Int64($0) }))
    replace(node, inputs: inputs, output, origin.order)
    return true
  }

  /// Axes, which may be counted from the end, as those of the source.
  private func positions(_ axes: [Int], _ order: [Int]) -> [Int]? {
    let positions = axes.map { $0 < 0 ? $0 + order.count : $0 }
    return positions.allSatisfy({ order.indices.contains($0) }) ? positions.map { order[$0] } : nil
  }

  /// A reduction over the axes of the source. Those that are left are in an order of their own.
  private mutating func moveReduction(_ node: Node, _ input: ValueID, _ output: ValueID) -> Bool {
    guard let origin = origins[input], node.inputs.count >= 2,
      let given = graph.constant(node.inputs[1])?.integers, !given.isEmpty,
      let axes = positions(given, origin.order)
    else { return false }
    let list = graph.addConstant(Tensor(axes.sorted().map { Int64($0) }))
    let inputs = [origin.source, list] + node.inputs.dropFirst(2)
    if node.attributes.int("keepdims") ?? 1 != 0 {
      replace(node, inputs: inputs, output, origin.order)
    } else {
      let left = origin.order.filter { !axes.contains($0) }
      let sorted = left.sorted()
      replace(node, inputs: inputs, output, left.map { axis in sorted.firstIndex(of: axis) ?? 0 })
    }
    return true
  }

  /// A Reshape to numbers of what has its axes of more than one element in the order of the source: its elements lie in
  /// the same order.
  private mutating func moveReshape(_ node: Node, _ input: ValueID, _ output: ValueID) -> Bool {
    guard node.op == OperatorID("Reshape"), let origin = origins[input],
      let shape = graph.fact(origin.source).tensor?.shape,
      let target = graph.constant(node.inputs[1])?.integers, !target.contains(0)
    else { return false }
    let wide = origin.order.filter { shape[$0].known != 1 }
    guard wide == wide.sorted() else { return moveRegrouping(node, origin.source, origin.order, shape, output) }
    replace(node, inputs: [origin.source] + node.inputs.dropFirst(), output, [])
    return true
  }

  /// A Reshape that splits axes, and joins such as lie beside each other in the source, be it in another order: that of
  /// the source's axes stays, but within those that are joined.
  private mutating func moveRegrouping(
    _ node: Node, _ source: ValueID, _ order: [Int], _ shape: [Dim], _ output: ValueID
  ) -> Bool {
    guard let target = graph.fact(output).tensor?.shape,
      let groups = AxisGroup.groups(order.map { shape[$0] }, target)
    else { return false }
    var places: [(first: Int, group: AxisGroup)] = []
    for group in groups {
      let axes = group.before.map { order[$0] }
      guard let least = axes.min(), axes.sorted() == Array(least..<(least + axes.count)) else { return false }
      places.append((least, group))
    }
    places.sort { $0.first < $1.first }
    let inner = places.flatMap { $0.group.before.map { order[$0] } }
    let result = places.flatMap(\.group.after)
    let dims = result.map { target[$0] }
    guard result != Array(target.indices), dims.count(where: { $0.known == nil }) <= 1,
      !dims.contains(where: { $0.known == 0 })
    else { return false }
    restore(source)
    var moved = source
    if inner != Array(shape.indices) {
      moved = graph.addValue()
      add(
        Node(
          TransposeMover.transpose, name: "\(node.name)/Transpose", inputs: [source], outputs: [moved],
          attributes: Attributes([("perm", .ints(inner))])))
    }
    let extents = graph.addConstant(Tensor(dims.map { Int64($0.known ?? -1) }))
    var copy = node
    copy.attributes["allowzero"] = nil
    let value = graph.addValue()
    (copy.inputs, copy.outputs) = ([moved, extents], [value])
    add(copy)
    wait(output, for: value, target.indices.map { axis in result.firstIndex(of: axis) ?? axis })
    return true
  }

  private func rank(_ value: ValueID) -> Int? { graph.fact(value).tensor?.shape?.count }
}

/// Axes that a Reshape makes of others: as many elements on both sides.
private struct AxisGroup {
  var before: [Int]
  var after: [Int]

  /// The smallest groups of axes of two shapes, in their order; nil if they cannot be told.
  static func groups(_ before: [Dim], _ after: [Dim]) -> [AxisGroup]? {
    var groups: [AxisGroup] = []
    var (i, j) = (0, 0)
    while i < before.count || j < after.count {
      var group = AxisGroup(before: [], after: [])
      if i < before.count, j < after.count {
        // One that stays what it is: without that an extent of one would join what is behind it.
        if before[i].isSame(as: after[j]) {
          groups.append(AxisGroup(before: [i], after: [j]))
          (i, j) = (i + 1, j + 1)
          continue
        }
        // An extent that is no number must.
        if before[i].known == nil || after[j].known == nil { return nil }
      }
      var (left, right) = (1, 1)
      repeat {
        if left <= right, i < before.count, let extent = before[i].known, extent > 0 {
          group.before.append(i)
          left = left.multipliedReportingOverflow(by: extent).partialValue
          i += 1
        } else if j < after.count, let extent = after[j].known, extent > 0 {
          group.after.append(j)
          right = right.multipliedReportingOverflow(by: extent).partialValue
          j += 1
        } else if i < before.count, let extent = before[i].known, extent > 0 {
          group.before.append(i)
          left = left.multipliedReportingOverflow(by: extent).partialValue
          i += 1
        } else {
          return nil
        }
      } while left != right || group.before.isEmpty || group.after.isEmpty
      groups.append(group)
    }
    return groups.contains { $0.before.isEmpty || $0.after.isEmpty } ? nil : groups
  }
}
