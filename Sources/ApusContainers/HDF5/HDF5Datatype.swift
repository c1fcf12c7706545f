// Datatypes and dataspaces: what the elements of a dataset or attribute are, and how many.

import ApusTensor

/// What one element is.
package struct HDF5Datatype: Sendable, Hashable {
  package enum Kind: Sendable, Hashable {
    /// Numbers, or the booleans that h5py makes of an enumeration FALSE, TRUE of one byte.
    case number(DataType, isBigEndian: Bool)
    /// `byteCount` bytes of text, ended or filled by zeros or spaces.
    case fixedString(padding: Padding)
    /// Text in the global heap.
    case variableString
    /// Bytes without meaning for HDF5, with a tag that the program wrote.
    case opaque(tag: String)
  }
  package enum Padding: UInt8, Sendable { case zeroTerminated, zeros, spaces }

  package let kind: Kind
  /// Bytes of one element in the file.
  package let byteCount: Int

  package init(_ kind: Kind, byteCount: Int) { (self.kind, self.byteCount) = (kind, byteCount) }

  /// The element type of a tensor; nil for opaque bytes.
  package var dataType: DataType? {
    switch kind {
    case .number(let type, _): type
    case .fixedString, .variableString: .string
    case .opaque: nil
    }
  }

  /// Reads the message of a datatype.
  init(_ message: ByteView, _ source: HDF5File.Source) throws(LoadError) {
    var reader = ByteReader(message)
    try self.init(&reader, source)
  }

  private init(_ reader: inout ByteReader, _ source: HDF5File.Source) throws(LoadError) {
    let start = reader.fileOffset
    let classAndVersion = try reader.u8("a datatype")
    let bits = UInt32(try reader.u16("a datatype")) | UInt32(try reader.u8("a datatype")) << 16
    byteCount = Int(try reader.u32("the size of a datatype"))
    guard byteCount > 0 else { throw .malformed("a datatype should have at least one byte", at: start) }
    let isBigEndian = bits & 1 != 0
    switch classAndVersion & 15 {
    case 0: kind = .number(try Self.integer(&reader, bits, byteCount), isBigEndian: isBigEndian)
    case 1: kind = .number(try Self.float(&reader, bits, byteCount), isBigEndian: isBigEndian)
    case 3:
      guard let padding = Padding(rawValue: UInt8(bits & 15)) else {
        throw .malformed("the padding of a string should be 0, 1 or 2; it is \(bits & 15)", at: start)
      }
      kind = .fixedString(padding: padding)
    case 5:
      let tag = try reader.bytes(min(Int(bits & 0xFF), reader.remaining), "the tag of a datatype")
      kind = .opaque(tag: String(decoding: tag.array.prefix { $0 != 0 }, as: UTF8.self))
    case 8:
      kind = try Self.enumeration(&reader, bits, version: classAndVersion >> 4, source)
    case 9:
      guard bits & 15 == 1 else {
        throw .unsupported("sequences of variable length are not read", remedy: Self.remedy, at: start)
      }
      guard byteCount == 8 + source.offsetWidth else {
        throw .malformed(
          "text of variable length should take \(8 + source.offsetWidth) bytes; it takes \(byteCount)", at: start)
      }
      kind = .variableString
    case let other:
      throw .unsupported("elements that are \(Self.name(other)) are not read", remedy: Self.remedy, at: start)
    }
  }

  private static let remedy = "Write the dataset as numbers or strings"

  private static func name(_ kind: UInt8) -> String {
    switch kind {
    case 2: "times"
    case 4: "bit fields"
    case 6: "compound (records with fields)"
    case 7: "references to objects or regions"
    case 10: "arrays"
    case 11: "complex numbers"
    default: "of the unknown class \(kind)"
    }
  }

  private static func integer(
    _ reader: inout ByteReader, _ bits: UInt32, _ byteCount: Int
  ) throws(LoadError) -> DataType {
    let start = reader.fileOffset
    let offset = try reader.u16("an integer type")
    let precision = Int(try reader.u16("an integer type"))
    let isSigned = bits & 8 != 0
    let types: [Int: (signed: DataType, unsigned: DataType)] = [
      1: (.int8, .uint8), 2: (.int16, .uint16), 4: (.int32, .uint32), 8: (.int64, .uint64),
    ]
    guard let type = types[byteCount], offset == 0, precision == 8 * byteCount else {
      throw .unsupported(
        "integers of 8, 16, 32 or 64 bits are read; these have \(precision) bits in \(byteCount) bytes",
        remedy: remedy, at: start)
    }
    return isSigned ? type.signed : type.unsigned
  }

  /// The formats are told apart by where the exponent lies and how wide it is.
  private static func float(
    _ reader: inout ByteReader, _ bits: UInt32, _ byteCount: Int
  ) throws(LoadError) -> DataType {
    let start = reader.fileOffset
    let offset = try reader.u16("a float type")
    let precision = Int(try reader.u16("a float type"))
    let exponentAt = try reader.u8("a float type")
    let exponentBits = try reader.u8("a float type")
    let fractionAt = try reader.u8("a float type")
    let fractionBits = try reader.u8("a float type")
    let bias = try reader.u32("a float type")
    let isIEEE =
      offset == 0 && precision == 8 * byteCount && fractionAt == 0 && exponentAt == fractionBits
      && bits & 0x40 == 0 && Int(bits >> 8 & 0xFF) == precision - 1
    switch (isIEEE, byteCount, exponentBits, bias) {
    case (true, 2, 5, 15): return .float16
    case (true, 2, 8, 127): return .bfloat16
    case (true, 4, 8, 127): return .float32
    case (true, 8, 11, 1023): return .float64
    default:
      throw .unsupported(
        """
        float16, bfloat16, float32 and float64 are read; these floats have \(byteCount) bytes, \(exponentBits) bits \
        of exponent and \(fractionBits) of fraction
        """, remedy: remedy, at: start)
    }
  }

  /// Booleans, or the integers behind the names.
  private static func enumeration(
    _ reader: inout ByteReader, _ bits: UInt32, version: UInt8, _ source: HDF5File.Source
  ) throws(LoadError) -> Kind {
    let start = reader.fileOffset
    // A base type can only be an integer, so that this goes no deeper.
    guard try reader.view.u8(reader.position, "the type of an enumeration") & 15 == 0 else {
      throw .unsupported("enumerations of anything but integers are not read", remedy: remedy, at: start)
    }
    let base = try HDF5Datatype(&reader, source)
    let count = Int(bits & 0xFFFF)
    guard base.byteCount == 1, count == 2 else { return base.kind }
    var names: [String] = []
    for _ in 0..<count {
      let name = try reader.bytes(upTo: 0, "the name of an enumeration's value")
      names.append(name.text ?? "")
      if version < 3 {
        let rest = (name.count + 1) % 8
        if rest > 0 { try reader.skip(8 - rest, "padding") }
      }
    }
    let values = (try reader.u8("a value"), try reader.u8("a value"))
    let isBoolean = names == ["FALSE", "TRUE"] && values == (0, 1)
    return isBoolean ? .number(.bool, isBigEndian: false) : base.kind
  }
}

