// A model beside what was made of it: size, work, speed, outputs.

import ApusCompression
import ApusGraph
import ApusOperators
import ApusTensor

/// What a model costs, and what became of that.
public struct ModelComparison: Sendable, Encodable {
  public struct Side: Sendable, Encodable {
    /// Elements of all constants, and those of them that are not 0.
    public let parameters, nonzeroParameters: Int
    /// As a formula of the symbolic dimensions.
    public let multiplyAdds: String
    /// Bytes of the file, and of the one with its weights beside it.
    public var fileBytes: Int?
    /// The median time of a run.
    public var milliseconds: Double?
  }

  public var before: Side
  public var after: Side
  /// Runs of each, in turn.
  public private(set) var runs: Int?
  /// The outputs of both, on samples.
  public var outputs: [OutputLoss.Report]?

  package init(before: Graph, after: Graph) { (self.before, self.after) = (Self.side(before), Self.side(after)) }

  private static func side(_ graph: Graph) -> Side {
    let statistics = ModelStatistics(graph)
    var zeros = 0
    for tensor in graph.allConstants { zeros += WeightNumbers.read(tensor)?.count { $0 == 0 } ?? 0 }
    return Side(
      parameters: statistics.parameters, nonzeroParameters: statistics.parameters - zeros,
      multiplyAdds: "\(statistics.multiplyAdds)")
  }

  /// Runs both models in turn on the same inputs, as often as `seconds` allow and at least four times each.
  package mutating func measure(
    _ before: Model, _ after: Model, on inputs: [String: Value], seconds: Double
  ) throws {
    let clock = ContinuousClock()
    var times: (before: [Double], after: [Double]) = ([], [])
    // The first runs plan.
    _ = try before.run(values: inputs)
    _ = try after.run(values: inputs)
    func time(_ model: Model) throws -> Double {
      try clock.measure { _ = try model.run(values: inputs) } / .milliseconds(1)
    }
    let start = clock.now
    let fewest = 4
    while times.before.count < fewest || clock.now - start < .seconds(seconds) {
      // Each is first as often as the other: what ran before leaves the caches behind.
      if times.before.count % 2 == 0 { times.before.append(try time(before)) }
      times.after.append(try time(after))
      if times.before.count < times.after.count { times.before.append(try time(before)) }
    }
    runs = times.before.count
    self.before.milliseconds = Self.median(times.before)
    self.after.milliseconds = Self.median(times.after)
  }

  private static func median(_ times: [Double]) -> Double {
    let sorted = times.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}
