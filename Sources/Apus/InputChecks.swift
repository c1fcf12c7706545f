// Checking the inputs of a run before it begins.

import ApusGraph
import ApusTensor

/// What the inputs of a model must be, and what is said where they are something else.
struct InputChecks: Sendable {
  /// In the order of the model, under the names of the file.
  let inputs: [ValueDescription]
  private let facts: [ValueFact]
  private let contract: InputContract

  init(_ inputs: [ValueDescription], of graph: Graph) {
    self.inputs = inputs
    facts = graph.inputs.map { graph.fact($0) }
    contract = InputContract(facts)
  }

  /// Those of a graph that nobody has described.
  init(_ graph: Graph) {
    self.init(graph.inputs.map { ValueDescription(name: graph[$0].name, fact: graph.fact($0)) }, of: graph)
  }

  /// The inputs in the order of the graph, if all are there and fit.
  func ordered(_ values: [String: Value]) throws(RunError) -> [Value] {
    var ordered: [Value] = []
    ordered.reserveCapacity(inputs.count)
    for expected in inputs {
      guard let value = values[expected.name] else {
        let unknown = unknownNames(in: values).first.map { "; " + noInput($0) } ?? ""
        throw RunError(.invalidInput, "input '\(expected.name)' (\(expected.type)) is missing\(unknown)", remedy: names)
      }
      ordered.append(value)
    }
    if values.count > ordered.count, let name = unknownNames(in: values).first {
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
    for (index, fact) in facts.enumerated() { try check(values[index], inputs[index], fact, &bound) }
  }

  private func unknownNames(in values: [String: Value]) -> [String] {
    let known = Set(inputs.map(\.name))
    return values.keys.filter { !known.contains($0) }.sorted()
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
    case (_, let wanted) where InputChecks.fits(value, wanted): return
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
