// From the messages of an ONNX file to the typed graph: models, graphs and their names. Nodes are in ImportNodes.swift.

import ApusGraph
import ApusTensor

/// Reads ONNX models.
package enum ONNXReader {
  /// The newest operator set of the default domain, and the newest IR version, that are known.
  package static let newestOpset = 28
  package static let newestIRVersion = 14

  /// Reads the model at `path`, which may be a pipe; `-` is standard input, which has no folder of its own.
  package static func load(
    path: String, registry: OperatorRegistry, options: ImportOptions = ImportOptions()
  ) throws(LoadError) -> ImportedModel {
    var options = options
    let file = try open(path: path, options: &options)
    return try load(file, registry: registry, options: options)
  }

  /// Opens the model at `path`, which need not be of this format; `options` get the folder of its side files.
  package static func open(path: String, options: inout ImportOptions) throws(LoadError) -> FileBytes {
    let reading: FileBytes.Reading = options.mapsFiles ? .mapped : .structure(.model)
    let account = options.allowance.memory
    if path == "-" {
      return try FileBytes.read(
        descriptor: 0, name: "standard input", limits: options.limits, reading: reading, account: account)
    }
    if options.externalFolder == nil {
      options.externalFolder = ExternalDataFolder.folder(of: path)
      options.linkedFolder = ExternalDataFolder.realFolder(of: path)
    }
    return try FileBytes.open(path: path, limits: options.limits, reading: reading, account: account)
  }

  /// Reads the model in `file`, in any form of ONNX. All problems of the model come in one error.
  package static func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions = ImportOptions()
  ) throws(LoadError) -> ImportedModel {
    guard let form = file.withBytes({ (bytes: Span<UInt8>) in ModelForm.text(bytes) }) else {
      return try loadBinary(file, registry: registry, options: options)
    }
    let binary = try form.read(file, limits: options.limits, account: options.allowance.memory)
    do throws(LoadError) {
      var model = try loadBinary(binary, registry: registry, options: options)
      model.files += [file.reader].compactMap(\.self)
      return model
    } catch {
      // A place in the binary form is none in the text.
      var error = error
      error.byteOffset = nil
      throw error
    }
  }

  private static func loadBinary(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    do throws(LoadError) {
      let (scanned, proto) = try parse(file, limits: options.limits)
      let external = ExternalDataFolder(
        options.externalFolder, linkedFolder: options.linkedFolder, limits: options.limits,
        account: options.allowance.memory, mapsFiles: options.mapsFiles)
      let decoder = TensorDecoder(
        file: file, external: external, limits: options.limits, account: options.allowance.memory)
      var model = try load(proto, decoder: decoder, registry: registry, options: options, notes: scanned.notes)
      model.files = ([file] + external.opened).compactMap(\.reader)
      model.mapped = ([file] + external.opened).compactMap(\.mapping)
      model.sideFiles = external.opened.map(\.name)
      return model
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// The message in `file`, which must have a graph. Bytes that are something else are named.
  private static func parse(
    _ file: FileBytes, limits: LoadLimits
  ) throws(LoadError) -> (scanned: ScannedMessage, proto: ModelProto) {
    do throws(LoadError) {
      let scanned = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
        if bytes.isEmpty { throw LoadError(.wrongFormat, "an ONNX model was expected; this is empty") }
        return try WireScanner.scan(bytes, as: .model, limits: limits)
      }
      let proto = try ProtobufUnpack.model(scanned)
      if proto.graph == nil { throw noGraph(proto) }
      return (scanned, proto)
    } catch {
      guard let kind = file.withBytes({ (bytes: Span<UInt8>) in FileKind(bytes) }) else { throw error }
      throw wrongKind(kind, file, limits)
    }
  }

  private static func wrongKind(_ kind: FileKind, _ file: FileBytes, _ limits: LoadLimits) -> LoadError {
    let text = "an ONNX model was expected; this is \(kind.name)"
    if file.withBytes({ (bytes: Span<UInt8>) in ZipArchive.isZip(bytes) }) {
      // An archive that is refused belongs to no format; what is wrong with it says more than what it is.
      do throws(LoadError) {
        _ = try ZipArchive(file, limits: limits)
      } catch {
        return LoadError(.wrongFormat, "\(text) that is refused: \(error.message)", remedy: error.remedy)
      }
    }
    return LoadError(.wrongFormat, text, remedy: kind.remedy)
  }

  private static func noGraph(_ proto: ModelProto) -> LoadError {
    LoadError(
      .wrongFormat, "an ONNX model was expected; there is no graph in it",
      remedy: proto.irVersion == 0 ? "Is this an ONNX file?" : "")
  }

  /// Reads a model that was parsed already.
  package static func load(
    _ proto: ModelProto, decoder: TensorDecoder, registry: OperatorRegistry, options: ImportOptions,
    notes: [String] = []
  ) throws(LoadError) -> ImportedModel {
    guard let graph = proto.graph else { throw noGraph(proto) }
    let importer = ONNXImporter(proto, decoder: decoder, registry: registry, options: options)
    var model = ModelGraph(graph: try importer.importMain(graph))
    try importer.checkTime()
    if !importer.problems.isEmpty, !options.keepsFaultyNodes { throw LoadError(problems: importer.problems) }
    model.irVersion = proto.irVersion
    model.opsets = importer.modelOpsets
    model.producer = proto.producerName
    model.producerVersion = proto.producerVersion
    model.domain = proto.domain
    model.modelVersion = proto.modelVersion
    model.documentation = proto.docString.isEmpty ? graph.docString : proto.docString
    model.metadata = proto.metadata.map { ($0.key, $0.value) }
    let given = Set(model.graph.inputs.map { model.graph[$0].name })
    model.defaultedInputs = graph.inputs.filter { !given.contains($0.name) }
      .map { ($0.name, $0.type?.fact ?? .unknown) }
    model.graph.notes = notes + model.graph.notes
    if importer.missesVendorDomain {
      model.graph.notes.append(
        "the model does not import the operator set '\(ONNXImporter.vendorDomain)' whose operators it uses; "
          + "version 1 was taken")
    }
    return ImportedModel(model: model, problems: importer.problems)
  }
}

