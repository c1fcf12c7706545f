// Writes FlatBuffers: children first, from the end of the buffer to its beginning, equal vtables once.
// https://flatbuffers.dev/internals

/// Where something lies that was written: bytes from the end of the buffer.
package struct FlatOffset: Sendable, Hashable {
  let fromEnd: Int
}

/// The fields of a table before it is written. A number that equals its default is left out.
package struct FlatFields: Sendable {
  enum Value: Sendable {
    /// `width` bytes of a number, lowest first.
    case number(UInt64, width: Int)
    case offset(FlatOffset)
    case structure([UInt8], alignment: Int)
  }
  private(set) var values: [(field: Int, value: Value)] = []

  package init() {}

  private mutating func number(_ field: Int, _ value: UInt64, _ width: Int, isDefault: Bool) {
    if !isDefault { values.append((field, .number(value, width: width))) }
  }

  /// The default nil writes the value in any case.
  package mutating func set(_ field: Int, _ value: Bool, default other: Bool? = false) {
    number(field, value ? 1 : 0, 1, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: Int8, default other: Int8? = 0) {
    number(field, UInt64(UInt8(bitPattern: value)), 1, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: UInt8, default other: UInt8? = 0) {
    number(field, UInt64(value), 1, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: Int16, default other: Int16? = 0) {
    number(field, UInt64(UInt16(bitPattern: value)), 2, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: UInt16, default other: UInt16? = 0) {
    number(field, UInt64(value), 2, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: Int32, default other: Int32? = 0) {
    number(field, UInt64(UInt32(bitPattern: value)), 4, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: UInt32, default other: UInt32? = 0) {
    number(field, UInt64(value), 4, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: Int64, default other: Int64? = 0) {
    number(field, UInt64(bitPattern: value), 8, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: UInt64, default other: UInt64? = 0) {
    number(field, value, 8, isDefault: value == other)
  }
  package mutating func set(_ field: Int, _ value: Float, default other: Float? = 0) {
    number(field, UInt64(value.bitPattern), 4, isDefault: value.bitPattern == other?.bitPattern)
  }
  package mutating func set(_ field: Int, _ value: Double, default other: Double? = 0) {
    number(field, value.bitPattern, 8, isDefault: value.bitPattern == other?.bitPattern)
  }
  /// A string, vector or table. nil leaves the field out.
  package mutating func set(_ field: Int, _ offset: FlatOffset?) {
    if let offset { values.append((field, .offset(offset))) }
  }
  /// A union: its type at `field`, its table at the next one.
  package mutating func set(_ field: Int, union type: UInt8, _ offset: FlatOffset) {
    set(field, type, default: nil)
    set(field + 1, offset)
  }
  /// A struct, as its bytes.
  package mutating func set(_ field: Int, structure bytes: [UInt8], alignment: Int) {
    values.append((field, .structure(bytes, alignment: alignment)))
  }
}

/// Builds one buffer. What is written last lies first; a table can only refer to what was written before it.
package struct FlatBufferBuilder: Sendable {
  /// The bytes from `free` on are written.
  private var buffer: [UInt8]
  private var free: Int
  /// The largest alignment of anything so far; the buffer begins and ends at a multiple of it.
  private var alignment = 4
  private var vtables: [[UInt16]: FlatOffset] = [:]
  private var sharedStrings: [String: FlatOffset] = [:]

  /// `capacity` is a guess of the size of the buffer.
  package init(capacity: Int = 1024) {
    buffer = [UInt8](repeating: 0, count: max(capacity, 64))
    free = buffer.count
  }

  /// How many bytes are written.
  package var count: Int { buffer.count - free }

  // MARK: - Vectors and strings

  /// A vector of bytes whose first lies at a multiple of `alignment`.
  package mutating func vector(bytes: some Collection<UInt8>, alignment: Int = 1) throws(LoadError) -> FlatOffset {
    try vector(bytes.count, stride: 1, alignment: alignment) { $0.put(bytes) }
  }

  /// A vector of the bytes of a view.
  package mutating func vector(_ view: ByteView, alignment: Int = 1) throws(LoadError) -> FlatOffset {
    try vector(view.count, stride: 1, alignment: alignment) { builder in
      view.withUnsafeBytes { builder.put($0) }
    }
  }

  package mutating func vector(_ numbers: [Int32]) throws(LoadError) -> FlatOffset {
    try vector(numbers.count, stride: 4, alignment: 4) { builder in
      for number in numbers.reversed() { builder.put(UInt64(UInt32(bitPattern: number)), width: 4) }
    }
  }
  package mutating func vector(_ numbers: [UInt32]) throws(LoadError) -> FlatOffset {
    try vector(numbers.map { Int32(bitPattern: $0) })
  }
  package mutating func vector(_ numbers: [Float]) throws(LoadError) -> FlatOffset {
    try vector(numbers.map { Int32(bitPattern: $0.bitPattern) })
  }
  package mutating func vector(_ numbers: [Int64]) throws(LoadError) -> FlatOffset {
    try vector(numbers.count, stride: 8, alignment: 8) { builder in
      for number in numbers.reversed() { builder.put(UInt64(bitPattern: number), width: 8) }
    }
  }

  /// A vector of tables or strings that are written.
  package mutating func vector(_ offsets: [FlatOffset]) throws(LoadError) -> FlatOffset {
    try vector(offsets.count, stride: 4, alignment: 4) { builder in
      for offset in offsets.reversed() { builder.put(reference: offset) }
    }
  }

  /// A vector of structs of the same size, one after the other in `bytes`.
  package mutating func vector(
    structures bytes: [UInt8], size: Int, alignment: Int
  ) throws(LoadError) -> FlatOffset {
    precondition(size > 0 && bytes.count % size == 0)
    return try vector(bytes.count / size, stride: size, alignment: alignment) { $0.put(bytes) }
  }

  package mutating func string(_ text: String) throws(LoadError) -> FlatOffset {
    let bytes = Array(text.utf8)
    try reserve(bytes.count + 9)
    pad(for: bytes.count + 1, to: 4)
    put(0, width: 1)
    put(bytes)
    put(UInt64(bytes.count), width: 4)
    return FlatOffset(fromEnd: count)
  }

  /// The same text is written once.
  package mutating func sharedString(_ text: String) throws(LoadError) -> FlatOffset {
    if let known = sharedStrings[text] { return known }
    let offset = try string(text)
    sharedStrings[text] = offset
    return offset
  }

  private mutating func vector(
    _ elements: Int, stride: Int, alignment: Int, _ write: (inout FlatBufferBuilder) -> Void
  ) throws(LoadError) -> FlatOffset {
    let (size, overflow) = elements.multipliedReportingOverflow(by: stride)
    if overflow { throw tooLarge }
    try reserve(size, alignment + 8)
    // Length and elements are aligned both: the elements to their own alignment, the length to 4.
    pad(for: size, to: max(alignment, 4))
    write(&self)
    put(UInt64(elements), width: 4)
    return FlatOffset(fromEnd: count)
  }

  // MARK: - Tables

  /// Fields may come in any order; each at most once.
  package mutating func table(_ fields: FlatFields) throws(LoadError) -> FlatOffset {
    let fieldCount = (fields.values.map(\.field).max() ?? -1) + 1
    precondition(Set(fields.values.map(\.field)).count == fields.values.count, "a field is set twice")
    precondition(fieldCount <= 32_000, "field numbers beyond what a vtable can hold")
    // The largest alignment lies at the end of the table, so that the holes are few.
    let ordered = fields.values.sorted { (alignment($0.value), $0.field) > (alignment($1.value), $1.field) }
    let end = count
    var places: [(field: Int, fromEnd: Int)] = []
    for (field, value) in ordered {
      let alignment = alignment(value)
      let size: Int
      switch value {
      case .number(_, let width): size = width
      case .offset: size = 4
      case .structure(let bytes, _): size = bytes.count
      }
      try reserve(size + alignment + 8)
      pad(for: size, to: alignment)
      switch value {
      case .number(let number, let width): put(number, width: width)
      case .offset(let offset): put(reference: offset)
      case .structure(let bytes, _): put(bytes)
      }
      places.append((field, count))
    }
    try reserve(8 + 4 + 2 * fieldCount + 8)
    pad(for: 0, to: 4)
    // The distance to the vtable, filled in below.
    put(0, width: 4)
    let table = count
    guard table - end <= Int(UInt16.max) else { throw .limit("a table of more than 65535 bytes") }
    var vtable = [UInt16](repeating: 0, count: fieldCount + 2)
    vtable[0] = UInt16(2 * vtable.count)
    vtable[1] = UInt16(table - end)
    for place in places { vtable[place.field + 2] = UInt16(table - place.fromEnd) }
    let known: FlatOffset
    if let written = vtables[vtable] {
      known = written
    } else {
      for entry in vtable.reversed() { put(UInt64(entry), width: 2) }
      known = FlatOffset(fromEnd: count)
      vtables[vtable] = known
    }
    // Positions grow as distances from the end shrink: table - vtable.
    let distance = Int32(known.fromEnd - table)
    set(UInt32(bitPattern: distance), fromEnd: table)
    return FlatOffset(fromEnd: table)
  }

  private func alignment(_ value: FlatFields.Value) -> Int {
    switch value {
    case .number(_, let width): width
    case .offset: 4
    case .structure(_, let alignment): alignment
    }
  }

  // MARK: - The end

  /// The buffer with `root` and four characters at byte 4.
  package mutating func finish(_ root: FlatOffset, identifier: String? = nil) throws(LoadError) -> [UInt8] {
    let mark = identifier.map { Array($0.utf8) } ?? []
    precondition(mark.isEmpty || mark.count == 4)
    try reserve(alignment + 16)
    pad(for: 4 + mark.count, to: alignment)
    put(mark)
    put(reference: root)
    if free > 0 { buffer.removeFirst(free) }
    free = 0
    return buffer
  }

  // MARK: - Bytes

  private var tooLarge: LoadError {
    LoadError(
      .limitExceeded, "a FlatBuffer has at most \(FlatBuffer.maximumBytes) bytes; more are to be written",
      remedy: "Keep large constants outside of the buffer")
  }

  /// Makes room for `size` bytes more, and `extra` for padding.
  private mutating func reserve(_ size: Int, _ extra: Int = 0) throws(LoadError) {
    guard size <= FlatBuffer.maximumBytes, count + size + extra <= FlatBuffer.maximumBytes else { throw tooLarge }
    let needed = size + extra
    if needed <= free { return }
    let capacity = max(buffer.count * 2, buffer.count + needed)
    var larger = [UInt8](repeating: 0, count: capacity)
    let start = capacity - count
    larger.replaceSubrange(start..<capacity, with: buffer[free...])
    (buffer, free) = (larger, start)
  }

  /// Zeros, so that after `size` bytes more the position is a multiple of `alignment`.
  private mutating func pad(for size: Int, to alignment: Int) {
    self.alignment = max(self.alignment, alignment)
    let rest = (count + size) % alignment
    // The bytes before `free` are zeros.
    if rest > 0 { free -= alignment - rest }
  }

  private mutating func put(_ bytes: some Collection<UInt8>) {
    let start = free - bytes.count
    buffer.replaceSubrange(start..<free, with: bytes)
    free = start
  }

  private mutating func put(_ number: UInt64, width: Int) {
    free -= width
    for index in 0..<width { buffer[free + index] = UInt8(truncatingIfNeeded: number >> UInt64(8 * index)) }
  }

  /// The distance from here to what lies at `offset`.
  private mutating func put(reference offset: FlatOffset) {
    precondition(offset.fromEnd <= count, "a reference to what is not written yet")
    put(UInt64(count + 4 - offset.fromEnd), width: 4)
  }

  private mutating func set(_ number: UInt32, fromEnd: Int) {
    let start = buffer.count - fromEnd
    for index in 0..<4 { buffer[start + index] = UInt8(truncatingIfNeeded: number >> UInt32(8 * index)) }
  }
}
