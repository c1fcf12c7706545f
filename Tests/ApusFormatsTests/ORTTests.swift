// ONNX Runtime's own form: what fixtures become, what is refused with which words, and files made by hand.

import ApusContainers
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Testing

@Suite struct ORTTests {
  private static let folder = Samples.folder.replacing("/Samples", with: "/Fixtures/ORT/")

  private func bytes(_ name: String) throws -> [UInt8] {
    try FileBytes.open(path: Self.folder + name + ".ort").view().array
  }

  private func load(_ bytes: [UInt8], _ options: ImportOptions = ImportOptions()) throws(LoadError) -> ImportedModel {
    let file = try FileBytes(copying: bytes)
    guard let importer = ModelImporters.importer(of: file), importer.name == "ort" else {
      throw .malformed("no importer")
    }
    return try importer.load(file, registry: .standard, options: options)
  }

  private func failure(_ bytes: [UInt8], _ options: ImportOptions = ImportOptions()) -> String {
    do throws(LoadError) {
      _ = try load(bytes, options)
      return ""
    } catch {
      return "\(error)"
    }
  }

  // MARK: - Fixtures

  @Test func modelsKeepWhatTheFileSays() throws {
    let imported = try load(bytes("network_none"))
    let model = imported.model
    #expect(model.graph.names(model.graph.inputs) == ["image"])
    #expect(model.graph.fact(model.graph.inputs[0]).description == "float32[batch, 3, 12, 12]")
    #expect(model.graph.fact(model.graph.outputs[0]).description == "float32[batch, 5]")
    #expect(model.metadata.contains { $0.key == "author" && $0.value == "swift é" })
    #expect(model.producer == "apus-fixtures" && model.opsets == ["": 21] && model.irVersion == 10)
    #expect(model.modelVersion == 0)
    #expect(imported.report?.operators["Conv"] == 3)
    #expect(imported.report?.source == "ONNX Runtime, version 6 of its form")
  }

  @Test func weightsAreThoseOfTheFile() throws {
    let file = try FileBytes(copying: bytes("network_none"))
    let graph = try ORTImporter().load(file, registry: .standard, options: ImportOptions()).model.graph
    let weights = try #require(graph.values.first { $0.name == "w2" }?.constant)
    let start = try #require(graph.values.first { $0.name == "w1" }?.constant)
    #expect(weights.shape.dims == [16, 8, 3, 3])
    #expect(weights.storage === start.storage, "views of the bytes of the file")
  }

  @Test func fusedOperatorsBecomeStandardOnes() throws {
    let imported = try load(bytes("network_extended"))
    #expect((imported.report?.operators["com.microsoft.FusedConv"] ?? 0) >= 1)
    #expect(imported.model.graph.nodes.allSatisfy { $0.op.domain.isEmpty || $0.op.domain == "apus" })
  }

