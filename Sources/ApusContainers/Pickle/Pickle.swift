// What a pickle says, as inert values: numbers, texts, containers, and records of what Python would have called.
// https://github.com/python/cpython/blob/main/Lib/pickletools.py describes the opcodes.

/// A value of a pickle. Containers, globals and records are places in `Pickle.objects`, so that what is shared, or lies
/// in itself, exists once.
package enum PickleValue: Sendable, Hashable {
  case none
  case bool(Bool)
  case int(Int)
  /// An integer beyond 64 bits: two's complement, lowest byte first.
  case bigInt([UInt8])
  case float(Double)
  case string(String)
  case bytes(ByteView)
  case object(Int)

  /// Long texts and bytes are hashed by their beginning: a pickle may use one as a key as often as it likes.
  package func hash(into hasher: inout Hasher) {
    switch self {
    case .none: hasher.combine(0)
    case .bool(let truth): hasher.combine(truth)
    case .int(let number): hasher.combine(number)
    case .bigInt(let bytes): hasher.combine(bytes.count)
    case .float(let number): hasher.combine(number)
    case .string(let text):
      hasher.combine(text.utf8.count)
      for byte in text.utf8.prefix(64) { hasher.combine(byte) }
    case .bytes(let view):
      hasher.combine(view.count)
      view.withUnsafeBytes { for byte in $0.prefix(64) { hasher.combine(byte) } }
    case .object(let index): hasher.combine(~index)
    }
  }
}

/// The name of something in a Python module. It is never looked up.
package struct PickleSymbol: Sendable, Hashable {
  package let module: String
  package let name: String

  package init(_ module: String, _ name: String) { (self.module, self.name) = (module, name) }
}

extension PickleSymbol: CustomStringConvertible {
  package var description: String { module + "." + name }
}

/// An object with parts.
package struct PickleObject: Sendable {
  package enum Kind: Sendable, Hashable {
    case list, tuple, dictionary, set, frozenSet
    case global(PickleSymbol)
    /// What `callable(*arguments)` would have been, called, or made by `__new__`.
    case record(callable: PickleValue, arguments: PickleValue)
    /// What the program that wrote the pickle keeps elsewhere, by its identifier.
    case persistent(PickleValue)
  }
  package internal(set) var kind: Kind
  /// The elements of a list, tuple or set; of a record, what was appended to it.
  package internal(set) var items: [PickleValue] = []
  /// The keys and values of a dictionary in turns; of a record, what was set in it.
  package internal(set) var pairs: [PickleValue] = []
  /// What `__setstate__` or `__dict__` would have been given.
  package internal(set) var state: PickleValue?

  init(_ kind: Kind, items: [PickleValue] = []) { (self.kind, self.items) = (kind, items) }

  /// Everything that this object refers to.
  package var children: [PickleValue] {
    var children = items + pairs
    if let state { children.append(state) }
    switch kind {
    case .record(let callable, let arguments): children += [callable, arguments]
    case .persistent(let identifier): children.append(identifier)
    default: break
    }
    return children
  }
}

