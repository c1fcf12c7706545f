// The tables of a TensorFlow Lite file as values: subgraphs, tensors, operators, signatures. Every number that stands
// for something else in the file is checked here.

import ApusContainers
import ApusGraph
import ApusTensor

/// How the integers of a tensor stand for numbers: (code - zero point) · scale, for the whole tensor or for each index
/// of an axis.
struct TFLiteQuantization: Hashable {
  var scales: [Float]
  /// As many as scales.
  var zeroPoints: [Int]
  var axis: Int

  var isWhole: Bool { scales.count == 1 }
}

struct TFLiteTensor {
  var name: String
  /// nil for handles of variables and tables.
  var type: DataType?
  var shape: [Int]
  /// The shape with -1 where an extent is not fixed; nil if all are.
  var signature: [Int]?
  /// The number of the buffer with its elements; 0 for none.
  var buffer: Int
  /// nil for tensors of numbers that stand for themselves.
  var quantization: TFLiteQuantization?
  var isVariable: Bool
  /// Why its elements cannot be read; nil if they can.
  var obstacle: String?

  /// The extents; those that are not fixed are symbols. The first one is the batch.
  func dims(_ name: String) -> [Dim] {
    guard let signature, signature.count == shape.count else { return shape.map { Dim($0) } }
    return signature.enumerated().map { axis, extent in
      extent >= 0 ? Dim(extent) : .symbol(axis == 0 ? "batch" : "\(name)_dim\(axis)")
    }
  }
}

struct TFLiteOperator {
  /// The name of the operator; for the author's own ones that with CUSTOM before it.
  var kind: String
  /// Numbers of tensors; nil for operands that are left out.
  var inputs: [Int?]
  var outputs: [Int]
  var options: FlatTable?
  var customOptions: ByteView?
}

struct TFLiteSubgraph {
  var name: String
  var tensors: [TFLiteTensor]
  var inputs: [Int]
  var outputs: [Int]
  var operators: [TFLiteOperator]
}

/// Names of the inputs and outputs of a subgraph.
struct TFLiteSignature {
  var key: String
  var subgraph: Int
  /// Names by the numbers of tensors.
  var inputs: [(name: String, tensor: Int)]
  var outputs: [(name: String, tensor: Int)]
}

/// A file.
struct TFLiteModel {
  let file: FileBytes
  var description = ""
  var subgraphs: [TFLiteSubgraph] = []
  var signatures: [TFLiteSignature] = []
  /// Names, and the bytes of each.
  var metadata: [(name: String, bytes: ByteView)] = []
  /// The bytes of each buffer.
  private var buffers: [ByteView] = []

  init(_ file: FileBytes, limits: LoadLimits) throws(LoadError) {
    self.file = file
    let bytes = try file.view()
    let root = try FlatBuffer(
      bytes, identifier: TFLiteSchema.identifier, limits: FlatBuffer.Limits(limits)
    ).root()
    let version = try root.uint32(TFLiteSchema.Model.version)
    guard version == TFLiteSchema.version else {
      throw .unsupported(
        "version \(TFLiteSchema.version) of the schema was expected; the file has \(version)",
        remedy: "Convert the model again with a newer TensorFlow")
    }
    description = try root.string(TFLiteSchema.Model.description) ?? ""
    buffers = try Self.buffers(root, bytes)
    let kinds = try Self.kinds(root)
    for table in try root.tables(TFLiteSchema.Model.subgraphs) {
      subgraphs.append(try subgraph(table, kinds: kinds, bytes))
    }
    if subgraphs.isEmpty { throw .malformed("a model should have a subgraph; it has none") }
    for table in try root.tables(TFLiteSchema.Model.signatures) { signatures.append(try signature(table)) }
    try readMetadata(root)
  }

  /// The bytes of a buffer; empty for the number 0.
  func buffer(_ number: Int) -> ByteView { buffers[number] }

  // MARK: - Tables

  private static func buffers(_ root: FlatTable, _ bytes: ByteView) throws(LoadError) -> [ByteView] {
    var buffers: [ByteView] = []
    for table in try root.tables(TFLiteSchema.Model.buffers) {
      if let data = try table.bytes(TFLiteSchema.Buffer.data) {
        buffers.append(data)
        continue
      }
      // Files of more than 2 GB have the bytes behind the FlatBuffer. An offset of 0 or 1 stands for none.
      let offset = try table.uint64(TFLiteSchema.Buffer.offset)
      let size = try table.uint64(TFLiteSchema.Buffer.size)
      guard offset > 1, size > 0 else {
        buffers.append(try bytes.slice(0, 0, "an empty buffer"))
        continue
      }
      buffers.append(
        try bytes.slice(Int(clamping: offset), Int(clamping: size), "buffer \(buffers.count) behind the FlatBuffer"))
    }
    if buffers.isEmpty { buffers = [try bytes.slice(0, 0, "an empty buffer")] }
    return buffers
  }

