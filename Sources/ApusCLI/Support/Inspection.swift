// What a container holds, as a tree.

import Apus
import ApusFormats

/// The contents of a file, for people and for programs.
struct Inspection: Encodable {
  /// A file in an archive, or a tensor.
  struct Entry: Encodable {
    var name: String
    /// `file`, `folder`, `tensor`, or the format of a container that was opened too.
    var kind: String
    var type: String?
    var shape: [Int]?
    var bytes: Int
    /// Bytes in compressed form.
    var packedBytes: Int?
    /// Where the bytes begin in the file; not for those that are compressed.
    var offset: Int?
    /// Why no more is said.
    var note: String?
    var entries: [Entry]?
  }

  /// Formats, by their first bytes.
  private enum Format: String {
    case zip, npz, npy, gzip, safetensors
  }

  var format: String
  var bytes: Int
  var metadata: [String: String] = [:]
  var entries: [Entry]

  /// Containers in each other that are opened.
  private static let maximumDepth = 4
  /// Bytes at the beginning that tell a format.
  private static let headBytes = 16

  /// Throws `wrongFormat` for what is no container that is known. `checks`: whether checksums are compared.
  init(_ file: FileBytes, checks: Bool, depth: Int = 0) throws(LoadError) {
    let head = try file.withBytes(in: 0..<min(file.count, Self.headBytes)) { span in span.indices.map { span[$0] } }
    guard let format = Self.format(head, count: file.count) else {
      throw LoadError(
        .wrongFormat, "no container that is known: zip, .npz, .npy, gzip and safetensors are",
        remedy: "`apus info` shows what a model holds"
      ).inFile(file.name)
    }
    (self.format, bytes, entries) = (format.rawValue, file.count, [])
    switch format {
    case .zip, .npz: try readArchive(file, checks: checks, depth: depth)
    case .npy:
      let limit = min(file.count, Npy.headerLimit)
      entries = [
        try file.withBytes(in: 0..<limit) { (head) throws(LoadError) in
          try Self.array("", head, bytes: file.count)
        }
      ]
    case .gzip: try readCompressed(file, checks: checks, depth: depth)
    case .safetensors: try readSafeTensors(file)
    }
  }

  private static func format(_ head: [UInt8], count: Int) -> Format? {
    let bytes = head.span
    if ZipArchive.isZip(bytes) { return .zip }
    if Gzip.isGzip(bytes) { return .gzip }
    if head.starts(with: [0x93] + Array("NUMPY".utf8)) { return .npy }
    return SafeTensors.isSafeTensors(bytes, count: count) ? .safetensors : nil
  }

  // MARK: - Formats

  private mutating func readArchive(_ file: FileBytes, checks: Bool, depth: Int) throws(LoadError) {
    // Names of arrays need not be paths.
    var archive = try ZipArchive(file, rules: .arrays)
    let isArrays = !archive.entries.isEmpty && archive.entries.allSatisfy { $0.name.hasSuffix(".npy") }
    if isArrays { format = Format.npz.rawValue } else { archive = try ZipArchive(file) }
    for packed in archive.entries {
      if checks { try archive.check(packed) }
      var entry = Entry(name: packed.name, kind: packed.isFolder ? "folder" : "file", bytes: packed.byteCount)
      if packed.isDeflated { entry.packedBytes = packed.range.count } else { entry.offset = packed.range.lowerBound }
      do throws(LoadError) {
        try Self.open(packed, of: archive, &entry, checks: checks, depth: depth)
      } catch {
        entry.note = error.message
      }
      entries.append(entry)
    }
  }

  /// Looks into an entry of an archive that is an array or a container.
  private static func open(
    _ packed: ZipArchive.Entry, of archive: ZipArchive, _ entry: inout Entry, checks: Bool, depth: Int
  ) throws(LoadError) {
    let head = try archive.head(of: packed, count: Npy.headerLimit)
    switch format(head, count: packed.byteCount) {
    case nil: return
    case .npy:
      let array = try array(packed.name, head.span, bytes: packed.byteCount)
      (entry.kind, entry.type, entry.shape) = (array.kind, array.type, array.shape)
    case .zip, .npz, .gzip, .safetensors:
      guard depth < maximumDepth else { return }
      let (bytes, range) = try archive.contents(of: packed, checks: false)
      let inner = try Inspection(bytes.part(range), checks: checks, depth: depth + 1)
      (entry.kind, entry.entries) = (inner.format, inner.entries)
    }
  }

  private mutating func readCompressed(_ file: FileBytes, checks: Bool, depth: Int) throws(LoadError) {
    let content = try Gzip.decode(file)
    var entry = Entry(name: "", kind: "file", bytes: content.count, packedBytes: file.count)
    if depth < Self.maximumDepth, let inner = try? Inspection(content, checks: checks, depth: depth + 1) {
      (entry.kind, entry.entries) = (inner.format, inner.entries)
    }
    entries = [entry]
  }

  private mutating func readSafeTensors(_ file: FileBytes) throws(LoadError) {
    let content = try SafeTensors(file)
    metadata = Dictionary(content.metadata.map { ($0.key, $0.value) }) { first, _ in first }
    entries = content.entries.map { tensor in
      Entry(
        name: tensor.name, kind: "tensor", type: "\(tensor.dataType)", shape: tensor.shape.dims,
        bytes: tensor.range.count, offset: tensor.range.lowerBound)
    }
  }

  private static func array(_ name: String, _ head: Span<UInt8>, bytes: Int) throws(LoadError) -> Entry {
    let (type, shape) = try Npy.header(head, byteCount: bytes)
    return Entry(name: name, kind: "tensor", type: "\(type)", shape: shape.dims, bytes: bytes)
  }
}
