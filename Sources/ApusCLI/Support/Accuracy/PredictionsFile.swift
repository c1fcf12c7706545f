// What a model said of each sample, as a table. RFC 4180.

import ApusFormats

/// Writes a row a sample; the file has its name when it is whole.
struct PredictionsFile: ~Copyable {
  private var output: OutputFile
  private var hasHeader = false

  init(path: String) throws(LoadError) { output = try OutputFile(path: path) }

  mutating func add(_ prediction: Prediction, sample: String) throws(LoadError) {
    try writeHeader()
    try row([
      sample, prediction.label, prediction.prediction, prediction.score.map { "\($0)" } ?? "",
      prediction.isRight.map { $0 ? "1" : "0" } ?? "",
    ])
  }

  mutating func commit() throws(LoadError) {
    try writeHeader()
    try output.commit()
  }

  private mutating func writeHeader() throws(LoadError) {
    if hasHeader { return }
    hasHeader = true
    try row(["sample", "label", "prediction", "score", "right"])
  }

  private mutating func row(_ cells: [String]) throws(LoadError) {
    let line = cells.map { cell in
      cell.contains { "\",\r\n".contains($0) } ? "\"" + cell.replacing("\"", with: "\"\"") + "\"" : cell
    }
    try output.write(Array((line.joined(separator: ",") + "\n").utf8))
  }
}
