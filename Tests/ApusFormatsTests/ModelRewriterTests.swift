// Weights that move between a model and a file beside it, and headers that change: all else stays byte for byte.

import ApusFormats
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ModelRewriterTests {
  private let weight = Tensor((0..<600).map { Float($0) * 0.5 })

  private func model() -> [UInt8] {
    var proto = ModelProto(
      GraphProto(
        outputs: ["w", "again", "v"], nodes: [],
        initializers: [
          TensorProto(name: "w", weight), TensorProto(name: "again", weight),
          TensorProto(name: "v", Tensor([Float(7)])),
        ]))
    proto.metadata = [StringEntry(key: "k", value: "v")]
    // A field that no version of ONNX has: number 999, of bytes.
    return proto.encoded + [0xBA, 0x3E, 2, 1, 2]
  }

  private func rewriter(
    _ bytes: [UInt8], _ placement: WeightPlacement, header: HeaderChanges = HeaderChanges(), folder: String? = nil
  ) throws -> ModelRewriter {
    let limits = LoadLimits()
    return ModelRewriter(
      try FileBytes(copying: bytes), folder: ExternalDataFolder(folder, limits: limits), placing: placement,
      header: header, limits: limits)
  }

  @Test func movesWeightsOutAndIn() throws {
    let path = TemporaryFolder.shared.path("moved.onnx")
    let written = try rewriter(model(), .external(SideFileLayout())).write(to: path)
    #expect(written.sideFile == path + ".data" && written.sideTensors == 2)
    #expect(written.sideBytes == weight.byteCount && written.sharedBytes == weight.byteCount)
    let graph = try ONNXReader.load(path: path, registry: StandIn.registry).model.graph
    #expect(graph.outputs.prefix(2).allSatisfy { graph.constant($0)?.elements(as: Float.self)?.count == 600 })
    let split = try FileBytes.open(path: path)
    let again = try rewriter(
      split.bytes(in: 0..<split.count), .embedded, folder: ExternalDataFolder.folder(of: path)
    ).bytes()
    let whole = try ONNXReader.load(FileBytes(copying: again), registry: StandIn.registry).model.graph
    #expect(whole.constant(whole.outputs[1])?.elements(as: Float.self) == weight.elements(as: Float.self))
    #expect(Array(again.suffix(5)) == Array(model().suffix(5)), "what nobody knows is still there")
  }

  /// Readers want axes and extents while they infer shapes.
  @Test func integersOfOneAxisStay() throws {
    let proto = ModelProto(
      GraphProto(
        outputs: ["few", "many", "v"], nodes: [],
        initializers: [
          TensorProto(name: "few", Tensor((0..<64).map { Int64($0) })),
          TensorProto(name: "many", Tensor((0..<65).map { Int64($0) })), TensorProto(name: "v", Tensor([Float(7)])),
        ]))
    var layout = SideFileLayout()
    (layout.threshold, layout.alignment) = (0, 1)
    for (name, write) in [
      ("rewritten", { path in try rewriter(proto.encoded, .external(layout)).write(to: path) }),
      ("written", { path in try proto.write(to: path, layout: layout) }),
    ] as [(String, (String) throws -> WrittenModel)] {
      let written = try write(TemporaryFolder.shared.path("integers-\(name).onnx"))
      #expect(written.sideTensors == 2 && written.sideBytes == 65 * 8 + 4, "\(name)")
    }
  }

  @Test func leavesAllElseAsItIs() throws {
    #expect(try rewriter(model(), .asRead).bytes() == model())
    var header = HeaderChanges()
    header.metadata = [("k", nil), ("new", "entry")]
    header.documentation = "words"
    let proto = try ONNXReader.load(
      FileBytes(copying: rewriter(model(), .asRead, header: header).bytes()), registry: StandIn.registry
    ).model
    #expect(proto.metadata.map(\.key) == ["new"] && proto.documentation == "words")
    #expect(proto.graph.outputs.count == 3)
  }

  @Test func setsEntriesWhereTheyStand() throws {
    var header = HeaderChanges()
    header.metadata = [("b", "new"), ("c", nil), ("d", "last")]
    let entries = try header.apply(to: [("a", "1"), ("b", "2"), ("c", "3"), ("b", "4")])
    #expect(entries.map(\.key) == ["a", "b", "d"] && entries.map(\.value) == ["1", "new", "last"])
    header.metadata = [("nope", nil)]
    let error = #expect(throws: LoadError.self) { try header.apply(to: [("a", "1"), ("b", "2")]) }
    #expect(error.map { "\($0)" }?.contains("There are 'a', 'b'") ?? false)
  }

  @Test func tellsWhatCannotBe() throws {
    let path = TemporaryFolder.shared.path("refused.onnx")
    for name in ["", "..", "a/b"] {
      var layout = SideFileLayout()
      layout.name = name
      #expect(throws: LoadError.self) { try rewriter(model(), .external(layout)).write(to: path) }
    }
    var layout = SideFileLayout()
    layout.name = "refused.onnx"
    try OutputFile.write([1], to: path)
    #expect(throws: LoadError.self) { try rewriter(model(), .external(layout)).write(to: path) }
    #expect(throws: LoadError.self) { try rewriter(Array(model().dropLast(40)), .external(SideFileLayout())).bytes() }
    #expect(try FileBytes.open(path: path).count == 1, "the target is what it was")
  }
}
