// From a draft to the bytes of a TensorFlow Lite file.
// https://github.com/tensorflow/tensorflow/blob/master/tensorflow/compiler/mlir/lite/schema/schema.fbs

import ApusContainers
import ApusTensor

/// What a file says beside its tensors and operators.
struct TFLiteFile {
  var draft: TFLiteDraft
  var name: String
  var description: String
  /// Numbers of tensors by the names that callers use.
  var inputs: [(name: String, tensor: Int)]
  var outputs: [(name: String, tensor: Int)]

  /// The data of buffers lie at multiples of this.
  private static let alignment = 16
  /// The key of the signature that serving looks for.
  private static let signature = "serving_default"
  /// The metadata that says which interpreter it takes, and how many bytes it has.
  private static let versionName = "min_runtime_version"
  private static let versionBytes = 16
  /// Codes of operators that a byte cannot hold say this in the older field.
  private static let placeholder = 127

  func bytes() throws(LoadError) -> [UInt8] {
    let weights = draft.buffers.reduce(0) { $0 + $1.byteCount }
    // No overflow: the tensors exist.
    guard weights < FlatBuffer.maximumBytes else {
      throw .unsupported(
        "a TensorFlow Lite file holds less than 2 GB; the weights take \(weights) bytes",
        remedy: "Write them in 16 bits or quantize the model")
    }
    var builder = FlatBufferBuilder(capacity: weights + (1 << 16))
    var fields = FlatFields()
    // What is written last lies first: weights at the end of the file.
    fields.set(TFLiteSchema.Model.buffers, try buffers(&builder))
    fields.set(TFLiteSchema.Model.metadata, try metadata(&builder))
    fields.set(TFLiteSchema.Model.signatures, try signatures(&builder))
    fields.set(TFLiteSchema.Model.description, try builder.string(description))
    fields.set(TFLiteSchema.Model.subgraphs, try builder.vector([try subgraph(&builder)]))
    fields.set(TFLiteSchema.Model.operatorCodes, try codes(&builder))
    fields.set(TFLiteSchema.Model.version, TFLiteSchema.version)
    return try builder.finish(builder.table(fields), identifier: TFLiteSchema.identifier)
  }

  // MARK: - Around the graph

  /// The buffers, with the empty one before and that of the metadata behind.
  private func buffers(_ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var offsets = [try builder.table(FlatFields())]
    for elements in draft.buffers {
      var fields = FlatFields()
      let bytes = elements.dataType == .string ? [] : elements.elements(as: UInt8.self, reinterpreting: true)
      fields.set(TFLiteSchema.Buffer.data, try builder.vector(bytes: bytes, alignment: Self.alignment))
      offsets.append(try builder.table(fields))
    }
    var version = Array(TFLiteVersions.runtime(draft.codes).utf8)
    version += [UInt8](repeating: 0, count: max(Self.versionBytes - version.count, 0))
    var fields = FlatFields()
    fields.set(TFLiteSchema.Buffer.data, try builder.vector(bytes: version, alignment: Self.alignment))
    offsets.append(try builder.table(fields))
    return try builder.vector(offsets)
  }

  private func metadata(_ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var fields = FlatFields()
    fields.set(TFLiteSchema.Metadata.name, try builder.string(Self.versionName))
    fields.set(TFLiteSchema.Metadata.buffer, UInt32(draft.buffers.count + 1))
    return try builder.vector([try builder.table(fields)])
  }

  private func signatures(_ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    func maps(
      _ entries: [(name: String, tensor: Int)], _ builder: inout FlatBufferBuilder
    ) throws(LoadError) -> FlatOffset {
      var offsets: [FlatOffset] = []
      for (name, tensor) in entries {
        var fields = FlatFields()
        fields.set(TFLiteSchema.TensorMap.name, try builder.sharedString(name))
        fields.set(TFLiteSchema.TensorMap.tensor, UInt32(tensor))
        offsets.append(try builder.table(fields))
      }
      return try builder.vector(offsets)
    }
    var fields = FlatFields()
    fields.set(TFLiteSchema.Signature.inputs, try maps(inputs, &builder))
    fields.set(TFLiteSchema.Signature.outputs, try maps(outputs, &builder))
    fields.set(TFLiteSchema.Signature.key, try builder.string(Self.signature))
    return try builder.vector([try builder.table(fields)])
  }

  private func codes(_ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var offsets: [FlatOffset] = []
    for code in draft.codes {
      guard let number = TFLiteSchema.operatorNames.firstIndex(of: code.kind) else {
        throw .unsupported("the schema has no operator \(code.kind)")
      }
      var fields = FlatFields()
      fields.set(TFLiteSchema.OperatorCode.deprecatedCode, Int8(min(number, Self.placeholder)))
      fields.set(TFLiteSchema.OperatorCode.version, Int32(code.version), default: 1)
      fields.set(TFLiteSchema.OperatorCode.code, Int32(number))
      offsets.append(try builder.table(fields))
    }
    return try builder.vector(offsets)
  }

