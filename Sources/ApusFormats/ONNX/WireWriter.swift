// Messages of ONNX as bytes of the protobuf wire format: models, graphs, types.

import ApusTensor

/// Appends fields to bytes. Fields are written in the order of the calls.
package struct WireWriter {
  package private(set) var bytes: [UInt8] = []

  package init() {}

  mutating func varint(_ number: UInt32, _ value: Int) {
    bytes.appendTag(number, .varint)
    bytes.appendVarint(UInt64(bitPattern: Int64(value)))
  }

  mutating func float(_ number: UInt32, _ value: Float) {
    bytes.appendTag(number, .fixed32)
    append(value.bitPattern)
  }

  mutating func data(_ number: UInt32, _ value: [UInt8]) {
    bytes.appendTag(number, .bytes)
    bytes.appendVarint(UInt64(value.count))
    bytes += value
  }

  /// Writes `byteCount` bytes from wherever they lie.
  mutating func data(_ number: UInt32, of tensor: Tensor) {
    tensor.withByteSpan { span in
      bytes.appendTag(number, .bytes)
      bytes.appendVarint(UInt64(span.count))
      span.withUnsafeBufferPointer { bytes += $0 }
    }
  }

  mutating func text(_ number: UInt32, _ value: String) { data(number, Array(value.utf8)) }

  /// Leaves the field out if the text is empty.
  mutating func textUnlessEmpty(_ number: UInt32, _ value: String) {
    if !value.isEmpty { text(number, value) }
  }

  mutating func message(_ number: UInt32, _ body: (inout WireWriter) -> Void) {
    bytes.appendTag(number, .bytes)
    let start = bytes.count
    bytes.appendLengthPlace()
    body(&self)
    bytes.fillLengthPlace(at: start)
  }

  private mutating func append(_ value: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
  }
}

// MARK: - Models and graphs

extension ModelProto {
  /// The model as the bytes of a file. Tensors must be `.tensor` or `.external`.
  package var encoded: [UInt8] {
    var writer = WireWriter()
    writer.varint(1, irVersion)
    writer.textUnlessEmpty(2, producerName)
    writer.textUnlessEmpty(3, producerVersion)
    writer.textUnlessEmpty(4, domain)
    if modelVersion != 0 { writer.varint(5, modelVersion) }
    writer.textUnlessEmpty(6, docString)
    if let graph { writer.message(7) { graph.write(to: &$0) } }
    for opset in opsetImport { writer.message(8) { opset.write(to: &$0) } }
    for entry in metadata { writer.message(14) { entry.write(to: &$0) } }
    for function in functions { writer.message(25) { function.write(to: &$0) } }
    return writer.bytes
  }
}

extension OperatorSetID {
  func write(to writer: inout WireWriter) {
    writer.text(1, domain)
    writer.varint(2, version)
  }
}

extension StringEntry {
  func write(to writer: inout WireWriter) {
    writer.text(1, key)
    writer.text(2, value)
  }
}

extension GraphProto {
  func write(to writer: inout WireWriter) {
    for node in nodes { writer.message(1) { node.write(to: &$0) } }
    writer.text(2, name)
    for tensor in initializers { writer.message(5) { tensor.write(to: &$0) } }
    writer.textUnlessEmpty(10, docString)
    for info in inputs { writer.message(11) { info.write(to: &$0) } }
    for info in outputs { writer.message(12) { info.write(to: &$0) } }
    for info in valueInfo { writer.message(13) { info.write(to: &$0) } }
    for tensor in sparseInitializers { writer.message(15) { tensor.write(to: &$0) } }
  }
}

extension ValueInfoProto {
  func write(to writer: inout WireWriter) {
    writer.text(1, name)
    if let type { writer.message(2) { type.write(to: &$0) } }
  }
}

extension NodeProto {
  func write(to writer: inout WireWriter) {
    for input in inputs { writer.text(1, input) }
    for output in outputs { writer.text(2, output) }
    writer.textUnlessEmpty(3, name)
    writer.text(4, opType)
    for attribute in attributes { writer.message(5) { attribute.write(to: &$0) } }
    writer.textUnlessEmpty(7, domain)
    writer.textUnlessEmpty(8, overload)
  }
}

extension FunctionProto {
  func write(to writer: inout WireWriter) {
    writer.text(1, name)
    for input in inputs { writer.text(4, input) }
    for output in outputs { writer.text(5, output) }
    for attribute in attributes { writer.text(6, attribute) }
    for node in nodes { writer.message(7) { node.write(to: &$0) } }
    for opset in opsetImport { writer.message(9) { opset.write(to: &$0) } }
    writer.text(10, domain)
    for attribute in attributeDefaults { writer.message(11) { attribute.write(to: &$0) } }
    for info in valueInfo { writer.message(12) { info.write(to: &$0) } }
    writer.textUnlessEmpty(13, overload)
  }
}

