// A graph inside a node that runs again and again: what goes into every run, and what came of all of them.

import ApusTensor

/// What the iterations of a graph are given and what becomes of their outputs.
package struct Iterations: Sendable {
  /// What an input of the graph is from iteration to iteration.
  package enum Input: Sendable {
    /// The number of the iteration, int64.
    case counter
    /// The same each time.
    case constant
    /// What the output with this number was in the iteration before.
    case state(output: Int)
    /// The element of a tensor along an axis that has the number of the iteration, or of a tensor of `count` along it,
    /// counted from the last.
    case element(of: Tensor, axis: Int, isReversed: Bool)
  }

  /// By input of the graph.
  package var inputs: [Input]
  /// What the inputs are in the first iteration.
  package var first: [Value]
  /// The output, a bool of one element, that is false where no iteration follows; nil: nobody asks.
  package var condition: Int?
  /// The outputs of all iterations that are wanted.
  package var collected: [Int]
  /// Iterations at the most, 1 or more.
  package var limit: Int

  package init(inputs: [Input], first: [Value], condition: Int?, collected: [Int], limit: Int) {
    (self.inputs, self.first, self.condition) = (inputs, first, condition)
    (self.collected, self.limit) = (collected, limit)
  }
}

/// What came of the iterations of a graph.
package struct IterationResults: Sendable {
  /// By input of the graph that is a state, in their order: what it would be in a further iteration.
  package var states: [Value]
  /// By collected output: the iterations one after the other along a new first axis, in runs of some.
  package var collected: [[Tensor]]

  package init(states: [Value], collected: [[Tensor]]) { (self.states, self.collected) = (states, collected) }
}
