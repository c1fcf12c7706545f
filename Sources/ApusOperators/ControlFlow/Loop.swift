// Loop: a graph run again and again, with values carried from one iteration to the next. Versions: 1, 11, 13
// (sequences), 16 (optionals), 19, 21, 23, 24, 25 (more types). https://onnx.ai/onnx/operators/onnx__Loop.html

import ApusGraph
import ApusTensor

struct Loop: OperatorDefinition {
  let schema = OperatorSchema(
    "Loop", versions: [1, 11, 13, 16, 19, 21, 23, 24, 25],
    inputs: [.optional("M", "I"), .optional("cond", "B"), .variadic("v_initial", "V")],
    outputs: [.variadic("v_final_and_scan_outputs", "V")],
    attributes: [.required("body", .graph)],
    types: ["I": .int64, "B": .bool, "V": .anyValue], portable: .moreTypes,
    carried: CarriedValues(input: 2, bodyOutput: 1) { _, bodyInputs in bodyInputs - 2 })

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let body = try context.subgraph("body")
    let carriedCount = try Loop.carriedCount(body, inputs: context.inputs.count, outputs: context.outputs.count)
    let initial = context.inputs.dropFirst(2).map { ($0 ?? .unknown).common(with: $0 ?? .unknown) }
    // The body may take the counter and the condition as vectors of one element.
    func scalar(_ type: DataType, _ input: Int) -> ValueFact {
      .tensor(type, body.describedInput(input).tensor?.shape?.count == 1 ? [1] : [])
    }
    let control = [scalar(.int64, 0), scalar(.bool, 1)]
    // What is carried must have a fact that holds before and after every iteration. Inner loops, whose bodies are
    // inferred once for each inference of the graphs around them, make do with types.
    var carried = context.depth >= 3 ? initial.map(\.withoutShapes) : initial
    var results: [ValueFact] = []
    for attempt in 0... {
      results = try context.infer(subgraph: "body", control + carried)
      var next: [ValueFact] = []
      for index in 0..<carriedCount {
        let (before, after) = (carried[index], results[1 + index])
        // An empty optional may be filled with its element; the operators on optionals take both.
        if case .optional(let element) = before, element.hasSameType(as: after) {
          next.append(before.withoutShapes)
          continue
        }
        guard before.hasSameType(as: after) else {
          throw .mismatch(
            "carried value \(index) is \(before) before and \(after) after an iteration; expected the same type")
        }
        next.append(after == .unknown ? before.withoutShapes : before == .unknown ? before : before.common(with: after))
      }
      if next == carried { break }
      carried = attempt < 2 ? next : next.map(\.withoutShapes)
    }
    for index in 0..<min(carriedCount, context.outputs.count) {
      context.set(index, carried[index].hasSameType(as: results[1 + index]) ? carried[index] : .unknown)
    }
    let isCounted = !context.isPresent(1)
    let trips = isCounted ? context.values(0)?.first.map { Dim.max($0, 0) } : nil
    for index in carriedCount..<max(carriedCount, context.outputs.count) {
      guard let element = results[1 + index].tensor else { continue }
      context.set(index, element.dataType, element.shape.map { [trips ?? .unknown] + $0 })
    }
  }

  /// The number of values that are carried; throws if the counts of inputs and outputs do not fit.
  private static func carriedCount(_ body: Graph, inputs: Int, outputs: Int) throws(OperatorError) -> Int {
    let carried = body.inputs.count - 2
    guard carried >= 0, max(inputs, 2) == body.inputs.count else {
      throw .invalid(
        "the body has \(body.inputs.count) inputs; the node gives \(max(inputs, 2)) with counter and condition")
    }
    guard body.outputs.count > carried, outputs < body.outputs.count else {
      throw .invalid(
        "the body has \(body.outputs.count) outputs; expected the condition, \(carried) carried values and the scan "
          + "outputs of \(outputs) outputs")
    }
    return carried
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let body = try context.subgraph("body")
    let carried = try Loop.carriedCount(body, inputs: context.inputs.count, outputs: context.outputs.count)
    func shape(_ input: Int) -> Shape { body.describedInput(input).tensor?.shape?.count == 1 ? [1] : [] }
    var scanned: [ValueFact] = []
    for index in 1 + carried..<body.outputs.count {
      // The element with a new first axis.
      let fact = body.uncomputedOutput(index, inputs: context.inputs)
      guard let element = fact.tensor else {
        scanned.append(.unknown)
        continue
      }
      scanned.append(.tensor(element.dataType, element.shape.map { [Dim(0)] + $0 }))
    }
    return .eager(
      LoopKernel(
        carried: carried, scanned: scanned, counterShape: shape(0), conditionShape: shape(1), inputFacts: context.inputs
      ))
  }
}

