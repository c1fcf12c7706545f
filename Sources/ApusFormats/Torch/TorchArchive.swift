// The file of an exported program: a zip archive with the program as JSON and the weights beside it.
//
//   PyTorch 2.8 and newer   NAME/models/*.json; NAME/data/weights and constants: one entry a tensor with a table beside
//                           them (*_config.json), or one .pt of all
//   PyTorch 2.1 to 2.7      serialized_exported_program.json, serialized_state_dict.pt, serialized_constants.pt

import ApusContainers
import ApusGraph
import ApusTensor

/// An archive whose program and tables were read. The weights are read when they are asked for.
final class TorchArchive {
  let program: TorchProgram
  /// What a name of a weight or constant stands for.
  private enum Source {
    case entry(ZipArchive.Entry, TorchMeta)
    case checkpoint(TorchCheckpoint.Tensor)
    case refused(String)
  }
  private var sources: [String: Source] = [:]
  private let archive: ZipArchive
  private let limits: LoadLimits
  private let account: MemoryAccount?
  private var loaded: [String: Tensor] = [:]

  private static let oldProgram = "serialized_exported_program.json"

  /// True for archives that hold an exported program, or whatever else PyTorch calls .pt2.
  static func isExportedProgram(_ archive: ZipArchive) -> Bool {
    archive.entries.contains {
      $0.name.hasSuffix("/archive_format") || $0.name == "archive_format" || isProgram($0.name)
    }
  }

  private static func isProgram(_ name: String) -> Bool {
    if name == oldProgram || name.hasSuffix("/" + oldProgram) { return true }
    let parts = name.split(separator: "/")
    return parts.count >= 2 && parts[parts.count - 2] == "models" && name.hasSuffix(".json")
  }

  init(_ archive: ZipArchive, limits: LoadLimits, account: MemoryAccount?) throws(LoadError) {
    (self.archive, self.limits, self.account) = (archive, limits, account)
    let programs = archive.entries.filter { Self.isProgram($0.name) }
    if let compiled = archive.entries.first(where: { $0.name.contains("/aotinductor/") }), programs.isEmpty {
      throw .unsupported(
        "the archive holds machine code ('\(compiled.name)'), which is not run",
        remedy: "Save the exported program itself: torch.export.save(program, 'model.pt2')")
    }
    guard let entry = programs.first(where: { $0.name.hasSuffix("models/model.json") }) ?? programs.first else {
      throw LoadError(.wrongFormat, "an archive with models/*.json was expected; there is none")
    }
    if programs.count > 1, !entry.name.hasSuffix("models/model.json") {
      let names = programs.prefix(8).map { "'\($0.name)'" }.joined(separator: ", ")
      throw .unsupported("one program was expected; the archive has \(names)", remedy: "Save each to a file of its own")
    }
    program = try Self.read(entry, of: archive) { (bytes) throws(LoadError) in
      try TorchProgramReader.read(bytes, limits: limits)
    }
    if entry.name.hasSuffix(Self.oldProgram) {
      try readOld(prefix: String(entry.name.dropLast(Self.oldProgram.count)))
    } else {
      try readNew(entry.name)
    }
  }

  private static func read<Result>(
    _ entry: ZipArchive.Entry, of archive: ZipArchive, _ body: (Span<UInt8>) throws(LoadError) -> Result
  ) throws(LoadError) -> Result {
    let (bytes, range) = try archive.contents(of: entry)
    do throws(LoadError) {
      return try bytes.withBytes(in: range, body)
    } catch {
      throw error.under("entry '\(entry.name)'")
    }
  }

  // MARK: - Tables

  private func readNew(_ program: String) throws(LoadError) {
    let model = program.split(separator: "/").last.map { String($0.dropLast(".json".count)) } ?? "model"
    let prefix = program.components(before: "models/")
    if let order = archive[prefix + "byteorder"] {
      let text = try Self.read(order, of: archive) { bytes in
        String(decoding: bytes.indices.map { bytes[$0] }, as: UTF8.self)
      }
      if text != "little" {
        throw .unsupported("the elements should be stored with the lowest byte first; the file says \(text)")
      }
    }
    for (folder, table) in [("weights", "weights"), ("constants", "constants")] {
      let place = prefix + "data/" + folder + "/"
      if let entry = archive[place + "\(model)_\(table)_config.json"] {
        try readTable(entry, folder: place)
      } else if let entry = archive[place + "\(model).pt"] {
        try readCheckpoint(entry)
      }
    }
  }

  private func readOld(prefix: String) throws(LoadError) {
    for name in [
      "serialized_state_dict.pt", "serialized_state_dict.json", "serialized_constants.pt",
      "serialized_constants.json",
    ] {
      if let entry = archive[prefix + name] { try readCheckpoint(entry) }
    }
  }

  /// The tensors of an archive in the archive, or of a pickle that PyTorch wrote.
  private func readCheckpoint(_ entry: ZipArchive.Entry) throws(LoadError) {
    if entry.byteCount == 0 { return }
    do throws(LoadError) {
      let (bytes, range) = try archive.contents(of: entry)
      let checkpoint = try TorchCheckpoint(try bytes.copy(of: range), limits: limits)
      for tensor in checkpoint.tensors { sources[tensor.name] = .checkpoint(tensor) }
      for (name, reason) in checkpoint.skipped { sources[name] = .refused(reason) }
    } catch {
      throw error.under("entry '\(entry.name)'")
    }
  }

