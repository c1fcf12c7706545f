// Runs the opcodes of a pickle, protocols 0 to 5, on a stack of inert values.

/// The state of a pickle half read.
struct PickleMachine {
  private var reader: ByteReader
  private let limits: Pickle.Limits
  private var pickle = Pickle()
  private var stack: [PickleValue] = []
  /// The heights of the stack at which marks lie.
  private var marks: [Int] = []
  private var memo: [PickleValue?] = []
  /// Filled places of the memo: what MEMOIZE counts.
  private var memoized = 0
  private var opcodeOffset = 0
  /// Elements that were copied from one container to another. Pickles that were written copy each once.
  private var copied = 0
  private var isStopped = false

  init(_ bytes: ByteView, limits: Pickle.Limits) {
    reader = ByteReader(bytes)
    self.limits = limits
  }

  mutating func run() throws(LoadError) -> Pickle {
    var opcodes = 0
    while !isStopped {
      opcodeOffset = reader.fileOffset
      opcodes += 1
      if opcodes > limits.maximumOpcodes {
        throw .limit("the pickle has more than \(limits.maximumOpcodes) opcodes", at: opcodeOffset)
      }
      let code = try reader.u8("an opcode of a pickle")
      guard let opcode = PickleOpcode(rawValue: code) else {
        throw .malformed("an opcode of a pickle was expected; found \(code)", at: opcodeOffset)
      }
      try step(opcode)
    }
    pickle.byteCount = reader.position
    return pickle
  }

  private mutating func step(_ opcode: PickleOpcode) throws(LoadError) {
    switch opcode {
    case .proto:
      pickle.protocolVersion = Int(try reader.u8("the protocol of a pickle"))
      guard pickle.protocolVersion <= 5 else {
        throw .unsupported("pickles of protocol 0 to 5 are read; found \(pickle.protocolVersion)", at: opcodeOffset)
      }
    case .frame: _ = try reader.u64("the length of a frame")
    case .stop:
      pickle.root = try pop()
      isStopped = true
    case .mark:
      if marks.count >= limits.maximumDepth {
        throw .limit("more than \(limits.maximumDepth) marks are open", at: opcodeOffset)
      }
      marks.append(stack.count)
    case .pop:
      if let mark = marks.last, mark == stack.count { marks.removeLast() } else { _ = try pop() }
    case .popMark: _ = try popToMark()
    case .dup: stack.append(try top())
    case .extension1, .extension2, .extension4:
      throw .unsupported("the pickle refers to the registry of extensions of a program", at: opcodeOffset)
    case .nextBuffer, .readOnlyBuffer:
      throw .unsupported("the pickle refers to buffers that are kept outside of it", at: opcodeOffset)
    case .get, .binaryGet, .longBinaryGet, .put, .binaryPut, .longBinaryPut, .memoize: try stepMemo(opcode)
    case .global, .stackGlobal, .inst, .object, .reduce, .newObject, .newObjectEx, .build, .persistentID,
      .binaryPersistentID:
      try stepObject(opcode)
    case .list, .emptyList, .append, .appends, .tuple, .emptyTuple, .tuple1, .tuple2, .tuple3, .dictionary,
      .emptyDictionary, .setItem, .setItems, .emptySet, .addItems, .frozenSet:
      try stepContainer(opcode)
    default: stack.append(try scalar(opcode))
    }
  }

  // MARK: - Numbers and texts

  private mutating func scalar(_ opcode: PickleOpcode) throws(LoadError) -> PickleValue {
    switch opcode {
    case .none: return .none
    case .newTrue: return .bool(true)
    case .newFalse: return .bool(false)
    case .binaryInt: return .int(Int(Int32(bitPattern: try reader.u32("an integer"))))
    case .binaryInt1: return .int(Int(try reader.u8("an integer")))
    case .binaryInt2: return .int(Int(try reader.u16("an integer")))
    case .int: return try decimal(line("an integer"))
    case .long:
      let text = try line("an integer")
      return try decimal(text.hasSuffix("L") ? String(text.dropLast()) : text)
    case .long1: return try integer(Int(reader.u8("the length of an integer")))
    case .long4: return try integer(reader.length(bytes: 4, "the length of an integer"))
    case .float:
      let text = try line("a float")
      guard let number = Double(text) else {
        throw .malformed("a float was expected; found '\(text.prefix(40))'", at: opcodeOffset)
      }
      return .float(number)
    case .binaryFloat:
      let number = try reader.view.bigFloat64(reader.position, "a float")
      try reader.skip(8)
      return .float(number)
    case .string: return try quoted(line("a text"))
    case .binaryString: return try oldText(reader.length(bytes: 4, "the length of a text"))
    case .shortBinaryString: return try oldText(Int(reader.u8("the length of a text")))
    case .unicode: return .string(try escapedText())
    case .binaryUnicode: return .string(try text(reader.length(bytes: 4, "the length of a text")))
    case .shortBinaryUnicode: return .string(try text(Int(reader.u8("the length of a text"))))
    case .binaryUnicode8: return .string(try text(reader.length(bytes: 8, "the length of a text")))
    case .binaryBytes: return .bytes(try reader.bytes(reader.length(bytes: 4, "the length of bytes"), "bytes"))
    case .shortBinaryBytes: return .bytes(try reader.bytes(Int(reader.u8("the length of bytes")), "bytes"))
    case .binaryBytes8, .byteArray8:
      return .bytes(try reader.bytes(reader.length(bytes: 8, "the length of bytes"), "bytes"))
    default: throw .malformed("an opcode of a value was expected", at: opcodeOffset)
    }
  }

