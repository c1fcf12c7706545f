// What HDF5 files, files of PyTorch, pickles and FlatBuffers hold.

import Apus
import ApusFormats
import ApusTensor

extension Inspection {
  /// The format of this file that the bytes begin like.
  static func objectFormat(_ head: ByteView) -> Format? {
    if HDF5File.isHDF5(head) { return .hdf5 }
    if TorchCheckpoint.isLegacy(head) { return .torch }
    // PROTO and the number of a protocol; 0 and 1 have no mark.
    if let (mark, number) = try? (head.u8(0), head.u8(1)), mark == 0x80, (2...5).contains(number) { return .pickle }
    if let identifier = try? head.slice(4, 4, "").text, flatBuffers[identifier] != nil { return .flatbuffer }
    return nil
  }

  mutating func readObjects(_ file: FileBytes, _ format: Format, checks: Bool) throws(LoadError) {
    let mapped = try file.mapped()
    switch format {
    case .hdf5:
      var walk = HDF5Walk(checks: checks)
      entries = try walk.entries(of: HDF5File(mapped).root, depth: 1)
    case .torch: add(try TorchCheckpoint(mapped))
    case .pickle: try addValues(Pickle(mapped.view()), bytes: mapped.count)
    default: try addFlatBuffer(mapped.view())
    }
    if mapped.isDamaged { throw LoadError(.cannotRead, "the file became shorter, or its disk failed, meanwhile") }
  }

  // MARK: - PyTorch

  /// Adds the tensors of an archive of PyTorch. The folder of its files; nil for other archives. One whose pickle is
  /// refused is shown as its files, with the reason.
  mutating func readCheckpoint(_ archive: ZipArchive) throws(LoadError) -> String? {
    let pickles = TorchCheckpoint.pickles(of: archive)
    guard pickles.count == 1, let name = pickles.first?.name else { return nil }
    let archive = try ZipArchive(archive.file.mapped())
    do throws(LoadError) {
      let checkpoint = try TorchCheckpoint(archive: archive, checks: false)
      format = Format.torch.rawValue
      add(checkpoint)
      return String(name.dropLast("data.pkl".count))
    } catch {
      metadata["refused"] = "\(name): \(error)"
      return nil
    }
  }

  private mutating func add(_ checkpoint: TorchCheckpoint) {
    metadata["form"] = checkpoint.isLegacy ? "before PyTorch 1.6" : "zip"
    for tensor in checkpoint.tensors {
      let storage = tensor.storage
      let width = tensor.dataType.byteWidth
      entries.append(
        Entry(
          name: tensor.name, kind: "tensor", type: "\(tensor.dataType)", shape: tensor.shape,
          bytes: tensor.dataType.byteCount(elements: tensor.count),
          offset: storage.bytes.fileOffset + tensor.offset * width,
          strides: tensor.isContiguous ? nil : tensor.strides,
          storage: Storage(key: storage.key, bytes: storage.bytes.count, device: storage.device)))
    }
    entries += checkpoint.skipped.map { Entry(name: $0.name, kind: "tensor", note: $0.reason) }
    addSymbols(of: checkpoint.pickle)
  }

  // MARK: - Pickles

  private mutating func addSymbols(of pickle: Pickle) {
    globals = pickle.symbols.map(\.description)
    calls = pickle.unknownCalls.map(\.description)
  }

  private mutating func addValues(_ pickle: Pickle, bytes: Int) throws(LoadError) {
    metadata["protocol"] = "\(pickle.protocolVersion)"
    if pickle.byteCount < bytes { metadata["bytes behind the pickle"] = "\(bytes - pickle.byteCount)" }
    addSymbols(of: pickle)
    if let members = pickle.entries(pickle.root) {
      entries = members.map { key, value in
        Self.value(pickle.string(key) ?? Self.text(key, pickle), value, pickle)
      }
    } else {
      entries = [Self.value("", pickle.root, pickle)]
    }
  }

