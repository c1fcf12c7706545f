// FlatBuffers without a schema: tables, vectors, strings, structs and unions, each verified when it is read.
// https://flatbuffers.dev/internals

import Synchronization

/// A buffer with one root table.
package struct FlatBuffer: Sendable {
  /// What a buffer may ask for.
  package struct Limits: Sendable, Hashable {
    /// How often a table may be read: buffers that name one table many times are bounded by it, too.
    package var maximumTables = 4 << 20
    /// How deep tables may lie in each other.
    package var maximumDepth = 64
    /// Bytes that tables, texts and lists of numbers take in all when they are read. What many offsets lead to counts
    /// every time.
    package var maximumStructureBytes = 1 << 30

    package init() {}

    /// The part of the limits of a loading that bounds a buffer.
    package init(_ limits: LoadLimits) {
      maximumDepth = min(limits.maximumNesting, 1000)
      maximumStructureBytes = limits.maximumStructureBytes
    }
  }

  /// The bytes and what may still be read of them.
  final class Source: Sendable {
    let bytes: ByteView
    let limits: Limits
    private let tables = Atomic<Int>(0)
    private let structureBytes = Atomic<Int>(0)
    /// What tables, texts and lists may take in all when they are read. Of a buffer that says everything once it is a
    /// few times its size; names that are shared are more.
    private let maximumStructureBytes: Int

    /// What a table takes when it is read, beside what it holds.
    private static let tableBytes = 64
    /// What a text or a list takes beside its bytes.
    static let listBytes = 32

    /// How many times the bytes of a buffer its structure may take, and what any may take.
    private static let (structureFactor, smallStructure) = (64, 64 << 20)

    init(_ bytes: ByteView, _ limits: Limits) {
      (self.bytes, self.limits) = (bytes, limits)
      // No overflow: a file has far less than 2^56 bytes.
      let usual = Self.smallStructure + Self.structureFactor * bytes.count
      maximumStructureBytes = min(limits.maximumStructureBytes, usual)
    }

    /// Counts a table that is read.
    func charge(at position: Int, depth: Int) throws(LoadError) {
      if depth > limits.maximumDepth {
        throw .limit("tables lie more than \(limits.maximumDepth) deep in each other", at: bytes.offset(position))
      }
      // Cannot wrap: after that many reads nothing succeeds any more.
      if tables.wrappingAdd(1, ordering: .relaxed).oldValue >= limits.maximumTables {
        throw .limit("more than \(limits.maximumTables) tables are read", at: bytes.offset(position))
      }
      try charge(bytes: Self.tableBytes, at: position)
    }

    /// Counts bytes that are read out of the buffer, which has as many.
    func charge(bytes count: Int, at position: Int) throws(LoadError) {
      // Cannot wrap: each is less than 2^33, and after the first sum beyond the limit nothing succeeds any more.
      let sum = structureBytes.wrappingAdd(count, ordering: .relaxed).newValue
      if sum <= maximumStructureBytes { return }
      let found = "the tables and texts of the file take more bytes when they are read"
      if maximumStructureBytes == limits.maximumStructureBytes {
        throw .limit("maximumStructureBytes", maximumStructureBytes, found: found, at: bytes.offset(position))
      }
      throw .limit(
        "\(found) than \(maximumStructureBytes): too many offsets lead to the same", at: bytes.offset(position))
    }

    /// The position that the offset at `position` leads to. Offsets are unsigned and lead forward.
    func follow(_ position: Int, _ what: String) throws(LoadError) -> Int {
      let offset = Int(try bytes.u32(position, "the offset of \(what)"))
      // No overflow: both are below 2^33 at most, for positions lie in the bytes.
      let target = position + offset
      guard offset > 0, target < bytes.count else {
        throw .malformed(
          "the offset of \(what) should lead to a later byte of \(bytes.count); it is \(offset)",
          at: bytes.offset(position))
      }
      return target
    }
  }

  /// Buffers are addressed with 32 bits.
  package static let maximumBytes = Int(Int32.max)

  private let source: Source

  /// Whether the four characters at byte 4 of a file are `identifier`.
  package static func isIdentified(_ file: FileBytes, by identifier: String) -> Bool {
    guard file.count >= 8 else { return false }
    let mark = try? file.withBytes(in: 4..<8) { (bytes) throws(LoadError) in bytes.indices.map { bytes[$0] } }
    return mark == Array(identifier.utf8)
  }

  /// `identifier` are the four characters that stand at byte 4, as `TFL3`; nil if any will do.
  package init(_ bytes: ByteView, identifier: String? = nil, limits: Limits = Limits()) throws(LoadError) {
    if bytes.count < 8 {
      throw LoadError(.wrongFormat, "a FlatBuffer has at least 8 bytes; \(bytes.count) were found", byteOffset: 0)
    }
    if let identifier {
      let found = try bytes.slice(4, 4, "the identifier")
      guard found.array == Array(identifier.utf8) else {
        let text = String(decoding: found.array, as: UTF8.self)
        throw LoadError(
          .wrongFormat, "the FlatBuffer should be marked \(identifier); it is marked '\(text)'", byteOffset: 4)
      }
    }
    source = Source(bytes, limits)
  }

  /// The table that everything else hangs on.
  package func root() throws(LoadError) -> FlatTable {
    try FlatTable(source, try source.follow(0, "the root table"), depth: 1)
  }
}

