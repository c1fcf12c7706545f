// Attributes, and the values of attributes and datasets as Swift sees them.

import ApusTensor

/// A named value of an object.
package struct HDF5Attribute: Sendable {
  package let name: String
  package let values: HDF5Values

  init(_ message: ByteView, _ source: HDF5File.Source) throws(LoadError) {
    var reader = ByteReader(message)
    let version = try reader.u8("an attribute")
    guard (1...3).contains(version) else {
      throw .unsupported("an attribute of version 1 to 3 was expected; found \(version)", at: message.fileOffset)
    }
    let flags = version == 1 ? 0 : try reader.u8("an attribute")
    if version == 1 { try reader.skip(1) }
    let nameSize = Int(try reader.u16("the name of an attribute"))
    let typeSize = Int(try reader.u16("the type of an attribute"))
    let spaceSize = Int(try reader.u16("the shape of an attribute"))
    if version == 3 { try reader.skip(1) }
    /// Version 1 fills every part up to a multiple of 8 bytes.
    func part(_ size: Int, _ what: String) throws(LoadError) -> ByteView {
      let part = try reader.bytes(size, what)
      if version == 1, size % 8 > 0 { try reader.skip(8 - size % 8, "padding") }
      return part
    }
    let nameBytes = try part(nameSize, "the name of an attribute")
    name = String(decoding: nameBytes.array.prefix { $0 != 0 }, as: UTF8.self)
    do throws(LoadError) {
      var typeMessage = try part(typeSize, "the type of an attribute")
      var spaceMessage = try part(spaceSize, "the shape of an attribute")
      if flags & 1 != 0 { typeMessage = try HDF5ObjectHeader.shared(typeMessage, .datatype, source) }
      if flags & 2 != 0 { spaceMessage = try HDF5ObjectHeader.shared(spaceMessage, .dataspace, source) }
      let space = try HDF5Dataspace(spaceMessage, source)
      let content = try reader.bytes(reader.remaining, "the values of an attribute")
      // A type that is not read hides neither the other attributes nor the object; it is told when asked for.
      let type: Result<HDF5Datatype, LoadError>
      do throws(LoadError) {
        type = .success(try HDF5Datatype(typeMessage, source))
      } catch {
        type = .failure(error)
      }
      values = try HDF5Values(type, space, content, source)
    } catch {
      throw error.at(path: "attribute \(name)")
    }
  }

  /// Refuses attributes that lie in a fractal heap.
  static func checkIsCompact(_ info: ByteView, _ source: HDF5File.Source) throws(LoadError) {
    var reader = ByteReader(info)
    try reader.skip(1)
    let flags = try reader.u8("the attributes of an object")
    if flags & 1 != 0 { try reader.skip(2) }
    if try source.address(&reader, "the attributes of an object") != nil {
      throw .unsupported(
        "the attributes of the object lie in a fractal heap, which is not read",
        remedy: "Write the file with libver='earliest' (h5py's default) and fewer or smaller attributes",
        at: info.fileOffset)
    }
  }
}