  private static func value(_ name: String, _ value: PickleValue, _ pickle: Pickle) -> Entry {
    var entry = Entry(name: name, kind: "value")
    switch value {
    case .none: entry.type = "None"
    case .bool: entry.type = "bool"
    case .int, .bigInt: entry.type = "int"
    case .float: entry.type = "float"
    case .string: entry.type = "str"
    case .bytes(let bytes): (entry.type, entry.bytes) = ("bytes", bytes.count)
    case .object(let index):
      let object = pickle.objects[index]
      switch object.kind {
      case .list: (entry.type, entry.shape) = ("list", [object.items.count])
      case .tuple: (entry.type, entry.shape) = ("tuple", [object.items.count])
      case .set, .frozenSet: (entry.type, entry.shape) = ("set", [object.items.count])
      case .dictionary: (entry.type, entry.shape) = ("dict", [pickle.entries(value)?.count ?? 0])
      case .global(let symbol): (entry.kind, entry.value) = ("global", symbol.description)
      case .record(let callable, _):
        (entry.kind, entry.value) = ("record", pickle.symbol(callable)?.description ?? "?")
      case .persistent: entry.kind = "persistent"
      }
      return entry
    }
    entry.value = short(text(value, pickle))
    return entry
  }

  private static func text(_ value: PickleValue, _ pickle: Pickle) -> String {
    switch value {
    case .none: "None"
    case .bool(let truth): truth ? "True" : "False"
    case .int(let number): String(number)
    case .bigInt(let bytes): "\(8 * bytes.count) bits"
    case .float(let number): "\(number)"
    case .string(let text): text
    case .bytes(let bytes): "\(bytes.count) bytes"
    case .object: "an object"
    }
  }

  private static let longestValue = 200

  /// A text as it is, or its beginning.
  static func short(_ text: String) -> String {
    text.utf8.count <= longestValue ? text : String(text.prefix(longestValue)) + "…"
  }

  // MARK: - FlatBuffers

  /// What the identifiers at byte 4 stand for.
  private static let flatBuffers = ["TFL3": "TensorFlow Lite", "ORTM": "ONNX Runtime"]

  private mutating func addFlatBuffer(_ bytes: ByteView) throws(LoadError) {
    let identifier = try bytes.slice(4, 4, "the identifier").text ?? ""
    let root = try FlatBuffer(bytes, identifier: identifier).root()
    (metadata["identifier"], metadata["kind"]) = (identifier, Self.flatBuffers[identifier])
    switch identifier {
    case "TFL3":
      metadata["version"] = "\(try root.uint32(0))"
      metadata["operators"] = "\(try root.vector(1, stride: 4)?.count ?? 0)"
      metadata["subgraphs"] = "\(try root.vector(2, stride: 4)?.count ?? 0)"
      metadata["description"] = try root.string(3).map(Self.short)
      metadata["buffers"] = "\(try root.vector(4, stride: 4)?.count ?? 0)"
    default:
      metadata["version"] = try root.string(0).map(Self.short)
      if let model = try root.table(1) { try addSession(model) }
    }
  }

  /// The model in a file of ONNX Runtime.
  private mutating func addSession(_ model: FlatTable) throws(LoadError) {
    metadata["IR version"] = "\(try model.int64(0))"
    metadata["producer"] = try model.string(2).map(Self.short)
    for pair in try model.tables(9) {
      entries.append(
        Entry(
          name: Self.short(try pair.string(0) ?? ""), kind: "attribute", type: "string",
          value: Self.short(try pair.string(1) ?? "")))
    }
    var opsets: [String] = []
    for opset in try model.tables(1) {
      let domain = try opset.string(0) ?? ""
      opsets.append("\(domain.isEmpty ? "ai.onnx" : Self.short(domain)) \(try opset.int64(1))")
    }
    metadata["operator sets"] = opsets.joined(separator: ", ")
    guard let graph = try model.table(7) else { return }
    metadata["nodes"] = "\(try graph.vector(2, stride: 4)?.count ?? 0)"
    metadata["inputs"] = try graph.strings(5).map(Self.short).joined(separator: ", ")
    metadata["outputs"] = try graph.strings(6).map(Self.short).joined(separator: ", ")
    for tensor in try graph.tables(0) {
      let number = try tensor.int32(3)
      var entry = Entry(
        name: Self.short(try tensor.string(0) ?? ""), kind: "tensor",
        type: DataType(rawValue: number).map { "\($0)" } ?? "type \(number)",
        shape: try (tensor.int64s(2) ?? []).map { Int($0) })
      if let bytes = try tensor.bytes(4) { (entry.bytes, entry.offset) = (bytes.count, bytes.fileOffset) }
      entries.append(entry)
    }
  }
}

