// A folder for what tests write, gone when the process ends well.

import Glibc

package final class TemporaryFolder: Sendable {
  package static let shared = TemporaryFolder()
  package let root: String

  package init() {
    var template = Array("/tmp/apus-tests-XXXXXX".utf8CString)
    root = mkdtemp(&template).map { String(cString: $0) } ?? "/tmp"
  }

  /// The path of a file or folder of that name; names differ between tests.
  package func path(_ name: String) -> String { root + "/" + name }

  package func makeFolder(_ name: String) -> String {
    mkdir(path(name), 0o755)
    return path(name)
  }

  package func write(_ bytes: [UInt8], _ name: String) -> String {
    let file = fopen(path(name), "wb")
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
    return path(name)
  }
}
