// Calls of model-local functions: the body takes the place of the call.

import ApusGraph
import ApusTensor

extension ONNXImporter {
  /// Inlines `function` for the node `call`.
  func importCall(
    _ call: NodeProto, of function: FunctionProto, _ id: FunctionID, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) {
    let inputs = try importInputs(call, scope, path)
    var isSound = true
    if scope.functions.contains(id) {
      isSound = false
      try report(path, "the function calls itself", remedy: "Functions of a model may not be recursive")
    }
    if inputs.count > function.inputs.count || call.outputs.count > function.outputs.count {
      isSound = false
      try report(
        path,
        "the function has \(function.inputs.count) inputs and \(function.outputs.count) outputs; "
          + "the call gives \(inputs.count) and takes \(call.outputs.count)")
    }
    let arguments = try self.arguments(of: call, function, scope, path)
    guard isSound else {
      for output in call.outputs where !output.isEmpty { _ = try define(output, fact: .unknown, in: scope) }
      return
    }
    let prefix = scope.prefix.isEmpty ? call.nameOrOutput : scope.prefix + "/" + call.nameOrOutput
    try chargeName(prefix, path)
    let imports = Self.opsets(function.opsetImport)
    let body = NameScope(
      builder: scope.builder, parent: nil, opsets: imports, prefix: prefix, path: path,
      functions: scope.functions.union([id]), depth: try deeper(scope.depth, path), arguments: arguments)
    for (index, name) in function.inputs.enumerated() {
      if let value = index < inputs.count ? inputs[index] : nil {
        body.bind(name, to: .value(value))
      } else {
        body.bind(name, to: .absent)
      }
    }
    for (formal, actual) in zip(function.outputs, call.outputs)
    where !actual.isEmpty && body.outputNames[formal] == nil {
      body.outputNames[formal] = scope.identity(of: actual)
    }
    try importNodes(function.nodes, body)
    try bindOutputs(of: call, function, body, scope, path)
  }

  /// The attributes of the function: what the call gives, else the defaults.
  private func arguments(
    of call: NodeProto, _ function: FunctionProto, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) -> [String: NameScope.Argument] {
    var arguments: [String: NameScope.Argument] = [:]
    for attribute in function.attributeDefaults {
      arguments[attribute.name] = NameScope.Argument(content: attribute.content, scope: scope)
    }
    let known = Set(function.attributes + function.attributeDefaults.map(\.name))
    for attribute in call.attributes {
      guard known.contains(attribute.name) else {
        try report(path, "the function has no attribute \(attribute.name)", remedy: "It has: \(known.sorted())")
        continue
      }
      if let argument = try resolve(attribute, scope, path) { arguments[attribute.name] = argument }
    }
    return arguments
  }

  /// Gives the outputs of the call their values. A value that has a name already (an input that the function hands
  /// through, or one that is an output twice) goes through an Identity, so that every output keeps its name.
  private func bindOutputs(
    of call: NodeProto, _ function: FunctionProto, _ body: NameScope, _ scope: NameScope, _ path: [String]
  ) throws(LoadError) {
    var taken: Set<ValueID> = []
    for case .value(let value)? in function.inputs.map({ body.lookup($0) }) { taken.insert(value) }
    for (formal, actual) in zip(function.outputs, call.outputs) where !actual.isEmpty {
      guard case .value(let value)? = body.lookup(formal) else {
        try report(path, "the function does not compute its output '\(formal)'")
        _ = try define(actual, fact: .unknown, in: scope)
        continue
      }
      if taken.insert(value).inserted {
        if scope.isDefinedHere(actual) {
          try report(path, "the value '\(actual)' is defined twice")
        } else {
          scope.bind(actual, to: .value(value))
        }
      } else if let copy = try define(actual, fact: scope.builder.fact(value), in: scope) {
        do throws(OperatorError) {
          try scope.builder.appendCopy(of: value, as: copy)
        } catch {
          try report(path, error)
        }
      }
    }
  }
}

// MARK: - Counting

extension ONNXImporter {
  /// Throws if there would be too many nodes, or calls in calls, with all functions inlined. Counted without inlining
  /// any: twenty functions that call each other twice make a million nodes.
  func checkInlinedNodes(of graph: GraphProto) throws(LoadError) {
    if functions.isEmpty { return }
    var counter = InlinedNodes(functions: functions, limits: options.limits)
    let count = try counter.count(graph.nodes, depth: 0)
    if count > options.limits.maximumNodes {
      throw .limit(
        "maximumNodes", options.limits.maximumNodes,
        found: "the model has \(count == .max ? "more" : "\(count)") nodes when its functions are inlined")
    }
  }
}

/// Counts the nodes of functions, each function once.
private struct InlinedNodes {
  let functions: [FunctionID: FunctionProto]
  let limits: LoadLimits
  /// nil: being counted, which a function that calls itself finds. The importer tells of it.
  private var counts: [FunctionID: Int?] = [:]

  init(functions: [FunctionID: FunctionProto], limits: LoadLimits) {
    (self.functions, self.limits) = (functions, limits)
  }

  /// Nodes, calls and subgraphs of `nodes`, at most `Int.max`.
  mutating func count(_ nodes: [NodeProto], depth: Int) throws(LoadError) -> Int {
    if depth > min(limits.maximumNesting, 1000) {
      throw .limit("maximumNesting", limits.maximumNesting, found: "graphs and functions lie deeper in each other")
    }
    var total = nodes.count
    for node in nodes {
      let id = FunctionID(domain: node.domain, name: node.opType, overload: node.overload)
      if let function = functions[id] { add(try count(function, id, depth: depth + 1), to: &total) }
      for attribute in node.attributes {
        switch attribute.content {
        case .graph(let graph): add(1, try count(graph.nodes, depth: depth + 1), to: &total)
        case .graphs(let graphs):
          for graph in graphs { add(1, try count(graph.nodes, depth: depth + 1), to: &total) }
        default: break
        }
      }
    }
    return total
  }

  private mutating func count(_ function: FunctionProto, _ id: FunctionID, depth: Int) throws(LoadError) -> Int {
    if let known = counts[id] { return known ?? 0 }
    counts[id] = .some(nil)
    let count = try count(function.nodes, depth: depth)
    counts[id] = .some(count)
    return count
  }

  private func add(_ numbers: Int..., to total: inout Int) {
    for number in numbers {
      let (sum, overflow) = total.addingReportingOverflow(number)
      total = overflow ? .max : sum
    }
  }
}
