// A folder for what tests write, gone when the process ends well.

import Glibc

final class TemporaryFolder: Sendable {
  static let shared = TemporaryFolder()
  let root: String

  init() {
    var template = Array("/tmp/apus-formats-XXXXXX".utf8CString)
    root = mkdtemp(&template).map { String(cString: $0) } ?? "/tmp"
  }

  /// The path of a file or folder of that name; names differ between tests.
  func path(_ name: String) -> String { root + "/" + name }

  func makeFolder(_ name: String) -> String {
    mkdir(path(name), 0o755)
    return path(name)
  }

  func write(_ bytes: [UInt8], _ name: String) -> String {
    let file = fopen(path(name), "wb")
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
    return path(name)
  }
}
