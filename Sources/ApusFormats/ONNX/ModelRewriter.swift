// An ONNX file as it is, but for where its weights lie and what its header says. It goes through piece by piece, so a
// model of any size takes little memory, and what Apus does not know of it stays.

import ApusTensor

/// Changes of what a model says of itself.
package struct HeaderChanges: Sendable {
  /// Entries of the metadata: set, or taken out where the value is nil.
  package var metadata: [(key: String, value: String?)] = []
  package var documentation: String?
  package var modelVersion: Int?
  package var irVersion: Int?

  /// The IR versions that are written: from the one in which initializers need not be inputs.
  package static let irVersions = 4...14

  package init() {}

  package var isEmpty: Bool { metadata.isEmpty && documentation == nil && modelVersion == nil && irVersion == nil }

  /// The entries after the changes, the new ones behind. Throws if an entry that is to be taken out is not there.
  package func apply(
    to entries: [(key: String, value: String)]
  ) throws(LoadError) -> [(key: String, value: String)] {
    var entries = entries
    for (key, value) in metadata {
      let position = entries.firstIndex { $0.key == key }
      if value == nil, position == nil {
        let names = entries.map { "'\($0.key)'" }.joined(separator: ", ")
        throw LoadError(
          .unsupported, "an entry of the metadata was expected to take out; there is no '\(key)'",
          remedy: names.isEmpty ? "The model has no metadata" : "There are \(names)")
      }
      entries.removeAll { $0.key == key }
      if let value { entries.insert((key, value), at: position ?? entries.count) }
    }
    return entries
  }
}

extension HeaderChanges {
  static let metadataField: UInt32 = 14

  /// The fields of ModelProto that are written anew.
  var replacedFields: Set<UInt32> {
    var fields: Set<UInt32> = []
    if !metadata.isEmpty { fields.insert(Self.metadataField) }
    if irVersion != nil { fields.insert(1) }
    if modelVersion != nil { fields.insert(5) }
    if documentation != nil { fields.insert(6) }
    return fields
  }

  /// These fields, after a model with the metadata `entries`.
  func fields(_ entries: [(key: String, value: String)]) throws(LoadError) -> [UInt8] {
    var writer = WireWriter()
    if let irVersion { writer.varint(1, irVersion) }
    if let modelVersion { writer.varint(5, modelVersion) }
    if let documentation { writer.text(6, documentation) }
    if !metadata.isEmpty {
      for (key, value) in try apply(to: entries) {
        writer.message(Self.metadataField) { StringEntry(key: key, value: value).write(to: &$0) }
      }
    }
    return writer.bytes
  }
}

