// Moves convolutions, and what lies between them, to the channels-last layout that the kernels work in.

import ApusGraph
import ApusTensor

/// Gives every value that a float32 convolution or pooling, or a convolution of bytes, touches a twin in channels-last
/// order, and lets whatever can read the twin do so. Transposes stand only where a value enters or leaves that part of
/// the graph.
struct ChannelsLast: GraphPass {
  let name = "channels-last"

  func run(_ graph: inout GraphEditor, within work: OptimizerWork) throws(OperatorError) -> Int {
    let nodes = graph.nodes
    let anchors = nodes.filter { LayoutRewriter.isAnchor(graph[$0], in: graph) }
    guard let first = anchors.first else { return 0 }
    if anchors.count == 1, LayoutRewriter.isFastAlone(graph[first], in: graph) { return 0 }
    var rewriter = LayoutRewriter(graph)
    for node in nodes { rewriter.take(node, work.budget) }
    let (changes, failure) = (rewriter.converted, rewriter.failure)
    graph = rewriter.finish()
    if let failure { throw failure }
    return changes
  }
}

/// Rewrites one graph, node by node in order.
private struct LayoutRewriter: ~Copyable {
  private var graph: GraphEditor
  /// The channels-last twin of a value.
  private var twins: [ValueID: ValueID] = [:]
  /// Values that exist as a twin only, until somebody needs them as they were.
  private var pending: Set<ValueID> = []
  /// Where new nodes go; nil: to the end.
  private var place: NodeID?
  private(set) var converted = 0
  /// The first node that could not be inferred.
  private(set) var failure: OperatorError?

  init(_ graph: consuming GraphEditor) { self.graph = graph }

  /// True for nodes that are faster in channels-last order by themselves.
  static func isAnchor(_ node: Node, in graph: borrowing GraphEditor) -> Bool {
    guard let schema = graph.schema(of: node.op),
      case .images(let twin, let isFaster, _, let condition) = schema.layout, graph.schema(of: twin) != nil,
      let input = node.inputs.first ?? nil, let rank = graph.fact(input).tensor?.shape?.count, rank >= 3
    else { return false }
    let facts = graph.facts(of: node, schema)
    return isFaster(facts) && condition(facts)
  }

  /// True for the only such node of a graph if it is as fast as it is, and nothing beside it changes the order of axes,
  /// as the model of another framework does.
  static func isFastAlone(_ node: Node, in graph: borrowing GraphEditor) -> Bool {
    guard let schema = graph.schema(of: node.op), case .images(_, _, let isFasterAlone, _) = schema.layout,
      !isFasterAlone(graph.facts(of: node, schema)), let input = node.inputs.first ?? nil,
      let output = node.outputs.first ?? nil
    else { return false }
    let neighbours = graph.users(of: output) + (graph.producer(of: input).map { [$0] } ?? [])
    return neighbours.allSatisfy { neighbour in
      let op = graph[neighbour].op
      if op == transpose { return false }
      guard let layout = graph.schema(of: op)?.layout, case .reshaping = layout else { return true }
      return false
    }
  }

  mutating func take(_ id: NodeID, _ budget: PatchBudget) {
    place = id
    let node = graph[id]
    if budget.mayPatch, convert(node) {
      graph.remove(id)
      budget.count()
      converted += 1
      return
    }
    for value in node.dependencies { restore(value) }
  }

  consuming func finish() -> GraphEditor {
    place = nil
    for value in graph.outputs { restore(value) }
    return graph
  }

  private mutating func add(_ node: Node) {
    do throws(OperatorError) {
      try graph.insert(node, before: place)
    } catch {
      failure = failure ?? error
    }
  }

  // MARK: - Twins

  /// Makes sure that a value exists in its own layout.
  private mutating func restore(_ value: ValueID) {
    guard pending.remove(value) != nil, let twin = twins[value], let rank = rank(value) else { return }
    let perm = [0, rank - 1] + Array(1..<(rank - 1))
    add(
      Node(
        LayoutRewriter.transpose, name: "\(graph.name(of: value))/channels-first", inputs: [twin], outputs: [value],
        attributes: Attributes([("perm", .ints(perm))])))
  }

