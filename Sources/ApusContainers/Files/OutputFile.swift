// Files that are written: whole, or not at all. The only way in which the product writes files.

import ApusTensor
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A file that is written from the beginning to the end and gets its name when it is whole.
///
/// The bytes go to a temporary file in the folder of the target, which `commit` renames. Until then it has no name,
/// where the file system can do that, so that not even a signal that ends the process leaves it behind. Whoever has the
/// old file open or mapped keeps it, so a file may be written over while it is read. Without `commit` the temporary
/// file is gone and the old one stays. Of an existing target the permissions, and where allowed the owner, are kept; a
/// target that may not be written is not replaced. A symbolic link stays, and the file that it names is replaced;
/// further hard links keep the old content. What is no regular file (terminals, pipes, `/dev/null`, the standard
/// streams) is written directly.
///
/// Where a file is replaced, its bytes are brought to the disk before the name changes, so that after a power failure
/// one of the two is there.
package struct OutputFile: ~Copyable {
  private var number: Int32
  /// The path as the caller gave it, for messages.
  private let path: String
  private let target: OutputTarget
  /// The temporary file; nil if there is none, or none any more.
  private var temporary: Temporary?
  /// Bytes written so far.
  package private(set) var count = 0

  /// Begins a file that will be found at `path`.
  package init(path: String) throws(LoadError) {
    let target = try OutputTarget(path)
    let file = try Self.open(target, for: path)
    (self.path, self.target, number, temporary) = (path, target, file.number, file.temporary)
  }

  deinit {
    if number >= 0 { close(number) }
    if let temporary, temporary.isNamed { PendingFiles.remove(temporary.path) }
  }

  /// A file beside the target.
  private struct Temporary {
    var path: String
    /// False as long as it is open without a name.
    var isNamed: Bool

    /// Another name in a folder, which ends with a slash or is empty.
    static func path(in folder: String) -> String {
      folder + ".apus-\(getpid())-" + String(UInt64.random(in: 0 ... .max), radix: 36) + ".tmp"
    }
  }

  private static func open(
    _ target: OutputTarget, for path: String
  ) throws(LoadError) -> (number: Int32, temporary: Temporary?) {
    if target.descriptor != nil || target.isDirect {
      let number = target.descriptor.map { dup($0) } ?? Glibc.open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY)
      if number < 0 { throw LoadError.cannotWrite(path, errno) }
      return (number, nil)
    }
    // A name that exists already is drawn again.
    for _ in 0..<16 {
      var file = openUnnamed(in: target.folder)
      if file == nil { file = try createTemporary(in: target.folder, for: path) }
      guard let file else { continue }
      if let status = target.existing {
        // Not allowed to everyone; the permissions count.
        _ = fchown(file.number, status.st_uid, status.st_gid)
        _ = fchmod(file.number, status.st_mode & 0o777)
      }
      return (file.number, file.temporary)
    }
    throw LoadError.cannotWrite(path, EEXIST)
  }

  /// Linux's O_TMPFILE, which is no constant that Swift can import.
  private static let withoutName = 0o20_000_000 | O_DIRECTORY

  /// nil if the file system has no files without names, or if they could not get one later.
  private static func openUnnamed(in folder: String) -> (number: Int32, temporary: Temporary)? {
    let number = Glibc.open(folder.isEmpty ? "." : folder, O_WRONLY | O_CLOEXEC | withoutName, 0o666)
    if number < 0 { return nil }
    if access("/proc/self/fd/\(number)", F_OK) == 0 {
      return (number, Temporary(path: Temporary.path(in: folder), isNamed: false))
    }
    close(number)
    return nil
  }

  /// nil if a file of the name that was drawn exists.
  private static func createTemporary(
    in folder: String, for path: String
  ) throws(LoadError) -> (number: Int32, temporary: Temporary)? {
    let temporary = Temporary.path(in: folder)
    PendingFiles.add(temporary)
    let number = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o666)
    if number >= 0 { return (number, Temporary(path: temporary, isNamed: true)) }
    let code = errno
    PendingFiles.forget(temporary)
    if code == EEXIST { return nil }
    var error = LoadError.cannotWrite(path, code)
    if code == EACCES || code == EROFS || code == EPERM {
      error.remedy = "Its folder must be writable too, since the file is written under another name first"
    }
    throw error
  }

  package mutating func write(_ bytes: [UInt8]) throws(LoadError) { try write(bytes.span) }

  package mutating func write(_ bytes: borrowing Span<UInt8>) throws(LoadError) {
    var done = 0
    while done < bytes.count {
      // In bounds: done < bytes.count.
      let written = bytes.extracting(done..<bytes.count).withUnsafeBufferPointer {
        Glibc.write(number, $0.baseAddress, $0.count)
      }
      if written < 0 {
        if errno == EINTR { continue }
        throw LoadError.cannotWrite(path, errno)
      }
      done += written
    }
    count += bytes.count
  }

  /// Writes at another place than the end; what lies between is zeros. Not to pipes and terminals.
  package mutating func write(_ bytes: borrowing Span<UInt8>, at offset: Int) throws(LoadError) {
    var done = 0
    while done < bytes.count {
      // In bounds: done < bytes.count.
      let written = bytes.extracting(done..<bytes.count).withUnsafeBufferPointer {
        pwrite(number, $0.baseAddress, $0.count, off_t(offset + done))
      }
      if written < 0 {
        if errno == EINTR { continue }
        throw LoadError.cannotWrite(path, errno)
      }
      done += written
    }
    count = max(count, offset + bytes.count)
  }

  /// Ends the file and gives it its name. Nothing can be written after it.
  package mutating func commit() throws(LoadError) {
    if temporary != nil, target.existing != nil, fsync(number) != 0 { throw LoadError.cannotWrite(path, errno) }
    if let temporary, !temporary.isNamed { try name(temporary) }
    let closing = number
    number = -1
    if close(closing) != 0, errno != EINTR { throw LoadError.cannotWrite(path, errno) }
    guard let temporary else { return }
    if rename(temporary.path, target.path) != 0 { throw LoadError.cannotWrite(path, errno) }
    PendingFiles.forget(temporary.path)
    self.temporary = nil
  }

  private mutating func name(_ file: Temporary) throws(LoadError) {
    PendingFiles.add(file.path)
    if linkat(AT_FDCWD, "/proc/self/fd/\(number)", AT_FDCWD, file.path, AT_SYMLINK_FOLLOW) != 0 {
      let code = errno
      PendingFiles.forget(file.path)
      throw LoadError.cannotWrite(path, code)
    }
    temporary = Temporary(path: file.path, isNamed: true)
  }

  /// Throws if a file would be written over that is still wanted, by whatever name; `reason` says why it is.
  package static func check(_ path: String, isNoneOf files: [String], _ reason: String) throws(LoadError) {
    var target = stat()
    guard stat(path, &target) == 0, target.st_mode & S_IFMT == S_IFREG else { return }
    for file in files {
      var status = stat()
      guard stat(file, &status) == 0, status.st_dev == target.st_dev, status.st_ino == target.st_ino else { continue }
      throw LoadError(.cannotWrite, "the file would be lost: \(reason)", remedy: "Write to another name").inFile(path)
    }
  }

  /// Writes a whole file.
  package static func write(_ bytes: [UInt8], to path: String) throws(LoadError) {
    var file = try OutputFile(path: path)
    try file.write(bytes)
    try file.commit()
  }
}

