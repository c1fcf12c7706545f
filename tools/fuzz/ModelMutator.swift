// Ways to change a model as what it is, a graph of operators: attributes, edges, types, constants, graphs in graphs.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// Changes a model and the values for its inputs, and notes what it did. The result is well-formed protobuf and mostly
/// gets past the reader, so that inference, passes and kernels meet what they do not expect.
struct ModelMutator {
  var random: SplitMix64
  private(set) var notes: [String] = []

  init(_ random: SplitMix64) { self.random = random }

  static let words = [
    "", "a", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "linear", "nearest", "cubic", "none", "mul", "add", "max",
    "min", "reflect", "edge", "wrap", "constant", "bidirectional", "reverse", "forward", "(a+)+$", "[", "a{1000000}",
    "ij,jk->ik", "...ij,...jk", "iiiiiiiii->i", "->", "i,i,i,i,i->", "TREE", "BRANCH_LEQ", "SOFTMAX", "PROBIT", "SUM",
    "RBF",
    "TFIDF", "tanh", "Relu", "Affine", "align_corners", "half_pixel", "tf_crop_and_resize", "asymmetric", "DCR", "avg",
    "RGB",
  ]

  mutating func mutate(_ model: inout ModelProto, _ inputs: inout [String: Value]) {
    guard var graph = model.graph else { return }
    let focus = random.below(20)
    if focus < 12 { loosen(&graph) }
    if focus < 7 || random.isOnce(in: 5) {
      for _ in 0...random.below(3) {
        guard let name = random.pick(inputs.keys.sorted()), let value = inputs[name] else { break }
        inputs[name] = ValueMutator.mutated(value, &random)
        notes.append("value of \(name)")
      }
    }
    if random.isOnce(in: 3) { makeConstants(&graph, &inputs) }
    if focus >= 7 || random.isOnce(in: 3) {
      for _ in 0..<[1, 1, 1, 2, 3][random.below(5)] { breakGraph(&graph, in: &model) }
    }
    if random.isOnce(in: 10) { wrap(&graph) }
    model.graph = graph
  }

  /// Gives one input, or two, another shape; whether inputs are constants and what the file declares is left to chance.
  mutating func reshape(_ model: inout ModelProto, _ inputs: inout [String: Value]) {
    guard var graph = model.graph else { return }
    loosen(&graph)
    for _ in 0...random.below(2) {
      guard let name = random.pick(inputs.keys.sorted()), let tensor = inputs[name]?.tensor else { break }
      inputs[name] = .tensor(ValueMutator.reshaped(tensor, &random))
      notes.append("shape of \(name)")
    }
    if random.isOnce(in: 3) { makeConstants(&graph, &inputs) }
    model.graph = graph
  }

  /// One change in the graph, or in a graph inside of it.
  private mutating func breakGraph(_ graph: inout GraphProto, in model: inout ModelProto) {
    let inner = graph.nodes.indices.flatMap { node in
      graph.nodes[node].attributes.indices.compactMap { attribute -> (Int, Int)? in
        if case .graph = graph.nodes[node].attributes[attribute].content { (node, attribute) } else { nil }
      }
    }
    if random.below(3) > 0, let (node, attribute) = random.pick(inner),
      case .graph(var body) = graph.nodes[node].attributes[attribute].content
    {
      breakGraph(&body, in: &model)
      graph.nodes[node].attributes[attribute].content = .graph(body)
      return
    }
    let node = random.below(graph.nodes.count)
    switch random.below(20) {
    case 0..<10 where !graph.nodes.isEmpty: changeAttribute(of: &graph.nodes[node])
    case 10..<13 where !graph.nodes.isEmpty: changeNode(&graph.nodes[node], in: &model)
    case 13..<16: changeStructure(of: &graph)
    case 16..<19 where !graph.initializers.isEmpty:
      changeTensor(&graph.initializers[random.below(graph.initializers.count)])
    default: addFunction(for: &graph, in: &model)
    }
  }

  // MARK: - Whole models

