// What a container holds, as a tree. What lies in HDF5 files, pickles and FlatBuffers is in Inspection+Objects.swift.

import Apus
import ApusFormats

/// The contents of a file, for people and for programs.
struct Inspection: Encodable {
  /// A file in an archive, a tensor, a group, or a value.
  struct Entry: Encodable {
    var name: String
    /// `file`, `folder`, `tensor`, `group`, `attribute`, `link`, `value`, or the format of a container that was opened
    /// too.
    var kind: String
    var type: String?
    var shape: [Int]?
    var bytes: Int?
    /// Bytes in compressed form.
    var packedBytes: Int?
    /// Where the bytes begin in the file; not for those that are compressed.
    var offset: Int?
    /// The elements of a tensor of PyTorch from one index to the next, where they do not lie in order.
    var strides: [Int]?
    var storage: Storage?
    /// What an attribute or a value of a pickle says, if that is short.
    var value: String?
    /// Why no more is said.
    var note: String?
    var entries: [Entry]?
  }

  /// The block in which the elements of a tensor of PyTorch lie, which others may share.
  struct Storage: Encodable {
    var key: String
    var bytes: Int
    var device: String
  }

  /// Formats, by their first bytes.
  enum Format: String {
    case zip, npz, npy, gzip, safetensors, hdf5, torch, pickle, flatbuffer
  }

  var format: String
  var bytes: Int
  var metadata: [String: String] = [:]
  /// What a pickle names of Python's modules. Nothing of it is looked up.
  var globals: [String]?
  /// Those that Python would have called, beside the usual ones of tensors and containers. Nothing of it is run.
  var calls: [String]?
  var entries: [Entry]

  /// Containers in each other that are opened.
  private static let maximumDepth = 4
  /// Bytes at the beginning that tell a format.
  private static let headBytes = 16

  /// Throws `wrongFormat` for what is no container that is known. `checks`: whether checksums are compared.
  init(_ file: FileBytes, checks: Bool, depth: Int = 0) throws(LoadError) {
    let head = try file.withBytes(in: 0..<min(file.count, Self.headBytes)) { span in span.indices.map { span[$0] } }
    var format = Self.format(head, count: file.count)
    // The signature may also stand behind a block of the user's.
    if format == nil, depth == 0, try HDF5File.isHDF5(file.mapped().view()) { format = .hdf5 }
    guard let format else {
      throw LoadError(
        .wrongFormat,
        """
        no container that is known: zip, .npz, .npy, gzip, safetensors, HDF5, files of PyTorch, pickles and \
        FlatBuffers (.tflite, .ort) are
        """, remedy: "`apus info` shows what a model holds"
      ).inFile(file.name)
    }
    (self.format, bytes, entries) = (format.rawValue, file.count, [])
    do throws(LoadError) {
      try read(file, format, checks: checks, depth: depth)
    } catch {
      throw error.inFile(file.name)
    }
  }

  private mutating func read(_ file: FileBytes, _ format: Format, checks: Bool, depth: Int) throws(LoadError) {
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
    case .hdf5, .torch, .pickle, .flatbuffer: try readObjects(file, format, checks: checks)
    }
  }

  private static func format(_ head: [UInt8], count: Int) -> Format? {
    let bytes = head.span
    if ZipArchive.isZip(bytes) { return .zip }
    if Gzip.isGzip(bytes) { return .gzip }
    if head.starts(with: [0x93] + Array("NUMPY".utf8)) { return .npy }
    // Before pickles: the length of a header may look like their mark.
    return SafeTensors.isSafeTensors(bytes, count: count) ? .safetensors : objectFormat(ByteView(head))
  }

  // MARK: - Formats

  private mutating func readArchive(_ file: FileBytes, checks: Bool, depth: Int) throws(LoadError) {
    // Names of arrays need not be paths.
    var archive = try ZipArchive(file, rules: .arrays)
    let isArrays = !archive.entries.isEmpty && archive.entries.allSatisfy { $0.name.hasSuffix(".npy") }
    if isArrays { format = Format.npz.rawValue } else { archive = try ZipArchive(file) }
    if checks { for packed in archive.entries { try archive.check(packed) } }
    let checkpoint = try readCheckpoint(archive)
    for packed in archive.entries where checkpoint.map({ !packed.name.hasPrefix($0 + "data/") }) ?? true {
      var entry = Entry(name: packed.name, kind: packed.isFolder ? "folder" : "file", bytes: packed.byteCount)
      if packed.isDeflated { entry.packedBytes = packed.range.count } else { entry.offset = packed.range.lowerBound }
      do throws(LoadError) {
        if checkpoint == nil { try Self.open(packed, of: archive, &entry, checks: checks, depth: depth) }
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
    default:
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
