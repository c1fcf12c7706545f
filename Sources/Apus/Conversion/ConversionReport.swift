// What a conversion says of itself, for `apus convert --json`, C and Python.

import ApusCompression
import ApusFormats

package struct ConversionReport: Encodable {
  private let model, file, from, to: String
  private let modelBytes, fileBytes: Int
  /// The file with the weights beside it.
  private let sideFile: String?
  private let sideBytes: Int?
  private let nodes, opset: Int?
  private let leftOut: [String]
  private let halves: HalfConversionReport?
  private let differences: [OutputDifference]?
  /// What was read of another framework's format.
  private let source: String?
  private let operators: [String: Int]?
  /// What was written of it.
  private let written: [String: Int]?
  private let notes: [String]?

  package init(_ summary: ConversionSummary, model: String, file: String) {
    (self.model, self.file, from, to) = (model, file, summary.source.name, summary.target.name)
    (modelBytes, fileBytes) = (summary.sourceBytes, summary.written.bytes)
    sideFile = summary.written.sideFile
    sideBytes = summary.written.sideFile == nil ? nil : summary.written.sideBytes
    (nodes, opset, leftOut) = (summary.nodes, summary.opset, summary.lost)
    (halves, differences) = (summary.halves, summary.differences)
    (source, operators, written) = (summary.report?.source, summary.report?.operators, summary.operators)
    let isAnother = summary.report != nil || summary.operators != nil || !summary.notes.isEmpty
    notes = isAnother ? (summary.report?.notes ?? []) + summary.notes : nil
  }
}
