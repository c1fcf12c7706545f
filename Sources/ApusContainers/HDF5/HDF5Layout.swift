// Where the elements of a dataset lie, and how chunks become one block.

/// The layout message of a dataset, versions 1 to 4.
enum HDF5Layout {
  /// All elements of a dataset, row by row.
  static func elements(
    of header: HDF5ObjectHeader, _ type: HDF5Datatype, _ space: HDF5Dataspace, _ source: HDF5File.Source
  ) throws(LoadError) -> ByteView {
    guard let message = header.first(.layout) else { throw .malformed("a dataset should have a layout") }
    if header.contains(.externalFiles) {
      throw .unsupported(
        "the elements lie in another file, which is not opened", remedy: "Copy them into the file",
        at: message.content.fileOffset)
    }
    let (byteCount, overflow) = space.count.multipliedReportingOverflow(by: type.byteCount)
    if overflow { throw .malformed("the dataset has more bytes than can be counted", at: message.content.fileOffset) }
    var reader = ByteReader(message.content)
    let version = try reader.u8("a layout")
    switch version {
    case 1, 2:
      let rank = Int(try reader.u8("a layout"))
      let kind = try reader.u8("a layout")
      try reader.skip(5)
      return try oldElements(&reader, kind, rank, byteCount, header, type, space, source)
    case 3, 4:
      let kind = try reader.u8("a layout")
      switch kind {
      case 0:
        let size = Int(try reader.u16("the size of compact elements"))
        return try reader.bytes(size, "compact elements").slice(0, byteCount, "compact elements")
      case 1:
        let address = try source.address(&reader, "the elements of a dataset")
        return try contiguous(address, byteCount, header, type, source)
      case 2:
        let index =
          version == 3
          ? try HDF5ChunkIndex(version3: &reader, space, type, source)
          : try HDF5ChunkIndex(version4: &reader, space, type, source)
        return try chunked(index, byteCount, header, type, source)
      default:
        throw .unsupported(
          kind == 3 ? "the dataset is a virtual one, made of others" : "the layout is of the unknown class \(kind)",
          remedy: "Copy the dataset into one of its own", at: message.content.fileOffset)
      }
    default:
      throw .unsupported("a layout of version 1 to 4 was expected; found \(version)", at: message.content.fileOffset)
    }
  }

  /// Versions 1 and 2, which releases before 1.6.3 wrote.
  private static func oldElements(
    _ reader: inout ByteReader, _ kind: UInt8, _ rank: Int, _ byteCount: Int, _ header: HDF5ObjectHeader,
    _ type: HDF5Datatype, _ space: HDF5Dataspace, _ source: HDF5File.Source
  ) throws(LoadError) -> ByteView {
    switch kind {
    case 0:
      try reader.skip(4 * rank)
      let size = Int(try reader.u32("the size of compact elements"))
      return try reader.bytes(size, "compact elements").slice(0, byteCount, "compact elements")
    case 1:
      let address = try source.address(&reader, "the elements of a dataset")
      return try contiguous(address, byteCount, header, type, source)
    case 2:
      let address = try source.address(&reader, "the chunks of a dataset")
      let grid = try HDF5ChunkIndex(old: &reader, rank, address, space, type, source)
      return try chunked(grid, byteCount, header, type, source)
    default: throw .malformed("a layout should be of class 0, 1 or 2; found \(kind)", at: reader.fileOffset)
    }
  }

  private static func contiguous(
    _ address: Int?, _ byteCount: Int, _ header: HDF5ObjectHeader, _ type: HDF5Datatype, _ source: HDF5File.Source
  ) throws(LoadError) -> ByteView {
    if let address { return try source.bytes.slice(address, byteCount, "the elements of a dataset") }
    return ByteView(try filled(byteCount, header, type, source))
  }

  /// The value of elements that were never written, as often as `byteCount` asks for.
  private static func filled(
    _ byteCount: Int, _ header: HDF5ObjectHeader, _ type: HDF5Datatype, _ source: HDF5File.Source
  ) throws(LoadError) -> [UInt8] {
    try checkSize(byteCount, source)
    guard let value = try fillValue(header), value.count == type.byteCount, !value.allSatisfy({ $0 == 0 }) else {
      return [UInt8](repeating: 0, count: byteCount)
    }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    while bytes.count < byteCount { bytes.append(contentsOf: value) }
    return bytes
  }

  private static func fillValue(_ header: HDF5ObjectHeader) throws(LoadError) -> [UInt8]? {
    if let message = header.first(.fillValue) {
      var reader = ByteReader(try header.content(of: message))
      let version = try reader.u8("a fill value")
      if version >= 3 {
        guard try reader.u8("a fill value") & 0x20 != 0 else { return nil }
      } else {
        try reader.skip(2)
        let isDefined = try reader.u8("a fill value") != 0
        if !isDefined { return nil }
      }
      let size = Int(try reader.u32("the size of a fill value"))
      return try reader.bytes(size, "a fill value").array
    }
    guard let message = header.first(.oldFillValue) else { return nil }
    var reader = ByteReader(try header.content(of: message))
    let size = Int(try reader.u32("the size of a fill value"))
    return try reader.bytes(size, "a fill value").array
  }

  /// Bounds what is allocated by the file's own size.
  static func checkSize(_ byteCount: Int, _ source: HDF5File.Source) throws(LoadError) {
    let (product, overflow) = max(source.bytes.count, 1 << 16).multipliedReportingOverflow(
      by: source.limits.maximumRatio)
    let limit = min(source.limits.maximumDatasetBytes, overflow ? Int.max : product)
    if byteCount > limit {
      throw .limit("the dataset takes \(byteCount) bytes; the limit for this file is \(limit)")
    }
  }

