// Adagrad, Adam and Momentum: one step of an optimizer over any number of tensors.
// https://onnx.ai/onnx/operators/onnx_aionnxpreviewtraining_Adam.html and its neighbours. Version 1 of
// ai.onnx.preview.training.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

/// A rule that gives the new value of one element, and of its states, from its gradient and the learning rate.
struct OptimizerOperator: OperatorDefinition {
  enum Rule: Sendable { case adagrad, adam, momentum }

  let rule: Rule
  let schema: OperatorSchema

  init(_ rule: Rule) {
    self.rule = rule
    let name: String
    let attributes: [AttributeSchema]
    switch rule {
    case .adagrad:
      name = "Adagrad"
      attributes = [
        .float("decay_factor", default: 0), .float("epsilon", default: 1e-6), .float("norm_coefficient", default: 0),
      ]
    case .adam:
      name = "Adam"
      attributes = [
        .float("alpha", default: 0.9), .float("beta", default: 0.999), .float("epsilon", default: 1e-6),
        .float("norm_coefficient", default: 0), .float("norm_coefficient_post", default: 0),
      ]
    case .momentum:
      name = "Momentum"
      attributes = [
        .required("alpha", .float), .required("beta", .float), .required("mode", .string),
        .required("norm_coefficient", .float),
      ]
    }
    schema = OperatorSchema(
      name, domain: "ai.onnx.preview.training", versions: [1],
      inputs: [.required("R", "T1"), .required("T", "T2"), .variadic("inputs", "T3")],
      outputs: [.variadic("outputs", "T3")],
      attributes: attributes, types: ["T1": [.float32, .float64], "T2": .int64, "T3": [.float32, .float64]])
  }

  /// States beside the value and its gradient.
  private var stateCount: Int { rule == .adam ? 2 : 1 }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let tensors = context.inputs.count - 2
    guard tensors > 0, tensors % (2 + stateCount) == 0 else {
      throw .invalid("\(tensors) tensors after R and T; expected a multiple of \(2 + stateCount)")
    }
    let count = tensors / (2 + stateCount)
    guard context.outputs.count == count * (1 + stateCount) else {
      throw .invalid("the node has \(context.outputs.count) outputs; expected \(count * (1 + stateCount))")
    }
    for input in 0..<tensors {
      let first = 2 + input % count
      guard let own = context.shape(2 + input), let value = context.shape(first) else { continue }
      guard own.count == value.count, !zip(own, value).contains(where: { $0.isSurelyDifferent(from: $1) }) else {
        throw .mismatch("input \(2 + input) has the shape \(own); expected that of input \(first), \(value)")
      }
    }
    for tensor in 0..<count {
      context.set(tensor, context.type(2 + tensor), context.shape(2 + tensor))
      for state in 0..<stateCount {
        let input = 2 + (2 + state) * count + tensor
        context.set((1 + state) * count + tensor, context.type(input), context.shape(input))
      }
    }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let count = (context.inputs.count - 2) / (2 + stateCount)
    var types: [DataType] = [try context.type(0)]
    for tensor in 0..<count {
      let type = try context.type(2 + tensor)
      for part in 1..<(2 + stateCount) {
        let other = try context.type(2 + part * count + tensor)
        guard other == type else {
          throw .mismatch("input \(2 + part * count + tensor) is \(other); expected \(type), as its value is")
        }
      }
      types.append(type)
    }
    let update = try ElementUpdate(rule, context)
    let stateCount = self.stateCount
    let isDouble = types.map { $0 == .float64 }
    return .planned { (plan) throws(OperatorError) in
      let sizes = (0..<count).map { plan.shape(2 + $0).elementCount }
      guard plan.shape(0).elementCount == 1, plan.shape(1).elementCount == 1 else {
        throw .mismatch("R and T must have one element; they have the shapes \(plan.shape(0)) and \(plan.shape(1))")
      }
      return .parallel(parts: count) { run, tensor in
        let rate = OptimizerOperator.load(run.inputBytes(0), 0, isDouble[0])
        let steps = run.input(1, as: Int64.self)[0]
        let wide = isDouble[1 + tensor]
        for index in 0..<sizes[tensor] {
          func input(_ part: Int) -> Double {
            OptimizerOperator.load(run.inputBytes(2 + part * count + tensor), index, wide)
          }
          let result = update.apply(
            rate: rate, steps: steps, value: input(0), gradient: input(1), first: input(2),
            second: stateCount == 2 ? input(3) : 0)
          OptimizerOperator.store(result.value, run.outputBytes(tensor), index, wide)
          OptimizerOperator.store(result.first, run.outputBytes(count + tensor), index, wide)
          if stateCount == 2 {
            OptimizerOperator.store(result.second, run.outputBytes(2 * count + tensor), index, wide)
          }
        }
      }
    }
  }

  @inline(__always) private static func load(_ base: UnsafeRawPointer, _ index: Int, _ isDouble: Bool) -> Double {
    isDouble
      ? base.assumingMemoryBound(to: Double.self)[index] : Double(base.assumingMemoryBound(to: Float.self)[index])
  }

  @inline(__always) private static func store(
    _ value: Double, _ base: UnsafeMutableRawPointer, _ index: Int, _ isDouble: Bool
  ) {
    if isDouble {
      base.assumingMemoryBound(to: Double.self)[index] = value
    } else {
      base.assumingMemoryBound(to: Float.self)[index] = Float(value)
    }
  }
}

