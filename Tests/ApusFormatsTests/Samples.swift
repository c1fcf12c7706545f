// What the tests of this target share: the sample files, messages made by hand, and operators that stand in for real
// ones.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Testing

enum Samples {
  static let folder = String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.startIndex)) + "/Samples"

  static func file(_ name: String) throws -> FileBytes { try FileBytes.open(path: folder + "/" + name) }
}

/// Files that are cut off or changed, for readers that must refuse them or read something else.
enum Damage {
  /// Every `step`-th beginning of `whole`.
  static func beginnings(of whole: [UInt8], every step: Int = 1) -> some Sequence<[UInt8]> {
    stride(from: 0, to: whole.count, by: step).lazy.map { Array(whole[..<$0]) }
  }

  /// `count` copies of `whole`, each with one to `most` bytes changed at random.
  static func changes(of whole: [UInt8], count: Int, most: Int = 4) -> some Sequence<[UInt8]> {
    (0..<count).lazy.map { _ in
      var damaged = whole
      for _ in 0..<Int.random(in: 1...most) { damaged[Int.random(in: 0..<whole.count)] = UInt8.random(in: 0...255) }
      return damaged
    }
  }
}

/// The wire format by hand.
enum Wire {
  static func varint(_ value: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    return bytes + [UInt8(rest)]
  }
  static func tag(_ number: UInt64, _ wire: UInt64) -> [UInt8] { varint(number << 3 | wire) }
  static func int(_ number: UInt64, _ value: Int) -> [UInt8] {
    tag(number, 0) + varint(UInt64(bitPattern: Int64(value)))
  }
  static func data(_ number: UInt64, _ content: [UInt8]) -> [UInt8] {
    tag(number, 2) + varint(UInt64(content.count)) + content
  }
  static func text(_ number: UInt64, _ content: String) -> [UInt8] { data(number, Array(content.utf8)) }
}

/// An operator that takes anything and whose outputs are of the type of its first input.
struct StandIn: OperatorDefinition {
  let schema: OperatorSchema

  init(
    _ name: String, domain: String = "", versions: [Int] = [1], attributes: [AttributeSchema] = [],
    portable: PortableForm? = nil
  ) {
    schema = OperatorSchema(
      name, domain: domain, versions: versions, inputs: [.variadic("inputs", "V")],
      outputs: [.variadic("outputs", "V")],
      attributes: attributes, types: ["V": .all], portable: portable)
  }

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    // Version 1 of AddAxis has the axis as an attribute, version 13 as an input.
    if schema.id.name == "AddAxis", version == 1, let axis = node.attributes.remove("axis"), case .int(let value) = axis
    {
      node.inputs.append(builder.addConstant(Tensor(scalar: value)))
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let type = context.type(0) { context.set(0, type, context.shape(0)) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel { throw .unsupported("a stand-in") }

  static let registry = OperatorRegistry(
    [
      [
        StandIn("Identity"), StandIn("Neg"), StandIn("Add"), StandIn("Young", versions: [20]),
        StandIn("AddAxis", versions: [1, 13]),
        StandIn(
          "Scale", attributes: [.float("factor", default: 1), .optional("label", .string), .optional("counts", .ints)]),
        StandIn("If", attributes: [.required("then_branch", .graph), .required("else_branch", .graph)]),
        StandIn("Loop", attributes: [.required("body", .graph)]),
        StandIn("Gradient", domain: "test"), StandInFused(),
      ]
    ],
    importRules: [
      [StandInGradient()], [OperatorRegistry.standard.importRule(for: OperatorID("Constant"))].compactMap { $0 },
    ])
}

/// A rule whose attributes name values; writes an operator of the same name and inputs.
struct StandInGradient: ImportRule {
  let schema = OperatorSchema(
    "Gradient", domain: "ai.onnx.preview.training", versions: [1], outputs: [.variadic("outputs", "V")],
    types: ["V": .all])
  let readAs = "another"
  let attributesNamingValues = ["xs", "zs", "y"]

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    try builder.append(
      Node(OperatorID("Gradient", domain: "test"), name: node.name, inputs: node.inputs, outputs: node.outputs))
  }
}

/// An operator of the engine's own, which is two Neg for everybody else.
struct StandInFused: EngineOperator {
  let schema = OperatorSchema(
    "Fused", domain: OperatorID.engineDomain, versions: [1], inputs: [.required("x", "V")],
    outputs: [.required("y", "V")], types: ["V": .all])

