// The indexes of layout version 4: implicit, fixed array, extensible array (File Format Specification, VII.B to VII.D).

extension HDF5ChunkIndex {
  /// All chunks lie one after the other.
  func implicitChunks(_ address: Int) throws(LoadError) -> [HDF5Chunk] {
    var chunks: [HDF5Chunk] = []
    try grid.forEachPlace { (place) throws(LoadError) in
      let (offset, overflow) = try number(place).multipliedReportingOverflow(by: grid.chunkBytes)
      let (start, second) = address.addingReportingOverflow(offset)
      if overflow || second { throw .malformed("a chunk should lie in the file", at: source.bytes.offset(address)) }
      chunks.append(HDF5Chunk(place: place, address: start, byteCount: grid.chunkBytes, filterMask: 0))
    }
    return chunks
  }

  /// The number of a chunk among all that the dataset may ever have; the dimension without limit counts slowest.
  private func number(_ place: [Int]) throws(LoadError) -> Int {
    var order = Array(place.indices)
    if let unlimited = maximum.firstIndex(where: { $0 == nil }) {
      order.remove(at: unlimited)
      order.insert(unlimited, at: 0)
    }
    var number = 0
    for (position, axis) in order.enumerated() {
      var count = 1
      if position > 0 {
        guard let most = maximum[axis] else {
          throw .malformed("an index of this kind should have one dimension without limit at most")
        }
        count = most / grid.chunk[axis] + (most % grid.chunk[axis] > 0 ? 1 : 0)
      }
      let (product, first) = number.multipliedReportingOverflow(by: count)
      let (sum, second) = product.addingReportingOverflow(place[axis])
      if first || second { throw .malformed("the dataset should not have that many chunks") }
      number = sum
    }
    return number
  }

  /// What an entry of an array says; nil for a chunk that was never written.
  private func entry(
    at position: Int, _ width: Int, _ isFiltered: Bool, _ place: [Int]
  ) throws(LoadError) -> HDF5Chunk? {
    var reader = ByteReader(try source.bytes.slice(position, width, "an entry of a chunk index"))
    guard let address = try source.address(&reader, "a chunk") else { return nil }
    if !isFiltered {
      return HDF5Chunk(place: place, address: address, byteCount: grid.chunkBytes, filterMask: 0)
    }
    let size = try reader.length(bytes: width - source.offsetWidth - 4, "the size of a chunk")
    return HDF5Chunk(
      place: place, address: address, byteCount: size, filterMask: try reader.u32("the filters of a chunk"))
  }

  /// Checks the part of an array's header that both kinds share; the width of an entry.
  private func entryWidth(_ reader: inout ByteReader, _ isFiltered: Bool) throws(LoadError) -> Int {
    let start = reader.fileOffset
    let version = try reader.u8("a chunk index")
    let client = try reader.u8("a chunk index")
    let width = Int(try reader.u8("the width of an entry"))
    let isRight = isFiltered ? (1...8).contains(width - source.offsetWidth - 4) : width == source.offsetWidth
    guard version == 0, client == (isFiltered ? 1 : 0), isRight else {
      throw .malformed("a chunk index should have entries for its chunks; they have \(width) bytes", at: start)
    }
    return width
  }

  // MARK: - Fixed array

