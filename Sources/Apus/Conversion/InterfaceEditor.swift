// Nodes before and behind a graph: the inputs and outputs that callers see, and how those of the model come from them.

import ApusGraph
import ApusTensor

/// Puts nodes around a graph whose own nodes are appended between `prepend` and what comes behind.
struct InterfaceEditor {
  let builder: GraphBuilder

  init(_ builder: GraphBuilder) { self.builder = builder }

  /// The graph, with what is declared of its outputs.
  func finish() -> Graph {
    builder.graph.outputDeclarations = builder.graph.outputs.map { builder.fact($0) }
    builder.graph.inputDeclarations = builder.graph.inputs.map { builder.fact($0) }
    return builder.graph
  }

  // MARK: - Inputs

  /// A new input under the name of the one at `position`, which becomes a value that somebody must compute; returns
  /// both.
  private func replaceInput(at position: Int, fact: ValueFact) -> (outer: ValueID, inner: ValueID) {
    let inner = builder.graph.inputs[position]
    let name = builder.graph[inner].name
    builder.graph[inner].name = ""
    let outer = builder.addValue(name, fact: fact)
    builder.graph[outer].name = name
    builder.graph.inputs[position] = outer
    return (outer, inner)
  }

  private func append(
    _ op: String, _ name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [],
    as output: ValueID
  ) throws(OperatorError) {
    try builder.append(
      Node(OperatorID(op), name: name, inputs: inputs, outputs: [output], attributes: Attributes(attributes)))
  }

  /// Lets the nodes that `make` appends stand before all that are there.
  private func inFront(_ make: () throws(OperatorError) -> Void) throws(OperatorError) {
    let others = builder.takeNodes(from: 0)
    try make()
    for node in others { try builder.append(node) }
  }

  /// The axes of a value of `rank` in another order, in terms of where they stand now.
  private static func permutation(to layout: InterfaceChanges.Layout, rank: Int) -> [Int] {
    switch layout {
    case .channelsLast: [0] + Array(2..<rank) + [1]
    case .channelsFirst: [0, rank - 1] + Array(1..<(rank - 1))
    }
  }

  func layOutInput(at position: Int, _ layout: InterfaceChanges.Layout) throws(OperatorError) {
    let input = builder.graph.inputs[position]
    guard let fact = builder.fact(input).tensor, let shape = fact.shape else { return }
    let order = Self.permutation(to: layout, rank: shape.count)
    let name = builder.graph[input].name
    let (outer, inner) = replaceInput(at: position, fact: .tensor(fact.dataType, order.map { shape[$0] }))
    let back = Self.permutation(to: layout == .channelsLast ? .channelsFirst : .channelsLast, rank: shape.count)
    try inFront { () throws(OperatorError) in
      try append("Transpose", "\(name)/layout", [outer], [("perm", .ints(back))], as: inner)
    }
  }

  // MARK: - Pictures

  func prepend(_ changes: PictureChanges) throws(OperatorError) {
    if changes.isEmpty { return }
    var isDone = false
    for position in builder.graph.inputs.indices {
      let input = builder.graph.inputs[position]
      let name = builder.graph[input].name
      if !changes.inputs.isEmpty, !changes.inputs.contains(name) { continue }
      guard let fact = builder.fact(input).tensor, let shape = fact.shape, shape.count == 4,
        let layout = InterfaceChanges.layout(of: shape)
      else {
        if changes.inputs.isEmpty { continue }
        throw .unsupported("input '\(name)' is \(builder.fact(input)); a picture has 4 axes, one of 1, 3 or 4 channels")
      }
      try prepend(changes, at: position, fact, shape, layout)
      isDone = true
    }
    for name in changes.inputs where !builder.graph.inputs.contains(where: { builder.graph[$0].name == name }) {
      let names = builder.graph.inputs.map { "'\(builder.graph[$0].name)'" }.joined(separator: ", ")
      throw .unsupported("there is no input '\(name)'", remedy: "There are \(names)")
    }
    if !isDone {
      throw .unsupported("no input is a picture: 4 axes, one of 1, 3 or 4 channels", remedy: "Name it with --picture")
    }
  }

