// Which kinds of kernels an operator has, found by preparing it for each of its types.

import ApusGraph
import ApusOperators
import ApusTensor

/// Prepares an operator as a node with nothing but its required attributes and inputs, on the element types and ranks
/// that its schema allows, and looks at what kernels come of it.
struct KernelProbe {
  private let definition: any OperatorDefinition
  private let registry: OperatorRegistry
  private var schema: OperatorSchema { definition.schema }

  init(_ definition: any OperatorDefinition, registry: OperatorRegistry) {
    (self.definition, self.registry) = (definition, registry)
  }

  /// `planned`, `eager`, or both; an operator that only values can prepare counts as eager.
  var kinds: [String] {
    var found: Set<String> = []
    for types in assignments {
      for rank in [nil, 4, 2, 1, 3, 5, 0] as [Int?] {
        guard let kernel = prepare(types, rank: rank) else { continue }
        found.insert(kernel)
        break
      }
    }
    return found.sorted(by: >)
  }

  /// Types by variable: for each variable in turn all that it may stand for, the others at their first choice.
  private var assignments: [[String: ValueFact]] {
    func facts(_ set: TypeSet) -> [ValueFact] {
      let first: [DataType] = [.float32, .int64, .uint8]
      let tensors = first.filter(set.tensors.contains) + set.tensors.filter { !first.contains($0) }
      return tensors.map { .tensor($0, nil) } + set.sequences.prefix(1).map { .sequence(.tensor($0, nil)) }
        + set.optionals.prefix(1).map { .optional(.tensor($0, nil)) }
        + (set.maps ? [.int64, .string] : []).map { .map(key: $0, value: .tensor(.float32, [])) }
    }
    let choices = schema.types.mapValues(facts)
    var base: [String: ValueFact] = [:]
    for (name, list) in choices { base[name] = list.first }
    var all = [base]
    for (name, list) in choices.sorted(by: { $0.key < $1.key }) {
      for fact in list.dropFirst() {
        var other = base
        other[name] = fact
        all.append(other)
      }
    }
    return all
  }

  private func prepare(_ types: [String: ValueFact], rank: Int?) -> String? {
    // Trailing optional inputs stay away; those before a required one are given.
    let last = schema.inputs.lastIndex { $0.presence != .optional } ?? -1
    let inputs = schema.inputs.prefix(last + 1).map { parameter -> ValueFact? in
      let fact = types[parameter.type] ?? .tensor(.float32, nil)
      guard let rank, let type = fact.tensor?.dataType else { return fact }
      return .tensor(type, [Dim](repeating: 4, count: rank))
    }
    let outputCount = max(1, schema.outputs.count { $0.presence == .required })
    let node = Node(
      schema.id, name: "probe", inputs: inputs.indices.map { ValueID($0) },
      outputs: (0..<outputCount).map { ValueID(inputs.count + $0) }, attributes: Attributes(attributes))
    let inferred = try? InferenceDriver(registry: registry).infer(
      node, inputs: inputs, constants: inputs.map { _ in nil }, outerFact: { _ in .unknown })
    let outputs = inferred ?? node.outputs.map { _ in .unknown }
    let context = PrepareContext(
      node: node, schema: schema, inputs: inputs, outputs: outputs, constants: inputs.map { _ in nil })
    switch try? definition.prepare(context) {
    case .planned?: return "planned"
    case .eager?: return "eager"
    case nil: return nil
    }
  }

  /// The required attributes, each with some value of its kind.
  private var attributes: [(String, AttributeValue)] {
    let examples = KernelProbe.examples[schema.id] ?? []
    let given = Set(examples.map(\.0))
    return examples
      + schema.attributes.filter { $0.isRequired && !given.contains($0.name) }.map { attribute in
        let value: AttributeValue =
          switch attribute.kind {
          case .int: .int(1)
          case .float: .float(1)
          case .string: .string("")
          case .tensor: .tensor(Tensor(scalar: Float(1)))
          case .graph: .graph(Subgraph(graph: Graph(), captured: []))
          case .type: .type(.tensor(.float32, nil))
          case .ints: .ints([1, 1])
          case .floats: .floats([1, 1])
          case .strings: .strings(["a", "b"])
          case .tensors: .tensors([])
          case .graphs: .graphs([])
          case .types: .types([])
          }
        return (attribute.name, value)
      }
  }
}
