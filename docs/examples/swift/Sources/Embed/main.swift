// Apus inside a program that has work of its own: one model shared by many tasks, each of them with a limit of time.
//     swift run -c release Embed ../../../TestModels/digits.onnx

import Apus
import Foundation

/// What a service keeps: the model, which any number of tasks may run at once.
struct Classifier: Sendable {
  let model: Model

  init(path: String) throws {
    // One thread a run, since the runs themselves are many.
    model = try Model(contentsOf: URL(filePath: path), options: ModelOptions(threads: 1))
  }

  /// The likeliest class. Ends early with an error when its task is cancelled.
  func classify(_ pixels: [Float]) async throws -> Int? {
    let outputs = try await model.run(["input": Tensor(pixels, shape: [1, 1, 8, 8])])
    let scores = outputs["probabilities"]?.elements(as: Float.self) ?? []
    return scores.indices.max { scores[$0] < scores[$1] }
  }
}

guard CommandLine.arguments.count == 2 else {
  print("usage: Embed MODEL")
  exit(2)
}
let classifier = try Classifier(path: CommandLine.arguments[1])
for input in classifier.model.inputs { print("input", input.name, input.type) }

let classes = try await withThrowingTaskGroup(of: Int?.self) { group in
  for request in 0..<8 {
    group.addTask { try await classifier.classify([Float](repeating: Float(request) / 8, count: 64)) }
  }
  return try await group.reduce(into: []) { $0.append($1) }
}
print("ran \(classes.count) requests")
