// Which nodes of a graph can be computed on integers, and which values have to become integers for that.

import ApusGraph
import ApusTensor

/// A node that is computed on integers, with what follows it before its result is quantized.
package struct QuantizationUnit {
  package enum Kind: Equatable {
    /// A product with constant weights.
    case product(WeightTrait.Axes)
    /// Integers with a code of their own, or with that of the inputs.
    case computing, keeping
  }

  package let node: NodeID
  package let kind: Kind
  /// Nodes before it that compute a function of what it reads for nobody else, as the Sigmoid of x * Sigmoid(x).
  package var inner: [NodeID] = []
  /// What it reads as integers; constants among them.
  package var operands: [ValueID]
  /// Nodes behind it in the order in which they run: an addition of constants, and clamping.
  package let tail: [NodeID]
  /// What the tail clamps the result to.
  package let clamp: ClosedRange<Float>?
  /// Of the last node of the tail.
  package let output: ValueID
  /// Whether the result has to be integers for the node to be computed on integers.
  package let emitsCodes: Bool

  package var nodes: [NodeID] { inner + [node] + tail }
  package var isProduct: Bool { if case .product = kind { true } else { false } }
}

/// A node with weights that stays in float, and why.
package struct KeptNode {
  package let node: NodeID
  package let reason: String
}

