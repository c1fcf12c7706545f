// Stores values of a run: in an archive, in a file of one value, or in a folder.

import Apus
import ApusFormats
import ApusTensor
import ArgumentParser
import Foundation

/// What `--output` and `--save-inputs` ask for.
struct OutputFiles {
  enum Form: Equatable { case folder, npz, npy, pb, json }

  /// The values to store, in order, and their names.
  typealias Values = [(name: String, value: Value)]

  private struct Target {
    /// nil: all values, or the only one.
    var name: String?
    var path: String
    var form: Form
  }

  private let targets: [Target]
  private let option: String

  /// True if a value goes to standard output, which then holds nothing else.
  var usesStandardOutput: Bool { targets.contains { $0.path == "-" } }

  /// - Parameters:
  ///   - texts: what the option holds, each a path or `NAME=PATH`.
  ///   - names: the values that there are. The longest name that a text begins with counts: names may contain '='.
  init(_ texts: [String], option: String, names: [String]) throws {
    self.option = option
    targets = try texts.map { text in
      var target = Target(name: nil, path: text, form: .folder)
      if let name = names.filter({ text.hasPrefix($0 + "=") }).max(by: { $0.count < $1.count }) {
        (target.name, target.path) = (name, String(text.dropFirst(name.count + 1)))
      } else if let mark = text.firstIndex(of: "="), !text[..<mark].contains("/") {
        let name = String(text[..<mark])
        let all = "values are \(names.joined(separator: ", ")). If this is the name of a file, write ./\(text)"
        throw InputError(
          "\(option) \(text): there is no value '\(name)' to store; " + NearMiss.choices(name, among: names, all))
      }
      if target.path.isEmpty { throw ValidationError("\(option) \(text): the name of the file is empty") }
      if target.path == "/dev/stdout" { target.path = "-" }
      target.form = try OutputFiles.form(of: target.path, option: option)
      if target.form == .folder || target.form == .npz, target.name != nil {
        throw InputError("\(option) \(text): one value goes to a .npy, .pb or .json file, or to -")
      }
      return target
    }
  }

  /// Throws if two of the files are one: the second would replace the first. Folders hold many.
  static func checkDistinct(_ files: [OutputFiles]) throws {
    var seen: [String: String] = [:]
    for file in files {
      for target in file.targets where target.form != .folder && !isStream(target.path) {
        let path = URL(filePath: target.path).standardizedFileURL.resolvingSymlinksInPath().path
        if let other = seen[path] {
          throw InputError("\(other) and \(file.option) both write \(target.path); give each a file of its own")
        }
        seen[path] = file.option
      }
    }
    if files.flatMap(\.targets).count(where: { $0.path == "-" }) > 1 {
      throw InputError("only one value can go to standard output; store the others in files")
    }
  }

  private static func form(of path: String, option: String) throws -> Form {
    if path == "-" { return .npy }
    if path.hasSuffix("/") { return .folder }
    switch FileFormat.ending(of: path) {
    case "npz": return .npz
    case "npy": return .npy
    case "pb": return .pb
    case "json": return .json
    case _ where isStream(path): return .npy
    case let ending where !ending.isEmpty && PathKind(path: path) != .folder:
      throw ValidationError(
        "\(option) \(path): the ending .\(ending) is not known; expected .npy, .npz, .pb, .json, -, or a folder, new "
          + "ones with a / behind the name")
    default: return .folder
    }
  }

  /// True for pipes and devices.
  private static func isStream(_ path: String) -> Bool {
    if path.hasPrefix("/dev/fd/") || path.hasPrefix("/dev/std") { return true }
    return PathKind(path: path) == .stream
  }

  /// Stores the values; returns the files of each name, of a folder the last one for values of several tensors.
  func store(_ values: Values) throws -> [String: [String]] {
    var files: [String: [String]] = [:]
    for target in targets {
      switch target.form {
      case .folder:
        for (name, file) in try OutputFiles.storeFolder(values, target.path) { files[name, default: []].append(file) }
      case .npz:
        try Npz.write(values.flatMap { OutputFiles.flatten($0.name, $0.value) }, to: target.path)
        for (name, _) in values { files[name, default: []].append(target.path) }
      case .npy, .pb, .json:
        let (name, value) = try single(values, target)
        try store(value, name, target)
        files[name, default: []].append(target.path)
      }
    }
    return files
  }

  private func single(_ values: Values, _ target: Target) throws -> (name: String, value: Value) {
    let found = target.name.map { name in values.filter { $0.name == name } } ?? values
    if found.count == 1 { return found[0] }
    throw InputError(
      "\(option) \(target.path): one value was expected, and there are \(values.count): "
        + "\(values.map(\.name).joined(separator: ", ")). Choose one as in NAME=\(target.path), or "
        + "store all in a .npz or a folder"
    )
  }

  private func store(_ value: Value, _ name: String, _ target: Target) throws {
    let path = target.path == "-" ? "/dev/stdout" : target.path
    switch target.form {
    case .json: try JSONWriter.write(value, to: path)
    case .pb: try OutputFile.write(ValueFile.encode(value, name: name), to: path)
    default:
      guard let tensor = value.tensor else {
        throw InputError("\(option) \(target.path): '\(name)' is \(value.type), no tensor; use .json or .pb")
      }
      try Npy.write(tensor, to: path)
    }
  }

  // MARK: - Folders and archives

  private static func storeFolder(_ values: Values, _ path: String) throws -> [String: String] {
    try OutputFolder.make(path)
    var files: [String: String] = [:]
    var taken: Set<String> = []
    for (name, value) in values {
      for (part, tensor) in flatten(name, value) {
        let file = (path.hasSuffix("/") ? path : path + "/") + stem(part, &taken) + ".npy"
        try Npy.write(tensor, to: file)
        files[name] = file
      }
    }
    return files
  }

  /// A name for a file that is as like `name` as file systems allow, and that none of `taken` is.
  private static func stem(_ name: String, _ taken: inout Set<String>) -> String {
    // File names have at most 255 bytes; the ending and what makes names different need some.
    let maximumBytes = 230
    var stem = ""
    for character in name {
      let isPlain = character.isLetter || character.isNumber || "._-".contains(character)
      let next = isPlain && character.utf8.count <= 16 ? String(character) : "_"
      if stem.utf8.count + next.utf8.count > maximumBytes { break }
      stem += next
    }
    if stem.isEmpty || stem.hasPrefix(".") { stem = "_" + stem }
    if taken.insert(stem).inserted { return stem }
    var number = 2
    while !taken.insert("\(stem)_\(number)").inserted { number += 1 }
    return "\(stem)_\(number)"
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
      else {
        return [("\(name).keys", map.keys)]
          + map.values.enumerated().flatMap { flatten("\(name).values[\($0.offset)]", $0.element) }
      }
      return [("\(name).keys", map.keys), ("\(name).values", stacked)]
    }
  }

  /// Tensors of equal type and shape as one with a further axis in front; nil if they differ.
  private static func stack(_ tensors: [Tensor], shape: Shape) -> Tensor? {
    guard let first = tensors.first, tensors.allSatisfy({ $0.dataType == first.dataType && $0.shape == first.shape })
    else {
      return nil
    }
    if first.dataType == .string { return Tensor(strings: tensors.flatMap { $0.strings ?? [] }, shape: shape) }
    guard !first.dataType.isPacked else { return nil }
    let bytes = tensors.flatMap { $0.withUnsafeBytes { Array($0) } }
    return Tensor(bytes, shape: [bytes.count]).reshapedBytes(as: first.dataType, shape: shape)
  }
}
