// TensorFlow Lite: what fixtures become, what is told of files that cannot be read, and files that are damaged.

import ApusContainers
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Foundation
import Testing

@Suite struct TFLiteTests {
  private static let folder = Samples.folder.replacing("/Samples", with: "/Fixtures/TFLite/")

  private func bytes(_ name: String) throws -> [UInt8] {
    try FileBytes.open(path: Self.folder + name + ".tflite").view().array
  }

  private func load(_ bytes: [UInt8]) throws(LoadError) -> ImportedModel {
    let file = try FileBytes(copying: bytes)
    guard let importer = ModelImporters.importer(of: file) else { throw .malformed("no importer") }
    return try importer.load(file, registry: .standard, options: ImportOptions())
  }

  private func problems(_ bytes: [UInt8]) -> [ModelProblem] {
    do throws(LoadError) {
      _ = try load(bytes)
      return []
    } catch {
      return error.problems.isEmpty ? [ModelProblem(nodePath: error.path ?? "", reason: error.message)] : error.problems
    }
  }

  // MARK: - Fixtures

  @Test func namesAndBatchesAreThoseOfTheSignature() throws {
    let model = try load(bytes("cnn_float")).model
    #expect(model.graph.names(model.graph.inputs) == ["image"])
    #expect(model.graph.fact(model.graph.inputs[0]).description == "float32[batch, 12, 12, 3]")
    #expect(model.graph.names(model.graph.outputs) == ["output_0"])
    #expect(model.graph.fact(model.graph.outputs[0]).description == "float32[batch, 5]")
    #expect(model.metadata.contains { $0.key == "tflite.min_runtime_version" })
  }

  @Test func operatorsAreCounted() throws {
    let report = try #require(try load(bytes("cnn_float")).report)
    #expect(report.source == "TensorFlow Lite")
    #expect(report.operators["CONV_2D"] == 3 && report.operators["DEPTHWISE_CONV_2D"] == 1)
  }

  @Test func codesStayCodesWhereOperatorsOnlyMoveThem() throws {
    let graph = try load(bytes("cnn_full8")).model.graph
    for node in graph.nodes where node.op == OperatorID("MaxPool") || node.op == OperatorID("Concat") {
      // Shapes are put together, too.
      let output = try #require(node.outputs[0])
      let type = try #require(graph.fact(output).elementType)
      let isShape = node.op == OperatorID("Concat") && [.int32, .int64].contains(type)
      #expect(type == .int8 || isShape, "\(node.op) '\(node.name)' gives \(type)")
    }
    // Weights are integers behind a DequantizeLinear.
    for node in graph.nodes where node.op == OperatorID("Conv") {
      let weights = try #require(node.inputs[1])
      let source = graph.nodes.first { $0.outputs.contains(weights) }
      #expect(source?.op == OperatorID("DequantizeLinear"))
    }
  }

  @Test func halvesStayHalves() throws {
    let graph = try load(bytes("transformer_float16")).model.graph
    #expect(graph.values.contains { $0.constant?.dataType == .float16 })
  }

  @Test func dynamicRangeIsNoted() throws {
    let model = try load(bytes("transformer_dynamic"))
    #expect(model.model.graph.notes.contains { $0.contains("meet float activations") })
  }

  @Test func controlFlowBecomesThatOfONNX() throws {
    #expect(try load(bytes("if")).model.graph.nodes.contains { $0.op == OperatorID("If") })
    let loop = try load(bytes("while")).model.graph.nodes.first { $0.op == OperatorID("Loop") }
    // The bound and what is carried, not the weights that the body hands on.
    let body = try #require(loop?.attributes.graph("body"))
    #expect(body.graph.nodes.contains { $0.op == OperatorID("MatMul") || $0.op == OperatorID("Gemm") })
  }

  /// Codes of 16 bits came with operator set 21.
  @Test func modelsAreWrittenForTheOperatorSetTheyNeed() throws {
    for (name, opset) in [("cnn_full8", 20), ("cnn_float", 20), ("cnn_int16x8", 21)] {
      let proto = try ONNXWriter.message(load(bytes(name)).model, registry: .standard)
      #expect(proto.opsetImport.map(\.version) == [opset], "\(name)")
    }
  }

