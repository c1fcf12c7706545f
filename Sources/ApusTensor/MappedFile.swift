// A file that is mapped for reading, once for all who have it open in this process.

import CApusProcess
import Synchronization

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// The bytes of a file where the system has them. They take memory only as far as it finds some, and processes that map
/// the same file share them.
///
/// Nobody should write to the file or make it shorter meanwhile: what is overwritten in place is read as it is then.
/// Where the file became shorter there are zeros, and `isDamaged` is true from then on.
///
/// `@unchecked Sendable`: the address never changes, and nobody writes through it.
package final class MappedFile: @unchecked Sendable {
  package let base: UnsafeMutableRawPointer
  package let byteCount: Int
  private let watch: Int32

  /// What tells one version of a file from all others.
  private struct Identity: Hashable {
    let numbers: [Int]

    init(_ status: stat) {
      numbers = [
        Int(bitPattern: UInt(status.st_dev)), Int(bitPattern: UInt(status.st_ino)), Int(status.st_size),
        status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
      ]
    }
  }

  private struct Reference: Sendable {
    weak let file: MappedFile?
  }

  private static let ofProcess = Mutex<[Identity: Reference]>([:])

  /// Maps the file that `descriptor` is open for, of the status that the system gave for it; nil, and `errno` set, if
  /// the system cannot. The file must not be empty.
  package static func map(descriptor: Int32, status: stat) -> MappedFile? {
    let identity = Identity(status)
    return ofProcess.withLock { known in
      if let file = known[identity]?.file, !file.isDamaged { return file }
      let byteCount = Int(status.st_size)
      guard let base = mmap(nil, byteCount, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
        return nil
      }
      let file = MappedFile(base, byteCount)
      known = known.filter { $0.value.file != nil }
      known[identity] = Reference(file: file)
      return file
    }
  }

  private init(_ base: UnsafeMutableRawPointer, _ byteCount: Int) {
    (self.base, self.byteCount) = (base, byteCount)
    watch = apus_watch_mapping(base, byteCount)
  }

  deinit {
    apus_unwatch_mapping(watch)
    munmap(base, byteCount)
  }

  /// True if pages were asked for that the file does not have any more.
  package var isDamaged: Bool { apus_mapping_is_damaged(watch) }
}
