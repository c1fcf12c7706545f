// Stores the outputs of a run.

import Apus
import ApusFormats
import ApusTensor
import ArgumentParser
import Foundation

enum OutputFiles {
  /// Stores values in a .npz or a folder; returns the file of each output.
  static func store(_ values: [String: Value], order: [String], to path: String) throws -> [String: String] {
    var arrays: [(name: String, tensor: Tensor)] = []
    var owners: [String] = []
    var seen: Set<String> = []
    for name in order where seen.insert(name).inserted {
      guard let value = values[name] else { continue }
      let parts = flatten(name, value)
      arrays += parts
      owners += parts.map { _ in name }
    }
    if path.hasSuffix(".npz") {
      try Npz.write(arrays, to: path)
      return Dictionary(order.map { ($0, path) }) { first, _ in first }
    }
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    var files: [String: String] = [:]
    var taken: Set<String> = []
    for (index, array) in arrays.enumerated() {
      var stem = String(array.name.map { $0.isLetter || $0.isNumber || "._-".contains($0) ? $0 : "_" })
      if stem.isEmpty || stem.hasPrefix(".") { stem = "_" + stem }
      while !taken.insert(stem).inserted { stem += "_" }
      let file = URL(filePath: path).appending(path: "\(stem).npy")
      try Data(Npy.encode(array.tensor)).write(to: file)
      files[owners[index]] = file.path(percentEncoded: false)
    }
    return files
  }

  /// The tensors of a value under the keys that an archive has for them: `name`, `name[0]`, `name.keys`, `name.values`.
  private static func flatten(_ name: String, _ value: Value) -> [(name: String, tensor: Tensor)] {
    switch value {
    case .tensor(let tensor): return [(name, tensor)]
    case .sequence(let elements, _):
      return elements.enumerated().flatMap { flatten("\(name)[\($0.offset)]", $0.element) }
    case .optional(let content, _): return content.map { flatten(name, $0) } ?? []
    case .map(let map):
      let tensors = map.values.compactMap(\.tensor)
      guard tensors.count == map.values.count, let first = tensors.first,
        let stacked = stack(tensors, shape: Shape([tensors.count] + first.shape.dims))
      else { return [("\(name).keys", map.keys)] }
      return [("\(name).keys", map.keys), ("\(name).values", stacked)]
    }
  }

  /// Tensors of equal type and shape as one with a further axis in front; nil if they differ.
  private static func stack(_ tensors: [Tensor], shape: Shape) -> Tensor? {
    guard let first = tensors.first, tensors.allSatisfy({ $0.dataType == first.dataType && $0.shape == first.shape }) else {
      return nil
    }
    if first.dataType == .string { return Tensor(strings: tensors.flatMap { $0.strings ?? [] }, shape: shape) }
    guard !first.dataType.isPacked else { return nil }
    let bytes = tensors.flatMap { $0.withUnsafeBytes { Array($0) } }
    return Tensor(bytes, shape: [bytes.count]).reshapedBytes(as: first.dataType, shape: shape)
  }

  /// The lines of a file.
  static func lines(of path: String) throws -> [String] {
    try String(contentsOf: URL(filePath: path), encoding: .utf8).split(separator: "\n").map(String.init)
  }

  /// The labels that a model carries in its metadata: one a line, or separated by commas, or a JSON list.
  static func labels(in information: ModelInformation) -> [String] {
    guard let text = information.metadata.first(where: { ["labels", "classes", "names"].contains($0.key) })?.value else {
      return []
    }
    if let list = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) { return list }
    let separator: Character = text.contains("\n") ? "\n" : ","
    return text.split(separator: separator).map { $0.trimmingCharacters(in: .whitespaces) }
  }
}
