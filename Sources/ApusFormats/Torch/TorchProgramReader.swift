// From the JSON of an exported program to the program.

import ApusContainers
import ApusGraph
import ApusTensor

/// Reads the JSON text of a program. Every field is checked; what is missing is an error that says where.
struct TorchProgramReader {
  private let limits: LoadLimits

  /// Graphs in graphs.
  private static let maximumDepth = 32
  private static let schemaMajors = 3...8

  static func read(_ bytes: Span<UInt8>, limits: LoadLimits) throws(LoadError) -> TorchProgram {
    let json = try JSONReader.parse(bytes, limits: limits)
    return try TorchProgramReader(limits: limits).program(json)
  }

  private func program(_ json: JSONValue) throws(LoadError) -> TorchProgram {
    guard let major = json["schema_version"]?["major"]?.integer, let module = json["graph_module"] else {
      throw LoadError(.wrongFormat, "an exported program with schema_version and graph_module was expected")
    }
    let minor = json["schema_version"]?["minor"]?.integer ?? 0
    var program = TorchProgram()
    program.schema = "\(major).\(minor)"
    program.version = json["torch_version"]?.text ?? ""
    if !Self.schemaMajors.contains(major) {
      throw .unsupported(
        "the schema \(program.schema) of an exported program was found; versions \(Self.schemaMajors.lowerBound) to "
          + "\(Self.schemaMajors.upperBound) are read", remedy: "Export the model with PyTorch 2.5 to 2.15")
    }
    program.graph = try graph(try member("graph", of: module, "graph_module"), depth: 0)
    let signature = try member("signature", of: module, "graph_module")
    for spec in try array("input_specs", of: signature, "signature") { program.inputs.append(try role(spec)) }
    for spec in try array("output_specs", of: signature, "signature") { program.outputs.append(try role(spec)) }
    program.outputNames = outputNames(module)
    return program
  }

  private func member(_ key: String, of json: JSONValue, _ what: String) throws(LoadError) -> JSONValue {
    guard let value = json[key] else { throw .malformed("\(what) should have a member '\(key)'") }
    return value
  }

  private func array(_ key: String, of json: JSONValue, _ what: String) throws(LoadError) -> [JSONValue] {
    guard let elements = json[key]?.elements else { throw .malformed("\(what) should have a list '\(key)'") }
    return elements
  }

  // MARK: - Graphs

  private func graph(_ json: JSONValue, depth: Int) throws(LoadError) -> TorchGraph {
    if depth > Self.maximumDepth { throw .limit("graphs lie more than \(Self.maximumDepth) deep in each other") }
    var graph = TorchGraph()
    for argument in try array("inputs", of: json, "a graph") {
      graph.inputs.append(try self.argument(argument, depth: depth))
    }
    for argument in try array("outputs", of: json, "a graph") {
      graph.outputs.append(try self.argument(argument, depth: depth))
    }
    for (name, value) in json["tensor_values"]?.members ?? [] { graph.tensors[name] = try meta(value, name) }
    for (name, value) in json["sym_int_values"]?.members ?? [] { graph.integers[name] = Self.dim(value) }
    for node in try array("nodes", of: json, "a graph") {
      if graph.nodes.count >= limits.maximumNodes {
        throw .limit("maximumNodes", limits.maximumNodes, found: "a graph has more nodes")
      }
      graph.nodes.append(try self.node(node, depth: depth))
    }
    return graph
  }

  private func node(_ json: JSONValue, depth: Int) throws(LoadError) -> TorchNode {
    guard var target = json["target"]?.text else { throw .malformed("a node should have a target") }
    for prefix in ["torch.ops.", "#"] where target.hasPrefix(prefix) { target.removeFirst(prefix.count) }
    var inputs: [(name: String, value: TorchArgument)] = []
    for input in try array("inputs", of: json, target) {
      let value = try argument(try member("arg", of: input, target), depth: depth)
      inputs.append((input["name"]?.text ?? "", value))
    }
    var outputs: [TorchArgument] = []
    for output in try array("outputs", of: json, target) { outputs.append(try argument(output, depth: depth)) }
    let (module, isLeaf) = Self.module(json["metadata"]?["nn_module_stack"]?.text ?? "")
    let name = json["name"]?.text ?? outputs.first?.names.first ?? target
    return TorchNode(
      target: target, inputs: inputs, outputs: outputs, name: name, module: module, isLeaf: isLeaf)
  }

