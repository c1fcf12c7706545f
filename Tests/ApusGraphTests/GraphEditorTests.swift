// Editing a graph: producers, users, order and facts are current after every change, and patches are applied whole or
// not at all.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct GraphEditorTests {
  private static let inference = InferenceDriver(registry: .standard)

  /// x → Relu → Neg → Abs → output.
  private func chain() throws -> Graph {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    var y = x
    for op in ["Relu", "Neg", "Abs"] { y = try builder.node(op, [y]) }
    builder.output(y)
    return builder.graph
  }

  private func ops(_ graph: Graph) -> [String] { graph.nodes.map(\.op.name) }

  @Test func untouched() throws {
    let editor = GraphEditor(try chain(), inference: Self.inference)
    try editor.verify()
    let graph = editor.finish()
    #expect(ops(graph) == ["Relu", "Neg", "Abs"])
  }

  @Test func insertAndRemove() throws {
    var editor = GraphEditor(try chain(), inference: Self.inference)
    let nodes = editor.nodes
    let middle = editor[nodes[1]].outputs[0]!
    // Between the second and the third.
    let made = try editor.apply(OperatorID("Exp"), name: "new", [middle], before: nodes[2])
    let fact = editor.fact(made).description
    #expect(fact == "float32[n, 4]")
    editor.update(nodes[2]) { $0.inputs = [made] }
    let users = editor.users(of: middle).map { editor[$0].op.name }
    #expect(users == ["Exp"])
    let producer = editor.producer(of: made)!
    let isBetween = editor.isBefore(producer, nodes[2]) && editor.isBefore(nodes[1], producer)
    #expect(isBetween)
    // The first goes.
    let input = editor.inputs[0]
    editor.replaceUses(of: editor[nodes[0]].outputs[0]!, with: input)
    editor.remove(nodes[0])
    let exist = nodes.map { editor.exists($0) }
    #expect(exist == [false, true, true])
    try editor.settle()
    try editor.verify()
    let graph = editor.finish()
    #expect(ops(graph) == ["Neg", "Exp", "Abs"])
  }

  /// However many nodes come between two others, their order can be told.
  @Test func ranks() throws {
    var editor = GraphEditor(try chain(), inference: Self.inference)
    let (first, last) = (editor.nodes[0], editor.nodes[1])
    let value = editor[first].outputs[0]!
    var earlier: [NodeID] = []
    for index in 0..<200 {
      // Now before the last, now before what came last.
      let place = index % 3 == 0 ? last : earlier.last ?? last
      _ = try editor.apply(OperatorID("Exp"), name: "", [value], before: place)
      earlier.append(editor.node(before: place)!)
    }
    let order = editor.nodes
    #expect(order.count == 203)
    let isSorted = zip(order, order.dropFirst()).allSatisfy { editor.isBefore($0, $1) }
    #expect(isSorted)
    try editor.verify()
  }

  @Test func outputsFollow() throws {
    var editor = GraphEditor(try chain(), inference: Self.inference)
    let nodes = editor.nodes
    let (middle, end) = (editor[nodes[1]].outputs[0]!, editor[nodes[2]].outputs[0]!)
    editor.replaceUses(of: end, with: middle)
    let (isOutput, isUnused) = ([end, middle].map { editor.isOutput($0) }, editor.isUnused(end))
    #expect(isOutput == [false, true] && isUnused)
    editor.remove(nodes[2])
    try editor.verify()
    let graph = editor.finish()
    #expect(graph.outputs == [middle])
  }

  /// What becomes known of a value reaches those behind it.
  @Test func factsFollow() throws {
    let builder = GraphBuilder()
    let (x, shape) = (builder.input("x", [2, 6]), builder.input("shape", [2], .int64))
    builder.output(try builder.node("Neg", [builder.node("Relu", [builder.node("Reshape", [x, shape])])]))
    var editor = GraphEditor(builder.graph, inference: Self.inference)
    let target = editor.addConstant(Tensor([3, 4]))
    editor.update(editor.nodes[0]) { $0.inputs = [x, target] }
    try editor.settle()
    let graph = editor.finish()
    #expect(graph.fact(graph.outputs[0]).description == "float32[3, 4]")
  }

  @Test func subgraphsUseValuesToo() throws {
    let branch = GraphBuilder()
    let inner = branch.input("inner", [2])
    branch.output(try branch.node("Neg", [inner]))
    var body = branch.graph
    (body.captures, body.inputs) = (body.inputs, [])
    let builder = GraphBuilder()
    let (x, condition) = (builder.input("x", [2]), builder.input("c", [], .bool))
    let y = try builder.node("Relu", [x])
    let subgraph = AttributeValue.graph(Subgraph(graph: body, captured: [y]))
    builder.output(try builder.node("If", [condition], [("then_branch", subgraph), ("else_branch", subgraph)]))
    var editor = GraphEditor(builder.graph, inference: Self.inference)
    let before = editor.useCount(of: y)
    editor.replaceUses(of: y, with: x)
    editor.remove(editor.nodes[0])
    let after = (editor.useCount(of: x), editor.isUnused(y))
    #expect(before == 2 && after == (2, true))
    try editor.settle()
    try editor.verify()
    var captured: [[ValueID]] = []
    let made = try editor.updateSubgraphs(of: editor.nodes[0]) { (subgraph) throws(OperatorError) in
      captured.append(subgraph.captured)
      return 1
    }
    #expect(made == 2 && captured == [[x], [x]])
  }
}

