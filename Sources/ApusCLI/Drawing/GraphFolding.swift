// Which nodes of a large graph are drawn as one box: layers that repeat, and stretches of what is left.

import ApusGraph

/// A division of the nodes of a graph into stretches of its order. Nodes stand in an order in which values flow
/// forwards, so boxes of whole stretches have no cycles.
struct GraphFolding {
  struct Group {
    var nodes: Range<Int>
    /// Which of how many repetitions of the same operators this is.
    var repetition: (number: Int, count: Int)?
  }

  /// In the order of the nodes, all of them. A group of one node is the node itself.
  private(set) var groups: [Group] = []

  /// Graphs of more nodes are folded.
  static let usualLimit = 300
  /// Shorter patterns are not worth a box.
  private static let shortestPeriod = 6
  /// Comparisons of operators that the search for repetitions may take.
  private static let maximumComparisons = 20_000_000

  /// - Parameter limit: about how many boxes there may be; graphs of no more nodes stay as they are.
  init(_ graph: Graph, limit: Int) {
    let count = graph.nodes.count
    guard count > limit else {
      groups = (0..<count).map { Group(nodes: $0..<$0 + 1) }
      return
    }
    var numbers: [String: Int] = [:]
    let operators = graph.nodes.map { node -> Int in
      let key = "\(node.op) \(node.inputs.count) \(node.outputs.count)"
      return numbers[key]
        ?? {
          numbers[key] = numbers.count
          return numbers.count - 1
        }()
    }
    divide(0..<count, operators)
    while groups.count > limit { mergeNeighbours(limit: limit) }
  }

  /// Finds the repetition that covers most of a stretch, then those before and behind it.
  private mutating func divide(_ range: Range<Int>, _ operators: [Int]) {
    guard let best = GraphFolding.repetition(in: range, operators) else {
      groups += range.map { Group(nodes: $0..<$0 + 1) }
      return
    }
    divide(range.lowerBound..<best.start, operators)
    for number in 0..<best.count {
      let start = best.start + number * best.period
      groups.append(Group(nodes: start..<start + best.period, repetition: (number + 1, best.count)))
    }
    divide(best.start + best.count * best.period..<range.upperBound, operators)
  }

  private static func repetition(in range: Range<Int>, _ operators: [Int]) -> (start: Int, period: Int, count: Int)? {
    let longest = min(range.count / 2, max(64, maximumComparisons / max(range.count, 1)))
    var best: (start: Int, period: Int, count: Int)?
    guard longest >= shortestPeriod else { return nil }
    for period in shortestPeriod...longest {
      var equal = 0
      for index in range.lowerBound..<range.upperBound - period {
        equal = operators[index] == operators[index + period] ? equal + 1 : 0
        let count = equal / period + 1
        if count > 1, equal % period == 0, count * period > (best.map { $0.count * $0.period } ?? 0) {
          best = (index + 1 - equal, period, count)
        }
      }
    }
    return best
  }

  /// Makes stretches of neighbours one group each, so that about `limit` are left.
  private mutating func mergeNeighbours(limit: Int) {
    let size = (groups.count + limit - 1) / limit
    groups = stride(from: 0, to: groups.count, by: size).map { start in
      let part = groups[start..<min(start + size, groups.count)]
      if part.count == 1 { return groups[start] }
      return Group(nodes: groups[start].nodes.lowerBound..<groups[part.endIndex - 1].nodes.upperBound)
    }
  }
}
