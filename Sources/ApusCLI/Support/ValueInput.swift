// Values from files of arrays and text.

import Apus
import ApusFormats
import ApusTensor
import ArgumentParser

enum ValueInput {
  /// The value in a file whose ending tells its format, of the type that the input declares.
  static func value(file: String, name: String, for input: ValueDescription) throws -> Value {
    let ending = FileFormat.ending(of: file)
    let content = try FileBytes.open(path: file == "-" ? "/dev/stdin" : file)
    switch file == "-" ? "npy" : ending {
    case "npy": return .tensor(try converted(Npy.decode(content, as: input.dataType), for: input))
    case "npz":
      let arrays = try Npz.decode(content, as: input.dataType.map { [name: $0] } ?? [:])
      guard let found = arrays.first(where: { $0.name == name }) ?? (arrays.count == 1 ? arrays.first : nil) else {
        throw InputError("\(file) has no array '\(name)'; it has \(arrays.map(\.name).joined(separator: ", "))")
      }
      return .tensor(converted(found.tensor, for: input))
    case "pb": return try ValueFile.decode(content, as: input.valueType)
    case "json": return try TextTensors.json(content, as: input.valueType)
    case "txt":
      let shape = input.dimensions.map { $0.map { Int($0) } }
      return .tensor(try TextTensors.text(content, as: input.dataType, shape: shape))
    default:
      throw ValidationError(
        "--input: the ending of '\(file)' is not known; expected .npy, .npz, .pb, .json or .txt (pictures "
          + "come by --image, sound by --audio)")
    }
  }

  /// NumPy has no type for bfloat16 and the floats of 8 bits; their bit patterns arrive as unsigned integers of the
  /// same width. Zeros and ones in uint8 are good for bool.
  static func converted(_ tensor: Tensor, for input: ValueDescription) -> Tensor {
    switch (tensor.dataType, input.dataType) {
    case (.uint16, .bfloat16): return tensor.reinterpreted(as: .bfloat16)
    case (.uint8, let wanted?) where wanted.isFloat && wanted.bits == 8: return tensor.reinterpreted(as: wanted)
    case (.uint8, .bool):
      return tensor.elements(as: UInt8.self)?.allSatisfy { $0 <= 1 } ?? false ? tensor.reinterpreted(as: .bool) : tensor
    default: return tensor
    }
  }
}

/// Files by the endings of their names.
enum FileFormat {
  /// What follows the last dot of the file's name, in small letters; empty without one.
  static func ending(of path: String) -> String {
    let name = path.split(separator: "/").last ?? ""
    guard let dot = name.lastIndex(of: "."), dot != name.startIndex else { return "" }
    return name[name.index(after: dot)...].lowercased()
  }
}