@Suite struct GraphPatchTests {
  /// x → Relu → Neg → Abs, of which Relu has another user and the last two are outputs.
  private func graph() throws -> (Graph, [ValueID]) {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let relu = try builder.node("Relu", [x])
    let exp = try builder.node("Exp", [relu])
    let neg = try builder.node("Neg", [relu])
    let abs = try builder.node("Abs", [neg])
    builder.output(exp, abs)
    return (builder.graph, [x, relu, exp, neg, abs])
  }

  private func node(_ op: String, _ inputs: [ValueID?], _ outputs: [ValueID?]) -> Node {
    Node(OperatorID(op), inputs: inputs, outputs: outputs)
  }

  @Test func applied() throws {
    let (graph, values) = try graph()
    var editor = GraphEditor(graph, inference: InferenceDriver(registry: .standard))
    let nodes = editor.nodes
    let patch = GraphPatch(
      removed: [nodes[2], nodes[3]], added: [node("Mul", [values[1], GraphPatch.constant(0)], [values[4]])],
      constants: [Tensor(scalar: Float(2))])
    try editor.apply(patch, at: nodes[3])
    try editor.settle()
    try editor.verify()
    let result = editor.finish()
    #expect(result.nodes.map(\.op.name) == ["Relu", "Exp", "Mul"])
  }

  private func refusal(_ patch: GraphPatch, at root: NodeID, _ editor: inout GraphEditor) throws -> PatchRefusal? {
    let before = editor.nodes
    do throws(PatchRefusal) {
      try editor.apply(patch, at: root)
      return nil
    } catch {
      let after = editor.nodes
      #expect(after == before, "what is refused changes nothing")
      try editor.verify()
      return error
    }
  }

  @Test func refused() throws {
    let (graph, values) = try graph()
    var editor = GraphEditor(graph, inference: InferenceDriver(registry: .standard))
    let nodes = editor.nodes
    let (x, relu, exp, neg, abs) = (values[0], values[1], values[2], values[3], values[4])
    // Exp needs what Relu computed.
    var found: PatchRefusal?
    var patch = GraphPatch(removed: [nodes[0], nodes[2], nodes[3]], added: [node("Abs", [x], [abs])])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .valueIsUsed("value \(relu.index)"))
    // An output vanishes.
    patch = GraphPatch(removed: [nodes[3]], added: [])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .valueIsUsed("value \(abs.index)"))
    // A value comes into being behind one that needs it.
    patch = GraphPatch(
      removed: [nodes[0], nodes[2]], added: [node("Relu", [x], [relu]), node("Neg", [relu], [neg])])
    found = try refusal(patch, at: nodes[2], &editor)
    #expect(found == .valueIsUsed("value \(relu.index)"))
    // What is read vanishes, or does not exist yet.
    patch = GraphPatch(removed: [nodes[2], nodes[3]], added: [node("Abs", [neg], [abs])])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .valueIsAbsent("value \(neg.index)"))
    patch = GraphPatch(removed: [nodes[1]], added: [node("Neg", [neg], [exp])])
    found = try refusal(patch, at: nodes[1], &editor)
    #expect(found == .valueIsAbsent("value \(neg.index)"))
    // A value of somebody else, or one twice.
    patch = GraphPatch(removed: [nodes[3]], added: [node("Abs", [neg], [abs]), node("Exp", [relu], [exp])])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .valueIsNotTheirs("value \(exp.index)"))
    patch = GraphPatch(removed: [nodes[3]], added: [node("Abs", [neg], [abs]), node("Abs", [neg], [abs])])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .valueIsNotTheirs("value \(abs.index)"))
    // Another shape, another type.
    patch = GraphPatch(removed: [nodes[3]], added: [node("ReduceMax", [neg], [abs])])
    guard case .factDiffers? = try refusal(patch, at: nodes[3], &editor) else { throw PatchRefusal.nodeIsGone }
    patch = GraphPatch(removed: [nodes[3]], added: [node("IsNaN", [neg], [abs])])
    guard case .factDiffers? = try refusal(patch, at: nodes[3], &editor) else { throw PatchRefusal.nodeIsGone }
    // No such node.
    patch = GraphPatch(removed: [nodes[3]], added: [node("MatMul", [neg], [abs])])
    guard case .invalidNode? = try refusal(patch, at: nodes[3], &editor) else { throw PatchRefusal.nodeIsGone }
    // Nodes behind the place, and nodes that are gone.
    patch = GraphPatch(removed: [nodes[2], nodes[3]], added: [node("Neg", [relu], [neg])])
    found = try refusal(patch, at: nodes[2], &editor)
    #expect(found == .nodeIsGone)
    try editor.apply(
      GraphPatch(removed: [nodes[2], nodes[3]], added: [node("Abs", [relu], [abs])]), at: nodes[3])
    patch = GraphPatch(removed: [nodes[2], nodes[3]], added: [node("Abs", [relu], [abs])])
    found = try refusal(patch, at: nodes[3], &editor)
    #expect(found == .nodeIsGone)
  }
}
