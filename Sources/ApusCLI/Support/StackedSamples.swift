// Samples for measuring and distilling: inputs of a model, one after the other.

import Apus
import ApusFormats
import ApusGraph

/// Gives the inputs of one sample after the other.
protocol SampleInputs {
  /// How many there are in all.
  var count: Int { get }
  /// The inputs of the next sample by name; nil behind the last one.
  mutating func nextInputs() throws -> [String: Value]?
}

/// The samples of an .npz file: arrays by the names of the inputs, stacked along their first axis. Where the first
/// extent of an input is a number, that many rows are a sample; else one.
struct StackedSamples: SampleInputs {
  let count: Int
  private let arrays: [(name: String, tensor: Tensor, rows: Int, addsAxis: Bool)]
  private var position = 0

  init(file path: String, option: String, for model: Model) throws {
    let file = try FileBytes.open(path: path)
    let types = model.inputs.compactMap { input in input.dataType.map { (input.name, $0) } }
    var found = try Npz.decode(file, as: Dictionary(types) { first, _ in first })
    if found.count == 1, model.inputs.count == 1 { found[0].name = model.inputs[0].name }
    arrays = try model.inputs.map { input in
      guard let (_, tensor) = found.first(where: { $0.name == input.name }) else {
        throw InputError(
          "\(option) \(path): there is no array '\(input.name.printable())'; the file has "
            + found.map { "'\($0.name.printable())'" }.joined(separator: ", "))
      }
      return try StackedSamples.stack(ValueInput.converted(tensor, for: input), input, "\(option) \(path)")
    }
    let counts = Set(arrays.map { $0.tensor.shape[0] / $0.rows })
    guard counts.count == 1, let count = counts.first, count > 0 else {
      throw InputError(
        "\(option) \(path): expected the same number of samples, at least one, for every input; found "
          + arrays.map { "\($0.tensor.shape[0] / $0.rows) of '\($0.name.printable())'" }.joined(separator: ", "))
    }
    self.count = count
  }

  private static func stack(
    _ tensor: Tensor, _ input: ValueDescription, _ what: String
  ) throws -> (name: String, tensor: Tensor, rows: Int, addsAxis: Bool) {
    let name = input.name.printable()
    guard tensor.dataType != .string, !tensor.dataType.isPacked else {
      throw InputError("\(what): array '\(name)' is of \(tensor.dataType); expected numbers of whole bytes")
    }
    let rank = input.dimensions?.count ?? tensor.rank
    // One axis more than the input has: the samples themselves have no batch.
    let addsAxis = tensor.rank == rank + 1
    guard tensor.rank > 0, addsAxis || tensor.rank == rank else {
      throw InputError(
        "\(what): array '\(name)' is \(tensor.shape); expected samples of \(input.type) along the first axis")
    }
    let rows = addsAxis ? 1 : input.dimensions?.first.flatMap { Int($0) } ?? 1
    guard rows > 0, tensor.shape[0] % rows == 0 else {
      throw InputError(
        "\(what): array '\(name)' is \(tensor.shape); expected a multiple of \(rows) rows, as the model takes at a time"
      )
    }
    return (input.name, tensor, rows, addsAxis)
  }

  mutating func nextInputs() throws -> [String: Value]? {
    guard position < count else { return nil }
    var values: [String: Value] = [:]
    for array in arrays {
      let rowBytes = array.tensor.byteCount / array.tensor.shape[0]
      var shape = array.tensor.shape
      shape[0] = array.rows
      if array.addsAxis { shape = Shape(Array(shape.dims.dropFirst())) }
      let part = Tensor(
        dataType: array.tensor.dataType, shape: shape, storage: array.tensor.storage,
        byteOffset: array.tensor.byteOffset + position * array.rows * rowBytes)
      // At an aligned place of its own: rows of a file lie anywhere.
      values[array.name] = .tensor(try part.copied())
    }
    position += 1
    return values
  }
}