  /// The names of the operators that the operators of the subgraphs refer to.
  private static func kinds(_ root: FlatTable) throws(LoadError) -> [String] {
    var kinds: [String] = []
    for table in try root.tables(TFLiteSchema.Model.operatorCodes) {
      // Numbers beyond a byte stand in the newer field alone.
      let code = max(
        Int(try table.int8(TFLiteSchema.OperatorCode.deprecatedCode)),
        Int(try table.int32(TFLiteSchema.OperatorCode.code)))
      if code == TFLiteSchema.customOperator {
        kinds.append("CUSTOM " + (try table.string(TFLiteSchema.OperatorCode.customCode) ?? "without a name"))
      } else if TFLiteSchema.operatorNames.indices.contains(code) {
        kinds.append(TFLiteSchema.operatorNames[code])
      } else {
        kinds.append("number \(code)")
      }
    }
    return kinds
  }

  private func subgraph(
    _ table: FlatTable, kinds: [String], _ bytes: ByteView
  ) throws(LoadError) -> TFLiteSubgraph {
    var tensors: [TFLiteTensor] = []
    for tensor in try table.tables(TFLiteSchema.Subgraph.tensors) {
      tensors.append(try self.tensor(tensor, number: tensors.count))
    }
    var operators: [TFLiteOperator] = []
    for node in try table.tables(TFLiteSchema.Subgraph.operators) {
      let place = "operator \(operators.count)"
      let opcode = Int(try node.uint32(TFLiteSchema.Operator.opcode))
      guard kinds.indices.contains(opcode) else {
        throw .malformed("\(place) should have one of \(kinds.count) operator codes; it has number \(opcode)")
      }
      let kind = kinds[opcode]
      let inputs = try Self.places(node.int32s(TFLiteSchema.Operator.inputs), tensors.count, place, mayLack: true)
      let outputs = try Self.places(node.int32s(TFLiteSchema.Operator.outputs), tensors.count, place)
      operators.append(
        TFLiteOperator(
          kind: kind, inputs: inputs, outputs: outputs.compactMap(\.self), options: try Self.options(of: node, kind),
          customOptions: try Self.customOptions(of: node, bytes)))
    }
    let name = try table.string(TFLiteSchema.Subgraph.name) ?? ""
    let inputs = try Self.places(table.int32s(TFLiteSchema.Subgraph.inputs), tensors.count, "subgraph '\(name)'")
    let outputs = try Self.places(table.int32s(TFLiteSchema.Subgraph.outputs), tensors.count, "subgraph '\(name)'")
    return TFLiteSubgraph(
      name: name, tensors: tensors, inputs: inputs.compactMap(\.self), outputs: outputs.compactMap(\.self),
      operators: operators)
  }

  /// Numbers of tensors; -1 for one that is left out, where that may be.
  private static func places(
    _ numbers: [Int32]?, _ count: Int, _ place: String, mayLack: Bool = false
  ) throws(LoadError) -> [Int?] {
    var places: [Int?] = []
    for number in numbers ?? [] {
      if number == -1, mayLack {
        places.append(nil)
      } else if number >= 0, number < count {
        places.append(Int(number))
      } else {
        throw .malformed("\(place) should refer to one of \(count) tensors; it refers to number \(number)")
      }
    }
    return places
  }

  /// The options of an operator; nil if there are none, or those of another operator.
  private static func options(of node: FlatTable, _ kind: String) throws(LoadError) -> FlatTable? {
    let (field, type) =
      TFLiteSchema.laterOptionTypes[kind].map { (TFLiteSchema.Operator.laterOptions, $0) }
      ?? (TFLiteSchema.Operator.options, TFLiteSchema.optionTypes[kind] ?? 0)
    guard type > 0, try node.has(field + 1), let options = try node.union(field) else { return nil }
    guard options.type == type else {
      throw .malformed("\(kind) should have options of the type \(type); it has those of the type \(options.type)")
    }
    return options.value
  }

  private static func customOptions(of node: FlatTable, _ bytes: ByteView) throws(LoadError) -> ByteView? {
    let offset = try node.uint64(TFLiteSchema.Operator.largeCustomOptions)
    guard offset > 1 else { return try node.bytes(TFLiteSchema.Operator.customOptions) }
    let size = try node.uint64(TFLiteSchema.Operator.largeCustomOptions + 1)
    return try bytes.slice(Int(clamping: offset), Int(clamping: size), "the options of an operator")
  }

  // MARK: - Tensors