  /// Takes the declared extents away, so that changed inputs reach the kernels.
  private mutating func loosen(_ graph: inout GraphProto) {
    let keepsRank = random.below(5) < 3
    func loosened(_ type: TypeProto?) -> TypeProto? {
      switch type {
      case .tensor(let elementType, let shape)?:
        .tensor(elementType: elementType, shape: keepsRank ? shape?.map { _ in .unknown } : nil)
      case .sequence(let element)?: .sequence(loosened(element))
      case .optional(let element)?: .optional(loosened(element))
      default: type
      }
    }
    for index in graph.inputs.indices { graph.inputs[index].type = loosened(graph.inputs[index].type) }
    for index in graph.outputs.indices { graph.outputs[index].type = loosened(graph.outputs[index].type) }
    graph.valueInfo = []
    notes.append(keepsRank ? "open extents" : "open ranks")
  }

  /// Makes initializers of some inputs: loading looks at their elements, and passes compute with them.
  private mutating func makeConstants(_ graph: inout GraphProto, _ inputs: inout [String: Value]) {
    for input in graph.inputs {
      guard let tensor = inputs[input.name]?.tensor, random.below(5) < 3 else { continue }
      graph.initializers.append(TensorProto(name: input.name, tensor))
      graph.inputs.removeAll { $0.name == input.name }
      inputs[input.name] = nil
      notes.append("\(input.name) is a constant")
    }
  }

  /// Puts the nodes into the branches of an If or the body of a Loop.
  private mutating func wrap(_ graph: inout GraphProto) {
    guard !graph.outputs.isEmpty, !graph.nodes.isEmpty else { return }
    var body = GraphProto()
    body.name = "body"
    body.nodes = graph.nodes
    let outputs = graph.outputs
    var node = NodeProto()
    node.outputs = outputs.map { "outer_" + $0.name }
    graph.initializers.append(TensorProto(name: "condition__", Tensor(scalar: !random.isOnce(in: 4))))
    if random.isOnce(in: 2) {
      node.opType = "If"
      node.inputs = ["condition__"]
      body.outputs = outputs
      node.attributes = ["then_branch", "else_branch"].map { AttributeProto(name: $0, content: .graph(body)) }
    } else {
      node.opType = "Loop"
      node.inputs = ["trips__", "condition__"]
      graph.initializers.append(TensorProto(name: "trips__", Tensor(scalar: [0, 1, 2, 3, -1][random.below(5)])))
      var copy = NodeProto()
      (copy.opType, copy.inputs, copy.outputs) = ("Identity", ["c__"], ["c2__"])
      body.nodes.append(copy)
      let scalar: (DataType) -> TypeProto = { .tensor(elementType: $0.rawValue, shape: []) }
      body.inputs = [
        ValueInfoProto(name: "i__", type: scalar(.int64)), ValueInfoProto(name: "c__", type: scalar(.bool)),
      ]
      body.outputs = [ValueInfoProto(name: "c2__", type: scalar(.bool))] + outputs
      node.attributes = [AttributeProto(name: "body", content: .graph(body))]
    }
    graph.nodes = [node]
    graph.outputs = node.outputs.map { ValueInfoProto(name: $0, type: nil) }
    notes.append("inside of \(node.opType)")
  }

  /// A function of the model in the place of a node: one that hides the operator, calls itself, or holds the node.
  private mutating func addFunction(for graph: inout GraphProto, in model: inout ModelProto) {
    guard !graph.nodes.isEmpty else { return }
    let index = random.below(graph.nodes.count)
    let node = graph.nodes[index]
    var function = FunctionProto()
    function.inputs = node.inputs.indices.map { "i\($0)" }
    function.outputs = node.outputs.indices.map { "o\($0)" }
    function.opsetImport = model.opsetImport
    var inner = node
    (inner.inputs, inner.outputs) = (function.inputs, function.outputs)
    let kind = random.below(3)
    if kind == 0 {
      (function.domain, function.name) = (node.domain, node.opType)
      inner.opType = "Identity"
      inner.attributes = []
    } else {
      (function.domain, function.name) = ("local", "F")
      if kind == 1 { (inner.domain, inner.opType) = ("local", "F") }
      let local = OperatorSetID(domain: "local", version: 1)
      function.opsetImport.append(local)
      model.opsetImport.append(local)
      (graph.nodes[index].domain, graph.nodes[index].opType, graph.nodes[index].attributes) = ("local", "F", [])
    }
    function.nodes = [inner]
    model.functions.append(function)
    notes.append("function \(["that hides", "that calls itself", "around"][kind]) \(node.opType)")
  }

