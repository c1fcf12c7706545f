// The program `apus`: its commands.

import ArgumentParser

@main
struct ApusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Runs, checks, measures and draws ONNX models.",
    subcommands: [
      RunCommand.self, InfoCommand.self, CheckCommand.self, BenchCommand.self, ProfileCommand.self, GraphCommand.self,
      OptimizeCommand.self, OperatorsCommand.self, ConformanceCommand.self,
    ])
}
