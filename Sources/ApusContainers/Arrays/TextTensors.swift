// Inputs that a person writes: JSON, and plain text of numbers.

import ApusTensor

/// Reads values from text.
package enum TextTensors {
  /// The value in a JSON file. Nested arrays are tensors, of the declared element type or else: all whole numbers
  /// int64, any other numbers float32, true and false bool, texts string. Where a sequence is declared an array is that
  /// sequence; where an optional is declared null is an empty one; where a map is declared an object is that map. For
  /// floats the strings "NaN", "Infinity" and "-Infinity" are numbers, as `JSONWriter` writes them.
  package static func json(
    _ file: FileBytes, as declared: ValueType? = nil, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> Value {
    do throws(LoadError) {
      let tree = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
        try JSONReader.parse(bytes, limits: limits)
      }
      return try value(tree, declared)
    } catch {
      throw error.inFile(file.name)
    }
  }

  /// The tensor in a text file: numbers, true or false, between white space or commas; `#` begins a comment. Strings
  /// stand one a line. `shape` has nil for extents that are not declared, of which at most one may follow from the
  /// number of elements; without a shape the result has one axis. Without a type, whole numbers are int64 and others
  /// float32.
  package static func text(
    _ file: FileBytes, as declared: DataType? = nil, shape: [Int?]? = nil, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> Tensor {
    do throws(LoadError) {
      let tokens = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
        self.tokens(try TextLines.lines(bytes, limits: limits), lines: declared == .string)
      }
      let type = declared ?? inferredType(tokens)
      return try tensor(tokens, type, try self.shape(shape, count: tokens.count))
    } catch {
      throw error.inFile(file.name)
    }
  }

  // MARK: Plain text

  private static func tokens(_ rows: [String], lines: Bool) -> [JSONValue] {
    if lines { return rows.map { .string($0) } }
    return rows.flatMap { row in
      row.prefix { $0 != "#" }.split { $0.isWhitespace || $0 == "," || $0 == ";" }.map { word -> JSONValue in
        switch word.lowercased() {
        case "true": .bool(true)
        case "false": .bool(false)
        default: .number(String(word))
        }
      }
    }
  }

  private static func shape(_ declared: [Int?]?, count: Int) throws(LoadError) -> Shape {
    guard let declared else { return [count] }
    let unknown = declared.indices.filter { declared[$0] == nil }
    let known = Shape(declared.map { $0 ?? 1 })
    let text = "[" + declared.map { $0.map(String.init) ?? "?" }.joined(separator: ", ") + "]"
    guard unknown.count <= 1, let product = known.checkedElementCount else {
      throw LoadError(
        .malformed, "\(count) numbers do not say what the extents \(text) are",
        remedy: "Bind the unknown extents, or use .npy")
    }
    var shape = known
    if let axis = unknown.first, product > 0, count % product == 0 { shape[axis] = count / product }
    guard shape.elementCount == count else {
      let multiple = unknown.isEmpty ? "" : " or a multiple"
      throw LoadError(.malformed, "the shape \(text) takes \(product) elements\(multiple); found \(count)")
    }
    return shape
  }

  // MARK: Trees

  private static func value(_ tree: JSONValue, _ declared: ValueType?) throws(LoadError) -> Value {
    switch (declared, tree) {
    case (.sequence(let elementType)?, .array(let trees)):
      var elements: [Value] = []
      for tree in trees { elements.append(try value(tree, elementType)) }
      return .sequence(elements, elementType: elementType)
    case (.optional(let elementType)?, .null): return .optional(nil, elementType: elementType)
    case (.optional(let elementType)?, _): return .optional(try value(tree, elementType), elementType: elementType)
    case (.map(let keyType, let valueType)?, .object(let members)):
      let keys = members.map { keyType == .string ? JSONValue.string($0.key) : .number($0.key) }
      let keyTensor = try tensor(keys, keyType, [keys.count])
      var values: [Value] = []
      for member in members { values.append(try value(member.value, valueType)) }
      return .map(MapValue(keys: keyTensor, values: values, valueType: valueType))
    case (nil, _), (.tensor?, _):
      var leaves: [JSONValue] = []
      let shape = try flatten(tree, &leaves)
      if case .tensor(let type, _)? = declared { return .tensor(try tensor(leaves, type, shape)) }
      return .tensor(try tensor(leaves, inferredType(leaves), shape))
    case (let declared?, _):
      throw LoadError(.malformed, "\(tree.kind) was found where a value of type \(declared) was expected")
    }
  }

  /// The shape of nested arrays; their elements go to `leaves`.
  private static func flatten(_ tree: JSONValue, _ leaves: inout [JSONValue]) throws(LoadError) -> Shape {
    guard case .array(let elements) = tree else {
      leaves.append(tree)
      return []
    }
    var inner: Shape?
    for element in elements {
      let shape = try flatten(element, &leaves)
      if let inner, inner != shape {
        throw LoadError(.malformed, "the rows of an array differ: \(inner) and \(shape)")
      }
      inner = shape
    }
    return Shape([elements.count] + (inner?.dims ?? []))
  }

  private static func inferredType(_ leaves: [JSONValue]) -> DataType {
    var type: DataType?
    for leaf in leaves {
      switch leaf {
      case .bool: type = type ?? .bool
      case .string: return .string
      case .number(let text): if Int(text) == nil { return .float32 } else { type = .int64 }
      case .null, .array, .object: break
      }
    }
    return type ?? .float32
  }

  // MARK: Elements

  private static func tensor(_ leaves: [JSONValue], _ type: DataType, _ shape: Shape) throws(LoadError) -> Tensor {
    if type == .string {
      var strings: [String] = []
      for leaf in leaves {
        guard case .string(let string) = leaf else { throw mismatch(leaf, type) }
        strings.append(string)
      }
      return Tensor(strings: strings, shape: shape)
    }
    if type.isPacked || type.bits == 8 && type.isFloat {
      var codes: [UInt8] = []
      for leaf in leaves { codes.append(try code(leaf, type)) }
      return try Tensor.packing(codes, type, shape)
    }
    return try Tensor.building(type, shape) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
      for leaf in leaves {
        var bits = try self.bits(leaf, type)
        for _ in 0..<type.byteWidth {
          output.append(UInt8(truncatingIfNeeded: bits))
          bits >>= 8
        }
      }
    }
  }

  /// The text of a number; for floats also of the strings that stand for what is no number.
  private static func numberText(_ leaf: JSONValue, _ type: DataType) -> String? {
    switch leaf {
    case .number(let text): text
    case .string(let text) where type.isFloat && ["NaN", "Infinity", "-Infinity"].contains(text): text
    default: nil
    }
  }

  private static func mismatch(_ leaf: JSONValue, _ type: DataType) -> LoadError {
    var found = leaf.kind
    if case .number(let text) = leaf { found = "the number \(text.prefix(32))" }
    return LoadError(.malformed, "\(found) is no \(type)")
  }

  /// The bits of an element of whole bytes.
  private static func bits(_ leaf: JSONValue, _ type: DataType) throws(LoadError) -> UInt64 {
    if case .bool(let value) = leaf {
      if type == .bool { return value ? 1 : 0 }
      return try bits(.number(value ? "1" : "0"), type)
    }
    guard let text = numberText(leaf, type) else { throw mismatch(leaf, type) }
    switch type {
    case .bool:
      guard text == "0" || text == "1" else { throw mismatch(leaf, type) }
      return text == "1" ? 1 : 0
    case .float64: if let value = Double(wholeText: text) { return value.bitPattern }
    case .float32: if let value = Float(wholeText: text) { return UInt64(value.bitPattern) }
    case .float16: if let value = Float16(wholeText: text) { return UInt64(value.bitPattern) }
    case .bfloat16: if let value = Float(wholeText: text) { return UInt64(BFloat16(value).bitPattern) }
    case .uint64: if let value = UInt64(text) { return value }
    case _ where type.isInteger:
      if let value = integer(text), fits(value, type) { return UInt64(bitPattern: Int64(value)) }
    default: throw LoadError(.unsupported, "text cannot hold elements of type \(type)", remedy: "Use .npy")
    }
    throw mismatch(leaf, type)
  }

  /// The code of an element of less than a byte, or of a float of 8 bits.
  private static func code(_ leaf: JSONValue, _ type: DataType) throws(LoadError) -> UInt8 {
    guard let text = numberText(leaf, type) else { throw mismatch(leaf, type) }
    if let format = SmallFloat(type) {
      if let value = Float(wholeText: text) { return format.encode(value) }
    } else if type == .float8e8m0 {
      if let value = Float(wholeText: text) { return PowerOfTwoFloat.encode(value, rounding: .nearest) }
    } else if let value = integer(text), fits(value, type) {
      return UInt8(truncatingIfNeeded: value)
    }
    throw mismatch(leaf, type)
  }

  /// A whole number, also in the form 3.0 or 1e3.
  private static func integer(_ text: String) -> Int? {
    if let value = Int(text) { return value }
    return Double(wholeText: text).flatMap { Int(exactly: $0) }
  }

  private static func fits(_ value: Int, _ type: DataType) -> Bool {
    if type.bits == 64 { return true }
    return type.isUnsignedInteger
      ? value >= 0 && value < 1 << type.bits
      : value >= -(1 << (type.bits - 1)) && value < 1 << (type.bits - 1)
  }
}
