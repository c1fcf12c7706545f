// Tensors of files: every element type in every field, and what is wrong with broken ones.

import ApusFormats
import ApusTensor
import Testing

@Suite struct TensorDecoderTests {
  private func decode(_ bytes: [UInt8], _ limits: LoadLimits = LoadLimits()) throws(LoadError) -> Tensor {
    guard case .tensor(let tensor) = try ValueFile.decode(FileBytes(copying: bytes), as: nil, limits: limits) else {
      throw LoadError(.malformed, "no tensor")
    }
    return tensor
  }

  private func message(_ bytes: [UInt8], _ limits: LoadLimits = LoadLimits()) -> String {
    do {
      return "decoded \(try decode(bytes, limits).shape)"
    } catch {
      return error.message
    }
  }

  /// The initializers of a sample file by name.
  private func initializers(_ name: String) throws -> [String: Tensor] {
    let file = try Samples.file(name)
    let scanned = try file.withBytes { (bytes) throws(LoadError) in
      try WireScanner.scan(bytes, as: .model, limits: LoadLimits())
    }
    let decoder = TensorDecoder(
      file: file, external: ExternalDataFolder(nil, limits: LoadLimits()), limits: LoadLimits())
    var tensors: [String: Tensor] = [:]
    for proto in try ProtobufUnpack.model(scanned).graph?.initializers ?? [] {
      tensors[proto.name] = try decoder.tensor(proto)
    }
    return tensors
  }

  private func bytes(_ tensor: Tensor?) -> [UInt8]? { tensor?.withUnsafeBytes { Array($0) } }

