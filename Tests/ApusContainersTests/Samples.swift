// The sample files of this target, and what tests ask of errors.

import ApusContainers
import ApusTensor

enum Samples {
  static let folder = String(#filePath.prefix(upTo: #filePath.lastIndex(of: "/") ?? #filePath.startIndex)) + "/Samples"

  static func path(_ name: String) -> String { folder + "/" + name }

  static func file(_ name: String, reading: FileBytes.Reading = .everything) throws -> FileBytes {
    try FileBytes.open(path: path(name), reading: reading)
  }

  static func bytes(_ name: String) throws -> [UInt8] { try file(name).all }

  /// What make_samples.py puts into archives.
  static let text = Array(String(repeating: "the quick brown swift ", count: 200).utf8)
}

extension FileBytes {
  var all: [UInt8] { bytes(in: 0..<count) }
}

extension Tensor {
  var bytes: [UInt8] { withUnsafeBytes { Array($0) } }
}

/// What an action complains of; "no error" if it does not.
func message(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "no error"
  } catch {
    return "\(error)"
  }
}
