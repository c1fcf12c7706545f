// PyTorch's exported programs (.pt2): https://docs.pytorch.org/docs/stable/export.html

import ApusContainers
import ApusGraph
import ApusTensor

/// Reads what torch.export.save wrote.
struct TorchProgramImporter: ModelImporter {
  let name = "pt2"
  let title = "PyTorch exported program"
  let endings = ["pt2"]
  var operators: [String] { TorchRules.names }

  func recognizes(_ file: FileBytes) -> Bool {
    guard let archive = TorchFiles.archive(file) else { return false }
    return TorchArchive.isExportedProgram(archive)
  }

  func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    let archive = try TorchArchive(
      try ZipArchive(file, limits: options.limits), limits: options.limits, account: options.allowance.memory)
    let program = archive.program
    let version = program.version.isEmpty ? "" : " \(program.version)"
    let ledger = ImportLedger(
      source: "PyTorch\(version) (exported program, schema \(program.schema))", options: options)
    let layers = LayerBuilder(name: "main", registry: registry, ledger: ledger)
    let importing = TorchProgramImport(archive, layers)
    Self.census(program.graph.nodes.filter { importing.lowering.isNeeded($0) }, ledger)
    try ledger.check()
    do throws(OperatorError) {
      try importing.bindInputs()
      try importing.lowerAndName()
    } catch {
      try ledger.report(error.message, at: "", remedy: error.remedy)
    }
    return try layers.finish()
  }

  /// Lists every operator that has no rule.
  private static func census(_ nodes: [TorchNode], _ ledger: ImportLedger) {
    for node in nodes {
      let op = TorchOperator(node.target)
      if !TorchRules.isKnown(op) {
        ledger.isUnmapped(node.target, at: node.module.isEmpty ? node.name : "\(node.module)/\(node.name)")
      }
      for case .graph(let inner) in node.inputs.map(\.value) { census(inner.nodes, ledger) }
    }
  }
}

/// How files of PyTorch are told from others.
enum TorchFiles {
  /// The directory of a file that is a zip archive.
  static func archive(_ file: FileBytes) -> ZipArchive? {
    guard file.count >= 4, let isZip = try? file.withBytes(in: 0..<4, { ZipArchive.isZip($0) }), isZip else {
      return nil
    }
    return try? ZipArchive(file)
  }
}

/// One import: inputs, nodes, outputs.
private struct TorchProgramImport {
  let program: TorchProgram
  let layers: LayerBuilder
  let lowering: TorchLowering

  init(_ archive: TorchArchive, _ layers: LayerBuilder) {
    (program, self.layers) = (archive.program, layers)
    var needed: [String] = []
    for role in program.outputs {
      switch role {
      case .user(let argument): needed += argument.names
      case .changed(let name, _, isInput: true): needed.append(name)
      default: continue
      }
    }
    lowering = TorchLowering(program.graph, layers: layers, archive: archive, outputs: needed)
  }

  func bindInputs() throws(OperatorError) {
    for role in program.inputs {
      switch role {
      case .user(.tensor(let name)): try bindTensor(name)
      case .user(.size(.name(let name))): bindNumber(name, .int64)
      case .user(.symbol(let name)): bindNumber(name, .float64)
      case .user: continue
      case .parameter(let name, let path), .buffer(let name, let path), .constant(let name, let path):
        lowering.weightPaths[name] = path
      case .fixed(let name):
        if !name.isEmpty { layers.ledger.note("The input '\(name)' has the value that it had when it was exported") }
      case .object(let name, let kind):
        layers.ledger.refuse("an object of the author (\(kind))", at: name)
      case .changed: continue
      }
    }
  }

  private func bindTensor(_ name: String) throws(OperatorError) {
    guard let meta = program.graph.tensors[name] else { throw .invalid("the input '\(name)' has no type") }
    guard let type = meta.dataType, !type.isComplex else {
      throw .unsupported(
        "the element type of the input '\(name)'", remedy: "Give complex numbers as pairs, and call view_as_complex")
    }
    lowering.bind(name, to: layers.input(name, type, meta.sizes))
  }

  /// A number that callers give, as a scalar.
  private func bindNumber(_ name: String, _ type: DataType) {
    let value = layers.input(name, type, [])
    if let number = try? layers.unsqueeze(value, [0]) { lowering.bind(symbol: name, to: number) }
  }

  func lowerAndName() throws(OperatorError) {
    do throws(LoadError) {
      try lowering.run()
      try layers.ledger.check()
    } catch {
      // The problems are in the ledger and are told by whoever ends the import.
      if error.problems.isEmpty {
        throw OperatorError(error.code == .limitExceeded ? .limit : .invalidNode, error.message, remedy: error.remedy)
      }
      return
    }
    var places = program.outputNames[...]
    for role in program.outputs {
      switch role {
      case .user(let argument): try output(argument, named: places.popFirst() ?? "")
      case .changed(let name, let input, isInput: true):
        try layers.output(try lowering.tensor(name), named: input + ".changed")
        layers.ledger.note("The program writes to its input '\(input)'; '\(input).changed' is what it becomes")
      case .changed(_, let path, isInput: false):
        layers.ledger.note("The program writes to '\(path)'; every run begins with what the file has")
      default: continue
      }
    }
  }

  private func output(_ argument: TorchArgument, named path: String) throws(OperatorError) {
    func name(_ source: String) -> String { path.isEmpty ? source : path }
    switch argument {
    case .tensor(let source):
      if program.graph.tensors[source]?.dataType?.isComplex ?? false {
        layers.ledger.note("The complex numbers of '\(name(source))' are pairs on a last axis")
      }
      try layers.output(try lowering.tensor(source), named: name(source))
    case .size(.name(let source)), .symbol(let source):
      let number = try layers.squeeze(try lowering.symbol(source), [0])
      try layers.output(number, named: name(source))
    default: layers.ledger.note("A result that is no tensor (\(argument)) is left out")
    }
  }
}