  @Test func readsEveryTypeFromEveryField() throws {
    let tensors = try initializers("tensors.onnx")
    #expect(tensors.count == 2 * 27 + 1)
    var types: Set<DataType> = [.string]
    for (name, raw) in tensors where name.hasSuffix(".raw") {
      let typed = tensors[name.replacing(".raw", with: ".typed")]
      #expect(typed?.dataType == raw.dataType, "\(name)")
      #expect(raw.shape == [7] && typed?.shape == [7], "\(name)")
      #expect(bytes(raw) == bytes(typed), "\(name)")
      types.insert(raw.dataType)
    }
    #expect(types.count == DataType.allCases.count)
    #expect(
      tensors["int32.raw"]?.elements(as: Int32.self) == [0, 1, Int32.min, .max, .max - 1, .min + 1, 1] as [Int32])
    #expect(tensors["bool.typed"]?.elements(as: UInt8.self) == nil)
    #expect(bytes(tensors["bool.typed"]) == [1, 0, 1, 1, 0, 0, 1])
    // 0, 1, -2, 1 and 0, -1, 1 in two bits each, the first in the lowest.
    #expect(bytes(tensors["int2.typed"]) == [0x64, 0x1C])
    #expect(tensors["string.typed"]?.strings == ["", "a", "Zürich", "雨燕"])
  }

  @Test func encodesWhatItDecodes() throws {
    for (name, tensor) in try initializers("tensors.onnx") {
      let again = try decode(ValueFile.encode(.tensor(tensor), name: name))
      #expect(again.dataType == tensor.dataType && again.shape == tensor.shape)
      #expect(bytes(again) == bytes(tensor) && again.strings == tensor.strings, "\(name)")
    }
  }

  @Test func readsScalarsThatAreNotPacked() throws {
    let head = Wire.int(1, 3)
    let floats = [Float(1), -2, 0.5]
    let unpacked = floats.flatMap { value in Wire.tag(4, 5) + withUnsafeBytes(of: value.bitPattern) { Array($0) } }
    #expect(try decode(head + Wire.int(2, 1) + unpacked).elements(as: Float.self) == floats)
    let packed = floats.flatMap { value in withUnsafeBytes(of: value.bitPattern) { Array($0) } }
    let split = Wire.data(4, Array(packed[..<4])) + Wire.data(4, Array(packed[4...]))
    #expect(try decode(head + Wire.int(2, 1) + split).elements(as: Float.self) == floats)
    let ints = Wire.int(7, -5) + Wire.data(7, Wire.varint(1) + Wire.varint(.max))
    #expect(try decode(head + Wire.int(2, 7) + ints).elements(as: Int64.self) == [-5, 1, -1])
  }

  @Test func theLastRawDataWins() throws {
    let bytes = Wire.int(1, 1) + Wire.int(2, 6) + Wire.data(9, [1, 0, 0, 0]) + Wire.data(9, [2, 0, 0, 0])
    #expect(try decode(bytes).elements(as: Int32.self) == [2])
  }

  @Test func boolsAreZeroOrOne() throws {
    let tensor = try decode(Wire.int(1, 3) + Wire.int(2, 9) + Wire.data(9, [0, 2, 255]))
    #expect(bytes(tensor) == [0, 1, 1])
  }

  @Test func emptyTensorsNeedNoData() throws {
    #expect(try decode(Wire.int(1, 0) + Wire.int(1, 5) + Wire.int(2, 1)).shape == [0, 5])
    #expect(try decode(Wire.int(2, 1) + Wire.data(9, [0, 0, 0, 0])).shape == [])
  }

  @Test func saysWhatIsWrong() {
    let two = Wire.int(1, 2)
    #expect(message(two + Wire.int(2, 1) + Wire.data(9, [0])).contains("takes 8 bytes, but raw_data has 1"))
    #expect(message(two + Wire.int(2, 1)).contains("takes 2 entries of float_data, but there are 0"))
    #expect(
      message(two + Wire.int(2, 1) + Wire.int(7, 3)).contains(
        "belong in float_data or raw_data; this tensor has int64_data"))
    #expect(message(two + Wire.int(2, 77)).contains("data_type 77"))
    #expect(message(two + Wire.int(2, 8) + Wire.data(9, [1])).contains("string_data"))
    #expect(message(Wire.int(1, 1) + Wire.int(2, 8) + Wire.data(6, [0xFF])).contains("UTF-8"))
    #expect(
      message(Wire.int(1, 1) + Wire.int(2, 3) + Wire.int(5, 300)).contains("the entry 300 of int32_data is no int8"))
    #expect(message(Wire.int(1, -3) + Wire.int(2, 1)).contains("no size of a tensor"))
    #expect(message(Wire.int(1, 1 << 40) + Wire.int(1, 1 << 40) + Wire.int(2, 1)).contains("no size of a tensor"))
    #expect(message(Wire.int(1, 1 << 41) + Wire.int(2, 2)).contains("maximumTensorElements"))
    #expect(message(two + Wire.int(2, 1) + Wire.data(3, [])).contains("segments"))
    #expect(
      message(two + Wire.int(2, 1) + Wire.int(14, 1) + Wire.data(13, Wire.text(1, "location") + Wire.text(2, "w.bin")))
        .contains("not read from a folder"))
  }

  @Test func boundsWhatTypedFieldsTake() {
    var limits = LoadLimits()
    limits.maximumDecodedBytes = 64
    let tensor = Wire.int(1, 100) + Wire.int(2, 7) + Wire.data(7, [UInt8](repeating: 1, count: 100))
    #expect(message(tensor, limits).contains("maximumDecodedBytes"))
  }

  private func sparse(_ dims: [Int], _ values: [Float], _ indices: Tensor) -> [UInt8] {
    var proto = SparseTensorProto()
    proto.values = TensorProto(name: "s", Tensor(values))
    proto.indices = TensorProto(name: "", indices)
    proto.dims = dims
    var graph = GraphProto(outputs: ["s"], nodes: [])
    graph.sparseInitializers = [proto]
    return ModelProto(graph).encoded
  }

  private func loadSparse(_ dims: [Int], _ values: [Float], _ indices: Tensor) throws(LoadError) -> Tensor? {
    let model = try ONNXReader.load(FileBytes(copying: sparse(dims, values, indices)), registry: StandIn.registry).model
    return model.graph.constant(model.graph.outputs[0])
  }

  @Test func makesSparseTensorsDense() throws {
    let linear = try loadSparse([2, 3], [5, 6], Tensor([1, 5]))
    #expect(linear?.elements(as: Float.self) == [0, 5, 0, 0, 0, 6])
    let byAxis = try loadSparse([2, 3], [5, 6], Tensor([0, 1, 1, 2], shape: [2, 2]))
    #expect(byAxis?.elements(as: Float.self) == [0, 5, 0, 0, 0, 6])
    let narrow = try loadSparse([2, 3], [5, 6], Tensor([Int32(1), 5]))
    #expect(narrow?.elements(as: Float.self) == [0, 5, 0, 0, 0, 6])
    #expect(try loadSparse([4], [], Tensor([Int]()))?.elements(as: Float.self) == [0, 0, 0, 0])
  }

  @Test(arguments: [
    ([2, 3], Tensor([1, 6]), "lies outside"), ([2, 3], Tensor([1, 1]), "should ascend"),
    ([2, 3], Tensor([-1, 1]), "lies outside"), ([2, 3], Tensor([0, 3, 1, 0], shape: [2, 2]), "index 3 on axis 1"),
    ([2, 3], Tensor([1, 2, 3]), "indices of the shape"), ([1 << 39], Tensor([1, 2]), "maximumDecodedBytes"),
  ])
  func refusesBadIndices(_ dims: [Int], _ indices: Tensor, _ message: String) {
    do {
      _ = try loadSparse(dims, [5, 6], indices)
      Issue.record("decoded")
    } catch {
      #expect("\(error)".contains(message))
    }
  }
}
