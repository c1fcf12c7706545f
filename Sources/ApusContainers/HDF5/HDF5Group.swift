// The links of a group: symbol tables (a tree of nodes and a heap of names) of old groups, link messages of new ones.

enum HDF5Group {
  static func links(of header: HDF5ObjectHeader, _ source: HDF5File.Source) throws(LoadError) -> [HDF5Link] {
    var links: [HDF5Link] = []
    if let table = header.first(.symbolTable) {
      var reader = ByteReader(table.content)
      guard let tree = try source.address(&reader, "the tree of a group"),
        let heap = try source.address(&reader, "the heap of a group")
      else { throw .malformed("a group should have a tree and a heap", at: table.content.fileOffset) }
      var walk = SymbolTable(source, names: try heapNames(at: heap, source))
      try walk.read(tree, depth: 1)
      links = walk.links
    }
    for message in header.messages where message.kind == .link {
      links.append(try link(ByteReader(message.content), source))
    }
    if let info = header.first(.linkInfo) { try checkIsCompact(info.content, source) }
    var names: Set<String> = []
    for link in links where !names.insert(link.name).inserted {
      throw .malformed("a group should have one link named \(link.name); it has two")
    }
    return links
  }

  /// The bytes that hold the names of a group.
  private static func heapNames(at address: Int, _ source: HDF5File.Source) throws(LoadError) -> ByteView {
    var reader = try source.reader(at: address, signature: "HEAP", "the heap of a group")
    try reader.skip(4)
    let size = try source.length(&reader, "the size of a heap")
    _ = try source.length(&reader, "the free list of a heap")
    guard let start = try source.address(&reader, "the contents of a heap") else {
      throw .malformed("a heap should have contents", at: reader.fileOffset)
    }
    return try source.bytes.slice(start, size, "the contents of a heap")
  }

  /// Walks the tree of a symbol table; every node once.
  private struct SymbolTable {
    let source: HDF5File.Source
    let names: ByteView
    var links: [HDF5Link] = []
    var seen: Set<Int> = []

    init(_ source: HDF5File.Source, names: ByteView) { (self.source, self.names) = (source, names) }

    mutating func read(_ address: Int, depth: Int) throws(LoadError) {
      guard depth <= source.limits.maximumDepth, seen.insert(address).inserted else {
        throw .malformed("the tree of a group should not lead back to itself", at: source.bytes.offset(address))
      }
      if try source.bytes.u8(address, "the tree of a group") == UInt8(ascii: "S") { return try readSymbols(address) }
      var reader = try source.reader(at: address, signature: "TREE", "the tree of a group")
      guard try reader.u8("the kind of a tree") == 0 else {
        throw .malformed("the tree of a group should be of kind 0", at: reader.fileOffset - 1)
      }
      try reader.skip(1)
      let count = Int(try reader.u16("the entries of a tree"))
      try reader.skip(2 * source.offsetWidth)
      for _ in 0..<count {
        try reader.skip(source.lengthWidth, "a key of a tree")
        guard let child = try source.address(&reader, "a node of a tree") else {
          throw .malformed("a node of a tree should have an address", at: reader.fileOffset)
        }
        try read(child, depth: depth + 1)
      }
    }

    private mutating func readSymbols(_ address: Int) throws(LoadError) {
      var reader = try source.reader(at: address, signature: "SNOD", "the names of a group")
      try reader.skip(2)
      let count = Int(try reader.u16("the number of names"))
      for _ in 0..<count {
        let nameAt = try reader.length(bytes: source.offsetWidth, "the place of a name")
        let object = try source.address(&reader, "an object of a group")
        let kind = try reader.u32("the kind of a name")
        try reader.skip(4)
        let scratch = try reader.bytes(16, "a name of a group")
        let name = try text(at: nameAt, "a name of a group")
        if kind == 2 {
          links.append(HDF5Link(name: name, target: .soft(try text(at: Int(scratch.u32(0)), "a soft link"))))
        } else if let object {
          links.append(HDF5Link(name: name, target: .hard(object)))
        } else {
          throw .malformed("the object \(name) should have an address", at: reader.fileOffset)
        }
      }
    }

    private func text(at position: Int, _ what: String) throws(LoadError) -> String {
      var reader = ByteReader(try names.suffix(from: position, what))
      let bytes = try reader.bytes(upTo: 0, what)
      guard let text = bytes.text else {
        throw .malformed("\(what) should be valid UTF-8", at: bytes.fileOffset)
      }
      return text
    }
  }

  /// A link message.
  private static func link(_ message: ByteReader, _ source: HDF5File.Source) throws(LoadError) -> HDF5Link {
    var reader = message
    guard try reader.u8("a link") == 1 else {
      throw .unsupported("a link of version 1 was expected", at: reader.fileOffset - 1)
    }
    let flags = try reader.u8("a link")
    let type = flags & 8 != 0 ? try reader.u8("the type of a link") : 0
    if flags & 4 != 0 { try reader.skip(8) }
    if flags & 16 != 0 { try reader.skip(1) }
    let length = try reader.length(bytes: 1 << Int(flags & 3), "the length of a name")
    let nameBytes = try reader.bytes(length, "the name of a link")
    guard let name = nameBytes.text else {
      throw .malformed("the name of a link should be valid UTF-8", at: nameBytes.fileOffset)
    }
    switch type {
    case 0:
      guard let address = try source.address(&reader, "the object of a link") else {
        throw .malformed("the link \(name) should have an address", at: reader.fileOffset)
      }
      return HDF5Link(name: name, target: .hard(address))
    case 1:
      let size = Int(try reader.u16("the length of a soft link"))
      guard let target = try reader.bytes(size, "a soft link").text else {
        throw .malformed("the soft link \(name) should be valid UTF-8", at: reader.fileOffset)
      }
      return HDF5Link(name: name, target: .soft(target))
    default: return HDF5Link(name: name, target: .external)
    }
  }

  /// Refuses groups whose links lie in a fractal heap.
  private static func checkIsCompact(_ info: ByteView, _ source: HDF5File.Source) throws(LoadError) {
    var reader = ByteReader(info)
    try reader.skip(1)
    let flags = try reader.u8("the links of a group")
    if flags & 1 != 0 { try reader.skip(8) }
    if try source.address(&reader, "the links of a group") != nil {
      throw .unsupported(
        "the links of the group lie in a fractal heap, which is not read",
        remedy: "Write the file with libver='earliest' (h5py's default), or without track_order", at: info.fileOffset)
    }
  }
}