/// Where the bytes of an output go.
private struct OutputTarget {
  /// The path after all symbolic links.
  private(set) var path: String
  /// The regular file that will be replaced.
  private(set) var existing: stat?
  /// True for what is written without a temporary file.
  private(set) var isDirect = false
  /// The open descriptor that the path stands for, as `/dev/stdout` does.
  private(set) var descriptor: Int32?

  /// The folder of the path, with a slash at its end; empty for the current one.
  var folder: String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "" }

  init(_ path: String) throws(LoadError) {
    self.path = path
    if path.isEmpty || path.utf8.contains(0) {
      throw LoadError(.cannotWrite, "the name '\(path)' is no name of a file")
    }
    descriptor = Self.descriptor(namedBy: path)
    if descriptor != nil { return }
    var status = stat()
    if stat(path, &status) == 0 {
      if status.st_mode & S_IFMT == S_IFDIR { throw LoadError.cannotWrite(path, EISDIR) }
      isDirect = status.st_mode & S_IFMT != S_IFREG
      if isDirect { return }
      if access(path, W_OK) != 0 { throw LoadError.cannotWrite(path, errno) }
      existing = status
      guard let real = realpath(path, nil) else { throw LoadError.cannotWrite(path, errno) }
      defer { free(real) }
      self.path = String(cString: real)
      return
    }
    if errno != ENOENT { throw LoadError.cannotWrite(path, errno) }
    // Nothing is there, or a link to what is not there yet, or links to such a link.
    for _ in 0..<40 {
      var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
      let length = readlink(self.path, &buffer, buffer.count)
      if length < 0 { return }
      let link = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      self.path = link.hasPrefix("/") ? link : folder + link
    }
    throw LoadError.cannotWrite(path, ELOOP)
  }

  /// Opening these paths anew would begin at the start of what they lead to.
  private static func descriptor(namedBy path: String) -> Int32? {
    switch path {
    case "/dev/stdout": return STDOUT_FILENO
    case "/dev/stderr": return STDERR_FILENO
    default:
      for folder in ["/dev/fd/", "/proc/self/fd/"] where path.hasPrefix(folder) {
        return Int32(path.dropFirst(folder.count)).flatMap { $0 >= 0 ? $0 : nil }
      }
      return nil
    }
  }
}

