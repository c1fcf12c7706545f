// Binding symbols before a model is prepared.

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
            let opened = shape.dims.enumerated().map { $0.offset == axis ? "N" : "\($0.element)" }
            throw RunError(
              .invalidInput, "shape \(shape) for input '\(name)'; the model declares \(graph.fact(input))",
              remedy: "Axis \(axis) is \(known) in the file; `apus convert --shape \(name)="
                + "\(opened.joined(separator: "x"))` opens it, as far as the model lets it")
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
}