/// The reading of one model. Problems are collected; only limits stop it at once.
final class ONNXImporter {
  let proto: ModelProto
  let decoder: TensorDecoder
  let registry: OperatorRegistry
  let inference: InferenceDriver
  let options: ImportOptions
  let modelOpsets: [String: Int]
  private(set) var functions: [FunctionID: FunctionProto] = [:]
  private(set) var problems: [ModelProblem] = []
  /// Whether operators of `vendorDomain` are used and the model does not say which operator set they are of.
  var missesVendorDomain = false
  private var nodeCount = 0
  private var nameBytes = 0

  /// Of onnxruntime's operators, all of which have one version: its own tools make files that do not import it.
  static let vendorDomain = "com.microsoft"

  /// After so many problems reading stops.
  private static let maximumProblems = 1000

  init(_ proto: ModelProto, decoder: TensorDecoder, registry: OperatorRegistry, options: ImportOptions) {
    self.proto = proto
    self.decoder = decoder
    self.registry = registry
    self.options = options
    inference = InferenceDriver(registry: registry, allowance: options.allowance)
    var opsets = Self.opsets(proto.opsetImport)
    // Models from before operator sets mean the first one.
    if proto.irVersion < 3, opsets[""] == nil { opsets[""] = 1 }
    modelOpsets = opsets
  }

  static func opsets(_ imports: [OperatorSetID]) -> [String: Int] {
    Dictionary(imports.map { ($0.domain, $0.version) }, uniquingKeysWith: { max($0, $1) })
  }

  /// Throws when the time of the loading is over.
  func checkTime() throws(LoadError) {
    do throws(OperatorError) {
      try options.allowance.checkTime()
    } catch {
      throw LoadError(.limitExceeded, error.message, remedy: error.remedy)
    }
  }

  func report(_ path: [String], _ reason: String, remedy: String = "") throws(LoadError) {
    problems.append(ModelProblem(nodePath: path.joined(separator: " › "), reason: reason, remedy: remedy))
    if problems.count >= Self.maximumProblems {
      problems.append(ModelProblem(nodePath: "", reason: "there may be more problems; reading stopped here"))
      throw LoadError(problems: problems)
    }
  }

  func report(_ path: [String], _ error: OperatorError) throws(LoadError) {
    // The path of the node itself is known here; deeper nodes are in the error.
    let inner = error.path.dropFirst()
    var reason = error.message
    if !error.inputs.isEmpty { reason += " (inputs: " + error.inputs.joined(separator: ", ") + ")" }
    try report(path + inner, reason, remedy: error.remedy)
  }