  /// From outside to inside: Cast, Resize, numbers.
  private func prepend(
    _ changes: PictureChanges, at position: Int, _ fact: TensorFact, _ shape: [Dim], _ layout: InterfaceChanges.Layout
  ) throws(OperatorError) {
    let type = fact.dataType
    let name = builder.graph[builder.graph.inputs[position]].name
    guard type.isFloat || !changes.changesNumbers else {
      throw .unsupported("input '\(name)' is \(fact); numbers of floating point were expected")
    }
    let spatial = layout == .channelsFirst ? [2, 3] : [1, 2]
    var outside = shape
    if changes.takesAnySize {
      for (axis, symbol) in zip(spatial, ["height", "width"]) { outside[axis] = .symbol(symbol) }
    }
    let (outer, inner) = replaceInput(at: position, fact: .tensor(changes.takesBytes ? .uint8 : type, outside))
    try inFront { () throws(OperatorError) in
      var value = outer
      if changes.takesBytes, type != .uint8 {
        value = try builder.apply(
          OperatorID("Cast"), name: "\(name)/Cast", [value], [("to", .int(Int(type.rawValue)))])
      }
      if changes.takesAnySize { value = try resized(value, name, shape, spatial, layout) }
      value = try normalized(value, name, changes, type, shape, layout)
      // What the last node computes is what the model reads.
      guard var last = builder.takeNodes(from: max(0, builder.graph.nodes.count - 1)).first else { return }
      last.outputs = [inner]
      try builder.append(last)
    }
  }

  private func resized(
    _ value: ValueID, _ name: String, _ shape: [Dim], _ spatial: [Int], _ layout: InterfaceChanges.Layout
  ) throws(OperatorError) -> ValueID {
    let sizes = spatial.compactMap { shape[$0].known }
    guard sizes.count == 2 else {
      throw .unsupported("input '\(name)' takes pictures of any size already: \(shape)")
    }
    let target = builder.addConstant(Tensor(sizes.map { Int64($0) }))
    return try builder.apply(
      OperatorID("Resize"), name: "\(name)/Resize", [value, nil, nil, target],
      [
        ("axes", .ints(spatial)), ("mode", .string("linear")),
        ("coordinate_transformation_mode", .string("half_pixel")),
        ("antialias", .int(1)), ("exclude_outside", .int(1)),
      ])
  }

  private func normalized(
    _ value: ValueID, _ name: String, _ changes: PictureChanges, _ type: DataType, _ shape: [Dim],
    _ layout: InterfaceChanges.Layout
  ) throws(OperatorError) -> ValueID {
    guard type.isFloat else { return value }
    let channelAxis = layout == .channelsFirst ? 1 : 3
    let channels = shape[channelAxis].known ?? 1
    func numbers(_ given: [Double], _ option: String, usual: Double) throws(OperatorError) -> [Double] {
      if given.isEmpty { return [Double](repeating: usual, count: channels) }
      if given.count == 1 { return [Double](repeating: given[0], count: channels) }
      guard given.count == channels else {
        throw .unsupported("\(option) has \(given.count) numbers; input '\(name)' has \(channels) channels")
      }
      return given
    }
    let scale = changes.scale ?? (changes.takesBytes ? 1.0 / 255 : 1)
    let mean = try numbers(changes.mean, "the mean", usual: 0)
    let deviation = try numbers(changes.deviation, "the deviation", usual: 1)
    guard deviation.allSatisfy({ $0 != 0 }) else { throw .unsupported("a deviation is 0") }
    func constant(_ numbers: [Double]) throws(OperatorError) -> ValueID {
      var extents = [1, 1, 1, 1]
      extents[channelAxis] = channels
      let tensor = Tensor(numbers.map { Float($0) }).reshaped(to: Shape(extents))
      let value = builder.addConstant(tensor)
      if type == .float32 { return value }
      return try builder.apply(OperatorID("Cast"), name: "", [value], [("to", .int(Int(type.rawValue)))])
    }
    let factors = deviation.map { scale / $0 }
    let offsets = zip(mean, deviation).map { -$0 / $1 }
    var value = value
    if factors.contains(where: { $0 != 1 }) {
      value = try builder.apply(OperatorID("Mul"), name: "\(name)/Mul", [value, constant(factors)])
    }
    if offsets.contains(where: { $0 != 0 }) {
      value = try builder.apply(OperatorID("Add"), name: "\(name)/Add", [value, constant(offsets)])
    }
    return value
  }

