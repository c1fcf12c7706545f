// Where the weights of an ONNX file that is written lie: in the file, or in one beside it.

import ApusTensor

/// Where the weights of a model that is written lie.
package enum WeightPlacement: Sendable, Equatable {
  /// Where they lie in the model that is read.
  case asRead
  /// In the file of the model.
  case embedded
  /// In a file beside it.
  case external(SideFileLayout)
}

/// How weights lie in a file beside their model.
package struct SideFileLayout: Sendable, Equatable {
  /// The name of the file, without a folder; nil: that of the model with `.data` behind it.
  package var name: String?
  /// Tensors of fewer bytes stay in the model.
  package var threshold = 1024
  /// What has no bytes stays there, too.
  var smallest: Int { max(1, threshold) }
  /// So many integers of one axis stay there, too.
  private static let keptIntegers = 64

  /// True for a few integers of one axis or none, which stay there whatever the threshold is: they may be axes, extents
  /// or pads, which readers want to know while they infer shapes.
  func staysReadable(_ type: DataType, _ dims: [Int]) -> Bool {
    type == .int64 && dims.count <= 1 && (dims.first ?? 1) <= Self.keptIntegers
  }

  /// Tensors begin at multiples of so many bytes. Pages, as the specification advises, let readers map them.
  package var alignment = 4096

  /// What alignments can be.
  package static let alignments = 1...(1 << 24)

  package init() {}

  /// The path of the file beside the model at `model`.
  package func path(beside model: String) throws(LoadError) -> String {
    guard let name else { return model + ".data" }
    guard !name.isEmpty, !name.contains("/"), name != ".", name != ".." else {
      throw LoadError(
        .cannotWrite, "'\(name)' is no name of a file beside the model", remedy: "Name it without a folder")
    }
    let path = model.contains("/") ? ExternalDataFolder.folder(of: model) + "/" + name : name
    if path == model {
      throw LoadError(
        .cannotWrite, "'\(name)' is the file of the model; its weights need another", remedy: "Name another file")
    }
    return path
  }
}

/// What a model took on disk.
package struct WrittenModel: Sendable {
  /// Bytes of the file of the model.
  package var bytes = 0
  /// The path of the file beside it; nil if there is none.
  package var sideFile: String?
  package var sideBytes = 0
  /// Tensors in that file, and bytes that it has not since they are those of others.
  package var sideTensors = 0
  package var sharedBytes = 0

  package init() {}
}

/// The file beside a model while it is put together: which bytes come where. The same bytes are there once.
struct SideFile {
  let layout: SideFileLayout
  private var pieces: [(offset: Int, rope: ByteRope)] = []
  private var known: [Key: [Int]] = [:]
  private(set) var count = 0
  private(set) var tensors = 0
  private(set) var sharedBytes = 0

  /// What tells most tensors apart.
  private struct Key: Hashable {
    let count: Int
    let first, last: [UInt8]
  }

  private static let keyBytes = 64

  init(_ layout: SideFileLayout) { self.layout = layout }

  var isEmpty: Bool { pieces.isEmpty }

  /// Gives some bytes a place and returns where they begin.
  mutating func add(_ rope: ByteRope, first: [UInt8], last: [UInt8]) throws(LoadError) -> Int {
    tensors += 1
    let key = Key(count: rope.count, first: first, last: last)
    for index in known[key] ?? [] where try pieces[index].rope.isEqual(to: rope) {
      sharedBytes += rope.count
      return pieces[index].offset
    }
    let alignment = max(1, layout.alignment)
    let offset = (count + alignment - 1) / alignment * alignment
    known[key, default: []].append(pieces.count)
    pieces.append((offset, rope))
    count = offset + rope.count
    return offset
  }

  mutating func add(_ file: FileBytes, _ range: Range<Int>) throws(LoadError) -> Int {
    let length = min(Self.keyBytes, range.count)
    func bytes(_ part: Range<Int>) throws(LoadError) -> [UInt8] {
      try file.withBytes(in: part) { (bytes: Span<UInt8>) throws(LoadError) in bytes.indices.map { bytes[$0] } }
    }
    return try add(
      ByteRope(file, range), first: bytes(range.lowerBound..<(range.lowerBound + length)),
      last: bytes((range.upperBound - length)..<range.upperBound))
  }

  mutating func add(_ bytes: [UInt8]) throws(LoadError) -> Int {
    var rope = ByteRope()
    rope.append(bytes)
    return try add(rope, first: Array(bytes.prefix(Self.keyBytes)), last: Array(bytes.suffix(Self.keyBytes)))
  }

  /// Writes the bytes at their places.
  func write(to output: inout OutputFile) throws(LoadError) {
    for (offset, rope) in pieces {
      try output.write([UInt8](repeating: 0, count: offset - output.count))
      try rope.write(to: &output)
    }
  }
}

extension StringEntry {
  /// The entries of a tensor whose elements lie in a file beside the model.
  static func place(_ location: String, _ offset: Int, _ length: Int) -> [StringEntry] {
    [
      StringEntry(key: "location", value: location), StringEntry(key: "offset", value: "\(offset)"),
      StringEntry(key: "length", value: "\(length)"),
    ]
  }
}
