// Values as JSON: what `TextTensors.json` reads.

import ApusTensor

/// Complex numbers are pairs.
private struct ComplexElement<Part: JSONElement>: JSONElement {
  let real, imaginary: Part

  func appendJSON(to text: inout [UInt8]) {
    text.append(UInt8(ascii: "["))
    real.appendJSON(to: &text)
    text += ", ".utf8
    imaginary.appendJSON(to: &text)
    text.append(UInt8(ascii: "]"))
  }
}

extension JSONWriter {
  /// Writes all of a value. Tensors are nested arrays, a scalar a bare element; numbers have all digits that they need,
  /// NaN and the infinities are the strings "NaN", "Infinity" and "-Infinity", complex numbers are pairs. Sequences are
  /// arrays, maps objects (integer keys in decimal), an empty optional is null.
  package mutating func value(_ value: Value) throws(LoadError) {
    switch value {
    case .tensor(let tensor): try self.tensor(tensor)
    case .sequence(let elements, _):
      beginArray()
      for element in elements {
        self.element()
        try self.value(element)
      }
      try endArray()
    case .optional(let content, _):
      if let content { try self.value(content) } else { raw("null") }
    case .map(let map):
      beginObject()
      for (key, element) in zip(map.keys.strings ?? map.keys.integers?.map(String.init) ?? [], map.values) {
        self.key(key)
        try self.value(element)
      }
      try endObject()
    }
  }

  /// Writes a file that holds one value.
  package static func write(_ value: Value, to path: String) throws(LoadError) {
    // The sink escapes into the writer, so the file is held by a box that both see.
    let file = OutputBox(try OutputFile(path: path))
    var writer = JSONWriter { (bytes) throws(LoadError) in try file.output.write(bytes) }
    try writer.value(value)
    try writer.finish()
    try file.output.commit()
  }

  private mutating func tensor(_ source: Tensor) throws(LoadError) {
    let tensor = source.widened ?? source
    if let strings = tensor.strings { return try rows(strings, tensor.shape) }
    switch tensor.dataType {
    case .bool: try rows(tensor, Bool.self)
    case .int8: try rows(tensor, Int8.self)
    case .int16: try rows(tensor, Int16.self)
    case .int32: try rows(tensor, Int32.self)
    case .int64: try rows(tensor, Int64.self)
    case .uint8: try rows(tensor, UInt8.self)
    case .uint16: try rows(tensor, UInt16.self)
    case .uint32: try rows(tensor, UInt32.self)
    case .uint64: try rows(tensor, UInt64.self)
    case .float16: try rows(tensor, Float16.self)
    case .float64: try rows(tensor, Double.self)
    case .complex64:
      let elements = tensor.elements(as: Complex64.self) ?? []
      try rows(elements.map { ComplexElement(real: $0.real, imaginary: $0.imaginary) }, tensor.shape)
    case .complex128:
      let elements = tensor.elements(as: Complex128.self) ?? []
      try rows(elements.map { ComplexElement(real: $0.real, imaginary: $0.imaginary) }, tensor.shape)
    default: try rows(tensor, Float.self)
    }
  }

  private mutating func rows<Element: TensorElement & JSONElement>(_ tensor: Tensor, _: Element.Type) throws(LoadError)
  {
    try rows(tensor.elements(as: Element.self) ?? [], tensor.shape)
  }

  /// Nested arrays, the innermost on a line each.
  private mutating func rows<Element: JSONElement>(_ elements: [Element], _ shape: Shape) throws(LoadError) {
    guard let width = shape.last else {
      if let element = elements.first { scalar(element) }
      return
    }
    // Empty arrays around nothing: as deep as the first extent of 0, if they are not absurdly many.
    let outer = Shape(Array(shape.prefix { $0 != 0 }.prefix(shape.rank - 1)))
    guard elements.count > 0 || (outer.checkedElementCount ?? Int.max) <= 1 << 16 else { return raw("[]") }
    // The number of rows within one array of each axis.
    var rowCounts = [Int](repeating: 1, count: outer.rank)
    for axis in outer.indices.dropLast().reversed() { rowCounts[axis] = rowCounts[axis + 1] * outer[axis + 1] }
    for row in 0..<outer.elementCount {
      for axis in outer.indices {
        if row % (rowCounts[axis] * outer[axis]) == 0 { beginArray() }
        if row % rowCounts[axis] == 0 { element() }
      }
      let start = elements.isEmpty ? 0 : row * width
      try self.row(elements[start..<(elements.isEmpty ? 0 : start + width)])
      for axis in outer.indices.reversed() where (row + 1) % (rowCounts[axis] * outer[axis]) == 0 { try endArray() }
    }
  }
}

/// A file that a closure can write to.
private final class OutputBox {
  var output: OutputFile
  init(_ output: consuming OutputFile) { self.output = output }
}