/// A table: fields by number, each of which may be missing. Numbers are those of the schema, from 0; a union takes two,
/// that of its type and that of its value.
package struct FlatTable: Sendable {
  let source: FlatBuffer.Source
  /// Where the table lies.
  package let position: Int
  private let byteCount: Int
  private let vtable: Int
  /// How many fields the vtable has room for.
  package let fieldCount: Int
  private let depth: Int

  /// Checks the vtable, not the fields.
  init(_ source: FlatBuffer.Source, _ position: Int, depth: Int) throws(LoadError) {
    try source.charge(at: position, depth: depth)
    let bytes = source.bytes
    let distance = Int(try bytes.i32(position, "a table"))
    let vtable = position - distance
    let size = Int(try bytes.u16(vtable, "the vtable of the table at byte \(position)"))
    let byteCount = Int(try bytes.u16(vtable + 2, "the vtable of the table at byte \(position)"))
    guard size >= 4, size % 2 == 0 else {
      throw .malformed(
        "the size of a vtable should be even and at least 4; it is \(size)", at: bytes.offset(vtable))
    }
    _ = try bytes.slice(vtable, size, "a vtable")
    guard byteCount >= 4 else {
      throw .malformed("a table should have at least 4 bytes; it has \(byteCount)", at: bytes.offset(vtable))
    }
    _ = try bytes.slice(position, byteCount, "a table")
    (self.source, self.position, self.byteCount, self.vtable) = (source, position, byteCount, vtable)
    (fieldCount, self.depth) = ((size - 4) / 2, depth)
  }

  /// Where the field lies; nil if it is missing. `width` bytes of it must lie in the table.
  private func place(_ field: Int, _ width: Int) throws(LoadError) -> Int? {
    guard field >= 0, field < fieldCount else { return nil }
    let offset = Int(try source.bytes.u16(vtable + 4 + 2 * field, "a vtable"))
    if offset == 0 { return nil }
    guard offset >= 4, width <= byteCount - offset else {
      throw .malformed(
        "field \(field) should take \(width) bytes of the \(byteCount) of its table; it begins at byte \(offset)",
        at: source.bytes.offset(position))
    }
    return position + offset
  }

  /// True if the field has a value of its own.
  package func has(_ field: Int) throws(LoadError) -> Bool { try place(field, 1) != nil }

  // MARK: - Numbers

  package func bool(_ field: Int, default value: Bool = false) throws(LoadError) -> Bool {
    guard let place = try place(field, 1) else { return value }
    return try source.bytes.u8(place) != 0
  }
  package func int8(_ field: Int, default value: Int8 = 0) throws(LoadError) -> Int8 {
    guard let place = try place(field, 1) else { return value }
    return try Int8(bitPattern: source.bytes.u8(place))
  }
  package func uint8(_ field: Int, default value: UInt8 = 0) throws(LoadError) -> UInt8 {
    guard let place = try place(field, 1) else { return value }
    return try source.bytes.u8(place)
  }
  package func int16(_ field: Int, default value: Int16 = 0) throws(LoadError) -> Int16 {
    guard let place = try place(field, 2) else { return value }
    return try Int16(bitPattern: source.bytes.u16(place))
  }
  package func uint16(_ field: Int, default value: UInt16 = 0) throws(LoadError) -> UInt16 {
    guard let place = try place(field, 2) else { return value }
    return try source.bytes.u16(place)
  }
  package func int32(_ field: Int, default value: Int32 = 0) throws(LoadError) -> Int32 {
    guard let place = try place(field, 4) else { return value }
    return try source.bytes.i32(place)
  }
  package func uint32(_ field: Int, default value: UInt32 = 0) throws(LoadError) -> UInt32 {
    guard let place = try place(field, 4) else { return value }
    return try source.bytes.u32(place)
  }
  package func int64(_ field: Int, default value: Int64 = 0) throws(LoadError) -> Int64 {
    guard let place = try place(field, 8) else { return value }
    return try source.bytes.i64(place)
  }
  package func uint64(_ field: Int, default value: UInt64 = 0) throws(LoadError) -> UInt64 {
    guard let place = try place(field, 8) else { return value }
    return try source.bytes.u64(place)
  }
  package func float32(_ field: Int, default value: Float = 0) throws(LoadError) -> Float {
    guard let place = try place(field, 4) else { return value }
    return try source.bytes.float32(place)
  }
  package func float64(_ field: Int, default value: Double = 0) throws(LoadError) -> Double {
    guard let place = try place(field, 8) else { return value }
    return try source.bytes.float64(place)
  }

  // MARK: - Everything else

  /// The bytes of a struct of `size` bytes.
  package func structure(_ field: Int, size: Int) throws(LoadError) -> ByteView? {
    guard let place = try place(field, size) else { return nil }
    return try source.bytes.slice(place, size, "the struct of field \(field)")
  }

  package func string(_ field: Int) throws(LoadError) -> String? {
    guard let place = try place(field, 4) else { return nil }
    return try source.string(at: source.follow(place, "the string of field \(field)"))
  }

  /// The bytes of a string, which need not be UTF-8.
  package func stringBytes(_ field: Int) throws(LoadError) -> [UInt8]? {
    guard let place = try place(field, 4) else { return nil }
    return try source.stringBytes(at: source.follow(place, "the string of field \(field)")).array
  }

  package func table(_ field: Int) throws(LoadError) -> FlatTable? {
    guard let place = try place(field, 4) else { return nil }
    return try FlatTable(source, source.follow(place, "the table of field \(field)"), depth: depth + 1)
  }

  /// The union whose type is field `field` and whose value is the next one; nil for NONE. Only unions of tables.
  package func union(_ field: Int) throws(LoadError) -> (type: UInt8, value: FlatTable)? {
    let type = try uint8(field)
    if type == 0 { return nil }
    guard let value = try table(field + 1) else {
      throw .malformed(
        "the union of field \(field) has the type \(type), but no value", at: source.bytes.offset(position))
    }
    return (type, value)
  }

  /// The vector of elements of `stride` bytes; nil if the field is missing, which is not the same as empty.
  package func vector(_ field: Int, stride: Int) throws(LoadError) -> FlatVector? {
    guard let place = try place(field, 4) else { return nil }
    return try FlatVector(source, source.follow(place, "the vector of field \(field)"), stride: stride, depth: depth)
  }

  /// The tables of a vector; none if the field is missing.
  package func tables(_ field: Int) throws(LoadError) -> [FlatTable] {
    guard let vector = try vector(field, stride: 4) else { return [] }
    var tables: [FlatTable] = []
    for index in 0..<vector.count { tables.append(try vector.table(index)) }
    return tables
  }

  /// The texts of a vector; none if the field is missing.
  package func strings(_ field: Int) throws(LoadError) -> [String] {
    guard let vector = try vector(field, stride: 4) else { return [] }
    var strings: [String] = []
    for index in 0..<vector.count { strings.append(try vector.string(index)) }
    return strings
  }

  /// The bytes of a vector of bytes; nil if the field is missing.
  package func bytes(_ field: Int) throws(LoadError) -> ByteView? { try vector(field, stride: 1)?.bytes }

  package func int32s(_ field: Int) throws(LoadError) -> [Int32]? { try vector(field, stride: 4)?.int32s() }
  package func int64s(_ field: Int) throws(LoadError) -> [Int64]? { try vector(field, stride: 8)?.int64s() }
  package func float32s(_ field: Int) throws(LoadError) -> [Float]? { try vector(field, stride: 4)?.float32s() }
}

