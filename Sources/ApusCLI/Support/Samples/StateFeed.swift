// Outputs of one sample that are inputs of the next: the state of a model that hears sound piece by piece.

import Apus
import ApusFormats

/// The state of one model between samples.
struct StateFeed {
  private let pairs: [(output: String, input: String)]
  private let initial: [String: Value]
  private var current: [String: Value] = [:]

  /// - Parameters:
  ///   - texts: OUTPUT=INPUT.
  ///   - constants: what the inputs are at the beginning of a file; without a value they are zeros, symbolic extents 1.
  init(_ texts: [String], constants: [String: Value], inputs: [ValueDescription], outputs: [String]) throws {
    var (pairs, initial): ([(output: String, input: String)], [String: Value]) = ([], [:])
    for text in texts {
      let (output, name) = try Pair.split(text, option: "--feed")
      guard outputs.contains(output) else {
        throw InputError(
          "--feed \(text): there is no output '\(output.printable())'; "
            + NearMiss.choices(output, among: outputs, "outputs are \(outputs.joined(separator: ", "))"))
      }
      guard let input = inputs.first(where: { $0.name == name }) else {
        let names = inputs.map(\.name)
        throw InputError(
          "--feed \(text): there is no input '\(name.printable())'; "
            + NearMiss.choices(name, among: names, "inputs are \(names.joined(separator: ", "))"))
      }
      pairs.append((output, name))
      initial[name] = try constants[name] ?? Self.zeros(input)
    }
    (self.pairs, self.initial) = (pairs, initial)
  }

  /// The state of a model that runs on such samples.
  init(_ texts: [String], _ samples: Samples, for model: Model) throws {
    try self.init(
      texts, constants: samples.constants, inputs: model.inputs, outputs: model.outputs.map(\.name))
  }

  /// Runs the model on a sample, and keeps what the next one takes. Errors tell the sample.
  mutating func run(_ model: Model, on sample: Sample) throws -> [String: Value] {
    do throws(RunError) {
      let outputs = try model.run(values: inputs(for: sample))
      take(outputs)
      return outputs
    } catch {
      throw InputError("sample '\(sample.name.printable())': \(error)")
    }
  }

  private static func zeros(_ input: ValueDescription) throws -> Value {
    guard let type = input.dataType, type != .string, let dims = input.dimensions else {
      throw InputError("--feed: input '\(input.name)' is \(input.type); give its first value by --input")
    }
    let shape = Shape(dims.map { Int($0) ?? 1 })
    let bytes = shape.checkedElementCount.flatMap { type.byteCount(elements: $0) }
    try MemoryRoom.require(bytes, for: "--feed: input '\(input.name)' (\(input.type))")
    return .tensor(Tensor(zeros: type, shape: shape))
  }

  /// The inputs of a run on `sample`.
  mutating func inputs(for sample: Sample) -> [String: Value] {
    if pairs.isEmpty { return sample.inputs }
    if sample.startsFile { current = initial }
    return sample.inputs.merging(current) { _, state in state }
  }

  /// Keeps of the outputs what the next sample takes.
  mutating func take(_ outputs: [String: Value]) {
    for (output, input) in pairs { current[input] = outputs[output] }
  }
}
