// Scan: a graph run over the elements of tensors, with a state. https://onnx.ai/onnx/operators/onnx__Scan.html
// Versions: 8 (a batch axis, lengths), 9 (any axes, directions of outputs), 11 (negative axes), 16, 19, 21, 23, 24, 25
// (more types).

import ApusGraph
import ApusTensor

struct Scan: OperatorDefinition {
  let schema = OperatorSchema(
    "Scan", versions: [8, 9, 11, 16, 19, 21, 23, 24, 25],
    inputs: [.variadic("initial_state_and_scan_inputs", "V")],
    outputs: [.variadic("final_state_and_scan_outputs", "V")],
    attributes: [
      .required("body", .graph), .required("num_scan_inputs", .int).since(9),
      .optional("scan_input_axes", .ints), .optional("scan_input_directions", .ints),
      .optional("scan_output_axes", .ints), .optional("scan_output_directions", .ints),
    ],
    types: ["V": .all], portable: .moreTypes,
    carried: CarriedValues(input: 0, bodyOutput: 0) { node, bodyInputs in
      bodyInputs - (node.attributes.int("num_scan_inputs") ?? bodyInputs)
    })

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version == 8 { try BatchedScan.rewrite(&node, in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let plan = try ScanPlan(context, inputs: context.inputs)
    var elements: [ValueFact] = []
    var length = Dim.unknown
    for index in plan.states..<context.inputs.count {
      guard let tensor = context.tensor(index) else {
        elements.append(.unknown)
        continue
      }
      guard var shape = tensor.shape else {
        elements.append(.tensor(tensor.dataType, nil))
        continue
      }
      let axis = try resolveAxis(plan.inputAxes[index - plan.states], rank: shape.count, name: "scan_input_axes")
      let extent = shape.remove(at: axis)
      guard !length.isSurelyDifferent(from: extent) else {
        throw .mismatch("the scan inputs have \(length) and \(extent) elements")
      }
      if length.isUnknown || extent.known != nil { length = extent }
      elements.append(.tensor(tensor.dataType, shape))
    }
    var states = context.inputs.prefix(plan.states).map { ($0 ?? .unknown).common(with: $0 ?? .unknown) }
    if context.depth >= 3 { states = states.map(\.withoutShapes) }
    var results: [ValueFact] = []
    for attempt in 0... {
      results = try context.infer(subgraph: "body", states + elements)
      var next: [ValueFact] = []
      for (index, pair) in zip(states, results).enumerated() {
        guard pair.0.hasSameType(as: pair.1) else {
          throw .mismatch("state \(index) is \(pair.0) before and \(pair.1) after an iteration; expected the same type")
        }
        next.append(
          pair.1 == .unknown ? pair.0.withoutShapes : pair.0 == .unknown ? pair.0 : pair.0.common(with: pair.1))
      }
      if next == states { break }
      states = attempt < 2 ? next : next.map(\.withoutShapes)
    }
    for (index, fact) in states.enumerated() { context.set(index, fact) }
    for index in plan.states..<max(plan.states, context.outputs.count) {
      guard let element = results[index].tensor else { continue }
      var shape = element.shape
      if let rank = shape?.count {
        let axis = try resolveAxis(plan.outputAxes[index - plan.states], rank: rank + 1, name: "scan_output_axes")
        shape?.insert(length, at: axis)
      }
      context.set(index, element.dataType, shape)
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let plan = try ScanPlan(context, inputs: context.inputs)
    return .eager(ScanKernel(plan: plan, inputFacts: context.inputs))
  }
}

/// The attributes of a Scan, one entry for each input and output that they speak of.
private struct ScanPlan {
  let states: Int
  let inputAxes: [Int]
  let isInputReversed: [Bool]
  let outputAxes: [Int]
  let isOutputReversed: [Bool]
  /// The facts of the scan outputs.
  let scanned: [ValueFact]

  init(_ context: some OperatorContext, inputs facts: [ValueFact?]) throws(OperatorError) {
    let inputs = facts.count
    let body = try context.subgraph("body")
    let count = try context.int("num_scan_inputs")
    guard count >= 1, count <= inputs else { throw .invalid("num_scan_inputs is \(count); expected 1 to \(inputs)") }
    states = inputs - count
    guard body.inputs.count == inputs, body.outputs.count >= max(states, context.node.outputs.count) else {
      throw .invalid(
        "the body has \(body.inputs.count) inputs and \(body.outputs.count) outputs; the node has \(inputs) and "
          + "\(context.node.outputs.count)")
    }
    let outputs = body.outputs.count - states
    func list(_ name: String, _ count: Int) throws(OperatorError) -> [Int] {
      guard let values = context.optionalInts(name) else { return [Int](repeating: 0, count: count) }
      guard values.count == count else { throw .invalid("\(name) has \(values.count) elements; expected \(count)") }
      return values
    }
    func directions(_ name: String, _ count: Int) throws(OperatorError) -> [Bool] {
      let values = try list(name, count)
      guard values.allSatisfy({ $0 == 0 || $0 == 1 }) else { throw .invalid("\(name) is \(values); expected 0 or 1") }
      return values.map { $0 == 1 }
    }
    inputAxes = try list("scan_input_axes", count)
    isInputReversed = try directions("scan_input_directions", count)
    outputAxes = try list("scan_output_axes", outputs)
    isOutputReversed = try directions("scan_output_directions", outputs)
    var scanned: [ValueFact] = []
    for index in 0..<outputs {
      let fact = body.uncomputedOutput(states + index, inputs: facts)
      guard let element = fact.tensor, var shape = element.shape else {
        scanned.append(fact.withoutShapes)
        continue
      }
      shape.insert(0, at: try resolveAxis(outputAxes[index], rank: shape.count + 1, name: "scan_output_axes"))
      scanned.append(.tensor(element.dataType, shape))
    }
    self.scanned = scanned
  }
}

private struct ScanKernel: EagerKernel {
  let plan: ScanPlan
  let inputFacts: [ValueFact?]

  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    var states: [Value] = []
    for index in 0..<plan.states { states.append(.tensor(try inputs.tensor(index))) }
    var scans: [(tensor: Tensor, axis: Int)] = []
    for (index, axis) in plan.inputAxes.enumerated() {
      let tensor = try inputs.tensor(plan.states + index)
      scans.append((tensor, try resolveAxis(axis, rank: tensor.rank, name: "scan_input_axes")))
    }
    let length = scans[0].tensor.shape[scans[0].axis]
    for scan in scans where scan.tensor.shape[scan.axis] != length {
      throw .mismatch("the scan inputs have \(length) and \(scan.tensor.shape[scan.axis]) elements")
    }
    var outputs = plan.scanned.map { AccumulatedOutput(fact: $0) }
    if length > 0, let results = try runTogether(states, scans, length, context) {
      let wanted = outputs.indices.filter { context.isWanted(plan.states + $0) }
      for (index, pieces) in zip(wanted, results.collected) { outputs[index].pieces = pieces }
      return try final(results.states, outputs, symbols: [:], context)
    }
    // The body may write over the states that it hands on to itself, where nothing else refers to them.
    let donated = Array(0..<plan.states)
    for iteration in 0..<length {
      var given: [Value] = []
      swap(&given, &states)
      for (index, scan) in scans.enumerated() {
        let position = plan.isInputReversed[index] ? length - 1 - iteration : iteration
        given.append(.tensor(try TensorPieces.element(scan.tensor, axis: scan.axis, index: position, context)))
      }
      let results = try context.run(subgraph: "body", inputs: &given, donating: donated)
      states = Array(results.prefix(plan.states))
      for index in outputs.indices where context.isWanted(plan.states + index) {
        try outputs[index].append(results[plan.states + index], context)
      }
    }
    let symbols = length == 0 ? boundSymbols(inputFacts, inputs) : [:]
    return try final(states, outputs, symbols: symbols, context)
  }

  /// All iterations at once, where the executor can do that.
  private func runTogether(
    _ states: [Value], _ scans: [(tensor: Tensor, axis: Int)], _ length: Int, _ context: any EagerContext
  ) throws(OperatorError) -> IterationResults? {
    var inputs = states.indices.map { Iterations.Input.state(output: $0) }
    var first = states
    for (index, scan) in scans.enumerated() {
      let isReversed = plan.isInputReversed[index]
      inputs.append(.element(of: scan.tensor, axis: scan.axis, isReversed: isReversed))
      first.append(
        .tensor(
          try TensorPieces.element(scan.tensor, axis: scan.axis, index: isReversed ? length - 1 : 0, context)))
    }
    let wanted = plan.scanned.indices.filter { context.isWanted(plan.states + $0) }
    return try context.run(
      subgraph: "body",
      Iterations(
        inputs: inputs, first: first, condition: nil, collected: wanted.map { plan.states + $0 }, limit: length))
  }

  /// The outputs of the node: the last states, and what was accumulated.
  private func final(
    _ states: [Value], _ outputs: [AccumulatedOutput], symbols: [String: Dim], _ context: any EagerContext
  ) throws(OperatorError) -> [Value?] {
    var final: [Value?] = states
    for (index, output) in outputs.enumerated() {
      guard context.isWanted(plan.states + index) else {
        final.append(nil)
        continue
      }
      final.append(
        try output.stacked(
          axis: plan.outputAxes[index], isReversed: plan.isOutputReversed[index], symbols: symbols, context))
    }
    return final
  }
}