  /// The twin of a value; made by a Transpose, or from a constant, if there is none.
  private mutating func twin(of value: ValueID) -> ValueID? {
    if let twin = twins[value] { return twin }
    guard let rank = rank(value), rank >= 3, let type = graph.fact(value).tensor?.dataType,
      LayoutRewriter.twinTypes.contains(type)
    else { return nil }
    let perm = [0] + Array(2..<rank) + [1]
    let twin = graph.addValue(fact: channelsLastFact(of: value))
    add(
      Node(
        LayoutRewriter.transpose, name: "\(graph.name(of: value))/channels-last", inputs: [value], outputs: [twin],
        attributes: Attributes([("perm", .ints(perm))])))
    twins[value] = twin
    return twin
  }

  private func rank(_ value: ValueID) -> Int? { graph.fact(value).tensor?.shape?.count }

  /// A new value that will be the twin of an output.
  private mutating func newTwin(of output: ValueID) -> ValueID {
    let twin = graph.addValue(fact: channelsLastFact(of: output))
    twins[output] = twin
    pending.insert(output)
    return twin
  }

  private func channelsLastFact(of value: ValueID) -> ValueFact {
    guard let fact = graph.fact(value).tensor, let shape = fact.shape, shape.count >= 2 else { return .unknown }
    return .tensor(fact.dataType, [shape[0]] + shape[2...] + [shape[1]])
  }

  // MARK: - Nodes

  private mutating func convert(_ node: Node) -> Bool {
    guard let schema = graph.schema(of: node.op), let output = node.outputs.first ?? nil,
      !node.outputs.dropFirst().contains(where: { $0 != nil }), let first = node.inputs.first, let input = first
    else { return false }
    // The changes of the order are Transposes, so those of the model can be joined with them.
    if node.op == LayoutRewriter.transpose { return composeTranspose(node, input: input, output: output) }
    if node.op == LayoutRewriter.shape { return readShape(node, input: input, output: output) }
    switch schema.layout {
    case .fixed, .axis, .axesInput: return false
    case .images(let twin, let isFaster, _, let condition):
      let facts = graph.facts(of: node, schema)
      guard graph.schema(of: twin) != nil, condition(facts), twins[input] != nil || isFaster(facts) else {
        return false
      }
      return convertImages(node, to: twin, input: input, output: output)
    case .elementwise(let condition):
      return twins[input] != nil && condition(graph.facts(of: node, schema))
        && convertElementwise(node, input: input, output: output)
    case .broadcasting: return convertBroadcast(node, output: output)
    case .along(let attribute):
      let axis = graph.facts(of: node, schema).optionalInt(attribute)
      return convertAlong(node, axis, attribute, output: output)
    case .axes(let attribute, let condition):
      return condition(graph.facts(of: node, schema)) && convertAxes(node, attribute, input: input, output: output)
    case .reducing: return convertReduce(node, input: input, output: output)
    case .reshaping: return readPixelless(node, input: input, output: output)
    case .orderless:
      guard pending.contains(input), let x = twins[input] else { return false }
      append(node, node.op, inputs: [x] + node.inputs.dropFirst(), output: output)
      return true
    }
  }

  private static let transpose = OperatorID("Transpose")
  private static let reshape = OperatorID("Reshape")
  private static let shape = OperatorID("Shape")

  private static let twinTypes: [DataType] = [.float32, .int8, .uint8]

  private func hasTwins(_ value: ValueID) -> Bool {
    graph.fact(value).tensor.map { LayoutRewriter.twinTypes.contains($0.dataType) } ?? false
  }

  private func isFloat32(_ value: ValueID) -> Bool { graph.fact(value).tensor?.dataType == .float32 }

  /// Appends a node that reads `inputs`: twins, and values that must exist as they were.
  private mutating func append(_ node: Node, _ op: OperatorID, inputs: [ValueID?], output: ValueID) {
    for value in inputs { if let value { restore(value) } }
    var copy = node
    copy.op = op
    copy.inputs = inputs
    copy.outputs = [output]
    add(copy)
  }

  /// Convolutions and poolings: the operators of the engine's own domain.
  private mutating func convertImages(_ node: Node, to op: OperatorID, input: ValueID, output: ValueID) -> Bool {
    guard let x = twin(of: input) else { return false }
    append(node, op, inputs: [x] + node.inputs.dropFirst(), output: newTwin(of: output))
    return true
  }

