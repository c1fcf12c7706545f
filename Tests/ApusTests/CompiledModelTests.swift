// Compiled models: the same results from another file, which refuses what it is not for and survives what is done to
// it.

import Apus
import ApusFormats
import ApusGraph
import ApusTensor
import ApusTestSupport
import Foundation
import Testing

@Suite struct CompiledModelTests {
  private static let models = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  private static let names: [String] =
    ((try? FileManager.default.contentsOfDirectory(atPath: models.path)) ?? []).filter { $0.hasSuffix(".onnx") }
    .map { String($0.dropLast(5)) }.sorted()

  /// A file that is there as long as this value.
  private final class TemporaryFile {
    let url = URL(filePath: NSTemporaryDirectory()).appending(path: "apus-\(UUID().uuidString).model")
    var path: String { url.path }

    init(_ bytes: [UInt8] = []) throws { try Data(bytes).write(to: url) }
    deinit { try? FileManager.default.removeItem(at: url) }

    func bytes() throws -> [UInt8] { Array(try Data(contentsOf: url)) }
  }

  private func url(_ name: String) -> URL { Self.models.appending(path: "\(name).onnx") }

  private func compiled(_ source: URL, _ options: ModelOptions = ModelOptions(threads: 1)) throws -> TemporaryFile {
    let file = try TemporaryFile()
    try ModelFile(contentsOf: source, options: options).compile(to: file.url)
    return file
  }

  private func compiled(_ name: String) throws -> TemporaryFile { try compiled(url(name)) }

  /// The inputs of the first data set of a test model.
  private func inputs(_ name: String, of model: Model) throws -> [String: Value] {
    var values: [String: Value] = [:]
    for (index, input) in model.inputs.enumerated() {
      let path = Self.models.appending(path: "data/\(name)/test_data_set_0/input_\(index).pb").path
      values[input.name] = try ValueFile.decode(FileBytes.open(path: path), as: input.valueType)
    }
    return values
  }

  private func isSame(_ a: Value, _ b: Value) -> Bool {
    switch (a, b) {
    case (.tensor(let x), .tensor(let y)):
      x.dataType == y.dataType && x.shape == y.shape && x.strings == y.strings
        && x.withUnsafeBytes { p in y.withUnsafeBytes { q in p.elementsEqual(q) } }
    case (.sequence(let x, _), .sequence(let y, _)):
      x.count == y.count && zip(x, y).allSatisfy { isSame($0, $1) }
    case (.optional(let x, _), .optional(let y, _)):
      x == nil && y == nil || (x.flatMap { x in y.map { isSame(x, $0) } } ?? false)
    case (.map(let x), .map(let y)):
      isSame(.tensor(x.keys), .tensor(y.keys)) && zip(x.values, y.values).allSatisfy { isSame($0, $1) }
    default: false
    }
  }