  private func tensor(_ table: FlatTable, number: Int) throws(LoadError) -> TFLiteTensor {
    let name = try table.string(TFLiteSchema.Tensor.name) ?? ""
    let place = name.isEmpty ? "tensor \(number)" : "tensor '\(name)'"
    let code = Int(try table.int8(TFLiteSchema.Tensor.type))
    guard TFLiteSchema.elementTypes.indices.contains(code) else {
      throw .unsupported(
        "\(place) should have an element type from 0 to \(TFLiteSchema.elementTypes.count - 1); it has \(code)")
    }
    let shape = try (table.int32s(TFLiteSchema.Tensor.shape) ?? []).map { Int($0) }
    guard shape.allSatisfy({ $0 >= 0 }), Shape(shape).checkedElementCount != nil else {
      throw .malformed("\(place) should have a possible shape; it has \(shape)")
    }
    let signature = try table.int32s(TFLiteSchema.Tensor.shapeSignature)?.map { Int($0) }
    let buffer = Int(try table.uint32(TFLiteSchema.Tensor.buffer))
    guard buffers.indices.contains(buffer) else {
      throw .malformed("\(place) should refer to one of \(buffers.count) buffers; it refers to number \(buffer)")
    }
    let type = TFLiteSchema.elementTypes[code]
    var tensor = TFLiteTensor(
      name: name, type: type, shape: shape, signature: signature.flatMap { $0.isEmpty ? nil : $0 }, buffer: buffer,
      isVariable: try table.bool(TFLiteSchema.Tensor.isVariable))
    if let quantization = try table.table(TFLiteSchema.Tensor.quantization), let type, type.isInteger {
      if try quantization.uint8(TFLiteSchema.Quantization.detailsType) != 0 {
        tensor.obstacle = "its quantization is of the author's own kind or blockwise"
      } else {
        tensor.quantization = try Self.quantization(quantization, shape, place)
      }
    }
    if try table.has(TFLiteSchema.Tensor.sparsity) { tensor.obstacle = "it is stored sparse" }
    if try table.uint32(TFLiteSchema.Tensor.externalBuffer) != 0 {
      tensor.obstacle = "its elements lie in another file"
    }
    return tensor
  }

  private static func quantization(
    _ table: FlatTable, _ shape: [Int], _ place: String
  ) throws(LoadError) -> TFLiteQuantization? {
    let scales = try table.float32s(TFLiteSchema.Quantization.scale) ?? []
    if scales.isEmpty { return nil }
    var zeroPoints = try (table.int64s(TFLiteSchema.Quantization.zeroPoint) ?? []).map { Int($0) }
    // One zero point, or none, may stand for as many as there are scales.
    if zeroPoints.count <= 1 { zeroPoints = [Int](repeating: zeroPoints.first ?? 0, count: scales.count) }
    let axis = Int(try table.int32(TFLiteSchema.Quantization.dimension))
    guard zeroPoints.count == scales.count, scales.allSatisfy({ $0.isFinite && $0 >= 0 }) else {
      throw .malformed("\(place) should have finite scales and as many zero points; it has \(scales.count) scales")
    }
    guard scales.count == 1 || (shape.indices.contains(axis) && shape[axis] == scales.count) else {
      throw .malformed(
        "\(place) should have one scale or one for each index of axis \(axis) of \(shape); it has \(scales.count)")
    }
    return TFLiteQuantization(scales: scales, zeroPoints: zeroPoints, axis: scales.count == 1 ? 0 : axis)
  }

  // MARK: - Names

  private func signature(_ table: FlatTable) throws(LoadError) -> TFLiteSignature {
    let key = try table.string(TFLiteSchema.Signature.key) ?? ""
    let number = Int(try table.uint32(TFLiteSchema.Signature.subgraph))
    guard subgraphs.indices.contains(number) else {
      throw .malformed("signature '\(key)' should refer to one of \(subgraphs.count) subgraphs; it refers to \(number)")
    }
    let count = subgraphs[number].tensors.count
    var lists: [[(name: String, tensor: Int)]] = []
    for field in [TFLiteSchema.Signature.inputs, TFLiteSchema.Signature.outputs] {
      var names: [(name: String, tensor: Int)] = []
      for entry in try table.tables(field) {
        let tensor = Int(try entry.uint32(TFLiteSchema.TensorMap.tensor))
        guard tensor < count else {
          throw .malformed("signature '\(key)' should refer to one of \(count) tensors; it refers to \(tensor)")
        }
        names.append((try entry.string(TFLiteSchema.TensorMap.name) ?? "", tensor))
      }
      lists.append(names)
    }
    return TFLiteSignature(key: key, subgraph: number, inputs: lists[0], outputs: lists[1])
  }

  private mutating func readMetadata(_ root: FlatTable) throws(LoadError) {
    for table in try root.tables(TFLiteSchema.Model.metadata) {
      let name = try table.string(TFLiteSchema.Metadata.name) ?? ""
      let number = Int(try table.uint32(TFLiteSchema.Metadata.buffer))
      guard buffers.indices.contains(number) else {
        throw .malformed("metadata '\(name)' should refer to one of \(buffers.count) buffers; it refers to \(number)")
      }
      metadata.append((name, buffers[number]))
    }
  }
}
