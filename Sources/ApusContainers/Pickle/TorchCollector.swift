// Finds the tensors in the pickle of a checkpoint: in dictionaries, lists and whole modules.

import ApusTensor

/// Walks the objects of a pickle from the root. An object that is shared is walked under its first name; tensors, which
/// tied weights have under several names, come under each.
struct TorchCollector {
  private let pickle: Pickle
  private let storageBytes: (String) throws(LoadError) -> ByteView?
  private(set) var tensors: [TorchCheckpoint.Tensor] = []
  private(set) var skipped: [(name: String, reason: String)] = []
  private var storages: [String: TorchCheckpoint.Storage] = [:]
  private var walked: Set<Int> = []
  private var names: Set<String> = []

  init(_ pickle: Pickle, storageBytes: @escaping (String) throws(LoadError) -> ByteView?) {
    (self.pickle, self.storageBytes) = (pickle, storageBytes)
  }

  /// How a place in the checkpoint is named.
  private struct Name {
    var text = ""
    /// True behind a module, whose parts are joined by dots.
    var isModule = false

    func appending(_ part: String) -> Name {
      Name(text: text.isEmpty ? part : text + (isModule ? "." : "/") + part, isModule: isModule)
    }
  }

  /// Names of more bytes than anybody wrote are refused, and so are names that take more memory than the file.
  private static let maximumNameBytes = 4096
  private static let maximumNamesBytes = 1 << 28
  private var nameBytes = 0

  private struct Place {
    let value: PickleValue
    let name: Name
    /// The keys of a dictionary that `state_dict()` leaves out.
    var transient: Set<String> = []
  }

  mutating func collect(_ root: PickleValue) throws(LoadError) {
    // What is still to be walked, the next one last: no recursion.
    var waiting = [Place(value: root, name: Name())]
    while let place = waiting.popLast() {
      guard case .object(let index) = place.value else { continue }
      if try addTensor(place.value, place.name) { continue }
      guard walked.insert(index).inserted else { continue }
      let children = children(place)
      for child in children { try charge(child.name) }
      waiting += children.reversed()
    }
  }

  private mutating func charge(_ name: Name) throws(LoadError) {
    let count = name.text.utf8.count
    nameBytes += count
    if count > Self.maximumNameBytes || nameBytes > Self.maximumNamesBytes {
      throw LoadError(
        .limitExceeded, "names of at most \(Self.maximumNameBytes) bytes were expected; one has \(count)",
        path: String(name.text.prefix(100)))
    }
  }

  /// What lies in a container or module, with its name. The values of other records are not walked.
  private mutating func children(_ place: Place) -> [Place] {
    if let entries = pickle.entries(place.value) {
      return entries.compactMap { key, value in
        guard let text = keyText(key), !place.transient.contains(text) else { return nil }
        return Place(value: value, name: place.name.appending(text))
      }
    }
    if let items = pickle.items(place.value) {
      return items.enumerated().map { index, item in Place(value: item, name: place.name.appending(String(index))) }
    }
    // A module: its own tensors first, as state_dict() has them, then its parts. A state is looked at once.
    guard let state = pickle.object(place.value)?.state, case .object(let index) = state,
      pickle.object(state)?.kind == .dictionary, walked.insert(index).inserted
    else { return [] }
    var transient: Set<String> = []
    if let names = pickle.value("_non_persistent_buffers_set", in: state), case .object(let set) = names,
      walked.insert(set).inserted
    {
      transient = Set((pickle.items(names) ?? []).compactMap { pickle.string($0) })
    }
    let name = Name(text: place.name.text, isModule: true)
    return ["_parameters", "_buffers", "_modules"].compactMap { part in
      pickle.value(part, in: state).map {
        Place(value: $0, name: name, transient: part == "_buffers" ? transient : [])
      }
    }
  }

  private func keyText(_ key: PickleValue) -> String? {
    switch key {
    case .string(let text): text
    case .int(let number): String(number)
    default: nil
    }
  }

  // MARK: - Tensors