  /// A model of two layers whose weights are blocks, with inputs of one symbolic extent.
  private func layers(rows: Int = 5) throws -> (url: TemporaryFile, input: [String: Tensor]) {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 96])
    let bias = builder.input("offset", [.symbol("n"), 1])
    let hidden = try builder.node("MatMul", [x, builder.weights([96, 128])])
    let table = try builder.node("Add", [builder.weights([64, 128]), builder.weights([64, 1])])
    let first = try builder.node("Gemm", [hidden, builder.weights([128, 128]), builder.weights([128])])
    let sum = try builder.node("Add", [try builder.node("Relu", [first]), bias])
    let y = try builder.node("MatMul", [sum, try builder.node("Transpose", [table], [("perm", .ints([1, 0]))])])
    builder.output(y)
    var model = ModelGraph(graph: builder.graph)
    (model.irVersion, model.opsets) = (10, ["": 21])
    model.graph[y].name = "y"
    model.metadata = [("labels", "a,b")]
    let file = try TemporaryFile()
    try ONNXWriter.message(model, registry: .standard).write(to: file.path)
    return (file, ["x": sampleTensor([rows, 96], seed: 3), "offset": sampleTensor([rows, 1], seed: 4)])
  }

  // MARK: Results

  @Test(arguments: names) func sameBitsForTestModels(_ name: String) throws {
    let original = try Model(contentsOf: url(name), options: ModelOptions(threads: 1))
    let file = try compiled(name)
    let model = try Model(contentsOf: file.url, options: ModelOptions(threads: 1))
    #expect(model.inputs == original.inputs && model.outputs == original.outputs && model.notes == original.notes)
    #expect(model.information.opsets == original.information.opsets)
    #expect(model.information.metadata.map(\.value) == original.information.metadata.map(\.value))
    #expect(model.information.compilation?.version == ApusVersion.text)
    let inputs = try inputs(name, of: original)
    Model.setSeed(7)
    let expected = try original.run(values: inputs)
    Model.setSeed(7)
    let found = try model.run(values: inputs)
    #expect(Set(found.keys) == Set(expected.keys))
    for (output, value) in expected { #expect(isSame(value, try #require(found[output])), "\(output)") }
  }

  @Test func weightsStayInTheFile() throws {
    let (source, input) = try layers()
    let original = try Model(contentsOf: source.url, options: ModelOptions(threads: 1))
    let file = try compiled(source.url)
    let engine = Engine(threads: 1)
    var options = ModelOptions(threads: 1)
    options.engine = engine
    options.checksCompiledWeights = true
    let models = try (0..<2).map { _ in try Model(contentsOf: file.url, options: options) }
    #expect(engine.weightBytes == 0, "nothing was packed, and mapped blocks do not count")
    let expected = try #require(try original.run(input)["y"])
    for model in models { #expect(isSame(.tensor(try #require(try model.run(input)["y"])), .tensor(expected))) }
    // From bytes, at any address.
    let copy = try Model(bytes: try file.bytes())
    #expect(isSame(.tensor(try #require(try copy.run(input)["y"])), .tensor(expected)))
  }

  @Test func dimensionsAndShapesCanStillBeBound() throws {
    let (source, input) = try layers()
    let file = try compiled(source.url)
    var options = ModelOptions(threads: 1)
    options.dimensions = ["n": 5]
    let model = try Model(contentsOf: file.url, options: options)
    #expect(model.inputs.map(\.shape) == [[5, 96], [5, 1]] && model.outputs[0].shape == [5, 64])
    let expected = try Model(contentsOf: source.url, options: options).run(input)["y"]
    #expect(isSame(.tensor(try #require(try model.run(input)["y"])), .tensor(try #require(expected))))
    #expect(throws: RunError.self) { try model.run(["x": sampleTensor([4, 96], seed: 1)]) }
    options.dimensions = [:]
    options.shapes = ["x": [5, 96]]
    #expect(try Model(contentsOf: file.url, options: options).inputs[0].shape == [5, 96])
    options.shapes = ["x": [5, 95]]
    #expect(throws: RunError.self) { try Model(contentsOf: file.url, options: options) }
    options.shapes = [:]
    options.dimensions = ["m": 5]
    #expect(throws: RunError.self) { try Model(contentsOf: file.url, options: options) }
    // A model that was compiled for one size.
    options.dimensions = ["n": 5]
    let fixed = try compiled(source.url, options)
    #expect(try Model(contentsOf: fixed.url).inputs.map(\.shape) == [[5, 96], [5, 1]])
  }

  @Test func filesToLookAt() throws {
    let (source, _) = try layers()
    let file = try compiled(source.url)
    let (original, looked) = (try ModelFile(contentsOf: source.url), try ModelFile(contentsOf: file.url))
    #expect(looked.problems.isEmpty && looked.inputs == original.inputs && looked.outputs == original.outputs)
    #expect(looked.statistics.multiplyAdds == original.statistics.multiplyAdds)
    #expect(looked.information.compilation != nil && original.information.compilation == nil)
    #expect(looked.information.metadata.first?.value == "a,b")
  }

  // MARK: What is refused

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  /// The bytes of a compiled model with the digest that they should have.
  private func sealed(_ bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    let checked = min(bytes.count, (24..<32).reversed().reduce(0) { $0 << 8 & 0xFF_FFFF_FFFF | Int(bytes[$1]) })
    guard checked >= 64 else { return bytes }
    for index in 32..<64 { bytes[index] = 0 }
    bytes.replaceSubrange(32..<64, with: SHA256.digest(Array(bytes[..<checked]).span))
    return bytes
  }

  /// Replaces a text by another one of the same length.
  private func replacing(_ text: String, _ other: String, in bytes: [UInt8]) -> [UInt8] {
    var bytes = bytes
    let (old, new) = (Array(text.utf8), Array(other.utf8))
    guard let start = bytes.indices.first(where: { bytes[$0...].starts(with: old) }) else { return bytes }
    bytes.replaceSubrange(start..<start + old.count, with: new)
    return bytes
  }

  @Test func otherMachinesAndVersionsAreRefused() throws {
    let bytes = try compiled("digits").bytes()
    #expect(message { _ = try Model(bytes: sealed(bytes)) } == "no error")
    let level = try #require(try Model(bytes: bytes).information.compilation?.level)
    let other = String(level.reversed())
    let refused = message { _ = try Model(bytes: sealed(replacing(level, other, in: bytes))) }
    #expect(refused.contains("for the instructions \(other)") && refused.contains("this process uses \(level)"))
    let version = message { _ = try Model(bytes: sealed(replacing(ApusVersion.text, "9.9.9", in: bytes))) }
    #expect(version.contains("by Apus 9.9.9; this is Apus \(ApusVersion.text)"))
    let tiles = message { _ = try Model(bytes: sealed(replacing("f32 ", "f99 ", in: bytes))) }
    #expect(tiles.contains("tiles"))
    var format = bytes
    format[8] = 2
    #expect(message { _ = try Model(bytes: format) }.contains("version 2 of the format"))
  }

  @Test func damageIsFound() throws {
    let bytes = try compiled("digits").bytes()
    var changed = bytes
    changed[200] ^= 1
    #expect(message { _ = try Model(bytes: changed) }.contains("its digest is another"))
    for count in [0, 1, 7, 8, 63, 64, 100, 4096, bytes.count - 1] {
      #expect(throws: LoadError.self) { try Model(bytes: bytes.prefix(count)) }
    }
    // The last block, which loading does not look at: of two pages at least, and at most one of padding behind it.
    let (source, _) = try layers()
    let file = try compiled(source.url)
    changed = try file.bytes()
    changed[changed.count - 4196] ^= 1
    var options = ModelOptions(threads: 1)
    #expect(message { _ = try Model(bytes: changed, options: options) } == "no error")
    options.checksCompiledWeights = true
    #expect(message { _ = try Model(bytes: changed, options: options) }.contains("another digest"))
    #expect(message { _ = try Model(bytes: try file.bytes(), options: options) } == "no error")
  }

  @Test func optionsThatComeTooLate() throws {
    let (source, _) = try layers()
    let file = try compiled(source.url)
    func refusal(_ change: (inout ModelOptions) -> Void) -> String {
      var options = ModelOptions(threads: 1)
      change(&options)
      return message { _ = try Model(contentsOf: file.url, options: options) }
    }
    #expect(refusal { $0.returnsAllValues = true }.contains("intermediate values"))
    #expect(refusal { $0.extraOutputs = ["y"] }.contains("intermediate values"))
    #expect(refusal { $0.optimization.isEnabled = false }.contains("which passes"))
    #expect(refusal { $0.overridableInitializers = ["x"] } == "no error")
    let target = try TemporaryFile()
    #expect(message { try ModelFile(contentsOf: file.url).compile(to: target.url) }.contains("compiled already"))
    #expect(message { try ModelFile(contentsOf: file.url).optimize(to: target.url) }.contains("cannot be optimized"))
    #expect(try target.bytes().isEmpty)
    let defaults = try compiled("default_inputs")
    let name = try #require(try Model(contentsOf: url("default_inputs")).overridableInitializers.first?.name)
    var options = ModelOptions()
    options.overridableInitializers = [name]
    #expect(
      message { _ = try Model(contentsOf: defaults.url, options: options) }.contains("a constant of the compiled"))
    #expect(try Model(contentsOf: defaults.url).overridableInitializers.isEmpty)
  }

  @Test func limitsHold() throws {
    let file = try compiled("if_branches")
    func refusal(_ change: (inout LoadLimits) -> Void) -> String {
      var options = ModelOptions(threads: 1)
      change(&options.limits)
      return message { _ = try Model(contentsOf: file.url, options: options) }
    }
    #expect(refusal { $0.maximumFileBytes = 100 }.contains("maximumFileBytes"))
    #expect(refusal { $0.maximumStructureBytes = 1000 }.contains("maximumStructureBytes"))
    #expect(refusal { $0.maximumNodes = 1 }.contains("maximumNodes"))
    #expect(refusal { $0.maximumNesting = 2 }.contains("maximumNesting"))
    #expect(refusal { $0.maximumLoadMemory = 100 }.contains("maximumLoadMemory"))
    #expect(refusal { $0.maximumLoadSeconds = 0 } != "no error")
  }

  // MARK: What happens to the file

  @Test(arguments: [1, 2]) func aFileThatShrinksIsAnErrorOfTheRun(threads: Int) throws {
    // Workers, too, read what is gone.
    let (source, input) = try layers(rows: threads == 1 ? 5 : 400)
    let file = try compiled(source.url)
    let model = try Model(contentsOf: file.url, options: ModelOptions(threads: threads))
    #expect(truncate(file.path, 5000) == 0)
    #expect(message { _ = try model.run(input) }.contains("became shorter"))
    #expect(message { _ = try model.run(input) }.contains("became shorter"))
    #expect(throws: LoadError.self) { try Model(contentsOf: file.url) }
  }

  @Test func aFileThatIsReplacedStays() throws {
    let (source, input) = try layers()
    let file = try compiled(source.url)
    let model = try Model(contentsOf: file.url, options: ModelOptions(threads: 1))
    let before = try #require(try model.run(input)["y"])
    try ModelFile(contentsOf: url("digits")).compile(to: file.url)
    #expect(isSame(.tensor(try #require(try model.run(input)["y"])), .tensor(before)))
    #expect(try Model(contentsOf: file.url).inputs.map(\.name) == ["input"])
  }

  /// Whatever the checked bytes say, loading and running end, with a result or an error.
  @Test(arguments: ["digits", "if_branches", "scan_average", "lstm", "text_ngrams", "sequence_edit", "digits_qdq"])
  func brokenFiles(_ name: String) throws {
    let original = try Model(contentsOf: url(name), options: ModelOptions(threads: 1))
    let inputs = try inputs(name, of: original)
    let bytes = try compiled(name).bytes()
    let checked = (24..<32).reversed().reduce(0) { $0 << 8 | Int(bytes[$1]) }
    var options = ModelOptions(threads: 1)
    options.limits.maximumLoadMemory = 256 << 20
    options.limits.maximumRunMemory = 256 << 20
    options.limits.maximumLoadSeconds = 10
    options.limits.maximumRunSeconds = 10
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    func next(_ bound: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state >> 33) % bound
    }
    var (loaded, ran) = (0, 0)
    for _ in 0..<300 {
      var changed = bytes
      for _ in 0..<1 + next(3) {
        let place = 8 + next(checked - 8)
        changed[place] = next(3) == 0 ? UInt8(next(256)) : changed[place] ^ UInt8(1 << next(8))
      }
      guard let model = try? Model(bytes: sealed(changed), options: options) else { continue }
      loaded += 1
      if (try? model.run(values: inputs)) != nil { ran += 1 }
    }
    #expect(loaded > 0 && ran > 0)
  }
}