  func fixedArrayChunks(_ address: Int, _ isFiltered: Bool) throws(LoadError) -> [HDF5Chunk] {
    var head = try source.reader(at: address, signature: "FAHD", "a chunk index")
    let width = try entryWidth(&head, isFiltered)
    let pageBits = Int(try head.u8("the pages of a chunk index"))
    let count = try source.length(&head, "the entries of a chunk index")
    let block = try source.address(&head, "the entries of a chunk index")
    try source.verify(from: address, to: head.position, "a chunk index")
    guard let block else { return [] }
    guard pageBits < 32, count <= source.bytes.count else {
      throw .malformed("a chunk index of \(count) entries should lie in the file", at: source.bytes.offset(address))
    }
    let reader = try source.reader(at: block, signature: "FADB", "the entries of a chunk index")
    let entries = reader.position + 2 + source.offsetWidth
    let page = 1 << pageBits
    let isPaged = count > page
    let bitmapBytes = isPaged ? (count + page - 1) / page / 8 + ((count + page - 1) / page % 8 > 0 ? 1 : 0) : 0
    if isPaged {
      try source.verify(from: block, to: entries + bitmapBytes, "the entries of a chunk index")
    } else {
      try source.verify(from: block, to: entries + count * width, "the entries of a chunk index")
    }
    var chunks: [HDF5Chunk] = []
    try grid.forEachPlace { (place) throws(LoadError) in
      let number = try number(place)
      guard number < count else {
        throw .malformed(
          "chunk \(number) should be among the \(count) of its index", at: source.bytes.offset(address))
      }
      var position = entries + number * width
      if isPaged {
        guard try isSet(number / page, at: entries) else { return }
        position = entries + bitmapBytes + 4 + number / page * (page * width + 4) + number % page * width
      }
      if let chunk = try entry(at: position, width, isFiltered, place) { chunks.append(chunk) }
    }
    return chunks
  }

  /// Bit `index` of a bitmap, the highest bit of a byte first.
  private func isSet(_ index: Int, at position: Int) throws(LoadError) -> Bool {
    try source.bytes.u8(position + index / 8, "the pages of a chunk index") & (0x80 >> UInt8(index % 8)) != 0
  }

  // MARK: - Extensible array

  /// The header of an extensible array: blocks of entries double in size, as do the super blocks that hold them.
  private struct ExtensibleArray {
    let width: Int
    let indexEntries: Int
    let blockEntries: Int
    let blockPointers: Int
    let pageEntries: Int
    /// The bytes of a block's offset.
    let offsetBytes: Int
    let superBlocks: Int
    let indexBlock: Int

    /// The super blocks whose blocks are addressed by the index block itself.
    var directSuperBlocks: Int { 2 * blockPointers.trailingZeroBitCount }
    var directBlocks: Int { 2 * (blockPointers - 1) }
  }

  private func extensibleArray(_ address: Int, _ isFiltered: Bool) throws(LoadError) -> ExtensibleArray? {
    var head = try source.reader(at: address, signature: "EAHD", "a chunk index")
    let width = try entryWidth(&head, isFiltered)
    let maximumBits = Int(try head.u8("a chunk index"))
    let indexEntries = Int(try head.u8("a chunk index"))
    let blockEntries = Int(try head.u8("a chunk index"))
    let blockPointers = Int(try head.u8("a chunk index"))
    let pageBits = Int(try head.u8("a chunk index"))
    try head.skip(6 * source.lengthWidth, "the statistics of a chunk index")
    let block = try source.address(&head, "the entries of a chunk index")
    try source.verify(from: address, to: head.position, "a chunk index")
    guard let block else { return nil }
    let arePowers = blockEntries.nonzeroBitCount == 1 && blockPointers.nonzeroBitCount == 1
    guard (1...62).contains(maximumBits), arePowers, blockEntries.trailingZeroBitCount <= maximumBits, pageBits < 32
    else {
      throw .malformed(
        "the blocks of a chunk index should have powers of two of entries", at: source.bytes.offset(address))
    }
    return ExtensibleArray(
      width: width, indexEntries: indexEntries, blockEntries: blockEntries, blockPointers: blockPointers,
      pageEntries: 1 << pageBits, offsetBytes: (maximumBits + 7) / 8,
      superBlocks: 1 + maximumBits - blockEntries.trailingZeroBitCount, indexBlock: block)
  }