/// The elements of a dataset or attribute.
package struct HDF5Values: Sendable {
  private let storedType: Result<HDF5Datatype, LoadError>
  /// Empty for a scalar.
  package let shape: [Int]
  package let count: Int
  /// The elements as they lie in the file, or as its filters gave them.
  private let stored: ByteView
  private let source: HDF5File.Source

  init(type: HDF5Datatype, shape: [Int], count: Int, bytes: ByteView, source: HDF5File.Source) {
    (storedType, self.shape, self.count, stored, self.source) = (.success(type), shape, count, bytes, source)
  }

  init(
    _ type: Result<HDF5Datatype, LoadError>, _ space: HDF5Dataspace, _ content: ByteView,
    _ source: HDF5File.Source
  ) throws(LoadError) {
    (storedType, shape, count, self.source) = (type, space.dimensions, space.count, source)
    guard case .success(let type) = type else {
      stored = content
      return
    }
    let (size, overflow) = space.count.multipliedReportingOverflow(by: type.byteCount)
    stored = try content.slice(0, overflow ? Int.max : size, "the values of an attribute")
  }

  /// What the elements are; throws for types that are not read.
  package var type: HDF5Datatype { get throws(LoadError) { try storedType.get() } }

  /// The elements of a number type, lowest byte first: a part of the file where it has them so.
  package func littleEndian() throws(LoadError) -> ByteView {
    let type = try type
    guard case .number(_, let isBigEndian) = type.kind else { return stored }
    if !isBigEndian || type.byteCount == 1 { return stored }
    var bytes = stored.array
    let width = type.byteCount
    var start = 0
    while start < bytes.count {
      for index in 0..<width / 2 { bytes.swapAt(start + index, start + width - 1 - index) }
      start += width
    }
    return ByteView(bytes)
  }

  /// The elements of an opaque type, as they are.
  package func opaqueBytes() throws(LoadError) -> ByteView {
    guard case .opaque = try type.kind else {
      throw .malformed("opaque elements were expected; found another type", at: stored.fileOffset)
    }
    return stored
  }

  /// The texts, fixed and variable, without what fills them up; opaque bytes and numbers are an error.
  package func strings() throws(LoadError) -> [String] {
    let type = try type
    var texts: [String] = []
    texts.reserveCapacity(count)
    switch type.kind {
    case .fixedString(let padding):
      for index in 0..<count {
        let bytes = try stored.slice(index * type.byteCount, type.byteCount, "a string")
        texts.append(try Self.text(bytes, padding))
      }
    case .variableString:
      var heap = HDF5GlobalHeap(source)
      for index in 0..<count {
        var reader = ByteReader(try stored.slice(index * type.byteCount, type.byteCount, "a string"))
        texts.append(try heap.text(&reader))
      }
    case .number, .opaque:
      throw .malformed("text was expected; found elements of another type", at: stored.fileOffset)
    }
    return texts
  }

  private static func text(_ bytes: ByteView, _ padding: HDF5Datatype.Padding) throws(LoadError) -> String {
    let length = bytes.withBytes { bytes in
      switch padding {
      case .zeroTerminated:
        var end = 0
        while end < bytes.count, bytes[end] != 0 { end += 1 }
        return end
      case .zeros, .spaces:
        let filler: UInt8 = padding == .zeros ? 0 : 0x20
        var end = bytes.count
        while end > 0, bytes[end - 1] == filler { end -= 1 }
        return end
      }
    }
    guard let text = try bytes.slice(0, length, "a string").text else {
      throw .malformed("a string should be valid UTF-8", at: bytes.fileOffset)
    }
    return text
  }

  /// The one text of a scalar, or of an array of one element.
  package func string() throws(LoadError) -> String {
    guard count == 1, let text = try strings().first else {
      throw .malformed("one text was expected; found \(count)", at: stored.fileOffset)
    }
    return text
  }

  /// The elements of an integer or boolean type.
  package func integers() throws(LoadError) -> [Int] {
    let type = try type
    guard case .number(let dataType, _) = type.kind, dataType.isInteger || dataType == .bool else {
      throw .malformed("integers were expected; found another type", at: stored.fileOffset)
    }
    let bytes = try littleEndian()
    var numbers: [Int] = []
    for index in 0..<count {
      let value = try bytes.unsigned(index * type.byteCount, bytes: type.byteCount, "an integer")
      if dataType.isSignedInteger {
        let shift = UInt64(64 - 8 * type.byteCount)
        numbers.append(Int(Int64(bitPattern: value << shift) >> Int64(shift)))
      } else if let number = Int(exactly: value) {
        numbers.append(number)
      } else {
        throw .limit("an integer should be at most \(Int.max); it is \(value)", at: stored.fileOffset)
      }
    }
    return numbers
  }

  /// The elements of float32 or float64.
  package func doubles() throws(LoadError) -> [Double] {
    let bytes = try littleEndian()
    var numbers: [Double] = []
    switch try type.dataType {
    case .float32: for index in 0..<count { numbers.append(Double(try bytes.float32(4 * index))) }
    case .float64: for index in 0..<count { numbers.append(try bytes.float64(8 * index)) }
    default: return try integers().map(Double.init)
    }
    return numbers
  }
}
