// Weights in side files. A model names them; this file decides whether it may have them.

import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The folder that a model may take side files from. Each side file is opened once; only what tensors refer to is read.
package final class ExternalDataFolder {
  private let folder: String?
  private let linkedFolder: String?
  private let limits: LoadLimits
  private let account: MemoryAccount?
  private let mapsFiles: Bool
  private var files: [String: FileBytes] = [:]

  /// `folder` is the folder of the model, or nil if the model came from memory and nobody named one. Where the model in
  /// it is a link, links of side files may lead to the folder of what it leads to as well, `linkedFolder`.
  /// What is read of the files is charged to `account`. `mapsFiles`: they are mapped in place of being read.
  package init(
    _ folder: String?, linkedFolder: String? = nil, limits: LoadLimits, account: MemoryAccount? = nil,
    mapsFiles: Bool = false
  ) {
    self.folder = folder
    self.linkedFolder = linkedFolder
    self.limits = limits
    self.account = account
    self.mapsFiles = mapsFiles
  }

  /// The files that were opened so far.
  var opened: [FileBytes] { Array(files.values) }

  /// The folder of the file at `path`.
  package static func folder(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// The folder in which the file at `path` really lies; nil if there is none.
  static func realFolder(of path: String) -> String? { realPath(path).map { folder(of: $0) } }

  private static func realPath(_ path: String) -> String? {
    guard let resolved = realpath(path, nil) else { return nil }
    defer { free(resolved) }
    return String(cString: resolved)
  }

  /// The tensor of the given type and shape that the `external_data` entries of a TensorProto point at.
  func tensor(_ entries: [StringEntry], _ dataType: DataType, _ shape: Shape, byteCount: Int) throws(LoadError)
    -> Tensor
  {
    let (file, range) = try place(entries, "\(dataType)\(shape)", byteCount: byteCount)
    return try file.tensor(dataType, shape, in: range)
  }

  /// Where the `byteCount` bytes lie that the `external_data` entries of a TensorProto point at; `what` they are, for
  /// messages.
  func place(
    _ entries: [StringEntry], _ what: String, byteCount: Int
  ) throws(LoadError) -> (file: FileBytes, range: Range<Int>) {
    guard let location = entries.last(where: { $0.key == "location" })?.value else {
      throw LoadError(.externalData, "external data without a location")
    }
    let offset = try number("offset", entries) ?? 0
    let length = try number("length", entries)
    if let length, length != byteCount {
      throw LoadError(
        .externalData, "\(what) takes \(byteCount) bytes, but the length of its external data is \(length)")
    }
    let file = try self.file(location)
    guard offset <= file.count, byteCount <= file.count - offset else {
      throw LoadError(
        .externalData,
        "bytes \(offset) to \(offset)+\(byteCount) are needed of '\(location)', which has \(file.count) bytes",
        remedy: "The side file may be cut off or belong to another model")
    }
    return (file, offset..<(offset + byteCount))
  }

  private func number(_ key: String, _ entries: [StringEntry]) throws(LoadError) -> Int? {
    guard let text = entries.last(where: { $0.key == key })?.value, !text.isEmpty else { return nil }
    guard text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }), let value = Int(text) else {
      throw LoadError(.externalData, "the \(key) of external data should be a number of bytes; it is '\(text)'")
    }
    return value
  }

  private func file(_ location: String) throws(LoadError) -> FileBytes {
    if let file = files[location] { return file }
    guard let folder else {
      throw LoadError(
        .externalData, "the model has weights in the side file '\(location)', but it was not read from a folder",
        remedy: "Load the model by its path, or name the folder of its side files")
    }
    guard !location.hasPrefix("/") else {
      throw LoadError(.externalData, "side files are named relative to the model; '\(location)' is an absolute path")
    }
    guard !location.isEmpty, !location.split(separator: "/").contains("..") else {
      throw LoadError(.externalData, "the side file '\(location)' lies outside the folder of the model")
    }
    let file = try open(location, in: folder)
    files[location] = file
    return file
  }

  /// Opens first and asks the kernel afterwards where the open file really lies, so that nobody can swap a link between
  /// the check and the use.
  private func open(_ location: String, in folder: String) throws(LoadError) -> FileBytes {
    let path = folder + "/" + location
    guard let root = ExternalDataFolder.realPath(folder) else {
      throw Descriptor.error("cannot open the folder of side files '\(folder)'", errno)
    }
    let descriptor = Descriptor(opening: path, waiting: false)
    guard descriptor.isOpen else {
      var error = Descriptor.error("cannot open the side file '\(location)' in '\(folder)'", errno)
      error.code = .externalData
      error.remedy = "The weights of this model lie in that file; put it beside the model"
      throw error
    }
    let status = try descriptor.status()
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw LoadError(.externalData, "the side file '\(location)' is no regular file")
    }
    let roots = [root] + (linkedFolder.map { [$0] } ?? [])
    guard let real = descriptor.realPath, roots.contains(where: { real.hasPrefix($0 == "/" ? "/" : $0 + "/") }) else {
      throw LoadError(
        .externalData, "the side file '\(location)' is a link that leads out of the folder of the model",
        remedy: "Copy the file it leads to into '\(folder)', or link the model itself to a file beside it")
    }
    return try FileBytes(
      descriptor, name: path, anyStream: false, limits: limits, reading: mapsFiles ? .mapped : .ranges, account: account
    )
  }
}