/// The temporary files of outputs that are not whole yet. A program that is told to end calls `removeAll`.
package enum PendingFiles {
  private static let paths = Mutex<Set<String>>([])

  static func add(_ path: String) { paths.withLock { _ = $0.insert(path) } }

  static func forget(_ path: String) { paths.withLock { _ = $0.remove(path) } }

  static func remove(_ path: String) {
    unlink(path)
    forget(path)
  }

  /// Removes every temporary file. What is being written is lost; what stood under its name stays.
  package static func removeAll() {
    paths.withLock { paths in
      for path in paths { unlink(path) }
      paths = []
    }
  }
}

/// Folders for outputs.
package enum OutputFolder {
  /// Makes the folder at `path`, and those around it, as far as they are missing.
  package static func make(_ path: String) throws(LoadError) {
    if path.isEmpty || path.utf8.contains(0) {
      throw LoadError(.cannotWrite, "the name '\(path)' is no name of a folder")
    }
    var prefix = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
      prefix += part
      if mkdir(prefix, 0o777) != 0 {
        let code = errno
        var status = stat()
        guard stat(prefix, &status) == 0 else { throw LoadError.cannotWrite(prefix, code) }
        if status.st_mode & S_IFMT != S_IFDIR {
          throw LoadError(
            .cannotWrite, "a folder was expected; this is a file",
            remedy: "Name a folder, or a file that ends in .npy, .npz, .pb or .json"
          ).inFile(prefix)
        }
      }
      prefix += "/"
    }
  }
}

extension LoadError {
  /// Why a file cannot be written, in the system's words.
  package static func cannotWrite(_ path: String, _ code: Int32) -> LoadError {
    let reason = strerror(code).map { String(cString: $0) } ?? "error \(code)"
    return LoadError(code == EPIPE ? .readerIsGone : .cannotWrite, "cannot write the file: \(reason)").inFile(path)
  }
}
