// Models of Keras: .keras archives (zip with config.json and an HDF5 file of weights) and .h5 files, of Keras 2 and 3.
// https://keras.io/guides/serialization_and_saving/

import ApusGraph
import ApusTensor

/// Reads Sequential and functional models of Keras 2 and 3. Nothing of a file is run: layers that hold code are refused
/// by name.
package struct KerasImporter: ModelImporter {
  package let name = "keras"
  package let title = "Keras"
  package let endings = ["keras", "h5", "hdf5"]

  package init() {}

  package var operators: [String] {
    KerasRules.layers.keys.sorted() + KerasOperations.rules.keys.sorted().map { "ops." + $0 }
      + KerasOperations.functions.keys.sorted().map { "tf." + $0 }
  }

  private static let configuration = "config.json"
  private static let weights = "model.weights.h5"

  package func recognizes(_ file: FileBytes) -> Bool {
    guard let view = try? file.view() else { return false }
    if view.withBytes({ (bytes: Span<UInt8>) in ZipArchive.isZip(bytes) }) {
      guard let archive = try? ZipArchive(file) else { return false }
      return archive[Self.configuration] != nil && archive.entries.contains { Self.holdsWeights($0.name) }
    }
    return HDF5File.isHDF5(view)
  }

  private static func holdsWeights(_ name: String) -> Bool { name == weights || name.hasPrefix("model.weights") }

  package func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel {
    let source = try Self.isArchive(file) ? archive(file, options) : container(file, options)
    let ledger = ImportLedger(source: "Keras \(source.version)", options: options)
    let model: KerasModel
    do throws(OperatorError) {
      let top = try KerasModelParser.layer(source.configuration)
      guard let found = top.model else {
        ledger.refuse(
          "the model class \(top.className)", at: top.name,
          remedy: "Save a Sequential or functional model; one with a call() of its own is code")
        throw .invalid("")
      }
      model = found
    } catch {
      try ledger.check()
      throw LoadError(.malformed, error.message, remedy: error.remedy, path: Self.configuration)
    }
    KerasRules.survey(model, "", ledger)
    try ledger.check()
    return try Self.graph(of: model, source, LayerBuilder(name: model.name, registry: registry, ledger: ledger))
  }

  private static func isArchive(_ file: FileBytes) throws(LoadError) -> Bool {
    try file.view().withBytes { (bytes: Span<UInt8>) in ZipArchive.isZip(bytes) }
  }

  // MARK: - Files

  /// What a file holds.
  private struct Source {
    let configuration: JSONValue
    let version: String
    let weights: KerasWeights

    var majorVersion: Int { version.split(separator: ".").first.flatMap { Int($0) } ?? 3 }
  }

  private static func json(_ bytes: ByteView, _ limits: LoadLimits) throws(LoadError) -> JSONValue {
    try bytes.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try JSONReader.parse(bytes, limits: limits, keysAreUnique: true)
    }
  }

  private func archive(_ file: FileBytes, _ options: ImportOptions) throws(LoadError) -> Source {
    let archive = try ZipArchive(file, limits: options.limits)
    func content(_ name: String, checks: Bool) throws(LoadError) -> ByteView {
      let (bytes, range) = try archive.contents(of: archive.entry(name), checks: checks)
      return try bytes.view(range)
    }
    func parsed(_ name: String) throws(LoadError) -> JSONValue {
      do throws(LoadError) {
        return try Self.json(content(name, checks: true), options.limits)
      } catch {
        throw error.at(path: name)
      }
    }
    guard archive[Self.weights] != nil else {
      throw LoadError(
        .unsupported, "the weights are no \(Self.weights) but in other entries",
        remedy: "Save the model with one file of weights in HDF5")
    }
    let metadata = archive["metadata.json"] == nil ? nil : KerasConfig(try parsed("metadata.json"))
    let version = metadata?["keras_version"]?.text ?? "3"
    do throws(LoadError) {
      let weights = KerasWeights(paths: try HDF5File(content(Self.weights, checks: true)))
      return Source(configuration: try parsed(Self.configuration), version: version, weights: weights)
    } catch {
      throw error.path == nil ? error.at(path: Self.weights) : error
    }
  }

  private func container(_ file: FileBytes, _ options: ImportOptions) throws(LoadError) -> Source {
    let hdf5 = try HDF5File(file, limits: options.limits)
    guard let text = try hdf5.root.attribute("model_config") else {
      throw LoadError(
        .unsupported, "the HDF5 file has no attribute model_config: it holds no graph",
        remedy: "Save the whole model, not only its weights; `apus inspect` shows what is there")
    }
    let configuration: JSONValue
    do throws(LoadError) {
      configuration = try Self.json(ByteView(Array(text.values.string().utf8)), options.limits)
    } catch {
      throw error.at(path: "model_config")
    }
    let root = try hdf5["model_weights"] == nil ? "" : "model_weights"
    var version = try hdf5.root.attribute("keras_version")?.values.string()
    if version == nil { version = try hdf5[root]?.attribute("keras_version")?.values.string() }
    return Source(configuration: configuration, version: version ?? "2", weights: KerasWeights(names: hdf5, root: root))
  }

  // MARK: - The graph

  private static func graph(
    of model: KerasModel, _ source: Source, _ layers: LayerBuilder
  ) throws(LoadError) -> ImportedModel {
    let network = KerasNetwork(layers, source.weights, version: source.majorVersion)
    var inputs: [KerasTensor] = []
    for (index, reference) in model.inputs.enumerated() {
      guard let layer = model.layers.first(where: { $0.name == reference.layer }) else {
        throw .malformed("the model '\(model.name)' has no layer '\(reference.layer)', which is an input of it")
      }
      try layers.ledger.count("InputLayer")
      do throws(OperatorError) {
        inputs.append(KerasTensor(try input(layer, named: name(model.inputNames, index) ?? layer.name, layers)))
      } catch {
        throw LoadError(.malformed, error.message, remedy: error.remedy, path: layer.name)
      }
    }
    let outputs = try network.outputs(of: model, inputs, prefix: "", scope: KerasScope(path: "", names: []))
    try layers.ledger.check()
    var counts: [String: Int] = [:]
    for (index, (reference, output)) in zip(model.outputs, outputs).enumerated() {
      let count = counts[reference.layer, default: 0]
      counts[reference.layer] = count + 1
      let own = count == 0 ? reference.layer : "\(reference.layer)_\(count)"
      let name = name(model.outputNames, index) ?? own
      do throws(OperatorError) {
        let layer = Self.source(of: reference, in: model)
        try layers.output(typed(output.value, as: layer, layers), named: name)
      } catch {
        throw LoadError(.invalidModel, error.message, remedy: error.remedy, path: name)
      }
    }
    return try layers.finish()
  }

  /// The layer that makes an output: of a model inside, the one in there.
  private static func source(of reference: KerasReference, in model: KerasModel) -> KerasLayer? {
    var layer = model.layers.first { $0.name == reference.layer }
    var output = reference.output
    while let inner = layer?.model, inner.outputs.indices.contains(output) {
      let next = inner.outputs[output]
      layer = inner.layers.first { $0.name == next.layer }
      output = next.output
    }
    return layer
  }

  /// The key of an input or output of a dictionary.
  private static func name(_ names: [String?], _ index: Int) -> String? {
    guard names.indices.contains(index), let name = names[index], !name.isEmpty else { return nil }
    return name
  }

  /// An output of a layer in the type that the layer computes in, where that is another than float32, as here.
  private static func typed(
    _ value: ValueID, as layer: KerasLayer?, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    guard layers.type(value) == .float32, let policy = layer?.config.policyName else { return value }
    let name = policy.hasPrefix("mixed_") ? String(policy.dropFirst("mixed_".count)) : policy
    guard let type = KerasTypes.table[name], type.isFloat else { return value }
    return try layers.cast(value, to: type)
  }

  /// An input of the graph: null extents become symbols, the first of them the batch.
  private static func input(
    _ layer: KerasLayer, named title: String, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    guard let extents = layer.config[["batch_shape", "batch_input_shape"]]?.elements else {
      throw .invalid("an input has no 'batch_shape'")
    }
    var shape: [Dim] = []
    for (axis, extent) in extents.enumerated() {
      if extent.isNull {
        shape.append(.symbol(axis == 0 ? "batch" : "\(layer.name)_\(axis)"))
      } else if let number = extent.smallInteger, number >= 0 {
        shape.append(Dim(number))
      } else {
        throw .invalid("an extent of an input should be an integer from 0 on or null")
      }
    }
    let name = layer.config.policyName ?? "float32"
    guard let type = KerasTypes.table[name] else { throw .unsupported("inputs of the type '\(name)'") }
    let value = layers.input(title, type, shape)
    if type.isFloat, type != .float32 {
      layers.ledger.note("inputs of \(type) are computed with as float32")
      return try layers.cast(value, to: .float32)
    }
    return value
  }
}
