// An .npz file that grows: arrays whose rows come one after the other, all arrays at a time.

import ApusTensor

/// Writes an archive of stored arrays whose types and shapes are known before their elements. Each array has its place
/// in the file from the beginning on, and its rows are written where they belong; nothing is kept in memory.
///
/// Types that NumPy lacks are written as those that `Npy.write` has for them. Not for strings, pipes and terminals.
package struct NpzStream: ~Copyable {
  /// An array that will be written.
  package struct Array: Sendable {
    package var name: String
    package var dataType: DataType
    package var shape: Shape

    package init(name: String, dataType: DataType, shape: Shape) {
      (self.name, self.dataType, self.shape) = (name, dataType, shape)
    }
  }

  private struct Member {
    /// Its checksum is known at the end.
    var header: ZipHeader
    let dataType: DataType
    var checksum = CRC32()
    /// Where the next bytes of the array go, and where they end.
    var position: Int
    let end: Int
  }

  private var output: OutputFile
  private var members: [Member]
  private let path: String

  package init(_ arrays: [Array], to path: String) throws(LoadError) {
    var members: [Member] = []
    var headers: [[UInt8]] = []
    for array in arrays {
      let (member, header) = try Self.member(array, at: members.last?.end ?? 0, path)
      members.append(member)
      headers.append(header)
    }
    var file = try OutputFile(path: path)
    for (member, header) in zip(members, headers) {
      try file.write(header.span, at: member.position - header.count)
    }
    output = file
    (self.path, self.members) = (path, members)
  }

  /// The place of an array that begins at `offset`, and the header that stands before its elements.
  private static func member(
    _ array: Array, at offset: Int, _ path: String
  ) throws(LoadError) -> (Member, header: [UInt8]) {
    let type = stored(array.dataType)
    guard array.dataType != .string, array.shape.rank <= Npy.maximumRank,
      let count = array.shape.checkedElementCount, let bytes = type.byteCount(elements: count)
    else {
      throw LoadError(
        .unsupported, "array '\(array.name)' is \(array.dataType)\(array.shape), which cannot be written row by row"
      ).inFile(path)
    }
    let name = [UInt8]((array.name + ".npy").utf8)
    guard name.count <= Zip.maximumNameBytes else {
      throw LoadError(.cannotWrite, "the name of an array has \(name.count) bytes").inFile(path)
    }
    let header = Npy.Content.header(Npy.Content.descriptor(type, width: 1), array.shape)
    let size = header.count + bytes
    let entry = ZipHeader(name: name, compressedSize: size, size: size, offset: offset, alignment: Npz.alignment)
    let begin = offset + entry.local.count
    var member = Member(
      header: entry, dataType: array.dataType, position: begin + header.count, end: begin + size)
    member.checksum.update(header.span)
    return (member, header)
  }

  private static func stored(_ type: DataType) -> DataType {
    Tensor(zeros: type, shape: [1]).widened?.dataType ?? type
  }

  /// Appends the elements of a tensor to an array, in the order in which the arrays were given.
  package mutating func append(_ tensor: Tensor, to array: Int) throws(LoadError) {
    let content = tensor.widened ?? tensor
    guard tensor.dataType == members[array].dataType, content.byteCount <= members[array].end - members[array].position
    else {
      throw LoadError(
        .unsupported,
        "\(tensor.dataType)\(tensor.shape) does not fit into what is left of the array, which is "
          + "\(members[array].dataType)"
      ).under("array '\(String(decoding: members[array].header.name.dropLast(4), as: UTF8.self))'").inFile(path)
    }
    let position = members[array].position
    try content.withByteSpan { (bytes: Span<UInt8>) throws(LoadError) in
      members[array].checksum.update(bytes)
      try output.write(bytes, at: position)
    }
    members[array].position += content.byteCount
  }

  /// Ends the file and gives it its name. Throws if an array is not whole.
  package mutating func commit() throws(LoadError) {
    var directory: [UInt8] = []
    for var member in members {
      guard member.position == member.end else {
        throw LoadError(.cannotWrite, "\(member.end - member.position) bytes of an array are missing").inFile(path)
      }
      member.header.checksum = member.checksum.value
      try output.write(member.header.local.span, at: member.header.offset)
      directory += member.header.entry
    }
    let start = members.last?.end ?? 0
    let end = directory + ZipHeader.end(count: members.count, start: start, size: directory.count)
    try output.write(end.span, at: start)
    try output.commit()
  }
}
