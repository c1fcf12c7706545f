// Where a graph has weights that could be kept in few bits, and why some stay float.

import ApusGraph
import ApusTensor

/// A constant as one role uses it: the same elements cut along the same axis are quantized once, however often they
/// are used.
package struct WeightKey: Hashable, Sendable {
  private let storage: ObjectIdentifier
  private let offset: Int
  package let shape: Shape
  /// The axis along which products add up: the columns of a table.
  package let depthAxis: Int

  init(_ tensor: Tensor, depthAxis: Int) {
    (storage, offset) = (ObjectIdentifier(tensor.storage), tensor.byteOffset)
    (shape, self.depthAxis) = (tensor.shape, depthAxis)
  }
}

/// One use of a weight that can be kept in few bits.
package struct WeightSite: Sendable {
  package enum Role: Sendable { case product, table, convolution }

  package let node: NodeID
  package let nodeName: String
  package let op: OperatorID
  package let role: Role
  package let key: WeightKey
  package let tensor: Tensor
  /// The name of the constant.
  package let name: String
  /// What the weight is multiplied with; nil: it is not known, or not along its last axis.
  package let activation: ValueID?
  /// The node that reads the constant: the site's, or a Transpose before it, and the position there.
  let holder: (node: NodeID, input: Int)

  /// Elements along the depth.
  var depth: Int { role == .convolution ? tensor.count / max(tensor.shape[0], 1) : tensor.shape[key.depthAxis] }
  /// Output channels, or rows of a table.
  var rows: Int { role == .convolution ? tensor.shape[0] : tensor.shape[1 - key.depthAxis] }
}

/// The sites of one graph.
struct WeightSites {
  private(set) var sites: [WeightSite] = []
  private(set) var kept: [WeightQuantizationReport.Kept] = []
  private let options: WeightQuantizationOptions
  private let include: NamePatterns
  private let exclude: NamePatterns

  init(_ graph: borrowing GraphEditor, _ options: WeightQuantizationOptions) {
    self.options = options
    include = NamePatterns(options.include)
    exclude = NamePatterns(options.exclude)
    for id in graph.nodes {
      guard let schema = graph.schema(of: graph.op(of: id)) else { continue }
      if schema.multiplyAdds != nil {
        product(id, in: graph)
      } else if options.includesTables, graph.op(of: id) == OperatorID("Gather") {
        table(id, in: graph)
      }
    }
    keepShared(in: graph)
  }

  /// Where the floats stay for another node, few bits beside them save nothing.
  private mutating func keepShared(in graph: borrowing GraphEditor) {
    var served: [ValueID: Set<NodeID>] = [:]
    for site in sites {
      guard let value = input(of: site.holder.node, site.holder.input, in: graph) else { continue }
      served[value, default: []].insert(site.holder.node)
    }
    var others: [ValueID: NodeID] = [:]
    for (value, nodes) in served { others[value] = graph.users(of: value).first { !nodes.contains($0) } }
    if others.isEmpty { return }
    let all = sites
    sites = []
    for site in all {
      guard let value = input(of: site.holder.node, site.holder.input, in: graph), let other = others[value] else {
        sites.append(site)
        continue
      }
      let found = Found(value: value, tensor: site.tensor, holder: site.holder)
      keep(site.node, found, "\(graph.op(of: other)) '\(graph[other].name)' needs its floats", in: graph)
    }
  }

  /// A constant of floats, and who reads it.
  private struct Found {
    var value: ValueID
    var tensor: Tensor
    var isTurned = false
    var holder: (node: NodeID, input: Int)
  }

  /// The constant that an input is, or is the transpose of.
  private func constant(_ id: NodeID, _ position: Int, in graph: borrowing GraphEditor) -> Found? {
    var (holder, isTurned) = ((node: id, input: position), false)
    while let value = input(of: holder.node, holder.input, in: graph) {
      if let tensor = graph.constant(value) {
        return tensor.dataType.isFloat ? Found(value: value, tensor: tensor, isTurned: isTurned, holder: holder) : nil
      }
      guard let producer = graph.producer(of: value), graph.op(of: producer) == OperatorID("Transpose"),
        graph[producer].attributes.ints("perm") ?? [1, 0] == [1, 0]
      else { return nil }
      isTurned.toggle()
      holder = (producer, 0)
    }
    return nil
  }

  private func input(of id: NodeID, _ position: Int, in graph: borrowing GraphEditor) -> ValueID? {
    let inputs = graph[id].inputs
    return position < inputs.count ? inputs[position] : nil
  }

