// Where samples lie: files, folders of them, rows of a table, before any is read.

import Apus
import ApusFormats
import ApusImage
import Foundation

/// A file with one or more samples.
struct SampleSource {
  enum Kind {
    case picture, sound, table
    /// A file of one value (.pb, .json, .txt).
    case value
    /// A .npy file or an archive, with the role of each array that is an input.
    case arrays
  }
  var path: String
  var kind: Kind
  /// The input that was named before the path.
  var input: String?
  /// The class whose folder it lies in.
  var classIndex: Int?
  /// Values of each input, and the samples that a value holds.
  var count = 1
  var rows = 1

  static let pictureEndings: Set<String> = [
    "png", "jpg", "jpeg", "bmp", "pnm", "ppm", "pgm", "pbm", "tif", "tiff", "webp", "jp2", "j2k",
  ]
  private static let valueEndings: Set<String> = ["pb", "json", "txt"]

  /// nil for endings that say of no way to read the file.
  init?(path: String, input: String?, classIndex: Int? = nil) {
    switch FileFormat.ending(of: path) {
    case let ending where Self.pictureEndings.contains(ending): kind = .picture
    case "wav": kind = .sound
    case "csv", "tsv": kind = .table
    case "npy", "npz": kind = .arrays
    case let ending where Self.valueEndings.contains(ending): kind = .value
    default: return nil
    }
    (self.path, self.input, self.classIndex) = (path, input, classIndex)
  }
}

/// The files of a data set, and the classes that their folders name.
struct SampleFiles {
  private(set) var sources: [SampleSource] = []
  /// The classes by number, where labels or folders name them.
  private(set) var classNames: [String]
  private let option: String
  /// Files that cannot be read as samples.
  private var leftOut = 0
  private var namesByFolder = false

  /// - Parameters:
  ///   - paths: files and folders, each with the name of its input in front or not.
  ///   - classNames: those that are given, or that the model has.
  ///   - isGiven: whether folders must be among them.
  init(
    _ paths: [(input: String?, path: String)], option: String, classNames: [String], isGiven: Bool
  ) throws {
    (self.option, self.classNames) = (option, classNames)
    for (input, path) in paths {
      switch PathKind(path: path) {
      case nil: throw InputError("\(option): there is no file or folder '\(path.printable())'")
      case .stream: throw InputError("\(option): \(path.printable()): expected a file or a folder")
      case .file:
        guard let source = SampleSource(path: path, input: input) else {
          throw InputError(
            "\(option): the ending of '\(path.printable())' is not known; expected .npz, .npy, .csv, .wav, a picture "
              + "(\(ImageFormat.list)), .pb, .json or .txt")
        }
        sources.append(source)
      case .folder: try addFolder(path.hasSuffix("/") ? String(path.dropLast()) : path, input, isGiven)
      }
    }
    if leftOut > 0 { Console.note("\(leftOut) files that are no samples are left out") }
    if sources.isEmpty {
      throw InputError("\(option): there are no samples in \(paths.map(\.path).joined(separator: ", "))")
    }
  }

  private mutating func addFolder(_ path: String, _ input: String?, _ isGiven: Bool) throws {
    let names = try Self.names(in: path)
    let folders = names.filter { PathKind(path: path + "/" + $0) == .folder }
    if folders.isEmpty {
      for name in names { add(path + "/" + name, input, nil) }
      return
    }
    // Folders are the classes, as in torchvision's ImageFolder.
    leftOut += names.count - folders.count
    if isGiven, let unknown = folders.first(where: { !classNames.contains($0) }) {
      throw InputError(
        "\(option): the folder '\(unknown.printable())' of \(path.printable()) is no class of --labels; "
          + NearMiss.choices(unknown, among: classNames, "there are \(classNames.count)"))
    }
    if classNames.isEmpty || !folders.allSatisfy(classNames.contains) {
      classNames = namesByFolder ? Array(Set(classNames + folders)).sorted(by: Self.isBefore) : folders
      if namesByFolder { throw InputError("\(option): two folders have other classes; give --labels") }
      namesByFolder = true
    }
    for folder in folders { try addClass(path + "/" + folder, input, classNames.firstIndex(of: folder)) }
  }

  private mutating func addClass(_ path: String, _ input: String?, _ index: Int?, depth: Int = 0) throws {
    for name in try Self.names(in: path) {
      let inner = path + "/" + name
      if PathKind(path: inner) == .folder, depth < Self.deepest {
        try addClass(inner, input, index, depth: depth + 1)
      } else {
        add(inner, input, index)
      }
    }
  }

  /// Folders in each other; links may lead in a circle.
  private static let deepest = 32

  private mutating func add(_ path: String, _ input: String?, _ index: Int?) {
    if let source = SampleSource(path: path, input: input, classIndex: index), source.kind != .table {
      sources.append(source)
    } else {
      leftOut += 1
    }
  }

  /// What a folder holds, without hidden names, in the order of their bytes.
  private static func names(in folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).filter { !$0.hasPrefix(".") }.sorted(by: isBefore)
  }

  private static func isBefore(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }
}