  /// Reports an error of a tensor or side file; a limit stops the reading.
  func report(_ path: [String], _ error: LoadError) throws(LoadError) {
    if error.code == .limitExceeded { throw error }
    var reason = error.path.map { "\($0): \(error.message)" } ?? error.message
    if let offset = error.byteOffset { reason += " (at byte \(offset))" }
    try report(path, reason, remedy: error.remedy)
  }

  /// Counts a node, a call or a subgraph.
  func chargeNode(_ path: [String]) throws(LoadError) {
    nodeCount += 1
    if nodeCount > options.limits.maximumNodes {
      throw .limit(
        "maximumNodes", options.limits.maximumNodes, found: "the model has more nodes when its functions are inlined",
        path: path.joined(separator: " › "))
    }
  }

  /// Counts the bytes of a name that was made here.
  func chargeName(_ name: String, _ path: [String]) throws(LoadError) {
    nameBytes += name.utf8.count + 32
    if nameBytes > options.limits.maximumStructureBytes {
      throw .limit(
        "maximumStructureBytes", options.limits.maximumStructureBytes,
        found: "the names of the model take more bytes when its functions are inlined")
    }
  }

  // MARK: Graphs

  /// The main graph. Its result is of use only if no problem was found.
  func importMain(_ graphProto: GraphProto) throws(LoadError) -> Graph {
    try checkVersions()
    for function in proto.functions {
      let id = FunctionID(domain: function.domain, name: function.name, overload: function.overload)
      if functions.updateValue(function, forKey: id) != nil {
        try report([], "the function \(function.domain).\(function.name) is defined twice")
      }
    }
    try checkInlinedNodes(of: graphProto)
    let builder = GraphBuilder(name: graphProto.name, inference: inference)
    let scope = NameScope(
      builder: builder, parent: nil, opsets: modelOpsets, prefix: "", path: [], functions: [], depth: 0, arguments: nil)
    try importBody(graphProto, into: scope)
    return builder.graph
  }

  private func checkVersions() throws(LoadError) {
    if proto.irVersion > ONNXReader.newestIRVersion {
      try report(
        [], "the file has IR version \(proto.irVersion); Apus reads up to \(ONNXReader.newestIRVersion)",
        remedy: "Export the model with an older version of onnx, or update Apus")
    }
    if let opset = modelOpsets[""], opset > ONNXReader.newestOpset {
      try report(
        [], "the model uses operator set \(opset); Apus knows up to \(ONNXReader.newestOpset)",
        remedy: "Export the model with an older operator set, or update Apus")
    }
    if modelOpsets[""] == nil && modelOpsets.isEmpty {
      try report([], "the model does not say which operator set it uses (opset_import is empty)")
    }
    for (domain, version) in modelOpsets.sorted(by: { $0.key < $1.key }) where version < 1 {
      try report([], "the version of the operator set '\(domain)' is \(version); expected 1 or more")
    }
  }

  /// Fills the graph of `scope`: inputs, initializers, nodes, outputs.
  func importBody(_ graphProto: GraphProto, into scope: NameScope) throws(LoadError) {
    // Shapes of computed values are what an exporter saw once, or guessed: only the types count.
    for info in graphProto.valueInfo + graphProto.outputs {
      if let fact = info.type?.fact.withoutShapes, fact != .unknown { scope.declared[info.name] = fact }
    }
    scope.builder.graph.outputDeclarations = graphProto.outputs.map { $0.type?.fact ?? .unknown }
    // Names that are no inputs are initializers and nothing else.
    let overridable =
      scope.parent == nil && scope.prefix.isEmpty
      ? options.overridableInputs.intersection(graphProto.inputs.map(\.name)) : []
    let initializerNames = Set(
      graphProto.initializers.map(\.name) + graphProto.sparseInitializers.compactMap(\.values?.name)
    ).subtracting(overridable)
    for input in graphProto.inputs where !initializerNames.contains(input.name) { try importInput(input, scope) }
    for initializer in graphProto.initializers where !overridable.contains(initializer.name) {
      do throws(LoadError) {
        try defineConstant(initializer.name, decoder.tensor(initializer), scope)
      } catch {
        try failedInitializer(initializer.name, error, scope)
      }
    }
    for initializer in graphProto.sparseInitializers where !overridable.contains(initializer.values?.name ?? "") {
      do throws(LoadError) {
        try defineConstant(initializer.values?.name ?? "", decoder.tensor(initializer), scope)
      } catch {
        try failedInitializer(initializer.values?.name ?? "", error, scope)
      }
    }
    try importNodes(graphProto.nodes, scope)
    for output in graphProto.outputs {
      if case .value(let value)? = scope.lookup(output.name) {
        scope.builder.graph.outputs.append(value)
      } else {
        try report(scope.path, "the output '\(output.name)' of the graph is computed nowhere")
      }
    }
  }

