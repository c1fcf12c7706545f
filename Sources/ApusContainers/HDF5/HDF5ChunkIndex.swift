// The index of a chunked dataset: where each chunk lies. Trees of version 1 here; what newer files use in
// HDF5ChunkIndex+Arrays.swift.

/// One chunk of a dataset.
struct HDF5Chunk: Sendable {
  /// Its position among the chunks, per dimension.
  let place: [Int]
  let address: Int
  let byteCount: Int
  /// A bit for each filter that was left out.
  let filterMask: UInt32
}

struct HDF5ChunkIndex: Sendable {
  /// How chunks are found.
  enum Kind: Sendable {
    case tree
    /// One chunk is everything; nil for a size that no filter changed.
    case single(byteCount: Int?, filterMask: UInt32)
    /// One after the other, all there.
    case implicit
    case fixedArray
    case extensibleArray
  }
  let grid: HDF5Grid
  let kind: Kind
  /// nil if no chunk was ever written.
  let address: Int?
  let source: HDF5File.Source
  /// What the dimensions may grow to.
  let maximum: [Int?]
  /// True if chunks that reach beyond the dataset are stored without filters.
  let leavesEdgesAlone: Bool

  private init(
    _ grid: HDF5Grid, _ kind: Kind, _ address: Int?, _ space: HDF5Dataspace, _ source: HDF5File.Source,
    leavesEdgesAlone: Bool = false
  ) {
    (self.grid, self.kind, self.address, self.source) = (grid, kind, address, source)
    (maximum, self.leavesEdgesAlone) = (space.maximum, leavesEdgesAlone)
  }

  /// Layout version 3: the rank with the element, the address of a tree, the sizes.
  init(
    version3 reader: inout ByteReader, _ space: HDF5Dataspace, _ type: HDF5Datatype, _ source: HDF5File.Source
  ) throws(LoadError) {
    let rank = Int(try reader.u8("the rank of chunks"))
    let address = try source.address(&reader, "the chunks of a dataset")
    try self.init(old: &reader, rank, address, space, type, source)
  }

  /// The sizes of chunks after a rank and an address that were read; the last is that of an element.
  init(
    old reader: inout ByteReader, _ rank: Int, _ address: Int?, _ space: HDF5Dataspace, _ type: HDF5Datatype,
    _ source: HDF5File.Source
  ) throws(LoadError) {
    let start = reader.fileOffset
    var sizes: [Int] = []
    for _ in 0..<rank { sizes.append(Int(try reader.u32("the size of chunks"))) }
    let grid = try HDF5ChunkIndex.grid(&sizes, space, type, at: start)
    self.init(grid, .tree, address, space, source)
  }

  /// Layout version 4.
  init(
    version4 reader: inout ByteReader, _ space: HDF5Dataspace, _ type: HDF5Datatype, _ source: HDF5File.Source
  ) throws(LoadError) {
    let flags = try reader.u8("a layout")
    let rank = Int(try reader.u8("the rank of chunks"))
    let width = Int(try reader.u8("the width of sizes"))
    let start = reader.fileOffset
    var sizes: [Int] = []
    for _ in 0..<rank { sizes.append(try reader.length(bytes: width, "the size of chunks")) }
    let grid = try HDF5ChunkIndex.grid(&sizes, space, type, at: start)
    let kind: Kind
    switch try reader.u8("the index of chunks") {
    case 1:
      if flags & 2 != 0 {
        let size = try source.length(&reader, "the size of a chunk")
        kind = .single(byteCount: size, filterMask: try reader.u32("the filters of a chunk"))
      } else {
        kind = .single(byteCount: nil, filterMask: 0)
      }
    case 2: kind = .implicit
    case 3:
      try reader.skip(1)
      kind = .fixedArray
    case 4:
      try reader.skip(5)
      kind = .extensibleArray
    case 5:
      throw .unsupported(
        "the chunks are indexed by a tree of version 2, which is not read",
        remedy: "Write the file with libver='earliest' (h5py's default)", at: start)
    case let other: throw .malformed("the index of chunks should be 1 to 5; it is \(other)", at: start)
    }
    let address = try source.address(&reader, "the index of chunks")
    self.init(grid, kind, address, space, source, leavesEdgesAlone: flags & 1 != 0)
  }

  private static func grid(
    _ sizes: inout [Int], _ space: HDF5Dataspace, _ type: HDF5Datatype, at offset: Int
  ) throws(LoadError) -> HDF5Grid {
    guard let element = sizes.popLast(), element == type.byteCount else {
      throw .malformed("the last size of chunks should be that of an element, \(type.byteCount)", at: offset)
    }
    return try HDF5Grid(space.dimensions, chunk: sizes, elementBytes: element, at: offset)
  }

  /// Every chunk that was written.
  func chunks(isFiltered: Bool) throws(LoadError) -> [HDF5Chunk] {
    guard let address else { return [] }
    switch kind {
    case .tree:
      var walk = Walk(index: self)
      try walk.read(address, depth: 1)
      return walk.chunks
    case .single(let byteCount, let mask):
      let place = [Int](repeating: 0, count: grid.counts.count)
      guard grid.counts.allSatisfy({ $0 == 1 }) else {
        throw .malformed("a dataset of one chunk should fit in it", at: source.bytes.offset(address))
      }
      return [HDF5Chunk(place: place, address: address, byteCount: byteCount ?? grid.chunkBytes, filterMask: mask)]
    case .implicit: return try implicitChunks(address)
    case .fixedArray: return try fixedArrayChunks(address, isFiltered)
    case .extensibleArray: return try extensibleArrayChunks(address, isFiltered)
    }
  }

  /// Walks a tree of version 1; every node once.
  private struct Walk {
    let index: HDF5ChunkIndex
    var chunks: [HDF5Chunk] = []
    var seen: Set<Int> = []

    mutating func read(_ address: Int, depth: Int) throws(LoadError) {
      let source = index.source
      guard depth <= source.limits.maximumDepth, seen.insert(address).inserted else {
        throw .malformed("a tree of chunks should not lead back to itself", at: source.bytes.offset(address))
      }
      var reader = try source.reader(at: address, signature: "TREE", "a tree of chunks")
      guard try reader.u8("the kind of a tree") == 1 else {
        throw .malformed("a tree of chunks should be of kind 1", at: reader.fileOffset - 1)
      }
      let level = try reader.u8("the level of a tree")
      let count = Int(try reader.u16("the entries of a tree"))
      try reader.skip(2 * source.offsetWidth)
      for _ in 0..<count {
        let byteCount = Int(try reader.u32("the size of a chunk"))
        let mask = try reader.u32("the filters of a chunk")
        let start = reader.fileOffset
        var place: [Int] = []
        for (axis, size) in index.grid.chunk.enumerated() {
          let offset = try reader.length(bytes: 8, "the place of a chunk")
          place.append(offset / size)
          // Keys of inner nodes may lie anywhere.
          if level == 0, offset % size > 0 || offset / size >= index.grid.counts[axis] {
            throw .malformed("a chunk should begin at a multiple of \(size) in the dataset", at: start)
          }
        }
        try reader.skip(8)
        guard let child = try source.address(&reader, "a chunk") else {
          throw .malformed("a chunk of a tree should have an address", at: start)
        }
        if level > 0 {
          try read(child, depth: depth + 1)
        } else {
          chunks.append(HDF5Chunk(place: place, address: child, byteCount: byteCount, filterMask: mask))
        }
      }
    }
  }
}