  /// A line of protocol 0.
  private mutating func line(_ what: String) throws(LoadError) -> String {
    let bytes = try reader.bytes(upTo: 0x0A, what)
    try checkLength(bytes.count)
    guard let text = bytes.text else { throw .malformed("\(what) should be valid UTF-8", at: bytes.fileOffset) }
    return text
  }

  private func checkLength(_ count: Int) throws(LoadError) {
    if count > limits.maximumTextBytes {
      throw .limit("a text has \(count) bytes; the limit is \(limits.maximumTextBytes)", at: opcodeOffset)
    }
  }

  private mutating func text(_ count: Int) throws(LoadError) -> String {
    try checkLength(count)
    let bytes = try reader.bytes(count, "a text")
    // Python writes lone surrogates, too; they become replacement characters.
    return bytes.text ?? String(decoding: bytes.array, as: UTF8.self)
  }

  /// A `str` of Python 2, which is bytes as often as text.
  private mutating func oldText(_ count: Int) throws(LoadError) -> PickleValue {
    let bytes = try reader.bytes(count, "a text")
    guard count <= limits.maximumTextBytes, let text = bytes.text else { return .bytes(bytes) }
    return .string(text)
  }

  private func decimal(_ text: String) throws(LoadError) -> PickleValue {
    if text == "00" { return .bool(false) }
    if text == "01" { return .bool(true) }
    guard let number = Int(text) else {
      throw .unsupported("an integer of 64 bits was expected; found '\(text.prefix(40))'", at: opcodeOffset)
    }
    return .int(number)
  }

  private mutating func integer(_ count: Int) throws(LoadError) -> PickleValue {
    try checkLength(count)
    let bytes = try reader.bytes(count, "an integer").array
    guard let last = bytes.last else { return .int(0) }
    guard count <= 8 else { return .bigInt(bytes) }
    var value: UInt64 = last & 0x80 != 0 ? .max : 0
    for byte in bytes.reversed() { value = value << 8 | UInt64(byte) }
    return .int(Int(Int64(bitPattern: value)))
  }

  /// A text in quotes with Python's escapes.
  private func quoted(_ text: String) throws(LoadError) -> PickleValue {
    let bytes = Array(text.utf8)
    guard bytes.count >= 2, let quote = bytes.first, quote == 0x22 || quote == 0x27, bytes.last == quote else {
      throw .malformed("a text in quotes was expected", at: opcodeOffset)
    }
    let content = try PickleEscapes.bytes(bytes[1..<(bytes.count - 1)], at: opcodeOffset)
    guard let text = String(validating: content, as: UTF8.self) else { return .bytes(ByteView(content)) }
    return .string(text)
  }

  /// A line of Latin-1 with \uXXXX and \UXXXXXXXX for everything else.
  private mutating func escapedText() throws(LoadError) -> String {
    let bytes = try reader.bytes(upTo: 0x0A, "a text")
    try checkLength(bytes.count)
    return try PickleEscapes.unicode(bytes.array.map { UnicodeScalar($0) }, at: opcodeOffset)
  }

  // MARK: - Stack and memo