  private mutating func convertElementwise(_ node: Node, input: ValueID, output: ValueID) -> Bool {
    guard let x = twins[input] else { return false }
    append(node, node.op, inputs: [x] + node.inputs.dropFirst(), output: newTwin(of: output))
    return true
  }

  /// Element-wise with broadcasting: every operand as a twin, or so small that its layout does not matter.
  private mutating func convertBroadcast(_ node: Node, output: ValueID) -> Bool {
    let operands = node.inputs.compactMap { $0 }
    guard operands.contains(where: { twins[$0] != nil }), hasTwins(output), let rank = rank(output), rank >= 3 else {
      return false
    }
    var inputs: [ValueID?] = []
    for operand in operands where twins[operand] == nil {
      guard let shape = graph.fact(operand).tensor?.shape else { return false }
      let isScalar = shape.allSatisfy { $0.known == 1 } && shape.count <= rank
      if !isScalar, graph.constant(operand) == nil, shape.count != rank { return false }
    }
    for operand in operands {
      if let twin = twins[operand], self.rank(operand) == rank {
        inputs.append(twin)
      } else if let constant = graph.constant(operand) {
        guard constant.rank <= rank, constant.count == 1 || constant.dataType == .float32 else { return false }
        inputs.append(constant.count == 1 ? operand : channelsLastConstant(constant, rank: rank))
      } else if graph.fact(operand).tensor?.shape?.allSatisfy({ $0.known == 1 }) ?? false {
        inputs.append(operand)
      } else {
        guard self.rank(operand) == rank, let twin = twin(of: operand) else { return false }
        inputs.append(twin)
      }
    }
    append(node, node.op, inputs: inputs, output: newTwin(of: output))
    return true
  }

  /// A constant with its axes in channels-last order, after filling up its rank.
  private mutating func channelsLastConstant(_ tensor: Tensor, rank: Int) -> ValueID {
    let dims = [Int](repeating: 1, count: rank - tensor.rank) + tensor.shape.dims
    let source = tensor.elements(as: Float.self) ?? []
    let strides = Shape(dims).strides
    let perm = [0] + Array(2..<rank) + [1]
    let target = Shape(perm.map { dims[$0] })
    let targetStrides = target.strides
    let elements = (0..<target.elementCount).map { position -> Float in
      var rest = position
      var offset = 0
      for axis in 0..<rank {
        offset += rest / targetStrides[axis] * strides[perm[axis]]
        rest %= targetStrides[axis]
      }
      return source[offset]
    }
    return graph.addConstant(Tensor(elements, shape: target))
  }

  /// Along one axis: that of the twins instead.
  private mutating func convertAlong(_ node: Node, _ axis: Int?, _ attribute: String, output: ValueID) -> Bool {
    let operands = node.inputs.compactMap { $0 }
    guard isFloat32(output), let rank = rank(output), rank >= 3, let axis,
      operands.count(where: { twins[$0] != nil }) * 2 > operands.count
    else { return false }
    var inputs: [ValueID?] = []
    for operand in operands {
      guard let twin = twin(of: operand) else { return false }
      inputs.append(twin)
    }
    var copy = node
    let position = axis < 0 ? axis + rank : axis
    copy.attributes[attribute] = .int(channelsLastAxis(position, rank: rank))
    append(copy, node.op, inputs: inputs, output: newTwin(of: output))
    return true
  }

  /// Axis by axis: those of the twin instead.
  private mutating func convertAxes(_ node: Node, _ attribute: String, input: ValueID, output: ValueID) -> Bool {
    guard let x = twins[input], isFloat32(output), let rank = rank(input), self.rank(output) == rank else {
      return false
    }
    let axes = (node.attributes.ints(attribute) ?? Array(0..<rank)).map { $0 < 0 ? $0 + rank : $0 }
    guard axes.allSatisfy({ $0 >= 0 && $0 < rank }) else { return false }
    var copy = node
    copy.attributes[attribute] = .ints(axes.map { channelsLastAxis($0, rank: rank) })
    append(copy, node.op, inputs: [x] + node.inputs.dropFirst(), output: newTwin(of: output))
    return true
  }

  /// Where an axis of the original order lies in the twin.
  private func channelsLastAxis(_ axis: Int, rank: Int) -> Int { axis == 0 ? 0 : axis == 1 ? rank - 1 : axis - 1 }