  private mutating func product(_ id: NodeID, in graph: borrowing GraphEditor) {
    let node = graph[id]
    for position in node.inputs.indices {
      guard let found = constant(id, position, in: graph), found.tensor.rank >= 2 else { continue }
      if let reason = refusal(id, found, in: graph) ?? formRefusal(node, position, found, in: graph) {
        keep(id, found, reason, in: graph)
        continue
      }
      if node.op == OperatorID("Conv") {
        add(id, .convolution, found, depthAxis: 1, activation: nil, in: graph)
        continue
      }
      let transposes = node.attributes.int("transB") ?? 0 != 0
      let activation = node.attributes.int("transA") ?? 0 == 0 ? node.inputs[0] : nil
      add(id, .product, found, depthAxis: found.isTurned != transposes ? 1 : 0, activation: activation, in: graph)
    }
  }

  /// Why a product has no form with weights in few bits; nil if it has.
  private func formRefusal(
    _ node: Node, _ position: Int, _ found: Found, in graph: borrowing GraphEditor
  ) -> String? {
    if node.op == OperatorID("Conv") {
      if options.format == .microsoft { return "com.microsoft has no convolution with weights of few bits; see qdq" }
      return position == 1 ? nil : "it is not the weight of the convolution"
    }
    guard node.op == OperatorID("MatMul") || node.op == OperatorID("Gemm") else {
      return "\(node.op) has no form with weights of few bits"
    }
    if position == 0 { return "it is the left factor" }
    if position > 1 { return "it is added, not multiplied" }
    if found.tensor.rank != 2 { return "it has \(found.tensor.rank) axes; expected a matrix" }
    guard let first = node.inputs[0], graph.fact(first).tensor?.dataType == .float32 else {
      return "the product is not known to be one of float32"
    }
    if options.format == .microsoft {
      let attributes = node.attributes
      let hasBias = node.inputs.count > 2 && node.inputs[2] != nil
      if attributes.int("transA") ?? 0 != 0 { return "the left factor is transposed" }
      if attributes.float("alpha") ?? 1 != 1 || hasBias && attributes.float("beta") ?? 1 != 1 {
        return "alpha or beta is not 1"
      }
    }
    return nil
  }

  private mutating func table(_ id: NodeID, in graph: borrowing GraphEditor) {
    guard let found = constant(id, 0, in: graph), found.tensor.count >= options.minimumElements else { return }
    var reason = refusal(id, found, in: graph)
    let node = graph[id]
    if found.tensor.rank != 2 || found.isTurned {
      reason = reason ?? "it has \(found.tensor.rank) axes, or is turned; expected a table of rows"
    } else if node.attributes.int("axis") ?? 0 != 0, node.attributes.int("axis") != -2 {
      reason = reason ?? "columns are gathered, not rows"
    } else if options.format == .microsoft, found.tensor.shape[1] * options.type.bits % 8 != 0 {
      reason = reason ?? "its rows do not end with a byte"
    }
    if let reason { return keep(id, found, reason, in: graph) }
    add(id, .table, found, depthAxis: 1, activation: nil, in: graph)
  }

  private func refusal(_ id: NodeID, _ found: Found, in graph: borrowing GraphEditor) -> String? {
    let names = names(id, found, in: graph)
    if !include.isEmpty, !include.fit(names) { return "it is not among those to include" }
    if exclude.fit(names) { return "it is excluded" }
    if found.tensor.dataType != .float32 { return "its elements are \(found.tensor.dataType); expected float32" }
    if found.tensor.count < options.minimumElements || found.tensor.count == 0 {
      return "it has \(found.tensor.count) elements, fewer than \(max(options.minimumElements, 1))"
    }
    if graph.isOutput(found.value) { return "it is an output of the model" }
    return nil
  }

  private func names(_ id: NodeID, _ found: Found, in graph: borrowing GraphEditor) -> [String] {
    [graph[id].name, graph.op(of: id).description, graph.name(of: found.value)]
  }

  private mutating func keep(_ id: NodeID, _ found: Found, _ reason: String, in graph: borrowing GraphEditor) {
    kept.append(
      .init(
        weight: graph.name(of: found.value), node: graph[id].name, operator: graph.op(of: id).description,
        shape: Array(found.tensor.shape), bytes: found.tensor.byteCount, reason: reason))
  }

  private mutating func add(
    _ id: NodeID, _ role: WeightSite.Role, _ found: Found, depthAxis: Int, activation: ValueID?,
    in graph: borrowing GraphEditor
  ) {
    sites.append(
      WeightSite(
        node: id, nodeName: graph[id].name, op: graph.op(of: id), role: role,
        key: WeightKey(found.tensor, depthAxis: depthAxis), tensor: found.tensor,
        name: graph.name(of: found.value), activation: activation, holder: found.holder))
  }
}
