// Model files through the public interface: looked at, optimized, saved; profiles of runs.

import Apus
import ApusTestSupport
import Foundation
import Testing

@Suite struct ModelFileTests {
  private static let models = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")
  private let digits = models.appending(path: "digits.onnx")
  private let image = Tensor((0..<64).map { Float($0 % 7) / 7 }, shape: [1, 1, 8, 8])

  @Test func describesAModel() throws {
    let file = try ModelFile(contentsOf: digits)
    #expect(file.problems.isEmpty)
    #expect(file.information.metadata.contains { $0.key == "labels" })
    #expect(file.inputs.map(\.name) == ["input"])
    #expect(file.inputs[0].extents == [.symbol("batch"), .number(1), .number(8), .number(8)])
    #expect(file.inputs[0].dimensions == ["batch", "1", "8", "8"])
    let figures = file.statistics
    #expect(figures.nodes == figures.operators.values.reduce(0, +) && figures.nodes > 3)
    #expect(figures.constantBytes >= 4 * figures.parameters && figures.parameters > 100)
    guard case .expression(let text) = figures.multiplyAdds else {
      Issue.record("\(figures.multiplyAdds)")
      return
    }
    #expect(text.contains("batch"))
    var options = ModelOptions()
    options.dimensions = ["batch": 2]
    let bound = try ModelFile(contentsOf: digits, options: options)
    #expect(bound.inputs[0].extents?.first == .number(2))
    guard case .number(let count) = bound.statistics.multiplyAdds else {
      Issue.record("\(bound.statistics.multiplyAdds)")
      return
    }
    #expect(count > 1000)
  }

  @Test func savesWhatRunsAlike() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "apus-file-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let target = folder.appending(path: "small.onnx")
    let passes = try ModelFile(contentsOf: digits).optimize(to: target)
    #expect(!passes.isEmpty && passes.allSatisfy { $0.nodesAfter <= $0.nodesBefore + $0.changes })
    // Over itself.
    try ModelFile(contentsOf: target).optimize(to: target)
    let saved = try ModelFile(contentsOf: target)
    let original = try ModelFile(contentsOf: digits)
    #expect(saved.problems.isEmpty && saved.outputs == original.outputs)
    let before = try Model(contentsOf: digits).run(["input": image])
    let after = try Model(contentsOf: target).run(["input": image])
    for (name, tensor) in before { #expect(largestDifference(tensor, try #require(after[name])) < 1e-6) }
    #expect(throws: (any Error).self) { try ModelFile(contentsOf: folder.appending(path: "none.onnx")) }
  }

  @Test func writesOtherForms() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "apus-forms-\(getpid())")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    let file = try ModelFile(contentsOf: digits)
    var options = ConversionOptions()
    options.metadata = ["labels": nil, "note": "changed"]
    options.names = ["input": "image"]
    options.inputChannelsLast = true
    options.opset = 19
    options.externalData = "digits.bin"
    let split = folder.appending(path: "split.onnx")
    let written = try file.convert(to: split, options: options)
    #expect(written.source == "onnx" && written.opset == 19 && written.externalBytes > 0)
    let made = try Model(contentsOf: split)
    #expect(!made.information.metadata.contains { $0.key == "labels" })
    #expect(made.information.metadata.contains { $0.key == "note" } && made.inputs.map(\.name) == ["image"])
    let expected = try Model(contentsOf: digits).run(["input": image])
    for (name, tensor) in try made.run(["image": image.reshaped(to: [1, 8, 8, 1])]) {
      #expect(largestDifference(tensor, try #require(expected[name])) < 1e-6)
    }
    options = ConversionOptions()
    options.embedsExternalData = true
    let text = folder.appending(path: "whole.textproto")
    try ModelFile(contentsOf: split).convert(to: text, options: options)
    #expect(try ModelFile(contentsOf: text).inputs == ModelFile(contentsOf: split).inputs)
    options.format = "unknown"
    #expect(throws: LoadError.self) { try file.convert(to: text, options: options) }
  }

  @Test func profilesARun() throws {
    let model = try Model(contentsOf: digits, options: ModelOptions(threads: 1))
    let expected = try model.run(["input": image])
    let (outputs, nodes) = try model.profile(["input": image])
    for (name, tensor) in expected { #expect(largestDifference(tensor, try #require(outputs[name])) == 0) }
    #expect(nodes.count > 2 && nodes.allSatisfy { $0.seconds >= 0 && $0.start >= 0 && !$0.op.isEmpty })
    #expect(zip(nodes, nodes.dropFirst()).allSatisfy { $0.start <= $1.start })
    #expect(nodes.contains { $0.operations > 0 })
    #expect(throws: RunError.self) { try model.profile([:]) }
  }
}
