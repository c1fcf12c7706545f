// Scan of version 8 in the newest form: a Scan over the batch whose body is a Scan over the sequence. Lengths become a
// Slice of the inputs before and a Pad of the outputs after the inner Scan.
// https://onnx.ai/onnx/operators/onnx__Scan.html

import ApusGraph
import ApusTensor

enum BatchedScan {
  /// `node.inputs` are the lengths (or nil), the states and the scan inputs, all but the lengths with the batch as axis
  /// 0.
  static func rewrite(_ node: inout Node, in graph: inout Graph) throws(OperatorError) {
    guard case .graph(let body)? = node.attributes["body"], let count = node.attributes.int("num_scan_inputs"),
      node.inputs.count >= 2, count >= 1, count < node.inputs.count
    else { throw .invalid("a Scan of version 8 has a body, num_scan_inputs, lengths, states and scan inputs") }
    let lengths = node.inputs[0]
    let stateCount = node.inputs.count - 1 - count
    var outer = Graph(name: body.graph.name)
    let inner = node.inputs.dropFirst().map { _ in outer.addValue() }
    outer.inputs = Array(inner)
    var operands = Array(inner)
    let captured = body.graph.captures.map { outer.addValue(fact: body.graph.fact($0)) }
    outer.captures = captured
    var length: ValueID?
    if lengths != nil {
      let scalar = outer.addValue()
      outer.inputs.append(scalar)
      let one = outer.addConstant(Tensor([1]))
      length = outer.addNode(OperatorID("Reshape"), name: "", inputs: [scalar, one])[0]
      let zero = outer.addConstant(Tensor([0]))
      for index in stateCount..<operands.count {
        operands[index] =
          outer.addNode(OperatorID("Slice"), name: "", inputs: [operands[index], zero, length, zero])[0]
      }
    }
    var attributes = Attributes([
      ("body", .graph(Subgraph(graph: body.graph, captured: captured))), ("num_scan_inputs", .int(count)),
    ])
    if let directions = node.attributes.ints("directions") { attributes["scan_input_directions"] = .ints(directions) }
    var results = outer.addNode(
      OperatorID("Scan"), name: node.name, inputs: operands, attributes: attributes,
      outputCount: body.graph.outputs.count)
    if let length {
      let zero = outer.addConstant(Tensor([0]))
      let shape = Attributes([("start", .int(0)), ("end", .int(1))])
      let longest = outer.addNode(OperatorID("Shape"), name: "", inputs: [inner[stateCount]], attributes: shape)[0]
      let missing = outer.addNode(OperatorID("Sub"), name: "", inputs: [longest, length])[0]
      let pads = outer.addNode(
        OperatorID("Concat"), name: "", inputs: [zero, missing], attributes: Attributes([("axis", .int(0))]))[0]
      for index in stateCount..<max(stateCount, results.count) {
        results[index] = outer.addNode(OperatorID("Pad"), name: "", inputs: [results[index], pads, nil, zero])[0]
      }
    }
    outer.outputs = results
    node.inputs = Array(node.inputs.dropFirst()) + (lengths == nil ? [] : [lengths])
    node.attributes = Attributes([
      ("body", .graph(Subgraph(graph: outer, captured: body.captured))), ("num_scan_inputs", .int(node.inputs.count)),
    ])
  }
}