  func infer(_ context: inout InferenceContext) throws(OperatorError) { context.copy() }
  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel { throw .unsupported("a stand-in") }

  func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    let middle = builder.addValue(builder.graph[node.outputs[0] ?? ValueID(0)].name)
    try builder.append(Node(OperatorID("Neg"), inputs: node.inputs, outputs: [middle]))
    try builder.append(Node(OperatorID("Neg"), inputs: [middle], outputs: node.outputs))
  }
}

extension NodeProto {
  init(
    _ opType: String, _ inputs: [String], _ outputs: [String], name: String = "", domain: String = "",
    _ attributes: [(String, AttributeProto.Content)] = []
  ) {
    self.init()
    self.opType = opType
    self.inputs = inputs
    self.outputs = outputs
    self.name = name
    self.domain = domain
    self.attributes = attributes.map { AttributeProto(name: $0.0, content: $0.1) }
  }
}

extension GraphProto {
  init(inputs: [String] = [], outputs: [String], nodes: [NodeProto], initializers: [TensorProto] = []) {
    self.init()
    name = "graph"
    self.inputs = inputs.map {
      ValueInfoProto(name: $0, type: .tensor(elementType: 1, shape: [.parameter("n"), .value(3)]))
    }
    self.outputs = outputs.map { ValueInfoProto(name: $0, type: nil) }
    self.nodes = nodes
    self.initializers = initializers
  }
}

extension ModelProto {
  init(_ graph: GraphProto, functions: [FunctionProto] = [], opset: Int = 17, irVersion: Int = 10) {
    self.init()
    self.irVersion = irVersion
    self.graph = graph
    self.functions = functions
    opsetImport = [OperatorSetID(domain: "", version: opset), OperatorSetID(domain: "local", version: 1)]
    if graph.nodes.contains(where: { $0.domain == "ai.onnx.preview.training" }) {
      opsetImport.append(OperatorSetID(domain: "ai.onnx.preview.training", version: 1))
    }
  }

  /// The model after a way through bytes.
  func loaded(_ change: (inout ImportOptions) -> Void = { _ in }) throws(LoadError) -> ModelGraph {
    var options = ImportOptions()
    change(&options)
    return try ONNXReader.load(FileBytes(copying: encoded), registry: StandIn.registry, options: options).model
  }

  /// The problems that reading the model finds.
  func problems() -> [ModelProblem] {
    do {
      _ = try loaded()
      return []
    } catch {
      return error.problems
    }
  }
}

extension FunctionProto {
  init(
    _ name: String, inputs: [String], outputs: [String], attributes: [String] = [],
    defaults: [(String, AttributeProto.Content)] = [], overload: String = "", nodes: [NodeProto]
  ) {
    self.init()
    self.name = name
    domain = "local"
    self.inputs = inputs
    self.outputs = outputs
    self.attributes = attributes
    attributeDefaults = defaults.map { AttributeProto(name: $0.0, content: $0.1) }
    self.overload = overload
    self.nodes = nodes
    opsetImport = [OperatorSetID(domain: "", version: 17), OperatorSetID(domain: "local", version: 1)]
  }
}

extension Graph {
  /// One line a node: `name: op(inputs) -> outputs`.
  var lines: [String] {
    func text(_ ids: [ValueID?]) -> String {
      ids.map { id in id.map { values[$0.index].name.isEmpty ? "_" : values[$0.index].name } ?? "" }.joined(
        separator: ", ")
    }
    return nodes.map { "\($0.name): \($0.op)(\(text($0.inputs))) -> \(text($0.outputs))" }
  }

  func names(_ ids: [ValueID]) -> [String] { ids.map { values[$0.index].name } }
}
