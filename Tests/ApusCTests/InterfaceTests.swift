// The C interface, called by a program in C; and that the program links with nothing but the header.

import Apus
import ApusC
import ApusCProgram
import ApusFormats
import ApusGraph
import ApusOperators
import Foundation
import Testing

@Suite struct InterfaceTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  private func floats(_ file: String) throws -> [Float] {
    let path = Self.folder.appending(path: "data/digits/test_data_set_0/\(file)").path(percentEncoded: false)
    let value = try ValueFile.decode(FileBytes.open(path: path), as: nil)
    return try #require(value.tensor?.elements(as: Float.self))
  }

  @Test func programInC() throws {
    let model = Self.folder.appending(path: "digits.onnx").path(percentEncoded: false)
    let pixels = try floats("input_0.pb")
    let expected = try floats("output_0.pb")
    #expect(apus_c_program(model, pixels, pixels.count / 64, expected) == 0)
  }

  @Test func compressionInC() throws {
    let model = Self.folder.appending(path: "digits.onnx").path(percentEncoded: false)
    let pixels = try floats("input_0.pb")
    let expected = try floats("output_0.pb")
    #expect(apus_c_compression_program(model, pixels, pixels.count / 64, expected) == 0)
  }

  @Test func stateInC() throws {
    let builder = GraphBuilder(name: "state", inference: InferenceDriver(registry: .standard))
    let cache = builder.addInput("cache", fact: .tensor(.float32, [1, 2, 128, 16]))
    let update = builder.addInput("update", fact: .tensor(.float32, [1, 2, 1, 16]))
    let position = builder.addInput("position", fact: .tensor(.int64, [1]))
    let present = try builder.apply(OperatorID("TensorScatter"), name: "scatter", [cache, update, position])
    builder.graph.outputs = [present]
    var graph = builder.graph
    graph.values[present.index].name = "present"
    let bytes = try ONNXWriter.message(ModelGraph(graph: graph), registry: .standard).encoded
    #expect(bytes.withUnsafeBytes { apus_c_state_program($0.baseAddress, $0.count) } == 0)
  }
}