  /// Reductions over constant axes. Without the reduced axes nothing of a layout is left if no more than one other axis
  /// follows the batch.
  private mutating func convertReduce(_ node: Node, input: ValueID, output: ValueID) -> Bool {
    guard let x = twins[input], let rank = rank(input), node.inputs.count >= 2,
      let axes = graph.constant(node.inputs[1])?.integers, !axes.isEmpty
    else { return false }
    let positions = axes.map { $0 < 0 ? $0 + rank : $0 }
    guard positions.allSatisfy({ $0 >= 0 && $0 < rank }) else { return false }
    let keeps = node.attributes.int("keepdims") ?? 1 != 0
    let remaining = (1..<rank).filter { !positions.contains($0) }
    if !keeps, remaining.count > 1 { return false }
    let mapped = graph.addConstant(Tensor(positions.map { channelsLastAxis($0, rank: rank) }.sorted()))
    append(node, node.op, inputs: [x, mapped] + node.inputs.dropFirst(2), output: keeps ? newTwin(of: output) : output)
    return true
  }

  /// A Transpose of a value that exists as a twin: one Transpose from the twin, or none at all.
  private mutating func composeTranspose(_ node: Node, input: ValueID, output: ValueID) -> Bool {
    guard pending.contains(input), let x = twins[input], let rank = rank(input),
      let perm = node.attributes.ints("perm") ?? Optional(Array((0..<rank).reversed())), perm.count == rank
    else { return false }
    var copy = node
    copy.attributes["perm"] = .ints(perm.map { channelsLastAxis($0, rank: rank) })
    append(copy, node.op, inputs: [x], output: output)
    return true
  }

  /// The shape of a value that exists as a twin: that of the twin in another order. The value need not exist for it.
  private mutating func readShape(_ node: Node, input: ValueID, output: ValueID) -> Bool {
    guard pending.contains(input), let x = twins[input], let rank = rank(input) else { return false }
    func bound(_ name: String, _ absent: Int) -> Int {
      let position = node.attributes.int(name) ?? absent
      return min(max(position < 0 ? position + rank : position, 0), rank)
    }
    let (start, end) = (bound("start", 0), bound("end", rank))
    let order = (start..<max(start, end)).map { channelsLastAxis($0, rank: rank) }
    let extents = graph.addValue(fact: .tensor(.int64, [Dim(rank)]))
    add(Node(LayoutRewriter.shape, name: "\(node.name)/channels-last", inputs: [x], outputs: [extents]))
    add(
      Node(
        OperatorID("Gather"), name: node.name, inputs: [extents, graph.addConstant(Tensor(order))], outputs: [output],
        attributes: Attributes([("axis", .int(0))])))
    return true
  }

  /// A change of shape of a value whose pixels are one: the order of its elements is the same in both layouts.
  private mutating func readPixelless(_ node: Node, input: ValueID, output: ValueID) -> Bool {
    guard pending.contains(input), let x = twins[input], let shape = graph.fact(input).tensor?.shape, shape.count >= 3,
      shape[2...].allSatisfy({ $0.known == 1 })
    else { return false }
    // A Reshape keeps the shape that it has: it may say more than is known of the output.
    if node.op == LayoutRewriter.reshape {
      // A 0 in the shape would copy an extent of the wrong axis.
      guard let target = graph.constant(node.inputs[1])?.integers, !target.dropFirst(2).contains(0) else {
        return false
      }
      if target.count > 1, target[1] == 0 { return false }
      append(node, node.op, inputs: [x] + node.inputs.dropFirst(), output: output)
    } else if let target = graph.fact(output).tensor?.shape,
      let dims = reshapeTarget(target)
    {
      let shape = graph.addConstant(Tensor(dims))
      add(Node(LayoutRewriter.reshape, name: node.name, inputs: [x, shape], outputs: [output]))
    } else {
      return false
    }
    return true
  }

  /// The shape as the input of a Reshape, with -1 for one symbolic extent; nil if there are more.
  private func reshapeTarget(_ shape: [Dim]) -> [Int]? {
    let dims = shape.map { $0.known ?? -1 }
    return dims.count { $0 == -1 } <= 1 && !dims.contains(0) ? dims : nil
  }
}