/// One pickle that was read. Nothing of it was imported, called or evaluated.
package struct Pickle: Sendable {
  package struct Limits: Sendable, Hashable {
    package var maximumOpcodes = 5_000_000
    package var maximumMemo = 1_000_000
    /// Bytes of one text.
    package var maximumTextBytes = 16 << 20
    /// How deep objects may lie in each other.
    package var maximumDepth = 1000

    package init() {}
  }

  package internal(set) var root: PickleValue = .none
  package internal(set) var objects: [PickleObject] = []
  /// The bytes that the pickle took: what follows belongs to somebody else.
  package internal(set) var byteCount = 0
  package internal(set) var protocolVersion = 0

  /// Reads the pickle at the start of `bytes`.
  package init(_ bytes: ByteView, limits: Limits = Limits()) throws(LoadError) {
    var machine = PickleMachine(bytes, limits: limits)
    self = try machine.run()
    try checkDepth(limits.maximumDepth)
  }

  init() {}

  // MARK: - Access

  package func object(_ value: PickleValue) -> PickleObject? {
    if case .object(let index) = value { objects[index] } else { nil }
  }

  /// The elements of a list, tuple or set; nil for everything else.
  package func items(_ value: PickleValue) -> [PickleValue]? {
    guard let object = object(value) else { return nil }
    switch object.kind {
    case .list, .tuple, .set, .frozenSet: return object.items
    default: return nil
    }
  }

  /// The entries of a dictionary in its order, the last of those with equal keys; nil for everything else.
  package func entries(_ value: PickleValue) -> [(key: PickleValue, value: PickleValue)]? {
    guard let object = object(value), object.kind == .dictionary else { return nil }
    var places: [PickleValue: Int] = [:]
    var entries: [(key: PickleValue, value: PickleValue)] = []
    for index in stride(from: 0, to: object.pairs.count - 1, by: 2) {
      let (key, value) = (object.pairs[index], object.pairs[index + 1])
      if let place = places[key] {
        entries[place].value = value
      } else {
        places[key] = entries.count
        entries.append((key, value))
      }
    }
    return entries
  }

  /// The value of a text key of a dictionary.
  package func value(_ key: String, in dictionary: PickleValue) -> PickleValue? {
    entries(dictionary)?.first { $0.key == .string(key) }?.value
  }

  package func symbol(_ value: PickleValue) -> PickleSymbol? {
    if case .global(let symbol) = object(value)?.kind { symbol } else { nil }
  }

  /// What a record would have called, with its arguments; nil for everything else.
  package func call(_ value: PickleValue) -> (symbol: PickleSymbol, arguments: [PickleValue])? {
    guard case .record(let callable, let arguments) = object(value)?.kind, let symbol = symbol(callable),
      let arguments = items(arguments)
    else { return nil }
    return (symbol, arguments)
  }

  package func int(_ value: PickleValue) -> Int? { if case .int(let number) = value { number } else { nil } }
  package func bool(_ value: PickleValue) -> Bool? { if case .bool(let truth) = value { truth } else { nil } }
  package func string(_ value: PickleValue) -> String? { if case .string(let text) = value { text } else { nil } }

  /// The names of modules that the pickle mentions, each once, in the order of the alphabet.
  package var symbols: [PickleSymbol] {
    let symbols = objects.compactMap { if case .global(let symbol) = $0.kind { symbol } else { nil } }
    return Set(symbols).sorted { $0.description < $1.description }
  }

  /// Those of `symbols` that are called and that no reader here knows: what Python would have run.
  package var unknownCalls: [PickleSymbol] {
    var found: Set<PickleSymbol> = []
    for object in objects {
      guard case .record(let callable, _) = object.kind, let symbol = symbol(callable) else { continue }
      if !PickleSymbol.known.contains(symbol) { found.insert(symbol) }
    }
    return found.sorted { $0.description < $1.description }
  }

  /// Refuses objects that lie too deep in each other for whoever walks them. Every object is visited once; what lies in
  /// itself does not count as deeper.
  private func checkDepth(_ limit: Int) throws(LoadError) {
    // 0: not seen, -1: on the way down, else its depth.
    var depths = [Int32](repeating: 0, count: objects.count)
    var path: [(object: Int, children: [Int], next: Int, depth: Int32)] = []
    for start in objects.indices where depths[start] == 0 {
      depths[start] = -1
      path.append((start, childObjects(start), 0, 1))
      while let last = path.indices.last {
        if path[last].next == path[last].children.count {
          let (object, _, _, depth) = path.removeLast()
          depths[object] = depth
          if depth > limit { throw .limit("objects of the pickle lie more than \(limit) deep in each other") }
          if let parent = path.indices.last { path[parent].depth = max(path[parent].depth, depth + 1) }
          continue
        }
        let child = path[last].children[path[last].next]
        path[last].next += 1
        if depths[child] > 0 {
          path[last].depth = max(path[last].depth, depths[child] + 1)
        } else if depths[child] == 0 {
          if path.count >= limit { throw .limit("objects of the pickle lie more than \(limit) deep in each other") }
          depths[child] = -1
          path.append((child, childObjects(child), 0, 1))
        }
      }
    }
  }

  private func childObjects(_ index: Int) -> [Int] {
    objects[index].children.compactMap { if case .object(let child) = $0 { child } else { nil } }
  }
}

extension PickleSymbol {
  /// What the readers of this module understand when a pickle calls it.
  static let known: Set<PickleSymbol> = {
    var known: Set<PickleSymbol> = []
    let table: [String: [String]] = [
      "collections": ["OrderedDict", "defaultdict", "Counter"],
      "_codecs": ["encode"],
      "builtins": ["set", "frozenset", "list", "tuple", "dict", "bytearray", "complex", "slice"],
      "__builtin__": ["set", "frozenset", "list", "tuple", "dict", "bytearray", "complex", "slice"],
      "copyreg": ["_reconstructor"],
      "copy_reg": ["_reconstructor"],
      "torch._utils": [
        "_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_tensor_v3", "_rebuild_parameter",
        "_rebuild_parameter_with_state",
      ],
      "torch._tensor": ["_rebuild_from_type_v2"],
      "torch": ["Size", "device"],
      "torch.serialization": ["_get_layout"],
      "numpy": ["dtype", "ndarray"],
      "numpy.core.multiarray": ["_reconstruct", "scalar"],
      "numpy._core.multiarray": ["_reconstruct", "scalar"],
      "numpy.core.numeric": ["_frombuffer"],
      "numpy._core.numeric": ["_frombuffer"],
    ]
    for (module, names) in table { known.formUnion(names.map { PickleSymbol(module, $0) }) }
    return known
  }()
}