  @Test func graphsInsideOfNodesAreRead() throws {
    let graph = try load(bytes("control_none")).model.graph
    for op in ["If", "Loop", "Scan"] { #expect(graph.nodes.contains { $0.op == OperatorID(op) }) }
  }

  @Test func ordersOfOneMachineAreRefusedWithAllNames() throws {
    let blocks = try bytes("blocks")
    let text = failure(blocks)
    #expect(text.contains("com.microsoft.nchwc.Conv") && text.contains("com.microsoft.nchwc.ReorderOutput"))
    #expect(text.contains("ORT_ENABLE_EXTENDED") && text.contains("--optimization_style Fixed"))
    var options = ImportOptions()
    options.keepsFaultyNodes = true
    let problems = try load(blocks, options).problems
    #expect(problems.contains { $0.reason.contains("com.microsoft.nchwc.Conv") })
  }

  // MARK: - Files made by hand

  /// A file whose graph has one node `Identity`, from `x` to `y`, with what the closures add.
  private func file(
    version: String = "6", op: String = "Identity", name: String = "node",
    node: (inout FlatBufferBuilder, inout FlatFields) throws -> Void = { _, _ in },
    graph: (inout FlatBufferBuilder, inout FlatFields) throws -> Void = { _, _ in }
  ) throws -> [UInt8] {
    var builder = FlatBufferBuilder()
    var nodeFields = FlatFields()
    nodeFields.set(0, try builder.string(name))
    nodeFields.set(5, try builder.string(op))
    nodeFields.set(8, try builder.vector([builder.string("x")]))
    nodeFields.set(9, try builder.vector([builder.string("y")]))
    try node(&builder, &nodeFields)
    var type = FlatFields()
    type.set(0, 1 as Int32)
    var info = FlatFields()
    info.set(1, union: 1, try builder.table(type))
    var value = FlatFields()
    value.set(0, try builder.string("x"))
    value.set(2, try builder.table(info))
    var graphFields = FlatFields()
    graphFields.set(1, try builder.vector([builder.table(value)]))
    graphFields.set(2, try builder.vector([builder.table(nodeFields)]))
    graphFields.set(5, try builder.vector([builder.string("x")]))
    graphFields.set(6, try builder.vector([builder.string("y")]))
    try graph(&builder, &graphFields)
    var opset = FlatFields()
    opset.set(0, try builder.string(""))
    opset.set(1, 21 as Int64)
    var other = FlatFields()
    other.set(0, try builder.string("com.microsoft.nchwc"))
    other.set(1, 1 as Int64)
    var model = FlatFields()
    model.set(0, 10 as Int64)
    model.set(1, try builder.vector([builder.table(opset), builder.table(other)]))
    model.set(7, try builder.table(graphFields))
    var root = FlatFields()
    root.set(0, try builder.string(version))
    root.set(1, try builder.table(model))
    return try builder.finish(builder.table(root), identifier: "ORTM")
  }

  /// Adds one initializer.
  private func initializer(
    _ builder: inout FlatBufferBuilder, _ graph: inout FlatFields, dims: [Int64], type: Int32 = 1, raw: [UInt8]? = nil,
    strings: [String]? = nil, external: Int64 = -1
  ) throws {
    var tensor = FlatFields()
    tensor.set(0, try builder.string("w"))
    tensor.set(2, try builder.vector(dims))
    tensor.set(3, type)
    if let raw { tensor.set(4, try builder.vector(bytes: raw)) }
    if let strings { tensor.set(5, try builder.vector(strings.map { try builder.string($0) })) }
    tensor.set(6, external, default: -1)
    graph.set(0, try builder.vector([builder.table(tensor)]))
  }

  @Test func smallModelsAreRead() throws {
    let model = try load(file()).model
    #expect(model.graph.nodes.map(\.op) == [OperatorID("Identity")])
    // Not those that no node is of.
    #expect(model.opsets == ["": 21])
  }

  @Test func whatTheFileSaysIsChecked() throws {
    #expect(try failure(file(version: "7")).contains("version 1 to 6 of the form was expected; the file has '7'"))
    #expect(try failure(file(name: "a\0b")).contains("zero byte"))
    #expect(try failure(file(op: "Nothing")).contains("Nothing"))
    #expect(
      try failure(file { _, node in node.set(6, 1 as Int32) }).contains("was compiled by an execution provider"))
    let short = try file(graph: { try initializer(&$0, &$1, dims: [4], raw: [0, 0, 0, 0]) })
    #expect(failure(short).contains("takes 16 bytes, but raw_data has 4"))
    let huge = try file(graph: { try initializer(&$0, &$1, dims: [1 << 40, 1 << 40], raw: []) })
    #expect(failure(huge).contains("are no size of a tensor"))
    let texts = try file(graph: { try initializer(&$0, &$1, dims: [3], type: 8, strings: ["a"]) })
    #expect(failure(texts).contains("tensor 'w': string[3] takes 3 texts; found 1"))
    let outside = try file(graph: { try initializer(&$0, &$1, dims: [1], external: 64) })
    #expect(failure(outside).contains("lie outside of the file"))
    let lacking = try file { builder, node in
      var attribute = FlatFields()
      attribute.set(0, try builder.string("value"))
      attribute.set(2, 5 as Int32)
      node.set(10, try builder.vector([builder.table(attribute)]))
    }
    #expect(failure(lacking).contains("its type says a graph, but it has none"))
  }

  /// A few bytes that lead to a long text many times take no more memory than the limits allow.
  @Test func textsThatManyOffsetsLeadToCountEachTime() throws {
    let bytes = try file { builder, node in
      let long = try builder.string(String(repeating: "a", count: 100_000))
      var attribute = FlatFields()
      attribute.set(0, try builder.string("texts"))
      attribute.set(2, 8 as Int32)
      attribute.set(10, try builder.vector(Array(repeating: long, count: 10_000)))
      node.set(10, try builder.vector([builder.table(attribute)]))
    }
    var options = ImportOptions()
    options.limits.maximumStructureBytes = 64 << 20
    #expect(failure(bytes, options).contains("LoadLimits.maximumStructureBytes is \(64 << 20)"))
  }

  @Test func graphsInGraphsAreBounded() throws {
    // A graph whose node has a graph, and so on.
    let bytes = try file(op: "If") { builder, node in
      var inner = try builder.table(FlatFields())
      for _ in 0..<200 {
        var attribute = FlatFields()
        attribute.set(0, try builder.string("then_branch"))
        attribute.set(2, 5 as Int32)
        attribute.set(7, inner)
        var nested = FlatFields()
        nested.set(5, try builder.string("If"))
        nested.set(10, try builder.vector([builder.table(attribute)]))
        var graph = FlatFields()
        graph.set(2, try builder.vector([builder.table(nested)]))
        inner = try builder.table(graph)
      }
      var attribute = FlatFields()
      attribute.set(0, try builder.string("then_branch"))
      attribute.set(2, 5 as Int32)
      attribute.set(7, inner)
      node.set(10, try builder.vector([builder.table(attribute)]))
    }
    #expect(failure(bytes).contains("deep in each other"))
  }

  // MARK: - Damaged files

  @Test(arguments: ["network_extended", "control_none", "texts_basic", "types_none", "integers_all"])
  func damagedFilesAreErrors(_ name: String) throws {
    let whole = try bytes(name)
    for beginning in Damage.beginnings(of: whole, every: 61) {
      do throws(LoadError) {
        _ = try load(beginning)
        #expect(beginning.count > whole.count / 2)
      } catch { continue }
    }
    for damaged in Damage.changes(of: whole, count: 400) {
      do throws(LoadError) { _ = try load(damaged) } catch { continue }
    }
  }
}
