// What must hold for a model whose file changes while it is loaded: nothing happens to it.

import Apus
import ApusGraph
import ApusTensor
import Foundation

/// Loads a model from a copy of its file, overwrites it and the files beside it in place, cuts them off, and runs.
struct FileContract {
  let model: URL
  let inputs: [Value]
  let options: ModelOptions

  /// Larger files, of the model or beside it, are left out.
  private static let maximumBytes = 4 << 20

  /// What a change of the files changes; empty if nothing does.
  func violations() throws -> [String] {
    let manager = FileManager.default
    let folder = manager.temporaryDirectory.appending(path: "apus-contract-\(UUID().uuidString)")
    try manager.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? manager.removeItem(at: folder) }
    guard let files = try copies(in: folder) else { return [] }
    let loaded = try Model(contentsOf: folder.appending(path: model.lastPathComponent), options: options)
    if inputs.count != loaded.inputs.count || loaded.graph.hasTrait(.random) { return [] }
    let named = Dictionary(zip(loaded.inputs.map(\.name), inputs)) { first, _ in first }
    guard let expected = try? loaded.run(values: named).mapValues(\.copied) else { return [] }

    for file in files {
      let handle = try FileHandle(forWritingTo: file)
      let count = Int(try handle.seekToEnd())
      try handle.seek(toOffset: 0)
      try handle.write(contentsOf: Data(repeating: 0xA5, count: count))
      try handle.close()
    }
    if let difference = difference(of: loaded, on: named, from: expected) {
      return ["after its file was overwritten: \(difference)"]
    }
    // To cut off a file that is mapped may end this process by the signal SIGBUS.
    if try isMapped(folder) { return ["its file is mapped after loading: the model does not survive if it is cut off"] }
    for file in files {
      let handle = try FileHandle(forWritingTo: file)
      try handle.truncate(atOffset: 0)
      try handle.close()
    }
    return difference(of: loaded, on: named, from: expected).map { ["after its file was cut off: \($0)"] } ?? []
  }

  private func difference(of model: Model, on inputs: [String: Value], from expected: [String: Value]) -> String? {
    do {
      let found = try model.run(values: inputs)
      let name = expected.keys.sorted().first { !(found[$0]?.hasSameBits(as: expected[$0]!) ?? false) }
      return name.map { "output '\($0)' has other bits" }
    } catch {
      return "\(error)"
    }
  }

  /// True if a file of the folder is in the address space of this process.
  private func isMapped(_ folder: URL) throws -> Bool {
    guard let maps = FileHandle(forReadingAtPath: "/proc/self/maps") else { return false }
    defer { try? maps.close() }
    // A file of /proc has no size: it is read until nothing comes any more.
    var text = Data()
    while let piece = try maps.read(upToCount: 1 << 16), !piece.isEmpty { text += piece }
    return String(decoding: text, as: UTF8.self).contains(folder.lastPathComponent)
  }

  /// The model and the files beside it that may hold its weights, copied; nil if they are large.
  private func copies(in folder: URL) throws -> [URL]? {
    let manager = FileManager.default
    var files: [URL] = []
    let beside = try manager.contentsOfDirectory(
      at: model.deletingLastPathComponent(), includingPropertiesForKeys: [.isRegularFileKey, .fileSizeKey])
    for file in beside where file.lastPathComponent == model.lastPathComponent || file.pathExtension != "onnx" {
      let values = try file.resourceValues(forKeys: [.isRegularFileKey, .fileSizeKey])
      guard values.isRegularFile ?? false else { continue }
      if values.fileSize ?? 0 > Self.maximumBytes { return nil }
      let copy = folder.appending(path: file.lastPathComponent)
      try manager.copyItem(at: file, to: copy)
      files.append(copy)
    }
    return files
  }
}