  /// The innermost module of `key,path,class;key,path,class`.
  static func module(_ stack: String) -> (path: String, isLeaf: Bool) {
    guard let last = stack.split(separator: ";").last else { return ("", false) }
    let parts = last.split(separator: ",", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count == 3, !parts[1].hasPrefix("_empty_nn_module_stack") else { return ("", false) }
    var path = String(parts[1])
    for prefix in ["L__self__.", "L['self']."] where path.hasPrefix(prefix) { path.removeFirst(prefix.count) }
    let isContainer = parts[2].hasPrefix("torch.nn.modules.container")
    return (path, parts[2].hasPrefix("torch.nn.modules.") && !isContainer)
  }

  // MARK: - Values

  static func dim(_ json: JSONValue) -> Dim {
    if let number = json.integer ?? json["as_int"]?.integer { return Dim(number) }
    guard let text = json["as_expr"]?["expr_str"]?.text else { return .unknown }
    return TorchExpression.dim(text)
  }

  private func meta(_ json: JSONValue, _ name: String) throws(LoadError) -> TorchMeta {
    try Self.meta(json, name)
  }

  static func meta(_ json: JSONValue, _ name: String) throws(LoadError) -> TorchMeta {
    guard let type = json["dtype"]?.integer, let sizes = json["sizes"]?.elements,
      let strides = json["strides"]?.elements
    else { throw LoadError(.malformed, "a tensor should have dtype, sizes and strides", path: name) }
    if sizes.count > 64 || strides.count > 64 {
      throw LoadError(.malformed, "a tensor has \(sizes.count) axes", path: name)
    }
    return TorchMeta(
      dataType: TorchDataType.type(type), sizes: sizes.map { dim($0) }, strides: strides.map { dim($0) },
      offset: json["storage_offset"].map { dim($0) } ?? Dim(0))
  }

  private func argument(_ json: JSONValue, depth: Int) throws(LoadError) -> TorchArgument {
    guard let (kind, value) = json.variant else { throw .malformed("an argument should have one kind and value") }
    func bad() -> LoadError { .malformed("an argument of the kind \(kind) cannot be \(value.kind)") }
    func list<Element>(_ read: (JSONValue) -> Element?) throws(LoadError) -> [Element] {
      guard let elements = value.elements else { throw bad() }
      let read = elements.compactMap(read)
      if read.count != elements.count { throw bad() }
      return read
    }
    func one<Element>(_ read: Element?) throws(LoadError) -> Element {
      guard let read else { throw bad() }
      return read
    }
    switch kind {
    case "as_none": return .none
    case "as_tensor": return .tensor(try one(value["name"]?.text))
    case "as_tensors": return .tensors(try list { $0["name"]?.text })
    case "as_optional_tensors": return .tensors(try list { .some(Self.optional($0)) })
    case "as_optional_tensor": return Self.optional(value).map { .tensor($0) } ?? .none
    case "as_int": return .size(.number(try one(value.integer)))
    case "as_ints": return .sizes(try list { $0.integer.map { .number($0) } })
    case "as_sym_int": return .size(try one(Self.size(value)))
    case "as_sym_ints": return .sizes(try list { Self.size($0) })
    case "as_float": return .float(try one(value.real))
    case "as_floats": return .floats(try list { $0.real })
    case "as_sym_float":
      if let number = value["as_float"]?.real { return .float(number) }
      return .symbol(try one(value["as_name"]?.text))
    case "as_bool": return .bool(try one(value.truth))
    case "as_bools": return .bools(try list { $0.truth })
    case "as_sym_bool":
      if let truth = value["as_bool"]?.truth { return .bool(truth) }
      return .symbol(try one(value["as_name"]?.text))
    case "as_string": return .string(try one(value.text))
    case "as_scalar_type": return .dataType(try one(value.integer))
    case "as_graph": return .graph(try graph(try member("graph", of: value, "a graph argument"), depth: depth + 1))
    default: return .other(kind)
    }
  }

  private static func size(_ json: JSONValue) -> TorchSize? {
    if let number = json["as_int"]?.integer { return .number(number) }
    return json["as_name"]?.text.map { .name($0) }
  }

  private static func optional(_ json: JSONValue) -> String? {
    json["as_tensor"]?["name"]?.text ?? json["name"]?.text
  }

  // MARK: - The signature

  private func role(_ json: JSONValue) throws(LoadError) -> TorchRole {
    guard let (kind, value) = json.variant else { throw .malformed("a part of the signature should have one kind") }
    func text(_ json: JSONValue?, _ what: String) throws(LoadError) -> String {
      guard let text = json?.text else { throw .malformed("\(kind) should have \(what)") }
      return text
    }
    let name = value["arg"]?["name"]
    switch kind {
    case "user_input", "user_output":
      return .user(try argument(try member("arg", of: value, kind), depth: 0))
    case "loss_output": return .user(.tensor(try text(name, "a name")))
    case "parameter": return .parameter(try text(name, "a name"), path: try text(value["parameter_name"], "a path"))
    case "buffer": return .buffer(try text(name, "a name"), path: try text(value["buffer_name"], "a path"))
    case "tensor_constant":
      return .constant(try text(name, "a name"), path: try text(value["tensor_constant_name"], "a path"))
    case "constant_input": return .fixed(value["name"]?.text ?? "")
    case "buffer_mutation":
      return .changed(try text(name, "a name"), of: try text(value["buffer_name"], "a path"), isInput: false)
    case "parameter_mutation":
      return .changed(try text(name, "a name"), of: try text(value["parameter_name"], "a path"), isInput: false)
    case "user_input_mutation":
      return .changed(try text(name, "a name"), of: try text(value["user_input_name"], "a name"), isInput: true)
    default: return .object(name?.text ?? "", kind: kind)
    }
  }

  /// The paths of the outputs in what `forward` returned: keys of dictionaries and fields of named tuples.
  private func outputNames(_ module: JSONValue) -> [String] {
    guard let calls = module["module_call_graph"]?.elements,
      let spec = calls.first(where: { $0["fqn"]?.text == "" })?["signature"]?["out_spec"]?.text,
      let json = try? JSONReader.parse(Array(spec.utf8).span, limits: limits),
      let root = json.elements?.last
    else { return [] }
    var names: [String] = []
    collect(root, path: "", isNamed: false, depth: 0, into: &names)
    return names
  }

  private func collect(_ spec: JSONValue, path: String, isNamed: Bool, depth: Int, into names: inout [String]) {
    let children = spec["children_spec"]?.elements ?? []
    if depth > Self.maximumDepth || names.count > limits.maximumNodes { return }
    guard spec["type"]?.text != nil else {
      names.append(isNamed ? path : "")
      return
    }
    let keys = Self.keys(spec)
    for (index, child) in children.enumerated() {
      let key = keys.flatMap { $0.indices.contains(index) ? $0[index] : nil }
      collect(
        child, path: (path.isEmpty ? "" : path + ".") + (key ?? String(index)), isNamed: isNamed || key != nil,
        depth: depth + 1, into: &names)
    }
  }

  /// The texts among the keys that the context of a dictionary lists, if it is one.
  private static func keys(_ spec: JSONValue) -> [String]? {
    guard let context = spec["context"]?.text, let type = spec["type"]?.text, !type.hasSuffix(".tuple"),
      !type.hasSuffix(".list"),
      let json = try? JSONReader.parse(Array(context.utf8).span, limits: LoadLimits()),
      let elements = json.elements ?? json["keys"]?.elements
    else { return nil }
    let keys = elements.compactMap { $0.text ?? $0.integer.map(String.init) }
    return keys.count == elements.count ? keys : nil
  }
}
