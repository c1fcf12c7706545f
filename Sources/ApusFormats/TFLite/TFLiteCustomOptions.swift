// The options of operators that are not part of the schema: a FlexBuffer with a map of numbers.
// https://flatbuffers.dev/internals (FlexBuffers)

import ApusContainers

/// The numbers of a map, by their names. Everything else in it is passed over.
struct TFLiteCustomOptions {
  private(set) var numbers: [String: Double] = [:]

  /// The largest map that is read.
  private static let maximumEntries = 1024

  /// The types of values that are numbers. Those of `indirect` lie elsewhere in the buffer.
  private enum Kind: UInt8 {
    case int = 1
    case uint = 2
    case float = 3
    case indirectInt = 6
    case indirectUInt = 7
    case indirectFloat = 8
    case bool = 26

    /// The same, found in place.
    var direct: Kind? {
      switch self {
      case .indirectInt: .int
      case .indirectUInt: .uint
      case .indirectFloat: .float
      default: nil
      }
    }
  }
  private static let mapType: UInt8 = 9

  init(_ bytes: ByteView) throws(LoadError) {
    guard bytes.count >= 3 else { throw .malformed("a FlexBuffer has at least 3 bytes; \(bytes.count) were found") }
    let width = Int(try bytes.u8(bytes.count - 1))
    let type = try bytes.u8(bytes.count - 2)
    guard type >> 2 == Self.mapType else { throw .malformed("the options should be a map; their type is \(type >> 2)") }
    let root = bytes.count - 2 - width
    try read(bytes, try Self.follow(bytes, root, width), 1 << Int(type & 3))
  }

  /// Offsets lead back.
  private static func follow(_ bytes: ByteView, _ place: Int, _ width: Int) throws(LoadError) -> Int {
    place - (try bytes.length(place, bytes: width, "an offset"))
  }

  /// The map whose values begin at `start`: before them the offset of the keys, the width of the keys and the count.
  private mutating func read(_ bytes: ByteView, _ start: Int, _ width: Int) throws(LoadError) {
    let count = try bytes.length(start - width, bytes: width, "the count of a map")
    let keyWidth = try bytes.length(start - 2 * width, bytes: width, "the width of keys")
    let keys = try Self.follow(bytes, start - 3 * width, width)
    guard count <= Self.maximumEntries, [1, 2, 4, 8].contains(keyWidth) else {
      throw .malformed("a map of at most \(Self.maximumEntries) entries was expected; it has \(count)")
    }
    for index in 0..<count {
      var key = ByteReader(bytes, at: try Self.follow(bytes, keys + index * keyWidth, keyWidth))
      guard key.position >= 0, let name = try key.bytes(upTo: 0, "a key").text else {
        throw .malformed("a key should be valid UTF-8")
      }
      let type = try bytes.u8(start + count * width + index, "the type of a value")
      guard let kind = Kind(rawValue: type >> 2) else { continue }
      var (place, valueWidth) = (start + index * width, width)
      if kind.direct != nil {
        place = try Self.follow(bytes, place, width)
        valueWidth = 1 << Int(type & 3)
      }
      numbers[name] = try Self.number(bytes, place, valueWidth, kind.direct ?? kind)
    }
  }

  private static func number(
    _ bytes: ByteView, _ place: Int, _ width: Int, _ kind: Kind
  ) throws(LoadError) -> Double {
    let raw = try bytes.unsigned(place, bytes: width, "a number")
    switch kind {
    case .float:
      guard width >= 4 else { throw .unsupported("a float of \(width) bytes in the options is not supported") }
      return width == 8 ? Double(bitPattern: raw) : Double(Float(bitPattern: UInt32(truncatingIfNeeded: raw)))
    case .int:
      let shift = UInt64(64 - 8 * width)
      return Double(Int64(bitPattern: raw << shift) >> Int64(shift))
    default: return Double(raw)
    }
  }
}
