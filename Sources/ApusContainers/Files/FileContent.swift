// Reading a file into memory of its own, all of it or without the large elements of tensors, which are found by walking
// its messages while they are read.

import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// Ranges of addresses, zeros at first, whose pages take memory only once they are written.
package enum AddressRange {
  package static func reserve(_ byteCount: Int) throws(TensorError) -> UnsafeMutableRawBufferPointer {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
    guard let base = mmap(nil, max(byteCount, 1), PROT_READ | PROT_WRITE, flags, -1, 0), base != MAP_FAILED else {
      throw TensorError(
        .memory, "the system has no memory for \(byteCount) bytes of a file",
        remedy: "Use a process that may have more memory")
    }
    return UnsafeMutableRawBufferPointer(start: base, count: byteCount)
  }

  /// Ranges of at least so many bytes hold a page of 2 MB.
  private static let smallestLarge = 4 << 20

  package static func free(_ range: UnsafeMutableRawBufferPointer) { munmap(range.baseAddress, max(range.count, 1)) }

  /// A storage over `memory` that is filled from the file when it is first asked for. When nobody needs it any more the
  /// memory goes back to the system: the range itself, or, if it is a part of `owner`, its pages.
  static func deferred(
    _ memory: UnsafeMutableRawBufferPointer, of reader: FileReader, at offset: Int, account: MemoryAccount?,
    owner: TensorStorage? = nil
  ) -> TensorStorage {
    let bytes = DeferredBytes(account: account) { start, buffer in
      do throws(LoadError) {
        try reader.read(at: offset + start, into: buffer)
        return nil
      } catch {
        return TensorError(.file, error.description)
      }
    }
    // The range is not empty: reserved above, or a part of a larger one.
    let base = memory.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 64)!
    if memory.count >= smallestLarge { advise(memory, MADV_HUGEPAGE) }
    return TensorStorage(base: base, byteCount: memory.count, deferred: bytes) { base, byteCount in
      let range = UnsafeMutableRawBufferPointer(start: base, count: byteCount)
      if owner == nil { free(range) } else { advise(range, MADV_DONTNEED) }
      withExtendedLifetime(owner) {}
    }
  }

  /// Tells the system about the whole pages of a range.
  private static func advise(_ range: UnsafeMutableRawBufferPointer, _ advice: Int32) {
    let page = UInt(sysconf(Int32(_SC_PAGESIZE)))
    let start = (UInt(bitPattern: range.baseAddress) + page - 1) / page * page
    let end = (UInt(bitPattern: range.baseAddress) + UInt(range.count)) / page * page
    guard start < end, let first = UnsafeMutableRawPointer(bitPattern: start) else { return }
    _ = madvise(first, Int(end - start), advice)
  }
}

/// The bytes of a file while they are read from front to back. What is read is charged to an account.
struct FileContent {
  private let reader: FileReader
  private let block: UnsafeMutableRawBufferPointer
  private let owner: TensorStorage
  private let account: MemoryAccount
  /// That of `block` without the gaps.
  private let content: MemoryAccount
  /// Everything before has been read or is a gap.
  private var end = 0
  private var gaps: [Range<Int>] = []

  init(_ reader: FileReader, account: MemoryAccount) throws(LoadError) {
    do throws(TensorError) {
      block = try AddressRange.reserve(reader.count)
    } catch {
      throw LoadError(error)
    }
    // What is read is charged as long as the block is there.
    let content = MemoryAccount(limit: .max, name: account.name, parent: account)
    (self.reader, self.account, self.content) = (reader, account, content)
    // `block` is never empty memory: reserving takes at least a page.
    owner = TensorStorage(
      base: block.baseAddress ?? UnsafeMutableRawPointer(bitPattern: 64)!, byteCount: block.count,
      release: { base, byteCount in
        AddressRange.free(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
        withExtendedLifetime(content) {}
      })
  }

  /// The block, and storages for the gaps in it.
  consuming func finish() -> (block: TensorStorage, gaps: [FileBytes.Gap]) {
    var storages: [FileBytes.Gap] = []
    for gap in gaps {
      let memory = UnsafeMutableRawBufferPointer(rebasing: block[gap])
      let storage = AddressRange.deferred(memory, of: reader, at: gap.lowerBound, account: account, owner: owner)
      storages.append((gap.lowerBound, storage))
    }
    return (owner, storages)
  }

  // MARK: - Reading on

  /// Bytes that are read at a time: a few headers of tensors.
  private static let chunk = 1 << 14
  /// The longest tag with the longest length.
  private static let longestHeader = 20

  /// Reads everything that has not been read yet.
  mutating func readRest() throws(LoadError) { try read(upTo: reader.count, ahead: 0) }

  /// Makes sure that everything before `target` is there.
  private mutating func read(upTo target: Int, ahead: Int = FileContent.chunk) throws(LoadError) {
    guard target > end else { return }
    let next = min(max(target, end + ahead), reader.count)
    do throws(TensorError) {
      try content.charge(next - end)
    } catch {
      throw LoadError(error)
    }
    try reader.read(at: end, into: UnsafeMutableRawBufferPointer(rebasing: block[end..<next]))
    end = next
  }

  private mutating func skip(_ gap: Range<Int>) {
    gaps.append(gap)
    end = max(end, gap.upperBound)
  }

  // MARK: - Structure

  /// Reads the file as a message, without the elements of `FileBytes.smallestGap` bytes or more. Where it is no such
  /// message the walk ends, and `readRest` reads on: what is wrong with it is the scanner's business.
  mutating func readStructure(_ outline: WireOutline) throws(LoadError) {
    // Pages of 2 MB would bring in the gaps.
    madvise(block.baseAddress, block.count, MADV_NOHUGEPAGE)
    var stack: [(type: UInt8, end: Int)] = [(outline.root, reader.count)]
    var position = 0
    while let message = stack.last {
      if position >= message.end {
        stack.removeLast()
        continue
      }
      try read(upTo: min(position + Self.longestHeader, reader.count))
      guard let (number, value) = header(at: position, in: message.end) else { return }
      position = value.upperBound
      guard value.count >= FileBytes.smallestGap else { continue }
      switch outline.content(message.type, number) {
      case .message(let type):
        // Deeper than the scanner goes there is nothing to find.
        guard stack.count <= Self.maximumDepth else { return }
        stack.append((type, value.upperBound))
        position = value.lowerBound
      case .elements:
        try read(upTo: value.lowerBound)
        skip(value)
      case .other: break
      }
    }
  }

  private static let maximumDepth = 1000

  /// The number and the value of the field at `position` of a message that ends at `end`; nil if there is no sound
  /// field.
  private func header(at position: Int, in end: Int) -> (number: UInt32, value: Range<Int>)? {
    // Everything up to the longest header has been read; the span does not outlive the call.
    let bytes = UnsafeBufferPointer(start: block.baseAddress?.assumingMemoryBound(to: UInt8.self), count: reader.count)
      .span
    var field = WireReader(position..<end)
    guard let (number, type) = try? field.tag(bytes), let value = try? field.value(type, bytes) else { return nil }
    return (number, value)
  }
}