private struct LoopKernel: EagerKernel {
  let carried: Int
  let scanned: [ValueFact]
  let counterShape: Shape
  let conditionShape: Shape
  let inputFacts: [ValueFact?]

  func execute(_ inputs: [Value?], _ context: any EagerContext) throws(OperatorError) -> [Value?] {
    let trips = try inputs.optionalTensor(0)?.singleInteger("the trip count")
    var condition = try inputs.optionalTensor(1)?.singleInteger("the condition") ?? 1
    // With a trip count and without a condition the loop is a `for`: what the body says about going on is ignored.
    let isCounted = trips != nil && inputs.optionalTensor(1) == nil
    var outputs = scanned.map { AccumulatedOutput(fact: $0) }
    var iteration = 0
    // The counter, the condition of an iteration that runs, and what is carried.
    var given: [Value] = [
      .tensor(Tensor([iteration], shape: counterShape)), .tensor(Tensor([true], shape: conditionShape)),
    ]
    for index in 0..<carried {
      guard let value = inputs[2 + index] else { throw .mismatch("carried value \(index) is missing") }
      given.append(value)
    }
    if condition != 0, (trips ?? .max) > 0 {
      let wanted = outputs.indices.filter { context.isWanted(carried + $0) }
      let iterations = Iterations(
        inputs: [.counter, .constant] + (0..<carried).map { .state(output: 1 + $0) }, first: given,
        condition: isCounted ? nil : 0, collected: wanted.map { 1 + carried + $0 }, limit: trips ?? .max)
      if let results = try context.run(subgraph: "body", iterations) {
        for (index, pieces) in zip(wanted, results.collected) { outputs[index].pieces = pieces }
        return try final(results.states, outputs, symbols: [:], context)
      }
    }
    // The body may write over what it hands on to itself, where nothing else refers to it.
    let donated = Array(2..<2 + carried)
    while condition != 0, iteration < trips ?? .max {
      try context.check(allocating: 0)
      if iteration > 0 { given[0] = .tensor(Tensor([iteration], shape: counterShape)) }
      var results = try context.run(subgraph: "body", inputs: &given, donating: donated)
      guard let next = results[0].tensor else { throw .mismatch("the condition of the body is \(results[0].type)") }
      if !isCounted { condition = try next.singleInteger("the condition of the body") }
      // Moved, not copied: a loop of small bodies is made of such steps.
      for index in 0..<carried { swap(&given[2 + index], &results[1 + index]) }
      for index in outputs.indices where context.isWanted(carried + index) {
        try outputs[index].append(results[1 + carried + index], context)
      }
      iteration += 1
    }
    let symbols = iteration == 0 ? boundSymbols(inputFacts, inputs) : [:]
    return try final(given[2...], outputs, symbols: symbols, context)
  }

  /// The outputs of the node: the values that were carried, and those that were accumulated.
  private func final(
    _ states: some Collection<Value>, _ outputs: [AccumulatedOutput], symbols: [String: Dim],
    _ context: any EagerContext
  ) throws(OperatorError) -> [Value?] {
    var final: [Value?] = Array(states)
    final.reserveCapacity(carried + outputs.count)
    for (index, output) in outputs.enumerated() {
      let isWanted = context.isWanted(carried + index)
      final.append(isWanted ? try output.stacked(axis: 0, isReversed: false, symbols: symbols, context) : nil)
    }
    return final
  }
}
