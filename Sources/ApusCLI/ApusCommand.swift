// The program `apus`: its commands, and how each ends.

import Apus
import ArgumentParser
import Foundation

@main
struct ApusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "apus",
    abstract: "Runs, checks, measures and draws ONNX models.",
    discussion: """
      Status: 0 success, 1 a file, model or run at fault, 2 a command line or an environment that cannot be.

      Environment:
        APUS_ISA      No other instructions than those of portable, avx2 or avx512
                      (on ARM portable or neon), or of one of these less a
                      feature, as avx512-vnni.
        APUS_SPIN_US  The microseconds that idle threads stay awake: 30 if it is
                      not set, 0 to sleep at once.
      """,
    version: "apus \(ApusVersion.text)",
    subcommands: [
      RunCommand.self, InfoCommand.self, InspectCommand.self, CheckCommand.self, BenchCommand.self,
      BenchKernelsCommand.self, ProfileCommand.self, PlanCommand.self, GraphCommand.self, OptimizeCommand.self,
      ConvertCommand.self, FormatsCommand.self, WeightsCommand.self, QuantizeCommand.self, CompileCommand.self,
      AccuracyCommand.self, SparsityCommand.self, PruneCommand.self, ClusterCommand.self, DistilCommand.self,
      OperatorsCommand.self, ConformanceCommand.self,
    ])

  static func main() {
    ProcessSurroundings.prepare()
    let status = ProcessSurroundings.withLargeStack {
      do {
        var command = try parseAsRoot()
        try command.run()
        return 0
      } catch {
        return Failure.end(error)
      }
    }
    // Everything is written. What libraries do at the end of a process would only cost time.
    _exit(status)
  }
}
