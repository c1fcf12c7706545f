// The formats of other frameworks that models are read from.

import ApusGraph

/// Reads the models of one format. An importer gives a graph that checker and executor accept, or throws an error that
/// lists everything it could not map.
package protocol ModelImporter: Sendable {
  /// The name on command lines: "tflite".
  var name: String { get }
  /// What people call it: "TensorFlow Lite".
  var title: String { get }
  /// Endings of file names, without the point; the first is the usual one.
  var endings: [String] { get }
  /// The operators or layers that it maps, in the words of the format, for `apus formats` and docs/conversion.md.
  var operators: [String] { get }
  /// Whether changes of the layout that undo each other are taken out of what it makes; true unless it says otherwise.
  var isTidied: Bool { get }

  /// Whether the bytes of a file are of this format.
  func recognizes(_ file: FileBytes) -> Bool

  /// The model in `file`.
  func load(
    _ file: FileBytes, registry: OperatorRegistry, options: ImportOptions
  ) throws(LoadError) -> ImportedModel
}

extension ModelImporter {
  package var isTidied: Bool { true }
}

/// All importers, in the order in which files are shown to them.
package enum ModelImporters {
  package static let all: [any ModelImporter] = [
    ORTImporter(), TFLiteImporter(), KerasImporter(), TorchProgramImporter(), TorchModuleImporter(),
  ]

  /// The importer of a file; nil if it is ONNX, or nothing that is known.
  package static func importer(of file: FileBytes) -> (any ModelImporter)? { all.first { $0.recognizes(file) } }
}
