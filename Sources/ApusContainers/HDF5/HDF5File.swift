// HDF5 files, as far as frameworks write them: superblock, objects by path, limits.
// https://docs.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html (File Format Specification 3.0)

import Synchronization

/// An HDF5 file. Read are superblocks 0 to 3, groups with symbol tables and compact links, datasets that are compact,
/// contiguous or chunked, the filters deflate, shuffle and Fletcher32, and attributes in object headers. Refused with
/// words: dense links and attributes (fractal heaps), external files, virtual datasets, compound and reference types.
package struct HDF5File: Sendable {
  package struct Limits: Sendable, Hashable {
    /// How many structures (messages of headers, nodes of trees, heaps) may be read.
    package var maximumObjects = 4 << 20
    /// How deep groups and trees may lie in each other.
    package var maximumDepth = 64
    /// The largest dataset that is not one range of the file, in bytes. Compressed ones have at most `maximumRatio`
    /// times as many bytes as the file.
    package var maximumDatasetBytes = 1 << 34
    package var maximumRatio = 1000

    package init() {}
  }

  /// The bytes from the base address on, and the widths of addresses and lengths.
  final class Source: Sendable {
    let bytes: ByteView
    let limits: Limits
    let offsetWidth: Int
    let lengthWidth: Int
    /// The header of the group that everything lies in.
    let rootAddress: Int
    private let objects = Atomic<Int>(0)
    /// The links of the groups that were read, by the address of the group.
    private let groups = Mutex<[Int: [HDF5Link]]>([:])

    init(_ bytes: ByteView, _ limits: Limits, offsetWidth: Int, lengthWidth: Int, root: Int = 0) {
      rootAddress = root
      (self.bytes, self.limits) = (bytes, limits)
      (self.offsetWidth, self.lengthWidth) = (offsetWidth, lengthWidth)
    }

    /// The links of the group at `address`, read once.
    func links(of header: HDF5ObjectHeader, at address: Int) throws(LoadError) -> [HDF5Link] {
      if let known = groups.withLock({ $0[address] }) { return known }
      let links = try HDF5Group.links(of: header, self)
      groups.withLock { $0[address] = links }
      return links
    }

    /// Counts one more structure that is read.
    func charge(at address: Int) throws(LoadError) {
      if objects.wrappingAdd(1, ordering: .relaxed).oldValue >= limits.maximumObjects {
        throw .limit("more than \(limits.maximumObjects) structures of the file are read", at: bytes.offset(address))
      }
    }

    /// An address; nil if it is the undefined one, all ones.
    func address(_ reader: inout ByteReader, _ what: String) throws(LoadError) -> Int? {
      let value = try reader.unsigned(bytes: offsetWidth, what)
      if value == UInt64.max >> UInt64(64 - 8 * offsetWidth) { return nil }
      guard let address = Int(exactly: value), address < bytes.count else {
        throw .malformed(
          "\(what) should be an address in the \(bytes.count) bytes of the file; it is \(value)", at: reader.fileOffset)
      }
      return address
    }

    func length(_ reader: inout ByteReader, _ what: String) throws(LoadError) -> Int {
      try reader.length(bytes: lengthWidth, what)
    }

    /// A reader behind the four characters `signature` at `address`, which must stand there.
    func reader(at address: Int, signature: String, _ what: String) throws(LoadError) -> ByteReader {
      try charge(at: address)
      let found = try bytes.slice(address, 4, what)
      guard found.starts(with: Array(signature.utf8)) else {
        throw .malformed("\(what) should begin with \(signature); found \(found.array)", at: bytes.offset(address))
      }
      return ByteReader(bytes, at: address + 4)
    }

    /// Checks the four bytes after `start..<end` against the checksum of what lies there.
    func verify(from start: Int, to end: Int, _ what: String) throws(LoadError) {
      let stored = try bytes.u32(end, "the checksum of \(what)")
      let sum = try Lookup3.hash(bytes.slice(start, end - start, what))
      guard stored == sum else {
        throw .malformed("the checksum of \(what) should be \(stored); it is \(sum)", at: bytes.offset(start))
      }
    }
  }

  static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]

  let source: Source
  /// The group that everything lies in.
  package let root: HDF5Object

  /// True if the bytes look like an HDF5 file. The signature stands at 0, or at 512, 1024, … behind a user block.
  package static func isHDF5(_ bytes: ByteView) -> Bool { signatureOffset(bytes) != nil }

  private static func signatureOffset(_ bytes: ByteView) -> Int? {
    var offset = 0
    while offset <= bytes.count - signature.count {
      if let part = try? bytes.slice(offset, signature.count, ""), part.starts(with: signature) { return offset }
      offset = offset == 0 ? 512 : offset * 2
    }
    return nil
  }

  /// Reads a file, whose bytes are best in memory or mapped: all of them are asked for. No dataset that is put together
  /// may take more than `LoadLimits.maximumDecodedBytes`.
  package init(_ file: FileBytes, limits: LoadLimits = LoadLimits()) throws(LoadError) {
    var own = Limits()
    own.maximumDatasetBytes = min(own.maximumDatasetBytes, limits.maximumDecodedBytes)
    do throws(LoadError) {
      self = try HDF5File(file.view(), limits: own)
    } catch {
      throw error.inFile(file.name)
    }
  }

  package init(_ bytes: ByteView, limits: Limits = Limits()) throws(LoadError) {
    guard let start = Self.signatureOffset(bytes) else {
      throw LoadError(.wrongFormat, "an HDF5 file should begin with \\x89HDF; this one does not", byteOffset: 0)
    }
    var reader = ByteReader(bytes, at: start + 8)
    let version = try reader.u8("the version of the superblock")
    switch version {
    case 0, 1: try reader.skip(4)
    case 2, 3: break
    default: throw .unsupported("a superblock of version 0 to 3 was expected; it has \(version)", at: start + 8)
    }
    let offsetWidth = Int(try reader.u8("the width of addresses"))
    let lengthWidth = Int(try reader.u8("the width of lengths"))
    guard [2, 4, 8].contains(offsetWidth), [2, 4, 8].contains(lengthWidth) else {
      throw .malformed(
        "addresses and lengths should have 2, 4 or 8 bytes; they have \(offsetWidth) and \(lengthWidth)",
        at: reader.fileOffset)
    }
    if version < 2 {
      // A reserved byte, the ranks of two trees, flags.
      try reader.skip(1 + 4 + 4)
      if version == 1 { try reader.skip(4) }
    } else {
      try reader.skip(1)
    }
    let base = try reader.length(bytes: offsetWidth, "the base address")
    let view = try bytes.suffix(from: base, "the file from its base address on")
    let source = Source(view, limits, offsetWidth: offsetWidth, lengthWidth: lengthWidth)
    // Old: free space, end of file, driver, and the name of the root group. New: extension, end of file.
    try reader.skip((version < 2 ? 4 : 2) * offsetWidth)
    guard let rootAddress = try source.address(&reader, "the root group") else {
      throw .malformed("the file should have a root group", at: reader.fileOffset)
    }
    if version >= 2 { try source.verify(from: start - base, to: reader.position - base, "the superblock") }
    self.source = Source(view, limits, offsetWidth: offsetWidth, lengthWidth: lengthWidth, root: rootAddress)
    root = try HDF5Object(self.source, rootAddress, path: "/")
  }

  /// The object at a path such as `/model_weights/dense/kernel`; nil if there is none.
  package subscript(path: String) -> HDF5Object? {
    get throws(LoadError) {
      var object = root
      for name in path.split(separator: "/") {
        guard let link = try object.links().first(where: { $0.name == name }) else { return nil }
        object = try object.open(link)
      }
      return object
    }
  }

  /// Every dataset, in the order of its group and name, with its path. Objects that several links lead to come once.
  package func datasets() throws(LoadError) -> [HDF5Object] {
    var found: [HDF5Object] = []
    var seen: Set<Int> = [root.address]
    // Groups that are still to be walked, the next one last.
    var waiting: [(object: HDF5Object, depth: Int)] = [(root, 1)]
    while let (object, depth) = waiting.popLast() {
      if object.isDataset { found.append(object) }
      guard object.isGroup else { continue }
      if depth > source.limits.maximumDepth {
        throw .limit("groups lie more than \(source.limits.maximumDepth) deep in each other", at: object.address)
      }
      for link in try object.links().reversed() {
        // Soft links lead to objects that have a name of their own.
        if case .soft = link.target { continue }
        let child = try object.open(link)
        if seen.insert(child.address).inserted { waiting.append((child, depth + 1)) }
      }
    }
    return found
  }
}