/// The arithmetic of the three rules, in double precision.
private struct ElementUpdate: Sendable {
  let rule: OptimizerOperator.Rule
  var alpha = 0.0
  var beta = 0.0
  var epsilon = 0.0
  var decay = 0.0
  var norm = 0.0
  var normPost = 0.0
  var isNesterov = false

  init(_ rule: OptimizerOperator.Rule, _ context: PrepareContext) throws(OperatorError) {
    self.rule = rule
    norm = Double(try context.float("norm_coefficient"))
    switch rule {
    case .adagrad:
      decay = Double(try context.float("decay_factor"))
      epsilon = Double(try context.float("epsilon"))
    case .adam:
      alpha = Double(try context.float("alpha"))
      beta = Double(try context.float("beta"))
      epsilon = Double(try context.float("epsilon"))
      normPost = Double(try context.float("norm_coefficient_post"))
    case .momentum:
      alpha = Double(try context.float("alpha"))
      beta = Double(try context.float("beta"))
      isNesterov = try context.string("mode", oneOf: ["standard", "nesterov"]) == "nesterov"
    }
  }

  /// The new value and states. `first` is H of Adagrad and V of the others; `second` is H of Adam.
  @inline(__always) func apply(
    rate: Double, steps: Int64, value: Double, gradient: Double, first: Double, second: Double
  ) -> (value: Double, first: Double, second: Double) {
    let regularized = norm * value + gradient
    switch rule {
    case .adagrad:
      let sum = first + regularized * regularized
      let adjusted = rate / (1 + Double(steps) * decay)
      return (value - adjusted * regularized / (sum.squareRoot() + epsilon), sum, 0)
    case .adam:
      let moment = alpha * first + (1 - alpha) * regularized
      let square = beta * second + (1 - beta) * regularized * regularized
      let count = Double(steps)
      let adjusted = steps > 0 ? rate * (1 - pow(beta, count)).squareRoot() / (1 - pow(alpha, count)) : rate
      let next = value - adjusted * moment / (square.squareRoot() + epsilon)
      return ((1 - normPost) * next, moment, square)
    case .momentum:
      let moment = alpha * first + (steps > 0 ? beta : 1) * regularized
      return (value - rate * (isNesterov ? regularized + alpha * moment : moment), moment, 0)
    }
  }
}
