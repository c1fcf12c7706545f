// apus narrow: models whose weights take fewer bits, or that compute in 16.

import Apus
import ApusFormats
import ArgumentParser
import Foundation

struct NarrowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "narrow",
    abstract: "Keeps the weights of a model in 2, 4 or 8 bits, or makes it compute in 16 bits; saves it as ONNX.",
    discussion: """
      Says of each weight what its codes cost: the signal-to-noise ratio of the weight and, with --calibrate, of what \
      its product gives. Weights that stay float are listed with the reason.
      """)

  @OptionGroup var model: ModelArguments
  @OptionGroup var weightArguments: WeightArguments
  @OptionGroup var halfArguments: HalfArguments

  @Option(name: .shortAndLong, help: "Where to save the model.", completion: .file(extensions: ["onnx"]))
  var output: String

  @Option(help: "Samples: an .npz with an array for each input, whose first axis counts the samples.")
  var calibrate: String?

  @Option(parsing: .unconditional, help: "Take so many samples at most.")
  var limit: Int?

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    try OptionValues.check(limit, "--limit", 1...Int.max)
    let wanted = [weightArguments.weights != nil, halfArguments.float16, halfArguments.bfloat16].filter { $0 }.count
    guard wanted == 1 else { throw ValidationError("expected one of --weights, --float16 and --bfloat16") }
    if weightArguments.weights != nil, weightArguments.method.wantsSamples, calibrate == nil {
      throw ValidationError("--method \(weightArguments.method.rawValue) goes by activations; give --calibrate too")
    }
  }

  func run() throws {
    let url = URL(filePath: model.model)
    let (samples, options) = (try self.samples(), try model.options())
    if let halves = halfArguments.options {
      let result = try HalfConversion.convert(
        contentsOf: url, halves, samples: samples, modelOptions: options, progress: Console.progress)
      try save(result.model)
      return json ? try printJSON(result.report) : try result.report.show()
    }
    let result = try WeightQuantization.quantize(
      contentsOf: url, weightArguments.options(), samples: samples, modelOptions: options, progress: Console.progress)
    try save(result.model)
    if json { try printJSON(result.report) } else { try result.report.show() }
  }

  private func save(_ result: CompressedModel) throws {
    Console.progress("")
    try result.save(to: URL(filePath: output))
  }

  /// One sample for each index along the first axes of the arrays.
  private func samples() throws -> [[String: Value]] {
    guard let calibrate else { return [] }
    let arrays = try Npz.decode(try FileBytes.open(path: calibrate), as: [:])
    let counts = Set(arrays.map { $0.1.shape.first ?? 0 })
    guard counts.count == 1, let count = counts.first, count > 0 else {
      throw InputError(
        "\(calibrate): the arrays have first axes of \(counts.sorted()); expected as many samples, at least one, in all"
      )
    }
    return (0..<min(count, limit ?? count)).map { index in
      var sample: [String: Value] = [:]
      for (name, tensor) in arrays {
        var shape = tensor.shape
        shape[0] = 1
        sample[name] = .tensor(
          Tensor(
            dataType: tensor.dataType, shape: shape, storage: tensor.storage,
            byteOffset: tensor.byteOffset + index * (tensor.byteCount / count)))
      }
      return sample
    }
  }
}
