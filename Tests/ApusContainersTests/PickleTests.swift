// Pickles of Python in every protocol, checkpoints of PyTorch, hostile pickles, and broken ones.

import ApusContainers
import ApusTensor
import Testing

@Suite struct PickleTests {
  private func hex(_ bytes: some Sequence<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  /// As make_objects.py writes values.
  private func dump(_ value: PickleValue, _ pickle: Pickle) -> String {
    switch value {
    case .none: return "None"
    case .bool(let truth): return truth ? "True" : "False"
    case .int(let number): return String(number)
    case .bigInt(let bytes): return "big" + hex(bytes)
    case .float(let number):
      return "f" + hex((0..<8).map { UInt8(truncatingIfNeeded: number.bitPattern >> UInt64(56 - 8 * $0)) })
    case .string(let text): return "s" + hex(text.utf8)
    case .bytes(let view): return "b" + hex(view.array)
    case .object(let index):
      let object = pickle.objects[index]
      if let entries = pickle.entries(value) {
        return "{" + entries.map { dump($0.key, pickle) + ":" + dump($0.value, pickle) }.joined(separator: ",") + "}"
      }
      let items = object.items.map { dump($0, pickle) }
      switch object.kind {
      case .list: return "[" + items.joined(separator: ",") + "]"
      case .tuple: return "(" + items.joined(separator: ",") + ")"
      case .set, .frozenSet: return "<" + items.sorted().joined(separator: ",") + ">"
      default: return "\(object.kind)"
      }
    }
  }

  @Test(arguments: Samples.described(".pkl")) func agreesWithPython(_ path: String) throws {
    let pickle = try Pickle(ByteView(Samples.bytes(path)))
    #expect(try dump(pickle.root, pickle) + "\n" == Samples.text(path + ".txt"))
    #expect(pickle.unknownCalls.isEmpty)
    let shared = try #require(pickle.value("shared", in: pickle.root).flatMap { pickle.items($0) })
    #expect(shared[0] == shared[1])
    #expect(pickle.items(shared[2])?.first == shared[0])
  }

  // MARK: - PyTorch

  private func checkpoint(_ bytes: [UInt8]) throws(LoadError) -> TorchCheckpoint {
    try TorchCheckpoint(FileBytes(copying: bytes))
  }

  /// The tensors of an archive with these entries.
  private func checkpoint(_ entries: [String: ByteView]) throws(LoadError) -> TorchCheckpoint {
    try TorchCheckpoint(archive: Samples.archive(entries.mapValues(\.array)))
  }

  @Test(arguments: Samples.described(".pt") + Samples.described(".pth")) func agreesWithTorch(_ path: String) throws {
    let checkpoint = try checkpoint(Samples.bytes(path))
    var lines: [String] = []
    for tensor in checkpoint.tensors {
      lines.append(Samples.line(tensor.name, "\(tensor.dataType)", tensor.shape, try tensor.elements().array))
    }
    let expected = try Samples.text(path + ".txt").split(separator: "\n").map(String.init)
    #expect(lines.sorted() == expected.sorted(), "\(path)")
    #expect(checkpoint.skipped.isEmpty)
    #expect(checkpoint.isLegacy == path.hasSuffix(".pth"))
  }

  @Test func keepsWhatLiesBesideTensors() throws {
    let deep = try checkpoint(Samples.bytes("deep.pt"))
    #expect(deep.pickle.value("epoch", in: deep.pickle.root) == .int(3))
    let module = try checkpoint(Samples.bytes("module.pt"))
    #expect(module.pickle.symbols.contains(PickleSymbol("torch.nn.modules.conv", "Conv2d")))
    #expect(module.pickle.unknownCalls.contains(PickleSymbol("torch.nn.modules.conv", "Conv2d")))
    let conv = try #require(module.tensors.first { $0.name == "conv.weight" })
    #expect(conv.shape == [3, 1, 3, 3] && conv.requiresGradient && conv.isContiguous && conv.storage.device == "cpu")
    let turned = try #require(checkpoint(Samples.bytes("views.pt")).tensors.first { $0.name == "turned" })
    #expect(turned.strides == [1, 6] && !turned.isContiguous)
  }

  /// A pickle that rebuilds one tensor of a storage with 6 floats.
  private func tensor(offset: String, shape: String, strides: String, count: String = "K\u{6}", key: String = "0")
    throws -> LoadError?
  {
    let storage = "ctorch._utils\n_rebuild_tensor_v2\n((X\u{7}\0\0\0storagectorch\nFloatStorage\nX\u{1}\0\0\0\(key)"
    let text = "}X\u{1}\0\0\0w\(storage)X\u{3}\0\0\0cpu\(count)tQ\(offset)\(shape)\(strides)\u{89}NtRs."
    let bytes = Array(text.unicodeScalars.map { UInt8($0.value) })
    let entries = ["a/data.pkl": ByteView(bytes), "a/data/0": ByteView([UInt8](repeating: 1, count: 24))]
    do throws(LoadError) {
      let found = try checkpoint(entries)
      #expect(found.tensors.map(\.name) == ["w"])
      return nil
    } catch {
      return error
    }
  }

  @Test func holdsTensorsInTheirStorage() throws {
    // K1 is BININT1; 0x86 makes a pair, 0x85 a tuple of one.
    #expect(try tensor(offset: "K\0", shape: "K\u{2}K\u{3}\u{86}", strides: "K\u{3}K\u{1}\u{86}") == nil)
    #expect(try tensor(offset: "K\u{5}", shape: "K\u{9}\u{85}", strides: "K\0\u{85}") == nil)
    #expect(try tensor(offset: "K\u{6}", shape: "K\0\u{85}", strides: "K\u{1}\u{85}") == nil)
    let cases: [(String, String, String, String)] = [
      ("K\u{1}", "K\u{2}K\u{3}\u{86}", "K\u{3}K\u{1}\u{86}", "number 6"),
      ("J\u{FF}\u{FF}\u{FF}\u{FF}", "K\u{1}\u{85}", "K\u{1}\u{85}", "strides"),
      ("K\0", "K\u{2}\u{85}", "K\u{3}K\u{1}\u{86}", "strides"),
      (
        "K\0", "K\u{2}K\u{3}\u{86}", "K\u{3}\u{8A}\u{8}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{7F}\u{86}",
        "large"
      ),
      ("K\0", "J\0\0\0\u{7F}\u{8A}\u{8}\0\0\0\0\0\0\0\u{40}\u{86}", "K\0K\0\u{86}", "product"),
      ("K\u{7}", "K\0\u{85}", "K\u{1}\u{85}", "behind"),
    ]
    for (offset, shape, strides, words) in cases {
      let error = try tensor(offset: offset, shape: shape, strides: strides)
      #expect(error?.message.contains(words) == true, "\(String(describing: error))")
      #expect(error?.path == "w")
    }
    #expect(try tensor(offset: "K\0", shape: ")", strides: ")", count: "K\u{7}")?.message.contains("24 bytes") == true)
    #expect(try tensor(offset: "K\0", shape: ")", strides: ")", key: "9")?.message.contains("storage 9") == true)
    let two = ["a/data.pkl": ByteView([]), "b/data.pkl": ByteView([])]
    #expect(#expect(throws: LoadError.self) { try checkpoint(two) }?.code == .wrongFormat)
  }

  // MARK: - Hostile pickles

  private func bytes(_ text: String) -> ByteView { ByteView(text.unicodeScalars.map { UInt8($0.value) }) }

  private func error(_ text: String, _ change: (inout Pickle.Limits) -> Void = { _ in }) -> LoadError? {
    var limits = Pickle.Limits()
    change(&limits)
    do throws(LoadError) {
      _ = try Pickle(bytes(text), limits: limits)
      return nil
    } catch {
      return error
    }
  }

  @Test func runsNothing() throws {
    let calls = [
      "cposix\nsystem\n(S'touch /tmp/apus-was-here'\ntR.", "(S'ls'\nios\nsystem\n.", "(cos\nsystem\nS'ls'\no.",
    ]
    for call in calls {
      let pickle = try Pickle(bytes(call))
      let (symbol, arguments) = try #require(pickle.call(pickle.root))
      #expect(symbol.name == "system" && arguments.count == 1)
      #expect(pickle.unknownCalls == [symbol])
    }
    let nested = try Pickle(bytes("cbuiltins\ngetattr\n(cos\nmodule\nS'system'\ntR(S'ls'\ntR."))
    #expect(nested.unknownCalls == [PickleSymbol("builtins", "getattr")])
  }

  @Test func readsALaughOnce() throws {
    // A list of ten times the list before, sixty times: 10^60 paths.
    var text = "]q\0"
    for level in 0..<60 {
      let get = "h\(Character(UnicodeScalar(UInt8(level))))"
      text += "(" + String(repeating: get, count: 10) + "lq\(Character(UnicodeScalar(UInt8(level + 1))))"
    }
    let pickle = try Pickle(bytes(text + "."))
    #expect(pickle.objects.count == 61)
    // In a checkpoint it is walked once, too.
    #expect(try checkpoint(["data.pkl": bytes(text + ".")]).tensors.isEmpty)
  }

  @Test func readsWhatLiesInItself() throws {
    let pickle = try Pickle(bytes("]q\0h\0a."))
    #expect(pickle.items(pickle.root) == [pickle.root])
  }

  @Test func endsWithinLimits() {
    let cases: [(text: String, code: LoadError.Code, words: String)] = [
      ("", .malformed, "opcode"), (".", .malformed, "never put down"), ("\u{FF}", .malformed, "255"),
      ("\u{80}\u{6}N.", .unsupported, "protocol"), ("\u{82}\u{1}.", .unsupported, "extensions"),
      ("\u{97}.", .unsupported, "buffers"), ("h\u{7}.", .malformed, "memo"), ("g-1\n.", .malformed, "memo"),
      ("Nr\u{FF}\u{FF}\u{FF}\u{7F}.", .limitExceeded, "memo"), ("Np99999999999\n.", .limitExceeded, "memo"),
      ("Na.", .malformed, "never put down"), ("NNa.", .malformed, "no list"), ("t.", .malformed, "mark"),
      ("(R.", .malformed, "never put down"), ("NNR.", .malformed, "no class"), ("}(Nu.", .malformed, "in turns"),
      ("X\u{FF}\u{FF}\u{FF}\u{7F}a.", .limitExceeded, "text"), ("B\u{FF}\u{FF}\u{FF}\u{7F}a.", .malformed, "bytes"),
      ("\u{8D}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}\u{FF}.", .malformed, "more than any file"),
      ("Iabc\n.", .unsupported, "64 bits"), ("I99999999999999999999999\n.", .unsupported, "64 bits"),
      ("Fx\n.", .malformed, "float"),
      ("S'\\q'\n.", .malformed, "escape"), ("Sx\n.", .malformed, "quotes"), ("V\\u12\n.", .malformed, "escape"),
      (String(repeating: "(", count: 1001) + ".", .limitExceeded, "marks"),
      ("N" + String(repeating: "\u{85}", count: 1500) + ".", .limitExceeded, "deep"),
      (String(repeating: "]", count: 1500) + String(repeating: "a", count: 1499) + ".", .limitExceeded, "deep"),
      // The same list made into a dictionary again and again.
      (
        "](" + String(repeating: ")", count: 100) + "eq\0"
          + String(repeating: "cbuiltins\nset\n(h\0tR0", count: 2000) + ".", .limitExceeded, "again"
      ),
    ]
    for (text, code, words) in cases {
      let error = error(text)
      let found = "\(text.prefix(30)): \(error.map(\.description) ?? "no error")"
      #expect(error?.code == code, "\(found)")
      #expect(error?.message.contains(words) == true, "\(found)")
    }
    #expect(error("NNNN....") { $0.maximumOpcodes = 3 }?.code == .limitExceeded)
  }

  @Test(arguments: ["protocol0.pkl", "protocol1.pkl", "protocol2.pkl", "protocol4.pkl", "protocol5.pkl"])
  func survivesMutations(_ name: String) throws {
    let seed = try Samples.bytes(name)
    var chance = Chance(state: 6)
    for _ in 0..<Mutation.count {
      let mutant = Mutation.mutated(seed, structures: [], &chance)
      if let pickle = try? Pickle(ByteView(mutant)) { _ = pickle.unknownCalls }
    }
    for length in 0..<min(seed.count, 2500) {
      #expect(throws: LoadError.self) { try Pickle(ByteView(Array(seed[..<length]))) }
    }
  }

  @Test(arguments: ["module.pt", "views.pt", "module.pth", "kinds.pth"]) func survivesMutationsOfCheckpoints(
    _ name: String
  ) throws {
    let seed = try Samples.bytes(name)
    let structures = Mutation.places(of: ["_rebuild_tensor", "storage", "FloatStorage", "PK"], in: seed)
    var chance = Chance(state: 7)
    var read = 0
    for _ in 0..<Mutation.count {
      let mutant = Mutation.mutated(seed, structures: structures, &chance)
      if let checkpoint = try? checkpoint(mutant) {
        read += 1
        for tensor in checkpoint.tensors { _ = try? tensor.elements(maximumBytes: 1 << 20) }
      }
    }
    #expect(read > 0 && read < Mutation.count)
  }
}
