// What inference and preparation have in common: a node, its schema, and reading attributes with their defaults.

import ApusTensor

/// Access to the attributes of a node through its schema.
package protocol OperatorContext {
  var node: Node { get }
  var schema: OperatorSchema { get }
}

extension OperatorContext {
  /// The attribute's value or its default in the schema; nil if it has neither.
  package func attribute(_ name: String) -> AttributeValue? {
    node.attributes[name] ?? schema.attributes.first { $0.name == name }?.defaultValue
  }

  package func has(_ name: String) -> Bool { node.attributes[name] != nil }

  package func int(_ name: String) throws(OperatorError) -> Int {
    guard let value = optionalInt(name) else { throw missing(name, .int) }
    return value
  }
  package func bool(_ name: String) throws(OperatorError) -> Bool { try int(name) != 0 }
  package func float(_ name: String) throws(OperatorError) -> Float {
    guard let value = optionalFloat(name) else { throw missing(name, .float) }
    return value
  }
  package func string(_ name: String) throws(OperatorError) -> String {
    guard let value = optionalString(name) else { throw missing(name, .string) }
    return value
  }
  package func ints(_ name: String) throws(OperatorError) -> [Int] {
    guard let value = optionalInts(name) else { throw missing(name, .ints) }
    return value
  }

  package func optionalInt(_ name: String) -> Int? {
    if case .int(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalFloat(_ name: String) -> Float? {
    if case .float(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalString(_ name: String) -> String? {
    if case .string(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalInts(_ name: String) -> [Int]? {
    if case .ints(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalFloats(_ name: String) -> [Float]? {
    if case .floats(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalStrings(_ name: String) -> [String]? {
    if case .strings(let value)? = attribute(name) { value } else { nil }
  }
  package func optionalTensor(_ name: String) -> Tensor? {
    if case .tensor(let value)? = attribute(name) { value } else { nil }
  }

  /// The string if it is one of `allowed`.
  package func string(_ name: String, oneOf allowed: [String]) throws(OperatorError) -> String {
    let value = try string(name)
    guard allowed.contains(value) else {
      throw .invalid("attribute \(name) is '\(value)'; expected one of \(allowed.joined(separator: ", "))")
    }
    return value
  }

  private func missing(_ name: String, _ kind: AttributeKind) -> OperatorError {
    .invalid("attribute \(name) (\(kind.rawValue)) is missing")
  }
}

/// The axis as 0 ..< rank, or an error that states the range. For a value given in a model.
package func resolveAxis(_ axis: Int, rank: Int, name: String = "axis") throws(OperatorError) -> Int {
  guard axis >= -rank, axis < rank else {
    if rank == 0 { throw .mismatch("\(name) is \(axis), but a scalar has no axes") }
    throw .mismatch("\(name) is \(axis); expected -\(rank) to \(rank - 1) for rank \(rank)")
  }
  return axis < 0 ? axis + rank : axis
}

/// Axes as sorted positions without duplicates.
package func resolveAxes(_ axes: [Int], rank: Int, name: String = "axes") throws(OperatorError) -> [Int] {
  var resolved: [Int] = []
  for axis in axes {
    let position = try resolveAxis(axis, rank: rank, name: name)
    guard !resolved.contains(position) else { throw .mismatch("\(name) names axis \(position) twice") }
    resolved.append(position)
  }
  return resolved.sorted()
}

extension Node {
  /// Rejects attributes that the schema does not know or whose kind is another, wrong counts of inputs and outputs.
  package func validate(against schema: OperatorSchema) throws(OperatorError) {
    for entry in attributes.entries {
      guard let known = schema.attributes.first(where: { $0.name == entry.name }) else {
        throw .invalid(
          "attribute \(entry.name) is not known to \(schema.id)",
          remedy: "Known are: " + schema.attributes.map(\.name).joined(separator: ", "))
      }
      guard known.kind == entry.value.kind else {
        throw .invalid(
          "attribute \(entry.name) is of kind \(entry.value.kind.rawValue); expected \(known.kind.rawValue)")
      }
    }
    for known in schema.attributes where known.isRequired && attributes[known.name] == nil {
      throw .invalid("attribute \(known.name) (\(known.kind.rawValue)) is missing")
    }
    try Node.validate(inputs, against: schema.inputs, what: "input")
    try Node.validate(outputs, against: schema.outputs, what: "output")
  }

  private static func validate(
    _ given: [ValueID?], against parameters: [Parameter], what: String
  ) throws(OperatorError) {
    if given.count > parameters.count && parameters.last?.presence != .variadic {
      throw .invalid("\(given.count) \(what)s; expected at most \(parameters.count)")
    }
    for index in parameters.indices where parameters[index].presence == .required {
      if what == "output" ? index >= given.count : index >= given.count || given[index] == nil {
        throw .invalid("\(what) \(index) (\(parameters[index].name)) is missing")
      }
    }
  }

  /// Checks the types that are known against the type variables of the schema.
  package func validateTypes(_ facts: [ValueFact?], against schema: OperatorSchema) throws(OperatorError) {
    let parameters = schema.inputs
    for index in facts.indices {
      guard let fact = facts[index], let number = OperatorSchema.number(at: index, of: parameters) else { continue }
      guard schema.allows(fact, asInput: number) else {
        let expected = Node.names(of: parameters[number], schema)
        throw .mismatch("input \(index) (\(parameters[number].name)) is \(fact); expected \(expected)")
      }
      guard let type = fact.elementType else { continue }
      var former = schema.input(sharingTypeWith: number)
      while let other = former {
        if let first = facts[other]?.elementType {
          if first == type { break }
          throw .mismatch(
            "inputs \(parameters[other].name) and \(parameters[number].name) must have the same type; "
              + "found \(first) and \(type)")
        }
        former = schema.input(sharingTypeWith: other)
      }
    }
  }

  /// The types that a parameter may have, for messages.
  private static func names(of parameter: Parameter, _ schema: OperatorSchema) -> String {
    let names = schema.types[parameter.type]?.tensors.map(\.description).joined(separator: ", ") ?? ""
    return names.isEmpty ? "no tensor" : names
  }

  /// Checks the types that were inferred for outputs: attributes may name types that the operator does not give.
  package func validateOutputTypes(_ facts: [ValueFact], against schema: OperatorSchema) throws(OperatorError) {
    let parameters = schema.outputs
    for index in facts.indices {
      guard let number = OperatorSchema.number(at: index, of: parameters),
        !schema.allows(facts[index], asOutput: number)
      else { continue }
      let expected = Node.names(of: parameters[number], schema)
      throw .invalid("output \(index) (\(parameters[number].name)) would be \(facts[index]); expected \(expected)")
    }
  }
}