/// The units of a graph.
package struct QuantizationUnits {
  package private(set) var units: [QuantizationUnit] = []
  /// Products that could have been units.
  package private(set) var kept: [KeptNode] = []
  /// By node: the unit that it belongs to.
  private var owner: [NodeID: Int] = [:]

  /// The units of the nodes that `selection` holds.
  ///
  /// - Parameter refusal: nil if a value may be integers, or the reason why not.
  package init(
    _ graph: borrowing GraphEditor, selection: NodeSelection,
    refusal: (ValueID, borrowing GraphEditor) -> String?
  ) {
    var candidates: [QuantizationUnit] = []
    var claimed: Set<NodeID> = []
    for id in graph.nodes where !claimed.contains(id) {
      switch QuantizationUnits.kind(of: id, in: graph) {
      case .failure(let reason):
        if let text = reason.text { kept.append(KeptNode(node: id, reason: text)) }
      case .success(let kind):
        guard selection.contains(graph[id]) else {
          if case .product = kind { kept.append(KeptNode(node: id, reason: "it is not among the chosen nodes")) }
          continue
        }
        guard let unit = QuantizationUnits.unit(id, kind, in: graph) else { continue }
        // A product that hands on integers needs a range for them, and weights that have one.
        let results = unit.emitsCodes ? [unit.output] : []
        let values = unit.operands + results + QuantizationUnits.weights(of: id, in: graph)
        if let reason = QuantizationUnits.first(values, refusal, graph) {
          if case .product = kind { kept.append(KeptNode(node: id, reason: reason)) }
          continue
        }
        claimed.formUnion(unit.tail)
        candidates.removeAll { unit.inner.contains($0.node) }
        candidates.append(unit)
      }
    }
    settle(candidates, in: graph)
  }

  private static func first(
    _ operands: [ValueID], _ refusal: (ValueID, borrowing GraphEditor) -> String?, _ graph: borrowing GraphEditor
  ) -> String? {
    for operand in operands { if let reason = refusal(operand, graph) { return reason } }
    return nil
  }

  package func unit(of node: NodeID) -> QuantizationUnit? { owner[node].map { units[$0] } }

  // MARK: - Single nodes

  private struct Unfit: Error {
    /// nil: nothing that anybody would ask about.
    let text: String?
  }

  private static func kind(of id: NodeID, in graph: borrowing GraphEditor) -> Result<QuantizationUnit.Kind, Unfit> {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op) else { return .failure(Unfit(text: nil)) }
    if let weights = schema.weights {
      guard node.inputs.count > weights.weights, let operand = node.inputs[weights.weights] else {
        return .failure(Unfit(text: nil))
      }
      guard let found = ProductWeights(operand, in: graph), let tensor = graph.constant(found.value) else {
        return .failure(Unfit(text: ProductWeights.reason(operand, in: graph)))
      }
      guard tensor.dataType == .float32 else { return .failure(Unfit(text: "its weights are \(tensor.dataType)")) }
      guard let axes = weights.axes(graph.facts(of: node, schema)), tensor.count > 0 else {
        return .failure(Unfit(text: "its weights are no matrix"))
      }
      guard graph.constant(node.inputs[weights.data]) == nil else { return .failure(Unfit(text: nil)) }
      return .success(.product(axes))
    }
    guard areFloats(node, schema, in: graph), node.subgraphs.isEmpty else { return .failure(Unfit(text: nil)) }
    switch schema.codes {
    case .none: return .failure(Unfit(text: nil))
    case .keeps: return .success(.keeping)
    case .computes, .clamps: return .success(.computing)
    }
  }

  /// The constant that a product multiplies with; none of another node.
  private static func weights(of id: NodeID, in graph: borrowing GraphEditor) -> [ValueID] {
    let node = graph[id]
    guard let trait = graph.schema(of: node.op)?.weights, let operand = node.inputs[trait.weights] else { return [] }
    return ProductWeights(operand, in: graph).map { [$0.value] } ?? []
  }

  /// Whether all that the operator computes with is float32, and it has one result.
  private static func areFloats(_ node: Node, _ schema: OperatorSchema, in graph: borrowing GraphEditor) -> Bool {
    guard node.outputs.count(where: { $0 != nil }) == 1, let output = node.outputs.first ?? nil,
      graph.fact(output).elementType == .float32, let first = node.inputs.first ?? nil,
      graph.fact(first).elementType == .float32
    else { return false }
    return operands(of: node, schema).contains { graph.constant($0) == nil }
  }

  /// The inputs that have the type variable of the first.
  private static func operands(of node: Node, _ schema: OperatorSchema) -> [ValueID] {
    guard let type = schema.inputs.first?.type else { return [] }
    return node.inputs.indices.compactMap { schema.input(at: $0)?.type == type ? node.inputs[$0] : nil }
  }

  /// The values that a node reads as integers: of a product its data, else all operands that are no mere parameters.
  private static func operands(
    of node: Node, _ schema: OperatorSchema, _ kind: QuantizationUnit.Kind
  ) -> [ValueID] {
    if case .product = kind { return schema.weights.flatMap { node.inputs[$0.data] }.map { [$0] } ?? [] }
    if case .elementwise = schema.layout { return node.inputs.prefix(1).compactMap { $0 } }
    return operands(of: node, schema)
  }

  /// The nodes by which one of two operands is a function of the other, and that other; nil if it is none.
  private static func function(
    _ operands: [ValueID], in graph: borrowing GraphEditor
  ) -> (inner: [NodeID], source: ValueID)? {
    guard operands.count == 2 else { return nil }
    for (source, result) in [(operands[0], operands[1]), (operands[1], operands[0])] {
      var inner: [NodeID] = []
      var value = result
      while value != source, let node = graph.producer(of: value), onlyUser(of: value, in: graph) != nil,
        case .elementwise? = graph.schema(of: graph[node].op)?.layout, let input = graph[node].inputs[0]
      {
        inner.insert(node, at: 0)
        value = input
      }
      if value == source, !inner.isEmpty { return (inner, source) }
    }
    return nil
  }

  private static func unit(
    _ id: NodeID, _ kind: QuantizationUnit.Kind, in graph: borrowing GraphEditor
  ) -> QuantizationUnit? {
    let node = graph[id]
    guard let schema = graph.schema(of: node.op), var output = node.outputs.first ?? nil else { return nil }
    var operands = operands(of: node, schema, kind)
    var (inner, tail): ([NodeID], [NodeID]) = ([], [])
    var clamp: ClosedRange<Float>?
    if kind == .computing, let function = function(operands, in: graph) {
      (inner, operands) = (function.inner, [function.source])
    }
    if kind != .keeping {
      if case .product(let axes) = kind, node.inputs.count < 3, let bias = bias(after: output, axes, in: graph) {
        tail.append(bias)
        output = graph[bias].outputs[0] ?? output
      }
      if let user = onlyUser(of: output, in: graph), let next = graph.schema(of: graph[user].op),
        case .clamps(let bounds) = next.codes, graph[user].inputs.first == output,
        let range = bounds(graph.facts(of: graph[user], next)), let result = graph[user].outputs[0]
      {
        tail.append(user)
        (clamp, output) = (range, result)
      }
    }
    // A product of matrices may leave floats; a convolution between floats would be one of floats.
    var emitsCodes = true
    if case .product = kind { if case .images = schema.layout {} else { emitsCodes = false } }
    return QuantizationUnit(
      node: id, kind: kind, inner: inner, operands: operands, tail: tail, clamp: clamp, output: output,
      emitsCodes: emitsCodes)
  }

  /// The addition of one constant number to each output of a product, and of nothing else.
  private static func bias(
    after value: ValueID, _ axes: WeightTrait.Axes, in graph: borrowing GraphEditor
  ) -> NodeID? {
    guard let user = onlyUser(of: value, in: graph), let rank = graph.fact(value).tensor?.shape?.count else {
      return nil
    }
    let node = graph[user]
    guard node.op == OperatorID("Add"), let other = node.inputs.first(where: { $0 != value }) ?? nil,
      let constant = graph.constant(other), constant.rank <= rank
    else { return nil }
    let shape = [Int](repeating: 1, count: rank - constant.rank) + constant.shape.dims
    return shape.indices.allSatisfy { shape[$0] == 1 || $0 == axes.result } ? user : nil
  }

  private static func onlyUser(of value: ValueID, in graph: borrowing GraphEditor) -> NodeID? {
    let users = graph.users(of: value)
    return users.count == 1 && !graph.isOutput(value) ? users[0] : nil
  }

  // MARK: - All together

  /// Keeps products, and of the others those that read integers and hand integers on, until no more of them go.
  private mutating func settle(_ candidates: [QuantizationUnit], in graph: borrowing GraphEditor) {
    var isIn = candidates.map { _ in true }
    var producers: [ValueID: Int] = [:]
    var owners: [NodeID: Int] = [:]
    for (index, unit) in candidates.enumerated() {
      producers[unit.output] = index
      for node in unit.nodes { owners[node] = index }
    }
    var changed = true
    while changed {
      changed = false
      for (index, unit) in candidates.enumerated() where isIn[index] && !unit.isProduct {
        let reads = unit.operands.filter { graph.constant($0) == nil }
        let areCodes = reads.allSatisfy { value in
          producers[value].map { isIn[$0] && candidates[$0].emitsCodes } ?? false
        }
        let isRead = graph.users(of: unit.output).contains { user in owners[user].map { isIn[$0] } ?? false }
        if !areCodes || !isRead {
          isIn[index] = false
          changed = true
        }
      }
    }
    for (index, unit) in candidates.enumerated() where isIn[index] {
      for node in unit.nodes { owner[node] = units.count }
      units.append(unit)
    }
  }
}
