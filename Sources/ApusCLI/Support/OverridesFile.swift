// Files that say what the integers of single values are: JSON, or YAML by the ending of their names.

import Apus
import ApusCompression
import ApusFormats
import ApusTensor
import Foundation
import Yams

enum OverridesFile {
  /// Larger files are none that somebody wrote.
  private static let mostBytes = 16 << 20

  /// Overrides by the name of the value.
  static func read(_ path: String) throws -> [String: TensorOverride] {
    let file = try FileBytes.open(path: path)
    let bytes = file.withBytes { (span: Span<UInt8>) in span.indices.map { span[$0] } }
    let source = "--overrides \(path)"
    guard bytes.count <= mostBytes else {
      throw InputError("\(source): \(bytes.count) bytes; expected \(mostBytes) at most")
    }
    let isYAML = ["yaml", "yml"].contains(FileFormat.ending(of: path))
    do {
      let type = [String: TensorOverride].self
      return try isYAML
        ? DeepStack.run { try YAMLDecoder().decode(type, from: Data(bytes)) }
        : JSONDecoder().decode(type, from: Data(bytes))
    } catch let error as DecodingError {
      throw CompressionError(error, in: source)
    }
  }
}
