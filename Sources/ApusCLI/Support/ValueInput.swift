// Values from files of arrays and text.

import Apus
import ApusFormats
import ApusTensor
import ArgumentParser

enum ValueInput {
  /// The value in a file whose ending tells its format, of the type that the input declares.
  static func value(file: String, name: String, for input: ValueDescription) throws -> Value {
    let ending = file == "-" ? "npy" : String(file.split(separator: ".").last ?? "").lowercased()
    let path = file == "-" ? "/dev/stdin" : file
    let content = try FileBytes.open(path: path)
    switch ending {
    case "npy": return .tensor(try converted(Npy.decode(content, as: input.dataType), for: input))
    case "npz":
      let arrays = try Npz.decode(content, as: input.dataType.map { [name: $0] } ?? [:])
      guard let found = arrays.first(where: { $0.name == name }) ?? (arrays.count == 1 ? arrays.first : nil) else {
        throw ValidationError("\(file) has no array '\(name)'; it has \(arrays.map(\.name).joined(separator: ", "))")
      }
      return .tensor(try converted(found.tensor, for: input))
    case "pb": return try ValueFile.decode(content, as: input.valueType)
    case "json": return try TextTensors.json(content, as: input.valueType)
    case "txt":
      let shape = input.dimensions.map { $0.map { Int($0) } }
      return .tensor(try TextTensors.text(content, as: input.dataType, shape: shape))
    default:
      throw ValidationError("\(file): the ending .\(ending) is not known; expected .npy, .npz, .pb, .json or .txt")
    }
  }

  /// NumPy has no type for some of ONNX; their bit patterns arrive as integers of the same width.
  private static func converted(_ tensor: Tensor, for input: ValueDescription) throws -> Tensor {
    guard let wanted = input.dataType, wanted != tensor.dataType, wanted.bits == tensor.dataType.bits,
      tensor.dataType.isUnsignedInteger, !wanted.isInteger, wanted != .float32, wanted != .float64
    else { return tensor }
    return tensor.reinterpreted(as: wanted)
  }
}