  // MARK: - Chunks

  private static func chunked(
    _ index: HDF5ChunkIndex, _ byteCount: Int, _ header: HDF5ObjectHeader, _ type: HDF5Datatype,
    _ source: HDF5File.Source
  ) throws(LoadError) -> ByteView {
    var message: ByteView?
    if let found = header.first(.filters) { message = try header.content(of: found) }
    let filters = try HDF5Filters(message)
    let grid = index.grid
    try checkSize(grid.paddedBytes, source)
    var bytes = try filled(byteCount, header, type, source)
    var seen: Set<Int> = []
    for chunk in try index.chunks(isFiltered: !filters.filters.isEmpty) {
      guard seen.insert(grid.number(chunk.place)).inserted else {
        throw .malformed("a chunk should be in the index once", at: source.bytes.offset(chunk.address))
      }
      let stored = try source.bytes.slice(chunk.address, chunk.byteCount, "a chunk")
      let mask = index.leavesEdgesAlone && grid.isAtEdge(chunk.place) ? UInt32.max : chunk.filterMask
      let content = try filters.undo(stored, mask: mask, byteCount: grid.chunkBytes, width: type.byteCount)
      grid.copy(content, at: chunk.place, into: &bytes)
    }
    return ByteView(bytes)
  }
}

/// The division of a dataset into chunks of one size; those at the edges reach beyond the dataset.
struct HDF5Grid: Sendable {
  /// Elements, per dimension. A scalar has none.
  let dimensions: [Int]
  let chunk: [Int]
  /// Chunks, per dimension.
  let counts: [Int]
  let elementBytes: Int
  let chunkBytes: Int
  /// The bytes of all chunks, with what reaches beyond the dataset.
  let paddedBytes: Int

  init(_ dimensions: [Int], chunk: [Int], elementBytes: Int, at offset: Int) throws(LoadError) {
    guard dimensions.count == chunk.count, chunk.allSatisfy({ $0 > 0 }), !chunk.isEmpty else {
      throw .malformed(
        "chunks should have \(dimensions.count) dimensions, none of them 0; they have \(chunk)", at: offset)
    }
    var (chunkBytes, paddedBytes) = (elementBytes, elementBytes)
    var counts: [Int] = []
    for (dimension, size) in zip(dimensions, chunk) {
      let count = dimension / size + (dimension % size > 0 ? 1 : 0)
      counts.append(count)
      let (bytes, first) = chunkBytes.multipliedReportingOverflow(by: size)
      let (padded, second) = paddedBytes.multipliedReportingOverflow(by: size)
      let (all, third) = padded.multipliedReportingOverflow(by: count)
      if first || second || third || bytes > Int(UInt32.max) {
        throw .malformed("chunks of \(chunk) elements are too large", at: offset)
      }
      (chunkBytes, paddedBytes) = (bytes, all)
    }
    (self.dimensions, self.chunk, self.counts, self.elementBytes) = (dimensions, chunk, counts, elementBytes)
    (self.chunkBytes, self.paddedBytes) = (chunkBytes, paddedBytes)
  }

  /// The number of a chunk in the order of rows. Cannot overflow: `paddedBytes` did not.
  func number(_ place: [Int]) -> Int {
    var number = 0
    for (position, count) in zip(place, counts) { number = number * count + position }
    return number
  }

  /// True if a part of the chunk lies beyond the dataset.
  func isAtEdge(_ place: [Int]) -> Bool {
    dimensions.indices.contains { (place[$0] + 1) * chunk[$0] > dimensions[$0] }
  }

  /// Calls `body` with the place of every chunk, row by row.
  func forEachPlace(_ body: ([Int]) throws(LoadError) -> Void) throws(LoadError) {
    if counts.contains(0) { return }
    var place = [Int](repeating: 0, count: counts.count)
    while true {
      try body(place)
      var axis = counts.count - 1
      while axis >= 0, place[axis] == counts[axis] - 1 {
        place[axis] = 0
        axis -= 1
      }
      if axis < 0 { return }
      place[axis] += 1
    }
  }

  /// Copies the part of a chunk that lies in the dataset, run by run of the last dimension.
  func copy(_ content: ByteView, at place: [Int], into bytes: inout [UInt8]) {
    let rank = dimensions.count
    var extent: [Int] = []
    for axis in 0..<rank { extent.append(min(chunk[axis], dimensions[axis] - place[axis] * chunk[axis])) }
    if extent.contains(where: { $0 <= 0 }) { return }
    let run = extent[rank - 1] * elementBytes
    var inner = [Int](repeating: 0, count: rank)
    bytes.withUnsafeMutableBytes { target in
      content.withUnsafeBytes { source in
        while true {
          var (from, to) = (0, 0)
          for axis in 0..<rank {
            from = from * chunk[axis] + inner[axis]
            to = to * dimensions[axis] + place[axis] * chunk[axis] + inner[axis]
          }
          from *= elementBytes
          to *= elementBytes
          // In bounds: `inner` stays below `extent`, which fits both; slices are checked all the same.
          target[to..<to + run].copyBytes(from: source[from..<from + run])
          var axis = rank - 2
          while axis >= 0, inner[axis] == extent[axis] - 1 {
            inner[axis] = 0
            axis -= 1
          }
          if axis < 0 { return }
          inner[axis] += 1
        }
      }
    }
  }
}
