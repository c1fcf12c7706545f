// Weights out of files and into models.

import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor

/// Takes the named tensors out of a file, or puts them into a model of the same architecture.
package enum ModelWeights {
  /// Forms that tensors are written in.
  package enum Form: String, Sendable, CaseIterable {
    case safetensors, npz

    package init?(path: String) {
      guard let form = Form.allCases.first(where: { path.hasSuffix("." + $0.rawValue) }) else { return nil }
      self = form
    }
  }

  /// What was done.
  package struct Summary: Sendable {
    package var format: String
    package var tensors: Int
    package var bytes: Int
    package var skipped: [(name: String, reason: String)]
  }

  /// Writes the tensors of the file at `path` to `output`. Elements go from file to file piece by piece.
  package static func extract(path: String, to output: String, form: Form) throws -> Summary {
    let weights = try NamedWeights.read(path: path, registry: .standard)
    if weights.tensors.isEmpty {
      throw LoadError(.wrongFormat, "named tensors were expected; there are none").inFile(path)
    }
    switch form {
    case .safetensors: try SafeTensors.write(weights.tensors, to: output)
    case .npz: try Npz.write(weights.tensors, to: output)
    }
    try checkUnharmed(weights.file)
    return Summary(
      format: weights.format, tensors: weights.tensors.count,
      bytes: weights.tensors.reduce(0) { $0 + $1.tensor.byteCount }, skipped: weights.skipped)
  }

  private static func checkUnharmed(_ file: FileBytes) throws(LoadError) {
    if file.isDamaged {
      throw LoadError(.cannotRead, "the file became shorter while it was read, or its disk failed").inFile(file.name)
    }
  }

  /// Puts the tensors of the file at `path` in the place of those of the model at `model` that have the same name and
  /// shape, and writes that model to `output`. `requiresAll`: throws, and writes nothing, if a weight of the model with
  /// a name has no counterpart, or a weight of the same network in the file has none in the model.
  package static func transplant(
    path: String, into model: String, to output: String, requiresAll: Bool
  ) throws -> (summary: Summary, matching: WeightMatching) {
    let weights = try NamedWeights.read(path: path, registry: .standard)
    let source = try ModelReader.read(path: model, options: ModelOptions())
    var changed = source.model
    let targets = changed.graph.values.compactMap { value -> (name: String, description: WeightMatching.Description)? in
      guard let tensor = value.constant, !value.name.isEmpty else { return nil }
      return (value.name, WeightMatching.Description(tensor))
    }
    let matching = WeightMatching(
      targets, weights.tensors.map { ($0.name, WeightMatching.Description($0.tensor)) })
    try check(matching, targets.count, path, model, requiresAll: requiresAll)
    let sources = Dictionary(weights.tensors.map { ($0.name, $0.tensor) }) { first, _ in first }
    let places = Dictionary(matching.pairs.map { ($0.target, $0.source) }) { first, _ in first }
    var editor = GraphEditor(changed.graph, inference: InferenceDriver(registry: .standard))
    for (index, value) in changed.graph.values.enumerated() where value.constant != nil {
      if let source = places[value.name], let tensor = sources[source] {
        editor.replace(ValueID(index), withConstant: tensor)
      }
    }
    try editor.settle()
    changed.graph = editor.finish()
    try OutputFile.check(output, isNoneOf: source.sideFiles, "it holds weights of the model that is read")
    do throws(TensorError) {
      try changed.graph.loadConstants()
    } catch {
      throw LoadError(error)
    }
    try ONNXWriter.message(changed, registry: .standard).write(to: output)
    try source.finish()
    try checkUnharmed(weights.file)
    let summary = Summary(
      format: weights.format, tensors: weights.tensors.count,
      bytes: matching.pairs.reduce(0) { $0 + (sources[$1.source]?.byteCount ?? 0) }, skipped: weights.skipped)
    return (summary, matching)
  }

  private static func check(
    _ matching: WeightMatching, _ count: Int, _ path: String, _ model: String, requiresAll: Bool
  ) throws(LoadError) {
    if matching.pairs.isEmpty {
      let names = matching.unmatched.prefix(3).map { "'\($0.name)'" }.joined(separator: ", ")
      let others = matching.unused.prefix(3).map { "'\($0)'" }.joined(separator: ", ")
      throw LoadError(
        .unsupported, "no weight of the model has a tensor of the same name and shape in '\(path)'",
        remedy: "The model has \(count) weights (\(names), …), the file \(matching.unused.count) tensors (\(others), …)"
      ).inFile(model)
    }
    if !requiresAll { return }
    let problems =
      matching.unmatched.map { ModelProblem(nodePath: "weight '\($0.name)'", reason: $0.reason) }
      + matching.leftOut.map { name in
        ModelProblem(
          nodePath: "tensor '\(name)' of '\(path)'",
          reason: "a weight of this name and shape was expected in the model; it has none, or has it in another form",
          remedy: "Export the model anew with these weights, or leave out --all")
      }
    if !problems.isEmpty { throw LoadError(problems: problems).inFile(model) }
  }
}
