// Writes plain HDF5 files: superblock 0, symbol tables, contiguous datasets; what h5py, Keras and every release of the
// library read. The elements come first and the structures behind them, so that elements are passed on, never copied.

import ApusTensor

/// What is to be written: groups in groups, datasets and attributes. Names within a group are unique.
package struct HDF5Tree: Sendable {
  package enum Attribute: Sendable, Hashable {
    /// One text of any length, as h5py writes a `str`.
    case text(String)
    /// Texts of the length of the longest, as h5py writes an array of `bytes`. At most 64 KB.
    case texts([String])
    case integer(Int)
    case integers([Int])
    case doubles([Double])
  }
  package struct Dataset: Sendable {
    package var dataType: DataType
    package var shape: [Int]
    /// The elements, lowest byte first.
    package var bytes: ByteView
    package var attributes: [(name: String, value: Attribute)] = []

    package init(_ dataType: DataType, _ shape: [Int], _ bytes: ByteView) {
      (self.dataType, self.shape, self.bytes) = (dataType, shape, bytes)
    }
  }
  package var attributes: [(name: String, value: Attribute)] = []
  package var groups: [(name: String, group: HDF5Tree)] = []
  package var datasets: [(name: String, dataset: Dataset)] = []

  package init() {}
}

package struct HDF5Writer {
  /// Where the structures begin.
  private let base: Int
  /// The structures.
  private var output: [UInt8] = []
  /// The addresses of the elements of datasets, in the order of writing.
  private var dataAddresses: [Int?] = []
  private var nextDataset = 0
  /// Where each text of variable length lies, in the order of writing.
  private var texts: [(length: Int, collection: Int, index: Int)] = []
  private var nextText = 0

  private static let superblockBytes = 96
  private static let undefined = UInt64.max
  /// Half the names of a node, and half the children of a tree's node: what the library writes.
  private static let leafRank = 4
  private static let innerRank = 16

  /// The file, as parts one after the other; those of datasets are the views that were given.
  package static func parts(_ root: HDF5Tree) throws(LoadError) -> [ByteView] {
    let elements = datasets(of: root)
    var (addresses, position): ([Int?], Int) = ([], superblockBytes)
    for dataset in elements {
      addresses.append(dataset.bytes.count == 0 ? nil : position)
      position += (dataset.bytes.count + 7) / 8 * 8
    }
    var writer = HDF5Writer(base: position, dataAddresses: addresses)
    writer.writeTexts(root)
    let rootAddress = try writer.write(root, path: "/")
    var parts = [ByteView(superblock(root: rootAddress, end: position + writer.output.count))]
    for dataset in elements {
      parts.append(dataset.bytes)
      let rest = dataset.bytes.count % 8
      if rest > 0 { parts.append(ByteView([UInt8](repeating: 0, count: 8 - rest))) }
    }
    return parts + [ByteView(writer.output)]
  }

  /// The whole file.
  package static func encode(_ root: HDF5Tree) throws(LoadError) -> [UInt8] {
    try parts(root).flatMap(\.array)
  }

  private init(base: Int, dataAddresses: [Int?]) { (self.base, self.dataAddresses) = (base, dataAddresses) }

  /// Datasets in the order in which `write` comes to them.
  private static func datasets(of group: HDF5Tree) -> [HDF5Tree.Dataset] {
    group.groups.flatMap { datasets(of: $0.group) } + group.datasets.map(\.dataset)
  }

  // MARK: - Numbers

  /// Where the next byte will lie in the file.
  private var position: Int { base + output.count }

  private static func number(_ value: UInt64, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  private static func number(_ value: Int, _ width: Int) -> [UInt8] { number(UInt64(value), width) }

  private static func padded(_ bytes: [UInt8]) -> [UInt8] {
    bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
  }

  private mutating func put(_ value: Int, _ width: Int) { output += Self.number(value, width) }

  // MARK: - Objects

  private static func superblock(root: Int, end: Int) -> [UInt8] {
    HDF5File.signature + [0, 0, 0, 0, 0, 8, 8, 0] + number(leafRank, 2) + number(innerRank, 2) + number(0, 4)
      + number(0, 8) + number(undefined, 8) + number(end, 8) + number(undefined, 8) + number(0, 8) + number(root, 8)
      + [UInt8](repeating: 0, count: 24)
  }

  /// Writes a group after everything in it; the address of its header.
  private mutating func write(_ group: HDF5Tree, path: String) throws(LoadError) -> Int {
    var entries: [(name: [UInt8], address: Int)] = []
    for (name, child) in group.groups {
      entries.append((Array(name.utf8), try write(child, path: path + name + "/")))
    }
    for (name, dataset) in group.datasets {
      entries.append((Array(name.utf8), try write(dataset, path: path + name)))
    }
    entries.sort { $0.name.lexicographicallyPrecedes($1.name) }
    for (index, entry) in entries.enumerated() {
      let isTaken = index > 0 && entries[index - 1].name == entry.name
      if entry.name.isEmpty || entry.name.contains(0x2F) || entry.name.contains(0) || isTaken {
        throw LoadError(
          .malformed, "names should be unique and without '/'; found '\(String(decoding: entry.name, as: UTF8.self))'",
          path: path)
      }
    }
    let (heap, offsets) = writeHeap(entries.map(\.name))
    let tree = writeTree(entries.map(\.address), offsets)
    let table = (kind: 17, content: Self.number(tree, 8) + Self.number(heap, 8))
    return try writeHeader([table], group.attributes, path: path)
  }

  private mutating func write(_ dataset: HDF5Tree.Dataset, path: String) throws(LoadError) -> Int {
    let count = dataset.shape.reduce(1, *)
    guard let size = dataset.dataType.byteCount(elements: count), size == dataset.bytes.count, size > 0 || count == 0,
      let type = Self.datatype(dataset.dataType)
    else {
      throw LoadError(
        .unsupported,
        """
        \(dataset.bytes.count) bytes cannot be written as \(dataset.dataType) of shape \(dataset.shape); whole bytes \
        of numbers are written
        """, path: path)
    }
    let address = dataAddresses[nextDataset].map { UInt64($0) } ?? Self.undefined
    nextDataset += 1
    let layout = [3, 1] + Self.number(address, 8) + Self.number(size, 8)
    // The default value, written when something is.
    let fill: [UInt8] = [2, 2, 2, 1, 0, 0, 0, 0]
    return try writeHeader(
      [(1, Self.dataspace(dataset.shape)), (3, type), (5, fill), (8, layout)], dataset.attributes, path: path)
  }

  /// An object header of version 1.
  private mutating func writeHeader(
    _ messages: [(kind: Int, content: [UInt8])], _ attributes: [(name: String, value: HDF5Tree.Attribute)],
    path: String
  ) throws(LoadError) -> Int {
    var content: [UInt8] = []
    var all = messages
    for (name, value) in attributes {
      let message = attribute(name, value)
      guard message.count <= 65_528 else {
        throw LoadError(
          .limitExceeded, "attribute \(name) takes \(message.count) bytes; an attribute has at most 65528",
          remedy: "Split it", path: path)
      }
      all.append((12, message))
    }
    guard all.count <= Int(UInt16.max) else {
      throw LoadError(.limitExceeded, "an object has at most 65535 attributes", path: path)
    }
    for (kind, message) in all {
      let padded = Self.padded(message)
      content += Self.number(kind, 2) + Self.number(padded.count, 2) + [0, 0, 0, 0] + padded
    }
    let address = position
    output += [1, 0] + Self.number(all.count, 2) + Self.number(1, 4) + Self.number(content.count, 4) + [0, 0, 0, 0]
    output += content
    return address
  }

  // MARK: - Groups

  /// The names of a group; the address of their heap and where each lies in it.
  private mutating func writeHeap(_ names: [[UInt8]]) -> (address: Int, offsets: [Int]) {
    var content = [UInt8](repeating: 0, count: 8)
    var offsets: [Int] = []
    for name in names {
      offsets.append(content.count)
      content += Self.padded(name + [0])
    }
    let address = position
    output += Array("HEAP".utf8) + [0, 0, 0, 0] + Self.number(content.count, 8)
    // 1: no free space.
    output += Self.number(1, 8) + Self.number(address + 32, 8) + content
    return (address, offsets)
  }

  /// The nodes of names and the tree over them; the address of its root.
  private mutating func writeTree(_ addresses: [Int], _ offsets: [Int]) -> Int {
    // Each node with the largest name in it.
    var nodes: [(address: Int, last: Int)] = []
    for start in stride(from: 0, to: addresses.count, by: 2 * Self.leafRank) {
      let range = start..<min(start + 2 * Self.leafRank, addresses.count)
      nodes.append((position, offsets[range.upperBound - 1]))
      output += Array("SNOD".utf8) + [1, 0] + Self.number(range.count, 2)
      for index in range {
        output += Self.number(offsets[index], 8) + Self.number(addresses[index], 8) + [UInt8](repeating: 0, count: 24)
      }
      output += [UInt8](repeating: 0, count: 40 * (2 * Self.leafRank - range.count))
    }
    var level = 0
    var root = writeLevel(&nodes, level)
    while nodes.count > 1 {
      level += 1
      root = writeLevel(&nodes, level)
    }
    return root
  }

  /// One level of a tree over `nodes`, which become the nodes of that level; the address of the first. A group without
  /// names has one node without children.
  private mutating func writeLevel(_ nodes: inout [(address: Int, last: Int)], _ level: Int) -> Int {
    let most = 2 * Self.innerRank
    let nodeBytes = 24 + 8 * (2 * most + 1)
    let first = position
    let groups = max(1, (nodes.count + most - 1) / most)
    var parents: [(address: Int, last: Int)] = []
    var before = 0
    for group in 0..<groups {
      let children = nodes[min(group * most, nodes.count)..<min((group + 1) * most, nodes.count)]
      let address = position
      let left = group > 0 ? UInt64(address - nodeBytes) : Self.undefined
      let right = group + 1 < groups ? UInt64(address + nodeBytes) : Self.undefined
      output += Array("TREE".utf8) + [0, UInt8(level)] + Self.number(children.count, 2)
      output += Self.number(left, 8) + Self.number(right, 8) + Self.number(before, 8)
      for child in children {
        output += Self.number(child.address, 8) + Self.number(child.last, 8)
        before = child.last
      }
      output += [UInt8](repeating: 0, count: 16 * (most - children.count))
      parents.append((address, before))
    }
    nodes = parents
    return first
  }

  // MARK: - Types, shapes and attributes

  private static func dataspace(_ shape: [Int]) -> [UInt8] {
    [1, UInt8(shape.count), 0, 0, 0, 0, 0, 0] + shape.flatMap { number($0, 8) }
  }

  /// The message of a number type; nil for those that HDF5 has no name for.
  private static func datatype(_ type: DataType) -> [UInt8]? {
    func integer(_ bytes: Int, isSigned: Bool) -> [UInt8] {
      [0x10, isSigned ? 8 : 0, 0, 0] + number(bytes, 4) + number(0, 2) + number(8 * bytes, 2)
    }
    func float(_ bytes: Int, exponent: Int, fraction: Int) -> [UInt8] {
      [0x11, 0x20, UInt8(8 * bytes - 1), 0] + number(bytes, 4) + number(0, 2) + number(8 * bytes, 2)
        + [UInt8(fraction), UInt8(exponent), 0, UInt8(fraction)] + number(1 << (exponent - 1) - 1, 4)
    }
    switch type {
    case .float16: return float(2, exponent: 5, fraction: 10)
    case .bfloat16: return float(2, exponent: 8, fraction: 7)
    case .float32: return float(4, exponent: 8, fraction: 23)
    case .float64: return float(8, exponent: 11, fraction: 52)
    case .bool:
      return [0x18, 2, 0, 0] + number(1, 4) + integer(1, isSigned: true) + padded(Array("FALSE\0".utf8))
        + padded(Array("TRUE\0".utf8)) + [0, 1]
    case .int8, .int16, .int32, .int64: return integer(type.byteWidth, isSigned: true)
    case .uint8, .uint16, .uint32, .uint64: return integer(type.byteWidth, isSigned: false)
    default: return nil
    }
  }

  private static func fixedText(_ length: Int, isASCII: Bool) -> [UInt8] {
    [0x13, isASCII ? 1 : 0x11, 0, 0] + number(length, 4)
  }

  /// An attribute message of version 1.
  private mutating func attribute(_ name: String, _ value: HDF5Tree.Attribute) -> [UInt8] {
    let int64 = Self.datatype(.int64) ?? []
    let (type, shape, content): ([UInt8], [Int], [UInt8])
    switch value {
    case .text:
      let place = texts[nextText]
      nextText += 1
      let element: [UInt8] = [0x13, 0x10, 0, 0] + Self.number(1, 4)
      (type, shape) = ([0x19, 1, 1, 0] + Self.number(16, 4) + element, [])
      content = Self.number(place.length, 4) + Self.number(place.collection, 8) + Self.number(place.index, 4)
    case .texts(let texts):
      let bytes = texts.map { Array($0.utf8) }
      let width = max(1, bytes.map(\.count).max() ?? 1)
      type = Self.fixedText(width, isASCII: bytes.allSatisfy { $0.allSatisfy { $0 < 0x80 } })
      (shape, content) = (
        [texts.count], bytes.flatMap { $0 + [UInt8](repeating: 0, count: width - $0.count) }
      )
    case .integer(let number): (type, shape, content) = (int64, [], Self.number(UInt64(bitPattern: Int64(number)), 8))
    case .integers(let numbers):
      (type, shape) = (int64, [numbers.count])
      content = numbers.flatMap { Self.number(UInt64(bitPattern: Int64($0)), 8) }
    case .doubles(let numbers):
      (type, shape) = (Self.datatype(.float64) ?? [], [numbers.count])
      content = numbers.flatMap { Self.number($0.bitPattern, 8) }
    }
    let nameBytes = Array(name.utf8) + [0]
    let space = Self.dataspace(shape)
    return [1, 0] + Self.number(nameBytes.count, 2) + Self.number(type.count, 2) + Self.number(space.count, 2)
      + Self.padded(nameBytes) + Self.padded(type) + Self.padded(space) + content
  }

  // MARK: - Texts of variable length

  /// Writes the texts of all attributes into collections.
  private mutating func writeTexts(_ root: HDF5Tree) {
    let all = Self.texts(of: root)
    // An index has 16 bits; 0 is the free space.
    for start in stride(from: 0, to: all.count, by: 60_000) {
      let collection = position
      var content: [UInt8] = []
      for (offset, text) in all[start..<min(start + 60_000, all.count)].enumerated() {
        let bytes = Array(text.utf8)
        texts.append((bytes.count, collection, offset + 1))
        content += Self.number(offset + 1, 2) + Self.number(1, 2) + Self.number(0, 4) + Self.number(bytes.count, 8)
        content += Self.padded(bytes)
      }
      // The smallest collection has 4096 bytes; what is left is an object of index 0.
      let free = max(16, 4096 - 16 - content.count)
      output += Array("GCOL".utf8) + [1, 0, 0, 0] + Self.number(16 + content.count + free, 8) + content
      output += Self.number(0, 8) + Self.number(free, 8) + [UInt8](repeating: 0, count: free - 16)
    }
  }

  /// The texts in the order in which `write` comes to them: children before their group.
  private static func texts(of group: HDF5Tree) -> [String] {
    func texts(_ attributes: [(name: String, value: HDF5Tree.Attribute)]) -> [String] {
      attributes.compactMap { if case .text(let text) = $0.value { text } else { nil } }
    }
    return group.groups.flatMap { Self.texts(of: $0.group) } + group.datasets.flatMap { texts($0.dataset.attributes) }
      + texts(group.attributes)
  }
}