  /// Adds the tensor that `value` is; false if it is none.
  private mutating func addTensor(_ value: PickleValue, _ name: Name) throws(LoadError) -> Bool {
    var value = value
    var requiresGradient: Bool?
    // A parameter of a tensor, and a subclass that was rebuilt from its parts.
    while let (symbol, arguments) = pickle.call(value) {
      switch symbol.description {
      case "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state":
        guard arguments.count >= 2 else { throw malformed("a parameter should have a tensor", name) }
        requiresGradient = pickle.bool(arguments[1])
        value = arguments[0]
      // A parameter in a parameter leads nowhere new: objects refer to older ones only.
      case "torch._tensor._rebuild_from_type_v2":
        guard arguments.count >= 3, let inner = pickle.symbol(arguments[0]) else {
          throw malformed("a tensor should have a function that rebuilds it", name)
        }
        return try rebuild(inner, arguments[2], name, requiresGradient)
      default:
        guard case .record(_, let packed) = pickle.object(value)?.kind else { return false }
        return try rebuild(symbol, packed, name, requiresGradient)
      }
    }
    return false
  }

  private mutating func rebuild(
    _ symbol: PickleSymbol, _ packed: PickleValue, _ name: Name, _ requiresGradient: Bool?
  ) throws(LoadError) -> Bool {
    guard symbol.module == "torch._utils", symbol.name.hasPrefix("_rebuild") else { return false }
    guard ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"].contains(symbol.name) else {
      skipped.append((name.text, "it is rebuilt by \(symbol), which is not read"))
      return true
    }
    guard let arguments = pickle.items(packed), arguments.count >= 4, let offset = pickle.int(arguments[1]),
      let shape = numbers(arguments[2]), let strides = numbers(arguments[3])
    else { throw malformed("a tensor should have a storage, an offset, a shape and strides", name) }
    let storage = try storage(arguments[0], name)
    var dataType = storage.dataType
    if symbol.name == "_rebuild_tensor_v3", arguments.count >= 7 {
      dataType = pickle.symbol(arguments[6]).flatMap { TorchCollector.dataType(named: $0) }
    }
    guard let dataType else {
      skipped.append((name.text, "its element type is not one of ONNX"))
      return true
    }
    try Self.check(shape, strides, offset, dataType, storage, name.text)
    let gradient = requiresGradient ?? (arguments.count > 4 ? pickle.bool(arguments[4]) : nil) ?? false
    guard names.insert(name.text).inserted else {
      throw malformed("the file should have one tensor of this name; it has two", name)
    }
    tensors.append(
      TorchCheckpoint.Tensor(
        name: name.text, dataType: dataType, shape: shape, strides: strides, offset: offset, storage: storage,
        requiresGradient: gradient))
    return true
  }

  /// A tuple of numbers, or the torch.Size of one.
  private func numbers(_ value: PickleValue) -> [Int]? {
    if let (symbol, arguments) = pickle.call(value), symbol == PickleSymbol("torch", "Size"), arguments.count == 1 {
      return numbers(arguments[0])
    }
    guard let items = pickle.items(value), items.count <= 64 else { return nil }
    var numbers: [Int] = []
    for item in items {
      guard let number = pickle.int(item), number >= 0 else { return nil }
      numbers.append(number)
    }
    return numbers
  }

  /// Every element must lie in the storage.
  static func check(
    _ shape: [Int], _ strides: [Int], _ offset: Int, _ dataType: DataType, _ storage: TorchCheckpoint.Storage,
    _ name: String
  ) throws(LoadError) {
    func malformed(_ message: String) -> LoadError { LoadError(.malformed, message, path: name) }
    guard shape.count == strides.count, offset >= 0, dataType.byteWidth > 0 else {
      throw malformed("a tensor should have as many strides as dimensions; found \(strides) for \(shape)")
    }
    var count = 1
    for size in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      if overflow { throw malformed("the product of the dimensions \(shape) is too large") }
      count = product
    }
    if count == 0 {
      // No element, but a first one that is asked for by its offset.
      if offset > storage.bytes.count / dataType.byteWidth {
        throw malformed("the offset \(offset) lies behind the storage")
      }
      return
    }
    var last = offset
    for (size, stride) in zip(shape, strides) {
      let (step, first) = (size - 1).multipliedReportingOverflow(by: stride)
      let (sum, second) = last.addingReportingOverflow(step)
      if first || second { throw malformed("the strides \(strides) are too large") }
      last = sum
    }
    let available = storage.bytes.count / dataType.byteWidth
    guard last < available else {
      throw malformed(
        "the last element should be one of the \(available) of storage \(storage.key); it is number \(last)")
    }
  }

  private func malformed(_ message: String, _ name: Name) -> LoadError {
    LoadError(.malformed, message, path: name.text)
  }

  // MARK: - Storages

  /// What a persistent identifier says: ('storage', type, key, device, count), and a sixth part in legacy files.
  private struct StorageName {
    let key: String
    let symbol: PickleSymbol
    let device: String
    let count: Int
    let isView: Bool

    init?(_ value: PickleValue, _ pickle: Pickle) {
      guard case .persistent(let identifier) = pickle.object(value)?.kind, let parts = pickle.items(identifier),
        parts.count == 5 || parts.count == 6, parts[0] == .string("storage"), let symbol = pickle.symbol(parts[1]),
        let key = pickle.string(parts[2]), let count = pickle.int(parts[4]), count >= 0
      else { return nil }
      (self.symbol, self.key, self.count) = (symbol, key, count)
      device = pickle.string(parts[3]) ?? "?"
      isView = parts.count == 6 && parts[5] != .none
    }
  }

  private mutating func storage(_ value: PickleValue, _ name: Name) throws(LoadError) -> TorchCheckpoint.Storage {
    guard let found = StorageName(value, pickle) else {
      throw malformed("a tensor should have a storage; found another object", name)
    }
    if let known = storages[found.key] { return known }
    guard let kind = TorchCollector.storageType(found.symbol) else {
      throw LoadError(.unsupported, "storages of type \(found.symbol) are not read", path: name.text)
    }
    if found.isView {
      throw LoadError(
        .unsupported, "views of storages, which PyTorch before 0.4 wrote, are not read",
        remedy: "Load the file and save it again with PyTorch", path: name.text)
    }
    guard !found.key.contains("/"), let bytes = try storageBytes(found.key) else {
      throw malformed("storage \(found.key) should be in the file", name)
    }
    let (byteCount, overflow) = found.count.multipliedReportingOverflow(by: kind.width)
    guard !overflow, byteCount <= bytes.count else {
      throw malformed(
        "storage \(found.key) should have \(found.count) elements of \(kind.width) bytes; it has \(bytes.count) bytes",
        name)
    }
    let storage = TorchCheckpoint.Storage(
      key: found.key, dataType: kind.type, bytes: try bytes.slice(0, byteCount, "a storage"), device: found.device)
    storages[found.key] = storage
    return storage
  }

  /// The bytes of an element of each storage that the pickle names, by key.
  static func storageWidths(_ pickle: Pickle) throws(LoadError) -> [String: Int] {
    var widths: [String: Int] = [:]
    for index in pickle.objects.indices {
      guard let found = StorageName(.object(index), pickle) else { continue }
      guard let kind = storageType(found.symbol) else {
        throw .unsupported("storages of type \(found.symbol) are not read")
      }
      widths[found.key] = kind.width
    }
    return widths
  }

  /// The element type of a storage class and its bytes; nil as type for bytes without one, nil for unknown classes.
  private static func storageType(_ symbol: PickleSymbol) -> (type: DataType?, width: Int)? {
    if symbol == PickleSymbol("torch.storage", "UntypedStorage")
      || symbol == PickleSymbol("torch", "UntypedStorage")
    {
      return (nil, 1)
    }
    guard symbol.module == "torch" || symbol.module == "torch.cuda" else { return nil }
    let types: [String: DataType] = [
      "FloatStorage": .float32, "DoubleStorage": .float64, "HalfStorage": .float16, "BFloat16Storage": .bfloat16,
      "LongStorage": .int64, "IntStorage": .int32, "ShortStorage": .int16, "CharStorage": .int8,
      "ByteStorage": .uint8, "BoolStorage": .bool, "ComplexFloatStorage": .complex64,
      "ComplexDoubleStorage": .complex128,
    ]
    let quantized = ["QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1]
    if let width = quantized[symbol.name] { return (nil, width) }
    return types[symbol.name].map { ($0, $0.byteWidth) }
  }

  /// The element type that `torch.NAME` is.
  private static func dataType(named symbol: PickleSymbol) -> DataType? {
    guard symbol.module == "torch" else { return nil }
    let types: [String: DataType] = [
      "float8_e4m3fn": .float8e4m3fn, "float8_e4m3fnuz": .float8e4m3fnuz, "float8_e5m2": .float8e5m2,
      "float8_e5m2fnuz": .float8e5m2fnuz, "float8_e8m0fnu": .float8e8m0, "uint16": .uint16, "uint32": .uint32,
      "uint64": .uint64, "float32": .float32, "float64": .float64, "float16": .float16, "bfloat16": .bfloat16,
      "int64": .int64, "int32": .int32, "int16": .int16, "int8": .int8, "uint8": .uint8, "bool": .bool,
      "complex64": .complex64, "complex128": .complex128,
    ]
    return types[symbol.name]
  }
}
