// Reads models of TensorFlow Lite (LiteRT): one FlatBuffer with a graph of layers that have the channels last.
// https://ai.google.dev/edge/litert

import ApusContainers
import ApusGraph
import ApusTensor

package struct TFLiteImporter: ModelImporter {
  package let name = "tflite"
  package let title = "TensorFlow Lite"
  package let endings = ["tflite", "lite"]

  package init() {}

  package var operators: [String] { TFLiteRules.all.keys.sorted() }

  package func recognizes(_ file: FileBytes) -> Bool { FlatBuffer.isIdentified(file, by: TFLiteSchema.identifier) }

  package func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    let model = try TFLiteModel(file, limits: options.limits)
    let ledger = ImportLedger(source: title, options: options)
    try census(model, ledger)
    ledger.hasLayers(model.subgraphs.reduce(0) { $0 + $1.operators.count })
    let main = model.signature?.subgraph ?? 0
    let layers = LayerBuilder(name: model.subgraphs[main].name, registry: registry, ledger: ledger)
    let program = TFLiteProgram(model, ledger)
    let scope = TFLiteScope(program, main, layers, depth: 0)
    let inputs = try self.inputs(scope, model)
    let results = try scope.run(inputs)
    try ledger.check()
    try outputs(results, scope, model)
    var imported = try layers.finish()
    describe(&imported, model)
    imported.files = [file.reader].compactMap(\.self)
    imported.mapped = [file.mapping].compactMap(\.self)
    return imported
  }

  /// Tells of everything that cannot be read, before anything is.
  private func census(_ model: TFLiteModel, _ ledger: ImportLedger) throws(LoadError) {
    for subgraph in model.subgraphs {
      for node in subgraph.operators where TFLiteRules.all[node.kind] == nil {
        let place = node.outputs.first.map { subgraph.tensors[$0].name } ?? subgraph.name
        ledger.isUnmapped(node.kind, at: place)
      }
    }
    try ledger.check()
  }

  // MARK: - Inputs and outputs

  private func inputs(_ scope: TFLiteScope, _ model: TFLiteModel) throws(LoadError) -> [ValueID?] {
    var names = Set<String>()
    var inputs: [ValueID?] = []
    for place in scope.subgraph.inputs {
      let tensor = scope.subgraph.tensors[place]
      let name = unique(model.signature?.inputs.first { $0.tensor == place }?.name ?? tensor.name, &names)
      guard let type = tensor.type else {
        throw .unsupported("the input '\(name)' should be a tensor; it is a resource or a variant")
      }
      if type.isComplex {
        throw .unsupported(
          "the input '\(name)' should be of real numbers; it is of \(type)",
          remedy: "Export the model with the real and imaginary parts as inputs")
      }
      inputs.append(scope.layers.input(name, type, tensor.dims(name)))
    }
    return inputs
  }

  private func unique(_ name: String, _ names: inout Set<String>) -> String {
    let base = name.isEmpty ? "value" : name
    var unique = base
    var number = 2
    while !names.insert(unique).inserted {
      unique = "\(base)_\(number)"
      number += 1
    }
    return unique
  }

  private func outputs(_ results: [ValueID?], _ scope: TFLiteScope, _ model: TFLiteModel) throws(LoadError) {
    var names = Set(scope.layers.builder.graph.inputs.map { scope.layers.builder.graph[$0].name })
    // A tensor that is several outputs has several names.
    var signed = model.signature?.outputs ?? []
    for (place, result) in zip(scope.subgraph.outputs, results) {
      let entry = signed.firstIndex { $0.tensor == place }
      let given = entry.map { signed.remove(at: $0).name } ?? scope.subgraph.tensors[place].name
      let name = unique(given, &names)
      guard let result else { throw .malformed("the output '\(name)' is computed by no operator") }
      if scope.subgraph.tensors[place].type?.isComplex ?? false {
        scope.layers.ledger.note("The complex numbers of the output '\(name)' are pairs of floats on one more axis.")
      }
      do throws(OperatorError) {
        try scope.layers.output(result, named: name)
      } catch {
        throw LoadError(.malformed, error.message, remedy: error.remedy, path: name)
      }
    }
  }

  // MARK: - What else the file says

  /// A name of metadata that TensorFlow's converter writes for itself.
  private static let minimumVersion = "min_runtime_version"
  /// The largest text of metadata that is kept.
  private static let keptBytes = 1 << 16

  private func describe(_ imported: inout ImportedModel, _ model: TFLiteModel) {
    imported.model.documentation = model.description
    for (name, bytes) in model.metadata {
      if name == Self.minimumVersion, let text = bytes.text {
        imported.model.metadata.append(("tflite.\(name)", String(text.prefix { $0 != "\0" })))
      } else if bytes.count <= Self.keptBytes, let text = bytes.text, !text.contains("\0") {
        imported.model.metadata.append(("tflite.\(name)", text))
      }
    }
    for (name, text) in model.packedFiles { imported.model.metadata.append(("tflite.file.\(name)", text)) }
    let others = model.signatures.filter { $0.key != model.signature?.key }.map { "'\($0.key)'" }
    if !others.isEmpty {
      imported.model.graph.notes.append("The signatures \(others.joined(separator: ", ")) of the file were not read.")
    }
  }
}

extension TFLiteModel {
  /// The signature that is read: the one that serving uses, else the first one.
  var signature: TFLiteSignature? {
    signatures.first { $0.key == "serving_default" } ?? signatures.first { $0.subgraph == 0 } ?? signatures.first
  }

  /// The texts of the files that are packed behind the FlatBuffer as a zip archive: labels and vocabularies.
  var packedFiles: [(name: String, text: String)] {
    guard let archive = try? ZipArchive(file) else { return [] }
    var files: [(name: String, text: String)] = []
    for entry in archive.entries where !entry.isFolder && entry.byteCount <= Self.packedBytes {
      guard let (bytes, range) = try? archive.contents(of: entry, checks: true),
        let text = try? bytes.view(range).text
      else { continue }
      files.append((entry.name, text))
    }
    return files
  }

  /// The largest packed file that is read.
  private static let packedBytes = 1 << 20
}