  private func top() throws(LoadError) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.last else { throw empty }
    return value
  }

  private mutating func pop() throws(LoadError) -> PickleValue {
    guard stack.count > (marks.last ?? 0), let value = stack.popLast() else { throw empty }
    return value
  }

  private var empty: LoadError {
    .malformed("the pickle takes a value that was never put down", at: opcodeOffset)
  }

  private mutating func popToMark() throws(LoadError) -> [PickleValue] {
    guard let mark = marks.popLast(), mark <= stack.count else {
      throw .malformed("the pickle goes back to a mark that was never set", at: opcodeOffset)
    }
    let values = Array(stack[mark...])
    stack.removeLast(stack.count - mark)
    return values
  }

  private mutating func stepMemo(_ opcode: PickleOpcode) throws(LoadError) {
    switch opcode {
    case .get, .put:
      let text = try line("a place of the memo")
      guard let index = Int(text) else {
        throw .malformed("a place of the memo was expected; found '\(text.prefix(40))'", at: opcodeOffset)
      }
      try opcode == .get ? recall(index) : remember(index)
    case .binaryGet: try recall(Int(reader.u8("a place of the memo")))
    case .longBinaryGet: try recall(reader.length(bytes: 4, "a place of the memo"))
    case .binaryPut: try remember(Int(reader.u8("a place of the memo")))
    case .longBinaryPut: try remember(reader.length(bytes: 4, "a place of the memo"))
    default: try remember(memoized)
    }
  }

  private mutating func recall(_ index: Int) throws(LoadError) {
    guard memo.indices.contains(index), let value = memo[index] else {
      throw .malformed("place \(index) of the memo was never filled", at: opcodeOffset)
    }
    stack.append(value)
  }

  /// Places may be left out (Python 2 begins with 1), but few.
  private mutating func remember(_ index: Int) throws(LoadError) {
    let value = try top()
    guard index >= 0, index < limits.maximumMemo, index <= 2 * memo.count + 256 else {
      throw .limit(
        "place \(index) of the memo is beyond the \(memo.count) that are used and the limit of \(limits.maximumMemo)",
        at: opcodeOffset)
    }
    while memo.count <= index { memo.append(nil) }
    if memo[index] == nil { memoized += 1 }
    memo[index] = value
  }

  // MARK: - Containers

  private mutating func add(_ object: PickleObject) -> PickleValue {
    pickle.objects.append(object)
    return .object(pickle.objects.count - 1)
  }

  private mutating func push(_ kind: PickleObject.Kind, _ items: [PickleValue] = []) {
    stack.append(add(PickleObject(kind, items: items)))
  }

  private mutating func stepContainer(_ opcode: PickleOpcode) throws(LoadError) {
    switch opcode {
    case .emptyList: push(.list)
    case .list: push(.list, try popToMark())
    case .append:
      let value = try pop()
      try append([value])
    case .appends, .addItems:
      let values = try popToMark()
      try append(values)
    case .emptyTuple: push(.tuple)
    case .tuple: push(.tuple, try popToMark())
    case .tuple1: push(.tuple, [try pop()])
    case .tuple2:
      let second = try pop()
      push(.tuple, [try pop(), second])
    case .tuple3:
      let (third, second) = (try pop(), try pop())
      push(.tuple, [try pop(), second, third])
    case .emptyDictionary: push(.dictionary)
    case .dictionary:
      let values = try popToMark()
      push(.dictionary)
      try set(values)
    case .setItem:
      let value = try pop()
      let key = try pop()
      try set([key, value])
    case .setItems:
      let values = try popToMark()
      try set(values)
    case .emptySet: push(.set)
    case .frozenSet: push(.frozenSet, try popToMark())
    default: throw .malformed("an opcode of a container was expected", at: opcodeOffset)
    }
  }

  /// Adds to the list, set or record on top of the stack.
  private mutating func append(_ values: [PickleValue]) throws(LoadError) {
    guard case .object(let index) = try top() else {
      throw .malformed("the pickle appends to a value that is no list", at: opcodeOffset)
    }
    switch pickle.objects[index].kind {
    case .list, .set, .record: pickle.objects[index].items.append(contentsOf: values)
    default: throw .malformed("the pickle appends to an object that is no list", at: opcodeOffset)
    }
  }

  /// Adds keys and values to the dictionary or record on top of the stack.
  private mutating func set(_ values: [PickleValue]) throws(LoadError) {
    guard values.count % 2 == 0 else {
      throw .malformed("a dictionary should get keys and values in turns; found \(values.count)", at: opcodeOffset)
    }
    guard case .object(let index) = try top() else {
      throw .malformed("the pickle sets an item of a value that is no dictionary", at: opcodeOffset)
    }
    switch pickle.objects[index].kind {
    case .dictionary, .record: pickle.objects[index].pairs.append(contentsOf: values)
    default: throw .malformed("the pickle sets an item of an object that is no dictionary", at: opcodeOffset)
    }
  }

  /// Bounds what calls of the same arguments, again and again, may make.
  private mutating func chargeCopy(_ count: Int) throws(LoadError) {
    copied += count
    if copied > 2 * reader.view.count {
      throw .limit("the pickle copies the same elements again and again", at: opcodeOffset)
    }
  }

  // MARK: - What Python would look up or call

  private mutating func stepObject(_ opcode: PickleOpcode) throws(LoadError) {
    switch opcode {
    case .global:
      let module = try line("the name of a module")
      push(.global(PickleSymbol(module, try line("a name in a module"))))
    case .stackGlobal:
      guard case .string(let name) = try pop(), case .string(let module) = try pop() else {
        throw .malformed("a module and a name should be texts", at: opcodeOffset)
      }
      push(.global(PickleSymbol(module, name)))
    case .inst:
      let module = try line("the name of a module")
      let symbol = add(PickleObject(.global(PickleSymbol(module, try line("a name in a module")))))
      let arguments = add(PickleObject(.tuple, items: try popToMark()))
      push(.record(callable: symbol, arguments: arguments))
    case .object:
      let values = try popToMark()
      guard let callable = values.first else {
        throw .malformed("an object should have a class", at: opcodeOffset)
      }
      let arguments = add(PickleObject(.tuple, items: Array(values.dropFirst())))
      try record(callable, arguments)
    case .reduce, .newObject:
      let arguments = try pop()
      try record(pop(), arguments)
    case .newObjectEx:
      let named = try pop()
      let arguments = try pop()
      try record(pop(), arguments)
      // Arguments by name stand where items that are set later would.
      if case .object(let place) = try top(), let pairs = pickle.object(named)?.pairs {
        try chargeCopy(pairs.count)
        pickle.objects[place].pairs.append(contentsOf: pairs)
      }
    case .build:
      let state = try pop()
      guard case .object(let index) = try top() else {
        throw .malformed("the pickle gives a state to a value that has none", at: opcodeOffset)
      }
      pickle.objects[index].state = state
    case .persistentID: push(.persistent(.string(try line("a persistent identifier"))))
    case .binaryPersistentID: push(.persistent(try pop()))
    default: throw .malformed("an opcode of an object was expected", at: opcodeOffset)
    }
  }

  /// A call: of what is known to be a container, the container; of everything else, a record of it.
  private mutating func record(_ callable: PickleValue, _ arguments: PickleValue) throws(LoadError) {
    guard let object = pickle.object(callable) else {
      throw .malformed("the pickle calls a value that is no class or function", at: opcodeOffset)
    }
    guard let values = pickle.items(arguments), pickle.object(arguments)?.kind == .tuple else {
      throw .malformed("the arguments of a call should be a tuple", at: opcodeOffset)
    }
    if case .global(let symbol) = object.kind, let value = try container(symbol, values) {
      stack.append(value)
    } else {
      push(.record(callable: callable, arguments: arguments))
    }
  }

  /// What a call of Python's own containers gives; nil for every other call.
  private mutating func container(
    _ symbol: PickleSymbol, _ arguments: [PickleValue]
  ) throws(LoadError) -> PickleValue? {
    switch (symbol.module, symbol.name, arguments.count) {
    case ("collections", "OrderedDict", 0): return add(PickleObject(.dictionary))
    case ("collections", "OrderedDict", 1):
      // Python 2 gives a list of pairs.
      guard let pairs = pickle.items(arguments[0]) else { return nil }
      try chargeCopy(2 * pairs.count)
      var object = PickleObject(.dictionary)
      for pair in pairs {
        guard let pair = pickle.items(pair), pair.count == 2 else { return nil }
        object.pairs += pair
      }
      return add(object)
    case ("builtins", "set", 0), ("__builtin__", "set", 0): return add(PickleObject(.set))
    case ("builtins", "set", 1), ("__builtin__", "set", 1):
      guard let items = pickle.items(arguments[0]) else { return nil }
      try chargeCopy(items.count)
      return add(PickleObject(.set, items: items))
    case ("builtins", "frozenset", 1), ("__builtin__", "frozenset", 1):
      guard let items = pickle.items(arguments[0]) else { return nil }
      try chargeCopy(items.count)
      return add(PickleObject(.frozenSet, items: items))
    case ("_codecs", "encode", 2):
      // Bytes in protocol 2: a text of the first 256 characters.
      guard case .string(let text) = arguments[0], arguments[1] == .string("latin1") else { return nil }
      try chargeCopy(text.utf8.count)
      guard text.unicodeScalars.allSatisfy({ $0.value < 256 }) else { return nil }
      return .bytes(ByteView(text.unicodeScalars.map { UInt8($0.value) }))
    case ("__builtin__", "bytes", 0), ("builtins", "bytes", 0): return .bytes(ByteView([]))
    default: return nil
    }
  }
}
