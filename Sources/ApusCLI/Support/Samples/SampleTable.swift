// Tables of samples. RFC 4180, https://www.rfc-editor.org/rfc/rfc4180; also with semicolons or tabs between cells.

import ApusFormats

/// A table in a text file, whose rows are read one at a time. The first row names the columns.
struct SampleTable {
  let path: String
  let header: [String]
  private let file: FileBytes
  private let rows: [Range<Int>]
  private let separator: UInt8

  /// The number of rows below the header.
  var count: Int { rows.count }

  /// The folder of the file, with a slash at its end; empty for the current one.
  var folder: String { path.lastIndex(of: "/").map { String(path[...$0]) } ?? "" }

  init(path: String) throws {
    self.path = path
    file = try FileBytes.open(path: path, reading: .ranges)
    var rows = try Self.rows(file)
    guard let first = rows.first else { throw InputError("\(path): the table is empty; expected a row of names") }
    rows.removeFirst()
    self.rows = rows
    let bytes = try Self.bytes(file, first)
    separator = [UInt8(ascii: ","), UInt8(ascii: ";"), UInt8(ascii: "\t")].first { bytes.contains($0) } ?? 0x2C
    header = try Self.cells(bytes, separator, path, row: 0).map { String($0.drop { $0 == "\u{FEFF}" }) }
    if let twice = header.enumerated().first(where: { header[..<$0.offset].contains($0.element) }) {
      throw InputError("\(path): two columns are called '\(twice.element.printable())'")
    }
  }

  /// The cells of row `index`, from 0 below the header on; as many as there are columns.
  func row(_ index: Int) throws -> [String] {
    let cells = try Self.cells(Self.bytes(file, rows[index]), separator, path, row: index + 1)
    guard cells.count == header.count else {
      throw InputError("\(path): row \(index + 1) has \(cells.count) cells; the header has \(header.count)")
    }
    return cells
  }

  private static func bytes(_ file: FileBytes, _ range: Range<Int>) throws -> [UInt8] {
    try file.part(range).withBytes { bytes in bytes.indices.map { bytes[$0] } }
  }

  /// The rows that are not empty, without their ends. A line end between quotes ends no row.
  private static func rows(_ file: FileBytes) throws -> [Range<Int>] {
    let piece = 1 << 20
    var rows: [Range<Int>] = []
    var (start, isQuoted, isBlank) = (0, false, true)
    for offset in stride(from: 0, to: file.count, by: piece) {
      let part = try file.part(offset..<min(offset + piece, file.count))
      part.withBytes { bytes in
        for index in bytes.indices {
          switch bytes[index] {
          case UInt8(ascii: "\n") where !isQuoted:
            if !isBlank { rows.append(start..<(offset + index)) }
            (start, isBlank) = (offset + index + 1, true)
          case UInt8(ascii: "\""): (isQuoted, isBlank) = (!isQuoted, false)
          case UInt8(ascii: "\r"): break
          default: isBlank = false
          }
        }
      }
    }
    if !isBlank { rows.append(start..<file.count) }
    return rows
  }

  private static func cells(_ bytes: [UInt8], _ separator: UInt8, _ path: String, row: Int) throws -> [String] {
    let quote = UInt8(ascii: "\"")
    var cells: [String] = []
    var (cell, isQuoted, index) = ([UInt8](), false, 0)
    func finish() throws {
      guard let text = String(validating: cell, as: UTF8.self) else {
        throw InputError("\(path): row \(row) is no valid UTF-8. Save the table as UTF-8")
      }
      cells.append(text)
      cell = []
    }
    while index < bytes.count {
      let byte = bytes[index]
      if isQuoted, byte == quote, index + 1 < bytes.count, bytes[index + 1] == quote {
        cell.append(quote)
        index += 1
      } else if byte == quote {
        isQuoted.toggle()
      } else if byte == separator, !isQuoted {
        try finish()
      } else if !(byte == UInt8(ascii: "\r") && index == bytes.count - 1) {
        cell.append(byte)
      }
      index += 1
    }
    if isQuoted { throw InputError("\(path): row \(row) has a quote that nothing ends") }
    try finish()
    return cells
  }
}