  private func readTable(_ entry: ZipArchive.Entry, folder: String) throws(LoadError) {
    let json = try Self.read(entry, of: archive) { (bytes) throws(LoadError) in
      try JSONReader.parse(bytes, limits: limits, keysAreUnique: true)
    }
    guard let members = json["config"]?.members ?? json.members else {
      throw LoadError(.malformed, "a table of tensors was expected", path: "entry '\(entry.name)'")
    }
    for (name, value) in members {
      if value["use_pickle"]?.truth == true {
        sources[name] = .refused("it is a pickled object, which is never run")
        continue
      }
      guard let path = value["path_name"]?.text, let meta = value["tensor_meta"] else {
        throw LoadError(.malformed, "a tensor should have path_name and tensor_meta", path: name)
      }
      sources[name] = .entry(try archive.entry(folder + path), try TorchProgramReader.meta(meta, name))
    }
  }

  // MARK: - Tensors

  /// The paths of all weights and constants.
  var paths: [String] { sources.keys.sorted() }

  /// The weight or constant of that path.
  func tensor(_ path: String) throws(LoadError) -> Tensor {
    if let tensor = loaded[path] { return tensor }
    guard let source = sources[path] else {
      throw LoadError(.malformed, "the archive should have a tensor of this name", path: path)
    }
    do throws(LoadError) {
      let tensor: Tensor
      switch source {
      case .refused(let reason): throw .unsupported(reason)
      case .entry(let entry, let meta): tensor = try read(entry, meta, path)
      case .checkpoint(let stored): tensor = try TorchWeights.tensor(stored, limits: limits, account: account)
      }
      loaded[path] = tensor
      return tensor
    } catch {
      throw error.at(path: path)
    }
  }

  private func read(_ entry: ZipArchive.Entry, _ meta: TorchMeta, _ path: String) throws(LoadError) -> Tensor {
    guard let type = meta.dataType else { throw .unsupported("its element type is not one of ONNX") }
    guard let shape = meta.sizes.concrete, let strides = meta.strides.concrete, let offset = meta.offset.known,
      shape.dims.allSatisfy({ $0 >= 0 }), strides.dims.allSatisfy({ $0 >= 0 }), offset >= 0,
      shape.rank == strides.rank
    else { throw .malformed("sizes, strides and offset should be numbers") }
    let (bytes, range) = try archive.contents(of: entry)
    let width = type.byteWidth
    guard let count = shape.checkedElementCount, let size = type.byteCount(elements: count) else {
      throw .malformed("the sizes \(shape) are too large")
    }
    if count > limits.maximumTensorElements {
      throw .limit("maximumTensorElements", limits.maximumTensorElements, found: "a tensor of the shape \(shape)")
    }
    let isPlain = meta.isContiguous || count == 0
    if isPlain {
      let (start, overflow) = offset.multipliedReportingOverflow(by: width)
      guard !overflow, start <= range.count, size <= range.count - start else {
        throw .malformed("\(type)\(shape) takes \(size) bytes from byte \(start); '\(entry.name)' has \(range.count)")
      }
      let first = range.lowerBound + start
      return try TorchWeights.clean(try bytes.tensor(type, shape, in: first..<(first + size)), account: account)
    }
    let view = try bytes.view(range)
    let stored = try TorchCheckpoint.Tensor(
      checking: path, type, shape: shape.dims, strides: strides.dims, offset: offset, storage: view)
    return try TorchWeights.tensor(stored, limits: limits, account: account)
  }
}

extension String {
  /// What stands before the last occurrence of `part`; everything if there is none.
  fileprivate func components(before part: String) -> String {
    var end = endIndex
    while end > startIndex {
      let head = self[..<end]
      if head.hasSuffix(part) { return String(head.dropLast(part.count)) }
      end = index(before: end)
    }
    return self
  }
}

/// Tensors of checkpoints as tensors of the engine.
enum TorchWeights {
  /// The elements in row-major order, copied from the file.
  static func tensor(
    _ stored: TorchCheckpoint.Tensor, limits: LoadLimits, account: MemoryAccount?
  ) throws(LoadError) -> Tensor {
    let shape = Shape(stored.shape)
    guard let count = shape.checkedElementCount, count <= limits.maximumTensorElements else {
      throw .limit("maximumTensorElements", limits.maximumTensorElements, found: "a tensor of the shape \(shape)")
    }
    let elements = try stored.elements(maximumBytes: limits.maximumDecodedBytes)
    let tensor = try Tensor.building(stored.dataType, shape, account: account) { (output) in
      elements.withBytes { bytes in for index in bytes.indices { output.append(bytes[index]) } }
    }
    return try clean(tensor, account: account)
  }

  /// The same tensor; for bool with every byte 0 or 1, which kernels rely on.
  static func clean(_ tensor: Tensor, account: MemoryAccount?) throws(LoadError) -> Tensor {
    guard tensor.dataType == .bool else { return tensor }
    return try tensor.withByteSpan { (bytes) throws(LoadError) in
      guard bytes.indices.contains(where: { bytes[$0] > 1 }) else { return tensor }
      return try Tensor.building(.bool, tensor.shape, account: account) { (output) in
        for index in bytes.indices { output.append(bytes[index] == 0 ? 0 : 1) }
      }
    }
  }
}
