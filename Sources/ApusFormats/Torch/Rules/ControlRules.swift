// Operators of PyTorch that have graphs as arguments: torch.cond, while_loop, and the wrappers that only set modes.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let controlTable: [String: TorchRule] = [
    "higher_order.wrap_with_set_grad_enabled": wrapped, "higher_order.wrap_with_autocast": wrappedAutocast,
    "higher_order.wrap": wrapped, "higher_order.tag_activation_checkpoint": wrapped,
    "higher_order.wrap_activation_checkpoint": wrapped, "higher_order.invoke_subgraph": wrapped,
    "higher_order.cond": condition, "higher_order.while_loop": whileLoop,
  ]

  /// The graph in the place of the call, with the arguments behind it.
  private static func wrapped(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let arguments = call.node.inputs.map(\.value)
    guard
      let place = arguments.firstIndex(where: { if case .graph = $0 { true } else { false } }),
      case .graph(let graph) = arguments[place]
    else { throw .invalid("a graph was expected") }
    let operands = Array(arguments[(place + 1)...]).filter { argument in
      switch argument {
      case .tensor, .size, .symbol, .float, .bool: true
      default: false
      }
    }
    return try call.lowering.inline(graph, operands)
  }

  private static func wrappedAutocast(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    // device, type, enabled, cache, graph, …
    if case .bool(true)? = call.argument(at: 2) {
      throw .unsupported(
        "torch.autocast, which picks types operator by operator",
        remedy: "Export the model without autocast, or with run_decompositions()")
    }
    return try wrapped(call)
  }

  private static func graph(_ index: Int, _ call: TorchCall) throws(OperatorError) -> TorchGraph {
    guard case .graph(let graph)? = call.argument(at: index) else { throw .invalid("a graph was expected") }
    return graph
  }

  private static func operands(_ index: Int, _ call: TorchCall) throws(OperatorError) -> [TorchArgument] {
    switch call.argument(at: index) {
    case .tensors(let names): return names.compactMap { $0.map { .tensor($0) } }
    case .sizes(let sizes): return sizes.map { .size($0) }
    case nil: return []
    default: throw .invalid("a list of operands was expected")
    }
  }

  private static func condition(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let truth: ValueID
    switch call.argument(at: 0) {
    case .tensor(let name): truth = try layers.cast(try call.lowering.tensor(name), to: .bool)
    case .symbol(let name): truth = try layers.cast(try layers.squeeze(try call.lowering.symbol(name), [0]), to: .bool)
    case .bool(let known): truth = try call.constant(.truth(known), .bool)
    default: throw .invalid("a truth was expected")
    }
    let operands = try operands(3, call)
    let yes = try call.lowering.subgraph(try graph(1, call), operands, name: "then")
    let no = try call.lowering.subgraph(try graph(2, call), operands, name: "else")
    let count = call.node.outputs.flatMap(\.names).count
    guard yes.graph.outputs.count == count, no.graph.outputs.count == count else {
      throw .invalid("both branches should have \(count) results")
    }
    return try layers.emit(
      "If", [truth], [("then_branch", .graph(yes)), ("else_branch", .graph(no))], outputs: count
    ).map { $0 }
  }

  /// ONNX asks at the end of each round whether there is another one, torch at its beginning.
  private static func whileLoop(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let (check, body) = (try graph(0, call), try graph(1, call))
    let (carried, rest) = (try operands(2, call), try operands(3, call))
    let first = try call.lowering.inline(check, carried + rest)
    guard first.count == 1, let first = first[0] else { throw .invalid("the condition should have one result") }
    let start = try layers.cast(try layers.reshape(first, []), to: .bool)
    let loop = try call.lowering.loop(body, check, carried: carried, rest: rest)
    var inputs: [ValueID?] = [nil, start]
    for argument in carried { inputs.append(try call.lowering.value(argument)) }
    return try layers.emit("Loop", inputs, [("body", .graph(loop))], outputs: carried.count).map { $0 }
  }
}