  // MARK: - The graph

  private func subgraph(_ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var tensors: [FlatOffset] = []
    for tensor in draft.tensors { tensors.append(try self.tensor(tensor, &builder)) }
    var operators: [FlatOffset] = []
    for node in draft.operators { operators.append(try self.operation(node, &builder)) }
    var fields = FlatFields()
    fields.set(TFLiteSchema.Subgraph.tensors, try builder.vector(tensors))
    fields.set(TFLiteSchema.Subgraph.inputs, try numbers(inputs.map(\.tensor), &builder))
    fields.set(TFLiteSchema.Subgraph.outputs, try numbers(outputs.map(\.tensor), &builder))
    fields.set(TFLiteSchema.Subgraph.operators, try builder.vector(operators))
    fields.set(TFLiteSchema.Subgraph.name, try builder.string(name))
    return try builder.table(fields)
  }

  /// Integers in the 32 bits of the schema.
  private func numbers(_ values: [Int], _ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var numbers: [Int32] = []
    for value in values {
      guard let number = Int32(exactly: value) else {
        throw .unsupported("an extent or option of TensorFlow Lite has 32 bits; \(value) does not fit")
      }
      numbers.append(number)
    }
    return try builder.vector(numbers)
  }

  private func tensor(_ tensor: TFLiteDraft.Tensor, _ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset
  {
    guard let type = TFLiteSchema.elementTypes.firstIndex(of: tensor.type) else {
      throw .unsupported("TensorFlow Lite has no elements of \(tensor.type), which '\(tensor.name)' has")
    }
    var fields = FlatFields()
    fields.set(TFLiteSchema.Tensor.shape, try numbers(tensor.shape, &builder))
    fields.set(TFLiteSchema.Tensor.type, Int8(type))
    fields.set(TFLiteSchema.Tensor.buffer, UInt32(tensor.buffer))
    fields.set(TFLiteSchema.Tensor.name, try builder.string(tensor.name))
    if let quantization = tensor.quantization {
      fields.set(TFLiteSchema.Tensor.quantization, try self.quantization(quantization, &builder))
    }
    if tensor.isVariable { fields.set(TFLiteSchema.Tensor.isVariable, true) }
    if let signature = tensor.signature {
      fields.set(TFLiteSchema.Tensor.shapeSignature, try numbers(signature, &builder))
    }
    fields.set(TFLiteSchema.Tensor.hasRank, true)
    return try builder.table(fields)
  }

  private func quantization(
    _ quantization: TFLiteQuantization, _ builder: inout FlatBufferBuilder
  ) throws(LoadError) -> FlatOffset {
    var fields = FlatFields()
    fields.set(TFLiteSchema.Quantization.scale, try builder.vector(quantization.scales))
    fields.set(TFLiteSchema.Quantization.zeroPoint, try builder.vector(quantization.zeroPoints.map { Int64($0) }))
    fields.set(TFLiteSchema.Quantization.dimension, Int32(quantization.axis))
    return try builder.table(fields)
  }

  private func operation(
    _ node: TFLiteDraft.Operator, _ builder: inout FlatBufferBuilder
  ) throws(LoadError) -> FlatOffset {
    var fields = FlatFields()
    fields.set(TFLiteSchema.Operator.opcode, UInt32(node.code))
    fields.set(TFLiteSchema.Operator.inputs, try numbers(node.inputs, &builder))
    fields.set(TFLiteSchema.Operator.outputs, try numbers(node.outputs, &builder))
    if let type = TFLiteSchema.optionTypes[draft.codes[node.code].kind] {
      fields.set(TFLiteSchema.Operator.options, union: type, try options(node.options, &builder))
    }
    return try builder.table(fields)
  }

  private func options(_ options: TFLiteOptions, _ builder: inout FlatBufferBuilder) throws(LoadError) -> FlatOffset {
    var fields = FlatFields()
    for (place, value) in options.fields {
      switch value {
      case .int(let value):
        guard let number = Int32(exactly: value) else {
          throw .unsupported("an option of TensorFlow Lite has 32 bits; \(value) does not fit")
        }
        fields.set(place, number, default: nil)
      case .byte(let value): fields.set(place, Int8(clamping: value), default: nil)
      case .flag(let value): fields.set(place, value, default: nil)
      case .real(let value): fields.set(place, value, default: nil)
      case .ints(let values): fields.set(place, try numbers(values, &builder))
      }
    }
    return try builder.table(fields)
  }
}