  @Test func complexNumbersAreForOperatorsThatTakeThem() throws {
    for name in ["spectrum_cast", "spectrum_product"] { #expect(try problems(bytes(name)).isEmpty) }
    // CAST to complex numbers and back, then ABS of complex ones.
    #expect(problems(try model([(53, nil), (53, nil)], types: [0, 8, 0])).isEmpty)
    let refused = problems(try model([(53, nil), (101, nil)], types: [0, 8, 8]))
    #expect(refused[0].reason.contains("ABS: operands of complex64 are not supported; 'y0' is of that type"))
    let made = problems(try model([(101, nil)], types: [0, 8]))
    #expect(made[0].reason.contains("ABS: results of complex64 are not supported; 'y0' is of that type"))
    #expect(
      problems(try model([(53, nil)], types: [8, 0]))[0].reason.contains("the input 'x' should be of real numbers"))
  }

  @Test func everyRuleHasAnOperator() {
    let importer = ModelImporters.all.first { $0.name == "tflite" }
    #expect((importer?.operators.count ?? 0) > 150)
  }

  // MARK: - Files made by hand

  /// A model whose only tensors are `x` and as many results as there are operators, each of which reads `x`; with
  /// `types`, those of the tensors, each reads what the one before gives.
  private func model(
    _ operators: [(code: Int32, custom: String?)], input: Int32 = 0, buffer: UInt32 = 0, version: UInt32 = 3,
    types: [Int8] = []
  ) throws -> [UInt8] {
    var builder = FlatBufferBuilder()
    func tensor(_ name: String, _ number: Int) throws -> FlatOffset {
      var fields = FlatFields()
      fields.set(0, try builder.vector([Int32(2), 3]))
      if !types.isEmpty { fields.set(1, types[number]) }
      fields.set(2, buffer)
      fields.set(3, try builder.string(name))
      return try builder.table(fields)
    }
    var tensors = [try tensor("x", 0)]
    var (codes, nodes): ([FlatOffset], [FlatOffset]) = ([], [])
    for (index, node) in operators.enumerated() {
      tensors.append(try tensor("y\(index)", index + 1))
      var code = FlatFields()
      if let custom = node.custom { code.set(1, try builder.string(custom)) }
      code.set(3, node.code)
      codes.append(try builder.table(code))
      var fields = FlatFields()
      fields.set(0, UInt32(index))
      fields.set(1, try builder.vector([types.isEmpty ? input : Int32(index)]))
      fields.set(2, try builder.vector([Int32(index + 1)]))
      nodes.append(try builder.table(fields))
    }
    var graph = FlatFields()
    graph.set(0, try builder.vector(tensors))
    graph.set(1, try builder.vector([Int32(0)]))
    graph.set(2, try builder.vector(operators.indices.map { Int32($0 + 1) }))
    graph.set(3, try builder.vector(nodes))
    let subgraphs = try builder.vector([try builder.table(graph)])
    let buffers = try builder.vector([try builder.table(FlatFields())])
    var root = FlatFields()
    root.set(0, version)
    root.set(1, try builder.vector(codes))
    root.set(2, subgraphs)
    root.set(4, buffers)
    return try builder.finish(try builder.table(root), identifier: "TFL3")
  }

  @Test func smallModelsAreRead() throws {
    let graph = try load(model([(101, nil), (19, nil)])).model.graph
    #expect(graph.nodes.map(\.op) == [OperatorID("Abs"), OperatorID("Relu")])
    #expect(graph.names(graph.outputs) == ["y0", "y1"])
  }

  @Test func operatorsWithoutRulesAreToldAllAtOnce() throws {
    let found = problems(try model([(124, nil), (32, "FlexErf"), (101, nil), (32, "FlexErf"), (4000, nil)]))
    #expect(found.count == 3)
    #expect(found[0].reason.contains("DENSIFY of TensorFlow Lite, which 'y0' is"))
    #expect(found[1].reason.contains("CUSTOM FlexErf of TensorFlow Lite, which 'y1', 'y3' are"))
    #expect(found[2].reason.contains("number 4000"))
  }

  @Test func numbersThatLeadNowhereAreErrors() throws {
    #expect(problems(try model([(101, nil)], input: 7))[0].reason.contains("one of 2 tensors; it refers to number 7"))
    #expect(problems(try model([(101, nil)], buffer: 9))[0].reason.contains("one of 1 buffers"))
    #expect(problems(try model([(101, nil)], version: 9))[0].reason.contains("version 3"))
    // A convolution without weights.
    #expect(problems(try model([(3, nil)]))[0].reason.contains("operand 1 is missing"))
    // A subgraph that calls the main one.
    #expect(problems(try model([(31, nil)]))[0].reason.contains("subgraphs was expected"))
  }

  // MARK: - Damaged files

  @Test(arguments: ["cnn_full8", "while", "recurrent", "slices", "detection"])
  func damagedFilesAreErrors(_ name: String) throws {
    let whole = try bytes(name)
    // Read or refused; nothing else. What is cut off at the very end may be padding.
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
