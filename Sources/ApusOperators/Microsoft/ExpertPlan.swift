// The steps of a mixture of experts: choose, sort the tokens by expert, two or three products, mix.

import ApusGraph
import ApusTensor

struct ExpertPlan: Sendable {
  private let options: ExpertOptions
  private let first: ExpertLayer
  private let second: ExpertLayer
  private let gate: ExpertLayer?
  private let routerWeights: Int?
  private let tokens: Int
  private let hidden: Int
  private let inner: Int
  private let chosen: Int
  private var rows: Int { tokens * chosen }

  init(
    _ context: PlanContext, _ options: ExpertOptions, first: ExpertLayer, second: ExpertLayer, gate: ExpertLayer?,
    routerWeights: Int?
  ) throws(OperatorError) {
    (self.options, self.first, self.second, self.gate) = (options, first, second, gate)
    self.routerWeights = routerWeights.flatMap { context.isPresent($0) ? $0 : nil }
    let shape = context.shape(0)
    guard shape.rank == 2 || shape.rank == 3, let hidden = shape.last else {
      throw .mismatch("input is \(shape); expected two or three axes")
    }
    self.hidden = hidden
    tokens = shape.count(of: 0..<shape.rank - 1)
    inner = second.columns
    chosen = options.chosen
    guard chosen > 0, chosen <= first.experts else { throw .invalid("k is \(chosen) for \(first.experts) experts") }
    for input in [1] + (self.routerWeights.map { [$0] } ?? []) where context.shape(input) != [tokens, first.experts] {
      throw .mismatch("router_probs is \(context.shape(input)); expected \(Shape([tokens, first.experts]))")
    }
    let isFused = options.isSwiGLU && options.fusion > 0
    guard first.columns == hidden, second.rows == hidden, second.experts == first.experts,
      first.rows == (isFused ? 2 * inner : inner)
    else { throw .mismatch("the weights of the experts do not fit each other and \(hidden) columns of the input") }
    if let gate, gate.columns != hidden || gate.rows != inner || gate.experts != first.experts {
      throw .mismatch("fc3 does not fit fc1")
    }
    if options.isSwiGLU && !isFused && gate == nil { throw .invalid("swiglu needs fc3, or swiglu_fusion") }
  }

  func step(_ context: PlanContext) -> Step {
    var sequence = StepSequence()
    let node = context.inputs.indices.map { context.isPresent($0) ? StepSequence.Operand.input($0) : .none }
    let places = sequence.reserve(bytes: rows * 8)
    let weights = sequence.reserve(bytes: rows * 4)
    let firsts = sequence.reserve(bytes: (first.experts + 1) * 8)
    let sorted = sequence.reserve(bytes: rows * hidden * 4)
    let outer = sequence.reserve(bytes: rows * first.rows * 4)
    let result = sequence.reserve(bytes: rows * hidden * 4)
    sequence.append(
      choosing, inputs: [.input(1), routerWeights.map { .input($0) } ?? .none], outputs: [places, weights, firsts])
    sequence.append(sorting, inputs: [.input(0), places], outputs: [sorted])
    sequence.append(first.step(nodeInputs: node.count, rows: rows), inputs: node + [sorted, firsts], outputs: [outer])
    var gates = StepSequence.Operand.none
    if let gate {
      gates = sequence.reserve(bytes: rows * inner * 4)
      sequence.append(gate.step(nodeInputs: node.count, rows: rows), inputs: node + [sorted, firsts], outputs: [gates])
    }
    let active = sequence.reserve(bytes: rows * inner * 4)
    sequence.append(activating, inputs: [outer, gates], outputs: [active])
    sequence.append(
      second.step(nodeInputs: node.count, rows: rows), inputs: node + [active, firsts], outputs: [result])
    sequence.append(mixing, inputs: [result, places, weights], outputs: [.output(0)])
    var step = sequence.step.named(
      "experts", cost: Cost(operations: 2 * rows * hidden * (first.rows + inner * (gate == nil ? 1 : 2))))
    step.unreadInputs = first.unreadInputs + second.unreadInputs + (gate?.unreadInputs ?? [])
    return step
  }

