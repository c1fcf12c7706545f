// The formats that models are read from and written to, for `apus formats` and docs/conversion.md.

import ApusFormats
import ApusOperators

/// Every format, with what of it is mapped.
package struct FormatTable: Sendable {
  package struct Row: Sendable, Encodable {
    /// As options spell it, and as people call it.
    package let name, title: String
    /// Of file names, without the point.
    package let endings: [String]
    package let isRead, isWritten: Bool
    /// The operators or layers that are mapped, in the words of the format; empty for ONNX, whose are those of
    /// `apus operators`.
    package let operators: [String]
    /// The operators of ONNX that can be written, if the format is another framework's.
    package let written: [String]
  }

  package let rows: [Row]

  package init() {
    let forms = ModelForm.allCases.map {
      Row(
        name: $0.name, title: $0.title, endings: $0.endings, isRead: true, isWritten: true, operators: [],
        written: [])
    }
    let imported = ModelImporters.all.map { importer in
      Row(
        name: importer.name, title: importer.title, endings: importer.endings, isRead: true,
        isWritten: ModelExporters.exporter(named: importer.name) != nil, operators: importer.operators.sorted(),
        written: ModelExporters.exporter(named: importer.name)?.operators(.standard) ?? [])
    }
    rows = forms + imported
  }

  private static let lineWidth = 116

  /// The section of docs/conversion.md: what of each framework is mapped.
  package var markdown: String {
    var text = "| Format | Name | Endings | Read | Written | Operators or layers |\n|---|---|---|---|---|---|\n"
    for row in rows {
      let endings = row.endings.map { "`.\($0)`" }.joined(separator: " ")
      let count = row.operators.isEmpty ? "those of [operators.md](operators.md)" : "\(row.operators.count)"
      text += "| \(row.title) | `\(row.name)` | \(endings) | \(row.isRead ? "yes" : "no") | "
      text += "\(row.isWritten ? "yes" : "no") | \(count) |\n"
    }
    for row in rows where !row.operators.isEmpty {
      text += "\n### \(row.title): what is mapped\n\n" + Self.lines(row.operators).joined(separator: "\n") + "\n"
    }
    for row in rows where !row.written.isEmpty {
      text += "\n### \(row.title): what is written\n\n" + Self.lines(row.written).joined(separator: "\n") + "\n"
    }
    return text
  }

  /// The names with commas between them, in lines.
  private static func lines(_ names: [String]) -> [String] {
    var lines: [String] = []
    var line = ""
    for (index, name) in names.enumerated() {
      let word = "`\(name)`" + (index + 1 < names.count ? "," : ".")
      if line.isEmpty {
        line = word
      } else if line.count + 1 + word.count <= lineWidth {
        line += " " + word
      } else {
        lines.append(line)
        line = word
      }
    }
    return lines + (line.isEmpty ? [] : [line])
  }
}
