// Numbers and names in options: what they may be, checked before any work.

import ArgumentParser
import Foundation

enum OptionValues {
  /// The longest time that a clock of the program measures, in seconds: some 30 years.
  static let maximumSeconds = 1e9

  /// Throws if a number is given and out of range.
  static func check(_ value: Int?, _ option: String, _ range: ClosedRange<Int>) throws(ValidationError) {
    guard let value, !range.contains(value) else { return }
    let expected =
      range.upperBound == .max ? "\(range.lowerBound) or more" : "\(range.lowerBound) to \(range.upperBound)"
    throw ValidationError("\(option) is \(value); expected \(expected)")
  }

  static func check(seconds: Double?, _ option: String) throws(ValidationError) {
    guard let seconds, !(seconds > 0 && seconds <= maximumSeconds) else { return }
    throw ValidationError(
      "\(option) is \(seconds); expected a number of seconds above 0, at most \(Int(maximumSeconds))")
  }

  /// A number of bytes, as in 1048576, 1024K, 1M.
  static func bytes(_ text: String?, _ option: String) throws(ValidationError) -> Int? {
    guard let text else { return nil }
    let units: [Character: Int] = ["K": 10, "M": 20, "G": 30, "T": 40]
    let shift = text.last.flatMap { units[Character($0.uppercased())] }
    let number = Int(shift == nil ? text[...] : text.dropLast())
    guard let number, number > 0, number <= Int.max >> (shift ?? 0) else {
      throw ValidationError("\(option) \(text): expected a number of bytes above 0, or one with K, M, G or T behind it")
    }
    return number << (shift ?? 0)
  }

  /// Throws if a file to write has the ending of something else, which it may well be.
  static func check(ending path: String?, _ option: String, _ endings: [String]) throws(ValidationError) {
    guard let path else { return }
    let ending = FileFormat.ending(of: path)
    if ending.isEmpty || endings.contains(ending) || path.hasPrefix("/dev/") { return }
    throw ValidationError(
      "\(option) \(path): the ending .\(ending) is not known; expected .\(endings.joined(separator: " or ."))")
  }

  /// Throws if the folder of a file to write is none: better before the work than behind it.
  static func check(folderOf path: String?) throws(InputError) {
    guard let path, path != "-" else { return }
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    var isFolder: ObjCBool = false
    if FileManager.default.fileExists(atPath: folder, isDirectory: &isFolder), isFolder.boolValue { return }
    throw InputError("cannot write '\(path.printable())': there is no folder '\(folder.printable())'")
  }

  /// Finite numbers between commas.
  static func numbers(_ text: String?, _ option: String) throws(ValidationError) -> [Double] {
    guard let text else { return [] }
    let parts = text.split(separator: ",", omittingEmptySubsequences: false).map {
      Double($0.trimmingCharacters(in: .whitespaces))
    }
    guard parts.allSatisfy({ $0?.isFinite ?? false }) else {
      throw ValidationError("\(option) \(text): expected one number, or several between commas")
    }
    return parts.compactMap { $0 }
  }
}

/// `NAME=VALUE`.
enum Pair {
  static func split(_ text: String, option: String) throws(ValidationError) -> (name: String, value: String) {
    guard let position = text.lastIndex(of: "="), position != text.startIndex else {
      throw ValidationError("\(option) \(text): expected NAME=VALUE")
    }
    return (String(text[..<position]), String(text[text.index(after: position)...]))
  }

  /// The same where the value may contain `=`, and the name none.
  static func splitFirst(_ text: String, option: String) throws(ValidationError) -> (name: String, value: String) {
    guard let position = text.firstIndex(of: "="), position != text.startIndex else {
      throw ValidationError("\(option) \(text): expected NAME=VALUE")
    }
    return (String(text[..<position]), String(text[text.index(after: position)...]))
  }
}
