// NumPy's .npz files: zip archives of .npy files. Reads stored and deflated arrays; writes stored ones.

import ApusTensor

/// Reads and writes .npz files.
package enum Npz {
  /// The names of the arrays in `file`, without `.npy`.
  package static func names(_ file: FileBytes) throws(LoadError) -> [String] {
    try ZipArchive(file, rules: .arrays).entries.map { arrayName($0.name) }
  }

  /// The arrays in `file` by name, in the order of the archive. `declared` gives types for what NumPy stores as bytes.
  package static func decode(
    _ file: FileBytes, as declared: [String: DataType] = [:], limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> [(name: String, tensor: Tensor)] {
    let archive = try ZipArchive(file, rules: .arrays, limits: limits)
    var arrays: [(name: String, tensor: Tensor)] = []
    for entry in archive.entries {
      let name = arrayName(entry.name)
      let (bytes, range) = try archive.contents(of: entry)
      do throws(LoadError) {
        arrays.append((name, try Npy.decode(bytes, in: range, as: declared[name], limits: limits)))
      } catch {
        throw error.under("array '\(name)'").inFile(file.name)
      }
    }
    return arrays
  }

  static func arrayName(_ entry: String) -> String {
    entry.hasSuffix(".npy") ? String(entry.dropLast(4)) : entry
  }

  // MARK: Writing

  /// The elements of an array begin at multiples of this in the file, so that they can be mapped.
  static let alignment = 64

  /// Writes an archive of stored arrays to the file at `path`.
  package static func write(
    _ arrays: [(name: String, tensor: Tensor)], to path: String, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) {
    var archive = try ZipWriter(path: path, alignment: alignment)
    for (name, tensor) in arrays {
      do throws(LoadError) {
        let content = try Npy.Content(tensor, limits: limits)
        try archive.addStored(name + ".npy", byteCount: content.byteCount) { (sink) throws(LoadError) in
          try content.forEachPart { (part: borrowing Span<UInt8>) throws(LoadError) in try sink(part) }
        }
      } catch {
        throw error.file == nil ? error.under("array '\(name)'").inFile(path) : error
      }
    }
    try archive.commit()
  }
}
