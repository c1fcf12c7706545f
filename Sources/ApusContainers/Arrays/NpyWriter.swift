// Writing NumPy's .npy files.

import ApusTensor

extension Npy {
  /// NumPy has no arrays of more axes.
  static let maximumRank = 64

  /// Writes a .npy file. Types that NumPy lacks are written as types that hold the same numbers: bfloat16 and the
  /// smaller floats as float32, integers of 4 and 2 bits as int8 and uint8. Strings take the width of the longest one.
  package static func write(
    _ tensor: Tensor, to path: String, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) {
    do throws(LoadError) {
      let content = try Content(tensor, limits: limits)
      var file = try OutputFile(path: path)
      try content.forEachPart { (bytes: borrowing Span<UInt8>) throws(LoadError) in try file.write(bytes) }
      try file.commit()
    } catch {
      throw error.inFile(path)
    }
  }

  /// The bytes of a .npy file.
  package static func encode(_ tensor: Tensor, limits: LoadLimits = LoadLimits()) throws(LoadError) -> [UInt8] {
    let content = try Content(tensor, limits: limits)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(content.byteCount)
    content.forEachPart { part in part.withUnsafeBufferPointer { bytes += $0 } }
    return bytes
  }

  /// What a file of an array holds, before it is written.
  struct Content {
    private let tensor: Tensor
    private let header: [UInt8]
    /// Characters of a string, for arrays of strings.
    private let width: Int
    /// Bytes of the whole file.
    let byteCount: Int

    /// Strings are written in parts of about so many bytes.
    private static let partBytes = 1 << 20

    init(_ source: Tensor, limits: LoadLimits) throws(LoadError) {
      tensor = source.widened ?? source
      let shape = tensor.shape
      guard shape.rank <= Npy.maximumRank else {
        throw LoadError(
          .unsupported, "NumPy holds at most \(Npy.maximumRank) axes; the array has \(shape.rank)",
          remedy: "Use .json or .pb")
      }
      var longest = 1
      for string in tensor.strings ?? [] {
        longest = max(longest, string.unicodeScalars.count)
        if string.unicodeScalars.last == "\0" {
          throw LoadError(
            .unsupported, "NumPy drops zero characters at the end of a string, and a string has one",
            remedy: "Use .json or .pb")
        }
      }
      width = longest
      let (elements, overflow) = shape.elementCount.multipliedReportingOverflow(by: width * 4)
      if tensor.dataType == .string, overflow || elements > limits.maximumDecodedBytes {
        throw .limit(
          "maximumDecodedBytes", limits.maximumDecodedBytes,
          found:
            "\(shape.elementCount) strings, of which the longest has \(width) characters, each take its room in .npy",
          remedy: "Use .json or .pb")
      }
      header = Self.header(Self.descriptor(tensor.dataType, width: width), shape)
      byteCount = header.count + (tensor.dataType == .string ? elements : tensor.byteCount)
    }

    /// Calls `body` with the bytes of the file, a part at a time.
    func forEachPart<Failure: Error>(
      _ body: (borrowing Span<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
      try body(header.span)
      guard let strings = tensor.strings else {
        return try tensor.withByteSpan { (bytes: Span<UInt8>) throws(Failure) in try body(bytes) }
      }
      var part: [UInt8] = []
      for string in strings {
        var length = 0
        for scalar in string.unicodeScalars {
          for shift in [UInt32(0), 8, 16, 24] { part.append(UInt8(truncatingIfNeeded: scalar.value >> shift)) }
          length += 1
        }
        part.append(contentsOf: repeatElement(0, count: (width - length) * 4))
        if part.count >= Self.partBytes {
          try body(part.span)
          part.removeAll(keepingCapacity: true)
        }
      }
      try body(part.span)
    }

    static func header(_ descriptor: String, _ shape: Shape) -> [UInt8] {
      let extents = shape.map(String.init).joined(separator: ", ") + (shape.rank == 1 ? "," : "")
      var text = "{'descr': '\(descriptor)', 'fortran_order': False, 'shape': (\(extents)), }"
      // The data begin at a multiple of 64 bytes.
      text += String(repeating: " ", count: (64 - (10 + text.utf8.count + 1) % 64) % 64) + "\n"
      // Two bytes hold the length: 64 axes of 20 digits are less than 1,500 characters.
      let length = text.utf8.count
      return [0x93] + Array("NUMPY".utf8) + [
        1, 0, UInt8(truncatingIfNeeded: length), UInt8(truncatingIfNeeded: length >> 8),
      ]
        + Array(text.utf8)
    }

    static func descriptor(_ type: DataType, width: Int) -> String {
      switch type {
      case .bool: "|b1"
      case .int8: "|i1"
      case .uint8: "|u1"
      case .int16: "<i2"
      case .uint16: "<u2"
      case .int32: "<i4"
      case .uint32: "<u4"
      case .int64: "<i8"
      case .uint64: "<u8"
      case .float16: "<f2"
      case .float64: "<f8"
      case .complex64: "<c8"
      case .complex128: "<c16"
      case .string: "<U\(width)"
      default: "<f4"
      }
    }
  }
}
