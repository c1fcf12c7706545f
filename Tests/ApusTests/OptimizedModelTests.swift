// Models that are saved after the passes, and models that are looked at though they cannot run.

import Apus
import ApusFormats
import Foundation
import Testing

@Suite struct OptimizedModelTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  private static let models: [String] =
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter { $0.hasSuffix(".onnx") }
    .sorted()

  private func temporary(_ name: String) -> URL {
    URL(filePath: NSTemporaryDirectory()).appending(path: "\(UUID().uuidString)-\(name)")
  }

  /// Every test model, saved with standard operators only, keeps its interface and loads again.
  @Test(arguments: models) func savedModelsLoadAgain(_ file: String) throws {
    let path = Self.folder.appending(path: file).path
    var options = ModelOptions(threads: 1)
    options.optimization.isPortable = true
    let optimized = try ModelReader.optimize(path: path, options: options)
    #expect(optimized.passes.map(\.nodesAfter).last ?? 0 <= optimized.passes.first?.nodesBefore ?? 0)
    let saved = temporary(file)
    defer {
      try? FileManager.default.removeItem(at: saved)
      try? FileManager.default.removeItem(atPath: saved.path + ".data")
    }
    try optimized.save(to: saved.path)
    let (before, after) = (try Model(contentsOf: URL(filePath: path)), try Model(contentsOf: saved))
    #expect(after.inputs.map(\.name) == before.inputs.map(\.name))
    #expect(after.outputs.map(\.name) == before.outputs.map(\.name))
  }

  @Test func savedModelsGiveTheSame() throws {
    let image = Tensor((0..<64).map { Float($0 % 7) / 7 }, shape: [1, 1, 8, 8])
    let path = Self.folder.appending(path: "digits.onnx").path
    var options = ModelOptions(threads: 1)
    options.optimization.isPortable = true
    let saved = temporary("digits.onnx")
    defer { try? FileManager.default.removeItem(at: saved) }
    try ModelReader.optimize(path: path, options: options).save(to: saved.path)
    let before = try Model(contentsOf: URL(filePath: path)).run(["input": image])
    let after = try Model(contentsOf: saved).run(["input": image])
    for (name, tensor) in before {
      let (x, y) = (tensor.elements(as: Float.self) ?? [], after[name]?.elements(as: Float.self) ?? [])
      #expect(x.count == y.count && zip(x, y).allSatisfy { abs($0 - $1) < 1e-5 })
    }
  }

  /// A node of an unknown operator is shown with the others; running and preparing still refuse the model.
  @Test func faultyModelsCanBeInspected() throws {
    var proto = ModelProto()
    proto.irVersion = 9
    proto.opsetImport = [OperatorSetID(domain: "", version: 20), OperatorSetID(domain: "my.ops", version: 1)]
    var graph = GraphProto()
    graph.inputs = [ValueInfoProto(name: "x", type: nil)]
    graph.outputs = [ValueInfoProto(name: "y", type: nil)]
    for (domain, op, input, output) in [("", "Relu", "x", "a"), ("my.ops", "Frobnicate", "a", "y")] {
      var node = NodeProto()
      (node.domain, node.opType, node.inputs, node.outputs) = (domain, op, [input], [output])
      graph.nodes.append(node)
    }
    proto.graph = graph
    let file = temporary("faulty.onnx")
    defer { try? FileManager.default.removeItem(at: file) }
    try proto.write(to: file.path)
    let inspection = try ModelReader.inspect(path: file.path, options: ModelOptions())
    #expect(inspection.graph.nodes.map(\.op.name) == ["Relu", "Frobnicate"])
    #expect(inspection.problems.count == 1)
    #expect(inspection.problems.first?.reason.contains("my.ops.Frobnicate") == true)
    #expect(throws: LoadError.self) { try Model(contentsOf: file) }
  }
}