  func extensibleArrayChunks(_ address: Int, _ isFiltered: Bool) throws(LoadError) -> [HDF5Chunk] {
    guard let array = try extensibleArray(address, isFiltered) else { return [] }
    let reader = try source.reader(at: array.indexBlock, signature: "EAIB", "the entries of a chunk index")
    let entries = reader.position + 2 + source.offsetWidth
    let superPointers = max(0, array.superBlocks - array.directSuperBlocks)
    try source.verify(
      from: array.indexBlock,
      to: entries + array.indexEntries * array.width + (array.directBlocks + superPointers) * source.offsetWidth,
      "the entries of a chunk index")
    var chunks: [HDF5Chunk] = []
    try grid.forEachPlace { (place) throws(LoadError) in
      let number = try number(place)
      var position = entries + number * array.width
      if number >= array.indexEntries {
        guard let found = try entryPosition(number - array.indexEntries, array, entries) else { return }
        position = found
      }
      if let chunk = try entry(at: position, array.width, isFiltered, place) { chunks.append(chunk) }
    }
    return chunks
  }

  /// Where entry `number` lies, counted from the first that is not in the index block; nil if it was never written.
  private func entryPosition(
    _ number: Int, _ array: ExtensibleArray, _ entries: Int
  ) throws(LoadError) -> Int? {
    // Super block s has 2^(s/2) blocks of 2^((s+1)/2) times the smallest number of entries.
    let units = number / array.blockEntries + 1
    let superBlock = Int.bitWidth - 1 - units.leadingZeroBitCount
    guard superBlock < array.superBlocks else {
      throw .malformed("chunk \(number) should be among those that the index can hold")
    }
    let perBlock = array.blockEntries << ((superBlock + 1) / 2)
    let within = number - ((1 << superBlock) - 1) * array.blockEntries
    let (block, index) = (within / perBlock, within % perBlock)
    let pointers = entries + array.indexEntries * array.width
    if superBlock < array.directSuperBlocks {
      // Blocks before this super block: the sum of 2^(t/2) for t below it.
      var before = 0
      for earlier in 0..<superBlock { before += 1 << (earlier / 2) }
      var reader = ByteReader(source.bytes, at: pointers + (before + block) * source.offsetWidth)
      guard let address = try source.address(&reader, "a block of a chunk index") else { return nil }
      return try entryPosition(index, inBlock: address, perBlock, array)
    }
    let place = array.directBlocks + superBlock - array.directSuperBlocks
    var reader = ByteReader(source.bytes, at: pointers + place * source.offsetWidth)
    guard let address = try source.address(&reader, "a block of a chunk index") else { return nil }
    let head = try source.bytes.slice(address, 4, "a super block of a chunk index")
    guard head.starts(with: Array("EASB".utf8)) else {
      throw .malformed("a super block of a chunk index should begin with EASB", at: head.fileOffset)
    }
    let bitmap = address + 6 + source.offsetWidth + array.offsetBytes
    let blocks = 1 << (superBlock / 2)
    let pages = perBlock > array.pageEntries ? perBlock / array.pageEntries : 0
    let bitmapBytes = blocks * ((pages + 7) / 8)
    if pages > 0, try !isSet(block * pages + index / array.pageEntries, at: bitmap) { return nil }
    var blockReader = ByteReader(source.bytes, at: bitmap + bitmapBytes + block * source.offsetWidth)
    guard let data = try source.address(&blockReader, "a block of a chunk index") else { return nil }
    return try entryPosition(index, inBlock: data, perBlock, array)
  }

  private func entryPosition(
    _ index: Int, inBlock address: Int, _ perBlock: Int, _ array: ExtensibleArray
  ) throws(LoadError) -> Int {
    let head = try source.bytes.slice(address, 4, "a block of a chunk index")
    guard head.starts(with: Array("EADB".utf8)) else {
      throw .malformed("a block of a chunk index should begin with EADB", at: head.fileOffset)
    }
    let entries = address + 6 + source.offsetWidth + array.offsetBytes
    if perBlock <= array.pageEntries { return entries + index * array.width }
    let page = index / array.pageEntries
    return entries + 4 + page * (array.pageEntries * array.width + 4) + index % array.pageEntries * array.width
  }
}
