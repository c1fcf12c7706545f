// One case of the ONNX test layout: a model, and numbered sets of inputs with their expected outputs.

import Apus
import ApusFormats
import ApusGraph
import Foundation

/// How near a result must come to the expected one: |found − expected| ≤ absolute + relative · |expected|.
public struct Tolerance: Sendable, Hashable {
  public var relative: Double
  public var absolute: Double

  /// That of the ONNX backend suite.
  public static let suite = Tolerance(relative: 1e-3, absolute: 1e-7)

  public init(relative: Double, absolute: Double) { (self.relative, self.absolute) = (relative, absolute) }
}

/// A model and a folder with `test_data_set_N/{input,output}_K.pb`.
///
/// The model is `model.onnx` in that folder, or `NAME.onnx` beside a folder `data` that holds the folder `NAME`.
public struct ConformanceCase: Sendable {
  /// The name of the folder, `test_…`.
  public let name: String
  /// The name of the folder above: `node`, `simple`, …
  public let kind: String
  public let folder: URL
  let modelURL: URL
  /// The tolerance of an output, by its index.
  private let tolerances: [Tolerance]
  private let tolerance: Tolerance
  /// Whether the elements of the outputs count; else only their types and shapes, and files of outputs may be missing.
  public let comparesElements: Bool

  public func tolerance(ofOutput index: Int) -> Tolerance { index < tolerances.count ? tolerances[index] : tolerance }

  /// The cases below a folder, sorted by kind and name. The folder may itself be a case.
  public static func find(in folder: URL) throws -> [ConformanceCase] {
    let manager = FileManager.default
    var cases: [ConformanceCase] = []
    func models(beside data: URL) throws -> [ConformanceCase] {
      guard manager.fileExists(atPath: data.path(percentEncoded: false)) else { return [] }
      let folder = data.deletingLastPathComponent()
      var cases: [ConformanceCase] = []
      for child in try manager.contentsOfDirectory(at: data, includingPropertiesForKeys: nil) {
        let model = folder.appending(path: child.lastPathComponent + ".onnx")
        guard manager.fileExists(atPath: model.path(percentEncoded: false)) else { continue }
        cases.append(try ConformanceCase(folder: child, model: model, kind: "models"))
      }
      return cases
    }
    func visit(_ url: URL, depth: Int) throws {
      if manager.fileExists(atPath: url.appending(path: "model.onnx").path(percentEncoded: false)) {
        cases.append(try ConformanceCase(folder: url, model: url.appending(path: "model.onnx")))
      } else if case let named = try models(beside: url.appending(path: "data")), !named.isEmpty {
        cases += named
      } else if depth < 4 {
        for child in try manager.contentsOfDirectory(at: url, includingPropertiesForKeys: [.isDirectoryKey])
        where try child.resourceValues(forKeys: [.isDirectoryKey]).isDirectory ?? false {
          try visit(child, depth: depth + 1)
        }
      }
    }
    try visit(folder.standardizedFileURL, depth: 0)
    return cases.sorted { ($0.kind, $0.name) < ($1.kind, $1.name) }
  }

  /// `tolerance.json`: of all outputs, or in `outputs` of each; `values` false leaves the elements out of account.
  private struct ToleranceFile: Decodable {
    struct Pair: Decodable {
      var rtol: Double?
      var atol: Double?

      var tolerance: Tolerance {
        Tolerance(relative: rtol ?? Tolerance.suite.relative, absolute: atol ?? Tolerance.suite.absolute)
      }
    }
    var rtol: Double?
    var atol: Double?
    var outputs: [Pair]?
    var values: Bool?
  }

  init(folder: URL, model: URL, kind: String? = nil) throws {
    self.folder = folder
    modelURL = model
    name = folder.lastPathComponent
    self.kind = kind ?? folder.deletingLastPathComponent().lastPathComponent
    let file = folder.appending(path: "tolerance.json")
    if let data = try? Data(contentsOf: file) {
      let stated = try JSONDecoder().decode(ToleranceFile.self, from: data)
      tolerance = ToleranceFile.Pair(rtol: stated.rtol, atol: stated.atol).tolerance
      tolerances = stated.outputs?.map(\.tolerance) ?? []
      comparesElements = stated.values ?? true
    } else {
      tolerance = .suite
      tolerances = []
      comparesElements = true
    }
  }

  /// The folders of data, in the order of their numbers.
  var dataSets: [URL] {
    var sets: [URL] = []
    while case let url = folder.appending(path: "test_data_set_\(sets.count)"),
      FileManager.default.fileExists(atPath: url.path(percentEncoded: false))
    {
      sets.append(url)
    }
    return sets
  }

  /// The values `prefix_0.pb`, `prefix_1.pb`, … of a data set, typed by the model's inputs or outputs.
  func values(_ prefix: String, in set: URL, facts: [ValueFact]) throws -> [Value] {
    var values: [Value] = []
    while case let file = set.appending(path: "\(prefix)_\(values.count).pb"),
      FileManager.default.fileExists(atPath: file.path(percentEncoded: false))
    {
      let type = values.count < facts.count ? facts[values.count].type : nil
      values.append(try ValueFile.decode(FileBytes.open(path: file.path(percentEncoded: false)), as: type))
    }
    return values
  }
}