  // MARK: - Nodes

  private mutating func changeAttribute(of node: inout NodeProto) {
    if node.attributes.isEmpty || random.isOnce(in: 4) { return addAttribute(to: &node) }
    let index = random.below(node.attributes.count)
    notes.append("\(node.opType).\(node.attributes[index].name)")
    if random.isOnce(in: 10) {
      node.attributes.remove(at: index)
      return
    }
    switch node.attributes[index].content {
    case .int(let value): node.attributes[index].content = .int(random.integer(near: value))
    case .float: node.attributes[index].content = .float(Extremes.floats[random.below(Extremes.floats.count)])
    case .string: node.attributes[index].content = .string(word())
    case .ints(var values):
      change(&values) { $0.integer(near: $1 ?? 0) }
      node.attributes[index].content = .ints(values)
    case .floats(var values):
      change(&values) { random, _ in Extremes.floats[random.below(Extremes.floats.count)] }
      node.attributes[index].content = .floats(values)
    case .strings(var values):
      change(&values) { random, _ in Array(Self.words[random.below(Self.words.count)].utf8) }
      node.attributes[index].content = .strings(values)
    case .tensor(var tensor):
      changeTensor(&tensor)
      node.attributes[index].content = .tensor(tensor)
    default: node.attributes[index].content = .int(random.integer(near: 1))
    }
  }

  private mutating func change<Element>(_ values: inout [Element], _ draw: (inout SplitMix64, Element?) -> Element) {
    let index = random.below(values.count)
    switch random.below(8) {
    case 0 where !values.isEmpty: values.remove(at: index)
    case 1: values.insert(draw(&random, nil), at: random.below(values.count + 1))
    case 2: values = []
    case 3 where !values.isEmpty: values = [Element](repeating: draw(&random, values[0]), count: values.count)
    default:
      if values.isEmpty { values = [draw(&random, nil)] } else { values[index] = draw(&random, values[index]) }
    }
  }

  private mutating func word() -> [UInt8] { Array(Self.words[random.below(Self.words.count)].utf8) }

  /// An attribute that the operator knows and the node has not.
  private mutating func addAttribute(to node: inout NodeProto) {
    let id = OperatorID(node.opType, domain: node.domain)
    let absent = OperatorRegistry.standard.definition(of: id)?.schema.attributes.filter { schema in
      !node.attributes.contains { $0.name == schema.name }
    }
    guard let schema = random.pick(absent ?? []) else { return }
    let content: AttributeProto.Content
    switch schema.kind {
    case .int: content = .int(random.integer(near: 1))
    case .float: content = .float(Extremes.floats[random.below(Extremes.floats.count)])
    case .string: content = .string(word())
    case .ints: content = .ints((0..<random.below(5)).map { _ in random.integer(near: 1) })
    case .floats:
      content = .floats((0..<random.below(5)).map { _ in Extremes.floats[random.below(Extremes.floats.count)] })
    case .strings: content = .strings((0..<random.below(3)).map { _ in word() })
    default: return
    }
    node.attributes.append(AttributeProto(name: schema.name, content: content))
    notes.append("+\(node.opType).\(schema.name)")
  }

