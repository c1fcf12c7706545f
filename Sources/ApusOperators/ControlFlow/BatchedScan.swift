// Scan of version 8 in the newest form: a Scan over the batch whose body is a Scan over the sequence. Lengths become a
// Slice of the inputs before and a Pad of the outputs after the inner Scan.
// https://onnx.ai/onnx/operators/onnx__Scan.html

import ApusGraph
import ApusTensor

enum BatchedScan {
  /// `node.inputs` are the lengths (or nil), the states and the scan inputs, all but the lengths with the batch as axis
  /// 0.
  static func rewrite(_ node: inout Node, in builder: GraphBuilder) throws(OperatorError) {
    guard case .graph(let body)? = node.attributes["body"], let count = node.attributes.int("num_scan_inputs"),
      node.inputs.count >= 2, count >= 1, count < node.inputs.count
    else { throw .invalid("a Scan of version 8 has a body, num_scan_inputs, lengths, states and scan inputs") }
    let lengths = node.inputs[0]
    let stateCount = node.inputs.count - 1 - count
    let outer = GraphBuilder(name: body.graph.name, inference: builder.inference, parent: builder)
    func add(
      _ op: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = []
    ) throws(OperatorError) -> ValueID {
      try outer.apply(OperatorID(op), name: "", inputs, attributes)
    }
    let inner = node.inputs.dropFirst().map { _ in outer.addInput("", fact: .unknown) }
    var operands = inner
    let captured = body.captured.map { outer.importing($0, of: builder) }
    var length: ValueID?
    if lengths != nil {
      let scalar = outer.addInput("", fact: .unknown)
      length = try add("Reshape", [scalar, outer.addConstant(Tensor([1]))])
      let zero = outer.addConstant(Tensor([0]))
      for index in stateCount..<operands.count {
        operands[index] = try add("Slice", [operands[index], zero, length, zero])
      }
    }
    var attributes: [(String, AttributeValue)] = [
      ("body", .graph(Subgraph(graph: body.graph, captured: captured))), ("num_scan_inputs", .int(count)),
    ]
    if let directions = node.attributes.ints("directions") {
      attributes.append(("scan_input_directions", .ints(directions)))
    }
    var results = try outer.apply(
      OperatorID("Scan"), name: node.name, operands, attributes, outputCount: body.graph.outputs.count)
    if let length {
      let zero = outer.addConstant(Tensor([0]))
      let longest = try add("Shape", [inner[stateCount]], [("start", .int(0)), ("end", .int(1))])
      let pads = try add("Concat", [zero, add("Sub", [longest, length])], [("axis", .int(0))])
      for index in stateCount..<max(stateCount, results.count) {
        results[index] = try add("Pad", [results[index], pads, nil, zero])
      }
    }
    outer.graph.outputs = results
    node.inputs = Array(node.inputs.dropFirst()) + (lengths == nil ? [] : [lengths])
    node.attributes = Attributes([
      ("body", .graph(outer.subgraph)), ("num_scan_inputs", .int(node.inputs.count)),
    ])
  }
}
