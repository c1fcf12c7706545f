// What a path names on the disk, to tell files from folders and pipes before anything is read or written.

import Foundation

enum PathKind {
  case file, folder, stream

  /// nil if there is nothing. Links count as what they name.
  init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: self = .file
    case S_IFDIR: self = .folder
    default: self = .stream
    }
  }
}