  private mutating func changeNode(_ node: inout NodeProto, in model: inout ModelProto) {
    let input = random.below(node.inputs.count)
    let output = random.below(node.outputs.count)
    let kind = random.below(13)
    notes.append("node \(node.opType) \(kind)")
    switch kind {
    case 0 where !node.inputs.isEmpty: node.inputs.remove(at: input)
    case 1 where !node.inputs.isEmpty, 2 where !node.inputs.isEmpty: node.inputs[input] = ""
    case 3 where node.inputs.count > 1: node.inputs.swapAt(input, random.below(node.inputs.count))
    case 4 where !node.inputs.isEmpty: node.inputs.append(node.inputs[input])
    case 5 where !node.inputs.isEmpty: node.inputs[random.below(node.inputs.count)] = node.inputs[input]
    case 6 where !node.inputs.isEmpty: node.inputs[input] = "nowhere"
    case 7 where !node.outputs.isEmpty: node.outputs.remove(at: output)
    case 8: node.outputs.append(["more", "", "more2"][random.below(3)])
    case 9 where !node.outputs.isEmpty: node.outputs[output] = ""
    case 10:
      let schemas = OperatorRegistry.standard.all.map(\.schema)
      let schema = schemas[random.below(schemas.count)]
      (node.opType, node.domain) = (schema.id.name, schema.id.domain)
      if !model.opsetImport.contains(where: { $0.domain == schema.id.domain }) {
        model.opsetImport.append(OperatorSetID(domain: schema.id.domain, version: schema.versions[0]))
      }
    case 11 where !model.opsetImport.isEmpty:
      let version = [random.below(30), -1, 1 << 31][random.below(3)]
      model.opsetImport[random.below(model.opsetImport.count)].version = version
    default: node.domain = ["", "ai.onnx.ml", "com.microsoft", "nowhere"][random.below(4)]
    }
  }

  // MARK: - Constants and structure

  /// The dims, the type or the elements of a constant; dims and elements may contradict each other then.
  private mutating func changeTensor(_ proto: inout TensorProto) {
    notes.append("constant \(proto.name)")
    switch random.below(8) {
    case 0, 1: change(&proto.dims) { $0.integer(near: $1 ?? 1) }
    case 2: proto.dataType = Int32(random.below(30))
    case 3: proto = TensorProto(name: proto.name, Tensor(zeros: .float32, shape: [0]))
    default:
      guard case .tensor(let tensor) = proto.content else { return }
      proto = TensorProto(
        name: proto.name, ValueMutator.mutated(tensor, keepingShape: random.isOnce(in: 2), &random))
    }
  }

  private mutating func changeStructure(of graph: inout GraphProto) {
    let kind = random.below(12)
    notes.append("structure \(kind)")
    let names = graph.inputs.map(\.name) + graph.nodes.flatMap(\.outputs) + graph.initializers.map(\.name)
    let name = random.pick(names + ["nowhere", ""]) ?? ""
    let output = random.below(graph.outputs.count)
    let node = random.below(graph.nodes.count)
    switch kind {
    case 0 where !graph.outputs.isEmpty: graph.outputs.remove(at: output)
    case 1: graph.outputs.append(ValueInfoProto(name: name, type: nil))
    case 2 where !graph.outputs.isEmpty: graph.outputs[output].name = name
    case 3 where !graph.inputs.isEmpty: graph.inputs.remove(at: random.below(graph.inputs.count))
    case 4 where !graph.nodes.isEmpty: graph.nodes.remove(at: node)
    case 5 where !graph.nodes.isEmpty: graph.nodes.append(graph.nodes[node])
    case 6: graph.nodes.reverse()
    case 7 where !graph.nodes.isEmpty: graph.nodes[node].inputs.append(graph.nodes[node].outputs.first ?? "")
    case 8 where !graph.initializers.isEmpty: graph.initializers.append(graph.initializers[0])
    case 9: graph.initializers.append(TensorProto(name: name, Tensor([[0, 1, -1, 5][random.below(4)]])))
    default:
      let type = TypeProto.tensor(
        elementType: Int32(random.below(29)),
        shape: random.isOnce(in: 3) ? nil : (0..<random.below(4)).map { _ in dimension() })
      if graph.inputs.isEmpty || random.isOnce(in: 2), !graph.outputs.isEmpty {
        graph.outputs[output].type = type
      } else if !graph.inputs.isEmpty {
        graph.inputs[random.below(graph.inputs.count)].type = type
      }
    }
  }

  private mutating func dimension() -> TypeProto.Dimension {
    switch random.below(3) {
    case 0: .value(random.integer(near: 2))
    case 1: .parameter(["N", "", "N+1", "-1", "2*N", "?"][random.below(6)])
    default: .unknown
    }
  }
}