  // MARK: - Sizes

  /// The node, where it is a Reshape that kept the extent of the first axis, which was a number in the graph `before`
  /// and is open now, with an extent that follows it.
  func followingBatch(_ node: Node, _ before: Graph) -> Node {
    guard node.op == OperatorID("Reshape"), node.attributes.int("allowzero") ?? 0 == 0, node.inputs.count == 2,
      let data = node.inputs[0], let shape = builder.shape(data), let first = shape.first, first.known == nil,
      let target = node.inputs[1], let tensor = builder.constant(target), var sizes = tensor.integers, sizes.count > 0,
      sizes[0] > 0, before.fact(data).tensor?.shape?.first?.known == sizes[0]
    else { return node }
    sizes[0] = 0
    var changed = node
    changed.inputs[1] = builder.addConstant(Tensor(sizes.map { Int64($0) }))
    return changed
  }

  // MARK: - Outputs

  /// A new value under the name of the output at `position`, in whose place it stands; returns both.
  private func replaceOutput(at position: Int) -> (inner: ValueID, outer: ValueID) {
    let inner = builder.graph.outputs[position]
    let name = builder.graph[inner].name
    if !builder.graph.inputs.contains(inner) { builder.graph[inner].name = "" }
    let outer = builder.addValue()
    builder.graph[outer].name = name
    builder.graph.outputs[position] = outer
    return (inner, outer)
  }

  func layOutOutput(at position: Int, _ layout: InterfaceChanges.Layout) throws(OperatorError) {
    let name = builder.graph[builder.graph.outputs[position]].name
    guard let rank = builder.shape(builder.graph.outputs[position])?.count else { return }
    let (inner, outer) = replaceOutput(at: position)
    try append(
      "Transpose", "\(name)/layout", [inner], [("perm", .ints(Self.permutation(to: layout, rank: rank)))], as: outer)
  }

  func append(_ changes: ScoreChanges) throws(OperatorError) {
    if changes.isEmpty { return }
    let names = builder.graph.outputs.map { builder.graph[$0].name }
    guard let position = changes.output.map({ names.firstIndex(of: $0) }) ?? (names.isEmpty ? nil : 0) else {
      let known = names.map { "'\($0)'" }.joined(separator: ", ")
      throw .unsupported("there is no output '\(changes.output ?? "")' with scores", remedy: "There are \(known)")
    }
    let output = builder.graph.outputs[position]
    guard let fact = builder.fact(output).tensor, fact.dataType.isFloat, fact.shape.map({ $0.count > 0 }) ?? true
    else { throw .unsupported("output '\(names[position])' is \(builder.fact(output)); scores were expected") }
    if changes.softmax {
      let (inner, outer) = replaceOutput(at: position)
      try append("Softmax", "\(names[position])/Softmax", [inner], [("axis", .int(-1))], as: outer)
    }
    guard let top = changes.top else { return }
    if let count = fact.shape?.last?.known, top > count {
      throw .unsupported("output '\(names[position])' has \(count) scores; the \(top) largest were asked for")
    }
    let (inner, outer) = replaceOutput(at: position)
    let indices = builder.addValue("\(names[position])_indices")
    builder.graph.outputs.insert(indices, at: position + 1)
    try builder.append(
      Node(
        OperatorID("TopK"), name: "\(names[position])/TopK",
        inputs: [inner, builder.addConstant(Tensor([Int64(top)]))], outputs: [outer, indices],
        attributes: Attributes([("axis", .int(-1))])))
  }
}