extension AttributeProto {
  func write(to writer: inout WireWriter) {
    writer.text(1, name)
    switch content {
    case .float(let value):
      writer.float(2, value)
      writer.varint(20, 1)
    case .int(let value):
      writer.varint(3, value)
      writer.varint(20, 2)
    case .string(let value):
      writer.data(4, value)
      writer.varint(20, 3)
    case .tensor(let tensor):
      writer.message(5) { tensor.write(to: &$0) }
      writer.varint(20, 4)
    case .graph(let graph):
      writer.message(6) { graph.write(to: &$0) }
      writer.varint(20, 5)
    case .floats(let values):
      for value in values { writer.float(7, value) }
      writer.varint(20, 6)
    case .ints(let values):
      for value in values { writer.varint(8, value) }
      writer.varint(20, 7)
    case .strings(let values):
      for value in values { writer.data(9, value) }
      writer.varint(20, 8)
    case .tensors(let tensors):
      for tensor in tensors { writer.message(10) { tensor.write(to: &$0) } }
      writer.varint(20, 9)
    case .graphs(let graphs):
      for graph in graphs { writer.message(11) { graph.write(to: &$0) } }
      writer.varint(20, 10)
    case .sparseTensor(let tensor):
      writer.message(22) { tensor.write(to: &$0) }
      writer.varint(20, 11)
    case .sparseTensors(let tensors):
      for tensor in tensors { writer.message(23) { tensor.write(to: &$0) } }
      writer.varint(20, 12)
    case .type(let type):
      writer.message(14) { type.write(to: &$0) }
      writer.varint(20, 13)
    case .types(let types):
      for type in types { writer.message(15) { type.write(to: &$0) } }
      writer.varint(20, 14)
    case .reference(let name): writer.text(21, name)
    case .malformed: break
    }
  }
}

// MARK: - Tensors and types

extension TensorProto {
  /// The message as bytes. Its elements must be `.tensor` or `.external`.
  package var encoded: [UInt8] {
    var writer = WireWriter()
    write(to: &writer)
    return writer.bytes
  }

  func write(to writer: inout WireWriter) {
    for dim in dims { writer.varint(1, dim) }
    writer.varint(2, Int(dataType))
    if case .tensor(let tensor) = content {
      for string in tensor.strings ?? [] { writer.text(6, string) }
    }
    writer.textUnlessEmpty(8, name)
    switch content {
    case .tensor(let tensor):
      if tensor.dataType != .string { writer.data(9, of: tensor) }
    case .external(let entries):
      for entry in entries { writer.message(13) { entry.write(to: &$0) } }
      writer.varint(14, 1)
    case .payloads, .unsupported: preconditionFailure("a tensor that was not decoded cannot be written")
    }
  }
}

extension SparseTensorProto {
  func write(to writer: inout WireWriter) {
    if let values { writer.message(1) { values.write(to: &$0) } }
    if let indices { writer.message(2) { indices.write(to: &$0) } }
    for dim in dims { writer.varint(3, dim) }
  }
}

extension TypeProto {
  func write(to writer: inout WireWriter) {
    func writeTensor(_ elementType: Int32, _ shape: [Dimension]?, _ inner: inout WireWriter) {
      inner.varint(1, Int(elementType))
      guard let shape else { return }
      inner.message(2) { dims in
        for dim in shape {
          dims.message(1) { entry in
            switch dim {
            case .value(let value): entry.varint(1, value)
            case .parameter(let name): entry.text(2, name)
            case .unknown: break
            }
          }
        }
      }
    }
    switch self {
    case .tensor(let elementType, let shape): writer.message(1) { writeTensor(elementType, shape, &$0) }
    case .sparseTensor(let elementType, let shape): writer.message(8) { writeTensor(elementType, shape, &$0) }
    case .sequence(let element):
      writer.message(4) { inner in if let element { inner.message(1) { element.write(to: &$0) } } }
    case .optional(let element):
      writer.message(9) { inner in if let element { inner.message(1) { element.write(to: &$0) } } }
    case .map(let keyType, let value):
      writer.message(5) { inner in
        inner.varint(1, Int(keyType))
        if let value { inner.message(2) { value.write(to: &$0) } }
      }
    case .opaque(let domain, let name):
      writer.message(7) { inner in
        inner.text(1, domain)
        inner.text(2, name)
      }
    case .absent: break
    }
  }
}
