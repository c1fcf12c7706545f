// Texts of variable length, which lie in collections anywhere in the file.

/// Finds texts by the address of their collection and their index in it. Collections and texts are read once.
struct HDF5GlobalHeap {
  private let source: HDF5File.Source
  private var collections: [Int: [UInt16: ByteView]] = [:]
  private struct Reference: Hashable {
    let collection: Int
    let index: UInt32
    let length: Int
  }
  private var texts: [Reference: String] = [:]

  init(_ source: HDF5File.Source) { self.source = source }

  /// The text that the next element refers to: a length, the address of a collection, an index.
  mutating func text(_ reader: inout ByteReader) throws(LoadError) -> String {
    let start = reader.fileOffset
    let length = Int(try reader.u32("the length of a text"))
    let place = try reader.unsigned(bytes: source.offsetWidth, "the collection of a text")
    let index = try reader.u32("the index of a text")
    // Zeros and ones are what was never written.
    if length == 0 || place == 0 { return "" }
    guard let address = Int(exactly: place), address < source.bytes.count else {
      throw .malformed("the collection of a text should lie in the file; its address is \(place)", at: start)
    }
    let reference = Reference(collection: address, index: index, length: length)
    if let text = texts[reference] { return text }
    let collection: [UInt16: ByteView]
    if let known = collections[address] {
      collection = known
    } else {
      collection = try read(address)
      collections[address] = collection
    }
    guard let small = UInt16(exactly: index), let object = collection[small] else {
      throw .malformed("text \(index) should be in the collection at byte \(address)", at: start)
    }
    let bytes = try object.slice(0, length, "a text")
    guard let text = bytes.text else { throw .malformed("a text should be valid UTF-8", at: bytes.fileOffset) }
    // h5py ends texts with a zero; others do not.
    let trimmed = String(text.prefix { $0 != "\0" })
    texts[reference] = trimmed
    return trimmed
  }

  private func read(_ address: Int) throws(LoadError) -> [UInt16: ByteView] {
    var head = try source.reader(at: address, signature: "GCOL", "a collection of texts")
    try head.skip(4)
    let size = try source.length(&head, "the size of a collection")
    var reader = ByteReader(try source.bytes.slice(address, size, "a collection of texts"), at: 8 + source.lengthWidth)
    var objects: [UInt16: ByteView] = [:]
    while reader.remaining >= 8 + source.lengthWidth {
      let index = try reader.u16("the index of a text")
      if index == 0 { break }
      try reader.skip(6)
      let length = try source.length(&reader, "the length of a text")
      objects[index] = try reader.bytes(length, "a text of a collection")
      if length % 8 > 0 { try reader.skip(min(8 - length % 8, reader.remaining), "padding") }
    }
    return objects
  }
}
