// Binding symbols before a model is prepared, and checking inputs before it runs.

import ApusGraph
import ApusTensor

extension Model {
  /// Puts the caller's dimensions and shapes into the facts of the graph.
  static func bind(_ options: ModelOptions, in graph: inout Graph) throws {
    var bindings = options.dimensions.mapValues { Set([$0]) }
    let symbols = Set(graph.inputs.flatMap { graph.fact($0).tensor?.shape?.flatMap(\.symbols) ?? [] })
    for (name, value) in options.dimensions {
      guard symbols.contains(name) else {
        throw RunError(
          .invalidInput, "no input has a dimension '\(name)'",
          remedy: symbols.isEmpty
            ? "The model has no symbolic dimensions" : "Known are: \(symbols.sorted().joined(separator: ", "))")
      }
      guard value >= 0 else { throw RunError(.invalidInput, "dimension '\(name)' is \(value); expected 0 or more") }
    }
    for (name, shape) in options.shapes {
      guard let input = graph.inputs.first(where: { graph[$0].name == name }), let fact = graph.fact(input).tensor
      else {
        throw RunError(.invalidInput, "there is no tensor input '\(name)'")
      }
      if let declared = fact.shape {
        guard declared.count == shape.rank else {
          throw RunError(.invalidInput, "shape \(shape) for input '\(name)'; the model declares \(graph.fact(input))")
        }
        for (axis, dim) in declared.enumerated() {
          if let known = dim.known, known != shape[axis] {
            throw RunError(.invalidInput, "shape \(shape) for input '\(name)'; the model declares \(graph.fact(input))")
          }
          if dim.symbols.count == 1, let symbol = dim.symbols.first, dim == .symbol(symbol) {
            if let given = options.dimensions[symbol], given != shape[axis] {
              throw RunError(.invalidInput, "dimension '\(symbol)' cannot be both \(given) and \(shape[axis])")
            }
            bindings[symbol, default: []].insert(shape[axis])
          }
        }
      }
      graph[input].fact = .tensor(fact.dataType, [Dim](shape))
    }
    if bindings.isEmpty && options.shapes.isEmpty { return }
    // A name that the given shapes have two sizes for says nothing about other values.
    let known = bindings.mapValues { sizes in sizes.count == 1 ? sizes.first.map { Dim($0) } ?? .unknown : .unknown }
    for index in graph.values.indices { graph.values[index].fact = graph.values[index].fact.substituting(known) }
  }

  /// Makes the wanted intermediate values outputs.
  static func addOutputs(_ options: ModelOptions, to graph: inout Graph) throws {
    if options.returnsAllValues {
      let produced = graph.nodes.flatMap(\.outputs).compactMap { $0 }
      graph.outputs += produced.filter { !graph[$0].name.isEmpty && !graph.outputs.contains($0) }
    }
    for name in options.extraOutputs {
      guard let index = graph.values.firstIndex(where: { $0.name == name }) else {
        throw RunError(
          .invalidInput, "there is no value '\(name)' in the main graph", remedy: "`apus info --json` lists the names")
      }
      if !graph.outputs.contains(ValueID(index)) { graph.outputs.append(ValueID(index)) }
    }
  }

  /// The inputs in the order of the graph, if all are there and fit.
  func check(_ inputs: [String: Value]) throws(RunError) -> [Value] {
    var ordered: [Value] = []
    ordered.reserveCapacity(self.inputs.count)
    for expected in self.inputs {
      guard let value = inputs[expected.name] else {
        let unknown = unknownNames(in: inputs).first.map { "; " + noInput($0) } ?? ""
        throw RunError(.invalidInput, "input '\(expected.name)' (\(expected.type)) is missing\(unknown)", remedy: names)
      }
      ordered.append(value)
    }
    if inputs.count > ordered.count, let name = unknownNames(in: inputs).first {
      throw RunError(.invalidInput, noInput(name), remedy: names)
    }
    try check(inOrder: ordered)
    return ordered
  }

  /// Throws unless there is a fitting value for each input of the graph.
  func check(inOrder values: [Value]) throws(RunError) {
    if contract.accepts(values) { return }
    guard values.count == inputs.count else {
      throw RunError(.invalidInput, "\(values.count) values for a model with \(inputs.count) inputs", remedy: names)
    }
    var bound: [String: (size: Int, input: String, axis: Int)] = [:]
    for (index, id) in graph.inputs.enumerated() { try check(values[index], inputs[index], graph.fact(id), &bound) }
  }

  private func unknownNames(in inputs: [String: Value]) -> [String] {
    let known = Set(self.inputs.map(\.name))
    return inputs.keys.filter { !known.contains($0) }.sorted()
  }

  private func noInput(_ name: String) -> String {
    let near = nearName(name, among: inputs.map(\.name)).map { " (did you mean '\($0)'?)" } ?? ""
    return "there is no input '\(name)'\(near)"
  }

  private var names: String { "Inputs are: " + inputs.map { "\($0.name) (\($0.type))" }.joined(separator: ", ") }

  private func check(
    _ value: Value, _ expected: ValueDescription, _ fact: ValueFact,
    _ bound: inout [String: (size: Int, input: String, axis: Int)]
  ) throws(RunError) {
    switch (value, fact) {
    case (.tensor(let tensor), .tensor(let wanted)):
      guard tensor.dataType == wanted.dataType else {
        throw RunError(
          .invalidInput, "input '\(expected.name)' has type \(tensor.dataType); expected \(wanted.dataType)",
          remedy: "Convert the values before the call")
      }
      guard let shape = wanted.shape else { return }
      guard shape.count == tensor.rank else {
        throw RunError(.invalidInput, "input '\(expected.name)' has shape \(tensor.shape); expected \(expected.type)")
      }
      for (axis, dim) in shape.enumerated() {
        let size = tensor.shape[axis]
        if let known = dim.known {
          if known == size { continue }
          throw RunError(
            .invalidInput,
            "input '\(expected.name)' has shape \(tensor.shape); expected \(expected.type): axis \(axis) is "
              + "\(size), not \(known)")
        }
        let symbol = dim.description
        if let first = bound[symbol], first.size != size {
          // Extents of one name in the file may have symbols of their own.
          let name = expected.dimensions?[axis] ?? symbol
          throw RunError(
            .invalidInput,
            "dimension '\(name)' is \(first.size) by input '\(first.input)' axis \(first.axis) and "
              + "\(size) by input '\(expected.name)' axis \(axis)")
        }
        if !dim.isUnknown { bound[symbol] = (size, expected.name, axis) }
      }
    case (_, .unknown): return
    case (_, let wanted) where Model.fits(value, wanted): return
    default:
      throw RunError(.invalidInput, "input '\(expected.name)' is \(value.type); expected \(expected.type)")
    }
  }

  /// True if the value is of the container type, or what an optional may hold. What holds no element fits every element
  /// type.
  private static func fits(_ value: Value, _ wanted: ValueFact) -> Bool {
    switch (value, wanted) {
    case (_, .unknown): true
    case (.tensor(let tensor), .tensor(let fact)): tensor.dataType == fact.dataType
    case (.sequence(let elements, _), .sequence(let fact)): elements.allSatisfy { fits($0, fact) }
    case (.optional(let element, _), .optional(let fact)): element.map { fits($0, fact) } ?? true
    case (.map(let map), .map(let key, let element)):
      map.keys.dataType == key && ValueFact(map.valueType).hasSameType(as: element)
    case (_, .optional(let fact)): fits(value, fact)
    default: false
    }
  }
}