/// Walks the groups of an HDF5 file. Objects that several links lead to are opened once.
struct HDF5Walk {
  /// Whether datasets are read, which compares the checksums that they have.
  let checks: Bool
  private var paths: [Int: String] = [:]

  private static let maximumDepth = 64
  /// Elements of an attribute that are shown.
  private static let shownElements = 16

  init(checks: Bool) { self.checks = checks }

  mutating func entries(of group: HDF5Object, depth: Int) throws(LoadError) -> [Inspection.Entry] {
    if depth > Self.maximumDepth { throw .limit("groups lie more than \(Self.maximumDepth) deep in each other") }
    paths[group.address] = group.path
    var entries = attributes(of: group)
    for link in try group.links() {
      do throws(LoadError) {
        entries.append(try entry(link, of: group, depth: depth))
      } catch {
        if error.code == .malformed || error.code == .limitExceeded { throw error }
        entries.append(Inspection.Entry(name: link.name, kind: "object", note: error.message))
      }
    }
    return entries
  }

  private mutating func entry(
    _ link: HDF5Link, of group: HDF5Object, depth: Int
  ) throws(LoadError) -> Inspection.Entry {
    var entry = Inspection.Entry(name: link.name, kind: "link")
    if case .soft(let target) = link.target {
      entry.value = target
      return entry
    }
    let object = try group.open(link)
    if let path = paths[object.address] {
      entry.value = path
      return entry
    }
    paths[object.address] = object.path
    if object.isGroup {
      entry.kind = "group"
      do throws(LoadError) {
        entry.entries = try entries(of: object, depth: depth + 1)
      } catch {
        if error.code != .unsupported { throw error }
        entry.note = error.message
      }
      return entry
    }
    entry.kind = object.isDataset ? "tensor" : "type"
    let attributes = attributes(of: object)
    if !attributes.isEmpty { entry.entries = attributes }
    guard object.isDataset else { return entry }
    do throws(LoadError) {
      let (type, shape) = try object.contents()
      (entry.type, entry.shape, entry.bytes) = (Self.name(type), shape, Self.byteCount(type, shape))
      if checks { _ = try object.values() }
    } catch {
      if error.code != .unsupported { throw error }
      entry.note = error.message
    }
    return entry
  }

  private static func name(_ type: HDF5Datatype) -> String {
    if case .opaque(let tag) = type.kind { return "opaque '\(tag)'" }
    return type.dataType.map { "\($0)" } ?? "?"
  }

  /// nil if there are more bytes than can be counted.
  private static func byteCount(_ type: HDF5Datatype, _ shape: [Int]) -> Int? {
    var count = type.byteCount
    for dimension in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
      if overflow { return nil }
      count = product
    }
    return count
  }

  private func attributes(of object: HDF5Object) -> [Inspection.Entry] {
    do throws(LoadError) {
      return try object.attributes().map { attribute in
        var entry = Inspection.Entry(name: attribute.name, kind: "attribute", shape: attribute.values.shape)
        do throws(LoadError) {
          entry.type = Self.name(try attribute.values.type)
          entry.value = try value(attribute.values)
        } catch {
          (entry.shape, entry.note) = (nil, error.message)
        }
        return entry
      }
    } catch {
      return [Inspection.Entry(name: "", kind: "attributes", note: error.message)]
    }
  }

  private func value(_ values: HDF5Values) throws(LoadError) -> String? {
    guard values.count <= Self.shownElements else { return nil }
    let parts: [String]
    switch try values.type.dataType {
    case .string: parts = try values.strings()
    case .float32, .float64: parts = try values.doubles().map { "\($0)" }
    case .some(let type) where type.isInteger || type == .bool: parts = try values.integers().map(String.init)
    default: return nil
    }
    return Inspection.short(parts.joined(separator: ", "))
  }
}