/// The elements of a vector: numbers, structs, or offsets to strings and tables. An index beyond `count` is an error.
package struct FlatVector: Sendable {
  private let source: FlatBuffer.Source
  private let start: Int
  private let stride: Int
  private let depth: Int
  package let count: Int
  /// All elements as they lie in the buffer.
  package let bytes: ByteView

  init(_ source: FlatBuffer.Source, _ position: Int, stride: Int, depth: Int) throws(LoadError) {
    count = Int(try source.bytes.u32(position, "the length of a vector"))
    let (size, overflow) = count.multipliedReportingOverflow(by: stride)
    bytes = try source.bytes.slice(position + 4, overflow ? Int.max : size, "a vector of \(count) elements")
    (self.source, self.start, self.stride, self.depth) = (source, position + 4, stride, depth)
  }

  /// Where element `index` lies.
  private func place(_ index: Int) throws(LoadError) -> Int {
    guard index >= 0, index < count else {
      throw .malformed("element \(index) was asked for of a vector of \(count)", at: bytes.fileOffset)
    }
    return start + index * stride
  }

  package func table(_ index: Int) throws(LoadError) -> FlatTable {
    try FlatTable(source, source.follow(place(index), "table \(index) of a vector"), depth: depth + 1)
  }
  package func string(_ index: Int) throws(LoadError) -> String {
    try source.string(at: source.follow(place(index), "string \(index) of a vector"))
  }
  /// The bytes of a string, which need not be UTF-8.
  package func stringBytes(_ index: Int) throws(LoadError) -> [UInt8] {
    try source.stringBytes(at: source.follow(place(index), "string \(index) of a vector")).array
  }
  /// The bytes of the struct `index`.
  package func structure(_ index: Int) throws(LoadError) -> ByteView {
    try source.bytes.slice(place(index), stride, "a struct")
  }
  package func uint8(_ index: Int) throws(LoadError) -> UInt8 { try source.bytes.u8(place(index)) }
  package func int32(_ index: Int) throws(LoadError) -> Int32 { try source.bytes.i32(place(index)) }

  package func int32s() throws(LoadError) -> [Int32] {
    try source.charge(bytes: bytes.count + FlatBuffer.Source.listBytes, at: start)
    var numbers: [Int32] = []
    numbers.reserveCapacity(count)
    for index in 0..<count { numbers.append(try bytes.i32(4 * index)) }
    return numbers
  }
  package func int64s() throws(LoadError) -> [Int64] {
    try source.charge(bytes: bytes.count + FlatBuffer.Source.listBytes, at: start)
    var numbers: [Int64] = []
    numbers.reserveCapacity(count)
    for index in 0..<count { numbers.append(try bytes.i64(8 * index)) }
    return numbers
  }
  package func float32s() throws(LoadError) -> [Float] {
    try source.charge(bytes: bytes.count + FlatBuffer.Source.listBytes, at: start)
    var numbers: [Float] = []
    numbers.reserveCapacity(count)
    for index in 0..<count { numbers.append(try bytes.float32(4 * index)) }
    return numbers
  }
}

extension FlatBuffer.Source {
  /// The bytes of the string at `position`: a length, as many bytes, a zero.
  func stringBytes(at position: Int) throws(LoadError) -> ByteView {
    let count = Int(try bytes.u32(position, "the length of a string"))
    let content = try bytes.slice(position + 4, count, "a string")
    guard try bytes.u8(position + 4 + count, "the zero after a string") == 0 else {
      throw .malformed("a string of \(count) bytes should end with a zero", at: bytes.offset(position))
    }
    try charge(bytes: count + Self.listBytes, at: position)
    return content
  }

  /// The string at `position`, which must be UTF-8.
  func string(at position: Int) throws(LoadError) -> String {
    guard let text = try stringBytes(at: position).text else {
      throw .malformed("a string should be valid UTF-8", at: bytes.offset(position + 4))
    }
    return text
  }
}
