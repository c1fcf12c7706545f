// Reads 64 numbers from 0 (paper) to 16 (ink) from standard input, an 8 × 8 picture of a digit, and prints the three
// likeliest digits:  swift run -c release Classify ../../../TestModels/digits.onnx < ../seven.txt

import Apus
import Foundation

guard CommandLine.arguments.count == 2 else {
  print("usage: Classify MODEL < PICTURE")
  exit(2)
}
var pixels: [Float] = []
while let line = readLine() {
  pixels += line.split(separator: " ").compactMap { Float($0) }.map { $0 / 16 }
}
guard pixels.count == 64 else {
  print("the picture has \(pixels.count) numbers; expected 64")
  exit(1)
}

let model = try Model(contentsOf: URL(filePath: CommandLine.arguments[1]))
let outputs = try model.run(["input": Tensor(pixels, shape: [1, 1, 8, 8])])
if let scores = outputs["probabilities"]?.elements(as: Float.self) {
  for (digit, score) in scores.enumerated().sorted(by: { $0.element > $1.element }).prefix(3) {
    print(digit, "\((score * 1000).rounded() / 10) %")
  }
}
