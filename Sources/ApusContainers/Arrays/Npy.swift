// NumPy's .npy files. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// Versions 1 to 3; all types that ONNX has, in either byte order and either order of axes. Pickled objects are not
// read.

import ApusTensor

/// Reads .npy files, and writes them (NpyWriter.swift).
package enum Npy {
  /// The array in `file`. `declared` settles what NumPy's untyped bytes (`V1`, `V2`: how ml_dtypes are stored) mean.
  package static func decode(
    _ file: FileBytes, as declared: DataType? = nil, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> Tensor {
    do throws(LoadError) {
      return try decode(file, in: 0..<file.count, as: declared, limits: limits)
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// The array in a part of `file`.
  static func decode(
    _ file: FileBytes, in range: Range<Int>, as declared: DataType?, limits: LoadLimits
  ) throws(LoadError) -> Tensor {
    if !file.isInMemory { return try decode(file.part(range), in: 0..<range.count, as: declared, limits: limits) }
    let layout = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try NpyLayout(bytes, range, declared: declared, limits: limits)
    }
    return try tensor(file, layout, limits: limits)
  }

  /// The longest beginning of a file that a header may take.
  package static let headerLimit = NpyLayout.headerLimit

  /// What the header of an array of `byteCount` bytes says, of which `head` are the first `headerLimit`.
  package static func header(
    _ head: Span<UInt8>, byteCount: Int, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> (dataType: DataType, shape: Shape) {
    let layout = try NpyLayout(head, 0..<byteCount, declared: nil, limits: limits)
    return (layout.element.dataType, layout.shape)
  }

  /// The elements of an array whose header was read.
  static func tensor(_ file: FileBytes, _ layout: NpyLayout, limits: LoadLimits) throws(LoadError) -> Tensor {
    let (element, shape, data) = (layout.element, layout.shape, layout.data)
    let isFortran = layout.isFortranOrder
    let count = shape.elementCount
    if element.isPlain && !isFortran { return try file.tensor(element.dataType, shape, in: data) }
    // Below 2^44 elements nothing overflows: an element takes at most 8 times 2 bytes beside its own.
    let beside =
      (element.dataType == .string ? MemoryLayout<String>.stride : 0) + (isFortran ? MemoryLayout<Int>.stride : 0)
    if count > 1 << 44 || count * beside + data.count > limits.maximumDecodedBytes {
      throw .limit("maximumDecodedBytes", limits.maximumDecodedBytes, found: "an array of the shape \(shape)")
    }
    return try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      let source = isFortran ? positionsInFortranOrder(shape) : nil
      func start(_ index: Int) -> Int { data.lowerBound + (source.map { $0[index] } ?? index) * element.width }
      switch element.kind {
      case .number(let part):
        return try Tensor.building(element.dataType, shape) { (output) throws(LoadError) in
          for index in 0..<count {
            let start = start(index)
            for byte in 0..<element.width {
              let place = element.isBigEndian ? byte / part * part + part - 1 - byte % part : byte
              let value = bytes[start + place]
              output.append(element.dataType == .bool && value > 1 ? 1 : value)
            }
          }
        }
      case .code:
        return try Tensor.packing((0..<count).map { bytes[start($0)] }, element.dataType, shape)
      case .unicode, .byteString:
        var strings: [String] = []
        strings.reserveCapacity(count)
        for index in 0..<count { strings.append(try element.string(bytes, at: start(index))) }
        return Tensor(strings: strings, shape: shape)
      }
    }
  }

  fileprivate static let maximumEmptyStrings = 1 << 20

  /// For each element in row-major order its place in column-major order.
  private static func positionsInFortranOrder(_ shape: Shape) -> [Int] {
    var strides = [Int](repeating: 1, count: shape.rank)
    for axis in 1..<shape.rank { strides[axis] = strides[axis - 1] * shape[axis - 1] }
    var positions: [Int] = []
    positions.reserveCapacity(shape.elementCount)
    var coordinates = [Int](repeating: 0, count: shape.rank)
    for _ in 0..<shape.elementCount {
      positions.append(zip(coordinates, strides).reduce(0) { $0 + $1.0 * $1.1 })
      for axis in (0..<shape.rank).reversed() {
        coordinates[axis] += 1
        if coordinates[axis] < shape[axis] { break }
        coordinates[axis] = 0
      }
    }
    return positions
  }
}

/// Where and how the elements of an array lie in a file.
struct NpyLayout: Sendable {
  let element: NpyElement
  var shape: Shape
  /// The bytes of the elements.
  var data: Range<Int>
  /// True if the first axis is the innermost, and there are others.
  let isFortranOrder: Bool

  /// The longest beginning of a file that a header may take.
  static let headerLimit = NpyHeader.maximumLength + 12

  /// Reads the header of the array in `range`. Of `bytes` only the first `headerLimit` of that range need be there.
  init(_ bytes: Span<UInt8>, _ range: Range<Int>, declared: DataType?, limits: LoadLimits) throws(LoadError) {
    let header = try NpyHeader(bytes, range)
    element = try NpyElement(header.descriptor, declared: declared)
    shape = Shape(header.shape)
    if shape.rank > Npy.maximumRank {
      throw LoadError(.malformed, "an array of at most \(Npy.maximumRank) axes was expected; this has \(shape.rank)")
    }
    guard let count = shape.checkedElementCount else {
      throw LoadError(.malformed, "the extents \(shape) are no size of an array")
    }
    if count > limits.maximumTensorElements {
      throw .limit("maximumTensorElements", limits.maximumTensorElements, found: "an array of the shape \(shape)")
    }
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: element.width)
    guard !overflow, byteCount <= header.data.count else {
      throw LoadError(
        .malformed,
        "an array of the shape \(shape) with \(element.width) bytes an element was expected; there are "
          + "\(header.data.count) bytes")
    }
    // Elements without bytes would cost memory that no file pays for.
    if element.width == 0, count > Npy.maximumEmptyStrings {
      throw LoadError(
        .malformed, "\(count) strings of no characters were found; at most \(Npy.maximumEmptyStrings) are read")
    }
    data = header.data.lowerBound..<(header.data.lowerBound + byteCount)
    isFortranOrder = header.isFortranOrder && shape.rank > 1
  }
}

/// How NumPy stores one element.
struct NpyElement: Sendable {
  enum Kind: Sendable {
    /// Numbers of as many bytes, one or two an element.
    case number(part: Int)
    /// A byte of which the low bits are the element.
    case code
    case unicode
    case byteString
  }
  let dataType: DataType
  let kind: Kind
  /// Bytes of an element.
  let width: Int
  let isBigEndian: Bool

  /// True if the elements lie in the file as they lie in memory.
  var isPlain: Bool {
    if case .number = kind { !isBigEndian && dataType != .bool } else { false }
  }

  init(_ descriptor: String, declared: DataType?) throws(LoadError) {
    let unsupported = LoadError(
      .unsupported, "arrays of the NumPy type '\(descriptor)' are not read",
      remedy: descriptor.hasSuffix("O") ? "Save the array with a type other than object" : "")
    var text = descriptor[...]
    var order: Character = "|"
    if let first = text.first, "<>|=".contains(first) {
      order = first
      text.removeFirst()
    }
    guard let letter = text.first, let size = Int(text.dropFirst()), size >= 0, size < 1 << 32 else {
      throw unsupported
    }
    switch (letter, size) {
    case ("b", 1): (dataType, kind) = (.bool, .number(part: 1))
    case ("i", 1): (dataType, kind) = (.int8, .number(part: 1))
    case ("i", 2): (dataType, kind) = (.int16, .number(part: 2))
    case ("i", 4): (dataType, kind) = (.int32, .number(part: 4))
    case ("i", 8): (dataType, kind) = (.int64, .number(part: 8))
    case ("u", 1): (dataType, kind) = (.uint8, .number(part: 1))
    case ("u", 2): (dataType, kind) = (.uint16, .number(part: 2))
    case ("u", 4): (dataType, kind) = (.uint32, .number(part: 4))
    case ("u", 8): (dataType, kind) = (.uint64, .number(part: 8))
    case ("f", 2): (dataType, kind) = (.float16, .number(part: 2))
    case ("f", 4): (dataType, kind) = (.float32, .number(part: 4))
    case ("f", 8): (dataType, kind) = (.float64, .number(part: 8))
    case ("c", 8): (dataType, kind) = (.complex64, .number(part: 4))
    case ("c", 16): (dataType, kind) = (.complex128, .number(part: 8))
    case ("U", _): (dataType, kind) = (.string, .unicode)
    case ("S", _): (dataType, kind) = (.string, .byteString)
    case ("V", 2) where declared == .bfloat16: (dataType, kind) = (.bfloat16, .number(part: 2))
    case ("V", 1):
      guard let declared, declared.bits > 0, declared.bits <= 8 else { throw unsupported }
      (dataType, kind) = (declared, declared.isPacked ? .code : .number(part: 1))
    default: throw unsupported
    }
    width = letter == "U" ? size * 4 : size
    isBigEndian = order == ">"
  }

  /// A string of fixed width, filled up with zeros.
  func string(_ bytes: Span<UInt8>, at start: Int) throws(LoadError) -> String {
    if case .byteString = kind {
      var end = start + width
      while end > start, bytes[end - 1] == 0 { end -= 1 }
      let text = (start..<end).map { bytes[$0] }
      guard let string = String(validating: text, as: UTF8.self) else {
        throw LoadError(.malformed, "a string of the array is no valid UTF-8", byteOffset: start)
      }
      return string
    }
    var end = start + width
    while end > start, bytes[end - 1] | bytes[end - 2] | bytes[end - 3] | bytes[end - 4] == 0 { end -= 4 }
    var string = String.UnicodeScalarView()
    for place in stride(from: start, to: end, by: 4) {
      var value: UInt32 = 0
      for byte in 0..<4 { value |= UInt32(bytes[place + (isBigEndian ? 3 - byte : byte)]) << UInt32(8 * byte) }
      guard let scalar = Unicode.Scalar(value) else {
        throw LoadError(
          .malformed, "a string of the array has the code \(value), which is no character", byteOffset: start)
      }
      string.append(scalar)
    }
    return String(string)
  }
}

/// What stands before the elements: a Python literal such as `{'descr': '<f4', 'fortran_order': False, 'shape': (3,),
/// }`.
private struct NpyHeader {
  var descriptor = ""
  var isFortranOrder = false
  var shape: [Int] = []
  var data: Range<Int>

  /// Longer headers are refused, as NumPy does.
  static let maximumLength = 10_000

  init(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(LoadError) {
    let magic: [UInt8] = [0x93] + Array("NUMPY".utf8)
    guard range.count >= 10, magic.indices.allSatisfy({ bytes[range.lowerBound + $0] == magic[$0] }) else {
      throw LoadError(.wrongFormat, "a .npy array was expected", byteOffset: range.lowerBound)
    }
    let version = bytes[range.lowerBound + 6]
    guard (1...3).contains(version) else {
      throw LoadError(.unsupported, "version \(version) of the .npy format is not known")
    }
    let lengthBytes = version == 1 ? 2 : 4
    guard range.count >= 8 + lengthBytes else { throw LoadError(.malformed, "the header of the array is cut off") }
    var length = 0
    for index in (0..<lengthBytes).reversed() { length = length << 8 | Int(bytes[range.lowerBound + 8 + index]) }
    let start = range.lowerBound + 8 + lengthBytes
    guard length <= Self.maximumLength, length <= range.upperBound - start else {
      throw LoadError(
        .malformed, "the header of the array is said to have \(length) bytes", byteOffset: range.lowerBound)
    }
    data = (start + length)..<range.upperBound
    var literal = PythonLiteral((start..<(start + length)).map { bytes[$0] })
    try literal.expect("{")
    while try !literal.skip("}") {
      let key = try literal.string()
      try literal.expect(":")
      switch key {
      case "descr":
        if literal.peek == UInt8(ascii: "[") { throw LoadError(.unsupported, "arrays of records are not read") }
        descriptor = try literal.string()
      case "fortran_order": isFortranOrder = try literal.bool()
      case "shape": shape = try literal.tuple()
      default: throw LoadError(.malformed, "the header of the array has the unknown key '\(key)'")
      }
      if try !literal.skip(",") {
        try literal.expect("}")
        break
      }
    }
    if descriptor.isEmpty { throw LoadError(.malformed, "the header of the array names no type") }
  }
}

/// The few Python literals of a header.
private struct PythonLiteral {
  let bytes: [UInt8]
  var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var peek: UInt8? {
    mutating get {
      while position < bytes.count, bytes[position] == 0x20 || bytes[position] == 0x0A { position += 1 }
      return position < bytes.count ? bytes[position] : nil
    }
  }

  mutating func skip(_ character: Unicode.Scalar) throws(LoadError) -> Bool {
    guard let next = peek else { throw LoadError(.malformed, "the header of the array is cut off") }
    if next != UInt8(ascii: character) { return false }
    position += 1
    return true
  }

  mutating func expect(_ character: Unicode.Scalar) throws(LoadError) {
    guard try skip(character) else {
      throw LoadError(.malformed, "'\(character)' was expected at character \(position) of the header of the array")
    }
  }

  mutating func string() throws(LoadError) -> String {
    let quote: UInt8 = peek == UInt8(ascii: "\"") ? UInt8(ascii: "\"") : UInt8(ascii: "'")
    try expect(Unicode.Scalar(quote))
    let start = position
    while position < bytes.count, bytes[position] != quote { position += 1 }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    try expect(Unicode.Scalar(quote))
    return text
  }

  private mutating func word() -> String {
    _ = peek
    let start = position
    while position < bytes.count {
      switch Unicode.Scalar(bytes[position]) {
      case "a"..."z", "A"..."Z", "0"..."9": position += 1
      default: return String(decoding: bytes[start..<position], as: UTF8.self)
      }
    }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  mutating func bool() throws(LoadError) -> Bool {
    switch word() {
    case "True": return true
    case "False": return false
    default: throw LoadError(.malformed, "True or False was expected in the header of the array")
    }
  }

  mutating func tuple() throws(LoadError) -> [Int] {
    try expect("(")
    var values: [Int] = []
    while try !skip(")") {
      var text = word()
      if text.last == "L" { text.removeLast() }  // Python 2
      guard let value = Int(text) else {
        throw LoadError(.malformed, "an extent was expected in the header of the array; found '\(text)'")
      }
      values.append(value)
      if try !skip(",") {
        try expect(")")
        break
      }
    }
    return values
  }
}