  /// Outputs: by token and choice the row among those sorted by expert, and its weight; by expert its first row.
  private var choosing: Step {
    let experts = first.experts
    return .serial(scratchBytes: rows * 8) { run in
      let scores = run.input(0, as: Float.self)
      let (places, weights, firsts) = (
        run.output(0, as: Int.self), run.output(1, as: Float.self), run.output(2, as: Int.self)
      )
      let choice = run.scratch.assumingMemoryBound(to: Int.self)
      firsts.update(repeating: 0, count: experts &+ 1)
      for token in 0..<tokens {
        let row = scores + token &* experts
        let mine = choice + token &* chosen
        for slot in 0..<chosen {
          var best = -1
          for expert in 0..<experts {
            var isTaken = false
            for other in 0..<slot where mine[other] == expert { isTaken = true }
            if !isTaken && (best < 0 || row[expert] > row[best]) { best = expert }
          }
          mine[slot] = best
          firsts[best &+ 1] &+= 1
        }
        weigh(row, mine, weights + token &* chosen, given: routerWeights == nil ? nil : run.input(1) + token &* experts)
      }
      for expert in 0..<experts { firsts[expert &+ 1] &+= firsts[expert] }
      for index in 0..<rows {
        places[index] = firsts[choice[index]]
        firsts[choice[index]] &+= 1
      }
      // Each first row has moved to the one of the next expert.
      for expert in stride(from: experts, to: 0, by: -1) { firsts[expert] = firsts[expert &- 1] }
      firsts[0] = 0
    }
  }

  /// The weights of the chosen experts: their softmax among all, or among themselves, or as given.
  private func weigh(
    _ scores: UnsafePointer<Float>, _ choice: UnsafePointer<Int>, _ weights: UnsafeMutablePointer<Float>,
    given: UnsafePointer<Float>?
  ) {
    var sum: Float = 0
    if let given {
      for slot in 0..<chosen {
        weights[slot] = given[choice[slot]]
        sum += weights[slot]
      }
      if options.normalizes { for slot in 0..<chosen { weights[slot] = sum == 0 ? 0 : weights[slot] / sum } }
      return
    }
    let highest = scores[choice[0]]
    for slot in 0..<chosen { weights[slot] = Float.exp(scores[choice[slot]] - highest) }
    if options.ranksChosenOnly {
      for slot in 0..<chosen { sum += weights[slot] }
    } else {
      for expert in 0..<first.experts { sum += Float.exp(scores[expert] - highest) }
    }
    for slot in 0..<chosen { weights[slot] /= sum }
  }

  private var sorting: Step {
    let partition = Partition(rows, of: .copying(bytes: 4) * hidden)
    return .parallel(parts: partition.parts) { run, part in
      for index in partition.range(part) {
        (run.output(0, as: Float.self) + run.input(1, as: Int.self)[index] &* hidden).update(
          from: run.input(0, as: Float.self) + index / chosen &* hidden, count: hidden)
      }
    }
  }

  /// Inputs: the first product, the gates.
  private var activating: Step {
    let partition = Partition(rows, of: .medium * 2 * inner)
    let isSwiGLU = options.isSwiGLU
    // Distances between the numbers, and between a number and its gate, in the first product.
    let (stride, distance) = !isSwiGLU || options.fusion == 0 ? (1, 0) : options.fusion == 1 ? (2, 1) : (1, inner)
    let width = first.rows
    let hasGates = gate != nil
    if !isSwiGLU, !hasGates, let loop = options.activation.function.fastLoop {
      return .parallel(parts: partition.parts) { run, part in
        let range = partition.range(part)
        loop(
          run.input(0, as: Float.self) + range.lowerBound &* inner,
          run.output(0, as: Float.self) + range.lowerBound &* inner, range.count &* inner)
      }
    }
    return .parallel(parts: partition.parts) { run, part in
      for row in partition.range(part) {
        let (x, y) = (run.input(0, as: Float.self) + row &* width, run.output(0, as: Float.self) + row &* inner)
        for index in 0..<inner {
          let gate = hasGates ? run.input(1, as: Float.self)[row &* inner &+ index] : x[stride &* index &+ distance]
          let value = options(x[stride &* index], gate)
          y[index] = hasGates && !isSwiGLU ? value * gate : value
        }
      }
    }
  }

  /// Inputs: results by row, rows and weights by token and choice.
  private var mixing: Step {
    let partition = Partition(tokens, of: .medium * hidden * chosen)
    return .parallel(parts: partition.parts) { run, part in
      for token in partition.range(part) {
        let y = run.output(0, as: Float.self) + token &* hidden
        y.update(repeating: 0, count: hidden)
        for slot in 0..<chosen {
          let index = token &* chosen &+ slot
          let x = run.input(0, as: Float.self) + run.input(1, as: Int.self)[index] &* hidden
          let weight = run.input(2, as: Float.self)[index]
          for column in 0..<hidden { y[column] += weight * x[column] }
        }
      }
    }
  }
}