/// Writes an ONNX file with its weights at another place, or with another header.
package struct ModelRewriter {
  private let file: FileBytes
  private let folder: ExternalDataFolder
  private let placement: WeightPlacement
  private let header: HeaderChanges
  private let limits: LoadLimits
  private var location = ""
  private var side: SideFile

  /// What protobuf can hold.
  private static let largestFile = Int(Int32.max)
  private static let tensorHolders: Set<MessageType> = [.graph, .node, .attribute, .function, .sparseTensor]
  /// The fields of TensorProto that hold elements or say where they are.
  private static let elementFields: Set<UInt32> = [4, 5, 6, 7, 9, 10, 11, 13, 14]

  /// The model in `file`, in the binary form. Weights in side files are looked for in `folder`.
  package init(
    _ file: FileBytes, folder: ExternalDataFolder, placing placement: WeightPlacement = .asRead,
    header: HeaderChanges = HeaderChanges(), limits: LoadLimits
  ) {
    (self.file, self.folder, self.placement, self.header, self.limits) = (file, folder, placement, header, limits)
    var layout = SideFileLayout()
    if case .external(let wanted) = placement { layout = wanted }
    side = SideFile(layout)
  }

  /// Writes the model to `path`. Both files get their names when both are whole.
  package consuming func write(to path: String) throws(LoadError) -> WrittenModel {
    var rewriter = self
    do throws(LoadError) {
      return try rewriter.written(to: path)
    } catch {
      throw error.inFile(rewriter.file.name)
    }
  }

  /// The bytes of the model, whose weights must not go to another file.
  package consuming func bytes() throws(LoadError) -> [UInt8] {
    var rewriter = self
    do throws(LoadError) {
      var bytes: [UInt8] = []
      try rewriter.model().forEachPiece { (piece: Span<UInt8>) throws(LoadError) in bytes.append(contentsOf: piece) }
      return bytes
    } catch {
      throw error.inFile(rewriter.file.name)
    }
  }

  private mutating func model() throws(LoadError) -> ByteRope {
    let whole = 0..<file.count
    let changed = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try message(whole, .model, bytes, depth: 0)
    }
    return changed ?? ByteRope(file, whole)
  }

  private mutating func written(to path: String) throws(LoadError) -> WrittenModel {
    let sidePath = try side.layout.path(beside: path)
    location = sidePath.split(separator: "/").last.map(String.init) ?? sidePath
    let model = try model()
    if model.count > Self.largestFile {
      throw LoadError(
        .limitExceeded, "a file of ONNX holds less than 2 GiB; with its weights this model takes \(model.count) bytes",
        remedy: "Leave the weights in a file beside it")
    }
    var written = WrittenModel()
    written.bytes = model.count
    if side.isEmpty {
      var output = try OutputFile(path: path)
      try model.write(to: &output)
      try output.commit()
      return written
    }
    try OutputFile.check(sidePath, isNoneOf: [path, file.name], "the model itself lies in it")
    var weights = try OutputFile(path: sidePath)
    try side.write(to: &weights)
    var output = try OutputFile(path: path)
    try model.write(to: &output)
    try weights.commit()
    try output.commit()
    (written.sideFile, written.sideBytes) = (sidePath, side.count)
    (written.sideTensors, written.sharedBytes) = (side.tensors, side.sharedBytes)
    return written
  }

  // MARK: - Messages

  /// The message in `range` with its tensors moved; nil if it stays as it is.
  private mutating func message(
    _ range: Range<Int>, _ type: MessageType, _ bytes: Span<UInt8>, depth: Int
  ) throws(LoadError) -> ByteRope? {
    if depth > limits.maximumNesting {
      throw .limit("maximumNesting", limits.maximumNesting, found: "messages lie deeper in each other")
    }
    var reader = WireReader(range)
    var rope = ByteRope()
    var copied = range.lowerBound
    var isChanged = false
    let replaced = type == .model ? header.replacedFields : []
    var metadata: [(key: String, value: String)] = []
    while !reader.isAtEnd {
      let start = reader.position
      let (number, wire) = try reader.tag(bytes)
      let value = try reader.value(wire, bytes)
      if replaced.contains(number) {
        if number == HeaderChanges.metadataField { metadata.append(try entry(value, bytes)) }
        rope.append(file, copied..<start)
        (copied, isChanged) = (value.upperBound, true)
        continue
      }
      guard wire == .bytes, case .message(let inner)? = type.field(number)?.rule else { continue }
      let changed: ByteRope? =
        if inner == .tensor {
          try tensor(value, bytes)
        } else if Self.tensorHolders.contains(inner) {
          try message(value, inner, bytes, depth: depth + 1)
        } else {
          nil
        }
      guard let changed else { continue }
      rope.append(file, copied..<start)
      rope.append(field: number, changed)
      (copied, isChanged) = (value.upperBound, true)
    }
    guard isChanged || !replaced.isEmpty else { return nil }
    rope.append(file, copied..<range.upperBound)
    if !replaced.isEmpty { rope.append(try header.fields(metadata)) }
    return rope
  }

  /// An entry of the metadata.
  private func entry(_ range: Range<Int>, _ bytes: Span<UInt8>) throws(LoadError) -> (key: String, value: String) {
    var reader = WireReader(range)
    var texts = ["", ""]
    while !reader.isAtEnd {
      let (number, wire) = try reader.tag(bytes)
      let value = try reader.value(wire, bytes)
      guard (1...2).contains(number) else { continue }
      texts[Int(number) - 1] = String(decoding: value.map { bytes[$0] }, as: UTF8.self)
    }
    return (texts[0], texts[1])
  }

  /// The tensor in `range` with its elements at another place; nil if it stays as it is.
  private mutating func tensor(_ range: Range<Int>, _ bytes: Span<UInt8>) throws(LoadError) -> ByteRope? {
    if placement == .asRead { return nil }
    let proto = try ProtobufUnpack.tensor(WireScanner.scan(bytes.extracting(range), as: .tensor, limits: limits))
    guard let dataType = DataType(rawValue: proto.dataType), dataType != .string else { return nil }
    do throws(LoadError) {
      switch proto.content {
      case .external(let entries):
        let size = try TensorDecoder(file: file, external: folder, limits: limits).size(proto.dims, dataType).byteCount
        let (source, place) = try folder.place(entries, "\(dataType)\(Shape(proto.dims))", byteCount: size)
        if placement == .embedded || side.layout.staysReadable(dataType, proto.dims) {
          return try embedded(range, bytes, ByteRope(source, place))
        }
        return try external(range, bytes, at: side.add(source, place), count: place.count)
      case .payloads(let payloads):
        if placement == .embedded || side.layout.staysReadable(dataType, proto.dims) { return nil }
        return try moved(range, bytes, proto, payloads, dataType)
      case .tensor, .unsupported: return nil
      }
    } catch {
      throw proto.name.isEmpty ? error : error.under("tensor '\(proto.name)'")
    }
  }

  private mutating func moved(
    _ range: Range<Int>, _ bytes: Span<UInt8>, _ proto: TensorProto, _ payloads: [TensorPayload], _ dataType: DataType
  ) throws(LoadError) -> ByteRope? {
    if let raw = payloads.last(where: { $0.field == .rawData }), raw.range.count >= side.layout.smallest {
      let place = (range.lowerBound + raw.range.lowerBound)..<(range.lowerBound + raw.range.upperBound)
      return try external(range, bytes, at: side.add(file, place), count: place.count)
    }
    // Elements in fields by their type: as they lie in memory they may take more bytes, or fewer.
    let largest = payloads.reduce(0) { $0 + $1.range.count } * MemoryLayout<Int64>.size
    guard largest >= side.layout.smallest, payloads.allSatisfy({ $0.field != .rawData }) else { return nil }
    let decoder = TensorDecoder(file: try file.part(range), external: folder, limits: limits)
    let tensor = try decoder.tensor(proto)
    guard tensor.byteCount >= side.layout.smallest else { return nil }
    let elements = tensor.withByteSpan { (span: Span<UInt8>) in span.indices.map { span[$0] } }
    return try external(range, bytes, at: side.add(elements), count: elements.count)
  }

  // MARK: - Tensors

  private func embedded(_ range: Range<Int>, _ bytes: Span<UInt8>, _ elements: ByteRope) throws(LoadError) -> ByteRope {
    var rope = try withoutElements(range, bytes)
    rope.append(field: 9, elements)
    return rope
  }

  private func external(
    _ range: Range<Int>, _ bytes: Span<UInt8>, at offset: Int, count: Int
  ) throws(LoadError) -> ByteRope {
    var rope = try withoutElements(range, bytes)
    var writer = WireWriter()
    for entry in StringEntry.place(location, offset, count) { writer.message(13) { entry.write(to: &$0) } }
    writer.varint(14, 1)
    rope.append(writer.bytes)
    return rope
  }

  /// The fields of a tensor that say what it is.
  private func withoutElements(_ range: Range<Int>, _ bytes: Span<UInt8>) throws(LoadError) -> ByteRope {
    var reader = WireReader(range)
    var rope = ByteRope()
    while !reader.isAtEnd {
      let start = reader.position
      let (number, wire) = try reader.tag(bytes)
      _ = try reader.value(wire, bytes)
      if !Self.elementFields.contains(number) { rope.append(file, start..<reader.position) }
    }
    return rope
  }
}