  private func importInput(_ input: ValueInfoProto, _ scope: NameScope) throws(LoadError) {
    if input.name.isEmpty { try report(scope.path, "an input of the graph has no name") }
    if let type = input.type, let reason = type.unsupported {
      try report(scope.path, "the input '\(input.name)' is \(reason), which is not supported")
    }
    if let value = try define(input.name, fact: inputFact(input, scope), in: scope) {
      scope.builder.graph.inputs.append(value)
      scope.builder.graph.inputDeclarations.append(input.type?.fact ?? .unknown)
    }
  }

  /// What is known of a formal input: what it says where every run is checked against that, which are tensors of the
  /// main graph; otherwise the type.
  private func inputFact(_ input: ValueInfoProto, _ scope: NameScope) -> ValueFact {
    let fact = input.type?.fact ?? .unknown
    return scope.parent == nil && fact.tensor != nil ? fact : fact.withoutShapes
  }

  /// Gives `name` a value that never changes.
  func defineConstant(_ name: String, _ tensor: Tensor, _ scope: NameScope) throws(LoadError) {
    if name.isEmpty { return try report(scope.path, "an initializer of the shape \(tensor.shape) has no name") }
    _ = try define(name, fact: .tensor(TensorFact(tensor)), constant: tensor, in: scope)
  }

  private func failedInitializer(_ name: String, _ error: LoadError, _ scope: NameScope) throws(LoadError) {
    try report(scope.path, error)
    if !name.isEmpty, !scope.isDefinedHere(name) { _ = try define(name, fact: .unknown, in: scope) }
  }

  /// A new value for `name`; nil, and a problem, if the name has one in this graph.
  func define(
    _ name: String, fact: ValueFact, constant: Tensor? = nil, in scope: NameScope
  ) throws(LoadError) -> ValueID? {
    if scope.isDefinedHere(name) {
      try report(
        scope.path, "the value '\(name)' is defined twice", remedy: "Give each value of the graph a name of its own")
      return nil
    }
    let identity = scope.identity(of: name)
    if !scope.prefix.isEmpty { try chargeName(identity.name, scope.path) }
    let value = scope.builder.addValue(identity.name, fact: fact == .unknown ? identity.fact : fact, constant: constant)
    scope.bind(name, to: .value(value))
    return value
  }
}

extension TypeProto {
  /// What the type says; unknown where it says nothing or what is not supported. Extents below 0 are unknown.
  var fact: ValueFact {
    switch self {
    case .tensor(let elementType, let shape):
      guard let dataType = DataType(rawValue: elementType) else { return .unknown }
      return .tensor(
        dataType,
        shape?.map { (dim: Dimension) -> Dim in
          switch dim {
          case .value(let value): value < 0 ? .unknown : Dim(value)
          // What exporters write where they know no name.
          case .parameter(let name): ["", "?", "None"].contains(name) ? .unknown : .symbol(name)
          case .unknown: .unknown
          }
        })
    case .sequence(let element): return .sequence(element?.fact ?? .unknown)
    case .optional(let element): return .optional(element?.fact ?? .unknown)
    case .map(let keyType, let value):
      guard let key = DataType(rawValue: keyType) else { return .unknown }
      return .map(key: key, value: value?.fact ?? .unknown)
    case .sparseTensor, .opaque, .absent: return .unknown
    }
  }

  /// The name of the kind, if values of it cannot be given to a model.
  var unsupported: String? {
    switch self {
    case .sparseTensor: "a sparse tensor"
    case .opaque(let domain, let name): "of the opaque type \(domain).\(name)"
    case .tensor(let elementType, _) where elementType != 0 && DataType(rawValue: elementType) == nil:
      "a tensor of the element type \(elementType)"
    case .sequence(let element), .optional(let element): element?.unsupported
    case .map(_, let value): value?.unsupported
    case .tensor, .absent: nil
    }
  }
}