/// How many elements there are.
struct HDF5Dataspace: Sendable, Hashable {
  /// Empty for a scalar.
  var dimensions: [Int]
  /// What the dimensions may grow to; nil where there is no limit.
  var maximum: [Int?]
  /// True if there is no element at all (h5py.Empty).
  var isNull = false

  /// The number of elements: a product that was checked.
  let count: Int

  init(_ message: ByteView, _ source: HDF5File.Source) throws(LoadError) {
    var reader = ByteReader(message)
    let version = try reader.u8("a dataspace")
    let rank = Int(try reader.u8("a dataspace"))
    let flags = try reader.u8("a dataspace")
    guard rank <= 32 else {
      throw .malformed("a dataspace should have at most 32 dimensions; it has \(rank)", at: message.fileOffset)
    }
    switch version {
    case 1: try reader.skip(5)
    case 2: isNull = try reader.u8("a dataspace") == 2
    default: throw .unsupported("a dataspace of version 1 or 2 was expected; found \(version)", at: message.fileOffset)
    }
    dimensions = []
    for _ in 0..<rank { dimensions.append(try source.length(&reader, "a dimension")) }
    maximum = dimensions
    if flags & 1 != 0 {
      let unlimited = UInt64.max >> UInt64(64 - 8 * source.lengthWidth)
      for index in 0..<rank {
        let value = try reader.unsigned(bytes: source.lengthWidth, "the largest value of a dimension")
        maximum[index] = value == unlimited ? nil : Int(exactly: value)
      }
    }
    var count = isNull ? 0 : 1
    for dimension in dimensions {
      let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
      if overflow {
        throw .malformed("the product of the dimensions \(dimensions) is too large", at: message.fileOffset)
      }
      count = product
    }
    self.count = count
  }
}
