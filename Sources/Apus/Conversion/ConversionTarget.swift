// What models are written as: the forms of ONNX, and the formats of other frameworks.

import ApusFormats

/// A format that is written.
package enum ConversionTarget: Sendable {
  case form(ModelForm)
  case exporter(any ModelExporter)

  /// All of them.
  package static let all: [ConversionTarget] =
    ModelForm.allCases.map { .form($0) } + ModelExporters.all.map { .exporter($0) }

  package static var names: [String] { all.map(\.name) }
  /// The usual endings of their files, with the point.
  package static var endings: [String] { all.compactMap(\.endings.first).map { "." + $0 } }

  /// The format with that name; nil if there is none.
  package init?(name: String) {
    guard let target = Self.all.first(where: { $0.name == name }) else { return nil }
    self = target
  }

  /// The format whose files end as `path` does; nil if none is known.
  package init?(path: String) {
    if let form = ModelForm(path: path) {
      self = .form(form)
    } else if let exporter = ModelExporters.exporter(path: path) {
      self = .exporter(exporter)
    } else {
      return nil
    }
  }

  /// The name on command lines.
  package var name: String {
    switch self {
    case .form(let form): form.name
    case .exporter(let exporter): exporter.name
    }
  }

  /// What people call it.
  package var title: String {
    switch self {
    case .form(let form): form.title
    case .exporter(let exporter): exporter.title
    }
  }

  private var endings: [String] {
    switch self {
    case .form(let form): form.endings
    case .exporter(let exporter): exporter.endings
    }
  }
}
