// Text as lines, however its editor ends them.

/// Splits text into lines.
package enum TextLines {
  /// The lines of a text in UTF-8, with or without the mark of it, ended by LF or CRLF. Empty lines count, except for
  /// what follows the last line end.
  package static func lines(_ bytes: Span<UInt8>, limits: LoadLimits = LoadLimits()) throws(LoadError) -> [String] {
    if bytes.count > limits.maximumDecodedBytes / 16 {
      throw .limit("maximumDecodedBytes", limits.maximumDecodedBytes, found: "the text has \(bytes.count) bytes")
    }
    if bytes.count >= 2, (bytes[0], bytes[1]) == (0xFF, 0xFE) || (bytes[0], bytes[1]) == (0xFE, 0xFF) {
      throw LoadError(.wrongFormat, "the text is UTF-16; UTF-8 was expected", remedy: "Save it as UTF-8")
    }
    let hasMark = bytes.count >= 3 && (bytes[0], bytes[1], bytes[2]) == (0xEF, 0xBB, 0xBF)
    var lines: [String] = []
    var line: [UInt8] = []
    for index in (hasMark ? 3 : 0)..<bytes.count {
      if bytes[index] != UInt8(ascii: "\n") {
        line.append(bytes[index])
        continue
      }
      if line.last == UInt8(ascii: "\r") { line.removeLast() }
      lines.append(try text(line, number: lines.count + 1))
      line.removeAll(keepingCapacity: true)
    }
    if !line.isEmpty { lines.append(try text(line, number: lines.count + 1)) }
    return lines
  }

  /// The lines of the text file at `path`.
  package static func lines(ofFile path: String, limits: LoadLimits = LoadLimits()) throws(LoadError) -> [String] {
    let file = try FileBytes.open(path: path, limits: limits)
    do throws(LoadError) {
      return try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) in try lines(bytes, limits: limits) }
    } catch {
      throw error.inFile(path)
    }
  }

  private static func text(_ line: [UInt8], number: Int) throws(LoadError) -> String {
    guard let text = String(validating: line, as: UTF8.self) else {
      throw LoadError(.malformed, "line \(number) is no valid UTF-8", remedy: "Save the text as UTF-8")
    }
    return text
  }
}
