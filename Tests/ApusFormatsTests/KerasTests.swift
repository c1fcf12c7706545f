// Models of Keras give what Keras gave, and what cannot be read is named, all at once.

import Apus
import ApusFormats
import ApusOperators
import ApusTensor
import Foundation
import Testing

@Suite struct KerasTests {
  /// The archives that tools/fixtures/keras_models.py makes.
  private static let archives: [ZipArchive] = {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures/keras")
    return ["keras2.zip", "keras3.zip", "keras3_torch.zip"].compactMap { name in
      try? ZipArchive(FileBytes.open(path: folder.appending(path: name).path()), rules: .arrays)
    }
  }()

  /// The models that have an `.npz` of inputs and outputs beside them.
  static let models = archives.flatMap(\.entries).map(\.name).filter {
    !$0.hasSuffix(".npz") && bytes("\($0.prefix { $0 != "." }).npz") != nil
  }

  private static func bytes(_ name: String) -> [UInt8]? {
    for archive in archives {
      guard let entry = archive[name], let (bytes, range) = try? archive.contents(of: entry) else { continue }
      return bytes.bytes(in: range)
    }
    return nil
  }

  @Test func fixturesAreThere() { #expect(Self.models.count >= 20) }

  @Test(arguments: models) func givesWhatKerasGave(_ name: String) throws {
    let model = try Model(bytes: try #require(Self.bytes(name)))
    let values = try #require(Self.bytes("\(name.prefix { $0 != "." }).npz"))
    let arrays = Dictionary(
      try Npz.decode(FileBytes(copying: values)).map { ($0.name, $0.tensor) },
      uniquingKeysWith: { first, _ in first })
    var inputs: [String: Tensor] = [:]
    for (index, input) in model.inputs.enumerated() { inputs[input.name] = arrays["input:\(index)"] }
    let outputs = try model.run(inputs)
    #expect(arrays.count == model.inputs.count + model.outputs.count)
    for (index, output) in model.outputs.enumerated() {
      let expected = try #require(arrays["output:\(index)"])
      let found = try #require(outputs[output.name])
      #expect(found.shape == expected.shape, "\(name): \(output.name)")
      if name.hasPrefix("integers") { #expect(found.dataType == expected.dataType, "\(name): \(output.name)") }
      let error = Self.error(found, expected)
      #expect(error <= 1e-5, "\(name): \(output.name) is \(error) off")
    }
  }

  /// The largest difference over the largest element.
  private static func error(_ found: Tensor, _ expected: Tensor) -> Double {
    let (a, b) = (numbers(found), numbers(expected))
    guard a.count == b.count else { return .infinity }
    let scale = max(b.map(abs).max() ?? 0, 1e-6)
    // A number that is none is no small difference.
    return zip(a, b).map { pair in pair.0 == pair.1 ? 0 : abs(pair.0 - pair.1) / scale }
      .reduce(0) { $1.isNaN ? .infinity : max($0, $1) }
  }

  private static func numbers(_ tensor: Tensor) -> [Double] {
    if let floats = tensor.elements(as: Float.self) { return floats.map(Double.init) }
    return tensor.integers?.map(Double.init) ?? []
  }

  // MARK: - What is refused

  @Test(arguments: ["refused3.keras", "refused2.keras"]) func namesEverythingThatIsCode(_ name: String) throws {
    let bytes = try #require(Self.bytes(name))
    let error = #expect(throws: LoadError.self) { _ = try Model(bytes: bytes) }
    let text = "\(try #require(error))"
    #expect(text.contains("secret: the code of a Lambda layer is never decoded or run"))
    #expect(text.contains("own: the custom class Mine>Custom is never decoded or run"))
    #expect(text.contains("no rule for the operator Hashing") && text.contains("'hashing'"))
  }

  @Test func weightsAloneAreNoModel() throws {
    var tree = HDF5Tree()
    tree.datasets = [("kernel", HDF5Tree.Dataset(.float32, [1], ByteView([0, 0, 0, 0])))]
    let bytes = try HDF5Writer.encode(tree)
    let error = #expect(throws: LoadError.self) { _ = try Model(bytes: bytes) }
    #expect("\(try #require(error))".contains("has no attribute model_config"))
  }

  @Test func reportsCountLayers() throws {
    let file = try FileBytes(copying: try #require(Self.bytes("dense3.keras")))
    let importer = try #require(ModelImporters.importer(of: file))
    #expect(importer.name == "keras")
    let report = try #require(
      try importer.load(file, registry: .standard, options: ImportOptions()).report)
    #expect(report.source == "Keras 3.15.1")
    #expect((report.operators["Dense"] ?? 0) >= 5 && report.operators["EinsumDense"] == 4)
  }

  /// Layers compute in float32 here; what the model gives has the type that the file says.
  @Test(arguments: [
    (#""float16""#, DataType.float16), (#""float64""#, .float64), (#""float32""#, .float32),
    (#"{"class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}}"#, .bfloat16),
  ]) func outputsHaveTheTypesOfTheirLayers(_ policy: String, _ type: DataType) throws {
    let text = Self.layer("Activation", #""activation": "relu", "dtype": \#(policy)"#)
    let model = try Model(bytes: try Self.file(text))
    #expect(model.outputs.map(\.dataType) == [type])
  }

  // MARK: - Damaged files

  /// Bytes changed at random and files that end early: errors, or a model.
  @Test(arguments: ["dense3.keras", "dense3.h5", "recurrent2.h5"]) func survivesDamage(_ name: String) throws {
    let whole = try #require(Self.bytes(name))
    let beginnings = (0..<30).map { _ in Array(whole[..<Int.random(in: 0..<whole.count)]) }
    for bytes in beginnings + Array(Damage.changes(of: whole, count: 90, most: 8)) {
      do {
        _ = try Model(bytes: bytes)
      } catch {
        #expect(!"\(error)".isEmpty)
      }
    }
  }

  /// The configuration of a model with numbers and names exchanged, which no checksum finds.
  @Test func survivesOddConfigurations() throws {
    for text in Self.oddConfigurations {
      let error = #expect(throws: LoadError.self, "\(text)") { _ = try Model(bytes: try Self.file(text)) }
      #expect(!"\(try #require(error))".isEmpty)
    }
  }

  private static func file(_ configuration: String) throws -> [UInt8] {
    var tree = HDF5Tree()
    tree.attributes = [("model_config", .text(configuration))]
    return try HDF5Writer.encode(tree)
  }

  private static func sequential(_ layers: String) -> String {
    #"{"class_name": "Sequential", "config": {"name": "s", "layers": ["#
      + #"{"class_name": "InputLayer", "config": {"name": "x", "batch_input_shape": [null, 4, 4]}}, "#
      + layers + "]}}"
  }

  private static func layer(_ name: String, _ config: String) -> String {
    sequential(#"{"class_name": "\#(name)", "config": {"name": "l", \#(config)}}"#)
  }

  /// An operation between an input of [batch, 4, 4, 1] and the output.
  private static func operation(_ name: String, module: String, _ config: String) -> String {
    let tensor = #"{"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}"#
    return #"{"class_name": "Functional", "config": {"name": "f", "layers": ["#
      + #"{"class_name": "InputLayer", "name": "x", "inbound_nodes": [], "#
      + #""config": {"name": "x", "batch_shape": [null, 4, 4, 1]}}, "#
      + #"{"module": "keras.src.ops.\#(module)", "class_name": "\#(name)", "config": {"name": "o", \#(config)}, "#
      + #""name": "o", "inbound_nodes": [{"args": [\#(tensor)], "kwargs": {}}]}], "#
      + #""input_layers": [["x", 0, 0]], "output_layers": [["o", 0, 0]]}}"#
  }

  /// What a rule leaves out is refused.
  @Test func resizingWithARatioThatIsKeptIsRefused() throws {
    let plain = Self.operation("Resize", module: "image", #""size": [2, 3]"#)
    #expect(try Model(bytes: try Self.file(plain)).outputs.count == 1)
    for name in ["antialias", "crop_to_aspect_ratio", "pad_to_aspect_ratio"] {
      let text = Self.operation("Resize", module: "image", #""size": [2, 3], "\#(name)": true"#)
      let error = #expect(throws: LoadError.self) { _ = try Model(bytes: try Self.file(text)) }
      #expect("\(try #require(error))".contains("resizing with '\(name)'"))
    }
  }

  /// An argument that no rule asks for is not passed over.
  @Test func argumentsOfOperationsThatAreNotReadAreRefused() throws {
    let plain = Self.operation("Round", module: "numpy", #""decimals": 0"#)
    #expect(try Model(bytes: try Self.file(plain)).outputs.count == 1)
    let text = Self.operation("Round", module: "numpy", #""decimals": 2"#)
    let error = #expect(throws: LoadError.self) { _ = try Model(bytes: try Self.file(text)) }
    #expect("\(try #require(error))".contains("the argument 'decimals' of ops.Round"))
  }

  /// The keys of dictionaries are the names of inputs and outputs.
  @Test func dictionariesNameInputsAndOutputs() throws {
    let text = Self.operation("Negative", module: "numpy", #""trainable": null"#)
      .replacing(#"[["x", 0, 0]]"#, with: #"{"given": ["x", 0, 0]}"#)
      .replacing(#"[["o", 0, 0]]"#, with: #"{"made": ["o", 0, 0]}"#)
    let model = try Model(bytes: try Self.file(text))
    #expect(model.inputs.map(\.name) == ["given"] && model.outputs.map(\.name) == ["made"])
  }

  private static let oddConfigurations: [String] = [
    "[]", "{}", #"{"class_name": 3}"#, #"{"class_name": "Sequential", "config": {"layers": []}}"#,
    #"{"class_name": "Model", "config": {"layers": [], "input_layers": 7, "output_layers": []}}"#,
    #"{"class_name": "Functional", "config": {"layers": [], "input_layers": [["x", 0, 0]], "output_layers": []}}"#,
    layer("Permute", #""dims": [2, 2]"#), layer("Permute", #""dims": []"#),
    layer("Reshape", #""target_shape": [-1, -1]"#),
    layer("Reshape", #""target_shape": [2147483647, 2147483647, 2147483647, -1]"#), layer("RepeatVector", #""n": -3"#),
    layer("Reshape", #""target_shape": [0, -1]"#), layer("Conv2D", #""kernel_size": [3, 3]"#),
    layer("Dense", #""units": 3"#),
    layer("ZeroPadding2D", #""padding": [[1, 2], [3, 4]]"#), layer("ZeroPadding1D", #""padding": [-1, 2]"#),
    layer("Cropping1D", #""cropping": [9, 9, 9]"#), layer("MaxPooling1D", #""pool_size": 0"#),
    layer("MaxPooling1D", #""pool_size": [2], "strides": [-1]"#), layer("Softmax", #""axis": 7"#),
    layer("LSTM", #""units": 99999999999"#), layer("LSTM", #""units": 3"#), layer("Bidirectional", #""layer": 3"#),
    layer("TimeDistributed", #""layer": {"class_name": "Lambda", "config": {}}"#), layer("Concatenate", #""axis": 9"#),
    layer("Activation", #""activation": "made_up""#), layer("UpSampling1D", #""size": 1048577"#),
    layer("AdaptiveAveragePooling1D", #""output_size": 0"#), layer("Flatten", #""data_format": 3"#),
    layer("CategoryEncoding", #""num_tokens": 0"#), layer("GlobalAveragePooling3D", #""keepdims": true"#),
    layer("TFOpLambda", #""function": "os.system""#), layer("Dot", #""axes": [0, 0]"#),
  ]
}
