// How the program ends when it cannot do what it was asked for: one message, and a status.

import Apus
import ApusFormats
import ArgumentParser
import Foundation

/// What is wrong with a file or a model that an argument names. A command line that is wrong whatever the files hold is
/// a `ValidationError`.
struct InputError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// The end of the program.
struct Failure {
  /// 1: the files, the model or the run; 2: the command line.
  enum Status: Int32 {
    case data = 1
    case usage = 2
  }

  var status = Status.data
  /// One word for programs.
  var code: String
  var message: String
  var remedy = ""
  var problems: [ModelProblem] = []

  init(_ error: any Error) {
    switch error {
    case let error as LoadError:
      code = error.code.rawValue
      message =
        [error.file?.printable(), error.path?.printable(), error.message].compactMap { $0 }.joined(separator: ": ")
        + (error.byteOffset.map { " (at byte \($0))" } ?? "")
      (remedy, problems) = (error.remedy, error.problems)
      if error.code == .invalidEnvironment { (status, remedy) = (.usage, "`apus --help` explains") }
    case let error as PrepareError:
      (code, message, problems) = ("invalidModel", "the model cannot run", error.problems)
    case let error as RunError:
      (code, remedy) = (error.code.rawValue, error.remedy)
      message = (error.nodePath + [error.message]).joined(separator: error.nodePath.count > 1 ? " › " : ": ")
    case let error as CompressionError:
      (code, remedy) = (error.code.rawValue, error.remedy)
      message = (error.nodePath + [error.message]).joined(separator: error.nodePath.count > 1 ? " › " : ": ")
    case let error as InputError: (code, message) = ("invalidInput", error.description)
    case let error as CocoaError:
      // Of folders that Foundation lists.
      code = LoadError.Code.cannotRead.rawValue
      message = [(error.filePath ?? error.url?.path(percentEncoded: false))?.printable(), error.localizedDescription]
        .compactMap { $0 }.joined(separator: ": ")
    default:
      // What the parser of arguments says, and what nobody foresaw.
      let isUsage = ApusCommand.exitCode(for: error) == .validationFailure
      (status, code) = isUsage ? (.usage, "usage") : (.data, "failed")
      message = (isUsage ? Failure.unknownCommand : nil) ?? ApusCommand.message(for: error)
      if isUsage { remedy = "`\(Failure.command) --help` explains" }
    }
  }

  private static let commands = ApusCommand.configuration.subcommands.compactMap { $0.configuration.commandName }

  /// The command as far as it is known.
  private static var command: String {
    "apus" + (CommandLine.arguments.dropFirst().first { commands.contains($0) }.map { " " + $0 } ?? "")
  }

  /// What is said of a first argument that would be a command and is none; nil: there is no such argument.
  private static var unknownCommand: String? {
    guard let name = CommandLine.arguments.dropFirst().first, !name.hasPrefix("-"), !commands.contains(name),
      name != "help"
    else { return nil }
    let all = "commands are \(commands.joined(separator: ", "))"
    return "there is no command '\(name)'; " + NearMiss.choices(name, among: commands, all)
  }

  /// For people: `error: …` and a line for each problem.
  var text: String {
    let most = 50
    var lines = ["error: " + sentence(message, remedy)]
    lines += problems.prefix(most).map { problem in
      "  - " + (problem.nodePath.isEmpty ? "" : problem.nodePath.printable(limit: 400) + ": ")
        + sentence(problem.reason, problem.remedy)
    }
    if problems.count > most { lines.append("  and \(problems.count - most) more") }
    return lines.joined(separator: "\n") + "\n"
  }

  private func sentence(_ message: String, _ remedy: String) -> String {
    let message = message.split(separator: "\n").map {
      $0.trimmingCharacters(in: .whitespaces).printableMessage()
    }.joined(separator: "; ")
    if remedy.isEmpty { return message }
    let isEnded = message.hasSuffix("?") || message.hasSuffix(".")
    return message + (isEnded ? " " : ". ") + remedy.printableMessage()
  }

  private struct Report: Encodable {
    struct Problem: Encodable {
      var node, reason, remedy: String
    }
    struct Content: Encodable {
      var code, message, remedy: String
      var status: Int32
      var problems: [Problem]
    }
    var error: Content
  }

  /// For programs.
  func json() throws -> String {
    try JSONReport.text(
      Report(
        error: .init(
          code: code, message: message, remedy: remedy, status: status.rawValue,
          problems: problems.map { .init(node: $0.nodePath, reason: $0.reason, remedy: $0.remedy) })))
  }

  /// Says what went wrong, and returns the status for the caller. An output whose reader has gone is not worth a word.
  /// Help, the version and completions end the program by such an error too.
  static func end(_ error: any Error) -> Int32 {
    if let code = error as? ExitCode { return code.rawValue }
    if ApusCommand.exitCode(for: error) == .success {
      do { try Console.print(ApusCommand.fullMessage(for: error)) } catch { return end(error) }
      return 0
    }
    if let error = error as? LoadError, error.code == .readerIsGone { return Status.data.rawValue }
    let failure = Failure(error)
    if CommandLine.arguments.contains("--json"), let json = try? failure.json() { try? Console.print(json) }
    Console.progress("")
    Console.tell(failure.text)
    return failure.status.rawValue
  }
}
