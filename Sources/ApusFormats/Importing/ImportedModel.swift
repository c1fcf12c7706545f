// How models are read, and what is there when they were: for ONNX and for importers of other formats.

import ApusGraph
import ApusTensor

/// How to read a model.
package struct ImportOptions: Sendable {
  package var limits = LoadLimits()
  /// The memory and the time of the loading.
  package var allowance = Allowance.unlimited
  /// Maps the file and its side files in place of reading them.
  package var mapsFiles = false
  /// The folder that side files may lie in; nil: that of the model's file, or none if it does not come from one.
  package var externalFolder: String?
  /// The folder of the file that the model in `externalFolder` is a link to.
  package var linkedFolder: String?
  /// The shapes that inputs shall have, for files that say none. Where a file says them, whoever loads it binds these.
  package var shapes: [String: Shape] = [:]
  /// Initializers that are also listed as inputs and shall stay inputs. All others become constants.
  package var overridableInputs: Set<String> = []
  /// For looking at a model that cannot run: nodes with problems stay as they were written, and
  /// `ImportedModel.problems` tells of them. Malformed bytes and passed limits are errors all the same.
  package var keepsFaultyNodes = false

  package init() {}
}

/// A model as it was read. The notes of its graph say what was left out of the file and might matter to the user.
package struct ImportedModel: Sendable {
  package var model: ModelGraph
  /// Why it cannot run; empty unless `ImportOptions.keepsFaultyNodes` is set.
  package var problems: [ModelProblem] = []
  /// The files that tensors of the model may still lie in. They must stay as they are until `FileReader.check` and are
  /// not needed after `FileReader.close`.
  package var files: [FileReader] = []
  /// The files that tensors of the model lie in as long as it is there.
  package var mapped: [MappedFile] = []
  /// The paths of all files that tensors came from, but for the model's own.
  package var sideFiles: [String] = []
  /// What the importer of another framework's format has to say; nil for ONNX.
  package var report: ImportReport?
}
