// Names of classes: line k of a text is class k.

import Apus
import ApusFormats
import Foundation

enum Labels {
  /// The lines of the file at `path`, empty ones included; without a path the labels in the model's metadata.
  static func read(_ path: String?, or metadata: [(key: String, value: String)]) throws -> [String] {
    if let path { return try TextLines.lines(ofFile: path) }
    let text = metadata.first { ["labels", "classes", "names"].contains($0.key) }?.value ?? ""
    if let list = try? JSONDecoder().decode([String].self, from: Data(text.utf8)) { return list }
    if text.contains(where: \.isNewline) { return (try? TextLines.lines(Array(text.utf8).span)) ?? [] }
    if let table = numbered(text) { return table }
    return text.isEmpty
      ? []
      : text.split(separator: ",", omittingEmptySubsequences: false).map { $0.trimmingCharacters(in: .whitespaces) }
  }

  /// A table as Python writes it, `{0: 'person', 1: 'bicycle'}`, whose keys count from 0.
  private static func numbered(_ text: String) -> [String]? {
    guard text.hasPrefix("{") else { return nil }
    let entry = /(\d+)\s*:\s*(?:'([^']*)'|"([^"]*)")/
    var labels: [String] = []
    for match in text.matches(of: entry) {
      guard Int(match.1) == labels.count else { return nil }
      labels.append(String(match.2 ?? match.3 ?? ""))
    }
    return labels.isEmpty ? nil : labels
  }
}
