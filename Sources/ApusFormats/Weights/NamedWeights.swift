// The tensors of a file by name, whatever its format: for taking weights out of a file and putting them into a model.

import ApusContainers
import ApusGraph
import ApusTensor

/// The named tensors of a file. Elements that lie in the file in order stay there until they are read.
package struct NamedWeights: Sendable {
  package var tensors: [(name: String, tensor: Tensor)]
  /// What people call the format.
  package let format: String
  /// Tensors that were not read, with the reason.
  package let skipped: [(name: String, reason: String)]
  package let file: FileBytes

  /// Reads safetensors, the checkpoints of PyTorch in both forms, exported programs, .npz, and the initializers of
  /// ONNX. Nothing of a pickle is run.
  package static func read(
    path: String, registry: OperatorRegistry, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> NamedWeights {
    let file = try FileBytes.open(path: path, limits: limits, reading: .mapped)
    do throws(LoadError) {
      return try read(file, path: path, registry, limits)
    } catch {
      throw error.inFile(path)
    }
  }

  private static func read(
    _ file: FileBytes, path: String, _ registry: OperatorRegistry, _ limits: LoadLimits
  ) throws(LoadError) -> NamedWeights {
    let head = try file.view(0..<min(file.count, 16))
    if head.withBytes({ SafeTensors.isSafeTensors($0, count: file.count) }) {
      let tensors = try SafeTensors(file, limits: limits).tensors()
      return NamedWeights(tensors: tensors, format: "safetensors", skipped: [], file: file)
    }
    if TorchCheckpoint.isLegacy(head) {
      return try checkpoint(file, "PyTorch checkpoint, legacy form", isStored: true, limits)
    }
    let others: [any ModelImporter] = [TFLiteImporter(), KerasImporter()]
    if let importer = others.first(where: { $0.recognizes(file) }) {
      throw LoadError(
        .wrongFormat,
        "safetensors, a checkpoint or exported program of PyTorch, .npz or ONNX was expected; the file is a model of "
          + importer.title,
        remedy: "Make it ONNX: apus convert \(path) --output model.onnx, and take the weights out of that")
    }
    guard head.withBytes({ ZipArchive.isZip($0) }) else { return try initializers(file, path, registry, limits) }
    let archive = try ZipArchive(file, rules: .arrays, limits: limits)
    if TorchArchive.isExportedProgram(archive) {
      let program = try TorchArchive(try ZipArchive(file, limits: limits), limits: limits, account: nil)
      var tensors: [(name: String, tensor: Tensor)] = []
      for name in program.paths { tensors.append((name, try program.tensor(name))) }
      return NamedWeights(tensors: tensors, format: "PyTorch exported program", skipped: [], file: file)
    }
    if archive.entries.contains(where: { $0.name.hasSuffix("data.pkl") }) {
      let isStored = !archive.entries.contains(where: \.isDeflated)
      return try checkpoint(file, "PyTorch checkpoint", isStored: isStored, limits)
    }
    if archive.entries.contains(where: { $0.name.hasSuffix(".npy") }) {
      return NamedWeights(tensors: try Npz.decode(file, limits: limits), format: "npz", skipped: [], file: file)
    }
    throw LoadError(
      .wrongFormat, "a file with named tensors was expected; this archive has none",
      remedy: "Give safetensors, a checkpoint or exported program of PyTorch, .npz or ONNX")
  }

  private static func checkpoint(
    _ file: FileBytes, _ format: String, isStored: Bool, _ limits: LoadLimits
  ) throws(LoadError) -> NamedWeights {
    let checkpoint = try TorchCheckpoint(file, limits: limits)
    var tensors: [(name: String, tensor: Tensor)] = []
    for stored in checkpoint.tensors {
      do throws(LoadError) {
        tensors.append((stored.name, try tensor(stored, in: isStored ? file : nil, limits)))
      } catch {
        throw error.under("tensor '\(stored.name)'")
      }
    }
    return NamedWeights(tensors: tensors, format: format, skipped: checkpoint.skipped, file: file)
  }

  /// A range of the file where the elements lie in order, a copy otherwise.
  private static func tensor(
    _ stored: TorchCheckpoint.Tensor, in file: FileBytes?, _ limits: LoadLimits
  ) throws(LoadError) -> Tensor {
    guard let file, stored.isContiguous, stored.dataType != .bool else {
      return try TorchWeights.tensor(stored, limits: limits, account: nil)
    }
    let elements = try stored.elements(maximumBytes: limits.maximumDecodedBytes)
    let range = elements.fileOffset..<(elements.fileOffset + elements.count)
    return try file.tensor(stored.dataType, Shape(stored.shape), in: range)
  }

  private static func initializers(
    _ file: FileBytes, _ path: String, _ registry: OperatorRegistry, _ limits: LoadLimits
  ) throws(LoadError) -> NamedWeights {
    var options = ImportOptions()
    (options.limits, options.mapsFiles) = (limits, true)
    options.externalFolder = ExternalDataFolder.folder(of: path)
    let imported = try ONNXReader.load(file, registry: registry, options: options)
    var tensors: [(name: String, tensor: Tensor)] = []
    for value in imported.model.graph.values {
      if let tensor = value.constant, !value.name.isEmpty { tensors.append((value.name, tensor)) }
    }
    return NamedWeights(tensors: tensors, format: "ONNX", skipped: [], file: file)
  }
}
